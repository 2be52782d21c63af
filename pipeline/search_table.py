"""What `search` found, as a table for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.search import SearchResult

if TYPE_CHECKING:
    from rich.table import Table

_A_DATE_S = 1e8  # a site clock beyond this counts from 1970


def in_a_table(result: SearchResult) -> Table:
    """One row per person: their most similar stay."""
    from rich.table import Table

    timed = any(found.delay_s is not None for found in result.found)
    table = Table(caption=f"{result.people} persons in this run; none of them: {result.nobody:.0%}")
    for name in ("person", "camera", "seen"):
        table.add_column(name)
    for name in ("stays", "similarity", *(("delay", "time") if timed else ()), "probable"):
        table.add_column(name, justify="right", no_wrap=True)
    for found in result.found:
        stay = found.stays[0]
        seen = f"{at(stay.entered_s)} - {at(stay.last_s)}"
        row = [f"P{found.global_id}", stay.camera, seen, str(len(found.stays)), f"{found.similarity:.2f}"]
        if found.delay_s is not None and found.transition is not None:
            row += [f"{found.delay_s:.1f} s", f"x{found.transition:.{0 if found.transition >= 10 else 1}f}"]
        table.add_row(*row, f"{found.probability:.0%}")
    return table


def at(time_s: float) -> str:
    """Site time as it is written elsewhere: seconds, or UTC where the clock is that.

    >>> at(12.345), at(1795341605.25)
    ('12.3 s', '2026-11-22 10:00:05')
    """
    if time_s < _A_DATE_S:
        return f"{time_s:.1f} s"
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
