"""A made-up site for the world of sightings: cameras on a plan, ways between them, and what changes over the day.

Cameras stand at random on a square plan. Neighbours are joined by ways on which nobody is seen; where two views nearly
touch the way is short, where they overlap it is negative. Some cameras are gates, where people come and go. The layout
may change once: ways get longer, doors close, others open. Clocks may jump and cameras fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

SPACING_M = 22.0  # mean distance of neighbouring cameras; with views of 14 m a fifth of the ways is an overlap
VIEW_M = 14.0  # how much of the floor a camera sees across


class Way(NamedTuple):
    """A way out of one camera's view into another's.

    metres  walked unseen; negative: the views overlap by so much
    share   of the people leaving this view who take this way
    stop_share, stop_s  how many stop on it (a shop, a stair, a queue), and for how long typically
    """

    to: int
    metres: float
    share: float
    stop_share: float
    stop_s: float


class ClockJump(NamedTuple):
    """From `at_s` on, everything `camera` reports is `offset_s` late (negative: early)."""

    camera: str
    at_s: float
    offset_s: float


class Blackout(NamedTuple):
    """`camera` sees nobody from `from_s` to `to_s`."""

    camera: str
    from_s: float
    to_s: float


@dataclass(frozen=True)
class SiteChanges:
    """What does not stay as it was. Times are seconds of site time; None: does not happen.

    layout_shift_s  a third of the ways become two to four times as long, a tenth closes, as many open
    clock_jumps     how many cameras' clocks jump once (by 20 to 120 s either way), in the middle third of the duration
    blackouts       how many times a camera fails for 5 to 15 minutes
    """

    layout_shift_s: float | None = None
    clock_jumps: int = 0
    blackouts: int = 0


@dataclass(frozen=True)
class Site:
    """A built site. `ways[camera]` before and `ways_after[camera]` after `shift_s` (infinite: never)."""

    cameras: tuple[str, ...]
    gates: tuple[int, ...]
    ways: tuple[tuple[Way, ...], ...]
    ways_after: tuple[tuple[Way, ...], ...]
    shift_s: float
    clock_jumps: tuple[ClockJump, ...]
    blackouts: tuple[Blackout, ...]

    def ways_from(self, camera: int, time_s: float) -> tuple[Way, ...]:
        """Ways out of a camera's view at a time."""
        return self.ways[camera] if time_s < self.shift_s else self.ways_after[camera]


def build_site(cameras: int, duration_s: float, changes: SiteChanges, rng: np.random.Generator) -> Site:
    """A site with this many cameras, at least 2. Same generator state, same site.

    >>> site = build_site(3, 3600.0, SiteChanges(), np.random.default_rng(0))
    >>> site.cameras
    ('c0000', 'c0001', 'c0002')
    """
    if changes.clock_jumps and duration_s < 360:
        raise ValueError("a world in which clocks jump must last 360 s at least, or times would be negative")
    if cameras < 2:
        raise ValueError(f"a site needs at least 2 cameras, got {cameras}")
    places = rng.uniform(0, SPACING_M * np.sqrt(cameras), (cameras, 2))
    distance = cdist(places, places)
    joined = _neighbours(distance, 2)
    ways = [[_way(frm, to, distance, rng) for to in np.flatnonzero(joined[frm]).tolist()] for frm in range(cameras)]
    before = tuple(_shares(w) for w in ways)
    after = before
    if changes.layout_shift_s is not None:
        after = tuple(_shares(w) for w in _changed(ways, joined, distance, rng))
    names = tuple(f"c{i:04d}" for i in range(cameras))
    gates = np.sort(rng.choice(cameras, max(2, cameras // 4), replace=False))
    jumped = rng.choice(cameras, min(changes.clock_jumps, cameras), replace=False)
    return Site(
        names,
        tuple(gates.tolist()),
        before,
        after,
        np.inf if changes.layout_shift_s is None else changes.layout_shift_s,
        tuple(
            ClockJump(names[i], float(rng.uniform(1 / 3, 2 / 3) * duration_s), float(rng.choice([-1, 1]) * jump_s))
            for i, jump_s in zip(jumped, rng.uniform(20, 120, len(jumped)), strict=True)
        ),
        tuple(_blackout(names, duration_s, rng) for _ in range(changes.blackouts)),
    )


def _neighbours(distance: NDArray[np.float64], nearest: int) -> NDArray[np.bool_]:
    """Who is joined to whom: everybody to the nearest few, and a spanning tree so that no part is cut off."""
    n = len(distance)
    joined = np.zeros((n, n), np.bool_)
    near = np.argsort(distance, axis=1)[:, 1 : nearest + 1]
    joined[np.arange(n)[:, None], near] = True
    tree = minimum_spanning_tree(distance).tocoo()
    joined[tree.row, tree.col] = True
    return joined | joined.T


def _way(frm: int, to: int, distance: NDArray[np.float64], rng: np.random.Generator) -> Way:
    metres = max(float(distance[frm, to]) * float(rng.uniform(1.0, 1.4)) - VIEW_M, -VIEW_M / 2)
    stops = metres > 5 and rng.random() < 0.4
    return Way(
        to,
        metres,
        float(rng.gamma(2.0)),
        float(rng.uniform(0.1, 0.4)) if stops else 0.02,
        float(rng.uniform(20, 90)),
    )


def _shares(ways: list[Way]) -> tuple[Way, ...]:
    total = sum(way.share for way in ways)
    return tuple(way._replace(share=way.share / total) for way in ways)


def _changed(
    ways: list[list[Way]], joined: NDArray[np.bool_], distance: NDArray[np.float64], rng: np.random.Generator
) -> list[list[Way]]:
    """The same ways after the layout changed; nobody loses the last way out."""
    after: list[list[Way]] = []
    for frm, old in enumerate(ways):
        kept: list[Way] = []
        for way in old:
            fate = rng.random()
            if fate < 0.1 and len(kept) + 1 < len(old):
                continue  # a door closed
            longer = way.metres > 0 and fate < 0.43
            kept.append(way._replace(metres=(way.metres + 5) * float(rng.uniform(2, 4))) if longer else way)
        strangers = np.flatnonzero(~joined[frm] & (np.arange(len(joined)) != frm))
        if len(strangers) and rng.random() < 0.2:
            kept.append(_way(frm, int(strangers[distance[frm, strangers].argmin()]), distance, rng))
        after.append(kept or old)
    return after


def _blackout(names: tuple[str, ...], duration_s: float, rng: np.random.Generator) -> Blackout:
    start = float(rng.uniform(0.1, 0.8) * duration_s)
    return Blackout(names[int(rng.integers(len(names)))], start, start + float(rng.uniform(300, 900)))
