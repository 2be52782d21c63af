"""`calibrate`: how well an encoder's log-odds fit a site, before and after a fit that needs no labels.

The fit is `appearance.calibrate_by_time`. How often pairs of a given score show one person is read off the pairs that
are close in time: strangers are as frequent in them, score by score, as in pairs far apart. With the truth at hand the
same
diagram is drawn from labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from st_model.appearance import NEAR_S, calibrate_by_time
from st_model.calibration import Calibration, Reliability, fit_platt, reliability
from st_model.sightings import Sighting


class TooFewStays(ValueError):
    """Not enough closed stays to say anything."""


@dataclass(frozen=True)
class CalibrationReport:
    """Calibrations and their reliability diagrams; `labelled` only when the truth was given.

    before, after  diagrams of the calibration in use and of the fitted one, on pairs balanced as many same as different
    stays, pairs   how many closed stays and pairs of stays they are made of
    """

    used: Calibration
    fitted: Calibration
    labelled: Calibration | None
    before: Reliability
    after: Reliability
    stays: int
    pairs: int


def calibrate(
    sightings: Sequence[Sighting],
    used: Calibration,
    persons: dict[tuple[str, int], str] | None = None,
    least_stays: int = 20,
) -> CalibrationReport:
    """Fit slope and offset of raw cosines from the closed rows. Raises TooFewStays below `least_stays`.

    persons  (camera, track_id) -> person, the truth, for comparison: the fit never sees it
    """
    last = list({s.key: s for s in sightings if s.closed}.values())
    if len(last) < least_stays:
        raise TooFewStays(f"calibration needs at least {least_stays} closed stays, got {len(last)}")
    vectors = np.stack([s.embedding for s in last])
    cameras = np.array([s.camera for s in last])
    entered, left = np.array([s.entered_s for s in last]), np.array([s.last_s for s in last])
    fitted, _ = calibrate_by_time(vectors, cameras, entered, left)
    i, j = np.triu_indices(len(last), 1)
    cosine = (vectors @ vectors.T)[i, j].astype(np.float64)
    labelled = None
    if persons is not None:
        names = np.array([persons.get(s.key, f"? {s.key}") for s in last])
        same = (names[i] == names[j]).astype(np.float64)
        weight = np.where(same > 0, 1.0 / max(same.sum(), 1.0), 1.0 / max((1 - same).sum(), 1.0))
        labelled = fit_platt(cosine, same, weight)
    else:
        same, weight = _by_time(cosine, cameras, entered, left, i, j)
    diagrams = [reliability(expit(c.g0 * cosine + c.b0), same, weight) for c in (used, fitted)]
    return CalibrationReport(used, fitted, labelled, diagrams[0], diagrams[1], len(last), len(cosine))


def _by_time(
    cosine: NDArray[np.float64],
    cameras: NDArray[np.str_],
    entered_s: NDArray[np.float64],
    last_s: NDArray[np.float64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(share that is one person, weight) of each pair by its cosine's bin; classes balanced."""
    gap = np.maximum(entered_s[i], entered_s[j]) - np.minimum(last_s[i], last_s[j])
    near = (gap <= NEAR_S) & ~((gap < 0) & (cameras[i] == cameras[j]))
    far = ~near
    edges = np.linspace(-1.0, 1.0, 41)
    bin_ = np.clip(np.digitize(cosine, edges) - 1, 0, 39)
    n_near, n_far = np.bincount(bin_[near], minlength=40), np.bincount(bin_[far], minlength=40)
    middle = np.median(cosine[far]) if far.any() else 0.0
    ratio = float((near & (cosine < middle)).sum()) / max(float((far & (cosine < middle)).sum()), 1.0)
    one = np.maximum(n_near - ratio * n_far, 0.0)
    strangers = n_far / max(float(n_far.sum()), 1.0)
    one = one / max(float(one.sum()), 1e-300)
    share = one / np.maximum(one + strangers, 1e-300)
    per_pair = (one + strangers) / np.maximum(n_near + n_far, 1)
    return share[bin_], per_pair[bin_]
