"""What a correction by hand teaches the site's transition tables, exactly enough to be taken back to the last count.

What should be taught is a function of what the run taught, of the ids it gave and of the corrections that stand; a
correction adds the difference between after and before. So undoing one subtracts what it added, and a wrong link is
subtracted with the very count that it was taught with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pipeline.atomic import write_lines
from pipeline.journal import json_line, read_json_lines
from pipeline.replay import read_inputs
from st_model.gallery import Stay
from st_model.ledger import Correction, StayKey, final_ids
from st_model.matcher import OnlineMatcher
from st_model.sightings import Decision
from st_model.transitions import ONE, Increment, TableSettings

LinkKey = tuple[StayKey, StayKey]
"""(the stay somebody left, the stay they entered next)"""
Links = dict[LinkKey, Increment]


class Span(NamedTuple):
    """When a stay was."""

    entered_s: float
    last_s: float


def links_of_run(run_dir: Path, decisions: Sequence[Decision]) -> Links | None:
    """Which link between two stays taught what, found by matching the run's sightings again.

    None where that does not give the run's own decisions: then nobody knows what it taught (somebody was forgotten,
    or sightings or starting tables are missing). Empty for a run of a frozen site.
    """
    kept = Path(run_dir) / "by_hand" / "links.jsonl"
    if kept.is_file():
        return {_stay_keys(row["stays"]): Increment(*row["taught"]) for _, row in read_json_lines(kept)}
    if not (Path(run_dir) / "tables_start.json").is_file():
        return None
    inputs = read_inputs(Path(run_dir))
    matcher = OnlineMatcher(inputs.config.match, iter(range(1, 1 << 62)).__next__, inputs.tables, inputs.outages)
    stays: list[Stay] = []
    said: list[Decision] = []
    seen = 0
    for until_s, sighting in [*((s.emitted_s, s) for s in inputs.sightings), (float("inf"), None)]:
        said += matcher.advance(until_s).decisions
        fresh = matcher.state.teacher.closed_stays - seen
        seen += fresh
        # The stays themselves, not what they taught so far: a split may take it back later.
        stays += matcher.state.teacher.stays[len(matcher.state.teacher.stays) - fresh :]
        if sighting is not None:
            matcher.submit(sighting)
    if [_said(d) for d in said] != [_said(d) for d in decisions]:
        return None
    links: Links = {}
    if not inputs.config.frozen:
        links = {(s.taught_from, s.key): s.taught for s in stays if s.taught and s.taught_from}
    kept.parent.mkdir(exist_ok=True)
    write_lines(kept, (json_line({"stays": [*key], "taught": [*taught]}) for key, taught in links.items()))
    return links


def _said(d: Decision) -> tuple[StayKey, float, str, float]:
    return d.key, d.time_s, d.kind, d.margin


def _stay_keys(stays: Sequence[Sequence[object]]) -> LinkKey:
    (a, n), (b, m) = stays
    return (str(a), int(str(n))), (str(b), int(str(m)))


def teaching(
    links: Links,
    spans: Mapping[StayKey, Span],
    decisions: Sequence[Decision],
    before: Sequence[Correction],
    after: Sequence[Correction],
    axes: TableSettings,
) -> list[Increment]:
    """What to add to the tables when the ledger grows from `before` to `after`. What they were not told of does not
    count: taking it back changes nothing, either.
    """
    machine = {key: i for key, (i, _) in final_ids(decisions, [c for c in after if not c.by]).items()}
    old, new = (
        wanted(links, spans, machine, {key: i for key, (i, _) in final_ids(decisions, told).items()}, axes)
        for told in ([c for c in ledger if not c.untaught] for ledger in (before, after))
    )
    counts: dict[tuple[str, str, int, int], int] = defaultdict(int)
    for sign, held in ((-1, old), (1, new)):
        for item in held.values():
            counts[item[:4]] += sign * item.count
    return [Increment(*key, n) for key, n in sorted(counts.items()) if n]


def wanted(
    links: Links,
    spans: Mapping[StayKey, Span],
    machine: Mapping[StayKey, int],
    final: Mapping[StayKey, int],
    axes: TableSettings,
) -> Links:
    """The links that should have taught, given the ids that the matcher gave and those that hold now.

    A person whose stays are those of a person of the matcher keeps its links. Of the others: a link between stays
    that were parted by hand goes, also one over a stay that was put between by hand; two stays that follow each other
    and were joined by hand are a whole observation.

    >>> a, b = ("a", 1), ("b", 2)
    >>> spans = {a: Span(0.0, 5.0), b: Span(15.0, 20.0)}
    >>> axes = TableSettings(horizon_s=100.0)
    >>> wanted({}, spans, {a: 1, b: 2}, {a: 1, b: 1}, axes)[a, b]
    Increment(from_camera='a', to_camera='b', epoch=0, bin=20, count=4096)
    """
    machines = {frozenset(stays) for stays in _persons(machine).values()}
    out = dict(links)
    for stays in _persons(final).values():
        if frozenset(stays) in machines:
            continue
        chain = sorted((key for key in stays if key in spans), key=lambda key: (*spans[key], key))
        place = {key: n for n, key in enumerate(chain)}
        for link in links:
            left, entered = link
            if (left in place) != (entered in place):
                other = left if left not in place else entered
                if other in final and machine.get(left) == machine.get(entered):
                    out.pop(link, None)
            elif left in place and any(
                machine.get(between) != machine.get(entered) for between in chain[place[left] + 1 : place[entered]]
            ):
                out.pop(link, None)
        for left, entered in pairwise(chain):
            at = axes.bin_of(spans[entered].entered_s - spans[left].last_s)
            if machine.get(left) != machine.get(entered) and at is not None:
                epoch = axes.epoch_of(spans[entered].entered_s)
                out[left, entered] = Increment(left[0], entered[0], epoch, at, ONE)
    return out


def _persons(ids: Mapping[StayKey, int]) -> dict[int, list[StayKey]]:
    out: dict[int, list[StayKey]] = defaultdict(list)
    for key, person in ids.items():
        out[person].append(key)
    return out


def spans_of(rows: Iterable[tuple[str, int, float, float]]) -> dict[StayKey, Span]:
    """(camera, track_id, entered_s, last_s) of every emission, in order -> when each stay was, by its last word."""
    return {(camera, track_id): Span(entered_s, last_s) for camera, track_id, entered_s, last_s in rows}
