"""From cosine to log-odds: logistic (Platt) fits per encoder, with and without labels, and how good they are.

Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999; expected calibration error: Guo et al., ICML
2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


@dataclass(frozen=True)
class Calibration:
    """Log-odds that two sightings show one person, before priors: g0 x cosine + b0.

    Raises ValueError unless g0 is positive and both are finite.

    >>> Calibration(20.0, -12.0).log_odds(0.6)
    0.0
    """

    g0: float
    b0: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.g0) and np.isfinite(self.b0) and self.g0 > 0):
            raise ValueError(f"a calibration needs finite g0 > 0 and b0, got {self.g0} and {self.b0}")

    def log_odds(self, cosine: float) -> float:
        """Log-odds of one cosine."""
        return self.g0 * cosine + self.b0


DEFAULTS: dict[str, Calibration] = {
    "pair": Calibration(18.0, -9.5),
    "retail-0277": Calibration(15.0, -7.0),
    "retail-0287": Calibration(14.0, -6.5),
    "osnet": Calibration(22.0, -14.0),
    # Two rendered sites of 15 people: pairs F1 .47 and .54, against .14 and .27 with (20, -15).
    "stripes": Calibration(30.0, -22.0),
}
"""Starting points per encoder, on raw cosines: between labelled fits of stays of vcam_dev (10 people, two cameras) and
of
pku_reid (74 people, two cameras), rounded. `pair` 17.0, -9.9 and 42.6, -15.4; `retail-0277` 14.3, -7.3 and 37.5, -10.3;
`retail-0287` 13.0, -6.6 and 38.8, -10.0; `osnet` 29.0, -22.4 and 34.1, -20.5, pooled 22.3, -13.9; `stripes` 34.4,
-29.0 and
12.0, -7.8. They differ that much from site to site: that is why a site fits its own after a while."""


def calibration_for(encoder: str) -> Calibration:
    """The default of an encoder by name, or by what its name contains; an unknown one gets that of `pair`.

    >>> calibration_for("person-reidentification-retail-0277") == DEFAULTS["retail-0277"]
    True
    """
    return next((c for name, c in DEFAULTS.items() if name in encoder), DEFAULTS["pair"])


def fit_platt(
    cosine: NDArray[np.float64], same: NDArray[np.float64], weight: NDArray[np.float64], *, ridge: float = 1e-6
) -> Calibration | None:
    """Weighted logistic regression of `same` ([0, 1], may be fractional) on `cosine`; None when the data do not decide
    it.

    cosine, same, weight  (N,) float64. The caller balances the classes by weight: then 0 is "equally likely".

    >>> s = np.array([0.0, 0.1, 0.2, 0.5, 0.6, 0.15, 0.55]); y = np.array([0, 0, 0, 1, 1, 1, 0.0])
    >>> fit = fit_platt(s, y, np.ones(7)); fit is not None and fit.log_odds(0.0) < 0 < fit.log_odds(0.6)
    True
    """
    total = float(weight.sum())
    if total <= 0 or not 0.0 < float((weight * same).sum()) < total:
        return None
    x = np.stack([cosine, np.ones_like(cosine)], axis=1)
    theta = np.zeros(2)
    penalty = ridge * np.eye(2)
    for _ in range(100):  # Newton; converges in about ten steps
        p = expit(x @ theta)
        gradient = x.T @ (weight * (p - same)) / total + penalty @ theta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x / total + penalty
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 5.0 / float(np.abs(step).max() + 1e-300))
        theta = theta - step
        if float(np.abs(step).max()) < 1e-9:
            break
    if not np.isfinite(theta).all() or theta[0] <= 0:
        return None
    return Calibration(float(theta[0]), float(theta[1]))


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram: per bin of predicted probability the mean prediction, the observed share and the weight.

    edges (B+1,), predicted (B,), observed (B,), weight (B,) float64; NaN in an empty bin.
    error: expected calibration error, the weighted mean of |predicted - observed|.
    """

    edges: NDArray[np.float64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    weight: NDArray[np.float64]
    error: float


def reliability(
    probability: NDArray[np.float64],
    same: NDArray[np.float64],
    weight: NDArray[np.float64] | None = None,
    bins: int = 10,
) -> Reliability:
    """Compare predicted probabilities (N,) with what was true (N,) in [0, 1].

    >>> reliability(np.array([0.05, 0.95]), np.array([0.0, 1.0])).error.__round__(3)
    0.05
    """
    w = np.ones(len(probability)) if weight is None else weight
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.digitize(probability, edges) - 1, 0, bins - 1)
    mass = np.bincount(index, w, bins).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted = np.bincount(index, w * probability, bins) / mass
        observed = np.bincount(index, w * same, bins) / mass
    gaps = np.where(mass > 0, np.abs(predicted - observed), 0.0)
    error = float((gaps * mass).sum() / mass.sum()) if mass.sum() > 0 else 0.0
    return Reliability(edges, predicted, observed, mass, error)
