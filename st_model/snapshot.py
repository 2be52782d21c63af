"""A matcher's memory as plain values, so that a killed matcher can go on with the same ids and the same decisions.

`state_to_dict` gives values that JSON can hold (floats round-trip exactly, embeddings are base64 of float32);
`state_from_dict` gives the matcher's memory back. Tables are not part of it: their counts have their own store.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st_model.appearance import Basis
from st_model.calibration import Calibration
from st_model.drift import PairDrift
from st_model.gallery import Gallery, Stay
from st_model.matcher_state import MatcherState
from st_model.sightings import Sighting
from st_model.teaching import Outage, Teacher
from st_model.transitions import Increment, TableSettings

SCHEMA = 1
"""Rises when the form changes; another one is refused."""


class SnapshotError(ValueError):
    """A snapshot cannot be read."""


def state_to_dict(state: MatcherState) -> dict[str, Any]:
    """Everything in `state`, as dicts, lists, numbers and strings."""
    stays: dict[int, Stay] = {}
    for group in (
        state.teacher.stays,
        *(i.stays for i in state.gallery.identities.values()),
        *(i.prototypes for i in state.gallery.identities.values()),
        state.stays.values(),
    ):
        for stay in group:
            stays.setdefault(id(stay), stay)
    number = {key: n for n, key in enumerate(stays)}
    return {
        "schema": SCHEMA,
        "stays": [stay_to_dict(s) for s in stays.values()],
        "open": [number[id(s)] for s in state.stays.values()],
        "new_seen": {c: list(v) for c, v in state.new_seen.items()},
        "drift": [[*pair, *drift_to_row(d)] for pair, d in state.drift.items()],
        "changed": sorted(state.changed),
        "look_again_s": state.look_again_s if np.isfinite(state.look_again_s) else None,
        "caution_learnt": state.caution_learnt,
        "waiting": [_sighting_to_dict(s) for s in state.waiting],
        "basis": basis_to_dict(state.gallery.basis),
        "gallery": state.gallery.layout(number),
        "teacher": state.teacher.layout(number),
    }


def state_from_dict(saved: dict[str, Any], axes: TableSettings, outages: tuple[Outage, ...] = ()) -> MatcherState:
    """The memory that `state_to_dict` saved. Raises SnapshotError when it is not one, or of another schema."""
    if saved.get("schema") != SCHEMA:
        raise SnapshotError(f"snapshot has schema {saved.get('schema')!r}, this version reads {SCHEMA}; start fresh")
    try:
        stays = [stay_from_dict(s) for s in saved["stays"]]
        gallery = Gallery.from_layout(saved["gallery"], stays, basis_from_dict(saved["basis"]))
        teacher = Teacher.from_layout(saved["teacher"], stays, gallery.basis, axes, outages)
        return MatcherState(
            gallery,
            teacher,
            stays={stays[n].key: stays[n] for n in saved["open"]},
            new_seen={c: (float(v[0]), float(v[1])) for c, v in saved["new_seen"].items()},
            drift={(d[0], d[1]): drift_from_row(d[2:]) for d in saved["drift"]},
            changed=set(saved["changed"]),
            look_again_s=-np.inf if saved["look_again_s"] is None else saved["look_again_s"],
            waiting=[_sighting_from_dict(s) for s in saved["waiting"]],
            caution_learnt=float(saved.get("caution_learnt", 0.0)),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise SnapshotError(f"snapshot is damaged ({error!r}); start fresh") from error


def _array(values: NDArray[np.float32] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    return {"shape": list(values.shape), "float32": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()}


def _read(saved: dict[str, Any] | None) -> NDArray[np.float32] | None:
    if saved is None:
        return None
    return np.frombuffer(base64.b64decode(saved["float32"]), np.float32).reshape(saved["shape"]).copy()


def _given(saved: dict[str, Any]) -> NDArray[np.float32]:
    values = _read(saved)
    if values is None:
        raise SnapshotError("snapshot lacks an embedding; start fresh")
    return values


def stay_to_dict(s: Stay) -> dict[str, Any]:
    """A stay as plain values."""
    return {
        "camera": s.camera,
        "track_id": s.track_id,
        "times": [s.entered_s, s.last_s],
        "closed": s.closed,
        "embedding": _array(s.embedding),
        "n_crops": s.n_crops,
        "boxes": [_array(s.first_box), _array(s.last_box)],
        "global_id": s.global_id,
        "confirmed": s.confirmed,
        "crowd": s.crowd,
        "taught": None if s.taught is None else list(s.taught),
        "taught_from": None if s.taught_from is None else list(s.taught_from),
    } | _face_to_dict(s.face)


def stay_from_dict(d: dict[str, Any]) -> Stay:
    """The inverse of `stay_to_dict`."""
    entered_s, last_s = d["times"]
    first_box, last_box = map(_read, d["boxes"])
    stay = Stay(d["camera"], d["track_id"], entered_s, last_s, d["closed"], _given(d["embedding"]), d["n_crops"])
    stay.first_box, stay.last_box = first_box, last_box
    stay.global_id, stay.confirmed = d["global_id"], d["confirmed"]
    stay.crowd = max(d["crowd"], 1.0)  # earlier versions had nats there, from 0
    stay.taught = None if d["taught"] is None else Increment(*d["taught"])
    stay.taught_from = None if d["taught_from"] is None else (d["taught_from"][0], d["taught_from"][1])
    stay.face = _read(d.get("face"))
    return stay


def _sighting_to_dict(s: Sighting) -> dict[str, Any]:
    return {
        "camera": s.camera,
        "track_id": s.track_id,
        "times": [s.entered_s, s.last_s, s.emitted_s],
        "closed": s.closed,
        "embedding": _array(s.embedding),
        "n_crops": s.n_crops,
        "quality": s.quality,
        "boxes": [_array(s.first_box), _array(s.last_box)],
    } | _face_to_dict(s.face)


def _sighting_from_dict(d: dict[str, Any]) -> Sighting:
    entered_s, last_s, emitted_s = d["times"]
    first_box, last_box = map(_read, d["boxes"])
    return Sighting(
        d["camera"],
        d["track_id"],
        entered_s,
        last_s,
        emitted_s,
        d["closed"],
        _given(d["embedding"]),
        d["n_crops"],
        d["quality"],
        first_box,
        last_box,
        _read(d.get("face")),
    )


def _face_to_dict(face: NDArray[np.float32] | None) -> dict[str, Any]:
    """Nothing where no face was seen: most stays."""
    return {} if face is None else {"face": _array(face)}


def drift_to_row(d: PairDrift) -> list[Any]:
    """What is remembered of a pair's delays, as plain values."""
    return [d.alarmed, list(d.reference), list(d.recent), list(d.expected)]


def drift_from_row(row: list[Any]) -> PairDrift:
    """The inverse of `drift_to_row`. Earlier versions kept five other figures: of those only the alarm goes on."""
    if len(row) == 5:
        return PairDrift(alarmed=bool(row[3]))
    alarmed, reference, recent, expected = row
    return PairDrift(bool(alarmed), tuple(reference), tuple(recent), tuple(expected))


def basis_to_dict(b: Basis) -> dict[str, Any]:
    """An appearance basis as plain values."""
    return {
        "site_mean": _array(b.site_mean),
        "means": {c: _array(m) for c, m in b.means.items()},
        "projection": _array(b.projection),
        "calibration": [b.calibration.g0, b.calibration.b0],
        "stays": b.stays,
        "agreement": b.agreement,
    }


def basis_from_dict(d: dict[str, Any]) -> Basis:
    """The inverse of `basis_to_dict`."""
    means = {c: _given(m) for c, m in d["means"].items()}
    return Basis(
        _read(d["site_mean"]), means, _read(d["projection"]), Calibration(*d["calibration"]), d["stays"], d["agreement"]
    )
