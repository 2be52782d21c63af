"""What a worker must remember to be the same after a restart: `journal/session.json` in its folder."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from pipeline.atomic import output_error, write_json_atomic
from pipeline.journal import read_journal_sightings
from pipeline.outputs import remove_run
from pipeline.speaking import Position
from st_model.sightings import Sighting

TRACKS = 10**9
"""Track ids a session reserves."""
TRACKS_A_LIFE = 10**6
"""Track ids of one life of a worker with live cameras: no two lives may use the same."""


@dataclass(frozen=True)
class Session:
    """One session of a worker: from its first start until its folder is complete.

    name         unique for ever
    first_track  track ids count up from here
    life         how often it was started again
    after        area -> how far its decisions have been read
    """

    worker: str
    name: str
    first_track: int
    life: int = 0
    after: Mapping[str, Position] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep it. Raises OutputError."""
        try:
            (folder / "journal").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(folder, error) from error
        write_json_atomic(folder / "journal" / "session.json", asdict(self))

    def track_ids(self) -> Iterator[int]:
        """Track ids of this life."""
        return count(self.first_track + self.life * TRACKS_A_LIFE)


def read_session(folder: Path) -> Session | None:
    """The session of an unfinished folder, None when there is none."""
    try:
        row = json.loads((folder / "journal" / "session.json").read_text())
        after = {area: Position(**position) for area, position in row.pop("after").items()}
        return Session(**row, after=after)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def worker_folder(base: Path, worker: str) -> Path:
    """Where a worker goes on: its last folder if that is unfinished, else the next one.

    >>> worker_folder(Path("absent"), "lobby")
    PosixPath('absent/lobby-001')
    """
    there = base.glob(f"{worker}-*") if base.is_dir() else ()
    numbers = sorted(int(n) for path in there if (n := path.name[len(worker) + 1 :]).isdigit())
    if numbers and read_session(last := base / f"{worker}-{numbers[-1]:03d}") is not None:
        return last
    return base / f"{worker}-{(numbers[-1] if numbers else 0) + 1:03d}"


def new_session(worker: str, folder: Path, first_track: int, after: Mapping[str, Position]) -> Session:
    """Begin a session in a folder; what an earlier run left there is removed. Raises OutputError."""
    remove_run(folder)
    session = Session(worker, uuid.uuid4().hex, first_track, after=after)
    session.write(folder)
    return session


def watched_again(folder: Path) -> None:
    """Remove what will be seen again, and read back again, because the files are watched from their start."""
    journal = folder / "journal"
    try:
        shutil.rmtree(journal / "boxes", ignore_errors=True)
        for name in ("sightings.jsonl", "decisions.jsonl", "corrections.jsonl"):
            (journal / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(journal, error) from error


def left_open(folder: Path) -> list[Sighting]:
    """The latest word about each stay that was never closed, in order. Raises JournalError."""
    latest = {sighting.key: sighting for sighting in read_journal_sightings(folder)}
    return sorted((s for s in latest.values() if not s.closed), key=lambda s: s.emitted_s)
