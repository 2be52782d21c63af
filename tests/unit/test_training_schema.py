"""The training's YAML: the example says the defaults, paths are taken from the file, faults are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from door import ROOT

from pipeline.config import ConfigError
from pipeline.training_command import plain, resumed_config
from pipeline.training_schema import DUAL, load_training_config
from reid.augment import NO_AUGMENTATION
from reid.datasets import Picture
from reid.dual_backbone import Architecture
from reid.pcb import PcbArchitecture
from reid.recipe import Losses, rate_factor


def test_the_example_says_the_defaults() -> None:
    example = load_training_config(ROOT / "configs" / "training.example.yaml")
    default = load_training_config(overrides=["data.path=runs/people"])
    shown = example.model_copy(update={"data": default.data, "network": default.network})
    assert shown == default
    assert example.network.backbones == DUAL
    assert example.network.architecture() == default.network.architecture() == Architecture()
    assert example.data.path == (ROOT / "runs" / "people").resolve()


def test_the_published_pcb() -> None:
    config = load_training_config(ROOT / "configs" / "training.pcb.yaml")
    assert config.network.architecture() == PcbArchitecture()
    assert config.recipe.batch.people * config.recipe.batch.images == 32
    how = config.recipe.optimisation
    assert (how.lr, how.lr * how.heads_lr, how.step_epochs, config.recipe.epochs) == (0.01, 0.1, 40, 60)
    assert config.init == "imagenet" and config.network.backbones == ("resnet50",)
    seen = config.network.architecture()
    assert (seen.height_px, seen.width_px, seen.parts, seen.part_dim, seen.embedding_dim) == (384, 192, 6, 256, 1536)
    assert (how.name, how.weight_decay, how.schedule, how.warmup_epochs) == ("sgd", 5e-4, "step", 0)
    assert [rate_factor(how, epoch, 60) for epoch in (0, 39.9, 40, 59.9)] == [1, 1, 0.1, 0.1]
    # Only the six softmax heads, without smoothing; only the mirror and random erasing; the weights themselves.
    assert config.recipe.losses == Losses(info_nce=0, triplet=0, identity=1, smoothing=0)
    assert config.recipe.augmentation == replace(NO_AUGMENTATION, flip=0.5, erasing=0.5)
    assert config.recipe.ema_decay == 0


def test_the_published_optimiser_is_nesterovs() -> None:
    """Momentum .9 with Nesterov's look ahead, a tenth of the heads' rate for the backbone, decay 5e-4 for all."""
    torch = pytest.importorskip("torch")
    from reid.datasets import ReidData
    from reid.initial import new_network
    from reid.training import _new_state

    config = load_training_config(
        ROOT / "configs" / "training.pcb.yaml",
        overrides=["network.backbones=[test_resnet]", "network.height_px=96", "network.width_px=48"],
    )
    people = tuple(Picture(Path(f"{n}.jpg"), n // 2, 0) for n in range(8))
    state = _new_state(new_network(config.network.architecture()), ReidData(Path(), "x", people), config.recipe, "cpu")
    assert isinstance(state.optimizer, torch.optim.SGD) and state.moving is None
    groups = state.optimizer.param_groups
    assert [(g["momentum"], g["nesterov"], g["weight_decay"], g["top_lr"]) for g in groups] == [
        (0.9, True, 5e-4, 0.01),
        (0.9, True, 5e-4, 0.1),
    ]
    assert len(state.trainee.heads) == 6  # one softmax head for each part
    sizes = {tuple(head.weight.shape) for head in state.trainee.heads}
    assert sizes == {(4, 256)}


def test_plain_values_make_the_same_configuration(tmp_path: Path) -> None:
    config = load_training_config(overrides=[f"data.path={tmp_path}", "recipe.losses.triplet=0.5", "network.kind=pcb"])
    assert load_training_config(base=plain(config)) == config
    assert load_training_config(base=plain(config), extra={"recipe.epochs": 2}).recipe.epochs == 2
    with pytest.raises(ConfigError, match="holds no training"):
        resumed_config(tmp_path)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(ConfigError, match="holds no training"):
        resumed_config(tmp_path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("recipe.batch.person=3", "recipe.batch.person: unknown key; did you mean 'people'?"),
        ("recipe.epochs=many", "recipe.epochs: input should be a valid integer"),
        ("recipe.batch.people=1", "people and images must be at least 2, got 1 and 4"),
        ("network.kind=osnet", "network.kind: input should be 'dual' or 'pcb'"),
        ("network.backbones=[a]", "a dual network has two backbones, local and global; got 1"),
        ("network.width_px=3", "network.width_px: input should be greater than or equal to 16"),
        ("data.layout=duke", "data.layout: input should be"),
        ("device=gpu", "device: "),
        ("wandb.mode=on", "wandb.mode: input should be"),
        ("recpie.epochs=3", "recpie: unknown key; did you mean 'recipe'?"),
    ],
)
def test_faults_are_named(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_training_config(overrides=["data.path=.", override])
    assert said in str(caught.value) and "\n" not in str(caught.value)
