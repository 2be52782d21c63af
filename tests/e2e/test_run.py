"""`run` as a user runs it: what it writes, what it keeps from run to run, and that nothing in it is left to chance."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import walkers
from door import PLAIN, QUICK, ROOT, acting_at, films, identrix

import run_pipeline
from pipeline import door as shell
from pipeline import journal_writer, runner
from pipeline.config import load_config
from pipeline.journal import read_boxes
from pipeline.tracklog import read_decisions, read_sightings, read_tracks
from pipeline.tracks_table import read_assignments

FRAMES = walkers.FPS * walkers.DURATION_S


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def people_and_moves(run: Path) -> tuple[list[list[tuple[str, int]]], list[dict[str, str]]]:
    """Stays grouped by person, numbered per camera in order of appearance; moves without ids. Free of any id."""
    order: dict[str, list[int]] = {}
    for camera, track_id in sorted(read_assignments(run / "assignments.csv")):
        order.setdefault(camera, []).append(track_id)
    people: dict[int, list[tuple[str, int]]] = {}
    for (camera, track_id), (global_id, _) in read_assignments(run / "assignments.csv").items():
        people.setdefault(global_id, []).append((camera, order[camera].index(track_id)))
    moves = [{k: v for k, v in row.items() if k != "global_id"} for row in rows(run / "transitions.csv")]
    return sorted(sorted(stays) for stays in people.values()), sorted(moves, key=lambda row: row["entered_s"])


def learnt_before(run: Path) -> list[list[object]]:
    """What the tables held when a run began."""
    return json.loads((run / "tables_start.json").read_text())["counts"]


def picture_count(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_whole_run_folder(walk, state, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(
        f"site: hall\ncameras:\n- {{name: a, source: {walk['a']}, start: 2026-11-22T10:00:00Z}}\n"
        f"- {{name: b, source: {walk['b']}, start: 2026-11-22T10:00:01Z, offset_s: -1}}\n"
        "detector: {model: motion}\nreid: {encoder: stripes}\n"
    )
    out = tmp_path / "run"
    done = identrix("run", "--config", site, "--out", out)
    assert (done.exit_code, done.stdout, done.stderr) == (
        0,
        f"4 persons, 8 stays, 4 transitions: {out}\n",
        "",
    )

    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names >= {
        *("run.json", "tracks.csv", "tracks.parquet", "transitions.csv", "sightings.parquet", "decisions.jsonl"),
        *("corrections.jsonl", "tracks/a.txt", "tracks/b.txt", "video/a.mp4", "video/b.mp4", "video/mosaic.mp4"),
        *("plots/timeline.png", "plots/transition a to b.png", "tables_start.json", "assignments.csv"),
    }
    assert not [name for name in names if name.startswith(("journal", "."))]

    moves = rows(out / "transitions.csv")
    assert [(move["from_camera"], move["to_camera"]) for move in moves] == [("a", "b")] * walkers.PEOPLE
    assert len({move["global_id"] for move in moves}) == walkers.PEOPLE
    for move in moves:  # 350 px wide with the walker's own width, at 60 px per second
        assert float(move["delay_s"]) == pytest.approx(walkers.DELAY_S - 350 / 60, abs=0.9)

    tracks = read_tracks(out).to_pylist()
    assert tracks[0]["time_s"] > 1.79e9  # the site's clock, not the film's
    mot = [line.split(",") for camera in "ab" for line in (out / f"tracks/{camera}.txt").read_text().splitlines()]
    assert {len(row) for row in mot} == {10}
    assert sorted((int(row[0]), int(row[1])) for row in mot) == sorted((t["frame"], t["global_id"]) for t in tracks)

    assert len(read_sightings(out / "sightings.parquet")) == len(read_decisions(out / "decisions.jsonl"))
    for name in ("a", "b", "mosaic"):
        assert picture_count(out / "video" / f"{name}.mp4") == FRAMES

    facts = json.loads((out / "run.json").read_text())
    assert facts["site"] == "hall" and facts["table_version"] >= 1 and not facts["interrupted"]
    assert facts["cameras"]["a"]["frames_read"] == FRAMES and facts["counters"]["persons"] == walkers.PEOPLE


def test_tables_stay_and_ids_are_never_used_twice(walk, state, tmp_path):
    """Second run of a site: warm tables; `--fresh`: cold ones; no id and no track id ever comes again."""
    for name, *options in (("first",), ("second",), ("fresh", "--fresh")):
        done = identrix("run", *films(walk), "--out", tmp_path / name, *QUICK, *options)
        assert done.exit_code == 0, done.stderr
    assert not learnt_before(tmp_path / "first") and not learnt_before(tmp_path / "fresh")
    assert [row[:2] for row in learnt_before(tmp_path / "second")] == [["a", "b"]]

    given = [read_assignments(tmp_path / name / "assignments.csv") for name in ("first", "second", "fresh")]
    for kind in (
        [{global_id for global_id, _ in ids.values()} for ids in given],
        [{track_id for _, track_id in ids} for ids in given],
    ):
        assert all(min(later) > max(earlier) for earlier, later in itertools.pairwise(kind))

    cold, _ = people_and_moves(tmp_path / "first")
    assert people_and_moves(tmp_path / "fresh") == people_and_moves(tmp_path / "first")  # but for the names of the ids
    assert people_and_moves(tmp_path / "second")[0] == cold
    sure = [
        min(float(move["probability"]) for move in rows(tmp_path / n / "transitions.csv")) for n in ("first", "second")
    ]
    assert sure[1] > sure[0]  # experience tells


def test_a_replay_decides_the_same(walk, state, tmp_path):
    for name in ("cold", "warm"):
        assert identrix("run", *films(walk), "--out", tmp_path / name, *QUICK).exit_code == 0
        again = tmp_path / f"{name} again"
        done = identrix("replay", tmp_path / name, "--out", again, "--against", tmp_path / name)
        assert done.exit_code == 0 and done.stdout.splitlines()[-1] == "0 stays decided differently"
        before, after = (read_decisions(folder / "decisions.jsonl") for folder in (tmp_path / name, again))
        assert [(d.key, d.kind, d.margin) for d in before] == [(d.key, d.kind, d.margin) for d in after]


def test_the_journal_grows_while_the_run_goes(walk, state, out, monkeypatch):
    monkeypatch.setattr(journal_writer, "FLUSH_S", 0.0)
    seen = []

    def look() -> None:
        seen.append({camera: len(boxes) for camera, boxes in read_boxes(out).items()})

    monkeypatch.setattr(run_pipeline, "progress", acting_at(12.0, look))
    assert identrix("run", *films(walk), "--out", out, *QUICK).exit_code == 0
    assert all(count >= 12 * walkers.FPS for count in seen[0].values()) and set(seen[0]) == {"a", "b"}


def test_stopped_before_the_first_frame(walk, state, out):
    config = load_config(sources=[f"{name}={path}" for name, path in walk.items()], overrides=PLAIN[1::2])
    stop = threading.Event()
    stop.set()
    result = runner.run(config, out, stop=stop)
    assert result.interrupted and result.summary["counters"]["camera_frames"] == 0
    assert read_tracks(out).num_rows == 0 and read_decisions(out / "decisions.jsonl") == []
    assert read_sightings(out / "sightings.parquet") == []
    assert [path.read_text() for path in sorted((out / "tracks").iterdir())] == ["", ""]
    assert rows(out / "transitions.csv") == [] and json.loads((out / "run.json").read_text())["interrupted"]


def test_a_used_folder_is_kept_unless_it_may_be_replaced(walk, state, out):
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    refused = identrix("run", *films(walk), "--out", out, *QUICK)
    assert refused.exit_code == 2 and "not empty" in refused.stderr and "--overwrite" in refused.stderr

    assert identrix("run", *films(walk), "--out", out, *QUICK, "--overwrite").exit_code == 0
    (out / "video").mkdir()
    (out / "video" / "of an earlier run.mp4").touch()
    only_a = {"a": walk["a"]}
    assert identrix("run", *films(only_a), "--out", out, *QUICK, "--overwrite").exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "video").exists() and not (out / "tracks" / "b.txt").exists()


def test_recorded_boxes_need_no_detector(walk, state, tmp_path):
    assert identrix("run", *films(walk), "--out", tmp_path / "first", *QUICK).exit_code == 0
    boxes = ("--set", "detector.model=recorded", "--set", f"detector.recorded_dir={tmp_path / 'first' / 'tracks'}")
    done = identrix("run", *films(walk), "--out", tmp_path / "second", *QUICK, *boxes)
    assert done.exit_code == 0 and done.stdout.startswith("4 persons, 8 stays, 4 transitions")


def test_json_for_machines(walk, state, out):
    done = identrix("--log-format", "json", "run", *films(walk), "-s", "c=gone.mp4", "--out", out, *QUICK, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["counters"]["persons"] == walkers.PEOPLE
    first = json.loads(done.stderr.splitlines()[0])
    assert first["level"] == "error" and "gone.mp4" in first["message"]


def test_a_bar_for_people_and_messages_above_it(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with run_pipeline.progress(quiet=False) as show:
        show("watching", 3.0, 30.0)
        handler = shell._ToStderr()
        handler.emit(logging.makeLogRecord({"msg": "camera b: is not a video"}))
        show("watching", 30.0, 30.0)
    shown = terminal.getvalue()
    assert "watching" in shown and "100%" in shown and "\x1b[2Kcamera b: is not a video\n" in shown


def test_help_is_light():
    """`--help` answers without the heavy libraries: that is what makes it instant."""
    code = (
        "import sys; sys.argv = ['identrix', '--help']\n"
        "import run_pipeline\n"
        "try: run_pipeline.main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sorted({'numpy', 'torch', 'cv2', 'pydantic', 'redis', 'pyarrow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "run" in done.stdout and done.stdout.splitlines()[-1] == "LOADED"


def test_real_footage_with_networks(data_dir, models_dir, state, out):
    videos = {name: data_dir / "vcam_dev" / "videos" / f"{name}.mp4" for name in "ab"}
    sparse = [part for n in range(2) for part in ("--set", f"cameras.{n}.stride=4")]
    done = identrix("run", *films(videos), "--out", out, *sparse, "--no-video", "--set", "output.plots=false")
    assert done.exit_code == 0, done.stderr
    score = identrix("evaluate", out, "--truth", data_dir / "vcam_dev" / "gt", "--json")
    assert score.exit_code == 0
    facts = json.loads((out / "run.json").read_text())
    assert len(facts["weights"]) == 3 and facts["counters"]["persons"] >= 5 and facts["counters"]["transitions"] >= 3
