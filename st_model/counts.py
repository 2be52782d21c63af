"""Values that the store keeps: counts by pair, epoch and bin, and what they mean (axes)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from st_model.transitions import ONE, Increment, TableSettings

PairEpoch = tuple[str, str, int]
"""(from camera, to camera, epoch)"""

Counts = dict[PairEpoch, dict[int, int]]
"""Delay bin -> count (4096 = one observation) of each pair and epoch; no zeros."""


@dataclass(frozen=True)
class Axes:
    """What the counts of a site mean. Counts of equal axes add; others are refused (`AxesMismatch`).

    bin_s, origin_s  width of a delay bin and the delay at which bin 0 starts, seconds
    bins             number of bins
    epoch_s          length of an epoch, seconds
    """

    bin_s: float
    origin_s: float
    bins: int
    epoch_s: float

    @classmethod
    def of(cls, settings: TableSettings) -> Axes:
        """The axes of tables with these settings.

        >>> Axes.of(TableSettings(bin_s=2.0, origin_s=-30.0, horizon_s=70.0))
        Axes(bin_s=2.0, origin_s=-30.0, bins=50, epoch_s=86400.0)
        """
        return cls(settings.bin_s, settings.origin_s, settings.bins, settings.epoch_s)

    def fields(self) -> dict[str, str]:
        """As they stand in Redis. Equal axes give equal text."""
        return {
            "bin_s": repr(float(self.bin_s)),
            "origin_s": repr(float(self.origin_s)),
            "bins": str(int(self.bins)),
            "epoch_s": repr(float(self.epoch_s)),
            "one": str(ONE),
        }


def summed(increments: Iterable[Increment]) -> Counts:
    """Increments added up per pair, epoch and bin, without zeros.

    >>> summed([Increment("a", "b", 0, 5, ONE), Increment("a", "b", 0, 5, -ONE), Increment("a", "b", 0, 6, 1)])
    {('a', 'b', 0): {6: 1}}
    """
    out: Counts = {}
    for from_camera, to_camera, epoch, bin, count in increments:
        row = out.setdefault((from_camera, to_camera, epoch), {})
        row[bin] = row.get(bin, 0) + count
    for key, row in list(out.items()):
        if not all(row.values()):
            out[key] = {b: n for b, n in row.items() if n}
    return {key: row for key, row in out.items() if row}


def increments_of(counts: Counts) -> list[Increment]:
    """Counts as increments, sorted: what `TransitionTables.add` takes."""
    return [Increment(*key, b, n) for key in sorted(counts) for b, n in sorted(counts[key].items())]
