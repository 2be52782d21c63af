"""Who walks where and when in the synthetic site (pipeline/world_plan.py): pure simulation, no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.world_plan import EDGES, ROOMS, Edge, Point, Room


@dataclass(frozen=True, eq=False)
class Stay:
    """One person's walk through one room, from unseen to unseen.

    times_s (T,) rises strictly; points_m (T, 2) are (x, z) at those times; distance_m (T,) walked so far.
    """

    person: int
    camera: str
    entry: str
    exit: str
    times_s: NDArray[np.float64]
    points_m: NDArray[np.float64]
    distance_m: NDArray[np.float64]

    @property
    def begin_s(self) -> float:
        """Site time at the entry portal."""
        return float(self.times_s[0])

    @property
    def end_s(self) -> float:
        """Site time at the exit portal."""
        return float(self.times_s[-1])

    def at(self, time_s: float) -> tuple[Point, Point, float] | None:
        """Position (x, z), unit heading (dx, dz) and metres walked so far at a site time; None when not in the room."""
        if not self.begin_s <= time_s <= self.end_s:
            return None
        x, z = (float(np.interp(time_s, self.times_s, self.points_m[:, k])) for k in (0, 1))
        walked = float(np.interp(time_s, self.times_s, self.distance_m))
        # The heading is the chord around the present place, by distance: it stays defined while a person stands.
        near = np.clip([walked - 0.25, walked + 0.25], 0.0, self.distance_m[-1])
        ends = np.stack([np.interp(near, self.distance_m, self.points_m[:, k]) for k in (0, 1)], axis=1)
        step = ends[1] - ends[0]
        length = float(np.hypot(*step))
        heading = (float(step[0] / length), float(step[1] / length)) if length > 1e-9 else (1.0, 0.0)
        return (x, z), heading, walked


@dataclass(frozen=True)
class Simulation:
    """Everything that happens: rooms, edges between them, and every stay in order of its beginning."""

    seed: int
    rooms: tuple[Room, ...]
    edges: tuple[Edge, ...]
    people: int
    duration_s: float
    stays: tuple[Stay, ...]

    def in_camera(self, camera: str) -> tuple[Stay, ...]:
        """The stays in one camera, by beginning."""
        return tuple(s for s in self.stays if s.camera == camera)


# How people behave. Chosen so that 80 s show about two to three stays a person; no figure of a study.
_SPEED_MEAN_MPS, _SPEED_SD_MPS, _SPEED_MIN_MPS, _SPEED_MAX_MPS = 1.35, 0.18, 0.95, 1.9
_LOITER_SHARE = 0.22
_TURN_BACK_SHARE = 0.1  # leave by the portal they came in
_LOITER_S = (3.0, 9.0)
_QUIET_START_S = 2.0  # an empty site first: a background model can settle
_ARRIVALS_SHARE = 0.68  # of the duration: nobody comes so late that there is nothing left to see


def simulate(*, seed: int, cameras: int = 4, people: int = 18, duration_s: float = 80.0) -> Simulation:
    """Draws every person's walk through the site. Equal arguments give equal walks.

    cameras     1 to 4: the first so many of `ROOMS`; edges to rooms left out are cut
    people      at least 1, arriving at random over the first two thirds of the time
    duration_s  site time that is filmed, > 0

    Raises ValueError when an argument is out of range.

    >>> sim = simulate(seed=1, cameras=2, people=3, duration_s=20)
    >>> [room.name for room in sim.rooms], sorted({stay.person for stay in sim.stays})
    (['lobby', 'corridor'], [1, 2, 3])
    """
    if not 1 <= cameras <= len(ROOMS):
        raise ValueError(f"cameras must be 1 to {len(ROOMS)}, got {cameras}")
    if people < 1 or not duration_s > 0:
        raise ValueError(f"people must be at least 1 and duration_s positive, got {people} and {duration_s}")
    rooms = ROOMS[:cameras]
    names = {room.name for room in rooms}
    edges = tuple(e for e in EDGES if e.from_[0] in names and e.to[0] in names)
    order = np.random.default_rng([seed, 0])
    slot_s = duration_s * _ARRIVALS_SHARE / people
    first = min(_QUIET_START_S, duration_s / 4)
    arrivals = first + slot_s * (np.arange(people) + order.uniform(0, 1, people))
    stays: list[Stay] = []
    for person in range(1, people + 1):
        rng = np.random.default_rng([seed, person])
        stays += _journey(rng, person, float(arrivals[person - 1]), rooms, edges, duration_s)
    stays.sort(key=lambda s: (s.begin_s, s.person))
    return Simulation(seed, rooms, edges, people, float(duration_s), tuple(stays))


def _journey(
    rng: np.random.Generator,
    person: int,
    time_s: float,
    rooms: tuple[Room, ...],
    edges: tuple[Edge, ...],
    duration_s: float,
) -> list[Stay]:
    """One person's stays, from arrival until they leave the site or the filming ends."""
    by_name = {room.name: room for room in rooms}
    leading = {edge.from_: edge for edge in edges}
    gates = [(r.name, p.name) for r in rooms for p in r.portals if (r.name, p.name) not in leading]
    camera, entry = gates[int(rng.integers(len(gates)))]
    speed_mps = float(np.clip(rng.normal(_SPEED_MEAN_MPS, _SPEED_SD_MPS), _SPEED_MIN_MPS, _SPEED_MAX_MPS))
    stays_wanted = int(rng.integers(2, 6))
    stays: list[Stay] = []
    while time_s < duration_s:
        room = by_name[camera]
        exits = [p.name for p in room.portals if p.name != entry]
        onward = [name for name in exits if (camera, name) in leading]
        leave = len(stays) + 1 >= stays_wanted or not onward
        out = [name for name in exits if (camera, name) not in leading]
        choice = (out or exits) if leave else onward
        exit_ = choice[int(rng.integers(len(choice)))]
        if not leave and (camera, entry) in leading and rng.uniform() < _TURN_BACK_SHARE:
            exit_ = entry
        stay = _walk(rng, person, room, entry, exit_, time_s, speed_mps)
        stays.append(stay)
        edge = leading.get((camera, exit_))
        if edge is None or len(stays) >= 2 * stays_wanted:
            break
        time_s = stay.end_s + edge.draw_s(rng)
        camera, entry = edge.to
    return stays


def _walk(
    rng: np.random.Generator, person: int, room: Room, entry: str, exit_: str, begin_s: float, speed_mps: float
) -> Stay:
    """A rounded path through one or two random places of the floor, perhaps with a stop on the way."""
    start_out, start_in = room.portal(entry).points(rng)
    end_out, end_in = room.portal(exit_).points(rng)
    x0, z0, x1, z1 = room.floor
    places = [(float(rng.uniform(x0, x1)), float(rng.uniform(z0, z1)))]
    # Walk through the middle in the order of the way, so that nobody zigzags.
    way = np.subtract(end_in, start_in)
    legs = [[start_out, start_in, *places, end_in, end_out]]
    pause_s = 0.0
    if rng.uniform() < _LOITER_SHARE:
        spot = room.spots[int(rng.integers(len(room.spots)))]
        pause_s = float(rng.uniform(*_LOITER_S))
        before = [p for p in places if np.dot(np.subtract(p, start_in), way) < np.dot(way, way) / 2]
        after = [p for p in places if p not in before]
        legs = [
            [start_out, start_in, *before, spot],
            [spot, *after, end_in, end_out],
        ]
    times, points, walked = [np.array([begin_s])], [np.array([start_out], float)], [np.zeros(1)]
    for number, leg in enumerate(legs):
        if number:
            times.append(times[-1][-1:] + pause_s)
            points.append(points[-1][-1:])
            walked.append(walked[-1][-1:])
        path = _rounded(np.array(leg, float))
        steps = np.hypot(*np.diff(path, axis=0).T)
        along = walked[-1][-1] + np.cumsum(steps)
        times.append(times[-1][-1] + (along - walked[-1][-1]) / speed_mps)
        points.append(path[1:])
        walked.append(along)
    return Stay(person, room.name, entry, exit_, np.concatenate(times), np.concatenate(points), np.concatenate(walked))


def _rounded(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corner cutting (Chaikin 1974), three times; first and last point stay."""
    for _ in range(3):
        cut = np.empty((2 * len(path) - 2, 2))
        cut[0::2] = 0.75 * path[:-1] + 0.25 * path[1:]
        cut[1::2] = 0.25 * path[:-1] + 0.75 * path[1:]
        path = np.concatenate([path[:1], cut, path[-1:]])
    keep = np.concatenate([[True], np.hypot(*np.diff(path, axis=0).T) > 1e-9])
    kept: NDArray[np.float64] = path[keep]
    return kept
