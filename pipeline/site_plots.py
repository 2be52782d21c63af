"""The pictures of a run: every learnt transition as histogram and curve, and who was where when."""

from __future__ import annotations

from pathlib import Path

from pipeline.atomic import output_error
from pipeline.movements import stays, transitions
from pipeline.plots import plot_camera_graph, plot_timeline, plot_transition
from pipeline.tracklog import read_tracks
from pipeline.tracks_table import read_assignments
from st_model.transitions import TransitionTables

MOST_PAIRS = 60
"""Pictures of pairs per run: those with most evidence. 200 cameras have 40,000 pairs; nobody opens 40,000 pictures."""


def plot_run(folder: Path, tables: TransitionTables) -> int:
    """Write plots/transition <from> to <to>.png, timeline.png and cameras.png; returns how many. Raises OutputError."""
    return plot_tables(folder / "plots", tables) + _people(folder)


def plot_tables(folder: Path, tables: TransitionTables) -> int:
    """Write one picture per camera pair with evidence into `folder`; returns how many. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    pairs = sorted((pair for pair in tables.pairs() if tables.evidence(*pair) > 0), key=lambda p: -tables.evidence(*p))
    for from_camera, to_camera in pairs[:MOST_PAIRS]:
        plot_transition(
            folder / f"transition {from_camera} to {to_camera}.png",
            from_camera=from_camera,
            to_camera=to_camera,
            counts=tables.histogram(from_camera, to_camera),
            density=tables.density(from_camera, to_camera),
            bin_s=tables.settings.bin_s,
            origin_s=tables.settings.origin_s,
        )
    return min(len(pairs), MOST_PAIRS)


def _people(folder: Path) -> int:
    tracks = read_tracks(folder)
    if not tracks.num_rows:
        return 0
    plot_timeline(folder / "plots" / "timeline.png", tracks)
    moves = transitions(stays(tracks, read_assignments(folder / "assignments.csv")))
    plot_camera_graph(folder / "plots" / "cameras.png", moves)
    return 2
