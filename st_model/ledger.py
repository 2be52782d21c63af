"""The ledger: corrections of ids made later (merges and splits), append-only, and the final ids that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from st_model.sightings import Decision

StayKey = tuple[str, int]
"""(camera, track_id)"""


@dataclass(frozen=True)
class Correction:
    """One line of the ledger.

    merge  `global_id` was the same person as `into_id`, the older id, which survives; `stays` is what moved, for the
    record
    split  `stays` were not `global_id` after all: they are `into_id` from now on
    unmerge, unsplit  the latest such correction with the same ids and stays is taken back, by hand

    probability  of the correction, (0, 1]
    time_s       site time it was made at
    reason       one line for people
    by           who made it by hand; empty: the matcher
    untaught     made by hand, and the tables were not told of it
    """

    kind: Literal["merge", "split", "unmerge", "unsplit"]
    time_s: float
    global_id: int
    into_id: int
    stays: tuple[StayKey, ...]
    probability: float
    reason: str = ""
    by: str = ""
    untaught: bool = False


class LedgerError(ValueError):
    """The ledger contradicts itself."""


def standing(corrections: Iterable[Correction]) -> list[Correction]:
    """The merges and splits that nobody took back, in order. Raises LedgerError when one is taken back that is not
    there.

    >>> merge = Correction("merge", 1.0, 3, 2, (("a", 1),), 0.9)
    >>> standing([merge, Correction("unmerge", 5.0, 3, 2, (("a", 1),), 1.0, by="ann")])
    []
    """
    out: list[Correction] = []
    for c in corrections:
        if c.kind in ("merge", "split"):
            out.append(c)
            continue
        wanted = (c.kind.removeprefix("un"), c.global_id, c.into_id, c.stays)
        at = next((n for n in reversed(range(len(out))) if _what(out[n]) == wanted), None)
        if at is None:
            raise LedgerError(f"a {wanted[0]} of {c.global_id} and {c.into_id} is taken back that was never made")
        del out[at]
    return out


def _what(c: Correction) -> tuple[str, int, int, tuple[StayKey, ...]]:
    return c.kind, c.global_id, c.into_id, c.stays


def aliases(corrections: Iterable[Correction]) -> dict[int, int]:
    """Merged id -> id that survives now, chains followed. Raises LedgerError when merges go round in a circle.

    >>> ledger = [Correction("merge", 1.0, 3, 2, (), 0.9), Correction("merge", 2.0, 2, 1, (), 0.9)]
    >>> aliases(ledger)
    {3: 1, 2: 1}
    """
    into = {c.global_id: c.into_id for c in standing(corrections) if c.kind == "merge"}
    out = {}
    for start in into:
        seen, here = {start}, into[start]
        while here in into:
            if here in seen:
                raise LedgerError(f"merges go round in a circle: {sorted(seen)}")
            seen.add(here)
            here = into[here]
        out[start] = here
    return out


def final_ids(decisions: Iterable[Decision], corrections: Iterable[Correction]) -> dict[StayKey, tuple[int, float]]:
    """(camera, track_id) -> (global id, probability) after the last decision of each stay and every correction.

    Both in the order they were made. A split outranks the decisions made before it.

    >>> final_ids([Decision("a", 1, 5.0, 7, "new")], [Correction("merge", 9.0, 7, 4, (("a", 1),), 0.9)])
    {('a', 1): (4, 0.0)}
    """
    latest: dict[StayKey, Decision] = {}
    for decision in decisions:
        latest[decision.key] = decision
    ids = {key: (d.global_id, d.probability) for key, d in latest.items()}
    ledger = standing(corrections)
    for c in ledger:
        if c.kind == "split":
            for key in c.stays:
                if key in latest and c.time_s >= latest[key].time_s:
                    ids[key] = (c.into_id, c.probability)
    alias = aliases(ledger)
    return {key: (alias.get(i, i), p) for key, (i, p) in ids.items()}
