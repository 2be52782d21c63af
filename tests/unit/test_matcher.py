"""The online matcher on small situations with a known answer."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from sighting_streams import stream, unit

from st_model.calibration import Calibration
from st_model.hypotheses import MatchSettings
from st_model.ledger import final_ids
from st_model.matcher import OnlineMatcher, Outcome, apply
from st_model.sightings import Decision, Sighting
from st_model.snapshot import SnapshotError, state_from_dict, state_to_dict
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

AXES = TableSettings(horizon_s=300.0)
SETTINGS = MatchSettings(calibration=Calibration(14.0, -7.0), caution=0.5)


def matcher(tables: TransitionTables | None = None, settings: MatchSettings = SETTINGS, **more) -> OnlineMatcher:
    return OnlineMatcher(settings, itertools.count(1).__next__, tables or TransitionTables(AXES), **more)


def stay(camera: str, track_id: int, entered_s: float, last_s: float, look, closed: bool = True, **more) -> Sighting:
    return Sighting(camera, track_id, entered_s, last_s, last_s, closed, unit(np.asarray(look, float)), **more)


def ids_of(rows: list[Sighting], **more) -> dict[tuple[str, int], int]:
    m = matcher(**more)
    decisions, corrections = [], []
    for row in sorted(rows, key=lambda s: s.emitted_s):
        for out in (m.advance(row.emitted_s),):
            decisions += out.decisions
            corrections += out.corrections
        m.submit(row)
    out = m.finish()
    final = final_ids(decisions + out.decisions, corrections + out.corrections)
    return {key: i for key, (i, _) in final.items()}


RED, BLUE = [1, 0, 0, 0], [0, 1, 0, 0]


def test_the_same_look_is_the_same_person_and_another_look_is_not() -> None:
    ids = ids_of([stay("a", 1, 0, 3, RED), stay("b", 1, 10, 13, RED), stay("b", 2, 11, 14, BLUE)])
    assert ids["a", 1] == ids["b", 1] != ids["b", 2]


def test_nobody_is_twice_in_one_camera() -> None:
    ids = ids_of([stay("a", 1, 0, 30, RED), stay("a", 2, 10, 20, RED)])
    assert ids["a", 1] != ids["a", 2]


def test_nobody_is_in_two_cameras_at_once_that_are_known_to_see_nobody_at_once() -> None:
    rows = [stay("a", 1, 0, 300, RED), stay("b", 1, 10, 290, RED), stay("b", 2, 320, 330, RED)]
    cold = ids_of(rows)
    assert cold["a", 1] == cold["b", 1], "they may overlap, as long as nothing is known"
    links = {"disjoint": [20.0] * 40, "overlapping": [20.0] * 39 + [-10.0]}
    ids = {}
    for name, delays_s in links.items():
        tables = TransitionTables(AXES)
        tables.add([Increment("a", "b", 0, AXES.bin_of(t), ONE) for t in delays_s])
        ids[name] = ids_of(rows, tables=tables)
    assert ids["overlapping"]["a", 1] == ids["overlapping"]["b", 1]
    assert ids["disjoint"]["a", 1] == ids["disjoint"]["b", 2] != ids["disjoint"]["b", 1]
    for origin_s in (0.0, -4.0):  # such an axis cannot hold that somebody came early
        tables = TransitionTables(replace(AXES, origin_s=origin_s))
        tables.add([Increment("a", "b", 0, 10, 40 * ONE)])
        assert not tables.disjoint("a", "b")


def test_who_arrives_in_two_overlapping_cameras_in_one_window_is_one_person() -> None:
    ids = ids_of([stay("a", 1, 0, 3, RED), stay("b", 1, 0.2, 3.1, RED), stay("b", 2, 0.2, 3.1, BLUE)])
    assert ids["a", 1] == ids["b", 1] != ids["b", 2]


def test_caution_teaches_nobodys_share_of_new_people() -> None:
    cautious, bold = (matcher(settings=replace(SETTINGS, caution=c)) for c in (3.5, 0.0))
    for m in (cautious, bold):
        for n, look in enumerate((RED, BLUE, [0, 0, 1, 0], [0.66, 0.75, 0, 0])):
            m.submit(stay("ab"[n % 2], n, 20.0 * n, 20.0 * n + 3, look))
        m.finish()
    assert cautious.state.new_seen.keys() == bold.state.new_seen.keys() == {"a", "b"}
    for camera, seen in cautious.state.new_seen.items():
        assert seen == pytest.approx(bold.state.new_seen[camera], abs=1e-6)


def test_a_broken_track_goes_on_as_the_same_person() -> None:
    ids = ids_of([stay("a", 1, 0, 10, RED), stay("a", 2, 9.5, 20, RED)])
    assert ids["a", 1] == ids["a", 2]


def test_two_arrivals_at_once_share_no_identity() -> None:
    rows = [stay("a", 1, 0, 3, RED), stay("b", 1, 10, 13, RED), stay("b", 2, 10, 13, [1, 0.1, 0, 0])]
    ids = ids_of(rows)
    assert ids["b", 1] != ids["b", 2]


def test_a_learnt_delay_decides_between_two_who_look_alike() -> None:
    tables = TransitionTables(AXES)
    tables.add([Increment("a", "b", 0, AXES.bin_of(20.0) or 0, 200 * ONE)])
    ambiguous = [0.72, 0.69, 0, 0]
    rows = [stay("a", 1, 0, 5, [1, 0.5, 0, 0]), stay("a", 2, 60, 65, [0.5, 1, 0, 0]), stay("b", 1, 85, 88, ambiguous)]
    cold, warm = ids_of(rows), ids_of(rows, tables=tables)
    assert warm["b", 1] == warm["a", 2]
    assert cold["b", 1] == cold["a", 1]  # appearance alone prefers the other one


def test_the_last_word_may_change_the_first() -> None:
    rows = [
        stay("a", 1, 0, 3, RED),
        stay("b", 1, 10, 11.5, RED, closed=False),
        stay("b", 1, 10, 20, BLUE),
    ]
    m = matcher()
    for row in rows:
        m.submit(row)
    decisions = m.finish().decisions
    about_b = [d for d in decisions if d.key == ("b", 1)]
    assert [d.global_id == 1 for d in about_b] == [True, False]
    assert about_b[1].kind == "switch"


def test_an_open_stay_waits_for_its_window_and_late_rows_are_not_lost() -> None:
    m = matcher()
    m.submit(stay("a", 1, 0, 1.5, RED, closed=False))
    assert m.advance(2.0).decisions == []
    assert [d.key for d in m.advance(2.5).decisions] == [("a", 1)]
    m.submit(stay("a", 2, 0.5, 1.0, BLUE))  # emitted before the window just decided
    assert [d.key for d in m.advance(2.6).decisions] == [("a", 2)]


def test_identities_nobody_saw_for_long_are_forgotten() -> None:
    m = matcher(settings=replace(SETTINGS, memory_s=100.0))
    m.submit(stay("a", 1, 0, 3, RED))
    m.submit(stay("a", 2, 500, 503, BLUE))
    m.finish()
    assert list(m.state.gallery.identities) == [2]


def test_an_outage_teaches_nothing() -> None:
    rows = [stay("a", 1, 0, 3, RED), stay("b", 1, 50, 53, RED)]

    def taught(**more) -> list[Increment]:
        m = matcher(**more)
        for row in rows:
            m.submit(row)
        return m.finish().increments

    assert [i[:2] for i in taught()] == [("a", "b")]
    assert taught(outages=[("b", 20.0, 30.0)]) == []
    assert len(taught(outages=[("c", 20.0, 30.0)])) == 1


def test_a_loiterer_cannot_define_an_edge() -> None:
    m = matcher()
    for n in range(20):
        m.submit(stay("ab"[n % 2], n, 20.0 * n, 20.0 * n + 5, RED))
    per_pair = {}
    for i in m.finish().increments:
        per_pair[i[:2]] = per_pair.get(i[:2], 0) + 1
    assert per_pair == {("a", "b"): 4, ("b", "a"): 4}


def test_forgetting_a_person_leaves_no_embedding() -> None:
    m = matcher()
    for row in (stay("a", 1, 0, 3, RED), stay("b", 1, 10, 13, RED), stay("a", 2, 20, 23, BLUE)):
        m.submit(row)
    m.finish()
    m.forget(1)
    kept = state_to_dict(m.state)
    assert [(s["camera"], s["track_id"]) for s in kept["stays"]] == [("a", 2)]
    m.submit(stay("b", 2, 40, 43, BLUE))
    assert m.finish().decisions[0].global_id == 2


def test_a_decision_without_id_cannot_be_applied() -> None:
    m = matcher()
    with pytest.raises(ValueError, match="no id"):
        apply(m.state, Decision("a", 1, 0.0, 0, "new"), stay("a", 1, 0, 3, RED), SETTINGS)


@pytest.mark.parametrize("stop_at", [3, 20, 41])
def test_a_stopped_matcher_goes_on_as_if_nothing_had_happened(stop_at: int) -> None:
    rows, _ = stream(4)
    settings = replace(SETTINGS, centre_from=12, whiten_from=24, merge_every_s=30.0)

    def go_on(m: OnlineMatcher, rest: list[Sighting]) -> Outcome:
        total = Outcome()
        for row in rest:
            out = m.advance(row.emitted_s)
            m.submit(row)
            for name in ("decisions", "corrections", "increments"):
                getattr(total, name).extend(getattr(out, name))
        out = m.finish()
        for name in ("decisions", "corrections", "increments"):
            getattr(total, name).extend(getattr(out, name))
        return total

    m = matcher(settings=settings)
    for row in rows[:stop_at]:
        m.advance(row.emitted_s)
        m.submit(row)
    saved = json.loads(json.dumps(state_to_dict(m.state)))
    tables = TransitionTables(AXES)
    tables.add(list(m.tables.items()))
    tables.version = m.tables.version
    next_id = max([0, *m.state.gallery.identities, *(c for c in range(m.next_id()))])
    whole = OnlineMatcher(settings, itertools.count(next_id + 1).__next__, m.tables, state=m.state)
    resumed = OnlineMatcher(settings, itertools.count(next_id + 1).__next__, tables, state=state_from_dict(saved, AXES))
    assert repr(go_on(resumed, rows[stop_at:])) == repr(go_on(whole, rows[stop_at:]))


def test_a_snapshot_of_another_schema_or_in_pieces_is_refused() -> None:
    saved = state_to_dict(matcher().state)
    with pytest.raises(SnapshotError, match="schema"):
        state_from_dict({**saved, "schema": 99}, AXES)
    del saved["gallery"]
    with pytest.raises(SnapshotError, match="damaged"):
        state_from_dict(saved, AXES)


@pytest.mark.parametrize(
    "wrong", [{"window_s": 0.0}, {"new_share": 1.0}, {"merge_at": 0.0}, {"margin": 1.0}, {"tolerance_s": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        MatchSettings(**wrong)
