"""What a live camera is up to: a state machine as one pure function. The thread that acts on it is pipeline/live.py.

    connecting --picture--> live --silence--> stalled --picture--> live
        |                     |                  |
        +------- lost --------+------- lost -----+--> backing off --retry--> connecting ...   (without end)
        +------- lost for a reason that only a person can mend --> failed --retry, rarely--> connecting

Time is any clock that only goes forward (`time.monotonic`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Phase = Literal["connecting", "live", "stalled", "backing off", "failed"]
PHASES: tuple[Phase, ...] = ("connecting", "live", "stalled", "backing off", "failed")


@dataclass(frozen=True)
class LiveSettings:
    """How live cameras are kept alive. All in seconds.

    connect_timeout_s  an attempt to connect may take so long
    read_timeout_s     a connection without any byte is given up after so long
    stalled_after_s    without a picture for so long a camera is called stalled
    stall_timeout_s    a connection that sends bytes, but no picture, is given up after so long
    backoff_first_s    pause before the second attempt; doubles with every further one, and is cut by chance to between
                       half and all of it, so that cameras of one switch do not come back in step
    backoff_max_s      longest such pause: with the second or so that opening takes, pictures flow within 3 s
    refused_retry_s    pause after a refusal that only a person can mend (password, no pictures in it): many cameras
                       lock an account after a few wrong passwords
    clock              `auto`: times from the camera's RTCP sender reports where they can be right, else from arrival;
                       `arrival`: always from arrival

    Raises ValueError unless all are positive and backoff_max_s is at least backoff_first_s.
    """

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    stalled_after_s: float = 2.0
    stall_timeout_s: float = 10.0
    backoff_first_s: float = 0.25
    backoff_max_s: float = 1.5
    refused_retry_s: float = 60.0
    clock: Literal["auto", "arrival"] = "auto"

    def __post_init__(self) -> None:
        for name in ("connect_timeout_s", "read_timeout_s", "stalled_after_s", "stall_timeout_s", "backoff_first_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not self.backoff_first_s <= self.backoff_max_s < float("inf"):
            raise ValueError(f"backoff_max_s must be finite and at least backoff_first_s, got {self.backoff_max_s}")
        if not 0 < self.refused_retry_s < float("inf"):
            raise ValueError(f"refused_retry_s must be positive and finite, got {self.refused_retry_s}")


@dataclass(frozen=True)
class Connecting:
    """An attempt begins."""


@dataclass(frozen=True)
class Picture:
    """A picture came."""


@dataclass(frozen=True)
class Lost:
    """The attempt failed, or the connection ended (also: the end of the stream). lasting: only a person can mend it."""

    reason: str
    lasting: bool = False


@dataclass(frozen=True)
class Tick:
    """Time went by."""


Event = Connecting | Picture | Lost | Tick


@dataclass(frozen=True)
class CameraState:
    """One camera at one moment.

    phase           see the drawing above
    since_s         when the phase began
    tries           attempts in a row that led to nothing lasting; 0 when all is well
    retry_at_s      when the next attempt is due (backing off, failed)
    picture_s       when the last picture came
    live_from_s     when the first picture of this connection came
    connections     how often pictures began to flow; all but the first are reconnects
    reason          why the camera was lost last; None while all is well
    spent_s         seconds spent in each phase before the present one
    """

    phase: Phase = "connecting"
    since_s: float = 0.0
    tries: int = 0
    retry_at_s: float | None = None
    picture_s: float | None = None
    live_from_s: float | None = None
    connections: int = 0
    reason: str | None = None
    spent_s: Mapping[Phase, float] = field(default_factory=dict)

    def seconds(self, now_s: float) -> dict[Phase, float]:
        """Seconds spent in each phase until now.

        >>> CameraState(since_s=10.0).seconds(12.0)["connecting"]
        2.0
        """
        spent = {phase: self.spent_s.get(phase, 0.0) for phase in PHASES}
        spent[self.phase] += max(now_s - self.since_s, 0.0)
        return spent


def after(state: CameraState, event: Event, now_s: float, settings: LiveSettings, chance: float) -> CameraState:
    """The state after an event. Pure.

    chance  uniform in [0, 1): the jitter of the next pause

    >>> state = after(CameraState(), Lost("refused"), 0.0, LiveSettings(), chance=0.0)
    >>> state.phase, state.retry_at_s
    ('backing off', 0.125)
    >>> after(after(state, Connecting(), 0.2, LiveSettings(), 0.0), Picture(), 1.0, LiveSettings(), 0.0).phase
    'live'
    """
    if isinstance(event, Picture):
        if state.phase in ("live", "stalled"):
            return _in(replace(state, picture_s=now_s), "live", now_s)
        fresh = replace(
            state, picture_s=now_s, live_from_s=now_s, connections=state.connections + 1, reason=None, retry_at_s=None
        )
        return _in(fresh, "live", now_s)
    if isinstance(event, Connecting):
        return _in(replace(state, retry_at_s=None, live_from_s=None), "connecting", now_s)
    if isinstance(event, Lost):
        # A camera that sends a picture and hangs up at once must not be asked again and again without a pause.
        lasted = state.live_from_s is not None and now_s - state.live_from_s >= settings.backoff_max_s
        tries = 1 if lasted else state.tries + 1
        pause_s = settings.refused_retry_s if event.lasting else _pause_s(tries, settings)
        lost = replace(
            state,
            tries=tries,
            retry_at_s=now_s + pause_s * (1 + chance) / 2,
            live_from_s=None,
            reason=event.reason,
        )
        return _in(lost, "failed" if event.lasting else "backing off", now_s)
    if state.phase == "live":
        assert state.picture_s is not None
        if now_s - state.picture_s > settings.stalled_after_s:
            return _in(state, "stalled", now_s)
        if state.tries and state.live_from_s is not None and now_s - state.live_from_s >= settings.backoff_max_s:
            return replace(state, tries=0)
    return state


def _pause_s(tries: int, settings: LiveSettings) -> float:
    return min(settings.backoff_first_s * 2.0 ** min(tries - 1, 60), settings.backoff_max_s)


def _in(state: CameraState, phase: Phase, now_s: float) -> CameraState:
    if phase == state.phase:
        return state
    return replace(state, phase=phase, since_s=now_s, spent_s=state.seconds(now_s))
