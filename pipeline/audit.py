"""The audit log: who looked at or changed what, one JSON object a line, only ever added to.

It lies in the state folder, `audit/<site>.jsonl`, not in a run: it outlives the run it speaks of. When a person is
forgotten, their id is taken out of its lines, and the lines stay.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pipeline.atomic import output_error
from pipeline.config import MatchConfig
from pipeline.state_dir import state_dir

FORGOTTEN = "(forgotten)"


def audit_path(config: MatchConfig) -> Path:
    """Where the log of a site is."""
    return state_dir(config) / "audit" / f"{config.site_name}.jsonl"


def audit(config: MatchConfig, did: str, *, by: str | None = None, run: Path | None = None, who: str = "") -> None:
    """Add a line, before it is done: what cannot be logged is not done. Raises OutputError.

    by   who; None: the user of the operating system
    who  the person or stay that was looked at or changed
    """
    from pipeline.corrections import os_user

    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    row = {"at": at, "by": by or os_user(), "did": did, "run": str(run.resolve()) if run else "", "who": who}
    path = audit_path(config)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # `redact` replaces the file under the exclusive one
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise output_error(path, error) from error


def redact(config: MatchConfig, run_dirs: Iterable[Path], words: Iterable[str]) -> int:
    """Take persons and stays (`P7`, `lobby:12`) out of the lines about some runs; returns how many lines changed.

    Raises OutputError.
    """
    path = audit_path(config)
    if not path.is_file():
        return 0
    runs = {str(run.resolve()) for run in run_dirs}
    patterns = [_pattern(word) for word in words]
    changed, lines = 0, []
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for line in file.read().decode(errors="replace").splitlines():
                row = json.loads(line)
                if row.get("run") in runs and any(p.search(row["who"]) for p in patterns):
                    for pattern in patterns:
                        row["who"] = pattern.sub(FORGOTTEN, row["who"])
                    changed += 1
                    line = json.dumps(row, ensure_ascii=False)
                lines.append(line)
            if changed:
                # In place, under the lock: a new file would miss the lines of those who hold the old one open.
                file.seek(0)
                file.write("".join(f"{line}\n" for line in lines).encode())
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise output_error(path, error) from error
    return changed


def _pattern(word: str) -> re.Pattern[str]:
    number = word.upper().removeprefix("P")
    text = rf"P?{number}" if number.isdigit() else re.escape(word)
    return re.compile(rf"(?<![\w:]){text}(?!\w)", re.IGNORECASE)
