"""Listening: sightings in, decisions out; the half of a run that needs no pictures, shared by `run` and `match`."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from st_model.matcher import OnlineMatcher, Outcome
from st_model.sightings import Sighting

log = logging.getLogger(__name__)


class Listening:
    """Feeds a matcher in the order of site time, whoever says what first.

    A sighting that comes after its window was decided (a worker that was cut off for longer than anybody waits) is
    taken as said now: it is matched with what is known by then, and counted in `late`.

    until_s  everything said before this site time has been decided or waits in a window that is not over yet
    """

    def __init__(self, matcher: OnlineMatcher, until_s: float = -math.inf) -> None:
        self.matcher, self.until_s = matcher, until_s
        self.late = 0

    def hear(self, sightings: Sequence[Sighting]) -> list[Sighting]:
        """Queue what was said; returns it as the matcher got it."""
        heard = [self._in_time(sighting) for sighting in sightings]
        for sighting in heard:
            self.matcher.submit(sighting)
        return heard

    def _in_time(self, sighting: Sighting) -> Sighting:
        if sighting.emitted_s >= self.until_s or math.isinf(self.until_s):
            return sighting
        self.late += 1
        return replace(sighting, emitted_s=self.until_s)

    def advance(self, until_s: float) -> Outcome:
        """Nothing said before `until_s` is still to come: decide every window that is over by then."""
        self.until_s = max(self.until_s, until_s)
        outcome = self.matcher.advance(self.until_s)
        if log.isEnabledFor(logging.INFO):
            _log(outcome)
        for alarm in outcome.alarms:
            what = "are surprising: was a camera moved, or its clock?" if alarm.raised else "are as usual again"
            about = {"camera": alarm.pair[1], "from_camera": alarm.pair[0]}
            log.warning("delays from %s to %s %s", *alarm.pair, what, extra=about)
        return outcome


def _log(outcome: Outcome) -> None:
    """One line each, with the ids as fields of their own for logs that machines read."""
    for d in outcome.decisions:
        about: dict[str, Any] = {"camera": d.camera, "track_id": d.track_id, "global_id": d.global_id, "kind": d.kind}
        percent = 100 * d.probability
        log.info(
            "camera %s: track %d is P%d (%s, %.0f %%)", d.camera, d.track_id, d.global_id, d.kind, percent, extra=about
        )
    for c in outcome.corrections:
        about = {"global_id": c.global_id, "into_id": c.into_id, "kind": c.kind}
        log.info("%s: P%d -> P%d (%s)", c.kind, c.global_id, c.into_id, c.reason, extra=about)
