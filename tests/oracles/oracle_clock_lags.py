"""Lags of stays the slow way: one loop per pair, straight from the definitions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from st_model import clock_lags as fast
from st_model.calibration import Calibration


def slow_histogram(
    middle_s: Sequence[float],
    vectors: Sequence[Sequence[float]],
    own: Sequence[int],
    others: Sequence[int],
    calibration: Calibration,
) -> tuple[list[float], list[list[float]]]:
    """Pairs per bin of lag, and per bin the probabilities, lags and squared lags of those pairs."""
    bins = round(2 * fast.REACH_S / fast.BIN_S)
    pairs, sums = [0.0] * bins, [[0.0] * bins for _ in range(3)]
    for i in own:
        for j in others:
            lag = middle_s[i] - middle_s[j]
            if not -fast.REACH_S <= lag < fast.REACH_S:
                continue
            cosine = sum(float(a) * float(b) for a, b in zip(vectors[i], vectors[j], strict=True))
            log_odds = calibration.g0 * cosine + calibration.b0 + math.log(1e-3)
            same = 1.0 / (1.0 + math.exp(-log_odds))
            at = min(int((lag + fast.REACH_S) / fast.BIN_S), bins - 1)
            pairs[at] += 1
            for k in range(3):
                sums[k][at] += same * lag**k
    return pairs, sums


def slow_peak(pairs: Sequence[float], sums: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """(lag_s, error_s, evidence, background) of one histogram."""
    half = fast.SMOOTH_BINS // 2
    bins = range(len(pairs))
    around = [sum(pairs[max(b - half, 0) : b + half + 1]) for b in bins]
    height = [sum(sums[0][max(b - half, 0) : b + half + 1]) for b in bins]
    full = [height[b] / around[b] for b in bins if around[b] >= fast.LEAST_PAIRS]
    rate = statistics.median(full) if len(full) >= fast.LEAST_BINS else sum(sums[0]) / max(sum(pairs), 1)
    above = [height[b] - rate * around[b] for b in bins]
    top = [b for b in bins if above[b] >= max(above) - 1e-9]
    peak = top[len(top) // 2]
    far = [b for b in bins if abs(b - peak) > fast.RIVAL_BINS]
    if sum(pairs[b] for b in far):
        rate = max(rate, sum(sums[0][b] for b in far) / sum(pairs[b] for b in far))
    weight, first, second = (sum(s[b] for b in bins if abs(b - peak) <= fast.NEAR_BINS) for s in sums)
    if weight <= 0:
        lag_s, variance = 0.0, fast.REACH_S**2
    else:
        lag_s = first / weight
        variance = max(second / weight - lag_s**2, 0.0)
    error_s = math.sqrt((variance + fast.BIN_S**2 / 12) / max(weight, 1.0))
    return lag_s, error_s, height[peak] - rate * around[peak], rate * around[peak]
