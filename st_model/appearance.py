"""The space embeddings are compared in: centred per camera, whitened, and calibrated, all learnt without labels.

Sightings carry raw embeddings. Until enough stays were seen they are compared as they are, with the encoder's shipped
calibration. Then, at fixed numbers of closed stays, a new basis is fitted to the recent ones:

- the mean of each camera is subtracted, which removes much of the colour shift between cameras;
- the covariance of all stays is flattened (partial whitening), so that directions in which everybody of this site is
  alike count less: for a network that never saw the site it raises the true pairs found at one false one in a thousand
  from .26 to .36 (market_stream, labels used only to measure);
- the slope and offset are refitted by comparing pairs close in time with pairs far apart: no labels.

Between two fits the basis is constant, so a replay of the same sightings gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from st_model.calibration import Calibration
from st_model.witness_fit import fit_by_crowds

CENTRE_SHRINK = 10.0
"""A camera's mean is pulled towards the site's mean as by this many stays."""
WHITEN_RIDGE = 0.1
"""Added to the eigenvalues, as a share of the largest. Measured on six cameras: .05 to .1 best, 0.2 as good as .1 for a
network that knows the site."""

RETURN_DOUBT = 1.5
"""Nats against somebody coming back into the view just left: strangers in one camera share pose, light and background,
and false detections come back to the same place. On market_stream (labels used only to measure) links within a camera
said .81 were right in .45 to .65, those between cameras in .89 and more; in the worlds both were right."""
BROKEN_S = 1.0
"""Within so long it is a broken track that goes on, not a return."""


def return_doubt(same_camera: NDArray[np.bool_] | bool, delay_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """(N,) nats to take from the log-odds of links with these delays, or of one.

    >>> return_doubt(np.array([True, True, False]), np.array([0.4, 9.0, 9.0]))
    array([0. , 1.5, 0. ])
    """
    return np.where(same_camera & (delay_s > BROKEN_S), RETURN_DOUBT, 0.0)


@dataclass(frozen=True, eq=False)
class Basis:
    """How raw embeddings become the vectors whose dot product is scored.

    site_mean    (D,) or None: not centred
    means        camera -> (D,) mean, for cameras seen; others get the site mean
    projection   (D, D) float32 or None: not whitened
    calibration  of cosines in this basis
    stays        number of closed stays it was fitted to
    agreement    cosine expected of two stays of one person, or None when not known

    >>> raw = Basis(None, {}, None, Calibration(20.0, -12.0), 0)
    >>> raw.vector("lobby", np.array([0.6, 0.8], np.float32))
    array([0.6, 0.8], dtype=float32)
    """

    site_mean: NDArray[np.float32] | None
    means: dict[str, NDArray[np.float32]]
    projection: NDArray[np.float32] | None
    calibration: Calibration
    stays: int
    agreement: float | None = None

    def vector(self, camera: str, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """(D,) float32 unit vector of one embedding."""
        return np.asarray(self.vectors([camera], embedding[None])[0])

    def vectors(self, cameras: Sequence[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) float32 unit rows of N embeddings taken by `cameras`."""
        if self.site_mean is None:
            return embeddings
        means = np.stack([self.means.get(c, self.site_mean) for c in cameras])
        out = _unit(embeddings - means)
        if self.projection is None:
            return out
        # One row at a time: a product of many rows rounds differently, and a matcher that was restored computes at once
        # what it computed before one by one.
        return _unit(np.stack([row @ self.projection for row in out]))


def raw_basis(calibration: Calibration) -> Basis:
    """Embeddings as they come."""
    return Basis(None, {}, None, calibration, 0)


def fit_basis(
    cameras: Sequence[str],
    embeddings: NDArray[np.float32],
    entered_s: NDArray[np.float64],
    last_s: NDArray[np.float64],
    *,
    whiten: bool,
    stays: int,
) -> Basis:
    """Basis of N recent closed stays: embeddings (N, D) float32 unit rows, times (N,) float64 seconds."""
    site_mean = embeddings.mean(axis=0, dtype=np.float64)
    means = {}
    names = np.asarray(cameras)
    for camera in sorted(set(cameras)):
        own = embeddings[names == camera]
        total = own.sum(axis=0, dtype=np.float64) + CENTRE_SHRINK * site_mean
        means[camera] = (total / (len(own) + CENTRE_SHRINK)).astype(np.float32)
    basis = Basis(site_mean.astype(np.float32), means, None, Calibration(1.0, 0.0), stays)
    vectors = basis.vectors(cameras, embeddings)
    projection = None
    if whiten:
        projection = _whitening(vectors)
        vectors = _unit(vectors @ projection)
    calibration, agreement = calibrate_by_time(vectors, names, entered_s, last_s)
    return Basis(basis.site_mean, means, projection, calibration, stays, agreement)


def _whitening(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    covariance = vectors.T.astype(np.float64) @ vectors.astype(np.float64) / len(vectors)
    values, axes = np.linalg.eigh(covariance)
    ridge = WHITEN_RIDGE * max(float(values[-1]), 1e-9)  # an encoder that says the same of everybody has no spread
    return np.asarray(axes * (np.maximum(values, 0.0) + ridge) ** -0.5, dtype=np.float32)


GAPS_S = (20.0, 100.0, 500.0)
"""Pairs are grouped by their gap in time: one person's share falls from each group to the next."""
PAIRS_A_STAY = 40.0
"""Independent pairs that a stay is worth in the fit."""
TWIN_S = 1.0
"""Stays of one camera that overlap by more are two people; by less, a broken track's twins."""
MOST_STAYS = 1500
"""Latest stays looked at: a million pairs."""


def calibrate_by_time(
    vectors: NDArray[np.float32], cameras: NDArray[np.str_], entered_s: NDArray[np.float64], last_s: NDArray[np.float64]
) -> tuple[Calibration, float]:
    """Slope and offset from the times alone (`witness_fit`), and the mean cosine of two stays of one person."""
    v, cam, t0, t1 = vectors[-MOST_STAYS:], cameras[-MOST_STAYS:], entered_s[-MOST_STAYS:], last_s[-MOST_STAYS:]
    i, j = np.triu_indices(len(v), 1)
    cosine = (v @ v.T)[i, j].astype(np.float64)
    gap = np.maximum(t0[i], t0[j]) - np.minimum(t1[i], t1[j])
    together = (gap < 0) & (cam[i] == cam[j])
    apart = together & (gap < -TWIN_S)
    crowds = np.digitize(gap, GAPS_S)
    others = cosine[~together]
    median = float(np.median(others)) if len(others) else 0.0
    low = others[others < median]  # below it nearly all are strangers
    spread = max(float(np.sqrt(np.mean((low - median) ** 2))) if len(low) else 0.1, 1e-6)
    z = (cosine - median) / spread
    fit = fit_by_crowds(z[apart], [z[(crowds == k) & ~together] for k in range(len(GAPS_S) + 1)], PAIRS_A_STAY * len(v))
    slope = fit.slope / spread
    agreement = median + spread * fit.same_z
    return Calibration(slope, fit.offset - slope * median), min(max(agreement, 0.0), 0.95)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norm = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return np.asarray(rows / np.maximum(norm, 1e-6)[:, None], dtype=np.float32)
