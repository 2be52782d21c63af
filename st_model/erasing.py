"""Erasing people from a site's Redis: live state, Streams, and the server's append-only file.

MatcherRuns (StoreError, RuntimeError)   a live matcher holds the site and would write the person again
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from st_model.exits import KNOWN_AS
from st_model.ledger import StayKey
from st_model.live_state import StateKeeper
from st_model.matcher import MatchSettings, OnlineMatcher
from st_model.store import Store, literal
from st_model.store_errors import StoreError
from st_model.transitions import TableSettings, TransitionTables

Row = Mapping[Any, bytes]
_ATTEMPTS = 20
_ID_FIELDS = frozenset({"global_id", "into_id", "final_id", "person", "id"})


class MatcherRuns(StoreError, RuntimeError):
    """A live matcher works on the site."""


def erase_people(
    store: Store, ids: Collection[int], stays: Collection[StayKey], needles: Iterable[bytes], axes: TableSettings
) -> int:
    """Erase persons from everything personal that the site keeps in Redis; returns how many entries went or changed.

    ids      their global ids, those that were merged into them included
    stays    (camera, track_id) that are known to be theirs; more are found in the live state
    needles  raw bytes of their embeddings
    axes     of the site's tables

    The counters of ids stay: an id is never given twice. Counts of transitions name nobody and stay, too. A server with
    an append-only file writes that file anew; this waits for it. Raises MatcherRuns, the StoreError tree.
    """
    people, known = set(ids), set(stays)
    sought = [n for raw in needles for n in (raw, base64.b64encode(raw))]
    changed = 0
    with store.translated():
        client = store.client
        if any(True for _ in client.scan_iter(match=_pattern(store, "lease:"), count=1000)):
            raise MatcherRuns(
                f"site {store.site!r}: a live matcher is running and would write the person again: stop it, then forget"
            )
        names = sorted(client.scan_iter(match=_pattern(store, ""), count=1000))
        kinds = {name: client.type(name) for name in names}
        states = [n for n in names if kinds[n] == b"hash" and _short(store, n).startswith(("match:", "state"))]
        for name in states:  # what one area knows to be theirs, another may keep under an id they had before a split
            known |= _stays_of(client.hvals(name), people)
        for name in states:
            entries = {k.decode(): v for k, v in client.hgetall(name).items()}
            changed += _write(client, name, *_without(entries, people, known, sought, axes))
        for name in (n for n in names if kinds[n] == b"stream"):
            changed += _rebuild(client, name, lambda row: scrubbed(row, people, known, sought))
        changed += int(client.delete(*(store.keys.of(f"{KNOWN_AS}{person}") for person in people))) if people else 0
    store.compact()
    return changed


def _pattern(store: Store, short: str) -> str:
    return literal(store.keys.of(short)) + "*"


def _short(store: Store, name: bytes) -> str:
    return name.decode().removeprefix(store.keys.of(""))


def _without(
    entries: dict[str, bytes], people: set[int], stays: set[StayKey], sought: list[bytes], axes: TableSettings
) -> tuple[dict[str, bytes], list[str]]:
    """(entries to write, entries to remove)."""
    if "rest" in entries:
        position = entries.pop("position", b"0").decode()
        state, keeper = StateKeeper.load(entries, axes)
        matcher = OnlineMatcher(MatchSettings(), lambda: 0, TransitionTables(axes), state=state)
        for person in sorted(people):
            matcher.forget(person)
        state.teacher.forget(stays)
        for key in stays & state.stays.keys():
            del state.stays[key]
        state.changed -= people
        change = keeper.change(state, position)
        exits = [name for name in (f"{KNOWN_AS}{person}" for person in sorted(people)) if name in entries]
        return dict(change.changed), [*change.removed, *exits]
    gone = [
        name
        for name, value in entries.items()
        if name != "position"
        and (name.rpartition(":")[2] in {str(i) for i in people} or mentions({"": value}, people, stays, sought))
    ]
    return {}, gone


def _write(client: Any, name: bytes, changed: Mapping[str, bytes], removed: list[str]) -> int:
    together = client.pipeline(transaction=True)
    if changed:
        together.hset(name, mapping=dict(changed))
    if removed:
        together.hdel(name, *removed)
    if changed or removed:
        together.execute()
    return len(changed) + len(removed)


def _rebuild(client: Any, name: bytes, scrub: Callable[[Row], Row | None]) -> int:
    """Write a Stream anew with the rows that `scrub` leaves, under their own ids, with its groups and what they hold.

    A deleted entry of a Stream stays in its memory, and in the server's files, until its whole block is gone: so also
    what a matcher deleted long ago is still there, and every Stream is written anew.
    """
    from redis.exceptions import WatchError

    for _ in range(_ATTEMPTS):
        with client.pipeline(transaction=True) as together:
            together.watch(name)
            rows = list(_entries(together, name))
            last = together.xinfo_stream(name)["last-generated-id"]
            groups = [(g["name"], g["last-delivered-id"]) for g in together.xinfo_groups(name)]
            held = [(group, p) for group, _ in groups for p in _pending(together, name, group)]
            kept = [(entry, row, scrub(row)) for entry, row in rows]
            together.multi()
            together.delete(name)
            for entry, _, left in kept:
                if left is not None:
                    together.xadd(name, dict(left), id=entry)
            for group, delivered in groups:
                together.xgroup_create(name, group, id=delivered, mkstream=True)
            here = {entry for entry, _, left in kept if left is not None}
            for group, item in held:
                if item["message_id"] in here:
                    together.xclaim(name, group, item["consumer"], 0, [item["message_id"]], force=True, justid=True)
            if here or groups:
                together.execute_command("XSETID", name, last)
            try:
                together.execute()
            except WatchError:
                continue  # a worker has said something meanwhile
        return sum(left != row for _, row, left in kept)
    raise StoreError(f"stream {name.decode()}: it is written to all the time; stop the workers, then forget")


def _entries(client: Any, name: bytes) -> Iterator[tuple[bytes, Row]]:
    after = "-"
    while rows := client.xrange(name, min=after, count=500):
        yield from rows
        after = f"({rows[-1][0].decode()}"


def _pending(client: Any, name: bytes, group: bytes) -> Iterator[Mapping[str, Any]]:
    after = "-"
    while rows := client.xpending_range(name, group, min=after, max="+", count=500):
        yield from rows
        after = f"({rows[-1]['message_id'].decode()}"


def scrubbed(row: Row, people: set[int], stays: set[StayKey], sought: Iterable[bytes]) -> Row | None:
    """An entry without the people: the same when it does not speak of them, None when it speaks of nobody else.

    What workers say holds `sightings` of several people; only theirs go.

    >>> said = {b"m": b'{"number": 3, "sightings": [{"camera": "a", "track_id": 4}, {"camera": "a", "track_id": 5}]}'}
    >>> scrubbed(said, set(), {("a", 4)}, [])
    {b'm': b'{"number":3,"sightings":[{"camera":"a","track_id":5}]}\\n'}
    """
    if not mentions(row, people, stays, sought):
        return row
    out = dict(row)
    for field, value in row.items():
        said = _parsed(value)
        if isinstance(said, dict) and isinstance(said.get("sightings"), list):
            kept = [s for s in said["sightings"] if not _speaks(s, people, stays)]
            text = json.dumps({**said, "sightings": kept}, ensure_ascii=False, separators=(",", ":"))
            out[field] = text.encode() + b"\n"
    return None if mentions(out, people, stays, sought) else out


def _stays_of(values: Iterable[bytes], people: set[int]) -> set[StayKey]:
    found = set()
    for value in values:
        row = _parsed(value)
        if isinstance(row, dict) and row.get("global_id") in people and "track_id" in row and "camera" in row:
            found.add((str(row["camera"]), int(row["track_id"])))
    return found


def mentions(row: Row, people: set[int], stays: set[StayKey], sought: Iterable[bytes]) -> bool:
    """Whether an entry speaks of one of the people: by id, by stay, or by embedding.

    >>> row = {b"decision": b'{"camera": "a", "track_id": 4, "global_id": 7}'}
    >>> mentions(row, {7}, set(), []), mentions(row, {8}, {("a", 4)}, []), mentions(row, {8}, set(), [])
    (True, True, False)
    """
    if any(needle in value for value in row.values() for needle in sought):
        return True
    fields = {(k.decode(errors="replace") if isinstance(k, bytes) else str(k)): _parsed(v) for k, v in row.items()}
    return _speaks(fields, people, stays)


def _speaks(value: Any, people: set[int], stays: set[StayKey]) -> bool:
    if isinstance(value, dict):
        if any(isinstance(v, int) and v in people for k, v in value.items() if k in _ID_FIELDS):
            return True
        if (str(value.get("camera")), value.get("track_id")) in stays:
            return True
        return any(_speaks(v, people, stays) for v in value.values())
    if isinstance(value, list):
        pair = len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)
        return (pair and (value[0], value[1]) in stays) or any(_speaks(v, people, stays) for v in value)
    return False


def _parsed(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value.decode(errors="replace")
