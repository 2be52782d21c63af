from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from oracles.merge_by_time import merge_by_scanning

from pipeline.media_time import MAX_GAP_S, MIN_STEP_S, MediaClock, Pace, merge_in_time

Item = tuple[float, float, str]


@st.composite
def rising_streams(draw: st.DrawFn) -> list[list[Item]]:
    """Cameras of any rate, jitter, start and length, also empty ones."""
    streams = []
    for camera in range(draw(st.integers(0, 4))):
        steps = draw(st.lists(st.integers(1, 20), max_size=12))
        times = list(itertools.accumulate(steps, initial=draw(st.integers(-10, 10))))[1:]
        period = draw(st.integers(1, 20))
        streams.append([(t / 8, period / 8, f"{camera}.{n}") for n, t in enumerate(times)])
    return streams


@st.composite
def regular_streams(draw: st.DrawFn) -> list[list[Item]]:
    """Cameras that each keep their own rate to the tick."""
    streams = []
    for camera in range(draw(st.integers(1, 4))):
        start, period, length = draw(st.integers(-10, 10)), draw(st.integers(1, 9)), draw(st.integers(0, 12))
        streams.append([((start + n * period) / 8, period / 8, f"{camera}.{n}") for n in range(length)])
    return streams


@given(rising_streams())
def test_merge_equals_the_slow_scan(streams: list[list[Item]]) -> None:
    assert list(merge_in_time([iter(stream) for stream in streams])) == merge_by_scanning(streams)


@given(rising_streams())
def test_merge_loses_nothing_and_batches_are_narrow(streams: list[list[Item]]) -> None:
    time_of = {value: time_s for stream in streams for time_s, _, value in stream}
    batches = list(merge_in_time([iter(stream) for stream in streams]))
    assert sorted(value for batch in batches for value in batch) == sorted(time_of)
    starts = [time_of[batch[0]] for batch in batches]
    assert starts == sorted(starts)
    longest_s = max((period_s for stream in streams for _, period_s, _ in stream), default=0.0)
    for batch in batches:
        cameras = [value.split(".")[0] for value in batch]
        assert len(set(cameras)) == len(cameras)
        assert time_of[batch[-1]] - time_of[batch[0]] <= longest_s / 2
    for camera in range(len(streams)):
        order = [value for batch in batches for value in batch if value.startswith(f"{camera}.")]
        assert order == [value for _, _, value in streams[camera]]


@given(regular_streams())
def test_cameras_of_steady_rate_come_out_in_strict_site_time_order(streams: list[list[Item]]) -> None:
    everything = sorted(item[0] for stream in streams for item in stream)
    time_of = {value: time_s for stream in streams for time_s, _, value in stream}
    assert [
        time_of[value] for batch in merge_in_time([iter(stream) for stream in streams]) for value in batch
    ] == everything


@given(st.integers(1, 5), st.integers(1, 9), st.lists(st.integers(-2, 2), min_size=5, max_size=5), st.integers(2, 8))
def test_cameras_of_equal_rate_make_full_batches(cameras: int, period: int, phases: list[int], length: int) -> None:
    # phases of up to +- 0.2 periods keep all frames of a round within half a period of the earliest
    streams = [[(period * (n + phases[c] / 10), float(period), (c, n)) for n in range(length)] for c in range(cameras)]
    batches = [set(batch) for batch in merge_in_time([iter(stream) for stream in streams])]
    assert batches == [{(c, n) for c in range(cameras)} for n in range(length)]


wild_stamps = st.lists(st.one_of(st.none(), st.integers(-(10**7), 10**7).map(lambda ms: ms / 1000)), max_size=30)


@given(wild_stamps, st.sampled_from([1 / 240, 1 / 25, 1.0]), st.sampled_from([0.0, 1.7e9]))
def test_times_strictly_rise_whatever_the_stamps(stamps: list[float | None], period_s: float, base_s: float) -> None:
    clock = MediaClock(period_s)
    times = [base_s + clock.time_of(stamp) for stamp in stamps]  # base_s: UTC leaves few bits for the fraction
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


@given(st.lists(st.integers(1, int(MAX_GAP_S * 1000) - 1), max_size=30))
def test_good_stamps_are_kept_as_they_are(steps_ms: list[int]) -> None:
    stamps = [t / 1000 for t in itertools.accumulate(steps_ms, initial=0)]
    clock = MediaClock(0.04)
    assert all(abs(clock.time_of(stamp) - stamp) < MIN_STEP_S for stamp in stamps)


@given(
    source_hz=st.integers(5, 60),
    wanted_hz=st.integers(1, 60),
    jitter=st.lists(st.integers(-2, 2), min_size=300, max_size=300),
)
def test_pace_keeps_the_rate_asked_for(source_hz: int, wanted_hz: int, jitter: list[int]) -> None:
    period_s = 1 / source_hz
    times = [(n + jitter[n] / 20) * period_s for n in range(300)]  # +- 10 % of a period
    pace = Pace(wanted_hz)
    used = [t for t in times if pace.due(t, period_s)]
    length_s = 300 * period_s
    assert len(used) <= length_s * wanted_hz + 2
    assert len(used) >= min(300, length_s * min(wanted_hz, source_hz) * 0.97 - 2)
