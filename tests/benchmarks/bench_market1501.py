"""How fast the Market-1501 test is, in CPU seconds of one thread, and how much memory the full data set needs.

    OMP_NUM_THREADS=1 IDENTRIX_DATA=... python -m tests.benchmarks.bench_market1501 [--full] [--json OUT]

Every figure is the median of several rounds, with its spread. `published` is the authors' code on this kind of machine
(`expected.json`, CPU seconds). `--full` adds random features of full size (3,368 queries, 19,732 images, 512 columns).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline import market
from reid.ranking import evaluate_ranking
from reid.reranking import rerank
from st_model import paper
from st_model.market1501 import JUNK, MarketImages, read_names, read_sequence_lengths

Row = dict[str, object]


def measured(name: str, work: Callable[[], object], rounds: int, published_s: float | None = None) -> Row:
    """Median, fastest and slowest CPU seconds after one round to warm up."""
    work()
    seconds = []
    for _ in range(rounds):
        started_s = time.process_time()
        work()
        seconds.append(time.process_time() - started_s)
    row: Row = {
        "name": name,
        "unit": "CPU s",
        "median": round(statistics.median(seconds), 4),
        "min": round(min(seconds), 4),
        "max": round(max(seconds), 4),
        "rounds": rounds,
    }
    if published_s is not None:
        row["published"] = published_s
        row["times_faster"] = round(published_s / statistics.median(seconds), 1)
    print(json.dumps(row), flush=True)
    return row


def real_rows(folder: Path) -> list[Row]:
    """Names of half the test people, surrogate (128 columns) and real (512 columns) features."""
    starts = read_sequence_lengths(folder / "sequence_lengths.json")
    training = read_names(folder / "bounding_box_train.txt", starts)
    queries = read_names(folder / "query_even_ids.txt", starts)
    gallery = read_names(folder / "bounding_box_test_even_ids.txt", starts)
    published = json.loads((folder / "expected.json").read_text())["speed_seconds"]
    weights = paper.paper_weights(paper.paper_density(training))
    rows = [
        measured(
            "tables, 50 bins",
            lambda: paper.paper_weights(paper.paper_density(training)),
            7,
            published["smoothing_64_pairs_sigma50"]["cpu_s"] + published["histogram"]["cpu_s"],
        )
    ]
    for kind, name in (("128 columns", "features"), ("512 columns", "real")):
        query_rows = market.read_features(folder / f"{name}_query_even.npy", len(queries))
        gallery_rows = market.read_features(folder / f"{name}_gallery_even.npy", len(gallery))

        def score_and_rate(a=query_rows, b=gallery_rows) -> None:
            scores = paper.join_paper(a @ b.T, weights, queries, gallery)
            evaluate_ranking(scores, queries.person, queries.camera, gallery.person, gallery.camera)

        joint = published["scoring_and_evaluation_1716_queries"]["joint"]["cpu_s"]
        rows.append(measured(f"scoring and evaluation 1716 x 13256, {kind}", score_and_rate, 5, joint))
        scored = gallery.person != JUNK
        both, features = queries.then(gallery.take(scored)), np.concatenate([query_rows, gallery_rows[scored]])

        def all_pairs(both=both, features=features) -> np.ndarray:
            return paper.join_paper(features @ features.T, weights, both, both)

        slow = published["rerank_without_junk_11153_rows"]
        rows.append(measured(f"all pairs of 11153, {kind}", all_pairs, 3, slow["all_scores"]["cpu_s"]))
        distances = 2 - 2 * all_pairs()
        rows.append(
            measured(
                f"k-reciprocal of 11153, {kind}",
                lambda d=distances: rerank(d, len(queries)),
                3,
                slow["k_reciprocal"]["cpu_s"],
            )
        )
        del distances
        ratio = paper.calibrated_ratio(training, queries.then(gallery))
        cosine = query_rows @ gallery_rows.T
        rows.append(measured("calibrated table", lambda: paper.calibrated_ratio(training, queries.then(gallery)), 5))
        rows.append(
            measured(
                f"slope without labels, {kind}",
                lambda c=cosine, r=ratio: market.fit_slope(c, queries, gallery, r),
                5,
            )
        )
    both = queries.then(gallery)
    a = market.read_features(folder / "features_query_even.npy", len(queries))
    b = market.read_features(folder / "features_gallery_even.npy", len(gallery))
    features = np.concatenate([a, b])
    distances = 2 - 2 * paper.join_paper(features @ features.T, weights, both, both)
    slow = published["rerank_full_14972_rows"]["k_reciprocal"]["cpu_s"]
    rows.append(measured("k-reciprocal of 14972", lambda: rerank(distances, len(queries)), 3, slow))
    return rows


def full_row() -> Row:
    """One round at the size of the whole data set, with the largest memory this process had."""
    rng = np.random.default_rng(0)

    def images(n: int) -> MarketImages:
        return MarketImages(rng.integers(1, 751, n), rng.integers(0, 6, n), rng.integers(0, 400_000, n))

    queries, gallery = images(3368), images(19732)
    both = queries.then(gallery)
    centres = rng.standard_normal((751, 512), np.float32)
    features = centres[both.person] + rng.standard_normal((len(both), 512), np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    weights = paper.paper_weights(paper.paper_density(images(12936)))
    started_s = time.process_time()
    joint = paper.join_paper(features @ features.T, weights, both, both)
    np.multiply(joint, -2.0, out=joint)
    np.add(joint, 2.0, out=joint)
    paired_s = time.process_time()
    rerank(joint, len(queries))
    row: Row = {
        "name": "full size, 23100 rows, 512 columns",
        "all pairs CPU s": round(paired_s - started_s, 2),
        "k-reciprocal CPU s": round(time.process_time() - paired_s, 2),
        "largest memory GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    """Measure and, if asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = Path(os.environ.get("IDENTRIX_DATA", "")) / "market1501"
    rows = [full_row()] if args.full else []  # first: memory is the largest so far
    if data.is_dir():
        rows += real_rows(data)
    else:
        print(f"skipped: no folder {data}; set IDENTRIX_DATA")
    about = {
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processor": platform.processor() or platform.machine(),
    }
    if args.json and rows:
        args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
