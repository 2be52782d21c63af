"""How much was observed in all, out of each camera and into each: sums that do not depend on what came first."""

from __future__ import annotations

from collections import Counter

UNIT = 2.0**-20
"""Observations are summed in whole multiples of it: integers, unlike floats, add up to the same in any order."""


class EvidenceSums:
    """Observations of ordered pairs of cameras, summed. All figures are observations.

    >>> sums = EvidenceSums()
    >>> sums.put(("a", "b"), 3.0), sums.put(("a", "c"), 1.5), sums.put(("a", "b"), 1.0)
    (None, None, None)
    >>> sums.total, sums.out_of("a"), sums.into("b"), sums.into("a")
    (2.5, 2.5, 1.0, 0.0)
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], int] = {}
        self._out_of: Counter[str] = Counter()
        self._into: Counter[str] = Counter()
        self._total = 0

    def put(self, pair: tuple[str, str], observations: float) -> None:
        """Say how many of a pair there are; it replaces what was said before."""
        units = round(observations / UNIT)
        change = units - self._pairs.pop(pair, 0)
        if units:
            self._pairs[pair] = units
        self._out_of[pair[0]] += change
        self._into[pair[1]] += change
        self._total += change

    @property
    def total(self) -> float:
        """Of all pairs."""
        return self._total * UNIT

    def out_of(self, camera: str) -> float:
        """Of all transitions from a camera."""
        return self._out_of[camera] * UNIT

    def into(self, camera: str) -> float:
        """Of all transitions to a camera."""
        return self._into[camera] * UNIT
