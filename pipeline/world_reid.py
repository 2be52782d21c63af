"""A rendered set for re-identification, in the shape of Market-1501: hundreds of people, several cameras, known truth.

    DIR/bounding_box_train/0001_c3s1_004211_01.jpg    half of the people, all their images
    DIR/query/...                                     of the others one image per camera
    DIR/bounding_box_test/...                         their other images, strangers (0000) and pieces of people (-1)
    DIR/sequence_lengths.json, DIR/rendered.json      frames per camera; how the set was made

The people are those of `world_figure`, before walls and floors of the rooms of `world_rooms`. Every camera has a colour
cast, a brightness, a sharpness and a direction people are mostly seen from; boxes miss as a detector's do; some people
are half hidden by others or by furniture. Everyone walks from camera to camera, so that the frame numbers tell what
travel times tell. Training and testing run on it end to end without a download; it says nothing of real accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import atomic, output_error, write_json_atomic
from pipeline.world_figure import HEADINGS, PHASES, Look, draw_looks, sprite
from pipeline.world_plan import ROOMS
from pipeline.world_rooms import paint_scene

Picture = NDArray[Any]  # uint8 BGR

HEIGHT_PX, WIDTH_PX = 128, 64
"""Size of the images, Market-1501's own."""

FPS = 25
MAX_CAMERAS = 9
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")

_SITE_S = 1800.0  # people arrive within half an hour
_HIDDEN_SHARE = 0.3  # of the images: somebody or something stands in front
_STRANGERS, _PIECES = 0.1, 0.3  # images of 0000 and of -1 in the gallery, per person of the test half


@dataclass(frozen=True)
class ReidCamera:
    """How one camera sees.

    gain_bgr, gamma  its colours
    body_px          mean height of a person before the picture is enlarged: how coarse it is
    heading          what people are mostly seen from, in sixteenths of a turn (4 is from behind)
    room             which room's walls are behind them
    walk_s           seconds on foot from the first camera
    """

    gain_bgr: tuple[float, float, float]
    gamma: float
    body_px: float
    heading: int
    room: int
    walk_s: float


@dataclass(frozen=True)
class RenderedSet:
    """What was written: images per folder of `FOLDERS`, and how many people are in training and test."""

    root: Path
    images: dict[str, int]
    train_people: int
    test_people: int


def render_reid(
    out_dir: Path | str,
    *,
    seed: int = 1,
    people: int = 200,
    cameras: int = 6,
    progress: Callable[[str, int, int], None] | None = None,
) -> RenderedSet:
    """Writes a rendered set into a folder that is new or empty. Equal arguments give equal files.

    people   at least 4, at most 9,999; half of them for training
    cameras  2 to 9; everybody is seen in at least two

    Raises ValueError when an argument is out of range or the folder holds something, OutputError when it cannot be
    written.
    """
    if not 4 <= people <= 9999 or not 2 <= cameras <= MAX_CAMERAS:
        raise ValueError(f"need 4 to 9999 people and 2 to {MAX_CAMERAS} cameras, got {people} and {cameras}")
    root = Path(out_dir)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root}: there is something already; name a new folder")
    try:
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(root, error) from error
    site = draw_cameras(seed, cameras)
    strangers = max(1, round(people * _STRANGERS / 2))
    looks = draw_looks(seed, people + strangers)
    count = dict.fromkeys(FOLDERS, 0)
    for person in range(1, people + strangers + 1):
        known = person <= people
        for shot in _shots(seed, person, site):
            folder = FOLDERS[0] if known and person <= people // 2 else FOLDERS[1 if known and shot.asked else 2]
            name = f"{person if known else 0:04d}_c{shot.camera + 1}s1_{shot.frame:06d}_{shot.number:02d}.jpg"
            _write(root / folder / name, _picture(seed, looks, person, site[shot.camera], shot))
            count[folder] += 1
        if known and person > people // 2 and (person * _PIECES) % 1 < _PIECES:
            shot = _shots(seed, person, site)[0]
            name = f"-1_c{shot.camera + 1}s1_{shot.frame:06d}_00.jpg"
            _write(root / FOLDERS[2] / name, _piece(_picture(seed, looks, person, site[shot.camera], shot)))
            count[FOLDERS[2]] += 1
        if progress is not None:
            progress("rendering people", person, people + strangers)
    frames = round((_SITE_S + max(camera.walk_s for camera in site) * 2 * cameras) * FPS)
    write_json_atomic(root / "sequence_lengths.json", {f"c{n + 1}s1": frames for n in range(cameras)})
    write_json_atomic(root / "rendered.json", {"seed": seed, "people": people, "cameras": cameras, "images": count})
    return RenderedSet(root, count, people // 2, people - people // 2)


def draw_cameras(seed: int, cameras: int) -> tuple[ReidCamera, ...]:
    """The cameras of that seed: casts of up to a fifth per channel, from dark to bright, from fine to coarse.

    >>> len(draw_cameras(1, 6)), draw_cameras(1, 6) == draw_cameras(1, 6)
    (6, True)
    """
    rng = np.random.default_rng([seed, 1 << 24])
    sizes = rng.permutation(np.linspace(44, 120, cameras))
    gammas = rng.permutation(np.linspace(0.75, 1.35, cameras))
    walks = np.cumsum(rng.uniform(12, 60, cameras))
    found = []
    for n in range(cameras):
        cast = rng.uniform(0.8, 1.2, 3)
        blue, green, red = (cast / cast.mean()).tolist()
        heading = int(rng.integers(HEADINGS))
        found.append(
            ReidCamera((blue, green, red), float(gammas[n]), float(sizes[n]), heading, n % len(ROOMS), float(walks[n]))
        )
    return tuple(found)


@dataclass(frozen=True)
class _Shot:
    """One image to be taken: 0-based camera, frame, number in its stay, whether it is the query of its camera."""

    camera: int
    frame: int
    number: int
    asked: bool


def _shots(seed: int, person: int, site: tuple[ReidCamera, ...]) -> list[_Shot]:
    """A person's way through the site: two to four images in each of some cameras."""
    rng = np.random.default_rng([seed, 1 << 25, person])
    visited = rng.permutation(len(site))[: int(rng.integers(2, min(len(site), 6) + 1))]
    if rng.uniform() < 0.75:  # most people walk along, some criss-cross
        visited = np.sort(visited) if rng.uniform() < 0.5 else np.sort(visited)[::-1]
    time_s = float(rng.uniform(0, _SITE_S))
    shots: list[_Shot] = []
    for step, camera in enumerate(visited.tolist()):
        if step:
            away_s = abs(site[camera].walk_s - site[int(visited[step - 1])].walk_s)
            time_s += away_s * _near(rng, 1.0, 0.08, 0.7, 1.5)
        images = int(rng.integers(2, 5))
        for number in range(images):
            shots.append(_Shot(camera, round(time_s * FPS), number + 1, number == 0))
            time_s += float(rng.uniform(0.5, 1.5))
    return shots


def _picture(seed: int, looks: tuple[Look, ...], person: int, camera: ReidCamera, shot: _Shot) -> Picture:
    """(128, 64, 3) uint8 BGR of that person as that camera sees them."""
    import cv2

    stay = np.random.default_rng([seed, 1 << 26, person, shot.camera])  # the same for all images of a stay
    turn = camera.heading + round(stay.normal(0, 1.5))
    spot = stay.uniform(0, 1, 2)
    rng = np.random.default_rng([seed, 1 << 27, person, shot.camera, shot.number])
    canvas = _wall(camera.room, seed, spot + rng.normal(0, 0.02, 2), flip=bool(stay.integers(2)))
    # As a detector's box: a little too large or too small, a little off.
    body_px = HEIGHT_PX * _near(rng, 0.9, 0.05, 0.75, 1.05)
    foot = (WIDTH_PX * float(rng.normal(0.5, 0.05)), HEIGHT_PX * _near(rng, 0.96, 0.025, 0.88, 1.06))
    phase = int(rng.integers(-1, PHASES))
    hidden = rng.uniform() < _HIDDEN_SHARE
    beside = foot[0] + WIDTH_PX * float(rng.choice([-1, 1]) * rng.uniform(0.3, 0.6))
    other = looks[int(rng.integers(len(looks)))]
    in_front = hidden and rng.uniform() < 0.5
    if rng.uniform() < 0.15:  # somebody in the background
        _stand(canvas, other, int(rng.integers(HEADINGS)), 0, body_px * 0.8, (beside, foot[1] - 8))
    _stand(canvas, looks[person - 1], turn + round(float(rng.normal(0, 0.8))), phase, body_px, foot)
    if in_front:
        _stand(canvas, other, int(rng.integers(HEADINGS)), 2, body_px * 1.05, (beside, foot[1] + 6))
    elif hidden:  # a desk, a shelf
        edge = round(HEIGHT_PX * float(rng.uniform(0.6, 0.85)))
        canvas[edge:] = rng.integers(60, 190, 3)
        canvas[edge : edge + 3] = canvas[edge : edge + 3] // 5 * 6
    # The camera: its resolution, colours, noise.
    coarse = min(1.0, camera.body_px * _near(rng, 1, 0.1, 0.7, 1.3) / HEIGHT_PX)
    small = cv2.resize(canvas, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_AREA)
    canvas = cv2.resize(small, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
    light = float(rng.normal(1.0, 0.06))
    level = (canvas / 255.0) ** camera.gamma * np.array(camera.gain_bgr) * light * 255
    noisy = np.clip(np.round(level + rng.normal(0, 3.0, canvas.shape)), 0, 255)
    return np.asarray(noisy, np.uint8)


def _stand(canvas: Picture, look: Look, turn: int, phase: int, body_px: float, foot: tuple[float, float]) -> None:
    """Draw a figure of that height into the picture, its ground point at `foot` (x, y px)."""
    import cv2

    figure = sprite(look, turn % HEADINGS, phase)
    scale = body_px / figure.body_px
    shift = np.array(
        [[scale, 0, foot[0] - figure.foot[0] * scale], [0, scale, foot[1] - figure.foot[1] * scale]], np.float32
    )
    # Smoothed first: a plain warp to half the size would skip every second pixel.
    image = cv2.GaussianBlur(figure.image, (3, 3), 0.6) if scale < 0.8 else figure.image
    part = cv2.warpAffine(image, shift, (WIDTH_PX, HEIGHT_PX), flags=cv2.INTER_LINEAR).astype(np.float32)
    canvas[:] = np.round(canvas * (1 - part[..., 3:] / 255) + part[..., :3]).clip(0, 255).astype(np.uint8)


@cache
def _room(room: int, seed: int) -> Picture:
    return paint_scene(ROOMS[room].view, seed).image


def _wall(room: int, seed: int, spot: NDArray[np.float64], *, flip: bool) -> Picture:
    """A piece of the empty room, as large as a box around a person."""
    scene = _room(room, seed)
    top = round(float(np.clip(spot[1], 0, 1)) * (scene.shape[0] - HEIGHT_PX))
    left = round(float(np.clip(spot[0], 0, 1)) * (scene.shape[1] - WIDTH_PX))
    piece = scene[top : top + HEIGHT_PX, left : left + WIDTH_PX]
    return (piece[:, ::-1] if flip else piece).copy()


def _piece(image: Picture) -> Picture:
    """A box that holds a part of a person only."""
    import cv2

    return cv2.resize(image[HEIGHT_PX // 2 :, : WIDTH_PX // 2], (WIDTH_PX, HEIGHT_PX))


def _near(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    """A draw from a normal, kept within limits."""
    return float(np.clip(rng.normal(mean, spread), low, high))


def _write(path: Path, image: Picture) -> None:
    import cv2

    done, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    with atomic(path) as temporary:
        temporary.write_bytes(code.tobytes())
