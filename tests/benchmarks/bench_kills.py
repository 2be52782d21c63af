"""Kill -9 of matchers, workers and Redis at random moments of a played site, many rounds: is anything lost or twice?

    python -m tests.benchmarks.bench_kills [--rounds 30] [--kills 8] [--json OUT]

Every round plays the same sightings (two workers, one or two matchers, a server with an append-only file, fsync every
second) and compares final ids up to renaming, and transition counts bit for bit, with one matcher in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "integration")]

from site_players import PlayedSite, renamed  # noqa: E402
from test_site_kills import counts_of, undisturbed, world_rows  # noqa: E402

from pipeline.config import load_config  # noqa: E402


def main() -> int:
    """Play the rounds; 1 when one came out otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    halves, rows = world_rows()
    results = []
    for seed in range(given.first_seed, given.first_seed + given.rounds):
        begin_s = time.perf_counter()
        with tempfile.TemporaryDirectory() as name:
            folder, random = Path(name), Random(seed)
            kind, matchers = ("embedded", "redis-server")[seed % 2], 1 + seed % 3 // 2
            with PlayedSite(folder, halves, matchers=matchers, pause_s=0.02, kind=kind) as site:
                site.finish(random, given.kills)
                config = load_config(site.config_path)
                ids, counts = undisturbed(rows, config)
                found = site.ids()
                result = {
                    "seed": seed,
                    "server": kind,
                    "matchers": matchers,
                    "killed": dict(Counter(site.kills)),
                    "stays": len(found),
                    "ids_equal": renamed(found) == ids,
                    "tables_equal": counts_of(site, config) == counts,
                    "seconds": round(time.perf_counter() - begin_s, 1),
                }
        print(json.dumps(result), flush=True)
        results.append(result)
    good = all(result["ids_equal"] and result["tables_equal"] for result in results)
    summary = {
        "benchmark": "kills",
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]},
        "sightings": len(rows),
        "rounds": len(results),
        "killed": dict(sum((Counter(result["killed"]) for result in results), Counter())),
        "all_equal": good,
        "results": results,
    }
    if given.json:
        given.json.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({key: value for key, value in summary.items() if key != "results"}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
