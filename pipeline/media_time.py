"""Time of frames: repair it, thin it out, and bring several cameras into one order. Pure; seconds everywhere."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

#: Two frames of one camera are at least this far apart. Above the resolution of float64 for UTC seconds (2.4e-7 s).
MIN_STEP_S = 1e-5
#: A step back of up to this much is disorder among neighbours; a longer one means that the clock was set anew.
MAX_DISORDER_S = 0.5
#: A step ahead of up to this much is believed at once; a longer one only when the next frame agrees.
MAX_GAP_S = 10.0


class MediaClock:
    """Turns the time stamps of one camera's frames, as found, into times that strictly rise.

    Missing stamps are filled in with the usual distance between frames. Neighbours out of order are moved up a
    little. A clock that starts anew in mid-stream (joined recordings) goes on where it was. One wild stamp is
    overruled; a real gap of more than ``MAX_GAP_S`` is recognised at its second frame.

    >>> clock = MediaClock(period_s=0.5)
    >>> [clock.time_of(raw_s) for raw_s in (0.0, 0.5, None, 1.5, 900.0, 2.5)]
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    """

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s  # usual distance between frames; follows the stream
        self._steps_s: deque[float] = deque(maxlen=9)
        self._shift_s = 0.0
        self._last_s: float | None = None
        self._suspect_s: float | None = None

    def time_of(self, raw_s: float | None) -> float:
        """Media time of the next frame, given its stamp in seconds since the stream began (None: it has none)."""
        if self._last_s is None:
            self._last_s = raw_s if raw_s is not None and 0 <= raw_s <= MAX_GAP_S else 0.0
            self._shift_s = self._last_s - (raw_s or 0.0)
            return self._last_s
        last_s = self._last_s
        time_s = last_s + self.period_s if raw_s is None else self._believable(raw_s, last_s)
        self._last_s = max(time_s, last_s + MIN_STEP_S)
        return self._last_s

    def _believable(self, raw_s: float, last_s: float) -> float:
        step_s = raw_s + self._shift_s - last_s
        suspect_s, self._suspect_s = self._suspect_s, None
        if MIN_STEP_S <= step_s <= MAX_GAP_S:
            self._steps_s.append(step_s)
            self.period_s = statistics.median(self._steps_s)
            return raw_s + self._shift_s
        if -MAX_DISORDER_S <= step_s < MIN_STEP_S:
            return last_s + self.period_s / 10
        if suspect_s is not None and 0 < raw_s - suspect_s <= MAX_GAP_S:  # two in a row agree: the clock did jump
            if step_s < 0:
                self._shift_s = last_s + (raw_s - suspect_s) - raw_s
            return raw_s + self._shift_s
        self._suspect_s = raw_s
        return last_s + self.period_s


class Pace:
    """Thins a stream out to a rate: on average never more than ``rate_hz`` frames per second of media time.

    Frames are due on a grid of 1 / rate_hz, so that a source whose rate is no multiple of it still gives the rate
    asked for. A frame counts as due up to a quarter of its source's period early: without that slack, jitter would
    make every other frame of a 10 Hz grid miss its turn and halve the rate.

    >>> pace = Pace(10.0)
    >>> [i for i in range(13) if pace.due(i / 30, period_s=1 / 30)]
    [0, 3, 6, 9, 12]
    """

    def __init__(self, rate_hz: float) -> None:
        self._interval_s = 1.0 / rate_hz
        self._due_s: float | None = None

    def due(self, time_s: float, period_s: float) -> bool:
        """Whether the frame at ``time_s`` is to be used. ``period_s`` is the usual distance between source frames."""
        if self._due_s is None:
            self._due_s = time_s
        if time_s < self._due_s - period_s / 4:
            return False
        self._due_s += self._interval_s
        if self._due_s <= time_s:  # after a gap: start a new grid here, no burst to catch up
            self._due_s = time_s + self._interval_s
        return True


def merge_in_time(streams: Sequence[Iterator[tuple[float, float, T]]]) -> Iterator[list[T]]:
    """Merge streams of (time_s, period_s, value), each rising in time, into batches in time order.

    A batch holds at most one value of each stream: those that are next in their stream and whose times lie within
    half a period of the earliest. The period is the shortest among the streams still running, so streams of equal
    rate come in full batches, and a slow one never overtakes a fast one. Ties go by the order of ``streams``.
    Takes at most one value ahead from each stream.

    >>> fast = iter([(0.0, 0.1, "a0"), (0.1, 0.1, "a1"), (0.2, 0.1, "a2")])
    >>> slow = iter([(0.01, 0.2, "b0"), (0.21, 0.2, "b1")])
    >>> list(merge_in_time([fast, slow]))
    [['a0', 'b0'], ['a1'], ['a2', 'b1']]
    """
    heads: dict[int, tuple[float, float, T]] = {}
    wanted: Sequence[int] = range(len(streams))
    while True:
        for n in wanted:
            head = next(streams[n], None)
            if head is not None:
                heads[n] = head
        if not heads:
            return
        until_s = min(time_s for time_s, _, _ in heads.values())
        until_s += min(period_s for _, period_s, _ in heads.values()) / 2
        wanted = sorted((n for n in heads if heads[n][0] <= until_s), key=lambda n: (heads[n][0], n))
        yield [heads.pop(n)[2] for n in wanted]
