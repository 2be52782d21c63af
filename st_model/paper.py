"""The published space-time score (mode `paper`) and its calibrated counterpart, over image pairs of a closed data set.

Wang et al., "Spatial-Temporal Person Re-identification", AAAI 2019, sections 3.2 and 3.3, and the authors' code: a
histogram of delays per ordered pair of cameras, smoothed by a Gaussian (Parzen) window, joined with the cosine by a
product of two logistics. What depends on the table alone is worked out once per table, never per pair of images.

Axes are [to, from, bin] for densities (later camera, earlier camera, delay) and [query, gallery, signed bin] for
look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from st_model.market1501 import CAMERAS, MarketImages, image_gaps, mean_gaps

BIN_FRAMES = 100  # published code
BINS = 5000  # published code
SIGMA_BINS = 50.0  # published code; the calibrated score uses its own
GAMMA_APPEARANCE = 5.0  # paper, section 4.1 (gamma0; lambda0 is 1)
LAMBDA_TRANSITION, GAMMA_TRANSITION = 2.0, 5.0  # paper, section 4.1 (lambda1, gamma1)

CALIBRATED_SIGMA_BINS = 2.0
CALIBRATED_FLOOR = 0.1
"""Bandwidth and uniform share of the calibrated density: within .02 nats of the best of 1, 2, 3, 5, 10, 20, 50 bins and
.02 to .4 by the likelihood of held-out people (ten folds over the 751 training people, names only; log-likelihood ratio
against a uniform delay 3.97 nats, with the paper's mean gaps, 5 bins and .2: 3.62)."""

Floats = NDArray[np.floating]
"""float32 for speed, or float64 where exactness is asked for; both streams in the same."""
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DelayTable:
    """A number per (query camera, gallery camera, delay): look-up costs one index.

    values  (CAMERAS, CAMERAS, 2 * bins + 2) [query, gallery, slot]. Slot bins + 1 + k: query later by k bins;
            slot bins - k: query not later, k bins apart; the two end slots: further apart than the horizon.
    """

    values: Floats

    @property
    def bins(self) -> int:
        """Bins on each side."""
        return int(self.values.shape[2]) // 2 - 1

    def rows(self, queries: MarketImages, gallery: MarketImages) -> Iterator[Floats]:
        """The values of one query after the other against the whole gallery, (G,) each; the array is reused."""
        bins, width = self.bins, self.values.shape[2]
        frames = gallery.frame.astype(np.float64)
        base = gallery.camera * width + bins
        gap = np.empty(len(gallery))
        later = np.empty(len(gallery), np.bool_)
        slot = np.empty(len(gallery), np.intp)
        out = np.empty(len(gallery), self.values.dtype)
        flat = np.ascontiguousarray(self.values.reshape(CAMERAS, -1))
        for camera, frame in zip(queries.camera.tolist(), queries.frame.tolist(), strict=True):
            np.subtract(frame, frames, out=gap)
            np.greater(gap, 0.0, out=later)
            np.divide(gap, BIN_FRAMES, out=gap)  # float64: exact floors for all whole frames
            np.clip(gap, -bins, bins, out=gap)
            np.copyto(slot, gap, casting="unsafe")  # towards zero: floor of the delay on either side
            np.add(slot, later, out=slot)
            np.add(slot, base, out=slot)
            np.take(flat[camera], slot, out=out, mode="clip")  # slots are in range; "clip" only skips a check
            yield out

    def dense(self, queries: MarketImages, gallery: MarketImages) -> Floats:
        """(Q, G) of all values at once."""
        out = np.empty((len(queries), len(gallery)), self.values.dtype)
        for row, values in zip(out, self.rows(queries, gallery), strict=True):
            row[:] = values
        return out


def histogram(to: NDArray[np.intp], frm: NDArray[np.intp], gap: Doubles, weight: Doubles | None = None) -> Doubles:
    """Count delays into (CAMERAS, CAMERAS, BINS) [to, from, bin]; those beyond the horizon are left out.

    >>> counts = histogram(np.array([1]), np.array([0]), np.array([250.0]))
    >>> float(counts[1, 0, 2]), float(counts.sum())
    (1.0, 1.0)
    """
    delay_bin = (gap / BIN_FRAMES).astype(np.intp)
    inside = delay_bin < BINS
    cell = ((to * CAMERAS + frm) * BINS + delay_bin)[inside]
    counted = np.bincount(cell, None if weight is None else weight[inside], minlength=CAMERAS * CAMERAS * BINS)
    return counted.reshape(CAMERAS, CAMERAS, BINS).astype(np.float64)


def parzen(counts: Doubles, sigma_bins: float) -> Doubles:
    """Smooth each row of (..., bins): normalise, Gaussian window cut at 3 sigma inclusive, mass beyond the ends
    dropped, normalise again. Each sum has 1e-7 added, as published, so an empty row stays zero.

    Only occupied bins are spread, so the cost follows the evidence and not the horizon.
    """
    bins = counts.shape[-1]
    reach = int(3 * sigma_bins)
    offset = np.arange(-reach, reach + 1)
    window = np.exp(-(offset**2) / (2 * sigma_bins**2)) / (sigma_bins * np.sqrt(2 * np.pi))
    out = np.zeros_like(counts)
    for row in np.ndindex(counts.shape[:-1]):
        occupied = np.flatnonzero(counts[row])
        if not len(occupied):
            continue
        share = counts[row][occupied] / (counts[row].sum() + 1e-7)
        slots = occupied[:, None] + offset[None, :] + reach
        spread = np.bincount(slots.ravel(), (share[:, None] * window).ravel(), minlength=bins + 2 * reach)
        smooth = spread[reach : reach + bins]
        out[row] = smooth / (smooth.sum() + 1e-7)
    return out


def paper_density(training: MarketImages, sigma_bins: float = SIGMA_BINS) -> Doubles:
    """The published table (CAMERAS, CAMERAS, BINS) [to, from, bin] of labelled training names."""
    return parzen(histogram(*mean_gaps(training)), sigma_bins)


def delay_table(density: Doubles, outside: float = 0.0, dtype: type[np.floating] = np.float32) -> DelayTable:
    """Lay [to, from, bin] out for look-ups; `outside` is the value beyond the horizon."""
    bins = density.shape[-1]
    values = np.full((CAMERAS, CAMERAS, 2 * bins + 2), outside, dtype)
    values[:, :, bins + 1 : -1] = density
    values[:, :, 1 : bins + 1] = density.swapaxes(0, 1)[:, :, ::-1]
    return DelayTable(values)


def paper_weights(density: Doubles, dtype: type[np.floating] = np.float32) -> DelayTable:
    """The transition's logistic of every table cell: 1 / (1 + lambda1 exp(-gamma1 p))."""
    weights = 1.0 / (1.0 + LAMBDA_TRANSITION * np.exp(-GAMMA_TRANSITION * density))
    return delay_table(weights, 1.0 / (1.0 + LAMBDA_TRANSITION), dtype)


def constant_density(value: float) -> Doubles:
    """A control: `value` for every two different cameras and any delay, 0 inside a camera."""
    return np.where(np.eye(CAMERAS, dtype=bool), 0.0, value)[:, :, None] * np.ones(BINS)


def mean_peak(density: Doubles) -> float:
    """Mean maximum of the filled rows: the constant that gives a control the dynamic range of the table."""
    peaks = density.max(axis=-1)
    return float(peaks[peaks > 0].mean()) if (peaks > 0).any() else 0.0


def join_paper(similarity: Floats, weights: DelayTable, queries: MarketImages, gallery: MarketImages) -> Floats:
    """Turn (Q, G) cosines into the published joint score, in place; returns the same array, values in (0, 1)."""
    for row, weight in zip(similarity, weights.rows(queries, gallery), strict=True):
        np.multiply(row, -GAMMA_APPEARANCE, out=row)
        np.exp(row, out=row)
        np.add(row, 1.0, out=row)
        np.divide(weight, row, out=row)
    return similarity


def calibrated_ratio(training: MarketImages, background: MarketImages) -> DelayTable:
    """r of every (query camera, gallery camera, delay): how much more often one person makes this delay than two
    people.

    The delay of one person is a signed density per unordered pair of cameras (which way people walk counts too) from
    the gaps between images of the training names, with a uniform floor; it is divided by what two arbitrary images of
    `background` (unlabelled: only cameras and times are read) show on average, so that r says nothing on average.
    Inside a camera, and beyond the horizon, r is the floor.
    """
    counts = histogram(*image_gaps(training))
    total = counts.sum(axis=-1)
    both = total + total.T
    share = np.divide(total, both, out=np.zeros_like(total), where=both > 0)
    signed = parzen(counts, CALIBRATED_SIGMA_BINS) * share[:, :, None] * (2 * BINS)
    table = delay_table(signed)
    mean = _mean_value(table, background)
    ratio = CALIBRATED_FLOOR + (1 - CALIBRATED_FLOOR) * table.values / np.float32(mean)
    unseen = (both == 0) & ~np.eye(CAMERAS, dtype=bool)
    ratio[unseen] = 1.0  # a pair of cameras without evidence says nothing
    return DelayTable(ratio)


def _mean_value(table: DelayTable, images: MarketImages) -> float:
    """Mean value over pairs of images in two different cameras; 1 when there is none or all are zero."""
    some = images.take(np.linspace(0, len(images) - 1, min(len(images), 300)).astype(np.intp))
    total, pairs = 0.0, 0
    for camera, row in zip(some.camera, table.rows(some, images), strict=True):
        other = images.camera != camera
        total += float(row[other].sum(dtype=np.float64))
        pairs += int(other.sum())
    return total / pairs if total > 0 else 1.0


def join_calibrated(
    similarity: Floats,
    log_ratio: DelayTable,
    slope: float,
    intercept: float,
    queries: MarketImages,
    gallery: MarketImages,
) -> Floats:
    """Turn (Q, G) cosines into log-odds that two images are one person, slope s + intercept + log r, in place."""
    for row, evidence in zip(similarity, log_ratio.rows(queries, gallery), strict=True):
        np.multiply(row, slope, out=row)
        np.add(row, evidence, out=row)
        np.add(row, intercept, out=row)
    return similarity
