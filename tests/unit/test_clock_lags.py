"""Clocks by looks: what jumps is found, what is sound stays, strangers say nothing, and `clocks` tells it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from door import identrix

from pipeline.sightings_file import write_sightings
from st_model.calibration import Calibration
from st_model.clock_lags import LagSpan, clock_lags, lag_steps, lags_of_stays
from st_model.sightings import Sighting

JUMP_S, AT_S, END_S = -3200.0, 9000.0, 18000.0
DIM = 32


def walks(seed: int, *, people: int = 500, jumps: tuple[str, ...] = (), cameras: str = "abcde", noise: float = 0.5):
    """Closed stays of people who cross the site one way or the other; clocks of `jumps` go back by 3,200 s."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        looks, now_s = rng.normal(size=DIM), rng.uniform(0, END_S)
        for camera in cameras if rng.random() < 0.5 else cameras[::-1]:
            seen = looks + noise * rng.normal(size=DIM)
            wrong_s = JUMP_S if camera in jumps and now_s >= AT_S else 0.0
            at_s = now_s + wrong_s
            embedding = (seen / np.linalg.norm(seen)).astype(np.float32)
            rows.append(Sighting(camera, person, at_s, at_s + 6.0, at_s + 7.0, True, embedding))
            now_s += 30.0 + rng.uniform(0, 20)
    return sorted(rows, key=lambda s: s.emitted_s)


def found(rows):
    return lags_of_stays(
        [s.camera for s in rows],
        np.array([s.entered_s for s in rows]),
        np.array([s.last_s for s in rows]),
        np.stack([s.embedding for s in rows]),
    )


def test_a_camera_that_jumps_is_found_and_nobody_else() -> None:
    steps = lag_steps(found(walks(1, jumps=("c",))))
    first, last = (s for s in steps if s.camera == "c")
    assert abs(first.offset_s) < 2 * first.error_s
    assert last.offset_s == pytest.approx(JUMP_S, abs=2 * last.error_s) and last.error_s < 40.0
    assert AT_S + JUMP_S - 2400.0 <= last.from_s <= AT_S + 2400.0  # in between its clock lives the same time twice
    others = [s for s in steps if s.camera != "c"]
    assert sorted(s.camera for s in others) == list("abde")
    assert all(abs(s.offset_s) < 2 * s.error_s for s in others)


def test_of_three_cameras_the_odd_one_is_named_and_the_others_are_not_accused() -> None:
    rows = [
        replace(s, **{k: getattr(s, k) + 900.0 for k in ("entered_s", "last_s", "emitted_s")}) if s.camera == "a" else s
        for s in walks(2, cameras="abc")
    ]
    steps = lag_steps(found(rows))
    assert [s.offset_s for s in steps if s.camera == "a"] == [pytest.approx(900.0, abs=60.0)]
    assert all(abs(s.offset_s) < 3 * s.error_s for s in steps if s.camera != "a")


@pytest.mark.parametrize("looks", ["all differ", "twenty outfits"])
def test_strangers_say_nothing(looks) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        at_s = rng.uniform(0, 12000, 900)
        rows = rng.normal(size=(900, 64))
        if looks == "twenty outfits":
            rows = 0.6 * rows + rng.normal(size=(20, 64))[rng.integers(0, 20, 900)]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        spans = lags_of_stays(list(rng.choice(list("abcd"), 900)), at_s, at_s + 5, rows.astype(np.float32))
        assert len(spans) == 20 and not any(s.supported for s in spans)


def test_thin_traffic_waits_for_enough_stays() -> None:
    rows = walks(3, people=40)
    spans = found(rows)
    assert spans and all(s.to_s - s.from_s > 4000.0 for s in spans)
    assert all(sum(r.camera == s.camera and s.from_s <= r.entered_s + 3 < s.to_s for r in rows) >= 10 for s in spans)
    assert found([r for r in rows if r.camera == "a"]) == []
    assert found(walks(3, people=9)) == []
    assert found([replace(r, embedding=rows[0].embedding) for r in rows]) == []  # all look the same
    assert lags_of_stays([], np.zeros(0), np.zeros(0), np.zeros((0, 4), np.float32)) == []


def test_small_wandering_is_no_step_and_short_steps_are_joined() -> None:
    def spans(*lags_s):
        return [LagSpan("a", 2400.0 * n, 2400.0 * n + 2400, x, 8.0, 20.0, 1.0, 0.1, True) for n, x in enumerate(lags_s)]

    assert len(lag_steps(spans(10, -20, 40, 5, -30))) == 1
    assert [s.from_s for s in lag_steps(spans(10, -5, -100, -110, -95))] == [0.0, 4800.0]
    assert len(lag_steps(spans(10, -5, -100, -110, -95), least_step_s=150.0)) == 1
    assert lag_steps([replace(s, supported=False) for s in spans(0, 900)]) == []
    assert lag_steps([]) == []


@pytest.mark.parametrize("wrong", ["times", "vectors", "not finite", "span"])
def test_arrays_that_do_not_fit_are_refused(wrong) -> None:
    times, rows = np.arange(4.0), np.eye(4, dtype=np.float32)
    if wrong == "not finite":
        times[1] = np.nan
    vectors = rows[:3] if wrong == "vectors" else rows
    last = times[:2] if wrong == "times" else times
    with pytest.raises(ValueError, match=r"stays need times|finite|longer than nothing"):
        clock_lags(list("abab"), times, last, vectors, Calibration(9.0, -4.0), span_s=0.0 if wrong == "span" else 60.0)


def test_clocks_tells_the_step_and_the_line(tmp_path) -> None:
    write_sightings(tmp_path / "sightings.parquet", walks(4, people=300, jumps=("c",), noise=0.3))
    said = identrix("clocks", tmp_path / "sightings.parquet")
    assert said.exit_code == 0
    assert "by looks, against all other cameras together:" in said.stdout
    assert "- {name: c, offset_s: 3" in said.stdout
    plain = json.loads(identrix("clocks", tmp_path, "--json").stdout)
    steps = [s for s in plain["by_looks"] if s["camera"] == "c"]
    assert steps[-1]["offset_s"] == pytest.approx(JUMP_S, abs=80.0)
    assert plain["silence"] is None and {s["camera"] for s in plain["lags"]} == set("abcde")


SILENT = {
    "no sightings": ([], "no closed stays of two cameras"),
    "one camera": (walks(5, people=30, cameras="a"), "no closed stays of two cameras"),
    "too few": (walks(5, people=4), "no camera has 10 closed stays, or all look the same"),
}


@pytest.mark.parametrize("case", SILENT)
def test_too_little_is_said_in_one_line(tmp_path, case) -> None:
    rows, why = SILENT[case]
    write_sightings(tmp_path / "sightings.parquet", rows)
    said = identrix("clocks", tmp_path / "sightings.parquet")
    assert said.exit_code == 0
    assert [line for line in said.stdout.splitlines() if "looks say" in line] == [
        f"looks say nothing about clocks: {why}"
    ]
    assert json.loads(identrix("clocks", tmp_path, "--json").stdout)["by_looks"] == []


def test_embeddings_of_two_lengths_are_refused_in_one_line(tmp_path, monkeypatch) -> None:
    rows = walks(6, people=12)
    short = np.ones(4, np.float32) / 2
    monkeypatch.setattr("pipeline.replay.read_sightings", lambda path: [*rows[:-1], replace(rows[-1], embedding=short)])
    (tmp_path / "sightings.parquet").touch()
    monkeypatch.setattr("pipeline.replay._fitted_to", lambda sightings, match: match)
    said = identrix("clocks", tmp_path / "sightings.parquet")
    assert said.exit_code == 2
    assert said.stderr.strip().splitlines()[-1].endswith("embeddings have 4 and 32 numbers; one length was expected")
