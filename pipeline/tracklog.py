"""The track log of a run: final files with final ids, derived from the journal.

While a run goes, `RunJournal` (pipeline/journal_writer.py) appends. When it ends, or after a kill, `finish_run` turns
the journal into the files other tools read; each is written under a temporary name and renamed, so a file is whole or
absent.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.atomic import OutputError, atomic, write_csv, write_json_atomic, write_lines
from pipeline.hidden_boxes import write_hidden_boxes
from pipeline.journal import (
    JournalError,
    json_line,
    read_boxes,
    read_corrections,
    read_decisions,
    read_journal_sightings,
    read_json_lines,
    to_json,
)
from pipeline.journal_writer import RunJournal
from pipeline.movements import stays, transitions
from pipeline.sightings_file import read_sightings, write_sightings
from pipeline.tracks_table import FinalIds, final_tracks, read_tracks, write_assignments, write_tracks
from st_model import ledger

__all__ = [
    "FinalIds",
    "FinishedRun",
    "JournalError",
    "OutputError",
    "RunJournal",
    "finish_run",
    "read_corrections",
    "read_decisions",
    "read_sightings",
    "read_tracks",
    "write_assignments",
    "write_json_atomic",
    "write_sightings",
]


@dataclass(frozen=True)
class FinishedRun:
    """What `finish_run` wrote.

    rows            boxes in the tracks files
    rows_without_id boxes left out because their stay never got an id
    rows_twice      boxes left out because the same person already has a better box in that frame
    stays, persons  stays (camera, track id) and global ids in the tracks files
    transitions     moves from one camera to another
    sightings, decisions, corrections   rows of their files
    """

    rows: int
    rows_without_id: int
    rows_twice: int
    stays: int
    persons: int
    transitions: int
    sightings: int
    decisions: int
    corrections: int


def finish_run(
    run_dir: Path,
    final_ids: FinalIds | None = None,
    *,
    fill_gaps_s: float = 0.0,
    smooth_s: float = 0.0,
    keep_journal: bool = False,
    keep_boxes: bool = False,
) -> FinishedRun:
    """Derive every final file of the run folder from its journal.

    final_ids    the last word on every stay; stays that are missing are left out of the tracks files. None: what
                 the journal's decisions and corrections say
    fill_gaps_s  holes inside a stay up to this long are filled with interpolated boxes; 0 fills nothing
    smooth_s     the detector's jitter is taken out over about this many seconds; 0 changes nothing
    keep_boxes   every tracked box is kept in hidden_boxes.parquet, for videos that hide people
    keep_journal the journal holds nothing that the final files do not; it is removed unless this is set

    Can be called again after a kill: it starts from the journal. Raises OutputError when a file cannot be written,
    JournalError when the journal is damaged beyond a cut last record, ValueError when there is no journal.
    """
    run_dir = Path(run_dir)
    journal = run_dir / "journal"
    if not journal.is_dir():
        raise ValueError(f"{run_dir} has no journal folder: nothing to finish")
    corrections = read_corrections(journal / "corrections.jsonl")
    if final_ids is None:
        final_ids = ledger.final_ids(read_decisions(journal / "decisions.jsonl"), corrections)
    boxes = read_boxes(run_dir)
    tracks, without_id, twice = final_tracks(boxes, final_ids, fill_gaps_s=fill_gaps_s, smooth_s=smooth_s)
    sightings = read_journal_sightings(run_dir)
    if keep_boxes:
        write_hidden_boxes(run_dir, boxes)
    write_tracks(run_dir, tracks, cameras=list(boxes))
    persons = stays(tracks, final_ids)
    moves = transitions(persons)
    for name, table in (("stays.csv", persons), ("transitions.csv", moves)):
        with atomic(run_dir / name) as temporary:
            write_csv(table, temporary)
    write_sightings(run_dir / "sightings.parquet", sightings)
    n_decisions = _finish_decisions(run_dir, final_ids)
    write_lines(run_dir / "corrections.jsonl", (json_line(to_json(correction)) for correction in corrections))
    write_assignments(run_dir / "assignments.csv", final_ids)
    if not keep_journal:
        done = run_dir / ".journal-finished"  # renamed first: a half removed journal must never be finished again
        shutil.rmtree(done, ignore_errors=True)
        journal.rename(done)
        shutil.rmtree(done, ignore_errors=True)
    return FinishedRun(
        rows=tracks.num_rows,
        rows_without_id=without_id,
        rows_twice=twice,
        stays=persons.num_rows,
        persons=len(np.unique(persons["global_id"].to_numpy())),
        transitions=moves.num_rows,
        sightings=len(sightings),
        decisions=n_decisions,
        corrections=len(corrections),
    )


def _finish_decisions(run_dir: Path, final_ids: FinalIds) -> int:
    """decisions.jsonl: every decision as it was made, with `final_id`, the id the stay has in the tracks files."""
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for _, row in read_json_lines(run_dir / "journal" / "decisions.jsonl"):
            final = final_ids.get((row.get("camera", ""), row.get("track_id", -1)))
            row["final_id"] = None if final is None else final[0]
            count += 1
            yield json_line(row)

    write_lines(run_dir / "decisions.jsonl", lines())
    return count
