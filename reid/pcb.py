"""PCB, the part-based baseline that st-ReID builds on (Sun et al., "Beyond Part Models", ECCV 2018).

    images (N, 3, H, W) RGB in [0, 1], 384x192 by default
      timm ResNet-50, its last stage at stride 1  -> (N, 2048, H/16, W/16)
      mean of each of K horizontal stripes        -> (N, 2048, K)        K = parts = 6
      per stripe: Linear 2048 -> F, batch norm    -> (N, K, F)           F = part_dim = 256
      embedding: each stripe's length 1, joined   -> (N, K F), length 1

In training each stripe names the person by itself (six softmax heads; they live in the training, not in the file). The
published test adds the features of the mirrored image: `mirrored`, which `test-reid --flip` uses.

This module needs torch and timm; import it where a network is really wanted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from reid.dual_backbone import Initial, make_backbone, normalisation
from reid.encoders import EncoderError
from reid.network_files import rebuilt, write_network

METADATA_KEY = "identrix.pcb"


@dataclass(frozen=True)
class PcbArchitecture:
    """What must be known to rebuild a PCB before its weights are loaded.

    backbone             timm name of a ResNet
    height_px, width_px  input size
    parts, part_dim      K and F of the module's drawing
    """

    backbone: str = "resnet50"
    height_px: int = 384
    width_px: int = 192
    parts: int = 6
    part_dim: int = 256

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px, self.parts, self.part_dim) < 1:
            raise ValueError("height_px, width_px, parts and part_dim must be positive")

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding, K F."""
        return self.parts * self.part_dim


class PCB(nn.Module):
    """A ResNet that describes a person stripe by stripe; see the module for every shape.

    pretrained  as for DualBackboneNet
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: PcbArchitecture | None = None, pretrained: Initial = False) -> None:
        super().__init__()
        self.architecture = seen = architecture or PcbArchitecture()
        self.backbone = make_backbone(seen.backbone, (seen.height_px, seen.width_px), pretrained, global_pool="")
        if not hasattr(self.backbone, "layer4"):
            raise EncoderError(f"PCB needs a ResNet with four stages, timm's {seen.backbone} has another shape")
        _keep_size(self.backbone.layer4)
        self.mean, self.std = normalisation(self, self.backbone)
        # One matrix per stripe, written as one grouped convolution.
        width, parts = self.backbone.num_features, seen.parts
        self.reduce = nn.Conv1d(width * parts, seen.part_dim * parts, 1, groups=parts, bias=False)
        self.norm = nn.BatchNorm1d(seen.part_dim * parts)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, K F) unit rows."""
        return self.embed(self.features(images))

    def mirrored(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, K F) unit rows: the features of image and mirror added before a stripe's length is 1."""
        return self.embed(self.features(images) + self.features(images.flip(3)))

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, K, F), stripes from head to feet."""
        seen = self.architecture
        maps = self.backbone((images - self.mean) / self.std)
        stripes = adaptive_avg_pool2d(maps, (seen.parts, 1))[..., 0]  # (N, 2048, K)
        joined = stripes.transpose(1, 2).flatten(1)[..., None]  # (N, K 2048, 1)
        reduced: Tensor = self.norm(self.reduce(joined))
        return reduced.view(-1, seen.parts, seen.part_dim)

    def embed(self, features: Tensor) -> Tensor:
        """(N, K, F) of `features` -> (N, K F) unit rows; every stripe counts alike."""
        unit = normalize(features, dim=2).flatten(1)
        return unit / math.sqrt(self.architecture.parts)


def _keep_size(stage: nn.Module) -> None:
    """Stride 1 throughout a stage that halved its input; no weight changes its name or shape."""
    for parent in list(stage.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                module.stride = (1, 1)
            elif isinstance(module, nn.AvgPool2d):
                setattr(parent, name, nn.Identity())


def save(network: PCB, path: Path, card: Mapping[str, Any] | None = None) -> None:
    """Write weights, architecture and (if there is one) the model card's facts to a .safetensors file."""
    write_network(path, network.state_dict(), METADATA_KEY, asdict(network.architecture), card)


def load(path: Path, device: str = "cpu") -> PCB:
    """Rebuild a network from `save`'s file, ready for inference. EncoderError when it is damaged or something else."""
    return rebuilt(path, METADATA_KEY, lambda described: PCB(PcbArchitecture(**described)), device)
