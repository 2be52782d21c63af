"""Each guard where it is meant to help: a world with much of what it guards against, with the guard and without.

In the middle world of the ablation most guards have nothing to do. Two hours of a world each, the second is scored: by
a new matcher with the tables of the first, or by one that saw both where the guard must know what was before.
`four hours` is scored as a whole, from empty tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from st_model.link_scores import NOBODY, LabelledStay
from st_model.sightings import Sighting
from st_model.sightings_world import SightingsWorld, SiteChanges, WorldSettings, world_settings
from st_model.teaching import Outage
from st_model.transitions import TransitionTables
from tests.benchmarks.quality_ablation import switched
from tests.benchmarks.quality_runs import Row, copy_of, figures, run
from tests.benchmarks.quality_world import HOUR_S, Watched, poisoned, two_hours

HALF_LIFE = ("tables.epoch_s=600", "tables.half_life_epochs=3")
TWIN_S = 0.6


@dataclass(frozen=True)
class Trial:
    """One guard in one world.

    world     its settings
    off       switches of `quality_ablation` without the guard
    always    switches in both runs
    tables    what becomes of the first hour's tables
    watched   what becomes of sightings and truth
    told      with the guard: whether the matcher hears of blackouts
    goes_on   one matcher sees both hours, instead of a new one with the tables of the first
    """

    world: WorldSettings
    off: tuple[str, ...]
    always: tuple[str, ...] = ()
    tables: Callable[[TransitionTables, int], TransitionTables] = lambda tables, _: copy_of(tables)
    watched: Callable[[Watched], Watched] = lambda watched: watched
    told: bool = False
    goes_on: bool = False


def twins(watched: Watched) -> Watched:
    """A track that broke goes on for a moment beside its own successor, as a box that was drawn twice."""
    sightings, truth = watched
    longer: dict[tuple[str, int], float] = {}
    latest: dict[tuple[str, int], LabelledStay] = {}
    for stay in sorted(truth, key=lambda s: s.entered_s):
        before = latest.get((stay.camera, stay.person))
        if stay.person != NOBODY and before is not None and 0.0 <= stay.entered_s - before.last_s <= 1.0:
            longer[before.key] = stay.entered_s + TWIN_S
        latest[stay.camera, stay.person] = stay
    rows = [_until(s, longer[s.key]) if s.closed and s.key in longer else s for s in sightings]
    return sorted(rows, key=lambda s: s.emitted_s), [s._replace(last_s=longer.get(s.key, s.last_s)) for s in truth]


def _until(s: Sighting, last_s: float) -> Sighting:
    return replace(s, last_s=last_s, emitted_s=max(s.emitted_s, last_s))


MIDDLE = world_settings("middle", 6, 2 * HOUR_S)
TRIALS = {
    "drift alarms, layout moved": Trial(  # tables fade in a week here, so what was learnt before stays in the way
        replace(MIDDLE, changes=SiteChanges(layout_shift_s=HOUR_S)),
        ("st_model.drift.ALARM_AT=1e12",),
        goes_on=True,
    ),
    "drift alarms, three clocks jump": Trial(
        replace(MIDDLE, changes=SiteChanges(clock_jumps=3)), ("st_model.drift.ALARM_AT=1e12",), goes_on=True
    ),
    "cap, four of ten loiter and return": Trial(
        replace(MIDDLE, loiterers=0.4, returns=0.4), ("st_model.teaching.LOITER_CAP=1000000000",)
    ),
    "tolerance, half of the tracks break and overlap": Trial(
        replace(MIDDLE, broken=0.5), ("match.tolerance_s=0",), watched=twins
    ),
    "splitting, no caution": Trial(MIDDLE, ("match.split_at=1",), ("match.caution=0", "match.mistaken=0")),
    "floor, poisoned tables": Trial(MIDDLE, ("tables.floor=1e-6",), HALF_LIFE, tables=poisoned),
    "told of outages, eight blackouts": Trial(replace(MIDDLE, changes=SiteChanges(blackouts=8)), (), told=True),
}
LONG = {
    f"learnt caution, {world}, four hours": Trial(world_settings(world, 6, 4 * HOUR_S), ("match.mistaken=0",))
    for world in ("middle", "hard")
}


def guard_rows(seed: int) -> Iterator[Row]:
    """With and without each guard; a row as soon as it is measured."""
    for name, trial in (TRIALS | LONG).items():
        for run_name, switches in (("with", ()), ("without", trial.off)):
            outages = blackouts(trial.world, seed) if trial.told and run_name == "with" else ()
            scores = _scores(trial, (*trial.always, *switches), outages, seed, long=name in LONG)
            keys = ("hand_over_f1", "pairs_f1", "false_merges_per_1000", "purity", "completeness", "cross_errors")
            yield {"data": name, "run": run_name, "seed": seed, **{key: scores[key] for key in keys}}


def blackouts(world: WorldSettings, seed: int) -> list[Outage]:
    """(camera, from_s, to_s) of each failure of a camera in a world."""
    return [(b.camera, b.from_s, b.to_s) for b in SightingsWorld(world, seed).site.blackouts]


def _scores(trial: Trial, switches: Sequence[str], outages: Sequence[Outage], seed: int, *, long: bool) -> Row:
    with switched(switches, None) as config:
        if long or trial.goes_on:
            rows, truth = SightingsWorld(trial.world, seed).watch()
            done = run([o.sighting for o in rows], TransitionTables(config.tables), config)
            scored = [s._replace(scored=s.scored and (long or s.entered_s >= HOUR_S)) for s in truth]
            return figures(scored, done.ids, {})
        early, late = map(trial.watched, two_hours(trial.world, seed))
        first = run(early[0], TransitionTables(config.tables), config, outages).tables
        done = run(late[0], trial.tables(first, seed), config, outages)
        return figures(late[1], done.ids, {})
