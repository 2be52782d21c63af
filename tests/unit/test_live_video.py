"""Live video: ids that are known late stand in early pictures, memory has an end, people are hidden."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pipeline.annotate import UNKNOWN, person_colour
from pipeline.live_ids import LiveIds
from pipeline.live_video import LiveVideo
from pipeline.schema import Output
from pipeline.sources import Frame
from pipeline.tracking import Tracks
from st_model.ledger import Correction
from st_model.sightings import Decision

NOW = 1_800_000_000.0
BOX = np.array([[40, 60, 80, 150]], np.float32)


def tracks(*ids: int) -> Tracks:
    boxes = (
        np.concatenate([BOX + np.array([60 * n, 0, 60 * n, 0]) for n in range(len(ids))]) if ids else np.zeros((0, 4))
    )
    return Tracks(np.array(ids, np.int64), boxes.astype(np.float32), np.ones(len(ids), np.float32))


def frame(camera: str, time_s: float, seed: int = 0, shape: tuple[int, int] = (200, 240)) -> Frame:
    rng = np.random.default_rng(seed)
    return Frame(camera, 0, time_s, rng.integers(80, 160, (*shape, 3), dtype=np.uint8))


def pictures(folder) -> list[np.ndarray]:
    import av

    out = []
    for path in sorted(folder.iterdir()):
        with av.open(str(path)) as container:
            out += [f.to_ndarray(format="bgr24") for f in container.decode(video=0)]
    return out


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether the left side of the box has this colour, as far as H.264 leaves it."""
    return bool(np.abs(picture[75:140, 40].astype(float).mean(0) - colour).max() < 45)


def test_an_id_that_is_known_later_stands_in_the_first_picture(tmp_path):
    ids = LiveIds()
    with LiveVideo(tmp_path, Output(delay_s=0.5, segment_s=10), ids.of) as video:
        for n in range(4):
            video.add(frame("a", NOW + n / 10), tracks(7))
        time.sleep(0.05)
        ids.take([Decision("a", 7, NOW, 3, "new")], [])
    early, *_ = seen = pictures(tmp_path / "a")
    assert len(seen) == 4 and near(early, person_colour(3))
    assert video.counters() == {"videos": 2, "video_frames": 4, "video_frames_dropped": 0}
    assert [t.name for t in threading.enumerate() if t.name.startswith("video")] == []


def test_without_delay_it_is_grey(tmp_path):
    with LiveVideo(tmp_path, Output(delay_s=0), lambda camera, track_id: None) as video:
        video.add(frame("a", NOW), tracks(7))
        time.sleep(0.3)
    (only,) = pictures(tmp_path / "a")
    assert near(only, UNKNOWN)


def test_the_memory_of_waiting_pictures_has_an_end(tmp_path):
    with LiveVideo(tmp_path, Output(delay_s=100, buffer_mb=1), lambda camera, track_id: None) as video:
        camera = None
        most = 0
        for n in range(80):
            video.add(frame("a", NOW + n / 10, seed=n, shape=(360, 480)), tracks())
            camera = camera or video._cameras["a"]
            while camera._raw:
                time.sleep(0.001)
            most = max(most, camera._bytes)
        one = max(waiting.jpeg.nbytes for waiting in camera._waiting)
        assert 1e6 - one < most <= 1e6 + 2 * one and camera.drawn > 50
    assert len(pictures(tmp_path / "a")) == 80


def test_who_cannot_keep_up_loses_pictures_and_not_the_run_its_time(tmp_path, monkeypatch):
    held = threading.Event()
    real = LiveVideo.most_bytes
    with LiveVideo(tmp_path, Output(delay_s=0), lambda camera, track_id: None) as video:
        monkeypatch.setattr(LiveVideo, "most_bytes", property(lambda self: held.wait(10) and 1e9))
        monkeypatch.setattr("pipeline.live_video.draw_frame", lambda *_: held.wait(10))
        for n in range(50):
            video.add(frame("a", NOW + n / 10), tracks())
        counts = video.counters()
        held.set()
        monkeypatch.setattr(LiveVideo, "most_bytes", real)
    assert counts["video_frames_dropped"] >= 40
    assert video.counters()["video_frames"] + video.counters()["video_frames_dropped"] == 50


@pytest.mark.parametrize("blur", ["heads", "bodies"])
def test_people_are_hidden_also_before_the_tracker_knew_them(tmp_path, blur):
    plain, hidden = tmp_path / "plain", tmp_path / "hidden"
    for folder, how in ((plain, "none"), (hidden, blur)):
        with LiveVideo(folder, Output(delay_s=0.1), lambda camera, track_id: None, how) as video:
            assert (video.delay_s >= 2.0) == (how != "none")
            for n in range(6):
                video.add(frame("a", NOW + n / 10), tracks(7) if n >= 3 else tracks())
                time.sleep(0.02)
    for picture, as_was in zip(pictures(hidden / "a"), pictures(plain / "a"), strict=True):
        head, elsewhere = np.s_[63:75, 45:75], np.s_[100:190, 150:230]
        assert picture[head].std() < 0.6 * as_was[head].std()
        assert abs(picture[elsewhere].std() - as_was[elsewhere].std()) < 2


def test_the_mosaic_has_every_camera_to_the_end(tmp_path):
    with LiveVideo(tmp_path, Output(delay_s=1.0), lambda camera, track_id: None) as video:
        for n in range(30):
            for camera in "ab":
                video.add(frame(camera, NOW + n / 10), tracks())
            time.sleep(0.01)
    shown = pictures(tmp_path / "mosaic")
    assert shown[-1].shape[1] == 480 and len(shown) >= 8
    assert all(shown[-1][60:190, x : x + 230].std() > 5 for x in (5, 245))


def test_a_silent_camera_gets_its_file_finished_and_loses_its_tile(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.live_video.IDLE_S", 0.2)
    with LiveVideo(tmp_path, Output(delay_s=0), lambda camera, track_id: None) as video:
        video.add(frame("a", NOW), tracks())
        video.add(frame("b", NOW), tracks())
        time.sleep(1.5)  # a moment of the thread's own comes once a second
        assert len(pictures(tmp_path / "a")) == 1
        assert set(video._wall._sizes) == {"a", "b"}
        for n in range(2):
            video.add(frame("b", NOW + 700 + n), tracks())
            time.sleep(0.4)
        assert set(video._wall._sizes) == {"b"}
        video.add(frame("a", NOW + 702), tracks())
    assert len(pictures(tmp_path / "a")) == 2 and len(list((tmp_path / "a").iterdir())) == 2


def test_ids_follow_corrections_and_forget_the_oldest():
    ids = LiveIds(most=3)
    ids.take([Decision("a", n, float(n), n, "new") for n in range(1, 4)], [])
    ids.take([], [Correction("merge", 5.0, 3, 1, (("a", 3),), 0.9)])
    assert [ids.of("a", n)[0] for n in (1, 2, 3)] == [1, 2, 1]
    ids.take([], [Correction("split", 6.0, 1, 9, (("a", 3), ("z", 1)), 0.8)])
    assert ids.of("a", 3) == (9, 0.8) and ids.of("a", 1)[0] == 1 and ids.of("z", 1) is None
    ids.take([Decision("a", 1, 7.0, 1, "confirm"), Decision("b", 4, 7.0, 4, "new")], [])
    assert ids.of("a", 2) is None and ids.of("a", 1) is not None and ids.of("b", 4)[0] == 4
