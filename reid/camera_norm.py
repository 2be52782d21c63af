"""Camera normalisation: take out of every embedding what all pictures of its camera have in common.

Cameras differ in colour, height and light, and a network that never saw them puts part of that into the embedding. The
mean of a camera's embeddings is mostly that part. No label is read. (Matching online does the same with means that
grow: `st_model/appearance.py`.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def centred_per_camera(
    embeddings: NDArray[np.float32], cameras: NDArray[np.integer], shrink: float = 10.0
) -> NDArray[np.float32]:
    """(N, D) unit rows less the mean of their camera, unit length again.

    cameras  (N,) of each row
    shrink   a camera's mean is pulled towards the mean of all as by this many pictures, >= 0

    >>> rows = np.array([[0.8, 0.6, 0], [0.8, -0.6, 0], [0, 0.6, 0.8], [0, -0.6, 0.8]], np.float32)
    >>> centred = centred_per_camera(rows, np.array([0, 0, 1, 1]), shrink=0)
    >>> centred.round(3).tolist()      # what tells the cameras apart is gone
    [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]
    """
    if embeddings.ndim != 2 or cameras.shape != (len(embeddings),):
        raise ValueError(f"need (N, D) embeddings and (N,) cameras, got {embeddings.shape} and {cameras.shape}")
    out = embeddings.astype(np.float32, copy=True)
    if not len(out):
        return out
    everywhere = embeddings.mean(axis=0, dtype=np.float64)
    for camera in np.unique(cameras):
        own = cameras == camera
        total = embeddings[own].sum(axis=0, dtype=np.float64) + shrink * everywhere
        out[own] -= (total / (own.sum() + shrink)).astype(np.float32)
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), np.float32(1e-6))
    return out
