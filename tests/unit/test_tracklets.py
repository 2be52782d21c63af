from __future__ import annotations

import numpy as np
import pytest

from pipeline.tracklets import Tracklet, fill_gaps, smooth_boxes


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


def smoothed(tracklet: Tracklet, sigma_s: float) -> np.ndarray:
    return smooth_boxes(np.full(len(tracklet), tracklet.track_id), tracklet.times_s, tracklet.boxes, sigma_s)


def test_smoothing_takes_out_jitter_and_keeps_an_even_walk() -> None:
    times_s = np.arange(100) / 10
    walk = 30 * times_s
    jitter = np.random.default_rng(1).normal(0, 3, 100)
    even, shaky = stay(times_s.tolist(), walk.tolist()), stay(times_s.tolist(), (walk + jitter).tolist())
    np.testing.assert_allclose(smoothed(even, 0.3), even.boxes, atol=1e-3)
    before, after = np.abs(jitter).mean(), np.abs(smoothed(shaky, 0.3)[:, 0] - walk).mean()
    assert after < 0.6 * before


def test_smoothing_does_not_reach_over_a_long_hole() -> None:
    apart = stay([0.0, 0.1, 0.2, 60.0, 60.1, 60.2], [0, 0, 0, 500, 500, 500])
    np.testing.assert_allclose(smoothed(apart, 0.3), apart.boxes, atol=1e-3)


def test_tracks_do_not_smooth_each_other() -> None:
    one, other = stay([0.0, 0.1, 0.2], [0, 0, 0]), stay([0.1, 0.2, 0.3], [500, 500, 500])
    both = smooth_boxes(
        np.array([1, 1, 1, 2, 2, 2]),
        np.concatenate([one.times_s, other.times_s]),
        np.concatenate([one.boxes, other.boxes]),
        0.3,
    )
    np.testing.assert_allclose(both, np.concatenate([one.boxes, other.boxes]), atol=1e-3)


def test_clock_times_of_today_lose_no_precision() -> None:
    times_s = np.arange(50) / 25
    shaky = stay(times_s.tolist(), np.random.default_rng(2).normal(100, 3, 50).tolist())
    today = smooth_boxes(np.full(50, 7), times_s + 1.8e9, shaky.boxes, 0.2)
    np.testing.assert_allclose(today, smoothed(shaky, 0.2), atol=0.01)


def test_no_smoothing_is_no_change_and_negative_is_refused() -> None:
    jumpy = stay([0.0, 0.1, 0.2, 0.3], [0, 9, 0, 9])
    assert (smoothed(jumpy, 0.0) == jumpy.boxes).all()
    with pytest.raises(ValueError, match="sigma_s"):
        smoothed(jumpy, -1.0)


def test_nothing_to_smooth() -> None:
    assert smooth_boxes(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4), np.float32), 0.3).shape == (0, 4)


def test_smoothed_boxes_are_boxes() -> None:
    narrow = np.array([[0, 0, 1, 1], [50, 0, 51, 1], [0, 0, 1, 1], [90, 0, 90, 1]], np.float32)
    boxes = smooth_boxes(np.full(4, 7), np.arange(4) / 10, narrow, 0.05)
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
