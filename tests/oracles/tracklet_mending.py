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


def smooth_boxes(track_ids: np.ndarray, times_s: np.ndarray, boxes: np.ndarray, sigma_s: float) -> np.ndarray:
    """Boxes (N, 4): for every row a weighted straight line fitted by least squares, looked at in that row's time."""
    result = []
    for track_id, now in zip(track_ids, times_s, strict=True):
        near = (track_ids == track_id) & (np.abs(times_s - now) <= 5 * sigma_s)
        times, edges = times_s[near] - now, boxes[near].astype(np.float64)
        if len(times) == 1:
            result.append(edges[0])
            continue
        root = np.array([math.exp(-0.25 * (t / sigma_s) ** 2) for t in times])[:, None]  # of the Gaussian weight
        line = np.linalg.lstsq(root * np.stack([np.ones_like(times), times], 1), root * edges)[0]
        result.append(line[0])
    line = np.array(result)
    line[:, 2:] = np.maximum(line[:, :2], line[:, 2:])
    return line
