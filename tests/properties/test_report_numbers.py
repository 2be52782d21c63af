"""The report's sums against the obvious ones, and the plan of cameras."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_layout import grid_cells, places
from pipeline.report_numbers import flows, mean_in_view, medians_by_bin, most_in_view

seconds = st.integers(0, 400).map(lambda n: n / 4)
stays = st.lists(st.tuples(seconds, seconds), max_size=30)


@given(stays, st.integers(1, 12), st.sampled_from([0.5, 1.0, 7.0]))
def test_people_in_view_are_seconds_over_seconds(pairs, count, width_s):
    entered = np.array([a for a, _ in pairs])
    left = np.array([a + b for a, b in pairs])
    edges = np.arange(count + 1) * width_s
    slow = [
        sum(max(0.0, min(z, high) - max(a, low)) for a, z in zip(entered, left, strict=True)) / width_s
        for low, high in itertools.pairwise(edges)
    ]
    assert mean_in_view(entered, left, edges) == pytest.approx(slow, abs=1e-9)


@given(stays)
def test_the_most_at_once_is_found_at_an_arrival(pairs):
    entered = np.array([a for a, _ in pairs])
    left = np.array([a + b for a, b in pairs])
    slow = max((sum(a <= moment <= z for a, z in zip(entered, left, strict=True)) for moment in entered), default=0)
    assert most_in_view(entered, left) == slow


@given(st.lists(st.tuples(seconds, st.integers(0, 4)), max_size=20))
def test_medians_by_bin(rows):
    values, bins = np.array([v for v, _ in rows]), np.array([b for _, b in rows], np.intp)
    found = medians_by_bin(values, bins, 5)
    for n in range(5):
        mine = [v for v, b in rows if b == n]
        assert found[n] == np.median(mine) if mine else np.isnan(found[n])


moves = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), seconds, st.floats(0, 1)), max_size=25)


@given(moves)
def test_flows_count_every_move_once(rows):
    columns = [np.array([row[k] for row in rows]) for k in range(4)]
    found = flows(columns[0].astype(np.intp), columns[1].astype(np.intp), columns[2], columns[3])
    assert sum(flow.count for flow in found) == len(rows)
    assert [flow.count for flow in found] == sorted((flow.count for flow in found), reverse=True)
    for flow in found:
        mine = [row for row in rows if row[:2] == (flow.from_camera, flow.to_camera)]
        assert flow.count == len(mine) and flow.median_s == pytest.approx(np.median([row[2] for row in mine]))


names = st.integers(0, 9).map(lambda n: [f"c{k}" for k in range(n)])
ways = st.dictionaries(st.tuples(*[st.sampled_from([f"c{k}" for k in range(12)])] * 2), st.floats(0, 1e6), max_size=20)


@given(names, ways)
def test_every_camera_has_a_place_and_a_tile_of_its_own(cameras, flow):
    at = places(cameras, flow)
    assert at.shape == (len(cameras), 2) and np.isfinite(at).all() and (at >= 0).all() and (at <= 1).all()
    assert (at == places(cameras, flow)).all()
    columns = 4
    rows = -(-max(len(cameras), 1) // columns)
    cells = grid_cells(at, columns, rows)
    assert len(set(cells)) == len(cameras)
    assert all(0 <= x < columns and 0 <= y < rows for x, y in cells)


def test_a_corridor_of_cameras_lies_in_order():
    order = ["gate", "hall", "stairs", "office", "roof"]
    flow = dict.fromkeys(itertools.pairwise(order), 10.0)
    given_order = ["office", "gate", "roof", "hall", "stairs"]
    at = dict(zip(given_order, places(given_order, flow)[:, 0], strict=True))
    along = [at[name] for name in order]
    assert along == sorted(along) or along == sorted(along, reverse=True)
    cells = dict(zip(given_order, grid_cells(places(given_order, flow), 5, 1), strict=True))
    columns = [cells[name][0] for name in order]
    assert columns in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])


def test_too_few_tiles():
    with pytest.raises(ValueError, match="do not fit"):
        grid_cells(np.zeros((3, 2)), 1, 2)
