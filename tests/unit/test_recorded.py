from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detectors.recorded import RecordedDetector, RecordedError

IMAGE = np.zeros((100, 200, 3), np.uint8)


def written(folder: Path, text: str) -> Path:
    path = folder / "lobby.txt"
    path.write_text(text)
    return path


def test_frames_count_from_one_in_the_file_and_from_zero_here(tmp_path: Path) -> None:
    path = written(tmp_path, "1,7,10,20,30,40,0.5,-1,-1,-1\n\n3,7,11,20,30,40,0.25\n3,8,50,20,10,10,1\n")
    detector = RecordedDetector({"lobby": path})
    first, second, third = detector(["lobby"] * 3, [0, 1, 2], [IMAGE] * 3)
    assert first.boxes.tolist() == [[10, 20, 40, 60]]
    assert first.scores.tolist() == [0.5]
    assert len(second) == 0
    assert third.boxes[:, 0].tolist() == [11, 50]


def test_every_camera_has_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,1,1,1,5,5,1")
    (tmp_path / "b.txt").write_text("2,1,2,2,5,5,1")
    detector = RecordedDetector({"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"})
    assert [len(found) for found in detector(["a", "b", "b"], [0, 0, 1], [IMAGE] * 3)] == [1, 0, 1]


def test_a_row_without_conf_is_certain_and_weak_rows_can_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "1,7,10,20,30,40\n1,8,10,20,30,40,0.3\n")
    (found,) = RecordedDetector({"lobby": path}, conf=0.5)(["lobby"], [0], [IMAGE])
    assert found.scores.tolist() == [1]


def test_boxes_are_clipped_to_the_image_and_those_outside_are_dropped(tmp_path: Path) -> None:
    path = written(tmp_path, "1,1,-10,-10,30,40,1\n1,2,190,90,30,40,1\n1,3,300,10,30,40,1\n1,4,5,5,0,10,1\n")
    (found,) = RecordedDetector({"lobby": path})(["lobby"], [0], [IMAGE])
    assert found.boxes.tolist() == [[0, 0, 20, 30], [190, 90, 200, 100]]


def test_an_empty_file_is_a_camera_that_sees_nobody(tmp_path: Path) -> None:
    (found,) = RecordedDetector({"lobby": written(tmp_path, "")})(["lobby"], [0], [IMAGE])
    assert len(found) == 0


def test_an_unknown_camera_is_named(tmp_path: Path) -> None:
    detector = RecordedDetector({"lobby": written(tmp_path, "")})
    with pytest.raises(RecordedError, match=r"'exit'.*lobby"):
        detector(["exit"], [0], [IMAGE])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,7,10,20,30\n", "lobby.txt:1: expected .* got 5 columns"),
        ("1,7,10,20,30,40,1\n2 7 10 20 30 40 1\n", "lobby.txt:2: expected .* got 1 columns"),
        ("1,7,10,twenty,30,40,1\n", "lobby.txt:1: could not convert"),
        ("frame,id,left,top,width,height,conf\n", "lobby.txt:1: could not convert"),
        ("0,7,10,20,30,40,1\n", "frames count from 1, got 0"),
        ("1.5,7,10,20,30,40,1\n", "frames count from 1, got 1.5"),
        ("1,7,10,20,-30,40,1\n", "size -30 x 40"),
        ("1,7,10,20,nan,40,1\n", "finite"),
        ("1,7,10,20,30,40,90\n", "conf must lie in"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(RecordedError, match=complaint):
        RecordedDetector({"lobby": written(tmp_path, text)})


@pytest.mark.parametrize("make", ["missing", "folder", "binary"])
def test_what_is_no_text_file_is_named(tmp_path: Path, make: str) -> None:
    path = tmp_path / "lobby.txt"
    if make == "folder":
        path.mkdir()
    elif make == "binary":
        path.write_bytes(b"\xff\xfe\x00\x81" * 10)
    with pytest.raises(RecordedError, match=r"cannot read recorded boxes from .*lobby.txt"):
        RecordedDetector({"lobby": path})
