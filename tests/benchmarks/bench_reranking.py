"""Re-ranking at the size of Market-1501: seconds and peak memory of a process of its own, chunked and from the square.

    python -m tests.benchmarks.bench_reranking [--queries 3368] [--gallery 19732] [--dim 128] [--json OUT]

Random clumps of unit vectors, 15 pictures a person. `peak_mb` is the largest resident memory of the process, libraries
included; `import_mb` what it had before there were features.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from reid.reranking import cosine_rows, rerank, rerank_rows


def features(n: int, dim: int) -> np.ndarray:
    """(n, dim) unit rows: clumps of 15."""
    rng = np.random.default_rng(0)
    people = rng.normal(size=(n // 15 + 1, dim)).astype(np.float32)
    rows = people[rng.integers(0, len(people), n)] + rng.normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def one(way: str, queries: int, gallery: int, dim: int, device: str) -> dict[str, object]:
    """Measure one way in this process."""
    before = peak_mb()
    rows = features(queries + gallery, dim)
    start, start_cpu = time.perf_counter(), time.process_time()
    if way == "square":
        out = rerank(2 - 2 * (rows @ rows.T), queries)
    else:
        out = rerank_rows(cosine_rows(rows, device), len(rows), queries)
    return {
        "way": way,
        "device": device,
        "queries": queries,
        "gallery": gallery,
        "dim": dim,
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(time.process_time() - start_cpu, 1),
        "import_mb": before,
        "peak_mb": peak_mb(),
        "checksum": float(out.mean(dtype=np.float64)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=19732)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--way", choices=("chunked", "square"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = (arguments.queries, arguments.gallery, arguments.dim, arguments.device)
    if arguments.way:
        print(json.dumps(one(arguments.way, *size)))
        return
    found = []
    for way in ("chunked", "square"):  # each in a process of its own: a peak does not go down again
        command = [sys.executable, "-m", "tests.benchmarks.bench_reranking", "--way", way]
        for name in ("queries", "gallery", "dim", "device"):
            command += [f"--{name}", str(getattr(arguments, name))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(done.stdout.strip(), flush=True)
        found.append(json.loads(done.stdout))
    if arguments.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "cores": os.cpu_count()}
        arguments.json.write_text(json.dumps({"benchmark": "reranking", **machine, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
