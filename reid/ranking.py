"""Ranking a gallery by scores, and how good the ranking is: top-k, CMC and mean average precision.

Definitions of Market-1501 (Zheng et al., ICCV 2015): gallery images labelled -1, and those of the query's own person in
the query's own camera, are junk and taken out before ranks are counted. Equal scores: the lower gallery row comes
first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

JUNK = -1


@dataclass(frozen=True)
class RankingScores:
    """Quality of a ranking, each in [0, 1]; queries without a correct gallery image count as wrong.

    rank1, rank5, rank10  share of the queries with a correct image among the first k (CMC)
    mAP_trapezoid         precision averaged over the trapezoids under the curve (code published with Market-1501)
    mAP_standard          precision at each correct image, averaged
    mINP                  correct images / rank of the last of them, averaged: what finding them all costs (Ye et al.,
                          "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2022)
    """

    rank1: float
    rank5: float
    rank10: float
    mAP_trapezoid: float
    mAP_standard: float
    mINP: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return asdict(self)


def match_topk(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], k: int, *, chunk_rows: int = 512
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The k most similar gallery rows of each query by dot product (cosine for unit rows), exact.

    queries (Q, D), gallery (G, D) float32, 1 <= k <= G. Returns (indices (Q, k), similarities (Q, k)), best first;
    equal similarities: lower row first. Raises ValueError when shapes do not fit.

    >>> gallery = np.eye(3, dtype=np.float32)
    >>> match_topk(gallery[1:2], gallery, 2)[0].tolist()
    [[1, 0]]
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries (Q, D) and gallery (G, D) must share D, got {queries.shape} and {gallery.shape}")
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k must be from 1 to the {len(gallery)} gallery rows, got {k}")
    indices = np.empty((len(queries), k), np.intp)
    values = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), chunk_rows):
        block = queries[start : start + chunk_rows] @ gallery.T
        for row, similarity in enumerate(block, start):
            indices[row] = smallest(-similarity, k)
            values[row] = similarity[indices[row]]
    return indices, values


def smallest(values: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """Indices of the k smallest values, smallest first; equal values: lower index first.

    One partial sort finds the k-th value, one comparison finds who is no larger: much cheaper than a full sort.

    >>> smallest(np.array([3.0, 1.0, 2.0, 1.0]), 3).tolist()
    [1, 3, 2]
    """
    limit = np.partition(values, k - 1)[k - 1]
    near = np.flatnonzero(values <= limit)
    return near[np.argsort(values[near], kind="stable")[:k]]


def average_precision(positions: NDArray[np.integer]) -> tuple[float, float]:
    """(trapezoid, standard) average precision of correct images at these 0-based positions, ascending, at least one.

    >>> average_precision(np.array([0, 1]))
    (1.0, 1.0)
    >>> average_precision(np.array([1]))
    (0.25, 0.5)
    """
    found = np.arange(len(positions))
    precision = (found + 1) / (positions + 1)
    before = np.where(positions == 0, 1.0, found / np.maximum(positions, 1))
    return float(((before + precision) / 2).mean()), float(precision.mean())


def evaluate_ranking(
    scores: NDArray[np.float32],
    query_people: NDArray[np.int64],
    query_cameras: NDArray[np.int64],
    gallery_people: NDArray[np.int64],
    gallery_cameras: NDArray[np.int64],
) -> RankingScores:
    """Rate (Q, G) scores, larger is better.

    Ranks are counted without ordering the whole gallery: the position of a correct image is the number of scores above
    it, less the junk among those. Raises ValueError when lengths do not fit, there is no query, or a score is NaN.
    """
    if scores.shape != (len(query_people), len(gallery_people)) or not len(query_people):
        raise ValueError(
            f"scores {scores.shape} do not fit {len(query_people)} queries and {len(gallery_people)} images"
        )
    if len(query_cameras) != len(query_people) or len(gallery_cameras) != len(gallery_people):
        raise ValueError("every image needs a person and a camera")
    columns = np.flatnonzero(gallery_people != JUNK)
    people, cameras = gallery_people[columns], gallery_cameras[columns]
    by_person = np.argsort(people, kind="stable")
    first = np.searchsorted(people[by_person], query_people, "left")
    last = np.searchsorted(people[by_person], query_people, "right")
    hits = np.zeros(3)
    trapezoid = standard = penalty = 0.0
    for query, row in enumerate(scores):
        own = by_person[first[query] : last[query]]  # ascending rows: the sort is stable
        elsewhere = cameras[own] != query_cameras[query]
        correct, junk = own[elsewhere], own[~elsewhere]
        if not len(correct):
            continue
        positions = _positions(row[columns], correct, junk)
        hits += positions[0] < np.array([1, 5, 10])
        one_trapezoid, one_standard = average_precision(positions)
        trapezoid += one_trapezoid
        standard += one_standard
        penalty += len(positions) / float(positions[-1] + 1)
    n = len(query_people)
    rank1, rank5, rank10 = (hits / n).tolist()
    return RankingScores(rank1, rank5, rank10, trapezoid / n, standard / n, penalty / n)


def _positions(scores: NDArray[np.float32], correct: NDArray[np.intp], junk: NDArray[np.intp]) -> NDArray[np.intp]:
    """Ascending 0-based positions of the correct rows among all rows but junk."""
    wanted = scores[correct]
    ordered = np.sort(scores)
    if np.isnan(ordered[-1]):  # NaN sorts last
        raise ValueError("scores must not be NaN")
    end = np.searchsorted(ordered, wanted, "right")
    above = len(ordered) - end
    tied = end - np.searchsorted(ordered, wanted, "left") > 1
    for i in np.flatnonzero(tied):
        above[i] += np.count_nonzero(scores[: correct[i]] == wanted[i])
    if len(junk):
        value, row = scores[junk][:, None], junk[:, None]
        above -= np.count_nonzero((value > wanted) | ((value == wanted) & (row < correct)), axis=0)
    return np.sort(above)
