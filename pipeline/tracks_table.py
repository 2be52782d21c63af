"""The tracks table: every box of a run under its final global id.

Columns, in tracks.parquet, tracks.csv and in memory (a pyarrow Table sorted by camera, frame, global id):

    camera string, frame int64 (1-based source frame, as in the MOT files), time_s double, track_id int64,
    global_id int64, x1 y1 x2 y2 float (px), score float

Everything here works on whole columns: ten million boxes need no Python loop over rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import atomic, output_error, write_csv
from pipeline.journal import BOX_RECORD, NOBODY, JournalError
from pipeline.tracklets import Tracklet, fill_gaps, smooth_boxes

if TYPE_CHECKING:
    import pyarrow as pa

FinalIds = Mapping[tuple[str, int], tuple[int, float]]
"""(camera, track_id) -> (global id, probability)."""


def final_tracks(
    boxes: Mapping[str, NDArray[np.void]], final_ids: FinalIds, *, fill_gaps_s: float, smooth_s: float
) -> tuple[pa.Table, int, int]:
    """(tracks table sorted by camera, frame, global id; rows without an id; rows dropped as doubles).

    boxes        camera -> records of the journal, in any order
    fill_gaps_s  see `pipeline.tracklets.fill_gaps`; smooth_s: see `pipeline.tracklets.smooth_boxes`
    """
    import pyarrow as pa

    tables, without_id, twice = [], 0, 0
    for camera, records in boxes.items():
        tracked = records[records["track_id"] != NOBODY]
        named = tracked[_global_ids(tracked["track_id"], camera, final_ids) >= 0]
        without_id += len(tracked) - len(named)
        if fill_gaps_s > 0:
            named = _filled(camera, named, records, fill_gaps_s)
        if smooth_s > 0:
            named["box"] = smooth_boxes(named["track_id"], named["time_s"], named["box"], smooth_s)
        ids = _global_ids(named["track_id"], camera, final_ids)
        # By frame, then id, then best score first; the first of each (frame, id) stays.
        order = np.lexsort((named["track_id"], -named["score"], ids, named["frame"]))
        named, ids = named[order], ids[order]
        first = np.ones(len(named), bool)
        first[1:] = (np.diff(named["frame"]) != 0) | (np.diff(ids) != 0)
        twice += int((~first).sum())
        tables.append(_tracks_table(camera, named[first], ids[first]))
    return (pa.concat_tables(tables) if tables else _tracks_schema().empty_table()), without_id, twice


def _global_ids(track_ids: NDArray[np.int64], camera: str, final_ids: FinalIds) -> NDArray[np.int64]:
    """The global id of each row's stay, -1 where it has none: one look-up per stay, not per row."""
    stays, stay_of_row = np.unique(track_ids, return_inverse=True)
    return np.array([final_ids.get((camera, stay), (-1, 0.0))[0] for stay in stays.tolist()], np.int64)[stay_of_row]


def _filled(camera: str, records: NDArray[np.void], looked_at: NDArray[np.void], max_gap_s: float) -> NDArray[np.void]:
    """The records with the short holes of every stay filled.

    `looked_at` holds all the journal's records of this camera: its frames are the ones that can be filled. With a
    detection stride the frames between are not in the journal, and they are not invented here.
    """
    frames, first = np.unique(looked_at["frame"], return_index=True)
    times_s = looked_at["time_s"][first]
    records = records[np.lexsort((records["frame"], records["track_id"]))]
    at = np.searchsorted(frames, records["frame"])
    holes = (np.diff(records["track_id"]) == 0) & (np.diff(at) > 1)
    parts = [records]
    for stay in np.unique(records["track_id"][1:][holes]):
        low, high = np.searchsorted(records["track_id"], [stay, stay + 1])
        rows, span = records[low:high], slice(at[low], at[high - 1] + 1)
        seen = Tracklet(camera, int(stay), rows["time_s"].copy(), rows["box"].copy(), rows["score"].copy())
        filled = fill_gaps(seen, times_s[span], max_gap_s)
        added = ~np.isin(filled.times_s, rows["time_s"])
        new = np.zeros(int(added.sum()), BOX_RECORD)
        new["time_s"], new["box"], new["score"] = filled.times_s[added], filled.boxes[added], filled.scores[added]
        new["frame"] = frames[span][np.searchsorted(times_s[span], new["time_s"])]
        new["track_id"] = stay
        parts.append(new)
    return np.concatenate(parts)


def _tracks_schema() -> pa.Schema:
    import pyarrow as pa

    pixels = [(name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "score")]
    numbers = [("frame", pa.int64()), ("time_s", pa.float64()), ("track_id", pa.int64()), ("global_id", pa.int64())]
    return pa.schema([("camera", pa.string()), *numbers, *pixels])


def _tracks_table(camera: str, records: NDArray[np.void], ids: NDArray[np.int64]) -> pa.Table:
    import pyarrow as pa

    names = pa.repeat(pa.scalar(camera), len(records))
    corners = [np.ascontiguousarray(records["box"][:, k]) for k in range(4)]
    columns = [records["frame"] + 1, records["time_s"], records["track_id"], ids, *corners, records["score"]]
    return pa.table([names, *map(np.ascontiguousarray, columns)], schema=_tracks_schema())


def write_tracks(run_dir: Path, tracks: pa.Table, cameras: Sequence[str]) -> None:
    """Write tracks.parquet, tracks.csv and tracks/<camera>.txt (also for cameras without a row). Raises OutputError."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with atomic(run_dir / "tracks.parquet") as temporary:
        pq.write_table(tracks, temporary, compression="zstd")
    rounded = tracks
    for name, digits in (("time_s", 4), ("x1", 2), ("y1", 2), ("x2", 2), ("y2", 2), ("score", 4)):
        column = pc.round(tracks[name].cast(pa.float64()), digits)  # as double, or 0.3f would print as 0.30000001192
        rounded = rounded.set_column(rounded.column_names.index(name), name, column)
    with atomic(run_dir / "tracks.csv") as temporary:
        write_csv(rounded, temporary)
    try:
        (run_dir / "tracks").mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(run_dir / "tracks", error) from error
    for camera in cameras:
        mine = rounded.filter(pc.equal(rounded["camera"], camera))
        minus_one = pa.array(np.full(mine.num_rows, -1, np.int8))
        mot = {
            "frame": mine["frame"],
            "id": mine["global_id"],
            "left": mine["x1"],
            "top": mine["y1"],
            "width": pc.round(pc.subtract(mine["x2"], mine["x1"]), 2),
            "height": pc.round(pc.subtract(mine["y2"], mine["y1"]), 2),
            "score": mine["score"],
            "x": minus_one,
            "y": minus_one,
            "z": minus_one,
        }
        with atomic(run_dir / "tracks" / f"{camera}.txt") as temporary:
            write_csv(pa.table(mot), temporary, header=False)


def read_tracks(run_dir: Path) -> pa.Table:
    """The tracks table of a finished run (columns at the top of this module).

    Raises FileNotFoundError when there is none, JournalError when it does not have these columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(run_dir) / "tracks.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; is {run_dir} the folder of a finished run?")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise JournalError(f"{path} is not a readable Parquet file: {error}") from error
    schema = _tracks_schema()
    missing = set(schema.names) - set(table.column_names)
    if missing:
        raise JournalError(f"{path} lacks the columns {sorted(missing)}")
    return table.select(schema.names).cast(schema)


def write_assignments(path: Path, final_ids: FinalIds) -> None:
    """assignments.csv: camera, track_id, global_id, probability; one row per stay. Raises OutputError."""
    import pyarrow as pa

    keys = sorted(final_ids)
    table = pa.table(
        {
            "camera": pa.array([camera for camera, _ in keys], pa.string()),
            "track_id": pa.array([track for _, track in keys], pa.int64()),
            "global_id": pa.array([final_ids[key][0] for key in keys], pa.int64()),
            "probability": pa.array([round(final_ids[key][1], 6) for key in keys], pa.float64()),
        }
    )
    with atomic(Path(path)) as temporary:
        write_csv(table, temporary)


def read_assignments(path: Path) -> dict[tuple[str, int], tuple[int, float]]:
    """The inverse of `write_assignments`; raises JournalError when the file does not hold these columns."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    types = {"camera": pa.string(), "track_id": pa.int64(), "global_id": pa.int64(), "probability": pa.float64()}
    try:
        table = pacsv.read_csv(
            path, convert_options=pacsv.ConvertOptions(column_types=types, include_columns=list(types))
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise JournalError(f"{path}: {error}") from error
    columns = [table[name].to_pylist() for name in types]
    return {(camera, track): (global_id, sure) for camera, track, global_id, sure in zip(*columns, strict=True)}
