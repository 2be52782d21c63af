"""What the matcher of an area knows of its workers: who they are, and how far their cameras have come."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.messages import Mark
from st_model.matcher import Outcome


@dataclass
class Worker:
    """What is known of a worker: its session, its last message, how far its cameras have come."""

    session: str
    number: int
    marks: dict[str, Mark] = field(default_factory=dict)
    outages: tuple[tuple[str, float, float], ...] = ()
    heard_s: float = 0.0  # monotonic; of this process, not saved


@dataclass
class Tally:
    """What happened since it was last asked, for logs and metrics."""

    outcomes: list[Outcome] = field(default_factory=list)
    entries: int = 0
    sightings: int = 0
    refused: int = 0
    exits: int = 0
    claims: int = 0

    def numbers(self) -> dict[str, int]:
        """Counts of what happened."""
        numbers = Counter[str](decision.kind for outcome in self.outcomes for decision in outcome.decisions)
        numbers += Counter(correction.kind for outcome in self.outcomes for correction in outcome.corrections)
        numbers += Counter(entries=self.entries, sightings=self.sightings, refused=self.refused)
        numbers += Counter(exits=self.exits, claims=self.claims)
        return dict(numbers)

    def clear(self) -> None:
        """Begin anew."""
        self.outcomes, self.entries, self.sightings, self.refused, self.exits, self.claims = [], 0, 0, 0, 0, 0


def said_until(
    workers: Iterable[Worker], expected: frozenset[str], *, now_s: float, began_s: float, patience_s: float
) -> tuple[float, bool]:
    """Up to which site time everything has been said: the least of what the cameras say; and whether any is live.

    A camera that rests or has ended is not waited for, nor one that said nothing for `patience_s`; where none is live
    it is the most that any has said. -inf while a camera of `expected` was never heard and may still come.

    now_s, began_s  monotonic; `began_s` is since when the cameras are waited for
    """
    known: dict[str, tuple[Mark, float]] = {}
    for worker in workers:
        for camera, mark in worker.marks.items():
            if camera not in known or worker.heard_s > known[camera][1]:
                known[camera] = (mark, worker.heard_s)
    if expected - known.keys() and now_s - began_s < patience_s:
        return -math.inf, True
    live = [mark.until_s for mark, heard_s in known.values() if mark.state == "live" and now_s - heard_s < patience_s]
    if live:
        return min(live), True
    return max((mark.until_s for mark, _ in known.values()), default=-math.inf), False


def all_ended(workers: Iterable[Worker], expected: frozenset[str]) -> bool:
    """Whether every camera, also each of `expected`, was a recording that has ended."""
    states = {camera: mark.state for worker in workers for camera, mark in worker.marks.items()}
    return bool(states) and expected <= states.keys() and set(states.values()) == {"ended"}


def packed_worker(worker: Worker) -> bytes:
    """A worker as it is saved."""
    marks = {c: [m.until_s if math.isfinite(m.until_s) else None, m.state] for c, m in worker.marks.items()}
    row = {"session": worker.session, "number": worker.number, "marks": marks, "outages": worker.outages}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()


def worker_from(row: Mapping[str, Any], now_s: float) -> Worker:
    """The inverse of `packed_worker`, of plain values; heard just now."""
    marks = {c: Mark(-math.inf if until is None else until, state) for c, (until, state) in row["marks"].items()}
    outages = tuple((str(c), float(a), float(b)) for c, a, b in row["outages"])
    return Worker(row["session"], row["number"], marks, outages, now_s)
