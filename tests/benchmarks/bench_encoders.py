"""How well each encoder tells people apart, and what it costs: one JSON line per encoder.

    IDENTRIX_DATA=... IDENTRIX_MODELS=... python -m tests.benchmarks.bench_encoders [ENCODER ...] [--json OUT]

An ENCODER is a name, a path to weights, a model card, or two of them joined by + (a pair, the first at its usual
share).
Data: crops cut by ground truth from two views of PETS 2009 (every third frame), TUD-Campus (one camera, pairs more than
a second apart), and PKU-Reid (74 people, two cameras; and the 12 of its test half alone). `same` and `different` are
mean and standard deviation of the cosine. Two pairs of ids of the PETS ground truth are one person who comes back; they
are joined here.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pipeline.weights import WeightsError, resolve_all
from reid.crops import cut_out
from reid.encoders import Encoder, load_encoder
from reid.pair import PairEncoder

SAME_PERSON = {"vcam_dev": {19: 1, 15: 14}}
ENCODERS = (
    *("stripes", "osnet_x0_25_msmt17", "osnet_x0_25_msmt17.pth", "retail-0287", "retail-0277"),
    *("pair", "retail-0287+osnet_x0_25_msmt17", "retail-0277+retail-0287"),
)


@dataclass(frozen=True)
class Gallery:
    """Crops with who they show, and which pairs of them may be compared."""

    crops: list[NDArray[np.uint8]]
    people: NDArray[np.int64]
    comparable: NDArray[np.bool_]


def from_video(truth: Path, video: Path, every: int) -> tuple[list[NDArray[np.uint8]], list[int], list[int]]:
    """Crops, people and frame numbers of a MOT ground truth."""
    import cv2

    rows = np.loadtxt(truth, delimiter=",", usecols=range(6))
    capture = cv2.VideoCapture(str(video))
    crops, people, frames = [], [], []
    number = 0
    while (read := capture.read())[0]:
        number += 1
        for _, person, left, top, width, height in rows[rows[:, 0] == number] if number % every == 0 else ():
            crop = cut_out(read[1], np.array([left, top, left + width, top + height], np.float32))
            if min(crop.shape[:2]) >= 4:
                crops.append(crop.copy())
                people.append(int(person))
                frames.append(number)
    return crops, people, frames


def galleries(data: Path) -> dict[str, Gallery]:
    """What of the data is there."""
    import cv2

    found = {}
    if (root := data / "vcam_dev").is_dir():
        crops, people, cameras = [], [], []
        for camera in "ab":
            more, who, _ = from_video(root / "gt" / f"{camera}.txt", root / "videos" / f"{camera}.mp4", every=3)
            crops += more
            people += [SAME_PERSON["vcam_dev"].get(person, person) for person in who]
            cameras += [camera] * len(more)
        found["vcam_dev"] = Gallery(crops, np.array(people), np.not_equal.outer(cameras, cameras))
    if (root := data / "tud_campus").is_dir():
        crops, people, frames = from_video(root / "gt.txt", root / "TUD-Campus.mp4", every=1)
        apart = np.abs(np.subtract.outer(frames, frames)) > 25
        found["tud_campus"] = Gallery(crops, np.array(people), apart)
    if (root := data / "pku_reid").is_dir():
        files = sorted(root.glob("t*/*/*.png"))
        cameras = [file.name[:2] for file in files]
        people = [int(file.parent.name) for file in files]
        crops = [cv2.imread(str(file)) for file in files]
        apart = np.not_equal.outer(cameras, cameras)
        found["pku_reid"] = Gallery(crops, np.array(people), apart)
        test = [n for n, file in enumerate(files) if file.parent.parent.name == "test"]
        found["pku_test"] = Gallery([crops[n] for n in test], np.array(people)[test], apart[np.ix_(test, test)])
    return found


def made(name: str) -> Encoder:
    """The encoder of a name, a file of $IDENTRIX_MODELS, a path, or of two of these joined by +."""
    first, plus, second = name.partition("+")
    if plus:
        return PairEncoder(made(first), made(second), name=name)
    lying = Path(os.environ.get("IDENTRIX_MODELS", "")) / name
    path = str(lying) if Path(name).suffix and not Path(name).exists() and lying.is_file() else name
    return load_encoder(name, resolve_all(path))


def scores(rows: NDArray[np.float32], gallery: Gallery) -> dict[str, object]:
    """Same/different AUC over all comparable pairs; rank-1 and mAP over all queries that have a true match."""
    cosines = rows @ rows.T
    same = np.equal.outer(gallery.people, gallery.people)
    once = np.triu(gallery.comparable, 1)
    alike, unlike = cosines[once & same], cosines[once & ~same]
    ranks = rankdata(np.concatenate([alike, unlike]))
    auc = (ranks[: len(alike)].sum() - len(alike) * (len(alike) + 1) / 2) / (len(alike) * len(unlike))
    firsts, precisions = [], []
    for cosine, allowed, true in zip(cosines, gallery.comparable, same, strict=True):
        order = np.argsort(-cosine[allowed], kind="stable")
        hits = np.flatnonzero(true[allowed][order])
        if len(hits):
            firsts.append(hits[0] == 0)
            precisions.append(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))
    return {
        "auc": round(float(auc), 4),
        "rank1": round(float(np.mean(firsts)), 3),
        "map": round(float(np.mean(precisions)), 3),
        "same": [round(float(alike.mean()), 2), round(float(alike.std()), 2)],
        "different": [round(float(unlike.mean()), 2), round(float(unlike.std()), 2)],
    }


def cpu_ms_per_crop(encode: Encoder, crops: list[NDArray[np.uint8]], batch: int) -> float:
    """Median over repeats, CPU time of the whole process."""
    encode(crops[:batch])
    costs = []
    for _ in range(max(3, 32 // batch)):
        start = time.process_time()
        encode(crops[:batch])
        costs.append((time.process_time() - start) * 1000 / batch)
    return round(float(np.median(costs)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("encoders", nargs="*", default=ENCODERS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = galleries(Path(os.environ.get("IDENTRIX_DATA", "")))
    if not data:
        print("skipped: $IDENTRIX_DATA has none of vcam_dev, tud_campus, pku_reid")
        return
    rows: list[dict[str, object]] = []
    for name in arguments.encoders:
        try:
            encode = made(name)
        except WeightsError as error:
            print(json.dumps({"encoder": name, "missing": str(error)}))
            continue
        result: dict[str, object] = {"encoder": name, "dim": encode.dim}
        for part, gallery in data.items():
            batches = [encode(gallery.crops[n : n + 32]) for n in range(0, len(gallery.crops), 32)]
            result[part] = scores(np.concatenate(batches), gallery)
        crops = next(iter(data.values())).crops
        result["cpu_ms_per_crop"] = {batch: cpu_ms_per_crop(encode, crops, batch) for batch in (1, 8, 32)}
        print(json.dumps(result), flush=True)
        rows.append(result)
    if arguments.json:
        arguments.json.write_text(json.dumps({"benchmark": "encoders", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
