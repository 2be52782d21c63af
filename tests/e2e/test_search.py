"""`search` as a user runs it: the right person first, crops only when asked for, one clear line for every mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from door import QUICK, films, identrix

from pipeline.journal import read_facts
from pipeline.search import SeenStay, _near, _time_says
from pipeline.tracks_table import read_tracks
from reid.embedding import read_image
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables


@pytest.fixture(scope="module")
def run(walk: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people, each seen by a and then by b."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDENTRIX_STATE", str(folder / "state"))
        done = identrix("run", *films(walk), "--out", folder / "run", *QUICK)
    assert done.exit_code == 0, done.stderr
    return folder / "run"


@pytest.fixture
def picture(run: Path, tmp_path: Path) -> tuple[Path, int]:
    """A crop of somebody in camera a, and who it is."""
    done = identrix("search", run, "--image", _any_picture(tmp_path), "--crops", tmp_path / "all")
    assert done.exit_code == 0, done.stderr
    shown = sorted(path for path in (tmp_path / "all").glob("*.jpg") if " a " in path.name)
    return shown[0], int(shown[0].name.split()[1][1:])


def _any_picture(folder: Path) -> Path:
    import cv2

    cv2.imwrite(str(folder / "any.png"), np.random.default_rng(0).integers(0, 255, (80, 40, 3), np.uint8))
    return folder / "any.png"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "state"))


def copied(run: Path, folder: Path, **changed: object) -> Path:
    """The run under another roof, with other words in run.json."""
    shutil.copytree(run, folder)
    facts = read_facts(folder)
    for key, value in changed.items():
        node = facts
        *path, last = key.split("__")
        for part in path:
            node = node[part]
        node[last] = value
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def test_the_person_is_found_with_times_and_cameras(run: Path, picture: tuple[Path, int]) -> None:
    image, who = picture
    done = identrix("search", run, "--image", image, "--top", 3, "--json")
    said = json.loads(done.stdout)
    first = said["found"][0]
    assert (first["global_id"], len(said["found"]), said["people"]) == (who, 3, 4)
    assert {stay["camera"] for stay in first["stays"]} == {"a", "b"}
    assert all(stay["entered_s"] < stay["last_s"] for stay in first["stays"])
    assert first["similarity"] == max(stay["similarity"] for stay in first["stays"]) > 0.8
    assert first["probability"] > 0.5
    assert "whole picture is taken for the person" in said["notes"][0]
    everybody = json.loads(identrix("search", run, "--image", image, "--json").stdout)
    assert sum(f["probability"] for f in everybody["found"]) + everybody["nobody"] == pytest.approx(1)
    table = identrix("search", run, "--image", image)
    assert f"P{who}" in table.stdout
    assert "4 persons in this run" in table.stdout


def test_a_place_and_a_time_count(run: Path, picture: tuple[Path, int]) -> None:
    """Somebody in view there and then is likelier than before; a time long after everybody left moves all alike."""
    image, who = picture
    stay = next(s for s in _found(run, image, who)["stays"] if s["camera"] == "a")
    middle = (stay["entered_s"] + stay["last_s"]) / 2
    there = _found(run, image, who, "--near", f"a@{middle}")
    assert (there["delay_s"], there["transition"] > 1) == (0.0, True)
    assert there["probability"] >= _found(run, image, who)["probability"]
    later = _found(run, image, who, "--near", "b@1970-01-01T00:30:00Z")
    assert later["delay_s"] > 1000
    assert "time" in identrix("search", run, "--image", image, "--near", f"a@{middle}").stdout


def _found(run: Path, image: Path, who: int, *more: object) -> dict:
    said = json.loads(identrix("search", run, "--image", image, "--json", *more).stdout)
    return next(found for found in said["found"] if found["global_id"] == who)


def test_the_tables_decide_by_the_nearest_stay() -> None:
    axes = TableSettings(bin_s=2.0, origin_s=-10.0, horizon_s=200.0)
    tables = TransitionTables(axes)
    tables.add([Increment("a", "b", 0, axes.bin_of(20.0) or 0, ONE)] * 50)
    people = {
        1: [SeenStay("a", 1, 0.0, 10.0, 0.9)],
        2: [SeenStay("a", 2, 0.0, 25.0, 0.9)],
        3: [SeenStay("b", 3, 28.0, 35.0, 0.9)],
        4: [SeenStay("c", 4, 31.0, 40.0, 0.9)],
        5: [SeenStay("c", 5, -999.0, -990.0, 0.9)],
    }
    near = _near("b@30", ["a", "b", "c"])
    said = {i: _time_says(stays, near, tables, people, 1.0, 4.0) for i, stays in people.items()}
    assert [round(delay, 1) for _, delay in said.values()] == [20.0, 5.0, 0.0, 1.0, 1020.0]
    assert said[1][0] > 2 > 0 > said[2][0]  # 20 s is what people take, 5 s is not
    assert said[3][0] == pytest.approx(np.log(5))  # one of five was in view
    assert said[4][0] == 0  # nothing is known of c
    assert said[5][0] == -4


def test_crops_are_cut_from_the_video_and_only_when_asked(run: Path, picture: tuple[Path, int], tmp_path: Path) -> None:
    image, who = picture
    before = sorted(path for path in run.rglob("*"))
    done = identrix("search", run, "--image", image, "--top", 2, "--crops", tmp_path / "crops")
    files = sorted((tmp_path / "crops").iterdir())
    assert (done.exit_code, len(files)) == (0, 2)
    assert f"2 pictures: {tmp_path / 'crops'}" in done.stdout
    assert files[0].name.startswith(f"01 P{who} ")
    tracks = read_tracks(run).to_pylist()
    shape = read_image(files[0]).shape[:2]
    assert any(
        abs(row["y2"] - row["y1"] - shape[0]) < 3 and abs(row["x2"] - row["x1"] - shape[1]) < 3
        for row in tracks
        if row["global_id"] == who
    )
    assert sorted(path for path in run.rglob("*")) == before
    again = json.loads(identrix("search", run, "--image", files[0], "--json").stdout)
    assert again["found"][0]["global_id"] == who


def test_without_the_video_the_answer_comes_all_the_same(run: Path, picture: tuple[Path, int], tmp_path: Path) -> None:
    moved = copied(run, tmp_path / "moved")
    facts = read_facts(moved)
    for camera in facts["config"]["cameras"]:
        camera["source"] = str(tmp_path / "gone.mp4")
    (moved / "run.json").write_text(json.dumps(facts))
    done = identrix("search", moved, "--image", picture[0], "--crops", tmp_path / "crops")
    assert done.exit_code == 0
    assert f"P{picture[1]}" in done.stdout
    assert "0 pictures" in done.stdout
    assert "gone.mp4" in done.stderr


def test_what_a_run_hides_is_hidden_in_crops(run: Path, picture: tuple[Path, int], tmp_path: Path) -> None:
    blurred = copied(run, tmp_path / "blurred", config__privacy__blur="bodies")
    shown, hidden = (
        json.loads(identrix("search", r, "--image", picture[0], "--top", 1, "--crops", tmp_path / n, "--json").stdout)
        for r, n in ((run, "shown"), (blurred, "hidden"))
    )
    first, second = (read_image(result["crops"][0]).astype(int) for result in (shown, hidden))
    assert first.shape == second.shape
    assert np.abs(first - second).mean() > 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--image", "text.png"], "not a readable picture"),
        (["--image", "gone.png"], "no such file"),
        (["--image", "huge.png"], "too many"),
        (["--image", "any.png", "--near", "c@12"], "no camera 'c'; this run saw people in a, b"),
        (["--image", "any.png", "--near", "a"], "expected CAMERA@TIME, as in a@12.5"),
        (["--image", "any.png", "--near", "a@noon"], "must be seconds or a date"),
        (["--image", "any.png", "--near", "a@nan"], "must be finite"),
        (["--image", "any.png", "--top", "0"], "at least one person"),
        (["--image", "any.png", "--encoder", "osnet_x9"], "no model named 'osnet_x9'"),
    ],
)
def test_wrong_arguments_are_one_clear_line(run: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    import struct
    import zlib

    _any_picture(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    body = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", *(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b))
        for k, b in ((b"IHDR", body), (b"IDAT", zlib.compress(b"")))
    )]  # fmt: skip
    (tmp_path / "huge.png").write_bytes(b"".join(parts))
    arguments = [str(tmp_path / a) if a.endswith(".png") else a for a in arguments]
    done = identrix("search", run, *arguments)
    assert (done.exit_code, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert says in done.stderr


def test_a_run_by_another_encoder_is_refused(run: Path, tmp_path: Path, models_dir: Path) -> None:
    image = _any_picture(tmp_path)
    other = identrix("search", run, "--image", image, "--encoder", "osnet")
    assert (other.exit_code, "was made by stripes, not by osnet" in other.stderr) == (2, True)
    unsaid = copied(run, tmp_path / "unsaid", config__reid={})
    assert "name it with --encoder" in identrix("search", unsaid, "--image", image).stderr
    dims = identrix("search", unsaid, "--image", image, "--encoder", "osnet")
    assert (dims.exit_code, "this encoder gives 512" in dims.stderr) == (2, True)
    weights = {"osnet_x0_25_msmt17": {"file": "osnet.onnx", "sha256": "00" * 32}}
    changed = copied(run, tmp_path / "changed", config__reid__encoder="osnet", weights=weights)
    done = identrix("search", changed, "--image", image)
    assert (done.exit_code, "was made with another osnet_x0_25_msmt17 than" in done.stderr) == (2, True)


def test_a_picture_without_a_person_says_so(run: Path, tmp_path: Path, models_dir: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "grey.png"), np.full((200, 300, 3), 127, np.uint8))
    yolo = copied(run, tmp_path / "yolo", config__detector__model="yolo11n")
    done = identrix("search", yolo, "--image", tmp_path / "grey.png")
    assert (done.exit_code, done.stderr.count("no person found in it")) == (2, 1)
    assert identrix("search", yolo, "--image", tmp_path / "grey.png", "--whole").exit_code == 0


def test_an_empty_or_unfinished_run_is_one_clear_line(run: Path, tmp_path: Path) -> None:
    from pipeline.sightings_file import write_sightings

    image = _any_picture(tmp_path)
    empty = copied(run, tmp_path / "empty")
    write_sightings(empty / "sightings.parquet", [])
    killed = copied(run, tmp_path / "killed")
    (killed / "sightings.parquet").unlink()
    (killed / "journal").mkdir()
    for folder, says in (
        (empty, "nobody was seen in this run"),
        (killed, "identrix finish"),
        (tmp_path / "gone", "no such"),
    ):
        done = identrix("search", folder, "--image", image)
        assert (done.exit_code, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
        assert says in done.stderr
