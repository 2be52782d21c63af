"""Motion detection on real people: floors under what was measured, so that tuning on drawn ones does not cost here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from detectors.motion import MotionDetector


def _truth(path: Path) -> dict[int, np.ndarray]:
    rows = np.loadtxt(path, delimiter=",")[:, :6]
    boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    return {int(frame): boxes[rows[:, 0] == frame] for frame in np.unique(rows[:, 0])}


def _hits(truth: np.ndarray, found: np.ndarray) -> int:
    sides = np.minimum(truth[:, None, 2:], found[None, :, 2:]) - np.maximum(truth[:, None, :2], found[None, :, :2])
    common = np.clip(sides, 0, None).prod(2)
    area = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (truth, found)]
    good = common / (area[0][:, None] + area[1][None] - common) >= 0.5
    i, j = linear_sum_assignment(~good)
    return int(good[i, j].sum())


# Measured over 400 frames from the eleventh on, IoU .5: a .859 and .934, b .883 and .919.
@pytest.mark.parametrize(("camera", "precision", "recall"), [("a", 0.80, 0.88), ("b", 0.83, 0.87)])
def test_people_on_a_campus_are_found(data_dir, camera, precision, recall):
    import av

    folder = data_dir / "vcam_dev"
    if not folder.is_dir():
        pytest.skip("vcam_dev is not in $IDENTRIX_DATA")
    truth = _truth(folder / "gt" / f"{camera}.txt")
    detector, good, found, true = MotionDetector(), 0, 0, 0
    with av.open(str(folder / "videos" / f"{camera}.mp4")) as container:
        for number, frame in enumerate(container.decode(video=0), start=1):
            (persons,) = detector([camera], [number - 1], [frame.to_ndarray(format="bgr24")])
            boxes = truth.get(number, np.zeros((0, 4)))
            if number > 10:  # the detector's warm-up
                good += _hits(boxes, persons.boxes.astype(float)) if len(boxes) and len(persons) else 0
                found, true = found + len(persons), true + len(boxes)
    assert good / found > precision
    assert good / true > recall
