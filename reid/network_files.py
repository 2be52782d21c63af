"""Weights of this project's own networks on disk: tensors, how to rebuild the network, and the facts of its card.

A .safetensors file stands alone: its metadata name the kind of network and its architecture. A .pth of
{"architecture": {...}, "state_dict": {...}} is read, too; only tensors and plain values, no pickled code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from reid.encoders import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

CARD_KEY = "identrix.card"
Network = TypeVar("Network", bound="nn.Module")


def load_own(path: Path, device: str = "cpu") -> nn.Module:
    """The DualBackboneNet or PCB of a file, ready for inference; `.architecture` says its input and embedding size.

    EncoderError when the file is damaged or holds something else.
    """
    from reid import dual_backbone, pcb

    if path.suffix == ".safetensors" and pcb.METADATA_KEY in _metadata(path):
        return pcb.load(path, device)
    return dual_backbone.load(path, device)


def read_card(path: Path) -> dict[str, Any]:
    """What the training that made a file wrote about it: data, recipe, commit, scores. Empty when it says nothing."""
    card: dict[str, Any] = json.loads(_metadata(path).get(CARD_KEY, "{}"))
    return card


def write_network(
    path: Path,
    state: Mapping[str, Tensor],
    key: str,
    architecture: Mapping[str, Any],
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write a .safetensors file, whole or not at all. `key` names the kind of network."""
    from safetensors.torch import save

    facts = {key: json.dumps(architecture)} | ({CARD_KEY: json.dumps(card)} if card else {})
    with whole(path) as temporary:
        # Not `save_file`: what it writes can be read by its owner only.
        temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in state.items()}, metadata=facts))


def read_network(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(architecture, tensors) of a file of that kind; EncoderError when it is damaged or of another kind."""
    if path.suffix != ".safetensors":
        return _read_pth(path)
    from safetensors import SafetensorError, safe_open

    described = _metadata(path).get(key)
    if described is None:
        raise EncoderError(f"{path}: not an Identrix network (no {key} in its metadata)")
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(described), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise EncoderError(f"{path}: cannot be read as safetensors, fetch it again: {error}") from error


def rebuilt(path: Path, key: str, build: Callable[[dict[str, Any]], Network], device: str) -> Network:
    """The network of a file, built from its description and filled, ready for inference.

    EncoderError as `read_network`.
    """
    architecture, state = read_network(path, key)
    try:
        network = build(architecture)
    except (TypeError, ValueError) as error:
        if isinstance(error, EncoderError):
            raise
        raise EncoderError(f"{path}: its description of the network is not understood: {error}") from error
    fill(network, state, path)
    return network.eval().to(device)


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a network they were saved from; EncoderError when they are another network's."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise EncoderError(f"{path}: weights of another network: {reason[:200]}") from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there is on the disk before it takes the name `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"{path}: cannot be read as safetensors, fetch it again: {error}") from error


def _read_pth(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types here
        reason = str(error).strip().splitlines()[0][:160]
        raise EncoderError(f"{path}: cannot be read as a weights-only .pth: {reason}") from error
    if not isinstance(content, dict) or not {"architecture", "state_dict"} <= content.keys():
        raise EncoderError(f"{path}: not an Identrix network (wants 'architecture' and 'state_dict' in it)")
    return content["architecture"], content["state_dict"]
