"""k-reciprocal re-ranking in slow, obvious loops over dense float64 lists (Zhong et al., CVPR 2017)."""

from __future__ import annotations

import math


def nearest(row, k):
    """The k + 1 nearest; equal distances: lower index first."""
    return sorted(range(len(row)), key=lambda j: (row[j], j))[: k + 1]


def reciprocal(near, i, k):
    """Those of i's k + 1 nearest that have i among their own k + 1 nearest."""
    return [j for j in near[i][: k + 1] if i in near[j][: k + 1]]


def rerank(distances, n_queries, k1, k2, weight):
    """New distances of queries to gallery; `distances[i][j]` as seen from i."""
    n = len(distances)
    first = [[d / max(row) for d in row] for row in distances]
    near = [nearest(row, k1) for row in distances]
    encoded = []
    for i in range(n):
        own = reciprocal(near, i, k1)
        members = set(own)
        for j in own:
            theirs = reciprocal(near, j, round(k1 / 2))
            if len(set(theirs) & set(own)) > 2 / 3 * len(theirs):
                members |= set(theirs)
        weights = {j: math.exp(-first[i][j]) for j in members}
        total = sum(weights.values())
        encoded.append([weights.get(j, 0.0) / total if total else 0.0 for j in range(n)])
    averaged = [[sum(encoded[j][c] for j in near[i][:k2]) / k2 for c in range(n)] for i in range(n)]
    out = []
    for i in range(n_queries):
        row = []
        for j in range(n_queries, n):
            shared = sum(min(a, b) for a, b in zip(averaged[i], averaged[j], strict=True))
            row.append((1 - shared / (2 - shared)) * (1 - weight) + weight * first[i][j])
        out.append(row)
    return out
