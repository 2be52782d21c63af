"""One camera: open it, read it, and say clearly why not. The edge to PyAV (files, streams) and to webcams."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import CameraHealth, Frame, NotAVideo, Source, SourceError, SourceInfo, SourceNotFound, redact
from pipeline.media_time import MediaClock, Pace

_DEFAULT_FPS = 25.0  # only until the first frames have shown the true rate
_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 5.0  # of the network; a file may be as slow as its disk
_GIVE_A_VIDEO = "Give a video file, such as .mp4 or .mkv"

_Picture = tuple[float | None, Callable[[], NDArray[np.uint8]]]  # its time stamp, and how to get its pixels


def probe(source: Source) -> SourceInfo:
    """Size, rate, length and codec as the container tells them; nothing is decoded. Raises SourceError."""
    with closing(_open(source)) as opened:
        return opened.info


def check(source: Source) -> None:
    """Open the source and decode its first frame. Raises SourceError with one clear line when that fails."""
    with closing(read_frames(source)) as frames:
        next(frames)


def read_frames(source: Source, health: CameraHealth | None = None) -> Generator[Frame, None, None]:
    """The frames of one camera that are due, in order. Skipped ones are decoded, but never turned into images.

    Corrupt packets are counted in ``health`` and read over; a file that was cut off ends where it was cut off, with
    a warning there. A picture of another size than the camera's first is scaled to that, so that boxes keep their
    meaning. Raises SourceError when the source cannot be opened, holds no picture, or cannot be read on.
    """
    with closing(read_paced(source, health if health is not None else CameraHealth())) as paced:
        for frame, _ in paced:
            yield frame


def read_paced(source: Source, health: CameraHealth) -> Generator[tuple[Frame, float], None, None]:
    """As `read_frames`, each frame with the distance in seconds at which frames of this camera usually follow."""
    with closing(_open(source)) as opened:
        health.fps = opened.info.fps
        base_s = source.offset_s + source.start_s
        clock = MediaClock(1.0 / (health.fps or _DEFAULT_FPS))
        pace = Pace(source.detect_hz) if source.detect_hz is not None else None
        for index, (raw_s, to_bgr) in enumerate(opened.pictures(health)):
            time_s = base_s + clock.time_of(raw_s)
            health.frames_read = index + 1
            health.first_s = time_s if health.first_s is None else health.first_s
            health.last_s = time_s
            period_s = clock.period_s * source.stride
            if index % source.stride or (pace is not None and not pace.due(time_s, period_s)):
                health.frames_skipped += 1
                continue
            if source.detect_hz is not None:
                period_s = max(period_s, 1.0 / source.detect_hz)
            yield Frame(source.camera, index, time_s, to_bgr()), period_s
        if not health.frames_read:
            raise NotAVideo(
                line(source, "no frame could be decoded", "It is damaged or empty; record or copy it again")
            )
        media_s = (health.last_s or 0.0) - base_s + clock.period_s
        missing_s = (opened.info.duration_s or 0.0) - media_s
        if missing_s > max(1.0, 2 * clock.period_s):
            what = f"ends {missing_s:.1f} s before the end that its header promises"
            health.warning = line(source, what, "It was cut off or damaged; all that is there was read")


def line(source: Source, what: str, advice: str) -> str:
    return f"camera {source.camera}: {source.label}: {what}. {advice}."


def _local_path(source: Source) -> Path | None:
    uri = source.uri.removeprefix("file://")
    return None if "://" in uri else Path(uri)


def _open(source: Source) -> _Video | Webcam:
    return Webcam(source) if source.uri.isdigit() else _Video(source)


class _Video:
    """An opened file or stream. Every error of libav leaves it as a SourceError without the plain uri."""

    def __init__(self, source: Source) -> None:
        import av

        self._source = source
        path = _local_path(source)
        uri = source.uri
        options: dict[str, Any] = {}
        if path is not None:
            _check_file(source, path)
            uri = f"file:{path}"  # or libav takes the start of "2024-05-01T10:00.mp4" for a protocol
        else:
            options["timeout"] = (_OPEN_TIMEOUT_S, _READ_TIMEOUT_S)
            if uri.lower().startswith("rtsp"):
                options["options"] = {"rtsp_transport": "tcp"}  # UDP loses packets in silence
        try:
            self._container = av.open(uri, metadata_errors="replace", **options)
        except (av.FFmpegError, OSError, ValueError) as error:
            # "from None": libav's own error carries the uri, password and all, into any traceback
            raise _open_error(source, error) from None
        try:
            self._stream = video_stream(source, self._container)
            # One thread: with frame threads a small picture costs 40 % more CPU (0.81 against 0.56 ms, 300 x 576
            # H.264, 2 cores), and cameras already are decoded beside each other.
            self._stream.thread_type = "NONE"
            self._stream.codec_context.thread_count = 1
            self.info = info_of(self._stream, self._container)
        except BaseException:
            self._container.close()
            raise

    def close(self) -> None:
        self._container.close()

    def pictures(self, health: CameraHealth) -> Iterator[_Picture]:
        """All decodable pictures with their time stamps, in seconds since the stream began."""
        to_bgr = ToBgr(self._source, health)
        first_raw_s: float | None = None
        for number, (frame, raw_s, earliest_s) in enumerate(self._decode(health)):
            if not number:
                first_raw_s = earliest_s
            to_bgr.look_at(frame)
            yield None if raw_s is None else raw_s - (first_raw_s or 0.0), partial(to_bgr, frame)

    def _decode(self, health: CameraHealth) -> Iterator[tuple[Any, float | None, float | None]]:
        """Decoded frames, their raw time, and the earliest time of all packets so far (also those that failed)."""
        import av

        packets = self._container.demux(self._stream)
        earliest_s: float | None = None
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:  # not damage, which shows in decoding: no more bytes come
                what, advice = f"cannot be read on ({reason_of(error)})", "Check the disk or the network"
                raise SourceError(line(self._source, what, advice)) from None
            if packet is None:
                return
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None and not packet.is_discard:
                stamp_s = float(stamp * packet.time_base)
                earliest_s = stamp_s if earliest_s is None else min(earliest_s, stamp_s)
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError):
                health.corrupt_packets += 1
                continue
            health.corrupt_packets += packet.is_corrupt or any(frame.is_corrupt for frame in frames)
            for frame in frames:
                stamp = frame.pts if frame.pts is not None else frame.dts
                yield frame, None if stamp is None else float(stamp * frame.time_base), earliest_s


class ToBgr:
    """Turns a camera's decoded pictures into upright BGR images of the size of its first one."""

    def __init__(self, source: Source, health: CameraHealth) -> None:
        from av.video.reformatter import VideoReformatter

        self._source, self._health = source, health
        self._reformatter = VideoReformatter()  # kept: the scaler is set up once, not per frame (0.6 against 1.7 ms)
        self._decoded_size: tuple[int, int] | None = None

    def look_at(self, frame: Any) -> None:
        """Note the size of the next picture, whether it will be used or not."""
        size = (frame.width, frame.height)
        upright = (size[1], size[0]) if round(frame.rotation / 90) % 2 else size
        if self._health.size is None:
            self._health.size = upright
        elif size != (self._decoded_size or size) or (self._decoded_size is None and upright != self._health.size):
            self._health.size_changes += 1
        self._decoded_size = size

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR. Raises NotAVideo for a pixel format that is unknown."""
        import av

        quarter_turns = round(frame.rotation / 90) % 4
        width, height = self._health.size or (0, 0)
        if quarter_turns % 2:
            width, height = height, width
        try:
            picture = self._reformatter.reformat(frame, width=width, height=height, format="bgr24", threads=1)
            bgr = np.asarray(picture.to_ndarray(), np.uint8)
        except (av.FFmpegError, ValueError) as error:
            what = f"pixel format {frame.format.name} cannot be turned into an image ({reason_of(error)})"
            raise NotAVideo(line(self._source, what, "Re-encode it, e.g. as H.264")) from None
        return np.ascontiguousarray(np.rot90(bgr, quarter_turns)) if quarter_turns else bgr


class Webcam:
    """A webcam by its number, through OpenCV: one call for the capture devices of every system."""

    def __init__(self, source: Source) -> None:
        import cv2

        self._source = source
        missing = SourceNotFound(line(source, "no such webcam", "Check that it is plugged in and used by nobody else"))
        if sys.platform == "linux" and not Path(f"/dev/video{int(source.uri)}").exists():
            raise missing  # before OpenCV fills the screen with the attempts of all its back ends
        self._capture = cv2.VideoCapture(int(source.uri))
        if not self._capture.isOpened():
            raise missing
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.info = SourceInfo(width, height, _rate(self._capture.get(cv2.CAP_PROP_FPS)), None, "webcam")

    def close(self) -> None:
        self._capture.release()

    def pictures(self, health: CameraHealth) -> Iterator[_Picture]:
        health.size = (self.info.width, self.info.height)
        while self._capture.grab():
            yield None, lambda: np.asarray(self._capture.retrieve()[1], np.uint8)
        raise SourceError(line(self._source, "the webcam sends no more pictures", "Check its cable"))


def _check_file(source: Source, path: Path) -> None:
    try:
        if path.is_dir():
            raise SourceNotFound(line(source, "is a folder, not a video", "Name the file in it"))
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceNotFound(line(source, "no such file", "Check the path")) from None
    except OSError as error:
        raise SourceError(line(source, f"cannot be opened ({reason_of(error)})", "Check its permissions")) from None
    if size == 0 and path.is_file():
        raise NotAVideo(line(source, "is empty (0 bytes)", "Copy or record it again"))


def _open_error(source: Source, error: Exception) -> SourceError:
    path = _local_path(source)
    if path is None:
        advice = "Check address, user, password and network"
        return SourceError(line(source, f"cannot be opened ({reason_of(error)})", advice))
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        what = "is an MP4 without a readable index: it was cut off, or its recorder never closed it"
        return NotAVideo(line(source, what, "Copy it again, or rebuild its index with a repair tool such as untrunc"))
    if isinstance(error, EOFError):
        return NotAVideo(line(source, "ends before its first picture", "Copy or record it again"))
    return NotAVideo(line(source, f"is not a video ({reason_of(error)})", _GIVE_A_VIDEO))


def video_stream(source: Source, container: Any) -> Any:
    import av

    # "tty" is libav's player for ANSI art: it takes any text for a video
    streams = [s for s in container.streams.video if container.format.name != "tty"]
    streams = [s for s in streams if not s.disposition & av.stream.Disposition.attached_pic]  # the cover of a song
    if not streams:
        advice = "Let the camera send pictures" if source.live else _GIVE_A_VIDEO
        if container.streams.audio:
            raise NotAVideo(line(source, "has sound but no pictures", advice))
        raise NotAVideo(line(source, "holds no pictures", advice))
    return max(streams, key=lambda s: (s.width or 0) * (s.height or 0))


def info_of(stream: Any, container: Any) -> SourceInfo:
    duration_s: float | None = None
    if stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    elif container.duration is not None and not container.streams.audio:
        duration_s = container.duration / 1e6
    context = stream.codec_context
    fps = _rate(stream.average_rate) or _rate(stream.guessed_rate)
    return SourceInfo(context.width, context.height, fps, duration_s, context.name)


def _rate(fps: Any) -> float | None:
    """Frames per second, or None where the container gives a tick rate or nonsense instead."""
    return float(fps) if fps and 0.01 <= fps <= 240 else None


def reason_of(error: Exception) -> str:
    return redact(getattr(error, "strerror", None) or str(error) or type(error).__name__)
