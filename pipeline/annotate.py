"""Drawing what is known onto pictures: boxes, ids, trails, camera name and clock. Pure functions over BGR images.

A person has one colour everywhere, derived from the global id alone. Texts are rendered once and pasted after that:
most of them (ids, camera names) return in every frame.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import ImageFont

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

UNKNOWN: Colour = (150, 150, 150)
"""Colour (BGR) of somebody who has no id yet."""

_GOLDEN = 0.6180339887498949  # the most irrational step: hues of neighbouring ids are far apart for any number of ids
# Ids a Fibonacci number apart get nearly one hue. Dark, middle, bright in turn tells those 5, 8, 13, 34 and 55 apart
# (also for a colour-blind eye), strong and pale those 21 apart.
_TONES = ((0.36, 0.90), (0.56, 0.95), (0.80, 0.95), (0.40, 0.50), (0.62, 0.50), (0.84, 0.50))  # lightness, saturation
UTC_FROM_S = 1e9  # a site time from here on (2001) is UTC; smaller ones count from the recording's zero


@lru_cache(maxsize=4096)
def person_colour(global_id: int) -> Colour:
    """BGR colour of a person, the same in every camera, video and plot.

    >>> person_colour(7) == person_colour(7) and person_colour(7) != person_colour(8)
    True
    """
    hue = (0.08 + global_id * _GOLDEN) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, *_TONES[global_id % len(_TONES)])
    return round(255 * blue), round(255 * green), round(255 * red)


def clock_text(time_s: float) -> str:
    """A site time for people: UTC date and time, or hours since the clock's zero.

    >>> clock_text(75.25)
    '00:01:15.2'
    >>> clock_text(1_763_800_000.5)
    '2025-11-22 08:26:40.5 UTC'
    """
    if time_s >= UTC_FROM_S:
        return f"{datetime.fromtimestamp(int(time_s), UTC):%Y-%m-%d %H:%M:%S}.{int(time_s * 10) % 10} UTC"
    sign, tenths = ("-" if time_s < 0 else ""), int(abs(time_s) * 10)
    return f"{sign}{tenths // 36000:02d}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"


def draw_frame(
    image: Image,
    boxes: NDArray[np.float32],
    ids: Sequence[int | None],
    labels: Sequence[str],
    trails: Mapping[int, NDArray[np.float32]],
    camera: str,
    clock: str,
    flashes: Mapping[int, float] | None = None,
) -> Image:
    """Draw onto `image` (H, W, 3) uint8 BGR in place, and return it.

    boxes   (N, 4) xyxy px
    ids     N global ids; None for somebody without one (drawn grey)
    labels  N texts over the boxes, "P12 97%"; a second line after "\\n" is drawn under the box
    trails  global id -> (T, 2) foot points px, oldest first
    camera, clock   texts of the corner
    flashes  global id -> strength in (0, 1] of the glow around somebody who just came from another camera

    >>> picture = np.zeros((120, 160, 3), np.uint8)
    >>> box = np.array([[40, 30, 80, 110]], np.float32)
    >>> out = draw_frame(picture, box, [3], ["P3"], {}, "lobby", "00:00:01.0")
    >>> out is picture and bool((out[60, 40] == person_colour(3)).all())
    True
    """
    import cv2

    height, width = image.shape[:2]
    scale = text_scale(height)
    thick = round(2 * scale)
    for walker, points in trails.items():
        _draw_trail(image, points, person_colour(walker), thick)
    corners = np.nan_to_num(boxes).clip(-1, [width, height, width, height]).round().astype(int).tolist()
    colours = [UNKNOWN if global_id is None else person_colour(global_id) for global_id in ids]
    for (x1, y1, x2, y2), colour, global_id in zip(corners, colours, ids, strict=True):
        if flashes and global_id is not None and (strength := flashes.get(global_id, 0.0)) > 0:
            _draw_glow(image, (x1, y1, x2, y2), colour, strength, scale)
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, thick)
    taken: list[tuple[int, int, int, int]] = []
    for (x1, y1, _, y2), colour, label in zip(corners, colours, labels, strict=True):  # after all boxes: none hidden
        above, _, below = label.partition("\n")
        if above:
            patch = text_patch(above, scale, colour)
            left, top = _free_place(x1 - thick // 2, y1 - patch.shape[0] + 1, patch, taken, width)
            paste(image, patch, left, top)
        if below:
            paste(image, text_patch(below, 0.8 * scale, colour), x1 - thick // 2, y2)
    heading = text_patch(f"{camera}  {clock}", scale, (32, 32, 32))
    paste(image, heading, 0, 0)
    return image


def text_scale(height_px: int) -> float:
    """Size of text and lines for a picture of this height: 1 at 720 lines, readable at 240, not huge at 4K."""
    return float(np.clip(height_px / 720, 0.8, 2.5))


@lru_cache(maxsize=512)
def text_patch(text: str, scale: float, background: Colour) -> Image:
    """(h, w, 3) picture of a line of text on a coloured ground, black or white, whichever reads better."""
    from PIL import Image as Pictures
    from PIL import ImageDraw

    font = _font(round(15 * scale))
    left, _, right, _ = font.getbbox(text)
    ascent, descent = font.getmetrics()
    pad = round(4 * scale)
    picture = Pictures.new("RGB", (round(right - left) + 2 * pad, ascent + descent), background)
    luma = 0.114 * background[0] + 0.587 * background[1] + 0.299 * background[2]
    ink = (0, 0, 0) if luma > 128 else (255, 255, 255)
    ImageDraw.Draw(picture).text((pad - left, 0), text, ink, font)  # BGR all through: Pillow need not know
    patch = np.array(picture)
    patch.setflags(write=False)
    return patch


@lru_cache(maxsize=16)
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    """The font that Pillow carries: unlike OpenCV's strokes it knows more than ASCII, and looks alike everywhere."""
    from PIL import ImageFont

    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont)  # given a size, it always is
    return font


def _free_place(
    left: int, top: int, patch: Image, taken: list[tuple[int, int, int, int]], width: int
) -> tuple[int, int]:
    """Where a label hides no other: at (left, top), or up to three lines higher. Adds the place to `taken`."""
    high, wide = patch.shape[:2]
    left = min(max(left, 0), max(width - wide, 0))
    wanted = max(top, 0)
    for place in (wanted, wanted - high, wanted - 2 * high, wanted - 3 * high):
        if place >= 0 and not any(
            left < x2 and x1 < left + wide and place < y2 and y1 < place + high for x1, y1, x2, y2 in taken
        ):
            wanted = place
            break
    taken.append((left, wanted, left + wide, wanted + high))
    return left, wanted


def paste(image: Image, patch: Image, left: int, top: int) -> None:
    """Copy `patch` onto `image` in place, moved inside where it would stick out, cut where it is larger."""
    height, width = image.shape[:2]
    patch = patch[:height, :width]
    left = min(max(left, 0), width - patch.shape[1])
    top = min(max(top, 0), height - patch.shape[0])
    image[top : top + patch.shape[0], left : left + patch.shape[1]] = patch


def letterbox(image: Image, width: int, height: int) -> Image:
    """Fit into (height, width, 3) on black, aspect kept; the image itself when it fits exactly."""
    import cv2

    high, wide = image.shape[:2]
    if (wide, high) == (width, height):
        return image
    ratio = min(width / wide, height / high)
    size = (min(width, max(1, round(wide * ratio))), min(height, max(1, round(high * ratio))))
    whole = min(int(1 / ratio), high, wide)
    small: Any = image
    if whole > 1:  # by a whole factor first, without aliasing: area averaging by a broken one takes ten times as long
        even = image[: high // whole * whole, : wide // whole * whole]
        small = cv2.resize(even, (wide // whole, high // whole), interpolation=cv2.INTER_AREA)
    small = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def _draw_glow(image: Image, box: tuple[int, int, int, int], colour: Colour, strength: float, scale: float) -> None:
    """A person lights up in their colour, and a frame runs outward from them while it fades."""
    import cv2

    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if inside.size:
        share = 0.45 * strength
        cv2.addWeighted(inside, 1.0 - share, np.full_like(inside, colour), share, 0.0, dst=inside)
    far = round(scale * (4 + 26 * (1.0 - strength)))
    left, top, right, bottom = max(x1 - far, 0), max(y1 - far, 0), min(x2 + far, width), min(y2 + far, height)
    around = image[top:bottom, left:right]
    if around.size:
        ring = around.copy()
        corner = (x1 - far - left, y1 - far - top), (x2 + far - left, y2 + far - top)
        cv2.rectangle(ring, *corner, colour, max(2, round(4 * scale)))
        cv2.addWeighted(around, 1.0 - strength, ring, strength, 0.0, dst=around)


def _draw_trail(image: Image, points: NDArray[np.float32], colour: Colour, thick: int) -> None:
    """The path of the feet: thin where it is old, thick where it is new."""
    import cv2

    if len(points) < 2:
        return
    path = np.nan_to_num(points).clip(-1e4, 1e4).round().astype(np.int32)
    middle = len(path) // 2
    cv2.polylines(image, [path[: middle + 1]], False, colour, 1, cv2.LINE_AA)
    cv2.polylines(image, [path[middle:]], False, colour, thick, cv2.LINE_AA)
