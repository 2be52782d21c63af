"""Quality in the world of sightings: three difficulties, cold and warm, after poisoning, after a change of layout.

Two hours of one site. The first teaches tables; every row is about the second, by a matcher that knows nobody yet.
Tables of `poisoned`: three wrong delays for every right one of the first hour. In the runs `poisoned` and `moved` old
counts halve every 30 minutes. `moved`: at the start of the second hour a third of the ways became longer and doors
closed, the tables are those from before.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.config import MatchConfig
from st_model.link_scores import LabelledStay, score_links
from st_model.sightings import Sighting
from st_model.sightings_world import Difficulty, SightingsWorld, SiteChanges, WorldSettings, world_settings
from st_model.transitions import TableSettings, TransitionTables
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

HOUR_S = 3600.0
HALVING = TableSettings(epoch_s=600.0, half_life_epochs=3.0)
POISONED, MOVED = "poisoned", "moved"
MOVED_APPEARANCE = "moved, appearance only"
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "middle", "hard")
Watched = tuple[list[Sighting], list[LabelledStay]]
EDGES_S = [HOUR_S + n * HOUR_S / 6 for n in range(7)]
"""Curves have a point for each ten minutes of the second hour."""


def hours(difficulty: Difficulty, seed: int, cameras: int, *, moved: bool = False) -> tuple[Watched, Watched]:
    """Sightings and truth of the first hour and of the second, by when the stay began."""
    changes = SiteChanges(layout_shift_s=HOUR_S) if moved else SiteChanges()
    return two_hours(replace(world_settings(difficulty, cameras, 2 * HOUR_S), changes=changes), seed)


def two_hours(settings: WorldSettings, seed: int) -> tuple[Watched, Watched]:
    """Sightings and truth of the first and the second hour of a world of two."""
    observations, stays = SightingsWorld(settings, seed).watch()
    early = {stay.key for stay in stays if stay.entered_s < HOUR_S}
    late = {stay.key for stay in stays if HOUR_S <= stay.entered_s < 2 * HOUR_S}
    first, second = (
        ([o.sighting for o in observations if o.sighting.key in keys], [s for s in stays if s.key in keys])
        for keys in (early, late)
    )
    return first, second


def poisoned(clean: TransitionTables, seed: int) -> TransitionTables:
    """The same tables with three wrong delays, below five minutes, for every right one."""
    rng = np.random.default_rng(seed)
    tables = TransitionTables(clean.settings)
    most = min(clean.settings.bins, int(300 / clean.settings.bin_s))
    for right in clean.items():
        tables.add([right, *(right._replace(bin=int(b)) for b in rng.integers(0, most, 3))])
    return tables


def world_rows(
    difficulty: Difficulty, seed: int, cameras: int = 6, *, cosine: bool = True, matcher: bool = True
) -> list[Row]:
    """All runs in one world: a cosine threshold tuned on it, and the matcher's."""
    (early, _), (late, truth) = hours(difficulty, seed, cameras)
    about: Row = {"data": f"world/{difficulty}", "seed": seed, "cameras": cameras}
    calm: dict[str, Run] = {}
    if cosine:
        ids, _ = tuned_cosine(late, lambda ids: score_links(truth, ids).hand_over.f1)
        calm[COSINE] = Run(ids, {}, TransitionTables())
    if not matcher:
        return [_row(about, name, r, truth) for name, r in calm.items()]
    (early_moved, _), (late_moved, truth_moved) = hours(difficulty, seed, cameras, moved=True)
    warm = run(early, TransitionTables()).tables
    halving = run(early, TransitionTables(HALVING)).tables
    before = run(early_moved, TransitionTables(HALVING)).tables
    calm |= {
        APPEARANCE: run(late, TransitionTables(), without_time(config_for())),
        COLD: run(late, TransitionTables()),
        WARM: run(late, copy_of(warm)),
        POISONED: run(late, poisoned(halving, seed)),
    }
    gone = {
        MOVED_APPEARANCE: run(late_moved, TransitionTables(), without_time(config_for())),
        MOVED: run(late_moved, copy_of(before)),
    }
    rows = with_removed([_row(about, name, r, truth) for name, r in calm.items()])
    return rows + with_removed([_row(about, name, r, truth_moved) for name, r in gone.items()], MOVED_APPEARANCE)


def _row(about: Row, name: str, done: Run, truth: Sequence[LabelledStay]) -> Row:
    return {**about, "run": name, **figures(truth, done.ids, done.settled_s), "curve": curve(truth, done.ids, EDGES_S)}


def warm_figures(difficulty: Difficulty, seed: int, cameras: int, config: MatchConfig | None = None) -> dict[str, Row]:
    """Cold and warm only: for tests and ablations."""
    (early, _), (late, truth) = hours(difficulty, seed, cameras)
    config_tables = config.tables if config else TableSettings()
    cold = run(late, TransitionTables(config_tables), config)
    warm = run(late, copy_of(run(early, TransitionTables(config_tables), config).tables), config)
    return {COLD: figures(truth, cold.ids, cold.settled_s), WARM: figures(truth, warm.ids, warm.settled_s)}


def medians(rows: Sequence[Row]) -> list[Row]:
    """Median over the seeds, per world and run; curves point by point."""
    out: list[Row] = []
    for data, name in dict.fromkeys((row["data"], row["run"]) for row in rows):
        some = [row for row in rows if (row["data"], row["run"]) == (data, name)]
        middle: Row = {"data": data, "run": name, "seeds": [row["seed"] for row in some]}
        for key, value in some[0].items():
            if isinstance(value, list):
                points = np.array([row[key] for row in some], float)
                middle[key] = np.nanmedian(points, axis=0).round(4).tolist()
            elif key not in ("data", "run", "seed", "cameras"):
                middle[key] = round(statistics.median(float(str(row.get(key, 0.0))) for row in some), 4)
        out.append(middle)
    return out
