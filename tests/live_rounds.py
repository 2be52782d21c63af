"""Rounds of faults at one of four RTSP cameras, and what they cost: it, the others, the process.

Used by the tests (a handful of rounds) and by tests/benchmarks/bench_live.py (fifty).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rtsp_cameras import Garbage, RtspCamera

from pipeline.camera_state import LiveSettings
from pipeline.frames import Source
from pipeline.live import LiveCameras

GIVE_UP_S = 30.0
FAULTS = ("kill", "freeze", "long freeze", "refuse", "garbage", "resolution")


@dataclass(frozen=True)
class Round:
    """back_s: from the server's return to the first frame. others_gap_s: longest pause of any other camera."""

    fault: str
    camera: str
    away_s: float
    back_s: float
    others_gap_s: float
    threads: int
    resident_mb: float


class Watch:
    """Reads the cameras in a thread of its own, and knows when each one's frames came."""

    def __init__(self, cameras: LiveCameras) -> None:
        self._cameras = cameras
        self._changed = threading.Condition()
        self.came_s: dict[str, float] = {}
        self.gaps_s: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.rose = True
        self._time_s: dict[str, float] = {}
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        for batch in self._cameras:
            with self._changed:
                now_s = time.monotonic()
                for frame in batch:
                    name = frame.camera
                    gap_s = now_s - self.came_s.get(name, now_s)
                    self.gaps_s[name] = max(self.gaps_s.get(name, 0.0), gap_s)
                    self.came_s[name] = now_s
                    self.counts[name] = self.counts.get(name, 0) + 1
                    self.rose &= frame.time_s > self._time_s.get(name, 0.0)
                    self._time_s[name] = frame.time_s
                self._changed.notify_all()

    def reconnects(self, camera: str) -> int:
        health = self._cameras.health.get(camera)
        return 0 if health is None or health.live is None else health.live.reconnects

    def frame_after(self, camera: str, begin_s: float, reconnects: int = 0, wait_s: float = GIVE_UP_S) -> float:
        """When the first frame of a camera came after `begin_s` (monotonic), and after so many reconnects: a frame
        from before a fault may be late. Raises TimeoutError.
        """

        def back() -> bool:
            return self.came_s.get(camera, 0.0) > begin_s and self.reconnects(camera) >= reconnects

        with self._changed:
            if not self._changed.wait_for(back, wait_s):
                raise TimeoutError(f"no frame of {camera} within {wait_s} s: {self._cameras.health[camera]}")
            return self.came_s[camera]

    def longest_gap_s(self, camera: str) -> float:
        """The longest pause of a camera since this was last asked."""
        with self._changed:
            return max(self.gaps_s.pop(camera, 0.0), time.monotonic() - self.came_s[camera])


def play(faults: list[str], settings: LiveSettings, *, away_s: float = 1.5) -> tuple[list[Round], LiveCameras, Watch]:
    """One fault a round, at each of four cameras in turn."""
    with ExitStack() as stack:
        served = {name: stack.enter_context(RtspCamera("160x120@10")) for name in ("a", "b", "c", "d")}
        live = [Source(name, camera.uri) for name, camera in served.items()]
        cameras = stack.enter_context(LiveCameras(live, settings))
        watch = Watch(cameras)
        for name in served:
            watch.frame_after(name, 0.0)
        rounds = [_round(fault, list(served)[n % 4], served, watch, settings, away_s) for n, fault in enumerate(faults)]
    watch.thread.join(5.0)
    return rounds, cameras, watch


def _round(
    fault: str, name: str, served: dict[str, RtspCamera], watch: Watch, settings: LiveSettings, away_s: float
) -> Round:
    others = [other for other in served if other != name]
    for other in others:
        watch.longest_gap_s(other)
    reconnects = watch.reconnects(name) + (fault != "freeze")  # frozen for a moment, it keeps its connection
    mend, gone_s = _strike(fault, served[name], settings, away_s)
    time.sleep(gone_s)
    mend()
    returned_s = time.monotonic()
    back_s = watch.frame_after(name, returned_s, reconnects) - returned_s
    gap_s = max(watch.longest_gap_s(other) for other in others)
    return Round(fault, name, gone_s, back_s, gap_s, threading.active_count(), resident_mb())


def _strike(fault: str, camera: RtspCamera, settings: LiveSettings, away_s: float) -> tuple[Callable[[], None], float]:
    """Do it; returns how to mend it, and after how long."""
    if fault == "freeze":
        camera.freeze()
        return camera.thaw, min(away_s, 0.8 * settings.read_timeout_s)
    if fault == "long freeze":
        camera.freeze()
        return camera.thaw, settings.read_timeout_s + settings.connect_timeout_s + away_s
    camera.kill()
    if fault == "garbage":
        impostor = Garbage(camera.port)

        def mend() -> None:
            impostor.close()
            camera.start()

        return mend, away_s
    if fault == "resolution":
        small = camera.what == "160x120@10"
        return lambda: camera.start("320x240@10" if small else "160x120@10"), 0.0
    return camera.start, 0.0 if fault == "kill" else away_s


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
