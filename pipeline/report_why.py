"""Why each stay got its id, in one short row per stay: the last decision about it and who came next."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.journal import read_json_lines

MOST_STAYS = 5000
MOST_BYTES = 60_000_000  # a second of reading; `explain` has no limit


def whys_of(run_dir: Path, cameras: Sequence[str], tracks: Sequence[int]) -> list[Any] | None:
    """Per stay (camera, track) the last decision as [kind, from camera, cosine, delay_s, times likelier by the delay,
    probability, who came next (a global id, 0 for "a new person", null for nobody), its probability]; null for a stay
    without a decision.

    None for a run of more than 5,000 stays or without decisions: `explain` answers one by one. Raises JournalError for
    a damaged file.
    """
    path = Path(run_dir) / "decisions.jsonl"
    if len(tracks) > MOST_STAYS or not path.is_file() or path.stat().st_size > MOST_BYTES:
        return None
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for _, row in read_json_lines(path):
        last[str(row.get("camera")), int(row.get("track_id") or 0)] = row
    return [_why(last.get(key)) for key in zip(cameras, tracks, strict=True)]


def _why(row: dict[str, Any] | None) -> list[Any] | None:
    if row is None:
        return None
    candidates = [c for c in row.get("candidates") or [] if isinstance(c, dict)]
    wanted = None if row.get("kind") == "new" else row.get("global_id")
    chosen = next((c for c in candidates if c.get("global_id") == wanted), None)
    if chosen is None:
        return None
    others = [c for c in candidates if c is not chosen]
    second = max(others, key=lambda c: _number(c.get("probability")) or 0.0, default=None)
    told = [_number(chosen.get(name)) for name in ("appearance", "delay_s", "transition", "probability")]
    after = [None, None] if second is None else [second.get("global_id") or 0, _number(second.get("probability"))]
    return [row.get("kind"), chosen.get("from_camera"), *told, *after]


def _number(value: Any) -> float | None:
    """Rounded to four figures, None for what is no number.

    >>> _number(0.123456), _number(None)
    (0.1235, None)
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(json.dumps(float(f"{value:.4g}")))
