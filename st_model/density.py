"""From counts to densities: Parzen smoothing, floor and log-ratio. Pure functions on arrays.

Delay is measured from the exit in one camera to the entry in another; bin 0 starts at the table's origin.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CUT_SIGMAS = 3.0
"""The Gaussian window ends here, inclusive, as in the authors' code (Wang et al., AAAI 2019)."""

WIDE_FACTOR = 8.0
WIDE_SHARE = 0.3
"""A second, wider window carries part of the mass: walking times have longer tails than a Gaussian, and a first
observation must not turn its neighbourhood into evidence against. Values of a first try that held; not swept."""


@lru_cache(maxsize=256)
def gaussian_window(sigma_bins: float) -> NDArray[np.float64]:
    """Gaussian weights of sum 1 over bins -k..k, k = floor(3 sigma); read-only.

    >>> gaussian_window(0.2)
    array([1.])
    >>> gaussian_window(1.0).shape
    (7,)
    """
    reach = int(CUT_SIGMAS * sigma_bins)
    offset = np.arange(-reach, reach + 1, dtype=np.float64)
    window = np.exp(-0.5 * (offset / sigma_bins) ** 2)
    window /= window.sum()
    window.setflags(write=False)
    return window


def smooth(histogram: NDArray[np.float64], sigma_bins: float) -> NDArray[np.float64]:
    """Histogram convolved with the Gaussian window; mass that would leave the axis is cut off, not reflected.

    >>> smooth(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), 0.5).round(3)
    array([0.   , 0.107, 0.787, 0.107, 0.   ])
    """
    window = gaussian_window(sigma_bins)
    reach = len(window) // 2
    occupied = np.flatnonzero(histogram)
    out = np.zeros(len(histogram) + 2 * reach)
    if len(occupied) * 8 < len(histogram):  # few observations: place one window each instead of a full convolution
        for b in occupied:
            out[b : b + len(window)] += histogram[b] * window
    else:
        out = np.convolve(histogram, window)
    return out[reach : reach + len(histogram)]


def bandwidth(evidence: float, sigma_bins: float, thin: float) -> float:
    """Parzen sigma in bins: `sigma_bins` with ample evidence, wider while it is thin (n^(-1/5), Silverman 1986, 3.4).

    >>> bandwidth(1000.0, 2.0, thin=30.0)
    2.0
    >>> bandwidth(0.0, 2.0, thin=30.0) > bandwidth(5.0, 2.0, thin=30.0) > 2.0
    True
    """
    return sigma_bins * max(1.0, float((thin / max(evidence, 1.0)) ** 0.2))


def learnt_share(evidence: float, floor: float, floor_evidence: float, trust: float) -> float:
    """Share of the Parzen density in `density`, [0, 1); the rest is uniform.

    >>> learnt_share(2.0, 0.05, 2.0, 1.0)
    0.475
    """
    return trust * (1.0 - floor) * evidence / (evidence + floor_evidence)


def density(
    histogram: NDArray[np.float64],
    *,
    sigma_bins: float,
    thin: float,
    floor: float,
    floor_evidence: float,
    trust: float = 1.0,
) -> NDArray[np.float64]:
    """Probability per bin, shape of `histogram`, >= 0, sum 1.

    histogram       (bins,) observations per bin, decayed by age
    floor           share of the uniform that stays however much is seen: how strongly time can speak against
    floor_evidence  observations at which half of the remaining share is Parzen; an empty table is uniform
    trust           [0, 1], lowered while an alarm says that the pair changed

    >>> density(np.zeros(4), sigma_bins=1.0, thin=30.0, floor=0.1, floor_evidence=5.0)
    array([0.25, 0.25, 0.25, 0.25])
    """
    bins = len(histogram)
    evidence = float(histogram.sum())
    uniform = np.full(bins, 1.0 / bins)
    if evidence <= 0.0:
        return uniform
    sigma = bandwidth(evidence, sigma_bins, thin)
    narrow, wide = smooth(histogram, sigma), smooth(histogram, sigma * WIDE_FACTOR)
    parzen = (1.0 - WIDE_SHARE) * narrow + WIDE_SHARE * wide
    total = float(parzen.sum())
    learnt = learnt_share(evidence, floor, floor_evidence, trust)
    mixed = (1.0 - learnt) * uniform + learnt * parzen / total
    return np.asarray(mixed / mixed.sum())


def log_ratio(probability: NDArray[np.float64]) -> NDArray[np.float32]:
    """log r = log(density x horizon), dimensionless: 0 says nothing.

    >>> log_ratio(np.array([0.5, 0.25, 0.25])).round(3)
    array([ 0.405, -0.288, -0.288], dtype=float32)
    """
    return np.asarray(np.log(probability * len(probability)), dtype=np.float32)


def log_ratio_in_view(probability: NDArray[np.float64]) -> NDArray[np.float32]:
    """log r for an identity that is still in view: the mean of r over all delays up to this one.

    Its exit is not known yet; all that is known is that the delay will be at most (entry - last seen so far).
    """
    r = np.cumsum(probability * len(probability)) / np.arange(1, len(probability) + 1)
    return np.asarray(np.log(r), dtype=np.float32)
