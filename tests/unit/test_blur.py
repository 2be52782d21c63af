"""What is hidden, when, and that it is hidden before it is encoded."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.blur import Hider, PrivacyError, head_of, hiders, load_faces
from pipeline.hidden_boxes import HOLD_S, CameraBoxes, StayBoxes, read_hidden_boxes
from pipeline.journal import JournalError
from pipeline.journal_writer import RunJournal
from pipeline.render import render_videos
from pipeline.sources import Source
from pipeline.tracklog import finish_run
from pipeline.video import VideoWriter

HZ, WIDTH, HEIGHT = 10.0, 160, 128
NAMED, UNNAMED = (20, 20, 60, 120), (100, 20, 140, 120)  # one with an id, one whose stay never got one


def stripes() -> np.ndarray:
    """Vertical stripes two pixels wide: any averaging over cells wipes them out."""
    return np.tile(np.repeat(np.array([0, 255], np.uint8), 2), (HEIGHT, WIDTH // 4))[..., None].repeat(3, axis=2)


def contrast(image: np.ndarray, x1: float, y1: float, x2: float, y2: float) -> float:
    """How strongly the stripes show in a part of a picture."""
    part = image[int(y1) : int(y2), int(x1) : int(x2)].astype(float)
    return float(np.abs(np.diff(part, axis=1)).mean())


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Source]:
    folder = tmp_path / "run"
    boxes, scores = np.array([NAMED, UNNAMED], np.float32), np.ones(2, np.float32)
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for index in range(30):
            writer.write(stripes(), index / HZ)
    with RunJournal(folder) as journal:
        for index in range(30):
            seen = 10 <= index < 20
            empty = np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
            journal.boxes("a", index, index / HZ, *((np.array([1, 2]), boxes, scores) if seen else empty))
    return folder, Source("a", str(tmp_path / "a.mp4"))


def written(run: tuple[Path, Source], blur: str) -> list[np.ndarray]:
    folder, source = run
    finish_run(folder, {("a", 1): (7, 0.9)}, keep_boxes=blur != "none")
    (folder / "run.json").write_text(json.dumps({"config": {"privacy": {"blur": blur}}}))
    render_videos(folder, [source])
    with av.open(str(folder / "video" / "a.mp4")) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("blur", ["heads", "bodies"])
def test_heads_or_bodies_are_hidden_in_the_file_also_of_those_without_an_id(run, blur):
    pictures = written(run, blur)
    for box in (NAMED, UNNAMED):
        x1, y1, x2 = box[0] + 4, box[1] + 6, box[2] - 4  # not the box that is drawn, nor its label
        assert contrast(pictures[15], x1, y1, x2, y1 + 14) < 12  # the head
        body = contrast(pictures[15], x1, y1 + 40, x2, y1 + 80)
        assert body < 12 if blur == "bodies" else body > 60
        at_first_s = round(10 - HOLD_S * HZ) + 1  # before the track begins: the person is there, the box is not yet
        assert contrast(pictures[at_first_s], x1, y1, x2, y1 + 14) < 12
        assert contrast(pictures[0], x1, y1, x2, y1 + 14) > 60
    assert contrast(pictures[15], 70, 40, 95, 120) > 60  # between the two: untouched


def test_without_blur_nothing_is_hidden_and_no_box_is_kept(run):
    pictures = written(run, "none")
    assert contrast(pictures[15], 104, 26, 136, 40) > 60
    assert not (run[0] / "hidden_boxes.parquet").exists()


def test_faces_without_the_face_detector_means_heads_and_is_said(run, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("IDENTRIX_MODELS", str(tmp_path))
    monkeypatch.setenv("IDENTRIX_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        pictures = written(run, "faces")
    assert contrast(pictures[15], 24, 26, 56, 40) < 12
    assert [r.message for r in caplog.records if "heads are hidden instead of faces" in r.message]


def test_weights_that_are_no_face_detector(monkeypatch, tmp_path):
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"no weights")
    monkeypatch.setenv("IDENTRIX_MODELS", str(tmp_path))
    with pytest.raises(PrivacyError, match="not a YuNet face detector"):
        load_faces()


def test_faces_on_real_people(data_dir, models_dir):
    """Of the large faces of a street scene most are found, and what is found is averaged."""
    from pipeline.sources import read_frames

    truth = np.loadtxt(data_dir / "tud_campus" / "gt.txt", delimiter=",")
    frames = read_frames(Source("tud", str(data_dir / "tud_campus" / "TUD-Campus.mp4")))
    frame = next(f for f in frames if f.index == 30)
    frames.close()
    rows = truth[truth[:, 0] == 31]
    stays = [
        StayBoxes(int(r[1]), np.array([frame.time_s]), np.array([[*r[2:4], *(r[2:4] + r[4:6])]], np.float32))
        for r in rows
    ]
    hidden = Hider("faces", stays, load_faces()).hide(frame.image.copy(), frame.time_s)
    changed = [
        bool((hidden[int(y1) : int(y2), int(x1) : int(x2)] != frame.image[int(y1) : int(y2), int(x1) : int(x2)]).any())
        for x1, y1, x2, y2 in (head_of(stay.boxes[0]).clip(0) for stay in stays)
    ]
    assert sum(changed) >= len(stays) - 1
    assert (hidden == frame.image).mean() > 0.97  # and little else


def test_a_hole_in_a_stay_is_hidden_and_a_long_one_is_not():
    box = np.array([0, 0, 10, 20], np.float32)
    stay = StayBoxes(1, np.array([1.0, 3.0, 20.0]), np.stack([box, box + 10, box]))
    camera = CameraBoxes([stay])
    assert [len(camera.at(t)) for t in (0.0, 0.5, 1.0, 2.0, 3.0, 3.5, 10.0, 19.5, 20.0, 21.0)] == [
        *(0, 1, 1, 1, 1, 1, 0, 1, 1, 0)
    ]
    assert len(camera.at(2.0)) == 1  # going back is allowed


def test_a_run_without_boxes_or_with_damaged_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tracks\.parquet"):
        hiders(tmp_path, ["a"], "heads")
    (tmp_path / "hidden_boxes.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(JournalError, match="not a readable Parquet file"):
        read_hidden_boxes(tmp_path)
