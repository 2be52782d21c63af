"""Training of a DualBackboneNet or a PCB, on a CPU, a GPU, or several processes (torchrun).

A training is a folder: `checkpoint.pt` after every epoch (removed at the end), `network.safetensors` at the end. Every
random choice follows from the seed and the epoch, so a training that was killed and resumed ends as one that was not.

    TrainingError (ValueError)   a training that cannot go on: what happened and what to do
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from reid import processes
from reid.checkpoints import load_checkpoint, save_checkpoint
from reid.datasets import ReidData
from reid.loading import batches
from reid.recipe import Recipe, RecipeError, rate_factor
from reid.testing import score

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

Row = dict[str, float]
"""What is known about one epoch: epoch, loss and its parts, lr, images_per_s, and rank1, mAP, ... where tested."""


class TrainingError(ValueError):
    """A training that cannot go on."""


@dataclass(frozen=True)
class Trained:
    """What came of it.

    network      the moving average of the weights (or the weights themselves), ready for inference
    history      one row per epoch; the first is epoch 0, before any training
    interrupted  stopped on request; the folder's checkpoint holds the last whole epoch
    """

    network: Any
    history: tuple[Row, ...]
    interrupted: bool = False


@dataclass
class _State:
    """Everything that a checkpoint holds."""

    trainee: Any
    optimizer: Any
    scaler: Any
    moving: Any
    micro_batch: int | None
    epoch: int = 0
    step: int = 0
    history: list[Row] = field(default_factory=list)

    @property
    def average(self) -> Any:
        """What is tested and saved: the moving average of the network, or the network itself."""
        return self.trainee.network if self.moving is None else self.moving.module


def train(
    network: Any,
    data: ReidData,
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    stop: Event | None = None,
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
) -> Trained:
    """Train a network on the data's training images; it is changed in place.

    resume       go on from the folder's checkpoint
    stop         set: the epoch under way is given up, its predecessor is in the checkpoint
    on_progress  called as (stage, done, total) after every step
    on_epoch     called with every epoch's row, also with those of before a resumption

    Raises RecipeError, TrainingError, CheckpointError (of resume), OSError when the folder cannot be written.
    """
    import torch

    _check(data, recipe)
    rank = processes.rank()
    torch.manual_seed(recipe.seed)
    about = {
        "recipe": recipe.as_dict(),
        "architecture": asdict(network.architecture),
        "data": {"name": data.root.name, **data.counts()},
        "processes": processes.count(),
    }
    state = _new_state(network.to(device), data, recipe, device)
    if resume:
        _restore(state, load_checkpoint(folder, about))
        for row in state.history:
            on_epoch(row)
    else:
        state.history.append({"epoch": 0.0, **_tested(state, data)})
        on_epoch(state.history[0])
    model = _distributed(state.trainee, device)
    while state.epoch < recipe.epochs:
        now = _epoch(model, state, data, recipe, device, stop, on_progress)
        if now is None:
            return Trained(state.average.eval(), tuple(state.history), interrupted=True)
        state.epoch += 1
        if state.epoch % recipe.evaluate_every == 0 or state.epoch == recipe.epochs:
            now |= _tested(state, data)
        state.history.append(now)
        if rank == 0:
            save_checkpoint(folder, _saved(state, about))
        on_epoch(now)
    return Trained(state.average.eval(), tuple(state.history))


def _check(data: ReidData, recipe: Recipe) -> None:
    """RecipeError for what would only show after the first epoch."""
    people, shares = len(data.people), processes.count()
    if recipe.batch.sampling == "balanced" and people < recipe.batch.people:
        raise RecipeError(
            f"batch.people is {recipe.batch.people}, but there are {people} people to train on; lower it to {people}"
        )
    if recipe.batch.people % shares:
        raise RecipeError(f"batch.people {recipe.batch.people} cannot be shared by {shares} processes")
    if shares > 1 and recipe.batch.people // shares < 2:
        raise RecipeError(f"batch.people {recipe.batch.people} leaves a process of {shares} fewer than two people")


def _new_state(network: Any, data: ReidData, recipe: Recipe, device: str) -> _State:
    import torch
    from timm.utils.model_ema import ModelEmaV3

    from reid.training_step import Trainee

    trainee = Trainee(network, len(data.people) if recipe.losses.identity else 0).to(device)
    how = recipe.optimisation
    backbone = [p for name, p in trainee.named_parameters() if "backbone." in name]
    other = [p for name, p in trainee.named_parameters() if "backbone." not in name]
    groups = [
        {"params": backbone, "lr": how.lr, "top_lr": how.lr},
        {"params": other, "lr": how.lr * how.heads_lr, "top_lr": how.lr * how.heads_lr},
    ]
    optimizer: Any = (
        torch.optim.Adam(groups, weight_decay=how.weight_decay)
        if how.name == "adam"
        else torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=how.weight_decay)
    )
    half = _precision(recipe, device) == torch.float16
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=half)
    # Warm-up: an average that holds on to the random beginning would be worthless in a short training.
    average = ModelEmaV3(network, recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
    return _State(trainee, optimizer, scaler, average, recipe.batch.micro_batch)


def _epoch(
    model: Any,
    state: _State,
    data: ReidData,
    recipe: Recipe,
    device: str,
    stop: Event | None,
    on_progress: Callable[[str, float, float | None], None],
) -> Row | None:
    """One pass over the training images; None when it was asked to stop."""
    import torch

    from reid.training_step import backward

    model.train()
    loader = batches(data, recipe, state.trainee.network.architecture, state.epoch, device)
    steps = len(loader)
    number = {person: n for n, person in enumerate(data.people)}
    kind = _precision(recipe, device)
    sums: dict[str, float] = {}
    images_seen, began, factor = 0, time.perf_counter(), 0.0

    def autocast() -> AbstractContextManager[Any]:
        return nullcontext() if kind is None else torch.autocast(torch.device(device).type, kind)

    for done, (images, people) in enumerate(loader):
        if processes.any_of(stop is not None and stop.is_set(), device):
            return None
        factor = rate_factor(recipe.optimisation, state.epoch + (done + 1) / (steps + 1), recipe.epochs)
        for group in state.optimizer.param_groups:
            group["lr"] = group["top_lr"] * factor
        classes = torch.tensor([number[person] for person in people.tolist()])
        images, people, classes = (part.to(device, non_blocking=True) for part in (images, people, classes))

        def attempt(images: Tensor = images, people: Tensor = people, classes: Tensor = classes) -> dict[str, float]:
            state.optimizer.zero_grad(set_to_none=True)
            return backward(
                model,
                images,
                people,
                classes,
                recipe.losses,
                micro_batch=state.micro_batch,
                autocast=autocast,
                scale=state.scaler.scale,
            )

        values = _with_less_memory(attempt, state, len(images))
        if not np.isfinite(values["loss"]):
            raise TrainingError(
                f"the loss is {values['loss']} in epoch {state.epoch + 1}, step {done + 1}: lower optimisation.lr "
                f"(now {recipe.optimisation.lr:g}), or set precision fp32"
            )
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.step += 1
        if state.moving is not None:
            state.moving.update(state.trainee.network, step=state.step)
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        images_seen += len(images)
        on_progress("this epoch", done + 1, steps)
        on_progress("training", state.epoch + (done + 1) / steps, recipe.epochs)
    rate = images_seen * processes.count() / (time.perf_counter() - began)
    means = {name: value / steps for name, value in sums.items()}
    return {"epoch": state.epoch + 1.0, **means, "lr": recipe.optimisation.lr * factor, "images_per_s": round(rate, 1)}


def _with_less_memory(attempt: Callable[[], dict[str, float]], state: _State, images: int) -> dict[str, float]:
    """Try a step; when memory runs out, halve what passes at once and try the same step again."""
    import torch

    from reid.training_step import out_of_memory

    while True:
        try:
            return attempt()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            at_once = min(state.micro_batch or images, images)
            if processes.count() > 1 or at_once <= 2:  # other processes wait for this one's part and cannot be told
                raise TrainingError(
                    f"out of memory with {at_once} images at once; lower batch.micro_batch or the input size"
                ) from error
            state.micro_batch = max(2, at_once // 2)
        # Outside of the handler: while the error lives, so do the tensors of the failed attempt.
        state.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory: going on with %d images at once", state.micro_batch)


def _tested(state: _State, data: ReidData) -> Row:
    """Scores by name, of the first process; empty without query and gallery."""
    if processes.rank():
        return {}
    found = score(state.average, data)
    return found.as_dict() if found else {}


def _saved(state: _State, about: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        "about": about,
        "epoch": state.epoch,
        "step": state.step,
        "micro_batch": state.micro_batch,
        "history": state.history,
        "trainee": state.trainee.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "random": torch.get_rng_state(),
    }


def _restore(state: _State, saved: dict[str, Any]) -> None:
    import torch

    state.trainee.load_state_dict(saved["trainee"])
    if state.moving is not None:
        state.average.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.scaler.load_state_dict(saved["scaler"])
    state.epoch, state.step, state.micro_batch = saved["epoch"], saved["step"], saved["micro_batch"]
    state.history = list(saved["history"])
    torch.set_rng_state(saved["random"])


def _precision(recipe: Recipe, device: str) -> Any:
    """The reduced type that passes are computed in, or None for fp32. On a CPU only when asked for by name: without
    hardware for it bfloat16 is tens of times slower."""
    import torch

    if recipe.precision == "auto":
        if not device.startswith("cuda"):
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if recipe.precision == "fp16" and not device.startswith("cuda"):
        raise RecipeError("precision fp16 needs a GPU; use auto or fp32 on a CPU")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]


def _distributed(trainee: Any, device: str) -> Any:
    import torch

    if processes.count() == 1:
        return trainee
    on_gpu = device.startswith("cuda")
    if on_gpu:  # batch norm over all processes, as on one machine; it has no CPU version
        convert: Any = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        trainee = convert(trainee)
    return torch.nn.parallel.DistributedDataParallel(trainee, device_ids=[torch.device(device)] if on_gpu else None)
