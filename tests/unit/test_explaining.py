"""Counterfactuals and calibration reports."""

from __future__ import annotations

import numpy as np
import pytest
from sighting_streams import stream

from st_model.calibrating import TooFewStays, calibrate
from st_model.calibration import Calibration
from st_model.explaining import counterfactuals
from st_model.sightings import Candidate, Decision
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

AXES = TableSettings(horizon_s=300.0)
CALIBRATION = Calibration(20.0, -12.0)
NEW = Candidate(None, 0.0, float("nan"), 1.0, 0.3, 0.05)


def test_what_time_decided_is_said() -> None:
    tables = TransitionTables(AXES)
    tables.add([Increment("a", "b", 0, AXES.bin_of(20.0) or 0, 100 * ONE)])
    winner = Candidate(1, 0.70, 20.0, 50.0, 0.9, 0.80, "a")
    loser = Candidate(2, 0.75, 200.0, 0.1, 0.2, 0.15, "a")
    said = {
        c.change: c
        for c in counterfactuals(Decision("b", 1, 0.0, 1, "match", (winner, loser, NEW)), tables, CALIBRATION)
    }
    assert said.keys() == {"appearance", "delay", "no space-time", "prior"}
    assert said["no space-time"].instead == 2
    assert said["appearance"].by == pytest.approx(np.log(0.80 / 0.15) / 20)
    row = tables.log_ratio("a", "b")
    here, there = AXES.bin_of(20.0) or 0, AXES.bin_of(said["delay"].by) or 0
    assert row[there] <= row[here] - np.log(0.80 / 0.15)
    assert said["prior"].by == pytest.approx(np.log(0.80 / 0.05))


def test_what_a_new_person_lacked_is_said() -> None:
    known = Candidate(2, 0.60, 200.0, 1.0, 0.2, 0.05, "a")
    decision = Decision("b", 1, 0.0, 7, "new", (Candidate(None, 0.0, float("nan"), 1.0, 0.3, 0.95), known))
    (only,) = counterfactuals(decision, TransitionTables(AXES), CALIBRATION)
    assert (only.change, only.instead) == ("appearance", 2)
    assert only.by == pytest.approx(np.log(19) / 20)


def test_nothing_else_was_possible() -> None:
    assert counterfactuals(Decision("b", 1, 0.0, 7, "new", (NEW,)), TransitionTables(AXES), CALIBRATION) == []


def test_a_fit_without_labels_beats_a_wrong_calibration() -> None:
    rows, truth = stream(3, people=40, visits=6, dim=24)
    report = calibrate(rows, Calibration(60.0, -6.0))
    checked = calibrate(rows, Calibration(60.0, -6.0), {key: str(person) for key, person in truth.items()})
    assert report.fitted == checked.fitted  # labels are for comparison only
    assert report.labelled is None
    assert checked.labelled is not None
    assert checked.after.error < checked.before.error
    assert report.after.error < report.before.error
    assert report.stays == 240


def test_too_few_stays_are_refused() -> None:
    rows, _ = stream(3, people=1, visits=2)
    with pytest.raises(TooFewStays, match="at least 20"):
        calibrate(rows, CALIBRATION)
