"""Invariants of the online matcher: equal to the slow oracle, one to one, independent teaching, replay, shifted
clocks.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.oracle_matcher import slow_assignment, slow_log_weights, slow_merges
from sighting_streams import stream

from st_model.appearance import raw_basis
from st_model.calibration import Calibration
from st_model.deciding import _assign
from st_model.decoys import decoy, learn_caution
from st_model.gallery import Gallery, Identity, Stay
from st_model.hypotheses import NEGLIGIBLE, Hypotheses, MatchSettings, abouts, hypotheses
from st_model.ledger import aliases, final_ids
from st_model.matcher import OnlineMatcher, Outcome
from st_model.merging import find_merges, join_gain
from st_model.sightings import Sighting
from st_model.teaching import Teacher
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

AXES = TableSettings(horizon_s=300.0)
SETTINGS = MatchSettings(calibration=Calibration(14.0, -7.0), caution=0.5, centre_from=20, merge_every_s=60.0)
RED = np.array([1.0, 0.0], np.float32)
seeds = st.integers(0, 10_000)
few = settings(max_examples=6, deadline=None)


def run(rows: list[Sighting], step_s: float | None = None, tables: TransitionTables | None = None):
    """(matcher, everything it said); the clock advances at every row, or in steps."""
    matcher = OnlineMatcher(SETTINGS, itertools.count(1).__next__, tables or TransitionTables(AXES))
    total = Outcome()

    def take(out: Outcome) -> None:
        total.decisions.extend(out.decisions)
        total.corrections.extend(out.corrections)
        total.increments.extend(out.increments)

    clock = rows[0].emitted_s
    for row in rows:
        if step_s is None:
            take(matcher.advance(row.emitted_s))
        else:
            while clock + step_s <= row.emitted_s:
                clock += step_s
                take(matcher.advance(clock))
        matcher.submit(row)
    take(matcher.finish())
    return matcher, total


def taught_tables() -> TransitionTables:
    tables = TransitionTables(AXES)
    walks = [("a", "b", 10.0), ("b", "c", 20.0), ("c", "a", 30.0), ("a", "a", 70.0)]
    tables.add([Increment(x, y, 0, AXES.bin_of(t) or 0, 30 * ONE) for x, y, t in walks])
    return tables


@few
@given(seeds)
def test_hypotheses_equal_the_oracle(seed: int) -> None:
    rows, _ = stream(seed)
    cut = len(rows) * 2 // 3
    tables = taught_tables()
    matcher, _ = run(rows[:cut], tables=tables)
    for row in rows[cut:]:
        if row.key in {s.key for i in matcher.state.gallery.identities.values() for s in i.stays}:
            continue
        began_s = row.entered_s - 30.0 * (row.track_id % 3)  # while somebody was in view elsewhere, too
        stay = Stay(row.camera, row.track_id, began_s, row.last_s, row.closed, row.embedding, row.n_crops)
        stay.crowd = 1.0 + row.track_id % 4
        slow = slow_log_weights(stay, matcher.state.gallery, tables, SETTINGS, 0.3)
        fast = hypotheses(stay, matcher.state.gallery, tables, SETTINGS, 0.3)
        assert fast.new == pytest.approx(slow[None])
        best = max(slow.values())
        worth = {i: w for i, w in slow.items() if i is not None and w > best - NEGLIGIBLE + 0.01}
        found = dict(zip(fast.ids.tolist(), fast.log_weight.tolist(), strict=True))
        assert worth.keys() <= found.keys() <= slow.keys()
        for i, w in found.items():
            assert w == pytest.approx(slow[i], abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from("abc"))
def test_a_decoy_is_mistaken_when_the_oracle_says_so(seed: int, camera: str) -> None:
    rows, _ = stream(seed, people=8, visits=3, dim=4)  # four columns: strangers are often alike
    tables = taught_tables()
    matcher, _ = run(rows, tables=tables)
    state, entered_s = matcher.state, rows[-1].emitted_s + 20.0
    stay = Stay(camera, 999, entered_s, entered_s + 3.0, True, rows[0].embedding, 1)
    found = decoy(state, stay, AXES.horizon_s)
    before = state.caution_learnt
    learn_caution(state, stay, tables, SETTINGS, crowd=1.0)
    if found is None:
        assert state.caution_learnt == before
        return
    fake, own = found
    assert all(s.last_s < entered_s - AXES.horizon_s for s in state.gallery.identities[own].stays)
    slow = slow_log_weights(fake, state.gallery, tables, SETTINGS, state.new_share(camera, SETTINGS))
    mistaken = any(w > slow[None] for i, w in slow.items() if i not in (None, own))
    assert (state.caution_learnt > before) is mistaken


@few
@given(seeds)
def test_merges_equal_the_oracle(seed: int) -> None:
    rows, truth = stream(seed, people=5, visits=3)
    rng = np.random.default_rng(seed)
    gallery = Gallery(replace(raw_basis(SETTINGS.calibration), agreement=0.5))
    ids: dict[tuple[str, int], int] = {}
    for row in rows:  # everybody has two ids, given at random
        if row.closed:
            n = ids.setdefault(row.key, 1 + 2 * truth[row.key] + int(rng.integers(2)))
            stay = Stay(row.camera, row.track_id, row.entered_s, row.last_s, True, row.embedding, row.n_crops)
            gallery.give(stay, n)
            gallery.confirm(stay)
    for n in rng.choice(list(gallery.identities), 2, replace=False).tolist():  # slots are free and used again
        stays = list(gallery.identities[n].stays)
        gallery.remove(n)
        for stay in stays[: int(rng.integers(len(stays) + 1))]:
            stay.global_id = 0
            gallery.give(stay, n)
            gallery.confirm(stay)
    tables, settings = taught_tables(), replace(SETTINGS, merge_at=0.6)
    changed = sorted(gallery.identities)
    time_s = 1000.0 + float(rng.integers(0, 900))  # some left longer ago than tables reach
    slow = slow_merges(gallery, changed, tables, settings, 0.3, time_s)
    fast = find_merges(gallery, changed, tables, settings, lambda *_: 0.3, time_s)
    assert [(m.global_id, m.into_id) for m in fast] == slow
    for identity in gallery.identities.values():
        if len(identity.prototypes) > 1:
            alone = [gallery.vector_of(identity, without=s) @ gallery.vector(s) for s in identity.prototypes]
            assert gallery.agreements(identity) == pytest.approx(alone, abs=1e-5)


@few
@given(seeds)
def test_who_was_in_two_cameras_at_once_is_joined_only_where_that_may_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = Identity(1), Identity(2)
    for n in range(12):
        entered_s = float(rng.uniform(0, 400))
        stay = Stay("abcd"[rng.integers(4)], n, entered_s, entered_s + float(rng.uniform(1, 25)), True, RED, 1)
        (one, other)[n % 2].stays.append(stay)
    for identity in (one, other):
        identity.stays.sort(key=lambda s: s.order)
    tables = taught_tables()  # nobody is seen at once by a, b and c; nothing is known of d
    apart = any(
        min(s.last_s, t.last_s) - max(s.entered_s, t.entered_s)
        > (SETTINGS.tolerance_s if s.camera == t.camera else 5.0 if "d" not in s.camera + t.camera else 1e9)
        for s in one.stays
        for t in other.stays
    )
    assert (join_gain(one, other, tables, SETTINGS) is None) == apart


@given(st.lists(st.floats(0, 400), max_size=5), seeds)
def test_people_about_are_counted_for_many_arrivals_as_for_one(entered_s: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    gallery = Gallery(raw_basis(SETTINGS.calibration))
    for n in range(6):
        last_s = float(rng.integers(-300, 100))
        gallery.give(Stay("a", n, last_s - 5, last_s, True, np.eye(2, dtype=np.float32)[n % 2], 1), n + 1)
    gallery.remove(int(rng.integers(1, 7)))
    tables = TransitionTables(AXES)
    slow = []
    for t in entered_s:
        expired = sum(i.stays[0].last_s < t - AXES.horizon_s for i in gallery.identities.values())
        slow.append(5 - expired * (1 - np.exp(-SETTINGS.revival)))
    assert abouts(gallery, entered_s, tables, SETTINGS) == pytest.approx(slow)


@given(st.integers(1, 4), st.integers(1, 4), seeds)
def test_assignment_is_one_to_one_and_best(arrivals: int, people: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(arrivals):
        ids = np.sort(rng.choice(np.arange(1, people + 1), rng.integers(0, people + 1), replace=False))
        blank = np.zeros(len(ids))
        found.append(
            Hypotheses(ids, blank, blank, blank, rng.normal(0, 3, len(ids)), ("a",) * len(ids), float(rng.normal()))
        )
    chosen = _assign(found)
    given_ids = [int(h.ids[c]) for h, c in zip(found, chosen, strict=True) if c is not None]
    assert len(given_ids) == len(set(given_ids))
    total = sum(h.new if c is None else float(h.log_weight[c]) for h, c in zip(found, chosen, strict=True))
    weights = [{None: h.new, **dict(zip(h.ids.tolist(), h.log_weight.tolist(), strict=True))} for h in found]
    assert total == pytest.approx(slow_assignment(weights))


@few
@given(seeds)
def test_decisions_are_probabilities_and_ids_are_honest(seed: int) -> None:
    rows, truth = stream(seed)
    matcher, out = run(rows)
    for d in out.decisions:
        assert sum(c.probability for c in d.candidates) == pytest.approx(1.0, abs=1e-9)
        assert any(c.global_id is None for c in d.candidates)
        assert -1 <= d.margin <= 1
    ids = final_ids(out.decisions, out.corrections)
    assert ids.keys() == truth.keys()
    alias = aliases(out.corrections)  # raises on a circle
    assert all(new < old for old, new in alias.items())  # the older id survives
    live = matcher.state.gallery.identities
    assert not live.keys() & alias.keys()  # a merged id is never used again
    for global_id, identity in live.items():
        for a, b in itertools.combinations(identity.stays, 2):
            overlap = min(a.last_s, b.last_s) - max(a.entered_s, b.entered_s)
            assert a.camera != b.camera or overlap <= SETTINGS.tolerance_s
        assert all(ids[s.key][0] == global_id for s in identity.stays)


@few
@given(seeds, st.sampled_from([0.25, 1.0, 7.0]))
def test_replay_is_exact_however_often_the_clock_is_told(seed: int, step_s: float) -> None:
    rows, _ = stream(seed)
    first, second = run(rows)[1], run(rows, step_s)[1]
    assert repr(first) == repr(second)


@few
@given(seeds, st.sampled_from([-512.0, 4096.0]))
def test_shifting_all_clocks_changes_nothing(seed: int, shift_s: float) -> None:
    rows, _ = stream(seed)
    later = [
        replace(s, entered_s=s.entered_s + shift_s, last_s=s.last_s + shift_s, emitted_s=s.emitted_s + shift_s)
        for s in rows
    ]
    first, second = run(rows)[1], run(later)[1]
    assert [(d.key, d.global_id, d.kind, d.candidates) for d in first.decisions].__repr__() == [
        (d.key, d.global_id, d.kind, d.candidates) for d in second.decisions
    ].__repr__()
    assert first.increments == second.increments


@few
@given(seeds)
def test_shifting_one_clock_shifts_its_rows(seed: int) -> None:
    rows, _ = stream(seed, noise=0.1)
    basis = raw_basis(SETTINGS.calibration)

    def teach(shift_s: float) -> list[Increment]:
        teacher = Teacher(AXES)
        out = []
        for s in rows:  # in the same order, so that only the clock differs
            if s.closed:
                late = shift_s if s.camera == "b" else 0.0
                stay = Stay(s.camera, s.track_id, s.entered_s + late, s.last_s + late, True, s.embedding, 1)
                out.extend(teacher.close(stay, basis))
        return out

    moved = {("a", "b"): 2, ("b", "c"): -2}
    before = [(*i[:2], i.bin + moved.get((i.from_camera, i.to_camera), 0)) for i in teach(0.0)]
    after = [(*i[:2], i.bin) for i in teach(2 * AXES.bin_s)]
    assert len(set(before) & set(after)) >= 0.6 * len(set(before))


@few
@given(seeds)
def test_teaching_depends_neither_on_tables_nor_on_ids(seed: int) -> None:
    rows, _ = stream(seed)
    cold = run(rows)[1]
    misled = TransitionTables(AXES)
    misled.add([Increment(x, y, 0, 100, 500 * ONE) for x in "abc" for y in "abc"])
    poisoned = run(rows, tables=misled)[1]
    split = any(c.kind == "split" for c in [*cold.corrections, *poisoned.corrections])
    assert split or cold.increments == poisoned.increments


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-3, 3), st.floats(-3, 3), st.floats(1, 40), st.floats(-20, 0))
def test_joint_rises_with_both_streams(s1, s2, r1, r2, g0, b0) -> None:
    from st_model.scoring import joint_calibrated, joint_paper

    low_s, high_s, low_r, high_r = min(s1, s2), max(s1, s2), min(r1, r2), max(r1, r2)
    assert joint_calibrated(low_s, low_r, g0=g0, b0=b0) <= joint_calibrated(high_s, high_r, g0=g0, b0=b0)
    assert joint_paper(low_s, np.exp(low_r)) <= joint_paper(high_s, np.exp(high_r))
