"""Where cameras lie on a plane, as far as the way people take tells: cameras that many walk between come to lie
side by side. The report draws its graph so, the mosaic orders its tiles so. Pure; the same flows give the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import shortest_path

Flows = Mapping[tuple[str, str], float]
"""(from camera, to camera) -> how often somebody went that way; directions are added."""

_STEPS = 200  # by then the stress of 24 cameras changes by less than 1e-4 a step


def places(names: Sequence[str], flows: Flows) -> NDArray[np.float64]:
    """(N, 2) positions of the cameras inside the unit square, x to the right, y down, in the order of `names`.

    Distances along ways are 1 / sqrt(share of the busiest); the picture keeps them as well as a plane can (stress
    majorisation: Gansner, Koren, North, "Graph Drawing by Stress Majorization", GD 2004). Cameras without any way stand
    at the rim. Flows of unknown cameras are ignored.

    >>> xy = places(["a", "b", "c"], {("a", "b"): 9, ("b", "c"): 9})
    >>> bool(np.linalg.norm(xy[0] - xy[2]) > np.linalg.norm(xy[0] - xy[1]))
    True
    """
    count = len(names)
    if count <= 1:
        return np.full((count, 2), 0.5)
    target = _distances(names, flows)
    at = _classical(target)
    weight = 1.0 / np.maximum(target, 1e-9) ** 2
    np.fill_diagonal(weight, 0.0)
    laplacian = np.diag(weight.sum(1)) - weight
    inverse = np.linalg.pinv(laplacian)
    for _ in range(_STEPS):
        gap = at[:, None] - at[None, :]
        length = np.maximum(np.linalg.norm(gap, axis=2), 1e-9)
        pull = -weight * target / length
        np.fill_diagonal(pull, 0.0)
        np.fill_diagonal(pull, -pull.sum(1))
        at = inverse @ (pull @ at)
    return _into_square(_upright(at))


def grid_cells(at: NDArray[np.float64], columns: int, rows: int) -> list[tuple[int, int]]:
    """(column, row) of each position (N, 2), all different, so that neighbours stay neighbours: the cheapest assignment
    by squared distance. Raises ValueError when there are fewer cells than positions.

    >>> grid_cells(np.array([[0.9, 0.5], [0.1, 0.5]]), columns=2, rows=1)
    [(1, 0), (0, 0)]
    """
    if columns * rows < len(at):
        raise ValueError(f"{len(at)} cameras do not fit into {columns} x {rows} tiles")
    cells = [(column, row) for row in range(rows) for column in range(columns)]
    middle = np.array([((column + 0.5) / columns, (row + 0.5) / rows) for column, row in cells])
    cost = ((at[:, None] - middle[None, :]) ** 2).sum(2)
    # A trace of the order breaks ties, so that equal places are filled from the first cell on.
    cost += 1e-9 * np.arange(len(at))[:, None] * np.arange(len(cells))[None, :]
    _, chosen = linear_sum_assignment(cost)
    return [cells[n] for n in chosen]


def _distances(names: Sequence[str], flows: Flows) -> NDArray[np.float64]:
    """(N, N) wished distances: along the ways, and a little more than the farthest where there is none."""
    index = {name: n for n, name in enumerate(names)}
    often = np.zeros((len(names), len(names)))
    for (origin, to), count in flows.items():
        if origin in index and to in index and origin != to and count > 0:
            often[index[origin], index[to]] += count
            often[index[to], index[origin]] += count
    most = often.max()
    with np.errstate(divide="ignore"):
        length = np.where(often > 0, 1.0 / np.sqrt(often / max(most, 1e-12)), 0.0)
    length = np.minimum(length, 4.0)  # a rare way is long, not endless
    far = shortest_path(length, directed=False)
    known = far[np.isfinite(far)]
    return np.where(np.isfinite(far), far, 1.3 * max(float(known.max()), 1.0))


def _classical(target: NDArray[np.float64]) -> NDArray[np.float64]:
    """A start near the best plan: classical scaling (Torgerson 1952). A trace of a circle parts equal places."""
    count = len(target)
    middle = np.eye(count) - 1.0 / count
    values, vectors = np.linalg.eigh(-0.5 * middle @ target**2 @ middle)
    at = vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0.0))
    angles = 2 * np.pi * np.arange(count) / count
    return np.asarray(at + 1e-3 * np.stack([np.cos(angles), np.sin(angles)], axis=1), np.float64)


def _upright(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turned so that the longest extent lies along x, and mirrored so that the first camera is at the upper left."""
    at = at - at.mean(0)
    _, _, axes = np.linalg.svd(at, full_matrices=False)
    at = at @ axes.T
    return np.where(at[0] > 1e-9, -at, at)


def _into_square(at: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = at.min(0), at.max(0)
    extent = high - low
    flat = extent < 0.1 * extent.max()  # nearly a line is a line: stretched it would show noise
    out = np.where(flat, 0.5, (at - low) / np.where(flat, 1.0, extent))
    return np.asarray(out, np.float64)
