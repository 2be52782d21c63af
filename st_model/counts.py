"""Values that the store keeps: counts by pair, epoch and bin; what they mean (axes); their form as a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

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
    return {key: kept for key, row in out.items() if (kept := {b: n for b, n in row.items() if n})}


def increments_of(counts: Counts) -> list[Increment]:
    """Counts as increments, sorted: what `TransitionTables.add` takes."""
    return [Increment(*key, b, n) for key in sorted(counts) for b, n in sorted(counts[key].items())]


def to_document(axes: Axes, counts: Counts) -> dict[str, Any]:
    """Counts as JSON types, sorted: the form in which tables are exported."""
    rows = [
        {"from": a, "to": b, "epoch": epoch, "counts": {str(k): n for k, n in sorted(counts[a, b, epoch].items())}}
        for a, b, epoch in sorted(counts)
    ]
    return {"format": "identrix transition counts", "one": ONE, "axes": asdict(axes), "rows": rows}


def from_document(document: Any) -> tuple[Axes, Counts]:
    """The inverse of `to_document`. Rows of one pair and epoch add up.

    >>> axes = Axes(2.0, -30.0, 600, 86400.0)
    >>> from_document(to_document(axes, {("a", "b", 0): {5: ONE}})) == (axes, {("a", "b", 0): {5: ONE}})
    True

    Raises ValueError when it is no such document.
    """
    try:
        if document["format"] != "identrix transition counts":
            raise ValueError(f"its format is {document['format']!r}")
        if document["one"] != ONE:
            raise ValueError(f"an observation counts {document['one']} there, {ONE} here")
        raw = document["axes"]
        axes = Axes(float(raw["bin_s"]), float(raw["origin_s"]), int(raw["bins"]), float(raw["epoch_s"]))
        increments = [
            Increment(str(row["from"]), str(row["to"]), int(row["epoch"]), int(b), int(n))
            for row in document["rows"]
            for b, n in row["counts"].items()
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not an exported transition table: {error}") from error
    if outside := next((i for i in increments if not 0 <= i.bin < axes.bins), None):
        raise ValueError(f"not an exported transition table: {outside} lies outside its {axes.bins} bins")
    return axes, summed(increments)
