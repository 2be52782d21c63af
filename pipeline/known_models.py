"""The models that have a name: where their publishers keep them, what a download must hash to, under which licence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reid.encoders import PAIR


@dataclass(frozen=True)
class ModelFile:
    """One file at its publisher's.

    name    in the cache
    url     publisher's address
    sha256  as published or as several independent users pin it; None when no public source gives it
    """

    name: str
    url: str
    sha256: str | None = None


@dataclass(frozen=True)
class Model:
    """One model.

    files        the first is the one that is loaded; none for a model made of `parts` or of nothing
    local_names  where it may lie in $IDENTRIX_MODELS, first found wins; other exports of the same network are welcome
    parts        names of the models that this one is made of
    """

    name: str
    kind: Literal["detector", "encoder", "faces"]
    licence: str
    note: str
    files: tuple[ModelFile, ...] = ()
    local_names: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


_ULTRALYTICS = "https://github.com/ultralytics/assets/releases/download/v8.3.0"
_OPEN_MODEL_ZOO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/2023.0/models_bin/1"


def _yolo(name: str, note: str, sha256: str) -> Model:
    return Model(
        name,
        "detector",
        "AGPL-3.0",
        note,
        (ModelFile(f"{name}.pt", f"{_ULTRALYTICS}/{name}.pt", sha256),),
        # The exports come first: whoever made one wants it used.
        tuple(name + end for end in (".engine", "_int8_openvino_model", "_openvino_model", ".onnx", ".pt")),
    )


def _intel(number: str, precision: str, note: str, xml_sha256: str | None, bin_sha256: str | None) -> Model:
    name = f"person-reidentification-retail-{number}"
    at = f"{_OPEN_MODEL_ZOO}/{name}/{precision}/{name}"
    return Model(
        name,
        "encoder",
        "Apache-2.0",
        note,
        (ModelFile(f"{name}.xml", f"{at}.xml", xml_sha256), ModelFile(f"{name}.bin", f"{at}.bin", bin_sha256)),
        # Open Model Zoo's own downloader makes the middle two.
        tuple(f"{folder}{name}.xml" for folder in (f"{name}/", f"intel/{name}/FP16/", f"intel/{name}/FP32/", "")),
        aliases=(f"retail-{number}",),
    )


KNOWN_MODELS: tuple[Model, ...] = (
    _yolo("yolo11n", "2.6 M parameters; default", "0ebbc80d4a7680d14987a577cd21342b65ecfd94632bd9a8da63ae6417644ee1"),
    _yolo("yolo11s", "9.4 M parameters", "85a76fe86dd8afe384648546b56a7a78580c7cb7b404fc595f97969322d502d5"),
    _yolo("yolo11m", "20 M parameters", "d5ffc1a674953a08e11a8d21e022781b1b23a19b730afc309290bd9fb5305b95"),
    Model(
        "pair",
        "encoder",
        "of its parts",
        "the default: two networks fused by weight, 768-d",
        parts=PAIR,
    ),
    Model("stripes", "encoder", "AGPL-3.0-or-later", "colour and texture by body stripe; no weights"),
    _intel(
        "0277",
        "FP16",
        "256-d, OpenVINO, trained on an internal data set, commercial use permitted",
        "82039b1bb986231c50345550e59def94e63579998e9cddbd1a312f293eb87729",
        "6bb69e09d07733cc3896b29081d2627f92db7b9aacd50f1a8c3df491cb10f1b7",
    ),
    _intel("0287", "FP32", "256-d, OpenVINO, the smaller sister of 0277", None, None),
    Model(
        "osnet_x0_25_msmt17",
        "encoder",
        "MIT code; training data for research",
        "512-d, ONNX, OSNet x0.25 trained on MSMT17",
        (
            ModelFile(
                "osnet_x0_25_msmt17.onnx",
                "https://huggingface.co/kornia/osnet/resolve/main/osnet_x0_25_msmt17.onnx",
                "e78604f4ccda49b8f41cd0f8f7303800ce75d2361895ebb0729513c1bf53d277",
            ),
        ),
        ("osnet_x0_25_msmt17.onnx", "osnet_x0_25_msmt17.pth"),
        aliases=("osnet",),
    ),
    Model(
        "yunet",
        "faces",
        "MIT",
        "finds faces for privacy.blur=faces; used when it is here, never fetched by a run",
        (
            ModelFile(
                "face_detection_yunet_2023mar.onnx",
                "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
                "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
            ),
        ),
        ("face_detection_yunet_2026may.onnx", "face_detection_yunet_2023mar.onnx"),
    ),
)
