from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.sources import Source, read_frames, read_together


def test_two_cameras_of_real_footage_come_pairwise(data_dir: Path) -> None:
    sources = [Source(name, str(data_dir / f"vcam_dev/videos/{name}.mp4")) for name in "ab"]
    with read_together(sources) as cameras:
        batches = [[(frame.camera, frame.index, frame.time_s) for frame in batch] for batch in cameras]
    assert batches == [[("a", n, n / 7), ("b", n, n / 7)] for n in range(400)]


def test_pixels_are_those_that_opencv_reads(data_dir: Path) -> None:
    path = str(data_dir / "pets2009/vtest.avi")
    capture = cv2.VideoCapture(path)
    count = 0
    for frame in read_frames(Source("cam", path)):
        _, expected = capture.read()
        assert np.array_equal(frame.image, expected)
        count += 1
    assert count == 795
    capture.release()
