"""The losses of training equal their slow loops, and behave as losses must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import oracle_losses as slow

torch = pytest.importorskip("torch")

from reid.losses import batch_hard_triplet, identity_loss, info_nce  # noqa: E402


@st.composite
def batches(draw, *, pairs: bool = True):
    """(N, E) unit rows in float64 and (N,) people, at least one of them twice when `pairs`."""
    people = draw(st.lists(st.integers(0, 4), min_size=2, max_size=9))
    if pairs:
        people.append(people[0])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = rng.normal(size=(len(people), draw(st.integers(2, 5))))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), people


def tensors(batch):
    rows, people = batch
    return torch.tensor(rows, dtype=torch.float32, requires_grad=True), torch.tensor(people)


@given(batches(), st.floats(0.1, 30))
def test_info_nce_equals_its_loop(batch, scale):
    value = info_nce(*tensors(batch), scale)
    assert float(value.detach()) == pytest.approx(slow.info_nce(*batch, scale), rel=1e-4, abs=1e-5)
    assert value >= 0


@given(batches(pairs=False), st.floats(0, 2))
def test_batch_hard_triplet_equals_its_loop(batch, margin):
    value = batch_hard_triplet(*tensors(batch), margin)
    assert float(value.detach()) == pytest.approx(slow.batch_hard_triplet(*batch, margin), abs=2e-3)
    assert value >= 0


@given(st.integers(1, 5), st.integers(1, 3), st.integers(2, 6), st.floats(0, 0.9), st.integers(0, 2**32))
@example(images=1, parts=1, classes=2, smoothing=0.0, seed=3)
def test_the_identity_loss_equals_its_loop(images, parts, classes, smoothing, seed):
    rng = np.random.default_rng(seed)
    logits, wanted = rng.normal(0, 3, (images, parts, classes)), rng.integers(0, classes, images)
    value = identity_loss(torch.tensor(logits, dtype=torch.float32), torch.tensor(wanted), smoothing)
    expected = slow.identity_loss(logits.tolist(), wanted.tolist(), smoothing)
    assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-6)  # near 0 float32 knows no more


@given(batches(), st.randoms())
def test_the_order_of_a_batch_says_nothing(batch, random):
    rows, people = batch
    order = random.sample(range(len(people)), len(people))
    other = rows[order], [people[n] for n in order]
    for loss in (info_nce, batch_hard_triplet):
        assert float(loss(*tensors(batch)).detach()) == pytest.approx(float(loss(*tensors(other)).detach()), abs=1e-5)


@given(batches())
def test_slopes_are_finite_also_where_embeddings_are_equal(batch):
    rows, people = batch
    rows, people = np.concatenate([rows, rows[:1]]), [*people, people[0]]
    for loss in (info_nce, batch_hard_triplet):
        leaf, names = tensors((rows, people))
        loss(leaf, names).backward()
        assert torch.isfinite(leaf.grad).all()


@given(batches())
def test_a_step_downhill_makes_the_softmax_loss_smaller(batch):
    leaf, names = tensors(batch)
    value = info_nce(leaf, names, 4.0)
    value.backward()
    after = info_nce((leaf - 1e-3 * leaf.grad).detach(), names, 4.0)
    assert float(after) <= float(value.detach()) + 1e-6


def test_what_cannot_be_compared_is_said():
    rows = torch.eye(3)
    with pytest.raises(ValueError, match="two images"):
        info_nce(rows, torch.tensor([1, 2, 3]))
    assert info_nce(rows, torch.tensor([1, 1, 1])) == 0
    assert batch_hard_triplet(rows, torch.tensor([1, 2, 3])) == 0
    for loss in (info_nce, batch_hard_triplet):
        with pytest.raises(ValueError, match=r"\(N, E\)"):
            loss(rows, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="scale"):
        info_nce(rows, torch.tensor([1, 1, 1]), 0)
    with pytest.raises(ValueError, match="margin"):
        batch_hard_triplet(rows, torch.tensor([1, 1, 1]), -1)
    with pytest.raises(ValueError, match=r"\(N, K, C\)"):
        identity_loss(rows, torch.tensor([1, 2, 0]))
