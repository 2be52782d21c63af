"""Fifty rounds of faults at four RTSP cameras: how long until frames flow again, and what it costs everybody else.

    python -m tests.benchmarks.bench_live [--rounds 50] [--seed 0] [--json OUT]

Real RTSP servers on 127.0.0.1 (GStreamer; tests/rtsp_server.py), 160x120 at 10 Hz, default settings of `live`. The
faults come in a shuffled order, the same for the same seed. `back_s` runs from the server's return (listening again,
or thawed) to the first frame at the consumer; `others_gap_s` is the longest pause of any other camera in a round.
Skipped where there is no GStreamer RTSP server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from live_rounds import FAULTS, Round, play  # noqa: E402
from rtsp_cameras import why_not  # noqa: E402

from pipeline.camera_state import LiveSettings  # noqa: E402


def of(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "p90": round(sorted(values)[int(0.9 * (len(values) - 1))], 3),
        "max": round(max(values), 3),
    }


def slope_per_round(rounds: list[Round]) -> float:
    """MB per round, over the second half: what is needed once has been loaded by then."""
    half = rounds[len(rounds) // 2 :]
    return round(statistics.linear_regression(range(len(half)), [r.resident_mb for r in half]).slope, 4)


def measure(rounds: int, seed: int) -> dict[str, Any]:
    """Play the rounds and sum them up."""
    import av

    faults = [FAULTS[n % len(FAULTS)] for n in range(rounds)]
    random.Random(seed).shuffle(faults)
    begin_s, begin_cpu_s, settings = time.perf_counter(), time.process_time(), LiveSettings()
    played, cameras, watch = play(faults, settings, away_s=2.0)
    by_fault = {fault: [r.back_s for r in played if r.fault == fault] for fault in FAULTS}
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "machine": platform.machine()}
    return {
        "benchmark": "live",
        **machine,
        "python": platform.python_version(),
        "pyav": av.__version__,
        "settings": asdict(settings),
        "rounds": rounds,
        "seed": seed,
        "wall_s": round(time.perf_counter() - begin_s, 1),
        "cpu_s": round(time.process_time() - begin_cpu_s, 1),
        "back_s": of([r.back_s for r in played]),
        "back_s_by_fault": {fault: of(values) for fault, values in by_fault.items() if values},
        "within_3_s": sum(r.back_s <= 3.0 for r in played),
        "others_gap_s": of([r.others_gap_s for r in played]),
        "threads": sorted({r.threads for r in played}),
        "resident_mb": {"first": played[0].resident_mb, "last": played[-1].resident_mb},
        "resident_mb_per_round": slope_per_round(played),
        "times_rose": watch.rose,
        "cameras": {name: asdict(health) for name, health in cameras.health.items()},
        "each": [asdict(r) for r in played],
    }


def main() -> None:
    """Measure and, with --json, write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"skipped: {reason}")
        return
    found = measure(arguments.rounds, arguments.seed)
    for key in ("back_s", "back_s_by_fault", "within_3_s", "others_gap_s", "threads", "resident_mb_per_round"):
        print(f"{key:24s} {found[key]}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
