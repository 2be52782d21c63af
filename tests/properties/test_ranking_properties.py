"""Fast ranking and re-ranking equal their slow oracles, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import oracle_ranking, oracle_reranking

from reid.ranking import evaluate_ranking, match_topk, smallest
from reid.reranking import rerank, rerank_rows

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.sampled_from([3, 20, 10**6]))
@settings(max_examples=80, deadline=None)
def test_evaluation_equals_the_oracle(seed, levels):
    rng = np.random.default_rng(seed)
    n_queries, n_gallery = int(rng.integers(1, 6)), int(rng.integers(1, 40))
    scores = (rng.integers(0, levels, (n_queries, n_gallery)) / levels).astype(np.float32)  # few levels: many ties
    people = rng.integers(1, 4, n_queries)
    gallery_people = rng.integers(-1, 4, n_gallery)
    cameras, gallery_cameras = rng.integers(0, 3, n_queries), rng.integers(0, 3, n_gallery)
    fast = evaluate_ranking(scores, people, cameras, gallery_people, gallery_cameras)
    slow = oracle_ranking.evaluate(scores, people, cameras, gallery_people, gallery_cameras)
    assert list(fast.as_dict().values()) == pytest.approx(slow, abs=1e-12)


@given(SEEDS, st.sampled_from([3, 10**6]))
@settings(max_examples=60, deadline=None)
def test_top_k_equals_a_full_sort(seed, levels):
    rng = np.random.default_rng(seed)
    gallery = rng.integers(0, levels, (int(rng.integers(1, 50)), 1)).astype(np.float32)
    queries = np.ones((2, 1), np.float32)
    k = int(rng.integers(1, len(gallery) + 1))
    indices, values = match_topk(queries, gallery, k, chunk_rows=1)
    for row, value in zip(indices, values, strict=True):
        assert row.tolist() == oracle_ranking.ranked(gallery[:, 0].tolist())[:k]
        assert np.array_equal(value, gallery[row, 0])


@given(SEEDS, st.sampled_from([4, 10**6]))
@settings(max_examples=60, deadline=None)
def test_smallest_equals_a_stable_sort(seed, levels):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, int(rng.integers(1, 60))).astype(np.float32)
    k = int(rng.integers(1, len(values) + 1))
    assert smallest(values, k).tolist() == np.argsort(values, kind="stable")[:k].tolist()


@given(SEEDS, st.sampled_from([(4, 2), (5, 6), (20, 6), (2, 1)]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_re_ranking_equals_the_oracle(seed, ks, tied):
    k1, k2 = ks
    rng = np.random.default_rng(seed)
    n = int(rng.integers(k1 + 2, 45))
    n_queries = int(rng.integers(1, n))
    # Clumps of points, so that reciprocal sets are neither empty nor everything; not symmetric, as joint scores may be.
    points = rng.normal(0, 3, (5, 3))[rng.integers(0, 5, n)] + rng.normal(0, 1, (n, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + rng.uniform(0, 0.1, (n, n))
    distances = np.round(distances) + 1 if tied else distances
    before = distances.copy()
    fast = rerank(distances, n_queries, k1, k2, 0.3)
    slow = oracle_reranking.rerank(distances.tolist(), n_queries, k1, k2, 0.3)
    assert np.array_equal(distances, before)
    assert np.abs(fast - np.array(slow)).max() < 1e-12
    chunk = int(rng.integers(1, n + 1))
    assert np.array_equal(rerank_rows(lambda a, b: distances[a:b], n, n_queries, k1, k2, 0.3, chunk_rows=chunk), fast)
