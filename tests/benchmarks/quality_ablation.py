"""Ablation: every guard and every term of the matcher off or changed, one at a time; what each is worth.

A switch is a setting (`match.*`, `tables.*`) or a constant of a room that no setting reaches, replaced for one run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from unittest import mock

from pipeline.config import MatchConfig
from st_model.transitions import TransitionTables
from tests.benchmarks.quality_market import read_market
from tests.benchmarks.quality_runs import Row, config_for, figures, run
from tests.benchmarks.quality_world import hours

SWITCHES: dict[str, tuple[str, ...]] = {
    "as shipped": (),
    "no transitions at all": ("match.g1=0",),
    "transition weight g1 = 0.5": ("match.g1=0.5",),
    "no lift (how often a pair happens)": ("match.lift=0",),
    "no caution towards known people": ("match.caution=0", "match.mistaken=0"),
    "caution as shipped, not learnt from decoys": ("match.mistaken=0",),
    "basis fitted to all stays remembered": ("st_model.matcher.FITTED_STAYS=1000000000",),
    "no centring per camera, no whitening, no refit": ("match.centre_from=1000000000", "match.whiten_from=1000000000"),
    "no whitening": ("match.whiten_from=1000000000",),
    "no merging": ("match.merge_at=1",),
    "no splitting": ("match.split_at=1",),
    "no second look at old identities": ("match.merge_every_s=1e12",),
    "arrivals decided one by one": ("match.window_s=0.001",),
    "no tolerance for broken tracks": ("match.tolerance_s=0",),
    "at once in cameras that do not overlap": ("st_model.transitions.DISJOINT_FROM=1e12",),
    "every closed stay a prototype": ("match.prototype_at=0",),
    "no floor": ("tables.floor=1e-6",),
    "full weight from the first link": ("tables.floor_evidence=1e-6",),
    "no widening while thin": ("tables.thin=1e-9",),
    "bandwidth four times as wide": ("tables.sigma_s=16",),
    "no wide window": ("st_model.density.WIDE_SHARE=0",),
    "no drift alarms": ("st_model.drift.ALARM_AT=1e12",),
    "no cap for loiterers": ("st_model.teaching.LOITER_CAP=1000000000",),
    "returns not doubted": ("st_model.appearance.RETURN_DOUBT=0",),
    "every best link teaches": ("st_model.teaching.LEAST_WEIGHT=0",),
}


@contextmanager
def _constants(switches: Sequence[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for switch in switches:
            name, value = switch.split("=")
            module, constant = name.rsplit(".", 1)
            old = getattr(import_module(module), constant)  # a renamed constant is an error, not a silent "no effect"
            stack.enter_context(mock.patch(name, type(old)(float(value))))
        yield


@contextmanager
def switched(switches: Sequence[str], encoder: str | None) -> Iterator[MatchConfig]:
    """Settings with some of the SWITCHES."""
    config = config_for(encoder, [s for s in switches if s.startswith(("match.", "tables."))])
    with _constants([s for s in switches if s.startswith("st_model.")]):
        yield config


def world_ablation(seeds: Sequence[int], cameras: int = 6) -> Iterator[Row]:
    """The middle world: cold and warm, median over the seeds; a row as soon as it is measured."""
    worlds = [hours("middle", seed, cameras) for seed in seeds]
    for name in SWITCHES:
        found: dict[str, list[Row]] = {"cold": [], "warm": []}
        for (early, _), (late, truth) in worlds:
            with switched(SWITCHES[name], None) as config:
                first = run(early, TransitionTables(config.tables), config).tables
                warm = TransitionTables(config.tables)
                warm.add(first.items())
                for what, tables in (("cold", TransitionTables(config.tables)), ("warm", warm)):
                    found[what].append(figures(truth, run(late, tables, config).ids, {}))
        yield {
            "data": "world/middle",
            "run": name,
            **{
                f"{what}_{key}": round(statistics.median(float(str(r[key])) for r in some), 4)
                for what, some in found.items()
                for key in ("hand_over_f1", "pairs_f1", "purity")
            },
        }


def market_ablation(folder: Path, file: str = "osnet_msmt") -> Iterator[Row]:
    """A network that never saw the site, from empty tables; a row as soon as it is measured."""
    sightings, truth = read_market(folder, file)
    for name in SWITCHES:
        with switched(SWITCHES[name], "osnet") as config:
            done = run(sightings, TransitionTables(config.tables), config)
        keys = ("hand_over_f1", "pairs_f1", "false_merges_per_1000", "purity", "completeness")
        scores = figures(truth, done.ids, {})
        yield {"data": f"market_stream/{file}", "run": name, **{key: scores[key] for key in keys}}
