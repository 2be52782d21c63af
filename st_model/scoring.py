"""The joint score of appearance and space-time, published (`paper`) and calibrated, and probabilities over candidates.

Source of the published product: Wang, Lai, Huang, Xie, "Spatial-Temporal Person Re-identification", AAAI 2019, eq. 5-7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float32] | NDArray[np.float64]


def logistic_smoothing(x: Floats | float, lambda_: float, gamma: float) -> NDArray[np.float64]:
    """1 / (1 + lambda exp(-gamma x)), the paper's smoothing of one stream.

    >>> float(logistic_smoothing(0.0, 1.0, 5.0))
    0.5
    """
    return np.asarray(1.0 / (1.0 + lambda_ * np.exp(-gamma * np.asarray(x, np.float64))))


def joint_paper(
    cosine: Floats | float,
    transition: Floats | float,
    *,
    lambda0: float = 1.0,
    gamma0: float = 5.0,
    lambda1: float = 2.0,
    gamma1: float = 5.0,
) -> NDArray[np.float64]:
    """The published product of two logistics; `transition` is the smoothed probability of the delay's bin.

    >>> float(joint_paper(1.0, 0.0).round(4))
    0.3311
    """
    return logistic_smoothing(cosine, lambda0, gamma0) * logistic_smoothing(transition, lambda1, gamma1)


def log_odds(
    cosine: Floats | float, log_r: Floats | float, *, g0: float, b0: float, g1: float = 1.0
) -> NDArray[np.float64]:
    """g0 s + b0 + g1 log r: log-odds of "one person" before priors.

    >>> float(log_odds(0.6, 0.0, g0=20.0, b0=-12.0))
    0.0
    """
    return np.asarray(g0 * np.asarray(cosine, np.float64) + b0 + g1 * np.asarray(log_r, np.float64))


def joint_calibrated(
    cosine: Floats | float,
    log_r: Floats | float,
    *,
    g0: float,
    b0: float,
    g1: float = 1.0,
    face: Floats | float = 0.0,
) -> NDArray[np.float64]:
    """Logistic of the summed log-odds, (0, 1). face: what faces add (`st_model.faces.face_term`), 0 where none is.

    >>> float(joint_calibrated(0.6, 0.0, g0=20.0, b0=-12.0))
    0.5
    """
    return np.asarray(expit(log_odds(cosine, log_r, g0=g0, b0=b0, g1=g1) + face))


def probabilities(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalise log-weights of all hypotheses (NEW among them) to probabilities of sum 1; -inf is impossible.

    >>> probabilities(np.array([0.0, 0.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    top = np.max(log_weights)
    weights = np.exp(log_weights - top)
    return np.asarray(weights / weights.sum())
