"""Alarms for a pair of cameras whose transitions changed: a camera was moved, a clock jumped, a door was closed.

Each new link asks the table how well it expected it (log r before it is added). A cumulative sum (Page, Biometrika
1954)
of the shortfall against the pair's own long-term mean rises only when links keep surprising. While an alarm lasts the
pair's weight is at the floor: neutral instead of wrong. It ends when recent links are expected again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from st_model.transitions import Pair

LEAST_LINKS = 20
"""Links before a pair can raise an alarm."""
ALARM_AT = 12.0
"""Nats of accumulated surprise. A mean of 3 nats a link lost entirely is noticed after about 8 links."""
SURPRISE_CAP = 4.0
"""One link counts at most this much: a single wrong one raises nothing."""
RECENT = 10
"""Links that must be expected again, on average by half the long-term mean, before the alarm ends."""


@dataclass(frozen=True)
class PairDrift:
    """Running figures of one pair: links, their mean log r, the cumulative sum, and whether an alarm is on.

    >>> state = PairDrift()
    >>> for _ in range(40): state = observe(state, 3.0)
    >>> state.alarmed
    False
    >>> for _ in range(10): state = observe(state, -2.0)
    >>> state.alarmed
    True
    """

    links: int = 0
    mean: float = 0.0
    surprise: float = 0.0
    alarmed: bool = False
    recent: tuple[float, ...] = field(default=())


@dataclass(frozen=True)
class Alarm:
    """A pair's alarm going on (`raised`) or off at a site time."""

    pair: Pair
    time_s: float
    raised: bool


def observe(state: PairDrift, log_r: float) -> PairDrift:
    """The figures after one more link that the table, as it was before it, gave this log r."""
    recent = (*state.recent, log_r)[-RECENT:]
    if state.alarmed:
        calm = len(recent) == RECENT and sum(recent) / RECENT >= 0.5 * state.mean
        return replace(state, recent=recent, alarmed=not calm, surprise=0.0)
    links = state.links + 1
    if links <= LEAST_LINKS:
        return PairDrift(links, state.mean + (log_r - state.mean) / links, 0.0, False, recent)
    shortfall = min(0.5 * state.mean - log_r, SURPRISE_CAP)
    surprise = max(0.0, state.surprise + shortfall)
    mean = state.mean + (log_r - state.mean) / min(links, 200)
    if surprise > ALARM_AT:
        return PairDrift(links, state.mean, 0.0, True, ())
    return PairDrift(links, mean, surprise, False, recent)
