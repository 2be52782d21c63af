"""Colour and texture by body stripe: an encoder without weights, for demos, tests and machines without a network.

Clothes are worn in layers, so a person is described from head to feet by horizontal stripes; each holds histograms of
hue, of grey level and of edge direction. Square roots of histograms (Hellinger) make the cosine a Bhattacharyya
coefficient. In the line of Gray & Tao, "Viewpoint invariant pedestrian recognition with an ensemble of localized
features", ECCV 2008. Every choice below was kept because it raised the same/different AUC across cameras on real crops
(PKU-Reid, two views of PETS 2009) as well as on rendered ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.encoders import Preprocessing, resized

HEIGHT_PX, WIDTH_PX = 96, 40
STRIPES = 12
HUES, GREYS, EDGES = 12, 8, 6

EDGE_SHARE = 0.3
"""Weight of texture beside colour."""

GREY_NORM = 6
"""Minkowski norm of the grey-edge family's "shades of grey": Finlayson & Trezzi, CIC 2004, who found 6 best."""

USUAL_BRIGHTNESS = 110.0
"""Mean level that crops are moved half of the way to; all of the way would make white and black clothes one."""

BACKGROUND_LAB = 30.0
"""Distance in CIELAB from the colours at the crop's sides at which a pixel counts half as a person."""

_SIZE = Preprocessing(height_px=HEIGHT_PX, width_px=WIDTH_PX, rgb=False)


class StripesEncoder:
    """See the module; nothing to load."""

    name = "stripes"
    dim = STRIPES * (HUES + GREYS + EDGES)

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        return np.stack([_describe(image) for image in resized(crops, _SIZE)])


def _describe(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(96, 40, 3) uint8 BGR -> (D,) unit."""
    import cv2

    colours = _without_cast(image)
    hsv = cv2.cvtColor(colours, cv2.COLOR_BGR2HSV)
    hue, saturation, value = hsv[..., 0] / 360, hsv[..., 1], hsv[..., 2]
    grey = cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.hypot(dx, dy)
    direction = (np.arctan2(dy, dx) / np.pi) % 1.0

    person = _person_weight(colours)
    # The hue of a dark or pale pixel is noise: it counts by how colourful it is, the rest goes to its grey level.
    colourful = saturation * np.sqrt(value)
    histograms = np.concatenate(
        (
            _stripe_histograms(hue, person * colourful, HUES, circular=True),
            _stripe_histograms(value, person * (1 - colourful), GREYS, circular=False),
            _stripe_histograms(direction, person * strength / (strength.mean() + 1 / 255), EDGES, circular=True)
            * EDGE_SHARE,
        ),
        axis=1,
    )
    histograms *= _STRIPE_SHARE / (histograms.sum(axis=1, keepdims=True) + 1e-6)
    vector = np.sqrt(histograms).ravel()
    # Square roots are positive, so any two crops look alike to a cosine; what an even histogram gives says nothing.
    vector -= (vector @ _EVEN) * _EVEN
    return (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)


def _without_cast(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 BGR -> float32 BGR in [0, 1] with the light's colour taken out and its brightness evened half-way."""
    pixels = image.astype(np.float32)
    light = np.maximum((pixels**GREY_NORM).mean(axis=(0, 1)) ** (1 / GREY_NORM), 1.0)
    pixels *= light.mean() / light
    pixels *= np.sqrt(USUAL_BRIGHTNESS / max(float(pixels.mean()), 1.0))
    evened: NDArray[np.float32] = np.clip(pixels, 0, 255) / np.float32(255)
    return evened


def _person_weight(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) in (0, 1]: high in the middle and where the colour is unlike that of the crop's sides at that height."""
    import cv2

    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)
    sides = (lab[:, :2].mean(axis=1, keepdims=True), lab[:, -2:].mean(axis=1, keepdims=True))
    away = [np.linalg.norm(lab - cv2.blur(side, (1, 9)).reshape(HEIGHT_PX, 1, 3), axis=2) for side in sides]
    unlike = np.minimum(away[0], away[1])
    weight: NDArray[np.float32] = _MIDDLE * (unlike / (unlike + BACKGROUND_LAB) + 0.1)
    return weight


def _stripe_histograms(
    values: NDArray[Any], weights: NDArray[Any], bins: int, *, circular: bool
) -> NDArray[np.float32]:
    """(STRIPES, bins) histograms of values in [0, 1]; each value is shared by its two nearest bins, so that a small
    change of colour makes a small change of the descriptor."""
    position = values * bins - 0.5 if circular else values * (bins - 1)
    low = np.floor(position).astype(np.int64)
    share = position - low
    high = low + 1
    low, high = (low % bins, high % bins) if circular else (low, np.minimum(high, bins - 1))
    flat = np.bincount((_FIRST_BIN * bins + low).ravel(), (weights * (1 - share)).ravel(), STRIPES * bins)
    flat += np.bincount((_FIRST_BIN * bins + high).ravel(), (weights * share).ravel(), STRIPES * bins)
    return flat.reshape(STRIPES, bins).astype(np.float32)


_MIDDLE: NDArray[np.float32] = np.exp(-0.5 * (np.linspace(-1, 1, WIDTH_PX, dtype=np.float32) / 0.4) ** 2)[None, :]
_STRIPE_SHARE = np.exp(-0.5 * (np.linspace(-1, 1, STRIPES, dtype=np.float32) / 0.8) ** 2)[:, None]
"""Head and feet are small, often cut, and surrounded by background: the trunk counts most."""
_EVEN = np.sqrt(
    np.repeat(_STRIPE_SHARE / _STRIPE_SHARE.sum() / (HUES + GREYS + EDGES), HUES + GREYS + EDGES, axis=1)
).ravel()
_FIRST_BIN = (np.arange(HEIGHT_PX) * STRIPES // HEIGHT_PX)[:, None]
