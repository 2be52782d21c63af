"""Corrections by hand: two persons are one, a stay is somebody else's, and taking such a word back.

A correction goes into the ledger of the run, corrections.jsonl, with the name of who made it; every file that holds
ids is written again; and the site's transition tables learn what follows from it (pipeline/hand_teaching.py).
"""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.explain import ExplainError, stay_key, unknown_person, unknown_stay
from pipeline.hand_teaching import Links, Span, links_of_run, spans_of, teaching
from pipeline.journal import correction_from_json, read_facts, to_json
from pipeline.run_edit import (
    EditError,
    RunLog,
    base_tracks,
    check_version,
    derive,
    done,
    keep_base,
    locked,
    note,
    noted,
    read_log,
    site_config,
)
from st_model.counts import summed
from st_model.ledger import Correction, StayKey, aliases, standing
from st_model.transitions import ONE, Increment

if TYPE_CHECKING:
    from st_model.store import Store

TWICE_S = 1.0
"""How long one person may be in two tracks of one camera: a broken track overlaps its own twin for a moment."""


Spans = Mapping[StayKey, Span]
Build = Callable[[RunLog, Spans, Callable[[], int]], Correction]


@dataclass(frozen=True)
class How:
    """Who corrects, and how far it goes.

    by         who makes it; None: the user of the operating system
    version    of the run when it was looked at (`version_of`): refused when somebody else was faster
    teach      tell the site's tables, too
    overrides  settings of the site, `redis.url=...` say
    """

    by: str | None = None
    version: str | None = None
    teach: bool = True
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corrected:
    """What a correction did.

    correction  as it stands in the ledger
    taught      transition counts changed by it, in whole observations (negative: taken back)
    not_taught  why the site's tables were left as they are, None when they were not
    """

    correction: Correction
    taught: float
    not_taught: str | None
    persons: int


def merge(run_dir: Path, first: str, second: str, *, anyway: bool = False, how: How = How()) -> Corrected:
    """Say that two persons (`P3`, `7`) are one; the older id stays.

    anyway  also when both were in one camera at one time

    Raises EditError (ExplainError for an unknown person), EditConflict, the StoreError tree, OutputError.
    """

    def build(log: RunLog, spans: Spans, fresh_id: Callable[[], int]) -> Correction:
        a, b = (person_of(run_dir, log, who) for who in (first, second))
        if a == b:
            raise EditError(f"{first} and {second} are the same person already")
        stays = {i: [key for key, (person, _) in log.ids.items() if person == i] for i in (a, b)}
        both = _in_two_places(stays[a], stays[b], spans)
        if both and not anyway:
            one, other = ("{}:{}".format(*key) for key in both)
            raise EditError(
                f"P{a} and P{b} were in one camera at one time ({one} and {other}): two people, unless you say --anyway"
            )
        into, away = min(a, b), max(a, b)
        return Correction("merge", _end_s(log), away, into, tuple(sorted(stays[away])), 1.0, "by hand")

    return _make(run_dir, build, how)


def split(run_dir: Path, stays: Sequence[str], into: str | None = None, *, how: How = How()) -> Corrected:
    """Say that stays (`lobby:7`, all of one person) are somebody else's: a new person's, or `into`'s."""

    def build(log: RunLog, spans: Spans, fresh_id: Callable[[], int]) -> Correction:
        keys = tuple(sorted({stay_of(run_dir, log, stay) for stay in stays}))
        persons = {log.ids[key][0] for key in keys}
        if len(persons) != 1:
            raise EditError(f"these stays are of different persons: {', '.join(f'P{i}' for i in sorted(persons))}")
        (person,) = persons
        if into is None and len(keys) == sum(i == person for i, _ in log.ids.values()):
            raise EditError(f"these are all stays of P{person}: there would be nobody left to take them from")
        target = person_of(run_dir, log, into) if into else fresh_id()
        if target == person:
            raise EditError(f"they are P{person}'s already")
        return Correction("split", _end_s(log), person, target, keys, 1.0, "by hand")

    return _make(run_dir, build, how)


def undo(run_dir: Path, number: int | None = None, *, how: How = How()) -> Corrected:
    """Take a correction back: the latest that was made by hand, or the one with a number of `listed`."""

    def build(log: RunLog, spans: Spans, fresh_id: Callable[[], int]) -> Correction:
        there = listed(log)
        by_hand = [n for n, c in there if c.by]
        wanted = number if number is not None else max(by_hand, default=None)
        if wanted is None:
            raise EditError(f"{run_dir}: nothing was corrected by hand; say which number of the list to take back")
        found = dict(there).get(wanted)
        if found is None:
            known = ", ".join(str(n) for n, _ in there) or "none"
            raise EditError(f"{run_dir}: there is no correction {wanted} that stands; there are: {known}")
        return replace(found, kind="unmerge" if found.kind == "merge" else "unsplit", time_s=_end_s(log), reason="")

    return _make(run_dir, build, how)


def listed(log: RunLog) -> list[tuple[int, Correction]]:
    """(number, correction) of those that stand; the number is the line of corrections.jsonl, from 1."""
    stands = {id(c) for c in standing(log.corrections)}
    return [(n, c) for n, c in enumerate(log.corrections, start=1) if id(c) in stands]


def person_of(run_dir: Path, log: RunLog, who: str) -> int:
    """The id that a person has now (`P7`, `7`). Raises ExplainError with the nearest."""
    text = who.strip().upper().removeprefix("P")
    known = {i for i, _ in log.ids.values()}
    number = int(text) if text.isascii() and text.isdigit() else -1
    now = aliases(log.corrections).get(number, number)
    if now not in known:
        raise ExplainError(
            unknown_person(run_dir, number, known) if number >= 0 else f"{who!r}: expected a person such as P12"
        )
    return now


def stay_of(run_dir: Path, log: RunLog, stay: str) -> StayKey:
    """The key of a stay written `camera:number`. Raises ExplainError with the nearest."""
    key = stay_key(stay)
    if key not in log.ids:
        raise ExplainError(unknown_stay(run_dir, key, log.ids))
    return key


def _make(run_dir: Path, build: Build, how: How) -> Corrected:
    """Make a correction under the run's lock."""
    run_dir = Path(run_dir)
    with locked(run_dir):
        finish_pending(run_dir, how.overrides)
        check_version(run_dir, how.version)
        log = read_log(run_dir)
        spans = read_spans(run_dir)
        config = site_config(run_dir, how.overrides)
        from pipeline.site_store import open_store

        with open_store(config, config.tables) as (store, _):
            above = max((i for i, _ in log.ids.values()), default=0)
            above = max([above, *(c.into_id for c in log.corrections), *(c.global_id for c in log.corrections)])
            correction = build(log, spans, lambda: store.next_id(above=above))
            correction = replace(correction, by=how.by or os_user())
            why_not = "what is taken back was not taught" if correction.untaught else None
            why_not = why_not or (None if how.teach else "not asked to")
            why_not = why_not or ("the site is frozen" if config.frozen else None)
            facts = read_facts(run_dir)
            if why_not is None and store.reset_version() > int(facts.get("table_version") or 0):
                why_not = "the tables were reset since the run"
            links: Links | None = links_of_run(run_dir, log.decisions) if why_not is None else None
            if why_not is None and links is None:
                why_not = "what the run taught cannot be found again from its sightings"
            correction = replace(correction, untaught=why_not is not None)
            ledger = [*log.corrections, correction]
            increments = (
                teaching(links, spans, log.decisions, log.corrections, ledger, config.tables)
                if links is not None
                else []
            )
            todo = {
                "what": "correction",
                "lines": len(ledger),
                "correction": to_json(correction),
                "increments": [list(item) for item in increments],
                "name": f"by-hand-{uuid.uuid4().hex}",
                "overrides": list(how.overrides),
            }
            _check(RunLog(log.decisions, ledger, log.given))
            note(run_dir, todo)
            persons = _carry_out(run_dir, todo, store)
        return Corrected(correction, sum(i.count for i in increments) / ONE, why_not, persons)


def _check(log: RunLog) -> None:
    """A ledger that contradicts itself is noticed before anything is written."""
    _ = log.ids


def _carry_out(run_dir: Path, todo: Mapping[str, Any], store: Store) -> int:
    log = read_log(run_dir)
    correction = correction_from_json(todo["correction"])
    ledger = log.corrections if len(log.corrections) == todo["lines"] else [*log.corrections, correction]
    keep_base(run_dir)
    increments = [Increment(*item) for item in todo["increments"]]
    if increments:
        store.add_counts(summed(increments), str(todo["name"]))  # counted once, however often it is sent
    persons = derive(run_dir, RunLog(log.decisions, ledger, log.given), base_tracks(run_dir))["persons"]
    done(run_dir)
    return persons


def finish_pending(run_dir: Path, overrides: Sequence[str] = ()) -> None:
    """Complete what somebody was doing when they were killed. Call it under the run's lock."""
    todo = noted(run_dir)
    if todo is None:
        return
    if todo["what"] == "forget":
        from pipeline.forget import finish_forgetting

        finish_forgetting(run_dir, todo, overrides)
        return
    from pipeline.site_store import open_store

    config = site_config(run_dir, [*todo["overrides"], *overrides])
    with open_store(config, config.tables) as (store, _):
        _carry_out(run_dir, todo, store)


def read_spans(run_dir: Path) -> dict[StayKey, Span]:
    """When each stay was, from the sightings, without their embeddings; from stays.csv where there are none."""
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    path = run_dir / "sightings.parquet"
    names = ("camera", "track_id", "entered_s", "last_s" if path.is_file() else "left_s")
    try:
        if path.is_file():
            table = pq.read_table(path, columns=list(names))
        else:
            path = run_dir / "stays.csv"
            table = pacsv.read_csv(path)
        columns = [table[name].to_pylist() for name in names]
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise EditError(f"{path}: cannot be read: {error}") from error
    return spans_of((str(c), int(t), float(a), float(b)) for c, t, a, b in zip(*columns, strict=True))


def os_user() -> str:
    """Who is logged in, for ledgers and the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _end_s(log: RunLog) -> float:
    """After everything that was decided: a split outranks the decisions made before it."""
    return max((d.time_s for d in log.decisions), default=0.0)


def _in_two_places(first: Sequence[StayKey], second: Sequence[StayKey], spans: Spans) -> tuple[StayKey, StayKey] | None:
    for a in first:
        for b in second:
            if a[0] == b[0] and a in spans and b in spans:
                overlap_s = min(spans[a].last_s, spans[b].last_s) - max(spans[a].entered_s, spans[b].entered_s)
                if overlap_s > TWICE_S:
                    return a, b
    return None
