"""Two pretrained encoders fused by weight: a dual backbone without training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid.encoders import Encoder

DEFAULT_WEIGHT = 0.75
"""Share of the first, retail-0277. The optimum is flat, because OSNet's cosines spread less. Same/different AUC:

    share of retail-0277    0      .5     .6     .7     .75    .8     .9     1
    PKU-Reid                .8953  .9870  .9893  .9906  .9909  .9911  .9912  .9910
    two views of PETS       .9632  .9987  .9989  .9989  .9989  .9987  .9984  .9980
"""


def fuse(first: NDArray[np.float32], second: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Join unit rows (N, A) and (N, B) into unit rows (N, A + B) whose cosine is a convex combination.

    cos(fused) = weight * cos(first) + (1 - weight) * cos(second), weight in [0, 1], because the square roots multiply
    back to the weights in the dot product.

    >>> a, b = np.eye(2, dtype=np.float32), np.ones((2, 1), np.float32)
    >>> fused = fuse(a, b, 0.7)
    >>> round(float(fused[0] @ fused[1]), 6)  # 0.7 * 0 + 0.3 * 1
    0.3
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie in [0, 1], got {weight}")
    return np.concatenate([first * np.float32(math.sqrt(weight)), second * np.float32(math.sqrt(1 - weight))], axis=1)


class PairEncoder:
    """Two encoders behind one call; `weight` is the first one's share of the cosine."""

    def __init__(self, first: Encoder, second: Encoder, weight: float = DEFAULT_WEIGHT, name: str = "pair") -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {weight}")
        self.name = name
        self.dim = first.dim + second.dim
        self.weight = weight
        self._first, self._second = first, second

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return fuse(self._first(crops), self._second(crops), self.weight)
