"""Of any two areas that want one exit exactly one gets it, however their turns interleave or are repeated."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st_model.counts import Axes
from st_model.embedded import EmbeddedServer
from st_model.exits import EXIT, TAKEN, Said
from st_model.saved_state import StateChange
from st_model.site_stream import ClaimsLost, SiteStream, Turn
from st_model.store import Store
from st_model.transitions import ONE, Increment

AXES = Axes(2.0, -30.0, 20, 86400.0)
SITES = (f"claims{n}" for n in itertools.count())
LINK = Increment("a", "b", 0, 5, ONE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with EmbeddedServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Area:
    """A matcher that does nothing but claim and announce."""

    def __init__(self, store, name):
        self.stream, self.name, self.number = SiteStream(store, name, f"m-{name}"), name, 0
        self.fence = self.stream.lease()
        self.stream.claim()

    def turn(self, said, **more):
        turn = Turn(self.number + 1, StateChange("-", {"rest": b"x"}), said=said, **more)
        done = self.stream.store_turn(self.fence, turn)
        self.number += 1
        assert self.stream.store_turn(self.fence, turn)[1] == done[1], "said again"

    def announce(self, person, number):
        self.turn(Said({}, {person: f"{number}:"}, [(EXIT, b"exit")]))

    def claim(self, *people, number=1, **more):
        """Whether it was had."""
        said = Said(dict.fromkeys(people, number), dict.fromkeys(people, f"{number}:{self.name}"), [(TAKEN, b"taken")])
        try:
            self.turn(said, **more)
        except ClaimsLost as error:
            return error.lost
        return {}


@pytest.fixture
def areas(server):
    store = Store(server.url, next(SITES), axes=AXES)
    yield [Area(store, name) for name in ("hall", "yard", "roof")]
    store.close()


def holder(areas, person):
    return areas[0].stream.store.client.get(areas[0].stream.store.keys.of(f"exit:{person}"))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=25))
def test_one_area_holds_a_person_and_only_it_announces_the_next_exit(server, steps):
    """Steps: area wants person; an area that holds somebody announces instead. Compared with a plain dict."""
    store = Store(server.url, next(SITES), axes=AXES)
    try:
        areas = [Area(store, name) for name in ("hall", "yard", "roof")]
        numbers, holders = dict.fromkeys(range(1, 4), 1), dict.fromkeys(range(1, 4))
        for person in numbers:
            areas[0].announce(person, 1)
        for n, person in steps:
            area = areas[n]
            if holders[person] == n:
                assert area.claim(person, number=numbers[person]) == {}, "a repeated claim of its own"
                numbers[person] += 1
                area.announce(person, numbers[person])
                holders[person] = None
            else:
                lost = area.claim(person, number=numbers[person])
                assert (lost == {}) == (holders[person] is None)
                if not lost:
                    holders[person] = n
            assert area.claim(person, number=numbers[person] - 1) == {person: numbers[person] - 1}, "an older exit"
        for person, n in holders.items():
            held = "" if n is None else areas[n].name
            assert holder(areas, person) == f"{numbers[person]}:{held}".encode()
    finally:
        store.close()


def test_a_turn_with_a_lost_claim_stores_nothing_at_all(areas):
    hall, yard, _ = areas
    hall.announce(1, 1)
    hall.announce(2, 1)
    assert yard.claim(1) == {}
    before = {name: hall.stream.store.client.dump(name) for name in hall.stream.store.client.scan_iter("*hall*")}
    counts = hall.stream.store.load_counts()
    assert hall.claim(1, 2, decisions=[("decision", b"d")], events=[b"e"], increments=[LINK]) == {1: 1}
    after = {name: hall.stream.store.client.dump(name) for name in hall.stream.store.client.scan_iter("*hall*")}
    lease = hall.stream.store.keys.of("lease:hall").encode()
    assert {k: v for k, v in after.items() if k != lease} == {k: v for k, v in before.items() if k != lease}
    assert hall.stream.store.load_counts() == counts == {}
    assert holder(areas, 2) == b"1:"
    assert hall.claim(2) == {}, "decided again, without the one that is lost"


def test_what_is_said_is_read_once_from_where_one_was(areas):
    hall, yard, _ = areas
    hall.announce(1, 1)
    after, marked = {"hall": "0"}, {"hall": "0"}
    items, marks = yard.stream.hear(after, marked, 0.0)
    assert [(area, entry.fields["k"], entry.fields["m"]) for area, entry in items] == [("hall", b"exit", b"exit")]
    assert marks == {} and yard.stream.hear(after, marked, 0.0) == ([], {})
    for n in range(3):
        hall.turn(Said(items=[(EXIT, b"%d" % n)]), mark=b"mark %d" % n)
    items, marks = yard.stream.hear(after, marked, 0.0)
    assert [entry.fields["m"] for _, entry in items] == [b"0", b"1", b"2"] and marks == {"hall": b"mark 2"}


def test_marks_never_run_ahead_of_exits_however_many_there_are(areas):
    hall, yard, _ = areas
    after, marked = {"hall": "0"}, {"hall": "0"}
    for n in range(1, 4):
        hall.turn(Said(items=[(EXIT, b"%d" % n)] * 700), mark=b"%d" % n)
    items, marks = yard.stream.hear(after, marked, 0.0)
    assert len(items) == 2100 and marks == {"hall": b"3"}


def test_exits_and_holders_do_not_stay_for_ever(server):
    store = Store(server.url, next(SITES), axes=AXES)
    hall = Area(store, "hall")
    hall.stream.exit_s, hall.stream.most_exits = 0.05, 10
    hall.announce(1, 1)
    keys, client = store.keys, store.client
    assert 0 < client.pttl(keys.of("exits:hall")) <= 50 and 0 < client.ttl(keys.of("exit:1")) <= 1
    hall.turn(Said(), mark=b"m")
    assert 0 < client.ttl(keys.of("mark:hall")) <= store.lifetime_s
    hall.stream.exit_s = 100.0
    for n in range(300):
        hall.announce(2, n)
    assert client.xlen(keys.of("exits:hall")) < 200
    store.close()
