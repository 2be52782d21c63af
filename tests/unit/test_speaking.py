"""A worker's voice: what is said is on disk first, follows in order when Redis is back, and is never said twice."""

from __future__ import annotations

import itertools
import json
import logging
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_servers import kill_server, running, wait_for

from pipeline import outbox as outboxes
from pipeline import speaking
from pipeline.match import _Area
from pipeline.messages import Mark, packed_decision, packed_member, unpacked_said
from pipeline.outbox import Outbox
from pipeline.speaking import Position, Speaker
from pipeline.tracklog import RunJournal
from st_model.counts import Axes
from st_model.embedded import EmbeddedServer
from st_model.saved_state import StateChange
from st_model.sightings import Decision, Sighting
from st_model.site_stream import SiteStream, Turn
from st_model.store import Store

AXES = Axes(2.0, -30.0, 20, 86400.0)
LOOK = np.array([1.0, 0.0], np.float32)


def sighting(n):
    return Sighting("a", n, float(n), n + 1.0, n + 1.0, True, LOOK)


@given(st.lists(st.sampled_from(["say", "take", "lose", "kill"]), max_size=40), st.data())
def test_an_outbox_says_everything_once_in_order_whatever_happens(tmp_path_factory, events, data):
    path = tmp_path_factory.mktemp("outbox") / "box"
    box, said, taken = Outbox(path), [], 0
    for event in events:
        if event == "say":
            said.append(box.last + data.draw(st.integers(1, 3)))
            box.append(said[-1], b"message %d" % said[-1])
        elif event == "take" and said:
            taken = max(taken, data.draw(st.sampled_from(said)))
            box.taken(taken)
        elif event == "lose" and said:  # the server came back with an older state
            taken = data.draw(st.sampled_from([0, *(n for n in said if n <= taken)]))
            box.taken(taken)
            assert box.knows(taken)
        elif event == "kill":
            box.close()
            box = Outbox(path)
            box.taken(taken)
        messages = box.unsent(100)
        assert [m.number for m in messages] == [n for n in said if n > taken]
        assert [m.before for m in messages] == [([0, *said])[said.index(m.number)] for m in messages]
        assert all(m.content == b"message %d" % m.number for m in messages)
    box.close()


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:-5] + b"X" + data[-4:]])
def test_what_a_kill_cut_off_was_never_promised(tmp_path, damage):
    path = tmp_path / "box"
    box = Outbox(path)
    for n in range(1, 4):
        box.append(n, b"message")
    box.close()
    path.write_bytes(damage(path.read_bytes()))
    box = Outbox(path)
    assert [m.number for m in box.unsent(9)] == [1, 2] and box.last == 2
    box.append(3, b"again")
    assert box.unsent(9)[-1].content == b"again"
    box.close()


def test_an_outbox_of_a_worker_that_runs_for_months_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(outboxes, "KEEP_S", 0.0)
    monkeypatch.setattr(outboxes, "_COMPACT_BYTES", 10_000)
    box = Outbox(tmp_path / "box")
    for n in range(1, 501):
        box.append(n, b"x" * 100)
        box.taken(n - 2)
    assert (tmp_path / "box").stat().st_size < 25_000
    assert [m.number for m in box.unsent(9)] == [499, 500]
    with pytest.raises(ValueError, match="message 500 after 500"):
        box.append(500, b"twice")
    box.close()
    assert Outbox(tmp_path / "box").last == 500


@pytest.fixture
def server(tmp_path):
    with EmbeddedServer(tmp_path / "redis") as server:
        yield server


def opened(url, who="w", **settings):
    return SiteStream(Store(url, "s", axes=AXES), "main", who, **settings)


def speaker(stream, journal, tmp_path, after=Position(), **more):
    mine = {"mine": lambda decision: decision.camera == "a", "after": after, **more}
    return Speaker(stream, "session", "stripes", outbox=tmp_path / "outbox", journal=journal, **mine)


def test_what_is_said_while_redis_is_away_follows_in_order(server, tmp_path, caplog):
    reader = opened(server.url, "m")
    reader.claim()
    errors = itertools.count()
    with (
        RunJournal(tmp_path) as journal,
        speaker(opened(server.url), journal, tmp_path, revive=server.ensure, on_error=lambda: next(errors)) as voice,
    ):
        voice.say(1, {"a": Mark(1.0)}, [sighting(1)])
        wait_for(voice.drained)
        kill_server(server.url)
        with caplog.at_level(logging.WARNING):
            for n in range(2, 30):
                voice.say(n, {"a": Mark(float(n))}, [sighting(n)])
            wait_for(voice.drained)
            wait_for(lambda: voice.away_since_s is None)
        assert voice.degraded_s > 0 and "kept on disk" in caplog.text and "Redis is back" in caplog.text
        wait_for(lambda: reader.lengths()["sightings"] == 29)
    got = [unpacked_said(entry.fields["m"]) for entry in [*reader.claim(), *reader.read()]]
    assert [said.number for said in got] == list(range(1, 30)) and next(errors) > 0
    assert [said.sightings[0].track_id for said in got] == list(range(1, 30))


def test_a_redis_that_lost_its_last_seconds_is_told_again(tmp_path):
    """As after a power failure of its machine; here a new server that knows nothing at all."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with RunJournal(tmp_path) as journal:
        with running("embedded", tmp_path / "one") as url, speaker(opened(url), journal, tmp_path) as voice:
            for n in range(1, 6):
                voice.say(n, {"a": Mark(float(n))}, [sighting(n)])
            wait_for(voice.drained)
        with running("embedded", tmp_path / "two") as url, speaker(opened(url), journal, tmp_path) as voice:
            assert voice.resumed_at == 5
            wait_for(voice.drained)
            voice.say(5, {"a": Mark(5.0)}, [sighting(5)])  # a former life said that
            voice.say(6, {"a": Mark(6.0)}, [sighting(6)])
            wait_for(voice.drained)
            reader = opened(url, "m")
            entries = [*reader.claim(), *reader.read()]
    assert [unpacked_said(entry.fields["m"]).number for entry in entries] == [1, 2, 3, 4, 5, 6]


def test_a_full_stream_makes_a_worker_wait_not_lose(server, tmp_path):
    reader = opened(server.url, "m", most_sightings=3)
    fence = reader.lease()
    reader.claim()
    with RunJournal(tmp_path) as journal, speaker(opened(server.url, most_sightings=3), journal, tmp_path) as voice:
        for n in range(1, 8):
            voice.say(n, {"a": Mark(float(n))}, [sighting(n)])
        wait_for(lambda: voice.full)
        assert reader.lengths()["sightings"] == 3
        area = _Area(reader)
        area.look()
        assert "3 messages wait" in area.alarms["sightings"]
        numbers = []
        for turn in itertools.count(1):
            entries = reader.read(wait_s=0.5)
            numbers += [unpacked_said(entry.fields["m"]).number for entry in entries]
            if len(numbers) == 7:
                break
            reader.store_turn(fence, Turn(turn, StateChange("x"), [entry.id for entry in entries]))
        wait_for(voice.drained)
    assert numbers == [1, 2, 3, 4, 5, 6, 7]


def test_a_worker_knows_when_decisions_were_trimmed_and_others_are_warned_before(server, tmp_path):
    matcher = opened(server.url, "m", most_decisions=50)
    fence = matcher.lease()
    matcher.claim()
    said = [packed_decision(Decision("a", n, float(n), n, "new")) for n in range(1, 1001)]
    matcher.store_turn(fence, Turn(1, StateChange("x"), decisions=said[:1]))
    first = matcher.decisions("0")[0]
    matcher.beat(packed_member({"role": "worker", "at_s": 0.0, "read": {"main": 1}}))
    area = _Area(matcher)
    matcher.store_turn(fence, Turn(2, StateChange("x"), decisions=said[1:45]))
    area.look()
    assert area.alarms == {"m": "worker m has 44 decisions to read; some will be trimmed"}
    matcher.store_turn(fence, Turn(3, StateChange("x"), decisions=said[45:]))
    with RunJournal(tmp_path) as journal:
        voice = speaker(opened(server.url), journal, tmp_path, after=Position(first.id, 1))
        voice.catch_up()
        voice.outbox.close()
    assert voice.missed and 50 <= voice.counts["new"] < 999
    rows = [json.loads(line) for line in (tmp_path / "journal" / "decisions.jsonl").read_text().splitlines()]
    assert rows[-1]["track_id"] == 1000


def test_a_worker_knows_up_to_when_it_is_decided(server, tmp_path, monkeypatch):
    monkeypatch.setattr(speaking, "_ASK_S", 0.05)
    matcher = opened(server.url, "m")
    fence = matcher.lease()
    matcher.claim()
    heard = []
    with (
        RunJournal(tmp_path) as journal,
        speaker(opened(server.url), journal, tmp_path, on_decided=heard.append) as voice,
    ):
        wait_for(lambda: voice.settled_s > 0)  # nothing has been said yet
        voice.say(1, {"a": Mark(1.0)}, [sighting(1)])
        said_s = time.monotonic()
        wait_for(voice.drained)
        time.sleep(0.2)
        assert voice.settled_s < said_s
        entries = [entry.id for entry in matcher.read()]
        answers = [packed_decision(Decision(camera, 1, 2.0, 7, "new")) for camera in "ab"]
        matcher.store_turn(fence, Turn(1, StateChange("x"), entries, answers, progress={"worker:w": 1}))
        wait_for(lambda: voice.settled_s > said_s)
        assert [decision.camera for decision in heard] == ["a"], "decided means read back"
        with voice.silent():
            before = voice.after
            matcher.store_turn(fence, Turn(2, StateChange("x"), [], answers[:1]))
            time.sleep(0.2)
            assert voice.after == before and len(heard) == 1
        wait_for(lambda: len(heard) == 2)
