"""Transition tables as a file: exact counts, for export, import, and for a replay that starts where a run started."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import write_lines
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

AXES = ("bin_s", "origin_s", "horizon_s", "epoch_s")
"""The settings that say what a count means; the others only smooth."""
LARGEST = 2**40
"""Of an epoch or a count: a quarter of a billion observations of one delay; sums of them stay exact in Redis."""


class TablesFileError(ValueError):
    """The file holds no transition tables that can be used here."""


def write_tables(path: Path, settings: TableSettings, counts: Iterable[Increment]) -> None:
    """Write counts with their axes: {"axes": ..., "one": 4096, "counts": [[from, to, epoch, bin, count], ...]}.

    One count per line, so that files can be read, compared and are small. Raises OutputError.
    """
    axes = {name: asdict(settings)[name] for name in AXES}
    rows = ",\n".join(json.dumps(item, ensure_ascii=False) for item in counts)
    write_lines(path, [f'{{"axes": {json.dumps(axes)}, "one": {ONE}, "counts": [\n{rows}\n]}}\n'.encode()])


def read_tables(path: Path, settings: TableSettings | None = None) -> TransitionTables:
    """Read a file of `write_tables`. `settings` give the smoothing; their axes must be the file's.

    Raises TablesFileError.
    """
    content = _content(path)
    try:
        axes = {name: float(content["axes"][name]) for name in AXES}
        if content.get("one") != ONE:
            raise ValueError(f"one observation must be {ONE} counts, it says {content.get('one')!r}")
        counts = [_count(row) for row in content["counts"]]
        settings = settings or replace(TableSettings(), **axes)
    except (KeyError, TypeError, ValueError) as error:
        raise TablesFileError(f"{path}: not a tables file: {error}") from error
    theirs = {name: getattr(settings, name) for name in AXES}
    if theirs != axes:
        raise TablesFileError(f"{path}: its axes are {axes}, the settings say {theirs}; such counts do not add")
    tables = TransitionTables(settings)
    try:
        tables.add(counts)
    except ValueError as error:
        raise TablesFileError(f"{path}: {error}") from error
    return tables


def _count(row: Any) -> Increment:
    if not isinstance(row, list) or len(row) != len(Increment._fields):
        raise ValueError(f"a count must be [from, to, epoch, bin, count], got {row!r}")
    for camera in row[:2]:
        if not isinstance(camera, str) or not camera or "\0" in camera:
            raise ValueError(f"{camera!r} is no name of a camera, in {row!r}")
    for number in row[2:]:
        if type(number) is not int or abs(number) > LARGEST:
            raise ValueError(f"{number!r} is no whole number up to 2^{LARGEST.bit_length() - 1}, in {row!r}")
    return Increment(*row)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TablesFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise TablesFileError(f"{path}: not a tables file: {error}") from error
    if not isinstance(content, dict):
        raise TablesFileError(f"{path}: not a tables file")
    return content
