"""The report's data and page: right numbers, whole without a network, safe with any name, one line for a broken run."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from door import identrix

from pipeline.atomic import write_json_atomic
from pipeline.calibrate import Calibrated, Fit, plot
from pipeline.journal import JournalError, json_line
from pipeline.journal_writer import RunJournal
from pipeline.report import page, write_report
from pipeline.report_data import report_data
from pipeline.run_folder import RunFolderError
from pipeline.tables_file import write_tables
from pipeline.tracklog import finish_run
from st_model.calibration import Calibration, Reliability
from st_model.transitions import ONE, Increment, TableSettings

EVIL = "</script><img src=x onerror=alert(1)>"


def seen(journal: RunJournal, camera: str, track_id: int, begin_s: float, end_s: float) -> None:
    for time_s in (begin_s, end_s):
        box, score = np.array([[0, 0, 10, 20]], np.float32), np.ones(1, np.float32)
        journal.boxes(camera, int(time_s * 10), time_s, np.array([track_id]), box, score)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """P1 goes from `1` to `<b>` and back, P2 stays; camera `1` has a name that looks like a number."""
    folder = tmp_path / "run"
    with RunJournal(folder) as journal:
        seen(journal, "1", 11, 0.0, 10.0)
        seen(journal, "<b>", 12, 14.0, 20.0)
        seen(journal, "1", 13, 26.0, 28.0)
        seen(journal, "1", 21, 3.0, 5.0)
    finish_run(folder, {("1", 11): (1, 0.9), ("<b>", 12): (1, 0.8), ("1", 13): (1, 0.6), ("1", 21): (2, 0.5)})
    return folder


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def test_numbers(run_dir):
    data = report_data(run_dir)
    assert data["cameras"] == ["1", "<b>"] and data["persons"] == [1, 2]
    assert data["flows"] == [[0, 1, 1, 4.0, 4.0, 4.0, 0.8], [1, 0, 1, 6.0, 6.0, 6.0, 0.6]]
    assert data["stays"] == {
        "person": [0, 0, 0, 1],
        "camera": [0, 1, 0, 0],
        "track": [11, 12, 13, 21],
        "entered": [0, 1400, 2600, 300],
        "dwell": [1000, 600, 200, 200],
        "sure": [900, 800, 600, 500],
    }
    one = data["over_time"]["cameras"][0]
    width_s = data["over_time"]["bin_s"]
    assert sum(one["present"]) * width_s == pytest.approx(14.0)  # seconds in view of camera 1
    assert (sum(one["arrived"]), one["most"], one["median_dwell_s"]) == (3, 2, 2.0)
    assert [(t["from"], t["to"], t["evidence"], t["curve"]) for t in data["tables"]] == [
        (0, 1, 1.0, None),
        (1, 0, 1.0, None),
    ]


def test_the_tables_of_the_run_are_drawn_with_their_curve(run_dir):
    axes = TableSettings()
    counts = [Increment("1", "<b>", 0, axes.bin_of(delay_s), ONE) for delay_s in (3.0, 5.0, 5.0, 9.0)]
    write_tables(run_dir / "tables_end.json", axes, counts)
    (entry,) = report_data(run_dir)["tables"]
    assert entry["evidence"] == 4.0 and entry["median_s"] == pytest.approx(5.0, abs=2.0)
    assert sum(share for _, share in entry["bars"]) * entry["bin_s"] == pytest.approx(1.0)
    peak_s = entry["begin_s"] + entry["curve_step_s"] * int(np.argmax(entry["curve"]))
    assert 2.0 <= peak_s <= 8.0
    (run_dir / "tables_end.json").write_text("{")
    assert report_data(run_dir)["tables"][0]["curve"] is None  # a damaged file is no reason to have no report


def test_health_corrections_and_why(run_dir):
    health = {"1": {"frames_read": 280, "error": "the file is cut off"}, "c": {"frames_read": 7, "first_s": -2.0}}
    alarm = {"pair": ["1", "c"], "time_s": 9.0, "raised": True}
    write_json_atomic(
        run_dir / "run.json",
        {"site": "Haus & Hof", "cameras": health, "alarms": [alarm], "failed_cameras": {"d": "no such file"}},
    )
    new = {"global_id": None, "appearance": 0, "delay_s": None, "transition": 1, "joint": 0.2, "probability": 0.25}
    old = new | {"global_id": 1, "appearance": 0.81, "delay_s": 4.0, "probability": 0.75, "from_camera": "1"}
    row = {"camera": "<b>", "track_id": 12, "time_s": 1.0, "global_id": 1, "kind": "match", "candidates": [old, new]}
    (run_dir / "decisions.jsonl").write_bytes(json_line(row))
    merge = {"kind": "merge", "time_s": 12.0, "global_id": 9, "into_id": 1, "stays": [["1", 13]], "probability": 0.97}
    (run_dir / "corrections.jsonl").write_bytes(json_line(merge | {"reason": "alike"}))
    data = report_data(run_dir)
    assert data["cameras"] == ["1", "<b>", "c", "d"]  # a camera that saw nobody or failed is listed, too
    assert data["health"] == health and data["alarms"] == [alarm] and data["failed"] == {"d": "no such file"}
    assert data["whys"] == [None, ["match", "1", 0.81, 4.0, 1.0, 0.75, 0, 0.25], None, None]
    (correction,) = data["corrections"]
    assert (correction["at"], correction["from"], correction["into"], correction["reason"]) == (1200, 9, 1, "alike")


def test_videos_are_linked_by_their_own_time(run_dir):
    (run_dir / "video").mkdir()
    for name in ("1", "mosaic"):
        (run_dir / "video" / f"{name}.mp4").touch()
    write_json_atomic(run_dir / "run.json", {"cameras": {"1": {"first_s": -3.0}}, "video_start_s": {"mosaic": 1.5}})
    live = run_dir / "video" / "<b>"
    live.mkdir()
    for name in ("1970-01-01T00-01-00Z.mp4", "1970-01-01T00-00-10Z.mp4", "notes.mp4"):
        (live / name).touch()
    assert report_data(run_dir)["videos"] == {
        "mosaic": [["video/mosaic.mp4", 150]],
        "1": [["video/1.mp4", -300]],
        "<b>": [["video/<b>/1970-01-01T00-00-10Z.mp4", 1000], ["video/<b>/1970-01-01T00-01-00Z.mp4", 6000]],
    }


def test_a_reliability_that_was_measured_is_shown(run_dir):
    nan = float("nan")
    diagram = Reliability(np.linspace(0, 1, 3), np.array([0.2, nan]), np.array([0.3, nan]), np.array([5.0, 0.0]), 0.1)
    fit = Fit(Calibration(18.0, -9.5), diagram)
    plot(Calibrated(9, 20, 0.1, fit, fit), run_dir)
    found = data_of(write_report(run_dir).read_text())["calibration"]["found"]
    assert found["after"]["by_time"]["observed"] == [0.3, None] and found["stays"] == 9


def test_kept_crops_are_part_of_the_page(run_dir):
    assert report_data(run_dir)["crops"] == {}
    (run_dir / "crops" / "<b>").mkdir(parents=True)
    (run_dir / "crops" / "<b>" / "12.jpg").write_bytes(b"\xff\xd8 not a real picture")
    assert report_data(run_dir)["crops"] == {"1:12": "data:image/jpeg;base64,/9ggbm90IGEgcmVhbCBwaWN0dXJl"}


def test_the_page_is_whole_and_links_to_nothing(run_dir):
    text = write_report(run_dir).read_text()
    outward = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            outward.extend(v for k, v in attrs if k in ("src", "href") and v and not v.startswith("#"))

    Links().feed(text)
    assert outward == []
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text and "unsafe-inline" not in text and "unsafe-eval" not in text


def test_a_name_that_is_markup_stays_a_name(run_dir):
    write_json_atomic(run_dir / "run.json", {"site": EVIL, "cameras": {EVIL: {"error": EVIL}}})
    text = write_report(run_dir).read_text()
    assert "<img" not in text and text.count("</script>") == 2
    assert data_of(text) == report_data(run_dir)
    assert data_of(text)["site"] == EVIL and EVIL in data_of(text)["cameras"]


def test_text_is_strict_json_whatever_it_holds():
    data = report_like("\u2028<!-- <script> & ]]>\x00")
    assert data_of(page(data)) == data


def report_like(name: str) -> dict:
    return {"site": name, "cameras": [name]}


def test_nobody_is_a_page_too(tmp_path):
    RunJournal(tmp_path).close()
    finish_run(tmp_path, {})
    data = data_of(write_report(tmp_path).read_text())
    assert data["persons"] == [] and data["flows"] == [] and data["end"] == 0


def test_utc_times_keep_their_hundredths(tmp_path):
    with RunJournal(tmp_path) as journal:
        seen(journal, "a", 1, 1_790_000_000.25, 1_790_000_003.5)
    finish_run(tmp_path, {("a", 1): (7, 1.0)})
    data = report_data(tmp_path)
    assert (data["zero_s"], data["utc"]) == (1_790_000_000.0, True)
    assert (data["stays"]["entered"], data["stays"]["dwell"]) == ([25], [325])


def test_an_unfinished_or_damaged_run_gets_one_clear_line(run_dir):
    with pytest.raises(RunFolderError, match=r"did you mean .*run"):
        write_report(run_dir.parent / "rnu")
    (run_dir / "run.json").write_text("{")
    with pytest.raises(JournalError, match=r"run\.json: cannot be read"):
        write_report(run_dir)
    (run_dir / "run.json").write_text("{}")
    whole = (run_dir / "stays.csv").read_text()
    for broken in ("a,b\n1\n", whole[: len(whole) // 2], whole.replace("14,", "soon,"), whole + "3,x,1,,,,\n"):
        (run_dir / "stays.csv").write_text(broken)
        with pytest.raises(JournalError, match=r"stays\.csv"):
            write_report(run_dir)
    (run_dir / "stays.csv").unlink()
    with pytest.raises(RunFolderError, match=r"stays\.csv missing"):
        write_report(run_dir)
    (run_dir / "journal").mkdir()
    with pytest.raises(RunFolderError, match="identrix finish"):
        write_report(run_dir)


def test_through_the_door(run_dir):
    (run_dir / "report.html").unlink(missing_ok=True)
    done = identrix("report", run_dir, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and Path(told["report"]).stat().st_size == told["bytes"]
    failed = identrix("report", run_dir.parent)
    assert failed.exit_code == 2 and len(failed.stderr.splitlines()) == 1 and "not the folder" in failed.stderr
