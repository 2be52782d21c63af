"""ReID networks exported to ONNX, run by ONNX Runtime: OSNet, and any other of one image input and one vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid.encoders import EncoderError, Preprocessing, check_file, normalised, unit_rows


class OnnxEncoder:
    """One network. A fixed batch in the export is honoured: the last call is padded, the padding's rows are dropped."""

    def __init__(self, name: str, path: Path, preprocessing: Preprocessing, device: str = "cpu") -> None:
        import onnxruntime

        check_file(path, name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Its threads spin while they wait for work and would take the CPU from the detector.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            providers.insert(0, "CUDAExecutionProvider")
        available = onnxruntime.get_available_providers()
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=[p for p in providers if p in available]
            )
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
        self.name = name
        self._preprocessing = preprocessing
        self._input, self._output = inputs[0].name, outputs[0].name
        self._fixed_batch = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
        # Asked of the network itself: exports often leave the output's shape open.
        grey = np.full((*size[1:], 3), 127, np.uint8)
        probe = self._run(normalised([grey], preprocessing))
        if probe.ndim != 2 or len(probe) != 1:
            raise EncoderError(f"{name}: {path.name} gives {probe.shape} for one crop, a ReID network gives [1, D]")
        self.dim = probe.shape[1]

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(self._run(normalised(crops, self._preprocessing)), self.name)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        size = self._fixed_batch or len(batch)
        rows = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            padding = size - len(part)
            if padding:
                part = np.concatenate([part, np.repeat(part[-1:], padding, axis=0)])
            try:
                features = self._session.run([self._output], {self._input: part})[0]
            except Exception as error:  # as above
                raise EncoderError(f"{self.name}: inference failed: {str(error).strip().splitlines()[-1]}") from error
            features = features.reshape(features.shape[0], -1) if features.ndim == 4 else features
            rows.append(features[: size - padding])
        return np.concatenate(rows)
