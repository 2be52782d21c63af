"""A matcher that is saved entry by entry and loaded again goes on as if nothing had happened."""

from __future__ import annotations

import itertools
import json

import pytest
from sighting_streams import stream

from st_model.calibration import Calibration
from st_model.live_state import StateKeeper
from st_model.matcher import MatchSettings, OnlineMatcher
from st_model.snapshot import SnapshotError, state_to_dict
from st_model.transitions import TableSettings, TransitionTables

AXES = TableSettings(horizon_s=200.0)
SETTINGS = MatchSettings(calibration=Calibration(20.0, -12.0), centre_from=8, whiten_from=10**6, memory_s=150.0)


def played(rows, matcher, keeper, entries):
    """Feed rows; after each the changes are put where a store would put them."""
    out = []
    for row in rows:
        out += matcher.advance(row.emitted_s).decisions
        matcher.submit(row)
        change = keeper.change(matcher.state, "x")
        for name in change.removed:
            del entries[name]
        entries |= change.changed
    return out


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_saved_and_loaded_at_any_moment_decides_the_same(seed):
    rows, _ = stream(seed, people=12, visits=6)
    ids = itertools.count(1)
    undisturbed = OnlineMatcher(SETTINGS, itertools.count(1).__next__, TransitionTables(AXES))
    expected = played(rows, undisturbed, StateKeeper(), {}) + undisturbed.finish().decisions

    matcher, keeper, entries = OnlineMatcher(SETTINGS, ids.__next__, TransitionTables(AXES)), StateKeeper(), {}
    decided = []
    for start in range(0, len(rows), 7):
        decided += played(rows[start : start + 7], matcher, keeper, entries)
        waiting = matcher.state.waiting  # these come again from the Stream
        state, keeper = StateKeeper.load(entries, AXES)
        tables = TransitionTables(AXES)
        tables.add(list(matcher.tables.items()))
        matcher = OnlineMatcher(SETTINGS, ids.__next__, tables, state=state)
        for sighting in waiting:
            matcher.submit(sighting)
    decided += matcher.finish().decisions
    assert [(d.key, d.global_id, d.kind) for d in decided] == [(d.key, d.global_id, d.kind) for d in expected]
    assert list(matcher.tables.items()) == list(undisturbed.tables.items())


def test_everything_a_snapshot_has_is_saved():
    """A field that is added to the matcher's memory must not be forgotten here."""
    rows, _ = stream(4, people=10, visits=6)
    matcher, keeper, entries = (
        OnlineMatcher(SETTINGS, itertools.count(1).__next__, TransitionTables(AXES)),
        StateKeeper(),
        {},
    )
    played(rows[:60], matcher, keeper, entries)
    matcher.state.waiting.clear()
    state, _ = StateKeeper.load(entries, AXES)

    def without_numbers(state):
        """A snapshot, its stays named by what they are instead of by where they stand in a list."""
        saved = state_to_dict(state)
        names = [json.dumps(stay, sort_keys=True) for stay in saved.pop("stays")]
        saved["open"] = [names[n] for n in saved["open"]]
        saved["teacher"]["stays"] = [names[n] for n in saved["teacher"]["stays"]]
        saved["teacher"]["taught"].sort()
        for row in saved["gallery"]["identities"]:
            row[2], row[3] = [names[n] for n in row[2]], [names[n] for n in row[3]]
        return saved | {"names": sorted(names)}

    assert without_numbers(state) == without_numbers(matcher.state)


def test_only_what_changed_is_written():
    rows, _ = stream(5, people=20, visits=6)
    matcher, keeper = OnlineMatcher(SETTINGS, itertools.count(1).__next__, TransitionTables(AXES)), StateKeeper()
    played(rows, matcher, keeper, {})
    matcher.finish()
    keeper.change(matcher.state, "x")
    assert keeper.change(matcher.state, "y").changed == {}


def test_a_damaged_state_is_refused():
    with pytest.raises(SnapshotError, match="damaged"):
        StateKeeper.load({"rest": b"{}"}, AXES)
    with pytest.raises(SnapshotError, match="damaged"):
        StateKeeper.load({"rest": b"not json"}, AXES)
