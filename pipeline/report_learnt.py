"""What a run learnt, for the report: travel times as histogram and Parzen curve, and how sure appearance was taken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots import median_delay_s
from pipeline.tables_file import TablesFileError, read_tables
from st_model.transitions import TableSettings, TransitionTables

MOST_PAIRS = 150  # pairs with most evidence; of 24 cameras 552 are possible, and nobody looks at the thin ones
_CURVE_POINTS = 240


def tables_of(
    run_dir: Path,
    settings: dict[str, Any],
    cameras: Sequence[str],
    delay_s: NDArray[np.float64],
    from_camera: NDArray[np.intp],
    to_camera: NDArray[np.intp],
) -> list[dict[str, Any]]:
    """One entry per pair of cameras, most evidence first: what the site's tables knew at the end of the run.

    A run without tables_end.json (killed, or of an older version) shows its own moves in the tables' bins, without a
    curve. Raises JournalError never; a damaged tables file counts as none and the entry says so by having no curve.
    """
    axes = _axes(settings)
    tables = _tables(run_dir / "tables_end.json", axes)
    if tables is None:
        return _own_moves(axes, delay_s, from_camera, to_camera)
    number = {name: n for n, name in enumerate(cameras)}
    pairs = [pair for pair in tables.pairs() if pair[0] in number and pair[1] in number and tables.evidence(*pair) > 0]
    pairs = sorted(pairs, key=lambda pair: (-tables.evidence(*pair), pair))[:MOST_PAIRS]
    return [
        _entry(
            number[pair[0]], number[pair[1]], axes, tables.histogram(*pair), tables.density(*pair), tables.trust(pair)
        )
        for pair in pairs
    ]


def _axes(settings: dict[str, Any]) -> TableSettings:
    known = {field.name for field in fields(TableSettings)}
    given = settings.get("tables") if isinstance(settings.get("tables"), dict) else {}
    try:
        return TableSettings(**{name: float(value) for name, value in (given or {}).items() if name in known})
    except (TypeError, ValueError):
        return TableSettings()


def _tables(path: Path, axes: TableSettings) -> TransitionTables | None:
    try:
        return read_tables(path, axes) if path.is_file() else None
    except TablesFileError:
        return None


def _entry(
    origin: int,
    to: int,
    axes: TableSettings,
    counts: NDArray[np.float64],
    density: NDArray[np.float64] | None,
    trust: float = 1.0,
) -> dict[str, Any]:
    """A histogram cut to where something happens, its curve on at most `_CURVE_POINTS` points, both per second."""
    seen = np.flatnonzero(counts)
    pad = int(np.ceil(5 * axes.sigma_s / axes.bin_s)) + 1
    low, high = max(int(seen[0]) - pad, 0), min(int(seen[-1]) + pad + 1, len(counts))
    evidence = float(counts.sum())
    step = -(-(high - low) // _CURVE_POINTS)
    curve = None if density is None else np.round(density[low:high:step] / axes.bin_s, 6).tolist()
    median_s = median_delay_s(counts, axes.bin_s, axes.origin_s)
    return {
        "from": origin,
        "to": to,
        "evidence": round(evidence, 2),
        "median_s": None if median_s is None else round(median_s, 2),
        "begin_s": round(axes.origin_s + axes.bin_s * low, 3),
        "end_s": round(axes.origin_s + axes.bin_s * high, 3),
        "bin_s": axes.bin_s,
        # Sparse: [bin, share per second] of those that hold something.
        "bars": [[int(b) - low, round(float(counts[b]) / evidence / axes.bin_s, 6)] for b in seen.tolist()],
        "curve": curve,
        "curve_step_s": axes.bin_s * step,
        "trust": trust,
    }


def _own_moves(
    axes: TableSettings, delay_s: NDArray[np.float64], from_camera: NDArray[np.intp], to_camera: NDArray[np.intp]
) -> list[dict[str, Any]]:
    entries = []
    for origin, to in sorted(set(zip(from_camera.tolist(), to_camera.tolist(), strict=True))):
        mine = delay_s[(from_camera == origin) & (to_camera == to)]
        counts, _ = np.histogram(mine, bins=axes.bins, range=(axes.origin_s, axes.origin_s + axes.bins * axes.bin_s))
        if counts.any():
            entries.append(_entry(origin, to, axes, counts.astype(np.float64), None))
    return sorted(entries, key=lambda entry: -entry["evidence"])[:MOST_PAIRS]


def calibration_of(run_dir: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The configured calibration, and the reliability found by `calibrate RUN --out RUN` when it is there."""
    match = settings.get("match") if isinstance(settings.get("match"), dict) else {}
    configured = (match or {}).get("calibration")
    found = None
    for place in (run_dir / "calibration.json", run_dir / "plots" / "calibration.json"):
        if place.is_file():
            try:
                found = json.loads(place.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                found = None
            break
    return {
        "configured": configured if isinstance(configured, dict) else None,
        "found": found if isinstance(found, dict) else None,
    }
