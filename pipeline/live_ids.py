"""Who is who right now, for drawing: the latest id of every recent stay, corrections applied. Bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from st_model.ledger import Correction, StayKey
from st_model.sightings import Decision

MOST_STAYS = 20_000
"""Stays remembered, the ones last decided: more than a site of 200 cameras has within any delay."""


class LiveIds:
    """Follows decisions and corrections in the order they are made.

    >>> ids = LiveIds()
    >>> ids.take([Decision("a", 1, 5.0, 7, "new")], [Correction("merge", 9.0, 7, 4, (("a", 1),), 0.9)])
    >>> ids.of("a", 1)
    (4, 0.0)
    """

    def __init__(self, most: int = MOST_STAYS) -> None:
        self._most = most
        self._known: OrderedDict[StayKey, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, decisions: Iterable[Decision], corrections: Iterable[Correction]) -> None:
        """What was decided, and what was corrected after it. May be called from several threads."""
        with self._lock:
            self._take(decisions, corrections)

    def hear(self, said: Decision | Correction) -> None:
        """One of them."""
        if isinstance(said, Decision):
            self.take([said], [])
        else:
            self.take([], [said])

    def _take(self, decisions: Iterable[Decision], corrections: Iterable[Correction]) -> None:
        for decision in decisions:
            self._known[decision.key] = (decision.global_id, decision.probability)
            self._known.move_to_end(decision.key)
        for correction in corrections:
            if correction.kind == "merge":
                for key, (global_id, sure) in self._known.items():
                    if global_id == correction.global_id:
                        self._known[key] = (correction.into_id, sure)
            else:
                for key in correction.stays:
                    if key in self._known:
                        self._known[key] = (correction.into_id, correction.probability)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def of(self, camera: str, track_id: int) -> tuple[int, float] | None:
        """(global id, probability) of a stay, None while it has none."""
        return self._known.get((camera, track_id))
