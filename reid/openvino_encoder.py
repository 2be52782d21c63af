"""ReID networks run by OpenVINO on the CPU: Intel's retail networks (IR) and ONNX exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.encoders import EncoderError, Preprocessing, check_file, resized, unit_rows


class OpenVinoEncoder:
    """One network, batch made dynamic, resizing outside and everything else (layout, scale, mean) inside the graph."""

    def __init__(self, name: str, path: Path, preprocessing: Preprocessing) -> None:
        check_file(path, name)
        self.name = name
        self._preprocessing = preprocessing
        self._network, self.dim = _compile(name, path, preprocessing)

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        features = self._network(resized(crops, self._preprocessing))[0]
        return unit_rows(features.reshape(len(crops), -1), self.name)


def _compile(name: str, path: Path, preprocessing: Preprocessing) -> tuple[Any, int]:
    import openvino as ov
    from openvino.preprocess import PrePostProcessor

    try:
        model = ov.Core().read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        hint = "damaged, or its .bin is missing"
        raise EncoderError(f"{name}: OpenVINO cannot read {path} ({hint}): {reason}") from error
    size = (3, preprocessing.height_px, preprocessing.width_px)
    wanted = ov.PartialShape([-1, *size])
    if len(model.inputs) != 1 or not model.inputs[0].partial_shape.compatible(wanted):
        found = ", ".join(str(i.partial_shape) for i in model.inputs)
        raise EncoderError(f"{name}: {path.name} takes {found}, a crop encoder takes {wanted}")
    try:
        # Stored with batch 1: without this reshape every crop would be a call of its own.
        model.reshape(wanted)
        steps = PrePostProcessor(model)
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input().model().set_layout(ov.Layout("NCHW"))
        mean = [m / preprocessing.scale for m in preprocessing.mean]
        std = [s / preprocessing.scale for s in preprocessing.std]
        steps.input().preprocess().convert_element_type(ov.Type.f32).mean(mean).scale(std)
        # Processors with bfloat16 would use it unasked: half the time (6 ms for 12 a crop, retail-0277, AMD EPYC, 2
        # cores), but embeddings then differ by machine and by batch (up to 3e-3 a component), and replays with them.
        network = ov.Core().compile_model(
            steps.build(), "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        )
    except RuntimeError as error:
        raise EncoderError(f"{name}: OpenVINO cannot run {path}: {str(error).strip().splitlines()[-1]}") from error
    dims = list(network.outputs[0].partial_shape)[1:]
    if any(d.is_dynamic for d in dims):
        raise EncoderError(f"{name}: {path.name} gives vectors of unknown length {network.outputs[0].partial_shape}")
    return network, int(np.prod([d.get_length() for d in dims]))
