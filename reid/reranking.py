"""k-reciprocal re-ranking (Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017).

Two images that are among each other's nearest probably show one person, and so do two images with the same such
neighbours. Exact: the sets and sums are those of the published code, kept as sparse rows instead of a dense square, so
that beside the distances themselves only some hundred numbers per image are held, and of the distances a few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reid.ranking import smallest

Floats = NDArray[np.floating]

K1, K2, WEIGHT = 20, 6, 0.3  # Zhong 2017, section 4.1 (Market-1501)


def rerank(distances: Floats, n_queries: int, k1: int = K1, k2: int = K2, weight: float = WEIGHT) -> Floats:
    """New distances (Q, G) of queries to gallery from the distances among all of them.

    distances  (Q + G, Q + G) float32 or float64, queries first; [i, j] is used as the distance seen from i. Rows are
               divided by their maximum, as published. The array is not changed.
    k1, k2     neighbours for reciprocity and for averaging, 1 <= k2 <= k1 + 1 < Q + G
    weight     share of the first distance in the result, [0, 1]

    Raises ValueError when a value does not fit.
    """
    n = len(distances)
    if distances.shape != (n, n):
        raise ValueError(f"distances must be square with queries first, got {distances.shape} and {n_queries} queries")
    return rerank_rows(lambda start, stop: distances[start:stop], n, n_queries, k1, k2, weight)


def rerank_rows(
    rows: Callable[[int, int], Floats],
    n: int,
    n_queries: int,
    k1: int = K1,
    k2: int = K2,
    weight: float = WEIGHT,
    *,
    chunk_rows: int = 1024,
) -> Floats:
    """`rerank` without the square: `rows(start, stop)` gives (stop - start, n) distances seen from these pictures.

    Of n pictures only `chunk_rows` rows are held at once, and of the result (Q, G). Each row is asked for twice, those
    of queries three times, and must come out the same. Raises ValueError when a value does not fit.
    """
    if not 0 < n_queries < n:
        raise ValueError(f"need queries and a gallery, got {n_queries} queries of {n} pictures")
    if not (1 <= k2 <= k1 + 1 < n and 0 <= weight <= 1):
        raise ValueError(
            f"need 1 <= k2 <= k1 + 1 < {n} rows and a weight in [0, 1], got k1 {k1}, k2 {k2}, weight {weight}"
        )
    near = np.empty((n, k1 + 1), np.intp)
    furthest: Floats = np.empty(n)
    for start, block in _blocks(rows, n, chunk_rows):
        if start == 0:
            furthest = furthest.astype(block.dtype)
        for i, row in enumerate(block, start):
            near[i] = smallest(row, k1 + 1)
            furthest[i] = row.max()
    if not np.isfinite(furthest).all():
        raise ValueError("distances must be finite")
    furthest[furthest == 0] = 1.0  # a row of zeros stays a row of zeros
    encoding = _encode(rows, furthest, near, k1, chunk_rows)
    encoding = (_pick(near[:, :k2], n) @ encoding).tocsr()
    encoding.data /= k2
    out = _jaccard(encoding, n_queries)
    out *= 1 - weight
    for start, block in _blocks(rows, n_queries, chunk_rows):
        stop = start + len(block)
        out[start:stop] += weight * block[:, n_queries:] / furthest[start:stop, None]
    return out


def cosine_rows(features: Floats, device: str = "cpu") -> Callable[[int, int], Floats]:
    """Rows for `rerank_rows`: squared Euclidean distances 2 - 2 cosine among (N, D) unit rows.

    device  "cpu", or "cuda:0" to multiply there
    """
    if device.startswith("cuda"):
        import torch

        held = torch.from_numpy(features).to(device)

        def on_gpu(start: int, stop: int) -> Floats:
            block: Floats = torch.addmm(held.new_full((1, 1), 2.0), held[start:stop], held.T, alpha=-2.0).cpu().numpy()
            return block

        return on_gpu

    def on_cpu(start: int, stop: int) -> Floats:
        block: Floats = features[start:stop] @ features.T
        block *= -2
        block += 2
        return block

    return on_cpu


def _blocks(rows: Callable[[int, int], Floats], stop: int, chunk_rows: int) -> Iterator[tuple[int, Floats]]:
    for start in range(0, stop, chunk_rows):
        yield start, rows(start, min(start + chunk_rows, stop))


def _pick(columns: NDArray[np.intp], n: int) -> sparse.csr_array:
    """(n, n) sparse ones at [i, columns[i]]."""
    k = columns.shape[1]
    ones = np.ones(columns.size, np.float32)
    return sparse.csr_array((ones, columns.ravel(), np.arange(0, columns.size + 1, k)), shape=(len(columns), n))


def _mutual(near: NDArray[np.intp], k: int) -> sparse.csr_array:
    """Ones where two images are both among each other's k nearest (and themselves, where they are)."""
    forward = _pick(near[:, : k + 1], len(near))
    return forward.multiply(forward.T).tocsr()


def _encode(
    rows: Callable[[int, int], Floats], furthest: Floats, near: NDArray[np.intp], k1: int, chunk_rows: int
) -> sparse.csr_array:
    """Rows of weights over each image's expanded reciprocal neighbours; each row sums to 1 (equations 4, 5 and 10)."""
    mutual, half = _mutual(near, k1), _mutual(near, int(np.around(k1 / 2)))
    size = np.diff(half.indptr)
    # A neighbour's own half set joins when more than two thirds of it are neighbours already.
    shared = (mutual @ half.T).tocsr().multiply(mutual).tocoo()
    joins = shared.data > 2.0 / 3.0 * size[shared.col]
    joining = sparse.csr_array(
        (np.ones(int(joins.sum()), np.float32), (shared.row[joins], shared.col[joins])), shape=mutual.shape
    )
    expanded = (mutual + joining @ half).tocsr()
    expanded.sort_indices()
    row = np.repeat(np.arange(len(near)), np.diff(expanded.indptr))
    values = np.empty(len(row), furthest.dtype)
    for start, block in _blocks(rows, len(near), chunk_rows):
        first, last = expanded.indptr[start], expanded.indptr[start + len(block)]
        inside = row[first:last]
        values[first:last] = np.exp(-block[inside - start, expanded.indices[first:last]] / furthest[inside])
    total = np.bincount(row, values, minlength=len(near)).astype(furthest.dtype)
    return sparse.csr_array((values / total[row], expanded.indices, expanded.indptr), shape=mutual.shape)


def _jaccard(encoding: sparse.csr_array, n_queries: int) -> Floats:
    """1 - shared / joint weight of queries with gallery images (equation 12); rows sum to 1: joint = 2 - shared."""
    n = encoding.shape[0]
    gallery = encoding[n_queries:].tocsc()
    out = np.empty((n_queries, n - n_queries), encoding.dtype)
    for i in range(n_queries):
        span = slice(encoding.indptr[i], encoding.indptr[i + 1])
        own, columns = encoding.data[span], encoding.indices[span]
        starts, ends = gallery.indptr[columns], gallery.indptr[columns + 1]
        lengths = ends - starts
        total = int(lengths.sum())
        # Positions of all entries of these columns, one run after the other.
        entry = np.arange(total) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        shared = np.bincount(
            gallery.indices[entry], np.minimum(gallery.data[entry], np.repeat(own, lengths)), minlength=n - n_queries
        )
        out[i] = 1 - shared / (2 - shared)
    return out
