"""Top-k and the Market-1501 evaluation in slow, obvious loops."""

from __future__ import annotations


def ranked(scores):
    """Rows from best to worst; equal scores: lower row first."""
    return sorted(range(len(scores)), key=lambda row: (-scores[row], row))


def evaluate(scores, query_people, query_cameras, gallery_people, gallery_cameras):
    """(rank1, rank5, rank10, trapezoid mAP, standard mAP, mINP)."""
    sums = [0.0] * 6
    for query, row in enumerate(scores):
        list_of_correct = []
        position = 0
        for image in ranked(list(row)):
            same = gallery_people[image] == query_people[query]
            here = gallery_cameras[image] == query_cameras[query]
            if gallery_people[image] == -1 or (same and here):
                continue
            if same:
                list_of_correct.append(position)
            position += 1
        if not list_of_correct:
            continue
        for slot, k in enumerate((1, 5, 10)):
            sums[slot] += list_of_correct[0] < k
        n = len(list_of_correct)
        for i, position in enumerate(list_of_correct):
            precision = (i + 1) / (position + 1)
            before = i / position if position else 1.0
            sums[3] += (before + precision) / 2 / n
            sums[4] += precision / n
        sums[5] += n / (list_of_correct[-1] + 1)
    return [value / len(query_people) for value in sums]
