"""What may teach the transition tables: appearance alone, never the tables themselves nor the ids that were given.

When a stay closes, every exit inside the table's axis is a candidate for "where this person was last". Each has, from
appearance alone, the probability q of showing the same person; that it is the LAST exit of that person needs all more
recent ones to be somebody else: w_i = q_i x product of (1 - q_k) over the more recent k. Only w > 1/2 teaches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from st_model.appearance import Basis
from st_model.gallery import Stay
from st_model.transitions import ONE, Increment, TableSettings

LEAST_WEIGHT = 0.5
"""A link must be likelier than all others together (st-ReID self-teaching, see ARCHITECTURE.md)."""
LOITER_CAP = 4
"""Links of one appearance chain, pair and hour that may teach: a loiterer cannot define an edge."""
CAP_PERIOD_S = 3600.0
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
        self._root: list[int] = []
        self._taught: dict[tuple[int, str, str, int], int] = {}

    def close(self, stay: Stay, basis: Basis) -> list[Increment]:
        """Learn from a closed stay and remember it. Independent of the tables and of every id given."""
        own = basis.vector(stay.camera, stay.embedding)
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
                increments.append(Increment(old.camera, stay.camera, epoch, b, round(weight * ONE)))
        self._remember(stay, own, root)
        return increments

    def change_basis(self, basis: Basis) -> None:
        """Compare in another basis from now on."""
        if self.stays:
            rows = basis.vectors([s.camera for s in self.stays], np.stack([s.embedding for s in self.stays]))
            self._vectors = np.array(rows, np.float32)

    def _link(self, stay: Stay, own: NDArray[np.float32], basis: Basis) -> tuple[int, float] | None:
        assert self._vectors is not None
        last = np.array([s.last_s for s in self.stays])
        delay = stay.entered_s - last
        other = np.array([s.camera != stay.camera for s in self.stays])
        tolerance = 0.5
        allowed = (delay >= self.axes.origin_s) & (delay < self.axes.horizon_s) & (other | (delay >= -tolerance))
        index = np.flatnonzero(allowed)
        if not len(index):
            return None
        c = basis.calibration
        odds = c.g0 * (self._vectors[: len(self.stays)][index] @ own).astype(np.float64) + c.b0 - np.log(len(index))
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
            alive = set(self._root)
            self._taught = {k: v for k, v in self._taught.items() if k[0] in alive}
        if self._vectors is None or len(self.stays) == len(self._vectors):
            grown = np.zeros((max(64, 2 * len(self.stays)), len(own)), np.float32)
            if self._vectors is not None:
                grown[: len(self.stays)] = self._vectors
            self._vectors = grown
        self._vectors[len(self.stays)] = own
        self.stays.append(stay)
        self._root.append(root)
