"""After the last frame: final files from the journal, pictures of what was learnt, annotated videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.sources import Source
from pipeline.timing import StageClock
from pipeline.tracklog import finish_run
from st_model.ledger import Correction, final_ids
from st_model.sightings import Decision
from st_model.transitions import TransitionTables


def write_outputs(
    config: Config,
    folder: Path,
    sources: Sequence[Source],
    decisions: Sequence[Decision],
    corrections: Sequence[Correction],
    tables: TransitionTables,
    clock: StageClock,
    on_progress: Callable[[str, float, float | None], None],
    frames: int,
) -> dict[str, Any]:
    """Write everything of the run folder except run.json; returns counts for it. Raises OutputError."""
    with clock.stage("finish"):
        finished = finish_run(folder, final_ids(decisions, corrections), fill_gaps_s=config.output.fill_gaps_s)
    counts: dict[str, Any] = {
        "persons": finished.persons,
        "stays": finished.stays,
        "transitions": finished.transitions,
        "rows": finished.rows,
        "rows_without_id": finished.rows_without_id,
    }
    if config.output.plots:
        from pipeline.site_plots import plot_run

        with clock.stage("plots"):
            counts["plots"] = plot_run(folder, tables)
    if config.output.video:
        from pipeline.render import render_videos

        with clock.stage("video"):
            videos = render_videos(
                folder, sources, on_progress=lambda done: on_progress("drawing videos", done, frames)
            )
        counts["videos"] = len(videos.paths)
    return counts
