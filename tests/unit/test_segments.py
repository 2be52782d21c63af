"""Video in segments: where they are cut, what is removed, and a disk that is full for a while."""

from __future__ import annotations

import numpy as np
import pytest

import pipeline.segments
from pipeline.atomic import OutputError
from pipeline.segments import SegmentWriter, begin_of, name_of
from pipeline.video import VideoWriter

PICTURE = np.full((48, 64, 3), 90, np.uint8)
NOW = 1_800_000_000.0  # a multiple of 10 s


def times_in(path) -> list[float]:
    import av

    with av.open(str(path)) as container:
        return [round(float(frame.time), 3) for frame in container.decode(video=0)]


def test_segments_begin_at_multiples_and_hold_everything(tmp_path):
    writer = SegmentWriter(tmp_path / "a", segment_s=10)
    for n in range(60):
        writer.write(PICTURE, NOW + 7 + n / 2)
    writer.close()
    writer.close()
    paths = sorted((tmp_path / "a").iterdir())
    assert [path.name for path in paths] == [name_of(NOW + s) for s in (7, 10, 20, 30)]
    assert [len(times_in(path)) for path in paths] == [6, 20, 20, 14] and writer.written == 60
    assert times_in(paths[1])[:3] == [0.0, 0.5, 1.0]
    assert begin_of(paths[1]) == NOW + 10 and begin_of(tmp_path / "notes.mp4") is None


def test_old_segments_are_removed_and_nothing_else(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for name in (name_of(NOW - 100), name_of(NOW - 35), "holiday.mp4", "2026.txt"):
        (folder / name).touch()
    writer = SegmentWriter(folder, segment_s=10, keep_s=30)
    writer.write(PICTURE, NOW)
    assert {path.name for path in folder.iterdir()} == {
        name_of(NOW - 35), name_of(NOW), "holiday.mp4", "2026.txt",
    }  # fmt: skip
    writer.write(PICTURE, NOW + 10)
    writer.close()
    assert not (folder / name_of(NOW - 35)).exists() and (folder / name_of(NOW)).exists()


def test_a_camera_that_pauses_gets_a_file_of_its_own_after_it(tmp_path):
    writer = SegmentWriter(tmp_path, segment_s=60)
    writer.write(PICTURE, NOW)
    writer.close()
    assert times_in(tmp_path / name_of(NOW)) == [0.0]  # finished, while the run goes on
    writer.write(PICTURE, NOW + 30)
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name_of(NOW), name_of(NOW + 30)]


def test_a_run_started_again_writes_over_nothing(tmp_path):
    for _ in range(3):
        writer = SegmentWriter(tmp_path, segment_s=10)
        writer.write(PICTURE, NOW)
        writer.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    stem = name_of(NOW).removesuffix(".mp4")
    assert names == [f"{stem}-2.mp4", f"{stem}-3.mp4", f"{stem}.mp4"]
    assert all(begin_of(tmp_path / name) == NOW for name in names)


def test_a_full_disk_costs_the_segment_and_the_next_is_tried(tmp_path, monkeypatch):
    full = True

    class Full(VideoWriter):
        def write(self, image, time_s):
            if full:
                raise OutputError("no space")
            super().write(image, time_s)

    monkeypatch.setattr(pipeline.segments, "VideoWriter", Full)
    writer = SegmentWriter(tmp_path, segment_s=10)
    with pytest.raises(OutputError):
        writer.write(PICTURE, NOW)
    full = False
    writer.write(PICTURE, NOW + 1)  # its beginning is lost
    assert writer.written == 0
    writer.write(PICTURE, NOW + 10)
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == [name_of(NOW + 10)]
