"""DualBackboneNet behind the encoder call, on CPU or GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid.encoders import EncoderError, Preprocessing, check_file, resized, unit_rows


class TorchEncoder:
    """A trained DualBackboneNet from its .safetensors or .pth file."""

    def __init__(self, name: str, path: Path, device: str = "cpu") -> None:
        import torch

        from reid.dual_backbone import load

        check_file(path, name)
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EncoderError(f"{name}: device {device} asked for, but torch sees no GPU; use cpu")
        self._network = load(path, device)
        self._device = device
        architecture = self._network.architecture
        self._preprocessing = Preprocessing(architecture.height_px, architecture.width_px)
        self.name = name
        self.dim = architecture.embedding_dim

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        import torch

        if not crops:
            return np.zeros((0, self.dim), np.float32)
        pixels = torch.from_numpy(resized(crops, self._preprocessing)).to(self._device)
        with torch.inference_mode():
            # Normalisation is the network's own; uint8 crosses to the GPU at a quarter of the cost of floats.
            embeddings = self._network(pixels.permute(0, 3, 1, 2).float().div_(255))
        return unit_rows(embeddings.float().cpu().numpy(), self.name)
