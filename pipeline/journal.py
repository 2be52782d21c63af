"""The run journal: what happened, written as it happens (pipeline/journal_writer.py), readable after a kill.

Append-only files in `<run>/journal/`:

    boxes/<camera>.bin   fixed-size records (`BOX_RECORD`), one per box of a live track
    sightings.jsonl      one Sighting per line, the embedding as base64 of little-endian float32
    decisions.jsonl      one Decision per line
    corrections.jsonl    one Correction per line

A record that a kill cut in the middle is dropped by the readers. Boxes are binary because they are on the hot path and
because a cut number in a text file ("12." of "12.345") would still read as a number.

    JournalError (ValueError)   a file of the run folder does not hold what it should: names file, line, what is wrong
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st_model.ledger import Correction
from st_model.sightings import Candidate, Decision, Sighting

BOX_RECORD = np.dtype(
    [("frame", "<i8"), ("time_s", "<f8"), ("track_id", "<i8"), ("box", "<f4", (4,)), ("score", "<f4")]
)
"""One box of one track: 0-based source frame, site time, track id, xyxy px, score. 44 bytes."""

_BITS = ("embedding", "face")  # fields of a Sighting kept bit for bit
_IF_THERE = ("face", "branch_weights")  # fields of a Sighting that are left out when they are None

NOBODY = -1
"""Track id of the record that marks a frame in which nobody was tracked."""


class JournalError(ValueError):
    """A file of the run folder does not hold what it should; says where."""


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
    """A dataclass as a dict for strict JSON: tuples become lists, NaN and infinity become null.

    `untaught` of a correction is there only when it is true: older versions read the rest.
    """
    return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name != "untaught" or value.untaught}


def json_line(row: dict[str, Any]) -> bytes:
    """One line of JSON with its line end."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def sighting_to_json(sighting: Sighting) -> dict[str, Any]:
    """A Sighting as a dict; embeddings bit for bit as base64. `face` is there only where one was seen, `branch_weights`
    only of an encoder that has branches."""
    values = {f.name: getattr(sighting, f.name) for f in fields(sighting)}
    row = {k: v for k, v in values.items() if v is not None or k not in _IF_THERE}
    return {k: _base64(v) if k in _BITS else _plain(v) for k, v in row.items()}


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def sighting_from_json(row: dict[str, Any]) -> Sighting:
    """The inverse of `sighting_to_json`."""
    row = dict(row)
    for name in ("embedding", *(("face",) if "face" in row else ())):
        row[name] = np.frombuffer(base64.b64decode(row[name]), "<f4").astype(np.float32)
    for name in ("first_box", "last_box", *(("branch_weights",) if "branch_weights" in row else ())):
        row[name] = None if row[name] is None else np.array(row[name], np.float32)
    return Sighting(**row)


def decision_from_json(row: dict[str, Any]) -> Decision:
    """The inverse of `to_json(decision)`; fields that Decision does not have are ignored."""
    known = {f.name for f in fields(Decision)}
    candidates = tuple(_candidate(c) for c in row.get("candidates", ()))
    _check_numbers(row, ("track_id", "time_s", "global_id", "margin"))
    return Decision(**{k: v for k, v in row.items() if k in known and k != "candidates"}, candidates=candidates)


def correction_from_json(row: dict[str, Any]) -> Correction:
    """The inverse of `to_json(correction)`."""
    stays = tuple((str(camera), int(track_id)) for camera, track_id in row["stays"])
    return Correction(**row | {"stays": stays})


def _candidate(row: dict[str, Any]) -> Candidate:
    numbers = ("appearance", "delay_s", "transition", "joint", "probability")
    _check_numbers(row, numbers)
    return Candidate(**row | {name: math.nan for name in numbers if row[name] is None})


def _check_numbers(row: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if not isinstance(row.get(name), int | float | None):
            raise ValueError(f"{name} must be a number, got {row[name]!r}")


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


def read_facts(run_dir: Path) -> dict[str, Any]:
    """What run.json says; empty when there is none (a run that was killed early). Raises JournalError."""
    path = Path(run_dir) / "run.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise JournalError(f"{path}: cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise JournalError(f"{path}: expected a JSON object, got {type(facts).__name__}")
    return facts


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
