"""Where a training stands, on disk: written whole after every epoch, so a kill costs at most the epoch under way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid.network_files import whole

NAME = "checkpoint.pt"
VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be continued from; the message says why."""


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint. Tensors and plain values only. OSError when the disk is full."""
    import torch

    with whole(folder / NAME) as temporary:
        torch.save({"version": VERSION, **state}, temporary)


def load_checkpoint(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's checkpoint, if it is of the same training.

    about  what the training is (recipe, architecture, data); CheckpointError names what differs. Also when there is no
    checkpoint, or it cannot be read.
    """
    import torch

    path = folder / NAME
    if not path.is_file():
        raise CheckpointError(f"{path}: nothing to resume; leave --resume out to start")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types here
        reason = (str(error).strip().splitlines() or ["?"])[0][:160]
        raise CheckpointError(f"{path}: cannot be read, start anew: {reason}") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise CheckpointError(f"{path}: not a checkpoint of this version of the program; start anew")
    if state["about"] != dict(about):
        different = ", ".join(sorted(_different(state["about"], about)))
        raise CheckpointError(f"{path}: belongs to another training ({different} differ); name another --out")
    return state


def _different(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> list[str]:
    found = []
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _different(a, b, f"{above}{key}.")
        elif a != b:
            found.append(f"{above}{key}")
    return found
