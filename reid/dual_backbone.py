"""DualBackboneNet: local detail and global context of a person, weighed per image.

    images (N, 3, H, W) RGB in [0, 1]
      local branch   timm ResNet-50    -> (N, 2048) -> Linear -> (N, P)      P = projection_dim = 128
      global branch  timm ViT-B/16     -> (N, 768)  -> Linear -> (N, P)
      concatenate                                             -> (N, 2P)
      attention      Linear 2P -> P, ReLU, Linear P -> 2, softmax -> (N, 2)  w1 + w2 = 1, both >= 0
      weighted sum   w1 * local + w2 * global                 -> (N, P)
      head           Linear P -> E, length 1                  -> (N, E)      E = embedding_dim = 128

This module needs torch and timm; import it where a network is really wanted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from reid.encoders import EncoderError

METADATA_KEY = "identrix.dual_backbone"


@dataclass(frozen=True)
class Architecture:
    """What must be known to rebuild a network before its weights are loaded.

    local_backbone, global_backbone  timm names; any two models with a pooled feature vector fit
    height_px, width_px              input size; position embeddings of a transformer are interpolated to it
    projection_dim, embedding_dim    P and E of the module's drawing
    """

    local_backbone: str = "resnet50"
    global_backbone: str = "vit_base_patch16_224"
    height_px: int = 256
    width_px: int = 128
    projection_dim: int = 128
    embedding_dim: int = 128


class Inspected(NamedTuple):
    """One forward pass laid open.

    embedding  (N, E) unit rows
    weights    (N, 2) softmax: share of the local and of the global branch
    branches   (N, 2, P) the two projected branches
    """

    embedding: Tensor
    weights: Tensor
    branches: Tensor


class Branch(nn.Module):
    """A timm backbone with its own published input normalisation, projected to P: (N, 3, H, W) in [0, 1] -> (N, P)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, architecture: Architecture, pretrained: bool) -> None:
        super().__init__()
        self.backbone = _backbone(backbone, (architecture.height_px, architecture.width_px), pretrained)
        config = self.backbone.pretrained_cfg
        # The two backbones may have been trained with different mean and std; in the file, so that it stands alone.
        self.register_buffer("mean", torch.tensor(config.get("mean", (0.485, 0.456, 0.406))).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(config.get("std", (0.229, 0.224, 0.225))).view(1, 3, 1, 1))
        # Some networks (MobileNetV3) widen their features once more after pooling; timm says so here.
        features = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        self.projection = nn.Linear(features, architecture.projection_dim)

    def forward(self, images: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.backbone((images - self.mean) / self.std))
        return projected


class DualBackboneNet(nn.Module):
    """Two backbones, one embedding; see the module for every shape.

    pretrained  fetch ImageNet weights through timm (needs a network)
    """

    def __init__(self, architecture: Architecture | None = None, pretrained: bool = False) -> None:
        super().__init__()
        self.architecture = architecture = architecture or Architecture()
        width = architecture.projection_dim
        self.local_branch = Branch(architecture.local_backbone, architecture, pretrained)
        self.global_branch = Branch(architecture.global_backbone, architecture, pretrained)
        self.attention = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 2), nn.Softmax(dim=1))
        self.head = nn.Linear(width, architecture.embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, E) unit rows."""
        return self.inspect(images).embedding

    def inspect(self, images: Tensor, weights: Tensor | None = None) -> Inspected:
        """The same pass with its weights and branches. `weights` (2,) overrules the attention: (1, 0) is the local
        branch alone, for ablation."""
        branches = torch.stack([self.local_branch(images), self.global_branch(images)], dim=1)
        shares = self.attention(branches.flatten(1)) if weights is None else weights.expand(len(images), 2)
        fused = (shares[:, :, None] * branches).sum(dim=1)
        return Inspected(normalize(self.head(fused), dim=1), shares, branches)


def _backbone(name: str, size_px: tuple[int, int], pretrained: bool) -> Any:
    if not timm.is_model(name):
        near = timm.list_models(f"*{name[:6]}*")[:3]
        raise EncoderError(f"timm has no backbone {name!r}" + (f"; near: {', '.join(near)}" if near else ""))
    try:
        try:
            return timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=size_px)
        except TypeError:  # a convolutional network takes any size and no such argument
            return timm.create_model(name, pretrained=pretrained, num_classes=0)
    except OSError as error:
        hint = "start without them, or go online once"
        raise EncoderError(f"cannot fetch ImageNet weights of {name}: {error}; {hint}") from error


def save(network: DualBackboneNet, path: Path) -> None:
    """Write weights and architecture to a .safetensors file."""
    save_file(network.state_dict(), path, metadata={METADATA_KEY: json.dumps(asdict(network.architecture))})


def load(path: Path, device: str = "cpu") -> DualBackboneNet:
    """Rebuild a network from `save`'s file, ready for inference.

    Also reads a .pth of {"architecture": {...}, "state_dict": {...}}; only tensors and plain values, no pickled code.
    EncoderError when the file is damaged or holds something else.
    """
    architecture, state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path)
    try:
        network = DualBackboneNet(Architecture(**architecture))
    except TypeError as error:
        raise EncoderError(f"{path}: its description of the network is not understood: {error}") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise EncoderError(f"{path}: weights of another network: {reason[:200]}") from error
    return network.eval().to(device)


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get(METADATA_KEY)
            if described is None:
                raise EncoderError(f"{path}: not an Identrix network (no {METADATA_KEY} in its metadata)")
            return json.loads(described), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise EncoderError(f"{path}: cannot be read as safetensors, fetch it again: {error}") from error


def _read_pth(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types here
        reason = str(error).strip().splitlines()[0][:160]
        raise EncoderError(f"{path}: cannot be read as a weights-only .pth: {reason}") from error
    if not isinstance(content, dict) or not {"architecture", "state_dict"} <= content.keys():
        raise EncoderError(f"{path}: not an Identrix network (wants 'architecture' and 'state_dict' in it)")
    return content["architecture"], content["state_dict"]
