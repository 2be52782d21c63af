"""Persons in fixed cameras without any weights: what differs from the learnt background and has a person's shape.

Background subtraction by a mixture of Gaussians (Zivkovic 2004, OpenCV's MOG2), one model per camera; shadows dropped;
holes closed; connected parts joined into upright boxes; boxes too wide for one person cut at the valleys of their
column profile. Good for demos, tests and quiet scenes; it finds whatever moves, so streets with cars need `yolo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.detections import Detections

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MotionSettings:
    """How motion becomes persons. Sizes are fractions of the picture, so they hold for any resolution.

    width_px          pictures are shrunk to this width first; smaller pictures stay as they are
    warm_up_frames    nothing is reported while the model sees its first frames
    history_frames    how long the model remembers; a person who stands longer than about this fades away
    contrast          squared distance in standard deviations that makes a pixel foreground (MOG2's varThreshold)
    min_height        smallest person, fraction of picture height
    min_area          smallest person, fraction of the picture
    max_share         more of the picture than this in motion means the light or the camera changed: nothing is reported
    """

    width_px: int = 320
    warm_up_frames: int = 8
    history_frames: int = 400
    contrast: float = 20.0
    min_height: float = 0.08
    min_area: float = 0.0012
    max_share: float = 0.5

    def __post_init__(self) -> None:
        if self.width_px < 32 or self.warm_up_frames < 1 or self.history_frames < 1:
            raise ValueError("width_px must be at least 32, warm_up_frames and history_frames at least 1")
        if not (self.contrast > 0 and 0 < self.max_share <= 1 and 0 < self.min_height < 1 and 0 < self.min_area < 1):
            raise ValueError("contrast must be positive; min_height, min_area and max_share lie in (0, 1]")


@dataclass(eq=False)
class _Camera:
    """What is known about one camera: its background model, the size it was learnt at, frames seen."""

    model: Any
    shape: tuple[int, ...]
    seen: int = 0


@dataclass(eq=False)
class MotionDetector:
    """Finds moving persons. One background model per camera name; feed each camera's frames in order.

    Deterministic: the same frames give the same boxes. A camera whose picture size changes starts anew.
    """

    settings: MotionSettings = field(default_factory=MotionSettings)
    _cameras: dict[str, _Camera] = field(default_factory=dict, repr=False)

    def __call__(
        self, cameras: Sequence[str], indices: Sequence[int], images: Sequence[NDArray[np.uint8]]
    ) -> list[Detections]:
        """Persons per image; images are (H, W, 3) uint8 BGR, each the next one of its camera. `indices` is not used."""
        return [self._detect(camera, image) for camera, image in zip(cameras, images, strict=True)]

    def _detect(self, camera: str, image: NDArray[np.uint8]) -> Detections:
        import cv2

        known = self._cameras.get(camera)
        if known is None or known.shape != image.shape:
            model = cv2.createBackgroundSubtractorMOG2(self.settings.history_frames, self.settings.contrast, True)
            model.setShadowThreshold(0.55)
            known = self._cameras[camera] = _Camera(model, image.shape)
        scale = min(1.0, self.settings.width_px / image.shape[1])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        small = cv2.GaussianBlur(small, (3, 3), 0)
        known.seen += 1
        # Learn fast at first (a plain average), slowly afterwards.
        rate = max(1.0 / known.seen, 1.0 / self.settings.history_frames)
        foreground = known.model.apply(small, learningRate=rate) == 255
        if known.seen <= self.settings.warm_up_frames or foreground.mean() > self.settings.max_share:
            return Detections.none()
        boxes, scores = find_persons(foreground, self.settings)
        if not len(boxes):
            return Detections.none()
        back = np.array([image.shape[1] / size[0], image.shape[0] / size[1]] * 2, np.float32)
        return Detections(boxes * back, scores)


def find_persons(foreground: Mask, settings: MotionSettings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Person boxes (N, 4) float32 xyxy and scores (N,) float32 in a foreground mask (H, W) bool.

    A score is the share of the box that moves, stretched so that a well-filled person is near 1.

    >>> mask = np.zeros((100, 160), bool)
    >>> mask[20:80, 50:72] = True
    >>> find_persons(mask, MotionSettings())[0].round()
    array([[50., 20., 72., 80.]], dtype=float32)
    """
    import cv2

    height, width = foreground.shape
    raw = foreground.astype(np.uint8)
    mask = cv2.medianBlur(raw, 3)
    # Limbs and torso of one person fall apart vertically more often than sideways.
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 9)))
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    parts = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, area in stats[1:] if area >= 12]
    boxes = []
    for box in _joined(parts, height):
        boxes += _cut_wide(box, mask)
    found, scores = [], []
    for x0, y0, x1, y1 in boxes:
        tall, area = y1 - y0, int(raw[y0:y1, x0:x1].sum())
        at_edge = x0 == 0 or x1 == width or y1 == height
        if tall < settings.min_height * height or area < settings.min_area * height * width:
            continue
        if x1 - x0 > 1.1 * tall and not at_edge:  # a person is upright
            continue
        found.append((x0, y0, x1, y1))
        scores.append(min(1.0, area / (0.6 * (x1 - x0) * tall)))
    return np.array(found, np.float32).reshape(-1, 4), np.array(scores, np.float32)


def _joined(parts: list[tuple[int, int, int, int]], height: int) -> list[tuple[int, int, int, int]]:
    """Parts above each other that together still look like one upright person become one box."""
    parts = sorted(parts, key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))
    merged = True
    while merged:
        merged = False
        for i in range(len(parts)):
            for j in range(i + 1, len(parts)):
                both = _union_if_one_person(parts[i], parts[j], height)
                if both is not None:
                    parts[i] = both
                    del parts[j]
                    merged = True
                    break
            if merged:
                break
    return parts


def _union_if_one_person(a: tuple, b: tuple, height: int) -> tuple[int, int, int, int] | None:
    overlap = min(a[2], b[2]) - max(a[0], b[0])
    narrow = min(a[2] - a[0], b[2] - b[0])
    gap = max(a[1], b[1]) - min(a[3], b[3])
    union = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    wide, tall = union[2] - union[0], union[3] - union[1]
    if overlap < 0.5 * narrow or gap > max(3, 0.18 * tall) or wide > 0.75 * tall or tall > 0.75 * height:
        return None
    return union


def _cut_wide(box: tuple[int, int, int, int], mask: NDArray[Any]) -> list[tuple[int, int, int, int]]:
    """People side by side: cut where the column profile has a valley, when each side is still person-shaped."""
    x0, y0, x1, y1 = box
    wide, tall = x1 - x0, y1 - y0
    if wide < 0.72 * tall or wide < 12:
        return [box]
    profile = mask[y0:y1, x0:x1].sum(0).astype(float)
    profile = np.convolve(profile, np.ones(3) / 3, mode="same")
    margin = max(4, wide // 4)
    middle = profile[margin : wide - margin]
    if not len(middle):
        return [box]
    cut = margin + int(np.argmin(middle))
    if profile[cut] > 0.6 * min(profile[:cut].max(), profile[cut:].max()):
        return [box]
    halves = []
    for a, b in ((x0, x0 + cut), (x0 + cut, x1)):
        rows = np.nonzero(mask[y0:y1, a:b].any(1))[0]
        if len(rows):
            halves += _cut_wide((a, y0 + int(rows[0]), b, y0 + int(rows[-1]) + 1), mask)
    return halves
