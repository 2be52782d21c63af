"""Balanced batches and triplets: always P people with K images, nobody forgotten, drawn from the seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.datasets import Picture
from reid.sampling import TripletDataset, balanced_batches, triplet_batches

COUNTS = st.lists(st.integers(1, 9), min_size=2, max_size=12)


@given(COUNTS, st.integers(2, 5), st.integers(2, 5), st.integers(0, 9), st.booleans())
def test_every_batch_is_balanced_and_every_image_comes(counts, people_per_batch, images, epoch, by_camera):
    people = np.repeat(np.arange(len(counts)), counts)
    cameras = np.arange(len(people)) % 3 if by_camera else None
    if len(counts) < people_per_batch:
        with pytest.raises(ValueError, match="cannot be drawn"):
            balanced_batches(people, people_per_batch, images, cameras, seed=1, epoch=epoch)
        return
    batches = balanced_batches(people, people_per_batch, images, cameras, seed=1, epoch=epoch)
    for rows in batches:
        groups = people[rows].reshape(people_per_batch, images)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0])) == people_per_batch
    assert set(np.concatenate(batches)) == set(range(len(people)))
    again = balanced_batches(people, people_per_batch, images, cameras, seed=1, epoch=epoch)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_a_persons_images_come_from_as_many_cameras_as_there_are():
    people, cameras = np.repeat([1, 2, 3], 12), np.tile(np.repeat([0, 1, 2, 3], 3), 3)
    for rows in balanced_batches(people, 2, 4, cameras, seed=3, epoch=0):
        assert all(len(set(group)) == 4 for group in cameras[rows].reshape(2, 4))


def test_epochs_and_seeds_differ():
    people = np.repeat(np.arange(6), 5)
    drawn = [
        np.concatenate(balanced_batches(people, 3, 2, seed=seed, epoch=epoch)).tolist()
        for seed, epoch in ((1, 0), (1, 1), (2, 0))
    ]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def pictures(counts):
    return [Picture(Path(f"{p}_{n}.jpg"), p, n % 2) for p, count in enumerate(counts) for n in range(count)]


@given(st.lists(st.integers(2, 6), min_size=2, max_size=8), st.integers(0, 5))
def test_triplets_are_two_of_one_person_and_one_of_another(counts, epoch):
    dataset = TripletDataset(pictures(counts), (8, 4), seed=4, epoch=epoch)
    for anchor in range(len(dataset)):
        rows = dataset.rows(anchor)
        who = [dataset.pictures[row].person for row in rows]
        assert rows[0] == anchor != rows[1]
        assert who[0] == who[1] != who[2]
        assert dataset.rows(anchor) == rows


@given(st.integers(1, 40), st.integers(1, 9))
def test_every_image_is_an_anchor_once(images, anchors):
    batches = triplet_batches(images, anchors, seed=1, epoch=2)
    assert sorted(n for batch in batches for n in batch) == list(range(images))


def test_triplets_need_two_images_and_two_people():
    for counts in ([2, 1], [4]):
        with pytest.raises(ValueError, match="at least two people and two images"):
            TripletDataset(pictures(counts), (8, 4))
    with pytest.raises(ValueError, match="2 people with 2 images"):
        balanced_batches(np.array([1, 1, 2, 2]), 1, 2, seed=0, epoch=0)
