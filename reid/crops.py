"""Which crops of a person are worth embedding: the best one of every stretch of time, with bounded memory.

A person walks through a view for seconds; most frames repeat each other, some are blurred, cut or hidden behind
others. Each track keeps one crop per time cell, the best seen in it. Cells start `cell_s` wide; when more than
`max_crops` cells are occupied the width doubles and neighbours merge, so a stay of seconds or of hours is covered
evenly by the same few crops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FULL_HEIGHT_PX = 128.0
"""Height from which a crop is large enough to lose nothing: half of the encoders' input of 256 px."""

HALF_SHARPNESS = 300.0
"""Variance of the Laplacian of the 32x64 thumbnail at which the sharpness factor is halfway up. Below what crops in
focus have (5th percentile 433 on PETS, 509 on TUD-Campus), so that only blur counts."""

BORDER_PX = 2.0
"""A box this near to the image's border is taken to be cut by it: detectors stop a pixel or two short."""


@dataclass(frozen=True, eq=False)
class Crop:
    """One kept picture of a person.

    image    (H, W, 3) uint8 BGR, a copy of its own
    box      (4,) float32 xyxy px in the source image
    time_s   seconds on the site clock
    quality  [0, 1], larger is better; the weight of this crop in the mean embedding
    """

    image: NDArray[np.uint8]
    box: NDArray[np.float32]
    time_s: float
    quality: float


def overlap_with_others(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of each box is covered by the worst of the others: (N, 4) xyxy px -> (N,) float32 in [0, 1].

    A box whose lower edge is further down stands nearer to the camera and hides what is behind it, so it counts in
    full; one behind only puts a second person into the crop's background, so it counts half.

    >>> overlap_with_others(np.array([[0, 0, 10, 20], [5, 0, 15, 30], [50, 0, 60, 20]], np.float32)).round(2)
    array([0.5 , 0.17, 0.  ], dtype=float32)
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4), got {boxes.shape}")
    n = len(boxes)
    if n < 2:
        return np.zeros(n, np.float32)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)  # [self, other] px^2
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    in_front = boxes[None, :, 3] >= boxes[:, None, 3]
    hidden = shared / area[:, None] * np.where(in_front, 1.0, 0.5)
    np.fill_diagonal(hidden, 0.0)
    worst: NDArray[np.float32] = np.minimum(hidden.max(axis=1), 1.0).astype(np.float32)
    return worst


def box_quality(box: NDArray[np.float32], size_px: tuple[int, int], score: float = 1.0, overlap: float = 0.0) -> float:
    """How good a crop can be at best, from numbers alone (no pixel is touched): [0, 1].

    box (4,) xyxy px; size_px (height, width) of the source image; score [0, 1] of the detector; overlap [0, 1] as
    `overlap_with_others` gives it. A product of factors, so one fatal fault is enough to make a crop worthless.

    >>> whole = np.array([100, 100, 150, 230], np.float32)
    >>> box_quality(whole, (480, 640))
    1.0
    >>> box_quality(whole, (480, 640), overlap=0.5)
    0.75
    >>> box_quality(np.array([0, 100, 20, 230], np.float32), (480, 640)) < 0.5
    True
    """
    height_px, width_px = size_px
    x1, y1, x2, y2 = (float(v) for v in box)
    width, height = x2 - x1, y2 - y1
    if width < 2 or height < 4 or x2 <= 0 or y2 <= 0 or x1 >= width_px or y1 >= height_px:
        return 0.0
    quality = math.sqrt(min(1.0, height / FULL_HEIGHT_PX))
    cut_sides = (x1 < BORDER_PX) + (x2 > width_px - BORDER_PX)
    cut_ends = (y1 < BORDER_PX) + (y2 > height_px - BORDER_PX)
    quality *= 0.6**cut_sides * 0.7**cut_ends
    # A walking person is 2 to 4 times as tall as wide; outside of that a limb, a group or half a body is in the box.
    shape = height / width
    quality *= min(1.0, shape / 1.6, 5.0 / shape)
    # A person hidden by half is still known (TUD-Campus: margin over the best stranger .46 free, .42 at 40 to 60 %
    # covered), then it falls fast (.29 at 60 to 80 %, none beyond): hence the square.
    visible = 1.0 - min(max(overlap, 0.0), 1.0) ** 2
    return quality * visible * (0.5 + 0.5 * min(max(score, 0.0), 1.0))


def sharpness(image: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of a 32x64 thumbnail of a BGR crop: >= 0, larger is sharper.

    The thumbnail takes size out of the measure: without it the noise of a large soft crop beats a small crisp one.
    Source of the measure: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    import cv2

    small = cv2.resize(image, (32, 64), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def cut_out(image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """View of the box's pixels, clipped to the image; (H, W, 3), may be empty when the box lies outside.

    >>> cut_out(np.zeros((10, 20, 3), np.uint8), np.array([-3, 2.4, 5.2, 50], np.float32)).shape
    (8, 6, 3)
    """
    height_px, width_px = image.shape[:2]
    x1, y1 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    x2, y2 = min(width_px, math.ceil(box[2])), min(height_px, math.ceil(box[3]))
    return image[y1 : max(y1, y2), x1 : max(x1, x2)]


class KeyCrops:
    """The best few crops of one track so far, one per time cell.

    max_crops    most crops kept
    cell_s       width of a time cell at the start, seconds; doubles as the stay grows
    min_quality  crops below this are never kept

    `offer` touches no pixel unless the crop can win its cell, and copies the crop only when it has won.
    """

    def __init__(self, max_crops: int = 6, cell_s: float = 0.4, min_quality: float = 0.05) -> None:
        if max_crops < 1 or cell_s <= 0 or not 0 <= min_quality <= 1:
            raise ValueError(
                f"need max_crops >= 1, cell_s > 0, 0 <= min_quality <= 1; got {max_crops}, {cell_s}, {min_quality}"
            )
        self.max_crops = max_crops
        self.min_quality = min_quality
        self._cell_s = cell_s
        self._start_s: float | None = None
        self._cells: dict[int, Crop] = {}

    def offer(
        self,
        image: NDArray[np.uint8],
        box: NDArray[np.float32],
        time_s: float,
        score: float = 1.0,
        overlap: float = 0.0,
    ) -> bool:
        """Show the track's box in one frame; True when its crop was kept.

        image (H, W, 3) uint8 BGR, the whole frame; box (4,) float32 xyxy px; time_s seconds, rising.
        """
        if self._start_s is None:
            self._start_s = time_s
        cell = math.floor((time_s - self._start_s) / self._cell_s)
        kept = self._cells.get(cell)
        to_beat = kept.quality if kept else self.min_quality
        best_possible = box_quality(box, image.shape[:2], score, overlap)
        if best_possible <= to_beat:
            return False
        pixels = cut_out(image, box)
        if pixels.size == 0:
            return False
        measured = sharpness(pixels)
        quality = best_possible * (0.5 + 0.5 * measured / (measured + HALF_SHARPNESS))
        if quality <= to_beat:
            return False
        self._cells[cell] = Crop(pixels.copy(), np.array(box, np.float32), float(time_s), quality)
        while len(self._cells) > self.max_crops:
            self._double_cells()
        return True

    def _double_cells(self) -> None:
        merged: dict[int, Crop] = {}
        for cell, crop in sorted(self._cells.items()):
            rival = merged.get(cell // 2)
            if rival is None or crop.quality > rival.quality:
                merged[cell // 2] = crop
        self._cells = merged
        self._cell_s *= 2

    def best(self) -> list[Crop]:
        """The kept crops, best first."""
        return sorted(self._cells.values(), key=lambda crop: (-crop.quality, crop.time_s))

    def __len__(self) -> int:
        return len(self._cells)


def mean_embedding(embeddings: NDArray[np.float32], qualities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean direction of a track's embeddings, weighted by quality: (N, D) unit rows, (N,) in [0, 1] -> (D,) unit.

    All qualities zero counts as all equal. Opposite embeddings that cancel give back the best one. Raises ValueError
    when there is nothing to average or the lengths differ.

    >>> mean_embedding(np.eye(2, dtype=np.float32), np.array([0.8, 0.6])).round(3)
    array([0.8, 0.6], dtype=float32)
    """
    if embeddings.ndim != 2 or not len(embeddings) or qualities.shape != (len(embeddings),):
        found = f"{embeddings.shape}, {qualities.shape}"
        raise ValueError(f"need (N, D) embeddings and (N,) qualities, N >= 1; got {found}")
    weights = np.asarray(qualities, np.float64)
    if weights.sum() <= 0:
        weights = np.ones(len(embeddings))
    mean = weights @ embeddings.astype(np.float64)
    length = float(np.linalg.norm(mean))
    if length < 1e-6 * weights.sum():
        mean = embeddings[int(np.argmax(weights))].astype(np.float64)
        length = float(np.linalg.norm(mean))
    return (mean / length).astype(np.float32)
