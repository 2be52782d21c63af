"""Counts are bit-equal for any order, partition over workers, repeated delivery and restart; retracting undoes."""

from __future__ import annotations

import itertools

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.delivery import counts_of
from redis_servers import kill_server, running

from st_model.counts import Axes
from st_model.embedded import EmbeddedServer
from st_model.journal import Batch, recover, to_line
from st_model.keys import Keys
from st_model.store import Store
from st_model.transitions import Increment

AXES = Axes(2.0, -30.0, 20, 86400.0)
SITES = (f"site{n}" for n in itertools.count())
RESTART = -1

increments = st.lists(
    st.builds(
        Increment,
        st.sampled_from(["a", "b:{x}"]),
        st.sampled_from(["b", "ü"]),
        st.integers(-1, 1),
        st.integers(0, AXES.bins - 1),
        st.integers(-(2**40), 2**40).filter(bool),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with EmbeddedServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def debian_url(tmp_path_factory):
    with running("redis-server", tmp_path_factory.mktemp("redis")) as url:
        yield url


def deliver(store: Store, rows: list[Increment], data: st.DataObject, server: EmbeddedServer | None) -> None:
    """Split the rows over workers and batches, and deliver these in some order, some of them again and again."""
    workers = data.draw(st.integers(1, 4))
    queues: list[list[list[Increment]]] = [[] for _ in range(workers)]
    for row in rows:
        queue = queues[data.draw(st.integers(0, workers - 1))]
        if not queue or data.draw(st.booleans()):
            queue.append([])
        queue[-1].append(row)
    sent = [0] * workers
    while any(sent[w] < len(queues[w]) for w in range(workers)):
        event = data.draw(st.integers(RESTART if server else 0, workers - 1))
        if event == RESTART and server is not None:
            kill_server(server.url)
            server.ensure()
            continue
        if sent[event] < len(queues[event]):
            sent[event] += 1
        for batch in {sent[event], data.draw(st.integers(0, sent[event]))} - {0}:  # the newest, and one from before
            store.flush(queues[event][batch - 1], batch, writer=f"worker{event}")


@given(increments, st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_partition_and_repetition(server, rows, data):
    store = Store(server.url, next(SITES), axes=AXES)
    deliver(store, rows, data, None)
    assert store.load_counts() == counts_of(rows)
    store.close()


@given(increments, st.data())
@settings(max_examples=30, deadline=None)
def test_the_same_on_redis_server(debian_url, rows, data):
    store = Store(debian_url, next(SITES), axes=AXES)
    deliver(store, rows, data, None)
    assert store.load_counts() == counts_of(rows)
    store.close()


@given(increments, st.data())
@settings(max_examples=8, deadline=None)
def test_any_restart(server, rows, data):
    store = Store(server.url, next(SITES), axes=AXES)
    deliver(store, rows, data, server)
    assert store.load_counts() == counts_of(rows)
    store.close()


@given(increments, increments)
@settings(max_examples=40, deadline=None)
def test_add_then_retract_is_the_identity(server, before, rows):
    site = next(SITES)
    store = Store(server.url, site, axes=AXES)
    store.flush(before, 1)
    with redis.Redis.from_url(server.url) as client:

        def content():
            return {key: client.hgetall(key) for key in client.keys(Keys(site).of("counts:*"))}

        held = content()
        store.flush(rows, 2)
        store.flush([row._replace(count=-row.count) for row in reversed(rows)], 3)
        assert content() == held
    store.close()


@given(st.lists(increments, min_size=1, max_size=5), st.data())
@settings(max_examples=40, deadline=None)
def test_a_journal_merges_once_wherever_it_was_cut(server, tmp_path_factory, batches, data):
    """Some of its batches had been counted, the file is cut anywhere, it is merged any number of times."""
    site, folder = next(SITES), tmp_path_factory.mktemp("journal")
    store = Store(server.url, site, axes=AXES)
    lines = [to_line(Batch("dead", n + 1, counts_of(rows)), site, AXES.fields()) for n, rows in enumerate(batches)]
    counted = data.draw(st.integers(0, len(batches)))
    for n in range(counted):
        store.flush(batches[n], n + 1, writer="dead")
    content = b"".join(lines)[: data.draw(st.integers(0, sum(map(len, lines))))]
    whole = max(counted, content.count(b"\n"))
    for _ in range(2):
        (folder / "journal-dead.jsonl").write_bytes(content)
        recover(folder, store)
    assert store.load_counts() == counts_of(row for rows in batches[:whole] for row in rows)
    store.close()
