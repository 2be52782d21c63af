"""The journal: a queue on disk that a crash at any byte leaves readable."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_servers import any_server

from st_model.counts import Axes
from st_model.journal import Batch, Journal, from_line, recover, to_line
from st_model.saved_state import State, StateChange
from st_model.store import Store
from st_model.store_errors import AxesMismatch, JournalCorrupt, StoreError

AXES = Axes(2.0, -30.0, 600, 86400.0)
CELL = ("a", "b", 0)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with any_server("embedded", tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def store(url, tmp_path):
    store = Store(url, tmp_path.name, axes=AXES)
    yield store
    store.close()


def left_behind(store: Store, folder, batches: int = 3):
    """A dead writer's journal: batches 1.. of one count each, in bins 1.."""
    lines = [to_line(Batch("dead", n, {CELL: {n: 10}}), store.site, AXES.fields()) for n in range(1, batches + 1)]
    path = folder / "journal-dead.jsonl"
    path.write_bytes(b"".join(lines))
    return path


names = st.text(min_size=1)
counts = st.dictionaries(
    st.tuples(names, names, st.integers()),
    st.dictionaries(st.integers(min_value=0), st.integers(), max_size=3),
    max_size=3,
)
entries = st.dictionaries(names.filter(lambda name: name != "position"), st.binary(min_size=1), max_size=3)
states = st.none() | st.builds(
    StateChange, names, entries, st.lists(names.filter(lambda n: n != "position")).map(tuple)
)


@given(st.builds(Batch, names, st.integers(min_value=1), counts, states), st.data())
def test_a_line_comes_back_and_damage_is_seen(batch, data):
    line = to_line(batch, "hall \n 人", AXES.fields())
    assert line.count(b"\n") == 1
    assert from_line(line) == (batch, "hall \n 人", AXES.fields())
    with pytest.raises(ValueError, match=r"cut off|checksum"):
        from_line(line[: data.draw(st.integers(0, len(line) - 1))])
    at = data.draw(st.integers(0, len(line) - 1))
    with pytest.raises(ValueError, match=r"cut off|checksum"):
        from_line(line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :])


def test_batches_come_out_in_order_and_the_file_goes_when_all_are_out(store, tmp_path):
    journal = Journal(tmp_path, store, "w")
    batches = [Batch("w", n, {CELL: {n: n}}) for n in range(1, 6)]
    for batch in batches[:3]:
        journal.append(batch)
    assert journal.first() == journal.first() == batches[0]
    journal.drop_first()
    for batch in batches[3:]:
        journal.append(batch)
    for batch in batches[1:]:
        assert journal.first() == batch
        journal.drop_first()
    assert (journal.first(), journal.waiting, journal.path.stat().st_size) == (None, 0, 0)
    journal.append(batches[0])
    assert journal.first() == batches[0]
    journal.close()
    assert journal.path.exists()
    again = Journal(tmp_path / "other", store, "w")
    again.close()
    assert not again.path.exists()


def test_a_full_disk_leaves_the_journal_as_it_was(store, tmp_path, monkeypatch):
    journal = Journal(tmp_path, store, "w")
    journal.append(Batch("w", 1, {CELL: {1: 1}}))
    before = journal.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        journal.append(Batch("w", 2, {CELL: {1: 1}}))
    assert (journal.path.read_bytes(), journal.waiting) == (before, 1)
    journal.append(Batch("w", 2, {CELL: {2: 2}}))
    journal.drop_first()
    assert journal.first() == Batch("w", 2, {CELL: {2: 2}})
    journal.close()


def test_what_a_dead_writer_left_is_merged_once(store, tmp_path):
    path = left_behind(store, tmp_path)
    store.flush({CELL: {1: 10}}, 1, writer="dead")  # this one had reached Redis, only the answer was lost
    content = path.read_bytes()
    for _ in range(2):  # and again, as if we had died just before the file was removed
        path.write_bytes(content)
        assert recover(tmp_path, store) == 3
        assert store.load_counts() == {CELL: {1: 10, 2: 10, 3: 10}}
        assert not path.exists()


def test_state_in_the_journal_is_merged_too(store, tmp_path):
    batch = Batch("dead", 1, {}, StateChange("17", {"person:1": b"\x00"}))
    (tmp_path / "journal-dead.jsonl").write_bytes(to_line(batch, store.site, AXES.fields()))
    recover(tmp_path, store)
    assert store.load_state() == State("17", {"person:1": b"\x00"})


def test_a_cut_at_any_byte_of_the_last_line_loses_only_that_line(store, tmp_path):
    path = left_behind(store, tmp_path, batches=2)
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for end in range(first, len(content)):
        path.write_bytes(content[:end])
        assert recover(tmp_path, store) == 1
    assert store.load_counts() == {CELL: {1: 10}}


def test_damage_before_the_last_line_is_an_error_and_keeps_the_file(store, tmp_path):
    path = left_behind(store, tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(b"\n") + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalCorrupt, match=r"journal-dead\.jsonl is damaged.*move it away"):
        recover(tmp_path, store)
    assert path.read_bytes() == content


def test_journals_of_the_living_and_of_other_sites_are_left_alone(store, tmp_path, url):
    living = Journal(tmp_path, store, "w")
    living.append(Batch("w", 1, {CELL: {1: 1}}))
    other = Store(url, store.site + "-other", axes=AXES)
    path = left_behind(other, tmp_path)
    assert recover(tmp_path, store) == 0
    assert path.exists() and living.path.exists()
    assert recover(tmp_path, other) == 3
    assert recover(tmp_path / "nothing", other) == 0
    living.close()
    assert recover(tmp_path, store) == 1
    other.close()


def test_counts_with_other_axes_are_not_merged(store, tmp_path, url):
    path = left_behind(store, tmp_path)
    for axes, expected in ((Axes(1.0, -30.0, 600, 86400.0), AxesMismatch), (None, StoreError)):
        wrong = Store(url, store.site, axes=axes)
        with pytest.raises(expected, match=r"journal-dead\.jsonl holds counts"):
            recover(tmp_path, wrong)
        wrong.close()
    assert path.exists()
    assert store.load_counts() == {}
