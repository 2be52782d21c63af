"""How a network is trained: plain values, checked. The defaults are the design's (Adam 1e-4, in-batch softmax loss).

RecipeError (ValueError)   values that do not fit each other
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from reid.augment import Augmentation


class RecipeError(ValueError):
    """Values of a recipe that do not fit each other or the data."""


@dataclass(frozen=True)
class Batch:
    """Which images are trained on together (`reid.sampling`).

    sampling     balanced: `people` x `images` of each; triplets: `people` anchors with a positive and a negative
    micro_batch  images that go through the network at once; None: all. Gradients are those of the whole batch (but for
                 batch norm, which sees a micro-batch), at the price of a second forward pass
    workers      processes that read images; None: none on a CPU, up to 16 with a GPU
    """

    sampling: str = "balanced"
    people: int = 16
    images: int = 4
    micro_batch: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.sampling not in ("balanced", "triplets"):
            raise ValueError(f"sampling must be balanced or triplets, got {self.sampling!r}")
        if self.people < 2 or self.images < 2:
            raise ValueError(f"people and images must be at least 2, got {self.people} and {self.images}")
        if (self.micro_batch is not None and self.micro_batch < 2) or (self.workers is not None and self.workers < 0):
            raise ValueError("micro_batch must be at least 2 (batch norm needs two images), workers at least 0")


@dataclass(frozen=True)
class Losses:
    """Weights of the three losses (`reid.losses`), 0 leaves one out, and their parameters.

    scale, margin, smoothing   of info_nce, of the triplet loss, of the identity loss
    """

    info_nce: float = 1.0
    triplet: float = 0.0
    identity: float = 0.0
    scale: float = 16.0
    margin: float = 0.3
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if min(self.info_nce, self.triplet, self.identity) < 0 or self.info_nce + self.triplet + self.identity <= 0:
            raise ValueError("weights of info_nce, triplet and identity must be at least 0, and one of them positive")
        if self.scale <= 0 or self.margin < 0 or not 0 <= self.smoothing < 1:
            raise ValueError("scale must be positive, margin at least 0, smoothing in [0, 1)")


@dataclass(frozen=True)
class Optimisation:
    """How weights move.

    name           adam, or sgd (Nesterov momentum .9, as PCB was published)
    lr             highest learning rate
    heads_lr       learning rate of everything that is not a backbone, in multiples of `lr` (PCB: 10)
    weight_decay   L2 penalty
    warmup_epochs  the rate rises in a straight line over so many epochs
    schedule       cosine: then falls to 0; step: to a tenth after every `step_epochs`
    """

    name: str = "adam"
    lr: float = 1e-4
    heads_lr: float = 1.0
    weight_decay: float = 5e-4
    warmup_epochs: float = 3.0
    schedule: str = "cosine"
    step_epochs: int = 40

    def __post_init__(self) -> None:
        if self.name not in ("adam", "sgd") or self.schedule not in ("cosine", "step"):
            raise ValueError("name must be adam or sgd, schedule cosine or step")
        if self.lr <= 0 or self.heads_lr <= 0 or min(self.weight_decay, self.warmup_epochs) < 0 or self.step_epochs < 1:
            raise ValueError("lr and heads_lr must be positive, weight_decay and warmup_epochs not negative")


@dataclass(frozen=True)
class Recipe:
    """Everything but the data and the network.

    epochs          passes over all training images
    ema_decay       share of the old in the moving average of the weights, which is what is tested and saved (it starts
                    low and rises to this); 0: the weights themselves
    precision       auto: bfloat16 or float16 where the GPU has it, else fp32; fp32, bf16, fp16
    evaluate_every  epochs between tests on query and gallery; the first state and the last are always tested
    """

    epochs: int = 60
    seed: int = 1
    batch: Batch = field(default_factory=Batch)
    losses: Losses = field(default_factory=Losses)
    optimisation: Optimisation = field(default_factory=Optimisation)
    augmentation: Augmentation = field(default_factory=Augmentation)
    ema_decay: float = 0.999
    precision: str = "auto"
    evaluate_every: int = 5

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.evaluate_every < 1 or self.seed < 0 or not 0 <= self.ema_decay < 1:
            raise ValueError("epochs and evaluate_every must be at least 1, seed at least 0, ema_decay in [0, 1)")
        if self.precision not in ("auto", "fp32", "bf16", "fp16"):
            raise ValueError(f"precision must be auto, fp32, bf16 or fp16, got {self.precision!r}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, nested as the configuration file is."""
        return asdict(self)


def rate_factor(how: Optimisation, progress_epochs: float, epochs: int) -> float:
    """Share of the highest learning rate after so many epochs (a fraction counts), in [0, 1].

    >>> how = Optimisation(warmup_epochs=2)
    >>> [round(rate_factor(how, epoch, 10), 3) for epoch in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = min(how.warmup_epochs, epochs / 2)
    if progress_epochs < warmup:
        return progress_epochs / warmup
    if how.schedule == "step":
        return float(0.1 ** int(progress_epochs // how.step_epochs))
    done = min(1.0, (progress_epochs - warmup) / max(epochs - warmup, 1e-9))
    return 0.5 * (1 + math.cos(math.pi * done))
