"""A run in parts says together what the same run says in one piece, also when it is killed between."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.journal_writer import RunJournal
from pipeline.outputs import finish_killed
from pipeline.parts import Parts, finish_part, finish_parts, ids_around, parts_of, unfinished_parts
from pipeline.tracklog import JournalError, finish_run, read_tracks, write_json_atomic
from pipeline.tracks_table import read_assignments
from st_model.ledger import Correction
from st_model.sightings import Decision, Sighting

CONFIG = {"config": {"output": {}, "cameras": [{"name": "a"}, {"name": "b"}]}}


def play(journal: RunJournal, cuts: list[int], cut) -> None:
    """Twelve stays of 10 s each, decided 3 s after they begin and at their end; a merge and a split late."""
    stays = [("ab"[n % 2], n + 1, 4 * n) for n in range(12)]  # camera, track, begin
    unit = np.array([1.0, 0.0], np.float32)
    for second in range(70):
        if second in cuts:
            cut()
        for camera in "ab":
            here = [track for where, track, begin in stays if where == camera and begin <= second < begin + 10]
            boxes = np.array([[10 * t, 0, 10 * t + 9, 20] for t in here], np.float32).reshape(-1, 4)
            scores = np.ones(len(here), np.float32)
            journal.boxes(camera, second, float(second), np.array(here, np.int64), boxes, scores)
        for camera, track, begin in stays:
            if second in (begin + 3, begin + 10):
                closed = second == begin + 10
                journal.sighting(Sighting(camera, track, float(begin), second - 1.0, float(second), closed, unit))
                journal.decision(Decision(camera, track, float(second), 100 + track, "match"))
        if second == 40:
            journal.correction(Correction("merge", 40.0, 109, 101, (("a", 9),), 0.9))
        if second == 41:
            journal.correction(Correction("split", 41.0, 108, 900, (("b", 8),), 0.9))
    journal.flush()


def rows(folder: Path) -> set[tuple]:
    return {(row["camera"], row["frame"], row["track_id"], row["global_id"]) for row in read_tracks(folder).to_pylist()}


def cutter(run: Path, journal: RunJournal, monkeypatch: pytest.MonkeyPatch | None = None) -> Parts:
    (run / "tables_start.json").write_text("{}")
    return Parts(run, 3600.0, journal, lambda: dict(CONFIG), lambda path: path.write_text("{}"), settle_s=0.0)


def test_parts_together_are_the_whole(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    for folder in (whole, run):
        folder.mkdir()
    with RunJournal(whole) as journal:
        play(journal, [], None)
    finish_run(whole)
    names = iter(f"2026-11-22T0{n}-00-00Z" for n in range(9))
    with RunJournal(run) as journal:

        def cut() -> None:
            part = run / "parts" / next(names)
            part.mkdir(parents=True)
            write_json_atomic(part / "run.json", CONFIG)
            journal.move_to(part)

        play(journal, [22, 44], cut)
    assert len(unfinished_parts(run)) == 2 and finish_parts(run) == 2 and unfinished_parts(run) == []
    finish_run(run, ids_around(run, run))
    found = [rows(folder) for folder in (*parts_of(run), run)]
    assert set().union(*found) == rows(whole) and sum(map(len, found)) == len(rows(whole))
    assert all(rows(folder) for folder in (*parts_of(run), run))
    for folder in (*parts_of(run), run):  # a stay is listed where it was seen
        assert set(read_assignments(folder / "assignments.csv")) == {(c, t) for c, _, t, _ in rows(folder)}
    assert json.loads((parts_of(run)[0] / "run.json").read_text())["counters"]["stays"] > 0


@settings(max_examples=20)
@given(st.lists(st.integers(0, 5), max_size=4, unique=True), st.integers(1, 10))
def test_wherever_it_is_cut_every_box_is_there_once(tmp_path_factory, tens, offset_s):
    """Parts are longer than a stay waits for its first decision: a part looks no further than its neighbours."""
    cuts = [10 * ten + offset_s for ten in sorted(tens)]
    run = tmp_path_factory.mktemp("run")
    with RunJournal(run) as journal:
        number = iter(range(99))

        def cut() -> None:
            part = run / "parts" / f"2026-11-22T00-00-{next(number):02d}Z"
            part.mkdir(parents=True)
            write_json_atomic(part / "run.json", CONFIG)
            journal.move_to(part)

        play(journal, cuts, cut)
    write_json_atomic(run / "run.json", CONFIG)
    finish_killed(run)
    folders = [*parts_of(run), run]
    assert len(folders) == len(cuts) + 1
    boxes = [(c, f, t) for folder in folders for c, f, t, _ in rows(folder)]
    assert len(boxes) == len(set(boxes)) == 120


def test_a_cut_is_made_by_the_clock_and_finished_by_a_process_beside(tmp_path, monkeypatch):
    now = [1_800_000_000.0 + 3500]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with RunJournal(tmp_path) as journal:
        parts = cutter(tmp_path, journal)
        box = np.array([[0, 0, 9, 20]], np.float32)
        for second in range(4):
            journal.boxes("a", second, float(second), np.array([1]), box, np.ones(1, np.float32))
        journal.decision(Decision("a", 1, 2.0, 7, "new"))
        parts.look()
        assert parts.cut == 0
        now[0] += 200
        parts.look()
        assert parts.cut == 1 and [part.name for part in parts_of(tmp_path)] == ["2027-01-15T08-58-20Z"]
        for second in range(4, 6):
            journal.boxes("a", second, float(second), np.array([1]), box, np.ones(1, np.float32))
        parts.look()
        parts.close()
        (part,) = parts_of(tmp_path)
        assert rows(part) == {("a", n + 1, 1, 7) for n in range(4)} and not (part / "journal").exists()
        facts = json.loads((part / "run.json").read_text())
        assert (
            facts["part"] == {"begins_s": 1_800_003_500.0, "ends_s": 1_800_003_700.0} and facts["counters"]["rows"] == 4
        )
    finish_run(tmp_path, ids_around(tmp_path, tmp_path))
    assert rows(tmp_path) == {("a", n + 1, 1, 7) for n in range(4, 6)}  # decided in the part before


def test_a_part_that_cannot_be_finished_is_named(tmp_path, monkeypatch, caplog):
    now = [1_800_000_000.0 + 3500]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with RunJournal(tmp_path) as journal:
        parts = cutter(tmp_path, journal)
        now[0] += 200
        parts.look()
        (part,) = parts_of(tmp_path)
        (part / "run.json").write_text("no JSON")
        parts.look()
        parts.close()
    assert "is not finished" in caplog.text and f"identrix finish {tmp_path}" in caplog.text
    assert unfinished_parts(tmp_path) == [part]


def test_a_part_waits_until_what_was_seen_is_decided(tmp_path, monkeypatch):
    now, settled_s = [1_800_000_000.0 + 3500], [0.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    (tmp_path / "tables_start.json").write_text("{}")
    held = []

    @contextmanager
    def around_cut():
        assert not parts_of(tmp_path)[0].joinpath("journal").exists()
        yield
        held.append(parts_of(tmp_path)[0].joinpath("journal").is_dir())

    with RunJournal(tmp_path) as journal:
        parts = Parts(
            tmp_path, 3600.0, journal, lambda: dict(CONFIG), lambda path: path.write_text("{}"),
            settle_s=0.0, settled_s=lambda: settled_s[0], around_cut=around_cut,
        )  # fmt: skip
        now[0] += 200
        parts.look()
        parts.look()
        parts.close()
        assert held == [True] and len(unfinished_parts(tmp_path)) == 1
        settled_s[0] = time.monotonic() + 1
        parts.look()
        parts.close()
    assert unfinished_parts(tmp_path) == []


def test_who_goes_on_after_a_kill_finishes_its_parts_and_cuts_at_the_same_times(tmp_path, monkeypatch):
    now = [1_800_000_000.0 + 7000]
    monkeypatch.setattr(time, "time", lambda: now[0])
    one, orphan = tmp_path / "parts" / "2027-01-15T08-00-00Z", tmp_path / "parts" / "2027-01-15T08-58-20Z"
    for part, ends_s in ((one, 1_800_003_500.0), (orphan, 1_800_003_600.0)):
        part.mkdir(parents=True)
        write_json_atomic(part / "run.json", {**CONFIG, "part": {"begins_s": 0.0, "ends_s": ends_s}})
    (one / "journal" / "boxes").mkdir(parents=True)
    with RunJournal(tmp_path) as journal:
        parts = cutter(tmp_path, journal)
        assert parts_of(tmp_path) == [one], "killed before the journal was moved: it never was a part"
        parts.look()
        assert parts.cut == 1 and json.loads((parts_of(tmp_path)[1] / "run.json").read_text())["part"] == {
            "begins_s": 1_800_003_500.0,
            "ends_s": now[0],
        }
        parts.close()
        parts.look()
        parts.close()
    assert unfinished_parts(tmp_path) == []
    finish_part(tmp_path, one)  # by a process that a killed worker left behind: done is done
    assert finish_parts(tmp_path) == 0


def test_old_parts_go_when_another_one_is_completed(tmp_path, monkeypatch):
    now = [time.time() // 3600 * 3600 + 3500]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "state"))
    keeping = {"config": {"output": {}, "cameras": [{"name": "a"}], "retention": {"runs_days": 1}}, "site": "s"}
    run = tmp_path / "run"
    for name, age_s in (("2026-01-01T00-00-00Z", 2 * 86400.0), ("2026-01-02T00-00-00Z", 600.0)):
        part = run / "parts" / name
        part.mkdir(parents=True)
        (part / "tracks.parquet").write_bytes(b"")
        write_json_atomic(part / "run.json", {**keeping, "part": {"begins_s": 0.0, "ends_s": now[0] - age_s}})
    with RunJournal(run) as journal:
        write = lambda path: path.write_text("{}")  # noqa: E731
        parts = Parts(run, 3600.0, journal, lambda: dict(keeping), write, settle_s=0.0)
        parts._begin_s = now[0]
        now[0] += 200
        parts.look()
        parts.look()
        parts.close()
    assert parts_of(run)[0].name == "2026-01-02T00-00-00Z" and len(parts_of(run)) == 2


def test_killed_while_the_journal_moved(tmp_path):
    part = tmp_path / "parts" / "2026-11-22T00-00-00Z"
    part.mkdir(parents=True)
    write_json_atomic(part / "run.json", CONFIG)
    write_json_atomic(tmp_path / "run.json", CONFIG)
    with RunJournal(tmp_path) as journal:
        play(journal, [], None)
    (tmp_path / "journal").rename(part / "journal")  # and no more
    finish_killed(tmp_path)
    assert len(rows(part)) == 120 and rows(tmp_path) == set()
    with pytest.raises(JournalError, match="no unfinished run"):
        finish_killed(tmp_path)
