"""What the processes of a live site say to each other, as JSON. Its schemas are in `schemas/`.

said         worker -> matcher: one step of watching; also how far each camera has come
decision     matcher -> workers: a Decision, or a Correction
member       every process, once a second or so: how it does

MessageError (ValueError)   a message is not one of ours
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.journal import (
    correction_from_json,
    decision_from_json,
    json_line,
    sighting_from_json,
    sighting_to_json,
    to_json,
)
from st_model.ledger import Correction
from st_model.sightings import Decision, Sighting

SCHEMA = 1
"""Rises when a program that reads the former messages could misread new ones."""


class MessageError(ValueError):
    """A message of a live site cannot be read."""


@dataclass(frozen=True)
class Mark:
    """How far a camera has come.

    until_s  nothing said before this site time is still to come
    state    `live`; `resting`: it will say nothing until it is live again; `ended`: its recording is over
    """

    until_s: float
    state: str = "live"


@dataclass(frozen=True)
class WorkerSaid:
    """One message of a worker.

    number    rises within a session
    session   of the worker: ends when its run folder is complete
    encoder   that made the embeddings
    marks     camera -> Mark
    sightings in the order they were said
    outages   (camera, from_s, to_s): it was not watching
    """

    worker: str
    session: str
    number: int
    encoder: str
    marks: Mapping[str, Mark]
    sightings: Sequence[Sighting] = field(default=())
    outages: Sequence[tuple[str, float, float]] = field(default=())


def packed_said(said: WorkerSaid) -> bytes:
    """As it stands in the Stream."""
    return json_line(
        {
            "schema": SCHEMA,
            "worker": said.worker,
            "session": said.session,
            "number": said.number,
            "encoder": said.encoder,
            "cameras": {camera: to_json(mark) for camera, mark in said.marks.items()},
            "sightings": [sighting_to_json(sighting) for sighting in said.sightings],
            "outages": [list(outage) for outage in said.outages],
        }
    )


def unpacked_said(content: bytes) -> WorkerSaid:
    """The inverse of `packed_said`. Raises MessageError.

    >>> said = WorkerSaid("w1", "s", 7, "stripes", {"lobby": Mark(12.5)})
    >>> unpacked_said(packed_said(said)) == said
    True
    """
    try:
        row = _row(content)
        marks = {camera: Mark(_time(mark["until_s"]), str(mark["state"])) for camera, mark in row["cameras"].items()}
        sightings = tuple(sighting_from_json(sighting) for sighting in row["sightings"])
        outages = tuple((str(camera), float(a), float(b)) for camera, a, b in row["outages"])
        return WorkerSaid(row["worker"], row["session"], int(row["number"]), row["encoder"], marks, sightings, outages)
    except MessageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MessageError(f"a worker's message cannot be read: {error!r}") from error


def _time(value: Any) -> float:
    return -math.inf if value is None else float(value)


def packed_decision(decision: Decision | Correction) -> tuple[str, bytes]:
    """(kind, content) as they stand in the Stream."""
    kind = "decision" if isinstance(decision, Decision) else "correction"
    return kind, json_line({"schema": SCHEMA, **to_json(decision)})


def unpacked_decision(kind: str, content: bytes) -> Decision | Correction:
    """The inverse of `packed_decision`. Raises MessageError."""
    try:
        row = _row(content)
        del row["schema"]
        return decision_from_json(row) if kind == "decision" else correction_from_json(row)
    except MessageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MessageError(f"a matcher's message cannot be read: {error!r}") from error


def packed_member(facts: Mapping[str, Any]) -> bytes:
    """A member's facts, with the schema's number."""
    return json_line({"schema": SCHEMA, **facts})


def unpacked_member(content: bytes) -> dict[str, Any]:
    """The inverse of `packed_member`. Raises MessageError."""
    try:
        return _row(content)
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"a member's facts cannot be read: {error!r}") from error


def _row(content: bytes) -> dict[str, Any]:
    row = json.loads(content)
    if row["schema"] != SCHEMA:
        raise MessageError(f"a message has schema {row['schema']!r}, this version reads {SCHEMA}: update the older one")
    return dict(row)
