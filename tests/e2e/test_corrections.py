"""Corrections by hand: files, ledger and tables follow, undo gives everything back, two at once lose nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from door import identrix, own_process

from pipeline import corrections, run_edit
from pipeline.corrections import How
from pipeline.journal import read_corrections
from pipeline.run_edit import EditConflict, EditError, version_of
from pipeline.tracklog import read_tracks
from pipeline.tracks_table import read_assignments

FILES = (
    "tracks.csv",
    "tracks/a.txt",
    "tracks/b.txt",
    "stays.csv",
    "transitions.csv",
    "assignments.csv",
    "decisions.jsonl",
)


def contents(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in FILES}


def tables() -> list[dict[str, object]]:
    shown = json.loads(identrix("tables", "show", "--site", "hall", "--json").stdout)
    return sorted(shown, key=lambda row: (row["from_camera"], row["to_camera"]))


def persons(run: Path) -> set[int]:
    return {person for person, _ in read_assignments(run / "assignments.csv").values()}


def done(*arguments: object) -> dict[str, object]:
    result = identrix("correct", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_merge_and_undo_give_everything_back(hall):
    before, learnt = contents(hall), tables()
    one, two, *_ = sorted(persons(hall))
    merged = done(hall, "merge", f"P{two}", f"p{one}")
    assert merged["persons"] == 3 and merged["correction"]["into_id"] == one and merged["videos_stale"]
    assert persons(hall) == {one, *sorted(persons(hall))[1:]} and two not in persons(hall)
    assert two not in set(read_tracks(hall)["global_id"].to_pylist())
    assert f'"final_id":{two}' not in (hall / "decisions.jsonl").read_text()
    assert tables() != learnt and merged["taught"] == pytest.approx(1.0, abs=0.1)
    assert json.loads((hall / "run.json").read_text())["counters"]["persons"] == 3
    assert "says" in identrix("explain", hall, f"P{one}").stdout

    undone = done(hall, "undo")
    assert undone["taught"] == -merged["taught"] and contents(hall) == before and tables() == learnt
    assert [c.kind for c in read_corrections(hall / "corrections.jsonl")] == ["merge", "unmerge"]
    refused = identrix("correct", hall, "undo")
    assert refused.exit_code == 2 and "nothing was corrected by hand" in refused.stderr


def test_a_wrong_link_is_subtracted_exactly(hall):
    """A split takes back the very count that the link into the stay had taught; moving it on teaches the right one."""
    before, learnt = contents(hall), tables()
    key = next(key for key in sorted(read_assignments(hall / "assignments.csv")) if key[0] == "b")
    owner = read_assignments(hall / "assignments.csv")[key][0]
    done(hall, "split", "{}:{}".format(*key))
    (row,) = tables()
    links = [json.loads(line) for line in (hall / "by_hand" / "links.jsonl").read_text().splitlines()]
    (taught,) = [link["taught"][4] for link in links if tuple(link["stays"][1]) == key]
    assert row["evidence"] == pytest.approx(learnt[0]["evidence"] - taught / 4096, abs=1e-9)
    fresh = read_assignments(hall / "assignments.csv")[key][0]
    assert fresh > max(i for i in persons(hall) if i != fresh) and owner in persons(hall)

    done(hall, "split", "{}:{}".format(*key), "--into", f"P{owner}")
    assert read_assignments(hall / "assignments.csv")[key][0] == owner
    done(hall, "undo")
    done(hall, "undo")
    assert contents(hall) == before and tables() == learnt
    assert done(hall, "split", "{}:{}".format(*key))["correction"]["into_id"] > fresh  # no id is given twice


def test_tables_that_were_reset_or_frozen_since_are_left_alone(hall):
    one, two, *_ = sorted(persons(hall))
    assert identrix("tables", "freeze", "--site", "hall").exit_code == 0
    assert done(hall, "merge", one, two)["not_taught"] == "the site is frozen"
    assert identrix("tables", "unfreeze", "--site", "hall").exit_code == 0
    assert done(hall, "undo")["not_taught"] == "what is taken back was not taught"
    assert done(hall, "merge", one, two)["not_taught"] is None
    assert identrix("tables", "reset", "--site", "hall", "--yes").exit_code == 0
    assert done(hall, "undo")["not_taught"] == "the tables were reset since the run" and tables() == []


def test_what_was_not_taught_is_not_taken_back(hall):
    before, learnt = contents(hall), tables()
    one, two, *_ = sorted(persons(hall))
    key = next(key for key in sorted(read_assignments(hall / "assignments.csv")) if key[0] == "b")
    assert done(hall, "merge", one, two, "--no-teach")["correction"]["untaught"]
    split = done(hall, "split", "{}:{}".format(*key))  # in between one that is taught
    assert split["taught"] < 0 and tables() != learnt
    assert done(hall, "undo", "--no-teach")["not_taught"] == "not asked to"
    taken_back = tables()
    undone = done(hall, "undo")
    assert (undone["taught"], undone["not_taught"]) == (0.0, "what is taken back was not taught")
    assert contents(hall) == before and tables() == taken_back


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("merge", "P1"), "merge needs two persons"),
        (("merge", "P1", "P1"), "the same person already"),
        (("merge", "P1", "P999"), "there is no person P999; the nearest are P2, P3, P4"),
        (("merge", "Anna", "P1"), "expected a person such as P12"),
        (("split",), "split needs one stay or more"),
        (("split", "c:1"), "there is no camera 'c'"),
        (("split", "a:1", "a:2"), "these stays are of different persons: P1, P2"),
        (("split", "a:1", "b:3"), "these are all stays of P1"),
        (("split", "a:1", "--into", "P1"), "they are P1's already"),
        (("undo", "7"), "there is no correction 7 that stands"),
        (("undo", "x"), "expected a number"),
        (("mrege", "P1", "P2"), "did you mean 'merge'?"),
        (("merge", "P1", "P2", "--into", "P3"), "--into goes with split only"),
    ],
)
def test_what_makes_no_sense_changes_nothing(words, said, hall):
    before = {path: path.read_bytes() for path in hall.rglob("*") if path.is_file() and path.name != ".edit.lock"}
    result = identrix("correct", hall, *words)
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("damage", [lambda raw: raw[:2000], lambda raw: b""])
def test_damaged_sightings_are_named_and_nothing_is_changed(hall, damage):
    path = hall / "sightings.parquet"
    path.write_bytes(damage(path.read_bytes()))
    before = contents(hall)
    result = identrix("correct", hall, "merge", "P1", "P2", "--no-teach")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and "sightings.parquet" in result.stderr
    assert contents(hall) == before


def test_not_the_folder_of_a_finished_run(tmp_path, hall):
    (tmp_path / "empty").mkdir()
    assert "not the folder of a finished run" in identrix("correct", tmp_path / "empty", "list").stderr
    (hall / "journal").mkdir()
    result = identrix("correct", hall, "merge", "P1", "P2")
    assert result.exit_code == 2 and "the run is not finished" in result.stderr


def test_two_at_once(hall, monkeypatch):
    """Whoever looked at an older state is told so; who comes while another writes waits, or is told to try again."""
    seen = version_of(hall)
    corrections.merge(hall, "P1", "P2", how=How(by="ann", version=seen))
    with pytest.raises(EditConflict, match="somebody corrected this run since you looked"):
        corrections.merge(hall, "P3", "P4", how=How(by="bob", version=seen))
    workers = [
        threading.Thread(target=corrections.split, args=(hall, [stay]), kwargs={"how": How(by=name)})
        for stay, name in (("b:3", "ann"), ("b:7", "bob"))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    made = read_corrections(hall / "corrections.jsonl")
    assert sorted(c.by for c in made) == ["ann", "ann", "bob"] and len(persons(hall)) == 5

    with (hall / ".edit.lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(run_edit, "LOCK_WAIT_S", 0.1)
        with pytest.raises(EditConflict, match="somebody else is changing this run"):
            corrections.undo(hall)
    assert len(read_corrections(hall / "corrections.jsonl")) == 3


KILL_AT = "import os, pipeline.{module} as m\ndef die(*a, **k): os.kill(os.getpid(), 9)\nm.{name} = die\n"


@pytest.mark.parametrize(("module", "name"), [("corrections", "keep_base"), ("run_edit", "write_assignments")])
def test_a_kill_in_the_middle_is_completed_by_the_next(hall, tmp_path, module, name):
    whole = tmp_path / "whole"
    shutil.copytree(hall.parent, whole)
    state = hall.parent / "state"
    killed = own_process(KILL_AT.format(module=module, name=name), "correct", hall, "merge", "P1", "P2", state=state)
    assert killed.returncode == -signal.SIGKILL and (hall / "by_hand" / "pending.json").is_file()
    assert identrix("correct", hall, "merge", "P3", "P4").exit_code == 0
    after, learnt = contents(hall), tables()
    assert not (hall / "by_hand" / "pending.json").exists()

    os.environ["IDENTRIX_STATE"] = str(whole / "state")  # the fixture gives it back
    for pair in (("P1", "P2"), ("P3", "P4")):
        assert identrix("correct", whole / "run", "merge", *pair).exit_code == 0
    assert contents(whole / "run") == after and tables() == learnt  # counted once


def test_videos_are_drawn_again_and_then_show_the_new_ids(hall):
    assert identrix("correct", hall, "merge", "P1", "P2").exit_code == 0
    assert "still show the ids from before" in identrix("correct", hall, "merge", "P3", "P4").stdout
    drawn = done(hall, "redraw")
    assert {Path(path).name for path in drawn["videos"]} == {"a.mp4", "b.mp4", "mosaic.mp4"}
    facts = json.loads((hall / "run.json").read_text())
    (hall / "run.json").write_text(json.dumps({**facts, "forgotten": 1}))
    assert "somebody was forgotten in this run" in identrix("correct", hall, "redraw").stderr


def test_persons_who_were_in_one_camera_at_one_time(hall):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = hall / "sightings.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("entered_s")
    pq.write_table(table.set_column(at, "entered_s", pa.array([0.0] * table.num_rows)), path)
    refused = identrix("correct", hall, "merge", "P1", "P2", "--no-teach")
    assert refused.exit_code == 2 and "in one camera at one time" in refused.stderr and "--anyway" in refused.stderr
    assert done(hall, "merge", "P1", "P2", "--no-teach", "--anyway")["not_taught"] == "not asked to"


def test_errors_are_of_one_tree():
    assert issubclass(EditConflict, EditError) and issubclass(EditError, ValueError)
