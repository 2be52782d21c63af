"""Runs every bench_*.py of this folder, each in a process of its own, one after the other, and sums up.

    python -m tests.benchmarks.run_all [--quick] [--only NAME ...] [--out bench]

Writes <out>/<name>.json for each. `--quick` takes fewer rounds: to see that all of them work, not to quote. A benchmark
whose data or weights are absent says so and is skipped; one that fails does not stop the others, but the exit code is
then 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

QUICK = {
    "encoders": ["stripes"],
    "engines": ["--small", "--batches", "1", "--rounds", "1"],
    "reranking": ["--queries", "100", "--gallery", "900"],
    "live": ["--rounds", "6"],
    "kills": ["--rounds", "2"],
    "matcher": ["--repeats", "3"],
    "pipeline": ["--rendered", "--rounds", "1"],
    "report": ["--stays", "20000", "--rounds", "1"],
    "soak": ["--days", "1"],
    "streams": ["--cameras", "10", "100", "--sightings", "600", "--seconds", "5"],
    "training": ["--only", "rendered", "--epochs", "1"],
    "video": ["--rendered", "--rounds", "1"],
}


def measure(name: str, out: Path, options: list[str]) -> str:
    """Run one benchmark; returns a line of the summary."""
    result = out / f"{name}.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"tests.benchmarks.bench_{name}", *options, "--json", str(result)]
    places = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    begin_s = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(places)}).returncode
    took = f"{name:<14} {time.perf_counter() - begin_s:7.1f} s"
    if code:
        return f"{took}  FAILED, exit code {code}"
    return f"{took}  {result}" if result.exists() else f"{took}  skipped, see above"


def main() -> int:
    """Run them; 1 when one failed."""
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in given.only:
        print(f"== {name}", flush=True)
        lines.append(measure(name, out, QUICK.get(name, []) if given.quick else []))
    print("\n" + "\n".join(lines))
    return int(any("FAILED" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
