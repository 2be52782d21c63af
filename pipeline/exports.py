"""A finished run in the formats of other programs: `export_run` writes one of `FORMATS` from tracks.parquet.

The files are copies: what is corrected or forgotten in the run later does not reach them.

    ExportError (ValueError)   no such format or camera; names the nearest
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import output_error
from pipeline.journal import read_facts
from pipeline.run_folder import finished_run, is_run
from pipeline.salted import salted_number
from pipeline.site_order import with_numbers

if TYPE_CHECKING:
    import pyarrow as pa

Ids = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Global ids as they leave the house: (N,) -> (N,), the same id always the same, two ids never one. Everything that is
exported goes through it once, before any format sees a row; `keep_ids` changes nothing."""


class ExportError(ValueError):
    """What was asked for cannot be exported."""


@dataclass(frozen=True)
class CameraFacts:
    """What a format may want to know of a camera: picture size in px, frames in the source, rate; 0: not known."""

    name: str
    width: int
    height: int
    frames: int
    fps: float


@dataclass(frozen=True)
class Exported:
    """What was written: the files, and how many boxes of how many persons they hold."""

    paths: tuple[Path, ...]
    boxes: int
    persons: int


Writer = Callable[[Path, "pa.Table", Sequence[CameraFacts], int], list[Path]]
"""(folder, tracks table, cameras, number of a source's first frame) -> files written."""


def formats() -> dict[str, Writer]:
    """Name -> writer."""
    from pipeline import export_labels, export_rows

    return {
        "mot": export_rows.write_mot,
        "aicity": export_rows.write_aicity,
        "csv": export_rows.write_csv_rows,
        "jsonl": export_rows.write_jsonl,
        "parquet": export_rows.write_parquet,
        "cvat": export_labels.write_cvat,
        "coco": export_labels.write_coco,
        "supervision": export_rows.write_supervision,
    }


def export_run(
    run_dir: Path,
    out: Path,
    format: str,
    *,
    cameras: Sequence[str] = (),
    ids: Ids | None = None,
    first_frame: int = 1,
) -> Exported:
    """Write a finished run into the folder `out` in one of `formats`.

    cameras      only these; none: all
    ids          what becomes of the global ids (see `Ids`); with other ids the stays' track ids are counted anew, too,
                 because they would lead back; None keeps both
    first_frame  number of a source's first frame in the files, 0 or 1; CVAT counts from 0 whatever is said here

    Raises ExportError, RunFolderError, JournalError for a damaged run, OutputError.
    """
    writer = _known(format)
    if first_frame not in (0, 1):
        raise ExportError(f"frames are counted from 0 or from 1, not from {first_frame}")
    finished_run(run_dir, "tracks.parquet")
    if is_run(out):
        raise ExportError(f"{out}: this is the folder of a run, whose own files could be lost: choose another --out")
    kept = ids is None or ids is keep_ids
    tracks, known = tracks_of(run_dir, cameras, ids or keep_ids)
    tracks = tracks if kept else _stays_anew(tracks)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    paths = writer(out, tracks, known, first_frame)
    return Exported(tuple(paths), tracks.num_rows, len(np.unique(tracks["global_id"].to_numpy())))


def tracks_of(run_dir: Path, cameras: Sequence[str], ids: Ids) -> tuple[pa.Table, list[CameraFacts]]:
    """The tracks table of the asked cameras with outgoing ids, and what is known of these cameras.

    Raises ExportError, JournalError.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.tracks_table import read_tracks

    tracks, facts = read_tracks(run_dir), read_facts(run_dir)
    health = facts.get("cameras") or {}
    names = sorted(set(health) | set(pc.unique(tracks["camera"]).to_pylist()), key=with_numbers)
    for wanted in cameras:
        if wanted not in names:
            raise ExportError(f"{run_dir}: there is no camera {wanted!r}; {_nearest(wanted, names)}")
    if cameras:
        names = [name for name in names if name in set(cameras)]
        tracks = tracks.filter(pc.is_in(tracks["camera"], pa.array(names, pa.string())))
    own = tracks["global_id"].to_numpy()
    known, place = np.unique(own, return_inverse=True)
    given = np.asarray(ids(known), np.int64)
    if len(np.unique(given)) != len(known):
        raise ExportError("two persons would leave under one id")
    column = tracks.column_names.index("global_id")
    tracks = tracks.set_column(column, "global_id", pa.array(given[place], pa.int64()))
    return tracks, [_facts_of(name, health.get(name) or {}) for name in names]


def keep_ids(global_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids of the run as they are."""
    return global_ids


def salted_ids(salt: bytes) -> Ids:
    """Ids that cannot be led back without the salt, whole numbers below 2^53 (see `pipeline.salted`)."""
    return lambda global_ids: np.array([salted_number(one, salt) for one in global_ids.tolist()], np.int64)


def _stays_anew(tracks: pa.Table) -> pa.Table:
    import pyarrow as pa

    _, anew = np.unique(tracks["track_id"].to_numpy(), return_inverse=True)
    return tracks.set_column(tracks.column_names.index("track_id"), "track_id", pa.array(anew + 1, pa.int64()))


def _facts_of(name: str, health: dict[str, Any]) -> CameraFacts:
    width, height = health.get("size") or (0, 0)
    return CameraFacts(
        name, int(width), int(height), int(health.get("frames_read") or 0), float(health.get("fps") or 0)
    )


def _known(format: str) -> Writer:
    every = formats()
    if format not in every:
        raise ExportError(f"no format is called {format!r}; {_nearest(format, list(every))}")
    return every[format]


def _nearest(wanted: str, names: Sequence[str]) -> str:
    """A hint: the nearest name, or all of them.

    >>> _nearest("cocco", ["coco", "mot"]), _nearest("x", ["coco", "mot"])
    ("did you mean 'coco'?", 'there are coco, mot')
    """
    guess = difflib.get_close_matches(wanted.lower(), names, n=1, cutoff=0.5)
    return f"did you mean {guess[0]!r}?" if guess else f"there are {', '.join(names) or 'none'}"
