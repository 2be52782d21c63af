"""One connection to a live camera, from opening it to losing it. The edge to PyAV (RTSP and the like) and to webcams.

What is found out about the library (FFmpeg 8, PyAV 18), and used here:

- A packet carries the UTC time at which it was taken (side data `prft`) once the camera has sent an RTCP sender report,
  over TCP and UDP. Until then (some seconds), and from cameras that send none, only its arrival is known.
- Opening estimates the frame rate from seconds of packets unless told not to; they come in a heap afterwards.
- The H.264 parser holds one picture back, and gives it out when a read times out: the error comes with the second.
- The read time-out is looked at inside the library, so a silent or frozen camera costs a time-out, not the thread.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.camera_state import LiveSettings
from pipeline.frames import CameraHealth, LiveHealth, NotAllowed, NotAVideo, Source, SourceError
from pipeline.live_clock import sort_heap
from pipeline.reading import ToBgr, Webcam, info_of, line, reason_of, video_stream

KEYFRAME_S = 20.0
"""So long packets without a key frame are passed over after connecting: "smart" encoders send one in 10 s or more.
Streams that never send one (gradual refresh) are decoded as they are from then on."""
_INVENTED_STAMPS = {"mpjpeg", "mjpeg"}
"""Pictures one after the other over HTTP carry no time; libav counts them at 25 Hz, whatever their pace."""
_HEAP_STEP_S = 0.01  # packets that come quicker than this after opening lay in a heap
_HEAP_MOST = 256
_ADVICE = "Check address, user, password and network"


@dataclass(frozen=True)
class LivePicture:
    """A decoded picture: when it came (UTC), its stamp and the sender's time if known, and how to get its pixels."""

    arrival_s: float
    stamp_s: float | None
    sender_s: float | None
    to_bgr: Callable[[], NDArray[np.uint8]]


def read_live(
    source: Source, settings: LiveSettings, health: CameraHealth, to_bgr: ToBgr, gone: Callable[[], bool]
) -> Generator[LivePicture, None, None]:
    """Connect to a live camera and give its pictures until the connection is lost, which always ends in an error.

    to_bgr  of this camera, kept over its connections: pictures are scaled to the size of the very first
    gone    asked after each packet: True ends quietly

    Raises NotAllowed (user or password), NotAVideo (it sends no pictures), SourceError (all else, the end of the stream
    included), without the plain uri.
    """
    if source.uri.isdigit():
        yield from _read_webcam(source, health, gone)
        return
    import av

    options = {
        "rtsp_transport": source.transport,
        "fpsprobesize": "0",  # with it opening took 0.4 to 0.9 s, without 1.2 to 3.0 s (x264, 25 and 10 Hz, local)
        "analyzeduration": "2000000",  # us; only used up by cameras that do not describe their stream
        "timeout": str(round(2e6 * settings.read_timeout_s)),  # us; of writing, too, which PyAV's time-out leaves out
    }
    begin_s = time.monotonic()
    try:
        container = av.open(
            source.uri,
            metadata_errors="replace",
            timeout=(settings.connect_timeout_s, settings.read_timeout_s),
            options=options if source.uri.lower().startswith("rtsp") else {},
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        # libav's own error carries the uri, password and all
        raise _not_opened(source, settings, error, time.monotonic() - begin_s) from None
    try:
        stream = video_stream(source, container)
        invented = container.format.name in _INVENTED_STAMPS
        if stream.codec_context is None:
            raise NotAVideo(line(source, "sends pictures of an unknown kind", "Set the camera to H.264 or H.265"))
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        health.fps = info_of(stream, container).fps
        gate = _KeyGate()
        for arrival_s, packet, stamp_s in _packets(source, settings, container, stream, gone):
            if not gate.lets_through(packet):
                live_health(health).keyless += 1
                continue
            damaged_before = health.corrupt_packets
            for picture in _pictures(packet, arrival_s, stamp_s, health, to_bgr):
                yield replace(picture, stamp_s=None) if invented else picture
            if packet.is_keyframe and health.corrupt_packets > damaged_before:
                gate = _KeyGate()
    finally:
        container.close()


def _read_webcam(source: Source, health: CameraHealth, gone: Callable[[], bool]) -> Iterator[LivePicture]:
    webcam = Webcam(source)
    try:
        health.fps = webcam.info.fps
        for _, to_bgr in webcam.pictures(health):
            if gone():
                return
            yield LivePicture(time.time(), None, None, to_bgr)
    finally:
        webcam.close()


_Arrived = tuple[float, Any, float | None]  # when (UTC), packet, its stamp in seconds


def _packets(
    source: Source, settings: LiveSettings, container: Any, stream: Any, gone: Callable[[], bool]
) -> Iterator[_Arrived]:
    """Packets with arrival and stamp. What lay in a heap after opening is put apart as its stamps say."""
    import av

    heap: list[Any] | None = []
    period_s = 1.0 / (info_of(stream, container).fps or 25.0)
    packets = container.demux(stream)
    try:
        while True:
            begin_s = time.monotonic()
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                if time.monotonic() - begin_s >= 0.9 * settings.read_timeout_s:
                    raise _silent(source, settings) from None
                what = f"the connection broke ({reason_of(error)})"
                raise SourceError(line(source, what, "Check the camera and the network")) from None
            waited_s = time.monotonic() - begin_s
            if gone():
                return
            if waited_s >= 0.9 * settings.read_timeout_s:
                raise _silent(source, settings)
            if packet is None or packet.size == 0:
                raise SourceError(line(source, "the stream ended", "Check the camera if this goes on"))
            if heap is not None:
                if waited_s < _HEAP_STEP_S and len(heap) < _HEAP_MOST:
                    heap.append(packet)
                    continue
                sorted_ = sort_heap([_stamp(p) for p in heap], time.time() - waited_s, period_s) if heap else []
                for waiting, (stamp_s, arrival_s) in zip(heap, sorted_, strict=True):
                    if waiting.pts is None and stamp_s is not None:  # the decoder hands it on to the picture
                        waiting.pts = round(stamp_s / waiting.time_base)
                    yield arrival_s, waiting, stamp_s
                heap = None
            yield time.time(), packet, _stamp(packet)
    finally:
        packets.close()


class _KeyGate:
    """Lets nothing through before a key frame: what refers to pictures that never came decodes to grey mud."""

    def __init__(self) -> None:
        self._open_s = time.monotonic() + KEYFRAME_S

    def lets_through(self, packet: Any) -> bool:
        if packet.is_keyframe or time.monotonic() >= self._open_s:
            self._open_s = 0.0
        return self._open_s == 0.0


def _pictures(
    packet: Any, arrival_s: float, stamp_s: float | None, health: CameraHealth, to_bgr: ToBgr
) -> Iterator[LivePicture]:
    import av

    try:
        frames = packet.decode()
    except (av.FFmpegError, ValueError):
        health.corrupt_packets += 1
        return
    damaged = packet.is_corrupt or any(frame.is_corrupt for frame in frames)
    health.corrupt_packets += damaged
    sent_s = _sender_s(packet)
    for frame in frames:
        if frame.is_corrupt:
            continue  # mud: the next key frame is near
        to_bgr.look_at(frame)
        own = frame.pts if frame.pts is not None else frame.dts
        own_s = None if own is None else float(own * frame.time_base)
        # A decoder that reorders gives the picture of an earlier packet: its sender time is as much earlier.
        behind_s = 0.0 if own_s is None or stamp_s is None else stamp_s - own_s
        yield LivePicture(arrival_s, own_s, None if sent_s is None else sent_s - behind_s, partial(to_bgr, frame))


def _stamp(packet: Any) -> float | None:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None or packet.time_base is None else float(stamp * packet.time_base)


def _sender_s(packet: Any) -> float | None:
    """UTC of capture by the sender's clock (AVProducerReferenceTime: microseconds, flags), None when not known."""
    if not packet.has_sidedata("prft"):
        return None
    wallclock_us, _ = struct.unpack_from("qi", bytes(packet.get_sidedata("prft")))
    return float(wallclock_us / 1e6)


def _silent(source: Source, settings: LiveSettings) -> SourceError:
    what = f"no data for {settings.read_timeout_s:g} s"
    return SourceError(line(source, what, "Check the camera and the network"))


def _not_opened(source: Source, settings: LiveSettings, error: Exception, took_s: float) -> SourceError:
    import av

    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return NotAllowed(line(source, f"refuses the login ({reason_of(error)})", "Check user and password"))
    why = reason_of(error)
    if took_s >= 0.9 * settings.connect_timeout_s:  # libav calls it invalid data, or an exit that was asked for
        why = f"no answer within {settings.connect_timeout_s:g} s"
    return SourceError(line(source, f"cannot be opened ({why})", _ADVICE))


def live_health(health: CameraHealth) -> LiveHealth:
    """The part of a live camera's health that files do not have; made when it is missing."""
    if health.live is None:
        health.live = LiveHealth()
    return health.live
