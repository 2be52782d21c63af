"""Writing H.264: true times, changing sizes, and files that can be read after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.atomic import OutputError
from pipeline.video import KEYFRAME_S, VideoWriter


def picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A flat picture whose brightness tells its number."""
    return np.full((height, width, 3), 40 + 10 * number, np.uint8)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_pictures_come_back_at_their_true_times(tmp_path):
    times_s = [100.0, 100.04, 100.5, 103.0, 103.0]  # the last stands still and is held
    with VideoWriter(tmp_path / "video" / "a.mp4") as writer:
        for number, time_s in enumerate(times_s):
            writer.write(picture(number), time_s)
    frames = decoded(tmp_path / "video" / "a.mp4")
    assert [f.time for f in frames] == pytest.approx([0, 0.04, 0.5, 3.0, 3.0], abs=1e-4)
    brightness = [f.to_ndarray(format="bgr24").mean() for f in frames]
    assert brightness == pytest.approx([40, 50, 60, 70, 80], abs=4)
    with av.open(str(tmp_path / "video" / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_colours_survive(tmp_path):
    image = np.zeros((48, 96, 3), np.uint8)
    image[:, :32], image[:, 32:64], image[:, 64:] = (220, 30, 30), (30, 200, 30), (30, 30, 220)
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(image, 0.0)
    back = decoded(tmp_path / "a.mp4")[0].to_ndarray(format="bgr24")
    for left in (16, 48, 80):
        assert back[24, left].astype(int) == pytest.approx(image[24, left].astype(int), abs=12)


def test_a_change_of_size_is_fitted_into_the_first(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for number, (width, height) in enumerate([(65, 49), (128, 96), (48, 64), (64, 48)]):
            writer.write(picture(number, width, height), number / 10)
    frames = decoded(tmp_path / "a.mp4")
    assert {(f.width, f.height) for f in frames} == {(64, 48)}
    assert len(frames) == 4
    tall = frames[2].to_ndarray(format="bgr24")
    assert tall[24, 32].mean() == pytest.approx(60, abs=5)
    assert tall[24, 4].mean() < 10  # black beside a picture that is taller


def test_key_frames_are_never_far_apart(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for number in range(60):
            writer.write(picture(number % 10), number / 5)
    keys = [f.time for f in decoded(tmp_path / "a.mp4") if f.key_frame]
    assert np.diff([*keys, 12.0]).max() <= KEYFRAME_S + 0.2


def test_a_killed_writer_leaves_a_playable_file(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
import numpy as np
from pipeline.video import VideoWriter
writer = VideoWriter(Path({str(tmp_path / "a.mp4")!r}))
for number in range(100):
    writer.write(np.full((48, 64, 3), 40 + number, np.uint8), number / 10)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    frames = decoded(tmp_path / "a.mp4")
    assert len(frames) >= 100 - 10 * (KEYFRAME_S + 0.1)  # all but the fragment that was being written


def test_without_a_picture_there_is_no_file(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.close()
    assert not (tmp_path / "a.mp4").exists()


def test_an_output_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4") as info:
        VideoWriter(tmp_path / "file" / "a.mp4").write(picture(1), 0.0)
    assert "\n" not in str(info.value)
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*b\.mp4"):
        VideoWriter(tmp_path / "b.mp4").write(picture(1), 0.0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not there; this test needs a full disk")
@pytest.mark.parametrize("pictures", [1, 100])
def test_a_full_disk_is_one_clear_line(tmp_path, pictures):
    (tmp_path / "a.mp4").symlink_to("/dev/full")
    rng = np.random.default_rng(0)
    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4: No space left"):  # noqa: SIM117
        with VideoWriter(tmp_path / "a.mp4") as writer:
            for number in range(pictures):
                writer.write(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8), float(number))
