"""`identrix run` over live cameras, as an operator uses it: from the door, in a process of its own, with signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import walkers
from door import PLAIN, QUICK, ROOT, identrix
from rtsp_cameras import RtspCamera, why_not

from pipeline.journal import read_boxes
from pipeline.parts import parts_of
from pipeline.segments import begin_of
from pipeline.tracklog import read_tracks

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

DONE, CAMERA_FAILED, BAD_INPUT = 0, 1, 2
WAIT_S = 60.0


class Running:
    """The door in a process of its own, still at work."""

    def __init__(self, state: Path, log: Path, *arguments: object) -> None:
        self._log = log
        environment = {**os.environ, "IDENTRIX_STATE": str(state), "PYTHONPATH": str(ROOT)}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "run_pipeline", *map(str, arguments)],
                env=environment,
                stdout=file,
                stderr=file,
                cwd=ROOT,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def until(self, condition) -> None:
        until_s = time.monotonic() + WAIT_S
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until_s, self.said
            time.sleep(0.1)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int) -> int:
        self.send(number)
        return self.process.wait(WAIT_S)


@contextmanager
def running(state: Path, log: Path, *arguments: object) -> Iterator[Running]:
    run = Running(state, log, *arguments)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def picture_count(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def frames_seen(out: Path, camera: str) -> int:
    return len(read_boxes(out).get(camera, ()))


def site_file(path: Path, cameras: dict[str, str], **more: str) -> Path:
    lines = ["site: hall", "detector: {model: motion}", "reid: {encoder: stripes}", "cameras:"]
    lines += [f"- {{name: {name}, source: '{uri}'{more.get(name, '')}}}" for name, uri in cameras.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_people_through_two_live_cameras(state, tmp_path, out):
    films = [walkers.film(tmp_path / f"{n}.mp4", [2.0 + 7 * n, 5.4 + 7 * n], seed=n, duration_s=20) for n in range(2)]
    with RtspCamera(str(films[0]), user="me:s3cret") as a, RtspCamera(str(films[1])) as b:
        sources = ("-s", f"a={a.uri}", "-s", f"b={b.uri}")
        cut = ("--set", "output.segment_s=5", "--set", "output.plots=false")  # video, not the tables
        done = identrix("run", *sources, "--out", out, *PLAIN, *cut, "--for", 19)
    assert (done.exit_code, done.stderr) == (DONE, "")
    assert done.stdout.startswith("2 persons, 4 stays, 2 transitions")
    facts = json.loads((out / "run.json").read_text())
    assert not facts["interrupted"] and facts["failed_cameras"] == {}
    for name in "ab":
        camera = facts["cameras"][name]
        assert camera["live"]["state"] == "live" and camera["live"]["reconnects"] == 0
        assert camera["live"]["seconds"]["live"] > 10 and camera["frames_dropped"] < 10
    assert "s3cret" not in "".join(path.read_text() for path in out.rglob("*.json*"))
    for name in ("a", "b", "mosaic"):
        segments = sorted((out / "video" / name).iterdir())
        assert len(segments) in (4, 5) and all(begin_of(path) is not None for path in segments)
        assert sum(picture_count(path) for path in segments) > 60
    assert facts["counters"]["videos"] == sum(1 for _ in (out / "video").glob("*/*.mp4"))
    tracks = read_tracks(out)["time_s"].to_numpy()
    assert abs(tracks.max() - time.time()) < 60  # site time is UTC
    again = identrix("replay", out, "--out", out / "again", "--against", out)
    assert again.stdout.splitlines()[-1] == "0 stays decided differently"


def test_a_camera_that_comes_late_and_goes_early_and_sigterm(state, tmp_path, out):
    with RtspCamera("160x120@10") as a, RtspCamera("160x120@10") as b:
        b.kill()
        arguments = ("run", "-s", f"a={a.uri}", "-s", f"b={b.uri}", "--out", out, *QUICK)
        with running(state, tmp_path / "log", *arguments) as run:
            run.until(lambda: "Connection refused" in run.said)
            b.start()
            run.until(lambda: frames_seen(out, "a") > 5 and frames_seen(out, "b") > 5)
            b.kill()
            run.until(lambda: "the stream ended" in run.said)
            seen = frames_seen(out, "a")
            run.until(lambda: frames_seen(out, "a") > seen + 5)
            assert run.end(signal.SIGTERM) == CAMERA_FAILED
        assert "1 of 2 cameras ended in error: b" in run.said and "finishing: files are being completed" in run.said
        assert "Traceback" not in run.said
    facts = json.loads((out / "run.json").read_text())
    live = facts["cameras"]["b"]["live"]
    assert live["state"] in ("backing off", "connecting") and live["reconnects"] == 0
    assert min(live["seconds"]["backing off"], live["seconds"]["live"]) > 0
    assert "camera b" in facts["failed_cameras"]["b"] and not facts["interrupted"]
    assert not (out / "journal").exists() and (out / "tracks" / "b.txt").exists()


def test_sighup_adds_removes_and_restarts_cameras(state, tmp_path, out):
    with RtspCamera("160x120@10") as one, RtspCamera("160x120@10") as two:
        site = site_file(tmp_path / "site.yaml", {"a": one.uri, "b": two.uri})
        arguments = ("run", "--config", site, "--out", out, "--no-video", "--set", "output.plots=false")
        with running(state, tmp_path / "log", *arguments) as run:
            run.until(lambda: frames_seen(out, "a") > 5 and frames_seen(out, "b") > 5)
            site.write_text("cameras: [{name: a, sauce: x}]\n")
            run.send(signal.SIGHUP)
            run.until(lambda: "unknown key; did you mean 'source'?" in run.said)
            site_file(site, {"a": two.uri, "c": one.uri}, a=", detect_hz: 5")
            site.write_text(site.read_text() + "device: cpu\n")
            run.send(signal.SIGHUP)
            run.until(lambda: "configuration read again" in run.said)
            assert "added c; removed b; restarted a" in run.said
            assert "changes of device take effect at the next start" in run.said
            run.until(lambda: frames_seen(out, "c") > 5)
            seen = frames_seen(out, "b")
            run.until(lambda: frames_seen(out, "c") > 20)
            assert frames_seen(out, "b") <= seen + 2
            assert run.end(signal.SIGINT) == DONE, run.said
    facts = json.loads((out / "run.json").read_text())
    assert [camera["name"] for camera in facts["config"]["cameras"]] == ["a", "c"] and facts["site"] == "hall"
    assert facts["cameras"]["b"]["ended"] and facts["cameras"]["a"]["frames_skipped"] > 0
    assert {path.stem for path in (out / "tracks").iterdir()} >= {"a", "c"}


def test_kill_9_of_a_live_run(state, tmp_path, out):
    with RtspCamera("160x120@10", user="me:s3cret") as served:
        video = (*PLAIN, "--set", "output.delay_s=0.5", "--set", f"output.part_hours={2 / 3600}")
        with running(state, tmp_path / "log", "run", "-s", f"a={served.uri}", "--out", out, *video) as run:
            run.until(lambda: len(parts_of(out)) >= 2 and frames_seen(out, "a") > 5)
            assert run.end(signal.SIGKILL) == -signal.SIGKILL
            assert "s3cret" not in run.said
        assert identrix("finish", out).exit_code == DONE
        assert (out / "tracks" / "a.txt").exists() and not (out / "journal").exists()
        assert all((part / "tracks.parquet").exists() for part in parts_of(out)) and len(parts_of(out)) >= 2
        film = min((out / "video" / "a").iterdir())  # another may have begun: they end with the minutes
        assert picture_count(film) > 0  # playable, though nobody finished it


def test_files_and_live_cameras_do_not_mix(walk, state, out):
    mixed = identrix("run", "-s", f"a={walk['a']}", "-s", "b=rtsp://127.0.0.1:9/cam", "--out", out, *QUICK)
    assert mixed.exit_code == BAD_INPUT and re.search(r"live cameras \(b\) and files", mixed.stderr)
    timed = identrix("run", "-s", f"a={walk['a']}", "--out", out, *QUICK, "--for", 3)
    assert timed.exit_code == BAD_INPUT and "ends with them" in timed.stderr and not out.exists()
