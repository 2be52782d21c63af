"""`test-reid` on a folder of pictures: the four rows, what is left out and why, and every way a folder can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from door import identrix

from pipeline import image_retrieval
from reid.datasets import DatasetError

ROWS = ["cosine", "+RK", "+ST", "+ST+RK"]
CASTS = {1: (1.0, 0.8, 0.7), 2: (0.7, 0.8, 1.0), 3: (0.9, 1.0, 0.8)}


def save(path: Path, image: np.ndarray) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def person(look: np.ndarray, camera: int, rng: np.random.Generator) -> np.ndarray:
    """(64, 32, 3) BGR: shirt and trousers in this person's colours, before a grey wall, as this camera sees colours."""
    image = np.full((64, 32, 3), 128.0)
    image[8:34, 8:24], image[34:60, 10:22] = look[0], look[1]
    image = image * CASTS[camera] + rng.normal(0, 40, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty people to learn delays from, twelve to find; 40 s and 60 s from camera to camera at 25 frames a second."""
    root, rng = tmp_path_factory.mktemp("market"), np.random.default_rng(3)
    for who in range(1, 33):
        look, start = rng.integers(90, 160, (2, 3)), 300 * who + int(rng.integers(0, 200))
        for camera, after in ((1, 0), (2, 1000), (3, 2500)):
            for shot in range(2):
                frame = start + after + int(rng.integers(0, 60))
                part = "bounding_box_train" if who <= 20 else ("query", "bounding_box_test")[shot]
                save(root / part / f"{who:04d}_c{camera}s1_{frame:06d}_0{shot}.jpg", person(look, camera, rng))
    for n in range(4):
        look = rng.integers(90, 160, (2, 3))
        save(root / "bounding_box_test" / f"0000_c1s1_{9000 + n:06d}_00.jpg", person(look, 1, rng))
        save(root / "bounding_box_test" / f"-1_c2s1_{9000 + n:06d}_00.jpg", person(look, 2, rng))
    return root


def plain(root: Path, people: int = 6) -> Path:
    rng = np.random.default_rng(5)
    for who in range(people):
        look = rng.integers(90, 160, (2, 3))
        for camera in (1, 2):
            for shot in range(2):
                save(root / f"p{who}" / f"cam{camera}" / f"{shot}.png", person(look, camera, rng))
    return root


def test_the_rows_of_the_paper(market: Path, tmp_path: Path) -> None:
    done = identrix("test-reid", market, "--encoder", "stripes", "--json", tmp_path / "rows.json")
    assert (done.exit_code, done.stderr) == (0, "")
    said = json.loads((tmp_path / "rows.json").read_text())
    rows = said["rows"]
    assert list(rows) == ROWS
    assert said["counts"] == {"queries": 36, "gallery": 40, "people": 12, "cameras": 3, "dimension": 312}
    assert all(name in done.stdout for name in (*ROWS, "CMC@10", "mINP"))
    assert rows["+ST"]["mAP_standard"] > rows["cosine"]["mAP_standard"]
    assert rows["+ST+RK"]["mINP"] > rows["cosine"]["mINP"]
    assert all(0 <= value <= 1 for row in rows.values() for value in row.values())
    again = identrix("test-reid", market, "--encoder", "stripes", "--json", "-")
    assert json.loads(again.stdout) == said


def test_choices_change_the_rows(market: Path) -> None:
    def rows(**chosen: object) -> dict:
        return image_retrieval.rate_pictures(market, image_retrieval.Choices(encoder="stripes", **chosen)).rows

    usual = rows()
    assert rows(flip=True)["cosine"] != usual["cosine"]
    assert rows(camera_norm=True)["cosine"]["mAP_standard"] > usual["cosine"]["mAP_standard"]
    assert rows(joint="paper")["+ST"] != usual["+ST"]
    assert rows(batch=5) == usual


def test_without_sequence_lengths_a_sequence_ends_with_its_last_picture(market: Path, tmp_path: Path) -> None:
    lengths = {f"c{camera}s1": 99999 for camera in (1, 2, 3)}
    (tmp_path / "lengths.json").write_text(json.dumps(lengths))
    given = image_retrieval.Choices(encoder="stripes", sequence_lengths=tmp_path / "lengths.json")
    assert (
        image_retrieval.rate_pictures(market, given).rows
        == image_retrieval.rate_pictures(market, image_retrieval.Choices(encoder="stripes")).rows
    )
    starts = image_retrieval._sequence_starts(tmp_path, None, ["0001_c1s3_000010_00.jpg", "0001_c1s1_000451_00.jpg"])
    assert starts == {(1, 1): 0, (1, 2): 452, (1, 3): 453}
    (tmp_path / "lengths.json").write_text('{"c1s1": 99999}')
    done = identrix("test-reid", market, "--encoder", "stripes", "--sequence-lengths", tmp_path / "lengths.json")
    assert (done.exit_code, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "c2s1 is not known" in done.stderr


def test_appearance_that_says_nothing_has_no_space_time_rows(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ValueError("no positive slope explains the delays")

    monkeypatch.setattr("pipeline.market.fit_by_delays", refused)
    done = identrix("test-reid", market, "--encoder", "stripes", "--json", "-")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert list(said["rows"]) == ["cosine", "+RK"]
    assert said["notes"][-1] == (
        "no space-time rows: the slope of appearance cannot be fitted: no positive slope explains the delays"
    )


def test_names_without_times_have_no_space_time_rows(tmp_path: Path) -> None:
    done = identrix("test-reid", plain(tmp_path / "people", 24), "--encoder", "stripes", "--json", "-")
    said = json.loads(done.stdout)
    assert list(said["rows"]) == ["cosine", "+RK"]
    assert said["notes"] == ["no space-time rows: the names of a folder of layout folders tell no times"]


def test_broken_files_are_left_out_and_said(tmp_path: Path) -> None:
    root = plain(tmp_path / "people")
    (root / "p1" / "cam1" / "0.png").write_bytes(b"no picture")
    (root / "p2" / "cam2" / "1.png").write_bytes(b"")
    done = identrix("test-reid", root, "--encoder", "stripes")
    assert done.exit_code == 0
    assert "2 left out, not a readable image: " in done.stderr
    assert all(name in done.stderr for name in ("p1/cam1/0.png", "p2/cam2/1.png"))
    assert "no re-ranking: it compares 20 neighbours" in done.stderr
    assert "cosine" in done.stdout


def test_nothing_to_ask_for_is_one_clear_line(market: Path, tmp_path: Path) -> None:
    (tmp_path / "bounding_box_train").mkdir()
    for path in sorted((market / "bounding_box_train").iterdir())[:12]:
        (tmp_path / "bounding_box_train" / path.name).write_bytes(path.read_bytes())
    done = identrix("test-reid", tmp_path, "--encoder", "stripes")
    assert (done.exit_code, done.stderr.strip()) == (
        2,
        f"{tmp_path}: 0 queries and 0 gallery pictures; both are needed",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{market}", "--joint", "sum"], "--joint sum: expected calibrated or paper"),
        (["{market}", "--train", "names.txt"], "--train: features have their own form"),
        (["{market}", "--layout", "duke"], "layout 'duke' is not known"),
        (["{market}/gone"], "no such folder"),
        (["{market}", "--encoder", "osnet_x9"], "no model named 'osnet_x9'"),
        ([], "give a FOLDER of pictures, or names and features: --train, --query"),
        (["--train", "a.txt"], "--query, --gallery, --query-features"),
    ],
)
def test_wrong_arguments_are_one_clear_line(market: Path, arguments: list[str], says: str) -> None:
    encoder = (
        [] if "--encoder" in arguments or not arguments or arguments[0].startswith("--") else ["--encoder", "stripes"]
    )
    done = identrix("test-reid", *(a.format(market=market) for a in arguments), *encoder)
    assert (done.exit_code, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert says in done.stderr


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least two people"):
        image_retrieval.rate_pictures(tmp_path, image_retrieval.Choices(encoder="stripes"))
