"""Where people are in a picture, for hiding them: every tracked box of a run, also of stays that never got an id.

A box that is missing for a moment must not show anybody: between two boxes of one stay they are interpolated, and for
`HOLD_S` before the first and after the last the box stays where it was, a little wider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import atomic
from pipeline.journal import NOBODY, JournalError, read_facts
from pipeline.tracks_table import read_tracks

if TYPE_CHECKING:
    import pyarrow as pa

FILE, ERASED_FILE = "hidden_boxes.parquet", "erased_boxes.parquet"
_CORNERS = ("x1", "y1", "x2", "y2")
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


def grown(box: NDArray[np.float32], wider: float, higher: float = 0.0) -> NDArray[np.float32]:
    """A box with a share of its width added on each side, and of its height above and below."""
    x1, y1, x2, y2 = box.tolist()
    dx, dy = wider * (x2 - x1), higher * (y2 - y1)
    return np.array([x1 - dx, y1 - dy, x2 + dx, y2 + dy], np.float32)


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
    path = Path(run_dir) / FILE
    return _by_stay(_read(path) if path.is_file() else read_tracks(run_dir))


def read_erased_boxes(run_dir: Path) -> dict[str, list[StayBoxes]] | None:
    """Camera -> boxes that nobody may be seen in, because who was there was forgotten. They bear no id.

    None: somebody was forgotten and their boxes were not kept. Raises JournalError.
    """
    path = Path(run_dir) / ERASED_FILE
    if path.is_file():
        return _by_stay(_read(path))
    return None if read_facts(run_dir).get("forgotten") else {}


def erase_boxes(run_dir: Path, stays: set[tuple[str, int]]) -> None:
    """Keep the boxes of some stays as boxes to be painted over: without ids, beside those kept before.

    Raises OutputError, JournalError.
    """
    before, held = read_erased_boxes(run_dir) or {}, read_hidden_boxes(run_dir)
    rows: list[dict[str, Any]] = []
    number = 0
    for known in (before, {c: [s for s in held[c] if (c, s.track_id) in stays] for c in held}):
        for camera, found in known.items():
            for stay in found:
                number += 1
                for time_s, box in zip(stay.times_s.tolist(), stay.boxes.tolist(), strict=True):
                    rows.append(
                        {
                            "camera": camera,
                            "time_s": time_s,
                            "track_id": number,
                            **dict(zip(_CORNERS, box, strict=True)),
                        }
                    )
    _write(Path(run_dir) / ERASED_FILE, rows)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [("camera", pa.string()), ("time_s", pa.float64()), ("track_id", pa.int64())]
    schema = pa.schema(fields + [(name, pa.float32()) for name in _CORNERS])
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise JournalError(f"{path} is not a readable Parquet file: {error}") from error


def _by_stay(table: pa.Table) -> dict[str, list[StayBoxes]]:
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
