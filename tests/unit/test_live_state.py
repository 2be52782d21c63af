"""A matcher that is saved entry by entry and loaded again goes on as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from sighting_streams import stream

from st_model.appearance import Basis, raw_basis
from st_model.calibration import Calibration
from st_model.gallery import MOST_STAYS, Gallery, Stay
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


@pytest.mark.parametrize("dim", [64, 312])
def test_what_was_restored_decides_the_same_to_the_last_bit(dim):
    """Over more stays than whitening waits for, and with entries in any order, as a hash in Redis gives them."""
    rows, _ = stream(1, people=80, visits=8, dim=dim, noise=1.0)
    settings = MatchSettings(calibration=Calibration(20.0, -12.0), centre_from=72, memory_s=4000.0)
    restore_at = {5, 400, len(rows) - 250, len(rows) - 90, len(rows) - 40}

    def all_of(restored):
        tables, ids = TransitionTables(AXES), itertools.count(1)
        matcher, keeper, entries = OnlineMatcher(settings, ids.__next__, tables), StateKeeper(), {}
        said = []
        for n, row in enumerate(rows):
            said.append(matcher.advance(row.emitted_s))
            matcher.submit(row)
            change = keeper.change(matcher.state, "x")
            entries = {name: value for name, value in entries.items() if name not in change.removed} | change.changed
            if restored and n in restore_at:
                waiting = matcher.state.waiting
                names = random.Random(n).sample(sorted(entries), len(entries))
                state, keeper = StateKeeper.load({name: entries[name] for name in names}, AXES)
                tables = TransitionTables(AXES)
                tables.add(list(matcher.tables.items()))
                tables.version = matcher.tables.version
                matcher = OnlineMatcher(settings, ids.__next__, tables, state=state)
                for sighting in waiting:
                    matcher.submit(sighting)
        said.append(matcher.finish())
        basis, cameras = matcher.state.gallery.basis, [row.camera for row in rows]
        assert basis.projection is not None and matcher.state.teacher.closed_stays > 512
        together = basis.vectors(cameras, np.stack([row.embedding for row in rows]))
        assert np.array_equal(together, np.stack([basis.vector(row.camera, row.embedding) for row in rows]))
        return [repr(outcome) for outcome in said]

    assert all_of(restored=True) == all_of(restored=False)


def test_a_prototype_older_than_the_stays_remembered_follows_the_basis():
    gallery = Gallery(raw_basis(Calibration(20.0, -12.0)))
    look = np.array([1.0, 0.0], np.float32)
    for n in range(MOST_STAYS + 2):
        stay = Stay("ba"[n > 0], n, float(n), n + 0.5, True, look, 1)
        gallery.give(stay, 7)
        if n == 0:
            gallery.confirm(stay)
    person = gallery.identities[7]
    assert person.prototypes[0] not in person.stays
    gallery.change_basis(Basis(np.array([0.0, 0.5], np.float32), {}, None, Calibration(20.0, -12.0), 9))
    expected = np.array([1.0, -0.5]) / np.sqrt(1.25)
    assert np.allclose(gallery.vectors[gallery.slot(7)], expected)


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
