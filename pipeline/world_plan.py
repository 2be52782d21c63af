"""The plan of the synthetic site: up to four rooms, each seen by one fixed camera, and the ways between them.

A room has portals (ways in and out); an edge joins a portal of one room to a portal of another and says how long the
walk between them takes, out of every camera's sight. A portal without an edge leads out of the site. Ground positions
are metres: x to the right, z away from the camera. Time is site time in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
