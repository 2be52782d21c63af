"""The store: a site's counts, ids and open state in Redis.

There is one implementation, and it always talks to a real server (`st_model.embedded` starts one where none runs).
Counts are integers that only ever add, so the order of flushes and their number of workers do not matter; each writer
numbers its batches, so a repeated flush changes nothing. Scoring never calls this module: `st_model.writer` flushes
from the background. What can go wrong is in `st_model.store_errors`, names and lifetimes are in `st_model.keys`.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from st_model import store_scripts
from st_model.counts import Axes, Counts, summed
from st_model.keys import RETENTION_S, SCHEMA, Keys, parse_member
from st_model.saved_state import State, StateChange
from st_model.store_errors import AxesMismatch, SchemaMismatch, StoreError, redact, translated
from st_model.transitions import Increment

_REWRITE_S = 30.0
_CHUNK = 1000  # hashes read per round trip: large enough to hide the latency, small enough for little memory


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


def new_writer(worker: str) -> str:
    """A name for the batches of one writer; unique, so that two writers never hide each other's batches."""
    return f"{worker}-{uuid.uuid4().hex[:12]}"


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
        self.worker = worker
        self.writer = new_writer(worker)
        """Whose batches `flush` numbers when nothing else is said."""
        self._keys = Keys(site)
        self._lifetime_s = max(1, math.ceil(retention_s))
        with translated(self.place, site):
            self._redis = _connect(url, timeout_s, self._keys.of("schema"))
            self._flush = self._redis.register_script(store_scripts.FLUSH)
            self._reserve = self._redis.register_script(store_scripts.RESERVE)
            self._give_back = self._redis.register_script(store_scripts.GIVE_BACK)
            self._reset = self._redis.register_script(store_scripts.RESET)
            self._prune = self._redis.register_script(store_scripts.PRUNE)
        self.check()

    @property
    def client(self) -> Any:
        """The redis-py client, for `st_model.site_stream`; its errors are raised inside `translated()`."""
        return self._redis

    @property
    def keys(self) -> Keys:
        """Names of the site's keys."""
        return self._keys

    @property
    def lifetime_s(self) -> int:
        """Lifetime of counts and state since their last change, whole seconds."""
        return self._lifetime_s

    def translated(self) -> AbstractContextManager[None]:
        """Turns every Redis error inside the block into a StoreError."""
        return translated(self.place, self.site)

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
        `writer` (see `new_writer`) has its own numbers.
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

    def add_counts(self, counts: Counts, source: str) -> int:
        """Add counts from elsewhere (an exported table) and return the version.

        The same counts from the same `source` add only once, until the next `reset`.
        """
        reset_version = self.reset_version()
        rows = [(key, dict(sorted(counts[key].items()))) for key in sorted(counts)]
        writer = f"{source}-{reset_version}-{hashlib.sha256(repr(rows).encode()).hexdigest()[:16]}"
        version = self.version()
        for batch, start in enumerate(range(0, len(rows), _CHUNK), start=1):
            version = self.flush(dict(rows[start : start + _CHUNK]), batch, writer=writer)
        return version

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
            # The version first: then a flush in between only makes the counts newer than it says. (A transaction would
            # be refused by a server that has no memory left, though all it does is read.)
            ask = self._redis.pipeline(transaction=False)
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

    def sites(self) -> list[str]:
        """Names of all sites that this Redis holds, sorted."""
        with translated(self.place, self.site):
            found = self._redis.scan_iter(match="identrix:{*}:schema", count=1000)
            return sorted(unquote(name.decode()[len("identrix:{") : -len("}:schema")]) for name in found)

    def reset_version(self) -> int:
        """The version at which the tables were last reset; 0: never."""
        with translated(self.place, self.site):
            return int(self._redis.hget(self._keys.of("axes"), "reset_version") or 0)

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

        Returns the version. Batches still under way count towards the new tables: `TableWriter(fresh=True)` merges what
        dead writers left before it resets.
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

    def forget_state(self, names: Sequence[str]) -> int:
        """Erase entries of the state (a person); returns how many were there.

        The server's append-only file still holds what it once wrote, so it is asked to write that file anew; it does so
        in the background. (Snapshots and replicas that others made of their own server are theirs to erase.)
        """
        if not names:
            return 0
        with translated(self.place, self.site):
            gone = int(self._redis.hdel(self._keys.of("state"), *names))
        if gone:
            self._rewrite_file()
        return gone

    def limit_lifetimes(self) -> int:
        """Give keys that should end the store's lifetime, where they have a longer one or none; returns how many."""
        rolling = ("counts:", "batch:", "state", "match:", "progress:", "sent:", "decisions:", "events", "members")
        changed = 0
        with translated(self.place, self.site):
            for name in self._redis.scan_iter(match=literal(self._keys.of("")) + "*", count=1000):
                short = name.decode().removeprefix(self._keys.of(""))
                if short.startswith(rolling) and not 0 <= int(self._redis.ttl(name)) <= self._lifetime_s:
                    changed += int(self._redis.expire(name, self._lifetime_s))
        return changed

    def compact(self) -> None:
        """Let the server write its append-only file anew, and wait: what was erased is not in it any more."""
        self._rewrite_file()
        deadline_s = time.monotonic() + _REWRITE_S
        with translated(self.place, self.site):
            while time.monotonic() < deadline_s:
                state = self._redis.info("persistence")
                if not state.get("aof_rewrite_in_progress") and not state.get("aof_rewrite_scheduled"):
                    return
                time.sleep(0.02)
        raise StoreError(
            f"site {self.site!r} at {self.place}: erased, but the server has not written its append-only file anew "
            f"within {_REWRITE_S:.0f} s: let it do BGREWRITEAOF"
        )

    def _rewrite_file(self) -> None:
        from redis import RedisCluster

        with translated(self.place, self.site):
            server = self._redis
            if isinstance(server, RedisCluster):
                server = self._redis.get_redis_connection(self._redis.get_node_from_key(self._keys.of("state")))
            if not server.info("persistence")["aof_enabled"]:
                return
            # A rewrite already under way may have begun before the erasure: wait for its end.
            deadline_s = time.monotonic() + _REWRITE_S
            while server.info("persistence")["aof_rewrite_in_progress"] and time.monotonic() < deadline_s:
                time.sleep(0.02)
            server.bgrewriteaof()


def literal(text: str) -> str:
    """A text as a pattern of SCAN that matches just that."""
    return re.sub(r"([\[\]*?\\])", r"\\\1", text)


def _connect(url: str, timeout_s: float, key: str) -> Any:
    """A redis-py client that reaches `key`: a plain one, or one for a cluster when the key lies on another node."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # One retry: an idle connection may have been closed by a server that restarted.
    settings: dict[str, Any] = {"socket_timeout": timeout_s, "retry": Retry(NoBackoff(), 1)}
    try:
        client = redis.Redis.from_url(url, **settings)
    except ValueError:
        # Neither redis-py's message nor the address itself is shown: what looks like a port may be a password.
        raise StoreError(
            "the Redis address cannot be read: expected redis://[user:password@]host[:port][/db], rediss://... "
            "or unix:///path"
        ) from None
    try:
        client.exists(key)
        return client
    except redis.exceptions.MovedError:
        client.close()
        return redis.RedisCluster.from_url(url, **settings)
