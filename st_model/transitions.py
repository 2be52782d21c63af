"""Transition tables: integer counts of how long people take from camera A to camera B.

Counts are the only durable state: integers per ordered pair, epoch and delay bin, so that they add up to the same table
in any order, from any number of workers, after any restart. Everything smoothed is derived and cached.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from st_model.density import density, learnt_share, log_ratio, log_ratio_in_view
from st_model.evidence_sums import EvidenceSums
from st_model.sparse_counts import PairCounts

ONE = 4096
"""A whole observation in integer count units (weight 1.0 = 4096), so that sums are exact in any order."""

Pair = tuple[str, str]
"""(from camera, to camera)"""

DISJOINT_FROM, DISJOINT_SHARE = 30.0, 0.02
"""Observations of a pair, both ways, from which two cameras may be known not to overlap, and the share of them that may
have come before the other camera was left: wrong links."""
MOST_BINS = 1_000_000
"""Of a delay axis: some megabytes for each pair of cameras."""
FADED_HALF_LIVES = 20
"""An epoch older than this may be forgotten: it counts less than a millionth. Redis keeps counts for 13 (90 days)."""


class Increment(NamedTuple):
    """What one observed transition adds to the counts (negative: a retraction).

    epoch  index of the period (a day by default) of the site clock the transition ended in
    bin    index of the delay bin; bin 0 starts at the table's origin (which may be negative)
    count  integer, weight 1.0 = 4096

    >>> Increment("a", "b", 0, 17, ONE).count
    4096
    """

    from_camera: str
    to_camera: str
    epoch: int
    bin: int
    count: int  # type: ignore[assignment]  # a tuple has a method of this name


@dataclass(frozen=True)
class TableSettings:
    """Axes and smoothing of all tables of a site. Counts of equal axes (`bin_s`, `origin_s`, `horizon_s`, `epoch_s`)
    add.

    bin_s             width of a delay bin, seconds
    origin_s          delay at which bin 0 starts, <= 0: negative delays happen where views overlap
    horizon_s         longest delay in the table, seconds
    sigma_s           Parzen bandwidth with ample evidence, seconds
    thin              observations below which the bandwidth widens
    floor             share of the uniform that stays: log r never falls below about log(floor)
    floor_evidence    observations at which half of the rest is learnt
    pair_evidence     observations by which "how often does this pair happen at all" is pulled towards "as by chance"
    epoch_s           length of an epoch, seconds
    half_life_epochs  an epoch this old counts half

    Raises ValueError when a value makes no sense.

    >>> TableSettings(bin_s=2.0, origin_s=-30.0, horizon_s=70.0).bins
    50
    """

    bin_s: float = 2.0
    origin_s: float = -30.0
    horizon_s: float = 4000.0
    sigma_s: float = 2.5
    thin: float = 30.0
    floor: float = 0.02
    floor_evidence: float = 2.0
    pair_evidence: float = 20.0
    epoch_s: float = 86400.0
    half_life_epochs: float = 7.0

    def __post_init__(self) -> None:
        if bad := [f.name for f in fields(self) if not math.isfinite(getattr(self, f.name))]:
            raise ValueError(f"{', '.join(bad)} must be finite")
        for name in ("bin_s", "sigma_s", "floor_evidence", "pair_evidence", "epoch_s", "half_life_epochs"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.thin < 0:
            raise ValueError(f"thin must not be negative, got {self.thin}")
        if not (self.origin_s <= 0 < self.horizon_s):
            raise ValueError(f"origin_s must be <= 0 and horizon_s > 0, got {self.origin_s} and {self.horizon_s}")
        if not 0 < self.floor <= 1:
            raise ValueError(f"floor must lie in (0, 1], got {self.floor}")
        if self.horizon_s - self.origin_s > MOST_BINS * self.bin_s:
            raise ValueError(f"from origin_s to horizon_s are more than {MOST_BINS:,} bins of {self.bin_s} s")

    @cached_property
    def bins(self) -> int:
        """Number of delay bins."""
        return int(np.ceil((self.horizon_s - self.origin_s) / self.bin_s - 1e-9))

    def bin_of(self, delay_s: float) -> int | None:
        """Bin of a delay, None outside the axis.

        >>> TableSettings(bin_s=2.0, origin_s=-30.0).bin_of(0.0)
        15
        """
        b = math.floor((delay_s - self.origin_s) / self.bin_s)
        return b if 0 <= b < self.bins else None

    def epoch_of(self, time_s: float) -> int:
        """Epoch a site time falls into."""
        return int(np.floor(time_s / self.epoch_s))


class TransitionTables:
    """Counts of a site in memory and the log-ratio rows derived from them.

    Rows are rebuilt when they are read after a change, one pair at a time; a look-up is one array index.

    >>> tables = TransitionTables(TableSettings(horizon_s=100.0))
    >>> float(tables.log_ratio("a", "b")[20])       # nothing seen: neutral
    0.0
    >>> tables.add([Increment("a", "b", 0, 20, ONE)] * 5)
    >>> bool(tables.log_ratio("a", "b")[20] > 1 > 0 > tables.log_ratio("a", "b")[60])
    True
    """

    def __init__(self, settings: TableSettings | None = None) -> None:
        self.settings = settings or TableSettings()
        self.version = 0
        """Rises with every change of the counts."""
        self._counts: dict[Pair, PairCounts] = {}
        self._sources: dict[str, list[str]] = {}
        self._epoch = 0
        self.oldest = -math.inf
        """Epochs before it were forgotten (`forget_faded`)."""
        self._trust: dict[Pair, float] = {}
        self._rows: dict[Pair, tuple[NDArray[np.float32], NDArray[np.float32], float]] = {}
        self._evidence: dict[Pair, float] = {}
        self._sums = EvidenceSums()
        self._stale: set[Pair] = set()
        self._lifts: dict[Pair, float] = {}
        self._disjoint: dict[Pair, bool] = {}
        self._neutral = np.zeros(self.settings.bins, np.float32)
        self._neutral.setflags(write=False)

    def add(self, increments: Iterable[Increment]) -> None:
        """Add increments (negative counts retract). Raises ValueError on a bin outside the axis; nothing is added
        then.
        """
        batch = list(increments)
        bins = self.settings.bins
        for item in batch:
            if not 0 <= item.bin < bins:
                raise ValueError(f"bin {item.bin} of {item.from_camera} -> {item.to_camera} is outside 0..{bins - 1}")
        for item in batch:
            if item.epoch < self.oldest:
                continue
            pair = (item.from_camera, item.to_camera)
            if pair not in self._counts:
                insort(self._sources.setdefault(item.to_camera, []), item.from_camera)
                self._counts[pair] = PairCounts()
            self._counts[pair].add(item.epoch, item.bin, item.count)
            if item.count <= 0 and not self._counts[pair].epochs():
                self._forget_pair(pair)
            self._forget_derived(pair)
        if batch:
            self.version += 1
            self.at_epoch(max(item.epoch for item in batch))

    def at_epoch(self, epoch: int) -> None:
        """Say which epoch is now; it only moves forward. Older epochs lose weight."""
        if epoch > self._epoch or (not self._rows and not self._counts):
            self._epoch = epoch
            for counts in self._counts.values():
                counts.settle(epoch)
            self._rows.clear()
            self._evidence.clear()
            self._stale.update(self._counts)
            self._disjoint.clear()
            self._lifts.clear()

    def forget_faded(self) -> None:
        """Let go of epochs that count less than 2^-20 by now, for good: nothing is added to or retracted from them any
        more. A bin of `histogram` then lacks at most a millionth of the observations that were let go.
        """
        oldest = self._epoch - math.ceil(FADED_HALF_LIVES * self.settings.half_life_epochs)
        if oldest <= self.oldest:
            return
        self.oldest = oldest
        for pair, counts in list(self._counts.items()):
            if counts.forget_before(oldest):
                self._forget_pair(pair)
            self._forget_derived(pair)

    def set_trust(self, pair: Pair, trust: float) -> None:
        """Lower the weight of what was learnt about a pair ([0, 1]; 1 restores it)."""
        if self._trust.get(pair, 1.0) != trust:
            self._trust[pair] = trust
            self._rows.pop(pair, None)

    def disjoint(self, a: str, b: str) -> bool:
        """Whether two cameras never see one person at once, as far as is known: many went from one to the other, either
        way, and hardly anybody arrived before they had left.

        >>> tables = TransitionTables(TableSettings(horizon_s=100.0))
        >>> tables.disjoint("a", "b")
        False
        >>> tables.add([Increment("a", "b", 0, 20, ONE)] * 40)
        >>> tables.disjoint("a", "b"), tables.disjoint("b", "a")
        (True, True)
        """
        pair = (min(a, b), max(a, b))
        known = self._disjoint.get(pair)
        if known is None:
            both = self.histogram(*pair) + self.histogram(*pair[::-1])
            total, early_bins = both.sum(), self.settings.bin_of(-2.0 * self.settings.bin_s)
            # An axis that begins at 0 holds nobody who arrived early: it cannot say that nobody did.
            known = bool(early_bins and total >= DISJOINT_FROM and both[:early_bins].sum() <= DISJOINT_SHARE * total)
            self._disjoint[pair] = known
        return known

    def trust_all_but(self, doubtful: Iterable[Pair]) -> None:
        """Give every pair its whole weight, but none to these."""
        alarmed = set(doubtful)
        for pair in alarmed | self._trust.keys():
            self.set_trust(pair, 0.0 if pair in alarmed else 1.0)

    def trust(self, pair: Pair) -> float:
        """Weight of what was learnt about a pair, [0, 1]."""
        return self._trust.get(pair, 1.0)

    def pairs(self) -> list[Pair]:
        """Ordered pairs with counts, sorted."""
        return sorted(self._counts)

    def sources(self, to_camera: str) -> list[str]:
        """Cameras with counts of transitions to this one, sorted: sums over them round the same after a restart."""
        return self._sources.get(to_camera, [])

    def histogram(self, from_camera: str, to_camera: str) -> NDArray[np.float64]:
        """(bins,) observations, each epoch weighted by 2^(-age / half-life); negative sums are cut to 0."""
        s, counts = self.settings, self._counts.get((from_camera, to_camera))
        if counts is None:
            return np.zeros(s.bins)
        return np.maximum(counts.decayed(self._epoch, s.half_life_epochs, s.bins), 0.0) / ONE

    def evidence(self, from_camera: str, to_camera: str) -> float:
        """Decayed number of observations of a pair."""
        pair = (from_camera, to_camera)
        if pair not in self._evidence:
            self._evidence[pair] = float(self.histogram(*pair).sum())
        return self._evidence[pair]

    def density(self, from_camera: str, to_camera: str) -> NDArray[np.float64]:
        """(bins,) probability of each delay bin, >= 0, sum 1; uniform for an unseen pair."""
        return self._density((from_camera, to_camera), self.trust((from_camera, to_camera)))

    def unlearnt(self, from_camera: str, to_camera: str) -> float:
        """Share of the uniform in `density`, [0, 1]; 1 for an unseen pair."""
        pair, s = (from_camera, to_camera), self.settings
        return 1.0 - learnt_share(self.evidence(*pair), s.floor, s.floor_evidence, self.trust(pair))

    def log_ratio(self, from_camera: str, to_camera: str) -> NDArray[np.float32]:
        """(bins,) float32 log(density x horizon), read-only; zeros for an unseen pair."""
        return self._row((from_camera, to_camera))[0]

    def trusted_log_ratio(self, from_camera: str, to_camera: str) -> NDArray[np.float32]:
        """(bins,) log r as it would be without an alarm."""
        pair = (from_camera, to_camera)
        return self.log_ratio(*pair) if self.trust(pair) == 1.0 else log_ratio(self._density(pair, 1.0))

    def log_ratio_in_view(self, from_camera: str, to_camera: str) -> NDArray[np.float32]:
        """(bins,) float32: the same for somebody still in view in `from_camera`, whose exit is not known yet."""
        return self._row((from_camera, to_camera))[1]

    def largest_log_ratio(self, from_camera: str, to_camera: str) -> float:
        """Upper bound of both rows of a pair."""
        return self._row((from_camera, to_camera))[2]

    def log_lift(self, from_camera: str, to_camera: str) -> float:
        """log of how much more often this pair of cameras follows each other than by chance, by its trust; 0 for an
        unseen pair.
        """
        lift = self._lifts.get((from_camera, to_camera))
        if lift is None:
            lift = self._lifts[from_camera, to_camera] = self._log_lift(from_camera, to_camera)
        return lift * self.trust((from_camera, to_camera))

    def _log_lift(self, from_camera: str, to_camera: str) -> float:
        if (from_camera, to_camera) not in self._counts:
            return 0.0
        sums = self._settled_sums()
        if sums.total <= 0.0:
            return 0.0
        expected = sums.out_of(from_camera) * sums.into(to_camera) / sums.total
        k = self.settings.pair_evidence
        return float(np.log((self.evidence(from_camera, to_camera) + k) / (expected + k)))

    def share_into(self, from_camera: str, cameras: Collection[str], before: float) -> float:
        """Which share of those who leave a camera are seen next in one of `cameras`; `before` as long as nothing is
        known.

        >>> tables = TransitionTables(TableSettings(horizon_s=100.0))
        >>> tables.share_into("a", {"b"}, 0.5)
        0.5
        >>> tables.add([Increment("a", "c", 0, 20, ONE)] * 60)
        >>> tables.share_into("a", {"b"}, 0.5)
        0.125
        """
        here = sum(self.evidence(from_camera, to) for to in sorted(cameras) if (from_camera, to) in self._counts)
        k = self.settings.pair_evidence
        return float((here + before * k) / (self._settled_sums().out_of(from_camera) + k))

    def _settled_sums(self) -> EvidenceSums:
        for pair in self._stale:
            self._sums.put(pair, self.evidence(*pair) if pair in self._counts else 0.0)
        self._stale.clear()
        return self._sums

    def items(self) -> Iterator[Increment]:
        """All counts as increments, sorted: adding them to empty tables of the same axes gives the same tables."""
        for pair in sorted(self._counts):
            for epoch, b, count in self._counts[pair].items():
                yield Increment(*pair, epoch, b, count)

    def epochs(self) -> list[int]:
        """Epochs with counts of any pair, sorted."""
        return sorted({epoch for counts in self._counts.values() for epoch in counts.epochs()})

    def counts(self, from_camera: str, to_camera: str, epochs: Collection[int] | None = None) -> NDArray[np.int64]:
        """(bins,) counts of a pair, summed over some epochs (None: all) without decay."""
        counts = self._counts.get((from_camera, to_camera), PairCounts())
        return counts.total(self.settings.bins, epochs)

    def _density(self, pair: Pair, trust: float) -> NDArray[np.float64]:
        s = self.settings
        return density(
            self.histogram(*pair),
            sigma_bins=s.sigma_s / s.bin_s,
            thin=s.thin,
            floor=s.floor,
            floor_evidence=s.floor_evidence,
            trust=trust,
        )

    def _row(self, pair: Pair) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        row = self._rows.get(pair)
        if row is None:
            if pair not in self._counts:
                return self._neutral, self._neutral, 0.0
            probability = self.density(*pair)
            exited, in_view = log_ratio(probability), log_ratio_in_view(probability)
            exited.setflags(write=False)
            in_view.setflags(write=False)
            row = self._rows[pair] = (exited, in_view, float(exited.max()))  # a mean of r is never above its maximum
        return row

    def _forget_pair(self, pair: Pair) -> None:
        """A pair whose every count was taken back is as one never seen: so it is to whoever reads the counts anew."""
        del self._counts[pair]
        self._sources[pair[1]].remove(pair[0])

    def _forget_derived(self, pair: Pair) -> None:
        self._rows.pop(pair, None)
        self._evidence.pop(pair, None)
        self._stale.add(pair)
        self._disjoint.pop((min(pair), max(pair)), None)
        self._lifts.clear()
