"""Cameras read together in time order. One decoder thread per camera, memory bounded however slow the consumer is.

with read_together([Source("a", "a.mp4"), Source("b", "b.mp4")]) as cameras:
    for frames in cameras:      # list[Frame]: at most one per camera, in the order of time
        ...
cameras.health["a"].error       # None, or why this camera ended; the others went on
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from types import TracebackType

from pipeline.frames import CameraHealth, Frame, NotAVideo, Source, SourceError, SourceInfo, SourceNotFound, redact
from pipeline.media_time import merge_in_time
from pipeline.reading import check, probe, read_frames, read_paced

__all__ = [
    "CameraHealth",
    "Frame",
    "NotAVideo",
    "Source",
    "SourceError",
    "SourceInfo",
    "SourceNotFound",
    "check",
    "probe",
    "read_frames",
    "read_together",
    "redact",
]

_JOIN_TIMEOUT_S = 6.0  # a decoder stuck in the network is freed by its read timeout (5 s); one of a file ends at once


def read_together(sources: Sequence[Source], *, queue_frames: int = 4) -> CamerasTogether:
    """Read several cameras at once: a context manager; iterating it gives batches of frames in site-time order.

    A batch is a list of Frame, at most one per camera, whose times lie within half a frame period of its earliest:
    cameras of equal rate come in full batches (`pipeline.media_time.merge_in_time`). A camera that fails gets its
    ``health[camera].error`` and ends; the others go on. At most ``queue_frames`` + 2 images per camera are held: a
    file waits for the consumer, a live source drops its oldest frame and counts it.

    Raises ValueError when two sources bear the same camera name or ``queue_frames`` is below 1.
    """
    names = [source.camera for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"camera names must differ; given more than once: {', '.join(twice)}")
    if queue_frames < 1:
        raise ValueError(f"queue_frames must be 1 or more, got {queue_frames}")
    return CamerasTogether(sources, queue_frames)


class CamerasTogether:
    """What `read_together` returns. Decoding starts on entering; leaving stops every thread, wherever it is."""

    def __init__(self, sources: Sequence[Source], queue_frames: int) -> None:
        self.health = {source.camera: CameraHealth() for source in sources}
        self._queues = [_FrameQueue(queue_frames, self.health[source.camera], source.live) for source in sources]
        self._threads = [
            threading.Thread(target=self._decode, args=pair, name=f"decode {pair[0].camera}", daemon=True)
            for pair in zip(sources, self._queues, strict=True)
        ]

    def __enter__(self) -> CamerasTogether:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for queue in self._queues:
            queue.close()
        for thread in self._threads:
            thread.join(_JOIN_TIMEOUT_S)

    def __iter__(self) -> Iterator[list[Frame]]:
        if any(thread.ident is None for thread in self._threads):
            raise RuntimeError("read_together is a context manager: iterate it inside its with block")
        return merge_in_time([iter(queue) for queue in self._queues])

    def _decode(self, source: Source, queue: _FrameQueue) -> None:
        health = self.health[source.camera]
        try:
            with closing(read_paced(source, health)) as frames:
                for frame, period_s in frames:
                    if not queue.put((frame.time_s, period_s, frame)):
                        return
        except SourceError as error:
            health.error = str(error)
        except Exception as error:  # a camera must never take the others with it, nor end in silence
            health.error = redact(f"camera {source.camera}: {source.label}: {type(error).__name__}: {error}")
        finally:
            health.ended = True
            queue.end()


class _FrameQueue:
    """Between a decoder thread and the consumer: bounded, and closed from either side.

    Own code because ``queue.Queue`` cannot be closed before Python 3.13, nor drop its oldest entry.
    """

    def __init__(self, size: int, health: CameraHealth, live: bool) -> None:
        self._size, self._health, self._live = size, health, live
        self._items: deque[tuple[float, float, Frame]] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False

    def put(self, item: tuple[float, float, Frame]) -> bool:
        """Add an item, waiting for room (live: making it). False: the consumer has gone, stop."""
        with self._changed:
            if self._live and len(self._items) == self._size:
                self._items.popleft()
                self._health.frames_dropped += 1
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """The decoder has no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """The consumer wants no more; what waits is let go."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[tuple[float, float, Frame]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
