"""A distributed site through the door: workers, a matcher and Redis give what one process gives, whatever is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
import redis
from door import ROOT, identrix
from mqtt_broker import mqtt_broker
from processes import ended, started
from redis_servers import free_port, running, wait_for

from pipeline.config import load_config
from pipeline.match import match
from pipeline.worker import work

INTERRUPTED = 130


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running("embedded", tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def site(tmp_path, walk, url, request):
    """Writes the YAML of a site with the two films; its path."""

    def write(**settings):
        config = {
            "site": request.node.name[:60],
            "cameras": [{"name": name, "source": str(path)} for name, path in walk.items()],
            "detector": {"model": "motion"},
            "reid": {"encoder": "stripes"},
            "output": {"video": False, "plots": False},
            "redis": {"url": url, "state_dir": str(tmp_path / "state")},
            "streams": {"patience_s": 300, "settle_s": 100, "lease_s": 0.5},
            **settings,
        }
        path = tmp_path / "site.yaml"
        path.write_text(json.dumps(config))
        return path

    return write


def stays(run):
    """(camera, entered) -> global id, of one or more run folders."""
    out = {}
    for folder in run:
        with (folder / "stays.csv").open() as file:
            out |= {(row["camera"], row["entered_s"]): int(row["global_id"]) for row in csv.DictReader(file)}
    return out


def renamed(ids):
    names = {}
    return {key: names.setdefault(ids[key], len(names)) for key in sorted(ids)}


def learnt(folder):
    return json.loads((folder / "tables_end.json").read_text())["counts"]


def boxes(folder, camera):
    """The MOT file without its ids."""
    lines = (folder / "tracks" / f"{camera}.txt").read_text().splitlines()
    return sorted(tuple(line.split(",")[:1] + line.split(",")[2:]) for line in lines)


def in_threads(config, tmp_path, cameras="ab"):
    """Run a matcher and a worker per camera; worker folders."""
    folders = [tmp_path / f"w{camera}" for camera in cameras]
    jobs = [threading.Thread(target=match, args=(config,), kwargs={"until_ended": True, "name": "m"})]
    jobs += [
        threading.Thread(target=work, args=(config, folder, folder.name, [camera]))
        for folder, camera in zip(folders, cameras, strict=True)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
        assert not job.is_alive()
    return folders


def schema(name):
    return jsonschema.Draft202012Validator(json.loads((ROOT / "schemas" / f"{name}.json").read_text()))


def rows_of(client, key):
    return [(fields.get(b"k", b"").decode(), json.loads(fields[b"m"])) for _, fields in client.xrange(key)]


def test_two_workers_and_a_matcher_give_what_one_run_gives(site, tmp_path, url, monkeypatch):
    path = site()
    said = []
    from pipeline import speaking

    packed = speaking.packed_said
    monkeypatch.setattr(speaking, "packed_said", lambda message: said.append(packed(message)) or said[-1])
    alone = tmp_path / "alone"
    assert identrix("run", "-c", path, "--site", "alone", "--out", alone).exit_code == 0
    config = load_config(path)
    folders = in_threads(config, tmp_path)
    assert len(stays([alone])) == 8
    assert renamed(stays(folders)) == renamed(stays([alone]))
    for camera, folder in zip("ab", folders, strict=True):
        assert boxes(folder, camera) == boxes(alone, camera)
        assert learnt(folder) == learnt(alone) != []
        assert json.loads((folder / "run.json").read_text())["role"] == "worker"

    with redis.Redis.from_url(url) as client:
        prefix = f"identrix:{{{config.site_name}}}:"
        answers = rows_of(client, f"{prefix}decisions:main")
        events = [row for _, row in rows_of(client, f"{prefix}events")]
    for content in said:
        schema("said").validate(json.loads(content))
    for kind, row in answers:
        schema(kind).validate(row)
    for row in events:
        schema("event").validate(row)
    assert Counter(row["event"] for row in events) == {"new": 4, "update": 4, "end": 8}
    assert len({row["id"] for row in events}) == len(events)
    assert {row["global_id"] for row in events} == set(stays(folders).values())


def test_a_worker_and_the_matcher_are_killed_and_started_again(site, tmp_path, url):
    path = site()
    alone = tmp_path / "alone"
    assert identrix("run", "-c", path, "--site", "undisturbed", "--out", alone).exit_code == 0
    with redis.Redis.from_url(url) as client, started(tmp_path / "log") as start:
        progress = f"identrix:{{{load_config(path).site_name}}}:progress:main"
        first = start("match", "-c", path, "--name", "m1")
        second = start("match", "-c", path, "--name", "m2", "--until-ended")
        one = [start("worker", "-c", path, "--camera", c, "--name", f"w{c}", "--out", tmp_path / f"w{c}") for c in "ab"]
        wait_for(lambda: int(client.hget(progress, "worker:wa") or 0) >= 2, 60)
        for process in (one[0], first):
            process.kill()
            process.join()
        again = start("worker", "-c", path, "--camera", "a", "--name", "wa", "--out", tmp_path / "wa")
        for process in (again, one[1], second):
            ended(process, 0, tmp_path / "log")
    folders = [tmp_path / "wa", tmp_path / "wb"]
    assert renamed(stays(folders)) == renamed(stays([alone]))
    assert boxes(folders[0], "a") == boxes(alone, "a")
    assert learnt(folders[0]) == learnt(alone)


def test_sigterm_ends_a_worker_with_complete_files_and_a_matcher_without_a_lock(site, tmp_path, url):
    path = site()
    with redis.Redis.from_url(url) as client, started(tmp_path / "log") as start:
        prefix = f"identrix:{{{load_config(path).site_name}}}:"
        matcher = start("match", "-c", path, "--name", "m")
        worker = start("worker", "-c", path, "--name", "w", "--out", tmp_path / "w")
        wait_for(lambda: int(client.hget(f"{prefix}progress:main", "worker:w") or 0) >= 1, 60)
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(60)
        assert worker.exitcode in (0, INTERRUPTED), (tmp_path / "log").read_text()  # 0: it was over by then
        assert (tmp_path / "w" / "tracks.csv").is_file() and not (tmp_path / "w" / "journal").exists()
        os.kill(matcher.pid, signal.SIGTERM)
        ended(matcher, 0, tmp_path / "log")
        assert client.get(f"{prefix}lease:main") is None
        assert client.hgetall(f"{prefix}members") == {}


def test_what_nobody_has_decided_is_not_taken_for_decided_because_of_an_earlier_run(site, tmp_path, url):
    config = load_config(site(streams={"settle_s": 0.5}))
    with redis.Redis.from_url(url) as client:
        client.hset(f"identrix:{{{config.site_name}}}:progress:main", "worker:w", 5000)
    assert work(config, tmp_path / "w", "w").degraded
    config = load_config(site())
    matcher = threading.Thread(target=match, args=(config,), kwargs={"until_ended": True, "name": "m"})
    matcher.start()
    assert not work(config, tmp_path / "w", "w").degraded
    matcher.join()
    assert len(stays([tmp_path / "w"])) == 8


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.status, answer.read().decode()


def test_metrics_health_status_and_mqtt_of_a_site(site, tmp_path, url):
    port = free_port()
    with mqtt_broker() as (broker, published):
        path = site(metrics={"port": port}, events={"mqtt": broker})
        config = load_config(path)
        silent = config.model_copy(update={"metrics": config.metrics.model_copy(update={"port": None})})
        stop = threading.Event()
        matcher = threading.Thread(target=match, args=(config,), kwargs={"stop": stop, "name": "m"})
        matcher.start()
        try:
            with suppress(OSError):
                wait_for(lambda: _ready(port))
            result = work(silent, tmp_path / "w", "w")
            assert get(port, "/healthz") == (200, "ok\n") and get(port, "/readyz") == (200, "ready\n")
            wait_for(lambda: 'identrix_gallery_size{area="main"} 4.0' in get(port, "/metrics")[1])
            page = get(port, "/metrics")[1]
            decided = result.summary["counters"]["decisions"]
            for kind, count in decided.items():
                assert f'identrix_decisions_total{{kind="{kind}"}} {float(count)}' in page
            for name in (
                "match_probability_bucket",
                "turn_store_seconds_count",
                "table_updates_total",
                "degraded_seconds",
            ):
                assert f"identrix_{name}" in page
            wait_for(lambda: len(published) >= 16)
            shown = identrix("status", "-c", path, "--json")
            text = identrix("status", "-c", path).stdout
        finally:
            stop.set()
            matcher.join()
    now = json.loads(shown.stdout)
    assert now["members"]["m"]["areas"]["main"]["people"] == 4 and now["areas"]["main"]["matcher"] == "m"
    schema("member").validate({k: v for k, v in now["members"]["m"].items() if k != "silent_s"})
    assert "camera a: nobody watches it" in now["alarms"]  # the worker has left
    assert config.site_name in text and "persons" in text
    for topic, payload in published:
        event = json.loads(payload)
        schema("event").validate(event)
        assert topic == f"identrix/{config.site_name}/main/{event['event']}"


def test_a_run_is_watched_and_sends_events_like_a_site(site, tmp_path, url):
    port = free_port()
    pages = []
    with mqtt_broker() as (broker, published):
        path = site(metrics={"port": port}, events={"mqtt": broker})
        looking = threading.Thread(target=lambda: pages.extend(_pages_of(port)))
        looking.start()
        assert identrix("run", "-c", path, "--out", tmp_path / "run").exit_code == 0
        looking.join()
        prefix = f"identrix:{{{load_config(path).site_name}}}:"
        with redis.Redis.from_url(url) as client:
            events = [row for _, row in rows_of(client, f"{prefix}events")]
            assert client.hgetall(f"{prefix}members") == {}
    for event in events:
        schema("event").validate(event)
    assert Counter(event["event"] for event in events) == {"new": 4, "update": 4, "end": 8}
    assert {event["global_id"] for event in events} == set(stays([tmp_path / "run"]).values())
    assert published and [json.loads(payload) for _, payload in published] == events[: len(published)]
    assert 'identrix_stage_seconds_count{stage="detect"}' in pages[-1] and "identrix_batch_frames_sum" in pages[-1]
    assert 'identrix_camera_frames_total{camera="a"}' in pages[-1]


def _pages_of(port):
    """What Prometheus would have seen of a run: the page, again and again."""
    out = []
    wait_for(lambda: _ready(port), 100)
    while True:
        try:
            out.append(get(port, "/metrics")[1])
        except OSError:
            return out


def _ready(port):
    try:
        return get(port, "/readyz")[0] == 200
    except OSError:
        return False


def test_logs_for_machines_name_camera_track_and_person(site, tmp_path):
    run = identrix("--log-format", "json", "-v", "run", "-c", site(), "--out", tmp_path / "run")
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    said = {(line["camera"], line["global_id"]) for line in lines if "track_id" in line}
    assert said == {(camera, global_id) for (camera, _), global_id in stays([tmp_path / "run"]).items()}


def test_bad_use_is_said_in_one_line(site, tmp_path):
    path = site()
    wrong = identrix("worker", "-c", path, "--camera", "c", "--out", tmp_path / "w")
    assert wrong.exit_code == 2 and wrong.stderr.splitlines() == ["no camera is called 'c'; the configuration has a, b"]
    wrong = identrix("match", "-c", path, "--area", "yard")
    assert wrong.exit_code == 2 and "no camera is in area 'yard'" in wrong.stderr
    with mqtt_broker() as (address, _):
        taken = identrix("match", "-c", path, "--set", f"metrics.port={address.rpartition(':')[2]}")
    assert taken.exit_code == 2 and "choose another port" in taken.stderr
    away = identrix("match", "-c", path, "--set", "redis.url=redis://127.0.0.1:1/0")
    assert away.exit_code == 3 and len(away.stderr.splitlines()) == 1


def test_a_worker_without_a_matcher_keeps_what_it_saw_and_goes_on(site, tmp_path):
    path = site(streams={"patience_s": 300, "settle_s": 0.3, "lease_s": 0.5})
    alone = identrix("worker", "-c", path, "--name", "w", "--out", tmp_path / "w")
    assert alone.exit_code == 3 and "start this worker on" in alone.stderr
    config = load_config(path, overrides=["streams.settle_s=60"])
    matcher = threading.Thread(target=match, args=(config,), kwargs={"until_ended": True})
    matcher.start()
    again = identrix("worker", "-c", path, "--name", "w", "--out", tmp_path / "w", "--set", "streams.settle_s=60")
    matcher.join()
    assert again.exit_code == 0, again.stderr
    assert len(set(stays([tmp_path / "w"]).values())) == 4


def test_recordings_are_matched_one_set_after_the_other(site, tmp_path):
    """The second begins at the same site time: nobody is remembered, ids go on, counts add."""
    config = load_config(site())
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = in_threads(config, tmp_path / "one")
    two = in_threads(config, tmp_path / "two")
    assert renamed(stays(one)) == renamed(stays(two))
    assert not set(stays(one).values()) & set(stays(two).values())
    once = {tuple(cell): n for *cell, n in learnt(one[0])}
    assert {tuple(cell): n for *cell, n in learnt(two[0])} == {cell: 2 * n for cell, n in once.items()}


def test_every_schema_is_one(tmp_path):
    for path in sorted(Path(ROOT / "schemas").glob("*.json")):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
