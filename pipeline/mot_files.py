"""Reading MOTChallenge text: one row per box, `frame,id,left,top,width,height[,confidence[,class[,...]]]`.

MotFileError (ValueError)   a file is missing or does not hold what it should: names file, line and what is wrong
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class MotFileError(ValueError):
    """A MOT file cannot be used; the message says which, where and why."""


@dataclass(frozen=True, eq=False)
class MotBoxes:
    """The boxes of one camera, sorted by frame, then id; no id twice in a frame.

    frames  (N,) int64, 1-based
    ids     (N,) int64, >= 0
    boxes   (N, 4) float64: left, top, width, height px
    marks   (N,) float64: confidence; in ground truth 0 means "do not consider"; 1 where the file has no such column
    classes (N,) int64: MOTChallenge object class; 1, a pedestrian, where the file has no such column
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    marks: NDArray[np.float64]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, rows: NDArray[np.bool_]) -> MotBoxes:
        """The rows where the mask is true."""
        return MotBoxes(self.frames[rows], self.ids[rows], self.boxes[rows], self.marks[rows], self.classes[rows])


def read_mot(path: Path) -> MotBoxes:
    """Read a MOT file, comma or blank separated; empty lines and lines that begin with # are skipped.

    Raises MotFileError: no such file, fewer than six columns or another number of them than in the first line, a frame
    below 1, an id that is negative or not whole, a box that is not finite, an id twice in a frame.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise MotFileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    numbered = [(n, line.strip()) for n, line in enumerate(text.replace(",", " ").splitlines(), start=1)]
    numbered = [(n, line) for n, line in numbered if line and not line.startswith("#")]
    if not numbered:
        return _boxes(np.zeros((0, 6)))
    rows = _numbers(path, numbered)
    if rows.shape[1] < 6:
        raise MotFileError(f"{path}:{numbered[0][0]}: {rows.shape[1]} columns, expected at least 6 (frame, id, box)")
    problems = (
        (~np.isfinite(rows[:, :6]).all(1), "frame, id and box must be finite numbers"),
        (rows[:, 0] < 1, "frames count from 1"),
        (rows[:, 1] < 0, "an id must not be negative"),
        ((rows[:, :2] != np.floor(rows[:, :2])).any(1), "frame and id must be whole numbers"),
        ((rows[:, 4:6] < 0).any(1), "width and height must not be negative"),
    )
    for bad, what in problems:
        if bad.any():
            raise MotFileError(f"{path}:{numbered[int(np.argmax(bad))][0]}: {what}")
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    rows = rows[order]
    twice = (np.diff(rows[:, :2], axis=0) == 0).all(1)
    if twice.any():
        row = int(np.argmax(twice)) + 1
        line = numbered[int(order[row])][0]
        raise MotFileError(f"{path}:{line}: id {int(rows[row, 1])} is twice in frame {int(rows[row, 0])}")
    return _boxes(rows)


def _numbers(path: Path, numbered: list[tuple[int, str]]) -> NDArray[np.float64]:
    try:
        return np.loadtxt([line for _, line in numbered], dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        columns = len(numbered[0][1].split())
        for number, line in numbered:
            parts = line.split()
            if len(parts) != columns:
                raise MotFileError(f"{path}:{number}: {len(parts)} columns, the first line has {columns}") from None
            try:
                [float(part) for part in parts]
            except ValueError as error:
                raise MotFileError(f"{path}:{number}: {error}") from None
        raise


def _boxes(rows: NDArray[np.float64]) -> MotBoxes:
    ones = np.ones(len(rows))
    marks = rows[:, 6] if rows.shape[1] > 6 else ones
    classes = rows[:, 7] if rows.shape[1] > 7 else ones
    return MotBoxes(
        rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 2:6], marks, classes.astype(np.int64)
    )
