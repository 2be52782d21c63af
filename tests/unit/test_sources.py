from __future__ import annotations

import functools
import http.server
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import grey_of, write_clip, write_sound

from pipeline.sources import (
    CameraHealth,
    Frame,
    NotAVideo,
    Source,
    SourceError,
    SourceNotFound,
    check,
    probe,
    read_frames,
    read_together,
    redact,
)


def read(path: Path | str, **options: float) -> tuple[list[Frame], CameraHealth]:
    health = CameraHealth()
    return list(read_frames(Source("cam", str(path), **options), health)), health


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode ")]


# One camera


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("h264.mp4", "libx264", "yuv420p"),
        ("h264.ts", "libx264", "yuv420p"),
        ("h264_10bit.mkv", "libx264", "yuv420p10le"),
        ("hevc.mov", "libx265", "yuv420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("vp8.webm", "libvpx", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("mjpeg.mkv", "mjpeg", "yuvj420p"),
        ("animated.gif", "gif", "rgb8"),
    ],
)
def test_every_frame_of_common_codecs_and_containers(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    import av

    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode {codec}")
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_clip(tmp_path / name, codec, pixels=pixels, codec_options=quiet)
    frames, health = read(path)
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 10 for n in range(20)], abs=1e-3)
    for frame in frames:
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        assert abs(float(frame.image[30:, 40:].mean()) - grey_of(frame.index)) < 16  # 8-bit GIF palette: coarse
    assert (health.frames_read, health.frames_skipped, health.corrupt_packets) == (20, 0, 0)
    assert (health.size, health.fps, health.warning, health.error) == ((64, 48), 10.0, None, None)


def test_a_colon_in_a_relative_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "2024-05-01T10:00:00.mp4")
    assert len(read("2024-05-01T10:00:00.mp4")[0]) == 20
    assert len(read(f"file://{tmp_path}/2024-05-01T10:00:00.mp4")[0]) == 20


def test_probe_tells_size_rate_length_and_codec(tmp_path: Path) -> None:
    info = probe(Source("cam", str(write_clip(tmp_path / "a.mp4", frames=30, fps=15, size=(96, 64)))))
    assert (info.width, info.height, info.fps, info.codec) == (96, 64, 15.0, "h264")
    assert info.duration_s == pytest.approx(2.0)


def test_start_and_offset_set_the_site_clock(tmp_path: Path) -> None:
    frames, health = read(write_clip(tmp_path / "a.ts"), start_s=1.7e9, offset_s=-0.25)
    assert frames[0].time_s == pytest.approx(1.7e9 - 0.25, abs=1e-6)
    assert (health.first_s, health.last_s) == (frames[0].time_s, frames[-1].time_s)
    assert frames[-1].time_s - frames[0].time_s == pytest.approx(1.9, abs=1e-6)


def test_stride_and_rate_skip_frames_but_count_them(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    frames, health = read(path, stride=3)
    assert [frame.index for frame in frames] == [0, 3, 6, 9, 12, 15, 18]
    assert (health.frames_read, health.frames_skipped) == (20, 13)
    frames, health = read(path, detect_hz=5)
    assert [frame.index for frame in frames] == list(range(0, 20, 2))
    frames, health = read(path, detect_hz=50)
    assert len(frames) == 20


def test_rate_follows_media_time_when_the_frame_rate_varies(tmp_path: Path) -> None:
    times_ms = [0, 20, 40, 60, 500, 520, 540, 1000, 1500, 1510, 1520, 2000]
    path = write_clip(tmp_path / "a.mkv", frames=len(times_ms), times_ms=times_ms)
    frames, _ = read(path)
    assert [frame.time_s for frame in frames] == pytest.approx([t / 1000 for t in times_ms])
    frames, _ = read(path, detect_hz=2)
    assert [round(frame.time_s * 1000) for frame in frames] == [0, 500, 1000, 1500, 2000]


def test_skipped_frames_are_never_turned_into_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from av.video import reformatter

    converted = []

    class Counting:
        def __init__(self) -> None:
            self._real = real()

        def reformat(self, frame: object, **options: object) -> object:
            converted.append(frame)
            return self._real.reformat(frame, **options)

    real = reformatter.VideoReformatter
    monkeypatch.setattr(reformatter, "VideoReformatter", Counting)
    read(write_clip(tmp_path / "a.mp4"), stride=5)
    assert len(converted) == 4


@pytest.mark.parametrize("turned_deg", [90, 180, 270])
def test_turned_recordings_come_upright_as_opencv_reads_them(tmp_path: Path, turned_deg: int) -> None:
    import cv2

    path = write_clip(tmp_path / "phone.mp4", frames=3, turned_deg=turned_deg)
    frames, health = read(path)
    _, expected = cv2.VideoCapture(str(path)).read()
    assert np.array_equal(frames[0].image, expected)
    assert health.size == (expected.shape[1], expected.shape[0])


def test_a_new_resolution_in_mid_stream_keeps_the_size_and_the_clock(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "1.ts", frames=10)
    second = write_clip(tmp_path / "2.ts", frames=10, size=(128, 96))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames, health = read(joined)
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert (len(frames), health.size_changes, health.size) == (20, 1, (64, 48))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 10 for n in range(20)], abs=1e-3)
    assert float(frames[15].image[:20, :28].mean()) > 240  # still the whole picture, not a corner of it


# Damage


def test_a_cut_file_is_read_up_to_the_cut_with_a_warning(tmp_path: Path) -> None:
    options = {"movflags": "faststart"}
    path = write_clip(tmp_path / "a.mp4", frames=100, container_options=options, noise=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, health = read(path)
    assert 20 < len(frames) < 80
    assert health.warning is not None
    assert "cam" in health.warning
    assert "before the end that its header promises" in health.warning


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("a.mkv", "mjpeg"), ("a.webm", "libvpx")])
def test_a_cut_stream_is_read_up_to_the_cut(tmp_path: Path, name: str, codec: str) -> None:
    path = write_clip(
        tmp_path / name, codec, frames=60, noise=True, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p"
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, _ = read(path)
    assert 15 < len(frames) < 50


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_damage_in_the_middle_is_read_over_and_counted(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = write_clip(tmp_path / name, frames=100, noise=True, codec_options={"g": "10"}, container_options=options)
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, len(data) // 8
    data[middle : middle + length] = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    path.write_bytes(data)
    frames, health = read(path)
    assert health.corrupt_packets > 0
    assert len(frames) > 70
    assert frames[-1].time_s == pytest.approx(9.9, abs=1e-3)  # what was lost leaves a gap, it does not shift the rest
    assert all(earlier.time_s < later.time_s for earlier, later in itertools.pairwise(frames))


def test_a_damaged_first_frame_does_not_shift_the_clock(tmp_path: Path) -> None:
    import av

    path = write_clip(tmp_path / "a.mkv", noise=True, codec_options={"bf": "0"})
    with av.open(str(path)) as container:
        first = next(container.demux(video=0))
        begin, end = first.pos + 20, first.pos + first.size
    data = bytearray(path.read_bytes())
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    frames, health = read(path)
    assert health.corrupt_packets > 0
    assert (len(frames), frames[0].index) == (19, 0)
    assert frames[0].time_s == pytest.approx(0.1)


def bad_files(folder: Path) -> Iterator[tuple[str, type[SourceError], str]]:
    """(file, error, words of its message), each made in ``folder``."""
    yield str(folder / "absent.mp4"), SourceNotFound, "no such file"
    yield str(folder), SourceNotFound, "is a folder"
    (folder / "empty.mp4").touch()
    yield str(folder / "empty.mp4"), NotAVideo, "0 bytes"
    for name in ("text.mp4", "text.txt"):
        (folder / name).write_text("Dear diary, nothing moved today.\n" * 200)
        yield str(folder / name), NotAVideo, "Give a video file"
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).integers(0, 256, 20000, np.uint8).tobytes())
    yield str(folder / "noise.mp4"), NotAVideo, "is not a video"
    yield str(write_sound(folder / "sound.mp4")), NotAVideo, "sound but no pictures"
    yield str(write_clip(folder / "zero.avi", "mpeg4", frames=0)), NotAVideo, "no frame could be decoded"
    yield str(write_clip(folder / "zero.mkv", frames=0)), NotAVideo, "before its first picture"
    cut = write_clip(folder / "cut.mp4", noise=True)  # the index comes last
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    yield str(cut), NotAVideo, "without a readable index"
    yield "7654", SourceNotFound, "no such webcam"
    yield "rtsp://admin:geheim@127.0.0.1:9/main", SourceError, "Check address, user, password"


def test_what_cannot_be_read_says_so_in_one_line(tmp_path: Path) -> None:
    for uri, kind, words in bad_files(tmp_path):
        source = Source("front door", uri)
        messages = set()
        for attempt in (check, lambda source: list(read_frames(source))):
            with pytest.raises(SourceError) as caught:
                attempt(source)
            assert isinstance(caught.value, kind), uri
            messages.add(str(caught.value))
        (message,) = messages
        assert message.startswith(f"camera front door: {redact(uri)}: ")
        assert words in message
        assert "\n" not in message
        assert "geheim" not in message
        assert isinstance(caught.value, OSError)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    path.chmod(0)
    with pytest.raises(SourceError, match=r"Permission denied.*Check its permissions"):
        check(Source("cam", str(path)))


@pytest.mark.parametrize(
    "bad", [{"camera": ""}, {"stride": 0}, {"detect_hz": 0.0}, {"detect_hz": float("nan")}, {"start_s": float("inf")}]
)
def test_a_source_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"camera|stride|detect_hz|start_s"):
        Source(**{"camera": "cam", "uri": "a.mp4", **bad})


# Secrets


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://admin:s3cret@10.0.0.7/main",
        "rtsp://admin:p@s3cret/w:x@10.0.0.7:554/main",
        "rtsp://s3cret@10.0.0.7/main",
        "rtsp://10.0.0.7/user=admin_password=s3cret_channel=1",
        "http://10.0.0.7/video?usr=admin&pwd=s3cret&channel=1",
        "https://cdn/x.m3u8?Signature=s3cret&n=1",
    ],
)
def test_no_secret_is_shown(uri: str) -> None:
    source = Source("cam", uri)
    assert "s3cret" not in source.label + repr(source) + redact(f"could not open {uri}: refused")
    assert redact(source.label) == source.label


def test_names_without_secrets_are_shown_whole() -> None:
    for uri in ("/data/a@b.mp4", "rtsp://10.0.0.7:554/main?channel=1", "0", "C:\\clips\\a.mp4"):
        assert redact(uri) == uri


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Address, with a password, of a web server for ``tmp_path``; it sends only the first half of ``half.*``."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def copyfile(self, source: Any, outputfile: Any) -> None:
            whole = source.read()
            outputfile.write(whole[: len(whole) // 2] if "half" in self.path else whole)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://user:s3cret@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_reads_over_the_network_and_keeps_the_password_to_itself(tmp_path: Path, web: str) -> None:
    write_clip(tmp_path / "a.mp4")
    assert len(read(f"{web}/a.mp4")[0]) == 20
    with pytest.raises(SourceError, match="Not Found") as caught:
        check(Source("cam", f"{web}/none.mp4"))
    assert "s3cret" not in str(caught.value)


def test_a_connection_that_breaks_is_an_error_after_the_frames_that_came(tmp_path: Path, web: str) -> None:
    write_clip(tmp_path / "half.ts", frames=60, noise=True, size=(160, 120))
    with read_together([Source("cam", f"{web}/half.ts")]) as cameras:
        frames = [frame for batch in cameras for frame in batch]
    assert 10 < len(frames) < 60
    assert "cannot be read on" in (cameras.health["cam"].error or "")
    assert "s3cret" not in (cameras.health["cam"].error or "")


# Cameras together


def test_cameras_of_equal_rate_come_in_full_batches(tmp_path: Path) -> None:
    sources = [Source(name, str(write_clip(tmp_path / f"{name}.mp4"))) for name in "abc"]
    with read_together(sources) as cameras:
        batches = [[(frame.camera, frame.index) for frame in batch] for batch in cameras]
    assert batches == [[(name, n) for name in "abc"] for n in range(20)]
    assert all(health.ended and health.error is None for health in cameras.health.values())
    assert decoders() == []


def test_cameras_of_different_rate_length_size_and_start_come_in_time_order(tmp_path: Path) -> None:
    sources = [
        Source("slow", str(write_clip(tmp_path / "slow.avi", "mpeg4", fps=4, frames=12)), start_s=100.0),
        Source("fast", str(write_clip(tmp_path / "fast.mp4", fps=20, frames=30, size=(96, 64))), start_s=100.5),
        Source("thinned", str(write_clip(tmp_path / "thinned.ts", fps=20, frames=60)), start_s=99.0, detect_hz=5),
    ]
    with read_together(sources, queue_frames=1) as cameras:
        batches = list(cameras)
    frames = [frame for batch in batches for frame in batch]
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)
    expected = {source.camera: [(f.index, f.time_s) for f in read_frames(source)] for source in sources}
    assert [len(expected[name]) for name in ("slow", "fast", "thinned")] == [12, 30, 15]
    for name, seen in expected.items():
        assert [(frame.index, frame.time_s) for frame in frames if frame.camera == name] == seen


def test_one_camera_in_error_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    good = write_clip(tmp_path / "good.mp4")
    short = write_clip(tmp_path / "short.mp4", frames=5)
    sources = [Source("bad", str(tmp_path / "bad.mp4")), Source("good", str(good)), Source("short", str(short))]
    with read_together(sources) as cameras:
        batches = list(cameras)
    assert [len(batch) for batch in batches] == [2] * 5 + [1] * 15
    assert "camera bad: " in (cameras.health["bad"].error or "")
    assert cameras.health["good"].error is None
    assert {name: health.ended for name, health in cameras.health.items()} == dict.fromkeys(
        ("bad", "good", "short"), True
    )


def test_a_fault_in_our_own_code_ends_that_camera_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: Source, health: CameraHealth) -> Iterator[tuple[Frame, float]]:
        raise ZeroDivisionError("at rtsp://u:s3cret@host")
        yield

    monkeypatch.setattr("pipeline.sources.read_paced", broken)
    with read_together([Source("cam", "a.mp4")]) as cameras:
        assert list(cameras) == []
    assert "ZeroDivisionError" in (cameras.health["cam"].error or "")
    assert "s3cret" not in (cameras.health["cam"].error or "")


def test_a_slow_consumer_bounds_what_is_decoded_ahead(tmp_path: Path) -> None:
    sources = [Source(name, str(write_clip(tmp_path / f"{name}.mp4", frames=60))) for name in "ab"]
    most_ahead = 0
    with read_together(sources, queue_frames=3) as cameras:
        for count, _ in enumerate(cameras, start=1):
            threading.Event().wait(0.002)  # the decoders would be done long before this ends
            most_ahead = max(most_ahead, *(health.frames_read - count for health in cameras.health.values()))
    assert 1 <= most_ahead <= 3 + 1  # the queue, and the one in the decoder's hand
    assert count == 60


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_leaving_early_leaves_no_thread(tmp_path: Path, error: type[BaseException] | None) -> None:
    sources = [Source(name, str(write_clip(tmp_path / f"{name}.mp4", frames=60))) for name in "ab"]

    def consume() -> None:
        with read_together(sources, queue_frames=2) as cameras:
            next(iter(cameras))
            assert len(decoders()) == 2
            if error is not None:
                raise error

    if error is None:
        consume()
    else:
        with pytest.raises(error):
            consume()
    assert decoders() == []


def test_a_live_camera_drops_its_oldest_frames_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    done = threading.Event()

    def arriving(source: Source, health: CameraHealth) -> Iterator[tuple[Frame, float]]:
        yield from ((Frame(source.camera, n, float(n), image), 1.0) for n in range(10))
        done.set()

    monkeypatch.setattr("pipeline.sources.read_paced", arriving)
    with read_together([Source("cam", "rtsp://10.0.0.7/main")], queue_frames=4) as cameras:
        done.wait()
        kept = [frame.index for batch in cameras for frame in batch]
    assert kept == [6, 7, 8, 9]
    assert cameras.health["cam"].frames_dropped == 6


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="more than once: a"):
        read_together([Source("a", "1.mp4"), Source("a", "2.mp4")])
    with pytest.raises(ValueError, match="queue_frames"):
        read_together([Source("a", "1.mp4")], queue_frames=0)
    with pytest.raises(RuntimeError, match="with"):
        iter(read_together([Source("a", "1.mp4")]))
    with read_together([]) as cameras:
        assert list(cameras) == []
