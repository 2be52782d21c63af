"""Whether any face in the footage at hand passes the gates, and what faces that do not pass would be worth.

    IDENTRIX_DATA=... IDENTRIX_MODELS=... python -m tests.benchmarks.bench_faces [--json OUT]

pku      every picture of PKU-Reid (74 people, two cameras, eight orientations, 48x128), as a run would look at it
films    whole frames, enlarged twice, of the one-by-one clip (every 2nd), PETS 2009 (every 10th) and TUD-Campus: every
         face in a frame is found, whether a person detector would have cut it out or not
worth    faces that do not pass, embedded with MobileFaceNet, same against different: of PKU with so many pixels or more
         between the eyes, however blurred, pairs from different cameras; of TUD-Campus with 8 or more, of two people by
         the ground truth, pairs of one person at least .4 s apart

Each face is counted once: as "face", or under the first gate that refuses it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from reid.encoders import Encoder, load_encoder
from reid.faces import Face, FaceFinder, FaceGates, aligned, fault

YUNET, CARD = "face_detection_yunet_2026may.onnx", Path("configs/cards/mobilefacenet.yaml")
FILMS = (
    ("intel_one_by_one/one-by-one-person-detection.mp4", 2),
    ("pets2009/vtest.avi", 10),
    ("tud_campus/TUD-Campus.mp4", 1),
)
ENLARGED = 2
LEAST = 0.5
"""Score from which YuNet says anything; the gate is at .7."""

Seen = tuple[Face, NDArray[np.uint8]]


def counted(pictures: int, seen: Sequence[Seen]) -> dict[str, Any]:
    """What the gates say of faces and their aligned chips, and how large those are that YuNet is sure of."""
    gates = FaceGates()
    said = Counter(fault(face, chip, gates) or "face" for face, chip in seen)
    sure = [face.eyes_px for face, _ in seen if face.score >= gates.score]
    largest = round(max(sure), 1) if sure else None
    return {"pictures": pictures, "found": len(seen), **said, "largest_eyes_px": largest}


def pku(data: Path, models: Path) -> tuple[list[dict[str, Any]], list[Seen], list[tuple[str, str]]]:
    """(rows, faces, (person, camera) of each)."""
    import cv2

    find, seen, who = FaceFinder(models / YUNET, LEAST), [], []
    paths = sorted((data / "pku_reid").glob("t*/*/*.png"))
    for path in paths:
        image = np.asarray(cv2.imread(str(path)), np.uint8)
        face = find(image)
        if face is not None:
            seen.append((face, aligned(image, face.points)))
            who.append((path.parent.name, path.name[:2]))
    return [{"data": "pku_reid", **counted(len(paths), seen)}], seen, who


def in_frames(path: Path, every: int, yunet: Path) -> tuple[int, list[Seen], list[int]]:
    """(frames looked at, every face in them, the frame of each, from 1), in pixels of the source."""
    import cv2

    detector = cv2.FaceDetectorYN.create(str(yunet), "", (320, 320), LEAST, 0.3, 50)
    seen, at, count = [], [], 0
    for image in _frames(path, every):
        count += 1
        large = cv2.resize(image, None, fx=ENLARGED, fy=ENLARGED)
        detector.setInputSize((large.shape[1], large.shape[0]))
        _, rows = detector.detect(large)
        for row in np.asarray(rows if rows is not None else np.zeros((0, 15)), np.float32):
            box = row[:4] / ENLARGED
            box[2:] += box[:2]
            face = Face(box, row[4:14].reshape(5, 2) / ENLARGED, float(row[14]))
            seen.append((face, aligned(image, face.points)))
            at.append((count - 1) * every + 1)
    return count, seen, at


def _frames(path: Path, every: int) -> Iterator[NDArray[np.uint8]]:
    import cv2

    capture, number = cv2.VideoCapture(str(path)), 0
    while (read := capture.read())[0]:
        if number % every == 0:
            yield np.asarray(read[1], np.uint8)
        number += 1


def worth(encode: Encoder, seen: Sequence[Seen], who: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """PKU's faces: pairs of different cameras, per least distance of the eyes."""
    rows = []
    for least_px in (4.0, 4.5, 5.0):
        gates = FaceGates(eyes_px=least_px, sharpness=0)
        kept = [n for n, (face, chip) in enumerate(seen) if fault(face, chip, gates) is None]
        people, cameras = (np.array([who[n][side] for n in kept]) for side in (0, 1))
        row = {"data": "pku_reid", "eyes_px": least_px, "faces": len(kept), "people": len(set(people))}
        rows.append(row | apart(encode([seen[n][1] for n in kept]), people, cameras[:, None] != cameras[None]))
    return rows


def worth_tud(encode: Encoder, truth: Path, seen: Sequence[Seen], frames: Sequence[int]) -> dict[str, Any]:
    """TUD-Campus: faces of at least 8 px in the upper quarter of the boxes of persons 2 and 3, who face the camera."""
    boxes = np.loadtxt(truth, delimiter=",", usecols=range(6))
    kept, people = [], []
    for n, (face, _) in enumerate(seen):
        x, y = (face.box[:2] + face.box[2:]) / 2
        if face.score < FaceGates().score or face.eyes_px < 8:
            continue
        for _, person, left, top, width, height in boxes[boxes[:, 0] == frames[n]]:
            if person in (2, 3) and left <= x <= left + width and top - 5 <= y <= top + height / 4:
                kept.append(n)
                people.append(int(person))
                break
    number, who = np.array([frames[n] for n in kept]), np.array(people)
    far = (abs(number[:, None] - number[None]) >= 10) | (who[:, None] != who[None])
    row = {"data": "tud_campus", "eyes_px": 8.0, "faces": len(kept), "people": len(set(people))}
    return row | apart(encode([seen[n][1] for n in kept]), who, far)


def apart(looks: NDArray[np.float32], people: NDArray[Any], comparable: NDArray[np.bool_]) -> dict[str, Any]:
    """Area under the curve of same against different, and mean and standard deviation of both cosines."""
    first, second = np.nonzero(np.triu(comparable, 1))
    cosines, same = (looks @ looks.T)[first, second], people[first] == people[second]
    row: dict[str, Any] = {"same": int(same.sum()), "different": int((~same).sum())}
    if same.any() and not same.all():
        area = (rankdata(cosines)[same].sum() - same.sum() * (same.sum() + 1) / 2) / (same.sum() * (~same).sum())
        row["auc"] = round(float(area), 3)
        for name, which in (("cosine_same", same), ("cosine_different", ~same)):
            row[name] = [round(float(cosines[which].mean()), 2), round(float(cosines[which].std()), 2)]
    return row


def main() -> None:
    """Count, embed, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data, models = (Path(os.environ.get(name, "")) for name in ("IDENTRIX_DATA", "IDENTRIX_MODELS"))
    needed = [data / "pku_reid", models / YUNET, models / "mobilefacenet.onnx", *(data / name for name, _ in FILMS)]
    if absent := [path.name for path in needed if not path.exists()]:
        print(f"faces: left out, $IDENTRIX_DATA or $IDENTRIX_MODELS lacks {', '.join(absent)}")
        return
    encode = load_encoder(str(CARD), {"card": CARD, "weights": models / "mobilefacenet.onnx"})
    rows, seen, who = pku(data, models)
    found: dict[str, Any] = {"benchmark": "faces", "rows": rows, "worth": worth(encode, seen, who)}
    for name, every in FILMS:
        count, faces, frames = in_frames(data / name, every, models / YUNET)
        rows.append({"data": name.split("/")[0], **counted(count, faces)})
        if name.startswith("tud_campus"):
            found["worth"].append(worth_tud(encode, data / "tud_campus" / "gt.txt", faces, frames))
    for row in (*rows, *found["worth"]):
        print(json.dumps(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
