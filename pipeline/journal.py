"""The run journal: what happened, written as it happens, readable after a kill.

Append-only files in `<run>/journal/`:

    boxes/<camera>.bin   fixed-size records (`BOX_RECORD`), one per box of a live track
    sightings.jsonl      one Sighting per line, the embedding as base64 of little-endian float32
    decisions.jsonl      one Decision per line
    corrections.jsonl    one Correction per line

`RunJournal` buffers in memory and writes whole records, so what was flushed is complete. A record that a kill cut in
the middle is dropped by the readers and cut off when a journal is opened again. Boxes are binary because they are on
the hot path and because a cut number in a text file ("12." of "12.345") would still read as a number.

Errors: `pipeline.atomic.OutputError` (OSError) when a file cannot be written; JournalError (ValueError) when a file of
the run folder does not hold what it should: names file, line and what is wrong.
"""

from __future__ import annotations

import base64
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import output_error
from st_model.ledger import Correction
from st_model.sightings import Candidate, Decision, Sighting

BOX_RECORD = np.dtype(
    [("frame", "<i8"), ("time_s", "<f8"), ("track_id", "<i8"), ("box", "<f4", (4,)), ("score", "<f4")]
)
"""One box of one track: 0-based source frame, site time, track id, xyxy px, score. 44 bytes."""

NOBODY = -1
"""Track id of the record that marks a frame in which nobody was tracked."""

FLUSH_S = 1.0  # a kill loses at most what was said since


class JournalError(ValueError):
    """A file of the run folder does not hold what it should; says where."""


def check_camera_name(camera: str) -> str:
    """A camera's name is also the name of its files.

    Raises ValueError for an empty name, one with a slash, a NUL or a leading dot.

    >>> check_camera_name("lobby north")
    'lobby north'
    """
    if not camera or camera.startswith(".") or any(c in camera for c in "/\\\0\n"):
        raise ValueError(f"camera name {camera!r} cannot be used as a file name; use letters, digits, '-' and '_'")
    return camera


class RunJournal:
    """Appends what a run sees and decides to `<run_dir>/journal/`.

    Calls copy into memory; what is there is written by the first call after `FLUSH_S` seconds, and by `flush`. They may
    come from several threads. `flush` hands the bytes to the operating system: they survive a kill of the process.
    Opening an existing journal appends to it, after cutting off a record that a kill left unfinished.

    Raises OutputError when a file cannot be written, ValueError when the arrays do not fit or a camera's name cannot
    be a file name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, RunJournal(Path(folder)) as journal:
    ...     box, score = np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32)
    ...     journal.boxes("lobby", 0, 0.0, np.array([1]), box, score)
    ...     journal.flush()
    ...     len(read_boxes(Path(folder))["lobby"])
    1
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = Path(run_dir) / "journal"
        self._pending: dict[Path, list[bytes]] = {}
        self._written_s = time.monotonic()
        self._files: dict[Path, int] = {}
        self._lock = threading.Lock()
        try:
            (self._folder / "boxes").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self._folder, error) from error
        self._box_paths: dict[str, Path] = {}

    def boxes(
        self,
        camera: str,
        index: int,
        time_s: float,
        track_ids: NDArray[np.int64],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> None:
        """The tracks seen in one frame: index 0-based, track_ids (N,), boxes (N, 4) xyxy px, scores (N,).

        Call it for every frame that was looked at: one without a track is marked, so that the log knows of it.
        """
        count = len(track_ids)
        if boxes.shape != (count, 4) or len(scores) != count:
            raise ValueError(f"{count} track ids, but boxes {boxes.shape} and {len(scores)} scores")
        path = self._box_paths.get(camera)
        if path is None:
            path = self._box_paths[camera] = self._folder / "boxes" / f"{check_camera_name(camera)}.bin"
        records = np.zeros(max(count, 1), BOX_RECORD)
        records["frame"] = index
        records["time_s"] = time_s
        records["track_id"] = track_ids if count else NOBODY
        if count:
            records["box"] = boxes
            records["score"] = scores
        self._append(path, records.tobytes())

    def sighting(self, sighting: Sighting) -> None:
        """One emission about a stay."""
        self._append(self._folder / "sightings.jsonl", json_line(sighting_to_json(sighting)))

    def decision(self, decision: Decision) -> None:
        """What the matcher said about a stay."""
        self._append(self._folder / "decisions.jsonl", json_line(to_json(decision)))

    def correction(self, correction: Correction) -> None:
        """A merge or split of ids."""
        self._append(self._folder / "corrections.jsonl", json_line(to_json(correction)))

    def flush(self) -> None:
        """Write everything said so far. Raises OutputError."""
        with self._lock:
            self._write_pending()

    def close(self) -> None:
        """Flush and close; calling it twice is fine."""
        with self._lock:
            try:
                self._write_pending()
            finally:
                for descriptor in self._files.values():
                    os.close(descriptor)
                self._files.clear()

    def __enter__(self) -> RunJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, path: Path, data: bytes) -> None:
        with self._lock:
            self._pending.setdefault(path, []).append(data)
            if time.monotonic() - self._written_s > FLUSH_S:
                self._write_pending()

    def _write_pending(self) -> None:
        pending, self._pending, self._written_s = self._pending, {}, time.monotonic()
        for path, parts in pending.items():
            try:
                descriptor = self._files.get(path)
                if descriptor is None:
                    descriptor = self._files[path] = _open_for_append(path)
                left = memoryview(b"".join(parts))
                while left:  # a nearly full disk takes a part and refuses the rest on the next call
                    left = left[os.write(descriptor, left) :]
            except OSError as error:
                if path in self._files:
                    _cut_unfinished(self._files[path], path)
                raise output_error(path, error) from error


def _open_for_append(path: Path) -> int:
    """Open at the end of the last whole record."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    _cut_unfinished(descriptor, path)
    return descriptor


def _cut_unfinished(descriptor: int, path: Path) -> None:
    """Cut off a record that was written in part, so that the next one starts where a record may start."""
    size = os.fstat(descriptor).st_size
    if path.suffix == ".bin":
        whole = size - size % BOX_RECORD.itemsize
    else:
        whole = path.read_bytes().rfind(b"\n") + 1 if size else 0
    if whole != size:
        os.ftruncate(descriptor, whole)


# -------------------------------------------------------------------------------------------------- values <-> JSON


def _plain(value: Any) -> Any:
    """A value that strict JSON can hold: NaN and infinity become null."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return to_json(value)
    return value


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass as a dict for strict JSON: tuples become lists, NaN and infinity become null."""
    return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}


def json_line(row: dict[str, Any]) -> bytes:
    """One line of JSON with its line end."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def sighting_to_json(sighting: Sighting) -> dict[str, Any]:
    """A Sighting as a dict; the embedding bit for bit as base64."""
    row = to_json_without(sighting, "embedding")
    row["embedding"] = base64.b64encode(np.ascontiguousarray(sighting.embedding, "<f4").tobytes()).decode()
    return row


def to_json_without(value: Any, name: str) -> dict[str, Any]:
    """`to_json` without one field that has its own encoding."""
    return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name != name}


def sighting_from_json(row: dict[str, Any]) -> Sighting:
    """The inverse of `sighting_to_json`."""
    row = dict(row)
    row["embedding"] = np.frombuffer(base64.b64decode(row["embedding"]), "<f4").astype(np.float32)
    for name in ("first_box", "last_box"):
        row[name] = None if row[name] is None else np.array(row[name], np.float32)
    return Sighting(**row)


def decision_from_json(row: dict[str, Any]) -> Decision:
    """The inverse of `to_json(decision)`; fields that Decision does not have are ignored."""
    known = {f.name for f in fields(Decision)}
    candidates = tuple(_candidate(c) for c in row.get("candidates", ()))
    return Decision(**{k: v for k, v in row.items() if k in known and k != "candidates"}, candidates=candidates)


def correction_from_json(row: dict[str, Any]) -> Correction:
    """The inverse of `to_json(correction)`."""
    stays = tuple((str(camera), int(track_id)) for camera, track_id in row["stays"])
    return Correction(**row | {"stays": stays})


def _candidate(row: dict[str, Any]) -> Candidate:
    numbers = ("appearance", "delay_s", "transition", "joint", "probability")
    return Candidate(**row | {name: math.nan for name in numbers if row[name] is None})


# ------------------------------------------------------------------------------------------------------- reading


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, row) of a JSON lines file; a last line without its line end is dropped.

    A missing file has no rows. Raises JournalError for a whole line that is not a JSON object.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return  # cut by a kill
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise JournalError(f"{path}:{number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise JournalError(f"{path}:{number}: expected a JSON object, got {type(row).__name__}")
            yield number, row


def read_boxes(run_dir: Path) -> dict[str, NDArray[np.void]]:
    """Camera -> (N,) `BOX_RECORD` of the journal, in the order written; a cut last record is dropped.

    Frames without a track have one record with the track id `NOBODY`.
    """
    tables = {}
    for path in sorted((Path(run_dir) / "journal" / "boxes").glob("*.bin")):
        whole = path.stat().st_size // BOX_RECORD.itemsize
        tables[path.stem] = np.fromfile(path, BOX_RECORD, whole)
    return tables


def read_journal_sightings(run_dir: Path) -> list[Sighting]:
    """The Sightings of the journal, in the order written. Raises JournalError."""
    path = Path(run_dir) / "journal" / "sightings.jsonl"
    return [_from_row(path, number, row, sighting_from_json) for number, row in read_json_lines(path)]


def read_decisions(path: Path) -> list[Decision]:
    """The Decisions of a decisions.jsonl, in order. Raises JournalError naming the line."""
    return [_from_row(path, number, row, decision_from_json) for number, row in read_json_lines(path)]


def read_corrections(path: Path) -> list[Correction]:
    """The Corrections of a corrections.jsonl, in order. Raises JournalError naming the line."""
    return [_from_row(path, number, row, correction_from_json) for number, row in read_json_lines(path)]


def _from_row(path: Path, number: int, row: dict[str, Any], build: Any) -> Any:
    try:
        return build(row)
    except KeyError as error:
        raise JournalError(f"{path}:{number}: field {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise JournalError(f"{path}:{number}: {error}") from error
