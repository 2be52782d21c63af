"""ReID networks exported to ONNX, run by ONNX Runtime: OSNet, and any other of one image input and one vector."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.batching import Batches, out_of_memory
from reid.branches import OUTPUT, Weighed, joined, split
from reid.encoders import (
    EncoderError,
    Preprocessing,
    Speed,
    check_file,
    keeps_crops_apart,
    normalised,
    one_vector_each,
    probe_crops,
    unit_rows,
)

log = logging.getLogger(__name__)


def providers_for(device: str, available: Sequence[str], speed: Speed) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's providers in order of preference, with their options; the CPU is always the last.

    >>> [name for name, _ in providers_for("cuda:1", ["CUDAExecutionProvider", "CPUExecutionProvider"], Speed())]
    ['CUDAExecutionProvider', 'CPUExecutionProvider']
    """
    chosen: list[tuple[str, dict[str, Any]]] = []
    if device.startswith("cuda"):
        number = int(re.sub(r"\D", "", device) or 0)
        if speed.tensorrt and "TensorrtExecutionProvider" in available:
            chosen.append(("TensorrtExecutionProvider", {"device_id": number, "trt_fp16_enable": speed.half}))
        if "CUDAExecutionProvider" in available:
            chosen.append(("CUDAExecutionProvider", {"device_id": number}))
    return [*chosen, ("CPUExecutionProvider", {})]


class OnnxEncoder:
    """One network.

    has_branches  it is the export of a dual backbone: `weighed` tells which branch spoke
    fixed_batch  the only batch the export can run, or None; calls are padded to it and the padding's rows dropped

    An export that mixes the images of a batch is found at loading and run one crop at a time.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        preprocessing: Preprocessing,
        device: str = "cpu",
        speed: Speed | None = None,
        output: str | None = None,
    ) -> None:
        import onnxruntime

        check_file(path, name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Its threads spin while they wait for work and would take the CPU from the detector.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = providers_for(device, onnxruntime.get_available_providers(), speed or Speed())
        if device.startswith("cuda") and len(providers) == 1:
            log.warning("%s: this ONNX Runtime has no CUDA provider (onnxruntime-gpu has); it runs on the CPU", name)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors have no public common class
            reason = str(error).strip().splitlines()[-1]
            raise EncoderError(f"{name}: ONNX Runtime cannot read {path} (damaged or not ONNX): {reason}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        size = (3, preprocessing.height_px, preprocessing.width_px)
        if (
            len(inputs) != 1
            or len(inputs[0].shape) != 4
            or inputs[0].type != "tensor(float)"
            or any(
                isinstance(found, int) and found != wanted
                for found, wanted in zip(inputs[0].shape[1:], size, strict=True)
            )
        ):
            found = ", ".join(str(i.shape) for i in inputs)
            raise EncoderError(
                f"{name}: {path.name} takes {found}, a crop encoder takes [N, {', '.join(map(str, size))}]"
            )
        names = [o.name for o in outputs]
        if output is not None and output not in names:
            raise EncoderError(f"{name}: {path.name} has no output {output!r}; it has {', '.join(names)}")
        self.name = name
        self._preprocessing = preprocessing
        self._input, self._outputs = inputs[0].name, [output or names[0]]
        self.has_branches = OUTPUT in names and self._outputs[0] != OUTPUT
        self._outputs += [OUTPUT] * self.has_branches
        self.fixed_batch = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
        self._run = Batches(name, self._run_once, self.fixed_batch)
        probes = normalised(probe_crops(), preprocessing)
        first = self._run(probes[:1])
        # NaN is said now, not in the middle of a run; the length is asked of the network: exports often leave it open.
        self.dim = (split(first, name)[0] if self.has_branches else unit_rows(first, name)).shape[1]
        if not keeps_crops_apart(self._run, probes):
            self._run.most = 1

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(self._run(normalised(crops, self._preprocessing))[:, : self.dim], self.name)

    def weighed(self, crops: Sequence[NDArray[np.uint8]]) -> Weighed:
        """The same rows, and (N, 2) the weights of the local and global branch; only with `has_branches`."""
        if not crops:
            return np.zeros((0, self.dim), np.float32), np.zeros((0, 2), np.float32)
        return split(self._run(normalised(crops, self._preprocessing)), self.name)

    def _run_once(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        padding = (self.fixed_batch or len(part)) - len(part)
        padded = np.concatenate([part, np.repeat(part[-1:], padding, axis=0)]) if padding else part
        try:
            features, *weights = self._session.run(self._outputs, {self._input: padded})
        except Exception as error:  # as above
            if out_of_memory(error):
                raise
            raise EncoderError(f"{self.name}: inference failed: {str(error).strip().splitlines()[-1]}") from error
        rows = one_vector_each(features, self.name)
        return (joined(rows, weights[0], self.name) if weights else rows)[: len(part)]
