"""Live cameras read together: one thread each, kept alive without end, and never waited for.

with LiveCameras([Source("door", "rtsp://...")]) as cameras:
    for frames in cameras:       # list[Frame] in order of time, at most one per camera; empty now and then
        ...
cameras.health["door"].live      # state, reconnects, seconds per state, ...; dropped frames beside it

Nothing here ends by itself: a camera that is lost is tried again and again, at the pace of pipeline/camera_state.py.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType

from pipeline.camera_state import (
    CameraState,
    Connecting,
    Event,
    LiveSettings,
    Lost,
    Picture,
    Tick,
    after,
)
from pipeline.frames import CameraHealth, Frame, NotAllowed, NotAVideo, Source, SourceError, redact
from pipeline.live_clock import LiveClock
from pipeline.live_order import HELD_S, LiveOrder
from pipeline.live_reading import live_health, read_live
from pipeline.media_time import Pace
from pipeline.reading import ToBgr, line

log = logging.getLogger(__name__)

TICK_S = 0.25
"""So often an empty batch is given out when nothing comes, and silent cameras are looked at."""
SAY_AGAIN_S = 600.0
"""A camera that stays away for the same reason is reported again after so long."""
MOST_SPREAD_S = 10.0
"""Live cameras whose `offset_s` differ by more are not brought into one order: that would take too much memory."""
_LOOK_S = 0.05  # so often what is held back is looked at
_JOIN_S = 3.0  # leaving waits so long for the threads; what hangs in a library is left behind, it is a daemon


class LiveCameras:
    """Reads live cameras, which may be added, removed and restarted meanwhile. A context manager.

    spare_frames  frames that may wait per camera for a slow consumer; then the oldest is dropped and counted

    Raises ValueError when two sources bear the same name.
    """

    def __init__(
        self, sources: Sequence[Source], settings: LiveSettings | None = None, *, spare_frames: int = 4
    ) -> None:
        self.settings = settings or LiveSettings()
        self.health: dict[str, CameraHealth] = {}
        self._changed = threading.Condition()
        self.clock_s = 0.0
        """What to add to this machine's clock to have the site's."""
        self._order = LiveOrder(spare_frames)
        self._readers: dict[str, _Reader] = {}
        self._gone: list[threading.Thread] = []
        self._lost: list[tuple[str, float, float]] = []
        self._running = threading.Event()
        for source in sources:
            self.add(source)

    def __enter__(self) -> LiveCameras:
        with self._changed:
            self._running.set()
            for reader in self._readers.values():
                reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._running.clear()
            readers = list(self._readers.values())
            for reader in readers:
                reader.stop()
                reader.tick()
            self._changed.notify_all()
        until_s = time.monotonic() + _JOIN_S
        for thread in [*(reader.thread for reader in readers), *self._gone]:
            if thread.ident is not None:
                thread.join(max(until_s - time.monotonic(), 0.0))

    def add(self, source: Source) -> None:
        """Begin to read a camera. Raises ValueError when there is one of that name."""
        with self._changed:
            if source.camera in self._readers:
                raise ValueError(f"camera names must differ; given more than once: {source.camera}")
            health = self.health.setdefault(source.camera, CameraHealth())
            health.ended, health.error = False, None
            self._begin(source, health, LiveClock(self.settings.clock == "auto"), CameraState(since_s=time.monotonic()))

    def remove(self, camera: str) -> None:
        """Read a camera no more; its health stays."""
        with self._changed:
            reader = self._readers.pop(camera)
            self._end(reader)
            reader.health.ended = True
            self._order.forget(camera)
            self._hold()

    def restart(self, source: Source) -> None:
        """Connect anew to a camera, whose source may have changed. Its counts and its clock go on."""
        with self._changed:
            before = self._readers.pop(source.camera)
            self._end(before)
            state = after(before.state, Connecting(), time.monotonic(), self.settings, 0.0)
            clock = LiveClock(self.settings.clock == "auto")
            clock.go_on_from(before.clock)
            # A copy: the thread before may hang in a library, and must not write into what is read from now on.
            live = replace(live_health(before.health))
            self.health[source.camera] = replace(before.health, live=live)
            self._begin(source, self.health[source.camera], clock, state)

    def try_now(self) -> None:
        """End the pauses of all cameras that wait for their next attempt: somebody may have mended something."""
        with self._changed:
            for reader in self._readers.values():
                reader.hurry.set()

    def state_of(self, camera: str) -> CameraState:
        """What a camera is up to."""
        with self._changed:
            return self._readers[camera].state

    @property
    def cameras(self) -> dict[str, Source]:
        """The cameras that are being read."""
        with self._changed:
            return {name: reader.source for name, reader in self._readers.items()}

    @property
    def floor_s(self) -> float:
        """Site time: no frame before it will come any more. Rises also while no camera sends anything."""
        return self._order.floor_s

    def outages(self) -> list[tuple[str, float, float]]:
        """(camera, from_s, to_s) in site time: who was not watching, and is again, since this was last asked."""
        with self._changed:
            lost, self._lost = self._lost, []
            return lost

    def away(self) -> list[tuple[str, float, float]]:
        """(camera, from_s, infinity): who has been watching, and is not now."""
        with self._changed:
            return [
                (name, reader.health.last_s, math.inf)
                for name, reader in self._readers.items()
                if reader.state.phase != "live" and reader.health.last_s is not None
            ]

    def __iter__(self) -> Iterator[list[Frame]]:
        if not self._running.is_set():
            raise RuntimeError("LiveCameras is a context manager: iterate it inside its with block")
        tick_s = time.monotonic() + TICK_S
        while True:
            with self._changed:
                frames: list[Frame] = []
                while self._running.is_set() and not frames:
                    now_s = time.monotonic()
                    sending = [n for n, reader in self._readers.items() if reader.state.phase == "live"]
                    frames = self._order.pop(sending, now_s, time.time() + self.clock_s)
                    for name in self._order.late:
                        live_health(self.health[name]).late += self._order.late[name]
                    for name in self._order.stale:
                        self.health[name].frames_dropped += self._order.stale[name]
                    self._order.late.clear()
                    self._order.stale.clear()
                    if now_s >= tick_s:
                        tick_s = now_s + TICK_S
                        for reader in self._readers.values():
                            reader.tick()
                        if not frames:
                            self._order.quiet(time.time() + self.clock_s - self._order.held_s)
                            break
                    if not frames:
                        held_s = self._order.wait_s(now_s)
                        look_s = _LOOK_S if held_s < float("inf") else TICK_S
                        self._changed.wait(max(min(tick_s - now_s, held_s, look_s), 0.001))
                if not self._running.is_set():
                    return
            yield frames

    def _begin(self, source: Source, health: CameraHealth, clock: LiveClock, state: CameraState) -> None:
        reader = _Reader(self, source, health, clock, state)
        self._readers[source.camera] = reader
        self._hold()
        if self._running.is_set():
            reader.start()

    def _hold(self) -> None:
        """Cameras whose clocks are set right by different offsets send one moment at different times."""
        offsets_s = [reader.source.offset_s for reader in self._readers.values()]
        self._order.held_s = HELD_S + min(max(offsets_s, default=0.0) - min(offsets_s, default=0.0), MOST_SPREAD_S)

    def _end(self, reader: _Reader) -> None:
        reader.stop()
        reader.tick()
        self._gone = [thread for thread in self._gone if thread.is_alive()]
        self._gone.append(reader.thread)

    def put(self, reader: _Reader, frame: Frame, period_s: float) -> None:
        """Called by a reader's thread."""
        with self._changed:
            if self._readers.get(frame.camera) is reader:
                reader.health.frames_dropped += self._order.push(frame, period_s, time.monotonic())
                self._changed.notify_all()

    def watched_again(self, reader: _Reader, from_s: float, to_s: float) -> None:
        """Called by a reader's thread."""
        with self._changed:
            if self._readers.get(reader.source.camera) is reader:
                self._lost.append((reader.source.camera, from_s, to_s))


class _Reader:
    """One camera: its thread, its state, and what it says."""

    def __init__(
        self, cameras: LiveCameras, source: Source, health: CameraHealth, clock: LiveClock, state: CameraState
    ) -> None:
        self._cameras, self.source, self.health, self.clock, self.state = cameras, source, health, clock, state
        self._live = live_health(health)
        self._settings = cameras.settings
        self._stopped = False
        self._lock = threading.Lock()
        self._said: tuple[str, float] | None = None
        self._lost_since_s = time.time() if state.connections else None
        self._size_changes = health.size_changes
        self.hurry = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"live {source.camera}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self._stopped = True
        self.hurry.set()

    def tick(self) -> None:
        self._on(Tick())

    def _run(self) -> None:
        to_bgr = ToBgr(self.source, self.health)
        while not self._stopped:
            self._on(Connecting())
            try:
                self._connection(to_bgr)
            except (NotAllowed, NotAVideo) as error:
                self._lose(str(error), lasting=True)
            except SourceError as error:
                self._lose(str(error))
            except Exception as error:  # a camera must never take the others with it, nor end in silence
                self._lose(line(self.source, f"{type(error).__name__}: {redact(str(error))}", "This is a bug"))
            self.hurry.wait(max((self.state.retry_at_s or 0.0) - time.monotonic(), 0.0))
            if not self._stopped:
                self.hurry.clear()

    def _connection(self, to_bgr: ToBgr) -> None:
        """Read until the connection is lost. Raises SourceError."""
        source, health = self.source, self.health
        self.clock.connected()
        pace = Pace(source.detect_hz) if source.detect_hz is not None else None
        begin_s = picture_s = time.monotonic()
        pictures = read_live(source, self._settings, health, to_bgr, lambda: self._given_up(picture_s))
        with contextlib.closing(pictures):
            for picture in pictures:
                if self._stopped:
                    return
                picture_s = time.monotonic()
                time_s = self.clock.time_of(picture.arrival_s, picture.stamp_s, picture.sender_s) + source.offset_s
                self._note(time_s, begin_s)
                index = health.frames_read
                health.frames_read += 1
                period_s = self.clock.period_s * source.stride
                if index % source.stride or (pace is not None and not pace.due(time_s, period_s)):
                    health.frames_skipped += 1
                    continue
                if source.detect_hz is not None:
                    period_s = max(period_s, 1.0 / source.detect_hz)
                self._cameras.put(self, Frame(source.camera, index, time_s, picture.to_bgr()), period_s)
        if not self._stopped:
            what = f"no picture in the data for {self._settings.stall_timeout_s:g} s"
            raise SourceError(line(source, what, "Check the camera"))

    def _given_up(self, picture_s: float) -> bool:
        return self._stopped or time.monotonic() - picture_s > self._settings.stall_timeout_s

    def _note(self, time_s: float, begin_s: float) -> None:
        """A picture came: what that means for state, counts and log."""
        health, was = self.health, self.state
        self._on(Picture())
        if was.phase not in ("live", "stalled"):
            tries = max(was.tries, 1)
            if was.connections:
                assert self._lost_since_s is not None
                away_s = time.time() - self._lost_since_s
                log.warning(
                    "camera %s: live again after %.1f s (attempts: %d)",
                    self.source.camera, away_s, tries, extra={"camera": self.source.camera},
                )  # fmt: skip
            else:
                took_s = time.monotonic() - begin_s
                log.info(
                    "camera %s: live after %.1f s, %sx%s",
                    self.source.camera, took_s, *(health.size or ("?", "?")), extra={"camera": self.source.camera},
                )  # fmt: skip
            self._said = self._lost_since_s = None
        if health.last_s is not None and time_s - health.last_s > self._settings.stalled_after_s:
            self._cameras.watched_again(self, health.last_s, time_s)
        if health.size_changes > self._size_changes:
            self._size_changes = health.size_changes
            log.warning(
                "camera %s: its pictures have another size now; they are scaled to %sx%s as before",
                self.source.camera, *(health.size or ("?", "?")), extra={"camera": self.source.camera},
            )  # fmt: skip
        health.first_s = time_s if health.first_s is None else health.first_s
        health.last_s = time_s
        self._live.clock, self._live.jumps = self.clock.source, self.clock.jumps
        self._live.drift_s = self.clock.drift_s
        while self.clock.news:
            log.warning(
                "camera %s: %s", self.source.camera, self.clock.news.pop(0), extra={"camera": self.source.camera}
            )

    def _lose(self, reason: str, lasting: bool = False) -> None:
        if self._stopped:
            return
        if self._lost_since_s is None:
            self._lost_since_s = time.time()
        self._on(Lost(reason, lasting))
        now_s = time.monotonic()
        if self._said is None or self._said[0] != reason or now_s - self._said[1] >= SAY_AGAIN_S:
            self._said = (reason, now_s)
            often = f"about every {self._settings.refused_retry_s:.0f} s" if lasting else "until it is back"
            log.warning("%s It is tried again %s.", reason, often, extra={"camera": self.source.camera})

    def _on(self, event: Event) -> None:
        with self._lock:
            now_s = time.monotonic()
            before, self.state = self.state, after(self.state, event, now_s, self._settings, random.random())
            state, live = self.state, self._live
            live.state, live.tries, live.reason = state.phase, state.tries, state.reason
            live.reconnects = max(state.connections - 1, 0)
            live.seconds = {str(phase): seconds for phase, seconds in state.seconds(now_s).items()}
        if state.phase == "stalled" != before.phase:
            log.info("camera %s: stalled", self.source.camera, extra={"camera": self.source.camera})
