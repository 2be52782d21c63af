"""Every export, read back: by the tool that owns the format where it is installed, and compared with what went in."""

from __future__ import annotations

import configparser
import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from door import identrix
from hypothesis import given
from hypothesis import strategies as st

from pipeline.atomic import write_json_atomic
from pipeline.export_labels import usual_step, with_ends
from pipeline.export_rows import supervision_detections
from pipeline.exports import ExportError, export_run, formats
from pipeline.journal_writer import RunJournal
from pipeline.mot_files import read_mot
from pipeline.run_folder import RunFolderError
from pipeline.tracklog import finish_run, read_tracks

FRAMES = 40
CAMERAS = ("hall, left", "exit")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three persons in two cameras; P1 leaves the first camera and comes back, P3 is seen by the second one alone."""
    folder = tmp_path_factory.mktemp("export") / "run"
    rng = np.random.default_rng(4)
    with RunJournal(folder) as journal:
        for index in range(FRAMES):
            for camera, tracks in ((CAMERAS[0], (10, 20)), (CAMERAS[1], (30, 40))):
                here = [t for t in tracks if not (t == 10 and 12 <= index < 25) and not (t == 30 and index < 5)]
                corner = np.array([[3.0 * index + 2 * t, 20 + t] for t in here]) + rng.uniform(0, 1, (len(here), 2))
                boxes = np.hstack([corner, corner + np.array([30.55, 80.25])]).astype(np.float32)
                scores = rng.uniform(0.3, 1, len(here)).astype(np.float32)
                journal.boxes(camera, index, index / 10, np.array(here), boxes, scores)
    ids = {(CAMERAS[0], 10): (1, 0.9), (CAMERAS[0], 20): (2, 0.8), (CAMERAS[1], 30): (1, 0.7), (CAMERAS[1], 40): (3, 1)}
    finish_run(folder, ids)
    health = {name: {"frames_read": FRAMES, "size": [640, 360], "fps": 10.0} for name in CAMERAS}
    write_json_atomic(folder / "run.json", {"cameras": health})
    return folder


@pytest.fixture(scope="module")
def rows(run_dir: Path) -> list[dict]:
    return read_tracks(run_dir).to_pylist()


def exported(run_dir: Path, out: Path, format: str, **options) -> Path:
    done = export_run(run_dir, out, format, **options)
    assert done.paths and all(path.is_file() for path in done.paths)
    assert sorted(done.paths) == sorted(path for path in out.rglob("*") if path.is_file())
    return out


def test_tables_come_back_as_they_were(run_dir, rows, tmp_path):
    def same(found: list[dict], within: float) -> bool:
        for name in ("camera", "frame", "track_id", "global_id"):
            assert [row[name] for row in found] == [row[name] for row in rows]
        numbers = ("time_s", "x1", "y1", "x2", "y2", "score")
        return np.allclose(
            [[r[n] for n in numbers] for r in found], [[r[n] for n in numbers] for r in rows], atol=within
        )

    assert same(pq.read_table(exported(run_dir, tmp_path / "p", "parquet") / "tracks.parquet").to_pylist(), 0)
    assert same(pacsv.read_csv(exported(run_dir, tmp_path / "c", "csv") / "tracks.csv").to_pylist(), 0.005)
    lines = (exported(run_dir, tmp_path / "j", "jsonl") / "tracks.jsonl").read_text().splitlines()
    assert same([json.loads(line) for line in lines], 5e-5)


def test_mot_is_scored_without_fault_by_trackeval(run_dir, tmp_path):
    """The export as tracker and as truth: TrackEval reads both and finds them alike, person by person."""
    trackeval = pytest.importorskip("trackeval")
    tracker = exported(run_dir, tmp_path / "trackers" / "identrix" / "data", "mot")
    for name in CAMERAS:
        folder = tmp_path / "gt" / name
        (folder / "gt").mkdir(parents=True)
        lines = (tracker / f"{name}.txt").read_text().splitlines()
        (folder / "gt" / "gt.txt").write_text("".join(f"{','.join(li.split(',')[:6])},1,1,1\n" for li in lines))
        settings = configparser.ConfigParser()
        settings["Sequence"] = {"name": name, "seqLength": str(FRAMES)}
        with (folder / "seqinfo.ini").open("w") as file:
            settings.write(file)
    quiet = {"PRINT_RESULTS": False, "PRINT_CONFIG": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False}
    quiet |= {"OUTPUT_DETAILED": False, "PLOT_CURVES": False, "OUTPUT_EMPTY_CLASSES": False}
    data = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(tmp_path / "gt"),
            "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "SEQ_INFO": dict.fromkeys(CAMERAS),
            "SKIP_SPLIT_FOL": True,
            "DO_PREPROC": False,
            "PRINT_CONFIG": False,
        }
    )
    metrics = [trackeval.metrics.HOTA({"PRINT_CONFIG": False}), trackeval.metrics.Identity({"PRINT_CONFIG": False})]
    found, _ = trackeval.Evaluator(quiet).evaluate([data], metrics)
    for name in CAMERAS:
        scores = found["MotChallenge2DBox"]["identrix"][name]["pedestrian"]
        assert scores["HOTA"]["HOTA"].mean() == pytest.approx(1.0)
        assert scores["Identity"]["IDF1"] == pytest.approx(1.0)


def test_mot_is_what_the_run_holds(run_dir, tmp_path):
    out = exported(run_dir, tmp_path, "mot")
    for name in CAMERAS:
        assert (out / f"{name}.txt").read_bytes() == (run_dir / "tracks" / f"{name}.txt").read_bytes()
    shifted = read_mot_from_zero(exported(run_dir, tmp_path / "zero", "mot", first_frame=0) / f"{CAMERAS[0]}.txt")
    assert shifted.min() == 0


def read_mot_from_zero(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",")[:, 0]


def test_aicity(run_dir, rows, tmp_path):
    out = exported(run_dir, tmp_path, "aicity")
    with (out / "cameras.csv").open() as file:
        names = {int(row["camera_id"]): row["camera"] for row in csv.DictReader(file)}
    table = np.loadtxt(out / "track1.txt")
    assert table.shape == (len(rows), 9) and (table[:, 7:] == -1).all() and sorted(names.values()) == sorted(CAMERAS)
    found = {(names[int(c)], int(f), int(i)): box for c, i, f, *box in table[:, :7].tolist()}
    for row in rows:
        box = [row["x1"], row["y1"], row["x2"] - row["x1"], row["y2"] - row["y1"]]
        assert found[row["camera"], row["frame"], row["global_id"]] == pytest.approx(box, abs=0.51)


def test_coco_is_read_by_pycocotools(run_dir, rows, tmp_path):
    coco_file = exported(run_dir, tmp_path, "coco") / "annotations.json"
    coco = pytest.importorskip("pycocotools.coco")
    read = coco.COCO(str(coco_file))
    assert len(read.getAnnIds()) == len(rows) and read.loadCats(read.getCatIds())[0]["name"] == "person"
    assert {video["name"] for video in read.dataset["videos"]} == set(CAMERAS)
    name_of = {video["id"]: video["name"] for video in read.dataset["videos"]}
    found = {}
    for image in read.loadImgs(read.getImgIds()):
        assert (image["width"], image["height"]) == (640, 360)
        for item in read.loadAnns(read.getAnnIds(imgIds=[image["id"]])):
            found[name_of[image["video_id"]], image["frame_id"], item["track_id"]] = item["bbox"]
    for row in rows:
        box = [row["x1"], row["y1"], row["x2"] - row["x1"], row["y2"] - row["y1"]]
        assert found[row["camera"], row["frame"], row["global_id"]] == pytest.approx(box, abs=0.006)
    from pycocotools.cocoeval import COCOeval

    judged = COCOeval(read, read.loadRes(read.dataset["annotations"]), "bbox")
    judged.evaluate()
    judged.accumulate()
    assert judged.eval["precision"][0].max() == pytest.approx(1.0)


def visible(track: ET.Element, size: int) -> dict[int, list[float]]:
    """What CVAT shows of a track: linear between key frames, nothing from an outside box to the next one."""
    shown: dict[int, list[float]] = {}
    keys = [
        (int(b.get("frame")), b.get("outside") == "1", [float(b.get(k)) for k in ("xtl", "ytl", "xbr", "ybr")])
        for b in track
    ]
    assert [key[0] for key in keys] == sorted({key[0] for key in keys})  # CVAT refuses two boxes in a frame
    for (frame, outside, box), (after, _, target) in zip(keys, [*keys[1:], (size, True, None)], strict=True):
        if outside:
            continue
        for k in range(frame, after):
            share = 0 if target is None else (k - frame) / (after - frame)
            shown[k] = [a + share * ((target or box)[n] - a) for n, a in enumerate(box)]
    return shown


def test_cvat_shows_every_box_and_none_where_nobody_is(run_dir, rows, tmp_path):
    out = exported(run_dir, tmp_path, "cvat")
    for name in CAMERAS:
        root = ET.parse(out / f"{name}.xml").getroot()
        assert [child.tag for child in root][:2] == ["version", "meta"] and root.findtext("version") == "1.1"
        task = root.find("meta/task")
        assert (task.findtext("size"), task.findtext("mode"), task.findtext("stop_frame")) == (
            "40",
            "interpolation",
            "39",
        )
        assert root.findtext("meta/task/labels/label/name") == "person"
        assert (task.findtext("original_size/width"), task.findtext("original_size/height")) == ("640", "360")
        found = {}
        for track in root.findall("track"):
            assert track.get("label") == "person" and {box.tag for box in track} == {"box"}
            (person,) = {box.findtext("attribute[@name='global_id']") for box in track}
            found |= {(frame, int(person)): box for frame, box in visible(track, 40).items()}
        wanted = {(r["frame"] - 1, r["global_id"]): r for r in rows if r["camera"] == name}
        assert found.keys() == wanted.keys()
        for key, row in wanted.items():
            assert found[key] == pytest.approx([row[n] for n in ("x1", "y1", "x2", "y2")], abs=0.006)


@given(st.sets(st.integers(0, 60), min_size=1), st.sampled_from([1, 2, 5]))
def test_ends_leave_nothing_to_interpolate_over(places, step):
    frames = np.array(sorted(place * step for place in places))
    size = int(frames[-1]) + 1 + step
    keys = list(with_ends(frames, np.zeros((len(frames), 4)), step, size))
    numbers = [frame for frame, _, _ in keys]
    assert numbers == sorted(set(numbers))
    shown = set()
    for (frame, outside, _), after in zip(keys, [*numbers[1:], size], strict=True):
        shown |= set() if outside else set(range(frame, after, step))
    assert shown == set(frames.tolist())
    assert usual_step(np.arange(0, 60, step)) == step


def test_supervision(run_dir, rows, tmp_path):
    sv = pytest.importorskip("supervision")
    mine = [row for row in rows if row["camera"] == "exit"]
    people = list(supervision_detections(run_dir, "exit"))
    assert [frame for frame, _ in people] == sorted({row["frame"] for row in mine})
    assert all(isinstance(found, sv.Detections) for _, found in people)
    together = sv.Detections.merge([found for _, found in people])
    assert together.tracker_id.tolist() == [row["global_id"] for row in mine]
    assert together.data["time_s"].tolist() == [row["time_s"] for row in mine]
    np.testing.assert_allclose(together.xyxy, [[row[k] for k in ("x1", "y1", "x2", "y2")] for row in mine])
    with (exported(run_dir, tmp_path, "supervision") / "exit.csv").open() as file:
        back = list(csv.DictReader(file))
    assert [int(row["tracker_id"]) for row in back] == [row["global_id"] for row in mine]
    assert [int(row["frame"]) for row in back] == [row["frame"] for row in mine]
    assert [float(row["x_max"]) for row in back] == pytest.approx([row["x2"] for row in mine], abs=1e-3)


@pytest.mark.parametrize("format", ["csv", "parquet", "mot"])
def test_a_run_is_never_exported_into_its_own_folder(run_dir, format):
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(ExportError, match="this is the folder of a run"):
        export_run(run_dir, run_dir, format)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_an_export_may_be_made_again(run_dir, tmp_path):
    for _ in range(2):  # its folder holds a tracks.parquet, too, and is no run
        export_run(run_dir, tmp_path / "out", "parquet")
    assert (tmp_path / "out" / "tracks.parquet").is_file()


@pytest.mark.parametrize("format", sorted(formats()))
def test_one_camera_and_other_ids(run_dir, rows, tmp_path, format):
    given_ids = {1: 9000001, 2: 8000002, 3: 7000003}
    done = export_run(
        run_dir, tmp_path, format, cameras=["exit"], ids=lambda ids: np.array([given_ids[i] for i in ids.tolist()])
    )
    assert (done.boxes, done.persons) == (sum(row["camera"] == "exit" for row in rows), 2)
    if format != "parquet":
        text = "\n".join(path.read_text() for path in done.paths)
        assert "9000001" in text and "7000003" in text and "8000002" not in text and "hall" not in text


def test_ids_made_with_a_salt_lead_nowhere(run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("SALT_OF_TESTS", "0123456789abcdef")
    options = ("--format", "parquet", "--salt", "SALT_OF_TESTS")
    assert identrix("export", run_dir, *options, "--out", tmp_path / "a").exit_code == 0
    assert identrix("export", run_dir, *options, "--out", tmp_path / "b", "--camera", "exit").exit_code == 0
    whole, part = (pq.read_table(tmp_path / name / "tracks.parquet").to_pylist() for name in "ab")
    ids = {row["global_id"] for row in whole}
    assert len(ids) == 3 and min(ids) > 1000 and {row["global_id"] for row in part} <= ids  # the same in every file
    assert {row["track_id"] for row in whole} == {1, 2, 3, 4}  # the run has 10, 20, 30, 40
    monkeypatch.delenv("SALT_OF_TESTS")
    failed = identrix("export", run_dir, *options, "--out", tmp_path / "c")
    assert failed.exit_code == 2 and "SALT_OF_TESTS" in failed.stderr and len(failed.stderr.splitlines()) == 1


def test_a_run_in_which_nobody_was_seen(tmp_path):
    with RunJournal(tmp_path / "run"):
        pass
    finish_run(tmp_path / "run", {})
    for format in formats():
        done = export_run(tmp_path / "run", tmp_path / format, format)
        assert (done.boxes, done.persons) == (0, 0)


def test_what_cannot_be_exported(run_dir, tmp_path):
    with pytest.raises(ExportError, match="did you mean 'coco'"):
        export_run(run_dir, tmp_path, "coc")
    with pytest.raises(ExportError, match="there is no camera 'exti'; did you mean 'exit'"):
        export_run(run_dir, tmp_path, "mot", cameras=["exti"])
    with pytest.raises(ExportError, match="from 0 or from 1"):
        export_run(run_dir, tmp_path, "mot", first_frame=2)
    with pytest.raises(ExportError, match="two persons would leave under one id"):
        export_run(run_dir, tmp_path, "mot", ids=lambda ids: np.zeros_like(ids))
    with pytest.raises(RunFolderError, match="no such folder"):
        export_run(run_dir / "absent", tmp_path, "mot")


def test_through_the_door(run_dir, tmp_path):
    done = identrix("export", run_dir, "--format", "mot", "--out", tmp_path, "--camera", "exit", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and told["files"] == [str(tmp_path / "exit.txt")] and told["persons"] == 2
    assert len(read_mot(tmp_path / "exit.txt")) == told["boxes"]
    failed = identrix("export", run_dir, "--format", "mott", "--out", tmp_path)
    assert failed.exit_code == 2 and failed.stderr == "no format is called 'mott'; did you mean 'mot'?\n"
