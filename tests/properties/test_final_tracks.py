"""The vectorised track log equals a slow, obvious one; nobody is twice in a frame; order of arrival does not matter."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.final_tracks import Row, final_rows, moves

from pipeline.journal import BOX_RECORD, NOBODY
from pipeline.movements import stays, transitions
from pipeline.tracks_table import final_tracks

SCORES = st.sampled_from([0.25, 0.5, 0.75])  # few, so that ties are common


@st.composite
def cameras(draw) -> tuple[dict[int, float], list[Row], dict[int, int]]:
    """Frames looked at (with their times), rows of up to four stays, and the ids of some of them."""
    frames = sorted(draw(st.sets(st.integers(0, 25), min_size=1, max_size=12)))
    steps_s = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=len(frames), max_size=len(frames)))
    times_s = dict(zip(frames, np.cumsum(steps_s).tolist(), strict=True))
    rows = []
    for track_id in range(1, draw(st.integers(1, 4)) + 1):
        for frame in draw(st.sets(st.sampled_from(frames))):
            rows.append(Row(frame, times_s[frame], track_id, float(draw(st.integers(0, 64))), draw(SCORES)))
    ids = draw(st.dictionaries(st.integers(1, 4), st.integers(1, 2)))
    return times_s, rows, ids


def records(times_s: dict[int, float], rows: list[Row], order: np.random.Generator) -> np.ndarray:
    table = np.zeros(len(rows) + len(times_s), BOX_RECORD)
    for record, row in zip(table, rows, strict=False):
        record["frame"], record["time_s"], record["track_id"] = row.frame, row.time_s, row.track_id
        record["box"], record["score"] = [row.left, 0, row.left + 10, 20], row.score
    for record, (frame, time_s) in zip(table[len(rows) :], times_s.items(), strict=True):
        record["frame"], record["time_s"], record["track_id"] = frame, time_s, NOBODY
    return order.permutation(table)


@settings(deadline=None)
@given(cameras(), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(0, 2**32 - 1))
def test_final_tracks_equal_the_slow_ones(camera, max_gap_s, seed):
    times_s, rows, ids = camera
    expected = final_rows(times_s, rows, ids, max_gap_s)
    table, without_id, twice = final_tracks(
        {"a": records(times_s, rows, np.random.default_rng(seed))},
        {("a", track): (who, 1.0) for track, who in ids.items()},
        fill_gaps_s=max_gap_s,
        smooth_s=0.0,
    )
    assert table["frame"].to_pylist() == [frame + 1 for frame, _, _ in expected]
    assert table["global_id"].to_pylist() == [who for _, who, _ in expected]
    assert table["track_id"].to_pylist() == [row.track_id for _, _, row in expected]
    assert table["time_s"].to_pylist() == [row.time_s for _, _, row in expected]
    assert table["score"].to_pylist() == [row.score for _, _, row in expected]
    assert np.allclose(table["x1"].to_numpy(), [row.left for _, _, row in expected], atol=1e-4)
    assert without_id == sum(row.track_id not in ids for row in rows)
    keys = list(zip(table["frame"].to_pylist(), table["global_id"].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys)
    if max_gap_s == 0:
        assert table.num_rows + without_id + twice == len(rows)


STAYS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from("abc"), st.integers(0, 20), st.integers(0, 8)), max_size=12
)


@settings(deadline=None)
@given(STAYS)
def test_moves_equal_the_slow_ones(drawn):
    rows = [(who, camera, float(start), float(start + length)) for who, camera, start, length in drawn]
    columns = {
        "camera": pa.array([r[1] for r in rows for _ in "xx"], pa.string()),
        "track_id": pa.array([n for n in range(len(rows)) for _ in "xx"], pa.int64()),
        "global_id": pa.array([r[0] for r in rows for _ in "xx"], pa.int64()),
        "time_s": pa.array([t for r in rows for t in r[2:]], pa.float64()),
    }
    table = stays(pa.table(columns), {(r[1], n): (r[0], 0.5) for n, r in enumerate(rows)})
    assert table["dwell_s"].to_pylist() == [
        b - a for a, b in zip(*table.select([3, 4]).to_pydict().values(), strict=True)
    ]
    found = transitions(table).to_pylist()
    names = ("global_id", "from_camera", "left_s", "to_camera", "entered_s")
    assert [tuple(row[name] for name in names) for row in found] == moves(rows)
    assert all(row["delay_s"] == row["entered_s"] - row["left_s"] for row in found)
    assert all(row["from_camera"] != row["to_camera"] for row in found)
