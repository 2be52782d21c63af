"""The pictures of a run: every learnt transition as histogram and curve, and who was where when."""

from __future__ import annotations

from pathlib import Path

from pipeline.atomic import output_error
from pipeline.movements import stays, transitions
from pipeline.plots import median_delay_s, plot_camera_graph, plot_graph, plot_timeline, plot_transition
from pipeline.tracklog import read_tracks
from pipeline.tracks_table import read_assignments
from st_model.transitions import TransitionTables

MOST_PAIRS = 60
"""Pictures of pairs per run: those with most evidence. 200 cameras have 40,000 pairs; nobody opens 40,000 pictures."""


def plot_run(folder: Path, tables: TransitionTables) -> int:
    """Write plots/transition <from> to <to>.png, tables.png, timeline.png and cameras.png; returns how many.

    tables.png is the graph of all that the site has learnt, cameras.png that of this run's moves. Raises OutputError.
    """
    pairs = plot_tables(folder / "plots", tables)
    plot_tables_graph(folder / "plots" / "tables.png", tables)
    return pairs + 1 + plot_people(folder)


def plot_tables_graph(path: Path, tables: TransitionTables) -> int:
    """Write the camera graph as the tables know it; returns the number of pairs with evidence. Raises OutputError."""
    axes = tables.settings
    edges = {
        pair: (tables.evidence(*pair), median_delay_s(tables.histogram(*pair), axes.bin_s, axes.origin_s))
        for pair in tables.pairs()
        if tables.evidence(*pair) > 0
    }
    plot_graph(path, edges, title="observed transitions (median delay)", without="nothing learnt yet")
    return len(edges)


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


def plot_people(folder: Path) -> int:
    """Write timeline.png and cameras.png into plots/ of a finished run; returns how many. Raises OutputError."""
    tracks = read_tracks(folder)
    if not tracks.num_rows:
        return 0
    plot_timeline(folder / "plots" / "timeline.png", tracks)
    moves = transitions(stays(tracks, read_assignments(folder / "assignments.csv")))
    plot_camera_graph(folder / "plots" / "cameras.png", moves)
    return 2
