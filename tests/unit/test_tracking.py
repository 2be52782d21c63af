"""Single-camera tracking on synthetic walkers: numbers, times, holes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from detectors.detections import Detections
from pipeline.tracking import CameraTracker, TrackerSettings, Tracks

SPEED_PX_S = 100.0  # a person 160 px tall who walks 1.1 m/s


def person(left: float, score: float = 0.9, top: float = 100.0) -> tuple[float, ...]:
    return (left, top, left + 60, top + 160, score)


def boxes(*people: tuple[float, ...]) -> Detections:
    rows = np.array(people, np.float32).reshape(-1, 5)
    return Detections(rows[:, :4].copy(), rows[:, 4].copy())


def tracker(new_id: Callable[[], int] | None = None, camera: str = "lobby", **settings: object) -> CameraTracker:
    return CameraTracker(camera, TrackerSettings(**settings), new_id or itertools.count(1).__next__)  # type: ignore[arg-type]


def walk(
    subject: CameraTracker, times_s: Iterable[float], unseen: Callable[[float], bool] = lambda t: False
) -> list[Tracks]:
    """One person walks from left to right; `unseen` says when the detector misses them."""
    return [
        subject.update(n, t, None, boxes() if unseen(t) else boxes(person(SPEED_PX_S * t)))
        for n, t in enumerate(times_s)
    ]


def ids(seen: Iterable[Tracks]) -> set[int]:
    return {number for tracks in seen for number in tracks.track_ids.tolist()}


@pytest.mark.parametrize("method", ["bytetrack", "botsort"])
@pytest.mark.parametrize("rate_hz", [5, 7, 12.5, 25, 30, 60])
def test_a_walker_is_one_track_at_any_rate(method: str, rate_hz: float) -> None:
    seen = walk(tracker(method=method), np.arange(0, 5, 1 / rate_hz))
    assert ids(seen) == {1}
    assert all(len(tracks) == 1 for tracks in seen[2:])


@pytest.mark.parametrize("rate_hz", [5, 7, 12.5, 25, 30])
def test_a_walker_hidden_for_a_second_keeps_the_track(rate_hz: float) -> None:
    subject = tracker(lost_s=2.0)
    seen = walk(subject, np.arange(0, 6, 1 / rate_hz), unseen=lambda t: 2.0 <= t < 3.0)
    assert ids(seen) == {1}
    assert subject.closed() == []
    assert len(seen[-1]) == 1


def test_irregular_frames_keep_the_track() -> None:
    rng = np.random.default_rng(3)
    times_s = np.cumsum(rng.choice([0.04, 0.1, 0.25, 0.5], 60))
    assert ids(walk(tracker(), times_s)) == {1}


def test_two_people_who_pass_each_other_stay_two() -> None:
    subject = tracker()
    last = [
        subject.update(n, n / 10, None, boxes(person(10.0 * n), person(600 - 10.0 * n, top=180))) for n in range(60)
    ][-1]
    left_to_right = last.track_ids[np.argmax(last.boxes[:, 0])]
    assert sorted(last.track_ids.tolist()) == [1, 2]
    assert left_to_right == 1


@pytest.mark.parametrize("rate_hz", [5, 25])
def test_a_track_is_closed_by_the_clock_not_by_frames(rate_hz: float) -> None:
    subject = tracker(lost_s=2.0)
    closed_s = None
    for n, t in enumerate(np.arange(0, 8, 1 / rate_hz)):
        subject.update(n, float(t), None, boxes(person(SPEED_PX_S * t)) if t < 2 else boxes())
        if subject.closed() == [1]:
            closed_s = t
            break
    last_seen_s = 2 - 1 / rate_hz
    assert closed_s is not None
    assert 2.0 < closed_s - last_seen_s <= 2.0 + 1.001 / rate_hz


def test_a_hole_in_time_closes_every_track() -> None:
    subject = tracker(lost_s=2.0)
    for n in range(10):
        subject.update(n, n / 10, None, boxes(person(10.0 * n), person(500 + 10.0 * n)))
    assert subject.closed() == []
    after = [subject.update(100 + n, 60 + n / 10, None, boxes(person(100.0 + 10 * n))) for n in range(5)]
    assert sorted(subject.closed()) == [1, 2]
    assert ids(after) == {3}


def test_finish_closes_what_is_open_or_lost_and_says_it_once() -> None:
    subject = tracker(lost_s=5.0)
    for n in range(10):
        subject.update(n, n / 10, None, boxes(person(10.0 * n), person(500.0)) if n < 5 else boxes(person(10.0 * n)))
    assert sorted(subject.finish()) == [1, 2]
    assert subject.finish() == []
    assert subject.closed() == []


def test_time_must_rise() -> None:
    subject = tracker(camera="exit")
    subject.update(0, 1.0, None, boxes())
    with pytest.raises(ValueError, match=r"camera exit: frame 1 at 1\.0 s is not later"):
        subject.update(1, 1.0, None, boxes())


def test_nobody_is_no_track() -> None:
    subject = tracker()
    for n in range(20):
        tracks = subject.update(n, n / 10, None, Detections.none())
        assert tracks.track_ids.shape == (0,) and tracks.track_ids.dtype == np.int64
        assert tracks.boxes.shape == (0, 4) and tracks.boxes.dtype == np.float32
        assert tracks.scores.shape == (0,) and tracks.scores.dtype == np.float32
    assert subject.finish() == []


def test_boxes_without_area_are_no_persons() -> None:
    subject = tracker()
    for n in range(5):
        assert len(subject.update(n, n / 10, None, boxes((10, 10, 10, 50, 0.9), (10, 10, 50, 10, 0.9)))) == 0


def test_tracks_are_the_detectors_boxes_and_scores() -> None:
    subject = tracker()
    for n in range(5):
        found = boxes(person(300.0, 0.8), person(10.0 * n, 0.9))
        tracks = subject.update(n, n / 10, None, found)
    assert {tuple(box) for box in tracks.boxes.tolist()} == {tuple(box) for box in found.boxes.tolist()}
    assert sorted(tracks.scores.tolist()) == sorted(found.scores.tolist())


def test_a_weak_box_continues_a_track_and_never_starts_one() -> None:
    settings = TrackerSettings()
    weak = (settings.low_score + settings.high_score) / 2
    subject = tracker()
    for n in range(20):
        people = [person(10.0 * n, 0.9 if n < 8 else weak), person(600.0, weak)]
        tracks = subject.update(n, n / 10, None, boxes(*people))
    assert tracks.track_ids.tolist() == [1]
    assert tracks.scores.tolist() == pytest.approx([weak])


def test_a_box_seen_once_is_no_track() -> None:
    subject = tracker()
    for n in range(10):
        subject.update(n, n / 10, None, boxes(person(10.0 * n), *([person(600.0)] if n == 5 else [])))
    assert subject.finish() == [1]


def test_numbers_are_shared_by_no_two_cameras_or_stays() -> None:
    new_id = itertools.count(1).__next__
    cameras = {name: tracker(new_id, camera=name) for name in ("a", "b", "c")}
    numbers: dict[str, set[int]] = {name: set() for name in cameras}
    n = 0
    for stay in range(4):
        for frame in range(10):
            n += 1
            for name, subject in cameras.items():
                found = subject.update(n, 100 * stay + frame / 10, None, boxes(person(10.0 * frame), person(400.0)))
                numbers[name] |= set(found.track_ids.tolist())
        cameras["new"] = tracker(new_id, camera="new")  # a late camera restarts nobody's numbers
        numbers.setdefault("new", set())
    everything = [number for seen in numbers.values() for number in seen]
    assert len(everything) == len(set(everything)) == 3 * 4 * 2 + 3 * 2  # two people in every stay


def test_every_number_given_is_closed_exactly_once() -> None:
    given: list[int] = []

    def new_id() -> int:
        given.append(len(given) + 1)
        return given[-1]

    rng = np.random.default_rng(5)
    subject = tracker(new_id, lost_s=1.0)
    closed: list[int] = []
    seen: set[int] = set()
    for n in range(300):
        people = [person(float(x), 0.9, float(y)) for x, y in rng.uniform(0, 900, (rng.integers(0, 4), 2))]
        tracks = subject.update(n, n / 8, None, boxes(person(3.0 * n, 0.9, 300), *people))
        assert not set(tracks.track_ids.tolist()) & set(closed)
        seen |= set(tracks.track_ids.tolist())
        closed += subject.closed()
    closed += subject.finish()
    assert sorted(closed) == given == sorted(seen)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "sort"},
        {"high_score": 1.5},
        {"low_score": 0.9, "high_score": 0.5},
        {"lost_s": 0.0},
        {"lost_s": float("inf")},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    (name, _) = next(iter(settings.items()))
    with pytest.raises(ValueError, match=name):
        TrackerSettings(**settings)  # type: ignore[arg-type]
