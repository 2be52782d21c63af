"""`calibrate` and `clocks` on made-up people: what they fit, what they say, and what they refuse."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from door import identrix

from pipeline.calibrate import Calibrated, CalibrateError, Fit, in_words, read_persons, reliability_by_time, yaml_lines
from pipeline.calibrate import calibrate as fit
from pipeline.clocks_command import clocks_of_run
from pipeline.sightings_file import write_sightings
from st_model.calibration import Calibration, Reliability, reliability
from st_model.sightings import Sighting

DIM = 24
LATE_S = 40.0


def stroll(people, noise, seed=3, late_s=0.0, walk_s=10.0):
    """People who go gate -> hall -> exit and back, `walk_s` between two cameras; the exit's clock is `late_s` ahead."""
    rng = np.random.default_rng(seed)
    rows, persons = [], {}
    for person in range(people):
        looks, now_s = rng.normal(size=DIM), 25.0 * person + rng.uniform(0, 20)
        for n, camera in enumerate(("gate", "hall", "exit", "hall", "gate")):
            seen = looks + noise * rng.normal(size=DIM)
            embedding = (seen / np.linalg.norm(seen)).astype(np.float32)
            entered_s = now_s + (late_s if camera == "exit" else 0.0)
            track_id = 5 * person + n
            rows.append(Sighting(camera, track_id, entered_s, entered_s + 4, entered_s + 5, True, embedding, 3))
            persons[camera, track_id] = person
            now_s += 4.0 + walk_s + rng.normal() * 1.5
    return sorted(rows, key=lambda s: s.emitted_s), persons


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """(sightings.parquet, its truth)."""
    folder = tmp_path_factory.mktemp("site")
    rows, persons = stroll(120, noise=0.7)
    write_sightings(folder / "sightings.parquet", rows)
    with (folder / "stays.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["camera", "track_id", "person"])
        writer.writerows([camera, track_id, person] for (camera, track_id), person in persons.items())
    return folder / "sightings.parquet", folder / "stays.csv"


@pytest.fixture(scope="module")
def wrong():
    """Settings whose calibration is far too sure."""
    return ["match.calibration.g0=40", "match.calibration.b0=-12"]


def test_the_fit_needs_no_labels_and_mends_what_labels_would_mend(site, wrong):
    blind = fit(site[0], overrides=wrong)
    found = fit(site[0], overrides=wrong, truth=site[1])
    assert blind.after.calibration == found.after.calibration
    assert blind.labelled is None and blind.after.by_labels is None
    assert found.before.calibration == Calibration(40.0, -12.0)
    assert found.after.by_labels.error < 0.5 * found.before.by_labels.error
    assert found.after.by_time.error < found.before.by_time.error
    assert found.labelled.by_labels.error <= found.after.by_labels.error + 0.01
    even = [-c.b0 / c.g0 for c in (found.after.calibration, found.labelled.calibration)]
    assert even[0] == pytest.approx(even[1], abs=0.1)


def test_shares_by_time_are_those_of_the_labels():
    rng = np.random.default_rng(1)
    predicted = rng.random(30000)
    same = rng.random(30000) < predicted**2  # a calibration that is too sure
    short = rng.random(30000) < np.where(same, 0.8, 0.05)
    by_time = reliability_by_time(predicted, np.where(short, 0.8 / 0.05, 0.2 / 0.95))
    by_labels = reliability(predicted, same.astype(float))
    assert by_time.observed == pytest.approx(by_labels.observed, abs=0.05)
    assert by_time.error == pytest.approx(by_labels.error, abs=0.02)


def test_through_the_door(site, wrong, tmp_path):
    overrides = [part for item in wrong for part in ("--set", item)]
    result = identrix("calibrate", site[0], *overrides, "--truth", site[1], "--out", tmp_path / "plots")
    assert result.exit_code == 0
    assert "match:\n  calibration: {g0: " in result.stdout
    for name in ("reliability.png", "reliability-by-labels.png"):
        assert (tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG")
    said = json.loads(identrix("calibrate", site[0], *overrides, "--json").stdout)
    assert said["labelled"] is None and said["after"]["calibration"]["g0"] > 0
    assert len(said["after"]["by_time"]["predicted"]) == 10


def test_words_end_in_lines_for_the_yaml(site, wrong):
    found = fit(site[0], overrides=wrong)
    assert found.better
    assert in_words(found)[-2:] == yaml_lines(found.after.calibration)


def test_a_fit_that_is_no_better_is_not_recommended(site, wrong):
    mended = fit(site[0], overrides=wrong).after.calibration
    here = [part for n in ("g0", "b0") for part in ("--set", f"match.calibration.{n}={getattr(mended, n)}")]
    result = identrix("calibrate", site[0], *here)
    assert result.stdout.splitlines()[-1] == "no better than what is in force: keep it"
    assert "match:" not in result.stdout
    assert json.loads(identrix("calibrate", site[0], *here, "--json").stdout)["better"] is False


@pytest.mark.parametrize(
    ("before", "after", "labels", "better"),
    [
        (0.020, 0.022, None, False),
        (0.0204, 0.0196, None, False),  # both are said as 0.020
        (0.020, 0.010, None, True),
        (0.020, 0.010, (0.01, 0.02), False),  # labels know better than time
        (0.010, 0.020, (0.02, 0.01), True),
    ],
)
def test_better_is_what_misses_by_less(before, after, labels, better):
    def fitted(error, by_labels):
        diagrams = [Reliability(*np.zeros((4, 10)), e) for e in (error, by_labels) if e is not None]
        return Fit(Calibration(20.0, -10.0), *diagrams)

    one, other = labels or (None, None)
    assert Calibrated(9, 20, 0.1, fitted(before, one), fitted(after, other)).better is better


BAD_TRUTH = {
    "no file": (None, "cannot be read"),
    "no column": ("camera,track_id\ngate,0\n", "lacks the columns person"),
    "no number": ("camera,track_id,person\ngate,x,1\n", "must be whole numbers"),
    "a short row": ("camera,track_id,person\ngate,0\n", "must be whole numbers"),
    "not all": ("camera,track_id,person\ngate,0,1\n", "lacks 599 of 600 stays"),
}


@pytest.mark.parametrize("case", BAD_TRUTH)
def test_a_bad_truth_is_refused(site, tmp_path, case):
    text, message = BAD_TRUTH[case]
    path = tmp_path / "truth.csv"
    if text is not None:
        path.write_text(text)
    result = identrix("calibrate", site[0], "--truth", path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_truth_of_one_person_decides_nothing(site, tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text(site[1].read_text().split("\n", 1)[0] + "\n")
    persons = read_persons(site[1])
    path.write_text("camera,track_id,person\n" + "".join(f"{c},{t},1\n" for c, t in persons))
    with pytest.raises(CalibrateError, match="all pairs show one person"):
        fit(site[0], truth=path)


@pytest.mark.parametrize("people", [0, 1])
def test_too_little_to_fit_is_said(tmp_path, people):
    rows, _ = stroll(people, noise=0.1)
    write_sightings(tmp_path / "sightings.parquet", rows[:2])
    result = identrix("calibrate", tmp_path / "sightings.parquet")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_clock_that_is_late_is_found(tmp_path):
    rows, _ = stroll(120, noise=0.2, late_s=LATE_S, walk_s=60.0)
    write_sightings(tmp_path / "sightings.parquet", rows)
    clocks = clocks_of_run(tmp_path / "sightings.parquet")
    offsets = {o.camera: o for o in clocks.offsets}
    assert offsets["exit"].offset_s == pytest.approx(LATE_S, abs=3 * offsets["exit"].error_s)
    assert abs(offsets["gate"].offset_s) <= 3 * offsets["gate"].error_s
    result = identrix("clocks", tmp_path / "sightings.parquet")
    assert "- {name: exit, offset_s: -" in result.stdout


def test_a_correction_takes_the_place_of_the_one_a_run_had(tmp_path):
    rows, _ = stroll(120, noise=0.2, late_s=LATE_S, walk_s=60.0)
    write_sightings(tmp_path / "sightings.parquet", rows)
    said = [json.loads(identrix("clocks", tmp_path, "--json").stdout)["yaml"]]
    cameras = [{"name": "exit", "source": "exit.mp4", "offset_s": 100.0}]
    (tmp_path / "run.json").write_text(json.dumps({"config": {"cameras": cameras}}))
    said.append(json.loads(identrix("clocks", tmp_path, "--json").stdout)["yaml"])
    first, second = (float(lines[1].split("offset_s: ")[1].rstrip("}")) for lines in said)
    assert second == pytest.approx(first + 100.0)


def test_pairs_do_not_depend_on_the_rows_before_the_last_word(site):
    """A stay that speaks twice is one stay."""
    rows, _ = stroll(20, noise=0.3)
    twice = [replace(s, closed=False, emitted_s=s.entered_s + 2, last_s=s.entered_s + 2) for s in rows]
    both = sorted([*twice, *rows], key=lambda s: s.emitted_s)
    folder = site[0].parent
    write_sightings(folder / "twice.parquet", both)
    assert fit(folder / "twice.parquet").stays == 100


@pytest.mark.parametrize("setting", ["detector.conf=0.1", "reid.encoder=nosuch"])
def test_a_setting_that_means_nothing_here_is_one_line(site, setting):
    result = identrix("calibrate", site[0], "--set", setting)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert f"command line: {setting.partition('=')[0]}: " in result.stderr
