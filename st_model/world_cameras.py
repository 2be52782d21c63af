"""Cameras of the world of sightings: what they make of people in view, with wrong clocks, failures and embeddings."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from st_model.link_scores import NOBODY, LabelledStay
from st_model.sightings import Sighting
from st_model.world_people import Person, Visit
from st_model.world_settings import WorldSettings
from st_model.world_site import Blackout, Site

Floats = NDArray[np.float32]


class Observation(NamedTuple):
    """A sighting and who it really was (NOBODY: a false detection)."""

    sighting: Sighting
    person: int


class Cameras:
    """What the cameras make of visits: track ids, wrong clocks, failures, embeddings."""

    def __init__(self, settings: WorldSettings, site: Site, rng: np.random.Generator) -> None:
        looks = settings.looks
        self.settings, self.site = settings, site
        self.bias = looks.common * _gaussian(rng, looks.dim) + looks.camera * _gaussian(
            rng, len(site.cameras), looks.dim
        )
        self.outfits = looks.outfit * _gaussian(rng, looks.outfits, looks.dim)
        self.jumps = {jump.camera: jump for jump in site.clock_jumps}
        self.blackouts: dict[str, list[Blackout]] = defaultdict(list)
        for blackout in site.blackouts:
            self.blackouts[blackout.camera].append(blackout)
        self.earliest_s = 1.0 + max((-jump.offset_s for jump in site.clock_jumps), default=0.0)
        self._tracks = [0] * len(site.cameras)

    def report(self, someone: Person, rng: np.random.Generator) -> Iterator[tuple[Observation, LabelledStay]]:
        """All rows about one person, and now and then about nobody."""
        looks, dim = self.settings.looks, self.settings.looks.dim
        person = self.outfits[someone.outfit] + looks.person * _gaussian(rng, dim)
        views: dict[int, Floats] = {}
        for visit in someone.visits:
            if visit.camera not in views:
                views[visit.camera] = looks.view * _gaussian(rng, dim)
            for part in _pieces(visit, self.settings.broken, rng):
                look = person + views[visit.camera] + self.bias[visit.camera] + looks.stay * _gaussian(rng, dim)
                yield from self._track(part, someone.number, look, rng)
            if rng.random() < self.settings.false_detections:
                start = float(rng.uniform(visit.entered_s, visit.last_s))
                ghost = Visit(visit.camera, start, start + float(rng.uniform(0.5, 3.0)))
                yield from self._track(ghost, NOBODY, self.bias[visit.camera] + _gaussian(rng, dim), rng)

    def _track(
        self, visit: Visit, person: int, look: Floats, rng: np.random.Generator
    ) -> Iterator[tuple[Observation, LabelledStay]]:
        """The rows of one track: one soon after entry, the last word at the end."""
        name = self.site.cameras[visit.camera]
        for blackout in self.blackouts[name]:
            if blackout.from_s <= visit.entered_s < blackout.to_s:
                return
            if visit.entered_s < blackout.from_s < visit.last_s:
                visit = visit._replace(last_s=blackout.from_s)
        self._tracks[visit.camera] += 1
        stay = LabelledStay(name, self._tracks[visit.camera], person, visit.entered_s, visit.last_s)
        jump = self.jumps.get(name)
        wrong_s = jump.offset_s if jump and visit.entered_s >= jump.at_s else 0.0
        entered_s, last_s = visit.entered_s + wrong_s, visit.last_s + wrong_s
        quality = float(np.exp(0.4 * rng.normal()))  # below 1: better crops than usual
        noise = quality * self.settings.looks.crop
        dim = self.settings.looks.dim
        length_s = last_s - entered_s
        early = _gaussian(rng, dim) * noise / np.sqrt(3)
        rows = []
        if length_s > 1.5:
            rows.append((entered_s + 1.5, entered_s + 1.5, False, 3, early))
        n = 3 if length_s <= 1.5 else int(np.clip(3 + length_s, 4, 12))
        rest = _gaussian(rng, dim) * noise / np.sqrt(max(n - 3, 1))
        rows.append((last_s, last_s, True, n, (3 * early + (n - 3) * rest) / n))
        for until_s, said_s, closed, crops, blur in rows:
            if rng.random() < self.settings.late:
                said_s += float(rng.uniform(0, 10))
            vector = look + blur
            sighting = Sighting(
                name,
                stay.track_id,
                entered_s,
                until_s,
                said_s,
                closed,
                (vector / np.linalg.norm(vector)).astype(np.float32),
                crops,
                float(np.clip(0.8 / quality, 0.0, 1.0)),
            )
            yield Observation(sighting, person), stay
            if rng.random() < self.settings.duplicates:
                again = replace(sighting, emitted_s=said_s + float(rng.uniform(0, 2)))
                yield Observation(again, person), stay


def _pieces(visit: Visit, broken: float, rng: np.random.Generator) -> list[Visit]:
    """The tracks a tracker makes of a visit: one, or two when it loses the person for a moment."""
    length_s = visit.last_s - visit.entered_s
    if rng.random() >= broken or length_s < 4:
        return [visit]
    lost_s = visit.entered_s + length_s * float(rng.uniform(0.3, 0.7))
    return [visit._replace(last_s=lost_s), visit._replace(entered_s=lost_s + float(rng.uniform(0.1, 0.9)))]


def _gaussian(rng: np.random.Generator, *shape: int) -> Floats:
    """Gaussian vectors of about unit length whose columns get narrower."""
    vectors: Floats = rng.standard_normal(shape, np.float32) * _widths(shape[-1])
    return vectors


@functools.cache
def _widths(dim: int) -> Floats:
    """Standard deviations of the columns; 128 are worth 40 equal ones, and OSNet's 512 on `market_stream` 44."""
    variance = 1 / (1 + np.arange(dim) / 3)
    widths: Floats = np.sqrt(variance / variance.sum()).astype(np.float32)
    return widths
