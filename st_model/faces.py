"""What faces add to the joint score: a third logistic factor, and exactly nothing where no face was seen.

Log-odds of "one person" = slope x cosine + offset, as for bodies, with a calibration of its own, and held within a
limit: one face, however alike, never decides alone against body and time.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from st_model.calibration import Calibration

FACE = Calibration(15.0, -4.5)
"""Starting point on raw cosines: even at .3. Not fitted to labelled faces, of which there were none: strangers of a
128-d face embedding spread about 0 with a standard deviation of .09, and faces of one person that pass the gates of
`reid/faces.py` stayed above .8 when a picture of 31 px between the eyes was reduced to 16 px. It does not hold below
the gates: at 8 to 12 px two strangers of TUD-Campus are at .46 (docs/encoders.md)."""
FACE_LIMIT = 6.0
"""Nats; as much as a delay that is four hundred times likelier than by chance."""

Vector = NDArray[np.float32]


def face_term(
    face: Vector | None, others: Iterable[Vector | None], calibration: Calibration = FACE, limit: float = FACE_LIMIT
) -> float:
    """Log-odds that faces add to "one person", in [-limit, limit]; 0.0 when either side shows none.

    face    (F,) unit embedding of the arrival's face, or None
    others  faces of the stays of one identity, None where a stay shows none; their mean direction is compared

    >>> a, b = np.eye(2, dtype=np.float32)
    >>> face_term(a, [None]), face_term(None, [a]), face_term(a, [b, None]), face_term(a, [a])
    (0.0, 0.0, -4.5, 6.0)
    """
    if face is None:
        return 0.0
    mean = mean_face(other for other in others if other is not None and other.shape == face.shape)
    if mean is None:
        return 0.0
    return float(np.clip(calibration.log_odds(float(mean @ face)), -limit, limit))


def mean_face(faces: Iterable[Vector | None]) -> Vector | None:
    """Mean direction of the faces that are there, (F,) unit; None without one, or when they cancel."""
    seen = [face for face in faces if face is not None]
    if not seen:
        return None
    alike = [face for face in seen if face.shape == seen[-1].shape]  # another network may have been chosen since
    total = np.sum(alike, axis=0, dtype=np.float64)
    length = float(np.linalg.norm(total))
    return None if length < 1e-6 else np.asarray(total / length, np.float32)
