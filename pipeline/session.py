"""What a worker must remember to be the same after a restart: `outbox/` in its folder, until that is finished.

session.json    who it is, how far it has read
open.jsonl      the latest word about each stay that was open when the last part was cut (pipeline/parts.py)
said-AREA       what it has said and Redis may not have yet (pipeline/outbox.py)
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.atomic import output_error, write_json_atomic, write_lines
from pipeline.journal import json_line, read_journal_sightings, read_json_lines, sighting_from_json, sighting_to_json
from pipeline.outputs import SPOKEN, remove_run
from pipeline.speaking import Position
from st_model.sightings import Sighting

TRACKS = 10**9
"""Track ids a session reserves."""
TRACKS_A_LIFE = 10**6
"""Track ids of one life of a worker with live cameras: no two lives may use the same. One that needs more takes those
of the next."""


@dataclass(frozen=True)
class Session:
    """One session of a worker: from its first start until its folder is complete.

    name         unique for ever
    first_track  track ids count up from here
    began_s      when its first life began (UTC)
    first_number its messages are numbered above it: what a former session of this worker said is decided up to there
    life         how often it was started again
    areas        camera -> area, of every camera it has ever watched
    after        area -> how far its decisions have been read
    """

    worker: str
    name: str
    first_track: int
    began_s: float = 0.0
    first_number: int = 0
    life: int = 0
    areas: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, Position] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep it. Raises OutputError."""
        try:
            (folder / SPOKEN).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(folder, error) from error
        write_json_atomic(folder / SPOKEN / "session.json", asdict(self))

    def track_ids(self) -> Iterator[int]:
        """Track ids of this life."""
        return count(self.first_track + self.life * TRACKS_A_LIFE)

    def of_this_life(self, track_id: int) -> bool:
        """Whether a track id is one of this life's."""
        return track_id < self.first_track + (self.life + 1) * TRACKS_A_LIFE

    @property
    def tracks(self) -> range:
        """Every track id of the session."""
        return range(self.first_track, self.first_track + TRACKS)


def read_session(folder: Path) -> Session | None:
    """The session of an unfinished folder, None when there is none."""
    if (folder / "tracks.parquet").exists() and not (folder / "journal").is_dir():
        return None  # killed while it tidied up
    try:
        row = json.loads((folder / SPOKEN / "session.json").read_text())
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


def new_session(worker: str, folder: Path, first_track: int, **known: Any) -> Session:
    """Begin a session in a folder, with what else is `known` of it; what an earlier run left there is removed.

    Raises OutputError.
    """
    remove_run(folder)
    session = Session(worker, uuid.uuid4().hex, first_track, **known)
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


def note_open(folder: Path, sightings: Iterable[Sighting]) -> None:
    """Keep the latest word about every open stay, because the journal that has it is moved away. Raises OutputError."""
    write_lines(folder / SPOKEN / "open.jsonl", (json_line(sighting_to_json(sighting)) for sighting in sightings))


def left_open(folder: Path) -> list[Sighting]:
    """The latest word about each stay that was never closed, in order. Raises JournalError."""
    before = [sighting_from_json(row) for _, row in read_json_lines(folder / SPOKEN / "open.jsonl")]
    latest = {sighting.key: sighting for sighting in (*before, *read_journal_sightings(folder))}
    return sorted((s for s in latest.values() if not s.closed), key=lambda s: s.emitted_s)
