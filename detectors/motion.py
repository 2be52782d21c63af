"""Persons in fixed cameras without any weights: what differs from the learnt background and has a person's shape.

Background subtraction by a mixture of Gaussians (Zivkovic 2004, OpenCV's MOG2), one model per camera; cast shadows
dropped; moving pixels made into upright persons by `silhouettes`, with the help of the `perspective` learnt meanwhile.
Good for demos, tests and quiet scenes; it finds whatever moves, so streets with cars need `yolo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.detections import Detections
from detectors.perspective import Perspective
from detectors.silhouettes import find_persons


@dataclass(frozen=True)
class MotionSettings:
    """How motion becomes persons. Shares of the picture hold for any resolution.

    width_px          pictures are shrunk to this width first, >= 32; smaller pictures stay as they are
    warm_up_frames    nothing is reported while the model sees its first frames, >= 1
    settle_frames     so long the background is a plain average of what was seen, >= 1; then it changes slowly
    history_frames    how long the model remembers, >= 1; who stands for about a third of it fades away
    contrast          squared distance in standard deviations that makes a pixel foreground (MOG2's varThreshold), > 0
    darkest_shadow    a shadow keeps at least this share of the floor's brightness, (0, 1]; darker is a person
    min_height        smallest person, share of the picture's height, (0, 1)
    min_area          fewest moving pixels of a person, share of the picture, (0, 1)
    max_share         more of the picture than this in motion means that light or camera changed, (0, 1]: no persons

    Values chosen by F1 at IoU .5 on the synthetic site (seed 2), PETS 2009 S2.L1 and two crops of it.
    Raises ValueError when one is out of range.
    """

    width_px: int = 320
    warm_up_frames: int = 10
    settle_frames: int = 150
    history_frames: int = 1000
    contrast: float = 20.0
    darkest_shadow: float = 0.55
    min_height: float = 0.08
    min_area: float = 0.0012
    max_share: float = 0.5

    def __post_init__(self) -> None:
        if self.width_px < 32 or min(self.warm_up_frames, self.settle_frames, self.history_frames) < 1:
            raise ValueError("width_px must be at least 32; warm_up_frames, settle_frames, history_frames at least 1")
        if not self.contrast > 0:
            raise ValueError(f"contrast must be positive, got {self.contrast}")
        for name in ("darkest_shadow", "min_height", "min_area", "max_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")


@dataclass(eq=False)
class _Camera:
    """What is known about one camera: the size of its pictures, size and background of the shrunk ones, perspective."""

    shape: tuple[int, ...]
    size: tuple[int, int]
    background: Any
    view: Perspective
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
        """Persons per image; images are (H, W, 3) uint8 BGR, each the next one of its camera.

        `indices` (frame numbers) are not used. A score is the share of the box that moves, stretched so that a
        well-filled person is near 1. Raises ValueError when the three differ in length.
        """
        if not len(cameras) == len(indices) == len(images):
            raise ValueError(
                f"{len(cameras)} cameras, {len(indices)} indices and {len(images)} images; give one of each"
            )
        return [self._detect(camera, image) for camera, image in zip(cameras, images, strict=True)]

    def _detect(self, camera: str, image: NDArray[np.uint8]) -> Detections:
        settings = self.settings
        known = self._cameras.get(camera)
        if known is None or known.shape != image.shape:
            known = self._cameras[camera] = _new_camera(image.shape, settings)
        moving = _moving(known, image, settings)
        if known.seen <= settings.warm_up_frames or moving.mean() > settings.max_share:
            return Detections.none()
        width, height = known.size
        persons = find_persons(moving, settings.min_height * height, settings.min_area * width * height, known.view)
        if not persons:
            return Detections.none()
        for person in persons:
            if person.whole:
                known.view.learn(person.box[3], person.box[3] - person.box[1])
        back = np.array([image.shape[1] / width, image.shape[0] / height] * 2, np.float32)
        boxes = np.array([person.box for person in persons], np.float32) * back
        return Detections(boxes, np.array([person.score for person in persons], np.float32))


def _new_camera(shape: tuple[int, ...], settings: MotionSettings) -> _Camera:
    import cv2

    scale = min(1.0, settings.width_px / shape[1])
    size = (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
    background = cv2.createBackgroundSubtractorMOG2(settings.history_frames, settings.contrast, True)
    background.setBackgroundRatio(_MAJORITY)
    background.setShadowThreshold(settings.darkest_shadow)
    return _Camera(shape, size, background, Perspective(size[1]))


def _moving(known: _Camera, image: NDArray[np.uint8], settings: MotionSettings) -> NDArray[np.uint8]:
    """Learns the next picture; (h, w) uint8, 1 where it differs from the background, at the shrunk size."""
    import cv2

    small = cv2.resize(image, known.size, interpolation=cv2.INTER_AREA) if known.size[0] < image.shape[1] else image
    small = cv2.GaussianBlur(small, (3, 3), 0)
    known.seen += 1
    rate = 1.0 / (known.seen if known.seen <= settings.settle_frames else settings.history_frames)
    found = known.background.apply(small, learningRate=rate)
    moving: NDArray[np.uint8] = (found == 255).astype(np.uint8)
    # Grey trousers before a grey floor pass for a shadow. Between moving pixels above and below they are none.
    upright = np.ones((max(1, round(_SHADOW_GAP * known.size[1])), 1), np.uint8)
    between = cv2.morphologyEx(cv2.medianBlur(moving, 3), cv2.MORPH_CLOSE, upright)
    moving[(found == _SHADOW) & (between > 0)] = 1
    return moving


_SHADOW = 127  # how MOG2 marks a shadow
_SHADOW_GAP = 0.15  # longest such gap, share of the picture's height; .08 to .25 measured within 0.3 points of F1
# MOG2 calls background what made up this share of the past. With its own default of .9 a person who comes within the
# first seconds is taken for background at once.
_MAJORITY = 0.7
