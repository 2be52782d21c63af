"""Chooses and loads what the configuration names: the device, the detector, the encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.detections import Detections
from pipeline.config import Config
from pipeline.weights import resolve, resolve_all, sha256_of
from reid.encoders import Encoder, Speed, load_encoder
from reid.faces import FaceReader, load_face_reader

Detect = Callable[[Sequence[str], Sequence[int], Sequence[NDArray[np.uint8]]], list[Detections]]


class DeviceError(ValueError):
    """The machine has no such device."""


@dataclass(frozen=True)
class Engines:
    """What a run computes with.

    device   "cpu" or "cuda:0"
    weights  every file used: {model name: {"file": its name, "sha256": ...}}
    faces    finds and embeds faces, None unless `faces.enabled`
    """

    detector: Detect
    encoder: Encoder
    device: str
    weights: dict[str, dict[str, str]]
    faces: FaceReader | None = None


def load_engines(config: Config) -> Engines:
    """Load everything before the first frame, so that what is missing is said at once.

    Raises the rooms' DetectorError, RecordedError and EncoderError, WeightsError and DeviceError.
    """
    device = choose_device(config.device)
    files = resolve_all(config.reid.encoder)
    wanted = config.reid
    speed = Speed(half=wanted.half, compile=wanted.compile, tensorrt=wanted.tensorrt)
    encoder = load_encoder(wanted.encoder, files, device, speed=speed)
    detector, model = _detector(config, device)
    faces, more = _faces(config, device)
    used = {**files, **model, **more}
    weights = {n: {"file": p.name, "sha256": sha256_of(p)} for n, p in used.items()}
    return Engines(detector, encoder, device, weights, faces)


def _faces(config: Config, device: str) -> tuple[FaceReader | None, dict[str, Path]]:
    wanted = config.faces
    if not wanted.enabled:
        return None, {}
    found = {"yunet": resolve(wanted.detector), **resolve_all(wanted.encoder)}
    encode = load_encoder(wanted.encoder, {n: p for n, p in found.items() if n != "yunet"}, device)
    return load_face_reader(found["yunet"], encode, wanted.gates), found


def choose_device(wanted: str) -> str:
    """`auto` -> the first GPU if there is one, else the CPU. Raises DeviceError.

    >>> choose_device("cpu")
    'cpu'
    """
    if wanted == "cpu":
        return wanted
    import torch

    there = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda:0" if there else "cpu"
    number = int(re.sub(r"\D", "", wanted) or 0)
    if not there or number >= torch.cuda.device_count():
        raise DeviceError(f"device {wanted}: this machine has no such GPU that torch can use; say auto or cpu")
    return f"cuda:{number}"


def _detector(config: Config, device: str) -> tuple[Detect, dict[str, Path]]:
    wanted = config.detector
    if wanted.model == "motion":
        from detectors.motion import MotionDetector

        return MotionDetector(), {}
    if wanted.model == "recorded":
        from detectors.recorded import RecordedDetector

        assert wanted.recorded_dir is not None  # the configuration checks it
        files = {camera.name: wanted.recorded_dir / f"{camera.name}.txt" for camera in config.cameras}
        return RecordedDetector(files, conf=wanted.conf), {}
    from detectors.yolo import YoloDetector

    path = resolve(wanted.model)
    detector = YoloDetector(path, device=device, conf=wanted.conf, iou=wanted.iou, imgsz=wanted.imgsz)
    return detector, {wanted.model: path}
