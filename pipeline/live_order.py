"""Frames of live cameras in one order of time, without waiting long for any camera. Pure; the clock is handed in.

Files are merged by waiting for each other (`pipeline.media_time.merge_in_time`). A live camera may fall silent for
hours, and its frames come late by an unknown part of a second. So frames wait for the others only a little, and one
that comes too late is moved up to the present of the rest.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import replace

from pipeline.frames import Frame
from pipeline.media_time import MIN_STEP_S

HELD_S = 0.6
"""A frame waits at most so long for cameras that may still have an earlier one. The RTSP cameras of one site mostly
differ by less; one that buffers more is moved up."""
STALE_S = 0.5
"""A consumer that is so much too slow gets the newest frame: what happens matters, not what has happened."""
_EARLY = 0.75  # share of its usual period after which a camera's next frame may come
_MOST_FRAMES = 64  # of one camera, however fast it is and however long frames are held


class LiveOrder:
    """Holds frames per camera and gives them out in order of time: oldest first, at most one per camera at a time.

    spare_frames  how many frames of a camera may wait besides those that are held for others
    held_s        see `HELD_S`

    >>> import numpy as np
    >>> order = LiveOrder(spare_frames=4)
    >>> picture = np.zeros((1, 1, 3), np.uint8)
    >>> order.push(Frame("a", 0, 5.0, picture), period_s=0.1, now_s=0.0)
    0
    >>> order.pop(awaited=["a", "b"], now_s=0.1)     # b may have an earlier one
    []
    >>> [frame.camera for frame in order.pop(awaited=["a", "b"], now_s=0.8)]
    ['a']
    """

    def __init__(self, spare_frames: int, held_s: float = HELD_S) -> None:
        if spare_frames < 1:
            raise ValueError(f"spare_frames must be 1 or more, got {spare_frames}")
        self.held_s = held_s
        self.floor_s = -math.inf
        """No frame with an earlier time will be given out any more."""
        self.stale: Counter[str] = Counter()
        """Frames that were dropped because newer ones waited behind them for too long, per camera."""
        self.late: Counter[str] = Counter()
        """Frames that came too late for their time, per camera."""
        self._spare = spare_frames
        self._queues: dict[str, deque[tuple[float, Frame]]] = {}  # (when it came, frame)
        self._next_s: dict[str, float] = {}  # camera -> its next frame is not expected to be earlier
        self._given_s: dict[str, float] = {}  # camera -> time of the last frame given out

    def push(self, frame: Frame, period_s: float, now_s: float) -> int:
        """Add a frame that came at `now_s` (monotonic); returns how many old ones of its camera were dropped for it."""
        queue = self._queues.setdefault(frame.camera, deque())
        room = min(self._spare + math.ceil(self.held_s / max(period_s, 1e-3)), _MOST_FRAMES)
        dropped = 0
        while len(queue) >= room:
            queue.popleft()
            dropped += 1
        queue.append((now_s, frame))
        self._next_s[frame.camera] = frame.time_s + _EARLY * period_s
        return dropped

    def pop(self, awaited: Collection[str], now_s: float, present_s: float = math.inf) -> list[Frame]:
        """The frames that are due, the earliest first; empty when all should wait.

        awaited    cameras that are sending, so that an earlier frame may be under way
        now_s      monotonic
        present_s  site time: frames from the future (a clock set right by an offset) wait for their time, too
        """
        for name, queue in self._queues.items():
            while len(queue) > 1 and now_s - queue[0][0] > self.held_s + STALE_S:
                queue.popleft()
                self.stale[name] += 1
        heads = sorted((queue[0][1].time_s, name) for name, queue in self._queues.items() if queue)
        silent = [name for name in awaited if not self._queues.get(name)]
        until_s = min((self._next_s.get(name, -math.inf) for name in silent), default=math.inf)
        until_s = min(until_s, present_s)
        due = []
        for time_s, name in heads:
            came_s, frame = self._queues[name][0]
            if time_s > until_s and now_s - came_s < self.held_s:
                break
            queue = self._queues[name]
            queue.popleft()
            if queue:
                until_s = min(until_s, queue[0][1].time_s)
            elif name in awaited:
                until_s = min(until_s, self._next_s[name])
            earliest_s = max(self.floor_s, self._given_s.get(name, -math.inf) + MIN_STEP_S)
            if time_s < earliest_s:
                frame = replace(frame, time_s=earliest_s)
                self.late[name] += 1
            self._given_s[name] = frame.time_s
            due.append(frame)
        if due:
            self.floor_s = max(self.floor_s, min(frame.time_s for frame in due))
        return sorted(due, key=lambda frame: frame.time_s)

    def quiet(self, until_s: float) -> float:
        """Nothing came: from now on no frame is earlier than `until_s` (site time). Returns the floor."""
        waiting_s = min((queue[0][1].time_s for queue in self._queues.values() if queue), default=math.inf)
        self.floor_s = max(self.floor_s, min(until_s, waiting_s))
        return self.floor_s

    def wait_s(self, now_s: float) -> float:
        """Until when at the latest a frame that is held will be due, seconds from now; infinite without any."""
        came_s = min((queue[0][0] for queue in self._queues.values() if queue), default=math.inf)
        return max(came_s + self.held_s - now_s, 0.0)

    def forget(self, camera: str) -> None:
        """The camera is no longer part of the run; what waits of it is let go."""
        self._queues.pop(camera, None)
        self._next_s.pop(camera, None)
