"""Draws what one camera of the synthetic site films: people in their room, frame by frame, with their true boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import atan2, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.world_figure import HEADINGS, PHASES, STRIDE_M, Look, sprite
from pipeline.world_plan import Room
from pipeline.world_rooms import paint_scene
from pipeline.world_scene import Scene
from pipeline.world_sim import Simulation, Stay

Picture = NDArray[Any]  # uint8, BGR or BGRA
MIN_VISIBILITY = 0.25
_NOISE_SD = 2.2  # grey levels: an indoor camera of middling quality
_FLICKER = 0.012  # mains lights against a rolling shutter: about one per cent
_NEAREST_M = 2.2  # nearer than this a person is under the camera


@dataclass(frozen=True)
class TruthRow:
    """One person in one frame: box (left, top, width, height) in pixels, cut at the picture's edge; visibility is the
    share of the whole figure that can be seen, (0, 1]."""

    person: int
    box: tuple[float, float, float, float]
    visibility: float


@dataclass(frozen=True, eq=False)
class _Placed:
    """A figure put into the picture: its alpha and colour over `rows` x `cols`, all of it visible or not."""

    person: int
    left: int
    top: int
    image: Picture
    whole_px: int


def frame_count(duration_s: float, fps: float) -> int:
    """Frames of a film.

    >>> frame_count(10.0, 10.0)
    100
    """
    return max(1, round(duration_s * fps))


def draw_camera(
    simulation: Simulation, room: Room, looks: tuple[Look, ...], fps: float
) -> Iterator[tuple[Picture, tuple[TruthRow, ...]]]:
    """Yields (image (H, W, 3) uint8 BGR, truth rows) per frame. Frame k shows site time `room.view.offset_s + k / fps`.

    The same simulation, room and looks give the same pixels.
    """
    import cv2

    view = room.view
    scene = paint_scene(view, simulation.seed)
    stays = simulation.in_camera(room.name)
    number = [r.name for r in simulation.rooms].index(room.name)
    rng = np.random.default_rng([simulation.seed, number, 1 << 22])
    bank = rng.normal(0, _NOISE_SD, (view.height + 64, view.width + 64, 3))
    noise = np.round(bank).clip(-127, 127).astype(np.int8)
    for k in range(frame_count(simulation.duration_s, fps)):
        time_s = view.offset_s + k / fps
        image, rows = _draw_people(scene, room, looks, [s for s in stays if s.begin_s <= time_s <= s.end_s], time_s)
        gain = 1 + _FLICKER * float(np.sin(2 * pi * 0.37 * time_s)) + float(rng.normal(0, 0.003))
        image = cv2.LUT(image, _tone(view.gain_bgr, view.gamma, gain))
        y, x = (int(n) for n in rng.integers(0, 64, 2))
        grain = noise[y : y + view.height, x : x + view.width]
        yield cv2.add(image, grain, dtype=cv2.CV_8U), rows


def _tone(gain_bgr: tuple[float, float, float], gamma: float, gain: float) -> Picture:
    """(1, 256, 3) table: gamma, colour cast and the moment's brightness."""
    level = (np.arange(256) / 255.0) ** gamma
    table: Picture = level[:, None] * np.array(gain_bgr) * gain * 255
    return np.clip(np.round(table), 0, 255).astype(np.uint8).reshape(1, 256, 3)


def _draw_people(
    scene: Scene, room: Room, looks: tuple[Look, ...], stays: list[Stay], time_s: float
) -> tuple[Picture, tuple[TruthRow, ...]]:
    image = scene.image.copy()
    height, width = image.shape[:2]
    here = []
    for stay in stays:
        found = stay.at(time_s)
        if found is not None and found[0][1] > _NEAREST_M:
            here.append((found[0][1], stay.person, found))
    here.sort(key=lambda item: (-item[0], item[1]))  # painter's order: far first
    owner = np.zeros((height, width), np.int32)
    placed = []
    for _, person, (point, heading, walked) in here:
        look = looks[person - 1]
        standing = _stands(stays, person, time_s)
        turn = round(atan2(heading[1], heading[0]) / (2 * pi) * HEADINGS) % HEADINGS
        phase = -1 if standing else int(walked / STRIDE_M * PHASES) % PHASES
        figure = sprite(look, turn, phase)
        scale = room.view.focal_px / point[1] * look.height_m / figure.body_px
        u, v = room.view.project(*point)
        hiders = [o.mask for o in scene.occluders if o.hides(*point)]
        _cast_shadow(image, scene, hiders, u, v, scale * figure.body_px)
        one = _put(image, owner, figure.image, figure.foot, scale, u, v, hiders, person)
        if one is not None:
            placed.append(one)
    rows = tuple(row for one in placed if (row := _truth(one, owner)) is not None)
    return image, tuple(sorted(rows, key=lambda row: row.person))


def _stands(stays: list[Stay], person: int, time_s: float) -> bool:
    """Whether the person walks no way in the tenth of a second around this time."""
    stay = next(s for s in stays if s.person == person)
    a, b = np.interp([time_s - 0.05, time_s + 0.05], stay.times_s, stay.distance_m)
    return bool(b - a < 1e-6)


def _window(
    left: int, top: int, size: tuple[int, int], shape: tuple[int, ...]
) -> tuple[slice, slice, slice, slice] | None:
    """Rows and columns of the picture, then of the patch, where a patch of (h, w) at (left, top) meets the picture."""
    y0, x0, y1, x1 = max(0, top), max(0, left), min(shape[0], top + size[0]), min(shape[1], left + size[1])
    if y1 <= y0 or x1 <= x0:
        return None
    return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def _put(
    image: Picture,
    owner: NDArray[np.int32],
    figure: Picture,
    foot: tuple[float, float],
    scale: float,
    u: float,
    v: float,
    hiders: list[NDArray[np.float32]],
    person: int,
) -> _Placed | None:
    import cv2

    size = (max(2, round(figure.shape[1] * scale)), max(3, round(figure.shape[0] * scale)))
    small = cv2.resize(figure, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = round(u - foot[0] * scale), round(v - foot[1] * scale)
    whole = int(np.count_nonzero(small[..., 3] > 127))
    window = _window(left, top, small.shape[:2], image.shape)
    if window is None or not whole:
        return None
    rows, cols, from_rows, from_cols = window
    part = small[from_rows, from_cols].astype(np.float32)
    for mask in hiders:
        part *= (1 - mask[rows, cols])[..., None]
    under = image[rows, cols]
    under[:] = np.round(under * (1 - part[..., 3:] / 255) + part[..., :3]).clip(0, 255).astype(np.uint8)
    owner[rows, cols][part[..., 3] > 127] = person
    return _Placed(person, left, top, small, whole)


def _truth(placed: _Placed, owner: NDArray[np.int32]) -> TruthRow | None:
    window = _window(placed.left, placed.top, placed.image.shape[:2], owner.shape)
    if window is None:
        return None
    rows, cols, from_rows, from_cols = window
    seen = int(np.count_nonzero(owner[rows, cols] == placed.person))
    visibility = seen / placed.whole_px
    if visibility < MIN_VISIBILITY:
        return None
    body = placed.image[from_rows, from_cols, 3] > 127
    ys, xs = np.nonzero(body.any(1))[0], np.nonzero(body.any(0))[0]
    box = (cols.start + int(xs[0]), rows.start + int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1))
    return TruthRow(placed.person, tuple(float(n) for n in box), min(1.0, visibility))  # type: ignore[arg-type]


def _cast_shadow(
    image: Picture, scene: Scene, hiders: list[NDArray[np.float32]], u: float, v: float, body_px: float
) -> None:
    """A soft dark patch at the feet that leans away from the light."""
    long, flat = body_px * (0.17 + 0.22 * scene.shadow_lean), body_px * (0.055 + 0.02 * scene.shadow_lean)
    lean = body_px * 0.30 * scene.shadow_lean
    half_w, half_h = int(1.9 * long) + 2, int(1.9 * flat) + 2
    left, top = round(u + lean) - half_w, round(v) - half_h
    window = _window(left, top, (2 * half_h + 1, 2 * half_w + 1), image.shape)
    if window is None:
        return
    rows, cols, _, _ = window
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) - v) / flat
    x = (np.arange(cols.start, cols.stop, dtype=np.float32) - u - lean) / long
    dark = scene.shadow * np.exp(-((y[:, None] ** 2 + x[None] ** 2) ** 1.3) * 0.7)
    for mask in hiders:
        dark = dark * (1 - mask[rows, cols])
    part = image[rows, cols]
    part[:] = np.round(part * (1 - dark[..., None])).astype(np.uint8)
