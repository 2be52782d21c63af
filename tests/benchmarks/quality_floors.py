"""The quick measurements that tests/floors.json sets floors for.

    python -m tests.benchmarks.quality_floors [PART ...]           measure, beside the floors
    python -m tests.benchmarks.quality_floors --write [PART ...]   and set new floors, a margin below

The margin is for other machines and library versions: thread counts and CPUs change the last bits of a matrix product.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks.quality_runs import COLD, WARM, Row

TRAINED = "small dual, 10 epochs"
FLOORS = Path(__file__).parents[1] / "floors.json"
Measured = Mapping[str, Row]
"""Run -> its figures."""


def _world(difficulty: str, cameras: int) -> Callable[[Path, Path], Measured]:
    def measure(data: Path, work: Path) -> Measured:
        from tests.benchmarks.quality_world import warm_figures

        return warm_figures(difficulty, seed=101, cameras=cameras)  # type: ignore[arg-type]

    return measure


def _demo(data: Path, work: Path) -> Measured:
    from tests.benchmarks.quality_footage import small_demo

    return {"run, as shipped": small_demo(work)}


def _market(name: str) -> Callable[[Path, Path], Measured]:
    def measure(data: Path, work: Path) -> Measured:
        from tests.benchmarks.quality_market import market_cold

        return {COLD: market_cold(data / "market_stream", name)}

    return measure


def _vcam(data: Path, work: Path) -> Measured:
    from tests.benchmarks.quality_footage import vcam_run

    return {"run, as shipped": vcam_run(data / "vcam_dev", work)}


def _training(data: Path, work: Path) -> Measured:
    from tests.benchmarks.bench_training import short_training

    return {TRAINED: short_training(work)}


PARTS: dict[str, Callable[[Path, Path], Measured]] = {
    "world/easy": _world("easy", 4),
    "world/middle": _world("middle", 4),
    "world/hard": _world("hard", 3),
    "demo": _demo,
    "training": _training,
    "market_stream/osnet_msmt": _market("osnet_msmt"),
    "market_stream/osnet_market": _market("osnet_market"),
    "vcam_dev": _vcam,
}
"""What each part measures, given the data folder and an empty one to work in; the first five need no data."""

STREAM_MARGINS = {
    "hand_over_f1": -0.03,
    "pairs_f1": -0.03,
    "purity": -0.02,
    "completeness": -0.03,
    "false_merges_per_1000": 5.0,
}
TRAINED_MARGINS = {"rank1": -0.06, "mAP": -0.05, "rank1_before": 0.05}
TRACK_MARGINS = {"HOTA": -0.015, "AssA": -0.02, "IDF1": -0.015, "hand_over_f1": -0.025, "false_merges": 1.0}
DEMO_MARGINS = {"HOTA": -0.05, "AssA": -0.06, "IDF1": -0.05, "hand_over_f1": -0.09, "false_merges": 3.0}
"""Below the lowest of several runs: the rendered films are not equal byte for byte from run to run (five runs gave HOTA
58 to 68), people are few, and one of them is worth a lot."""


def margins(part: str) -> dict[str, float]:
    """Figure -> what is added to the measured value: negative makes a floor, positive a ceiling."""
    if part == "training":
        return TRAINED_MARGINS
    return DEMO_MARGINS if part == "demo" else TRACK_MARGINS if part == "vcam_dev" else STREAM_MARGINS


def floors_from(part: str, measured: Measured) -> dict[str, object]:
    """The entry of tests/floors.json for these measurements."""
    runs: dict[str, dict[str, dict[str, float]]] = {}
    for run in (name for name in (COLD, WARM, "run, as shipped", TRAINED) if name in measured):
        for figure, margin in margins(part).items():
            value = float(str(measured[run][figure]))
            side, limit = ("at_least", max(0.0, value + margin)) if margin < 0 else ("at_most", value + margin)
            runs.setdefault(run, {})[figure] = {side: round(limit, 3), "measured": value}
    return {"command": f"python -m tests.benchmarks.quality_floors {part}", "runs": runs}


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--write", action="store_true", help="set new floors for what was measured")
    args = parser.parse_args()
    data = Path(os.environ.get("IDENTRIX_DATA", ""))
    known = json.loads(FLOORS.read_text()) if FLOORS.exists() else {"floors": {}}
    for part in args.parts or PARTS:
        with tempfile.TemporaryDirectory() as work:
            measured = PARTS[part](data, Path(work))
        limits = known["floors"].get(part, {}).get("runs", {})
        for run, figures in measured.items():
            for figure in margins(part):
                print(f"{part:26s} {run:16s} {figure:22s} {figures[figure]}  {limits.get(run, {}).get(figure, '')}")
        known["floors"][part] = floors_from(part, measured)
    if args.write:
        FLOORS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
