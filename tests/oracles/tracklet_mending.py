"""The obvious, slow way to fill a tracklet's holes and to smooth its boxes: one frame at a time."""

from __future__ import annotations

import math

import numpy as np

from pipeline.tracklets import Tracklet


def fill_gaps(
    tracklet: Tracklet, frame_times_s: np.ndarray, max_gap_s: float
) -> list[tuple[float, list[float], float]]:
    """Rows (time, box, score) of the filled tracklet, in order of time."""
    seen = list(zip(tracklet.times_s.tolist(), tracklet.boxes.tolist(), tracklet.scores.tolist(), strict=True))
    rows = list(seen)
    for now in frame_times_s.tolist():
        before = [row for row in seen if row[0] < now]
        after = [row for row in seen if row[0] > now]
        if any(row[0] == now for row in seen) or not before or not after:
            continue
        (t0, box0, score0), (t1, box1, score1) = before[-1], after[0]
        if t1 - t0 <= max_gap_s:
            part = (now - t0) / (t1 - t0)
            box = [a + part * (b - a) for a, b in zip(box0, box1, strict=True)]
            rows.append((now, box, min(score0, score1)))
    return sorted(rows)


def smooth(tracklet: Tracklet, sigma_s: float) -> np.ndarray:
    """Boxes (T, 4): at every frame a weighted straight line fitted by least squares, looked at in that frame."""
    result = []
    for now in tracklet.times_s:
        near = np.abs(tracklet.times_s - now) <= 4 * sigma_s
        times, boxes = tracklet.times_s[near] - now, tracklet.boxes[near].astype(np.float64)
        if len(times) == 1:
            result.append(boxes[0])
            continue
        root = np.array([math.exp(-0.25 * (t / sigma_s) ** 2) for t in times])  # square root of the Gaussian weight
        line = np.linalg.lstsq(root[:, None] * np.stack([np.ones_like(times), times], 1), root[:, None] * boxes)[0]
        result.append(line[0])
    edges = np.array(result)
    edges[:, 2:] = np.maximum(edges[:, :2], edges[:, 2:])
    return edges
