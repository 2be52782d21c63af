"""Exits: guests in a gallery, who holds a person, and that what is said twice changes nothing."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st_model.calibration import Calibration
from st_model.exits import (
    ANEW,
    CORRECTION,
    EXIT,
    TAKEN,
    Crossings,
    ExitError,
    Known,
    known_from,
    packed,
    packed_exit,
    unpacked,
    unpacked_exit,
)
from st_model.gallery import Identity, Stay
from st_model.ledger import Correction
from st_model.live_state import StateKeeper
from st_model.matcher import MatchSettings, OnlineMatcher
from st_model.sightings import Sighting
from st_model.transitions import TableSettings, TransitionTables

AXES = TableSettings(horizon_s=500.0)
SETTINGS = MatchSettings(calibration=Calibration(20.0, -12.0), centre_from=10**6)


def look(n, dim=16):
    vector = np.random.default_rng(n).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def seen(camera, track, person, entered_s, last_s=None, closed=True):
    last_s = entered_s + 5 if last_s is None else last_s
    return Sighting(camera, track, entered_s, last_s, last_s, closed, look(person), 3)


class Area:
    """A matcher and its crossings, as `MatchingArea` joins them; ids are numbered from `first` on."""

    def __init__(self, name, cameras, first, **more):
        self.matcher = OnlineMatcher(SETTINGS, itertools.count(first).__next__, TransitionTables(AXES))
        self.crossings = Crossings(name, cameras, self.matcher.state, horizon_s=AXES.horizon_s, **more)
        self.name = name

    def hear(self, *sightings):
        for sighting in sightings:
            self.matcher.submit(sighting)
        ids = []
        while self.matcher.state.waiting:
            before = {key: stay.global_id for key, stay in self.matcher.state.stays.items()}
            at_s = self.matcher.due_s
            out = self.matcher.advance(at_s)
            self.crossings.decided(out.decisions, out.corrections, before, at_s)
            ids += [decision.global_id for decision in out.decisions]
        return ids

    def told(self):
        said, _, _ = self.crossings.take_said()
        return said

    def listen(self, area, said, now_s=0.0):
        for kind, content in said.items:
            self.crossings.take_in(area, kind, unpacked(content), now_s)

    @property
    def people(self):
        return set(self.matcher.state.gallery.identities)


@pytest.fixture
def areas():
    return Area("hall", {"a"}, 1), Area("yard", {"b"}, 100)


def test_who_leaves_one_area_is_known_in_the_next_and_gone_in_the_first(areas):
    hall, yard = areas
    assert hall.hear(seen("a", 1, person=7, entered_s=0.0)) == [1]
    left = hall.told()
    assert [kind for kind, _ in left.items] == [EXIT] and left.holders == {1: "1:"} and left.claims == {}
    yard.listen("hall", left)
    assert yard.people == yard.crossings.guests == {1}
    assert yard.hear(seen("b", 2, person=7, entered_s=20.0, closed=False)) == [1]
    entered = yard.told()
    assert entered.claims == {1: 1} and entered.holders == {1: "1:yard"}
    assert [kind for kind, _ in entered.items] == [TAKEN]
    hall.listen("yard", entered)
    assert hall.people == set() and len(hall.matcher.state.teacher.stays) == 1
    assert hall.hear(seen("a", 3, person=7, entered_s=30.0, closed=False)) == [2], "somebody who looks alike"
    assert yard.hear(seen("b", 2, person=7, entered_s=20.0, last_s=40.0)) == [1]
    hall.listen("yard", yard.told())
    assert hall.people == {1, 2} and hall.crossings.known[1] == Known(2, "yard", False)


def test_a_guest_may_have_taught_and_brings_all_that_is_known_of_them(areas):
    hall, yard = areas
    for n, t in enumerate((0.0, 60.0, 120.0)):
        assert hall.hear(seen("a", n, 7, t)) == [1]
    yard.listen("hall", hall.told())
    person = yard.matcher.state.gallery.identities[1]
    assert [stay.track_id for stay in person.stays] == [0, 1, 2] and len(person.prototypes) == 3
    taught = []
    for n in range(3):
        yard.matcher.submit(seen("b", 10 + n, 7, 140.0))
        taught += yard.matcher.advance(1e9).increments if n == 2 else []
    assert [(i.from_camera, i.to_camera) for i in taught][:1] == [("a", "b")]


def test_guests_of_a_day_long_past_are_let_go_once(areas):
    """Forgotten by the matcher, they are no guests any more, and the next exit finds none of them."""
    hall, yard = areas
    hall.hear(seen("a", 1, 7, 0.0))
    yard.listen("hall", hall.told())
    assert yard.crossings.guests == {1}
    late_s = SETTINGS.memory_s + 10.0
    yard.hear(seen("b", 2, 8, late_s))
    assert yard.people == {100} and yard.crossings.guests == set()
    assert [kind for kind, _ in yard.told().items] == [EXIT] and yard.crossings.known == {100: Known(1, "yard", False)}
    hall.hear(seen("a", 3, 9, late_s))
    yard.listen("hall", hall.told(), late_s)
    assert yard.crossings.guests == {2}


def test_every_kind_said_again_changes_nothing(areas):
    hall, yard = areas
    hall.hear(seen("a", 1, 7, 0.0), seen("a", 2, 8, 1.0))
    first = hall.told()
    for _ in range(3):
        yard.listen("hall", first)
    assert yard.people == {1, 2} and len(yard.matcher.state.teacher.stays) == 2
    assert yard.told().items == []
    yard.hear(seen("b", 3, 7, 20.0, closed=False))
    taken = yard.told()
    for _ in range(2):
        hall.listen("yard", taken)
        yard.listen("hall", first)
    assert hall.people == {2} and yard.crossings.known[1].held


def test_older_exits_are_not_believed_and_lost_ones_neither(areas):
    hall, yard = areas
    hall.hear(seen("a", 1, 7, 0.0))
    first = hall.told()
    hall.hear(seen("a", 2, 7, 60.0))
    second = hall.told()
    yard.listen("hall", second)
    yard.listen("hall", first)
    assert yard.crossings.known == {1: Known(2, "hall", False)}
    garage = Crossings("garage", {"c"}, Area("garage", {"c"}, 900).matcher.state, lost={1: 1})
    for kind, content in first.items:
        garage.take_in("hall", kind, unpacked(content), 0.0)
    assert garage.known == {}
    for kind, content in second.items:
        if kind == EXIT:
            garage.take_in("hall", kind, unpacked(content), 0.0)
    assert garage.known == {1: Known(2, "hall", False)}


def test_guests_are_few_and_not_for_ever():
    hall, yard = Area("hall", {"a"}, 1), Area("yard", {"b"}, 100, most=3)
    for n in range(6):
        hall.hear(seen("a", n, 50 + n, 10.0 * n))
    said = hall.told()
    yard.listen("hall", said)
    assert yard.people == {4, 5, 6}, "the latest"
    yard.crossings.decided([], [], {}, 40.0 + AXES.horizon_s)
    assert yard.people == {5, 6}
    yard.listen("hall", said, now_s=1e6)
    assert yard.people == {5, 6}, "too old to be taken in"


def test_another_recording_voids_what_was_announced(areas):
    hall, yard = areas
    hall.hear(seen("a", 1, 7, 0.0))
    yard.listen("hall", hall.told())
    yard.hear(seen("b", 1, 9, 0.0))
    anew = Crossings("hall", {"a"}, hall.matcher.state)
    anew.begin_anew(hall.crossings, 99.0)
    said, _, _ = anew.take_said()
    assert [kind for kind, _ in said.items] == [ANEW]
    yard.listen("hall", said)
    assert yard.people == {100}


def test_merges_of_people_others_know_are_told_and_of_nobody_else(areas):
    hall, _ = areas
    hall.hear(seen("a", 1, 7, 0.0))
    hall.told()
    known = Correction("merge", 5.0, 2, 1, (("a", 2),), 0.99)
    unknown = Correction("merge", 5.0, 40, 39, (("a", 9),), 0.99)
    hall.crossings.decided([], [known, unknown], {}, 6.0)
    said = hall.told()
    told = [unpacked(content)["correction"] for kind, content in said.items if kind == CORRECTION]
    assert [row["global_id"] for row in told] == [2]
    assert said.claims == {1: 1}, "who changes somebody must hold them"


def test_what_is_known_is_saved_with_the_memory(areas):
    hall, yard = areas
    hall.hear(seen("a", 1, 7, 0.0))
    yard.listen("hall", hall.told())
    memory = dict(StateKeeper().change(yard.matcher.state, "x").changed)
    _, changed, gone = yard.crossings.take_said()
    assert changed == {"exit:1": b'[1, "hall", false]'} and gone == ()
    assert yard.crossings.take_said()[1] == {}, "only once"
    state, _ = StateKeeper.load(memory, AXES)
    again = Crossings("yard", {"b"}, state, known_from(changed))
    assert again.guests == {1} == state.gallery.guests
    again.drop(1)
    assert again.take_said()[2] == ("exit:1",)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema":2,"at_s":1}', b'{"schema":1,"at_s":"x"}', b"\xff"])
def test_a_word_that_is_none_is_refused(content):
    with pytest.raises(ExitError):
        unpacked(content)


def test_a_damaged_exit_and_one_of_another_encoder_are_refused(areas):
    hall, yard = areas
    hall.hear(seen("a", 1, 7, 0.0))
    ((_, content),) = hall.told().items
    row = unpacked(content)
    for damage in ({"stays": []}, {"last": 5}, {"prototypes": [9]}, {"stays": [{}]}):
        with pytest.raises(ExitError):
            unpacked_exit(row | damage)
    yard.matcher.submit(Sighting("b", 1, 0.0, 5.0, 5.0, True, look(3, dim=8), 3))
    yard.matcher.advance(99.0)
    with pytest.raises(ExitError, match="16 dimensions, others 8"):
        yard.crossings.take_in("hall", EXIT, row, 0.0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(0, 5), st.floats(0, 1e6), st.integers(1, 10**9))
def test_an_exit_is_read_as_it_was_written(stays, prototypes, at_s, number):
    own = [Stay("a b%:", n, 1.5 * n, 1.5 * n + 1, True, look(n), 2) for n in range(stays)]
    for stay in own:
        stay.global_id = 3
    person = Identity(3, own, own[:prototypes])
    row = unpacked(packed_exit(person, number, at_s))
    assert (row["at_s"], row["number"], row["global_id"], row["last_s"]) == (at_s, number, 3, own[-1].last_s)
    again, last = unpacked_exit(row)
    assert last.key == own[-1].key and len(again.stays) <= 9
    for mine, theirs in zip(person.prototypes, again.prototypes, strict=True):
        assert mine.key == theirs.key and np.array_equal(mine.embedding, theirs.embedding)
    assert json.loads(packed_exit(again, number, at_s)) == row


def test_packed_holds_what_it_is_given():
    assert unpacked(packed(1.0, by="x"))["by"] == "x"
