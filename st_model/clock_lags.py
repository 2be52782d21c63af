"""Camera clocks that disagree, from stays and their looks: also by most of an hour, which no table holds.

Take every pair of a stay of one camera and a stay of any other: their lag (difference of their middle times), weighted
by the probability that they show one person, from appearance alone. Strangers give a lag as often as the two cameras
have pairs there; one person's stays pile up where the camera's clock is off against the rest of the site. So per camera
and span of its time: where the histogram stands out above what its number of pairs explains. No label and no decision
is read, and nothing is corrected.

What it cannot say. Walking is in it: a camera that people mostly reach last reads late by tens of seconds, all day
(`USUAL_LAG_S`). All offsets are against the other cameras together. Where one of many is off, the others still agree
with each other and stay at 0; where two jump together they agree with each other, and are seen only while the rest
outnumber them; with two cameras both move, in opposite directions, and nobody can say whose clock it was. A clock that
is set back lives the same time twice. A span that holds both halves has two peaks: it is not supported, or says what
the larger half says, so the step may be dated one span late.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from st_model.appearance import fit_basis
from st_model.calibration import Calibration
from st_model.clocks import ClockStep

SPAN_S = 2400.0
LEAST_STAYS = 10
"""A span with fewer takes the next one in."""
REACH_S = 4500.0
"""Longest lag looked at, either way."""
BIN_S = 30.0
SMOOTH_BINS = 7
"""A peak is as wide as this: 210 s, for the walks between neighbours."""
NEAR_BINS = 6
"""The offset is the mean lag of the pairs so many bins either way of the peak."""
RIVAL_BINS = 14
"""So far away from the peak another one is no shoulder of it."""
PRIOR_LOG_ODDS = float(np.log(1e-3))
"""Of a pair before it was looked at: about one in a thousand shows one person."""
LEAST_PAIRS, LEAST_BINS = 20, 20
"""Pairs around a bin, and such bins, from which their median says how much strangers weigh."""
LEAST_EXCESS, LEAST_Z = 4.0, 6.0
"""Pairs above the background, and standard deviations of it, that make a peak."""
MOST_RIVAL = 0.6
"""Of the peak that another one may have before nobody can say which is the clock's."""
USUAL_LAG_S = 25.0
"""Traffic is not equal both ways: root mean square of what the cameras of market_stream whose clocks agree read."""
STEP_COST = 16.0
"""A step is told when it explains the spans better by a chi-squared of this: four standard errors."""
MOST_OWN, MOST_OTHERS, ROWS = 512, 4096, 64
"""Stays of a span that are compared, evenly spread over it, with how many others, and how many at once: memory for
float64 of `ROWS` x `MOST_OTHERS` pairs and `MOST_OTHERS` vectors, however long the run."""
MOST_FITTED = 4096
"""Latest stays the basis is fitted to."""


@dataclass(frozen=True)
class LagSpan:
    """What one span of a camera's time says about its clock.

    from_s, to_s  the span, in the camera's own time, seconds
    lag_s         clock against all other cameras, seconds: positive is ahead (late readings)
    error_s       one standard error from the number of pairs and their spread; walking (`USUAL_LAG_S`) comes on top
    evidence      pairs of one person at the peak, above the background
    background    pairs of strangers expected there (sum of their probabilities)
    rival         height of the highest peak elsewhere, as a share of this one
    supported     the peak stands out and has no rival; otherwise `lag_s` means nothing
    """

    camera: str
    from_s: float
    to_s: float
    lag_s: float
    error_s: float
    evidence: float
    background: float
    rival: float
    supported: bool


def lags_of_stays(
    cameras: Sequence[str],
    entered_s: NDArray[np.float64],
    last_s: NDArray[np.float64],
    embeddings: NDArray[np.float32],
    *,
    span_s: float = SPAN_S,
    least_stays: int = LEAST_STAYS,
) -> list[LagSpan]:
    """`clock_lags` of N closed stays with raw embeddings (N, D) float32 unit rows; the basis and the calibration are
    fitted to the latest `MOST_FITTED` of them, without labels. Times (N,) float64 seconds. Raises ValueError like it.
    """
    order = _checked(cameras, entered_s, last_s, embeddings)
    if len(set(cameras)) < 2 or not np.ptp(embeddings, axis=0).any():
        return []  # nobody to compare with, or everybody looks the same to the last bit
    names = [cameras[k] for k in order]
    rows, begun, ended = embeddings[order], entered_s[order], last_s[order]
    n = -MOST_FITTED
    fitted = len(names[n:])
    basis = fit_basis(names[n:], rows[n:], begun[n:], ended[n:], whiten=True, stays=fitted)
    vectors = basis.vectors(names, rows)
    return clock_lags(names, begun, ended, vectors, basis.calibration, span_s=span_s, least_stays=least_stays)


def clock_lags(
    cameras: Sequence[str],
    entered_s: NDArray[np.float64],
    last_s: NDArray[np.float64],
    vectors: NDArray[np.float32],
    calibration: Calibration,
    *,
    span_s: float = SPAN_S,
    least_stays: int = LEAST_STAYS,
) -> list[LagSpan]:
    """Clock of every camera against the others, span by span, sorted by camera and time.

    N stays in any order: times (N,) float64 seconds, vectors (N, D) unit rows whose dot products `calibration` turns
    into log-odds. Spans of `span_s` seconds begin at the first stay of all; one with fewer than `least_stays` takes the
    next in, and what is left over at the end is not told. Raises ValueError when arrays do not fit or are not finite,
    or `span_s` is not positive.

    >>> rng = np.random.default_rng(0)
    >>> looks, at_s = np.linalg.qr(rng.normal(size=(80, 80)))[0], rng.uniform(0, 2000, 80)
    >>> late_s = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 900.0}     # everybody is seen by all four, d's clock is ahead
    >>> times = np.concatenate([at_s + rng.normal(0, 20, 80) + late_s[c] for c in "abcd"])
    >>> spans = clock_lags(sorted("abcd" * 80), times, times + 4, np.tile(looks, (4, 1)), Calibration(40.0, -20.0))
    >>> [(s.camera, round(s.lag_s / 10)) for s in spans if s.supported and s.from_s < 1000]
    [('a', 0), ('b', 0), ('c', 0), ('d', 90)]
    """
    _checked(cameras, entered_s, last_s, vectors)
    if not span_s > 0:
        raise ValueError(f"a span must last longer than nothing, got {span_s} s")
    middle = (entered_s + last_s) / 2
    names = np.asarray(cameras)
    out = []
    for camera in sorted(set(cameras)):
        own = np.flatnonzero(names == camera)
        others = np.flatnonzero(names != camera)
        own, others = (rows[np.argsort(middle[rows], kind="stable")] for rows in (own, others))
        for first, end in _spans(middle[own], float(middle.min()), span_s, least_stays):
            here = own[(middle[own] >= first) & (middle[own] < end)]
            there = others[(middle[others] >= first - REACH_S) & (middle[others] < end + REACH_S)]
            here, there = _thinned(here, MOST_OWN), _thinned(there, MOST_OTHERS)
            if len(there):
                sums = _histogram(middle, vectors, here, there, calibration)
                out.append(LagSpan(camera, first, end, *_peak(*sums)))
    return out


def lag_steps(spans: Sequence[LagSpan], least_step_s: float = 60.0) -> list[ClockStep]:
    """From when on which offset: supported spans of a camera, cut where that explains them best; by camera and time.

    What a span reads wanders by walking that changes with the hours (`USUAL_LAG_S`), so one span alone shows steps from
    some 150 s on, several in a row smaller ones; none below `least_step_s` is told apart. The error of an offset
    includes walking. Moments are those of the spans: a step lies in the span before, or in this one.

    >>> told = [(0.0, 5.0), (2400.0, -8.0), (4800.0, -3190.0), (7200.0, -3205.0)]
    >>> spans = [LagSpan("c", t, t + 2400.0, lag_s, 10.0, 30.0, 2.0, 0.1, True) for t, lag_s in told]
    >>> [(s.from_s, round(s.offset_s, 1), round(s.error_s, 1)) for s in lag_steps(spans)]
    [(0.0, -1.5, 26.0), (4800.0, -3197.5, 26.0)]
    """
    out: list[ClockStep] = []
    for camera in sorted({s.camera for s in spans}):
        told = sorted((s for s in spans if s.camera == camera and s.supported), key=lambda s: s.from_s)
        pieces = _pieces(told) if told else []
        while len(pieces) > 1:
            level = [_mean(piece)[0] for piece in pieces]
            k = int(np.argmin(np.abs(np.diff(level))))
            if abs(level[k + 1] - level[k]) >= least_step_s:
                break
            pieces[k : k + 2] = [pieces[k] + pieces[k + 1]]
        for piece in pieces:
            offset_s, error_s = _mean(piece)
            out.append(ClockStep(camera, piece[0].from_s, offset_s, float(np.hypot(error_s, USUAL_LAG_S))))
    return out


def _pieces(spans: Sequence[LagSpan]) -> list[list[LagSpan]]:
    """Spans cut into pieces of one level each: least squares, at `STEP_COST` a piece, exact."""
    lag = np.array([s.lag_s for s in spans])
    weight = 1.0 / (np.array([s.error_s for s in spans]) ** 2 + USUAL_LAG_S**2)
    w, wx, wxx = (np.concatenate([[0.0], np.cumsum(weight * lag**k)]) for k in range(3))
    best, cut = np.zeros(len(spans) + 1), np.zeros(len(spans) + 1, int)
    for end in range(1, len(spans) + 1):
        residual = wxx[end] - wxx[:end] - (wx[end] - wx[:end]) ** 2 / (w[end] - w[:end])
        cost = best[:end] + residual + STEP_COST
        cut[end] = int(np.argmin(cost))
        best[end] = cost[cut[end]]
    out, end = [], len(spans)
    while end:
        out.append(list(spans[cut[end] : end]))
        end = int(cut[end])
    return out[::-1]


def _mean(run: Sequence[LagSpan]) -> tuple[float, float]:
    """Mean lag of spans, weighted by their precision, and its standard error."""
    weight = np.array([1.0 / max(s.error_s, 1.0) ** 2 for s in run])
    lag_s = np.array([s.lag_s for s in run])
    return float(weight @ lag_s / weight.sum()), float(weight.sum() ** -0.5)


def _checked(
    cameras: Sequence[str],
    entered_s: NDArray[np.float64],
    last_s: NDArray[np.float64],
    vectors: NDArray[np.float32],
) -> NDArray[np.intp]:
    """(N,) the order of time. Raises ValueError."""
    n = len(cameras)
    if entered_s.shape != (n,) or last_s.shape != (n,) or vectors.ndim != 2 or len(vectors) != n:
        shapes = f"{entered_s.shape}, {last_s.shape} and {vectors.shape}"
        raise ValueError(f"{n} stays need times (N,), (N,) and vectors (N, D), got {shapes}")
    if not (np.isfinite(entered_s).all() and np.isfinite(last_s).all() and np.isfinite(vectors).all()):
        raise ValueError("times and vectors must be finite")
    return np.argsort(entered_s + last_s, kind="stable")


def _spans(
    middle_s: NDArray[np.float64], first_s: float, span_s: float, least_stays: int
) -> Iterator[tuple[float, float]]:
    """(begin, end) of spans with enough of the sorted times, seconds."""
    cell = np.floor((middle_s - first_s) / span_s).astype(np.int64)
    begin, held = None, 0
    for k, n in zip(*np.unique(cell, return_counts=True), strict=True):
        begin, held = (int(k) if begin is None else begin), held + int(n)
        if held >= least_stays:
            yield first_s + begin * span_s, first_s + (int(k) + 1) * span_s
            begin, held = None, 0


def _thinned(rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.intp)]


def _histogram(
    middle_s: NDArray[np.float64],
    vectors: NDArray[np.float32],
    own: NDArray[np.intp],
    others: NDArray[np.intp],
    calibration: Calibration,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per bin of lag: (bins,) pairs; (3, bins) sums of their probability, times lag, times lag squared."""
    bins = round(2 * REACH_S / BIN_S)
    pairs, sums = np.zeros(bins), np.zeros((3, bins))
    theirs = vectors[others].astype(np.float64)
    for start in range(0, len(own), ROWS):
        mine = own[start : start + ROWS]
        lag = middle_s[mine][:, None] - middle_s[others][None]
        same = expit(calibration.g0 * (vectors[mine].astype(np.float64) @ theirs.T) + calibration.b0 + PRIOR_LOG_ODDS)
        inside = (lag >= -REACH_S) & (lag < REACH_S)
        lag, same = lag[inside], same[inside]
        at = np.minimum(((lag + REACH_S) / BIN_S).astype(np.int64), bins - 1)
        pairs += np.bincount(at, minlength=bins)
        for k in range(3):
            sums[k] += np.bincount(at, same * lag**k, minlength=bins)
    return pairs, sums


def _peak(pairs: NDArray[np.float64], sums: NDArray[np.float64]) -> tuple[float, float, float, float, float, bool]:
    """(lag_s, error_s, evidence, background, rival, supported) of one histogram."""
    box = np.ones(SMOOTH_BINS)
    height, around = np.convolve(sums[0], box, "same"), np.convolve(pairs, box, "same")
    full = around >= LEAST_PAIRS
    enough = int(full.sum()) >= LEAST_BINS
    rate = float(np.median(height[full] / around[full])) if enough else float(sums[0].sum() / max(pairs.sum(), 1.0))
    above = height - rate * around
    top = np.flatnonzero(above >= above.max() - 1e-9)
    peak = int(top[len(top) // 2])  # a lone pair makes a plateau: its middle is the pair
    distance = np.abs(np.arange(len(pairs)) - peak)
    far = distance > RIVAL_BINS
    if pairs[far].sum():
        # Few pairs have mostly no weight, and a median of them says less than strangers weigh.
        rate = max(rate, float(sums[0][far].sum() / pairs[far].sum()))
    above = height - rate * around
    spread = np.sqrt(np.maximum(rate * around, 0.5))
    noise = max(1.0, 1.4826 * float(np.median(np.abs(above / spread)[full]))) if enough else 1.0
    evidence = float(above[peak])
    rival = float(above[far].max()) / evidence if evidence > 0 and far.any() else 0.0
    weight, first, second = sums[:, distance <= NEAR_BINS].sum(axis=1)
    lag_s = float(first / weight) if weight > 0 else 0.0
    variance = max(float(second / weight) - lag_s**2, 0.0) if weight > 0 else REACH_S**2
    error_s = float(np.sqrt((variance + BIN_S**2 / 12) / max(float(weight), 1.0)))
    sure = evidence >= LEAST_EXCESS and evidence >= LEAST_Z * noise * float(spread[peak])
    return lag_s, error_s, evidence, rate * float(around[peak]), max(rival, 0.0), bool(sure and rival <= MOST_RIVAL)
