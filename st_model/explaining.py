"""What would have changed a decision: counterfactuals, from the decision's own candidates and the tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from st_model.calibration import Calibration
from st_model.sightings import Candidate, Decision
from st_model.transitions import TransitionTables


@dataclass(frozen=True)
class Counterfactual:
    """One change that alone would have made `instead` win (an id, or None for a new person).

    change  `appearance` (cosine of the winner lower by `by`), `delay` (a delay of `by` seconds), `no space-time`,
    `prior`
            (log-odds of a new person higher by `by`)
    text    the same in words
    """

    change: str
    by: float
    instead: int | None
    text: str


def counterfactuals(
    decision: Decision, tables: TransitionTables, calibration: Calibration, g1: float = 1.0
) -> list[Counterfactual]:
    """The smallest single changes that would have changed the result; empty when there was no other candidate.

    >>> winner = Candidate(4, 0.8, 12.0, 1.0, 0.9, 0.9, "a")
    >>> decision = Decision("b", 1, 0.0, 4, "match", (winner, Candidate(None, 0, float("nan"), 1.0, 0.3, 0.1)))
    >>> counterfactuals(decision, TransitionTables(), Calibration(20.0, -12.0))[0].text
    'with a similarity of 0.69 instead of 0.80 it would have been a new person'
    """
    ranked = sorted(decision.candidates, key=lambda c: -c.probability)
    if len(ranked) < 2:
        return []
    best, second = ranked[0], ranked[1]
    gap = float(np.log(max(best.probability, 1e-300)) - np.log(max(second.probability, 1e-300)))
    other = _name(second.global_id)
    out = []
    if best.global_id is None:
        missing = gap / calibration.g0
        text = f"with a similarity of {second.appearance + missing:.2f} instead of {second.appearance:.2f} {other}"
        out.append(Counterfactual("appearance", missing, second.global_id, f"{text} would have been chosen"))
    else:
        missing = gap / calibration.g0
        text = (
            f"with a similarity of {best.appearance - missing:.2f} instead of {best.appearance:.2f} it would have been"
        )
        out.append(Counterfactual("appearance", missing, second.global_id, f"{text} {other}"))
        delay = _nearest_unlikely_delay(best, decision.camera, tables, gap / g1)
        if delay is not None:
            text = f"after {delay:.0f} s instead of {best.delay_s:.0f} s from {best.from_camera}"
            text = f"{text} it would have been {other}"
            out.append(Counterfactual("delay", delay, second.global_id, text))
    by_look = max(ranked, key=lambda c: np.log(max(c.probability, 1e-300)) - g1 * np.log(max(c.transition, 1e-300)))
    if by_look.global_id != best.global_id:
        text = f"without space-time it would have been {_name(by_look.global_id)}"
        out.append(Counterfactual("no space-time", 0.0, by_look.global_id, text))
    new = next((c for c in ranked if c.global_id is None), None)
    if new is not None and best.global_id is not None:
        by = float(np.log(max(best.probability, 1e-300)) - np.log(max(new.probability, 1e-300)))
        text = f"if new people were {np.exp(min(by, 50.0)):.3g} times as frequent here it would have been a new person"
        out.append(Counterfactual("prior", by, None, text))
    return out


def _name(global_id: int | None) -> str:
    return "a new person" if global_id is None else f"person {global_id}"


def _nearest_unlikely_delay(best: Candidate, camera: str, tables: TransitionTables, gap: float) -> float | None:
    axes = tables.settings
    if best.from_camera is None or not np.isfinite(best.delay_s):
        return None
    row = tables.log_ratio(best.from_camera, camera)
    here = axes.bin_of(max(best.delay_s, axes.origin_s))
    if here is None:
        return None
    enough = np.flatnonzero(row <= row[here] - gap)
    if not len(enough):
        return None
    b = int(enough[np.argmin(np.abs(enough - here))])
    return axes.origin_s + (b + 0.5) * axes.bin_s
