"""Exports with a row per box: MOTChallenge, AI City, CSV, JSON lines, Parquet, and supervision's own CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import atomic, write_csv, write_lines
from pipeline.exports import CameraFacts, ExportError

if TYPE_CHECKING:
    import pyarrow as pa
    import supervision

PERSON = 0
"""Class id of a person, as in COCO's numbering from 0 that detectors use."""


def write_mot(folder: Path, tracks: pa.Table, cameras: Sequence[CameraFacts], first_frame: int) -> list[Path]:
    """<camera>.txt each: frame, id, left, top, width, height, score, -1, -1, -1 (MOTChallenge, 10 columns)."""
    import pyarrow as pa

    paths = []
    for camera in cameras:
        frame, left, top, width, height = _boxes(_of(tracks, camera.name), first_frame)
        mine = _of(tracks, camera.name)
        unknown = np.full(len(frame), -1, np.int8)
        columns = [frame, mine["global_id"], left, top, width, height, _rounded(mine["score"], 4), *[unknown] * 3]
        names = ["frame", "id", "left", "top", "width", "height", "score", "x", "y", "z"]
        paths.append(folder / f"{camera.name}.txt")
        with atomic(paths[-1]) as temporary:
            write_csv(pa.table(columns, names=names), temporary, header=False)
    return paths


def write_aicity(folder: Path, tracks: pa.Table, cameras: Sequence[CameraFacts], first_frame: int) -> list[Path]:
    """track1.txt: camera_id obj_id frame_id xmin ymin width height xworld yworld, by blanks, sorted by camera, id and
    frame; the world is not known: -1. cameras.csv says which number is which camera.

    Boxes are whole pixels. Source: AI City Challenge, "Data and Evaluation", multi-camera people tracking, 2023.
    """
    numbers = camera_numbers([camera.name for camera in cameras])
    lines: list[bytes] = []
    for camera in sorted(cameras, key=lambda camera: numbers[camera.name]):
        mine = _of(tracks, camera.name)
        frame, *edges = _boxes(mine, first_frame)
        ids = mine["global_id"].to_numpy()
        left, top, width, height = (np.round(edge).astype(np.int64) for edge in edges)
        rows = np.stack([ids, frame, left, top, width, height], axis=1)[np.lexsort((frame, ids))]
        number = numbers[camera.name]
        lines += [f"{number} {' '.join(map(str, row))} -1 -1\n".encode() for row in rows.tolist()]
    paths = [folder / "track1.txt", folder / "cameras.csv"]
    write_lines(paths[0], lines)
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in numbers}
    write_lines(paths[1], [b"camera_id,camera\n", *(f"{n},{quoted[name]}\n".encode() for name, n in numbers.items())])
    return paths


def camera_numbers(names: Sequence[str]) -> dict[str, int]:
    """A number per camera: the one in its name where all names have one and all differ, else 1, 2, 3.

    >>> camera_numbers(["c041", "c046"]), camera_numbers(["hall", "exit"])
    ({'c041': 41, 'c046': 46}, {'hall': 1, 'exit': 2})
    """
    inside = [re.findall(r"\d+", name) for name in names]
    if all(len(found) == 1 for found in inside) and len({int(found[0]) for found in inside}) == len(names):
        return {name: int(found[0]) for name, found in zip(names, inside, strict=True)}
    return {name: n for n, name in enumerate(names, start=1)}


def write_csv_rows(folder: Path, tracks: pa.Table, cameras: Sequence[CameraFacts], first_frame: int) -> list[Path]:
    """tracks.csv: camera, frame, time_s, track_id, global_id, x1, y1, x2, y2, score."""
    table = _shifted(tracks, first_frame)
    for name, digits in (("time_s", 4), ("x1", 2), ("y1", 2), ("x2", 2), ("y2", 2), ("score", 4)):
        table = table.set_column(table.column_names.index(name), name, [_rounded(table[name], digits)])
    path = folder / "tracks.csv"
    with atomic(path) as temporary:
        write_csv(table, temporary)
    return [path]


def write_jsonl(folder: Path, tracks: pa.Table, cameras: Sequence[CameraFacts], first_frame: int) -> list[Path]:
    """tracks.jsonl: one box a line with the columns of tracks.csv as keys."""

    def lines() -> Iterator[bytes]:
        for batch in _shifted(tracks, first_frame).to_batches(max_chunksize=20_000):
            for row in batch.to_pylist():
                row |= {name: round(row[name], 4) for name in ("time_s", "x1", "y1", "x2", "y2", "score")}
                yield json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    path = folder / "tracks.jsonl"
    write_lines(path, lines())
    return [path]


def write_parquet(folder: Path, tracks: pa.Table, cameras: Sequence[CameraFacts], first_frame: int) -> list[Path]:
    """tracks.parquet, as in the run folder."""
    import pyarrow.parquet as pq

    path = folder / "tracks.parquet"
    with atomic(path) as temporary:
        pq.write_table(_shifted(tracks, first_frame), temporary, compression="zstd")
    return [path]


# ------------------------------------------------------------------------------------------------- supervision


def supervision_detections(
    run_dir: Path, camera: str, *, first_frame: int = 1
) -> Iterator[tuple[int, supervision.Detections]]:
    """(frame number, `supervision.Detections`) of every frame of a camera in which somebody is, in order.

    xyxy in px, confidence, class_id 0, tracker_id: the global id; data: "time_s" (site clock) and "track_id" per box.
    Raises ExportError when supervision is not installed or there is no such camera, RunFolderError.

        for frame, people in supervision_detections(Path("runs/first"), "lobby"):
            ...
    """
    from pipeline.exports import keep_ids, tracks_of
    from pipeline.run_folder import finished_run

    tracks, _ = tracks_of(finished_run(run_dir, "tracks.parquet"), [camera], keep_ids)
    yield from _detections(tracks, first_frame)


def write_supervision(folder: Path, tracks: pa.Table, cameras: Sequence[CameraFacts], first_frame: int) -> list[Path]:
    """<camera>.csv each, written by supervision's own CSVSink: x_min, y_min, x_max, y_max, class_id, confidence,
    tracker_id, then time_s, track_id, frame."""
    paths = []
    for camera in cameras:
        paths.append(folder / f"{camera.name}.csv")
        sink = _supervision().CSVSink
        with atomic(paths[-1]) as temporary:
            # It insists on the ending.
            named = temporary.with_name(temporary.name + ".csv")
            with sink(str(named)) as file:
                for frame, people in _detections(_of(tracks, camera.name), first_frame):
                    file.append(people, custom_data={"frame": frame})
            named.replace(temporary)
    return paths


def _detections(tracks: pa.Table, first_frame: int) -> Iterator[tuple[int, supervision.Detections]]:
    detections = _supervision().Detections
    frames = tracks["frame"].to_numpy() - 1 + first_frame
    corners = np.stack([tracks[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
    columns = {name: tracks[name].to_numpy() for name in ("score", "global_id", "time_s", "track_id")}
    starts = np.flatnonzero(np.r_[True, np.diff(frames) != 0]) if len(frames) else np.zeros(0, np.intp)
    for low, high in zip(starts, [*starts[1:], len(frames)], strict=True):
        rows = slice(int(low), int(high))
        yield (
            int(frames[low]),
            detections(
                xyxy=corners[rows],
                confidence=columns["score"][rows],
                class_id=np.full(int(high - low), PERSON),
                tracker_id=columns["global_id"][rows],
                data={name: columns[name][rows] for name in ("time_s", "track_id")},
            ),
        )


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise ExportError("this needs the package supervision: pip install 'identrix[export]'") from error
    return supervision


# ------------------------------------------------------------------------------------------------------- columns


def _of(tracks: pa.Table, camera: str) -> pa.Table:
    import pyarrow.compute as pc

    return tracks.filter(pc.equal(tracks["camera"], camera))


def _shifted(tracks: pa.Table, first_frame: int) -> pa.Table:
    import pyarrow.compute as pc

    frame = pc.add(tracks["frame"], first_frame - 1)
    return tracks.set_column(tracks.column_names.index("frame"), "frame", frame)


def _boxes(tracks: pa.Table, first_frame: int) -> tuple[NDArray[Any], ...]:
    """(frame, left, top, width, height), pixels to hundredths."""
    x1, y1, x2, y2 = (tracks[name].to_numpy().astype(np.float64) for name in ("x1", "y1", "x2", "y2"))
    left, top = np.round(x1, 2), np.round(y1, 2)
    frame = tracks["frame"].to_numpy() - 1 + first_frame
    return frame, left, top, np.round(np.round(x2, 2) - left, 2), np.round(np.round(y2, 2) - top, 2)


def _rounded(column: Any, digits: int) -> NDArray[np.float64]:
    return np.asarray(np.round(column.to_numpy().astype(np.float64), digits), np.float64)
