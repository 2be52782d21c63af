"""People of the world of sightings: who arrives with whom, and where they are in view when (true times)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from st_model.world_settings import WorldSettings
from st_model.world_site import VIEW_M, Site, Way


class Visit(NamedTuple):
    """Somebody in view of a camera, true times."""

    camera: int
    entered_s: float
    last_s: float


@dataclass(frozen=True)
class Person:
    number: int
    outfit: int
    visits: list[Visit]


def party(settings: WorldSettings, site: Site, time_s: float, first: int, rng: np.random.Generator) -> Iterator[Person]:
    """The people who arrive together, with all their visits."""
    size = int(rng.integers(2, 5)) if rng.random() < settings.groups else 1
    visits = list(_journey(settings, site, time_s, rng))
    outfit = int(rng.integers(settings.looks.outfits))
    for member in range(size):
        if member and rng.random() < 0.5:  # friends and colleagues dress alike more often than strangers
            outfit = int(rng.integers(settings.looks.outfits))
        behind = float(rng.uniform(0.3, 2.0)) * member
        yield Person(first + member, outfit, [_behind(v, behind, rng) for v in visits] if member else visits)


def _behind(visit: Visit, behind_s: float, rng: np.random.Generator) -> Visit:
    """The visit of somebody who follows, a little out of step."""
    times_s = np.array([visit.entered_s, visit.last_s]) + behind_s + rng.normal(0, 0.3, 2).clip(-0.9, 0.9)
    return Visit(visit.camera, float(times_s.min()), float(times_s.max()))


def _journey(settings: WorldSettings, site: Site, time_s: float, rng: np.random.Generator) -> Iterator[Visit]:
    """Where somebody goes: from a gate along the ways, until a gate lets them out; perhaps once more later."""
    pace = 1.3 * float(np.exp(rng.normal(0, 0.18)))  # metres per second; Weidmann 1993: 1.34 with a spread of a fifth
    camera = site.gates[int(rng.integers(len(site.gates)))]
    came_from = -1
    left_s: dict[int, float] = {}
    for _ in range(40):  # nobody walks for ever
        stay_s = max(1.0, VIEW_M / pace * float(np.exp(rng.normal(0, 0.25))))
        if rng.random() < settings.loiterers:
            stay_s *= 10
        time_s = max(time_s, left_s.get(camera, -np.inf) + 2.0)  # nobody is twice in one view
        yield Visit(camera, time_s, time_s + stay_s)
        entered_s, time_s = time_s, time_s + stay_s
        left_s[camera] = time_s
        if rng.random() < settings.returns:
            time_s += float(rng.uniform(5, 120))
            continue
        if camera in site.gates and came_from >= 0 and rng.random() < 0.5:
            if rng.random() >= settings.comebacks:
                return
            time_s += float(rng.uniform(600, 3600))
            camera, came_from = site.gates[int(rng.integers(len(site.gates)))], -1
            continue
        way = _choose(site.ways_from(camera, time_s), came_from, rng)
        came_from = camera
        camera = way.to
        time_s = max(time_s + way.metres / pace * float(np.exp(rng.normal(0, 0.1))), entered_s + 0.2)
        if rng.random() < way.stop_share:
            time_s += way.stop_s * float(np.exp(rng.normal(0, 0.6)))


def _choose(ways: tuple[Way, ...], came_from: int, rng: np.random.Generator) -> Way:
    """A way out, seldom straight back."""
    share = np.array([way.share * (0.15 if way.to == came_from else 1.0) for way in ways])
    return ways[int(rng.choice(len(ways), p=share / share.sum()))]
