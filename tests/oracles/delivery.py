"""What counts should be, whoever delivers them, in whatever order and however often: a plain sum over the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def counts_of(increments: Iterable[tuple[str, str, int, int, int]]) -> dict[tuple[str, str, int], dict[int, int]]:
    """Sum of (from, to, epoch, bin, count) rows; nothing that sums to zero."""
    total: Counter[tuple[str, str, int, int]] = Counter()
    for *cell, count in increments:
        total[tuple(cell)] += count
    out: dict[tuple[str, str, int], dict[int, int]] = {}
    for (a, b, epoch, bin), count in total.items():
        if count != 0:
            out.setdefault((a, b, epoch), {})[bin] = count
    return out
