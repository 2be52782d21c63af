"""Camera clocks that disagree, estimated from the transition tables alone.

If camera b's clock is D ahead of a's, somebody who walks from a to b for t seconds is measured at t + D, somebody who
walks
back at t - D. Put both directions on one axis (the way back mirrored): the mass lies around D, whatever t is, as long
as
people walk both ways; views that overlap sit at D itself. One number per pair, as many equations as pairs, one unknown
per camera: a robust least-squares fit gives every camera's offset, and cycles of three cameras say how well they agree.
Nothing is corrected here: offsets are reported, and applied only on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from st_model.transitions import ONE, TransitionTables

LEAST_LINKS = 4.0
"""Observations a pair needs near its mode."""
MODE_SIGMA_S = 60.0
MODE_REACH_S = 400.0
"""Walking times between neighbours spread over about this much around the mode."""
LEAST_SHARE = 0.1
"""Of a pair's links that go the rarer way, so that both ways are used."""
USUAL_BIAS_S = 5.0
"""Traffic is not equal both ways: the middle of a pair is uncertain by at least this much."""


@dataclass(frozen=True)
class PairOffset:
    """How far the clock of `second` is ahead of that of `first`, by their own transitions: seconds, and standard
    error.
    """

    first: str
    second: str
    offset_s: float
    error_s: float
    links: float


@dataclass(frozen=True)
class ClockOffset:
    """A camera's clock against the site's: positive is ahead (late readings), negative is early.

    error_s      one standard error, inflated by how much the pairs contradict each other
    supported    False where no pair connects the camera with the others: the offset is then 0 and means nothing
    """

    camera: str
    offset_s: float
    error_s: float
    supported: bool = True


def pair_offsets(tables: TransitionTables, epochs: Sequence[int] | None = None) -> list[PairOffset]:
    """Offsets of all pairs with enough evidence in the given epochs (all of them when None), sorted by name."""
    cameras = sorted({c for pair in tables.pairs() for c in pair})
    out = []
    for n, a in enumerate(cameras):
        for b in cameras[n + 1 :]:
            delay, weight = _both_ways(tables, a, b, epochs)
            found = _middle(delay, weight, tables.settings.bin_s)
            if found is not None:
                out.append(PairOffset(a, b, *found))
    return out


def clock_offsets(tables: TransitionTables, epochs: Sequence[int] | None = None) -> list[ClockOffset]:
    """Offset of every camera, so that the median camera is right; sorted by name.

    >>> from st_model.transitions import Increment, TableSettings
    >>> axes = TableSettings(horizon_s=400.0)
    >>> tables = TransitionTables(axes)
    >>> walks = [("a", "b", 140.0), ("a", "b", 100.0), ("c", "b", 120.0), ("a", "c", 20.0), ("c", "a", 20.0)]
    >>> tables.add([Increment(a, b, 0, axes.bin_of(t), 20 * ONE) for a, b, t in walks])
    >>> [(c.camera, round(c.offset_s)) for c in clock_offsets(tables)]
    [('a', 0), ('b', 121), ('c', 0)]
    """
    cameras = sorted({c for pair in tables.pairs() for c in pair})
    pairs = pair_offsets(tables, epochs)
    joined = _connected(cameras, pairs)
    index = {c: n for n, c in enumerate(cameras)}
    if not pairs:
        return [ClockOffset(c, 0.0, np.inf, False) for c in cameras]
    design = np.zeros((len(pairs), len(cameras)))
    for row, p in enumerate(pairs):
        design[row, index[p.second]], design[row, index[p.first]] = 1.0, -1.0
    measured = np.array([p.offset_s for p in pairs])
    error = np.array([p.error_s for p in pairs])
    weight = 1.0 / error**2
    offset = np.zeros(len(cameras))
    for _ in range(50):  # iteratively reweighted: a pair with a wrong mode must not bend all others (L1)
        root = np.sqrt(weight)[:, None]
        offset = np.linalg.lstsq(design * root, measured * root[:, 0], rcond=1e-10)[0]
        residual = np.abs(measured - design @ offset) / error
        updated = 1.0 / error**2 / np.maximum(residual, 1.0)
        if np.allclose(updated, weight, rtol=1e-6):
            break
        weight = updated
    covariance = np.linalg.pinv(design.T @ (design * weight[:, None]), rcond=1e-10)
    freedom = max(len(pairs) - len(cameras) + 1, 1)
    inflation = max(1.0, float((weight * (measured - design @ offset) ** 2).sum()) / freedom)
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0) * inflation)
    supported = [c in joined for c in cameras]
    offset -= np.median(offset[supported])
    return [
        ClockOffset(c, float(offset[n]), float(sd[n]), True) if supported[n] else ClockOffset(c, 0.0, np.inf, False)
        for n, c in enumerate(cameras)
    ]


@dataclass(frozen=True)
class CycleResidual:
    """What is left when the offsets of three pairs are added up around a triangle: seconds, and its standard error."""

    cameras: tuple[str, str, str]
    residual_s: float
    error_s: float


def cycle_residuals(pairs: Sequence[PairOffset]) -> list[CycleResidual]:
    """All triangles of the pairs given. Far from 0 compared with its error: one of the three has a wrong mode."""
    known = {(p.first, p.second): p for p in pairs}
    cameras = sorted({c for key in known for c in key})
    out = []
    for i, a in enumerate(cameras):
        for j, b in enumerate(cameras[i + 1 :], i + 1):
            for c in cameras[j + 1 :]:
                if (a, b) in known and (b, c) in known and (a, c) in known:
                    ab, bc, ac = known[a, b], known[b, c], known[a, c]
                    error = float(np.sqrt(ab.error_s**2 + bc.error_s**2 + ac.error_s**2))
                    out.append(CycleResidual((a, b, c), ab.offset_s + bc.offset_s - ac.offset_s, error))
    return out


@dataclass(frozen=True)
class ClockStep:
    """From `from_s` on, a camera's offset is about this (until its next step)."""

    camera: str
    from_s: float
    offset_s: float
    error_s: float


def clock_steps(tables: TransitionTables, least_step_s: float = 60.0) -> list[ClockStep]:
    """Offsets epoch by epoch, joined while they agree within `least_step_s`: shows from when on a clock was wrong.

    A single epoch that agrees with neither of its neighbours is left out: a few wrong links look like that, and a
    clock that jumped stays where it is. So a jump shows once two epochs have seen it.

    Use tables with short epochs (for instance `epoch_s=1200`): the moments are known to within one epoch.
    """
    seen: dict[str, list[_Epoch]] = {}
    for epoch in tables.epochs():
        for c in clock_offsets(tables, [epoch]):
            if c.supported:
                seen.setdefault(c.camera, []).append((epoch, c.offset_s, c.error_s))
    out = []
    for camera, rows in sorted(seen.items()):
        runs = _joined(rows, least_step_s)
        lasting = [row for run in runs if len(run) > 1 for row in run]
        for run in _joined(lasting, least_step_s) if lasting else runs:
            offsets, errors = np.array([offset for _, offset, _ in run]), [error for _, _, error in run]
            spread = 1.4826 * float(np.median(np.abs(offsets - np.median(offsets))))
            error = max(spread, float(np.median(errors))) / np.sqrt(len(run))
            begin_s = run[0][0] * tables.settings.epoch_s
            out.append(ClockStep(camera, begin_s, float(np.median(offsets)), float(error)))
    return out


_Epoch = tuple[int, float, float]
"""(epoch, offset, error)"""


def _joined(rows: Sequence[_Epoch], least_step_s: float) -> list[list[_Epoch]]:
    """Runs of epochs whose offsets agree with the median of those before them in the run."""
    runs: list[list[_Epoch]] = []
    for row in rows:
        if runs and abs(float(np.median([offset for _, offset, _ in runs[-1]])) - row[1]) < least_step_s:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _both_ways(
    tables: TransitionTables, a: str, b: str, epochs: Sequence[int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(delays, weights), each (2, bins): from a to b, and back with its sign turned."""
    axes = tables.settings
    middle = axes.origin_s + (np.arange(axes.bins) + 0.5) * axes.bin_s
    rows = []
    for pair in ((a, b), (b, a)):
        rows.append(np.maximum(tables.counts(*pair, epochs), 0) / ONE)
    return np.stack([middle, -middle]), np.stack(rows)


def _middle(delay: NDArray[np.float64], weight: NDArray[np.float64], bin_s: float) -> tuple[float, float, float] | None:
    """(middle around the mode, standard error, links) of signed delays (2, bins); None without a clear mode.

    Half way between the medians of the two directions: one median of both together would lie in whichever direction a
    few more people took. With one direction only it is that one's median.
    """
    seen = weight > 0
    x, w = delay[seen], weight[seen]
    if w.sum() < LEAST_LINKS:
        return None
    height = (w[None] * np.exp(-0.5 * ((x[:, None] - x[None]) / MODE_SIGMA_S) ** 2)).sum(axis=1)
    near = seen & (np.abs(delay - x[int(np.argmax(height))]) <= MODE_REACH_S)
    links = weight.sum(axis=1, where=near)
    total = float(links.sum())
    if total < LEAST_LINKS:
        return None
    if links.min() >= max(LEAST_SHARE * total, 1.0):
        found = [_median(delay[way][near[way]], weight[way][near[way]]) for way in (0, 1)]
    else:
        found = [_median(delay[near], weight[near])]
    middle = sum(m for m, _ in found) / len(found)
    error = float(np.sqrt(sum(e**2 for _, e in found) / len(found) ** 2 + USUAL_BIAS_S**2 + bin_s**2 / 12))
    return middle, error, total


def _median(x: NDArray[np.float64], w: NDArray[np.float64]) -> tuple[float, float]:
    """Weighted median and its standard error."""
    order = np.argsort(x, kind="stable")
    x, w = x[order], w[order]
    mass = np.cumsum(w)
    total = float(mass[-1])
    half = np.searchsorted(mass, [total / 2.0 * (1 - 1e-9), total / 2.0 * (1 + 1e-9)])
    middle = float(x[np.minimum(half, len(x) - 1)].mean())
    spread = float(np.sqrt((w * (x - middle) ** 2).sum() / total))
    return middle, 1.2533 * spread / float(np.sqrt(total))


def _connected(cameras: Sequence[str], pairs: Sequence[PairOffset]) -> set[str]:
    """The largest set of cameras connected by pairs (of equal ones the first by name)."""
    best: set[str] = set()
    for start in cameras:
        found, frontier = {start}, [start]
        while frontier:
            here = frontier.pop()
            for p in pairs:
                if here in (p.first, p.second):
                    other = p.second if here == p.first else p.first
                    if other not in found:
                        found.add(other)
                        frontier.append(other)
        if len(found) > len(best):
            best = found
    return best if len(best) > 1 else set()
