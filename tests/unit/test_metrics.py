"""Metrics, health and readiness over HTTP; and nothing at all where nobody asked for them."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

from pipeline.metrics import Metrics, MetricsError, open_metrics
from pipeline.schema import Metrics as Settings
from st_model.drift import Alarm
from st_model.matcher import Outcome
from st_model.sightings import Candidate, Decision
from st_model.transitions import Increment


@pytest.fixture
def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_readiness_and_numbers(free):
    decision = Decision("a", 1, 2.0, 7, "match", (Candidate(7, 0.9, 3.0, 2.0, 0.8, 0.95, "b"),))
    outcome = Outcome([decision], [], [Increment("b", "a", 0, 3, 4096)], [Alarm(("b", "a"), 2.0, True)])
    with open_metrics(Settings(port=free)) as metrics:
        assert get(free, "/healthz") == (200, "ok\n")
        assert get(free, "/readyz") == (503, "not ready\n")
        assert get(free, "/else")[0] == 404
        metrics.ready = True
        assert get(free, "/readyz") == (200, "ready\n")
        metrics.alive = lambda: False
        assert get(free, "/healthz") == (503, "stuck\n")
        metrics.stage("detect", 0.02)
        metrics.batch(4)
        metrics.redis_error()
        metrics.outcome(outcome)
        camera = {"state": "live", "frames": 10, "dropped": 2, "reconnects": 1, "last_s": 5.0}
        area = {"active": True, "people": 3, "alarms": ["b->a"], "until_s": None}
        metrics.watch(
            lambda: {"cameras": {'door "1"': camera}, "areas": {"main": area}, "degraded_s": 1.5, "full": False}
        )
        page = get(free, "/metrics?x=1")[1].splitlines()
    for line in (
        'identrix_stage_seconds_bucket{le="0.025",stage="detect"} 1.0',
        "identrix_batch_frames_sum 4.0",
        "identrix_redis_errors_total 1.0",
        'identrix_decisions_total{kind="match"} 1.0',
        'identrix_match_probability_bucket{kind="match",le="0.95"} 1.0',
        "identrix_table_updates_total 1.0",
        "identrix_drift_alarms_total 1.0",
        'identrix_drift_alarm{area="main",pair="b->a"} 1.0',
        'identrix_camera_frames_dropped_total{camera="door \\"1\\""} 2.0',
        'identrix_camera_state{camera="door \\"1\\"",state="live"} 1.0',
        'identrix_gallery_size{area="main"} 3.0',
        "identrix_degraded_seconds_total 1.5",
        "identrix_stream_full 0.0",
    ):
        assert line in page, line
    assert not any(line.startswith("identrix_decided_until_seconds{") for line in page), "not known yet"


def test_nothing_is_served_unless_asked_for():
    with open_metrics(Settings()) as metrics:
        metrics.stage("detect", 1.0)
        metrics.outcome(Outcome())
        metrics.redis_error()
        assert isinstance(metrics, Metrics)


def test_an_address_that_is_taken_is_said_in_one_line(free):
    taken = open_metrics(Settings(port=free))
    with open_metrics(Settings(port=free)), pytest.raises(MetricsError, match="choose another port"), taken:
        pass
