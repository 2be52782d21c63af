"""Capture times of live pictures: they rise whatever comes, and come to what is true."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.live_clock import DRIFT_S, LiveClock, sort_heap

NOW = 1.8e9
ANY_TIME = st.floats(-1e10, 1e10, allow_nan=False)


@given(st.lists(st.tuples(st.floats(0, 5), st.none() | ANY_TIME, st.none() | ANY_TIME, st.booleans()), max_size=60))
def test_time_rises_whatever_comes(story):
    clock, arrival_s, times = LiveClock(), NOW, []
    for pause_s, stamp_s, sender_s, anew in story:
        arrival_s += pause_s
        if anew:
            clock.connected()
        times.append(clock.time_of(arrival_s, stamp_s, sender_s))
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert all(np.isfinite(times))


def watched(clock, begin_s, seconds, *, late, rate=1.0, ahead_s=None, from_stamp=0.0, hz=10):
    """(times given, true times) of pictures that arrive `late(n)` s after they were taken.

    rate     how fast the stamps run; ahead_s: of the sender's clock against ours (None: no sender reports)
    """
    given, true = [], []
    for n in range(round(seconds * hz)):
        taken_s = begin_s + n / hz
        sender_s = None if ahead_s is None else taken_s + ahead_s
        given.append(clock.time_of(taken_s + late(n), from_stamp + rate * n / hz, sender_s))
        true.append(taken_s)
    return np.array(given), np.array(true)


def test_jitter_of_arrival_does_not_show():
    rng = np.random.default_rng(1)
    late = 0.05 + rng.exponential(0.1, 400)
    clock = LiveClock()
    given, true = watched(clock, NOW, 40, late=lambda n: late[n])
    assert np.abs(given - true - 0.05)[100:].max() < 0.02  # late by the quickest way, and even
    assert np.diff(given)[100:] == pytest.approx(0.1, abs=0.021)
    assert (clock.source, clock.jumps, clock.news) == ("arrival", 0, [])
    assert clock.period_s == pytest.approx(0.1, abs=0.01)


def test_sender_reports_are_believed_when_they_can_be_right():
    clock = LiveClock()
    given, true = watched(clock, NOW, 20, late=lambda n: 0.3, ahead_s=0.0)
    assert np.abs(given - true)[100:].max() < 1e-3
    assert clock.source == "sender"
    for ahead_s, said in ((3600.0, "ahead of"), (-1.8e9, "behind")):  # the wrong zone; never set
        clock = LiveClock()
        given, true = watched(clock, NOW, 20, late=lambda n: 0.3, ahead_s=ahead_s)
        assert np.abs(given - true - 0.3).max() < 1e-3 and clock.source == "arrival"
        (news,) = clock.news
        assert said in news and "timed by arrival" in news
    clock = LiveClock(trust_sender=False)
    given, true = watched(clock, NOW, 5, late=lambda n: 0.3, ahead_s=0.0)
    assert np.abs(given - true - 0.3).max() < 1e-3


def test_the_first_sender_report_is_followed_without_a_step_back():
    clock = LiveClock()
    before, _ = watched(clock, NOW, 3, late=lambda n: 0.5)
    after, true = watched(clock, NOW + 3, 10, late=lambda n: 0.5, ahead_s=0.0, from_stamp=3.0)
    assert np.diff(np.concatenate([before, after])).min() > 0.07
    assert np.abs(after - true)[-50:].max() < 1e-3


def test_stamps_begin_anew_with_each_connection_and_time_goes_on():
    clock = LiveClock()
    watched(clock, NOW, 5, late=lambda n: 0.1, from_stamp=90_000.0)
    clock.connected()
    given, true = watched(clock, NOW + 12, 5, late=lambda n: 0.1, from_stamp=3.0)
    assert np.abs(given - true - 0.1).max() < 1e-6 and clock.jumps == 0


def test_stamps_set_anew_in_mid_stream_are_a_jump_in_the_log_and_none_in_time():
    clock = LiveClock()
    watched(clock, NOW, 20, late=lambda n: 0.1, from_stamp=500.0)
    given, true = watched(clock, NOW + 20, 20, late=lambda n: 0.1, from_stamp=0.0)
    assert np.abs(given - true - 0.1).max() < 1e-6
    assert clock.jumps == 1 and "time stamps jumped by -519.9 s" in clock.news[0]


def test_a_senders_clock_set_right_is_a_jump():
    clock = LiveClock()
    watched(clock, NOW, 20, late=lambda n: 0.5, ahead_s=-1.4)
    given, true = watched(clock, NOW + 20, 20, late=lambda n: 0.5, ahead_s=0.0, from_stamp=20.0)
    assert np.abs(given - true)[-50:].max() < 1e-3
    assert clock.jumps == 1 and "jumped by +1.4 s" in clock.news[0]


@pytest.mark.parametrize("rate", [1.0005, 0.9995])
def test_drift_is_followed_and_said(rate):
    """Half a second in 1000 s: a bad quartz."""
    clock = LiveClock()
    given, true = watched(clock, NOW, 2600, late=lambda n: 0.1, rate=rate, hz=5)
    assert np.abs(given - true - 0.1).max() < 0.02  # one window's worth of drift
    assert clock.jumps == 0 and len(clock.news) == 2 and "drifted by" in clock.news[0]
    assert clock.drift_s == pytest.approx(2 * DRIFT_S * (-1 if rate > 1 else 1), abs=0.05)


def test_a_freeze_that_the_stamps_do_not_know_of_is_found_out():
    clock = LiveClock()
    watched(clock, NOW, 15, late=lambda n: 0.1)
    given, true = watched(clock, NOW + 20, 30, late=lambda n: 0.1, from_stamp=15.0)  # frozen for 5 s
    assert np.abs(given - true - 0.1)[-50:].max() < 0.02
    assert clock.jumps == 1


def test_what_lay_in_a_heap_is_put_apart():
    clock = LiveClock()
    heap = sort_heap([None, *(7.1 + n / 10 for n in range(9))], NOW)
    times = [clock.time_of(arrival_s, stamp_s, None) for stamp_s, arrival_s in heap]
    assert np.array(times) - NOW == pytest.approx(np.arange(-9, 1) / 10, abs=1e-6)
    assert sort_heap([None, 3.0], NOW, period_s=0.5) == [(2.5, NOW - 0.5), (3.0, NOW)]
    assert sort_heap([None], NOW) == [(None, NOW)] and sort_heap([3.0], NOW) == [(3.0, NOW)]


def test_a_heap_of_pictures_that_refer_to_later_ones():
    """Packets in the order of decoding, I P B B P B B ...; the first has no stamp."""
    order = [0, 3, 1, 2, 6, 4, 5]
    heap = sort_heap([None, *(7.0 + n / 10 for n in order[1:])], NOW)
    stamps = [stamp_s for stamp_s, _ in heap]
    assert stamps == pytest.approx([7.0 + n / 10 for n in order])
    clock = LiveClock()
    shown = sorted(heap)  # as a decoder gives them out
    times = [clock.time_of(arrival_s, stamp_s, None) for stamp_s, arrival_s in shown]
    assert np.array(times) - NOW == pytest.approx(np.arange(-6, 1) / 10, abs=1e-6) and clock.jumps == 0


def test_pictures_without_stamps_are_timed_by_arrival():
    clock = LiveClock()
    assert [clock.time_of(NOW + n, None, None) - NOW for n in range(4)] == [0, 1, 2, 3]
