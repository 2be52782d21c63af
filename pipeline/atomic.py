"""Files that are whole or absent: written under a temporary name, then renamed.

OutputError (OSError)   a file cannot be written (disk full, folder not writable); one line that says what to do
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class OutputError(OSError):
    """A file of the run folder cannot be written (disk full, folder not writable)."""


def output_error(path: Path, error: Exception) -> OutputError:
    """One clear line for a failed write of `path` (an OSError or a library's own), keeping errno if there is one."""
    number = getattr(error, "errno", None)
    advice = "free some space or choose another output folder"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "choose an output folder you may write to"
    wrapped = OutputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}; {advice}")
    wrapped.errno = number
    return wrapped


def write_json_atomic(path: Path, value: Mapping[str, Any]) -> None:
    """Write strict, indented JSON under a temporary name, then rename. Raises OutputError; ValueError for NaN."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_lines(Path(path), [text.encode()])


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines (each with its line end) under a temporary name, then rename. Raises OutputError."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.writelines(lines)


def write_csv(table: pa.Table, path: Path, header: bool = True) -> None:
    """Write a table as CSV; texts are quoted only when one of them needs it."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pacsv

    texts = [column for column in table.columns if pa.types.is_string(column.type)]
    risky = any(pc.any(pc.match_substring_regex(pc.unique(text), r'[,"\r\n]')).as_py() for text in texts)
    options = pacsv.WriteOptions(include_header=False, quoting_style="needed" if risky else "none")
    with pa.OSFile(str(path), "wb") as file:
        if header:
            file.write(",".join(table.column_names).encode() + b"\n")
        # In one chunk: pyarrow 26 writes uninitialised memory for an empty chunk between others.
        pacsv.write_csv(table.combine_chunks(), file, options)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well, removed when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise output_error(path, error) from error
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
