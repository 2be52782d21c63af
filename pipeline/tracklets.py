"""The tracklet: one person's stay in one camera, as boxes over time; and what can be mended in it afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_REACH = 5.0  # standard deviations; the weight of a frame further away is below 0.000004


@dataclass(frozen=True, eq=False)
class Tracklet:
    """One stay in one camera.

    camera    its name
    track_id  never shared between cameras or runs
    times_s   (T,) float64 site time in seconds, strictly rising; T >= 1
    boxes     (T, 4) float32 xyxy px
    scores    (T,) float32 in [0, 1]

    Arrays are made read-only. Raises ValueError when shape, dtype or order do not fit.

    >>> stay = Tracklet("lobby", 7, np.array([0.0, 0.5]), np.zeros((2, 4), np.float32), np.ones(2, np.float32))
    >>> stay.entered_s, stay.last_s, len(stay)
    (0.0, 0.5, 2)
    """

    camera: str
    track_id: int
    times_s: NDArray[np.float64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        times_s, boxes, scores = self.times_s, self.boxes, self.scores
        if not self.camera:
            raise ValueError("tracklet without a camera name")
        if times_s.dtype != np.float64 or times_s.ndim != 1 or not len(times_s):
            raise ValueError(f"times_s must be (T,) float64 with T >= 1, got {times_s.shape} {times_s.dtype}")
        if boxes.dtype != np.float32 or boxes.shape != (len(times_s), 4):
            raise ValueError(f"boxes must be ({len(times_s)}, 4) float32, got {boxes.shape} {boxes.dtype}")
        if scores.dtype != np.float32 or scores.shape != (len(times_s),):
            raise ValueError(f"scores must be ({len(times_s)},) float32, got {scores.shape} {scores.dtype}")
        if not np.isfinite(times_s).all() or (np.diff(times_s) <= 0).any():
            raise ValueError("times_s must be finite and rise strictly")
        for array in (times_s, boxes, scores):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def entered_s(self) -> float:
        """When the person was first seen, seconds."""
        return float(self.times_s[0])

    @property
    def last_s(self) -> float:
        """When the person was last seen, seconds."""
        return float(self.times_s[-1])


def fill_gaps(tracklet: Tracklet, frame_times_s: NDArray[np.float64], max_gap_s: float) -> Tracklet:
    """The tracklet with a box in every frame of its short holes.

    frame_times_s  (F,) float64, rising: when the camera's frames were taken; boxes are put at these times only
    max_gap_s      a hole between two seen boxes is filled when they are at most this far apart, seconds

    A filled box lies on the straight line between the boxes before and after it; its score is the lower of theirs.

    >>> seen = Tracklet(
    ...     "lobby", 7, np.array([0.0, 1.0]),
    ...     np.array([[0, 0, 10, 20], [4, 0, 14, 20]], np.float32), np.array([0.9, 0.5], np.float32),
    ... )
    >>> fill_gaps(seen, np.array([0.0, 0.25, 1.0, 2.0]), max_gap_s=1.0).boxes[:, 0].tolist()
    [0.0, 1.0, 4.0]
    """
    seen_s = tracklet.times_s
    after = np.searchsorted(seen_s, frame_times_s)
    inner = (after > 0) & (after < len(seen_s))
    times_s, after = frame_times_s[inner], after[inner]
    missed = (seen_s[after] != times_s) & (seen_s[after] - seen_s[after - 1] <= max_gap_s)
    times_s, after = times_s[missed], after[missed]
    before = after - 1
    part = ((times_s - seen_s[before]) / (seen_s[after] - seen_s[before]))[:, None].astype(np.float32)
    boxes = tracklet.boxes[before] * (1 - part) + tracklet.boxes[after] * part
    scores = np.minimum(tracklet.scores[before], tracklet.scores[after])
    order = np.argsort(np.concatenate([seen_s, times_s]), kind="stable")
    return Tracklet(
        tracklet.camera,
        tracklet.track_id,
        np.concatenate([seen_s, times_s])[order],
        np.concatenate([tracklet.boxes, boxes])[order],
        np.concatenate([tracklet.scores, scores])[order],
    )


def smooth_boxes(
    track_ids: NDArray[np.int64], times_s: NDArray[np.float64], boxes: NDArray[np.float32], sigma_s: float
) -> NDArray[np.float32]:
    """Boxes with a detector's jitter taken out: a local straight line through each box edge of each track.

    track_ids  (N,) whose box it is; rows may come in any order
    times_s    (N,) float64 site time in seconds, no two equal within a track
    boxes      (N, 4) float32 xyxy px
    sigma_s    standard deviation of the Gaussian weights, seconds; 0 changes nothing

    Returns (N, 4) float32 in the order of the rows. The motion of a person who walks evenly stays as it is, also at the
    ends of a track and at any frame rate; jitter, and what a person does faster than about twice sigma_s, does not.
    Local linear regression (Fan and Gijbels, Local Polynomial Modelling and Its Applications, 1996); frames further
    than five sigma_s away have no say. Edges that would cross are kept from it.

    >>> boxes = np.arange(20, dtype=np.float32).reshape(5, 4)
    >>> np.allclose(smooth_boxes(np.full(5, 7), np.arange(5.0), boxes, 1.0), boxes)
    True
    """
    if sigma_s < 0:
        raise ValueError(f"sigma_s must not be negative, got {sigma_s}")
    if sigma_s == 0 or not len(boxes):
        return boxes
    order = np.lexsort((times_s, track_ids))
    axis_s = _one_after_the_other(track_ids[order], times_s[order], 3 * _REACH * sigma_s)
    edges = boxes[order].astype(np.float64)
    first = np.searchsorted(axis_s, axis_s - _REACH * sigma_s)
    last = np.searchsorted(axis_s, axis_s + _REACH * sigma_s, side="right") - 1
    here = np.arange(len(axis_s))
    moments = np.zeros((3, len(axis_s)))  # sums of weight * distance ** 0, 1, 2
    sums = np.zeros((2, len(axis_s), 4))  # sums of weight * distance ** 0, 1 * edge
    for offset in range(-int((here - first).max()), int((last - here).max()) + 1):
        a = here[(here + offset >= first) & (here + offset <= last)]
        distance_s = axis_s[a + offset] - axis_s[a]
        weight = np.exp(-0.5 * (distance_s / sigma_s) ** 2)
        for power in range(3):
            moments[power, a] += weight * distance_s**power
        for power in range(2):
            sums[power, a] += (weight * distance_s**power)[:, None] * edges[a + offset]
    m0, m1, m2 = moments[..., None]
    spread = m0 * m2 - m1 * m1
    alone = spread <= 1e-9 * sigma_s**2  # no other frame near: the box speaks for itself
    line = np.where(alone, edges, (m2 * sums[0] - m1 * sums[1]) / np.where(alone, 1.0, spread))
    line[:, 2:] = np.maximum(line[:, :2], line[:, 2:])
    smoothed = np.empty_like(boxes)
    smoothed[order] = line
    return smoothed


def _one_after_the_other(
    track_ids: NDArray[np.int64], times_s: NDArray[np.float64], apart_s: float
) -> NDArray[np.float64]:
    """One rising time axis for rows sorted by track, then time: a track begins `apart_s` after the one before ends."""
    steps_s = np.diff(times_s)
    steps_s[np.diff(track_ids) != 0] = apart_s
    return np.concatenate([[0.0], np.cumsum(steps_s)])
