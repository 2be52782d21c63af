"""ReID networks run by OpenVINO on the CPU: Intel's retail networks (IR) and ONNX exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.branches import OUTPUT, Weighed, joined, split
from reid.encoders import (
    EncoderError,
    Preprocessing,
    check_file,
    keeps_crops_apart,
    one_vector_each,
    probe_crops,
    resized,
    unit_rows,
)


class OpenVinoEncoder:
    """One network, batch made dynamic, resizing outside and everything else (layout, scale, mean) inside the graph.

    has_branches  it is the export of a dual backbone: `weighed` tells which branch spoke
    """

    def __init__(self, name: str, path: Path, preprocessing: Preprocessing) -> None:
        check_file(path, name)
        self.name = name
        self._preprocessing = preprocessing
        self._network = _compile(name, path, preprocessing)
        names = [output.get_names() for output in self._network.outputs]
        self.has_branches = any(OUTPUT in these for these in names[1:])
        self._one_by_one = False
        probes = resized(probe_crops(), preprocessing)
        first = self._run(probes[:1])
        self.dim = (split(first, name)[0] if self.has_branches else first).shape[1]
        self._one_by_one = not keeps_crops_apart(self._run, probes)

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(self._run(resized(crops, self._preprocessing))[:, : self.dim], self.name)

    def weighed(self, crops: Sequence[NDArray[np.uint8]]) -> Weighed:
        """The same rows, and (N, 2) the weights of the local and global branch; only with `has_branches`."""
        if not crops:
            return np.zeros((0, self.dim), np.float32), np.zeros((0, 2), np.float32)
        return split(self._run(resized(crops, self._preprocessing)), self.name)

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._one_by_one and len(batch) > 1:
            return np.concatenate([self._run(batch[n : n + 1]) for n in range(len(batch))])
        try:
            found = self._network(batch)
        except RuntimeError as error:
            raise EncoderError(f"{self.name}: inference failed: {str(error).strip().splitlines()[-1]}") from error
        features = one_vector_each(found[0].copy(), self.name)  # the next call writes over its own result
        return joined(features, found[OUTPUT], self.name) if self.has_branches else features


def _compile(name: str, path: Path, preprocessing: Preprocessing) -> Any:
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
        return ov.Core().compile_model(
            steps.build(), "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        )
    except RuntimeError as error:
        raise EncoderError(f"{name}: OpenVINO cannot run {path}: {str(error).strip().splitlines()[-1]}") from error
