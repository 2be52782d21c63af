"""Capture time of live pictures, from what there is: sender reports, time stamps that restart, and arrival. Pure.

Three clocks meet here: ours (UTC, at arrival), the camera's own (UTC, from RTCP sender reports) and the stream's time
stamps, which count from anywhere, anew after each connection. Stamps are even but mean nothing by themselves; arrival
means something but jitters. So a picture's time is its stamp plus an offset, and the offset comes from the sender
reports where they can be right, else from the quickest arrivals of the last seconds (the least delayed ones).
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Literal

from pipeline.media_time import MIN_STEP_S

QUICKEST_OF_S = 10.0
"""The offset by arrival is that of the quickest picture of so many seconds: longer than a burst of a busy network."""
BELIEVED_BEHIND_S, BELIEVED_AHEAD_S = 2.0, 1.0
"""A sender's clock is believed when it says that a picture was taken at most so long before, or after, it arrived: a
stream may be late, but none comes from the future. Cameras that were never set say 1970 or the wrong zone."""
JUMP_S = 1.0
"""The offset moved by more than this at once: a jump. Less is followed slowly."""
FOLLOW = 0.2
"""An offset is followed by at most this share of the time that goes by, so that time never runs backwards."""
DRIFT_S = 0.5
"""Two clocks that have moved against each other by this much have drifted."""
_WILD_BACK_S, _WILD_AHEAD_S = 0.5, 5.0  # a step of the stamps further off than this: they were set anew


class LiveClock:
    """Turns arrival, stamps and sender reports of one camera into times that strictly rise, over all connections.

    trust_sender  False: never look at the sender's clock

    >>> clock = LiveClock()
    >>> clock.connected()
    >>> [round(clock.time_of(100.0 + late, stamp, None), 2) for stamp, late in ((0.0, 0.0), (0.1, 0.4), (0.2, 0.2))]
    [100.0, 100.1, 100.2]
    """

    def __init__(self, trust_sender: bool = True) -> None:
        self._trust_sender = trust_sender
        self.source: Literal["arrival", "sender"] = "arrival"
        self.jumps = 0
        self.drift_s = 0.0
        """How far stamps or sender have moved against our clock, all drifts of this camera added."""
        self.news: list[str] = []
        """What there is to say, for the reader to take: jumps, drifts, a sender that is not believed."""
        self.period_s = 0.04
        self._steps_s: deque[float] = deque(maxlen=9)
        self._last_s: float | None = None
        self.connected()

    def go_on_from(self, before: LiveClock) -> None:
        """Time goes on where another clock of this camera was."""
        self._last_s, self.period_s = before._last_s, before.period_s
        self.jumps, self.drift_s = before.jumps, before.drift_s

    def connected(self) -> None:
        """A new connection: stamps start anew."""
        self._offset_s: float | None = None
        self._quickest: deque[tuple[float, float]] = deque()  # (arrival, offset), offsets rising
        self._stamp_s: float | None = None
        self._arrival_s = 0.0
        self._reference: tuple[float, float] | None = None  # (arrival, offset) that drift is measured from
        self._began_s: float | None = None
        self._doubted = False
        self.source = "arrival"

    def time_of(self, arrival_s: float, stamp_s: float | None, sender_s: float | None) -> float:
        """Site time of the next picture.

        arrival_s  when it came, UTC by our clock
        stamp_s    its time stamp in the stream; None: it has none
        sender_s   when it was taken by the camera's clock, UTC, from sender reports; None: not known (yet)
        """
        if stamp_s is None:
            known = self._offset_s is not None and self._last_s is not None
            return self._rising(self._last_s + self.period_s if known and self._last_s is not None else arrival_s)
        if self._stamp_s is not None:
            stamp_step_s, step_s = stamp_s - self._stamp_s, arrival_s - self._arrival_s
            if stamp_step_s < -_WILD_BACK_S or stamp_step_s > step_s + _WILD_AHEAD_S:
                self.jumps += 1
                self.news.append(f"its time stamps jumped by {stamp_step_s:+.1f} s")
                sender, doubted = self.source, self._doubted
                self.connected()
                self.source, self._doubted = sender, doubted
        going_by_s = 0.0 if self._stamp_s is None else max(stamp_s - self._stamp_s, 0.0)
        self._stamp_s, self._arrival_s = stamp_s, arrival_s
        self._began_s = arrival_s if self._began_s is None else self._began_s
        wanted_s = self._wanted(arrival_s, stamp_s, sender_s)
        self._follow(wanted_s, stamp_s, going_by_s)
        assert self._offset_s is not None
        return self._rising(stamp_s + self._offset_s)

    def _wanted(self, arrival_s: float, stamp_s: float, sender_s: float | None) -> float:
        """The offset as it should be, and what it says about drift."""
        while self._quickest and self._quickest[-1][1] >= arrival_s - stamp_s:
            self._quickest.pop()
        self._quickest.append((arrival_s, arrival_s - stamp_s))
        while self._quickest[0][0] < arrival_s - QUICKEST_OF_S:
            self._quickest.popleft()
        by_arrival_s = self._quickest[0][1]
        source: Literal["arrival", "sender"] = "arrival"
        if sender_s is not None and self._trust_sender:
            ahead_s = sender_s - (stamp_s + by_arrival_s)  # against the quickest arrival: free of jitter
            if -BELIEVED_BEHIND_S <= ahead_s <= BELIEVED_AHEAD_S:
                source = "sender"
            elif not self._doubted:
                self._doubted = True
                side = "ahead of" if ahead_s > 0 else "behind"
                self.news.append(
                    f"its clock is {abs(ahead_s):.1f} s {side} ours, so its pictures are timed by arrival. "
                    "Give it our NTP server"
                )
        if source != self.source:
            self.source, self._reference = source, None
        wanted_s = sender_s - stamp_s if source == "sender" and sender_s is not None else by_arrival_s
        # Drift: of the sender's clock against ours, else of the stamps against ours.
        apart_s = wanted_s - by_arrival_s if source == "sender" else by_arrival_s
        if self._reference is None:
            if self._began_s is not None and arrival_s - self._began_s > QUICKEST_OF_S:  # after the first bursts
                self._reference = (arrival_s, apart_s)
        elif abs(apart_s - self._reference[1]) >= DRIFT_S:
            moved_s, hours = apart_s - self._reference[1], (arrival_s - self._reference[0]) / 3600
            if abs(moved_s) < JUMP_S:  # more is a jump
                self.drift_s += moved_s
                self.news.append(f"its clock drifted by {moved_s:+.1f} s within {hours:.1f} h; it is followed")
            self._reference = (arrival_s, apart_s)
        return wanted_s

    def _follow(self, wanted_s: float, stamp_s: float, going_by_s: float) -> None:
        if self._offset_s is None:
            # A new connection begins where the clock says, but never before what was said already.
            least_s = wanted_s if self._last_s is None else self._last_s + MIN_STEP_S - stamp_s
            self._offset_s = max(wanted_s, least_s)
            return
        off_s = wanted_s - self._offset_s
        if off_s > JUMP_S:
            self.jumps += 1
            self.news.append(f"its clock jumped by {off_s:+.1f} s")
            self._offset_s = wanted_s
        else:
            most_s = FOLLOW * going_by_s
            self._offset_s += min(max(off_s, -most_s), most_s)

    def _rising(self, time_s: float) -> float:
        if self._last_s is not None:
            time_s = max(time_s, self._last_s + MIN_STEP_S)
            if time_s - self._last_s < 10 * statistics.median([*self._steps_s, self.period_s]):
                self._steps_s.append(time_s - self._last_s)
                self.period_s = statistics.median(self._steps_s)
        self._last_s = time_s
        return time_s


def sort_heap(
    stamps_s: Sequence[float | None], last_arrival_s: float, period_s: float = 0.04
) -> list[tuple[float | None, float]]:
    """(stamp, arrival) of pictures that lay in a heap because they came while the stream was being opened.

    The last came at `last_arrival_s`; the others are put before it as their stamps say. A first picture without a
    stamp (as libav gives it for RTP) gets the one that must have been its; `period_s` is the distance of pictures where
    the stamps do not tell.

    >>> sort_heap([None, 5.0, 5.5, 6.0], 100.0)
    [(4.5, 98.5), (5.0, 99.0), (5.5, 99.5), (6.0, 100.0)]
    """
    stamps = list(stamps_s)
    known = sorted(stamp for stamp in stamps if stamp is not None)  # packets come in the order of decoding
    steps_s = [later - earlier for earlier, later in itertools.pairwise(known) if later > earlier]
    if known and stamps[0] is None:
        stamps[0] = known[0] - (statistics.median(steps_s) if steps_s else period_s)
    sorted_, before_s = [], last_arrival_s
    for stamp_s in reversed(stamps):
        if stamp_s is not None:
            before_s = last_arrival_s - (known[-1] - stamp_s)
        sorted_.append((stamp_s, before_s))
    return sorted_[::-1]
