"""Persons from a file: boxes that somebody found before, in MOTChallenge text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.detections import Detections


class RecordedError(ValueError):
    """A file of recorded boxes cannot be used; the message says where and why."""


class RecordedDetector:
    """Gives back recorded boxes.

    files  camera -> MOTChallenge text, rows `frame,id,left,top,width,height,conf[,...]`: frames count from 1, ids are
           ignored, a row with 6 columns has conf 1
    conf   boxes with a lower score are left out

    `detector(cameras, indices, images)`: indices count source frames from 0; the images are looked at for their size
    only, to which boxes are clipped. A frame without rows has no persons; so has a camera whose file is empty.

    Raises RecordedError for a missing file, a row that does not fit, and when called for an unknown camera.
    """

    def __init__(self, files: Mapping[str, str | Path], *, conf: float = 0.0) -> None:
        self._boxes = {camera: _by_frame(Path(path), conf) for camera, path in files.items()}

    def __call__(
        self, cameras: Sequence[str], indices: Sequence[int], images: Sequence[NDArray[np.uint8]]
    ) -> list[Detections]:
        """One Detections per image."""
        return [self._at(camera, index, image) for camera, index, image in zip(cameras, indices, images, strict=True)]

    def _at(self, camera: str, index: int, image: NDArray[np.uint8]) -> Detections:
        if camera not in self._boxes:
            known = ", ".join(sorted(self._boxes)) or "none"
            raise RecordedError(f"no recorded boxes for camera {camera!r} (there are: {known})")
        rows = self._boxes[camera].get(index)
        if rows is None:
            return Detections.none()
        height, width = image.shape[:2]
        boxes = rows[:, :4].clip(0, np.array([width, height, width, height], np.float32))
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return Detections(boxes[inside], rows[inside, 4])


def _by_frame(path: Path, conf: float) -> dict[int, NDArray[np.float32]]:
    """0-based frame -> (N, 5) float32: xyxy px, score."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordedError(f"cannot read recorded boxes from {path}: {error}") from error
    frames: dict[int, list[tuple[float, ...]]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        frame, box = _row(line, f"{path}:{number}")
        if box[4] >= conf:
            frames.setdefault(frame - 1, []).append(box)
    return {frame: np.array(rows, np.float32) for frame, rows in frames.items()}


def _row(line: str, where: str) -> tuple[int, tuple[float, float, float, float, float]]:
    cells = line.split(",")
    if len(cells) < 6:
        raise RecordedError(f"{where}: expected frame,id,left,top,width,height[,conf,...], got {len(cells)} columns")
    try:
        frame, _, left, top, width, height = (float(cell) for cell in cells[:6])
        score = float(cells[6]) if len(cells) > 6 else 1.0
    except ValueError as error:
        raise RecordedError(f"{where}: {error}") from error
    if not np.isfinite([frame, left, top, width, height, score]).all():
        raise RecordedError(f"{where}: numbers must be finite")
    if frame < 1 or frame != int(frame):
        raise RecordedError(f"{where}: frames count from 1, got {frame:g}")
    if width < 0 or height < 0:
        raise RecordedError(f"{where}: a box of size {width:g} x {height:g}")
    if not 0 <= score <= 1:
        raise RecordedError(f"{where}: conf must lie in [0, 1], got {score:g}")
    return int(frame), (left, top, left + width, top + height, score)
