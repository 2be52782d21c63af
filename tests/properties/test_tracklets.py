"""Filling and smoothing agree with the slow way of doing it, for any frame times."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tracklet_mending as oracle

from pipeline.tracklets import Tracklet, fill_gaps, smooth_boxes


@st.composite
def stays(draw: st.DrawFn) -> tuple[Tracklet, np.ndarray]:
    """A tracklet seen in some of a camera's frames, and the times of all frames."""
    steps_ms = draw(st.lists(st.integers(20, 900), min_size=1, max_size=25))
    frame_times_s = np.cumsum(np.array(steps_ms, np.float64)) / 1000
    seen = np.array(draw(st.lists(st.booleans(), min_size=len(steps_ms), max_size=len(steps_ms))))
    seen[draw(st.integers(0, len(seen) - 1))] = True
    times_s = frame_times_s[seen]
    corners = np.array(draw(st.lists(st.integers(0, 500), min_size=4 * len(times_s), max_size=4 * len(times_s))))
    boxes = corners.reshape(-1, 4).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.linspace(0.9, 0.1, len(times_s)).astype(np.float32)
    return Tracklet("lobby", 1, times_s, boxes, scores), frame_times_s


@given(stays(), st.floats(0, 3))
def test_fill_gaps_is_the_slow_fill(stay: tuple[Tracklet, np.ndarray], max_gap_s: float) -> None:
    tracklet, frame_times_s = stay
    filled = fill_gaps(tracklet, frame_times_s, max_gap_s)
    expected = oracle.fill_gaps(tracklet, frame_times_s, max_gap_s)
    assert filled.times_s.tolist() == [row[0] for row in expected]
    np.testing.assert_allclose(filled.boxes, [row[1] for row in expected], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(filled.scores, [row[2] for row in expected])


@settings(max_examples=60)
@given(st.lists(stays(), min_size=1, max_size=3), st.floats(0.05, 2), st.randoms(use_true_random=False))
def test_smooth_boxes_is_the_slow_smooth(
    several: list[tuple[Tracklet, np.ndarray]], sigma_s: float, random: Random
) -> None:
    tracklets = [tracklet for tracklet, _ in several]
    track_ids = np.repeat(np.arange(len(tracklets)), [len(tracklet) for tracklet in tracklets])
    times_s = np.concatenate([tracklet.times_s for tracklet in tracklets])
    boxes = np.concatenate([tracklet.boxes for tracklet in tracklets])
    rows = random.sample(range(len(boxes)), len(boxes))  # the order of the rows must not matter
    columns = track_ids[rows], times_s[rows], boxes[rows]
    smoothed = smooth_boxes(*columns, sigma_s)
    np.testing.assert_allclose(smoothed, oracle.smooth_boxes(*columns, sigma_s), rtol=1e-4, atol=0.05)
