"""A run without an end, in parts: each is an ordinary run folder, so memory has a bound and every tool works on it.

    <run>/parts/2026-11-22T00-00-00Z/    from the begin of that part (UTC) to that of the next one
    <run>/                               the part that is being written; in the end the last one

At the end of a part its journal is moved away whole and a new one begins; people who are in view then have boxes in
both, under the same track id. A while later, when they have been decided, a process of its own makes the final files of
the part, from its decisions and those of its neighbours. After a kill, `identrix finish RUN` makes what is missing.
A correction is applied to the part it falls into and to the one before, not further back.
"""

from __future__ import annotations

import logging
import math
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pipeline.atomic import output_error, write_json_atomic
from pipeline.journal import (
    decision_from_json,
    read_boxes,
    read_corrections,
    read_facts,
    read_json_lines,
)
from pipeline.journal_writer import RunJournal, alone
from pipeline.segments import begin_of, name_of
from pipeline.tracklog import finish_run
from pipeline.tracks_table import FinalIds
from st_model.ledger import StayKey, final_ids
from st_model.sightings import Decision

log = logging.getLogger(__name__)

SETTLE_S = 600.0
"""A part is finished so long after its end: nearly every stay is closed and decided by then."""


def parts_of(run_dir: Path) -> list[Path]:
    """The parts of a run that have been closed, in order of time."""
    folder = Path(run_dir) / "parts"
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(path for path in found if begin_of(path.with_suffix(".mp4")) is not None)


def unfinished_parts(run_dir: Path) -> list[Path]:
    """The closed parts whose final files are still to be made."""
    return [part for part in parts_of(run_dir) if (part / "journal").is_dir()]


def ids_around(run_dir: Path, folder: Path) -> FinalIds | None:
    """Final ids of the stays seen in one part (or in the run folder itself), from what was decided in it, before it and
    after it.

    None when the run has no parts: its own journal says all. Raises JournalError.
    """
    row = [*parts_of(run_dir), Path(run_dir)]
    if len(row) == 1:
        return None
    at = row.index(folder)
    latest: dict[StayKey, Decision] = {}
    corrections = []
    # Mostly the two beside it. Where nobody could decide for long, what was decided lies further on.
    for neighbour in row[max(at - 1, 0) :]:
        journal = neighbour / "journal"
        place = journal if journal.is_dir() else neighbour
        for _, line in read_json_lines(place / "decisions.jsonl"):
            decision = decision_from_json(line)
            latest[decision.key] = decision
        corrections += read_corrections(place / "corrections.jsonl")
    boxes = read_boxes(folder)
    seen = {(camera, track) for camera, rows in boxes.items() for track in set(rows["track_id"].tolist())}
    return {key: found for key, found in final_ids(latest.values(), corrections).items() if key in seen}


def finish_part(run_dir: Path, part: Path) -> None:
    """Make the final files of a closed part, unless another process has just made them. Raises JournalError,
    OutputError.
    """
    with alone(part, wait=True) as there:
        if there:
            _finish_part(run_dir, part)


def _finish_part(run_dir: Path, part: Path) -> None:
    facts = read_facts(part)
    settings = facts.get("config", {})
    output = settings.get("output", {})
    ids = ids_around(run_dir, part)
    finished = finish_run(
        part,
        ids,
        fill_gaps_s=output.get("fill_gaps_s", 0.0),
        smooth_s=output.get("smooth_s", 0.0),
        keep_boxes=settings.get("privacy", {}).get("blur", "none") != "none",
    )
    counts = {
        "persons": finished.persons,
        "stays": finished.stays,
        "transitions": finished.transitions,
        "rows": finished.rows,
        "rows_without_id": finished.rows_without_id,
        "first_global_id": min((global_id for global_id, _ in (ids or {}).values()), default=None),
    }
    write_json_atomic(part / "run.json", {**facts, "counters": counts})


def finish_parts(run_dir: Path) -> int:
    """Make the final files of every closed part that has none; returns how many. Raises JournalError, OutputError."""
    todo = unfinished_parts(run_dir)
    for part in todo:
        finish_part(run_dir, part)
    return len(todo)


class Parts:
    """Cuts a run into parts while it goes, and finishes them in a process beside it.

    part_s        length; parts begin at multiples of it, UTC
    facts         what run.json says of the run, asked for at each cut
    write_tables  writes the tables as they are at a cut into a file
    begin_s       when the folder was begun (UTC), by a process before this one; None: now
    settled_s     what was seen until then (monotonic seconds) is decided; only then a part is finished
    around_cut    held while the journal is moved away
    """

    def __init__(
        self,
        run_dir: Path,
        part_s: float,
        journal: RunJournal,
        facts: Callable[[], dict[str, Any]],
        write_tables: Callable[[Path], None],
        *,
        settle_s: float = SETTLE_S,
        begin_s: float | None = None,
        settled_s: Callable[[], float] = lambda: math.inf,
        around_cut: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._run_dir, self._part_s, self._journal = Path(run_dir), part_s, journal
        self._facts, self._write_tables, self._settle_s = facts, write_tables, settle_s
        self._settled_s, self._around_cut = settled_s, around_cut
        self._begin_s = time.time() if begin_s is None else begin_s
        now_s = time.monotonic()
        self._due: deque[tuple[float, Path]] = deque()  # monotonic: when which part was cut
        for part in parts_of(run_dir):  # of a process that was killed
            if (part / "journal").is_dir():
                self._due.append((now_s, part))
            elif not (part / "tracks.parquet").is_file():
                shutil.rmtree(part, ignore_errors=True)  # it was about to cut
                continue
            self._begin_s = read_facts(part).get("part", {}).get("ends_s", self._begin_s)
        self._work: tuple[Path, subprocess.Popen[str]] | None = None
        self.cut = 0

    def look(self) -> None:
        """Called often: does what is due. Raises OutputError when the cut itself cannot be written."""
        now_s = time.time()
        if int(now_s // self._part_s) > int(self._begin_s // self._part_s):
            self._cut(now_s)
        if self._work is not None:
            self._look_at_work()
        elif self._due and self._settled(self._due[0][0]):
            self._begin_work(self._due.popleft()[1])

    def close(self) -> None:
        """Wait for a process that finishes a part; what it has not done, `finish_parts` does."""
        if self._work is not None:
            self._work[1].wait()
            self._look_at_work()

    def _settled(self, cut_s: float) -> bool:
        return time.monotonic() >= cut_s + self._settle_s and self._settled_s() >= cut_s

    def _cut(self, now_s: float) -> None:
        run_dir = self._run_dir
        part = run_dir / "parts" / Path(name_of(self._begin_s)).stem
        while part.exists():  # a clock that was set back
            part = part.with_name(f"{part.name}-2")
        try:
            part.mkdir(parents=True)
            ended = {"part": {"begins_s": self._begin_s, "ends_s": now_s}, "interrupted": False, "failed_cameras": {}}
            write_json_atomic(part / "run.json", {**self._facts(), **ended})
            start = run_dir / "tables_start.json"
            if start.is_file():
                start.replace(part / "tables_start.json")
            self._write_tables(start)
            self._write_tables(part / "tables_end.json")
            with self._around_cut():
                self._journal.move_to(part)
        except OSError as error:
            raise output_error(part, error) from error
        self._begin_s, self.cut = now_s, self.cut + 1
        self._due.append((time.monotonic(), part))

    def _begin_work(self, part: Path) -> None:
        self._journal.flush()  # what was decided about its people since then is asked for
        code = (
            "import os, sys; from pathlib import Path; os.nice(10); run, part = map(Path, sys.argv[1:]); "
            "from pipeline.parts import finish_part; from pipeline.retention import retain_parts; "
            "finish_part(run, part); retain_parts(run)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(self._run_dir.absolute()), str(part.absolute())],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            start_new_session=True,  # Ctrl-C at the terminal is for the run
        )
        self._work = part, process

    def _look_at_work(self) -> None:
        assert self._work is not None
        part, process = self._work
        if process.poll() is None:
            return
        self._work = None
        said = process.communicate()[1].strip().splitlines()
        if process.returncode:
            reason = said[-1] if said else f"exit code {process.returncode}"
            if (part / "journal").is_dir():
                log.error("%s is not finished (%s): identrix finish %s", part, reason, self._run_dir)
            else:
                log.error("what is past its time in the parts of %s was not removed: %s", self._run_dir, reason)
