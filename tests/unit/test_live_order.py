"""Frames of live cameras: in order, hardly waiting, never too many."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames import Frame
from pipeline.live_order import HELD_S, LiveOrder

PICTURE = np.zeros((1, 1, 3), np.uint8)


def frame(camera: str, time_s: float) -> Frame:
    return Frame(camera, 0, time_s, PICTURE)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0, 0.4), st.floats(0, 3), st.integers(0, 2)),
        min_size=1,
        max_size=80,
    )
)
def test_order_bounds_and_nothing_lost(story):
    """(camera, pause before it comes, how late it is, how often the consumer looks)"""
    order, now_s, came, out = LiveOrder(spare_frames=3), 100.0, [], []
    dropped = 0
    last = dict.fromkeys("abc", -1.0)
    for camera, pause_s, late_s, looks in story:
        now_s += pause_s
        last[camera] = max(now_s - late_s, last[camera] + 1e-3)  # the reader's times rise
        came.append(camera)
        dropped += order.push(frame(camera, last[camera]), 0.2, now_s)
        for _ in range(looks):
            before_s = order.floor_s
            batch = order.pop("abc", now_s)
            out += batch
            assert len({f.camera for f in batch}) == len(batch)
            assert all(f.time_s >= before_s for f in batch) and order.floor_s >= before_s
        assert order.wait_s(now_s) <= HELD_S or not any(order._queues.values())
        assert all(len(queue) <= 3 + 3 for queue in order._queues.values())
    while batch := order.pop("abc", now_s + HELD_S + 0.01):
        out += batch
    assert len(out) + dropped + order.stale.total() == len(came)
    for camera in "abc":
        times = [f.time_s for f in out if f.camera == camera]
        assert all(later > earlier for earlier, later in itertools.pairwise(times))


def test_cameras_out_of_step_come_in_order():
    order = LiveOrder(spare_frames=4)
    order.push(frame("a", 10.0), 0.1, now_s=0.0)
    assert order.pop(["a", "b"], now_s=0.0) == []
    order.push(frame("b", 9.8), 0.1, now_s=0.1)  # its network is slower
    assert [f.time_s for f in order.pop(["a", "b"], now_s=0.1)] == [9.8]
    order.push(frame("a", 10.1), 0.1, now_s=0.2)
    assert order.pop(["a", "b"], now_s=0.2) == []
    order.push(frame("b", 9.95), 0.1, now_s=0.25)
    assert [(f.camera, f.time_s) for f in order.pop(["a", "b"], now_s=0.25)] == [("b", 9.95), ("a", 10.0)]


def test_a_frame_from_the_future_waits_for_its_time():
    order = LiveOrder(spare_frames=4, held_s=2.0)
    order.push(frame("a", 11.5), 0.1, now_s=0.0)
    assert order.pop([], now_s=0.0, present_s=10.0) == [] and order.pop([], now_s=1.4, present_s=11.4) == []
    assert [f.time_s for f in order.pop([], now_s=1.5, present_s=11.5)] == [11.5]
    order.push(frame("a", 99.0), 0.1, now_s=2.0)  # a clock that is wrong for good
    assert [f.time_s for f in order.pop([], now_s=4.0, present_s=14.0)] == [99.0]


def test_a_dead_camera_is_not_waited_for_and_one_that_dies_only_a_little():
    order = LiveOrder(spare_frames=4)
    order.push(frame("a", 10.0), 0.1, now_s=0.0)
    assert [f.camera for f in order.pop(["a"], now_s=0.0)] == ["a"]  # b is backing off
    order.push(frame("a", 10.1), 0.1, now_s=0.1)
    assert order.pop(["a", "b"], now_s=0.5) == []
    assert order.wait_s(0.5) == pytest.approx(HELD_S - 0.4)
    assert [f.time_s for f in order.pop(["a", "b"], now_s=0.1 + HELD_S)] == [10.1]


def test_who_comes_too_late_is_moved_up_to_the_present():
    order = LiveOrder(spare_frames=4)
    order.push(frame("a", 10.0), 0.1, now_s=0.0)
    order.pop(["a"], now_s=0.0)
    order.push(frame("b", 7.0), 0.1, now_s=0.1)
    assert [f.time_s for f in order.pop(["a", "b"], now_s=0.1)] == [10.0]
    assert order.quiet(12.0) == 12.0
    order.push(frame("b", 7.1), 0.1, now_s=0.2)
    (late,) = order.pop(["b"], now_s=0.2)
    assert late.time_s == 12.0 and order.quiet(11.0) == 12.0 and order.late == {"b": 2}


def test_the_oldest_is_dropped_for_the_newest():
    order = LiveOrder(spare_frames=2, held_s=0.2)
    dropped = [order.push(frame("a", n / 10), 0.1, now_s=n / 10) for n in range(10)]
    assert dropped == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert [f.time_s for _ in range(9) for f in order.pop(["a"], 1.0)] == pytest.approx([0.6, 0.7, 0.8, 0.9])
    for n in range(20, 24):
        order.push(frame("a", n / 10), 0.1, now_s=n / 10)
    assert [f.time_s for f in order.pop(["a"], now_s=2.95)] == [2.3] and order.stale == {"a": 3}  # the consumer slept
    order.push(frame("a", 2.0), 0.1, now_s=2.0)
    order.forget("a")
    assert order.pop([], now_s=9.0) == []
