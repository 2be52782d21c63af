"""Transition tables the slow way: one loop per sum, straight from the definitions."""

from __future__ import annotations

import math

from st_model.density import WIDE_FACTOR, WIDE_SHARE
from st_model.transitions import ONE, Increment, TableSettings


def slow_counts(increments: list[Increment]) -> dict[tuple[str, str, int, int], int]:
    """Counts by (from, to, epoch, bin), zeros left out."""
    counts: dict[tuple[str, str, int, int], int] = {}
    for i in increments:
        key = (i.from_camera, i.to_camera, i.epoch, i.bin)
        counts[key] = counts.get(key, 0) + i.count
    return {key: n for key, n in counts.items() if n}


def slow_histogram(increments: list[Increment], pair: tuple[str, str], settings: TableSettings) -> list[float]:
    """Decayed observations per bin; the newest epoch of all increments is now."""
    now = max([0, *(i.epoch for i in increments)])
    out = []
    for b in range(settings.bins):
        total = 0.0
        for i in increments:
            if (i.from_camera, i.to_camera, i.bin) == (*pair, b):
                total += i.count * 2.0 ** (-(now - i.epoch) / settings.half_life_epochs)
        out.append(max(total, 0.0) / ONE)
    return out


def slow_smooth(histogram: list[float], sigma_bins: float) -> list[float]:
    """Every bin receives every observation within 3 sigma, weighted by a Gaussian of sum 1."""
    reach = int(3.0 * sigma_bins)
    norm = sum(math.exp(-0.5 * (k / sigma_bins) ** 2) for k in range(-reach, reach + 1))
    out = []
    for b in range(len(histogram)):
        total = 0.0
        for k in range(-reach, reach + 1):
            if 0 <= b - k < len(histogram):
                total += histogram[b - k] * math.exp(-0.5 * (k / sigma_bins) ** 2) / norm
        out.append(total)
    return out


def slow_density(increments: list[Increment], pair: tuple[str, str], settings: TableSettings) -> list[float]:
    """Floor plus Parzen, with the bandwidth and the floor that the evidence asks for."""
    histogram = slow_histogram(increments, pair, settings)
    evidence = sum(histogram)
    bins = len(histogram)
    if evidence <= 0:
        return [1.0 / bins] * bins
    sigma = settings.sigma_s / settings.bin_s * max(1.0, (settings.thin / max(evidence, 1.0)) ** 0.2)
    narrow, wide = slow_smooth(histogram, sigma), slow_smooth(histogram, sigma * WIDE_FACTOR)
    parzen = [(1 - WIDE_SHARE) * n + WIDE_SHARE * w for n, w in zip(narrow, wide, strict=True)]
    learnt = (1 - settings.floor) * evidence / (evidence + settings.floor_evidence)
    return [(1 - learnt) / bins + learnt * p / sum(parzen) for p in parzen]
