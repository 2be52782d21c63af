"""The value every detector returns: persons in one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Detections:
    """Persons found in one image.

    boxes   (N, 4) float32, xyxy in pixels of the source image, x2 >= x1 and y2 >= y1
    scores  (N,)   float32 in [0, 1]

    N may be 0. Both arrays are made read-only. Raises ValueError when shape, dtype or values do not fit.

    >>> d = Detections(np.array([[10, 20, 30, 80]], np.float32), np.array([0.9], np.float32))
    >>> len(d)
    1
    >>> len(Detections.none())
    0
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        boxes, scores = self.boxes, self.scores
        if boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes must be (N, 4) float32, got {boxes.shape} {boxes.dtype}")
        if scores.dtype != np.float32 or scores.shape != (len(boxes),):
            raise ValueError(f"scores must be ({len(boxes)},) float32, got {scores.shape} {scores.dtype}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("boxes and scores must be finite")
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise ValueError("boxes must have x2 >= x1 and y2 >= y1")
        if ((scores < 0) | (scores > 1)).any():
            raise ValueError("scores must lie in [0, 1]")
        boxes.setflags(write=False)
        scores.setflags(write=False)

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Detections:
        """No person in view."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
