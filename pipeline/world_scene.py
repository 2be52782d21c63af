"""A canvas for the rooms of the synthetic site: ray-cast surfaces, light, furniture, and what hides people.

A room is a box seen by a pinhole. Each pixel's ray is cut with back wall, side walls, floor and ceiling; a texture is a
function of the coordinates on that surface. Furniture is drawn on top and remembered as an occluder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.world_plan import View

Image = NDArray[np.float32]
Plane = NDArray[Any]
Colour = tuple[float, ...]  # blue, green, red, 0 to 255
Texture = Callable[[Plane, Plane, Plane], Image]
FINE = 2  # rendered so many times larger, then averaged: soft edges


@dataclass(frozen=True, eq=False)
class Occluder:
    """Something that hides people behind it: mask (H, W) float32 in [0, 1], valid for ground points with
    `across * x + away * z > limit`."""

    mask: Plane
    across: float
    away: float
    limit: float

    def hides(self, x_m: float, z_m: float) -> bool:
        """Whether a person at that ground point stands behind it."""
        return self.across * x_m + self.away * z_m > self.limit


@dataclass(frozen=True, eq=False)
class Scene:
    """An empty room: image (H, W, 3) uint8 BGR, and its occluders."""

    image: NDArray[np.uint8]
    occluders: tuple[Occluder, ...]
    shadow_lean: float = 0.0  # how far shadows fall to the right, in body heights
    shadow: float = 0.45  # how dark they are


@dataclass(eq=False)
class Canvas:
    """The picture while it is painted, at FINE times the size. Rays: x, y, z of what each pixel sees."""

    view: View
    rng: np.random.Generator
    image: Image = field(init=False)
    occluders: list[Occluder] = field(default_factory=list)
    u: Plane = field(init=False)
    v: Plane = field(init=False)

    def __post_init__(self) -> None:
        h, w = self.view.height * FINE, self.view.width * FINE
        rows, cols = np.mgrid[0:h, 0:w].astype(np.float32)
        # Directions per metre of depth, seen from the lens: right and up.
        self.u = ((cols + 0.5) / FINE - self.view.centre_px) / self.view.focal_px
        self.v = (self.view.horizon_px - (rows + 0.5) / FINE) / self.view.focal_px
        self.image = np.zeros((h, w, 3), np.float32)

    def room(
        self, back_m: float, left_m: float, right_m: float, ceiling_m: float, textures: dict[str, Texture]
    ) -> dict[str, tuple[NDArray[np.bool_], Plane, Plane, Plane]]:
        """Paints floor, back, left, right, ceiling; returns per surface the mask and x, y, z of its pixels."""
        height = self.view.height_m
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = {
                "back": np.full_like(self.u, back_m),
                "floor": np.where(self.v < 0, -height / self.v, np.inf),
                "ceiling": np.where(self.v > 0, (ceiling_m - height) / self.v, np.inf),
                "left": np.where(self.u < 0, left_m / self.u, np.inf),
                "right": np.where(self.u > 0, right_m / self.u, np.inf),
            }
        names = list(depth)
        nearest = np.argmin(np.stack([depth[n] for n in names]), axis=0)
        z = np.min(np.stack([depth[n] for n in names]), axis=0).astype(np.float32)
        x, y = self.u * z, height + self.v * z
        surfaces = {}
        for n, name in enumerate(names):
            mask = nearest == n
            surfaces[name] = (mask, x, y, z)
            if mask.any() and name in textures:
                self.image[mask] = textures[name](x[mask], y[mask], z[mask])
        # Corners get less light.
        gap = np.minimum(np.minimum(np.abs(y), np.abs(ceiling_m - y)), np.abs(back_m - z))
        gap = np.where(nearest == names.index("back"), np.minimum(np.abs(y), np.abs(ceiling_m - y)), gap)
        edge = np.where(nearest == names.index("floor"), np.abs(back_m - z), gap)
        side = np.minimum(np.abs(x - left_m), np.abs(right_m - x))
        on_side = (nearest == names.index("left")) | (nearest == names.index("right"))
        edge = np.where(on_side, np.minimum(edge, np.abs(y)), np.minimum(edge, side))
        self.image *= (1 - 0.32 * np.exp(-np.maximum(edge, 0) / 0.28))[..., None]
        return surfaces

    def px(self, *points: tuple[float, float, float]) -> NDArray[np.int32]:
        """Fine pixels of points (x, y, z) in metres."""
        return np.array([np.multiply(self.view.project(x, z, y), FINE) for x, y, z in points]).round().astype(np.int32)

    def polygon(self, points: NDArray[np.int32], colour: Colour, cover: float = 1.0) -> Plane:
        """Fills a polygon; returns its mask."""
        import cv2

        mask = np.zeros(self.image.shape[:2], np.float32)
        cv2.fillPoly(mask, [points], 1.0, cv2.LINE_AA)
        (x0, y0), (x1, y1) = np.maximum(points.min(0) - 2, 0), np.maximum(points.max(0) + 3, 0)
        part = self.image[y0:y1, x0:x1]
        part += (np.array(colour, np.float32) - part) * (cover * mask[y0:y1, x0:x1, None])
        return mask

    def panel(self, x0: float, x1: float, y0: float, y1: float, z: float, colour: Colour, cover: float = 1.0) -> Plane:
        """A rectangle facing the camera."""
        return self.polygon(self.px((x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)), colour, cover)

    def side_panel(self, x: float, z0: float, z1: float, y0: float, y1: float, colour: Colour) -> Plane:
        """A rectangle on a side wall."""
        return self.polygon(self.px((x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)), colour)

    def box(
        self, x0: float, x1: float, z0: float, z1: float, height: float, colour: Colour, base: float = 0.0
    ) -> Plane:
        """A cuboid with a lit top; returns the mask of all of it."""
        self.shadow_patch((x0 + x1) / 2, (z0 + z1) / 2, (x1 - x0) * 0.62, (z1 - z0) * 0.9)
        c = np.array(colour)
        mask = np.zeros(self.image.shape[:2], np.float32)
        side_x = x1 if (x0 + x1) / 2 < 0 else x0
        if x0 * x1 > 0:
            mask = np.maximum(mask, self.side_panel(side_x, z0, z1, base, height, tuple(c * 0.68)))
        if height < self.view.height_m:
            top = self.px((x0, height, z0), (x1, height, z0), (x1, height, z1), (x0, height, z1))
            mask = np.maximum(mask, self.polygon(top, tuple(np.minimum(c * 1.18 + 8, 250))))
        return np.maximum(mask, self.panel(x0, x1, base, height, z0, tuple(c)))

    def shadow_patch(self, x: float, z: float, half_x: float, half_z: float) -> None:
        """A soft dark patch on the floor."""
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.where(self.v < 0, -self.view.height_m / self.v, np.inf)
            far = ((self.u * depth - x) / half_x) ** 2 + ((depth - z) / half_z) ** 2
        self.image *= (1 - 0.42 * np.exp(-(np.nan_to_num(far, nan=1e9, posinf=1e9) ** 1.5) * 0.5))[..., None]

    def hide(self, mask: Plane, away: float, *, across: float = 0.0, limit: float | None = None) -> None:
        """Remembers an occluder: people farther than `away` (or beyond the given line) are hidden by the mask."""
        import cv2

        small = cv2.resize(mask, (self.view.width, self.view.height), interpolation=cv2.INTER_AREA)
        if limit is None:
            self.occluders.append(Occluder(small, 0.0, 1.0, away))
        else:
            self.occluders.append(Occluder(small, across, 0.0, limit))

    def plant(self, x: float, z: float, height: float, spread: float, *, trunk: bool = False) -> None:
        """A pot (or a trunk) with leaves; hides people behind it."""
        import cv2

        self.shadow_patch(x, z, 0.55 * spread + 0.3, 0.5)
        if trunk:
            mask = self.polygon(
                self.px((x - 0.13, 0, z), (x + 0.13, 0, z), (x + 0.08, height, z), (x - 0.08, height, z)), (48, 66, 84)
            )
            low = height * 0.62
        else:
            mask = self.polygon(
                self.px((x - 0.2, 0, z), (x + 0.2, 0, z), (x + 0.28, 0.45, z), (x - 0.28, 0.45, z)), (86, 104, 150)
            )
            mask = np.maximum(mask, self.panel(x - 0.30, x + 0.30, 0.40, 0.47, z, (96, 118, 168)))
            low = 0.5
        scale = self.view.focal_px / z * FINE
        leaves = int(170 * spread)
        for n in range(leaves):
            r = np.sqrt(self.rng.uniform()) * spread
            turn = self.rng.uniform(0, 2 * np.pi)
            px = self.px(
                (x + r * np.cos(turn), (low + height) / 2 + r * np.sin(turn) * (height - low) / (2 * spread), z)
            )[0]
            light = 0.55 + 0.6 * n / leaves * (0.75 - 0.35 * np.cos(turn))
            green = np.array([58, 128 + self.rng.uniform(-20, 30), 66 + self.rng.uniform(-14, 26)]) * light
            size = (max(2, round(scale * 0.14)), max(1, round(scale * 0.05)))
            angle = float(np.degrees(-turn) + self.rng.uniform(-40, 40))
            at = (int(px[0]), int(px[1]))
            cv2.ellipse(self.image, at, size, angle, 0, 360, tuple(float(c) for c in green), -1, cv2.LINE_AA)
            cv2.ellipse(mask, at, size, angle, 0, 360, 1.0, -1, cv2.LINE_AA)
        self.hide(mask, z)

    def light(self, x: float, z: float, half_x: float, half_z: float, strength: float, lean: float = 0.0) -> None:
        """A bright patch on the floor: a window's light."""
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.where(self.v < 0, -self.view.height_m / self.v, np.inf)
            across = np.abs(self.u * depth - x - lean * (depth - z)) / half_x
            along = np.abs(depth - z) / half_z
        far = np.nan_to_num(np.maximum(across, along), nan=1e9, posinf=1e9)
        self.image *= (1 + strength / (1 + np.exp(np.clip((far - 1) * 14, -30, 30))))[..., None]

    def done(self, **kwargs: float) -> Scene:
        """The finished scene at the camera's own size."""
        import cv2

        size = (self.view.width, self.view.height)
        image = cv2.resize(np.clip(self.image, 0, 255), size, interpolation=cv2.INTER_AREA)
        return Scene(np.round(image).astype(np.uint8), tuple(self.occluders), **kwargs)


def noise(rng: np.random.Generator, s: Plane, t: Plane, size_m: float) -> Plane:
    """Smooth random values in about [-1, 1] over surface coordinates, with grains of `size_m`."""
    table = rng.normal(0, 0.5, (64, 64)).astype(np.float32)
    i, j = s / size_m, t / size_m
    i0, j0 = np.floor(i).astype(int), np.floor(j).astype(int)
    fi, fj = (i - i0)[..., None][..., 0], (j - j0)[..., None][..., 0]
    corner = [table[(i0 + a) % 64, (j0 + b) % 64] for a in (0, 1) for b in (0, 1)]
    smooth: Plane = (corner[0] * (1 - fj) + corner[1] * fj) * (1 - fi) + (corner[2] * (1 - fj) + corner[3] * fj) * fi
    return smooth


def tint(light: Plane, colour: Colour) -> Image:
    painted: Image = light[..., None] * np.array(colour, np.float32)
    return painted


def tiles(s: Plane, t: Plane, size_m: float, joint_m: float = 0.02) -> tuple[Plane, Plane]:
    """Per point: 1 on a tile and less on its joint; and a value in [0, 1) that differs from tile to tile."""
    a, b = np.floor(s / size_m), np.floor(t / size_m)
    inside = np.minimum(np.abs(s / size_m - np.round(s / size_m)), np.abs(t / size_m - np.round(t / size_m))) * size_m
    face = 1 - 0.22 * (inside < joint_m)
    return face.astype(np.float32), (np.abs(np.sin(a * 12.99 + b * 78.23)) * 437.5 % 1).astype(np.float32)
