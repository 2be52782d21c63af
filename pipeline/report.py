"""report.html: a finished run on one page, for people. One file without links to anything: it can be mailed.

Reads only what the run folder holds (run.json, stays.csv, transitions.csv, plots/), so it can be written again later.
It shows ids, times and cameras, no pictures of persons.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.annotate import clock_text, person_colour
from pipeline.atomic import write_lines
from pipeline.journal import JournalError, read_facts

MAX_PERSONS = 500  # rows of the table of persons; all of them are in stays.csv
MAX_PICTURES = 24  # transition histograms on the page; all of them are in plots/

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #222; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; } .sub { color: #666; }
table { border-collapse: collapse; } td, th { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #ddd; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.facts { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.2rem 0; }
.facts div { border: 1px solid #ddd; border-radius: .5rem; padding: .5rem 1rem; }
.facts b { display: block; font-size: 1.6rem; } .bad { color: #b30000; }
.chip { border-radius: .3rem; padding: 0 .45rem; } img { max-width: 100%; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem; }
""".strip()


def write_report(run_dir: Path) -> Path:
    """Write report.html into a finished run folder and return its path.

    Raises FileNotFoundError when stays.csv or transitions.csv is missing (not a finished run), JournalError when one
    of the files is damaged, OutputError when the page cannot be written.
    """
    run_dir = Path(run_dir)
    stays, moves = _rows(run_dir / "stays.csv"), _rows(run_dir / "transitions.csv")
    facts = read_facts(run_dir)
    title = f"{facts.get('site') or run_dir.name}"
    parts = [
        f"<h1>{escape(title)}</h1><p class=sub>{escape(_span(stays))}</p>",
        _numbers(stays, moves),
        _section("Who was where", _pictures([run_dir / "plots" / "timeline.png"])),
        _section("Where people go", _pictures([run_dir / "plots" / "cameras.png"]) + _moves_table(moves)),
        _section("Cameras", _camera_table(stays, facts.get("cameras", {}))),
        _section("How long it takes", _histograms(run_dir / "plots")),
        _section("Persons", _person_table(stays)),
    ]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    path = run_dir / "report.html"
    write_lines(path, [page.encode()])
    return path


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; is {path.parent} the folder of a finished run?")
    names = dict.fromkeys(("camera", "from_camera", "to_camera"), pa.string())  # also a camera called "1"
    try:
        options = pacsv.ConvertOptions(column_types=names)
        rows: list[dict[str, Any]] = pacsv.read_csv(path, convert_options=options).to_pylist()
    except pa.ArrowInvalid as error:
        raise JournalError(f"{path}: {error}") from error
    return rows


# ------------------------------------------------------------------------------------------------------- sections


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def _span(stays: Sequence[dict[str, Any]]) -> str:
    if not stays:
        return "nobody was seen"
    first, last = min(s["entered_s"] for s in stays), max(s["left_s"] for s in stays)
    return f"{clock_text(first)} to {clock_text(last)}"


def _numbers(stays: Sequence[dict[str, Any]], moves: Sequence[dict[str, Any]]) -> str:
    persons = {stay["global_id"] for stay in stays}
    travellers = {move["global_id"] for move in moves}
    facts = {
        "persons": len(persons),
        "stays": len(stays),
        "moves between cameras": len(moves),
        "persons seen in more than one camera": len(travellers),
        "median stay": _seconds([stay["dwell_s"] for stay in stays]),
    }
    return "<div class=facts>" + "".join(f"<div><b>{v}</b>{escape(k)}</div>" for k, v in facts.items()) + "</div>"


def _moves_table(moves: Sequence[dict[str, Any]]) -> str:
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for move in moves:
        pairs.setdefault((move["from_camera"], move["to_camera"]), []).append(move)
    rows = [
        (origin, to, len(made), _seconds([m["delay_s"] for m in made]), f"{median(m['probability'] for m in made):.0%}")
        for (origin, to), made in sorted(pairs.items(), key=lambda pair: -len(pair[1]))
    ]
    return _table(("from", "to", "moves", "median delay", "median probability"), rows, numbers=3)


def _camera_table(stays: Sequence[dict[str, Any]], health: dict[str, Any]) -> str:
    names = sorted({stay["camera"] for stay in stays} | set(health))
    rows = []
    for name in names:
        mine, state = [stay for stay in stays if stay["camera"] == name], health.get(name, {})
        dwell = _seconds([stay["dwell_s"] for stay in mine])
        remark = state.get("error") or state.get("warning") or ""
        rows.append((name, remark, state.get("frames_read", ""), len(mine), len({s["global_id"] for s in mine}), dwell))
    return _table(("camera", "remark", "frames", "stays", "persons", "median stay"), rows, numbers=4)


def _person_table(stays: Sequence[dict[str, Any]]) -> str:
    persons: dict[int, list[dict[str, Any]]] = {}
    for stay in stays:
        persons.setdefault(stay["global_id"], []).append(stay)
    order = sorted(persons, key=lambda person: (min(s["entered_s"] for s in persons[person]), person))
    rows = []
    for person in order[:MAX_PERSONS]:
        mine = sorted(persons[person], key=lambda stay: stay["entered_s"])
        way = [stay["camera"] for n, stay in enumerate(mine) if not n or stay["camera"] != mine[n - 1]["camera"]]
        seen_s = sum(stay["dwell_s"] for stay in mine)
        first, last = clock_text(mine[0]["entered_s"]), clock_text(max(stay["left_s"] for stay in mine))
        rows.append((_Chip(person), " → ".join(way), first, last, f"{seen_s:.0f} s"))
    left_out = len(order) - len(rows)
    more = f"<p class=sub>and {left_out} more, in stays.csv</p>" if left_out else ""
    return _table(("person", "way", "first seen", "last seen", "in view"), rows, numbers=3) + more


def _histograms(folder: Path) -> str:
    pictures = sorted(folder.glob("transition *.png"))
    left_out = len(pictures) - MAX_PICTURES
    more = f"<p class=sub>and {left_out} more, in plots/</p>" if left_out > 0 else ""
    body = _pictures(pictures[:MAX_PICTURES])
    return f"<div class=pictures>{body}</div>{more}" if body else ""


def _pictures(paths: Iterable[Path]) -> str:
    return "".join(
        f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        for path in paths
        if path.is_file()
    )


class _Chip(int):
    """A global id, shown in the person's colour."""


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]], numbers: int) -> str:
    """An HTML table; the last `numbers` columns are aligned as numbers."""
    if not rows:
        return ""
    kinds = [""] * (len(heads) - numbers) + [" class=n"] * numbers
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(value)}</td>" for kind, value in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, _Chip):
        blue, green, red = person_colour(value)
        ink = "black" if 0.114 * blue + 0.587 * green + 0.299 * red > 128 else "white"
        return f'<span class=chip style="background:rgb({red},{green},{blue});color:{ink}">P{int(value)}</span>'
    return escape(str(value))


def _seconds(values: Sequence[float]) -> str:
    return f"{median(values):.1f} s" if values else "-"
