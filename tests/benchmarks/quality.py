"""How good the ids are, on every measurement there is: a table to read and JSON to keep.

    python -m tests.benchmarks.quality [--only world wildtrack market vcam demo one_by_one ablation guards] [--json OUT]
        [--seeds 101 102 103] [--work DIR] [--no-cosine | --only-cosine] [--curves PICTURE.png] [--sheet PICTURE.png]

Needs `$IDENTRIX_DATA`, and `$IDENTRIX_MODELS` for footage; a part whose data are absent is left out and says so.
Losses stand beside wins: `removed` is the share of the cross-camera errors of "appearance only" that a run avoids, and
is negative where it makes more.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.quality_runs import Row

PARTS = ("world", "wildtrack", "market", "vcam", "demo", "one_by_one", "ablation", "guards")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--market", nargs="+", help="files of market_stream (default: all)")
    parser.add_argument("--no-cosine", action="store_true", help="leave the tuned cosine thresholds out")
    parser.add_argument("--only-cosine", action="store_true", help="no matcher, but for footage")
    parser.add_argument("--work", type=Path, help="keeps what footage gave, so that the next measurement need not look")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--curves", type=Path, help="picture of the learning curves on market_stream")
    parser.add_argument("--sheet", type=Path, help="picture of the stays in intel_one_by_one")
    args = parser.parse_args()
    data = Path(os.environ.get("IDENTRIX_DATA", ""))
    found: dict[str, object] = {"about": about(args.seeds)}
    for part in PARTS:
        if part in args.only:
            started = time.process_time(), time.perf_counter()
            try:
                found[part] = measure(part, data, args)
            except FileNotFoundError as error:
                print(f"{part}: left out, {error}", flush=True)
                continue
            cpu_s, wall_s = time.process_time() - started[0], time.perf_counter() - started[1]
            found[f"{part}_cpu_s"], found[f"{part}_wall_s"] = round(cpu_s, 1), round(wall_s, 1)
            print(f"{part}: {cpu_s:.0f} s CPU, {wall_s:.0f} s\n", flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(without_nan(found), indent=1, allow_nan=False) + "\n")


def measure(part: str, data: Path, args: argparse.Namespace) -> object:
    """One part: prints its tables and returns what goes into the JSON. FileNotFoundError where data are absent."""
    runs = {"cosine": not args.no_cosine, "matcher": not args.only_cosine}
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        if part == "world":
            from tests.benchmarks.quality_world import DIFFICULTIES, medians, world_rows

            rows = [
                said(row) for seed in args.seeds for world in DIFFICULTIES for row in world_rows(world, seed, **runs)
            ]
            middle = medians(rows)
            show(middle)
            return {"median": middle, "rows": rows}
        if part == "wildtrack":
            from tests.benchmarks.quality_wildtrack import wildtrack_rows

            return show(wildtrack_rows(need(data / "wildtrack"), seed=args.seeds[0], **runs))
        if part == "market":
            return _market(need(data / "market_stream"), args, runs)
        if part == "vcam":
            from tests.benchmarks.quality_footage import vcam_rows

            return show(vcam_rows(need(data / "vcam_dev"), work))
        if part == "demo":
            from tests.benchmarks.quality_footage import small_demo

            return show([{"data": "demo, 30 s, 8 people", "run": "run, as shipped", **small_demo(work / "demo")}])
        if part == "one_by_one":
            from tests.benchmarks.quality_footage import one_by_one

            row = one_by_one(need(data / "intel_one_by_one"), work, args.sheet)
            print(json.dumps(row, indent=1))
            return row
        if part == "guards":
            from tests.benchmarks.quality_guards import guard_rows

            return show([said(row) for row in guard_rows(args.seeds[0])])
        from tests.benchmarks.quality_ablation import market_ablation, world_ablation

        return {
            "world": show([said(row) for row in world_ablation(args.seeds[:1])]),
            "market": show([said(row) for row in market_ablation(need(data / "market_stream"))]),
        }


def _market(folder: Path, args: argparse.Namespace, runs: dict[str, bool]) -> object:
    from tests.benchmarks.quality_market import FILES, market_rows, plot_curves

    rows: list[Row] = []
    curves: list[Row] = []
    for name in args.market or FILES:
        some, learning = market_rows(folder, name, **runs)
        rows += show(some)
        curves.append(learning)
        print(json.dumps(without_nan(learning)), flush=True)
    if args.curves:
        plot_curves(curves, args.curves)
    return {"rows": rows, "curves": curves}


def said(row: Row) -> Row:
    """The row, printed: long measurements may be watched, and stopped without losing what is done."""
    print(json.dumps(without_nan(row)), flush=True)
    return row


def need(folder: Path) -> Path:
    """The folder, if it is there."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there (set IDENTRIX_DATA)")
    return folder


def about(seeds: Sequence[int]) -> Row:
    """What was measured on what."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(["git", "diff", "--name-only", "HEAD", "--", "st_model"], capture_output=True, text=True)
    return {
        "commit": git.stdout.strip(),
        "matcher_changed_since": changed.stdout.split(),
        "seeds": list(seeds),
        "cpu_count": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", "torch", "ultralytics", "openvino")},
    }


COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("HOTA", "HOTA", lambda v: f"{100 * v:.1f}"),
    ("AssA", "AssA", lambda v: f"{100 * v:.1f}"),
    ("IDF1", "IDF1", lambda v: f"{100 * v:.1f}"),
    ("MOTA", "MOTA", lambda v: f"{100 * v:.1f}"),
    ("hand_over_f1", "hand-over F1", lambda v: f"{v:.3f}"),
    ("cold_hand_over_f1", "cold hand-over", lambda v: f"{v:.3f}"),
    ("cold_pairs_f1", "cold pairs", lambda v: f"{v:.3f}"),
    ("warm_hand_over_f1", "warm hand-over", lambda v: f"{v:.3f}"),
    ("warm_pairs_f1", "warm pairs", lambda v: f"{v:.3f}"),
    ("warm_purity", "warm purity", lambda v: f"{v:.3f}"),
    ("pairs_f1", "pairs F1", lambda v: f"{v:.3f}"),
    ("false_merges", "false merges", lambda v: f"{v:.0f}"),
    ("false_merges_per_1000", "false merges / 1000", lambda v: f"{v:.1f}"),
    ("purity", "purity", lambda v: f"{v:.3f}"),
    ("completeness", "completeness", lambda v: f"{v:.3f}"),
    ("right_share", "right id", lambda v: f"{v:.3f}"),
    ("right_id_median_s", "after s", lambda v: f"{v:.1f}"),
    ("right_id_p90_s", "90 % s", lambda v: f"{v:.0f}"),
    ("removed", "removed", lambda v: f"{100 * v:+.0f} %"),
)


def show(rows: list[Row]) -> list[Row]:
    """Print rows as a Markdown table; returns them."""
    used = [c for c in COLUMNS if any(c[0] in row for row in rows)]
    print("| data | run | " + " | ".join(head for _, head, _ in used) + " |")
    print("|---|---|" + "---|" * len(used))
    for row in rows:
        cells = [form(float(str(row[key]))) if key in row else "" for key, _, form in used]
        print(f"| {row['data']} | {row['run']} | " + " | ".join(cells) + " |")
    print(flush=True)
    for row in rows:
        if isinstance(row.get("curve"), list):
            print(f"{row['data']}, {row['run']}: {row['curve']}")
    return rows


def without_nan(value: object) -> object:
    """Strict JSON has no NaN: None instead."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    main()
