from __future__ import annotations

import itertools

import pytest

from pipeline.media_time import MIN_STEP_S, MediaClock, Pace


def times(*stamps: float | None, period_s: float = 0.1) -> list[float]:
    clock = MediaClock(period_s)
    return [clock.time_of(stamp) for stamp in stamps]


def test_missing_stamps_are_filled_with_the_usual_distance() -> None:
    assert times(None, None, None) == pytest.approx([0.0, 0.1, 0.2])
    assert times(0.0, 0.2, 0.4, None, 0.8, period_s=9.0) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


def test_equal_or_swapped_neighbours_move_up_a_little_and_time_does_not_run_away() -> None:
    repaired = times(0.0, 0.1, 0.1, 0.05, 0.2, 0.3)
    assert repaired == pytest.approx([0.0, 0.1, 0.11, 0.12, 0.2, 0.3])


def test_a_clock_that_starts_anew_goes_on_where_it_was() -> None:
    assert times(0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, period_s=1.0) == pytest.approx([0, 1, 2, 3, 4, 5, 6])


def test_stamps_a_hair_apart_are_held_apart() -> None:
    repaired = times(0.0, 0.1, 0.1 + 1e-9, -50.0, -50.0 + 1e-9)
    assert all(later - earlier > MIN_STEP_S / 2 for earlier, later in itertools.pairwise(repaired))


def test_one_wild_stamp_is_overruled() -> None:
    assert times(0.0, 0.1, 95000.0, 0.3, 0.4) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert times(0.0, 0.1, -95000.0, 0.3, 0.4) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_real_gap_is_kept_from_its_second_frame_on() -> None:
    assert times(0.0, 0.1, 3600.0, 3600.1, 3600.2) == pytest.approx([0.0, 0.1, 0.2, 3600.1, 3600.2])


def test_a_late_first_frame_keeps_its_place_but_a_wild_one_starts_at_zero() -> None:
    assert times(2.0, 2.1) == pytest.approx([2.0, 2.1])
    assert times(5000.0, 5000.1) == pytest.approx([0.0, 0.1])


def test_pace_does_not_catch_up_after_a_gap() -> None:
    pace = Pace(1.0)
    assert [pace.due(t, 0.5) for t in (0.0, 0.5, 1.0, 60.0, 60.5, 61.0)] == [True, False, True, True, False, True]


def test_pace_gives_a_rate_that_does_not_divide_the_sources() -> None:
    pace = Pace(10.0)
    assert sum(pace.due(n / 25, 1 / 25) for n in range(250)) == 100
