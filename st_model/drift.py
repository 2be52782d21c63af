"""Alarms for a pair of cameras whose transitions changed: a camera was moved, a clock jumped, a way became longer.

The latest delays of a pair are compared with those before them: the largest distance of their two cumulative
distributions (Kolmogorov and Smirnov), which asks for no bandwidth and forgives a few wrong links. The table itself
cannot be asked whether it is surprised: it learns a new delay within two or three links, so that nothing surprises it
for long. While an alarm lasts the pair's weight is at the floor: neutral instead of wrong. It ends when the table
expects what comes; what was before is then forgotten here, and the new delays are what later ones are compared with.

A door that closes gives no links any more, and so no alarm; its counts fade.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from st_model.transitions import Pair

RECENT = 12
"""Latest links that are compared with those before."""
REFERENCE, LEAST_REFERENCE = 100, 15
"""Links before those: the most that are remembered, and the least that an alarm needs."""
ALARM_AT = 2.2
"""Distance of the two distributions that raises an alarm, times sqrt(n m / (n + m)) of n and m links: so it is as
rare for few as for many. Of 120,000 simulated links whose delays do not change 4 raised one."""
CALM_LINKS, CALM_LOG_R = 5, 1.0
"""Links in a row whose mean log r ends an alarm: e times likelier than by chance."""


@dataclass(frozen=True)
class PairDrift:
    """What is remembered of one pair: delay bins of older and of the latest links, and whether an alarm is on.

    expected  log r of the links since the alarm

    >>> state = PairDrift()
    >>> for n in range(40): state = observe(state, 20 + n % 5, 3.0)
    >>> state.alarmed
    False
    >>> for n in range(RECENT): state = observe(state, 60 + n % 5, 2.0)
    >>> state.alarmed
    True
    """

    alarmed: bool = False
    reference: tuple[int, ...] = ()
    recent: tuple[int, ...] = ()
    expected: tuple[float, ...] = ()


@dataclass(frozen=True)
class Alarm:
    """A pair's alarm going on (`raised`) or off at a site time."""

    pair: Pair
    time_s: float
    raised: bool


def observe(state: PairDrift, delay_bin: int, log_r: float) -> PairDrift:
    """What is remembered after one more link, of this delay, that the table before it gave this log r."""
    if state.alarmed:
        expected = (*state.expected, log_r)[-CALM_LINKS:]
        recent = (*state.recent, delay_bin)[-RECENT:]
        if len(expected) == CALM_LINKS and sum(expected) / CALM_LINKS >= CALM_LOG_R:
            return PairDrift(reference=recent)
        return replace(state, recent=recent, expected=expected)
    recent = (*state.recent, delay_bin)
    reference = (*state.reference, *recent[:-RECENT])[-REFERENCE:]
    recent = recent[-RECENT:]
    if len(recent) == RECENT and len(reference) >= LEAST_REFERENCE:
        worth = RECENT * len(reference) / (RECENT + len(reference))
        if distance(recent, reference) * math.sqrt(worth) >= ALARM_AT:
            return PairDrift(True, (), recent)
    return PairDrift(False, reference, recent)


def distance(a: Sequence[int], b: Sequence[int]) -> float:
    """Largest distance of the cumulative distributions of two samples, neither empty, in [0, 1].

    >>> distance([1, 2], [1, 2]), distance([1, 2], [3, 4]), distance([1, 3], [2, 4])
    (0.0, 1.0, 0.5)
    """
    first, second = np.sort(a), np.sort(b)
    at = np.concatenate([first, second])
    shares = (np.searchsorted(x, at, side="right") / len(x) for x in (first, second))
    return float(np.abs(np.subtract(*shares)).max())
