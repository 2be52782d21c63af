"""The writer: flushes from the background, goes on while Redis is away, and hands out ids from memory."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest
from redis_servers import KINDS, kill_server, running, wait_for

from st_model.counts import Axes, increments_of, summed
from st_model.embedded import EmbeddedServer
from st_model.journal import Batch, Journal, to_line
from st_model.saved_state import State, StateChange
from st_model.store import Store
from st_model.store_errors import StoreError, StoreUnavailable
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables
from st_model.writer import TableWriter

AXES = Axes(2.0, -30.0, 600, 86400.0)
FAST_S = 0.02


def step(bin: int, count: int = ONE) -> Increment:
    return Increment("a", "b", 0, bin, count)


@pytest.fixture
def server(tmp_path):
    with EmbeddedServer(tmp_path / "state") as server:
        yield server


@pytest.fixture
def store(server):
    store = Store(server.url, "site", axes=AXES)
    yield store
    store.close()


def test_counts_and_state_arrive_by_themselves(store, tmp_path):
    with TableWriter(store, tmp_path, interval_s=FAST_S) as writer:
        writer.add([step(1), step(2)], StateChange("1", {"p": b"1"}))
        writer.add([step(1)], StateChange("2", {"q": b"2"}))
        wait_for(lambda: store.load_state() == State("2", {"p": b"1", "q": b"2"}))
        assert store.load_counts() == {("a", "b", 0): {1: 2 * ONE, 2: ONE}}
        assert (writer.degraded, writer.degraded_s, writer.error) == (False, 0.0, None)
        writer.add([step(3)])  # close brings the rest
    assert store.load_counts() == {("a", "b", 0): {1: 2 * ONE, 2: ONE, 3: ONE}}
    assert not list(tmp_path.glob("journal-*"))
    writer.close()


def test_a_lost_answer_is_asked_for_again_and_counts_once(store, tmp_path, monkeypatch):
    counted = store.flush

    def answer_lost(*arguments, **more) -> int:
        counted(*arguments, **more)
        monkeypatch.setattr(store, "flush", counted)
        raise StoreUnavailable("the connection broke after the batch was counted")

    with TableWriter(store, tmp_path, interval_s=60.0) as writer:
        for n in range(3):
            monkeypatch.setattr(store, "flush", answer_lost)
            writer.add([step(n)])
            assert not writer.flush()
            assert (writer.degraded, writer.waiting) == (True, 1)
            assert writer.flush()
    assert store.load_counts() == summed([step(n) for n in range(3)])


def test_ids_are_reserved_only_when_they_run_low(store, tmp_path):
    with TableWriter(store, tmp_path, interval_s=60.0, id_block=10) as writer:
        for _ in range(5):
            assert writer.flush()
        assert store.next_id() == 11
        assert [writer.next_id() for _ in range(6)] == [1, 2, 3, 4, 5, 6]
        assert writer.flush()
        assert store.next_id() == 22  # 12 to 21 are in reserve now


def test_a_bin_outside_the_axis_is_refused_at_once(store, tmp_path):
    with TableWriter(store, tmp_path, interval_s=FAST_S) as writer:
        with pytest.raises(ValueError, match=r"outside 0\.\.599"):
            writer.add([step(1), step(600)])
        assert writer.flush()
    assert store.load_counts() == {}


def test_ids_run_on_without_gaps_and_are_never_given_twice(store, tmp_path):
    given = []
    for _ in range(3):
        with TableWriter(store, tmp_path, interval_s=FAST_S, id_block=10) as writer:
            given += [writer.next_id() for _ in range(37)]
    assert given == list(range(1, 112))


def test_threads_and_writers_get_different_ids(store, tmp_path):
    given: list[int] = []
    barrier = threading.Barrier(8)

    def take(writer: TableWriter) -> None:
        barrier.wait()
        given.extend([writer.next_id() for _ in range(200)])

    with TableWriter(store, tmp_path, id_block=50) as one, TableWriter(store, tmp_path, id_block=50) as two:
        threads = [threading.Thread(target=take, args=(writer,)) for writer in (one, two) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(given)) == len(given) == 1600


def test_news_makes_the_tables_of_all_workers_equal(store, server, tmp_path):
    settings = TableSettings(bin_s=2.0, origin_s=-30.0, horizon_s=1170.0)
    assert Axes.of(settings) == AXES
    store.flush([step(7)], 1)
    other = Store(server.url, "site", axes=AXES, worker="other")
    tables = {w: TransitionTables(settings) for w in "xy"}
    with TableWriter(store, tmp_path) as x, TableWriter(other, tmp_path) as y:
        for n in range(4):
            for name, writer in (("x", x), ("y", y)):
                mine = [step(n), Increment(name, "b", n, 3, -5)]
                tables[name].add(mine)
                writer.add(mine)
                writer.flush()
        for name, writer in (("x", x), ("y", y)):
            writer.flush()
            tables[name].add(writer.news())
            assert writer.news() == []
            assert list(tables[name].items()) == increments_of(store.load_counts())
            assert writer.version == store.version()
        Store(server.url, "site", axes=AXES).reset()
        x.flush()
        tables["x"].add(x.news())
        assert list(tables["x"].items()) == []
    other.close()


def test_the_server_dies_in_mid_run_and_is_brought_back(server, store, tmp_path):
    with TableWriter(store, tmp_path, interval_s=FAST_S, revive=server.ensure) as writer:
        for n in range(3):
            writer.add([step(n)])
            assert writer.flush()
            kill_server(server.url)
            writer.add([step(n)], StateChange(str(n)))
            wait_for(lambda: not writer.degraded and not writer.waiting and writer.flush())
        assert writer.degraded_s > 0
    assert store.load_counts() == {("a", "b", 0): dict.fromkeys(range(3), 2 * ONE)}
    assert store.load_state() == State("2", {})


@pytest.mark.parametrize("kind", KINDS)
def test_redis_away_for_long_and_back(kind, tmp_path):
    with running(kind, tmp_path, "--appendfsync", "always") as url:
        store = Store(url, "site", axes=AXES)
        writer = TableWriter(store, tmp_path, interval_s=FAST_S, id_block=100)
        ids = [writer.next_id()]
        writer.add([step(0)])
        assert writer.flush()
        kill_server(url)
        for n in range(1, 20):
            started_s = time.monotonic()
            writer.add([step(n)], StateChange(str(n), {f"p{n}": b"x"}))
            ids.append(writer.next_id())
            assert time.monotonic() - started_s < 5  # never waits for a server
            writer.flush()
        assert writer.degraded and writer.waiting >= 19
        assert "is it running?" in str(writer.error)
        away_s = writer.degraded_s
        assert away_s > 0
    with running(kind, tmp_path) as url:
        wait_for(lambda: not writer.degraded)
        ids.append(writer.next_id())
        writer.close()
        assert writer.degraded_s >= away_s
        assert store.load_counts() == {("a", "b", 0): dict.fromkeys(range(20), ONE)}
        assert store.load_state() == State("19", {f"p{n}": b"x" for n in range(1, 20)})
        assert ids == list(range(1, 22)) and store.next_id() == 22
        store.close()


def test_what_waits_at_the_end_is_merged_by_the_next_run(server, store, tmp_path):
    with TableWriter(store, tmp_path, interval_s=FAST_S) as writer:
        writer.add([step(1)])
        assert writer.flush()
        kill_server(server.url)
        writer.add([step(2)])
    assert writer.waiting == 1
    with pytest.raises(StoreUnavailable):
        TableWriter(store, tmp_path)
    server.ensure()
    with TableWriter(store, tmp_path) as again:
        assert again.recovered == 1
        assert again.next_id() > 1  # a reserve that could not be given back is skipped, not given twice
    assert store.load_counts() == {("a", "b", 0): {1: ONE, 2: ONE}}
    assert not list(tmp_path.glob("journal-*"))


def test_a_fresh_start_drops_what_a_dead_writer_left(store, tmp_path):
    store.flush([step(1)], 1)
    left = to_line(Batch("dead", 1, {("a", "b", 0): {2: 1}}), "site", AXES.fields())
    (tmp_path / "journal-dead.jsonl").write_bytes(left)
    with TableWriter(store, tmp_path, fresh=True) as writer:
        assert (writer.recovered, writer.news(), store.load_counts()) == (1, [], {})
        writer.add([step(3)])
    assert store.load_counts() == {("a", "b", 0): {3: ONE}}


def test_a_defect_in_the_background_is_seen(store, tmp_path, monkeypatch):
    def defect(*_: object, **__: object) -> int:
        raise KeyError("defect")

    writer = TableWriter(store, tmp_path, interval_s=FAST_S)
    with monkeypatch.context() as patch:
        patch.setattr(store, "flush", defect)
        writer.add([step(1)])
        wait_for(lambda: writer.error is not None)
        assert writer.degraded and "KeyError" in str(writer.error)
    writer.close()
    assert store.load_counts() == {("a", "b", 0): {1: ONE}}


def test_the_reserve_of_ids_ends_with_a_clear_error(server, store, tmp_path):
    with TableWriter(store, tmp_path, interval_s=60.0, id_block=10) as writer:
        kill_server(server.url)
        given = [writer.next_id() for _ in range(10)]
        with pytest.raises(StoreUnavailable):
            writer.next_id()
        server.ensure()
        assert writer.next_id() not in given


def test_a_full_disk_under_the_journal_does_not_stop_the_flush(store, tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with TableWriter(store, tmp_path, interval_s=60.0) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            writer.add([step(1)])
            assert writer.flush()
            assert "No space left" in str(writer.journal_error)
        writer.add([step(2)])
        assert writer.flush()
        assert writer.journal_error is None
    assert store.load_counts() == {("a", "b", 0): {1: ONE, 2: ONE}}


def test_no_disk_and_no_redis_keeps_counts_in_memory(server, store, tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with TableWriter(store, tmp_path, interval_s=60.0) as writer:
        kill_server(server.url)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            for n in range(3):
                writer.add([step(n)])
                assert not writer.flush()
            assert writer.waiting == 1
        server.ensure()
        assert writer.flush()
        assert writer.flush()
    assert store.load_counts() == summed([step(n) for n in range(3)]) and writer.waiting == 0


def test_a_failed_start_leaves_nothing_behind(server, store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write a journal"):
        TableWriter(store, tmp_path / "file" / "state")
    kill_server(server.url)
    with pytest.raises(StoreUnavailable):
        TableWriter(store, tmp_path)
    assert not list(tmp_path.glob("journal-*"))
    server.ensure()
    reader = Store(server.url, "site")
    for make in (lambda: TableWriter(reader, tmp_path), lambda: Journal(tmp_path, reader, "w")):
        with pytest.raises(ValueError, match="needs"):
            make()
    reader.close()
