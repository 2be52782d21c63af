"""Scores against ground truth: small named situations, published numbers, an independent evaluator where present."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.evaluation import EvaluationError, evaluate, iou_matrix, score_table
from pipeline.mot_files import MotFileError, read_mot

Rows = list[tuple[float, ...]]
AT = {"left": (10, 10, 20, 40), "right": (200, 10, 20, 40), "middle": (100, 10, 20, 40)}


def write(folder: Path, cameras: dict[str, Rows]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for camera, rows in cameras.items():
        (folder / f"{camera}.txt").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return folder


def stay(person: int, frames: range, place: str = "left") -> Rows:
    return [(frame, person, *AT[place], 1, -1, -1, -1) for frame in frames]


def score(tmp_path: Path, truth: dict[str, Rows], predicted: dict[str, Rows], **options) -> dict:
    return evaluate(write(tmp_path / "pred", predicted), write(tmp_path / "truth", truth), **options)


# Person 1 goes a -> b -> a, person 2 goes b -> a.
TRUTH = {
    "a": stay(1, range(1, 11)) + stay(1, range(61, 71)) + stay(2, range(61, 71), "right"),
    "b": stay(1, range(31, 41)) + stay(2, range(31, 41), "right"),
}


def renamed(cameras: dict[str, Rows], names: dict[tuple[str, int, bool], int]) -> dict[str, Rows]:
    """The same boxes under other ids: (camera, person, later than frame 50) -> id; the others keep theirs + 100."""
    return {
        camera: [(f, names.get((camera, int(i), f > 50), i + 100), *rest) for f, i, *rest in rows]
        for camera, rows in cameras.items()
    }


@pytest.mark.parametrize(
    ("names", "hit", "right", "predicted", "merges", "fragments"),
    [
        pytest.param({}, 3, 3, 3, 0, 0, id="perfect"),
        pytest.param({("b", 1, False): 9}, 1, 1, 1, 0, 1, id="a new id in b: a -> b and b -> a of person 1 are lost"),
        pytest.param(
            {("a", 2, True): 101, ("a", 1, True): 102}, 1, 1, 3, 2, 2, id="two people swapped on their way to a"
        ),
        pytest.param({("a", 1, False): 102}, 2, 2, 3, 1, 1, id="person 1 is taken for person 2 at first"),
    ],
)
def test_handovers(tmp_path, names, hit, right, predicted, merges, fragments):
    found = score(tmp_path, TRUTH, renamed(TRUTH, names))["handovers"]
    assert (found["kept"], found["true_handovers"]) == (hit, 3)
    assert (found["right"], found["predicted_handovers"]) == (right, predicted)
    assert (found["false_merges"], found["fragments"]) == (merges, fragments)


def test_perfect_is_one_and_nothing_else_counts(tmp_path):
    result = score(tmp_path, TRUTH, renamed(TRUTH, {}))
    for scores in [*result["cameras"].values(), result["all"]]:
        assert [scores[name] for name in ("HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA")] == pytest.approx([1.0] * 6)
        assert [scores[name] for name in ("IDSW", "FP", "FN")] == [0, 0, 0]
    assert result["all"]["truth_ids"] == result["all"]["predicted_ids"] == 2
    assert result["handovers"]["f1"] == 1.0


def test_nothing_found(tmp_path):
    result = score(tmp_path, TRUTH, {"a": [], "b": []})
    scores, moves = result["all"], result["handovers"]
    assert (scores["HOTA"], scores["IDF1"], scores["MOTA"], scores["FN"]) == (0, 0, 0, 50)
    assert (moves["recall"], moves["precision"], moves["f1"], moves["unlabelled"]) == (0.0, None, 0.0, 5)
    json.dumps(result, allow_nan=False)


def test_nobody_there(tmp_path):
    result = score(tmp_path, {"a": []}, {"a": stay(1, range(1, 5))})
    assert (result["all"]["FP"], result["all"]["MOTA"]) == (4, -4.0)
    assert result["handovers"]["recall"] is None


def test_one_switch(tmp_path):
    half = stay(1, range(1, 6)) + stay(2, range(6, 11))
    scores = score(tmp_path, {"a": stay(1, range(1, 11))}, {"a": half})["all"]
    assert (scores["IDSW"], scores["IDF1"], scores["MOTA"]) == (1, pytest.approx(0.5), pytest.approx(0.9))
    assert scores["HOTA"] == pytest.approx(math.sqrt(0.5))


def test_an_id_that_differs_between_cameras_costs_association(tmp_path):
    truth = {"a": stay(1, range(1, 11)), "b": stay(1, range(1, 11))}
    result = score(tmp_path, truth, {"a": stay(1, range(1, 11)), "b": stay(2, range(1, 11))})
    assert result["cameras"]["a"]["AssA"] == result["cameras"]["b"]["AssA"] == pytest.approx(1.0)
    assert result["all"]["AssA"] == pytest.approx(0.5)


def test_short_stays_are_left_out_of_handovers(tmp_path):
    truth = {"a": stay(1, range(1, 11)), "b": stay(1, range(21, 23))}
    assert score(tmp_path, truth, truth)["handovers"]["true_handovers"] == 0
    assert score(tmp_path, truth, truth, min_stay=2)["handovers"]["true_handovers"] == 1


def test_a_gap_of_more_than_25_frames_starts_a_new_stay(tmp_path):
    for gap, stays in ((25, 1), (26, 2)):
        truth = {"a": stay(1, range(1, 6)) + stay(1, range(6 + gap, 12 + gap))}
        assert score(tmp_path, truth, truth)["handovers"]["true_stays"] == stays


def test_clock_offsets_decide_who_was_first(tmp_path):
    truth = {"a": stay(1, range(1, 6)) + stay(1, range(101, 106)), "b": stay(1, range(1, 6))}
    assert score(tmp_path, truth, truth)["handovers"]["true_handovers"] == 2  # a, b, a
    assert score(tmp_path, truth, truth, offset_frames={"b": 500})["handovers"]["true_handovers"] == 1  # a, a, b


def test_truth_marked_zero_is_not_considered(tmp_path):
    marked = [(f, i, *AT["left"], 0, -1, -1, -1) for f, i in ((1, 1), (2, 1))]
    result = score(tmp_path, {"a": stay(2, range(1, 4), "right") + marked}, {"a": stay(2, range(1, 4), "right")})
    assert (result["all"]["FN"], result["all"]["truth_boxes"]) == (0, 3)


def test_folders_of_runs_and_of_truth_are_found(tmp_path):
    write(tmp_path / "run" / "tracks", TRUTH)
    write(tmp_path / "site" / "gt", TRUTH)
    assert evaluate(tmp_path / "run", tmp_path / "site")["all"]["IDF1"] == 1.0


def test_the_table_names_every_camera_and_the_handovers(tmp_path):
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=100).print(score_table(score(tmp_path, TRUTH, renamed(TRUTH, {("b", 1, False): 9}))))
    text = out.getvalue()
    lines = [line.split() for line in text.splitlines()]
    assert ["a", "100.0", "100.0", "100.0", "100.0", "100.0", "0", "0", "0", "2", "2"] in lines
    assert any(line[:1] == ["all"] for line in lines)
    assert "precision 100.0 (1/1), recall 33.3 (1/3), F1 50.0" in text


# ------------------------------------------------------------------------------------------------------- bad input


def test_cameras_must_fit_together(tmp_path):
    with pytest.raises(EvaluationError, match="no tracks of b; it has a"):
        score(tmp_path / "1", TRUTH, {"a": []})
    with pytest.raises(EvaluationError, match="no ground truth of c; it has a, b"):
        score(tmp_path / "2", TRUTH, {"a": [], "b": [], "c": []})
    with pytest.raises(EvaluationError, match="not a folder; ground truth"):
        evaluate(tmp_path, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"no <camera>.txt in .*empty"):
        evaluate(tmp_path / "empty", tmp_path / "1" / "truth")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,0,0,9,9,1\n1,2,0,0,9,9,1\n1,1,5,5,9,9,1\n", r"a.txt:(1|3): id 1 is twice in frame 1"),
        ("1,1,0,0\n", r"a.txt:1: 4 columns, expected at least 6"),
        ("# head\n1,1,0,0,9,9,1\n\n2,1,0,0,9\n", r"a.txt:4: 5 columns, the first line has 7"),
        ("1,1,0,0,9,nine,1\n", r"a.txt:1: .*nine"),
        ("1,1,0,0,9,9,1\n2,1,nan,0,9,9,1\n", r"a.txt:2: .*finite"),
        ("0,1,0,0,9,9,1\n", r"a.txt:1: frames count from 1"),
        ("1,-1,0,0,9,9,1\n", r"a.txt:1: .*negative"),
        ("1,1.5,0,0,9,9,1\n", r"a.txt:1: .*whole"),
        ("1,1,0,0,-9,9,1\n", r"a.txt:1: width and height"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(MotFileError, match=message):
        read_mot(tmp_path / "a.txt")


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MotFileError, match="cannot read"):
        read_mot(tmp_path / "a.txt")
    with pytest.raises(MotFileError, match="No such file"):
        read_mot(tmp_path / "b.txt")


def test_mot_files_may_be_blank_separated_with_float_ids(tmp_path):
    (tmp_path / "a.txt").write_text("2 3.0 1 2 3 4\n1 5 1 2 3 4\n")
    found = read_mot(tmp_path / "a.txt")
    assert (found.frames.tolist(), found.ids.tolist(), found.marks.tolist()) == ([1, 2], [5, 3], [1.0, 1.0])


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 4), min_size=1, max_size=4))
def test_overlap_is_symmetric_and_bounded(boxes):
    table = np.array(boxes, float)
    overlap = iou_matrix(table, table)
    assert np.array_equal(overlap, overlap.T)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    assert np.array_equal(np.diag(overlap), (table[:, 2] * table[:, 3] > 0).astype(float))


# ------------------------------------------------------------------------------ published and independent numbers


@pytest.mark.parametrize("name", ["MOT17-02", "MOT17-05", "TUD-Campus"])
def test_published_results(data_dir, tmp_path, name):
    reference = data_dir / "mot_reference"
    expected = json.loads((reference / "expected.json").read_text())
    title = next(key for key in expected if key.startswith(name))
    for side in ("gt", "pred"):
        write(tmp_path / side, {})
        (tmp_path / side / f"{name}.txt").write_text((reference / side / f"{name}.txt").read_text())
    scores = evaluate(tmp_path / "pred", tmp_path / "gt", motchallenge="pre-processing on" in title)["all"]
    for key, value in expected[title].items():
        if key == "IDSW":
            assert scores[key] == value
        elif key != "IDTP":
            assert 100 * scores[key] == pytest.approx(value, abs=5.1e-4), key


@pytest.fixture(scope="session")
def other_evaluator(data_dir) -> ModuleType:
    path = data_dir.parent / "tools" / "mtmc_eval.py"
    if not path.is_file():
        pytest.skip(f"{path} is not there; this test compares with it")
    spec = importlib.util.spec_from_file_location("mtmc_eval", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAME = {
    "recall": "handover_recall",
    "precision": "handover_precision",
    "f1": "handover_f1",
    "true_handovers": "gt_handovers",
    "kept": "hit",
    "predicted_handovers": "pred_handovers",
    "right": "right",
    "right_person": "right_person",
    "false_merges": "false_merges",
    "fragments": "fragments",
    "unlabelled": "no_label",
    "true_stays": "gt_stays",
    "predicted_stays": "pred_stays",
}
TRACK_SCORES = ("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDP", "IDR", "MOTA", "IDSW", "FP", "FN")


def assert_agree(module: ModuleType, truth: Path, predicted: Path, **options) -> None:
    mine, other = evaluate(predicted, truth, **options), module.evaluate(truth, predicted, **options)
    for name, scores in [*other["cameras"].items(), ("all", other["ALL"])]:
        found = mine["all"] if name == "all" else mine["cameras"][name]
        for key in TRACK_SCORES:
            assert found[key] == pytest.approx(scores[key], abs=1e-6), (name, key)
    for key, other_key in SAME.items():
        value = other["cross_camera"][other_key]
        expected = None if math.isnan(value) else pytest.approx(value, abs=1e-6)
        assert mine["handovers"][key] == expected, key


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_an_independent_evaluator_on_disturbed_truth(data_dir, other_evaluator, tmp_path, seed):
    truth = data_dir / "vcam_dev" / "gt"
    rng = np.random.default_rng(seed)
    disturbed = {}
    for path in truth.glob("*.txt"):
        found = read_mot(path)
        keep = rng.random(len(found)) > 0.1 * seed
        boxes = found.boxes + rng.normal(0, 3 * seed, found.boxes.shape) * [1, 1, 0.3, 0.3]
        # Ids change now and then in mid-stay; the block keeps them unique within a frame.
        block = found.frames // rng.integers(40, 120)
        ids = found.ids + 100 * np.where(rng.random(int(block.max()) + 1) < 0.25 * seed, 1, 0)[block]
        rows = zip(found.frames[keep], ids[keep], *boxes[keep].clip(0).T.round(2), strict=True)
        disturbed[path.stem] = [(*row, 1, -1, -1, -1) for row in rows]
    assert_agree(other_evaluator, truth, write(tmp_path, disturbed), min_stay=3)


@st.composite
def small_sites(draw) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Truth and prediction of one to three cameras: few frames and ids, boxes on a coarse grid, so that ties abound."""

    def camera() -> Rows:
        seen = draw(
            st.sets(st.tuples(st.sampled_from([1, 2, 3, 4, 29, 30, 31, 32, 70]), st.integers(0, 3)), max_size=14)
        )
        places = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(2, 4), st.integers(2, 4))
        return [(frame, person, *draw(places), 1) for frame, person in sorted(seen)]

    names = "abc"[: draw(st.integers(1, 3))]
    return {name: camera() for name in names}, {name: camera() for name in names}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(site=small_sites(), min_stay=st.integers(1, 3), iou=st.sampled_from([0.3, 0.5, 0.75]))
def test_agrees_with_an_independent_evaluator_on_small_sites(other_evaluator, site, min_stay, iou):
    with tempfile.TemporaryDirectory() as folder:
        truth, predicted = (write(Path(folder) / side, rows) for side, rows in zip("tp", site, strict=True))
        assert_agree(other_evaluator, truth, predicted, min_stay=min_stay, iou=iou)
