"""Batches of images for training, read by this process or by workers beside it."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

from reid import processes
from reid.datasets import ReidData, labels
from reid.recipe import Recipe
from reid.sampling import ImageDataset, TripletDataset, balanced_batches, triplet_batches

if TYPE_CHECKING:
    from torch import Tensor


def batches(data: ReidData, recipe: Recipe, architecture: Any, epoch: int, device: str) -> Any:
    """A DataLoader of one epoch, this process's share: (n, 3, H, W) uint8 images and (n,) people. All processes draw
    the same batches and divide each among them."""
    from torch.utils.data import DataLoader

    batch, common = recipe.batch, {"seed": recipe.seed, "epoch": epoch}
    size_px = (architecture.height_px, architecture.width_px)
    rank, shares = processes.rank(), processes.count()
    on_gpu = device.startswith("cuda")
    workers = batch.workers if batch.workers is not None else min(16, cpus()) * on_gpu
    options: dict[str, Any] = {"num_workers": workers, "pin_memory": on_gpu}
    if workers:
        # A fork of this process would copy the locks its threads hold just then, and could wait for them for ever.
        clean = multiprocessing.get_context("forkserver")
        clean.set_forkserver_preload(["cv2", "torch", "reid.sampling"])
        options |= {"worker_init_fn": _one_thread, "multiprocessing_context": clean}
    if batch.sampling == "triplets":
        drawn = triplet_batches(len(data.train), batch.people, **common)
        drawn = [rows[: len(rows) // shares * shares][rank::shares] for rows in drawn]

        triplets = TripletDataset(data.train, size_px, recipe.augmentation, **common)
        return DataLoader(triplets, batch_sampler=[rows for rows in drawn if rows], collate_fn=_join, **options)  # type: ignore[arg-type]
    people, cameras = labels(data.train)
    numbered: list[list[tuple[int, int]]] = []
    share = batch.people * batch.images // shares
    for n, rows in enumerate(balanced_batches(people, batch.people, batch.images, cameras, **common)):
        draws = [(int(row), n * len(rows) + m) for m, row in enumerate(rows)]
        numbered.append(draws[rank * share : (rank + 1) * share])
    images = ImageDataset(data.train, size_px, recipe.augmentation, **common)
    return DataLoader(images, batch_sampler=numbered, **options)  # type: ignore[arg-type]


def cpus() -> int:
    """CPUs that this process may use: in a container often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _join(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    import torch

    return torch.cat([images for images, _ in items]), torch.cat([people for _, people in items])


def _one_thread(_: int) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
