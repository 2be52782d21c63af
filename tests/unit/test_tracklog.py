"""The run journal and the final files derived from it, also after a kill and on a full disk."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import sightings_file
from pipeline.atomic import OutputError, write_json_atomic
from pipeline.journal import JournalError, read_boxes, read_corrections, read_decisions, read_journal_sightings
from pipeline.sightings_file import SightingsFileError, read_sightings, write_sightings
from pipeline.tracklog import RunJournal, finish_run, read_tracks
from pipeline.tracks_table import read_assignments
from st_model.ledger import Correction
from st_model.sightings import Candidate, Decision, Sighting


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def sighting(track_id: int = 1, emitted_s: float = 2.0, **changes) -> Sighting:
    fields = {
        "camera": "lobby",
        "track_id": track_id,
        "entered_s": 1.0,
        "last_s": 2.0,
        "emitted_s": emitted_s,
        "closed": True,
        "embedding": unit(1, 2, 2),
        "n_crops": 3,
        "quality": 0.5,
        "first_box": np.array([1, 2, 3, 4], np.float32),
        "last_box": None,
    }
    return Sighting(**fields | changes)


NEW = Candidate(None, 0.0, math.nan, 1.0, 0.5, 0.25)
OLD = Candidate(7, 0.6, 12.5, 3.0, 0.9, 0.75, "exit")
DECISION = Decision("lobby", 1, 2.5, 7, "match", (OLD, NEW), 0.5, 42)


def boxes(journal: RunJournal, camera: str, index: int, *tracks: tuple[int, float, float], time_s: float | None = None):
    """Log tracks given as (track id, left, score); boxes are 10 wide and 20 high."""
    ids = np.array([t[0] for t in tracks], np.int64)
    corners = np.array([[t[1], 5, t[1] + 10, 25] for t in tracks], np.float32).reshape(-1, 4)
    scores = np.array([t[2] for t in tracks], np.float32)
    journal.boxes(camera, index, index / 10 if time_s is None else time_s, ids, corners, scores)


def same_sighting(a: Sighting, b: Sighting) -> bool:
    plain = ("camera", "track_id", "entered_s", "last_s", "emitted_s", "closed", "n_crops")
    return (
        all(getattr(a, name) == getattr(b, name) for name in plain)
        and np.float32(a.quality) == np.float32(b.quality)
        and a.embedding.tobytes() == b.embedding.tobytes()
        and all(
            (x is None and y is None) or (x is not None and y is not None and x.tobytes() == y.tobytes())
            for x, y in ((a.first_box, b.first_box), (a.last_box, b.last_box))
        )
    )


# ------------------------------------------------------------------------------------------------- the journal


def test_what_was_said_is_read_back(tmp_path):
    correction = Correction("split", 9.0, 7, 8, (("lobby", 1), ("exit", 3)), 0.9, "looked different")
    with RunJournal(tmp_path) as journal:
        boxes(journal, "lobby", 3, (1, 10.25, 0.5), (2, 40, 0.75))
        boxes(journal, "lobby", 4)
        journal.sighting(sighting())
        journal.decision(DECISION)
        journal.correction(correction)
    table = read_boxes(tmp_path)["lobby"]
    assert table["frame"].tolist() == [3, 3, 4]
    assert table["track_id"].tolist() == [1, 2, -1]  # nobody in frame 4
    assert table["box"][0].tolist() == [10.25, 5, 20.25, 25]
    assert same_sighting(read_journal_sightings(tmp_path)[0], sighting())
    read = read_decisions(tmp_path / "journal" / "decisions.jsonl")[0]
    assert repr(read) == repr(DECISION)  # repr, because NaN differs from itself
    assert read_corrections(tmp_path / "journal" / "corrections.jsonl") == [correction]


def test_the_journal_is_strict_json(tmp_path):
    with RunJournal(tmp_path) as journal:
        journal.decision(DECISION)

    def refuse(name: str):
        raise AssertionError(f"{name} is not JSON")

    for line in (tmp_path / "journal" / "decisions.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_flushed_rows_survive_kill_9(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
import numpy as np
from pipeline.journal_writer import RunJournal
from st_model.sightings import Decision
journal = RunJournal(Path({str(tmp_path)!r}))
one = np.ones(1, np.int64), np.ones((1, 4), np.float32), np.ones(1, np.float32)
for index in range(50):
    journal.boxes("lobby", index, index / 10, *one)
journal.decision(Decision("lobby", 1, 2.0, 5, "new"))
journal.flush()
journal.boxes("lobby", 50, 5.0, *one)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    finished = finish_run(tmp_path)
    assert (finished.rows, finished.decisions) == (50, 1)
    assert set(read_tracks(tmp_path)["global_id"].to_pylist()) == {5}


@pytest.mark.parametrize("cut", [1, 20, 43])
def test_a_cut_last_box_is_dropped_and_overwritten(tmp_path, cut):
    with RunJournal(tmp_path) as journal:
        boxes(journal, "lobby", 0, (1, 0, 1), (2, 0, 1))
    path = tmp_path / "journal" / "boxes" / "lobby.bin"
    os.truncate(path, path.stat().st_size - cut)
    assert read_boxes(tmp_path)["lobby"]["track_id"].tolist() == [1]
    with RunJournal(tmp_path) as journal:
        boxes(journal, "lobby", 1, (3, 0, 1))
    assert read_boxes(tmp_path)["lobby"]["track_id"].tolist() == [1, 3]


def test_a_cut_last_line_is_dropped_and_overwritten(tmp_path):
    with RunJournal(tmp_path) as journal:
        journal.decision(DECISION)
        journal.decision(DECISION)
    path = tmp_path / "journal" / "decisions.jsonl"
    os.truncate(path, path.stat().st_size - 5)
    assert len(read_decisions(path)) == 1
    with RunJournal(tmp_path) as journal:
        journal.decision(DECISION)
    assert len(read_decisions(path)) == 2


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "decisions.jsonl"
    path.write_text('{"camera": "lobby"}\n')
    with pytest.raises(JournalError, match=r"decisions.jsonl:1: .*track_id"):
        read_decisions(path)
    path.write_text("\n[]\n")
    with pytest.raises(JournalError, match=r"decisions.jsonl:2: expected a JSON object"):
        read_decisions(path)
    path.write_text("{broken\n")
    with pytest.raises(JournalError, match=r"decisions.jsonl:1: not JSON"):
        read_decisions(path)


def test_rows_are_written_once_a_second_without_being_asked(tmp_path, monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("pipeline.journal_writer.time.monotonic", lambda: now_s)
    with RunJournal(tmp_path) as journal:
        boxes(journal, "lobby", 0, (1, 0, 1))
        assert read_boxes(tmp_path) == {}  # not a write per frame
        now_s += 1.1
        boxes(journal, "lobby", 1, (1, 0, 1))
        assert len(read_boxes(tmp_path)["lobby"]) == 2


@pytest.mark.parametrize("name", ["", "../etc", "a/b", ".hidden", "a\\b", "two\nlines"])
def test_a_camera_name_must_be_a_file_name(tmp_path, name):
    with RunJournal(tmp_path) as journal, pytest.raises(ValueError, match="camera name"):
        boxes(journal, name, 0, (1, 0, 1))


def test_arrays_must_fit(tmp_path):
    with RunJournal(tmp_path) as journal, pytest.raises(ValueError, match="2 track ids"):
        journal.boxes("a", 0, 0.0, np.array([1, 2]), np.zeros((1, 4), np.float32), np.zeros(2, np.float32))


def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    journal = RunJournal(tmp_path)
    boxes(journal, "lobby", 0, (1, 0, 1))
    journal.flush()
    write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) > 7:
            return write(descriptor, data[:7])  # a nearly full disk takes a little
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.journal_writer.os.write", full)
        boxes(journal, "lobby", 1, (2, 0, 1))
        with pytest.raises(OutputError, match=r"cannot write .*lobby.bin: No space left on device; free some") as info:
            journal.flush()
    assert info.value.errno == 28
    assert "\n" not in str(info.value)
    boxes(journal, "lobby", 2, (3, 0, 1))  # room again: the half record is gone
    journal.close()
    journal.close()
    assert read_boxes(tmp_path)["lobby"]["track_id"].tolist() == [1, 3]


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        RunJournal(tmp_path / "run")


# ------------------------------------------------------------------------------------------------- final files


@pytest.fixture
def run_dir(tmp_path):
    """Two cameras; person 5 goes from lobby (stays 1 and 2) to exit (stay 4); stay 3 never got an id."""
    with RunJournal(tmp_path) as journal:
        boxes(journal, "lobby", 0, (1, 10.126, 0.5), (3, 70, 0.9))
        boxes(journal, "lobby", 1, (1, 12, 0.5), (2, 13, 0.875))  # person 5 twice in one frame
        boxes(journal, "lobby", 2, (2, 14, 0.25))
        boxes(journal, "exit", 0, time_s=0.0)
        boxes(journal, "exit", 100, (4, 20, 0.5), time_s=10.0)
        boxes(journal, "attic", 0)
        journal.sighting(sighting(track_id=4, emitted_s=11.0))
        journal.sighting(sighting(track_id=1, emitted_s=2.0))
        journal.decision(Decision("lobby", 1, 2.0, 5, "new"))
    return tmp_path


FINAL = {("lobby", 1): (5, 0.9), ("lobby", 2): (5, 0.8), ("exit", 4): (5, 0.75)}


def test_finish_run_counts(run_dir):
    done = finish_run(run_dir, FINAL)
    assert (done.rows, done.rows_without_id, done.rows_twice) == (4, 1, 1)
    assert (done.stays, done.persons, done.transitions) == (3, 1, 1)
    assert (done.sightings, done.decisions, done.corrections) == (2, 1, 0)


def test_mot_files_have_global_ids_and_one_row_per_person_and_frame(run_dir):
    finish_run(run_dir, FINAL)
    assert (run_dir / "tracks" / "lobby.txt").read_text().splitlines() == [
        "1,5,10.13,5,10,20,0.5,-1,-1,-1",
        "2,5,13,5,10,20,0.875,-1,-1,-1",
        "3,5,14,5,10,20,0.25,-1,-1,-1",
    ]
    assert (run_dir / "tracks" / "exit.txt").read_text() == "101,5,20,5,10,20,0.5,-1,-1,-1\n"
    assert (run_dir / "tracks" / "attic.txt").read_text() == ""


def test_tracks_tables_agree(run_dir):
    finish_run(run_dir, FINAL)
    table = read_tracks(run_dir)
    names = ["camera", "frame", "time_s", "track_id", "global_id", "x1", "y1", "x2", "y2", "score"]
    assert table.column_names == names
    assert table["frame"].to_pylist() == [101, 1, 2, 3]
    assert (run_dir / "tracks.csv").read_text().splitlines()[0] == ",".join(names)
    from_csv = pyarrow.csv.read_csv(run_dir / "tracks.csv").cast(table.schema)
    for name in names:
        if table.schema.field(name).type in (pa.float32(), pa.float64()):
            assert np.allclose(from_csv[name].to_numpy(), table[name].to_numpy(), atol=0.005)
        else:
            assert from_csv[name].to_pylist() == table[name].to_pylist()


def test_transitions(run_dir):
    finish_run(run_dir, FINAL)
    assert (run_dir / "transitions.csv").read_text().splitlines() == [
        "global_id,from_camera,left_s,to_camera,entered_s,delay_s,probability",
        "5,lobby,0.2,exit,10,9.8,0.75",
    ]


def test_stays_with_dwell_times(run_dir):
    finish_run(run_dir, FINAL)
    assert (run_dir / "stays.csv").read_text().splitlines() == [
        "global_id,camera,track_id,entered_s,left_s,dwell_s,probability",
        "5,lobby,1,0,0,0,0.9",
        "5,lobby,2,0.1,0.2,0.1,0.8",
        "5,exit,4,10,10,0,0.75",
    ]


def test_a_person_in_two_views_at_once_has_a_negative_delay(tmp_path):
    with RunJournal(tmp_path) as journal:
        for index in range(10):
            boxes(journal, "a", index, (1, 0, 1))
            boxes(journal, "b", index + 8, (2, 0, 1))
    finish_run(tmp_path, {("a", 1): (1, 1.0), ("b", 2): (1, 1.0)})
    assert (tmp_path / "transitions.csv").read_text().splitlines()[1:] == ["1,a,0.9,b,0.8,-0.1,1"]


def test_decisions_keep_what_was_said_and_carry_the_final_id(run_dir):
    finish_run(run_dir, FINAL | {("lobby", 1): (2, 0.9)})
    row = json.loads((run_dir / "decisions.jsonl").read_text())
    assert (row["global_id"], row["final_id"]) == (5, 2)
    assert read_decisions(run_dir / "decisions.jsonl")[0].global_id == 5


def test_final_ids_follow_from_the_journal(run_dir):
    with RunJournal(run_dir) as journal:
        journal.correction(Correction("merge", 3.0, 5, 1, (("lobby", 1),), 0.9, "same coat"))
    done = finish_run(run_dir)
    assert done.corrections == 1
    assert set(read_tracks(run_dir)["global_id"].to_pylist()) == {1}
    assert read_corrections(run_dir / "corrections.jsonl")[0].into_id == 1
    assert read_assignments(run_dir / "assignments.csv") == {("lobby", 1): (1, 0.0)}


def test_assignments_are_read_back(run_dir):
    finish_run(run_dir, FINAL)
    assert read_assignments(run_dir / "assignments.csv") == FINAL


def test_the_journal_is_removed_last(run_dir, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.tracklog.write_assignments", lambda *_: (_ for _ in ()).throw(OutputError("full")))
        with pytest.raises(OutputError):
            finish_run(run_dir, FINAL)
    assert finish_run(run_dir, FINAL).rows == 4  # a second attempt starts from the journal
    assert not (run_dir / "journal").exists()
    with pytest.raises(ValueError, match="nothing to finish"):
        finish_run(run_dir, FINAL)


def test_finishing_twice_gives_the_same_bytes(run_dir):
    def files() -> dict[str, bytes]:
        names = ("tracks.csv", "tracks/lobby.txt", "transitions.csv", "decisions.jsonl", "assignments.csv")
        return {name: (run_dir / name).read_bytes() for name in names}

    finish_run(run_dir, FINAL, keep_journal=True)
    first = files()
    finish_run(run_dir, FINAL, keep_journal=True)
    assert files() == first
    assert not list(run_dir.rglob("*.tmp"))


def test_an_empty_run_has_all_files(tmp_path):
    RunJournal(tmp_path).close()
    done = finish_run(tmp_path, {})
    assert done.rows == done.stays == 0
    assert read_tracks(tmp_path).num_rows == 0
    assert read_sightings(tmp_path / "sightings.parquet") == []
    assert read_decisions(tmp_path / "decisions.jsonl") == []


def test_gaps_are_filled_where_the_camera_looked(tmp_path):
    with RunJournal(tmp_path) as journal:
        boxes(journal, "a", 0, (1, 0, 0.75))
        boxes(journal, "a", 2)  # every second frame is looked at; nobody here
        boxes(journal, "a", 4, (2, 90, 0.5))
        boxes(journal, "a", 6, (1, 30, 0.5))
        for index in range(8, 40, 2):
            boxes(journal, "a", index)
        boxes(journal, "a", 40, (1, 60, 0.5))  # 3.4 s later: too long
    ids = {("a", 1): (1, 1.0), ("a", 2): (2, 1.0)}
    finish_run(tmp_path, ids, fill_gaps_s=1.0, keep_journal=True)
    mine = [row for row in read_tracks(tmp_path).to_pylist() if row["global_id"] == 1]
    assert [(row["frame"], row["x1"], row["score"]) for row in mine] == [
        (1, 0.0, 0.75),
        (3, 10.0, 0.5),
        (5, 20.0, 0.5),
        (7, 30.0, 0.5),
        (41, 60.0, 0.5),
    ]
    finish_run(tmp_path, ids, fill_gaps_s=0.0)
    assert read_tracks(tmp_path).num_rows == 4


def test_smoothing_takes_jitter_out_of_each_stay_alone(tmp_path):
    with RunJournal(tmp_path) as journal:
        for index in range(40):
            boxes(journal, "a", index, (1, 100 + index + 2 * (-1) ** index, 1), (2, 300, 1))
    ids = {("a", 1): (1, 1.0), ("a", 2): (2, 1.0)}
    finish_run(tmp_path, ids, smooth_s=0.3)
    table = read_tracks(tmp_path).to_pylist()
    walker = np.array([row["x1"] for row in table if row["global_id"] == 1])
    assert np.abs(walker - (100 + np.arange(40))).max() < 1.0
    assert [row["x1"] for row in table if row["global_id"] == 2] == pytest.approx([300.0] * 40)


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="finished run"):
        read_tracks(tmp_path)
    (tmp_path / "tracks.parquet").write_text("not parquet")
    with pytest.raises(JournalError, match="not a readable Parquet file"):
        read_tracks(tmp_path)


def test_json_is_whole_or_absent(tmp_path):
    path = tmp_path / "run.json"
    write_json_atomic(path, {"name": "süd", "frames": 3})
    assert json.loads(path.read_text()) == {"name": "süd", "frames": 3}
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(path, {"share": math.nan})
    assert json.loads(path.read_text())["frames"] == 3
    with pytest.raises(OutputError, match="cannot write"):
        write_json_atomic(tmp_path / "absent" / "run.json", {})
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


# ------------------------------------------------------------------------------------------------- sightings


def table_of(*sightings: Sighting) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        write_sightings(Path(folder) / "s.parquet", list(sightings))
        return pq.read_table(Path(folder) / "s.parquet")


def test_sightings_file_has_the_agreed_columns(tmp_path):
    write_sightings(tmp_path / "s.parquet", [sighting()])
    schema = {f.name: str(f.type) for f in pq.read_schema(tmp_path / "s.parquet")}
    assert schema == {
        "camera": "string",
        "track_id": "int64",
        "emitted_s": "double",
        "entered_s": "double",
        "last_s": "double",
        "closed": "bool",
        "n_crops": "int32",
        "quality": "float",
        "first_box": "fixed_size_list<element: float>[4]",
        "last_box": "fixed_size_list<element: float>[4]",
        "embedding": "fixed_size_list<element: float>[3]",
    }


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**62),
            st.floats(0, 1e9),
            st.floats(0, 1e6),
            st.booleans(),
            st.integers(1, 99),
            st.floats(0, 1, width=32),
            st.booleans(),
            st.integers(0, 2**32 - 1),
        ),
        max_size=8,
    )
)
def test_sightings_come_back_bit_for_bit(rows):
    sightings = [
        sighting(
            track_id=track,
            entered_s=entered_s,
            last_s=entered_s + stay_s,
            emitted_s=entered_s + stay_s,
            closed=closed,
            n_crops=crops,
            quality=quality,
            last_box=np.array([1.5, 2, 3, 4], np.float32) if boxed else None,
            embedding=unit(*np.random.default_rng(seed).normal(size=5)),
        )
        for track, entered_s, stay_s, closed, crops, quality, boxed, seed in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.parquet"
        write_sightings(path, sightings)
        read = read_sightings(path)
        with RunJournal(Path(folder)) as journal:
            for item in sightings:
                journal.sighting(item)
        journaled = read_journal_sightings(Path(folder))
    expected = sorted(sightings, key=lambda s: s.emitted_s)
    assert len(read) == len(expected)
    assert all(same_sighting(a, b) for a, b in zip(read, expected, strict=True))
    assert all(same_sighting(a, b) for a, b in zip(journaled, sightings, strict=True))


def test_sightings_of_other_programs_may_use_plain_lists_and_no_boxes(tmp_path):
    table = table_of(sighting(track_id=3))
    plain = table.drop_columns(["first_box", "last_box", "embedding"])
    plain = plain.append_column("embedding", pa.array(table["embedding"].to_pylist(), pa.list_(pa.float32())))
    pq.write_table(plain, tmp_path / "s.parquet")
    read = read_sightings(tmp_path / "s.parquet")[0]
    assert read.track_id == 3
    assert read.first_box is None
    assert np.array_equal(read.embedding, unit(1, 2, 2))


def change(table: pa.Table, name: str, values: list, kind: pa.DataType) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, kind))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: change(t, "emitted_s", [5.0, 4.0], pa.float64()), r"row 2: emitted_s 4.0 is earlier"),
        (lambda t: change(t, "entered_s", [1.0, math.nan], pa.float64()), r"row 2: .*finite"),
        (lambda t: change(t, "camera", ["lobby", None], pa.string()), r"row 2: camera is null"),
        (lambda t: change(t, "camera", ["", "lobby"], pa.string()), r"row 1: .*without a camera"),
        (lambda t: change(t, "n_crops", [1, 0], pa.int32()), r"row 2: .*n_crops"),
        (
            lambda t: change(t, "embedding", [[1.0, 0, 0], [math.nan, 0, 0]], pa.list_(pa.float32())),
            r"row 2: .*unit length, got nan",
        ),
        (
            lambda t: change(t, "embedding", [[1.0, 0, 0], [1.0, 0]], pa.list_(pa.float32())),
            r"row 2: embedding of length 2, the first row has 3",
        ),
        (lambda t: change(t, "embedding", [[1.0, 0, 0], None], pa.list_(pa.float32())), r"row 2: embedding is null"),
        (lambda t: change(t, "embedding", [1.0, 2.0], pa.float64()), r"column embedding is double, expected lists"),
        (lambda t: change(t, "last_box", [["x"], None], pa.list_(pa.string())), r"column last_box is list<"),
        (lambda t: change(t, "track_id", ["seven", "8"], pa.string()), r"column track_id is string: .*seven"),
        (lambda t: t.append_column("mood", pa.array([1, 2])), r"unknown columns \['mood'\]"),
        (lambda t: t.drop_columns(["closed"]), r"lacks the columns \['closed'\]"),
    ],
)
def test_a_damaged_sightings_file_is_one_clear_line(tmp_path, damage, message):
    table = table_of(sighting(1, 2.0), sighting(2, 3.0))
    pq.write_table(damage(table), tmp_path / "s.parquet")
    with pytest.raises(SightingsFileError, match=message):
        read_sightings(tmp_path / "s.parquet")


def test_ten_million_sightings_are_refused_before_they_fill_the_memory(tmp_path, monkeypatch):
    """Said from the file's own footer, within a blink, not after minutes of reading."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 10_000_000
    path = tmp_path / "sightings.parquet"
    batch = pa.table(
        {"camera": pa.repeat("lobby", 1_000_000), "embedding": pa.nulls(1_000_000, pa.list_(pa.float32()))}
    )
    with pq.ParquetWriter(path, batch.schema) as writer:
        for _ in range(rows // batch.num_rows):
            writer.write_table(batch)
    monkeypatch.setattr(sightings_file, "_free_memory_bytes", lambda: 16_000_000_000)
    with pytest.raises(SightingsFileError, match=r"10,000,000 sightings, about 17.\d GB in memory where 16.0 GB"):
        read_sightings(path)


def test_a_sightings_file_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_sightings(tmp_path / "absent.parquet")
    (tmp_path / "s.parquet").write_text("hello")
    with pytest.raises(SightingsFileError, match="not a readable Parquet file"):
        read_sightings(tmp_path / "s.parquet")


def test_embeddings_of_two_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one length, got \[2, 3\]"):
        write_sightings(tmp_path / "s.parquet", [sighting(), sighting(embedding=unit(1, 1))])
