"""`test-reid`, space-time part: the published numbers of Market-1501 from file names and features.

Joins appearance (features made anywhere, rated by `reid`) with delays between cameras (`st_model`), and rates six
rankings:

    cosine                   appearance alone
    suppression              control: only images of the query's own camera are pushed back; what is won beyond it is
    time
    joint_paper              product of two logistics, tables as published (Wang et al., AAAI 2019)
    joint_calibrated         sum of log-odds; the slope is fitted without labels, to the delays of queries and gallery
    joint_paper_rerank, joint_calibrated_rerank   the same after k-reciprocal re-ranking, junk images left out
    beforehand

    MarketTestError (ValueError)   features that do not fit the names, or names nothing can be learnt from
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reid.ranking import evaluate_ranking, smallest
from reid.reranking import K1, rerank
from st_model.market1501 import JUNK, MarketImages, people_of, read_names, read_sequence_lengths
from st_model.paper import (
    DelayTable,
    calibrated_ratio,
    constant_density,
    join_calibrated,
    join_paper,
    mean_peak,
    paper_density,
    paper_weights,
)
from st_model.unlabelled_fit import AppearanceFit, fit_by_delays

if TYPE_CHECKING:
    from rich.table import Table

FIT_QUERIES, FIT_NEIGHBOURS, FIT_BEST = 400, 1000, 3
"""Pairs the slope is fitted on: the 1000 most similar images of other cameras for 400 queries, each relative to the
mean of the query's 3 best: a ranking only compares inside one query, and queries differ in how similar everybody looks
to them. With these, slopes come within a tenth of those that labels give, on the surrogate and both real networks."""

_SURE = 1e9  # ratio of a pair known to be one person

Floats = NDArray[np.float32]
Rows = dict[str, dict[str, float]]


class MarketTestError(ValueError):
    """Inputs of the test that do not fit together."""


def test_reid(
    train: Path,
    query: Path,
    gallery: Path,
    query_features: Path,
    gallery_features: Path,
    sequence_lengths: Path,
    train_features: Path | None = None,
) -> Rows:
    """The six rows above, each {rank1, rank5, rank10, mAP_trapezoid, mAP_standard}.

    `joint_calibrated` also says its `slope` and `intercept` (log-odds = slope * cosine + intercept + log r) and, when
    there are `train_features`, the `training_slope` that labels of the training people would give. It is a warning, and
    not used: a network tested on the people it was trained on is far too sure.

    train, query, gallery         text files of Market-1501 names, one a line
    query_features, ...           .npy (N, D) numbers, row n belongs to name n; scaled to unit length here
    sequence_lengths              JSON {"c1s1": frames, ...}

    Raises MarketTestError or MarketFileError (both ValueError), naming the file.
    """
    starts = read_sequence_lengths(sequence_lengths)
    training = people_of(read_names(train, starts))
    queries, images = read_names(query, starts), read_names(gallery, starts)
    query_rows = read_features(query_features, len(queries))
    gallery_rows = read_features(gallery_features, len(images), query_rows.shape[1])
    if not len(training):
        raise MarketTestError(f"{train}: no labelled people in it, so there is nothing to learn delays from")
    if not (images.person > 0).any():
        raise MarketTestError(f"{gallery}: no labelled people in it, so no query can be answered")

    if len(queries) + int((images.person != JUNK).sum()) < K1 + 2:
        raise MarketTestError(f"re-ranking compares {K1} neighbours: queries and gallery need {K1 + 2} images together")

    similarity = query_rows @ gallery_rows.T
    density = paper_density(training)
    weights, control = paper_weights(density), paper_weights(constant_density(mean_peak(density)))
    ratio = calibrated_ratio(training, queries.then(images))
    log_ratio = DelayTable(np.log(ratio.values))
    fit = fit_slope(similarity, queries, images, ratio)

    rows: Rows = {"cosine": _rate(similarity, queries, images)}
    rows["suppression"] = _rate(join_paper(similarity.copy(), control, queries, images), queries, images)
    rows["joint_paper"] = _rate(join_paper(similarity.copy(), weights, queries, images), queries, images)
    joined = join_calibrated(similarity, log_ratio, *fit, queries, images)
    rows["joint_calibrated"] = {**_rate(joined, queries, images), "slope": fit.slope, "intercept": fit.intercept}
    del similarity, joined
    if train_features:
        everybody = read_names(train, starts)
        train_rows = read_features(train_features, len(everybody), query_rows.shape[1])
        rows["joint_calibrated"]["training_slope"] = labelled_slope(train_rows, everybody)

    scored = images.person != JUNK
    images = images.take(scored)
    both, features = queries.then(images), np.concatenate([query_rows, gallery_rows[scored]])
    joint = join_paper(features @ features.T, weights, both, both)
    rows["joint_paper_rerank"] = _rate_reranked(joint, queries, images)
    del joint
    odds = join_calibrated(features @ features.T, log_ratio, *fit, both, both)
    rows["joint_calibrated_rerank"] = _rate_reranked(_probability(odds), queries, images)
    return rows


def read_features(path: Path, n_names: int, dim: int | None = None) -> Floats:
    """(N, D) float32 unit rows of a .npy file. Raises MarketTestError when it cannot be read or does not fit."""
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MarketTestError(f"features {path}: cannot be read as .npy ({error})") from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise MarketTestError(f"features {path}: expected one array of (N, D) numbers")
    if len(rows) != n_names:
        raise MarketTestError(
            f"features {path}: {len(rows)} rows, but there are {n_names} names; row n belongs to name n"
        )
    if dim is not None and rows.shape[1] != dim:
        raise MarketTestError(
            f"features {path}: {rows.shape[1]} columns, the queries have {dim}; use one network for all"
        )
    rows = rows.astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(length[:, 0]) & (length[:, 0] > 0)))
    if len(bad):
        raise MarketTestError(f"features {path}: row {bad[0]} is zero or not finite ({len(bad)} such rows)")
    unit: Floats = rows / length
    return unit


def fit_slope(
    similarity: Floats, queries: MarketImages, gallery: MarketImages, ratio: DelayTable, *, known: bool = False
) -> AppearanceFit:
    """Slope and intercept of appearance from the (Q, G) cosines and the delay ratios, without reading who is who.

    `known` reads the persons instead of the delays: the labelled fit, to compare with.
    """
    some = np.linspace(0, len(queries) - 1, min(len(queries), FIT_QUERIES)).astype(np.intp)
    values, ratios, levels = [], [], []
    for query, delays in zip(some, ratio.rows(queries.take(some), gallery), strict=True):
        elsewhere = np.flatnonzero(gallery.camera != queries.camera[query])
        if not len(elsewhere):
            continue
        cosine = similarity[query, elsewhere]
        best = smallest(-cosine, min(FIT_NEIGHBOURS, len(cosine)))
        level = float(cosine[best[:FIT_BEST]].mean())
        same = gallery.person[elsewhere[best]] == queries.person[query]
        levels.append(level)
        values.append(cosine[best] - level)
        ratios.append(np.where(same, _SURE, 0.0) if known else delays[elsewhere[best]])
    if not values:
        raise MarketTestError("no gallery image is in another camera than its query: nothing to compare")
    try:
        slope, intercept = fit_by_delays(np.concatenate(values), np.concatenate(ratios))
    except ValueError as error:
        raise MarketTestError(f"the slope of appearance cannot be fitted: {error}") from error
    return AppearanceFit(slope, intercept - slope * float(np.mean(levels)))


def labelled_slope(features: Floats, images: MarketImages) -> float:
    """The slope that the labels of these images give: every thirtieth of them is a query to all."""
    rows = np.flatnonzero(images.person > 0)[::30]
    neutral = DelayTable(np.ones((6, 6, 4), np.float32))
    return fit_slope(features[rows] @ features.T, images.take(rows), images, neutral, known=True).slope


def rows_table(rows: Rows) -> Table:
    """The rows as a table for people."""
    from rich.table import Table

    columns = ("rank1", "rank5", "rank10", "mAP_trapezoid", "mAP_standard")
    table = Table()
    table.add_column("ranking", no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[column]:.4f}" for column in columns))
    return table


def _rate(scores: Floats, queries: MarketImages, gallery: MarketImages) -> dict[str, float]:
    return evaluate_ranking(scores, queries.person, queries.camera, gallery.person, gallery.camera).as_dict()


def _rate_reranked(joint: Floats, queries: MarketImages, gallery: MarketImages) -> dict[str, float]:
    """Re-rank on 2 - 2 * joint of all pairs (which is overwritten), as published."""
    np.multiply(joint, -2.0, out=joint)
    np.add(joint, 2.0, out=joint)
    _transpose(joint)  # the published code reads column j as the distances seen from j
    distances = rerank(joint, len(queries))
    return _rate(np.negative(distances, out=distances), queries, gallery)


def _probability(odds: Floats) -> Floats:
    """1 / (1 + exp(-odds)) in place; exp of float32 overflows beyond 88, where the result is 0 anyway."""
    for row in odds:
        np.clip(row, -80.0, 80.0, out=row)
        np.negative(row, out=row)
        np.exp(row, out=row)
        np.add(row, 1.0, out=row)
        np.reciprocal(row, out=row)
    return odds


def _transpose(square: Floats, block: int = 1024) -> None:
    """Transpose in place: all pairs of the full data set are 2 GB, and a second copy is not needed."""
    n = len(square)
    for top in range(0, n, block):
        for left in range(top, n, block):
            upper = square[top : top + block, left : left + block]
            lower = square[left : left + block, top : top + block]
            kept = upper.copy()
            upper[:] = lower.T
            lower[:] = kept.T
