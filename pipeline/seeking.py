"""A part of a video file, without reading all that comes before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from pipeline.frames import CameraHealth, Frame, Source, SourceError
from pipeline.reading import ToBgr, line, read_frames, reason_of, video_stream

_EARLY_S = 1.0  # sought this much earlier: time stamps of packets and pictures differ by the order of decoding


def read_between(source: Source, begin_s: float, end_s: float) -> Iterator[Frame]:
    """The frames of a file with begin_s <= time_s <= end_s on the site clock, each one, whatever the camera's rate.

    Found by the file's own time stamps. A file that cannot be sought in is read from its beginning. Frame.index
    counts from the first frame that is given. Raises SourceError when the file cannot be opened or read.
    """
    import av

    base_s = source.start_s + source.offset_s
    try:
        with av.open(f"file:{source.uri.removeprefix('file://')}", metadata_errors="replace") as container:
            stream = video_stream(source, container)
            stream.thread_type = "NONE"
            first_s = _first_stamp_s(container, stream)
            if first_s is None or not _sought(container, stream, begin_s - base_s + first_s - _EARLY_S):
                yield from _from_beginning(source, begin_s, end_s)
                return
            to_bgr = ToBgr(source, CameraHealth())
            index = 0
            for frame in container.decode(stream):
                stamp = frame.pts if frame.pts is not None else frame.dts
                if stamp is None or frame.time_base is None:
                    continue
                time_s = base_s + float(stamp * frame.time_base) - first_s
                if time_s > end_s:
                    return
                to_bgr.look_at(frame)
                if time_s >= begin_s:
                    yield Frame(source.camera, index, time_s, to_bgr(frame))
                    index += 1
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(line(source, f"cannot be read ({reason_of(error)})", "Check the file")) from None


def _first_stamp_s(container: Any, stream: Any) -> float | None:
    """The earliest time stamp up to the first decoded picture: the zero of the camera's media time."""
    stamps: list[float] = []
    for packet in container.demux(stream):
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and not packet.is_discard:
            stamps.append(float(stamp * packet.time_base))
        if packet.decode():
            break
    return min(stamps, default=None)


def _sought(container: Any, stream: Any, stamp_s: float) -> bool:
    import av

    try:
        container.seek(round(stamp_s / stream.time_base), stream=stream, backward=True)
    except (av.FFmpegError, OSError, ValueError):
        return False
    return True


def _from_beginning(source: Source, begin_s: float, end_s: float) -> Iterator[Frame]:
    with closing(read_frames(source)) as frames:
        for frame in frames:
            if frame.time_s > end_s:
                return
            if frame.time_s >= begin_s:
                yield frame
