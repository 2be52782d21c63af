"""Persons by any YOLO detection model that Ultralytics can run: .pt, ONNX, OpenVINO folder, TensorRT engine, ..."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.detections import Detections
from detectors.quiet_ultralytics import house_rules


class DetectorError(ValueError):
    """The detector cannot be made from what it was given; the message says what to do."""


class YoloDetector:
    """Finds persons with one YOLO model.

    path     weights, in a format that Ultralytics knows by the name: `x.pt`, `x.onnx`, `x_openvino_model/`, `x.engine`
    device   `auto` (the first GPU if there is one, else the CPU), `cpu`, `cuda` or `cuda:N`
    conf     boxes with a lower score are dropped, (0, 1). The default keeps the weak boxes that continue a track
             in ByteTrack's second association
    iou      of two boxes that overlap more than this, the weaker is dropped, (0, 1)
    imgsz    longer side in pixels to which images are scaled; None: what the model was made for (640 for a bare .pt).
             A model exported with a fixed size keeps that size
    max_det  boxes kept per image

    `detector(cameras, indices, images)` takes BGR images (H, W, 3) uint8 of any sizes and returns one `Detections` for
    each: boxes in pixels of that image and inside it. An image's result does not depend on the other images of the
    call: images of equal size share a batch, as large as the model takes and the GPU's memory holds.

    Raises DetectorError when the weights are missing, cannot be read, are no detection model or know no persons.
    A .pt file is read with `torch.load(weights_only=True)`: layers that Ultralytics and torch know, no pickled code.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "auto",
        conf: float = 0.1,
        iou: float = 0.7,
        imgsz: int | None = None,
        max_det: int = 300,
    ) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise DetectorError(f"no YOLO weights at {self.path}")
        self._options: dict[str, Any] = {
            "device": _device(device),
            "conf": conf,
            "iou": iou,
            "max_det": max_det,
            "verbose": False,
        }
        if imgsz is not None:
            self._options["imgsz"] = imgsz
        self._predictor = self._load()
        backend = self._predictor.model
        # A TensorRT engine has a largest batch even when its shapes are dynamic.
        fixed = backend.format == "engine" or (backend.format != "pt" and not backend.dynamic)
        self.batch_size: int | None = backend.batch if fixed else None

    def __call__(
        self, cameras: Sequence[str], indices: Sequence[int], images: Sequence[NDArray[np.uint8]]
    ) -> list[Detections]:
        """One Detections per image; `cameras` and `indices` are not looked at."""
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, image in enumerate(images):
            by_size[image.shape].append(position)
        found: list[Detections] = [Detections.none()] * len(images)
        for positions in by_size.values():
            size = self.batch_size or len(positions)
            for start in range(0, len(positions), size):
                chunk = positions[start : start + size]
                for position, result in zip(chunk, self._predict([images[p] for p in chunk]), strict=True):
                    found[position] = _detections(result)
        return found

    def _load(self) -> Any:
        """The Ultralytics predictor, set up and proven on one blank image, so that bad weights are found here."""
        house_rules()
        from ultralytics.models import YOLO

        blank = np.zeros((64, 64, 3), np.uint8)
        try:
            model: Any = YOLO(str(self.path), task=None if self.path.suffix == ".pt" else "detect")
            task = model.task
            if task == "detect":
                model.predict(blank, **self._options)
                task = model.predictor.model.task or task
        except Exception as error:  # every backend has its own errors: OpenVINO, ONNX Runtime, zip, pickle, yaml
            raise DetectorError(f"cannot load {self.path} as a YOLO detector: {_first_line(error)}") from error
        if task != "detect":
            raise DetectorError(f"{self.path} is a model for the task {task!r}; a detection model is needed")
        names = model.predictor.model.names
        persons = [number for number, name in names.items() if name.lower() == "person"]
        if not persons:
            some = ", ".join(list(names.values())[:3])
            raise DetectorError(f"{self.path} knows no class 'person' (it knows {some}, ...)")
        model.predict(blank, **self._options, classes=persons)
        return model.predictor

    def _predict(self, images: list[NDArray[np.uint8]]) -> list[Any]:
        """Ultralytics results, one per image; a batch that the GPU's memory does not hold is halved from then on."""
        from torch.cuda import OutOfMemoryError, empty_cache

        try:
            return list(self._predictor(images))
        except OutOfMemoryError as error:
            if len(images) == 1:
                raise DetectorError(f"{self.path} does not fit into the GPU's memory, not even one image") from error
        empty_cache()
        half = self.batch_size = (len(images) + 1) // 2
        return self._predict(images[:half]) + self._predict(images[half:])


def _detections(result: Any) -> Detections:
    rows = result.boxes.data.cpu().numpy().astype(np.float32, copy=False)
    return Detections(rows[:, :4].copy(), rows[:, 4].clip(0, 1))


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    from torch.cuda import is_available

    return "cuda:0" if is_available() else "cpu"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
