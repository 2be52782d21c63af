"""Hand-over scores: of the true moves between cameras, how many keep their id; of the claimed, how many are true.

    stay       a run of frames of one id in one camera; more than `stay_gap` frames without a box start a new one
    hand-over  two stays of one id that follow each other in order of entry, in different cameras
    label      of a true stay: the predicted id that covers most of its matched frames, the smaller one of equals

A true hand-over is kept (recall) when both its stays have the same label. A predicted one is right (precision) when
the two true stays that its stays cover most are a true hand-over. Boxes are matched frame by frame, as many as possible
first, then with the largest overlap. Stays with fewer than `min_stay` boxes are left out on both sides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.mot_files import MotBoxes


@dataclass(frozen=True)
class HandoverScores:
    """recall and precision are None where there is nothing to divide by; f1 is then 0.

    kept, right     true hand-overs that kept their id; predicted ones that are true
    right_person    predicted hand-overs whose stays are one person, whether or not a true hand-over
    false_merges    predicted ids that are the label of stays of two or more persons
    fragments       labels of a person beyond the first, summed over persons
    unlabelled      true stays that no prediction ever matched
    """

    recall: float | None
    precision: float | None
    f1: float
    true_handovers: int
    kept: int
    predicted_handovers: int
    right: int
    right_person: int
    false_merges: int
    fragments: int
    unlabelled: int
    true_stays: int
    predicted_stays: int


@dataclass(frozen=True, eq=False)
class _Stay:
    person: int
    start: int
    end: int
    camera: str
    rows: NDArray[np.int64]

    def __lt__(self, other: _Stay) -> bool:
        mine = (self.person, self.start, self.end, self.camera)
        return mine < (other.person, other.start, other.end, other.camera)


def handover_scores(
    truth: Mapping[str, MotBoxes],
    predicted: Mapping[str, MotBoxes],
    matches: Mapping[str, NDArray[np.int64]],
    *,
    min_stay: int,
    stay_gap: int,
    offset_frames: Mapping[str, int],
) -> HandoverScores:
    """Score predicted ids against true ones.

    truth, predicted  camera -> boxes, the same cameras
    matches           camera -> (number of truth rows,) the predicted row matched to each, -1 for none
    offset_frames     added to a camera's frame numbers to get a common clock; 0 where missing
    """
    true_stays = _stays(truth, min_stay, stay_gap, offset_frames)
    claimed_stays = _stays(predicted, min_stay, stay_gap, offset_frames)
    labels = []
    # For each claimed stay: the true stays of its matched boxes.
    covering: list[list[int]] = [[] for _ in claimed_stays]
    claimed_of = {(s.camera, int(row)): n for n, s in enumerate(claimed_stays) for row in s.rows}
    for number, stay in enumerate(true_stays):
        partners = matches[stay.camera][stay.rows]
        partners = partners[partners >= 0]
        labels.append(_most(predicted[stay.camera].ids[partners].tolist()))
        for row in partners.tolist():
            if (stay.camera, row) in claimed_of:
                covering[claimed_of[stay.camera, row]].append(number)
    covered = [_most(numbers) for numbers in covering]

    true_moves, claimed_moves = _moves(true_stays), _moves(claimed_stays)
    kept = sum(labels[a] is not None and labels[a] == labels[b] for a, b in true_moves)
    truths = set(true_moves)
    seen = [(x, y) for a, b in claimed_moves if (x := covered[a]) is not None and (y := covered[b]) is not None]
    right = sum(pair in truths for pair in seen)
    persons_of, labels_of = defaultdict(set), defaultdict(set)
    for stay, label in zip(true_stays, labels, strict=True):
        if label is not None:
            persons_of[label].add(stay.person)
            labels_of[stay.person].add(label)
    recall = kept / len(true_moves) if true_moves else None
    precision = right / len(claimed_moves) if claimed_moves else None
    both = (recall or 0.0) + (precision or 0.0)
    return HandoverScores(
        recall=recall,
        precision=precision,
        f1=2 * recall * precision / both if recall and precision else 0.0,
        true_handovers=len(true_moves),
        kept=kept,
        predicted_handovers=len(claimed_moves),
        right=right,
        right_person=sum(true_stays[x].person == true_stays[y].person for x, y in seen),
        false_merges=sum(len(persons) > 1 for persons in persons_of.values()),
        fragments=sum(len(found) - 1 for found in labels_of.values()),
        unlabelled=labels.count(None),
        true_stays=len(true_stays),
        predicted_stays=len(claimed_stays),
    )


def _stays(
    cameras: Mapping[str, MotBoxes], min_stay: int, stay_gap: int, offset_frames: Mapping[str, int]
) -> list[_Stay]:
    """All stays of at least `min_stay` boxes, ordered by person, entry, end, camera."""
    found = []
    for camera, boxes in cameras.items():
        order = np.lexsort((boxes.frames, boxes.ids))
        ids, frames = boxes.ids[order], boxes.frames[order] + offset_frames.get(camera, 0)
        cuts = np.flatnonzero((np.diff(ids) != 0) | (np.diff(frames) > stay_gap + 1)) + 1
        for rows in np.split(np.arange(len(order)), cuts):
            if len(rows) >= max(min_stay, 1):
                first, last = rows[0], rows[-1]
                found.append(_Stay(int(ids[first]), int(frames[first]), int(frames[last]), camera, order[rows]))
    return sorted(found)


def _moves(stays: Sequence[_Stay]) -> list[tuple[int, int]]:
    """Hand-overs as pairs of positions in `stays`, which are ordered by person and entry."""
    numbered = pairwise(enumerate(stays))
    return [(n, m) for (n, a), (m, b) in numbered if a.person == b.person and a.camera != b.camera]


def _most(labels: Iterable[int]) -> int | None:
    """The most frequent label, the smallest of equals; None of none."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label), default=None)
