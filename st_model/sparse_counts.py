"""Counts of one pair of cameras by epoch and bin, held as what they are: a few links a day among thousands of bins.

What was counted since is a dict per epoch; everything older lies sorted in three arrays, 20 bytes for each bin that was
hit. A dense row of every epoch took 16 KB a day and pair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray


class PairCounts:
    """Integers by (epoch, bin); sums are exact in any order, and what adds up to zero leaves nothing behind.

    >>> counts = PairCounts()
    >>> counts.add(3, 17, 4096); counts.add(2, 5, 100); counts.add(2, 5, -100)
    >>> list(counts.items()), counts.epochs()
    ([(3, 17, 4096)], [3])
    """

    __slots__ = ("_bins", "_counts", "_epochs", "_since")

    def __init__(self) -> None:
        self._since: dict[int, dict[int, int]] = {}
        self._epochs = np.zeros(0, np.int64)
        self._bins = np.zeros(0, np.int32)
        self._counts = np.zeros(0, np.int64)

    def add(self, epoch: int, bin: int, count: int) -> None:
        """Add to one bin; negative retracts."""
        row = self._since.setdefault(epoch, {})
        row[bin] = row.get(bin, 0) + count

    def settle(self, before: int | None = None) -> None:
        """Pack what was added to epochs before this one (None: all)."""
        late = [epoch for epoch in self._since if before is None or epoch < before]
        if not late:
            return
        rows = [(epoch, self._since.pop(epoch)) for epoch in late]
        epochs = np.concatenate([self._epochs, *(np.full(len(row), epoch, np.int64) for epoch, row in rows)])
        bins = np.concatenate([self._bins, *(np.fromiter(row.keys(), np.int32, len(row)) for _, row in rows)])
        counts = np.concatenate([self._counts, *(np.fromiter(row.values(), np.int64, len(row)) for _, row in rows)])
        order = np.lexsort((bins, epochs))
        epochs, bins, counts = epochs[order], bins[order], counts[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = (np.diff(epochs) != 0) | (np.diff(bins) != 0)
        totals = np.add.reduceat(counts, np.flatnonzero(first))
        kept = totals != 0
        self._epochs, self._bins, self._counts = epochs[first][kept], bins[first][kept], totals[kept]

    def forget_before(self, epoch: int) -> bool:
        """Let go of all older epochs; whether that was the last that was held."""
        self.settle()
        gone = int(np.searchsorted(self._epochs, epoch))
        if gone:
            self._epochs, self._bins = self._epochs[gone:].copy(), self._bins[gone:].copy()
            self._counts = self._counts[gone:].copy()
        return bool(gone) and not len(self._epochs)

    def decayed(self, now: int, half_life_epochs: float, bins: int) -> NDArray[np.float64]:
        """(bins,) sum over epochs of 2^(-age / half-life) x counts, epoch after epoch; none is younger than `now`."""
        packed_now = len(self._epochs) > 0 and self._epochs[-1] >= now  # two parts of one epoch would round twice
        self.settle(None if packed_now else now)
        out = np.zeros(bins)
        if len(self._epochs):
            begins = np.flatnonzero(np.diff(self._epochs, prepend=self._epochs[0] - 1))
            ages = (max(0, now - epoch) for epoch in self._epochs[begins].tolist())
            weights = np.repeat([2.0 ** (-a / half_life_epochs) for a in ages], np.diff([*begins, len(self._epochs)]))
            np.add.at(out, self._bins, weights * self._counts)
        for _, row in sorted(self._since.items()):
            for b, count in row.items():
                out[b] += count
        return out

    def items(self) -> Iterator[tuple[int, int, int]]:
        """(epoch, bin, count) of every bin that is not zero, sorted."""
        self.settle()
        yield from zip(self._epochs.tolist(), self._bins.tolist(), self._counts.tolist(), strict=True)

    def epochs(self) -> list[int]:
        """Epochs that hold counts, sorted."""
        self.settle()
        return np.unique(self._epochs).tolist()  # type: ignore[no-any-return]

    def total(self, bins: int, epochs: Collection[int] | None = None) -> NDArray[np.int64]:
        """(bins,) counts, summed over some epochs (None: all) without weights."""
        self.settle()
        out = np.zeros(bins, np.int64)
        wanted = slice(None) if epochs is None else np.isin(self._epochs, list(epochs))
        np.add.at(out, self._bins[wanted], self._counts[wanted])
        return out
