"""The store: a site's counts, ids and open state in Redis.

There is one implementation, and it always talks to a real server (`st_model.embedded` starts one where none runs).
Counts are integers that only ever add, so the order of flushes and their number of workers do not matter; each writer
numbers its batches, so a repeated flush changes nothing. Scoring never calls this module: `st_model.writer` flushes
from the background. What can go wrong is in `st_model.store_errors`, names and lifetimes are in `st_model.keys`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from st_model import store_scripts
from st_model.keys import RETENTION_S, SCHEMA, Keys, parse_member
from st_model.store_errors import AxesMismatch, SchemaMismatch, StoreError, redact, translated
from st_model.transitions import ONE, Increment, TableSettings

PairEpoch = tuple[str, str, int]
"""(from camera, to camera, epoch)"""

Counts = dict[PairEpoch, dict[int, int]]
"""Delay bin -> count (4096 = one observation) of each pair and epoch; no zeros."""

_CHUNK = 1000  # hashes read per round trip: large enough to hide the latency, small enough for little memory


@dataclass(frozen=True)
class Axes:
    """What the counts of a site mean. Counts of equal axes add; others are refused (`AxesMismatch`).

    bin_s, origin_s  width of a delay bin and the delay at which bin 0 starts, seconds
    bins             number of bins
    epoch_s          length of an epoch, seconds
    """

    bin_s: float
    origin_s: float
    bins: int
    epoch_s: float

    @classmethod
    def of(cls, settings: TableSettings) -> Axes:
        """The axes of tables with these settings.

        >>> Axes.of(TableSettings(bin_s=2.0, origin_s=-30.0, horizon_s=70.0))
        Axes(bin_s=2.0, origin_s=-30.0, bins=50, epoch_s=86400.0)
        """
        return cls(settings.bin_s, settings.origin_s, settings.bins, settings.epoch_s)

    def fields(self) -> dict[str, str]:
        """As they stand in Redis. Equal axes give equal text."""
        return {
            "bin_s": repr(float(self.bin_s)),
            "origin_s": repr(float(self.origin_s)),
            "bins": str(int(self.bins)),
            "epoch_s": repr(float(self.epoch_s)),
            "one": str(ONE),
        }


@dataclass(frozen=True)
class StateChange:
    """What changed in the state of a live matcher, and the position in its input which that state belongs to.

    position  how far the decisions have come (for instance the id of the last sighting read)
    changed   name -> bytes of each entry that is new or different (one per identity, one per open sighting); not empty
    removed   names that are gone

    Raises ValueError for an empty value or the reserved name `position`.
    """

    position: str
    changed: Mapping[str, bytes] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "position" in self.changed or "position" in self.removed:
            raise ValueError("a state entry cannot be called 'position'")
        if not self.position or not all(self.changed.values()):
            raise ValueError("position and every state entry must not be empty")

    def then(self, later: StateChange) -> StateChange:
        """Both changes as one.

        >>> StateChange("1", {"a": b"x"}).then(StateChange("2", {"b": b"y"}, ("a",)))
        StateChange(position='2', changed={'b': b'y'}, removed=('a',))
        """
        gone = set(later.removed)
        changed = {k: v for k, v in {**self.changed, **later.changed}.items() if k not in gone}
        return StateChange(later.position, changed, tuple(sorted((set(self.removed) | gone) - changed.keys())))


@dataclass(frozen=True)
class State:
    """The state of a matcher as it was saved: entries by name, and the position it belongs to."""

    position: str
    entries: dict[str, bytes]


@dataclass(frozen=True)
class Refresh:
    """Counts that changed since a version.

    version   what the counts contain at least
    counts    the whole present content of every pair and epoch that changed; empty where all was retracted
    complete  true: pairs that are not in it have no counts (first read, or the tables were reset meanwhile)
    """

    version: int
    counts: Counts
    complete: bool


def summed(increments: Iterable[Increment]) -> Counts:
    """Increments added up per pair, epoch and bin, without zeros.

    >>> summed([Increment("a", "b", 0, 5, ONE), Increment("a", "b", 0, 5, -ONE), Increment("a", "b", 0, 6, 1)])
    {('a', 'b', 0): {6: 1}}
    """
    out: Counts = {}
    for from_camera, to_camera, epoch, bin, count in increments:
        row = out.setdefault((from_camera, to_camera, epoch), {})
        row[bin] = row.get(bin, 0) + count
    return {key: kept for key, row in out.items() if (kept := {b: n for b, n in row.items() if n})}


def increments_of(counts: Counts) -> list[Increment]:
    """Counts as increments, sorted: what `TransitionTables.add` takes."""
    return [Increment(*key, b, n) for key in sorted(counts) for b, n in sorted(counts[key].items())]


class Store:
    """One connection to one site; safe to share between threads.

    url          `redis://`, `rediss://` or `unix://` (of an `EmbeddedServer`: its `.url`)
    site         name of the site; sites share nothing
    worker       name of this process in batch names, for people
    axes         what the counts mean; None: whatever the site has (for readers; `flush` needs it)
    retention_s  lifetime of counts and state since their last change, seconds
    timeout_s    how long one call may take, seconds

    Raises a `StoreError` at once when Redis cannot be reached or the site does not fit.
    """

    def __init__(
        self,
        url: str,
        site: str,
        *,
        worker: str = "main",
        axes: Axes | None = None,
        retention_s: float = RETENTION_S,
        timeout_s: float = 5.0,
    ) -> None:
        self.site = site
        self.place = redact(url)
        self.axes = axes
        self.writer = f"{worker}-{uuid.uuid4().hex[:12]}"
        """Names this process's batches; unique, so that two processes of one name never hide each other's batches."""
        self._keys = Keys(site)
        self._lifetime_s = max(1, math.ceil(retention_s))
        with translated(self.place, site):
            self._redis = _connect(url, timeout_s, self.place)
            self._flush = self._redis.register_script(store_scripts.FLUSH)
            self._reserve = self._redis.register_script(store_scripts.RESERVE)
            self._give_back = self._redis.register_script(store_scripts.GIVE_BACK)
            self._reset = self._redis.register_script(store_scripts.RESET)
            self._prune = self._redis.register_script(store_scripts.PRUNE)
        self.check()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def check(self) -> None:
        """Raise a `StoreError` unless the site can be read and has our schema and axes."""
        with translated(self.place, self.site):
            schema = self._redis.get(self._keys.of("schema"))
            if schema is not None and schema != str(SCHEMA).encode():
                raise SchemaMismatch(
                    f"site {self.site!r} at {self.place} was written with schema {schema.decode(errors='replace')!r}, "
                    f"this program reads {SCHEMA}: update the program, or use another site name"
                )
            held = self.held_axes()
        if held is not None and self.axes is not None and held != self.axes:
            raise AxesMismatch(
                f"site {self.site!r} at {self.place} holds counts with {held}, the settings say {self.axes}: "
                f"use these settings, another site name, or reset the tables"
            )

    def held_axes(self) -> Axes | None:
        """The axes of the counts that are there, None for a new site."""
        with translated(self.place, self.site):
            bin_s, origin_s, bins, epoch_s = self._redis.hmget(
                self._keys.of("axes"), "bin_s", "origin_s", "bins", "epoch_s"
            )
        return None if bin_s is None else Axes(float(bin_s), float(origin_s), int(bins), float(epoch_s))

    def flush(
        self,
        increments: Sequence[Increment] | Counts,
        batch: int,
        *,
        state: StateChange | None = None,
        writer: str | None = None,
    ) -> int:
        """Add a batch of increments, and save the state that belongs to them, in one atomic step. Returns the version.

        The batches of a writer are numbered 1, 2, 3... and come in this order. A batch that is not above the last one
        counted is a repeat and changes nothing: after a failure send the same batch again, as often as it takes.
        `writer` speaks for another process whose journal is being merged.
        """
        if self.axes is None:
            raise StoreError("this store was opened for reading: flush needs the axes of the counts")
        counts = increments if isinstance(increments, dict) else summed(increments)
        self._check_bins(counts)
        keys = [*map(self._keys.of, ("schema", "axes", "version", "index")), self._keys.batch(writer or self.writer)]
        keys.append(self._keys.of("state"))
        keys += [self._keys.counts(*key) for key in counts]
        prefix_bytes = len(self._keys.of("counts:").encode())
        arguments: list[Any] = [SCHEMA, *self.axes.fields().values(), batch, self._lifetime_s, prefix_bytes]
        if state is None:
            arguments += ["", 0]
        else:
            entries = [*state.changed.items(), *((name, b"") for name in state.removed)]
            arguments += [state.position, 2 * len(entries), *(part for entry in entries for part in entry)]
        arguments += [" ".join(f"{b} {n}" for b, n in row.items()) for row in counts.values()]
        with translated(self.place, self.site):
            return int(self._flush(keys, arguments)[0])

    def _check_bins(self, counts: Counts) -> None:
        bins = self.axes.bins if self.axes else 0
        for key, row in counts.items():
            if row and (min(row) < 0 or max(row) >= bins):
                raise ValueError(f"counts of {key} have a bin outside 0..{bins - 1}")

    def load_counts(self) -> Counts:
        """All counts of the site. (`increments_of` turns them into what `TransitionTables.add` takes.)"""
        return self.refresh(0).counts

    def refresh(self, since: int) -> Refresh:
        """What changed after version `since`; everything for 0, or when the tables were reset meanwhile.

        Counts may already hold more than `version` says, never less.
        """
        with translated(self.place, self.site):
            ask = self._redis.pipeline(transaction=True)
            ask.get(self._keys.of("version"))
            ask.hget(self._keys.of("axes"), "reset_version")
            ask.zrangebyscore(self._keys.of("index"), f"({since}", "+inf")
            version, reset_version, changed = ask.execute()
            complete = since <= int(reset_version or 0) or since > int(version or 0)
            members = self._redis.zrange(self._keys.of("index"), 0, -1) if complete else changed
            counts: Counts = {}
            gone = []
            for start in range(0, len(members), _CHUNK):
                chunk = members[start : start + _CHUNK]
                ask = self._redis.pipeline(transaction=False)
                for member in chunk:
                    ask.hgetall(self._keys.of("counts:").encode() + member)
                for member, row in zip(chunk, ask.execute(), strict=True):
                    if row or not complete:
                        counts[parse_member(member.decode())] = {int(b): int(n) for b, n in row.items()}
                    else:
                        gone.append(member)
            if gone:
                self._prune([self._keys.of("index")], [self._keys.of("counts:"), *gone])
        return Refresh(int(version or 0), counts, complete)

    def version(self) -> int:
        """Risen by every batch counted and every reset; 0 for a new site."""
        with translated(self.place, self.site):
            return int(self._redis.get(self._keys.of("version")) or 0)

    def next_id(self, n: int = 1, *, above: int = 0) -> int:
        """Reserve `n` global ids and return the first; they are never given again, not even after `reset`.

        `above`: the highest id the caller knows to be in use, in case the counter was restored from an old backup.
        """
        return self._reserve_from("ids", n, above)

    def next_track_block(self, size: int = 1_000_000) -> range:
        """Track ids for one run that no other run has or will have."""
        first = self._reserve_from("tracks", size, 0)
        return range(first, first + size)

    def _reserve_from(self, counter: str, n: int, above: int) -> int:
        if n < 1:
            raise ValueError(f"cannot reserve {n} ids")
        with translated(self.place, self.site):
            return int(self._reserve([self._keys.of(counter)], [n, above])) - n + 1

    def give_back_ids(self, last_used: int, last_reserved: int) -> None:
        """Return reserved ids that were never used, if nobody has reserved more meanwhile."""
        with translated(self.place, self.site):
            self._give_back([self._keys.of("ids")], [last_used, last_reserved])

    def reset(self) -> int:
        """Remove counts, gallery and axes of the site (not the id counters, nor what was counted of which writer).

        Returns the version. Batches still under way count towards the new tables.
        """
        keys = [*map(self._keys.of, ("axes", "version", "index", "state"))]
        axes = self.axes.fields() if self.axes else {}
        with translated(self.place, self.site):
            return int(self._reset(keys, [self._keys.of("counts:"), *(part for item in axes.items() for part in item)]))

    def load_state(self) -> State | None:
        """The state that was saved with the last batch that had one, None when there is none."""
        with translated(self.place, self.site):
            raw = self._redis.hgetall(self._keys.of("state"))
        position = raw.pop(b"position", None)
        return None if position is None else State(position.decode(), {k.decode(): v for k, v in raw.items()})

    def state_names(self) -> Iterator[str]:
        """Names of the state's entries, without their content."""
        with translated(self.place, self.site):
            names = self._redis.hkeys(self._keys.of("state"))
        return (name.decode() for name in names if name != b"position")

    def forget_state(self, names: Sequence[str]) -> int:
        """Erase entries of the state (a person); returns how many were there."""
        with translated(self.place, self.site):
            return int(self._redis.hdel(self._keys.of("state"), *names)) if names else 0


def _connect(url: str, timeout_s: float, place: str) -> Any:
    """A redis-py client. One retry: an idle connection may have been closed by a server that restarted."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    settings: dict[str, Any] = {"socket_timeout": timeout_s, "retry": Retry(NoBackoff(), 1)}
    try:
        return redis.Redis.from_url(url, **settings)
    except ValueError:
        # redis-py's message can hold the password (it takes it for the port)
        raise StoreError(
            f"{place} is not an address of a Redis server: expected redis://host:port/db, rediss:// or unix:///path"
        ) from None
