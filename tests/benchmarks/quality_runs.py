"""What all quality measurements share: runs of the matcher over sightings, and their figures."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from pipeline.config import MatchConfig, load_match_config
from pipeline.replay import Replayed, replay
from st_model.link_scores import NOBODY, LabelledStay, LinkScores, score_links
from st_model.sightings import Sighting
from st_model.teaching import Outage
from st_model.transitions import TransitionTables

Row = dict[str, object]
StayKey = tuple[str, int]
Ids = dict[StayKey, int]

APPEARANCE, COSINE, COLD, WARM = "appearance only", "cosine, tuned on this data", "joint cold", "joint warm"


@dataclass(frozen=True)
class Run:
    """A finished run: final ids, and seconds from entry until a stay carried its final id for good."""

    ids: Ids
    settled_s: dict[StayKey, float]
    tables: TransitionTables
    replayed: Replayed | None = None


def config_for(encoder: str | None = None, overrides: Sequence[str] = ()) -> MatchConfig:
    """Settings as shipped for an encoder (the default one when None), with `key.sub=value` overrides."""
    return load_match_config({"reid": {"encoder": encoder}} if encoder else {}, overrides=overrides)


def without_time(config: MatchConfig) -> MatchConfig:
    """The same settings with the transition stream off: what is left is appearance, exclusion and the new share."""
    return config.model_copy(update={"match": replace(config.match, g1=0.0)})


def run(
    sightings: Sequence[Sighting],
    tables: TransitionTables,
    config: MatchConfig | None = None,
    outages: Sequence[Outage] = (),
) -> Run:
    """A matcher that knows nobody yet sees all sightings; `tables` are taught."""
    done = replay(sightings, config or config_for(), tables, outages=outages)
    entered = {s.key: s.entered_s for s in sightings}
    ids = {key: global_id for key, (global_id, _) in done.ids.items()}
    return Run(ids, {key: at - entered[key] for key, at in _settled(done).items()}, done.tables, done)


def _settled(done: Replayed) -> dict[StayKey, float]:
    """When each stay's id changed for the last time."""
    shown: Ids = {}
    at: dict[StayKey, float] = {}
    events: list[tuple[float, int, StayKey, int]] = [(d.time_s, 0, d.key, d.global_id) for d in done.decisions]
    events += [(c.time_s, 1, key, c.into_id) for c in done.corrections for key in c.stays]
    for time_s, _, key, global_id in sorted(events, key=lambda e: (e[0], e[1])):
        if shown.get(key) != global_id:
            shown[key], at[key] = global_id, time_s
    return at


def three_runs(sightings: Sequence[Sighting], config: MatchConfig) -> dict[str, Run]:
    """Appearance only, joint cold, and joint warm: a second pass with the tables that the first one left."""
    cold = run(sightings, TransitionTables(), config)
    return {
        APPEARANCE: run(sightings, TransitionTables(), without_time(config)),
        COLD: cold,
        WARM: run(sightings, copy_of(cold.tables), config),
    }


def copy_of(tables: TransitionTables) -> TransitionTables:
    """The same counts in new tables, without alarms."""
    fresh = TransitionTables(tables.settings)
    fresh.add(tables.items())
    return fresh


def figures(truth: Sequence[LabelledStay], ids: Mapping[StayKey, Hashable], settled_s: Mapping[StayKey, float]) -> Row:
    """The figures of one run that all tables show; ratios in [0, 1]."""
    scores = score_links(truth, ids)
    out: Row = {
        "hand_over_f1": scores.hand_over.f1,
        "hand_over_precision": scores.hand_over.precision,
        "hand_over_recall": scores.hand_over.recall,
        "pairs_f1": scores.pairs.f1,
        "false_merges_per_1000": 1000 * scores.false_merges / scores.stays,
        "purity": scores.purity,
        "completeness": scores.completeness,
        "ids": scores.ids,
        "people": scores.people,
        "cross_errors": cross_errors(scores),
    }
    if settled_s:
        out |= _time_to_right_id(truth, ids, settled_s)
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in out.items()}


def cross_errors(scores: LinkScores) -> int:
    """Hand-overs missed plus hand-overs claimed wrongly."""
    h = scores.hand_over
    return (h.truth - h.hit) + (h.claimed - h.right)


def _time_to_right_id(
    truth: Sequence[LabelledStay], ids: Mapping[StayKey, Hashable], settled_s: Mapping[StayKey, float]
) -> Row:
    """Of all stays but each person's first: share that ends with the id most of that person's stays have, and how
    many seconds after entry it was there to stay (median, 90 % of them)."""
    stays_of: dict[int, list[LabelledStay]] = defaultdict(list)
    for stay in sorted(truth, key=lambda s: s.entered_s):
        if stay.scored and stay.person != NOBODY:
            stays_of[stay.person].append(stay)
    waits, later = [], 0
    for stays in stays_of.values():
        right = Counter(ids.get(s.key) for s in stays).most_common(1)[0][0]
        later += len(stays) - 1
        waits += [settled_s[s.key] for s in stays[1:] if right is not None and ids.get(s.key) == right]
    if not waits:
        return {"right_share": 0.0}
    return {
        "right_share": len(waits) / later,
        "right_id_median_s": float(np.median(waits)),
        "right_id_p90_s": float(np.quantile(waits, 0.9)),
    }


def curve(truth: Sequence[LabelledStay], ids: Mapping[StayKey, Hashable], edges_s: Sequence[float]) -> list[float]:
    """Hand-over F1 of the links that end in each span of time; NaN where a span has no stay of a person."""
    out = []
    for start, end in itertools.pairwise(edges_s):
        value = float("nan")
        with suppress(ValueError):
            part = [s._replace(scored=s.scored and start <= s.entered_s < end) for s in truth]
            value = round(score_links(part, ids).hand_over.f1, 4)
        out.append(value)
    return out


def cosine_ids(sightings: Sequence[Sighting], threshold: float) -> Ids:
    """Plain nearest identity by cosine, each stay decided once, at its first row; the usual thing to build first.

    An identity is the mean embedding of its stays per camera, compared by its best camera; one still in view in the
    same camera is no candidate.
    """
    rows = len({s.key for s in sightings})
    sums = np.zeros((rows, len(sightings[0].embedding)), np.float32) if sightings else np.zeros((0, 1), np.float32)
    unit, owner = np.zeros_like(sums), np.full(rows, -1)
    row_of: dict[tuple[int, str], int] = {}
    seen_until: dict[tuple[int, str], float] = {}
    last_word = {s.key: s for s in sightings}
    ids: Ids = {}
    persons = 0
    for s in sightings:
        if s.key in ids:
            continue
        near = unit[: len(row_of)] @ s.embedding
        here = -1
        above = np.flatnonzero(near >= threshold)
        for row in above[np.argsort(-near[above])]:
            if seen_until.get((int(owner[row]), s.camera), -np.inf) <= s.entered_s:
                here = int(owner[row])
                break
        if here < 0:
            here, persons = persons, persons + 1
        ids[s.key] = here
        row = row_of.setdefault((here, s.camera), len(row_of))
        owner[row] = here
        sums[row] += s.embedding
        unit[row] = sums[row] / np.linalg.norm(sums[row])
        until = seen_until.get((here, s.camera), -np.inf)
        seen_until[here, s.camera] = max(until, last_word[s.key].last_s)
    return ids


def tuned_cosine(
    sightings: Sequence[Sighting], score: Callable[[Ids], float], steps: int = 12
) -> tuple[Ids, dict[str, object]]:
    """`cosine_ids`, raw or with each camera's mean taken off, at the threshold that scores best on this very data.

    The mean is that of the whole file, too: nobody can have either at a new site. Returns ids and what was chosen.
    """
    found: list[tuple[float, Ids, dict[str, object]]] = []
    for centred, rows in ((False, sightings), (True, _centred(sightings))):
        sample = np.stack([s.embedding for s in rows[:: max(1, len(rows) // 600)]])
        cosines = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
        for threshold in np.linspace(float(np.quantile(cosines, 0.7)), float(np.quantile(cosines, 0.9999)), steps):
            ids = cosine_ids(rows, float(threshold))
            found.append((score(ids), ids, {"threshold": round(float(threshold), 3), "centred": centred}))
    best = max(found, key=lambda f: f[0])
    return best[1], best[2]


def _centred(sightings: Sequence[Sighting]) -> list[Sighting]:
    of_camera: dict[str, list[Sighting]] = defaultdict(list)
    for s in sightings:
        of_camera[s.camera].append(s)
    means = {camera: np.mean([s.embedding for s in some], axis=0) for camera, some in of_camera.items()}
    out = []
    for s in sightings:
        vector = s.embedding - means[s.camera]
        length = float(np.linalg.norm(vector))
        out.append(replace(s, embedding=(vector / length).astype(np.float32)) if length > 1e-3 else s)
    return out


def with_removed(rows: list[Row], against: str = APPEARANCE) -> list[Row]:
    """Rows of one data set with `removed`: the share of the cross-camera errors of run `against` that a run avoids."""
    base = next((int(str(row["cross_errors"])) for row in rows if row["run"] == against), 0)
    if not base:
        return rows
    return [{**row, "removed": round(1 - int(str(row["cross_errors"])) / base, 4)} for row in rows]
