"""Everything a matcher remembers, except the tables."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from st_model.drift import PairDrift
from st_model.gallery import Gallery, Stay
from st_model.hypotheses import MatchSettings
from st_model.ledger import StayKey
from st_model.sightings import Sighting
from st_model.teaching import Teacher
from st_model.transitions import Pair

LEAST_SHARE, MOST_SHARE = 0.02, 0.98
"""However one-sided the past was, a new person stays possible, and so does a known one."""
_UNIT = 2.0**-20
"""Probabilities are counted in multiples of it, so that sums are exact: a memory that was restored has its cameras in
another order."""


@dataclass(eq=False)
class MatcherState:
    """Identities, recent stays, and what was learnt besides the tables.

    stays         open stays by key
    new_seen      camera -> (probable new people, arrivals), of decisions about closed stays; `saw` adds to it
    drift         figures of each pair's alarm
    changed       identities that changed since merges were last looked for
    look_again_s  when all identities are looked at again
    waiting       sightings not decided yet
    caution_learnt  nats that `st_model.decoys` added to the caution of the settings
    """

    gallery: Gallery
    teacher: Teacher
    stays: dict[StayKey, Stay] = field(default_factory=dict)
    new_seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    drift: dict[Pair, PairDrift] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    look_again_s: float = -np.inf
    waiting: list[Sighting] = field(default_factory=list)
    caution_learnt: float = 0.0

    def __post_init__(self) -> None:
        self.new_seen = {camera: (_rounded(new), arrivals) for camera, (new, arrivals) in self.new_seen.items()}
        self._new = sum(new for new, _ in self.new_seen.values())
        self._arrivals = sum(arrivals for _, arrivals in self.new_seen.values())

    def saw(self, camera: str, probably_new: float) -> None:
        """Count an arrival at a camera, [0, 1] of it a new person."""
        new, arrivals = self.new_seen.get(camera, (0.0, 0.0))
        counted = _rounded(probably_new)
        self.new_seen[camera] = (new + counted, arrivals + 1.0)
        self._new += counted
        self._arrivals += 1.0

    def new_share(self, camera: str, settings: MatchSettings) -> float:
        """Share of arrivals at a camera that are new people."""
        site_new = self._new + settings.new_share * settings.new_evidence
        site_all = self._arrivals + settings.new_evidence
        new, arrivals = self.new_seen.get(camera, (0.0, 0.0))
        share = (new + settings.new_evidence * site_new / site_all) / (arrivals + settings.new_evidence)
        return min(max(share, LEAST_SHARE), MOST_SHARE)


def _rounded(probability: float) -> float:
    return round(probability / _UNIT) * _UNIT
