"""The state machine of a live camera under any order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_state import CameraState, Connecting, LiveSettings, Lost, Picture, Tick, after

SETTINGS = LiveSettings()
EVENTS = st.sampled_from([Connecting(), Picture(), Tick(), Lost("gone"), Lost("wrong password", lasting=True)])
STORIES = st.lists(st.tuples(EVENTS, st.floats(0, 20), st.floats(0, 1, exclude_max=True)), max_size=60)

ALLOWED = {
    ("connecting", "live"): Picture,
    ("connecting", "backing off"): Lost,
    ("connecting", "failed"): Lost,
    ("live", "stalled"): Tick,
    ("stalled", "live"): Picture,
    ("backing off", "connecting"): Connecting,
    ("failed", "connecting"): Connecting,
}


@given(STORIES)
def test_whatever_happens(story):
    state, now_s = CameraState(), 0.0
    for event, pause_s, chance in story:
        now_s += pause_s
        before, state = state, after(state, event, now_s, SETTINGS, chance)
        if before.phase != state.phase:
            kinds = {ALLOWED.get((before.phase, state.phase), type(event))}
            if isinstance(event, Lost):
                kinds = {Lost}  # from anywhere
            assert type(event) in kinds
            assert state.since_s == now_s
        assert sum(state.seconds(now_s).values()) == pytest.approx(now_s)
        assert (state.retry_at_s is not None) == (state.phase in ("backing off", "failed"))
        if isinstance(event, Lost):
            longest_s = SETTINGS.refused_retry_s if event.lasting else SETTINGS.backoff_max_s
            shortest_s = longest_s / 2 if event.lasting else SETTINGS.backoff_first_s / 2
            assert now_s + shortest_s <= state.retry_at_s <= now_s + longest_s
            assert state.reason == event.reason and state.tries >= 1
        if isinstance(event, Picture):
            assert state.phase == "live" and state.reason is None
        assert state.connections >= before.connections
    assert SETTINGS.backoff_max_s + 1 < 3  # with opening: pictures flow within 3 s of a camera's return


def test_pauses_grow_and_stay_bounded_and_begin_anew_after_a_good_while():
    state, pauses = CameraState(), []
    for n in range(2000):
        state = after(state, Lost("refused"), float(n), SETTINGS, chance=0.999999)
        pauses.append(state.retry_at_s - n)
        state = after(state, Connecting(), float(n), SETTINGS, 0.0)
    assert pauses[:4] == pytest.approx([0.25, 0.5, 1.0, 1.5], abs=1e-5) and max(pauses) <= 1.5
    state = after(state, Picture(), 3000.0, SETTINGS, 0.0)
    assert after(state, Lost("gone"), 3000.5, SETTINGS, 0.5).tries == 2001  # one picture is no recovery
    state = after(state, Tick(), 3001.6, SETTINGS, 0.0)
    assert (state.phase, state.tries) == ("live", 0)
    assert after(state, Tick(), 3002.1, SETTINGS, 0.0).phase == "stalled"
    assert after(state, Lost("gone"), 3001.7, SETTINGS, 0.5).tries == 1


def test_settings_that_make_no_sense_are_refused():
    for wrong in (
        {"connect_timeout_s": 0},
        {"stall_timeout_s": -1},
        {"backoff_max_s": 0.1},
        {"refused_retry_s": float("inf")},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LiveSettings(**wrong)
