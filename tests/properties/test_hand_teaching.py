"""Corrections by hand teach exactly: whatever is made and taken back, what was added sums to what should be taught."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.hand_teaching import Span, teaching, wanted
from st_model.ledger import Correction, final_ids, standing
from st_model.sightings import Decision
from st_model.transitions import ONE, Increment, TableSettings

AXES = TableSettings(horizon_s=300.0)
CAMERAS = "abc"


@st.composite
def histories(draw):
    """Stays, the ids a matcher gave, links that taught, and a ledger of corrections by hand."""
    count = draw(st.integers(3, 9))
    spans, decisions = {}, []
    for n in range(count):
        key = (draw(st.sampled_from(CAMERAS)), n)
        entered = draw(st.integers(0, 200)) * 1.0
        spans[key] = Span(entered, entered + draw(st.integers(1, 20)))
        decisions.append(Decision(*key, spans[key].last_s, draw(st.integers(1, 4)), "confirm"))
    links = {}
    for left in spans:
        for entered in spans:
            at = AXES.bin_of(spans[entered].entered_s - spans[left].last_s)
            if left != entered and at is not None and draw(st.integers(0, 6)) == 0:
                links[left, entered] = Increment(left[0], entered[0], 0, at, draw(st.integers(2049, ONE)))
    ledger = []
    fresh = 100
    for _ in range(draw(st.integers(1, 6))):
        ids = final_ids(decisions, ledger)
        people = sorted({i for i, _ in ids.values()})
        stands = standing(ledger)
        what = draw(st.sampled_from(["merge", "split", "undo"]))
        if what == "undo" and stands:
            chosen = draw(st.sampled_from(stands))
            ledger.append(replace(chosen, kind=f"un{chosen.kind}"))
        elif what == "merge" and len(people) > 1:
            a, b = sorted(draw(st.permutations(people))[:2])
            stays = tuple(sorted(k for k, (i, _) in ids.items() if i == b))
            ledger.append(Correction("merge", 999.0, b, a, stays, 1.0, by="ann"))
        elif what == "split":
            key = draw(st.sampled_from(sorted(ids)))
            fresh += 1
            ledger.append(Correction("split", 999.0, ids[key][0], fresh, (key,), 1.0, by="ann"))
    return links, spans, decisions, ledger


def counts(increments) -> Counter:
    out = Counter()
    for item in increments:
        out[item[:4]] += item.count
    return Counter({key: n for key, n in out.items() if n})


@given(histories())
def test_what_was_added_step_by_step_is_what_should_be_taught(history):
    links, spans, decisions, ledger = history
    added = Counter()
    for n in range(1, len(ledger) + 1):
        added.update(counts(teaching(links, spans, decisions, ledger[: n - 1], ledger[:n], AXES)))
    machine = {key: i for key, (i, _) in final_ids(decisions, []).items()}
    final = {key: i for key, (i, _) in final_ids(decisions, ledger).items()}
    held = counts(links.values())
    held.update(added)
    should = counts(wanted(links, spans, machine, final, AXES).values())
    assert Counter({k: n for k, n in held.items() if n}) == should
    assert all(n > 0 for n in should.values())  # nothing is ever taken that was not there


@given(histories())
def test_everything_taken_back_leaves_no_trace(history):
    links, spans, decisions, ledger = history
    undone = list(ledger)
    for correction in reversed(standing(ledger)):
        undone.append(replace(correction, kind=f"un{correction.kind}"))
    assert final_ids(decisions, undone) == final_ids(decisions, [])
    total = counts(teaching(links, spans, decisions, [], undone, AXES))
    assert not total


@given(histories())
def test_links_of_people_nobody_touched_stay(history):
    links, spans, decisions, ledger = history
    machine = {key: i for key, (i, _) in final_ids(decisions, []).items()}
    final = {key: i for key, (i, _) in final_ids(decisions, ledger).items()}
    now = wanted(links, spans, machine, final, AXES)

    def company(ids, key):
        return frozenset(other for other, person in ids.items() if person == ids[key])

    for (left, entered), taught in links.items():
        if all(company(machine, key) == company(final, key) for key in (left, entered)):
            assert now[left, entered] == taught
        elif final[left] != final[entered] and machine[left] == machine[entered]:
            assert (left, entered) not in now
