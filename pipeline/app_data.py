"""What the app shows, as plain values: runs, persons, and why a stay got its id. Nothing here knows the browser.

AppError (ValueError)   a run cannot be shown, or the app cannot start; one line that says why
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.annotate import clock_text, person_colour
from pipeline.counterfactual import chosen_of, weights_at
from pipeline.errors import code_of
from pipeline.explain import ExplainedDecision, changed_words
from pipeline.journal import read_decisions, read_facts
from pipeline.parts import parts_of
from pipeline.plots import median_delay_s
from pipeline.run_edit import RunLog, read_log
from st_model.ledger import StayKey
from st_model.sightings import Candidate, Decision
from st_model.transitions import TransitionTables


class AppError(ValueError):
    """The app cannot show this, or cannot start."""


SAFE_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#444444")
"""Told apart by colour-blind eyes, too (Okabe and Ito)."""


@dataclass(frozen=True)
class RunEntry:
    """A folder that the app can open.

    state  finished; going (or killed: its journal is there); broken
    says   one line: what is in it, or what is wrong with it
    """

    path: Path
    state: str
    says: str

    @property
    def name(self) -> str:
        """The folder's name; a part of a long run has its run's before it."""
        parts = self.path.parent.name == "parts"
        return f"{self.path.parent.parent.name}/{self.path.name}" if parts else self.path.name


@dataclass(frozen=True)
class PersonRow:
    """One person of a run, in one line."""

    global_id: int
    way: str
    stays: int
    first_s: float
    last_s: float
    in_view_s: float
    least_sure: float


@dataclass(frozen=True)
class CandidateRow:
    """One hypothesis of a decision, ready to be drawn.

    nats_appearance, nats_delay  what cosine and delay added to the log-odds; None where the log does not say
    stay                         the stay it is about: where the person was last seen; None for "a new person"
    """

    name: str
    global_id: int | None
    chosen: bool
    cosine: float | None
    delay_s: float | None
    transition: float | None
    joint: float
    probability: float
    from_camera: str | None
    nats_appearance: float | None
    nats_delay: float | None
    stay: StayKey | None


def runs_of(folder: Path) -> list[RunEntry]:
    """The runs in a folder (or the folder itself when it is one), newest first; what is broken is said, not hidden.

    Raises AppError when there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise AppError(f"{folder}: no such folder; give a run folder, or the folder that runs are in")
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    inside += [part for path in (folder, *inside) for part in parts_of(path)]
    found = [path for path in (folder, *inside) if (path / "run.json").is_file() or (path / "journal").is_dir()]
    if not found:
        raise AppError(f"{folder}: there is no run in it; `identrix run` or `identrix demo` makes one")
    found.sort(key=lambda path: (-_when(path), path.name))
    return [_entry(path) for path in found]


def _when(path: Path) -> float:
    file = path / "run.json"
    return (file if file.is_file() else path).stat().st_mtime


def _entry(path: Path) -> RunEntry:
    try:
        facts = read_facts(path)
        counters = facts.get("counters") or {}
        if (path / "journal").is_dir():
            return RunEntry(path, "going", f"{facts.get('site', path.name)}: going on, or killed")
        missing = [n for n in ("decisions.jsonl", "stays.csv", "assignments.csv") if not (path / n).is_file()]
        if missing:
            return RunEntry(path, "broken", f"{path.name}: {', '.join(missing)} missing")
        if not isinstance(counters, dict):
            return RunEntry(path, "broken", f"{path.name}: run.json is damaged")
        persons, stays = counters.get("persons", "?"), counters.get("stays", "?")
        return RunEntry(path, "finished", f"{facts.get('site', path.name)}: {persons} persons, {stays} stays")
    except (OSError, ValueError) as error:
        return RunEntry(path, "broken", str(error))


def stays_table(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of stays.csv (not to be changed). Raises AppError when it is missing or damaged."""
    return _stays_at(run_dir, _stamp(run_dir))


@lru_cache(maxsize=3)
def _stays_at(run_dir: Path, stamp: tuple[int, ...]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    path = run_dir / "stays.csv"
    columns = {"global_id": pa.int64(), "camera": pa.string(), "track_id": pa.int64(), "entered_s": pa.float64()}
    columns |= {"left_s": pa.float64(), "dwell_s": pa.float64(), "probability": pa.float64()}
    try:
        options = pacsv.ConvertOptions(column_types=columns, include_columns=list(columns))
        rows: list[dict[str, Any]] = pacsv.read_csv(path, convert_options=options).to_pylist()
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise AppError(f"{path}: {str(error).splitlines()[0]}") from error
    return rows


def persons_of(stays: Sequence[dict[str, Any]]) -> list[PersonRow]:
    """One row per person, in order of first appearance."""
    grouped: dict[int, list[dict[str, Any]]] = {}
    for stay in stays:
        grouped.setdefault(stay["global_id"], []).append(stay)
    out = []
    for person, mine in grouped.items():
        mine.sort(key=lambda stay: stay["entered_s"])
        way = [s["camera"] for n, s in enumerate(mine) if not n or s["camera"] != mine[n - 1]["camera"]]
        out.append(
            PersonRow(
                person,
                " → ".join(way),
                len(mine),
                mine[0]["entered_s"],
                max(s["left_s"] for s in mine),
                sum(s["dwell_s"] for s in mine),
                min(s["probability"] for s in mine),
            )
        )
    return sorted(out, key=lambda row: (row.first_s, row.global_id))


def hex_colour(person: int) -> str:
    """The person's colour for a browser.

    >>> hex_colour(3)[0], len(hex_colour(3))
    ('#', 7)
    """
    blue, green, red = person_colour(person)
    return f"#{red:02x}{green:02x}{blue:02x}"


def candidate_rows(
    decisions: Sequence[Decision], at: int, last_seen: dict[tuple[int, str], list[tuple[float, StayKey]]]
) -> list[CandidateRow]:
    """The candidates of one decision of a log, most probable first.

    last_seen  (person, camera) -> (when the stay ended, stay), see `ends_of`
    """
    decision = decisions[at]
    weights, chosen = weights_at(decisions, at), chosen_of(decision)
    rows = []
    for c in sorted(decision.candidates, key=lambda c: -c.probability):
        new = c.global_id is None
        delay_s = None if new or math.isnan(c.delay_s) else c.delay_s
        nats = _nats(c, weights.g0, weights.g1) if weights and not new else (None, None)
        rows.append(
            CandidateRow(
                "a new person" if new else f"P{c.global_id}",
                c.global_id,
                c is chosen,
                None if new else c.appearance,
                delay_s,
                None if new else c.transition,
                c.joint,
                c.probability,
                c.from_camera,
                *nats,
                None if new else _stay_of(c, decision, last_seen),
            )
        )
    return rows


def _nats(c: Candidate, g0: float, g1: float) -> tuple[float | None, float | None]:
    """What appearance (with its constant) and delay added: together they are the log-odds of `joint`."""
    if not (0 < c.joint < 1 and c.transition > 0):
        return None, None
    delay = g1 * math.log(c.transition)
    return math.log(c.joint) - math.log1p(-c.joint) - delay, delay


def ends_of(
    decisions: Sequence[Decision], stays: Sequence[dict[str, Any]]
) -> dict[tuple[int, str], list[tuple[float, StayKey]]]:
    """(person, camera) -> (end, stay) of every stay ever given to them, for finding where somebody came from."""
    ends = {(s["camera"], s["track_id"]): s["left_s"] for s in stays}
    out: dict[tuple[int, str], list[tuple[float, StayKey]]] = {}
    for key, person in {(d.key, d.global_id) for d in decisions}:
        if key in ends:
            out.setdefault((person, key[0]), []).append((ends[key], key))
    return out


def _stay_of(
    c: Candidate, decision: Decision, last_seen: dict[tuple[int, str], list[tuple[float, StayKey]]]
) -> StayKey | None:
    """The stay that a candidate is about: of that person in that camera, not this one, the latest to end by then."""
    known = [
        (end_s, key) for end_s, key in last_seen.get((c.global_id or 0, c.from_camera or ""), ()) if key != decision.key
    ]
    before = [item for item in known if item[0] <= decision.time_s + 1.0]
    return max(before, default=min(known, default=(0.0, None), key=lambda item: item[0]), key=lambda item: item[0])[1]


def headline(item: ExplainedDecision) -> str:
    """One sentence for one decision."""
    d, chosen = item.decision, chosen_of(item.decision)
    did = {
        "new": "a new person",
        "match": "the same as before",
        "provisional": "for the time being",
        "confirm": "confirmed",
        "switch": "changed",
    }[d.kind]
    sure = chosen.probability if chosen else item.probability
    return f"{clock_text(d.time_s)}: P{d.global_id}, {did} ({sure:.1%})"


def why_lines(item: ExplainedDecision) -> list[str]:
    """What would have changed a decision."""
    return changed_words(item)


def delay_chart(
    tables: TransitionTables, from_camera: str, to_camera: str, delays: Sequence[tuple[str, float, str]]
) -> dict[str, Any] | None:
    """A Vega-Lite chart of one pair: learnt delays as bars, their density as a line, and candidates' delays as rules.

    delays  (name, seconds, colour) of each rule. None where nothing was learnt about the pair and there is no delay.
    """
    axes = tables.settings
    counts, density = tables.histogram(from_camera, to_camera), tables.density(from_camera, to_camera)
    median_s = median_delay_s(counts, axes.bin_s, axes.origin_s)
    if median_s is None and not delays:
        return None
    filled = np.flatnonzero(counts > 0)
    low = axes.origin_s + axes.bin_s * (filled[0] if len(filled) else 0)
    high = axes.origin_s + axes.bin_s * (filled[-1] + 1 if len(filled) else 1)
    low, high = min([low, *(s for _, s, _ in delays)]), max([high, *(s for _, s, _ in delays)])
    air = max(0.15 * (high - low), 3 * axes.bin_s)
    first = max(int((low - air - axes.origin_s) / axes.bin_s), 0)
    last = min(int((high + air - axes.origin_s) / axes.bin_s) + 1, axes.bins)
    rows = [
        {
            "from_s": round(axes.origin_s + axes.bin_s * n, 3),
            "to_s": round(axes.origin_s + axes.bin_s * (n + 1), 3),
            "middle_s": round(axes.origin_s + axes.bin_s * (n + 0.5), 3),
            "seen": round(float(counts[n] / max(counts.sum(), 1e-9) / axes.bin_s), 6),
            "expected": round(float(density[n] / axes.bin_s), 6),
        }
        for n in range(first, last)
    ]
    rules = [{"name": name, "delay_s": round(s, 2), "colour": colour} for name, s, colour in delays]
    seconds = {
        "title": "seconds from last seen to first seen",
        "scale": {"domain": [rows[0]["from_s"], rows[-1]["to_s"]]},
    }
    share = {"title": "share per second", "type": "quantitative"}
    return {
        "height": 260,
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "bar", "color": "#a9c4de"},
                "encoding": {
                    "x": {
                        "field": "from_s",
                        "type": "quantitative",
                        "axis": {"title": seconds["title"]},
                        **_scaled(seconds),
                    },
                    "x2": {"field": "to_s"},
                    "y": {"field": "seen", **share},
                    "y2": {"datum": 0},
                },
            },
            {
                "data": {"values": rows},
                "mark": {"type": "line", "color": "#1f4e79", "strokeWidth": 2},
                "encoding": {
                    "x": {"field": "middle_s", "type": "quantitative", **_scaled(seconds)},
                    "y": {"field": "expected", **share},
                },
            },
            {
                "data": {"values": rules},
                "mark": {"type": "rule", "strokeWidth": 3},
                "encoding": {
                    "x": {"field": "delay_s", "type": "quantitative", **_scaled(seconds)},
                    "color": {
                        "field": "name",
                        "type": "nominal",
                        "scale": {"domain": [r["name"] for r in rules], "range": [r["colour"] for r in rules]},
                        "legend": {"orient": "bottom", "title": None},
                    },
                    "tooltip": [{"field": "name"}, {"field": "delay_s", "title": "seconds"}],
                },
            },
        ],
    }


def _scaled(seconds: dict[str, Any]) -> dict[str, Any]:
    return {"scale": {**seconds["scale"], "nice": False}}


def nats_chart(rows: Sequence[CandidateRow]) -> dict[str, Any] | None:
    """A Vega-Lite chart of what spoke for and against each candidate: appearance and delay, in nats side by side."""
    values = [
        {"candidate": row.name, "part": part, "nats": round(nats, 2)}
        for row in rows
        for part, nats in (("appearance", row.nats_appearance), ("delay", row.nats_delay))
        if nats is not None
    ]
    if not values:
        return None
    return {
        "data": {"values": values},
        "height": {"step": 16},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "candidate", "type": "nominal", "sort": [r.name for r in rows], "title": None},
            "yOffset": {"field": "part"},
            "x": {"field": "nats", "type": "quantitative", "title": "against ← nats → for"},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": ["appearance", "delay"], "range": ["#0072b2", "#e69f00"]},
                "legend": {"orient": "top", "title": None},
            },
            "tooltip": [{"field": "candidate"}, {"field": "part"}, {"field": "nats"}],
        },
    }


def timeline_chart(stays: Sequence[dict[str, Any]], most: int = 60) -> dict[str, Any]:
    """A Vega-Lite chart of who was where: a row per person, a bar per stay, coloured by camera; the first `most`."""
    persons = [row.global_id for row in persons_of(stays)][:most]
    zero_s = min((s["entered_s"] for s in stays), default=0.0)
    values = [
        {
            "person": f"P{s['global_id']}",
            "camera": s["camera"],
            "from_s": round(s["entered_s"] - zero_s, 2),
            "to_s": round(max(s["left_s"], s["entered_s"] + 0.2) - zero_s, 2),
            "when": clock_text(s["entered_s"]),
        }
        for s in stays
        if s["global_id"] in set(persons)
    ]
    return {
        "data": {"values": values},
        "height": {"step": 18},
        "mark": {"type": "bar", "cornerRadius": 2},
        "encoding": {
            "y": {
                "field": "person",
                "type": "nominal",
                "sort": [f"P{p}" for p in persons],
                "axis": {"title": None, "labelOverlap": False},
            },
            "x": {"field": "from_s", "type": "quantitative", "title": "seconds since the first person was seen"},
            "x2": {"field": "to_s"},
            "color": {
                "field": "camera",
                "type": "nominal",
                "legend": {"orient": "top", "title": None},
                "scale": {"range": list(SAFE_COLOURS)},
            },
            "tooltip": [{"field": "person"}, {"field": "camera"}, {"field": "when"}],
        },
    }


def films_of(run_dir: Path) -> dict[str, Path]:
    """Name -> video of a run, the mosaic first: `<camera>.mp4`, or the segments of a live run, newest first."""
    folder = run_dir / "video"
    found = {path.stem: path for path in sorted(folder.glob("*.mp4"))}
    for path in sorted(folder.glob("*/*.mp4"), reverse=True):
        found[f"{path.parent.name} {path.stem}"] = path
    return dict(sorted(found.items(), key=lambda item: not item[0].startswith("mosaic")))


def log_of(run_dir: Path) -> list[Decision]:
    """The decisions of a run that goes on. Raises JournalError."""
    place = run_dir / "journal" if (run_dir / "journal").is_dir() else run_dir
    return read_decisions(place / "decisions.jsonl")


def log_now(run_dir: Path) -> RunLog:
    """Decisions and corrections of a finished run; read again only when they have changed. Raises EditError,
    JournalError.
    """
    return _log_at(run_dir, _stamp(run_dir))


def ids_now(run_dir: Path) -> dict[StayKey, tuple[int, float]]:
    """(camera, track_id) -> (global id, probability) of a finished run, as they are now; as `log_now`."""
    return _ids_at(run_dir, _stamp(run_dir))


def _stamp(run_dir: Path) -> tuple[int, ...]:
    files = [run_dir / name for name in ("decisions.jsonl", "corrections.jsonl", "assignments.csv", "stays.csv")]
    return tuple(n for f in files if f.is_file() for n in (f.stat().st_mtime_ns, f.stat().st_size))


@lru_cache(maxsize=3)
def _log_at(run_dir: Path, stamp: tuple[int, ...]) -> RunLog:
    return read_log(run_dir)


@lru_cache(maxsize=3)
def _ids_at(run_dir: Path, stamp: tuple[int, ...]) -> dict[StayKey, tuple[int, float]]:
    return _log_at(run_dir, stamp).ids


def on_site_now(decisions: Sequence[Decision], most: int = 20) -> list[dict[str, Any]]:
    """What a going run said last: the latest decisions, newest first."""
    return [
        {
            "when": clock_text(d.time_s),
            "person": f"P{d.global_id}",
            "camera": d.camera,
            "said": d.kind,
            "sure": round(d.probability, 3),
        }
        for d in list(decisions)[: -most - 1 : -1]
    ]


def in_one_line(error: BaseException) -> str | None:
    """What to show for an error that a user can mend; None for a bug."""
    return str(error) if code_of(error) is not None else None
