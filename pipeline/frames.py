"""Values of reading cameras: what is read from where, what came out, and how it goes wrong.

Errors::

    SourceError (OSError)           any of these; one line that names the camera, the source and what to do
      SourceNotFound                no such file, or a folder (also FileNotFoundError)
      NotAVideo                     empty, damaged, of another kind, without pictures (also ValueError)
      NotAllowed                    the camera refuses user or password (also PermissionError)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray


class SourceError(OSError):
    """A camera's source cannot be opened or read."""


class SourceNotFound(SourceError, FileNotFoundError):
    """There is no such file."""


class NotAVideo(SourceError, ValueError):
    """The source is there, but holds no picture that can be decoded."""


class NotAllowed(SourceError, PermissionError):
    """The camera refuses user or password."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of one camera.

    index   0-based number of the frame in its source, counted over all decoded frames, used or skipped
    time_s  on the site's clock; strictly rises per camera
    image   (H, W, 3) uint8 BGR, upright; H and W stay the same for one camera
    """

    camera: str
    index: int
    time_s: float
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """Where a camera's pictures come from, and how its clock relates to the site's.

    uri        file, ``rtsp://`` or other URL, or webcam number ("0"); may hold a password, so it is not in the repr
    start_s    files: site time at which the recording starts; a live source has the time of arrival (UTC)
    offset_s   added to every time of this camera, to set its clock right
    detect_hz  use about this many frames per second of media time; None: all
    stride     use every n-th frame
    transport  RTSP: `tcp`, or `udp`, which loses packets in silence
    camera_behind  a camera stands behind an address that could be a file's as well (``http://``)

    >>> Source("door", "rtsp://admin:secret@10.0.0.7/main").label
    'rtsp://***@10.0.0.7/main'
    """

    camera: str
    uri: str = field(repr=False)
    start_s: float = 0.0
    offset_s: float = 0.0
    detect_hz: float | None = None
    stride: int = 1
    transport: Literal["tcp", "udp"] = "tcp"
    camera_behind: bool = False

    def __post_init__(self) -> None:
        if not self.camera:
            raise ValueError("a source needs a camera name")
        if not (math.isfinite(self.start_s) and math.isfinite(self.offset_s)):
            raise ValueError(f"camera {self.camera}: start_s and offset_s must be finite numbers of seconds")
        if self.detect_hz is not None and not (math.isfinite(self.detect_hz) and self.detect_hz > 0):
            raise ValueError(f"camera {self.camera}: detect_hz must be above 0, got {self.detect_hz}")
        if self.stride < 1:
            raise ValueError(f"camera {self.camera}: stride must be 1 or more, got {self.stride}")

    @property
    def label(self) -> str:
        """The uri without secrets, for messages and logs."""
        return redact(self.uri)

    @property
    def live(self) -> bool:
        """Whether frames arrive as they happen (webcam, RTSP, ...) instead of waiting to be read."""
        return self.camera_behind or self.uri.isdigit() or self.uri.lower().startswith(_LIVE_SCHEMES)


_LIVE_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "udp://", "rtp://", "srt://")


@dataclass
class LiveHealth:
    """What became of a live camera so far.

    state        connecting, live, stalled, backing off or failed (pipeline/camera_state.py)
    reconnects   how often it came back after it had been live
    tries        attempts in a row that led to nothing lasting
    seconds      state -> seconds spent in it
    clock        where capture times come from: `sender` (RTCP sender reports) or `arrival`
    jumps        how often its clock or its time stamps jumped
    drift_s      by how much its clock drifted, all drifts added
    late         frames that came too late for their time and were moved up to the present of the others
    keyless      packets passed over while waiting for a key frame
    reason       why it was lost last; None while all is well
    """

    state: str = "connecting"
    reconnects: int = 0
    tries: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    clock: str = "arrival"
    jumps: int = 0
    drift_s: float = 0.0
    late: int = 0
    keyless: int = 0
    reason: str | None = None


@dataclass
class CameraHealth:
    """What became of a camera so far. Written while it is read; counts cover what is decoded, used or not."""

    frames_read: int = 0
    frames_skipped: int = 0  # decoded, but not due (stride, detect_hz)
    frames_dropped: int = 0  # live only: due, but the consumer was too slow
    corrupt_packets: int = 0
    size_changes: int = 0
    first_s: float | None = None
    last_s: float | None = None
    fps: float | None = None  # as the container says
    size: tuple[int, int] | None = None  # width, height of Frame.image
    warning: str | None = None  # read, but not as it should be (a file that was cut off)
    error: str | None = None  # why it could not be opened or read on
    ended: bool = False
    live: LiveHealth | None = None  # of a live camera


@dataclass(frozen=True)
class SourceInfo:
    """What a container says about itself. Size as coded, before any turning; fps, duration_s None if not said."""

    width: int
    height: int
    fps: float | None
    duration_s: float | None
    codec: str


def redact(text: str) -> str:
    """``text`` (a uri, or a message that holds one) without user names, passwords and tokens.

    Rather too much than too little: where a password may hold ``/`` or ``@``, all up to the last ``@`` goes.

    >>> redact("rtsp://admin:p@ss/w0rd@10.0.0.7:554/main?channel=1&token=abc")
    'rtsp://***@10.0.0.7:554/main?channel=1&token=***'
    >>> redact("clips/a@b.mp4")
    'clips/a@b.mp4'
    """
    text = re.sub(r"(\w+://)\S*@", r"\1***@", text)
    return re.sub(r"(?i)(\w*(?:pass|pwd|token|secret|key|auth|sig)\w*=)[^&\s'\"]*", r"\1***", text)
