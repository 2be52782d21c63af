"""Everything a matcher remembers, except the tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum

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


@dataclass(eq=False)
class MatcherState:
    """Identities, recent stays, and what was learnt besides the tables.

    stays         open stays by key
    new_seen      camera -> (probable new people, arrivals), of decisions about closed stays
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

    def new_share(self, camera: str, settings: MatchSettings) -> float:
        """Share of arrivals at a camera that are new people."""
        # Exact sums: a memory that was restored has its cameras in another order.
        site_new = fsum(n for n, _ in self.new_seen.values()) + settings.new_share * settings.new_evidence
        site_all = fsum(a for _, a in self.new_seen.values()) + settings.new_evidence
        new, arrivals = self.new_seen.get(camera, (0.0, 0.0))
        share = (new + settings.new_evidence * site_new / site_all) / (arrivals + settings.new_evidence)
        return min(max(share, LEAST_SHARE), MOST_SHARE)
