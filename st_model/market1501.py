"""Market-1501 by its file names alone: who, which camera, when; and the delays between cameras they tell of.

`0002_c1s3_000451_03.jpg` is person 2 in camera 1, sequence 3, frame 451 of that sequence. Frame numbers restart in
every sequence, so times are absolute frames: the frame plus the lengths of that camera's earlier sequences (Wang et
al., "Spatial-Temporal Person Re-identification", AAAI 2019, published code).

    MarketFileError (ValueError)   a list of names or of sequence lengths that cannot be used; names file and line
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CAMERAS = 6
JUNK = -1
"""Label of a gallery image that shows no whole person; it is never scored."""

_NAME = re.compile(r"(-1|\d{4,})_c([1-9]\d*)s([1-9]\d*)_(\d+)_\d+\.jpg(?:\.jpg)?")  # a few published names end twice
_SEQUENCE = re.compile(r"c([1-9]\d*)s([1-9]\d*)")


class MarketFileError(ValueError):
    """A list of names or of sequence lengths that cannot be used."""


@dataclass(frozen=True, eq=False)
class MarketImages:
    """What the names of N images say.

    person  (N,) int64, -1 junk, 0 a distractor
    camera  (N,) int64, 0-based (`c1` is 0), below CAMERAS
    frame   (N,) int64, absolute frame of the camera, >= 0
    """

    person: NDArray[np.int64]
    camera: NDArray[np.int64]
    frame: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.person)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> MarketImages:
        """The images of these rows, in that order."""
        return MarketImages(self.person[rows], self.camera[rows], self.frame[rows])

    def then(self, other: MarketImages) -> MarketImages:
        """These images followed by the other ones."""
        return MarketImages(
            np.concatenate([self.person, other.person]),
            np.concatenate([self.camera, other.camera]),
            np.concatenate([self.frame, other.frame]),
        )


def sequence_starts(lengths: Mapping[str, int]) -> dict[tuple[int, int], int]:
    """Absolute frame at which each (camera, sequence) begins, both as in the names (from 1).

    Raises MarketFileError when a name is not like `c1s2`, a length is not a positive whole number, or a sequence is
    missing between two others.

    >>> sequence_starts({"c1s1": 100, "c1s2": 50, "c2s1": 70})
    {(1, 1): 0, (1, 2): 100, (2, 1): 0}
    """
    known: dict[tuple[int, int], int] = {}
    for name, length in lengths.items():
        parts = _SEQUENCE.fullmatch(name)
        if not parts:
            raise MarketFileError(f"sequence lengths: {name!r} is not a sequence name like 'c1s2'")
        if isinstance(length, bool) or not isinstance(length, int) or length <= 0:
            raise MarketFileError(f"sequence lengths: {name} must be a positive number of frames, got {length!r}")
        known[int(parts[1]), int(parts[2])] = length
    starts: dict[tuple[int, int], int] = {}
    for camera, sequence in sorted(known):
        if sequence > 1 and (camera, sequence - 1) not in known:
            raise MarketFileError(
                f"sequence lengths: c{camera}s{sequence} is there but c{camera}s{sequence - 1} is not"
            )
        starts[camera, sequence] = starts[camera, sequence - 1] + known[camera, sequence - 1] if sequence > 1 else 0
    return starts


def parse_names(names: Sequence[str], starts: Mapping[tuple[int, int], int], source: str = "names") -> MarketImages:
    """Person, camera and absolute frame of each name.

    Raises MarketFileError (with `source` and the line) for a name that does not fit, a camera above CAMERAS or a
    sequence without a known start, and when there is no name at all.

    >>> images = parse_names(["0002_c1s2_000451_03.jpg"], {(1, 1): 0, (1, 2): 100})
    >>> images.person.tolist(), images.camera.tolist(), images.frame.tolist()
    ([2], [0], [551])
    """
    if not names:
        raise MarketFileError(f"{source}: no names in it")
    rows = np.empty((len(names), 3), np.int64)
    for line, name in enumerate(names, 1):
        parts = _NAME.fullmatch(name)
        if not parts:
            raise MarketFileError(f"{source}, line {line}: {name!r} is not a name like '0002_c1s1_000451_03.jpg'")
        person, camera, sequence, frame = map(int, parts.groups())
        if camera > CAMERAS:
            raise MarketFileError(f"{source}, line {line}: {name!r} has camera {camera}; Market-1501 has {CAMERAS}")
        if (camera, sequence) not in starts:
            raise MarketFileError(f"{source}, line {line}: the length of sequence c{camera}s{sequence} is not known")
        rows[line - 1] = person, camera - 1, starts[camera, sequence] + frame
    return MarketImages(*(np.ascontiguousarray(column) for column in rows.T))


def read_sequence_lengths(path: Path) -> dict[tuple[int, int], int]:
    """`sequence_starts` of a JSON file {"c1s1": frames, ...}. Raises MarketFileError, also when it is no such file."""
    try:
        lengths = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MarketFileError(f"sequence lengths {path}: cannot be read as JSON ({error})") from error
    if not isinstance(lengths, dict) or not lengths:
        raise MarketFileError(f"sequence lengths {path}: expected an object like {{'c1s1': 72681, ...}}")
    return sequence_starts(lengths)


def read_names(path: Path, starts: Mapping[tuple[int, int], int]) -> MarketImages:
    """`parse_names` of a text file, one name a line. Raises MarketFileError, also when the file cannot be read."""
    try:
        names = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise MarketFileError(f"names {path}: cannot be read ({error})") from error
    return parse_names(names, starts, str(path))


def people_of(images: MarketImages) -> MarketImages:
    """The images of real, labelled people: without junk and distractors, which are nobody one could follow."""
    return images.take(images.person > 0)


def mean_gaps(images: MarketImages) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """The paper's observations: one gap per person and pair of cameras, between the mean frames of the person in each.

    Returns (to, from, gap) of equal length: the later camera, the earlier one, and the frames between, >= 0; at equal
    means the higher camera counts as later. The mean is sum / (count + 1e-7) as in the published code: many gaps are
    exact multiples of a bin, and without the 1e-7 some of them change bin.
    """
    _, row = np.unique(images.person, return_inverse=True)
    cell = row * CAMERAS + images.camera
    shape = (int(row.max(initial=-1)) + 1, CAMERAS)
    count = np.bincount(cell, minlength=shape[0] * CAMERAS).reshape(shape)
    total = np.bincount(cell, images.frame, minlength=shape[0] * CAMERAS).reshape(shape)
    mean = total / (count + 1e-7)
    low, high = np.triu_indices(CAMERAS, 1)
    person, pair = np.nonzero((count[:, low] > 0) & (count[:, high] > 0))
    low, high = low[pair], high[pair]
    gap = mean[person, high] - mean[person, low]
    swap = gap < 0
    return np.where(swap, low, high), np.where(swap, high, low), np.abs(gap)


def image_gaps(
    images: MarketImages,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Gaps between every two images of a person in two cameras: what a query and a gallery image really differ by.

    Returns (to, from, gap, weight): as `mean_gaps`, and a weight so that each person counts once per pair of cameras.
    """
    order = np.argsort(images.person, kind="stable")
    ends = np.flatnonzero(np.diff(images.person[order])) + 1
    found: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]] = []
    for rows in np.split(order, ends):
        camera, frame = images.camera[rows], images.frame[rows]
        first, second = np.nonzero(camera[:, None] > camera[None, :])
        gap = (frame[first] - frame[second]).astype(np.float64)
        pair = camera[first] * CAMERAS + camera[second]
        weight = 1.0 / np.bincount(pair, minlength=CAMERAS * CAMERAS)[pair]
        swap = gap < 0
        to, frm = np.where(swap, camera[second], camera[first]), np.where(swap, camera[first], camera[second])
        found.append((to, frm, np.abs(gap), weight))
    to, frm, gap, weight = (np.concatenate(column) for column in zip(*found, strict=True))
    return to, frm, gap, weight
