"""Whichever worker is faster, however messages are cut and read: the same decisions in the same order."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from sighting_streams import stream

from pipeline.config import Config
from pipeline.listening import Listening
from pipeline.matching_area import MatchingArea
from pipeline.messages import Mark, WorkerSaid, packed_said, unpacked_decision
from st_model.counts import Axes, summed
from st_model.embedded import EmbeddedServer
from st_model.matcher import OnlineMatcher
from st_model.site_stream import Message, SiteStream
from st_model.store import Store
from st_model.transitions import TransitionTables

SITES = (f"order{n}" for n in itertools.count())
CONFIG = Config.model_validate(
    {
        "cameras": [{"name": name, "source": f"{name}.mp4"} for name in "abc"],
        "reid": {"encoder": "stripes"},
        "match": {"calibration": {"g0": 20.0, "b0": -12.0}, "centre_from": 16},
        "streams": {"patience_s": 600},
    }
)
WORKERS = {"one": "ab", "two": "c"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with EmbeddedServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def decided_alone(rows):
    matcher = OnlineMatcher(CONFIG.match, itertools.count(1).__next__, TransitionTables(CONFIG.tables))
    listening = Listening(matcher)
    listening.hear(rows)
    out = listening.advance(float("inf"))
    return out.decisions, summed(matcher.tables.items())


def named(decisions):
    """(stay, kind, time, id by order of appearance)."""
    names = {}
    return [(d.key, d.kind, d.time_s, names.setdefault(d.global_id, len(names))) for d in decisions]


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_workers_changes_nothing(server, seed):
    random = Random(seed)
    rows, _ = stream(seed % 3, people=5, visits=4)
    store = Store(server.url, next(SITES), axes=Axes.of(CONFIG.tables))
    matcher = SiteStream(store, "main", "m")
    area = MatchingArea(CONFIG, matcher, matcher.lease())
    voices = {name: SiteStream(store, "main", name) for name in WORKERS}
    left = {name: [row for row in rows if row.camera in cameras] for name, cameras in WORKERS.items()}
    number, ended = dict.fromkeys(WORKERS, 0), set()
    while not area.over:
        for _ in range(random.randint(0, 4)):
            name = random.choice(sorted(WORKERS))
            if name in ended:
                continue
            some = [left[name].pop(0) for _ in range(min(len(left[name]), random.randint(0, 6)))]
            state = "live" if left[name] else "ended"
            until_s = left[name][0].emitted_s if left[name] else rows[-1].emitted_s
            ended |= {name} if state == "ended" else set()
            number[name] += 1
            marks = dict.fromkeys(WORKERS[name], Mark(until_s, state))
            said = WorkerSaid(name, "s", number[name], "stripes", marks, some)
            assert voices[name].publish("s", [Message(number[name], number[name] - 1, packed_said(said))])[1] == "OK"
        turn = area.step(most=random.randint(1, 9), wait_s=0.001)
        if turn is not None:
            area.stored(turn, matcher.store_turn(area.fence, turn)[0])
    got = [unpacked_decision(e.fields["k"].decode(), e.fields["m"]) for e in matcher.decisions("0", most=10_000)]
    expected, counts = decided_alone(rows)
    assert named(d for d in got if hasattr(d, "kind") and hasattr(d, "track_id")) == named(expected)
    assert store.load_counts() == counts
    assert area.listening.late == 0
    store.close()


def test_one_who_comes_late_is_matched_with_what_is_known_by_then():
    rows, _ = stream(1, people=6, visits=4)
    late, rows = rows[10], rows[:10] + rows[11:]
    matcher = OnlineMatcher(CONFIG.match, itertools.count(1).__next__, TransitionTables(CONFIG.tables))
    listening = Listening(matcher)
    listening.hear(rows)
    listening.advance(rows[-1].emitted_s)
    (heard,) = listening.hear([late])
    assert listening.late == 1 and heard.emitted_s == rows[-1].emitted_s and heard.entered_s == late.entered_s
    assert late.key in {d.key for d in listening.advance(rows[-1].emitted_s + 10).decisions}
