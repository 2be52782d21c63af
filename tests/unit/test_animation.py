"""The animated picture of a video."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.animation import write_animation
from pipeline.video import VideoWriter


def test_it_shows_the_asked_part_and_keeps_to_its_size(tmp_path):
    noise = np.random.default_rng(1)
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for n in range(60):
            picture = np.full((96, 160, 3), 4 * n, np.uint8)
            picture[:48] = noise.integers(0, 256, (48, 160, 3))
            writer.write(picture, n / 10)
    options = {"begin_s": 2.0, "length_s": 2.0, "fps": 5, "width": 160}
    large = write_animation(tmp_path / "a.mp4", tmp_path / "a.webp", most_bytes=10**9, **options)
    assert large == (tmp_path / "a.webp").stat().st_size
    with Image.open(tmp_path / "a.webp") as moving:
        assert (moving.n_frames, moving.size, moving.info["loop"]) == (10, (160, 96), 0)
        shown = []
        for n in range(10):
            moving.seek(n)
            shown.append(np.asarray(moving.convert("L"))[80:].mean())
    assert shown == pytest.approx([4 * (20 + 2 * n) for n in range(10)], abs=6)
    small = write_animation(tmp_path / "a.mp4", tmp_path / "a.webp", most_bytes=large // 2, **options)
    assert small < large
    with pytest.raises(ValueError, match="no picture between 9"):
        write_animation(tmp_path / "a.mp4", tmp_path / "b.webp", most_bytes=1, **{**options, "begin_s": 9.0})
    with pytest.raises(FileNotFoundError):
        write_animation(tmp_path / "none.mp4", tmp_path / "b.webp", most_bytes=1, **options)
