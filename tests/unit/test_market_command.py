"""`test-reid` through the door, on made-up names and features."""

from __future__ import annotations

import json

import numpy as np
import pytest
from door import identrix

ROWS = ("cosine", "suppression", "joint_paper", "joint_calibrated", "joint_paper_rerank", "joint_calibrated_rerank")
FIGURES = {"rank1", "rank5", "rank10", "mAP_trapezoid", "mAP_standard"}


@pytest.fixture
def arguments(tmp_path):
    """The arguments of a small site: forty people to learn from, forty to find, cameras 40 s and 60 s apart."""
    rng = np.random.default_rng(4)

    def names(people):
        lines = []
        for person in people:
            start = 400 * person + int(rng.integers(0, 300))
            for camera, after in ((1, 0), (2, 1000), (3, 2500)):
                frame = start + after + int(rng.integers(0, 60))
                lines.append(f"{person:04d}_c{camera}s1_{frame:06d}_00.jpg")
        return np.array(lines)

    looks = rng.normal(size=(81, 16))
    train, test = names(range(1, 41)), names(range(41, 81))
    query = np.arange(len(test)) % 3 == 0
    for part, lines in (("train", train), ("query", test[query]), ("gallery", test[~query])):
        (tmp_path / f"{part}.txt").write_text("\n".join(lines) + "\n")
        who = [int(name[:4]) for name in lines]
        np.save(tmp_path / f"{part}.npy", (looks[who] + rng.normal(size=(len(who), 16))).astype(np.float32))
    (tmp_path / "lengths.json").write_text(json.dumps({f"c{camera}s1": 99999 for camera in (1, 2, 3)}))
    files = {
        "--train": "train.txt",
        "--query": "query.txt",
        "--gallery": "gallery.txt",
        "--query-features": "query.npy",
        "--gallery-features": "gallery.npy",
        "--sequence-lengths": "lengths.json",
    }
    return [str(part) for option, name in files.items() for part in (option, tmp_path / name)]


def test_writes_every_row_and_shows_it(arguments, tmp_path):
    out = tmp_path / "rows.json"
    result = identrix("test-reid", *arguments, "--json", out, "--train-features", tmp_path / "train.npy")
    assert result.exit_code == 0
    rows = json.loads(out.read_text())
    assert tuple(rows) == ROWS
    assert all(rows[name].keys() >= FIGURES for name in ROWS)
    assert rows["joint_calibrated"]["training_slope"] > 0
    assert rows["joint_calibrated"]["mAP_standard"] > rows["cosine"]["mAP_standard"]
    assert all(name in result.stdout for name in ROWS)


def test_features_that_do_not_fit_are_one_clear_line(arguments, tmp_path):
    np.save(tmp_path / "query.npy", np.ones((3, 16), np.float32))
    result = identrix("test-reid", *arguments)
    assert result.exit_code == 2
    assert "3 rows, but there are 40 names" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_name_that_is_none_is_one_clear_line(arguments, tmp_path):
    (tmp_path / "gallery.txt").write_text("holiday.jpg\n")
    result = identrix("test-reid", *arguments)
    assert result.exit_code == 2
    assert "line 1" in result.stderr


def test_without_its_inputs_the_command_says_which_one_it_needs(arguments):
    result = identrix("test-reid", *arguments[2:])
    assert result.exit_code == 2
    assert "--train" in result.stderr


def test_rows_that_cannot_be_written_are_a_storage_error(arguments, tmp_path):
    result = identrix("test-reid", *arguments, "--json", tmp_path / "absent" / "rows.json")
    assert result.exit_code == 3
    assert "cannot write" in result.stderr
