from __future__ import annotations

import numpy as np
import pytest

from pipeline.tracklets import Tracklet, fill_gaps, smooth


def stay(times_s: list[float], left: list[float]) -> Tracklet:
    x = np.array(left, np.float32)
    boxes = np.stack([x, np.zeros_like(x), x + 10, np.full_like(x, 20)], axis=1)
    return Tracklet("lobby", 7, np.array(times_s), boxes, np.full(len(x), 0.5, np.float32))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"camera": ""}, "camera"),
        ({"times_s": np.zeros(0)}, "times_s must be"),
        ({"times_s": np.array([1.0, 1.0])}, "rise"),
        ({"times_s": np.array([0.0, np.nan])}, "finite"),
        ({"boxes": np.zeros((2, 4))}, "boxes"),
        ({"scores": np.zeros(3, np.float32)}, "scores"),
    ],
)
def test_a_tracklet_that_does_not_fit_is_refused(change: dict[str, object], complaint: str) -> None:
    fields = {
        "camera": "lobby",
        "track_id": 7,
        "times_s": np.array([0.0, 1.0]),
        "boxes": np.zeros((2, 4), np.float32),
        "scores": np.zeros(2, np.float32),
    }
    with pytest.raises(ValueError, match=complaint):
        Tracklet(**{**fields, **change})  # type: ignore[arg-type]


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        stay([0.0, 1.0], [0, 1]).boxes[0, 0] = 5


def test_a_long_hole_stays_open_and_nothing_is_added_outside_the_stay() -> None:
    frames = np.arange(0.0, 6.0, 0.5)
    filled = fill_gaps(stay([1.0, 2.0, 4.5], [0, 10, 20]), frames, max_gap_s=1.0)
    assert filled.times_s.tolist() == [1.0, 1.5, 2.0, 4.5]
    assert filled.boxes[:, 0].tolist() == [0, 5, 10, 20]


def test_smoothing_takes_out_jitter_and_keeps_an_even_walk() -> None:
    times_s = np.arange(100) / 10
    walk = 30 * times_s
    jitter = np.random.default_rng(1).normal(0, 3, 100)
    even, shaky = stay(times_s.tolist(), walk.tolist()), stay(times_s.tolist(), (walk + jitter).tolist())
    np.testing.assert_allclose(smooth(even, 0.3).boxes, even.boxes, atol=1e-3)
    before, after = np.abs(jitter).mean(), np.abs(smooth(shaky, 0.3).boxes[:, 0] - walk).mean()
    assert after < 0.6 * before


def test_smoothing_does_not_reach_over_a_long_hole() -> None:
    apart = stay([0.0, 0.1, 0.2, 60.0, 60.1, 60.2], [0, 0, 0, 500, 500, 500])
    np.testing.assert_allclose(smooth(apart, 0.3).boxes, apart.boxes, atol=1e-3)


def test_no_smoothing_is_no_change_and_negative_is_refused() -> None:
    jumpy = stay([0.0, 0.1, 0.2, 0.3], [0, 9, 0, 9])
    assert smooth(jumpy, 0.0) is jumpy
    with pytest.raises(ValueError, match="sigma_s"):
        smooth(jumpy, -1.0)


def test_smoothed_boxes_are_boxes() -> None:
    narrow = Tracklet(
        "lobby",
        7,
        np.arange(4) / 10,
        np.array([[0, 0, 1, 1], [50, 0, 51, 1], [0, 0, 1, 1], [90, 0, 90, 1]], np.float32),
        np.ones(4, np.float32),
    )
    boxes = smooth(narrow, 0.05).boxes
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
