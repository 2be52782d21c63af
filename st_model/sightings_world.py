"""A seeded world of sightings, without pixels: people walk through a site, cameras report, and the truth is known.

For tests, benchmarks and calibration of the matcher. People come alone or in groups that cross together, walk at their
own pace, stop on the way, loiter, come back to the same camera, leave and return; tracks break, rows come late or
twice, some detections are nobody. An embedding is the sum of what the person wears (of which there are only so many
outfits), the person, the camera's bias, how the person looks in that camera, and noise of the stay and of its crops.

Streaming: only people inside the site are held, so a day of a thousand cameras needs no more memory than an hour. A
longer world begins exactly like a shorter one of the same seed as long as nothing in it depends on the duration.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from st_model.link_scores import NOBODY, LabelledStay
from st_model.world_cameras import Cameras, Observation
from st_model.world_people import party
from st_model.world_settings import Difficulty, Looks, WorldSettings, world_settings
from st_model.world_site import Site, SiteChanges, build_site

__all__ = [
    "NOBODY",
    "Difficulty",
    "LabelledStay",
    "Looks",
    "Observation",
    "SightingsWorld",
    "Site",
    "SiteChanges",
    "WorldSettings",
    "world_settings",
]


@dataclass(frozen=True)
class SightingsWorld:
    """A world, ready to be watched, as often as one likes: the same settings and seed give the same sightings.

    >>> world = SightingsWorld(world_settings("easy", cameras=3, duration_s=600), seed=1)
    >>> seen = list(world.observations())
    >>> times = [o.sighting.emitted_s for o in seen]
    >>> len(seen) > 20, times == sorted(times)
    (True, True)
    """

    settings: WorldSettings
    seed: int

    @property
    def site(self) -> Site:
        """The site this world walks through."""
        changes = self.settings.changes
        return build_site(
            self.settings.cameras, self.settings.duration_s, changes, np.random.default_rng([self.seed, 0])
        )

    def observations(self) -> Iterator[Observation]:
        """All rows in order of `emitted_s`, one after the other."""
        for row, _ in self._rows():
            yield row

    def stays(self) -> list[LabelledStay]:
        """The truth, in order of each stay's first row. Times are true, whatever a clock said."""
        return list(dict.fromkeys(stay for _, stay in self._rows()))

    def watch(self) -> tuple[list[Observation], list[LabelledStay]]:
        """`observations` and `stays` together, for worlds that fit into memory."""
        rows = list(self._rows())
        return [row for row, _ in rows], list(dict.fromkeys(stay for _, stay in rows))

    def _rows(self) -> Iterator[tuple[Observation, LabelledStay]]:
        settings, site = self.settings, self.site
        cameras = Cameras(settings, site, np.random.default_rng([self.seed, 1]))
        arrivals = np.random.default_rng([self.seed, 2])
        per_second = settings.arrivals_per_hour * len(site.gates) / 3600.0
        waiting: list[tuple[float, int, Observation, LabelledStay]] = []
        time_s, number, person, order = 0.0, 0, 0, 0
        while True:
            time_s += float(arrivals.exponential(1.0 / per_second))
            over = time_s >= settings.duration_s
            # Nothing said later can carry an earlier time than this, whatever a clock's jump does to it.
            safe_s = np.inf if over else time_s - cameras.earliest_s
            while waiting and waiting[0][0] < safe_s:
                _, _, row, stay = heapq.heappop(waiting)
                yield row, stay
            if over:
                return
            rng = np.random.default_rng([self.seed, 3, number])
            for someone in party(settings, site, time_s, person, rng):
                person += 1
                for row, stay in cameras.report(someone, rng):
                    heapq.heappush(waiting, (row.sighting.emitted_s, order, row, stay))
                    order += 1
            number += 1
