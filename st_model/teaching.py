"""What may teach the transition tables: appearance alone, never the tables themselves nor the ids that were given.

When a stay closes, every exit inside the table's axis is a candidate for "where this person was last". Each has, from
appearance alone, the probability q of showing the same person; that it is the LAST exit of that person needs all more
recent ones to be somebody else: w_i = q_i x product of (1 - q_k) over the more recent k. Only w > 1/2 teaches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from st_model.appearance import Basis, return_doubt
from st_model.gallery import Stay
from st_model.ledger import StayKey
from st_model.transitions import ONE, Increment, TableSettings

LEAST_WEIGHT = 0.5
"""A link must be likelier than all others together (r_j > 1/2; appearance alone votes)."""
LOITER_CAP = 4
"""Links of one appearance chain, pair and hour that may teach: a loiterer cannot define an edge."""
CAP_PERIOD_S = 3600.0
TWIN_S = 0.5
"""Longest overlap of a broken track with its own twin that may teach."""
RECENT_S, LEAST_WATCHED_S = 1800.0, 60.0
"""Span over which exits are counted, and the least that a rate is taken from."""
Outage = tuple[str, float, float]
"""(camera, from_s, to_s): it was not watching; delays across an outage say nothing."""


def last_exit_weights(log_odds: NDArray[np.float64], last_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) probability that each exit is this person's last one; the rest up to 1 is "never seen before".

    log_odds  (N,) posterior log-odds of each exit to show the same person
    last_s    (N,) when each exit was

    >>> last_exit_weights(np.array([20.0, 20.0, -20.0]), np.array([5.0, 9.0, 10.0])).round(3)
    array([0., 1., 0.])
    """
    order = np.argsort(-last_s, kind="stable")
    q = np.asarray(expit(log_odds[order]), np.float64)
    others = np.concatenate([[1.0], np.cumprod(1.0 - q)[:-1]])
    out = np.empty_like(q)
    out[order] = q * others
    return out


class Teacher:
    """Recent closed stays, and the increments a newly closed one gives."""

    def __init__(self, axes: TableSettings, outages: Sequence[Outage] = (), most: int = 4096) -> None:
        self.axes, self.outages, self.most = axes, tuple(outages), most
        self.stays: list[Stay] = []
        self.closed_stays = 0
        """Ever seen, also those forgotten since."""
        self._vectors: NDArray[np.float32] | None = None
        self._last_s = np.zeros(0)
        self._camera = np.zeros(0, np.int32)
        self._codes: dict[str, int] = {}
        self._root: list[int] = []
        self._taught: dict[tuple[int, str, str, int], int] = {}

    def close(self, stay: Stay, basis: Basis) -> list[Increment]:
        """Learn from a closed stay and remember it. Independent of the tables and of every id given.

        Its `vector`, if it has one, is in `basis`.
        """
        own = basis.vector(stay.camera, stay.embedding) if stay.vector is None else stay.vector
        root = self.closed_stays
        increments: list[Increment] = []
        link = self._link(stay, own, basis) if self.stays else None
        if link is not None:
            index, weight = link
            old = self.stays[index]
            root = self._root[index]
            hour = int(np.floor(stay.entered_s / CAP_PERIOD_S))
            cap = (root, old.camera, stay.camera, hour)
            self._taught[cap] = self._taught.get(cap, 0) + 1
            b = self.axes.bin_of(stay.entered_s - old.last_s)
            if b is not None and self._taught[cap] <= LOITER_CAP:
                epoch = self.axes.epoch_of(stay.entered_s)
                stay.taught, stay.taught_from = (
                    Increment(old.camera, stay.camera, epoch, b, round(weight * ONE)),
                    old.key,
                )
                increments.append(stay.taught)
        self._remember(stay, own, root)
        return increments

    def ended_before(self, time_s: float) -> int:
        """How many of `stays`, from the first on, ended before: all but a few that closed out of order."""
        return int(np.searchsorted(self._last_s[: len(self.stays)], time_s))

    def exits_per_s(self, now_s: float) -> float:
        """How many stays end in a second, of late: in the last RECENT_S, or since watching began."""
        last = self._last_s[: len(self.stays)]
        if not len(last):
            return 0.0
        watched = min(RECENT_S, max(now_s - float(last.min()), LEAST_WATCHED_S))
        return max(int(np.count_nonzero((last > now_s - watched) & (last <= now_s))), 1) / watched

    def remember(self, stay: Stay, basis: Basis) -> None:
        """Take in a stay of another area, once: it may be where somebody came from. It teaches nothing itself."""
        if not any(s.key == stay.key and s.entered_s == stay.entered_s for s in reversed(self.stays)):
            self._remember(stay, basis.vector(stay.camera, stay.embedding), self.closed_stays)

    def change_basis(self, basis: Basis) -> None:
        """Compare in another basis from now on."""
        if self.stays:
            rows = basis.vectors([s.camera for s in self.stays], np.stack([s.embedding for s in self.stays]))
            self._vectors = np.array(rows, np.float32)

    def _link(self, stay: Stay, own: NDArray[np.float32], basis: Basis) -> tuple[int, float] | None:
        assert self._vectors is not None
        last = self._last_s[: len(self.stays)]
        delay = stay.entered_s - last
        allowed = (delay >= self.axes.origin_s) & (delay < self.axes.horizon_s)
        here = self._camera[: len(self.stays)] == self._codes.get(stay.camera, -1)
        allowed &= ~(here & (delay < -TWIN_S))  # a person is not twice in one camera, but for a broken track's twin
        index = np.flatnonzero(allowed)
        if not len(index):
            return None
        c = basis.calibration
        begin, end = int(index[0]), int(index[-1]) + 1  # mostly without a gap: no need to copy all vectors
        rows = self._vectors[begin:end] if end - begin == len(index) else self._vectors[index]
        odds = c.g0 * (rows @ own).astype(np.float64) + c.b0 - np.log(len(index))
        odds -= return_doubt(here[index], delay[index])
        weights = last_exit_weights(odds, last[index])
        best = int(np.argmax(weights))
        old = self.stays[index[best]]
        if weights[best] <= LEAST_WEIGHT or self._blind(old, stay):
            return None
        return int(index[best]), float(weights[best])

    def _blind(self, old: Stay, new: Stay) -> bool:
        """Whether one of the two cameras was out at some time between exit and entry."""
        left, entered = min(old.last_s, new.entered_s), max(old.last_s, new.entered_s)
        return any(
            camera in (old.camera, new.camera) and start < entered and end > left for camera, start, end in self.outages
        )

    def _remember(self, stay: Stay, own: NDArray[np.float32], root: int) -> None:
        self.closed_stays += 1
        if len(self.stays) >= self.most + self.most // 4:  # in blocks, so that forgetting costs little
            drop = len(self.stays) - self.most
            del self.stays[:drop], self._root[:drop]
            assert self._vectors is not None
            self._vectors[: self.most] = self._vectors[drop : drop + self.most].copy()
            self._last_s[: self.most] = self._last_s[drop : drop + self.most].copy()
            self._camera[: self.most] = self._camera[drop : drop + self.most].copy()
            alive = set(self._root)
            self._taught = {k: v for k, v in self._taught.items() if k[0] in alive}
        n = len(self.stays)
        if self._vectors is None or n == len(self._vectors):
            grown = np.zeros((max(64, 2 * n), len(own)), np.float32)
            if self._vectors is not None:
                grown[:n] = self._vectors
            self._vectors = grown
            self._last_s = np.concatenate([self._last_s[:n], np.zeros(len(grown) - n)])
            self._camera = np.concatenate([self._camera[:n], np.zeros(len(grown) - n, np.int32)])
        self._vectors[n], self._last_s[n], self._camera[n] = own, stay.last_s, self._code(stay.camera)
        self.stays.append(stay)
        self._root.append(root)

    def _code(self, camera: str) -> int:
        return self._codes.setdefault(camera, len(self._codes))

    def rename(self, global_id: int, into_id: int) -> None:
        """Stays of one identity are another's now, also those that it does not remember any more."""
        for stay in self.stays:
            if stay.global_id == global_id:
                stay.global_id = into_id

    def forget(self, keys: set[StayKey]) -> None:
        """Erase stays and their embeddings."""
        keep = [n for n, s in enumerate(self.stays) if s.key not in keys]
        if self._vectors is not None:
            self._vectors, self._last_s = self._vectors[keep].copy(), self._last_s[keep].copy()
            self._camera = self._camera[keep].copy()
        self.stays, self._root = [self.stays[n] for n in keep], [self._root[n] for n in keep]

    def layout(self, number: Mapping[int, int]) -> dict[str, Any]:
        """Recent stays and caps as plain values; `number` numbers stays by `id`."""
        return {
            "stays": [number[id(s)] for s in self.stays],
            "roots": self._root,
            "closed_stays": self.closed_stays,
            "taught": [[*key, n] for key, n in self._taught.items()],
        }

    @classmethod
    def from_layout(
        cls,
        saved: Mapping[str, Any],
        stays: Sequence[Stay],
        basis: Basis,
        axes: TableSettings,
        outages: Sequence[Outage],
    ) -> Teacher:
        """A teacher as `layout` described it."""
        teacher = cls(axes, outages)
        teacher.stays = [stays[n] for n in saved["stays"]]
        teacher._root = list(saved["roots"])
        teacher.closed_stays = saved["closed_stays"]
        teacher._taught = {(t[0], t[1], t[2], t[3]): t[4] for t in saved["taught"]}
        teacher._last_s = np.array([s.last_s for s in teacher.stays])
        teacher._camera = np.array([teacher._code(s.camera) for s in teacher.stays], np.int32)
        teacher.change_basis(basis)
        return teacher
