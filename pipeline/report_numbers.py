"""The sums behind the report: people in view over time, flows between cameras, delays. Pure, over whole columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_MOST_BINS = 160  # a bar is then still wider than a pixel on a phone


@dataclass(frozen=True)
class Flow:
    """Moves from one camera to another: how many, their delays' quartiles in seconds, the median probability."""

    from_camera: int
    to_camera: int
    count: int
    lower_s: float
    median_s: float
    upper_s: float
    probability: float


def bin_width_s(span_s: float) -> float:
    """A round width that cuts a span into at most 160 bins.

    >>> bin_width_s(60.0), bin_width_s(3600.0), bin_width_s(86400.0)
    (0.5, 30.0, 600.0)
    """
    fitting = (float(step) for step in _STEPS_S if span_s / step <= _MOST_BINS)
    return next(fitting, 86400.0 * np.ceil(span_s / 86400.0 / _MOST_BINS))


def mean_in_view(entered_s: Floats, left_s: Floats, edges_s: Floats) -> Floats:
    """(B,) mean number of people in view in each bin between the (B+1,) edges: seconds in view over seconds.

    entered_s, left_s  (N,) of the stays, in any order, left_s >= entered_s

    >>> mean_in_view(np.array([0.0, 1.0]), np.array([2.0, 1.5]), np.array([0.0, 1.0, 2.0]))
    array([1. , 1.5])
    """
    return np.diff(_seconds_since(entered_s, edges_s) - _seconds_since(left_s, edges_s)) / np.diff(edges_s)


def _seconds_since(starts_s: Floats, at_s: Floats) -> Floats:
    """(K,) sum over all starts before each moment of the time since then."""
    ordered = np.sort(starts_s)
    before = np.searchsorted(ordered, at_s)
    return np.asarray(before * at_s - np.concatenate([[0.0], np.cumsum(ordered)])[before], np.float64)


def most_in_view(entered_s: Floats, left_s: Floats) -> int:
    """The largest number of stays at one moment; somebody who leaves as another enters was there together with them.

    >>> most_in_view(np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 6.0]))
    2
    """
    if not len(entered_s):
        return 0
    moments = np.concatenate([entered_s, left_s])
    change = np.concatenate([np.ones(len(entered_s), np.int64), -np.ones(len(left_s), np.int64)])
    return int(np.cumsum(change[np.lexsort((-change, moments))]).max())


def medians_by_bin(values: Floats, bins: NDArray[np.intp], count: int) -> Floats:
    """(count,) median of the values that fall into each bin; NaN in an empty one.

    >>> medians_by_bin(np.array([1.0, 3.0, 9.0]), np.array([0, 0, 2]), 3)
    array([ 2., nan,  9.])
    """
    out = np.full(count, np.nan)
    order = np.lexsort((values, bins))
    ordered, where = values[order], bins[order]
    for n in np.unique(where):
        low, high = np.searchsorted(where, [n, n + 1])
        out[n] = np.median(ordered[low:high])
    return out


def flows(from_camera: NDArray[np.intp], to_camera: NDArray[np.intp], delay_s: Floats, sure: Floats) -> list[Flow]:
    """One Flow per ordered pair of cameras (given by number), the busiest first."""
    found = []
    key = from_camera.astype(np.int64) * (1 + int(to_camera.max(initial=0))) + to_camera
    order = np.argsort(key, kind="stable")
    _, starts = np.unique(key[order], return_index=True)
    for rows in np.split(order, starts[1:]) if len(order) else ():
        lower, median, upper = np.quantile(delay_s[rows], [0.25, 0.5, 0.75])
        origin, to = int(from_camera[rows[0]]), int(to_camera[rows[0]])
        found.append(Flow(origin, to, len(rows), lower, median, upper, float(np.median(sure[rows]))))
    return sorted(found, key=lambda flow: (-flow.count, flow.from_camera, flow.to_camera))


def numbered(names: Sequence[str], column: Sequence[str]) -> NDArray[np.intp]:
    """The place of each text of a column in `names`."""
    place = {name: n for n, name in enumerate(names)}
    return np.array([place[name] for name in column], np.intp)
