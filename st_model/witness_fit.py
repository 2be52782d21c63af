"""Slope and offset of appearance from the times alone: who can, who may, and who hardly will be the same person.

Every pair of stays belongs to a crowd: `apart` (twice in view in one camera: two people), or one of several by the gap
in time (one person is likelier the nearer). Given whether a pair is one person, its similarity does not depend on the
crowd, so all of them are mixtures of the same two distributions, one person's and strangers', in shares of
their own. With log-odds linear in similarity, same(z) = strangers(z) exp(a z + b), and the share q_c of crowd c,

    crowd_c(z) proportional to strangers(z) (1 - q_c + q_c exp(a z + b))

The strangers' distribution cancels in "which crowd is a pair of similarity z from"; a, b and the shares are those under
which that is most likely (an exponential tilt model: Anderson, Biometrika 1979; here with unknown shares). No label is
read. z is the similarity in units of the strangers' spread, so that the gentle priors fit any encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

EDGES = np.linspace(-4.0, 16.0, 401)
MIDDLE = (EDGES[1:] + EDGES[:-1]) / 2
USUAL_SLOPE, SLOPE_SPREAD = 2.0, 0.5
"""Prior of log a: labelled fits give 1.1 to 1.5 (market_stream), 2 to 5 (worlds of sightings)."""
USUAL_ZERO, ZERO_SPREAD = 2.2, 0.3
"""Prior of the z at which both are equally likely: labelled fits give 1.7 to 3.5."""
APART_SHARE, SHARE_SPREAD, APART_SPREAD = -6.5, 1.5, 1.0
"""Priors of the log-odds of shares: `apart` holds hardly anybody twice (a double box); of the other crowds the nearest
holds one person in one pair of thirteen, the farthest in one of 250."""
NEAREST_SHARE, FARTHEST_SHARE = -2.5, -5.5
STARTS = ((1.4, -3.5), (3.5, -8.0))


class WitnessFit(NamedTuple):
    """log-odds of one person = slope z + offset; pairs that are one person have z `same_z` on average."""

    slope: float
    offset: float
    same_z: float


def fit_by_crowds(
    apart: NDArray[np.float64], by_gap: Sequence[NDArray[np.float64]], independent: float = np.inf
) -> WitnessFit:
    """Most likely slope and offset for the similarities z of pairs: of those apart, and of those nearer and farther in
    time, nearest first; two such crowds at least, any of which may be empty. All of them together count as at most
    `independent` pairs: those of one stay are not independent of each other.

    >>> rng = np.random.default_rng(0)
    >>> strangers = rng.normal(size=30_000)
    >>> same = rng.normal(4.0, 1.0, 2_000)     # log-odds of unit Gaussians 4 apart: 4 z - 8
    >>> fit = fit_by_crowds(strangers[:4000], [np.append(same, strangers[4000:9000]), strangers[9000:]])
    >>> abs(fit.slope - 4) < 0.5, abs(fit.offset / fit.slope + 2) < 0.15, abs(fit.same_z - 4) < 0.2
    (True, True, True)
    """
    usual = np.array([APART_SHARE, *np.linspace(NEAREST_SHARE, FARTHEST_SHARE, len(by_gap))])
    spread = np.array([APART_SPREAD, *[SHARE_SPREAD] * len(by_gap)])
    counts = np.stack([np.histogram(z.clip(EDGES[0], EDGES[-1]), EDGES)[0] for z in (apart, *by_gap)]).astype(float)
    seen = counts.any(axis=0)
    z, counts = MIDDLE[seen], counts[:, seen]
    size = counts.sum(axis=1)
    worth = min(1.0, independent / max(float(size.sum()), 1.0))

    def loss(p: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        a, b, shares = p[0], p[1], p[2:]
        q = expit(shares)[:, None]
        tilt = np.exp(np.clip(a * z + b, -30.0, 30.0))
        mixed = size[:, None] * (1.0 - q + q * tilt)
        total = mixed.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = -worth * float(np.where(counts > 0, counts * np.log(mixed / total), 0.0).sum())
            pull = worth * (np.where(mixed > 0, counts / mixed, 0.0) - counts.sum(axis=0) / total)
        by_share = (pull * size[:, None] * (tilt - 1.0)).sum(axis=1) * (q * (1.0 - q))[:, 0]
        by_tilt = (pull * size[:, None] * q).sum(axis=0) * tilt
        off = np.log(a / USUAL_SLOPE) / SLOPE_SPREAD
        zero = (-b / a - USUAL_ZERO) / ZERO_SPREAD
        share = (shares - usual) / spread
        value += 0.5 * float(off**2 + zero**2 + share @ share)
        slopes = np.empty_like(p)
        slopes[0] = -float((by_tilt * z).sum()) + off / SLOPE_SPREAD / a + zero / ZERO_SPREAD * b / a**2
        slopes[1] = -float(by_tilt.sum()) - zero / ZERO_SPREAD / a
        slopes[2:] = -by_share + share / spread
        return value, slopes

    bounds = [(0.7, 5.0), (-25.0, 0.0), (-12.0, -3.0), *[(-12.0, 2.0)] * len(by_gap)]
    found = [minimize(loss, np.array([*start, *usual]), jac=True, method="L-BFGS-B", bounds=bounds) for start in STARTS]
    best = min(found, key=lambda r: r.fun).x
    slope, offset, q = float(best[0]), float(best[1]), expit(best[3:])[:, None]
    tilt = np.exp(np.clip(slope * z + offset, -30.0, 30.0))
    same = (counts[1:] * q * tilt / (1.0 - q + q * tilt)).sum(axis=0)
    mass = float(same.sum())
    return WitnessFit(slope, offset, float((same * z).sum()) / mass if mass > 0 else -offset / slope)
