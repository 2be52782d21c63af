"""Scores of a run against ground truth: HOTA, IDF1, MOTA (TrackEval) and hand-overs (pipeline/handovers.py).

Ids are site-wide on both sides. Over all cameras the metrics are those of one long sequence, the cameras laid one after
the other on the time axis in order of their names: an id that differs between two cameras costs as much association as
one that switches inside a camera.

    HOTA, DetA, AssA, LocA  Luiten et al., IJCV 2020: means over the localisation thresholds .05 to .95
    IDF1, IDP, IDR          Ristani et al., ECCV-W 2016, at `iou`
    MOTA, IDSW, FP, FN      Bernardin and Stiefelhagen, 2008, at `iou`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.handovers import handover_scores
from pipeline.mot_files import MotBoxes, MotFileError, read_mot

if TYPE_CHECKING:
    from rich.table import Table

STAY_GAP = 25  # frames without a box inside one stay: one second of common video
_EPS = float(np.finfo(float).eps)
_PEDESTRIAN = 1
_DISTRACTORS = (2, 7, 8, 12)  # MOTChallenge: person on vehicle, static person, distractor, reflection

Step = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""One frame: truth rows (n,), predicted rows (m,), IoU (n, m)."""


class EvaluationError(ValueError):
    """Run and ground truth cannot be compared; the message says why."""


def evaluate(
    run_or_pred_dir: Path,
    truth_dir: Path,
    *,
    min_stay: int = 3,
    iou: float = 0.5,
    offset_frames: Mapping[str, int] | None = None,
    motchallenge: bool = False,
) -> dict[str, Any]:
    """Score the per-camera MOT files of a run (its `tracks/` folder, or a folder of `<camera>.txt`).

    truth_dir      holds `<camera>.txt` or `gt/<camera>.txt`; rows with confidence 0 are not considered
    min_stay       hand-over scores leave out stays with fewer boxes than this
    iou            overlap at which a box counts as found, for all but HOTA
    offset_frames  camera -> frames to add to its frame numbers to get a common clock (hand-overs only)
    motchallenge   apply the MOTChallenge rule for MOT17 ground truth: predictions on distractors (classes 2, 7, 8, 12)
                   are removed, only pedestrians count

    Returns plain numbers, ready for JSON: {"cameras": {camera: scores}, "all": scores, "handovers": scores (fields of
    HandoverScores), "options": {...}}; ratios in [0, 1], None where there is nothing to divide by.

    Raises EvaluationError when cameras do not fit together, MotFileError when a file is damaged.
    """
    truth_files = _camera_files(Path(truth_dir), "gt", "ground truth")
    predicted_files = _camera_files(Path(run_or_pred_dir), "tracks", "tracks")
    missing = sorted(set(truth_files) - set(predicted_files))
    extra = sorted(set(predicted_files) - set(truth_files))
    if missing:
        raise EvaluationError(
            f"{run_or_pred_dir} has no tracks of {', '.join(missing)}; it has {', '.join(predicted_files)}"
        )
    if extra:
        raise EvaluationError(f"{truth_dir} has no ground truth of {', '.join(extra)}; it has {', '.join(truth_files)}")
    truth, predicted, steps = {}, {}, {}
    for camera in truth_files:
        gt, pr = read_mot(truth_files[camera]), read_mot(predicted_files[camera])
        if motchallenge:
            gt, pr = _motchallenge(gt, pr)
        truth[camera], predicted[camera] = gt.take(gt.marks != 0), pr
        steps[camera] = _steps(truth[camera], predicted[camera])
    handovers = handover_scores(
        truth,
        predicted,
        {camera: _matches(len(truth[camera]), steps[camera], iou) for camera in truth},
        min_stay=min_stay,
        stay_gap=STAY_GAP,
        offset_frames=offset_frames or {},
    )
    return {
        "cameras": {c: _track_scores([(truth[c], predicted[c], steps[c])], iou) for c in truth},
        "all": _track_scores([(truth[c], predicted[c], steps[c]) for c in truth], iou),
        "handovers": asdict(handovers),
        "options": {"min_stay": min_stay, "iou": iou, "stay_gap": STAY_GAP, "motchallenge": motchallenge},
    }


def _camera_files(folder: Path, inner: str, what: str) -> dict[str, Path]:
    """Camera -> file, in order of name; from the inner folder when there is one."""
    if not folder.is_dir():
        raise EvaluationError(f"{folder} is not a folder; {what} are expected there as <camera>.txt")
    inside = folder / inner if (folder / inner).is_dir() else folder
    files = {path.stem: path for path in sorted(inside.glob("*.txt"))}
    if not files:
        raise EvaluationError(f"no <camera>.txt in {inside}; {what} are expected there")
    return files


def iou_matrix(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4), each left, top, width, height; 0 for empty ones.

    >>> iou_matrix(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 2, 2.0]])).round(3).tolist()
    [[0.333]]
    """
    ends_a, ends_b = a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]
    sides = np.minimum(ends_a[:, None], ends_b[None]) - np.maximum(a[:, None, :2], b[None, :, :2])
    overlap = sides.clip(0).prod(axis=2)
    union = (a[:, 2] * a[:, 3])[:, None] + (b[:, 2] * b[:, 3])[None] - overlap
    return np.where(union > _EPS, overlap / np.maximum(union, _EPS), 0.0)


def _steps(truth: MotBoxes, predicted: MotBoxes) -> list[Step]:
    """Every frame in which somebody is, on either side, in order."""
    frames = np.union1d(truth.frames, predicted.frames)
    cuts_t = np.searchsorted(truth.frames, frames), np.searchsorted(truth.frames, frames, "right")
    cuts_p = np.searchsorted(predicted.frames, frames), np.searchsorted(predicted.frames, frames, "right")
    rows = [(np.arange(a, b), np.arange(c, d)) for a, b, c, d in zip(*cuts_t, *cuts_p, strict=True)]
    return [(t, p, iou_matrix(truth.boxes[t], predicted.boxes[p])) for t, p in rows]


def _assign(overlap: NDArray[np.float64], iou: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As many pairs with at least `iou` as possible, and of those the ones that overlap most."""
    from scipy.optimize import linear_sum_assignment

    good = overlap >= iou - _EPS
    rows, columns = linear_sum_assignment(np.where(good, 10.0 + overlap, 0.0), maximize=True)
    fits = good[rows, columns]
    return rows[fits], columns[fits]


def _matches(count: int, steps: Sequence[Step], iou: float) -> NDArray[np.int64]:
    """For each of `count` truth rows the predicted row matched to it, or -1."""
    partner = np.full(count, -1, np.int64)
    for truth_rows, predicted_rows, overlap in steps:
        rows, columns = _assign(overlap, iou)
        partner[truth_rows[rows]] = predicted_rows[columns]
    return partner


def _motchallenge(truth: MotBoxes, predicted: MotBoxes) -> tuple[MotBoxes, MotBoxes]:
    """TrackEval's pre-processing of MOT17: drop predictions matched to distractors, then all but pedestrians."""
    from scipy.optimize import linear_sum_assignment

    keep = np.ones(len(predicted), bool)
    for truth_rows, predicted_rows, overlap in _steps(truth, predicted):
        scores = np.where(overlap < 0.5 - _EPS, 0.0, overlap)
        rows, columns = linear_sum_assignment(scores, maximize=True)
        matched = scores[rows, columns] > _EPS
        distracted = np.isin(truth.classes[truth_rows[rows]], _DISTRACTORS) & matched
        keep[predicted_rows[columns[distracted]]] = False
    return truth.take(truth.classes == _PEDESTRIAN), predicted.take(keep)


def _track_scores(cameras: Sequence[tuple[MotBoxes, MotBoxes, list[Step]]], iou: float) -> dict[str, Any]:
    """HOTA, CLEAR and identity scores of cameras laid one after the other."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    truth_ids = np.unique(np.concatenate([truth.ids for truth, _, _ in cameras]))
    predicted_ids = np.unique(np.concatenate([predicted.ids for _, predicted, _ in cameras]))
    data = {
        "num_timesteps": sum(len(steps) for _, _, steps in cameras),
        "num_gt_ids": len(truth_ids),
        "num_tracker_ids": len(predicted_ids),
        "num_gt_dets": sum(len(truth) for truth, _, _ in cameras),
        "num_tracker_dets": sum(len(predicted) for _, predicted, _ in cameras),
        "gt_ids": [np.searchsorted(truth_ids, truth.ids[t]) for truth, _, steps in cameras for t, _, _ in steps],
        "tracker_ids": [np.searchsorted(predicted_ids, pr.ids[p]) for _, pr, steps in cameras for _, p, _ in steps],
        "similarity_scores": [overlap for _, _, steps in cameras for _, _, overlap in steps],
    }
    options = {"THRESHOLD": iou, "PRINT_CONFIG": False}
    hota = HOTA().eval_sequence(data)
    clear = CLEAR(options).eval_sequence(data)
    identity = Identity(options).eval_sequence(data)
    found, false, missed, switches = (int(clear[name]) for name in ("CLR_TP", "CLR_FP", "CLR_FN", "IDSW"))
    return {
        **{name: float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA", "LocA")},
        **{name: float(identity[name]) for name in ("IDF1", "IDP", "IDR")},
        # TrackEval leaves MOTA at 0 when one side is empty; this is its definition.
        "MOTA": (found - false - switches) / max(1, found + missed),
        "IDSW": switches,
        "FP": false,
        "FN": missed,
        "truth_ids": len(truth_ids),
        "predicted_ids": len(predicted_ids),
        "truth_boxes": data["num_gt_dets"],
        "predicted_boxes": data["num_tracker_dets"],
    }


def score_table(result: Mapping[str, Any]) -> Table:
    """The result of `evaluate` as a rich table: one row per camera, then all, then the hand-overs as caption."""
    from rich import box
    from rich.table import Table

    heads = {"truth_ids": "people", "predicted_ids": "ids"}
    ratios, counts = ("HOTA", "DetA", "AssA", "IDF1", "MOTA"), ("IDSW", "FP", "FN", "truth_ids", "predicted_ids")
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, caption=_handover_line(result["handovers"]), caption_justify="left"
    )
    table.add_column("camera")
    for name in (*ratios, *counts):
        table.add_column(heads.get(name, name), justify="right")
    rows = [*result["cameras"].items(), ("all", result["all"])]
    for name, scores in rows:
        cells = [f"{100 * scores[r]:.1f}" for r in ratios] + [str(scores[c]) for c in counts]
        table.add_row(name, *cells, style="bold" if name == "all" else None)
    return table


def _handover_line(scores: Mapping[str, Any]) -> str:
    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    return (
        f"hand-overs: precision {percent(scores['precision'])} ({scores['right']}/{scores['predicted_handovers']}), "
        f"recall {percent(scores['recall'])} ({scores['kept']}/{scores['true_handovers']}), "
        f"F1 {percent(scores['f1'])}\nfalse merges {scores['false_merges']}, fragments {scores['fragments']}, "
        f"stays never found {scores['unlabelled']} of {scores['true_stays']}"
    )


__all__ = ["EvaluationError", "MotFileError", "evaluate", "iou_matrix", "score_table"]
