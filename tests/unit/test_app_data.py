"""What the app shows, without a browser: persons, candidates, charts, pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.app_data import (
    AppError,
    candidate_rows,
    delay_chart,
    ends_of,
    films_of,
    nats_chart,
    on_site_now,
    persons_of,
    runs_of,
    timeline_chart,
)
from pipeline.app_pictures import cut, picture_at
from pipeline.video import VideoWriter
from st_model.sightings import Candidate, Decision
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

NAN = float("nan")
G0, B0 = 20.0, -12.0


def candidate(person: int, cosine: float, delay_s: float, transition: float, p: float) -> Candidate:
    odds = G0 * cosine + B0 + math.log(transition)
    return Candidate(person, cosine, delay_s, transition, 1 / (1 + math.exp(-odds)), p, "a")


DECISION = Decision(
    "b",
    9,
    31.0,
    3,
    "match",
    (candidate(3, 0.8, 9.0, 4.0, 0.9), candidate(4, 0.5, 20.0, 0.5, 0.07), Candidate(None, 0.0, NAN, 1.0, 0.1, 0.03)),
)
STAYS = [
    {
        "global_id": 3,
        "camera": "a",
        "track_id": 1,
        "entered_s": 10.0,
        "left_s": 20.0,
        "dwell_s": 10.0,
        "probability": 1.0,
    },
    {
        "global_id": 3,
        "camera": "b",
        "track_id": 9,
        "entered_s": 29.0,
        "left_s": 35.0,
        "dwell_s": 6.0,
        "probability": 0.9,
    },
    {"global_id": 4, "camera": "a", "track_id": 2, "entered_s": 5.0, "left_s": 9.0, "dwell_s": 4.0, "probability": 0.7},
]


def test_persons_in_order_of_appearance():
    four, three = persons_of(STAYS)
    assert (four.global_id, four.way, four.stays) == (4, "a", 1)
    assert (three.way, three.first_s, three.last_s, three.in_view_s, three.least_sure) == (
        "a → b",
        10.0,
        35.0,
        16.0,
        0.9,
    )


def test_candidates_with_what_spoke_for_them_and_where_they_came_from():
    log = [Decision("a", 1, 12.0, 3, "new"), Decision("a", 2, 7.0, 4, "new"), DECISION]
    rows = candidate_rows(log, 2, ends_of(log, STAYS))
    assert [(r.name, r.chosen) for r in rows] == [("P3", True), ("P4", False), ("a new person", False)]
    assert [r.stay for r in rows] == [("a", 1), ("a", 2), None]
    assert rows[0].nats_appearance == pytest.approx(G0 * 0.8 + B0)
    assert rows[0].nats_delay == pytest.approx(math.log(4.0)) and rows[2].nats_delay is None
    chart = nats_chart(rows)
    assert chart is not None and len(chart["data"]["values"]) == 4
    assert nats_chart(rows[2:]) is None


def test_a_delay_on_the_histogram():
    tables = TransitionTables(TableSettings(horizon_s=200.0))
    assert delay_chart(tables, "a", "b", []) is None  # nothing learnt, nothing to show
    tables.add([Increment("a", "b", 0, tables.settings.bin_of(9.0) or 0, ONE)] * 8)
    chart = delay_chart(tables, "a", "b", [("P3", 9.0, "#123456"), ("P4", 60.0, "#654321")])
    assert chart is not None
    bars, line, rules = chart["layer"]
    peak = max(bars["data"]["values"], key=lambda row: row["seen"])
    assert peak["from_s"] <= 9.0 < peak["to_s"] and peak["seen"] == pytest.approx(0.5)  # all of it in 2 s
    assert max(line["data"]["values"], key=lambda row: row["expected"]) == peak
    assert [rule["delay_s"] for rule in rules["data"]["values"]] == [9.0, 60.0]
    low, high = bars["encoding"]["x"]["scale"]["domain"]
    assert low <= 9.0 and high >= 60.0


def test_timeline_and_what_was_said_last():
    values = timeline_chart(STAYS)["data"]["values"]
    assert [v["from_s"] for v in values] == [5.0, 24.0, 0.0]
    assert len(timeline_chart(STAYS, most=1)["data"]["values"]) == 1 and timeline_chart([])["data"]["values"] == []
    assert on_site_now([DECISION, Decision("a", 1, 40.0, 8, "new")])[0]["person"] == "P8"


def test_films_and_runs_that_are_there(tmp_path: Path):
    for name in ("a.mp4", "mosaic.mp4", "b/2026-11-22T10-00-00Z.mp4", "b/2026-11-22T11-00-00Z.mp4"):
        path = tmp_path / "video" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(films_of(tmp_path)) == ["mosaic", "a", "b 2026-11-22T11-00-00Z", "b 2026-11-22T10-00-00Z"]
    with pytest.raises(AppError, match="there is no run in it"):
        runs_of(tmp_path)
    part = tmp_path / "long" / "parts" / "2026-11-22T00-00-00Z"
    part.mkdir(parents=True)
    (part / "run.json").write_text("{}")
    (tmp_path / "long" / "journal").mkdir()
    assert {(e.name, e.state) for e in runs_of(tmp_path)} == {("long", "going"), (f"long/{part.name}", "broken")}


def test_a_picture_out_of_a_film(tmp_path: Path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for n in range(60):
            writer.write(np.full((64, 64, 3), 4 * n, np.uint8), n / 10)
    for n in (0, 7, 31, 59):
        picture = picture_at(tmp_path / "a.mp4", n / 10)
        assert picture is not None and abs(int(picture.mean()) - 4 * n) <= 3, n
    (tmp_path / "no.mp4").write_bytes(b"no film")
    assert picture_at(tmp_path / "no.mp4", 1.0) is None
    image = np.full((60, 80, 3), 10, np.uint8)
    shapes = {cut(image, box).shape for box in ([10, 10, 20, 40], [-5, 20, 5, 50], [70, 40, 90, 70])}
    assert shapes == {cut(image, [30, 10, 40, 40]).shape}  # alike, also at the edge
