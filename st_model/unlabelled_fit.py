"""Slope and intercept of appearance without labels: time is the witness.

Delay and appearance of two images are independent once one knows whether they show one person. So among pairs of
similarity s, the delay ratio r (how much more often one person makes this delay than two people do) follows

    p(r | s) proportional to 1 + P(s) (r - 1),      P(s) = 1 / (1 + exp(-(slope s + intercept)))

and slope and intercept are those under which the observed r are most likely. No label is read, and no assumption is
made on how similarities are spread; only the delay table must come from elsewhere (training names, or links of the
past).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit


class AppearanceFit(NamedTuple):
    """log-odds of one person = slope * similarity + intercept."""

    slope: float
    intercept: float


def fit_by_delays(similarity: NDArray[np.floating], ratio: NDArray[np.floating]) -> AppearanceFit:
    """Most likely slope (> 0) and intercept for pairs of (N,) similarities and (N,) delay ratios r >= 0.

    Pairs may be selected by similarity (the best of each query, say), never by delay. Raises ValueError when arrays do
    not fit, are empty or not finite, or when the delays say nothing about similarity (all r = 1, or no positive slope).
    """
    if similarity.shape != ratio.shape or similarity.ndim != 1 or not len(similarity):
        raise ValueError(f"similarities and ratios must be equal (N,), got {similarity.shape} and {ratio.shape}")
    if not (np.isfinite(similarity).all() and np.isfinite(ratio).all() and (ratio >= 0).all()):
        raise ValueError("similarities and ratios must be finite, ratios not negative")
    centre, spread = float(similarity.mean()), float(similarity.std())
    excess = ratio.astype(np.float64) - 1.0
    if spread == 0 or not excess.any():
        raise ValueError("delays say nothing here: all similarities or all ratios are the same")
    z = (similarity.astype(np.float64) - centre) / spread

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        p = expit(parameters[0] * z + parameters[1])
        likelihood = np.maximum(1.0 + p * excess, 1e-12)
        pull = p * (1.0 - p) * excess / likelihood
        return -float(np.log(likelihood).mean()), -np.array([(pull * z).mean(), pull.mean()])

    starts = (np.array([1.0, -3.0]), np.array([4.0, -8.0]))  # a weak and a strong network; the better end is kept
    best = min((minimize(loss, start, jac=True, method="L-BFGS-B") for start in starts), key=lambda found: found.fun)
    slope, intercept = float(best.x[0]) / spread, float(best.x[1])
    if not slope > 0:
        raise ValueError("no positive slope explains the delays: wrong table, clocks or features")
    return AppearanceFit(slope, intercept - slope * centre)
