"""Faces as a second opinion: found inside crops of persons, judged, aligned, embedded. Off unless somebody asks for it.

    crop of a person -> YuNet: box and five points -> quality gates -> 112x112, eyes and mouth in fixed places -> vector

A face counts only when it is large, looks at the camera, and is sharp; most crops of a fixed camera have none that is,
and then nothing is said. Networks that take such faces (ArcFace, MagFace, GhostFaceNet, SFace, MobileFaceNet) come
through model cards (reid/cards.py). Sources: Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023; Deng et
al., "ArcFace", CVPR 2019, whose five points the alignment is to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.encoders import Encoder, EncoderError, check_file

Picture = NDArray[np.uint8]

SIZE_PX = 112
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where the eyes, the nose and the corners of the mouth are in an aligned face of 112x112 (ArcFace's published
alignment; left and right as in the picture)."""

LOOK_PX = 320
"""Upper bodies are enlarged or reduced to about this height before faces are looked for."""
UPPER = 0.5
"""Share of a person's crop in which the face is looked for, from the top."""


@dataclass(frozen=True)
class FaceGates:
    """What a face must be like to count.

    score         least score of the detector, [0, 1]
    eyes_px       least distance of the eyes in the source, pixels
    turn          largest turn of the head to a side, as the nose's distance from the middle of the eyes in eye
                  distances (0 straight, about .5 where the far eye begins to vanish)
    nod           least and largest height of the nose between eyes and mouth, as a share
    sharpness     least variance of the Laplacian of the aligned face

    The defaults keep what a person could compare: 12 px between the eyes is a face of about 28 px.
    """

    score: float = 0.7
    eyes_px: float = 12.0
    turn: float = 0.35
    nod: tuple[float, float] = (0.25, 0.75)
    sharpness: float = 15.0

    def __post_init__(self) -> None:
        if not (0 <= self.score <= 1 and self.eyes_px > 0 and self.turn > 0 and self.sharpness >= 0):
            raise ValueError("score must lie in [0, 1], eyes_px and turn must be positive, sharpness not negative")
        if not 0 <= self.nod[0] < self.nod[1] <= 1:
            raise ValueError(f"nod must be two shares in rising order, got {self.nod}")


@dataclass(frozen=True, eq=False)
class Face:
    """One face in a picture.

    box     (4,) float32 xyxy px
    points  (5, 2) float32 px: eyes, nose, corners of the mouth; the ones on the left of the picture first
    score   of the detector, [0, 1]
    """

    box: NDArray[np.float32]
    points: NDArray[np.float32]
    score: float

    @property
    def eyes_px(self) -> float:
        """Distance of the eyes, pixels."""
        return float(np.linalg.norm(self.points[1] - self.points[0]))


class FaceFinder:
    """YuNet on the upper half of a person's crop. EncoderError when its weights are missing or damaged."""

    def __init__(self, path: Path, score: float = 0.7) -> None:
        import cv2

        check_file(path, "yunet")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of a target nobody chose
        try:
            self._detector = cv2.FaceDetectorYN.create(str(path), "", (LOOK_PX, LOOK_PX), score, 0.3, 10)
        except cv2.error as error:
            message = f"yunet: {path} is not a face detector that this OpenCV can load: {error.err}"
            raise EncoderError(message) from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def __call__(self, crop: Picture) -> Face | None:
        """The surest face in a crop (H, W, 3) uint8 BGR of one person, or None."""
        import cv2

        part = crop[: max(1, round(crop.shape[0] * UPPER))]
        if min(part.shape[:2]) < 8:
            return None
        scale = LOOK_PX / max(part.shape[:2])
        size = (max(32, round(part.shape[1] * scale)), max(32, round(part.shape[0] * scale)))
        self._detector.setInputSize(size)
        _, rows = self._detector.detect(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR))
        if rows is None or not len(rows):
            return None
        row = np.asarray(rows[int(np.argmax(rows[:, 14]))], np.float32)
        back = np.array([part.shape[1] / size[0], part.shape[0] / size[1]], np.float32)
        corner, extent = row[:2] * back, row[2:4] * back
        return Face(np.concatenate([corner, corner + extent]), row[4:14].reshape(5, 2) * back, float(row[14]))


def aligned(image: Picture, points: NDArray[np.float32]) -> Picture:
    """(112, 112, 3) uint8: the picture turned, moved and scaled so that the five points lie on `TEMPLATE`.

    The similarity is the least-squares one (Umeyama, "Least-squares estimation of transformation parameters between two
    point patterns", PAMI 1991). EncoderError when the points lie all in one place.
    """
    import cv2

    return np.asarray(
        cv2.warpAffine(image, similarity(points, TEMPLATE), (SIZE_PX, SIZE_PX), flags=cv2.INTER_LINEAR), np.uint8
    )


def similarity(points: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.float64]:
    """(2, 3) rotation, scale and shift that brings (N, 2) points nearest to (N, 2) targets.

    >>> square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], np.float32)
    >>> similarity(square, square * 3 + 5)[:, 2].round(3).tolist()
    [5.0, 5.0]
    """
    a = points.astype(np.float64) - points.mean(axis=0)
    b = targets.astype(np.float64) - targets.mean(axis=0)
    spread = float((a * a).sum())
    if not spread > 1e-9:
        raise EncoderError("the points of a face lie all in one place")
    along = float((a * b).sum()) / spread
    across = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / spread
    turn = np.array([[along, -across], [across, along]])
    return np.column_stack([turn, targets.mean(axis=0) - turn @ points.mean(axis=0)])


def fault(face: Face, chip: Picture, gates: FaceGates) -> str | None:
    """Why a face does not count: "score", "size", "pose" or "sharpness"; None when it does.

    chip  the aligned face
    """
    if face.score < gates.score:
        return "score"
    if face.eyes_px < gates.eyes_px:
        return "size"
    turn, nod = pose(face.points)
    if abs(turn) > gates.turn or not gates.nod[0] <= nod <= gates.nod[1]:
        return "pose"
    return "sharpness" if sharpness(chip) < gates.sharpness else None


def pose(points: NDArray[np.float32]) -> tuple[float, float]:
    """(turn, nod) of a head by its five points, free of how the picture is tilted: the nose's distance from the middle
    line of eyes and mouth in eye distances, and its height between the eyes (0) and the mouth (1).

    >>> [round(abs(v), 2) for v in pose(TEMPLATE)]
    [0.0, 0.49]
    """
    upright = points.astype(np.float64)
    eyes, mouth = upright[:2].mean(axis=0), upright[3:].mean(axis=0)
    across = upright[1] - upright[0]
    eyes_px = float(np.linalg.norm(across))
    down = mouth - eyes
    if eyes_px < 1e-6 or float(down @ down) < 1e-6:
        return np.inf, np.inf
    nose = upright[2] - eyes
    nod = float(nose @ down / (down @ down))
    middle = eyes + nod * down
    return float((upright[2] - middle) @ (across / eyes_px)) / eyes_px, nod


def sharpness(chip: Picture) -> float:
    """Variance of the Laplacian of the middle of an aligned face: >= 0, larger is sharper. Enlarged small faces are
    soft, so size counts here, too."""
    import cv2

    grey = cv2.cvtColor(chip[16:104, 20:92], cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


@dataclass(frozen=True, eq=False)
class SeenFace:
    """One face that counts: (D,) unit embedding, and its weight in a mean, (0, 1]."""

    embedding: NDArray[np.float32]
    quality: float


class FaceReader:
    """Finds, judges and embeds the faces in crops of persons.

    encode  an encoder of 112x112 faces
    seen    counts of what became of each crop: "face", or why not ("none", "score", "size", "pose", "sharpness")
    """

    def __init__(self, find: FaceFinder, encode: Encoder, gates: FaceGates | None = None) -> None:
        self._find, self._encode = find, encode
        self.gates = gates or FaceGates()
        self.seen: dict[str, int] = {}

    def __call__(self, crops: Sequence[Picture]) -> list[SeenFace | None]:
        """One entry per crop (H, W, 3) uint8 BGR: its face, or None where there is none that counts."""
        chips: list[Picture] = []
        places: list[tuple[int, float]] = []
        for n, crop in enumerate(crops):
            face = self._find(crop)
            chip = None if face is None else aligned(crop, face.points)
            why = "none" if face is None or chip is None else fault(face, chip, self.gates)
            self.seen[why or "face"] = self.seen.get(why or "face", 0) + 1
            if why is None and face is not None and chip is not None:
                chips.append(chip)
                # Twice the least size is as good as it gets; what is turned away counts less.
                size = min(1.0, face.eyes_px / (2 * self.gates.eyes_px))
                places.append((n, size * (1 - 0.5 * abs(pose(face.points)[0]) / self.gates.turn)))
        out: list[SeenFace | None] = [None] * len(crops)
        if chips:
            for (n, quality), row in zip(places, self._encode(chips), strict=True):
                out[n] = SeenFace(row, quality)
        return out


def load_face_reader(finder: Path, encode: Encoder, gates: FaceGates | None = None) -> FaceReader:
    """A FaceReader of these weights and this encoder. EncoderError when one of them does not do."""
    gates = gates or FaceGates()
    return FaceReader(FaceFinder(finder, gates.score), encode, gates)


def face_of(seen: Sequence[SeenFace | None]) -> NDArray[np.float32] | None:
    """Mean direction of a stay's faces, weighted by quality: (D,) unit, or None when none counts.

    >>> face_of([None, None]) is None
    True
    """
    faces = [face for face in seen if face is not None]
    if not faces:
        return None
    total: Any = np.sum([face.quality * face.embedding.astype(np.float64) for face in faces], axis=0)
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        return faces[0].embedding
    return np.asarray(total / length, np.float32)
