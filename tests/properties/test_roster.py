"""Who is on site, asked step by step, against looking at all stays each time."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.roster import GONE_AFTER_S, Roster

whole = st.integers(0, 40).map(float)
stay = st.tuples(st.integers(1, 4), st.sampled_from("abc"), whole, whole)


@given(st.lists(stay, max_size=15), st.lists(st.integers(0, 90), max_size=20))
def test_as_if_all_stays_were_looked_at(rows, steps):
    rows = [(person, camera, begin, begin + length) for person, camera, begin, length in rows]
    names = ("global_id", "camera", "entered_s", "left_s")
    types = (pa.int64(), pa.string(), pa.float64(), pa.float64())
    table = pa.table({n: pa.array([r[k] for r in rows], types[k]) for k, n in enumerate(names)})
    roster = Roster(table)
    for half in sorted(steps):
        now_s = half / 2
        found = {one.global_id: one for one in roster.at(now_s)}
        begun = {person: [r for r in rows if r[0] == person and r[2] <= now_s] for person, *_ in rows}
        ends = {person: max(r[3] for r in rows if r[0] == person) for person in begun}
        wanted = {person for person, mine in begun.items() if mine and now_s <= ends[person] + GONE_AFTER_S}
        assert found.keys() == wanted
        for person, one in found.items():
            here = [r for r in begun[person] if r[3] >= now_s]
            assert set(one.cameras) == {r[1] for r in here}
            if here:
                assert one.since_s == now_s - min(r[2] for r in here)
            else:
                last_s = max(r[3] for r in begun[person])
                assert one.since_s == now_s - last_s
                assert one.last in {r[1] for r in begun[person] if r[3] == last_s}
