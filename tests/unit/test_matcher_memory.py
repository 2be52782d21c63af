"""What the matcher remembers over long times: who is let go, what outlives a merge, what a restored memory repeats."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from sighting_streams import unit

from st_model.appearance import raw_basis
from st_model.calibration import Calibration
from st_model.drift import PairDrift
from st_model.gallery import MOST_STAYS, Gallery, Stay
from st_model.hypotheses import MatchSettings, transition_between
from st_model.matcher import LONGEST_STAY_S, OnlineMatcher
from st_model.matcher_state import MatcherState
from st_model.merging import join_gain
from st_model.sightings import Sighting
from st_model.snapshot import state_from_dict, state_to_dict
from st_model.splitting import find_splits, retractions
from st_model.teaching import Teacher
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

AXES = TableSettings(horizon_s=300.0)
SETTINGS = MatchSettings(calibration=Calibration(14.0, -7.0), caution=0.5)
RED, BLUE = [1.0, 0, 0], [0, 1.0, 0]


def stay(camera: str, track_id: int, entered_s: float, last_s: float, look=RED, closed: bool = True) -> Stay:
    return Stay(camera, track_id, entered_s, last_s, closed, unit(np.asarray(look, float)), 1)


def gallery_of(*people: list[Stay]) -> Gallery:
    """One identity, 1, 2, ..., for each list of stays."""
    gallery = Gallery(raw_basis(SETTINGS.calibration))
    for global_id, stays in enumerate(people, start=1):
        for s in stays:
            gallery.give(s, global_id)
    return gallery


def seen(camera: str, track_id: int, entered_s: float, look=RED, closed: bool = True, **more) -> Sighting:
    return Sighting(camera, track_id, entered_s, entered_s + 3, entered_s + 3, closed, unit(np.asarray(look)), **more)


def matcher(settings: MatchSettings = SETTINGS, tables: TransitionTables | None = None, **more) -> OnlineMatcher:
    return OnlineMatcher(settings, itertools.count(1).__next__, tables or TransitionTables(AXES), **more)


def test_two_who_were_in_view_together_are_never_merged_however_long_ago() -> None:
    first = [stay("door", 0, 0.0, 60.0), *(stay("a", 2 * n, 100.0 * n, 100.0 * n + 5) for n in range(1, 31))]
    second = [stay("door", 1, 5.0, 55.0), *(stay("b", 2 * n + 1, 100.0 * n + 50, 100.0 * n + 55) for n in range(1, 31))]
    gallery = gallery_of(first, second)
    assert join_gain(gallery.identities[1], gallery.identities[2], TransitionTables(AXES), SETTINGS) is None
    del gallery.identities[2].stays[0]
    assert join_gain(gallery.identities[1], gallery.identities[2], TransitionTables(AXES), SETTINGS) is not None


def test_the_newest_prototypes_outlive_a_merge_and_old_ones_keep_the_living_id() -> None:
    old = [stay("a", n, 10.0 * n, 10.0 * n + 5) for n in range(4)]
    new = [stay("bcd"[n % 3], n, 1000.0 + 100 * n, 1005.0 + 100 * n) for n in range(8)]
    gallery = gallery_of(new, old)
    for s in (*new, *old):
        gallery.confirm(s)
    gallery.join(2, 1)
    assert {s.key for s in gallery.identities[1].prototypes} == {s.key for s in new}

    many = [stay("e", n, 10.0 * n, 10.0 * n + 5) for n in range(MOST_STAYS + 10)]
    gallery = gallery_of([stay("f", 0, 5000.0, 5005.0)], many[:3])
    for s in many[:3]:
        gallery.confirm(s)
    for s in many[3:]:
        gallery.give(s, 2)
    assert many[0] not in gallery.identities[2].stays and many[0] in gallery.identities[2].prototypes
    gallery.join(2, 1)
    assert {s.key for s in gallery.identities[1].prototypes} == {s.key for s in many[:3]}
    assert {s.global_id for s in many[:3]} == {1}


def test_stays_that_an_identity_no_longer_remembers_are_renamed_by_a_merge() -> None:
    teacher, basis = Teacher(AXES), raw_basis(SETTINGS.calibration)
    stays = [stay("a", n, 10.0 * n, 10.0 * n + 5) for n in range(3)]
    for s, global_id in zip(stays, (1, 2, 3), strict=True):
        s.global_id = global_id
        teacher.close(s, basis)
    teacher.rename(2, 1)
    assert [s.global_id for s in stays] == [1, 1, 3]


def test_an_open_first_stay_does_not_keep_the_others_alive() -> None:
    gallery = gallery_of([stay("a", 0, 0.0, 2.0, closed=False)])
    for n in range(1, MOST_STAYS + 20):
        gallery.give(stay("b", n, 10.0 * n, 10.0 * n + 5), 1)
    kept = [s.track_id for s in gallery.identities[1].stays]
    assert kept == [0, *range(21, MOST_STAYS + 20)]


def test_a_stay_that_nobody_ever_closes_is_let_go_in_the_end() -> None:
    m = matcher()
    m.submit(seen("a", 1, 0.0, closed=False))
    m.advance(10.0)
    late_s = SETTINGS.memory_s + LONGEST_STAY_S
    m.submit(seen("b", 2, late_s - 10, BLUE))
    m.advance(late_s - 1)
    assert set(m.state.gallery.identities) == {1, 2}
    m.submit(seen("b", 3, late_s + 10, BLUE))
    m.advance(late_s + 20)
    assert 1 not in m.state.gallery.identities and not m.state.stays
    m.submit(seen("a", 1, 0.0))  # and now its last word comes
    assert [d.key for d in m.finish().decisions] == [("a", 1)]


def test_whoever_has_been_in_view_for_longer_than_the_tables_reach_is_not_gone() -> None:
    tables, new = TransitionTables(AXES), stay("b", 2, 5000.0, 5005.0)
    gone, _ = transition_between(tables, stay("a", 1, 0.0, 2.0), new, SETTINGS)
    here, _ = transition_between(tables, stay("a", 1, 0.0, 2.0, closed=False), new, SETTINGS)
    assert gone == -SETTINGS.revival and here == 0.0


def test_a_split_takes_back_what_a_prototype_older_than_memory_taught() -> None:
    link = Increment("a", "b", 0, 20, ONE)
    first, second = stay("a", 0, 0.0, 5.0), stay("b", 1, 20.0, 25.0)
    second.taught, second.taught_from = link, first.key
    gallery = gallery_of([first, second])
    gallery.confirm(first), gallery.confirm(second)
    for n in range(2, MOST_STAYS + 10):
        gallery.give(stay("c", n, 100.0 * n, 100.0 * n + 5), 1)
    identity = gallery.identities[1]
    assert second not in identity.stays
    assert retractions(identity, second) == [link._replace(count=-ONE)]
    assert retractions(identity, second) == []


def test_the_same_face_in_another_coat_is_not_split_off() -> None:
    face, other = np.eye(2, dtype=np.float32)

    def splits(last_face) -> list:
        stays = [stay("a", n, 20.0 * n, 20.0 * n + 5, RED if n < 4 else [0.3, 1.0, 0]) for n in range(5)]
        for s in stays:
            s.face = face
        stays[-1].face = last_face
        gallery = gallery_of(stays, *([stay("x", 10 + n, 0.0, 5.0, BLUE)] for n in range(3)))
        for s in stays:
            gallery.confirm(s)
        return find_splits(gallery, [1], TransitionTables(AXES), SETTINGS, lambda *_: 0.3, 110.0)

    assert not splits(face)
    for different in (None, other):
        (split,) = splits(different)
        assert split[0].track_id == 4


def test_the_weight_of_pairs_is_that_of_the_memory_a_matcher_begins_with() -> None:
    tables = TransitionTables(AXES)
    pairs = {("a", "b"): 50, ("c", "b"): 1, ("c", "d"): 50}
    tables.add([Increment(*pair, 0, 25, n * ONE) for pair, n in pairs.items()])
    learnt = (float(tables.log_ratio("a", "b")[25]), tables.log_lift("a", "b"), tables.log_lift("c", "b"))
    assert learnt[0] > 3 and learnt[1] > 0 > learnt[2]
    state = MatcherState(Gallery(raw_basis(SETTINGS.calibration)), Teacher(AXES))
    state.drift = {("a", "b"): PairDrift(alarmed=True), ("c", "b"): PairDrift()}
    matcher(tables=tables, state=state)
    assert tables.trust(("a", "b")) == 0.0 and np.abs(tables.log_ratio("a", "b")).max() < 1e-12
    assert tables.log_lift("a", "b") == 0.0 and tables.log_lift("c", "b") == learnt[2]
    matcher(tables=tables)  # another recording: nothing is alarmed
    assert (float(tables.log_ratio("a", "b")[25]), tables.log_lift("a", "b"), tables.log_lift("c", "b")) == learnt


def test_decoys_wear_the_looks_of_people_long_forgotten_alike_after_a_restart() -> None:
    rng = np.random.default_rng(0)
    base = 0.8 * rng.normal(size=32)
    people = base + rng.normal(size=(400, 32))
    settings = MatchSettings(memory_s=1200.0, centre_from=64, whiten_from=128)
    axes = TableSettings(horizon_s=600.0)
    time_s, rows = 0.0, []
    for n in range(900):
        time_s += float(rng.exponential(8.0))
        look = people[rng.integers(400)]
        rows.append(seen("abc"[rng.integers(3)], n, time_s, look + 0.35 * rng.normal(size=32)))

    def played(restart_at: int | None) -> tuple[list, MatcherState]:
        ids = itertools.count(1).__next__
        m, out = OnlineMatcher(settings, ids, TransitionTables(axes)), []
        for n, row in enumerate(rows):
            out += m.advance(row.emitted_s).decisions
            if n == restart_at:
                state = state_from_dict(json.loads(json.dumps(state_to_dict(m.state))), axes)
                m = OnlineMatcher(settings, ids, m.tables, state=state)
            m.submit(row)
        return [*out, *m.finish().decisions], m.state

    whole, state = played(None)
    assert state.caution_learnt != 0.0 and len(state.gallery) < len(whole) / 3
    again, restored = played(700)
    assert restored.caution_learnt == state.caution_learnt
    assert [(d.key, d.global_id, d.margin) for d in again] == [(d.key, d.global_id, d.margin) for d in whole]


BAD = {
    "floor_evidence": 0.0,
    "pair_evidence": -1.0,
    "horizon_s": float("inf"),
    "bin_s": 1e-5,
    "thin": -1.0,
    "epoch_s": float("nan"),
    "new_evidence": 0.0,
    "window_s": float("nan"),
    "g1": float("nan"),
    "memory_s": float("inf"),
    "split_at": 1.5,
    "prototype_at": 2.0,
    "shown": -1,
    "merge_every_s": 0.0,
    "caution": float("inf"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_make_no_sense_are_refused(name: str) -> None:
    kind = TableSettings if hasattr(TableSettings(), name) else MatchSettings
    with pytest.raises(ValueError, match=r"must|bins"):
        kind(**{name: BAD[name]})
