"""Events for other programs: what a site wants to know of people, without embeddings.

    new      a stay is that of a person not seen before
    update   a stay is that of a person seen before; or of somebody else than said before
    end      a stay is over
    merge    two ids were one person: `global_id` is `into_id` from now on
    split    stays were somebody else: they are `into_id` from now on

Every event has an `id` that is the same however often it is delivered. Schema: schemas/event.json.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.journal import json_line
from st_model.ledger import Correction, StayKey
from st_model.matcher import Outcome
from st_model.sightings import Decision, Sighting

SCHEMA = 1


def events_of(
    site: str, area: str, outcome: Outcome, sightings: Iterable[Sighting], open_ids: Mapping[StayKey, int]
) -> list[bytes]:
    """The events of what was decided, as JSON lines.

    sightings  that were decided, in any order
    open_ids   stay -> id, of the stays that were open before
    """
    said: dict[StayKey, list[Sighting]] = {}
    for sighting in sorted(sightings, key=lambda s: s.emitted_s):
        said.setdefault(sighting.key, []).append(sighting)
    known = dict(open_ids)
    rows = []
    for decision in outcome.decisions:
        heard = [s for s in said.get(decision.key, ()) if s.emitted_s < decision.time_s]
        rows += _of_decision(decision, heard[-1] if heard else None, known.get(decision.key))
        known[decision.key] = decision.global_id
    rows += [_of_correction(correction) for correction in outcome.corrections]
    return [json_line({"schema": SCHEMA, "id": _id(site, row), "site": site, "area": area, **row}) for row in rows]


def _of_decision(decision: Decision, sighting: Sighting | None, former_id: int | None) -> list[dict[str, Any]]:
    closed = sighting is not None and sighting.closed
    chosen = next((c for c in decision.candidates if c.global_id == decision.global_id), None)
    row: dict[str, Any] = {
        "time_s": decision.time_s,
        "global_id": decision.global_id,
        "camera": decision.camera,
        "track_id": decision.track_id,
        "probability": decision.probability,
        "provisional": decision.kind == "provisional",
    }
    if sighting is not None:
        row |= {"entered_s": sighting.entered_s, "last_s": sighting.last_s}
    if chosen is not None and chosen.from_camera is not None:
        row |= {
            "from_camera": chosen.from_camera,
            "delay_s": chosen.delay_s if chosen.delay_s == chosen.delay_s else None,
        }
    kinds = [] if decision.global_id == former_id else ["new" if chosen is None else "update"]
    return [{"event": kind, **row} for kind in ([*kinds, "end"] if closed else kinds)]


def _of_correction(correction: Correction) -> dict[str, Any]:
    return {
        "event": correction.kind,
        "time_s": correction.time_s,
        "global_id": correction.global_id,
        "into_id": correction.into_id,
        "stays": [{"camera": camera, "track_id": track_id} for camera, track_id in correction.stays],
        "probability": correction.probability,
        "reason": correction.reason,
    }


def _id(site: str, row: Mapping[str, Any]) -> str:
    """The same event has the same id, also when it is made again."""
    names = ("event", "time_s", "global_id", "into_id", "camera", "track_id")
    text = "|".join([site, *(str(row.get(name)) for name in names)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]
