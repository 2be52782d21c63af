"""Who is on the site at a moment of a finished run: in view of which camera, or between two, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

ROUNDED_S = 1e-3  # tables of stays hold times to a ten-thousandth
GONE_AFTER_S = 2.0  # whoever is not seen again stays on the list this long: names that vanish at once cannot be read


@dataclass(frozen=True)
class OnSite:
    """One person now. cameras: those they are in view of; none: they were last seen by `last` and will be seen again.
    since_s: how long they have been there, or away."""

    global_id: int
    cameras: tuple[str, ...]
    last: str
    since_s: float


class Roster:
    """Follows the stays of a run in order of time; asked with times that never step back, it costs what changed.

    stays  rows with global_id, camera, entered_s, left_s (pipeline/movements.py)

    >>> import pyarrow as pa
    >>> rows = [(1, "a", 0.0, 4.0), (1, "b", 9.0, 12.0), (2, "a", 3.0, 5.0)]
    >>> names = ("global_id", "camera", "entered_s", "left_s")
    >>> roster = Roster(pa.table({n: [row[k] for row in rows] for k, n in enumerate(names)}))
    >>> [(one.global_id, one.cameras, one.since_s) for one in roster.at(4.0)]
    [(1, ('a',), 4.0), (2, ('a',), 1.0)]
    >>> [(one.global_id, one.cameras, one.last, one.since_s) for one in roster.at(8.0)]
    [(1, (), 'a', 4.0)]
    """

    def __init__(self, stays: pa.Table) -> None:
        names = ("global_id", "camera", "entered_s", "left_s")
        rows = zip(*(stays[name].to_pylist() for name in names), strict=True)
        self._coming: list[tuple[int, str, float, float]] = sorted(rows, key=lambda row: (row[2], row[0]))
        self._next = 0
        self._ends: dict[int, float] = {}
        for person, _, _, left_s in self._coming:
            self._ends[person] = max(self._ends.get(person, left_s), left_s)
        self._stays: dict[int, list[tuple[str, float, float]]] = {}
        """Person -> stays that have begun and are not over, and the last that is."""

    def at(self, time_s: float) -> Sequence[OnSite]:
        """Everybody who has been seen and is still seen, or will be seen again; first come first."""
        while self._next < len(self._coming) and self._coming[self._next][2] <= time_s + ROUNDED_S:
            person, camera, entered_s, left_s = self._coming[self._next]
            self._stays.setdefault(person, []).append((camera, entered_s, left_s))
            self._next += 1
        found = []
        for person, begun in list(self._stays.items()):
            if time_s > self._ends[person] + GONE_AFTER_S:
                del self._stays[person]
                continue
            here = [stay for stay in begun if stay[2] >= time_s - ROUNDED_S]
            last = max(begun, key=lambda stay: stay[2])
            self._stays[person] = here or [last]
            cameras = tuple(dict.fromkeys(camera for camera, _, _ in here))
            since_s = time_s - (min(stay[1] for stay in here) if here else last[2])
            found.append(OnSite(person, cameras, last[0], since_s))
        return found


def flows_of(moves: pa.Table) -> dict[tuple[str, str], float]:
    """(from camera, to camera) -> how many moves, from the table of `pipeline.movements.transitions`."""
    counts: Any = moves.group_by(["from_camera", "to_camera"]).aggregate([("global_id", "count")])
    return {(row["from_camera"], row["to_camera"]): float(row["global_id_count"]) for row in counts.to_pylist()}
