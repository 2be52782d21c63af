"""How far the cameras of an area have come, by what its workers said."""

from __future__ import annotations

import math

import pytest

from pipeline.area_workers import Worker, all_ended, packed_worker, said_until, worker_from
from pipeline.messages import Mark

AB = frozenset("ab")


def worker(heard_s: float = 100.0, **marks: tuple[float, str]) -> Worker:
    return Worker("s", 1, {camera: Mark(*mark) for camera, mark in marks.items()}, (("a", 1.0, math.inf),), heard_s)


@pytest.mark.parametrize(
    ("workers", "now_s", "found"),
    [
        pytest.param([], 101.0, (-math.inf, True), id="nobody yet"),
        pytest.param([], 200.0, (-math.inf, False), id="nobody, and nobody is waited for"),
        pytest.param([worker(a=(9.0, "live"))], 101.0, (-math.inf, True), id="b may still come"),
        pytest.param([worker(a=(9.0, "live"), b=(7.0, "live"))], 101.0, (7.0, True), id="the slower one"),
        pytest.param([worker(a=(9.0, "live"), b=(7.0, "ended"))], 101.0, (9.0, True), id="b has ended"),
        pytest.param([worker(a=(9.0, "resting"), b=(7.0, "ended"))], 101.0, (9.0, False), id="none is live"),
        pytest.param(
            [worker(a=(9.0, "live")), worker(160.0, b=(20.0, "live"))], 165.0, (20.0, True), id="a is silent for long"
        ),
        pytest.param(
            [worker(a=(9.0, "live"), b=(5.0, "live")), worker(102.0, b=(8.0, "live"))],
            103.0,
            (8.0, True),
            id="b moved to another worker",
        ),
    ],
)
def test_how_far_everything_has_been_said(workers, now_s, found) -> None:
    assert said_until(workers, AB, now_s=now_s, began_s=100.0, patience_s=30.0) == found


def test_all_have_ended_when_each_that_is_expected_has() -> None:
    assert not all_ended([], AB) and not all_ended([worker(a=(9.0, "ended"))], AB)
    assert all_ended([worker(a=(9.0, "ended")), worker(b=(9.0, "ended"))], AB)
    assert not all_ended([worker(a=(9.0, "ended"), b=(9.0, "ended"), c=(1.0, "live"))], AB)


def test_a_worker_is_saved_and_read() -> None:
    import json

    one = worker(a=(-math.inf, "live"), b=(7.0, "ended"))
    one.outages = (("a", 1.0, 5.0),)
    assert worker_from(json.loads(packed_worker(one)), 100.0) == one
