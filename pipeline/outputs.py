"""The run folder as a whole: whether it can be written, what is derived from the journal, then pictures and videos."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import output_error
from pipeline.config import Config
from pipeline.journal import read_facts
from pipeline.journal_writer import alone
from pipeline.parts import finish_parts, ids_around, unfinished_parts
from pipeline.report import write_report
from pipeline.sources import Source
from pipeline.tables_file import write_tables
from pipeline.timing import StageClock
from pipeline.tracklog import FinishedRun, JournalError, finish_run, read_decisions, write_json_atomic
from st_model.transitions import TransitionTables

log = logging.getLogger(__name__)

_FILES = (
    "run.json",
    "tracks.csv",
    "tracks.parquet",
    "hidden_boxes.parquet",
    "erased_boxes.parquet",
    ".edit.lock",
    "stays.csv",
    "transitions.csv",
    "sightings.parquet",
    "decisions.jsonl",
    "corrections.jsonl",
    "assignments.csv",
    "tables_start.json",
    "tables_end.json",
    "report.html",
)
SPOKEN = "outbox"
"""What a worker has said, and must remember, until its folder is finished (`pipeline/session.py`)."""
_FOLDERS = ("journal", ".journal-finished", "tracks", "video", "plots", "by_hand", "crops", "parts", SPOKEN)


def check_writable(folder: Path) -> None:
    """Raise OutputError unless `folder` can be made, or written to if it is there. Leaves nothing behind."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise output_error(folder, error) from error


def remove_run(folder: Path) -> None:
    """Remove what a run left in `folder`; files of others stay. Raises OutputError."""
    try:
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            if (folder / name).exists():
                shutil.rmtree(folder / name)
    except OSError as error:
        raise output_error(folder, error) from error


def is_ours(path: Path) -> bool:
    """Whether a path inside a run folder is of a file that a run writes.

    >>> is_ours(Path("tracks/a.txt")), is_ours(Path("notes.txt"))
    (True, False)
    """
    return path.parts[0] in (*_FILES, *_FOLDERS)


def write_tracks_of(
    config: Config,
    folder: Path,
    sources: Sequence[Source],
    clock: StageClock,
) -> dict[str, Any]:
    """Turn the journal into the final files, one MOT file for every source; returns counts. Raises OutputError."""
    with clock.stage("finish"):
        finish_parts(folder)
        finished = finish_run(
            folder,
            ids_around(folder, folder),
            fill_gaps_s=config.output.fill_gaps_s,
            smooth_s=config.output.smooth_s,
            keep_boxes=config.privacy.blur != "none",
        )
        _mot_file_for_each(folder, [source.camera for source in sources])
        shutil.rmtree(folder / SPOKEN, ignore_errors=True)
    return _counts(finished)


def finish_killed(folder: Path) -> dict[str, Any]:
    """What a killed run would have written at its end, but for pictures and videos; returns counts as `run.json` has.

    Raises JournalError when the folder holds no unfinished run, a damaged one or one that goes on, OutputError.
    """
    journal = folder / "journal"
    if not journal.is_dir():
        if not unfinished_parts(folder) or (folder / "tracks.parquet").exists():
            raise JournalError(f"{folder}: no unfinished run is here (a finished one has no journal folder)")
        journal.mkdir()  # killed while it moved its journal into a part
    with alone(folder):
        return _finish_killed(folder)


def _finish_killed(folder: Path) -> dict[str, Any]:
    finish_parts(folder)
    facts = read_facts(folder)
    settings = facts.get("config", {})
    ids = [decision.global_id for decision in read_decisions(folder / "journal" / "decisions.jsonl")]
    output = settings.get("output", {})
    finished = finish_run(
        folder,
        ids_around(folder, folder),
        fill_gaps_s=output.get("fill_gaps_s", 0.0),
        smooth_s=output.get("smooth_s", 0.0),
        keep_boxes=settings.get("privacy", {}).get("blur", "none") != "none",
    )
    failed = facts.get("failed_cameras", {})
    _mot_file_for_each(folder, [c["name"] for c in settings.get("cameras", []) if c["name"] not in failed])
    counts = {**_counts(finished), "first_global_id": min(ids, default=None)}
    shutil.rmtree(folder / SPOKEN, ignore_errors=True)
    write_json_atomic(folder / "run.json", {**facts, "interrupted": True, "counters": counts})
    write_report(folder)
    return counts


def write_outputs(
    config: Config,
    folder: Path,
    sources: Sequence[Source],
    tables: TransitionTables,
    clock: StageClock,
    on_progress: Callable[[str, float, float | None], None],
    frames: int,
    until_s: float,
) -> dict[str, Any]:
    """Write the tables as they are now, pictures, and videos of what was seen up to `until_s`; returns counts.

    Raises OutputError.
    """
    counts: dict[str, Any] = {}
    write_tables(folder / "tables_end.json", config.tables, tables.items())
    if config.output.plots:
        from pipeline.site_plots import plot_run

        with clock.stage("plots"):
            counts["plots"] = plot_run(folder, tables)
    if config.output.video:
        from pipeline.render import render_videos

        with clock.stage("video"):
            videos = render_videos(
                folder,
                sources,
                until_s=until_s,
                on_progress=lambda done: on_progress("drawing videos", done, frames),
            )
        for reason in videos.errors.values():
            log.warning("its annotated video is not complete: %s", reason)
        counts["videos"] = len(videos.paths)
        counts["video_start_s"] = videos.starts_s
    return counts


def _counts(finished: FinishedRun) -> dict[str, Any]:
    return {
        "persons": finished.persons,
        "stays": finished.stays,
        "transitions": finished.transitions,
        "rows": finished.rows,
        "rows_without_id": finished.rows_without_id,
    }


def _mot_file_for_each(folder: Path, cameras: Sequence[str]) -> None:
    """A camera that was stopped before its first frame has a file, too: an empty one."""
    try:
        for camera in cameras:
            (folder / "tracks" / f"{camera}.txt").touch()
    except OSError as error:
        raise output_error(folder / "tracks", error) from error
