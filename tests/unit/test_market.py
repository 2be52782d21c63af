"""`test-reid` on a small made-up site, and every way its inputs can be wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline import market
from st_model.market1501 import MarketFileError, parse_names, sequence_starts
from st_model.unlabelled_fit import fit_by_delays

ROWS = ("cosine", "suppression", "joint_paper", "joint_calibrated", "joint_paper_rerank", "joint_calibrated_rerank")


@pytest.fixture
def site(tmp_path):
    """Forty people, each through three cameras, 40 s and 60 s apart; appearance that is only half right."""
    rng = np.random.default_rng(0)

    def walk(people, file):
        names, who = [], []
        for person in people:
            start = 400 * person + int(rng.integers(0, 300))
            for camera, frame in ((1, start), (2, start + 1000), (3, start + 2500)):
                names.append(f"{person:04d}_c{camera}s1_{frame + int(rng.integers(0, 60)):06d}_00.jpg")
                who.append(person)
        (tmp_path / file).write_text("\n".join(names) + "\n")
        return names, who

    walk(range(1, 41), "train.txt")
    names, who = walk(range(41, 81), "test.txt")
    looks = {person: rng.normal(size=16) for person in who}
    features = np.array([looks[person] + rng.normal(size=16) for person in who], np.float32)
    query = np.arange(len(names)) % 3 == 0
    for part, rows in (("query", query), ("gallery", ~query)):
        (tmp_path / f"{part}.txt").write_text("\n".join(np.array(names)[rows]))
        np.save(tmp_path / f"{part}.npy", features[rows])
    (tmp_path / "lengths.json").write_text(json.dumps({"c1s1": 99999, "c2s1": 99999, "c3s1": 99999}))
    return tmp_path


def run(site, **other):
    paths = {
        "train": "train.txt",
        "query": "query.txt",
        "gallery": "gallery.txt",
        "query_features": "query.npy",
        "gallery_features": "gallery.npy",
        "sequence_lengths": "lengths.json",
    } | other
    return market.test_reid(**{name: site / file for name, file in paths.items()})


def test_time_helps_on_a_small_site(site):
    rows = run(site)
    assert tuple(rows) == ROWS
    assert rows["joint_calibrated"]["mAP_standard"] > rows["cosine"]["mAP_standard"] + 0.1
    assert rows["joint_calibrated"]["slope"] > 0
    json.dumps(rows)
    assert list(market.rows_table(rows).columns[0].cells) == list(ROWS)


def test_same_inputs_same_rows(site):
    assert run(site) == run(site)


def test_training_features_say_what_labels_would_give(site):
    people = [int(name[:4]) for name in (site / "train.txt").read_text().split()]
    looks = np.random.default_rng(1).normal(size=(41, 16))
    np.save(site / "train.npy", looks[people] + np.random.default_rng(2).normal(size=(len(people), 16)))
    assert run(site, train_features="train.npy")["joint_calibrated"]["training_slope"] > 0


BROKEN = {
    "no names": ("query", "query.txt", lambda p: p.write_text(""), "no names"),
    "bad name": ("query", "query.txt", lambda p: p.write_text("0001_c1_000001_00.jpg\n"), "line 1.*is not a name"),
    "camera 7": ("query", "query.txt", lambda p: p.write_text("0001_c7s1_000001_00.jpg\n"), "has camera 7"),
    "sequence": ("query", "query.txt", lambda p: p.write_text("0001_c1s9_000001_00.jpg\n"), "c1s9 is not known"),
    "binary": ("query", "query.txt", lambda p: p.write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "gone": ("query", "query.txt", lambda p: p.unlink(), "cannot be read"),
    "nobody learnt": ("train", "train.txt", lambda p: p.write_text("-1_c1s1_000001_00.jpg\n"), "no labelled people"),
    "no answers": ("gallery", "gallery.txt", lambda p: p.write_text("0000_c1s1_000001_00.jpg\n" * 80), "no labelled"),
    "rows": ("query_features", "query.npy", lambda p: np.save(p, np.ones((3, 16))), "3 rows, but there are 40"),
    "columns": ("gallery_features", "gallery.npy", lambda p: np.save(p, np.ones((80, 5))), "5 columns"),
    "nan": ("query_features", "query.npy", lambda p: np.save(p, np.full((40, 16), np.nan)), "row 0 is zero or not"),
    "zero": ("query_features", "query.npy", lambda p: np.save(p, np.zeros((40, 16))), "row 0 is zero or not"),
    "shape": ("query_features", "query.npy", lambda p: np.save(p, np.ones(40)), "expected one array"),
    "text": ("query_features", "query.npy", lambda p: np.save(p, np.full((40, 16), "a")), "expected one array"),
    "pickle": (
        "query_features",
        "query.npy",
        lambda p: np.save(p, np.array([{}], object), allow_pickle=True),
        "cannot be read",
    ),
    "empty file": ("query_features", "query.npy", lambda p: p.write_bytes(b""), "cannot be read"),
    "no file": ("query_features", "query.npy", lambda p: p.unlink(), "cannot be read"),
    "no json": ("sequence_lengths", "lengths.json", lambda p: p.write_text("{"), "cannot be read as JSON"),
    "a list": ("sequence_lengths", "lengths.json", lambda p: p.write_text("[]"), "expected an object"),
    "a length": ("sequence_lengths", "lengths.json", lambda p: p.write_text('{"c1s1": -5}'), "positive number"),
    "a key": ("sequence_lengths", "lengths.json", lambda p: p.write_text('{"x": 5}'), "not a sequence name"),
    "a gap": ("sequence_lengths", "lengths.json", lambda p: p.write_text('{"c1s2": 5}'), "c1s1 is not"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_wrong_inputs_are_refused_by_name(site, case):
    argument, file, spoil, message = BROKEN[case]
    spoil(site / file)
    with pytest.raises((market.MarketTestError, MarketFileError), match=message) as caught:
        run(site)
    assert isinstance(caught.value, ValueError)
    if argument != "sequence_lengths":
        assert file in str(caught.value)


def test_too_few_images_to_re_rank_are_refused(site):
    for part, n in (("query", 2), ("gallery", 4)):
        (site / f"{part}.txt").write_text("\n".join((site / f"{part}.txt").read_text().split()[:n]))
        np.save(site / f"{part}.npy", np.load(site / f"{part}.npy")[:n])
    with pytest.raises(market.MarketTestError, match="need 22 images"):
        run(site)


def test_features_that_know_nothing_are_refused(site):
    for part, n in (("query", 40), ("gallery", 80)):
        np.save(site / f"{part}.npy", np.ones((n, 4)))
    with pytest.raises(market.MarketTestError, match="slope of appearance cannot be fitted"):
        run(site)


def test_names_that_end_twice_are_published_ones():
    starts = sequence_starts({"c1s1": 10, "c1s2": 10})
    images = parse_names(["-1_c1s2_000003_01.jpg.jpg", "0000_c1s1_000004_12.jpg"], starts)
    assert images.person.tolist() == [-1, 0]
    assert images.frame.tolist() == [13, 4]


@pytest.mark.parametrize(
    ("similarity", "ratio", "message"),
    [
        ([], [], "must be equal"),
        ([1.0], [1.0, 2.0], "must be equal"),
        ([0.1, np.nan], [1.0, 2.0], "finite"),
        ([0.1, 0.2], [1.0, -2.0], "not negative"),
        ([0.1, 0.1], [1.0, 2.0], "say nothing"),
        ([0.1, 0.2], [1.0, 1.0], "say nothing"),
        (np.linspace(0, 1, 500), np.linspace(4, 0, 500), "no positive slope"),
    ],
)
def test_a_fit_without_evidence_is_refused(similarity, ratio, message):
    with pytest.raises(ValueError, match=message):
        fit_by_delays(np.array(similarity), np.array(ratio))
