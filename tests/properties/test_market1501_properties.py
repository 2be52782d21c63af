"""The fast paper mode equals its slow oracle; the fit without labels finds what made the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import oracle_market1501 as oracle

from st_model import paper
from st_model.market1501 import CAMERAS, MarketImages, image_gaps, mean_gaps
from st_model.unlabelled_fit import fit_by_delays

# Frames in multiples of 50 make gaps that are exact multiples of a bin, and equal times.
IMAGES = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.integers(0, CAMERAS - 1),
        st.one_of(st.integers(0, 60).map(lambda k: 50 * k), st.integers(0, 3000)),
    ),
    min_size=1,
    max_size=25,
)


def images_of(triples):
    columns = np.array(triples, np.int64).reshape(-1, 3).T
    return MarketImages(*(np.ascontiguousarray(c) for c in columns))


@given(IMAGES)
@settings(max_examples=60, deadline=None)
def test_counts_equal_the_oracle(triples):
    fast = paper.histogram(*mean_gaps(images_of(triples)))
    slow = np.array(oracle.counts(triples, CAMERAS, 40, paper.BIN_FRAMES))
    assert np.array_equal(fast[:, :, :40], slow)
    assert not fast[:, :, 40:].any()


@given(st.lists(st.integers(0, 3), min_size=5, max_size=60), st.sampled_from([0.7, 2.0, 5.0]))
@settings(max_examples=60, deadline=None)
def test_smoothing_equals_the_oracle(row, sigma):
    fast = paper.parzen(np.array([row], np.float64), sigma)[0]
    slow = oracle.smooth(row, sigma)
    assert np.abs(fast - slow).max() < 1e-12
    assert (fast >= 0).all()
    assert not any(row) or abs(fast.sum() - 1) < 1e-5


@given(IMAGES, IMAGES)
@settings(max_examples=40, deadline=None)
def test_look_up_equals_the_oracle(some, others):
    density = np.random.default_rng(0).random((CAMERAS, CAMERAS, 10))
    density[np.arange(CAMERAS), np.arange(CAMERAS)] = 0
    found = paper.delay_table(density).dense(images_of(some), images_of(others))
    for row, (_, camera, frame) in zip(found, some, strict=True):
        for value, (_, other_camera, other_frame) in zip(row, others, strict=True):
            want = oracle.probability(density, (camera, frame), (other_camera, other_frame), paper.BIN_FRAMES)
            assert value == np.float32(want)


@given(IMAGES, IMAGES, st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_joint_equals_the_oracle(some, others, seed):
    queries, gallery = images_of(some), images_of(others)
    density = np.random.default_rng(1).random((CAMERAS, CAMERAS, 10)) / 50
    cosine = np.random.default_rng(seed).uniform(-1, 1, (len(queries), len(gallery)))
    fast = paper.join_paper(cosine.copy(), paper.paper_weights(density, np.float64), queries, gallery)
    short = paper.join_paper(cosine.astype(np.float32), paper.paper_weights(density), queries, gallery)
    assert np.abs(short - fast).max() < 1e-6
    for i, (_, camera, frame) in enumerate(some):
        for j, (_, other_camera, other_frame) in enumerate(others):
            p = oracle.probability(density, (camera, frame), (other_camera, other_frame), paper.BIN_FRAMES)
            assert fast[i, j] == pytest.approx(oracle.joint(float(cosine[i, j]), p), abs=1e-12)


@given(IMAGES)
@settings(max_examples=40, deadline=None)
def test_image_gaps_weigh_one_per_person_and_pair(triples):
    to, frm, gap, weight = image_gaps(images_of(triples))
    assert (gap >= 0).all()
    assert (to != frm).all()
    pairs = {(p, *sorted((a, b))) for p, a, _ in triples for q, b, _ in triples if p == q and a != b}
    assert weight.sum() == pytest.approx(len(pairs))


@given(st.integers(0, 2**32 - 1), st.integers(-(10**6), 10**6))
@settings(max_examples=20, deadline=None)
def test_shifting_all_clocks_changes_no_score(seed, shift):
    rng = np.random.default_rng(seed)
    images = MarketImages(rng.integers(1, 9, 40), rng.integers(0, CAMERAS, 40), rng.integers(10**6, 10**6 + 5000, 40))
    later = MarketImages(images.person, images.camera, images.frame + shift)
    ratio, shifted = paper.calibrated_ratio(images, images), paper.calibrated_ratio(later, later)
    assert np.allclose(ratio.dense(images, images), shifted.dense(later, later), rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_calibrated_ratio_says_nothing_on_average(seed):
    rng = np.random.default_rng(seed)
    images = MarketImages(rng.integers(1, 20, 200), rng.integers(0, CAMERAS, 200), rng.integers(0, 50_000, 200))
    ratio = paper.calibrated_ratio(images, images).dense(images, images)
    assert (ratio > 0).all()
    assert ratio[images.camera[:, None] != images.camera].mean() == pytest.approx(1, abs=1e-3)
    assert ratio[images.camera[:, None] == images.camera] == pytest.approx(paper.CALIBRATED_FLOOR)


@given(st.floats(5, 60), st.floats(0.4, 0.7), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_fit_without_labels_finds_the_slope_that_made_the_data(slope, even, seed):
    rng = np.random.default_rng(seed)
    similarity = rng.uniform(even - 4 / slope, even + 4 / slope, 40_000)
    same = rng.random(40_000) < 1 / (1 + np.exp(-slope * (similarity - even)))
    # Delays: strangers uniform over ten bins, one person mostly in the first two.
    density = np.array([0.4, 0.4] + [0.025] * 8)
    delay = np.where(same, rng.choice(10, 40_000, p=density), rng.integers(0, 10, 40_000))
    found = fit_by_delays(similarity, 10 * density[delay])
    assert found.slope == pytest.approx(slope, rel=0.15)
    assert -found.intercept / found.slope == pytest.approx(even, abs=0.5 / slope)
