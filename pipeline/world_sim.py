"""Who walks where and when in the synthetic site: pure simulation, no pixels.

The site is a plan of up to four rooms, each seen by one fixed camera. A room has portals (ways in and out); an edge
joins a portal of one room to a portal of another and says how long the walk between them takes, out of every camera's
sight. A portal without an edge leads out of the site. Ground positions are metres: x to the right, z away from the
camera. Time is site time in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Mixture = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class View:
    """One camera: a pinhole at `height_m` above the floor that looks level, its sensor shifted so that the horizon lies
    at row `horizon_px` (verticals stay vertical). `offset_s` is the site time of the file's first frame: how late its
    clock started."""

    name: str
    width: int
    height: int
    focal_px: float
    height_m: float
    horizon_px: float
    centre_px: float
    offset_s: float = 0.0
    gain_bgr: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0

    def project(self, x_m: float, z_m: float, y_m: float = 0.0) -> Point:
        """Pixel (u, v) of the point x_m to the right, y_m above the floor, z_m > 0 away."""
        scale = self.focal_px / z_m
        return self.centre_px + scale * x_m, self.horizon_px + scale * (self.height_m - y_m)


@dataclass(frozen=True)
class Portal:
    """A way in or out of a room: where people vanish (`outside`, unseen), the first point inside, and how far from this
    line they walk (`lane`, metres in x and z)."""

    name: str
    outside: Point
    inside: Point
    lane: Point

    def points(self, rng: np.random.Generator) -> tuple[Point, Point]:
        """One person's outside and inside points, the same distance off the line."""
        x, z = rng.uniform(-1, 1, 2) * self.lane
        return (self.outside[0] + x, self.outside[1] + z), (self.inside[0] + x, self.inside[1] + z)


@dataclass(frozen=True)
class Room:
    """One camera's view, its portals, the floor people use (x0, z0, x1, z1) and spots where they like to stop."""

    view: View
    portals: tuple[Portal, ...]
    floor: tuple[float, float, float, float]
    spots: tuple[Point, ...]

    @property
    def name(self) -> str:
        """The camera's name."""
        return self.view.name

    def portal(self, name: str) -> Portal:
        """The portal of that name; KeyError when there is none."""
        for portal in self.portals:
            if portal.name == name:
                return portal
        raise KeyError(name)


@dataclass(frozen=True)
class Edge:
    """A blind walk: portals `from_` and `to` as (camera, portal); travel time is a mixture of normals, each
    (weight, mean_s, sd_s), cut below at a third of its mean."""

    from_: tuple[str, str]
    to: tuple[str, str]
    mixture: Mixture

    def draw_s(self, rng: np.random.Generator) -> float:
        """One travel time, seconds, > 0."""
        weights = np.array([w for w, _, _ in self.mixture])
        _, mean_s, sd_s = self.mixture[int(rng.choice(len(weights), p=weights / weights.sum()))]
        return float(max(rng.normal(mean_s, sd_s), mean_s / 3))


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


# The four rooms. Sizes, clocks and colours differ on purpose; `portals` not named by an edge lead out of the site.
ROOMS = (
    Room(
        View("lobby", 640, 360, 520.0, 2.9, 46.0, 320.0, gain_bgr=(0.90, 1.0, 1.08)),
        (
            Portal("street", (0.6, 15.2), (0.6, 12.0), (0.35, 0.0)),
            Portal("left", (-6.9, 8.6), (-4.4, 8.6), (0.0, 1.2)),
            Portal("right", (7.2, 9.0), (4.7, 9.0), (0.0, 1.3)),
        ),
        (-4.0, 6.0, 4.2, 11.0),
        ((-2.6, 10.6), (2.6, 7.4), (-0.6, 8.2)),
    ),
    Room(
        View("corridor", 480, 360, 430.0, 2.75, 66.0, 222.0, gain_bgr=(1.10, 1.02, 0.90), gamma=1.12),
        (
            Portal("far", (0.3, 17.0), (0.2, 14.2), (0.7, 0.0)),
            Portal("near", (0.5, 3.0), (0.4, 5.0), (1.0, 0.0)),
            Portal("side", (-3.8, 9.7), (-1.3, 9.7), (0.0, 0.35)),
        ),
        (-1.5, 6.0, 1.4, 13.0),
        ((1.2, 10.8), (-1.5, 7.0)),
    ),
    Room(
        View("shop", 576, 432, 500.0, 3.0, 62.0, 288.0, offset_s=2.7, gain_bgr=(0.93, 1.04, 1.03), gamma=0.9),
        (
            Portal("door", (3.0, 14.4), (3.0, 11.0), (0.4, 0.0)),
            Portal("left", (-6.4, 9.6), (-4.4, 9.4), (0.0, 0.7)),
            Portal("right", (6.2, 7.2), (3.6, 7.2), (0.0, 0.45)),
        ),
        (-3.6, 6.6, 3.6, 10.4),
        ((-2.4, 10.6), (0.2, 10.7), (1.8, 8.6)),
    ),
    Room(
        View("yard", 640, 360, 540.0, 3.4, 58.0, 320.0, gain_bgr=(1.08, 1.0, 0.95), gamma=0.94),
        (
            Portal("left", (-8.0, 10.0), (-5.4, 10.0), (0.0, 1.4)),
            Portal("right", (8.2, 11.0), (5.6, 11.0), (0.0, 1.2)),
            Portal("gate", (-1.9, 17.4), (-1.9, 14.2), (0.5, 0.0)),
        ),
        (-4.6, 7.6, 4.6, 13.0),
        ((2.6, 11.6), (-2.6, 8.8)),
    ),
)


def _both_ways(a: tuple[str, str], b: tuple[str, str], there: Mixture, back: Mixture) -> tuple[Edge, Edge]:
    return Edge(a, b, there), Edge(b, a, back)


# A main peak (people who walk on) and a smaller, later one (a coffee machine, a lift, a chat).
EDGES = (
    *_both_ways(
        ("lobby", "right"),
        ("corridor", "far"),
        ((0.8, 4.5, 0.6), (0.2, 10.0, 1.2)),
        ((0.85, 4.0, 0.6), (0.15, 9.0, 1.0)),
    ),
    *_both_ways(
        ("corridor", "near"),
        ("shop", "door"),
        ((0.75, 3.5, 0.5), (0.25, 8.0, 1.0)),
        ((0.8, 3.0, 0.5), (0.2, 7.0, 1.0)),
    ),
    *_both_ways(
        ("corridor", "side"),
        ("yard", "right"),
        ((0.8, 7.0, 0.9), (0.2, 13.0, 1.5)),
        ((0.9, 6.5, 0.8), (0.1, 12.0, 1.5)),
    ),
    *_both_ways(
        ("shop", "right"),
        ("yard", "left"),
        ((0.7, 5.5, 0.7), (0.3, 11.0, 1.3)),
        ((0.8, 5.0, 0.7), (0.2, 10.0, 1.3)),
    ),
    *_both_ways(  # around the building
        ("lobby", "left"),
        ("yard", "gate"),
        ((0.8, 8.0, 1.0), (0.2, 15.0, 1.5)),
        ((0.85, 8.5, 1.0), (0.15, 14.0, 1.5)),
    ),
)

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
