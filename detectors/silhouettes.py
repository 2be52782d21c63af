"""From a mask of moving pixels to upright persons: join the parts of one, cut groups, complete what is hidden.

While the camera's perspective is unknown a person is any upright blob. Once it is known, a blob that is too wide or too
tall for one person is taken apart head by head, and one that is too short is completed to the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.perspective import Perspective

Box = tuple[int, int, int, int]
Mask = NDArray[Any]  # (H, W) uint8, 0 or 1

# Shares of a person's height, chosen by F1 at IoU .5 on the synthetic site (seed 2) and PETS 2009 S2.L1.
_BODY_HALF_WIDTH = 0.20  # .18 and .22 within a point
_MAYBE_TWO = 0.5  # wider blobs are searched for heads: .72 loses 2 points on the site and 14 on a crop of PETS
_TOO_WIDE = 0.72  # for one person, arms and legs at full stride; .8 loses 1 to 7 points
_TOO_TALL = 1.28  # 1.4 loses 1 to 2 points
_TOO_SHORT = 0.72
_SLIMMEST = 0.14  # what is left of someone behind a pillar is no box to follow
_HEAD_COVER = 0.55  # of the strip under a head must move, or it is no head; .45 to .65 changes nothing
_SPREAD = 0.3  # half the room a walking person may take up; .36 within half a point
_REACH = 1.1  # a tall person's feet, looked for below the head
_LEAST_SEEN = 0.25  # of a person; less is not completed


@dataclass(frozen=True)
class Person:
    """A person's box in mask pixels; `whole` when it was seen alone, uncut and unguessed: fit to learn sizes from."""

    box: Box
    score: float
    whole: bool


def find_persons(mask: Mask, min_height: float, min_area: float, view: Perspective | None = None) -> list[Person]:
    """Persons in a mask (H, W) uint8 of 0 and 1; the limits are pixels and square pixels.

    >>> mask = np.zeros((100, 160), np.uint8)
    >>> mask[20:80, 50:72] = 1
    >>> find_persons(mask, 10, 50)
    [Person(box=(50, 20, 72, 80), score=1.0, whole=True)]
    """
    import cv2

    height, width = mask.shape
    if view is not None and not view.known:
        view = None
    solid = cv2.medianBlur(mask, 3)
    # Limbs and torso of one person fall apart vertically more often than sideways.
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 9)))
    _, _, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    parts = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, area in stats[1:] if area >= 12]
    persons = []
    for blob in _joined(parts, height, view):
        boxes = _cut_wide(blob, solid) if view is None else _by_perspective(blob, solid, view)
        for box in boxes:
            x0, y0, x1, y1 = box
            area = int(mask[y0:y1, x0:x1].sum())
            at_edge = x0 <= 0 or x1 >= width or y1 >= height
            upright = at_edge or _SLIMMEST * (y1 - y0) < x1 - x0 < 1.1 * (y1 - y0)
            if y1 - y0 < min_height or area < min_area or not upright:
                continue
            slim = 0.2 * (y1 - y0) < x1 - x0 < 0.65 * (y1 - y0)
            whole = boxes == [blob] and slim and not at_edge and y0 > 0
            persons.append(Person(box, min(1.0, area / (0.6 * (x1 - x0) * (y1 - y0))), whole))
    return persons


def _joined(parts: list[Box], height: int, view: Perspective | None) -> list[Box]:
    """Parts above each other that together still look like one upright person become one box."""
    parts = sorted(parts, key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))
    merged = True
    while merged:
        merged = False
        for i in range(len(parts)):
            for j in range(i + 1, len(parts)):
                both = _union_if_one_person(parts[i], parts[j], height, view)
                if both is not None:
                    parts[i] = both
                    del parts[j]
                    merged = True
                    break
            if merged:
                break
    return parts


def _union_if_one_person(a: Box, b: Box, height: int, view: Perspective | None) -> Box | None:
    overlap = min(a[2], b[2]) - max(a[0], b[0])
    narrow = min(a[2] - a[0], b[2] - b[0])
    gap = max(a[1], b[1]) - min(a[3], b[3])
    union = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    wide, tall = union[2] - union[0], union[3] - union[1]
    if view is None:
        one = gap <= max(3, 0.18 * tall) and wide <= 0.75 * tall and tall <= 0.75 * height
        return union if one and overlap >= 0.5 * narrow else None
    expected = view.height_at(union[3])
    one = overlap >= 0.3 * narrow and tall <= 1.15 * expected and wide <= _TOO_WIDE * expected
    return union if one and gap < 0.4 * expected else None


def _cut_wide(box: Box, mask: Mask) -> list[Box]:
    """People side by side: cut where the column profile has a valley, when each side is still person-shaped."""
    x0, y0, x1, y1 = box
    wide, tall = x1 - x0, y1 - y0
    if wide < 0.72 * tall or wide < 12:
        return [box]
    profile = np.convolve(mask[y0:y1, x0:x1].sum(0).astype(float), np.ones(3) / 3, mode="same")
    margin = max(4, wide // 4)
    cut = margin + int(np.argmin(profile[margin : wide - margin]))
    if profile[cut] > 0.6 * min(profile[:cut].max(), profile[cut:].max()):
        return [box]
    halves = []
    for a, b in ((x0, x0 + cut), (x0 + cut, x1)):
        rows = np.nonzero(mask[y0:y1, a:b].any(1))[0]
        if len(rows):
            halves += _cut_wide((a, y0 + int(rows[0]), b, y0 + int(rows[-1]) + 1), mask)
    return halves


def _by_perspective(box: Box, mask: Mask, view: Perspective) -> list[Box]:
    """One, several or no persons in a blob, by the size people have there."""
    x0, y0, x1, y1 = box
    wide, tall = x1 - x0, y1 - y0
    cut_below = y1 >= mask.shape[0] - 1
    expected = view.height_below(y0) if cut_below else view.height_at(y1)
    if wide > _MAYBE_TWO * expected or (tall > _TOO_TALL * expected and not cut_below):
        return _peel(box, mask, view)
    return [_completed(box, mask.shape[0], view)]


def _completed(box: Box, rows: int, view: Perspective) -> Box:
    """Adds the legs that furniture or a colour like the floor's hides: heads are seen more often than feet."""
    x0, y0, x1, y1 = box
    expected = view.height_below(y0)
    if not _LEAST_SEEN * expected < y1 - y0 < _TOO_SHORT * expected or x1 - x0 > _TOO_WIDE * expected:
        return box
    return x0, y0, x1, min(rows, round(y0 + expected))


def _peel(box: Box, mask: Mask, view: Perspective) -> list[Box]:
    """Takes a group apart head by head; what is left below all of them is one more person, in front."""
    x0, y0, x1, y1 = box
    part = mask[y0:y1, x0:x1] > 0
    tall, wide = part.shape
    heads = _heads(part, y0, y1 >= mask.shape[0] - 1, view)
    if not heads or (len(heads) == 1 and wide <= _TOO_WIDE * tall and tall < _TOO_TALL * view.height_at(y1)):
        return [_completed(box, mask.shape[0], view)]
    boxes = []
    away = np.array([np.abs(np.arange(wide) - x) / size for x, _, size in heads])
    feet = np.array([top + size for _, top, size in heads])
    for n, (_, top, size) in enumerate(heads):
        rows = np.arange(int(top), min(tall, int(top + _REACH * size)))
        # A column is the nearest head's, but only down to the feet of that head: below stands who is in front.
        others = ((away < away[n])[:, None, :] & (rows[:, None] <= feet[:, None, None])).any(0)
        body = part[rows] & ~others & (away[n] <= _SPREAD)
        across = np.nonzero(body.sum(0) > 0.04 * size)[0]
        if not len(across):
            continue
        low = top + float(np.nonzero(body.any(1))[0][-1]) + 1
        if low < top + _TOO_SHORT * size:
            low = top + size
        foot = min(mask.shape[0], y0 + round(low))
        boxes.append((x0 + int(across[0]), y0 + int(top), x0 + int(across[-1]) + 1, foot))
    front = view.height_at(y1)
    if y1 - max((b[3] for b in boxes), default=y0) > 0.3 * front:
        legs = np.nonzero(part[int(max(0, tall - 0.45 * front)) :].any(0))[0]
        if len(legs) and legs[-1] - legs[0] < _TOO_WIDE * front:
            boxes.append((x0 + int(legs[0]), max(0, round(y1 - front)), x0 + int(legs[-1]) + 1, y1))
    return boxes or [box]


def _heads(part: NDArray[np.bool_], y0: int, cut_below: bool, view: Perspective) -> list[tuple[float, float, float]]:
    """Peaks of a group's upper outline that have a body's worth of motion below them, highest first: column and row of
    the top within `part`, height of the person. `y0` is the picture's row of the part's first."""
    tall = len(part)
    outline = np.where(part.any(0), part.argmax(0), tall).astype(float)
    free = outline < tall
    heads = []
    while free.any():
        top = float(outline[free].min())
        peak = np.nonzero(free & (outline <= top + 1))[0]
        x = float(peak[: 1 + int(np.argmax(np.append(np.diff(peak), 2) > 1))].mean())  # the first flat stretch
        size = view.height_below(y0 + top)
        strip = part[int(top) : int(top + 0.9 * size), max(0, int(x - 0.08 * size)) : int(x + 0.08 * size) + 1]
        reach = 0.05 * size
        if (top + 0.75 * size <= tall or cut_below) and strip.size and strip.mean() >= _HEAD_COVER:
            heads.append((x, top, size))
            reach = 1.25 * _BODY_HALF_WIDTH * size
        free[max(0, int(x - reach)) : int(x + reach) + 1] = False
    return heads
