"""DualBackboneNet: local detail and global context of a person, weighed per image.

    images (N, 3, H, W) RGB in [0, 1]
      local branch   timm ResNet-50    -> (N, 2048) -> Linear -> (N, P)      P = projection_dim = 128
      global branch  timm ViT-B/16     -> (N, 768)  -> Linear -> (N, P)
      concatenate                                             -> (N, 2P)
      attention      Linear 2P -> P, ReLU, Linear P -> 2, softmax -> (N, 2)  w1 + w2 = 1, both >= 0
      weighted sum   w1 * local + w2 * global                 -> (N, P)
      head           Linear P -> E, length 1                  -> (N, E)      E = embedding_dim = 128

With `branches` "local" or "global" the other branch and the attention are left out: the ablation of the design.

This module needs torch and timm; import it where a network is really wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from reid.encoders import EncoderError
from reid.network_files import rebuilt, write_network

METADATA_KEY = "identrix.dual_backbone"
BRANCHES = ("both", "local", "global")


@dataclass(frozen=True)
class Architecture:
    """What must be known to rebuild a network before its weights are loaded.

    local_backbone, global_backbone  timm names; any two models with a pooled feature vector fit
    height_px, width_px              input size; position embeddings of a transformer are interpolated to it
    projection_dim, embedding_dim    P and E of the module's drawing
    branches                         "both", or the only one there is
    """

    local_backbone: str = "resnet50"
    global_backbone: str = "vit_base_patch16_224"
    height_px: int = 256
    width_px: int = 128
    projection_dim: int = 128
    embedding_dim: int = 128
    branches: str = "both"

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px, self.projection_dim, self.embedding_dim) < 1:
            raise ValueError("height_px, width_px, projection_dim and embedding_dim must be positive")
        if self.branches not in BRANCHES:
            raise ValueError(f"branches must be one of {', '.join(BRANCHES)}, got {self.branches!r}")


class Inspected(NamedTuple):
    """One forward pass laid open.

    embedding  (N, E) unit rows
    weights    (N, 2) softmax: share of the local and of the global branch; a branch left out has share 0
    branches   (N, 2, P) the two projected branches; zeros for one left out
    """

    embedding: Tensor
    weights: Tensor
    branches: Tensor


class Branch(nn.Module):
    """A timm backbone with its own published input normalisation, projected to P: (N, 3, H, W) in [0, 1] -> (N, P)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, architecture: Architecture, initial: Initial) -> None:
        super().__init__()
        self.backbone = make_backbone(backbone, (architecture.height_px, architecture.width_px), initial)
        self.mean, self.std = normalisation(self, self.backbone)
        # Some networks (MobileNetV3) widen their features once more after pooling; timm says so here.
        features = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        self.projection = nn.Linear(features, architecture.projection_dim)

    def forward(self, images: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.backbone((images - self.mean) / self.std))
        return projected


class DualBackboneNet(nn.Module):
    """Two backbones, one embedding; see the module for every shape.

    pretrained  fetch ImageNet weights through timm (needs a network); or {backbone: file} with such weights
    """

    def __init__(self, architecture: Architecture | None = None, pretrained: Initial = False) -> None:
        super().__init__()
        self.architecture = seen = architecture or Architecture()
        width = seen.projection_dim
        if seen.branches != "global":
            self.local_branch = Branch(seen.local_backbone, seen, pretrained)
        if seen.branches != "local":
            self.global_branch = Branch(seen.global_backbone, seen, pretrained)
        if seen.branches == "both":
            self.attention = nn.Sequential(
                nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 2), nn.Softmax(dim=1)
            )
        self.head = nn.Linear(width, seen.embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, E) unit rows."""
        return self.embed(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 1, E), what an identity loss names people from; `embed` gives it length 1."""
        return self._fused(images, None)[0][:, None]

    def embed(self, features: Tensor) -> Tensor:
        """(N, 1, E) of `features` -> (N, E) unit rows."""
        return normalize(features[:, 0], dim=1)

    def inspect(self, images: Tensor, weights: Tensor | None = None) -> Inspected:
        """The same pass with its weights and branches. `weights` (2,) overrules the attention: (1, 0) is the local
        branch alone, for ablation. ValueError where there is but one branch to weigh."""
        if weights is not None and self.architecture.branches != "both":
            raise ValueError(f"this network has its {self.architecture.branches} branch only, nothing can be weighed")
        features, shares, branches = self._fused(images, weights)
        return Inspected(normalize(features, dim=1), shares, branches)

    def _fused(self, images: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(N, E) before its length is made 1, (N, 2) shares, (N, 2, P) branches."""
        only = self.architecture.branches
        if only == "both":
            branches = torch.stack([self.local_branch(images), self.global_branch(images)], dim=1)
            shares = self.attention(branches.flatten(1)) if weights is None else weights.expand(len(images), 2)
        else:
            one = self.local_branch(images) if only == "local" else self.global_branch(images)
            nothing = torch.zeros_like(one)
            branches = torch.stack([one, nothing] if only == "local" else [nothing, one], dim=1)
            shares = one.new_tensor([1.0, 0.0] if only == "local" else [0.0, 1.0]).expand(len(images), 2)
        fused = (shares[:, :, None] * branches).sum(dim=1)
        return self.head(fused), shares, branches


class Weighed(nn.Module):
    """A network that also tells how it weighed its branches, for encoders and exports."""

    def __init__(self, network: DualBackboneNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) RGB in [0, 1] -> (N, E) unit rows, (N, 2) weights of the local and global branch."""
        seen = self.network.inspect(images)
        return seen.embedding, seen.weights


Initial = bool | Mapping[str, Path]
"""Where a backbone's weights come from: nowhere (False), timm's publishers (True), files by backbone."""


def normalisation(module: nn.Module, backbone: Any) -> tuple[Tensor, Tensor]:
    """Registers mean and std (1, 3, 1, 1) that a backbone was trained with as buffers: they belong into the file, so
    that it stands alone, and two backbones may differ."""
    config = backbone.pretrained_cfg
    for key, usual in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
        module.register_buffer(key, torch.tensor(config.get(key, usual)).view(1, 3, 1, 1))
    return module.get_buffer("mean"), module.get_buffer("std")


def make_backbone(name: str, size_px: tuple[int, int], initial: Initial = False, **options: Any) -> Any:
    """A timm model without its head. Position embeddings, also of pretrained weights, are interpolated to `size_px`
    (height, width). EncoderError for an unknown name and for weights that cannot be had or do not fit."""
    if not timm.is_model(name):
        near = timm.list_models(f"*{name[:6]}*")[:3]
        raise EncoderError(f"timm has no backbone {name!r}" + (f"; near: {', '.join(near)}" if near else ""))
    file = initial.get(name) if isinstance(initial, Mapping) else None
    options |= {"pretrained": initial is True or file is not None, "num_classes": 0}
    if file is not None:
        options["pretrained_cfg_overlay"] = {"file": str(file)}
    try:
        try:
            made: Any = timm.create_model(name, img_size=size_px, **options)
        except TypeError:  # a convolutional network takes any size and no such argument
            made = timm.create_model(name, **options)
        if file is not None:
            # What a file lacks timm leaves at random, with a line in the log: a network that nobody trained.
            absent = made.state_dict().keys() - timm.models.load_state_dict(str(file)).keys()
            if absent := {key for key in absent if not key.endswith("num_batches_tracked")}:
                raise RuntimeError(f"{min(absent)} is missing")
        return made
    except OSError as error:
        hint = "give --init none, a file of weights, or go online once"
        raise EncoderError(f"cannot fetch ImageNet weights of {name}: {first_line(error)}; {hint}") from error
    except RuntimeError as error:
        where = f"{file}: weights" if file else "weights"
        raise EncoderError(f"{where} of another network than timm's {name}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says, in one line of at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()[:200]


def save(network: DualBackboneNet, path: Path, card: Mapping[str, Any] | None = None) -> None:
    """Write weights, architecture and (if there is one) the model card's facts to a .safetensors file."""
    write_network(path, network.state_dict(), METADATA_KEY, asdict(network.architecture), card)


def load(path: Path, device: str = "cpu") -> DualBackboneNet:
    """Rebuild a network from `save`'s file, ready for inference.

    Also reads a .pth of {"architecture": {...}, "state_dict": {...}}; only tensors and plain values, no pickled code.
    EncoderError when the file is damaged or holds something else.
    """
    return rebuilt(path, METADATA_KEY, lambda described: DualBackboneNet(Architecture(**described)), device)
