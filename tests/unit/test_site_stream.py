"""Streams between workers and matchers: taken once, decided once, stored in one step, and nobody dead writes."""

from __future__ import annotations

import itertools

import pytest
from redis_servers import KINDS, any_server

from st_model.counts import Axes
from st_model.saved_state import StateChange
from st_model.site_stream import Fenced, Message, SiteStream, StateLost, Turn
from st_model.store import Store
from st_model.transitions import ONE, Increment

AXES = Axes(2.0, -30.0, 20, 86400.0)
LINK = Increment("a", "b", 0, 5, ONE)


@pytest.fixture(scope="module", params=KINDS)
def url(request, tmp_path_factory):
    with any_server(request.param, tmp_path_factory.mktemp("redis")) as url:
        yield url


names = (f"site{n}" for n in itertools.count())


@pytest.fixture
def opened(url):
    """Opens members of one site; each has a connection of its own."""
    site, stores = next(names), []

    def member(who, area="hall", **settings):
        stores.append(Store(url, site, axes=AXES))
        return SiteStream(stores[-1], area, who, **settings)

    yield member
    for store in stores:
        store.close()


def messages(*numbers, after=0):
    return [Message(n, before, f"m{n}".encode()) for before, n in itertools.pairwise([after, *numbers])]


def contents(entries):
    return [entry.fields["m"].decode() for entry in entries]


def turn(number, *entries, **more):
    return Turn(number, StateChange("-", {"rest": b"x"}), tuple(entry.id for entry in entries), **more)


def test_a_message_is_taken_once_however_often_it_is_said(opened):
    worker, matcher = opened("w"), opened("m")
    matcher.claim()
    assert worker.publish("s", messages(1, 2)) == (2, "OK", 2)
    assert worker.publish("s", messages(1, 2, 7)) == (7, "OK", 3)
    assert worker.publish("other session", messages(1)) == (1, "OK", 4)
    assert contents(matcher.read()) == ["m1", "m2", "m7", "m1"]


def test_a_message_whose_predecessor_is_missing_is_refused(opened):
    worker = opened("w")
    worker.publish("s", messages(1))
    assert worker.publish("s", messages(4, after=3)) == (1, "GAP", 1)
    assert worker.publish("s", messages(2, 3, 4, after=1)) == (4, "OK", 4)
    assert worker.publish("s", messages(9, after=8), despite_gap=True) == (9, "OK", 5)


def test_a_full_stream_takes_no_more_and_loses_nothing(opened):
    worker, matcher = opened("w", most_sightings=3), opened("m")
    assert worker.publish("s", messages(1, 2, 3, 4, 5)) == (3, "FULL", 3)
    fence = matcher.lease()
    first, *_ = matcher.claim() + matcher.read()
    matcher.store_turn(fence, turn(1, first))
    assert worker.publish("s", messages(4, 5, after=3)) == (4, "FULL", 3)


def test_one_step_stores_everything_and_a_repeat_nothing(opened):
    worker, matcher = opened("w"), opened("m")
    worker.publish("s", messages(1, 2))
    fence = matcher.lease()
    one, two = matcher.claim() + matcher.read()
    said = turn(1, one, decisions=[("decision", b"d1")], events=[b"e1"], progress={"w": 1}, increments=[LINK])
    version, held = matcher.store_turn(fence, said)
    assert (version, held) == (1, 1)
    assert matcher.store_turn(fence, said) == (1, 1)
    assert matcher.store.load_counts() == {("a", "b", 0): {5: ONE}}
    assert contents(matcher.decisions("0")) == ["d1"] and contents(matcher.events("0")) == ["e1"]
    assert worker.decided() == {"w": 1}
    assert matcher.load().entries == {"rest": b"x"} and matcher.load().position == "1"
    assert contents(opened("n").claim()) == ["m2"], "the other one is still to be decided"
    assert two.id > one.id


def test_what_a_dead_matcher_held_is_claimed_and_it_stores_nothing_any_more(opened):
    worker, first, second = opened("w"), opened("m1", lease_s=0.05), opened("m2")
    worker.publish("s", messages(1, 2))
    old = first.lease()
    entries = first.claim() + first.read()
    assert second.lease() == 0 or old < second.lease()
    while not (new := second.lease()):
        pass
    assert new == old + 1
    assert contents(second.claim()) == ["m1", "m2"]
    with pytest.raises(Fenced, match="another matcher"):
        first.store_turn(old, turn(1, *entries, increments=[LINK]))
    assert first.store.load_counts() == {}
    second.store_turn(new, turn(1, *entries, increments=[LINK]))
    assert second.lengths()["sightings"] == 0


def test_a_lease_that_ran_out_still_serves_while_nobody_took_it(opened):
    matcher = opened("m", lease_s=0.01)
    fence = matcher.lease()
    matcher.claim()
    while matcher.holder():
        pass
    matcher.store_turn(fence, turn(1))
    assert matcher.holder() == "m"
    matcher.release()
    assert matcher.holder() is None


def test_turns_that_redis_lost_are_noticed(opened):
    matcher = opened("m")
    fence = matcher.lease()
    matcher.claim()
    with pytest.raises(StateLost, match="another turn than 4"):
        matcher.store_turn(fence, turn(5))


def test_areas_of_a_site_share_tables_and_nothing_else(opened):
    here, there = opened("m1"), opened("m2", area="yard: 2")
    for stream in (here, there):
        opened("w", stream.area).publish("s", messages(1))
        fence = stream.lease()
        (entry,) = stream.claim() + stream.read()
        stream.store_turn(fence, turn(1, entry, increments=[LINK]))
    assert here.store.load_counts() == {("a", "b", 0): {5: 2 * ONE}}
    assert here.load().entries and there.holder() == "m2"


def test_members_come_and_go(opened):
    worker, matcher = opened("w"), opened("m")
    worker.beat(b"{}")
    matcher.beat(b'{"role": 1}')
    assert worker.members() == {"w": b"{}", "m": b'{"role": 1}'}
    worker.leave()
    assert list(matcher.members()) == ["m"]
    assert abs(matcher.time_s() - worker.time_s()) < 60
