"""Colour and texture by body stripe: an encoder without weights, for demos, tests and machines without a network.

Clothes are worn in layers, so a person is described from head to feet by horizontal stripes; each holds histograms of
hue, of grey level and of edge direction. Square roots of histograms (Hellinger) make the cosine a Bhattacharyya
coefficient. In the line of Gray & Tao, "Viewpoint invariant pedestrian recognition with an ensemble of localized
features", ECCV 2008, with weights toward the middle as in Farenzena et al., CVPR 2010.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid.encoders import Preprocessing, resized

HEIGHT_PX, WIDTH_PX = 96, 40
STRIPES = 8
HUES, GREYS, EDGES = 12, 8, 6


class StripesEncoder:
    """See the module; nothing to load."""

    name = "stripes"
    dim = STRIPES * (HUES + GREYS + EDGES)

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        size = Preprocessing(height_px=HEIGHT_PX, width_px=WIDTH_PX, rgb=False)
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        return np.stack([_describe(image) for image in resized(crops, size)])


def _describe(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.float32)
    hue, saturation, value = hsv[..., 0] / 180, hsv[..., 1] / 255, hsv[..., 2] / 255
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.hypot(dx, dy)
    direction = (np.arctan2(dy, dx) / np.pi) % 1.0

    weight = _person_weight()
    colourful = saturation * np.sqrt(value)
    channels = (
        _stripe_histograms(hue, weight * colourful, HUES, circular=True),
        _stripe_histograms(value, weight * (1 - colourful), GREYS, circular=False),
        0.1 * _stripe_histograms(direction, weight * strength / (strength.mean() + 1.0), EDGES, circular=True),
    )
    histogram = np.concatenate(channels, axis=1)
    histogram /= histogram.sum(axis=1, keepdims=True) + 1e-6
    vector = np.sqrt(histogram).ravel()
    return (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)


def _person_weight() -> NDArray[np.float32]:
    """(H, W): a crop's middle is the person, its sides are mostly background."""
    across = np.linspace(-1, 1, WIDTH_PX, dtype=np.float32)
    return np.repeat(np.exp(-0.5 * (across / 0.4) ** 2)[None], HEIGHT_PX, axis=0)


def _stripe_histograms(
    values: NDArray[np.floating], weights: NDArray[np.floating], bins: int, *, circular: bool
) -> NDArray[np.float32]:
    """(STRIPES, bins) histograms of values in [0, 1]; each value is shared by its two nearest bins, so that a small
    change of colour makes a small change of the descriptor."""
    position = values * bins - 0.5 if circular else values * (bins - 1)
    low = np.floor(position).astype(np.int64)
    share = position - low
    high = low + 1
    low, high = (low % bins, high % bins) if circular else (np.clip(low, 0, bins - 1), np.clip(high, 0, bins - 1))
    stripe = (np.arange(HEIGHT_PX) * STRIPES // HEIGHT_PX)[:, None] * bins
    flat = np.bincount((stripe + low).ravel(), (weights * (1 - share)).ravel(), STRIPES * bins)
    flat += np.bincount((stripe + high).ravel(), (weights * share).ravel(), STRIPES * bins)
    return flat.reshape(STRIPES, bins).astype(np.float32)
