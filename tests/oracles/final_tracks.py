"""Slow, obvious versions of what a run's final files hold: one row, one stay, one frame at a time."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple


class Row(NamedTuple):
    """A box of a stay: 0-based frame, site time, track id, left edge, score (one edge stands for the box)."""

    frame: int
    time_s: float
    track_id: int
    left: float
    score: float


def final_rows(
    looked_at: dict[int, float], rows: list[Row], ids: dict[int, int], max_gap_s: float
) -> list[tuple[int, int, Row]]:
    """(frame, global id, row) of one camera, sorted: with ids, holes filled, nobody twice in a frame.

    looked_at  frame -> time of every frame of the camera; ids: track id -> global id
    """
    stays = defaultdict(list)
    for row in sorted(rows):
        if row.track_id in ids:
            stays[row.track_id].append(row)
    best: dict[tuple[int, int], Row] = {}
    for track_id, stay in stays.items():
        whole = list(stay)
        for a, b in pairwise(stay):
            for frame, time_s in looked_at.items():
                if a.frame < frame < b.frame and b.time_s - a.time_s <= max_gap_s:
                    part = (time_s - a.time_s) / (b.time_s - a.time_s)
                    left = a.left + part * (b.left - a.left)
                    whole.append(Row(frame, time_s, track_id, left, min(a.score, b.score)))
        for row in whole:
            key = row.frame, ids[track_id]
            if key not in best or (-row.score, row.track_id) < (-best[key].score, best[key].track_id):
                best[key] = row
    return [(frame, who, row) for (frame, who), row in sorted(best.items())]


def moves(stays: list[tuple[int, str, float, float]]) -> list[tuple[int, str, float, str, float]]:
    """(person, from, left_s, to, entered_s) from stays (person, camera, entered_s, left_s)."""
    found = []
    for person in sorted({stay[0] for stay in stays}):
        mine = sorted((entered, left, camera) for who, camera, entered, left in stays if who == person)
        for n in range(1, len(mine)):
            entered, _, camera = mine[n]
            before = mine[n - 1][2]
            if camera == before:
                continue
            left_s = float("-inf")
            for _, left, where in reversed(mine[:n]):  # the run of stays in the camera before this one
                if where != before:
                    break
                left_s = max(left_s, left)
            found.append((person, before, left_s, camera, entered))
    return found
