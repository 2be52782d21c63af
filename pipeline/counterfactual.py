"""What would have changed a decision, worked out from its logged candidates.

A candidate's log-odds are g0 * appearance + b0 + g1 * log(transition) + face, and `joint` is their logistic
(`st_model.scoring`), so the three constants follow from a few candidates. Probabilities differ from `joint` by priors,
and by how many stays the looks of an identity are the mean of (`st_model.gallery`); both stay as they are. To change
places with the one chosen, a candidate needs as many nats as the log of their ratio of probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from st_model.sightings import Candidate, Decision

_POOL = 24
"""Candidates the constants are read from: they are exact, so a few more than three only serve to notice that the
matcher learnt a new basis between two of these decisions."""
_EXACT = 1e-3


@dataclass(frozen=True)
class Weights:
    """Nats that one unit of cosine (`g0`) and one unit of log transition (`g1`) brought when a decision was made."""

    g0: float
    g1: float


@dataclass(frozen=True)
class Counterfactual:
    """How close the runner-up was. The limits are those at which both would have been equally likely.

    runner_up               its global id, None for "a new person"
    times_likelier          by which the runner-up had to become likelier; below 1: it was the likeliest, but somebody
                            else of the same moment got it
    appearance_needed       cosine the runner-up had to have, None where none in [-1, 1] would have done, or it is new
    transition_needed       transition it had to have, None where it is new
    appearance_limit        cosine below which the one chosen would have lost, None where none would, or it is new
    transition_limit        transition below which the one chosen would have lost, None where it is new
    """

    runner_up: int | None
    times_likelier: float
    appearance_needed: float | None = None
    transition_needed: float | None = None
    appearance_limit: float | None = None
    transition_limit: float | None = None


def weights_at(decisions: Sequence[Decision], index: int) -> Weights | None:
    """The weights in force at one of the decisions of a log; None where its candidates and neighbours do not say."""
    own = _rows(decisions[index])
    before = _take(own, (_rows(decisions[n]) for n in range(index - 1, -1, -1)))
    after = _take(own, (_rows(decisions[n]) for n in range(index + 1, len(decisions))))
    for pool in (before, after, own):
        found = _solve(pool)
        if found is not None:
            return found
    return None


def counterfactual(decision: Decision, weights: Weights | None) -> Counterfactual | None:
    """What would have given this stay to the runner-up; None without one that could have won.

    >>> chosen = Candidate(7, 0.8, 5.0, 2.0, 0.9, 0.8, "hall")
    >>> new = Candidate(None, 0.0, float("nan"), 1.0, 0.5, 0.2)
    >>> close = counterfactual(Decision("a", 1, 9.0, 7, "match", (chosen, new)), Weights(20.0, 1.0))
    >>> round(close.times_likelier, 6), round(close.appearance_limit, 3), round(close.transition_limit, 3)
    (4.0, 0.731, 0.5)
    """
    chosen = chosen_of(decision)
    others = [c for c in decision.candidates if c is not chosen and c.probability > 0]
    if chosen is None or chosen.probability <= 0 or not others:
        return None
    other = max(others, key=lambda c: c.probability)
    gap = math.log(chosen.probability / other.probability)
    times = chosen.probability / other.probability
    if weights is None:
        return Counterfactual(other.global_id, times)
    return Counterfactual(
        other.global_id,
        times,
        *_moved(other, gap, weights),
        *_moved(chosen, -gap, weights),
    )


def chosen_of(decision: Decision) -> Candidate | None:
    """The candidate that was chosen: that of the id given, else "a new person"."""
    named = next((c for c in decision.candidates if c.global_id == decision.global_id), None)
    return named or next((c for c in decision.candidates if c.global_id is None), None)


def _moved(candidate: Candidate, nats: float, weights: Weights) -> tuple[float | None, float | None]:
    """(cosine, transition) that this candidate has `nats` more with, each alone."""
    if candidate.global_id is None:
        return None, None
    cosine = candidate.appearance + nats / weights.g0
    transition = candidate.transition * math.exp(min(nats / weights.g1, 500.0)) if weights.g1 > 0 else None
    return cosine if -1.0 <= cosine <= 1.0 else None, transition


def _rows(decision: Decision) -> list[tuple[float, float, float]]:
    """(cosine, log transition, log-odds) of every candidate that can be read back."""
    return [
        (c.appearance, math.log(c.transition), math.log(c.joint) - math.log1p(-c.joint) - c.face)
        for c in decision.candidates
        # The rest is clipped, impossible or rounded away.
        if c.global_id is not None and abs(c.appearance) < 1 and c.transition > 0 and 1e-9 < c.joint < 1 - 1e-9
    ]


def _take(
    own: list[tuple[float, float, float]], others: Iterator[list[tuple[float, float, float]]]
) -> list[tuple[float, float, float]]:
    pool = list(own)
    for _, rows in zip(range(_POOL), others, strict=False):
        if len(pool) >= _POOL:
            break
        pool += rows
    return pool


def _solve(rows: Sequence[tuple[float, float, float]]) -> Weights | None:
    if len(rows) < 2:
        return None
    cosine, log_r, odds = np.array(rows).T
    if np.ptp(cosine) < 1e-6:
        return None
    ones = np.ones_like(cosine)
    # g1 is 1 unless somebody chose otherwise, and two candidates are enough then.
    g0 = _fitted(np.stack([cosine, ones], axis=1), odds - log_r)
    if g0 is not None:
        return Weights(float(g0[0]), 1.0) if g0[0] > 0 else None
    free = _fitted(np.stack([cosine, ones, log_r], axis=1), odds) if len(rows) > 3 else None
    return Weights(float(free[0]), float(free[2])) if free is not None and free[0] > 0 else None


def _fitted(design: NDArray[np.float64], odds: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The solution that all rows agree on, None where there is none."""
    solution = np.asarray(np.linalg.lstsq(design, odds, rcond=None)[0], np.float64)
    return solution if np.abs(design @ solution - odds).max() < _EXACT else None
