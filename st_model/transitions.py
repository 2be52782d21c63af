"""Transition tables: integer counts of how long people take from camera A to camera B."""

from __future__ import annotations

from typing import NamedTuple

ONE = 4096
"""A whole observation in integer count units (weight 1.0 = 4096), so that sums are exact in any order."""


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
    count: int
