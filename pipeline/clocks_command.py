"""Camera clocks: how far each one is off, by the transition tables and by looks, and the lines that would correct it.

Nothing is corrected here. A camera whose clock is ahead by D seconds needs `offset_s` lowered by D.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.config import Config, MatchConfig
from pipeline.journal import read_facts
from pipeline.replay import ReplayError, read_inputs, replay_inputs
from pipeline.tables_command import site_tables
from st_model.clock_lags import LEAST_STAYS, LagSpan, lag_steps, lags_of_stays
from st_model.clocks import (
    ClockOffset,
    ClockStep,
    CycleResidual,
    clock_offsets,
    clock_steps,
    cycle_residuals,
    pair_offsets,
)
from st_model.sightings import Sighting
from st_model.transitions import TableSettings, TransitionTables

STEP_EPOCH_S = 1200.0
"""A replay keeps counts by these periods, so that it can say from when on a clock was off: long enough for some dozens
of links at a busy site, short against the hours after which clocks are usually set."""
SURE = 3.0
"""Standard errors from which an offset is worth correcting."""
MOST_CYCLES = 3
"""Told to people; all are in the JSON."""


@dataclass(frozen=True)
class Clocks:
    """What the tables say about clocks, and what the looks of the stays say.

    offsets  per camera, over the whole time
    steps    from when on which offset, of cameras whose offset changed; empty when not looked at
    cycles   triangles of cameras whose offsets do not add up to zero: one of their pairs is misleading
    lags     per camera and span of its time, by looks (`st_model.clock_lags`); empty when only tables are at hand
    by_looks  the same joined: from when on which offset, of every camera of which something is known
    silence  why looks say nothing, in words, or None
    """

    offsets: list[ClockOffset]
    steps: list[ClockStep]
    cycles: list[CycleResidual]
    lags: tuple[LagSpan, ...] = ()
    by_looks: tuple[ClockStep, ...] = ()
    silence: str | None = None


def clocks_of_site(config: MatchConfig) -> Clocks:
    """Estimate from what a site has learnt. Raises the StoreError tree."""
    with site_tables(config) as (_, tables):
        return clocks_of(tables)


def clocks_of_run(
    source: Path,
    *,
    overrides: Sequence[str] = (),
    encoder: str | None = None,
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
) -> Clocks:
    """Estimate from a run folder or a sightings.parquet, replayed with counts kept by periods of `STEP_EPOCH_S`.

    What the looks of its stays say comes with it. Tables a run began with are left out: they hold other days. Raises
    ReplayError (also where embeddings differ in length), ConfigError, JournalError.
    """
    axes: TableSettings = read_inputs(source, overrides=overrides, encoder=encoder, start=False).config.tables
    half_life = axes.half_life_epochs * axes.epoch_s / STEP_EPOCH_S
    shorter = [f"tables.epoch_s={STEP_EPOCH_S}", f"tables.half_life_epochs={half_life}"]
    inputs = read_inputs(source, overrides=[*overrides, *shorter], encoder=encoder, start=False)
    sizes = sorted({len(s.embedding) for s in inputs.sightings})
    if len(sizes) > 1:
        raise ReplayError(f"{source}: embeddings have {' and '.join(map(str, sizes))} numbers; one length was expected")
    done = replay_inputs(inputs, on_progress)
    return with_looks(clocks_of(done.tables, steps=True), inputs.sightings)


def with_looks(clocks: Clocks, sightings: Sequence[Sighting]) -> Clocks:
    """The same, and what the looks of all closed stays say; their embeddings are of one length."""
    stays = list({s.key: s for s in sightings if s.closed}.values())
    cameras = [s.camera for s in stays]
    if len(set(cameras)) < 2:
        return replace(clocks, silence="looks say nothing about clocks: no closed stays of two cameras")
    times = (np.array([s.entered_s for s in stays]), np.array([s.last_s for s in stays]))
    lags = lags_of_stays(cameras, *times, np.stack([s.embedding for s in stays]))
    found = tuple(lag_steps(lags))
    silence = None
    if not lags:
        silence = f"looks say nothing about clocks: no camera has {LEAST_STAYS} closed stays, or all look the same"
    elif not found:
        silence = "looks say nothing about clocks: no lag stands out above chance"
    return replace(clocks, lags=tuple(lags), by_looks=found, silence=silence)


def clocks_of(tables: TransitionTables, *, steps: bool = False) -> Clocks:
    """Estimate from tables; `steps` where their epochs are short."""
    found = clock_steps(tables) if steps else []
    changed = {step.camera for step in found if sum(s.camera == step.camera for s in found) > 1}
    odd = [c for c in cycle_residuals(pair_offsets(tables)) if abs(c.residual_s) > SURE * c.error_s]
    odd.sort(key=lambda c: -abs(c.residual_s) / c.error_s)
    return Clocks(clock_offsets(tables), [s for s in found if s.camera in changed], odd)


def yaml_lines(clocks: Clocks, configured_s: Mapping[str, float] | None = None) -> list[str]:
    """`offset_s` of every camera that is surely off, to put into the YAML; none when all clocks agree.

    A clock that jumped gets the offset it has since its last jump. Tables are finer than looks, but hold short delays
    only: where looks surely contradict them, looks count.

    configured_s  what is configured already, by camera: the new line takes its place
    """
    latest = {step.camera: step for step in clocks.steps}
    by_looks = {step.camera: step for step in clocks.by_looks}
    known = configured_s or {}
    of_tables = {o.camera: latest.get(o.camera, o) for o in clocks.offsets if o.supported}
    lines = []
    for camera in sorted(of_tables.keys() | by_looks.keys()):
        here, looks = of_tables.get(camera), by_looks.get(camera)
        if looks and abs(looks.offset_s) > SURE * looks.error_s and (here is None or _contradict(here, looks)):
            here = looks
        if here and abs(here.offset_s) > SURE * here.error_s:
            lines.append(f"  - {{name: {_in_yaml(camera)}, offset_s: {known.get(camera, 0.0) - here.offset_s:.1f}}}")
    return ["cameras:", *lines] if lines else []


def _in_yaml(name: str) -> str:
    """A name as YAML reads it back: `no`, `1` and `hall, left` need quotes.

    >>> _in_yaml("hall"), _in_yaml("no"), _in_yaml("hall, left")
    ('hall', '"no"', '"hall, left"')
    """
    import yaml

    with suppress(yaml.YAMLError):
        if yaml.safe_load(f"[{name}]") == [name]:
            return name
    return json.dumps(name, ensure_ascii=False)


def _contradict(one: ClockOffset | ClockStep, other: ClockStep) -> bool:
    return abs(one.offset_s - other.offset_s) > SURE * float(np.hypot(one.error_s, other.error_s))


def configured_offsets(config: MatchConfig) -> dict[str, float]:
    """`offset_s` by camera, of a configuration that has cameras."""
    return {camera.name: camera.offset_s for camera in config.cameras} if isinstance(config, Config) else {}


def offsets_of_run(source: Path) -> dict[str, float]:
    """`offset_s` by camera with which a run was made; empty for a bare sightings.parquet. Raises JournalError."""
    cameras = read_facts(source).get("config", {}).get("cameras", []) if source.is_dir() else []
    return {camera["name"]: float(camera.get("offset_s", 0.0)) for camera in cameras}


def in_words(clocks: Clocks, configured_s: Mapping[str, float] | None = None) -> list[str]:
    """The estimates as lines for people."""
    if not clocks.offsets and not clocks.by_looks:
        nothing = "nothing learnt yet: no transitions, so nothing is known about clocks"
        return [nothing, *([clocks.silence] if clocks.silence else [])]
    jumped = {step.camera for step in clocks.steps}
    lines = []
    for o in clocks.offsets:
        if o.camera in jumped:
            mine = [step for step in clocks.steps if step.camera == o.camera]
            lines += [f"{o.camera:>16}: from {s.from_s:.0f} s on {_off(s.offset_s, s.error_s)}" for s in mine]
        elif o.supported:
            lines.append(f"{o.camera:>16}: {_off(o.offset_s, o.error_s)}")
        else:
            lines.append(f"{o.camera:>16}: not known (too few transitions in both directions)")
    for c in clocks.cycles[:MOST_CYCLES]:
        lines.append(f"{' - '.join(c.cameras)}: offsets add up to {c.residual_s:.1f} s, not to 0: one pair misleads")
    if len(clocks.cycles) > MOST_CYCLES:
        lines.append(f"and {len(clocks.cycles) - MOST_CYCLES} more triangles like these")
    lines += _looks_in_words(clocks)
    jumped |= {s.camera for s in clocks.by_looks if sum(t.camera == s.camera for t in clocks.by_looks) > 1}
    if correction := yaml_lines(clocks, configured_s):
        when = " from their last jump on" if jumped else ""
        lines += ["", f"to correct them{when}, put into the site's YAML:", *correction]
    return lines


def _looks_in_words(clocks: Clocks) -> list[str]:
    if not clocks.by_looks:
        return [clocks.silence] if clocks.silence else []
    lines = ["", "by looks, against all other cameras together:"]
    for step in clocks.by_looks:
        lines.append(f"{step.camera:>16}: from {step.from_s:.0f} s on {_off(step.offset_s, step.error_s)}")
    if len({span.camera for span in clocks.lags}) == 2:
        lines.append("(of two cameras nobody can say whose clock is off)")
    return lines


def _off(offset_s: float, error_s: float) -> str:
    sure = "" if abs(offset_s) > SURE * error_s else ", which may be nothing"
    return f"{abs(offset_s):.1f} s {'ahead' if offset_s > 0 else 'behind'}, give or take {error_s:.1f} s{sure}"


def as_json(clocks: Clocks, configured_s: Mapping[str, float] | None = None) -> dict[str, object]:
    """The estimates as plain values; an unknown error is null."""
    offsets = [{**asdict(o), "error_s": o.error_s if o.supported else None} for o in clocks.offsets]
    steps, cycles = [asdict(s) for s in clocks.steps], [asdict(c) for c in clocks.cycles]
    looks = {
        "lags": [asdict(span) for span in clocks.lags],
        "by_looks": [asdict(step) for step in clocks.by_looks],
        "silence": clocks.silence,
    }
    return {"offsets": offsets, "steps": steps, "cycles": cycles, **looks, "yaml": yaml_lines(clocks, configured_s)}
