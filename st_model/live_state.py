"""The memory of a live matcher as entries of the store: only what changed is written, however large the gallery is.

One entry per stay, per identity, per camera and per pair of cameras, JSON each, so that `redis-cli HGET` shows a
person. Sightings that wait for their window are not part of it: they stay in the Stream, unacknowledged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, Self

import numpy as np

from st_model.appearance import Basis
from st_model.drift import PairDrift
from st_model.gallery import Gallery, Stay
from st_model.keys import escaped
from st_model.matcher_state import MatcherState
from st_model.saved_state import StateChange
from st_model.snapshot import (
    SCHEMA,
    SnapshotError,
    basis_from_dict,
    basis_to_dict,
    drift_from_row,
    drift_to_row,
    stay_from_dict,
    stay_to_dict,
)
from st_model.teaching import Outage, Teacher
from st_model.transitions import TableSettings

_CAP_ENTRIES = 64
"""Loiter caps are spread over so many entries: each is small, and a change rewrites one."""


_FIELDS: Any = attrgetter(*(f.name for f in fields(Stay) if f.name != "vector"))
"""What a stay's entry holds; `vector` follows from the basis."""


class StateKeeper:
    """Knows what was saved last, and so what has to be saved now.

    >>> from st_model.matcher import OnlineMatcher, MatchSettings, TransitionTables
    >>> matcher = OnlineMatcher(MatchSettings(), iter([1]).__next__, TransitionTables())
    >>> keeper = StateKeeper()
    >>> sorted(keeper.change(matcher.state, "0-1").changed)
    ['basis', 'gallery:cameras', 'gallery:free', 'gallery:used', 'rest', 'teacher:closed_stays']
    >>> keeper.change(matcher.state, "0-2").changed
    {}
    """

    def __init__(self) -> None:
        self._numbers: dict[Stay, int] = {}  # stays have no name of their own: a track may be seen twice
        self._next = 0
        self._said: dict[Stay, tuple[object, ...]] = {}
        self._born: dict[int, int] = {}
        self._learnt: dict[int, int] = {}
        self._values: dict[str, object] = {}

    def change(self, state: MatcherState, position: str) -> StateChange:
        """What is new, different and gone since the last call, with the position in the input it belongs to."""
        stays = _all_stays(state)
        number = {id(stay): self._number(stay) for stay in stays}
        gallery, teacher = state.gallery.layout(number), state.teacher.layout(number)
        values: dict[str, object] = {}
        for row in gallery.pop("identities"):
            values[f"person:{row[0]}"] = (self._born.setdefault(row[0], self._count()), *row[1:])
        for *key, n in teacher.pop("taught"):
            values.setdefault(f"caps:{key[0] % _CAP_ENTRIES}", []).append((*key, n))  # type: ignore[attr-defined]
        roots = dict(zip(teacher.pop("stays"), teacher.pop("roots"), strict=True))
        for n in roots:  # in the order they were learnt
            self._learnt.setdefault(n, self._count())
        for room, left in (("gallery", gallery), ("teacher", teacher)):
            values |= {f"{room}:{key}": value for key, value in left.items()}
        values |= {f"seen:{escaped(camera)}": (camera, *counts) for camera, counts in state.new_seen.items()}
        values |= {f"drift:{escaped(a)}:{escaped(b)}": (a, b, d) for (a, b), d in state.drift.items()}
        values["basis"] = state.gallery.basis
        values["rest"] = {
            "schema": SCHEMA,
            "open": [number[id(s)] for s in state.stays.values()],
            "changed": sorted(state.changed),
            "look_again_s": state.look_again_s if np.isfinite(state.look_again_s) else None,
            "caution_learnt": state.caution_learnt,
        }
        changed = {
            name: _packed(value)
            for name, value in values.items()
            if self._values.get(name) is not value and (name == "basis" or self._values.get(name) != value)
        }
        for stay in stays:
            n = self._numbers[stay]
            said = (*_FIELDS(stay), n in roots)
            before = self._said.get(stay)
            if before is None or any(map(_differ, before, said)):
                learnt = [self._learnt[n], roots[n]] if n in roots else None
                changed[f"stay:{n}"] = _packed({**stay_to_dict(stay), "learnt": learnt})
                self._said[stay] = said
        gone = [stay for stay in self._said if id(stay) not in number]
        removed = [f"stay:{self._numbers.pop(stay)}" for stay in gone]
        for stay in gone:
            del self._said[stay]
        vanished = self._values.keys() - values.keys()
        self._learnt = {n: k for n, k in self._learnt.items() if n in roots}
        self._born = {i: n for i, n in self._born.items() if f"person:{i}" in values}
        self._values = {name: list(v) if isinstance(v, list) else v for name, v in values.items()}
        return StateChange(position, changed, tuple(sorted([*removed, *vanished])))

    @classmethod
    def load(
        cls, entries: Mapping[str, bytes], axes: TableSettings, outages: tuple[Outage, ...] = ()
    ) -> tuple[MatcherState, Self]:
        """The memory that was saved, and a keeper that knows it. Raises SnapshotError when it is damaged."""
        keeper = cls()
        try:
            saved = {name: json.loads(value) for name, value in entries.items()}
            rest = saved["rest"]
            if rest["schema"] != SCHEMA:
                raise SnapshotError(f"the saved matcher has schema {rest['schema']!r}, this version reads {SCHEMA}")
            rows = {int(name[5:]): row for name, row in saved.items() if name.startswith("stay:")}
            numbers = sorted(rows)
            index = {number: n for n, number in enumerate(numbers)}
            learnt = {number: rows[number].pop("learnt") for number in numbers}
            stays = [stay_from_dict(rows[number]) for number in numbers]
            basis = basis_from_dict(saved["basis"])
            people = sorted(
                (row[0], int(name[7:]), row[1], [index[n] for n in row[2]], [index[n] for n in row[3]])
                for name, row in saved.items()
                if name.startswith("person:")
            )
            layouts = {
                room: {name[len(room) + 1 :]: v for name, v in saved.items() if name.startswith(f"{room}:")}
                for room in ("gallery", "teacher")
            }
            gallery = Gallery.from_layout({**layouts["gallery"], "identities": [p[1:] for p in people]}, stays, basis)
            order = sorted((n for n in numbers if learnt[n]), key=lambda n: learnt[n][0])
            layout = {
                **layouts["teacher"],
                "stays": [index[n] for n in order],
                "roots": [learnt[n][1] for n in order],
                "taught": sorted(cap for name, value in saved.items() if name.startswith("caps:") for cap in value),
            }
            teacher = Teacher.from_layout(layout, stays, basis, axes, outages)
            opened = [stays[index[n]] for n in rest["open"]]
            seen = [v for name, v in saved.items() if name.startswith("seen:")]
            drifts = [v for name, v in saved.items() if name.startswith("drift:")]
            state = MatcherState(
                gallery,
                teacher,
                stays={s.key: s for s in opened},
                new_seen={camera: (float(new), float(all_)) for camera, new, all_ in seen},
                drift={(a, b): drift_from_row(d) for a, b, d in drifts},
                changed=set(rest["changed"]),
                look_again_s=-np.inf if rest["look_again_s"] is None else rest["look_again_s"],
                caution_learnt=float(rest.get("caution_learnt", 0.0)),
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, SnapshotError):
                raise
            raise SnapshotError(f"the saved matcher is damaged ({error!r})") from error
        keeper._numbers = dict(zip(stays, numbers, strict=True))
        keeper._born = {p[1]: p[0] for p in people}
        keeper._learnt = {n: learnt[n][0] for n in order}
        keeper._next = max([*numbers, *keeper._born.values(), *keeper._learnt.values()], default=-1) + 1
        keeper.change(state, "loaded")
        return state, keeper

    def _number(self, stay: Stay) -> int:
        number = self._numbers.get(stay)
        if number is None:
            number = self._numbers[stay] = self._count()
        return number

    def _count(self) -> int:
        self._next += 1
        return self._next - 1


def _differ(before: object, now: object) -> bool:
    """Arrays are replaced, never changed: the same array is the same value."""
    return before is not now and (isinstance(now, np.ndarray) or before != now)


def _all_stays(state: MatcherState) -> list[Stay]:
    people = state.gallery.identities.values()
    groups = (state.teacher.stays, *(p.stays for p in people), *(p.prototypes for p in people), state.stays.values())
    return list(dict.fromkeys(stay for group in groups for stay in group))


def _packed(value: object) -> bytes:
    def plain(item: object) -> object:
        if isinstance(item, Basis):
            return basis_to_dict(item)
        if isinstance(item, PairDrift):
            return drift_to_row(item)
        raise TypeError(f"{type(item).__name__} cannot be saved")

    return json.dumps(value, default=plain, ensure_ascii=False, separators=(",", ":")).encode()
