"""Which branch of a dual backbone spoke: two weights per crop, which travel with its embedding.

An encoder whose `has_branches` is true has a method `weighed`, which gives both; ONNX exports carry the weights as a
second output of the name `OUTPUT`. Inside an encoder they stand behind the embedding, as two more columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reid.encoders import EncoderError, unit_rows

OUTPUT = "branch_weights"
"""Name of the second output of an export."""

_SUM = 1e-2
"""How far from 1 two weights may sum up to: float16 on a GPU keeps three digits."""

Crops = Sequence[NDArray[np.uint8]]
Weighed = tuple[NDArray[np.float32], NDArray[np.float32]]


class WeighedEncoder(Protocol):
    """An encoder that may be of a network with two branches; `weighed` is for those that are."""

    has_branches: bool

    def weighed(self, crops: Crops) -> Weighed:
        """N crops -> (N, D) unit rows as a call gives them, and (N, 2) weights of the local and the global branch."""
        ...


def weighed(encode: Callable[[Crops], NDArray[np.float32]], crops: Crops) -> tuple[NDArray[np.float32], Any]:
    """Embeddings of crops and, of an encoder with branches, their weights: (N, D), and (N, 2) float32 or None.

    A weight is the share of the local, of the global branch in what was embedded: >= 0, and both sum to 1.

    >>> weighed(lambda crops: np.ones((len(crops), 1), np.float32), [np.zeros((4, 2, 3), np.uint8)])[1] is None
    True
    """
    if not getattr(encode, "has_branches", False):
        return encode(crops), None
    both: WeighedEncoder = encode  # type: ignore[assignment]
    return both.weighed(crops)


def split(rows: NDArray[np.floating], name: str) -> Weighed:
    """(N, D + 2) as a network with branches gives them -> (N, D) unit rows, (N, 2) weights that sum to 1.

    EncoderError for embeddings that are zero or not finite, and for weights that are none.

    >>> split(np.array([[3.0, 4.0, 0.25, 0.75]]), "net")[1].tolist()
    [[0.25, 0.75]]
    >>> split(np.array([[3.0, 4.0, np.nan, 0.75]]), "net")
    Traceback (most recent call last):
    reid.encoders.EncoderError: net: weights of the branches of crop 0 must be >= 0 and sum to 1, got [nan, 0.75]
    """
    weights = np.asarray(rows[:, -2:], np.float32)
    sums = weights.sum(axis=1, keepdims=True)
    sound = (weights >= 0).all(axis=1) & (np.abs(sums[:, 0] - 1) < _SUM)  # also false for NaN
    if not sound.all():
        bad = int(np.flatnonzero(~sound)[0])
        raise EncoderError(
            f"{name}: weights of the branches of crop {bad} must be >= 0 and sum to 1, got {weights[bad].tolist()}"
        )
    return unit_rows(rows[:, :-2], name), weights / sums


def joined(features: NDArray[np.floating], weights: NDArray[np.floating], name: str) -> NDArray[np.float32]:
    """(N, D) and (N, 2) of a network's two outputs -> (N, D + 2). EncoderError when the second has another shape."""
    if weights.shape != (len(features), 2):
        raise EncoderError(
            f"{name}: output {OUTPUT} must give two weights per crop, {(len(features), 2)}, got {weights.shape}"
        )
    return np.concatenate([features, weights], axis=1, dtype=np.float32)


def mean_weights(weights: NDArray[np.float32], qualities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean over the crops of a stay, as its embedding is one (`reid.crops`): (N, 2), (N,) in [0, 1] -> (2,), sum 1.

    >>> mean_weights(np.array([[0.2, 0.8], [0.6, 0.4]], np.float32), np.array([1.0, 3.0])).round(3).tolist()
    [0.5, 0.5]
    """
    shares = np.asarray(qualities, np.float64)
    if shares.max() < np.finfo(np.float32).tiny:  # nothing, or so little that products lose their digits
        shares = np.ones(len(weights))
    mean: NDArray[np.float64] = shares @ weights.astype(np.float64) / shares.sum()
    return mean.astype(np.float32)
