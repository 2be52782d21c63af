"""Torch networks behind the encoder call, on CPU or GPU: DualBackboneNet, OSNet, and timm models through a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.batching import Array, Batches
from reid.branches import Weighed, joined, split
from reid.cards import Card
from reid.encoders import EncoderError, Preprocessing, Speed, one_vector_each, probe_crops, resized, unit_rows


class TorchEncoder:
    """A network from its file (`reid.networks`).

    has_branches  of a DualBackboneNet with both: `weighed` tells which one spoke
    adds_mirror   of a PCB: `mirrored` adds the mirror image as its published test does
    speed  `half`: float16 on a GPU (refused on a CPU, where it is slower); `compile`: through torch.compile
    """

    def __init__(
        self, name: str, path: Path, device: str = "cpu", card: Card | None = None, speed: Speed | None = None
    ) -> None:
        import torch

        from reid.networks import load_network

        speed = speed or Speed()
        on_gpu = device.startswith("cuda")
        if on_gpu and not torch.cuda.is_available():
            raise EncoderError(f"{name}: device {device} asked for, but torch sees no GPU; use cpu")
        if speed.half and not on_gpu:
            raise EncoderError(f"{name}: half precision needs a GPU; leave reid.half out on a CPU")
        network = load_network(path, name, card)
        module = network.module.to(device).eval()
        self._half = speed.half
        self._network: Any = module.half() if speed.half else module
        if speed.compile:
            # Batches differ from call to call: without `dynamic` each size would be compiled for itself.
            self._network = torch.compile(self._network, dynamic=True)
        self._device = device
        self.adds_mirror = hasattr(module, "mirrored")
        self._preprocessing = Preprocessing(network.height_px, network.width_px)
        free = torch.cuda.empty_cache if on_gpu else lambda: None
        self._batches = Batches(name, self._run, free=free)
        self._mirror_batches = Batches(name, lambda pixels: self._run(pixels, mirrored=True), free=free)
        self.name = name
        self.dim, self.has_branches = network.dim, network.has_branches
        try:
            first = self._batches(resized(probe_crops(), self._preprocessing))
        except EncoderError:
            raise
        except Exception as error:
            if not speed.compile:
                raise
            reason = (str(error).strip().splitlines() or [repr(error)])[0][:160]
            message = f"{name}: torch.compile does not work here, leave reid.compile out: {reason}"
            raise EncoderError(message) from error
        unit_rows(first[:, : self.dim], name)  # NaN is said now, not in the middle of a run

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(self._batches(resized(crops, self._preprocessing))[:, : self.dim], self.name)

    def weighed(self, crops: Sequence[NDArray[np.uint8]]) -> Weighed:
        """The same rows, and (N, 2) the weights of the local and global branch; only with `has_branches`."""
        if not crops:
            return np.zeros((0, self.dim), np.float32), np.zeros((0, 2), np.float32)
        return split(self._batches(resized(crops, self._preprocessing)), self.name)

    def mirrored(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(N, D) unit rows of crops and their mirror images together; only with `adds_mirror`."""
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(self._mirror_batches(resized(crops, self._preprocessing)), self.name)

    def _run(self, pixels: Array, mirrored: bool = False) -> Array:
        import torch

        with torch.inference_mode():
            # Normalisation is the network's own; uint8 crosses to the GPU at a quarter of the cost of floats.
            images = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
            images = (images.half() if self._half else images.float()).div_(255)
            found = self._network.mirrored(images) if mirrored else self._network(images)
            features, *weights = (part.float().cpu().numpy() for part in (found if self.has_branches else (found,)))
            features = one_vector_each(features, self.name)
        if features.shape[1] != self.dim:
            raise EncoderError(
                f"{self.name}: gives vectors of length {features.shape[1]}, {self.dim} was expected; correct the card"
            )
        return joined(features, weights[0], self.name) if weights else features
