"""A worker over a real RTSP server: killed in mid-stay and started again, it goes on as the same worker."""

from __future__ import annotations

import csv
import json
import os
import signal

import pytest
import redis
import walkers
from processes import ended, started
from redis_servers import running, wait_for
from rtsp_cameras import RtspCamera, why_not

from pipeline.tracklog import read_decisions, read_sightings

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def test_a_live_worker_is_killed_and_goes_on(tmp_path):
    film = walkers.film(tmp_path / "a.mp4", [2.0 * n for n in range(4)], duration_s=12)
    log, folder = tmp_path / "log", tmp_path / "w"
    with RtspCamera(str(film)) as camera, running("embedded", tmp_path) as url, started(log) as start:
        config = {
            "site": "live",
            "cameras": [{"name": "a", "source": camera.uri}],
            "detector": {"model": "motion"},
            "reid": {"encoder": "stripes"},
            "output": {"video": False, "plots": False},
            "redis": {"url": url, "state_dir": str(tmp_path / "state")},
            "streams": {"settle_s": 60, "lease_s": 0.5},
        }
        site = tmp_path / "site.yaml"
        site.write_text(json.dumps(config))
        client = redis.Redis.from_url(url)
        decisions = "identrix:{live}:decisions:main"
        matcher = start("-v", "match", "-c", site, "--name", "m")
        worker = start("-v", "worker", "-c", site, "--name", "w", "--out", folder)
        wait_for(lambda: client.xlen(decisions) >= 2, 90)
        worker.kill()
        worker.join()
        before = client.xlen(decisions)
        worker = start("-v", "worker", "-c", site, "--name", "w", "--out", folder)
        wait_for(lambda: client.xlen(decisions) >= before + 3, 90)
        assert client.hget("identrix:{live}:members", "w") is not None
        os.kill(worker.pid, signal.SIGTERM)
        ended(worker, 0, log)
        os.kill(matcher.pid, signal.SIGTERM)
        ended(matcher, 0, log)
        client.close()
    said = read_sightings(folder / "sightings.parquet")
    closed = {sighting.key for sighting in said if sighting.closed}
    assert {sighting.key for sighting in said} == closed, "every stay has had its last word"
    lives = {track // 10**6 for _, track in closed}
    assert len(lives) == 2, "track ids of two lives are never the same"
    assert {decision.key for decision in read_decisions(folder / "decisions.jsonl")} == closed
    with (folder / "assignments.csv").open() as file:
        assert {int(row["track_id"]) for row in csv.DictReader(file)} == {track for _, track in closed}
