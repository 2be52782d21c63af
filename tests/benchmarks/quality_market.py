"""Quality on `market_stream`: real features, real times, six cameras, 4.7 hours; see its README for reference rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.tracklog import read_sightings
from st_model.link_scores import LabelledStay, score_links
from st_model.sightings import Sighting
from st_model.transitions import TransitionTables
from tests.benchmarks.quality_runs import (
    APPEARANCE,
    COLD,
    COSINE,
    WARM,
    Row,
    Run,
    config_for,
    copy_of,
    curve,
    figures,
    run,
    tuned_cosine,
    with_removed,
    without_time,
)

FILES = {
    "osnet_market": ("sightings_osnet_market.parquet", "stays.csv"),
    "osnet_msmt": ("sightings_osnet_msmt.parquet", "stays.csv"),
    "warm_osnet_msmt": ("sightings_warm_osnet_msmt.parquet", "stays_warm.csv"),
}
SPANS = 12


def read_market(folder: Path, name: str) -> tuple[list[Sighting], list[LabelledStay]]:
    """Sightings and truth of one of the FILES."""
    sightings, truth = FILES[name]
    with (folder / truth).open() as file:
        stays = [
            LabelledStay(
                row["camera"],
                int(row["track_id"]),
                int(row["person"]),
                float(row["entered_s"]),
                float(row["last_s"]),
                row["scored"] == "1",
            )
            for row in csv.DictReader(file)
        ]
    return read_sightings(folder / sightings), stays


def market_rows(folder: Path, name: str, *, cosine: bool = True, matcher: bool = True) -> tuple[list[Row], Row]:
    """All runs over one file, and its learning curve."""
    sightings, truth = read_market(folder, name)
    config = config_for("osnet")
    runs: dict[str, Run] = {}
    if cosine:
        ids, _ = tuned_cosine(sightings, lambda ids: score_links(truth, ids).hand_over.f1)
        runs[COSINE] = Run(ids, {}, TransitionTables())
    if matcher:
        runs[COLD] = run(sightings, TransitionTables(), config)
        if name != "warm_osnet_msmt":  # that file is its own warming: its training people come first
            runs[WARM] = run(sightings, copy_of(runs[COLD].tables), config)
        runs[APPEARANCE] = run(sightings, TransitionTables(), without_time(config))
    rows: list[Row] = [
        {"data": f"market_stream/{name}", "run": what, **figures(truth, r.ids, r.settled_s)} for what, r in runs.items()
    ]
    entered = [s.entered_s for s in truth if s.scored]
    return with_removed(rows), learning_curve(name, runs, truth, min(entered), max(entered) + 1e-3)


def learning_curve(name: str, runs: dict[str, Run], truth: Sequence[LabelledStay], start_s: float, end_s: float) -> Row:
    """Hand-over F1 of each twelfth of the stream."""
    edges = np.linspace(start_s, end_s, SPANS + 1)
    hours = [round(float(t - start_s) / 3600, 3) for t in (edges[:-1] + edges[1:]) / 2]
    return {
        "data": f"market_stream/{name}",
        "hours": hours,
        **{what: curve(truth, r.ids, edges.tolist()) for what, r in runs.items()},
    }


def market_cold(folder: Path, name: str) -> Row:
    """The one run over a file that is quick enough for a test."""
    sightings, truth = read_market(folder, name)
    done = run(sightings, TransitionTables(), config_for("osnet"))
    return figures(truth, done.ids, done.settled_s)


def plot_curves(curves: Sequence[Row], path: Path) -> None:
    """Hand-over F1 over hours, one panel per file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(4.6 * len(curves), 3.4), sharey=True, squeeze=False)
    names = list(dict.fromkeys(k for one in curves for k, v in one.items() if isinstance(v, list) and k != "hours"))
    for panel, one in zip(panels[0], curves, strict=True):
        for n, what in enumerate(names):  # one colour a run, also where a file lacks one
            if what in one:
                panel.plot(one["hours"], one[what], f"C{n}", marker=".", label=what)
        panel.set(title=str(one["data"]).split("/")[-1], xlabel="hours", ylim=(0, 1))
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("hand-over F1 of the links made then")
    max(panels[0], key=lambda p: len(p.lines)).legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
