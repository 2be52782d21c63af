"""The store against real servers: exactly-once counts, ids, versions, state, names, lifetimes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import redis
from redis_servers import KINDS, any_server, wait_for

from st_model.counts import Axes, increments_of, summed
from st_model.keys import Keys
from st_model.saved_state import State, StateChange
from st_model.store import Store
from st_model.store_errors import AxesMismatch, SchemaMismatch, StoreError, WrongKeyType
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

AXES = Axes(bin_s=2.0, origin_s=-30.0, bins=600, epoch_s=86400.0)
SITES = (f"site{n}" for n in itertools.count())


def step(bin: int, count: int = ONE, to: str = "b", epoch: int = 0) -> Increment:
    return Increment("a", to, epoch, bin, count)


@pytest.fixture(scope="module", params=KINDS)
def url(request, tmp_path_factory):
    with any_server(request.param, tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def raw(url):
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


@pytest.fixture
def site() -> str:
    return next(SITES)


@pytest.fixture
def open_store(url, site):
    """Opens stores of one fresh site, closes them afterwards."""
    opened = []

    def open_store(site: str = site, axes: Axes | None = AXES, **more) -> Store:
        opened.append(Store(url, site, axes=axes, **more))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def test_a_repeated_batch_changes_nothing(open_store):
    store = open_store()
    version = store.flush([step(5), step(6), step(5)], 1)
    assert store.flush([step(5), step(6), step(5)], 1) == version == 1
    assert store.load_counts() == {("a", "b", 0): {5: 2 * ONE, 6: ONE}}
    assert store.flush([step(7)], 2) == store.version() == 2
    store.flush([step(5), step(6), step(5)], 1)  # an old repeat that comes late
    assert store.load_counts() == {("a", "b", 0): {5: 2 * ONE, 6: ONE, 7: ONE}}


def test_workers_of_one_name_do_not_hide_each_others_batches(open_store):
    for store in (open_store(worker="w"), open_store(worker="w")):
        store.flush([step(5)], 1)
    assert store.load_counts() == {("a", "b", 0): {5: 2 * ONE}}


def test_add_then_retract_leaves_the_same_keys(open_store, raw, site):
    store = open_store()
    store.flush([step(1)], 1)
    before = raw.hgetall(Keys(site).counts("a", "b", 0))
    store.flush([step(9, 17), step(2, 3, to="c")], 2)
    store.flush([step(9, -17), step(2, -3, to="c")], 3)
    assert raw.hgetall(Keys(site).counts("a", "b", 0)) == before == {"1": "4096"}
    assert not raw.exists(Keys(site).counts("a", "c", 0))
    assert store.load_counts() == {("a", "b", 0): {1: ONE}}


def test_loaded_counts_give_the_same_tables(open_store):
    settings = TableSettings(horizon_s=300.0)
    tables = TransitionTables(settings)
    increments = [Increment(a, b, e, (7 * e) % 90, 1000 + e) for a in "xy" for b in "yz" for e in range(5)]
    tables.add(increments)
    store = open_store(axes=Axes.of(settings))
    store.flush(increments, 1)
    loaded = TransitionTables(settings)
    loaded.add(increments_of(store.load_counts()))
    assert list(loaded.items()) == list(tables.items())


def test_everything_has_the_lifetime_it_says(open_store, raw, site):
    open_store(retention_s=50.0).flush([step(1)], 1, state=StateChange("1", {"p": b"x"}))
    open_store().next_id()
    open_store().next_track_block()
    ttl = {key.removeprefix(Keys(site).of("")).split("-")[0]: raw.ttl(key) for key in raw.keys(Keys(site).of("*"))}
    mortal = {"counts:a:b:0", "batch:main", "state"}
    assert {name for name, left_s in ttl.items() if 0 < left_s <= 50} == mortal
    assert {name for name, left_s in ttl.items() if left_s == -1} == {
        "schema",
        "axes",
        "version",
        "index",
        "ids",
        "tracks",
    }


def test_an_expired_epoch_leaves_the_index_too(open_store, raw, site):
    store = open_store()
    store.flush([step(1), step(2, epoch=1)], 1)
    raw.delete(Keys(site).counts("a", "b", 0))  # what expiry does
    assert store.load_counts() == {("a", "b", 1): {2: ONE}}
    assert raw.zrange(Keys(site).of("index"), 0, -1) == ["a:b:1"]


def test_names_of_any_kind_survive_and_sites_stay_apart(open_store):
    cameras = ["lobby", "a:b", "{x}", "100%", "Köln Süd", "人", "%3A", "b}:{c"]
    increments = [Increment(a, b, -3, 1, ONE) for a in cameras for b in cameras]
    stores = [open_store(site=f"{name} {next(SITES)}") for name in cameras]
    for store in stores:
        store.flush(increments, 1)
    assert all(store.load_counts() == summed(increments) for store in stores)


def test_all_keys_of_a_site_lie_in_one_cluster_slot(open_store, raw, url):
    from redis.crc import key_slot

    site = f"hall {{7}}:east {next(SITES)}"
    store = open_store(site=site)
    store.flush([step(1), Increment("c{d}", "e}f{", 1, 2, 3)], 1, state=StateChange("1", {"p": b"x"}))
    store.next_id()
    store.next_track_block()
    keys = raw.keys(Keys(site).of("*"))
    assert len(keys) == 10
    assert len({key_slot(key.encode()) for key in keys}) == 1


def test_refresh_brings_only_what_changed(open_store):
    store, other = open_store(), open_store()
    store.flush([step(1), step(1, to="c")], 1)
    first = store.refresh(0)
    assert first.complete
    assert first.counts == {("a", "b", 0): {1: ONE}, ("a", "c", 0): {1: ONE}}
    assert store.refresh(first.version).counts == {}
    other.flush([step(1, -ONE), step(2, to="d")], 1)
    second = store.refresh(first.version)
    assert not second.complete
    assert second.counts == {("a", "b", 0): {}, ("a", "d", 0): {2: ONE}}


def test_refresh_is_complete_after_a_reset_or_a_loss(open_store, raw, site):
    store = open_store()
    store.flush([step(1)], 1)
    seen = store.version()
    open_store().reset()
    assert store.refresh(seen) == type(store.refresh(seen))(seen + 1, {}, complete=True)
    raw.delete(*raw.keys(Keys(site).of("*")))
    assert store.refresh(seen + 1).complete


def test_ids_are_never_given_twice(open_store):
    store = open_store()
    assert (store.next_id(), store.next_id(10), store.next_id()) == (1, 2, 12)
    store.reset()
    assert open_store().next_id() == 13
    assert store.next_id(above=100) == 101  # a restored backup: the counter is lifted over ids in use
    with pytest.raises(ValueError, match="0 ids"):
        store.next_id(0)


def test_unused_ids_go_back_only_while_nobody_reserved_more(open_store):
    store, other = open_store(), open_store()
    assert store.next_id(1000) == 1
    store.give_back_ids(3, 1000)
    assert store.next_id(1000) == 4
    assert other.next_id() == 1004
    store.give_back_ids(10, 1003)
    assert store.next_id() == 1005


def test_track_blocks_do_not_overlap(open_store):
    blocks = [open_store().next_track_block(100) for _ in range(3)]
    assert blocks == [range(1, 101), range(101, 201), range(201, 301)]


def test_other_axes_are_refused(open_store):
    store = open_store()
    store.flush([step(1)], 1)
    with pytest.raises(AxesMismatch, match=r"bin_s=2\.0.*bin_s=1\.0"):
        open_store(axes=Axes(1.0, -30.0, 600, 86400.0))
    assert open_store(axes=None).held_axes() == AXES
    open_store(axes=None).reset()
    open_store(axes=Axes(1.0, -30.0, 600, 86400.0)).flush([step(1)], 1)
    with pytest.raises(AxesMismatch, match=r"bin_s 1\.0"):  # the reset came while this store was open
        store.flush([step(1)], 2)
    assert store.load_counts() == {("a", "b", 0): {1: ONE}}


def test_a_reader_needs_no_axes_and_cannot_flush(open_store):
    open_store().flush([step(1)], 1)
    reader = open_store(axes=None)
    assert reader.load_counts() == {("a", "b", 0): {1: ONE}}
    with pytest.raises(StoreError, match="reading"):
        reader.flush([step(1)], 1)


def test_another_schema_is_refused(open_store, raw, site):
    store = open_store()
    raw.set(Keys(site).of("schema"), "99")
    with pytest.raises(SchemaMismatch, match="99"):
        open_store()
    with pytest.raises(SchemaMismatch, match="99"):
        store.flush([step(1)], 1)


def test_state_and_counts_are_saved_in_one_step(open_store):
    store = open_store()
    assert store.load_state() is None
    store.flush([step(1)], 1, state=StateChange("17", {"person:1": b"\x00\xff", "person:2": b"two"}))
    store.flush([step(1)], 1, state=StateChange("99", {"person:3": b"no"}))  # a repeat
    assert store.load_state() == State("17", {"person:1": b"\x00\xff", "person:2": b"two"})
    store.flush([], 2, state=StateChange("18", {"person:2": b"2"}, removed=("person:1",)))
    assert open_store().load_state() == State("18", {"person:2": b"2"})
    assert store.forget_state(["person:2", "person:9"]) == 1
    assert store.forget_state([]) == 0
    assert store.load_state() == State("18", {})


def test_a_forgotten_person_leaves_the_servers_file_too(url, open_store, raw):
    store = open_store()
    folder = Path(raw.config_get("dir")["dir"])
    store.flush([], 1, state=StateChange("1", {"person:1": b"face of somebody", "person:2": b"somebody else"}))
    assert store.forget_state(["person:1"]) == 1

    def on_disk() -> bytes:
        return b"".join(path.read_bytes() for path in folder.rglob("*.*") if path.is_file())

    wait_for(lambda: b"face of somebody" not in on_disk())
    assert b"somebody else" in on_disk()


def test_state_changes_add_up():
    first = StateChange("1", {"a": b"1", "b": b"1"}, ("c",))
    assert first.then(StateChange("2", {"c": b"2"}, ("a",))) == StateChange("2", {"b": b"1", "c": b"2"}, ("a",))
    for bad in (
        {"position": ""},
        {"position": "1", "changed": {"a": b""}},
        {"position": "1", "removed": ("position",)},
    ):
        with pytest.raises(ValueError):
            StateChange(**bad)


def test_reset_removes_counts_and_state(open_store, raw, site):
    store = open_store()
    store.flush([step(1), step(1, to="c")], 1, state=StateChange("1", {"p": b"x"}))
    assert store.reset() == 2
    assert (store.load_counts(), store.load_state()) == ({}, None)
    assert not raw.keys(Keys(site).of("counts:*"))
    store.flush([step(1)], 1)  # a repeat from before the reset
    assert store.load_counts() == {}


def test_imported_counts_add_once(open_store):
    source = open_store(site=next(SITES))
    source.flush([step(n % 600, n + 1, to=f"c{n}") for n in range(1200)], 1)
    counts = source.load_counts()
    store = open_store()
    store.flush([step(1)], 1)
    for _ in range(2):
        store.add_counts(counts, "file.json")
        assert store.load_counts() == {("a", "b", 0): {1: ONE}, **counts}
    store.reset()
    store.add_counts(counts, "file.json")
    assert store.load_counts() == counts


def test_bins_outside_the_axis_are_refused_before_anything_is_written(open_store):
    store = open_store()
    for bin in (-1, 600):
        with pytest.raises(ValueError, match=r"outside 0\.\.599"):
            store.flush([step(1), step(bin)], 1)
    assert store.load_counts() == {}


@pytest.mark.parametrize("name", ["schema", "axes", "version", "index", "state", "counts:a:c:0"])
def test_a_key_of_another_type_is_named_and_nothing_is_written(open_store, raw, site, name):
    store = open_store()
    store.flush([step(1)], 1, state=StateChange("1"))
    raw.delete(Keys(site).of(name))
    raw.rpush(Keys(site).of(name), "foreign")
    before = raw.hgetall(Keys(site).counts("a", "b", 0))
    with pytest.raises(WrongKeyType, match=rf"{site}.*choose another site name"):
        store.flush([step(1), step(1, to="c")], 2, state=StateChange("2"))
    assert raw.hgetall(Keys(site).counts("a", "b", 0)) == before


def test_a_site_needs_a_name(url):
    with pytest.raises(ValueError, match="needs a name"):
        Store(url, "")
