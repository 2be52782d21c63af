"""The Streams between workers and matchers of a live site, and the rules that make every sighting count exactly once.

A worker numbers its messages; one that was taken is never taken again, and one is only taken after the one before it.
An area has one active matcher: it holds a lease, and every take-over raises a fence, so that whoever was thought dead
can store nothing any more. What it decides, its memory, the counts, and the acknowledgement of what it has read are
stored in one step; a step that was repeated changes nothing.

    StreamError (StoreError)
      Fenced (PermissionError)     another matcher is active: stop, and wait for the lease
      StateLost (OSError)          Redis has an older state than ours (restored from a backup, or it lost its last
                                   second): load what it has and go on from there
      ClaimsLost (RuntimeError)    people we decided about are with another area by now: load, forget them, decide again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from st_model import live_scripts
from st_model.counts import summed
from st_model.exits import Said
from st_model.keys import SCHEMA, escaped
from st_model.saved_state import State, StateChange
from st_model.store import Store
from st_model.store_errors import StoreError
from st_model.transitions import Increment

GROUP = "match"
_CHUNK = 500


class StreamError(StoreError):
    """Anything wrong between workers and matchers."""


class Fenced(StreamError, PermissionError):
    """Another matcher has taken over."""


class StateLost(StreamError, OSError):
    """Redis does not hold the state that we stored."""


class ClaimsLost(StreamError, RuntimeError):
    """Nothing was stored: another area holds `lost`, global id -> number of the exit that cannot be had."""

    def __init__(self, message: str, lost: Mapping[int, int] | None = None) -> None:
        super().__init__(message)
        self.lost = dict(lost or {})


class Message(NamedTuple):
    """What a worker says: its number (rising), the number of the message before it (0: none), and the content."""

    number: int
    before: int
    content: bytes


class Published(NamedTuple):
    """How far publishing came.

    last     number of the last message taken
    state    `OK`, `FULL` (the Stream has no room: say it again later), `GAP` (Redis lost some that it had taken:
             say again everything after `last`)
    waiting  entries in the Stream that are not decided yet
    """

    last: int
    state: str
    waiting: int


class Entry(NamedTuple):
    """An entry of a Stream: its id in Redis and its fields."""

    id: str
    fields: dict[str, bytes]


class Heard(NamedTuple):
    """Something that stands in the Stream of exits of an area."""

    area: str
    entry: Entry


@dataclass(frozen=True)
class Turn:
    """What a matcher stores in one step.

    number      rises by one
    change      of its memory; the position is not used
    entries     ids of the entries of `sightings` that are decided now
    decisions   (kind, content)
    events      content of each
    progress    worker -> number of its last message that is decided
    increments  what was learnt
    said        to other areas, and what is claimed of them
    mark        how far this area has come, for other areas; empty: as before
    """

    number: int
    change: StateChange
    entries: Sequence[str] = ()
    decisions: Sequence[tuple[str, bytes]] = ()
    events: Sequence[bytes] = ()
    progress: Mapping[str, int] = field(default_factory=dict)
    increments: Sequence[Increment] = ()
    said: Said = field(default_factory=Said)
    mark: bytes = b""


class SiteStream:
    """One area of a site: what its workers say and what its matcher decides.

    store           open connection to the site; matchers need its axes
    area            which cameras are matched together
    who             name of this process, unique in the site
    most_sightings  entries that may wait to be decided; then workers keep what they have to say
    most_decisions  entries of `decisions` and `events` that are kept
    lease_s         how long a matcher that says nothing is taken for alive
    most_exits      exits that are kept for other areas
    exit_s          how long an exit is kept, and who holds a person; seconds of the server's clock

    Every method raises the StoreError tree.
    """

    def __init__(
        self,
        store: Store,
        area: str,
        who: str,
        *,
        most_sightings: int = 100_000,
        most_decisions: int = 100_000,
        lease_s: float = 5.0,
        most_exits: int = 5000,
        exit_s: float = 86400.0,
    ) -> None:
        self.store, self.area, self.who = store, area, who
        self.most_sightings, self.most_decisions, self.lease_s = most_sightings, most_decisions, lease_s
        self.most_exits, self.exit_s = most_exits, exit_s
        self._redis = store.client
        register = self._redis.register_script
        self._publish, self._turn = register(live_scripts.PUBLISH), register(live_scripts.TURN)
        self._lease, self._release = register(live_scripts.LEASE), register(live_scripts.RELEASE)
        name = escaped(area)
        keys = ("sightings", "decisions", "match", "lease", "fence", "progress", "forwarded", "mark", "exits")
        self._of = {key: store.keys.of(f"{key}:{name}") for key in keys}
        self._of |= {key: store.keys.of(key) for key in ("schema", "axes", "version", "index", "events", "members")}

    # ------------------------------------------------------------------------------------------------- workers

    def publish(self, session: str, messages: Sequence[Message], *, despite_gap: bool = False) -> Published:
        """Hand over messages, in order; say the same again after a failure, as often as it takes."""
        keys = [self._of["schema"], self._of["sightings"], self._sent(session)]
        given: list[Any] = [SCHEMA, self.most_sightings, self.store.lifetime_s, int(despite_gap)]
        given += [part for message in messages for part in message]
        with self.store.translated():
            last, state, waiting = self._publish(keys, given)
        return Published(int(last), state.decode(), int(waiting))

    def decided(self) -> dict[str, int]:
        """Worker -> number of its last message that was decided; `ended` -> 1 when every camera of the area has."""
        with self.store.translated():
            found = self._redis.hgetall(self._of["progress"])
        return {name.decode(): int(n) for name, n in found.items()}

    def decisions(self, after: str, most: int = 500, wait_s: float = 0.0) -> list[Entry]:
        """Entries of `decisions` after an id ("0": from the start), oldest first.

        Fields: `n` rises by one, `k` is the kind, `m` the content.
        """
        return self._after("decisions", after, most, wait_s)

    def events(self, after: str, most: int = 500, wait_s: float = 0.0) -> list[Entry]:
        """Entries of `events` after an id, oldest first; field `m`."""
        return self._after("events", after, most, wait_s)

    def add_events(self, contents: Sequence[bytes]) -> None:
        """Put events on the Stream, of a program that needs no turns."""
        with self.store.translated():
            ask = self._redis.pipeline(transaction=True)
            for content in contents:
                ask.xadd(self._of["events"], {"m": content}, maxlen=self.most_decisions, approximate=True)
            ask.expire(self._of["events"], self.store.lifetime_s)
            ask.execute()

    def forwarded(self) -> str:
        """Id of the last entry of `events` that was forwarded for this area, "0" when none was."""
        with self.store.translated():
            return (self._redis.get(self._of["forwarded"]) or b"0").decode()

    def note_forwarded(self, entry: str) -> None:
        """Entries of `events` up to this one have been forwarded for this area."""
        with self.store.translated():
            self._redis.set(self._of["forwarded"], entry, ex=self.store.lifetime_s)

    def last_decision(self) -> str:
        """Id of the newest entry of `decisions`, "0" when there is none."""
        with self.store.translated():
            found = self._redis.xrevrange(self._of["decisions"], count=1)
        return found[0][0].decode() if found else "0"

    def time_s(self) -> float:
        """The site's clock: seconds (UTC) as Redis has them."""
        with self.store.translated():
            seconds, microseconds = self._redis.time()
        return float(seconds) + 1e-6 * float(microseconds)

    # ------------------------------------------------------------------------------------------------- members

    def beat(self, facts: bytes) -> None:
        """Say how this process does; `facts` is JSON."""
        with self.store.translated():
            ask = self._redis.pipeline(transaction=False)
            ask.hset(self._of["members"], self.who, facts)
            ask.expire(self._of["members"], self.store.lifetime_s)
            ask.execute()

    def leave(self) -> None:
        """This process is no member any more."""
        with self.store.translated():
            self._redis.hdel(self._of["members"], self.who)

    def members(self) -> dict[str, bytes]:
        """Name -> facts of every process of the site that has not left."""
        with self.store.translated():
            return {name.decode(): facts for name, facts in self._redis.hgetall(self._of["members"]).items()}

    def lengths(self) -> dict[str, int]:
        """Entries of each Stream, the number of the matcher's last turn, and that of its last decision (`said`)."""
        with self.store.translated():
            ask = self._redis.pipeline(transaction=False)
            for name in ("sightings", "decisions", "events"):
                ask.xlen(self._of[name])
            ask.hmget(self._of["match"], "position", "said")
            sightings, decisions, events, (turn, said) = ask.execute()
        lengths = {"sightings": sightings, "decisions": decisions, "events": events}
        return {**lengths, "turn": int(turn or 0), "said": int(said or 0)}

    # ------------------------------------------------------------------------------------------------- matcher

    def lease(self) -> int:
        """Ask to be the active matcher, or to stay it: the fence, or 0 when another one is."""
        with self.store.translated():
            return int(self._lease([self._of["lease"], self._of["fence"]], [self.who, round(1000 * self.lease_s)]))

    def release(self) -> None:
        """Be active no longer."""
        with self.store.translated():
            self._release([self._of["lease"]], [self.who])

    def holder(self) -> str | None:
        """Who is the active matcher."""
        with self.store.translated():
            held = self._redis.get(self._of["lease"])
        return None if held is None else str(held.decode())

    def load(self) -> State:
        """The memory that was stored with the last turn; its position is the number of that turn."""
        entries: dict[str, bytes] = {}
        with self.store.translated():
            for name, value in self._redis.hscan_iter(self._of["match"], count=_CHUNK):
                entries[name.decode()] = value
        position = entries.pop("position", b"0").decode()
        entries.pop("said", None)
        return State(position, entries)

    def claim(self) -> list[Entry]:
        """Everything that was read and not decided, whoever read it, is ours now; oldest first."""
        self._make_group()
        out: list[Entry] = []
        start = "0-0"
        with self.store.translated():
            while True:
                claim = self._redis.xautoclaim(self._of["sightings"], GROUP, self.who, 0, start, count=_CHUNK)
                start = claim[0].decode()
                out += [_entry(*row) for row in claim[1] if row[1]]
                if start == "0-0":
                    break
            for consumer in self._redis.xinfo_consumers(self._of["sightings"], GROUP):
                if consumer["name"].decode() != self.who and not consumer["pending"]:
                    self._redis.xgroup_delconsumer(self._of["sightings"], GROUP, consumer["name"])
        return out

    def read(self, most: int = 1000, wait_s: float = 0.2) -> list[Entry]:
        """New entries of `sightings`, oldest first; waits for one."""
        with self.store.translated():
            found = self._redis.xreadgroup(
                GROUP, self.who, {self._of["sightings"]: ">"}, count=most, block=max(1, round(1000 * wait_s))
            )
        return [_entry(*row) for _, rows in _streams(found) for row in rows]

    def store_turn(self, fence: int, turn: Turn) -> tuple[int, int]:
        """Store a turn; returns the version of the tables and how many entries the group still holds.

        Raises Fenced, StateLost, ClaimsLost. After any other error store the very same turn again.
        """
        if self.store.axes is None:
            raise StoreError("this store was opened for reading: a matcher needs the axes of the counts")
        counts, said = summed(turn.increments), turn.said
        names = ("schema", "axes", "version", "index", "fence", "lease", "match", "sightings", "decisions", "events")
        people = sorted(said.holders)
        keys = [self._of[name] for name in (*names, "progress", "mark", "exits")]
        keys += [self.store.keys.of(f"exit:{person}") for person in people]
        keys += [self.store.keys.counts(*key) for key in counts]
        given: list[Any] = [SCHEMA, *self.store.axes.fields().values(), fence, self.who, round(1000 * self.lease_s)]
        given += [turn.number, self.store.lifetime_s, len(self.store.keys.of("counts:").encode()), GROUP]
        given += [self.most_decisions, self.most_decisions, self.most_exits, round(1000 * self.exit_s)]
        # A holder outlives every guest that could be claimed: guests are let go long before exit_s.
        given += [max(1, round(2 * self.exit_s)), escaped(self.area)]
        holders = [(said.claims.get(person, ""), said.holders[person]) for person in people]
        marks = [turn.mark] if turn.mark else []
        changed = [*turn.change.changed.items(), *((name, b"") for name in turn.change.removed)]
        lists: tuple[Sequence[Any], ...] = (holders, said.items, marks, changed, turn.entries, turn.decisions)
        for items in (*lists, turn.events, list(turn.progress.items())):
            given.append(len(items))
            given += [part for item in items for part in (item if isinstance(item, tuple) else (item,))]
        given += [" ".join(f"{b} {n}" for b, n in row.items()) for row in counts.values()]
        try:
            with self.store.translated():
                version, done, held, *lost = self._turn(keys, given)
        except StoreError as error:
            if "FENCED" in str(error):
                raise Fenced(f"area {self.area!r}: another matcher is active") from None
            if "TURN " in str(error):
                raise StateLost(f"area {self.area!r}: Redis holds another turn than {turn.number - 1}") from None
            raise
        if int(done) < 0:
            gone = {people[int(n) - 1]: said.claims[people[int(n) - 1]] for n in lost}
            raise ClaimsLost(f"area {self.area!r}: {len(gone)} persons are with another area", gone)
        return int(version), int(held)

    def hear(
        self, after: dict[str, str], marked: dict[str, str], wait_s: float
    ) -> tuple[list[Heard], dict[str, bytes]]:
        """What areas said since last time: (area, entry) of their exits, and the marks that are new.

        after, marked  area -> id of the last entry read of its exits, of its marks; brought up to date

        Everything that was said before a mark comes with it or came earlier.
        """
        items: list[Heard] = []
        marks: dict[str, bytes] = {}
        names = {self.store.keys.of(f"exits:{escaped(a)}"): (a, after) for a in after}
        names |= {self.store.keys.of(f"mark:{escaped(a)}"): (a, marked) for a in marked}
        block: int | None = round(1000 * wait_s) or None
        while True:
            with self.store.translated():
                asked = {key: of[area] for key, (area, of) in names.items()}
                found = _streams(self._redis.xread(asked, count=_CHUNK, block=block))
            for key, rows in found:
                area, of = names[key.decode()]
                of[area] = rows[-1][0].decode()
                if of is after:
                    items += [Heard(area, _entry(*row)) for row in rows]
                else:
                    marks[area] = rows[-1][1][b"m"]
            # One call sees one moment. Only when none of its answers was cut short are the marks of that moment
            # not ahead of the exits.
            if all(len(rows) < _CHUNK for _, rows in found):
                return items, marks
            block = None

    def _make_group(self) -> None:
        from redis.exceptions import ResponseError

        with self.store.translated():
            try:
                self._redis.xgroup_create(self._of["sightings"], GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def _after(self, key: str, after: str, most: int, wait_s: float) -> list[Entry]:
        block = round(1000 * wait_s) or None
        with self.store.translated():
            found = self._redis.xread({self._of[key]: after}, count=most, block=block)
        return [_entry(*row) for _, rows in _streams(found) for row in rows]

    def _sent(self, session: str) -> str:
        return self.store.keys.of(f"sent:{escaped(self.area)}:{escaped(self.who)}:{escaped(session)}")


def _streams(found: Any) -> list[tuple[bytes, list[Any]]]:
    """What XREAD says: a list of pairs, a dict with the newer protocol, or nothing."""
    if isinstance(found, dict):
        return [(key, [row for rows in value for row in rows]) for key, value in found.items()]
    return found or []


def _entry(name: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(name.decode(), {key.decode(): value for key, value in fields.items()})
