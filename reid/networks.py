"""Torch networks from their files, all alike to the caller: RGB in [0, 1] in, one vector per crop out.

    file                                    network
    .safetensors, .pth with an architecture DualBackboneNet; .safetensors also PCB
    .pth of torchreid                       OSNet
    card with `timm: NAME`                  that timm model without its head, normalised as the card says

This module needs torch; import it where a network is really wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid.cards import Card
from reid.encoders import EncoderError, check_file


@dataclass(frozen=True)
class Network:
    """A network ready for inference.

    module        (N, 3, height_px, width_px) float RGB in [0, 1] -> (N, dim); with branches also (N, 2) their weights
    has_branches  it weighs two branches per image
    """

    module: nn.Module
    height_px: int
    width_px: int
    dim: int
    has_branches: bool = False


def load_network(path: Path, name: str, card: Card | None = None) -> Network:
    """The network in a file, on the CPU. EncoderError when it is missing, damaged or of an unknown kind."""
    check_file(path, name)
    if card and card.timm:
        return _timm(path, name, card)
    if path.suffix != ".safetensors":
        state = _state_of(_read_pth(path, name))
        from reid.osnet import is_osnet, osnet_from

        if is_osnet(state):
            network = osnet_from(state, name)
            size = (card.preprocessing.height_px, card.preprocessing.width_px) if card else (256, 128)
            return Network(network, *size, network.embedding_dim)
    return _own(path)


def _own(path: Path) -> Network:
    from reid.dual_backbone import DualBackboneNet, Weighed
    from reid.network_files import load_own

    network = load_own(path)
    seen: Any = network.architecture
    size = seen.height_px, seen.width_px, seen.embedding_dim
    if isinstance(network, DualBackboneNet) and seen.branches == "both":
        return Network(Weighed(network).eval(), *size, has_branches=True)
    return Network(network, *size)


def _timm(path: Path, name: str, card: Card) -> Network:
    import timm

    see, model = card.preprocessing, str(card.timm)
    if not timm.is_model(model):
        near = timm.list_models(f"*{model[:6]}*")[:3]
        raise EncoderError(f"{name}: timm has no model {model!r}" + (f"; near: {', '.join(near)}" if near else ""))
    try:
        body = timm.create_model(model, num_classes=0, img_size=(see.height_px, see.width_px))
    except TypeError:  # a convolutional network takes any size and no such argument
        body = timm.create_model(model, num_classes=0)
    state = {key.removeprefix("module."): value for key, value in _state_of(_read(path, name)).items()}
    wanted = set(body.state_dict())
    if absent := sorted(wanted - state.keys()):
        raise EncoderError(f"{name}: {path.name} holds no weights of timm's {model}: {absent[0]} is missing")
    try:
        body.load_state_dict({key: value for key, value in state.items() if key in wanted})
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise EncoderError(f"{name}: {path.name} holds weights of another network than timm's {model}: {reason}") from (
            error
        )
    return Network(_Normalised(body, card).eval(), see.height_px, see.width_px, card.dimension)


class _Normalised(nn.Module):
    """A network behind the normalisation of its card."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, card: Card) -> None:
        super().__init__()
        see = card.preprocessing
        self.body, self.rgb, self.gain = body, see.rgb, see.scale * 255
        self.register_buffer("mean", torch.tensor(see.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(see.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        seen = images if self.rgb else images.flip(1)
        features: Tensor = self.body((seen * self.gain - self.mean) / self.std)
        return features


def _read(path: Path, name: str) -> Any:
    if path.suffix != ".safetensors":
        return _read_pth(path, name)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"{name}: {path} cannot be read as safetensors, fetch it again: {error}") from error


def _read_pth(path: Path, name: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types here
        reason = str(error).strip().splitlines()[0][:160]
        raise EncoderError(f"{name}: {path} cannot be read as a weights-only .pth: {reason}") from error


def _state_of(content: Any) -> Mapping[str, Any]:
    """The state dict of a checkpoint: bare, or under the names that trainers give it."""
    for key in ("state_dict", "model", "net"):
        if isinstance(content, dict) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return content if isinstance(content, Mapping) else {}
