"""What `identrix train --config` may say: data, network, recipe. Reading a YAML is pipeline/config.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass as validated

from pipeline.config import ConfigError, explained, read_yaml, set_key
from reid.recipe import Recipe as PlainRecipe

_STRICT = ConfigDict(extra="forbid", frozen=True)

if TYPE_CHECKING:
    Recipe = PlainRecipe
else:  # the same class, but strict about unknown keys and types
    Recipe = validated(PlainRecipe, config=_STRICT)

DUAL, PCB = ("resnet50", "vit_base_patch16_224"), ("resnet50",)


class _Section(BaseModel):
    model_config = _STRICT


class Data(_Section):
    """Where the images are. `held_out`: share of the people kept for testing, when the folder has no split."""

    path: Path
    layout: Literal["auto", "market1501", "msmt17", "folders"] = "auto"
    held_out: float = Field(default=0.25, ge=0, lt=1)


class Network(_Section):
    """What is trained. `dual`: two backbones (local, global), `pcb`: one ResNet; any of timm's.

    branches                       dual: both, or local or global alone (ablation)
    projection_dim, embedding_dim  dual; `parts` stripes of `part_dim` values each: pcb
    """

    kind: Literal["dual", "pcb"] = "dual"
    backbones: tuple[str, ...] = ()
    height_px: int | None = Field(default=None, ge=16, le=2048)
    width_px: int | None = Field(default=None, ge=16, le=2048)
    branches: Literal["both", "local", "global"] = "both"
    projection_dim: int = Field(default=128, ge=1)
    embedding_dim: int = Field(default=128, ge=1)
    parts: int = Field(default=6, ge=1)
    part_dim: int = Field(default=256, ge=1)

    @model_validator(mode="after")
    def _as_many_backbones_as_it_has(self) -> Network:
        wanted = len(DUAL if self.kind == "dual" else PCB)
        if self.backbones and len(self.backbones) != wanted:
            names = "two backbones, local and global" if self.kind == "dual" else "one backbone, a ResNet"
            raise ValueError(f"a {self.kind} network has {names}; got {len(self.backbones)}")
        return self

    def architecture(self) -> Any:
        """The value that the network is built from."""
        if self.kind == "dual":
            from reid.dual_backbone import Architecture

            local_, global_ = self.backbones or DUAL
            return Architecture(
                local_,
                global_,
                self.height_px or 256,
                self.width_px or 128,
                self.projection_dim,
                self.embedding_dim,
                self.branches,
            )
        from reid.pcb import PcbArchitecture

        (backbone,) = self.backbones or PCB
        return PcbArchitecture(backbone, self.height_px or 384, self.width_px or 192, self.parts, self.part_dim)


class Wandb(_Section):
    """Weights & Biases, if wanted: `offline` writes into the training's folder and sends nothing."""

    mode: Literal["off", "offline", "online"] = "off"
    project: str = Field(default="identrix", min_length=1)


class TrainingConfig(_Section):
    """Everything a training needs to know.

    init  none, imagenet, a file of an earlier training, or a folder with timm's files (`reid.initial`)
    """

    data: Data
    network: Network = Network()
    init: str = "imagenet"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    recipe: Recipe = Field(default_factory=Recipe)
    wandb: Wandb = Wandb()


def load_training_config(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> TrainingConfig:
    """Read a training's YAML (or `base`, plain values) and `key.sub=value` overrides; `extra` wins over both.

    A relative data.path in a file is taken from the file's folder. Raises ConfigError.

    >>> load_training_config(overrides=["data.path=.", "recipe.epochs=3"]).recipe.epochs
    3
    >>> load_training_config(overrides=["data.path=.", "recipe.batch.person=3"])
    Traceback (most recent call last):
    pipeline.config.ConfigError: command line: recipe.batch.person: unknown key; did you mean 'people'?
    """
    raw: dict[str, Any] = deepcopy(dict(base or {}))
    origin = str(path) if path else "command line"
    if path:
        raw = read_yaml(path, "at least data.path")
        data = raw.get("data")
        if isinstance(data, dict) and isinstance(data.get("path"), str):
            raw["data"] = {**data, "path": str((path.parent / Path(data["path"]).expanduser()).resolve())}
    for override in overrides:
        set_key(raw, override)
    for key, value in (extra or {}).items():
        node = raw
        *above, last = key.split(".")
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    if not raw.get("data"):
        raise ConfigError(f"{origin}: no images to train on; name a folder: identrix train DATA")
    try:
        return TrainingConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {line}" for line in explained(error, TrainingConfig))) from None
