"""Exits: what areas of a site tell each other of the people who left, and who may go on with one.

Identities live in the galleries of areas. While somebody is in view, one area holds them. When they have left, that
area announces an exit, and every area that hears it takes the person in as a guest: a candidate like any other. Whoever
changes an identity that is free (gives it a stay, merges it, splits it) must claim its latest exit first. Claims are
compare-and-set in the same step that stores the decision (`live_scripts.TURN`), so one area holds a person at a time,
and only the holder announces the next exit, whose number is one higher.

    exit         a person has left: id, number, the latest stay, and the prototypes with their raw embeddings
    taken        an exit was claimed: whoever else knows the person forgets them until the next exit
    correction   a merge or split of people who were announced, for the workers of other areas
    learnt       what was added to the tables, so that it counts everywhere from the same site time on
    anew         the area begins another recording: what it announced before is void
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from st_model.gallery import Identity, Stay
from st_model.keys import escaped
from st_model.ledger import Correction, StayKey
from st_model.matcher_state import MatcherState
from st_model.sightings import Decision
from st_model.snapshot import stay_from_dict, stay_to_dict

SCHEMA = 1
EXIT, TAKEN, CORRECTION, LEARNT, ANEW = "exit", "taken", "correction", "learnt", "anew"
KNOWN_AS = "exit:"
"""Entries of an area's state: `exit:GLOBAL_ID` -> [number, area, held]."""


class ExitError(ValueError):
    """What an area said cannot be read."""


class Known(NamedTuple):
    """The latest exit of a person, as one area knows it.

    number  rises by one with every exit of that person
    area    that announced it
    held    this area has claimed it and has not announced the next one
    """

    number: int
    area: str
    held: bool


def packed(at_s: float, **more: Any) -> bytes:
    """What is said, as JSON; `at_s` is the end of the window it was decided in."""
    return json.dumps({"schema": SCHEMA, "at_s": at_s, **more}, ensure_ascii=False, separators=(",", ":")).encode()


def unpacked(content: bytes) -> dict[str, Any]:
    """The inverse of `packed`. Raises ExitError.

    >>> unpacked(packed(7.5, global_id=3, number=1, by="hall"))
    {'schema': 1, 'at_s': 7.5, 'global_id': 3, 'number': 1, 'by': 'hall'}
    """
    try:
        row = dict(json.loads(content))
        if row["schema"] != SCHEMA:
            raise ExitError(f"schema {row['schema']!r}, this version reads {SCHEMA}: update the older one")
        float(row["at_s"])
        return row
    except ExitError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ExitError(f"an area's word cannot be read: {error!r}") from None


def packed_exit(identity: Identity, number: int, at_s: float) -> bytes:
    """An exit of a person nobody sees now: the latest stay and the prototypes (at most eight), embeddings and all."""
    last = max(identity.stays, key=lambda s: (s.last_s, s.order))
    stays = sorted({id(s): s for s in (*identity.prototypes, last)}.values(), key=lambda s: s.order)
    return packed(
        at_s,
        global_id=identity.global_id,
        number=number,
        camera=last.camera,
        entered_s=last.entered_s,
        last_s=last.last_s,
        last=stays.index(last),
        stays=[stay_to_dict(s) for s in stays],
        prototypes=[stays.index(s) for s in identity.prototypes],
    )


def unpacked_exit(row: Mapping[str, Any]) -> tuple[Identity, Stay]:
    """(the person, their latest stay) of an exit. Raises ExitError."""
    try:
        stays = [stay_from_dict(s) for s in row["stays"]]
        person = Identity(int(row["global_id"]), stays, [stays[n] for n in row["prototypes"]])
        for stay in stays:
            stay.global_id = person.global_id
        return person, stays[row["last"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ExitError(f"an exit cannot be read: {error!r}") from None


@dataclass
class Said:
    """What a turn has to say to other areas, and what it claims.

    claims   global id -> number of the exit that must be free, or ours; the first one of each person
    holders  global id -> "NUMBER:AREA" (held) or "NUMBER:" (free), as it stands after the turn
    items    (kind, content) for the area's Stream of exits, in order
    """

    claims: dict[int, int] = field(default_factory=dict)
    holders: dict[int, str] = field(default_factory=dict)
    items: list[tuple[str, bytes]] = field(default_factory=list)


class Crossings:
    """What an area knows of exits, beside its matcher's memory.

    area, cameras  this area, and the cameras it matches
    state          of its matcher; guests are put into its gallery and taken out of it
    known          as it was saved
    lost           global id -> exit that another area has claimed, though its word of it does not count yet
    weight         of a guest who left a camera: which share of them comes here
    most           guests that are kept; the oldest go first
    horizon_s      guests who left longer ago are let go: no table reaches that far
    passes_on      tell others who claimed whom we had announced: not all of them hear of each other
    """

    def __init__(
        self,
        area: str,
        cameras: Collection[str],
        state: MatcherState,
        known: Mapping[int, Known] | None = None,
        lost: Mapping[int, int] | None = None,
        *,
        weight: Callable[[str], float] = lambda camera: 1.0,
        most: int = 2000,
        horizon_s: float = 4000.0,
        passes_on: bool = False,
    ) -> None:
        self.area, self.cameras, self.state = area, frozenset(cameras), state
        self.most, self.horizon_s, self.passes_on = most, horizon_s, passes_on
        self.known: dict[int, Known] = dict(known or {})
        self._saved = dict(self.known)
        self._announced: set[int] = set()
        self._lost, self._weight = dict(lost or {}), weight
        self.said = Said()
        state.gallery.guests = {g for g, k in self.known.items() if not k.held and k.area != area}
        for global_id in self._lost:
            self.drop(global_id)
        self._weigh()

    @property
    def guests(self) -> set[int]:
        """People whose latest exit is another area's."""
        return self.state.gallery.guests

    # ---------------------------------------------------------------------------------------------- our own word

    def decided(
        self,
        decisions: Iterable[Decision],
        corrections: Sequence[Correction],
        before: Mapping[StayKey, int],
        at_s: float,
    ) -> None:
        """A window was decided: claim who was changed, announce who has left.

        before  stay -> id, of the stays that were open before
        """
        changed = {i for c in corrections for i in (c.global_id, c.into_id)}
        for c in corrections:
            if c.global_id in self.known or c.into_id in self.known:  # otherwise no other area has their stays
                self.said.items.append((CORRECTION, packed(at_s, correction=asdict(c))))
        for decision in decisions:
            changed |= {decision.global_id, before.get(decision.key, decision.global_id)}
        for global_id in sorted(changed):
            known, identity = self.known.get(global_id), self.state.gallery.identities.get(global_id)
            if known is not None and not known.held:
                self._claim(global_id, known, at_s)
            if identity is None:  # merged, or its only stay was somebody else's: nobody may go on with it
                self.known.pop(global_id, None)
            elif all(stay.closed for stay in identity.stays):
                self._announce(identity, at_s)
        self._let_go(at_s)

    def _claim(self, global_id: int, known: Known, at_s: float) -> None:
        if global_id not in self._announced:  # what this very turn announces cannot be anybody else's
            self.said.claims.setdefault(global_id, known.number)
        self._taken(global_id, known.number, self.area, at_s)
        self._know(global_id, Known(known.number, self.area, True))

    def _taken(self, global_id: int, number: int, by: str, at_s: float) -> None:
        self.said.items.append((TAKEN, packed(at_s, global_id=global_id, number=number, by=by)))

    def _announce(self, identity: Identity, at_s: float) -> None:
        known = self.known.get(identity.global_id)
        number = 1 + (known.number if known is not None else 0)
        self.said.items.append((EXIT, packed_exit(identity, number, at_s)))
        self._announced.add(identity.global_id)
        self._know(identity.global_id, Known(number, self.area, False))

    def _know(self, global_id: int, known: Known) -> None:
        self.known[global_id] = known
        self.said.holders[global_id] = f"{known.number}:{escaped(self.area) if known.held else ''}"
        self.guests.discard(global_id)
        if global_id in self.state.gallery.identities:
            self.state.gallery.weigh(global_id, 1.0)

    def _weigh(self) -> None:
        gallery, shares = self.state.gallery, dict[str, float]()
        for global_id in self.guests:
            camera = gallery.cameras[gallery.camera[gallery.slot(global_id)]]
            if camera not in shares:
                shares[camera] = self._weight(camera)
            gallery.weigh(global_id, shares[camera])

    def begin_anew(self, former: Crossings, at_s: float) -> None:
        """Another recording begins: nobody is known, and others need not look for whom we announced before."""
        self._saved, self.said = former._saved, former.said
        self.said.items.append((ANEW, packed(at_s)))

    # ------------------------------------------------------------------------------------------- what others said

    def take_in(self, area: str, kind: str, row: Mapping[str, Any], now_s: float) -> None:
        """Act on what stands in the Stream of exits of `area`. Said again, it changes nothing. Raises ExitError."""
        if kind == EXIT and area != self.area:
            self._take_in_guest(area, row, now_s)
        elif kind == TAKEN and row["by"] != self.area:
            known = self.known.get(row["global_id"])
            if known is not None and not known.held and known.number <= row["number"]:
                self.drop(row["global_id"])
                if known.area == self.area and self.passes_on:
                    self._taken(row["global_id"], row["number"], row["by"], now_s)
        elif kind == ANEW and area != self.area:
            for global_id in sorted(g for g in self.guests if self.known[g].area == area):
                self.drop(global_id)

    def _take_in_guest(self, area: str, row: Mapping[str, Any], now_s: float) -> None:
        person, last = unpacked_exit(row)
        global_id, number = person.global_id, int(row["number"])
        known, gallery = self.known.get(global_id), self.state.gallery
        if known is None and global_id in gallery.identities:
            return  # ours, and nobody has seen them leave
        old = known is not None and (known.held or known.number >= number)
        if old or number <= self._lost.get(global_id, 0) or last.last_s < now_s - self.horizon_s:
            return
        for other in gallery.identities.values():
            if other.stays[0].embedding.shape != last.embedding.shape:
                raise ExitError(f"an exit has {last.embedding.size} dimensions, others {other.stays[0].embedding.size}")
            break
        self.drop(global_id)
        gallery.put(person)
        self.known[global_id] = Known(number, area, False)
        self.guests.add(global_id)
        gallery.weigh(global_id, self._weight(last.camera))
        self.state.changed.add(global_id)  # may be somebody whom two areas have seen at once
        # Every exit is a candidate for what teaches, whoever is given the id: as if both areas were one.
        if last.camera not in self.cameras:
            self.state.teacher.remember(last, gallery.basis)
        self._let_go(now_s)

    def drop(self, global_id: int) -> None:
        """Know nothing of a person any more; what their stays taught is kept."""
        self.known.pop(global_id, None)
        self.guests.discard(global_id)
        self.state.changed.discard(global_id)
        if global_id in self.state.gallery.identities:
            self.state.gallery.remove(global_id)

    def _let_go(self, now_s: float) -> None:
        gallery = self.state.gallery
        if not self.guests:
            return
        guests = np.array(sorted(self.guests))
        last_s = gallery.last_s[[gallery.slot(int(g)) for g in guests]]
        oldest = guests[np.argsort(last_s, kind="stable")][: max(0, len(guests) - self.most)]
        for global_id in {*oldest.tolist(), *guests[last_s < now_s - self.horizon_s].tolist()}:
            self.drop(global_id)
        self._weigh()

    # ------------------------------------------------------------------------------------------------- storing

    def take_said(self) -> tuple[Said, dict[str, bytes], tuple[str, ...]]:
        """What is to be said, entries of the state that changed, and those that are gone; from now on it is saved."""
        here = self.state.gallery.identities
        self.known = {g: known for g, known in self.known.items() if g in here}  # the others were forgotten with time
        self.guests.intersection_update(self.known)
        new = {g: known for g, known in self.known.items() if self._saved.get(g) != known}
        changed = {f"{KNOWN_AS}{g}": json.dumps(known).encode() for g, known in new.items()}
        removed = tuple(f"{KNOWN_AS}{g}" for g in sorted(self._saved.keys() - self.known.keys()))
        self._saved, said = dict(self.known), self.said
        self.said, self._announced = Said(), set()
        return said, changed, removed


def known_from(entries: Mapping[str, bytes]) -> dict[int, Known]:
    """What was saved of the exits, out of the entries of an area's state.

    >>> known_from({"exit:7": b'[3, "hall", false]', "rest": b"{}"})
    {7: Known(number=3, area='hall', held=False)}
    """
    rows = {name: json.loads(value) for name, value in entries.items() if name.startswith(KNOWN_AS)}
    return {int(name[len(KNOWN_AS) :]): Known(int(n), str(area), bool(held)) for name, (n, area, held) in rows.items()}
