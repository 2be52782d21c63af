"""What a network starts from: nothing, ImageNet, a folder of backbones, or an earlier training.

This module needs torch and timm; import it where a network is really made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reid.encoders import EncoderError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
HUB_NAMES = ("model.safetensors", "pytorch_model.bin")
"""What a weights file of timm is called in its own repository on the Hugging Face hub."""


def new_network(architecture: Any, init: str = "none") -> Any:
    """A DualBackboneNet or PCB of that architecture, ready to be trained.

    init  none       random weights
          imagenet   from timm's publishers (needs a network once)
          a folder   `<timm name>.safetensors` (or .pth, .pt, .bin) of every backbone, for machines without a network;
                     or timm's repositories as they are downloaded, `<timm name>.<tag>/model.safetensors`
          a file     of an earlier training: everything of the same shape is taken over, position embeddings are
                     interpolated when the input size is another

    EncoderError when weights cannot be had or belong to another network.
    """
    from reid.dual_backbone import Architecture, DualBackboneNet
    from reid.pcb import PCB

    kind = DualBackboneNet if isinstance(architecture, Architecture) else PCB
    if init in ("none", "imagenet"):
        return kind(architecture, init == "imagenet")
    path = Path(init)
    if path.is_dir():
        names = [
            name
            for key in ("local_backbone", "global_backbone", "backbone")
            if (name := getattr(architecture, key, None))
        ]
        return kind(architecture, {name: _file_of(path, name) for name in names})
    if not path.is_file():
        raise EncoderError(f"--init {init}: neither none, imagenet, nor a file or folder of weights")
    network = kind(architecture)
    _take_over(network, path)
    return network


def _file_of(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    downloaded = sorted(
        path for hub in HUB_NAMES for end in ("", ".*") for path in folder.glob(f"{name}{end}/{hub}") if path.is_file()
    )
    places = sorted({path.parent for path in downloaded})
    if len(places) > 1:
        several = ", ".join(place.name for place in places)
        raise EncoderError(f"--init {folder}: several weights of {name} there ({several}); leave one")
    if downloaded:
        return downloaded[0]
    raise EncoderError(f"--init {folder}: no weights of {name} there; expected {name}.safetensors (timm's own file)")


def _take_over(network: Any, path: Path) -> None:
    from timm.layers.pos_embed import resample_abs_pos_embed

    from reid.network_files import fill, load_own

    old = load_own(path)
    state, wanted = old.state_dict(), network.state_dict()
    if type(old) is type(network):
        for key, value in state.items():
            if key.endswith("pos_embed") and key in wanted and value.shape != wanted[key].shape:
                branch: Any = network.get_submodule(key.rpartition(".")[0])
                before: Any = old.get_submodule(key.rpartition(".")[0])
                state[key] = resample_abs_pos_embed(
                    value,
                    new_size=list(branch.patch_embed.grid_size),
                    old_size=list(before.patch_embed.grid_size),
                    num_prefix_tokens=branch.num_prefix_tokens,
                )
    fill(network, state, path)
