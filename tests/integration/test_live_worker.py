"""A worker over a real RTSP server: killed in mid-stay and started again, it goes on as the same worker."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading

import pytest
import redis
import walkers
from processes import ended, started
from redis_servers import running, wait_for
from rtsp_cameras import RtspCamera, why_not

from pipeline.parts import parts_of
from pipeline.segments import segments_of
from pipeline.tracklog import read_decisions, read_sightings, read_tracks

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


def test_a_live_worker_without_end_in_parts_with_video_and_other_cameras(tmp_path):
    """Parts of three seconds; killed in one of them; then other cameras in its configuration, one in a new area."""
    films = [walkers.film(tmp_path / f"{n}.mp4", [2.0 * k for k in range(5)], seed=n, duration_s=14) for n in range(2)]
    log, folder, site = tmp_path / "log", tmp_path / "w", tmp_path / "site.yaml"
    with (
        RtspCamera(str(films[0])) as one,
        RtspCamera(str(films[1])) as two,
        running("embedded", tmp_path) as url,
        started(log) as start,
    ):
        a, b = {"name": "a", "source": one.uri}, {"name": "b", "source": two.uri, "area": "annex"}
        config = {
            "site": "live",
            "detector": {"model": "motion"},
            "reid": {"encoder": "stripes"},
            "output": {"plots": False, "part_hours": 3 / 3600, "segment_s": 4, "delay_s": 2.5},
            "redis": {"url": url, "state_dir": str(tmp_path / "state")},
            "streams": {"settle_s": 60, "lease_s": 0.5, "patience_s": 2},
        }
        whole = tmp_path / "whole.yaml"
        whole.write_text(json.dumps({**config, "cameras": [a, b]}))
        site.write_text(json.dumps({**config, "cameras": [a]}))
        client = redis.Redis.from_url(url)

        def decided(area):
            return client.xlen(f"identrix:{{live}}:decisions:{area}")

        def filmed(camera):
            return len(segments_of(folder / "video" / camera))

        matcher = start("match", "-c", whole, "--name", "m")
        command = ("worker", "-c", site, "--name", "w", "--out", folder)
        worker = start(*command)
        wait_for(lambda: decided("main") >= 3 and parts_of(folder), 90)
        worker.kill()
        worker.join()
        before, cut = decided("main"), len(parts_of(folder))
        worker = start(*command)
        wait_for(lambda: decided("main") >= before + 2 and len(parts_of(folder)) > cut and filmed("a") >= 2, 90)
        site.write_text(json.dumps({**config, "cameras": [b]}))
        os.kill(worker.pid, signal.SIGHUP)
        wait_for(lambda: "configuration read again: added b; removed a" in log.read_text())
        wait_for(lambda: decided("annex") >= 2 and filmed("b") >= 2, 90)
        os.kill(worker.pid, signal.SIGTERM)
        ended(worker, 0, log)
        os.kill(matcher.pid, signal.SIGTERM)
        ended(matcher, 0, log)
        client.close()

    folders = [*parts_of(folder), folder]
    facts = [json.loads((part / "run.json").read_text()) for part in folders]
    ends = [row["part"] for row in facts[:-1]]
    assert [row["begins_s"] for row in ends[1:]] == [row["ends_s"] for row in ends[:-1]], "parts without holes"
    assert {row["role"] for row in facts} == {"worker"} and facts[-1]["failed_cameras"] == {}
    assert not any((part / name).exists() for part in folders for name in ("journal", "outbox"))
    assert all((part / f"tables_{when}.json").exists() for part in folders for when in ("start", "end"))

    said = [
        (row.key, row.closed, row.emitted_s) for part in folders for row in read_sightings(part / "sightings.parquet")
    ]
    assert len(said) == len(set(said)), "nothing is said twice"
    closed = [key for key, is_closed, _ in said if is_closed]
    assert {key for key, *_ in said} == set(closed) and len(closed) == len(set(closed)), "each has one last word"
    assert {camera for camera, _ in closed} == {"a", "b"} and len({track // 10**6 for _, track in closed}) == 2
    decisions = [row for part in folders for row in read_decisions(part / "decisions.jsonl")]
    assert {row.key for row in decisions} == set(closed)
    assert len({repr(row) for row in decisions}) == len(decisions), "none is read twice"
    rows = [row for part in folders for row in read_tracks(part).to_pylist()]
    assert {(row["camera"], row["track_id"]) for row in rows} >= {row.key for row in decisions if row.kind == "match"}
    boxes = [(row["camera"], row["time_s"], row["track_id"]) for row in rows]
    assert len(boxes) == len(set(boxes)) > 50

    for camera in ("a", "b", "mosaic"):
        assert filmed(camera) >= 2
    drawn = facts[-1]["counters"]
    assert drawn["videos"] == sum(1 for _ in (folder / "video").glob("*/*.mp4")) and drawn["video_frames"] > 20


def test_a_live_worker_draws_the_ids_that_come_back(tmp_path, monkeypatch):
    from pipeline import live_video
    from pipeline.config import load_config
    from pipeline.match import match
    from pipeline.worker import work

    drawn = []
    draw = live_video.draw_frame

    def drawing(image, boxes, ids, *rest):
        drawn.append(ids)
        draw(image, boxes, ids, *rest)

    monkeypatch.setattr(live_video, "draw_frame", drawing)
    film = walkers.film(tmp_path / "a.mp4", [2.0, 5.0], duration_s=15)
    with RtspCamera(str(film)) as camera, running("embedded", tmp_path) as url:
        config = {
            "site": "drawn",
            "cameras": [{"name": "a", "source": camera.uri}],
            "detector": {"model": "motion"},
            "reid": {"encoder": "stripes"},
            "output": {"plots": False, "delay_s": 3},
            "redis": {"url": url, "state_dir": str(tmp_path / "state")},
            "streams": {"lease_s": 0.5},
        }
        (tmp_path / "site.yaml").write_text(json.dumps(config))
        settings, stop = load_config(tmp_path / "site.yaml"), threading.Event()
        matcher = threading.Thread(target=match, args=(settings,), kwargs={"stop": stop, "name": "m"})
        matcher.start()
        try:
            result = work(settings, tmp_path / "w", "w", for_s=10)
        finally:
            stop.set()
            matcher.join()
    assert not result.degraded and result.failed == {}
    known = {row["global_id"] for row in read_tracks(tmp_path / "w").to_pylist()}
    shown = [global_id for ids in drawn for global_id in ids if global_id is not None]
    assert set(shown) == known and len(known) == 2
    assert len(shown) > 20, "known long before the picture is drawn"
    assert result.summary["counters"]["video_frames"] == len(drawn)
