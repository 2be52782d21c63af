"""Decoys: who they are made of, and what they do to caution."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_model.calibration import Calibration
from st_model.decoys import LEAST_CAUTION, MOST_CAUTION, STEP, decoy, learn_caution, next_caution
from st_model.gallery import Stay
from st_model.hypotheses import MatchSettings
from st_model.matcher import OnlineMatcher
from st_model.sightings import Sighting
from st_model.transitions import TableSettings, TransitionTables

AXES = TableSettings(horizon_s=300.0)
SETTINGS = MatchSettings(calibration=Calibration(20.0, -10.0), caution=2.0)
RED, BLUE, GREEN = np.eye(3, dtype=np.float32)


def seen(*stays: tuple[str, float, np.ndarray], settings: MatchSettings = SETTINGS) -> OnlineMatcher:
    """A matcher after stays (camera, entered_s, look) of three seconds each."""
    matcher = OnlineMatcher(settings, itertools.count(1).__next__, TransitionTables(AXES))
    for n, (camera, entered_s, look) in enumerate(stays):
        matcher.submit(Sighting(camera, n, entered_s, entered_s + 3, entered_s + 3, True, look))
    matcher.finish()
    return matcher


def arrival(entered_s: float, look: np.ndarray, camera: str = "a") -> Stay:
    return Stay(camera, 99, entered_s, entered_s + 3, True, look, 4)


def learnt(matcher: OnlineMatcher, stay: Stay, settings: MatchSettings = SETTINGS) -> float:
    before = matcher.state.caution_learnt
    learn_caution(matcher.state, stay, matcher.tables, settings, crowd=1.0)
    return matcher.state.caution_learnt - before


def test_a_decoy_wears_the_looks_of_who_left_the_same_camera_long_ago() -> None:
    matcher = seen(("a", 0, RED), ("b", 10, BLUE))
    found = decoy(matcher.state, arrival(1000, GREEN), AXES.horizon_s)
    assert found is not None
    fake, own = found
    assert (fake.embedding == RED).all() and own == matcher.state.teacher.stays[0].global_id
    assert (fake.camera, fake.entered_s, fake.global_id) == ("a", 1000, 0)


@pytest.mark.parametrize(
    "stays",
    [
        pytest.param([], id="nobody known"),
        pytest.param([("a", 900, RED)], id="left a moment ago"),
        pytest.param([("b", 0, RED)], id="another camera"),
        pytest.param([("a", 0, RED), ("b", 900, RED)], id="came back since"),
    ],
)
def test_without_somebody_who_cannot_be_here_there_is_no_decoy(stays: list[tuple[str, float, np.ndarray]]) -> None:
    matcher = seen(*stays)
    assert decoy(matcher.state, arrival(1000, GREEN), AXES.horizon_s) is None
    assert learnt(matcher, arrival(1000, GREEN)) == 0.0


def test_where_the_teacher_remembers_too_little_decoys_are_made_of_the_gallery() -> None:
    """More stays than it remembers close within the horizon."""
    matcher = seen(("a", 0, RED), ("b", 10, BLUE), ("a", 400, GREEN))
    teacher = matcher.state.teacher
    teacher.forget({("a", 0), ("b", 1)})
    assert teacher.ended_before(700.0) == 1  # the green one, which is asked first
    teacher.forget({("a", 2)})
    found = {}
    for teacher.closed_stays in range(6):
        fake, own = decoy(matcher.state, arrival(1000, BLUE), AXES.horizon_s) or (None, 0)
        assert fake is not None and fake.global_id == 0
        found[own] = fake.embedding.tolist()
    assert found == {1: RED.tolist(), 3: GREEN.tolist()}
    assert decoy(matcher.state, arrival(600, BLUE), AXES.horizon_s) is not None  # of red alone: green has just left
    assert decoy(matcher.state, arrival(1000, BLUE, "c"), AXES.horizon_s) is None


def test_a_decoy_taken_for_somebody_raises_caution_and_its_own_identity_does_not_count() -> None:
    lonely = seen(("a", 0, RED), ("b", 950, BLUE))
    assert learnt(lonely, arrival(1000, GREEN)) == pytest.approx(-STEP * SETTINGS.mistaken)
    like = np.array([0.99, 0.14, 0], np.float32)
    met = seen(("a", 0, RED), ("b", 950, like), settings=replace(SETTINGS, revival=60.0))  # red stays gone: two people
    assert len(met.state.gallery) == 2
    assert learnt(met, arrival(1000, GREEN)) == pytest.approx(STEP * (1 - SETTINGS.mistaken))
    assert learnt(met, arrival(1000, GREEN), replace(SETTINGS, mistaken=0.0)) == 0.0


def test_the_matcher_decides_with_the_caution_it_learnt_and_counts_from_the_setting() -> None:
    far = [("a", 400.0 * n, look) for n, look in enumerate((RED, BLUE, GREEN) * 4)]
    matcher = seen(*far)
    assert matcher.state.caution_learnt < 0.0
    assert seen(*far, settings=replace(SETTINGS, mistaken=0.0)).state.caution_learnt == 0.0
    strict = replace(SETTINGS, caution=5.0)
    assert seen(*far, settings=strict).state.caution_learnt == pytest.approx(matcher.state.caution_learnt)


@given(st.lists(st.floats(-4, 12), min_size=200, max_size=600), st.floats(0.02, 0.3), st.floats(1, 6))
def test_in_the_long_run_a_fixed_share_of_decoys_is_mistaken(scores: list[float], share: float, start: float) -> None:
    """|share of mistakes - share| <= distance caution went / (STEP n), as long as no bound was met."""
    caution, mistakes, bound = start, 0, False
    for score in scores:
        mistakes += score > caution
        caution = next_caution(caution, score > caution, share)
        bound |= caution in (LEAST_CAUTION, MOST_CAUTION)
        assert LEAST_CAUTION <= caution <= MOST_CAUTION
    if not bound:
        assert mistakes / len(scores) - share == pytest.approx((caution - start) / (STEP * len(scores)), abs=1e-9)


@pytest.mark.parametrize("wrong", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="mistaken"):
        MatchSettings(mistaken=wrong)
