"""`identrix train`: from a folder of images and a recipe to a network with its card.

OUT/training.json         what is trained on what, with which recipe; the history of all epochs
OUT/curves.png            loss, and rank-1 and mAP of people who are not trained on
OUT/network.safetensors   the network, with its card inside
OUT/card.md               data, recipe, commit, scores
OUT/checkpoint.pt         while it goes on, or when it was stopped: `--resume` continues from the last whole epoch
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from pipeline.atomic import OutputError, output_error, write_json_atomic
from pipeline.config import ConfigError
from pipeline.engines import choose_device
from pipeline.training_report import card_facts, plot_training, read_training, write_card
from pipeline.training_schema import TrainingConfig, Wandb

if TYPE_CHECKING:
    from reid.datasets import ReidData

Progress = Callable[[str, float, float | None], None]


@dataclass(frozen=True)
class TrainedFolder:
    """What `train_to` made. `summary` is what --json prints; `problems` are the images left out, in words."""

    folder: Path
    summary: dict[str, Any]
    problems: tuple[str, ...]
    interrupted: bool


def train_to(
    config: TrainingConfig,
    out: Path,
    *,
    resume: bool = False,
    stop: Event | None = None,
    on_progress: Progress = lambda stage, done, total: None,
    on_data: Callable[[str], None] = lambda line: None,
) -> TrainedFolder:
    """Train as configured and write the folder; see the module.

    on_data  told in one line each what is trained on and what was left out, before the first epoch

    Raises what reading data, building the network and training raise; OutputError when the folder cannot be written.
    """
    import torch

    from reid import processes
    from reid.datasets import read_data
    from reid.initial import new_network
    from reid.training import train

    with processes.joined(choose_device(config.device)) as device:
        first = processes.rank() == 0
        data = read_data(config.data.path, config.data.layout, held_out=config.data.held_out)
        counts = {"name": data.root.resolve().name, "layout": data.layout, **data.counts()}
        problems = tuple(str(problem) for problem in data.problems)
        if first:
            on_data(_in_words(counts))
            for problem in problems:
                on_data(problem)
        torch.manual_seed(config.recipe.seed)
        # A resumed network gets its weights from the checkpoint: nothing need be fetched again.
        network = new_network(config.network.architecture(), "none" if resume else config.init)
        facts = {"config": plain(config), "data": counts, "left_out": list(problems), "device": device}
        if first:
            _make(out)
        history: list[dict[str, float]] = []
        with _logbook(config.wandb if first else Wandb(), out, facts) as note:

            def on_epoch(row: dict[str, float]) -> None:
                history.append(row)
                if not first:
                    return
                write_json_atomic(out / "training.json", {**facts, "history": history})
                if "rank1" in row or len(history) == 2:
                    plot_training(out / "curves.png", history)
                note(row)

            try:
                trained = train(
                    network,
                    data,
                    config.recipe,
                    out,
                    device=device,
                    resume=resume,
                    stop=stop,
                    on_progress=on_progress if first else lambda stage, done, total: None,
                    on_epoch=on_epoch,
                )
            except OutputError:
                raise
            except OSError as error:
                raise output_error(out, error) from error
            if first and not trained.interrupted:
                _finish(config, out, trained.network, data, facts, history)
    epochs = int(history[-1]["epoch"]) if history else 0
    last = {key: value for key, value in (history[-1] if history else {}).items() if key != "images_per_s"}
    summary = {"out": str(out), "epochs": epochs, "device": device, "data": counts, "last": last}
    return TrainedFolder(out, summary, problems, trained.interrupted)


def plain(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain values that JSON and a later `--resume` can read."""
    values: dict[str, Any] = config.model_dump(mode="json")
    values["data"]["path"] = str(config.data.path.resolve())
    return values


def resumed_config(out: Path) -> Mapping[str, Any]:
    """The configuration that a stopped training was started with. ConfigError when there is none."""
    found = read_training(out)
    if not found.get("config"):
        raise ConfigError(f"--resume: {out} holds no training (no training.json); say with --out which to resume")
    values: dict[str, Any] = found["config"]
    return values


def _finish(
    config: TrainingConfig,
    out: Path,
    network: Any,
    data: ReidData,
    facts: Mapping[str, Any],
    history: list[dict[str, float]],
) -> None:
    from reid import dual_backbone, pcb
    from reid.checkpoints import NAME
    from reid.testing import branch_shares

    size = sum(weight.numel() for weight in network.parameters())
    seen = asdict(network.architecture)
    shares = branch_shares(network, data.query)[:, 0].tolist() if seen.get("branches") == "both" else []
    card = card_facts(plain(config), seen, facts["data"], history, size, shares)
    plot_training(out / "curves.png", history)
    write_card(out / "card.md", out.name, card, facts["left_out"])
    save = pcb.save if isinstance(network, pcb.PCB) else dual_backbone.save
    try:
        save(network, out / "network.safetensors", card)
        (out / NAME).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(out / "network.safetensors", error) from error


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error


def _in_words(counts: Mapping[str, Any]) -> str:
    trained = f"{counts['train_images']} images of {counts['train_people']} people to train on"
    tested = (
        f"{counts['query_images']} queries of {counts['query_people']} others among {counts['gallery_images']} images"
    )
    return (
        f"{counts['name']} ({counts['layout']}): {trained}; {tested if counts['query_images'] else 'nobody to test on'}"
    )


@contextmanager
def _logbook(wandb: Wandb, out: Path, facts: Mapping[str, Any]) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Weights & Biases, if it is wanted; ConfigError when it is and is not installed."""
    if wandb.mode == "off":
        yield lambda row: None
        return
    try:
        import wandb as service
    except ImportError:
        raise ConfigError("wandb is not installed: pip install 'identrix[train]', or set wandb.mode=off") from None
    settings = service.Settings(silent=True, console="off", quiet=True)
    with service.init(
        project=wandb.project, name=out.name, dir=str(out), mode=wandb.mode, config=dict(facts), settings=settings
    ) as run:
        yield lambda row: run.log(dict(row), step=int(row["epoch"]))
