"""Where people are in a picture, for hiding them: every tracked box of a run, also of stays that never got an id.

A box that is missing for a moment must not show anybody: between two boxes of one stay they are interpolated, and for
`HOLD_S` before the first and after the last the box stays where it was, a little wider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import atomic
from pipeline.journal import NOBODY, JournalError
from pipeline.tracks_table import read_tracks

FILE = "hidden_boxes.parquet"
HOLD_S = 0.6  # a track is shown a few frames after the person appears, and ends a moment before they are gone
GAP_S = 5.0  # a longer hole in one stay is no detector's blink: in it the person may be anywhere
GROW = 0.25  # share of its width that a held box grows by on each side: people walk sideways through pictures


@dataclass(frozen=True, eq=False)
class StayBoxes:
    """The boxes of one stay in order of time: times_s (T,), boxes (T, 4) xyxy px."""

    track_id: int
    times_s: NDArray[np.float64]
    boxes: NDArray[np.float32]

    def at(self, time_s: float) -> NDArray[np.float32] | None:
        """(4,) the box at a moment, None when the person is not there then.

        >>> stay = StayBoxes(1, np.array([0.0, 1.0]), np.array([[0, 0, 10, 10], [10, 0, 20, 10]], np.float32))
        >>> stay.at(0.5).tolist(), stay.at(1.2).tolist(), stay.at(9.0)
        ([5.0, 0.0, 15.0, 10.0], [7.5, 0.0, 22.5, 10.0], None)
        """
        n = int(np.searchsorted(self.times_s, time_s))
        if n < len(self.times_s) and self.times_s[n] == time_s:
            return np.asarray(self.boxes[n], np.float32)
        if 0 < n < len(self.times_s):
            before_s, after_s = self.times_s[n - 1], self.times_s[n]
            if after_s - before_s <= GAP_S:
                share = (time_s - before_s) / (after_s - before_s)
                return np.asarray((1 - share) * self.boxes[n - 1] + share * self.boxes[n], np.float32)
        if n > 0 and time_s - self.times_s[n - 1] <= HOLD_S:
            return grown(self.boxes[n - 1], GROW)
        if n < len(self.times_s) and self.times_s[n] - time_s <= HOLD_S:
            return grown(self.boxes[n], GROW)
        return None


class CameraBoxes:
    """The stays of one camera; asked for moments in rising order, it looks only at those near."""

    def __init__(self, stays: list[StayBoxes]) -> None:
        self._stays = sorted(stays, key=lambda stay: float(stay.times_s[0]))
        self._begun = 0
        self._active: list[StayBoxes] = []
        self._now_s = -np.inf

    def at(self, time_s: float) -> list[tuple[int, NDArray[np.float32]]]:
        """(track id, (4,) box) of everybody there at a moment."""
        if time_s < self._now_s:
            self._begun, self._active = 0, []
        self._now_s = time_s
        while self._begun < len(self._stays) and self._stays[self._begun].times_s[0] - HOLD_S <= time_s:
            self._active.append(self._stays[self._begun])
            self._begun += 1
        self._active = [stay for stay in self._active if stay.times_s[-1] + HOLD_S >= time_s]
        found = ((stay.track_id, stay.at(time_s)) for stay in self._active)
        return [(track_id, box) for track_id, box in found if box is not None]


def grown(box: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """A box with `share` of its width added on each side."""
    x1, y1, x2, y2 = box.tolist()
    return np.array([x1 - share * (x2 - x1), y1, x2 + share * (x2 - x1), y2], np.float32)


def write_hidden_boxes(run_dir: Path, boxes: Mapping[str, NDArray[np.void]]) -> None:
    """Keep every tracked box of the journal, for videos that hide people. Raises OutputError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for camera, records in boxes.items():
        seen = records[records["track_id"] != NOBODY]
        columns = {"camera": pa.repeat(pa.scalar(camera), len(seen))}
        columns |= {name: np.ascontiguousarray(seen[name]) for name in ("time_s", "track_id")}
        columns |= {name: np.ascontiguousarray(seen["box"][:, k]) for k, name in enumerate(("x1", "y1", "x2", "y2"))}
        tables.append(pa.table(columns))
    empty = {"camera": pa.array([], pa.string())}
    with atomic(run_dir / FILE) as temporary:
        pq.write_table(pa.concat_tables(tables) if tables else pa.table(empty), temporary, compression="zstd")


def read_hidden_boxes(run_dir: Path) -> dict[str, list[StayBoxes]]:
    """Camera -> the boxes of its stays: of every track where the run kept them, else of the tracks with an id.

    Raises FileNotFoundError when the run has no tracks, JournalError for a damaged file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(run_dir) / FILE
    try:
        table = pq.read_table(path) if path.is_file() else read_tracks(run_dir)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise JournalError(f"{path} is not a readable Parquet file: {error}") from error
    if not table.num_rows:
        return {}
    cameras, tracks = np.array(table["camera"].to_pylist()), table["track_id"].to_numpy()
    times_s = table["time_s"].to_numpy()
    boxes = np.stack([table[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1).astype(np.float32)
    out: dict[str, list[StayBoxes]] = {}
    for camera in sorted(set(cameras.tolist())):
        rows = np.flatnonzero(cameras == camera)
        rows = rows[np.lexsort((times_s[rows], tracks[rows]))]
        for part in np.split(rows, np.flatnonzero(np.diff(tracks[rows])) + 1):
            out.setdefault(camera, []).append(StayBoxes(int(tracks[part[0]]), times_s[part], boxes[part]))
    return out
