"""How well the matcher does in the world of sightings: appearance only, joint cold, joint warm, and after trouble.

    python -m tests.benchmarks.bench_world [--seeds 101 102 103] [--only easy middle hard] [--json OUT]

Two hours of one site. The first teaches tables; all rows are about the second, by a matcher that knows nobody yet:

    appearance only   tables that never learn
    joint cold        empty tables, learning as usual
    joint warm        the tables of the first hour
    poisoned          tables filled with three wrong delays for every right one of the first hour
    moved             warm, but at the start of the second hour a third of the ways became longer and doors closed;
                      compared with "moved, appearance only"

`by_quarter` is the hand-over F1 of each quarter of the second hour: how fast trouble passes. In the runs "poisoned" and
"moved" old counts halve every 30 minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from st_model.hypotheses import MatchSettings
from st_model.ledger import final_ids
from st_model.link_scores import LabelledStay, LinkScores, compare_runs, score_links
from st_model.matcher import OnlineMatcher
from st_model.sightings import Sighting
from st_model.sightings_world import SightingsWorld, SiteChanges, world_settings
from st_model.transitions import Increment, TableSettings, TransitionTables

HOUR_S = 3600.0
HALVING = TableSettings(epoch_s=600.0, half_life_epochs=3.0)
Row = dict[str, object]
Ids = dict[tuple[str, int], int]


class NeverLearns(TransitionTables):
    """Tables that stay empty: what is left is appearance, exclusion and the share of new people."""

    def add(self, increments: Iterable[Increment]) -> None:
        """Take nothing in."""


def match(rows: Iterable[Sighting], tables: TransitionTables) -> Ids:
    """Final ids of all stays, by a matcher that knows nobody yet; the tables learn."""
    matcher = OnlineMatcher(MatchSettings(), itertools.count(1).__next__, tables)
    decisions, corrections = [], []
    for row in rows:
        matcher.submit(row)
        outcome = matcher.advance(row.emitted_s)
        decisions += outcome.decisions
        corrections += outcome.corrections
    outcome = matcher.finish()
    ids = final_ids(decisions + outcome.decisions, corrections + outcome.corrections)
    return {stay: global_id for stay, (global_id, _) in ids.items()}


def learnt(rows: Iterable[Sighting], settings: TableSettings) -> TransitionTables:
    """Tables as they are after these rows."""
    tables = TransitionTables(settings)
    match(rows, tables)
    return tables


def poisoned(clean: TransitionTables, seed: int) -> TransitionTables:
    """The same tables with three wrong delays for every right one."""
    rng = np.random.default_rng(seed)
    tables = TransitionTables(clean.settings)
    for right in clean.items():
        wrong = rng.integers(0, min(clean.settings.bins, 150), 3)
        tables.add([right, *(right._replace(bin=int(b)) for b in wrong)])
    return tables


def by_quarter(stays: list[LabelledStay], ids: Ids) -> list[float]:
    """Hand-over F1 of the links into each quarter of the second hour."""
    out = []
    for quarter in range(4):
        start = HOUR_S + quarter * HOUR_S / 4
        part = [s._replace(scored=start <= s.entered_s < start + HOUR_S / 4) for s in stays]
        out.append(round(score_links(part, ids).hand_over.f1, 4))
    return out


def world_rows(difficulty: str, seed: int, cameras: int) -> list[Row]:
    """All runs in one world."""
    settings = world_settings(difficulty, cameras, 2 * HOUR_S)  # type: ignore[arg-type]
    calm = SightingsWorld(settings, seed)
    moving = SightingsWorld(replace(settings, changes=SiteChanges(layout_shift_s=HOUR_S)), seed)
    scores: dict[str, LinkScores] = {}
    quarters: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}

    def run(name: str, world: SightingsWorld, tables: TransitionTables) -> None:
        rows, truth = halves[world][1]
        started_s = time.process_time()
        ids = match(rows, tables)
        seconds[name] = round(time.process_time() - started_s, 2)
        scores[name], quarters[name] = score_links(truth, ids), by_quarter(truth, ids)

    halves = {world: _halves(world) for world in (calm, moving)}
    first = halves[calm][0][0]
    run("appearance only", calm, NeverLearns())
    run("joint cold", calm, TransitionTables())
    run("joint warm", calm, learnt(first, TableSettings()))
    run("poisoned", calm, poisoned(learnt(first, HALVING), seed))
    run("moved, appearance only", moving, NeverLearns())
    run("moved", moving, learnt(halves[moving][0][0], HALVING))
    out: list[Row] = []
    staying = {name: score for name, score in scores.items() if not name.startswith("moved")}
    gone = {name: score for name, score in scores.items() if name.startswith("moved")}
    for row in compare_runs(staying) + compare_runs(gone):
        name = str(row["run"])
        shown = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
        extra = {"by_quarter": quarters[name], "cpu_s": seconds[name]}
        out.append({"world": difficulty, "seed": seed, "cameras": cameras, **shown, **extra})
        print(json.dumps(out[-1]), flush=True)
    return out


def _halves(world: SightingsWorld) -> list[tuple[list[Sighting], list[LabelledStay]]]:
    """Rows and stays of the first hour and of the second, by when the stay began."""
    observations, stays = world.watch()
    early = {stay.key for stay in stays if stay.entered_s < HOUR_S}
    return [
        (
            [o.sighting for o in observations if (o.sighting.key in early) == first],
            [stay for stay in stays if (stay.key in early) == first and stay.entered_s < 2 * HOUR_S],
        )
        for first in (True, False)
    ]


def summary(rows: list[Row]) -> list[Row]:
    """Median over the seeds of each run in each world."""
    out: list[Row] = []
    for world, name in dict.fromkeys((str(row["world"]), str(row["run"])) for row in rows):
        some = [row for row in rows if (row["world"], row["run"]) == (world, name)]
        figures = ("hand_over_f1", "pairs_f1", "false_merges_per_1000", "purity", "completeness", "removed")
        medians = {key: round(statistics.median(float(str(row[key])) for row in some), 4) for key in figures}
        out.append({"world": world, "run": name, "seeds": len(some), **medians})
        print(json.dumps(out[-1]), flush=True)
    return out


def main() -> None:
    """Measure and, if asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--only", nargs="+", default=["easy", "middle", "hard"])
    parser.add_argument("--cameras", type=int, default=6)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [row for world in args.only for seed in args.seeds for row in world_rows(world, seed, args.cameras)]
    about = {"seeds": args.seeds, "cameras": args.cameras, "numpy": np.__version__}
    found = {"about": about, "summary": summary(rows), "rows": rows}
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
