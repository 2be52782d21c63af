"""Making people unrecognisable in a picture: faces, heads or whole bodies, as `privacy.blur` says.

Pixels are averaged over coarse cells, not smoothed: what was averaged away cannot be computed back. It is done to the
picture before anything is drawn on it and before it is encoded. People whom the tracker never saw are not hidden.

    PrivacyError (ValueError)   faces, heads or bodies cannot be hidden as asked
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.hidden_boxes import CameraBoxes, StayBoxes, grown, read_erased_boxes, read_hidden_boxes
from pipeline.journal import read_facts

Image = NDArray[np.uint8]
Blur = Literal["none", "faces", "heads", "bodies"]
HEAD_HIGH, HEAD_WIDE = 0.22, 0.55
"""A head with its neck takes this much of a standing person's height, and of somebody cut off below, of the width."""
HEAD_CELLS, BODY_CELLS = 4, 10
"""Cells along the shorter side of what is hidden: a face of 4 cells is nobody's, a body of 10 still walks."""
LEAST_CELL_PX = 4.0  # far away a tenth of a body is a pixel: nothing would be averaged
FACE_SURE = 0.35  # low: a face too many hidden costs nothing
FACE_INPUT_PX = 160  # a head is enlarged to about this before faces are looked for; YuNet finds none below 10 px
FACE_HOLD_S = 1.0  # who showed a face is hidden by the head this long, when the face is not found again
ERASED_GROW = 0.12  # hands and feet reach out of a detector's box
LEAST_HEAD_PX = 12  # a smaller head is hidden whole: no detector finds its face

log = logging.getLogger(__name__)


class PrivacyError(ValueError):
    """What was asked for cannot be hidden."""


def head_of(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """(4,) where the head is in a person's box (4,) xyxy px: its upper part, in its whole width, with some air.

    >>> head_of(np.array([0, 0, 40, 100], np.float32)).round(1).tolist()
    [-2.0, -5.0, 42.0, 22.0]
    """
    x1, y1, x2, y2 = box.tolist()
    wide, high = x2 - x1, y2 - y1
    deep = min(high, max(HEAD_HIGH * high, HEAD_WIDE * wide))
    return np.array([x1 - 0.05 * wide, y1 - 0.05 * high, x2 + 0.05 * wide, y1 + deep], np.float32)


def pixelate(image: Image, box: NDArray[np.float32], cells: int) -> None:
    """Average `image` (H, W, 3) in place over a part of it, in about `cells` cells along the shorter side.

    >>> picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    >>> pixelate(picture, np.array([8, 8, 40, 40], np.float32), 2)
    >>> len(np.unique(picture[8:40, 8:40].reshape(-1, 3), axis=0))
    4
    """
    import cv2

    height, width = image.shape[:2]
    x1, y1 = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    x2, y2 = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    if x2 <= x1 or y2 <= y1:
        return
    part = image[y1:y2, x1:x2]
    high, wide = part.shape[:2]
    cell = max(LEAST_CELL_PX, min(high, wide) / cells)
    size = (max(1, round(wide / cell)), max(1, round(high / cell)))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    part[:] = cv2.resize(small, (wide, high), interpolation=cv2.INTER_NEAREST)


def fill(image: Image, box: NDArray[np.float32], grey: int = 96) -> None:
    """Paint a part of `image` grey in place: nothing of it is left."""
    height, width = image.shape[:2]
    x1, y1 = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    x2, y2 = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    image[y1 : max(y1, y2), x1 : max(x1, x2)] = grey


class Hider:
    """Hides the people of one camera. Ask it for pictures in order of time.

    how     "none" changes nothing
    faces   the face detector of `load_faces`; without one, heads are hidden where faces were asked for
    erased  people who were forgotten: nothing of them is left, whatever `how` says
    """

    def __init__(
        self, how: Blur, stays: Sequence[StayBoxes], faces: Any = None, erased: Sequence[StayBoxes] = ()
    ) -> None:
        self._how, self._boxes, self._faces = how, CameraBoxes(list(stays)), faces
        self._erased = CameraBoxes(list(erased))
        self._face_s: dict[int, float] = {}

    def follow(self, stays: Sequence[StayBoxes]) -> None:
        """Hide the people of these stays from now on: for pictures that are drawn while stays still grow."""
        self._boxes = CameraBoxes(list(stays))

    def hide(self, image: Image, time_s: float) -> Image:
        """The picture (H, W, 3) with people hidden; changed in place where it may be written to."""
        gone = [grown(box, ERASED_GROW, ERASED_GROW) for _, box in self._erased.at(time_s)]
        if self._how == "none" and not gone:
            return image
        image = image if image.flags.writeable else image.copy()
        for box in gone:
            fill(image, box)
        if self._how == "none":
            return image
        found = self._boxes.at(time_s)
        if self._how == "faces" and self._faces is not None:
            regions = [region for who, box in found for region in self._face_regions(image, who, box, time_s)]
        else:
            regions = [head_of(box) for _, box in found]
        if self._how == "bodies":
            for _, box in found:
                pixelate(image, box, BODY_CELLS)
        for region in regions:  # the head of a hidden body, too: cells that hide a coat are fine enough for a face
            pixelate(image, region, HEAD_CELLS)
        return image

    def _face_regions(
        self, image: Image, who: int, box: NDArray[np.float32], time_s: float
    ) -> list[NDArray[np.float32]]:
        head = head_of(box)
        if min(head[2] - head[0], head[3] - head[1]) < LEAST_HEAD_PX:
            return [head]
        faces = find_faces(self._faces, image, head)
        if faces:
            self._face_s[who] = time_s
            return faces
        return [head] if time_s - self._face_s.get(who, -np.inf) <= FACE_HOLD_S else []


def find_faces(detector: Any, image: Image, head: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Boxes (4,) xyxy px, a quarter larger than found, of the faces in one part of a picture, enlarged for the look."""
    import cv2

    height, width = image.shape[:2]
    air = 0.25 * float(head[2] - head[0])
    x1, y1 = max(int(head[0] - air), 0), max(int(head[1] - air), 0)
    x2, y2 = min(int(head[2] + air), width), min(int(head[3] + air), height)
    if x2 - x1 < 4 or y2 - y1 < 4:
        return []
    part = image[y1:y2, x1:x2]
    scale = FACE_INPUT_PX / max(part.shape[:2])
    size = (max(16, round(part.shape[1] * scale)), max(16, round(part.shape[0] * scale)))
    detector.setInputSize(size)
    _, rows = detector.detect(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR))
    out = []
    for row in rows if rows is not None else ():
        left, top, wide, high = (float(v) for v in row[:4])
        sx, sy = part.shape[1] / size[0], part.shape[0] / size[1]
        corners = [x1 + left * sx, y1 + top * sy, x1 + (left + wide) * sx, y1 + (top + high) * sy]
        dx, dy = 0.25 * wide * sx, 0.25 * high * sy
        out.append(np.array([corners[0] - dx, corners[1] - dy, corners[2] + dx, corners[3] + dy], np.float32))
    return out


def load_faces() -> Any | None:
    """The YuNet face detector, None when its weights are not here. Raises PrivacyError for weights that do not load."""
    from pipeline.weights import locate

    path = locate("yunet")
    if path is None:
        return None
    import cv2

    try:
        return cv2.FaceDetectorYN.create(str(path), "", (FACE_INPUT_PX, FACE_INPUT_PX), FACE_SURE, 0.3, 50)
    except cv2.error as error:
        raise PrivacyError(f"{path}: not a YuNet face detector that this OpenCV can load: {error}") from error


def blur_of(run_dir: Path) -> Blur:
    """What a run hides (its own `privacy.blur`). Raises JournalError."""
    said = read_facts(run_dir).get("config", {}).get("privacy", {}).get("blur", "none")
    return said if said in ("faces", "heads", "bodies") else "none"


def hiders(run_dir: Path, cameras: Sequence[str], how: Blur | None = None) -> dict[str, Hider]:
    """One Hider per camera of a finished run; `how` None: as the run's own settings say.

    Where faces are asked for and the face detector is not here, heads are hidden, and the log says so.
    Raises FileNotFoundError, JournalError, PrivacyError.
    """
    how = blur_of(run_dir) if how is None else how
    erased = read_erased_boxes(run_dir)
    if erased is None:
        raise PrivacyError(f"{run_dir}: somebody was forgotten in this run; it is not drawn from its sources again")
    if how == "none":
        return {camera: Hider("none", (), erased=erased.get(camera, ())) for camera in cameras}
    if how == "faces" and load_faces() is None:
        log.warning("no face detector is here (identrix models: yunet): heads are hidden instead of faces")
        how = "heads"
    stays = read_hidden_boxes(run_dir)
    # Cameras are drawn side by side, and a detector holds the size of its last picture: one each.
    return {
        camera: Hider(
            how, stays.get(camera, ()), load_faces() if how == "faces" else None, erased=erased.get(camera, ())
        )
        for camera in cameras
    }
