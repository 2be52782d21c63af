"""Replay: any sightings.parquet through the matcher again, with these settings or others. No video, no Redis.

The same sightings, settings and starting tables give the same decisions, bit for bit.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.atomic import output_error, write_lines
from pipeline.config import MatchConfig, check_encoder, load_match_config
from pipeline.freezing import tables_for
from pipeline.journal import json_line, read_corrections, read_facts, to_json
from pipeline.outputs import check_writable
from pipeline.run_folder import is_run
from pipeline.tables_file import read_tables, write_tables
from pipeline.tracklog import read_decisions, read_sightings, write_assignments
from st_model.appearance import calibrate_by_time
from st_model.hypotheses import MatchSettings
from st_model.ledger import Correction, StayKey, final_ids
from st_model.matcher import OnlineMatcher, Outcome
from st_model.sightings import Decision, Sighting
from st_model.teaching import Outage
from st_model.transitions import TransitionTables

log = logging.getLogger(__name__)


class ReplayError(ValueError):
    """There is nothing here that can be replayed."""


@dataclass(frozen=True)
class Said:
    """What the matcher said: decisions and corrections in order."""

    decisions: list[Decision]
    corrections: list[Correction]

    @property
    def ids(self) -> dict[StayKey, tuple[int, float]]:
        """(camera, track_id) -> (final global id, probability)."""
        return final_ids(self.decisions, self.corrections)


@dataclass(frozen=True)
class Replayed(Said):
    """The same, and the tables as they were at the end."""

    tables: TransitionTables


def replay(
    sightings: Sequence[Sighting],
    config: MatchConfig,
    tables: TransitionTables,
    *,
    first_id: int = 1,
    outages: Sequence[Outage] = (),
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
) -> Replayed:
    """Feed sightings, in order of emitted_s, to a new matcher. `tables` are taught; ids count up from `first_id`.

    outages  when which camera was not watching
    """
    matcher = OnlineMatcher(config.match, itertools.count(first_id).__next__, tables, outages)
    said: list[Outcome] = []
    for number, sighting in enumerate(sightings):
        said.append(matcher.advance(sighting.emitted_s))
        matcher.submit(sighting)
        if number % 256 == 0:
            on_progress("replaying", number, len(sightings))
    said.append(matcher.finish())
    on_progress("replaying", len(sightings), len(sightings))
    decisions = [decision for outcome in said for decision in outcome.decisions]
    corrections = [correction for outcome in said for correction in outcome.corrections]
    return Replayed(decisions, corrections, tables)


def replay_to(
    source: Path,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    encoder: str | None = None,
    tables: Path | None = None,
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
) -> Replayed:
    """Replay a run folder, or a sightings.parquet of any program, into `out`.

    A run folder brings its own settings, starting tables and ids; `overrides` (`key.sub=value`), `encoder` (whose
    shipped calibration is used) and `tables` (a file of `tables export`) replace them. Of a bare file nothing is known:
    without `encoder` the calibration to start from is fitted to the file itself. Writes decisions.jsonl,
    corrections.jsonl, assignments.csv and tables_end.json. Raises ReplayError, ConfigError, JournalError, OutputError.
    """
    if is_run(out):
        raise ReplayError(f"{out}: this is the folder of a run, whose decisions would be lost: choose another --out")
    inputs = read_inputs(source, overrides=overrides, encoder=encoder, tables=tables)
    config = inputs.config
    check_writable(out)  # before the work, not after it
    done = replay_inputs(inputs, on_progress)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    write_lines(out / "decisions.jsonl", [json_line(to_json(decision)) for decision in done.decisions])
    write_lines(out / "corrections.jsonl", [json_line(to_json(correction)) for correction in done.corrections])
    write_assignments(out / "assignments.csv", done.ids)
    write_tables(out / "tables_end.json", config.tables, done.tables.items())
    return done


@dataclass(frozen=True)
class Inputs:
    """What a run folder or a sightings.parquet brings to a replay: what was seen, settings, starting tables and id."""

    sightings: list[Sighting]
    config: MatchConfig
    tables: TransitionTables
    first_id: int
    outages: tuple[Outage, ...] = ()


def replay_inputs(
    inputs: Inputs, on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None
) -> Replayed:
    """`replay` of everything that a source brought."""
    return replay(
        inputs.sightings,
        inputs.config,
        inputs.tables,
        first_id=inputs.first_id,
        outages=inputs.outages,
        on_progress=on_progress,
    )


def read_inputs(
    source: Path,
    *,
    overrides: Sequence[str] = (),
    encoder: str | None = None,
    tables: Path | None = None,
    start: bool = True,
) -> Inputs:
    """Read a source of `replay_to`; `start` false: without the tables that a run began with.

    Raises ReplayError, ConfigError, JournalError.
    """
    parquet, run = (source / "sightings.parquet", source) if source.is_dir() else (source, None)
    if not parquet.is_file():
        raise ReplayError(f"{parquet}: no such file; a run folder or a sightings.parquet was expected")
    if run and not (run / "run.json").is_file():
        log.warning("%s: no run.json: how this run was set up is not known, its sightings are taken alone", run)
        run = None
    facts = read_facts(run) if run else {}
    settings = dict(facts.get("config", {}))
    if encoder:
        check_encoder(encoder)
        settings["reid"] = {**settings.get("reid", {}), "encoder": encoder}
        settings["match"] = {k: v for k, v in settings.get("match", {}).items() if k != "calibration"}
    config = load_match_config(settings, overrides=overrides)
    own = run / "tables_start.json" if start and run and (run / "tables_start.json").is_file() else None
    begun = tables or own
    if start and run and not begun:
        log.warning("%s: no tables_start.json: what the run began with is not known, it is replayed from nothing", run)
    held = tables_for(config, read_tables(begun, config.tables).items() if begun else ())
    try:
        outages = tuple((str(camera), float(from_s), float(to_s)) for camera, from_s, to_s in facts.get("outages", ()))
        first_id = int(facts.get("counters", {}).get("first_global_id") or 1)
    except (TypeError, ValueError, AttributeError) as error:
        raise ReplayError(f"{source / 'run.json'}: damaged: {error}") from error
    sightings = read_sightings(parquet)
    told = encoder or any(o.startswith(("match.calibration", "reid.encoder")) for o in overrides)
    if run is None and not told:
        config = config.model_copy(update={"match": _fitted_to(sightings, config.match)})
    return Inputs(sightings, config, held, first_id, outages)


def _fitted_to(sightings: Sequence[Sighting], match: MatchSettings) -> MatchSettings:
    """Settings for embeddings of an unknown encoder: the calibration to start from is fitted, without labels, to the
    first stays of the file, where there are enough. A shipped one would be that of another network."""
    stays = list({s.key: s for s in sightings if s.closed}.values())[: match.whiten_from]
    if len(stays) < match.centre_from or len({s.embedding.shape for s in stays}) > 1:
        return match
    calibration, _ = calibrate_by_time(
        np.stack([s.embedding for s in stays]),
        np.array([s.camera for s in stays]),
        np.array([s.entered_s for s in stays]),
        np.array([s.last_s for s in stays]),
    )
    return replace(match, calibration=calibration)


def changes(before: Said, after: Said) -> list[str]:
    """Which stays are somebody else after all decisions and corrections, and why: one line each, in order of time.

    Ids are compared by the company they keep, not by their number: a stay has changed when the stays it shares its id
    with have.
    """
    old, new = _companions(before), _companions(after)
    last_new = {d.key: d for d in after.decisions}
    why_old, why_new = _reasons(before), _reasons(after)
    lines = [f"{_name(key)}: only in the first run" for key in sorted(old.keys() - new.keys())]
    lines += [f"{_name(key)}: only in the second run" for key in sorted(new.keys() - old.keys())]
    for key in sorted(old.keys() & new.keys(), key=lambda k: (last_new[k].time_s, k)):
        if old[key] != new[key]:
            parts = [f"{_name(key)} at {last_new[key].time_s:.1f} s:"]
            for others, says in ((old[key] - new[key], "no longer with"), (new[key] - old[key], "now with")):
                parts += [f"{says} {', '.join(map(_name, sorted(others)))};"] if others else []
            lines.append(" ".join([*parts, f"was {why_old[key]}, is {why_new[key]}"]))
    return lines


def said_in(path: Path) -> Said:
    """What the matcher said in a run or replay folder; corrections by hand are left out. Raises ReplayError."""
    folder = path if path.is_dir() else path.parent
    if not (folder / "decisions.jsonl").is_file():
        raise ReplayError(f"{folder / 'decisions.jsonl'}: no such file; a folder of `run` or `replay` was expected")
    corrections = [c for c in read_corrections(folder / "corrections.jsonl") if not c.by]
    return Said(read_decisions(folder / "decisions.jsonl"), corrections)


def _companions(said: Said) -> dict[StayKey, frozenset[StayKey]]:
    ids = {key: global_id for key, (global_id, _) in said.ids.items()}
    together: dict[int, set[StayKey]] = {}
    for key, global_id in ids.items():
        together.setdefault(global_id, set()).add(key)
    return {key: frozenset(together[global_id] - {key}) for key, global_id in ids.items()}


def _reasons(said: Said) -> dict[StayKey, str]:
    """Of each stay its last decision and, where one came after it, its last correction."""
    last = {decision.key: decision for decision in said.decisions}
    reasons = {key: _why(decision) for key, decision in last.items()}
    moved = {key: c for c in said.corrections for key in c.stays if key in last and c.time_s >= last[key].time_s}
    for key, c in moved.items():
        reasons[key] += f", later {'merged into' if c.kind == 'merge' else 'split off as'} P{c.into_id}"
    return reasons


def _why(decision: Decision) -> str:
    chosen = next((c for c in decision.candidates if c.global_id == decision.global_id), None)
    if decision.kind == "new" or chosen is None:
        return f"a new person ({100 * decision.probability:.0f} %)"
    return (
        f"P{chosen.global_id} ({100 * chosen.probability:.0f} %: cosine {chosen.appearance:.2f}, "
        f"delay {chosen.delay_s:.1f} s, transition x{chosen.transition:.2g})"
    )


def _name(key: StayKey) -> str:
    return f"{key[0]}:{key[1]}"
