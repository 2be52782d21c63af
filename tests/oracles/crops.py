"""Slow, obvious versions of what `reid.crops` does."""

from __future__ import annotations

import math

import numpy as np


def overlap_one_by_one(boxes: np.ndarray) -> list[float]:
    """Share of each box covered by the worst other; full if that one's lower edge is as low or lower, else half."""
    result = []
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        worst = 0.0
        for j, (u1, v1, u2, v2) in enumerate(boxes.tolist()):
            if i == j:
                continue
            shared = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
            share = shared / max((x2 - x1) * (y2 - y1), 1e-6)
            worst = max(worst, share if v2 >= y2 else share / 2)
        result.append(min(worst, 1.0))
    return result


def key_crops_offline(
    seen: list[tuple[float, float]], max_crops: int, cell_s: float, min_quality: float
) -> list[tuple[float, float]]:
    """Of all (time_s, quality), in order of time: the best of each time cell, with the smallest cell width
    cell_s * 2^k that occupies at most max_crops cells. Cells count from the first offer, and the earlier wins a tie."""
    good = [(t, q) for t, q in seen if q > min_quality]
    if not good:
        return []
    start_s = seen[0][0]
    while True:
        best: dict[int, tuple[float, float]] = {}
        for t, q in good:
            cell = math.floor((t - start_s) / cell_s)
            if cell not in best or q > best[cell][1]:
                best[cell] = (t, q)
        if len(best) <= max_crops:
            return list(best.values())
        cell_s *= 2
