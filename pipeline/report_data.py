"""What the report shows, read from a run folder: one value that strict JSON can hold, small enough to ship in the page.

Times are whole hundredths of a second from `zero_s`, cameras and persons are numbers into their lists, stays are
columns: 100,000 of them are 3 MB of text, and a browser has them in memory in a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.annotate import UTC_FROM_S, person_colour
from pipeline.camera_layout import places
from pipeline.journal import JournalError, read_corrections, read_facts
from pipeline.report_learnt import calibration_of, tables_of
from pipeline.report_numbers import Floats, bin_width_s, flows, mean_in_view, medians_by_bin, most_in_view, numbered
from pipeline.report_why import whys_of
from pipeline.run_folder import finished_run
from pipeline.segments import segments_of
from pipeline.site_order import with_numbers
from st_model.ledger import standing

_STAYS = ("global_id", "camera", "track_id", "entered_s", "left_s", "probability")
_MOVES = ("global_id", "from_camera", "left_s", "to_camera", "entered_s", "delay_s", "probability")
MOST_CROPS_BYTES = 6_000_000  # in a page that is meant to be mailed


def report_data(run_dir: Path) -> dict[str, Any]:
    """Everything that report.html shows of a finished run.

    Raises RunFolderError when this is not the folder of a finished run, JournalError when a file is damaged.
    """
    run_dir = finished_run(run_dir, "stays.csv", "transitions.csv")
    facts = read_facts(run_dir)
    stays, moves = _columns(run_dir / "stays.csv", _STAYS), _columns(run_dir / "transitions.csv", _MOVES)
    settings = _section(facts, "config")
    cameras = _camera_names(facts, settings, stays, moves)
    zero_s = float(np.floor(stays["entered_s"].min())) if len(stays["entered_s"]) else 0.0
    entered, left = stays["entered_s"] - zero_s, stays["left_s"] - zero_s
    end_s = float(max(left.max(initial=0.0), 0.0))
    where = numbered(cameras, stays["camera"])
    persons, person = _persons(stays["global_id"], entered)
    order = np.lexsort((left, entered, person))
    left_from, went_to = numbered(cameras, moves["from_camera"]), numbered(cameras, moves["to_camera"])
    ways = flows(left_from, went_to, moves["delay_s"], moves["probability"])
    between = {(cameras[way.from_camera], cameras[way.to_camera]): float(way.count) for way in ways}
    return {
        "site": str(facts.get("site") or run_dir.name),
        "zero_s": zero_s,
        "utc": zero_s >= UTC_FROM_S,
        "end": _hundredths(np.array([end_s]))[0],
        "cameras": cameras,
        "places": np.round(places(cameras, between), 4).tolist(),
        "persons": persons.tolist(),
        "colours": "".join("{2:02x}{1:02x}{0:02x}".format(*person_colour(number)) for number in persons.tolist()),
        "stays": {
            "person": person[order].tolist(),
            "camera": where[order].tolist(),
            "track": stays["track_id"][order].astype(np.int64).tolist(),
            "entered": _hundredths(entered[order]),
            "dwell": _hundredths(np.maximum(left - entered, 0.0)[order]),
            "sure": np.round(1000 * np.nan_to_num(stays["probability"][order])).astype(np.int64).tolist(),
        },
        "flows": [
            [w.from_camera, w.to_camera, w.count, *_rounded(w.lower_s, w.median_s, w.upper_s), round(w.probability, 3)]
            for w in ways
        ],
        "over_time": _over_time(len(cameras), where, entered, left, end_s),
        "tables": tables_of(run_dir, settings, cameras, moves["delay_s"], left_from, went_to),
        "calibration": calibration_of(run_dir, settings),
        "whys": whys_of(run_dir, stays["camera"][order].tolist(), stays["track_id"][order].astype(int).tolist()),
        "corrections": _corrections(run_dir, zero_s),
        "videos": _videos(run_dir, facts, cameras, zero_s),
        "crops": _crops(run_dir, cameras),
        "health": _section(facts, "cameras"),
        "failed": _section(facts, "failed_cameras"),
        "alarms": [alarm for alarm in facts.get("alarms") or [] if isinstance(alarm, dict)],
        "facts": {
            name: facts.get(name) for name in ("version", "device", "table_version", "interrupted") if name in facts
        },
        "counters": _section(facts, "counters"),
        "speed": _section(facts, "speed"),
        "weights": _section(facts, "weights"),
        "settings": settings,
    }


def _columns(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Columns of a CSV file as arrays: texts as objects, everything else as float64."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    texts = ("camera", "from_camera", "to_camera")
    types = {name: pa.string() if name in texts else pa.float64() for name in names}
    try:
        table = pacsv.read_csv(
            path, convert_options=pacsv.ConvertOptions(column_types=types, include_columns=list(names))
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise JournalError(f"{path}: {str(error).splitlines()[0]}") from error
    out = {name: table[name].to_numpy() for name in names}
    for name in ("global_id", "entered_s", "left_s"):
        if not np.isfinite(out[name]).all():
            raise JournalError(f"{path}: a row has no {name}: the file is damaged")
    return out


def _section(facts: dict[str, Any], name: str) -> dict[str, Any]:
    value = facts.get(name)
    return value if isinstance(value, dict) else {}


def _camera_names(facts: dict[str, Any], settings: dict[str, Any], *tables: dict[str, Any]) -> list[str]:
    """Every camera that is configured, opened or seen; in the order of the configuration, others after by name."""
    configured = [str(c["name"]) for c in settings.get("cameras") or [] if isinstance(c, dict) and "name" in c]
    seen = set(_section(facts, "cameras")) | set(_section(facts, "failed_cameras"))
    for table in tables:
        for column in ("camera", "from_camera", "to_camera"):
            seen |= set(table.get(column, ()))
    return [*configured, *sorted(seen - set(configured), key=with_numbers)]


def _persons(ids: Floats, entered_s: Floats) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """(ids in the order in which they were first seen, the place in it of each stay)."""
    known, of_row = np.unique(ids.astype(np.int64), return_inverse=True)
    first_s = np.full(len(known), np.inf)
    np.minimum.at(first_s, of_row, entered_s)
    order = np.lexsort((known, first_s))
    place = np.empty(len(known), np.intp)
    place[order] = np.arange(len(known))
    return known[order], place[of_row]


def _over_time(count: int, where: NDArray[np.intp], entered: Floats, left: Floats, end_s: float) -> dict[str, Any]:
    """Per camera: people in view, arrivals and median stay over time, and the figures of the whole run."""
    width_s = bin_width_s(max(end_s, 1.0))
    edges = np.arange(int(max(end_s, 1e-9) / width_s) + 2, dtype=np.float64) * width_s
    edges = edges[: max(2, int(np.searchsorted(edges, end_s)) + 1)]
    rows = []
    for camera in range(count):
        mine = where == camera
        begin, end = entered[mine], left[mine]
        bins = np.minimum((begin / width_s).astype(np.intp), len(edges) - 2)
        dwell = medians_by_bin(end - begin, bins, len(edges) - 1)
        rows.append(
            {
                "present": np.round(mean_in_view(begin, end, edges), 3).tolist(),
                "arrived": np.bincount(bins, minlength=len(edges) - 1).tolist(),
                "dwell": [None if np.isnan(value) else round(value, 2) for value in dwell.tolist()],
                "most": most_in_view(begin, end),
                "median_dwell_s": round(float(np.median(end - begin)), 2) if len(begin) else None,
            }
        )
    return {"bin_s": width_s, "cameras": rows}


def _corrections(run_dir: Path, zero_s: float) -> list[dict[str, Any]]:
    return [
        {
            "kind": item.kind,
            "at": round(100 * (item.time_s - zero_s)),
            "from": item.global_id,
            "into": item.into_id,
            "stays": [list(stay) for stay in item.stays],
            "sure": round(item.probability, 4) if np.isfinite(item.probability) else None,
            "reason": item.reason,
        }
        for item in standing(read_corrections(run_dir / "corrections.jsonl"))
    ]


def _videos(run_dir: Path, facts: dict[str, Any], cameras: Sequence[str], zero_s: float) -> dict[str, Any]:
    """Name -> [file below the run folder, the page's time (hundredths) of its first picture], in order of time: one
    file of a camera that was read from a file, the segments of a live one.
    """
    begun, health = _section(facts, "video_start_s"), _section(facts, "cameras")
    firsts = {n: h["first_s"] for n, h in health.items() if isinstance(h, dict) and h.get("first_s") is not None}
    if firsts:
        begun = {"mosaic": min(firsts.values()), **firsts, **begun}
    found = {}
    for name in ["mosaic", *cameras]:
        parts = [(begin_s, path) for begin_s, path in segments_of(run_dir / "video" / name)]
        if (run_dir / "video" / f"{name}.mp4").is_file():
            parts.append((float(begun.get(name, zero_s)), run_dir / "video" / f"{name}.mp4"))
        if parts:
            found[name] = [
                [path.relative_to(run_dir).as_posix(), round(100 * (begin_s - zero_s))]
                for begin_s, path in sorted(parts)
            ]
    return found


def _crops(run_dir: Path, cameras: Sequence[str]) -> dict[str, str]:
    """ "<camera number>:<track>" -> data URI of the stay's best crop, where crops are kept; the page stays one file."""
    import base64

    found: dict[str, str] = {}
    total = 0
    for number, camera in enumerate(cameras):
        for path in sorted((run_dir / "crops" / camera).glob("*.jpg")):
            total += path.stat().st_size
            if total > MOST_CROPS_BYTES:
                return found
            found[f"{number}:{path.stem}"] = f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return found


def _rounded(*seconds: float) -> list[float]:
    return [round(float(value), 2) for value in seconds]


def _hundredths(seconds: NDArray[np.float64]) -> list[int]:
    out: list[int] = np.round(100 * seconds).astype(np.int64).tolist()
    return out
