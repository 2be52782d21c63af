"""Which images are trained on together.

    balanced   P people with K images each: every image has K - 1 partners and (P - 1) K strangers in its batch
    triplets   an anchor, another image of its person, an image of somebody else

Both are drawn from (seed, epoch) alone, so that a resumed run goes on exactly as an uninterrupted one, with any number
of worker processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reid.augment import NO_AUGMENTATION, Augmentation, augmented
from reid.datasets import Picture, labels, read_pixels

if TYPE_CHECKING:
    from torch import Tensor

Draw = tuple[int, int]
"""A row of the images, and the number of its draw in the epoch: an image drawn twice is varied in two ways."""


def balanced_batches(
    people: NDArray[np.int64],
    people_per_batch: int,
    images_per_person: int,
    cameras: NDArray[np.int64] | None = None,
    *,
    seed: int,
    epoch: int,
) -> list[NDArray[np.intp]]:
    """Batches of P x K rows: P different people, K rows of each one after the other (a person with fewer images
    repeats some). Every image comes at least once in an epoch.

    people   (N,) who each image shows
    cameras  (N,) which camera took it: a person's K images are then from as many cameras as possible, because two of
             one stay share their background and teach little

    Raises ValueError for fewer than P people, P < 2 or K < 2.

    >>> batches = balanced_batches(np.repeat([7, 8, 9], 4), 2, 2, seed=0, epoch=0)
    >>> len(batches), batches[0].shape
    (3, (4,))
    """
    who = np.unique(people)
    if people_per_batch < 2 or images_per_person < 2:
        raise ValueError(f"a batch needs 2 people with 2 images, got {people_per_batch} x {images_per_person}")
    if len(who) < people_per_batch:
        raise ValueError(f"a batch of {people_per_batch} people cannot be drawn from {len(who)}; lower batch.people")
    rng = np.random.default_rng([seed, 1, epoch])
    seen_by = np.zeros(len(people), np.int64) if cameras is None else cameras
    groups: dict[int, deque[NDArray[np.intp]]] = {}
    for person in who.tolist():
        rows = np.flatnonzero(people == person)
        groups[person] = deque(_groups(rng, rows, seen_by[rows], images_per_person))
    spare = {person: list(own) for person, own in groups.items()}
    batches = []
    while left := [person for person, own in groups.items() if own]:
        # Those with most to come first, else the last batches would hold the same few people again and again.
        weight = np.array([len(groups[person]) for person in left], np.float64) + rng.uniform(0, 0.9, len(left))
        chosen = [left[n] for n in np.argsort(-weight)[:people_per_batch]]
        picked = [groups[person].popleft() for person in chosen]
        others = [person for person in groups if person not in chosen]
        for person in rng.permutation(others)[: people_per_batch - len(chosen)].tolist():
            picked.append(spare[person][int(rng.integers(len(spare[person])))])
        batches.append(np.concatenate([picked[n] for n in rng.permutation(len(picked))]))
    return [batches[n] for n in rng.permutation(len(batches))]


def _groups(
    rng: np.random.Generator, rows: NDArray[np.intp], cameras: NDArray[np.int64], size: int
) -> list[NDArray[np.intp]]:
    """One person's rows, shuffled, camera after camera in turn, in groups of that size; the last is filled up."""
    order = rng.permutation(len(rows))
    turn = np.zeros(len(rows), np.int64)
    for camera in np.unique(cameras):
        own = order[cameras[order] == camera]
        turn[own] = np.arange(len(own))
    shuffled = rows[order[np.argsort(turn[order], kind="stable")]]
    missing = -len(shuffled) % size
    filled = np.concatenate([shuffled, np.resize(shuffled, missing)]) if missing else shuffled
    return list(filled.reshape(-1, size))


@dataclass(frozen=True, eq=False)
class TripletDataset:
    """Anchor, positive, negative: a map-style dataset with one triplet per image in an epoch.

    pictures  at least two images of each person and at least two people, else ValueError
    size_px   (height, width) of what the network sees

    `dataset[n]` is ((3, 3, H, W) uint8 images, (3,) int64 people): image n, another image of the same person, and an
    image of another person who is drawn with equal chances, however many images they have.
    """

    pictures: Sequence[Picture]
    size_px: tuple[int, int]
    how: Augmentation = NO_AUGMENTATION
    seed: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        people, _ = labels(self.pictures)
        who, images = np.unique(people, return_counts=True)
        if len(who) < 2 or images.min() < 2:
            raise ValueError("triplets need at least two people and two images of each")
        order = np.argsort(people, kind="stable")
        object.__setattr__(self, "_people", people)
        object.__setattr__(self, "_rows", dict(zip(who.tolist(), np.split(order, np.cumsum(images)[:-1]), strict=True)))

    def __len__(self) -> int:
        return len(self.pictures)

    def rows(self, anchor: int) -> tuple[int, int, int]:
        """The rows of anchor, positive and negative."""
        rows: dict[int, NDArray[np.intp]] = self.__dict__["_rows"]
        person = self.pictures[anchor].person
        rng = np.random.default_rng([self.seed, 2, self.epoch, anchor])
        partners = rows[person][rows[person] != anchor]
        strangers = [other for other in rows if other != person]
        own = rows[strangers[int(rng.integers(len(strangers)))]]
        return anchor, int(rng.choice(partners)), int(rng.choice(own))

    def __getitem__(self, anchor: int) -> tuple[Tensor, Tensor]:
        import torch

        rows = self.rows(anchor)
        images = [
            augmented(read_pixels(self.pictures[row].path), self.size_px, self.how, _seed(self, anchor * 3 + n))
            for n, row in enumerate(rows)
        ]
        return torch.stack(images), torch.tensor([self.pictures[row].person for row in rows])


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Single images by `Draw`: `dataset[row, number]` is ((3, H, W) uint8, person)."""

    pictures: Sequence[Picture]
    size_px: tuple[int, int]
    how: Augmentation = NO_AUGMENTATION
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        row, number = draw
        picture = self.pictures[row]
        return augmented(read_pixels(picture.path), self.size_px, self.how, _seed(self, number)), picture.person


def triplet_batches(images: int, anchors_per_batch: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Every image is an anchor once, in batches of so many (the last may be smaller).

    >>> [len(batch) for batch in triplet_batches(5, 2, seed=0, epoch=0)]
    [2, 2, 1]
    """
    order = np.random.default_rng([seed, 3, epoch]).permutation(images).tolist()
    return [order[n : n + anchors_per_batch] for n in range(0, images, anchors_per_batch)]


def _seed(dataset: TripletDataset | ImageDataset, number: int) -> int:
    return int(np.random.SeedSequence([dataset.seed, 4, dataset.epoch, number]).generate_state(1, np.uint64)[0] >> 1)
