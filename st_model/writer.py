"""The writer: keeps Redis off the hot path, and the run going while Redis is away.

The match loop adds increments and takes ids from memory. A background thread flushes about once a second: each batch
goes to the journal first and leaves it once Redis has counted it, so a crash at any moment, of either side, loses no
flushed batch and counts none twice. While Redis is away the journal grows, memory does not, and ids come from a
reserve.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from st_model.counts import Counts
from st_model.journal import Batch, Journal, recover
from st_model.saved_state import StateChange
from st_model.store import Store, new_writer
from st_model.store_errors import StoreError, StoreUnavailable
from st_model.transitions import Increment

ID_BLOCK = 1000
"""Ids reserved ahead; between half and all of them are there when Redis goes away. A choice, not tuned: 1000 ids last a
site with two new people a minute for a working day."""


class TableWriter:
    """Writes one process's counts and state of a live site; a context manager, safe to share between threads.

    store       opened with axes
    state_dir   where the journal lies; what dead writers left there is merged first
    fresh       reset the site's tables and state first (and with them what dead writers left)
    interval_s  how often it flushes, seconds
    id_block    how many ids it reserves at once
    revive      called when Redis is away, before the next attempt (`EmbeddedServer.ensure`)

    Raises a `StoreError` when Redis is away or does not fit at the start: there is nothing to go on from then.
    """

    def __init__(
        self,
        store: Store,
        state_dir: Path | str,
        *,
        fresh: bool = False,
        interval_s: float = 1.0,
        id_block: int = ID_BLOCK,
        revive: Callable[[], None] | None = None,
    ) -> None:
        if store.axes is None:
            raise ValueError("the writer's store needs axes")
        self._store, self._bins = store, store.axes.bins
        self._writer = new_writer(store.worker)  # batches are numbered per writer, and a store may serve several
        self._interval_s, self._id_block, self._revive = interval_s, id_block, revive
        self._lock = threading.Lock()
        self._pending: Counts = {}
        self._state: StateChange | None = None
        self._number = 0
        self._held: Batch | None = None  # could not be journaled (disk full); goes straight to Redis
        self._away_since_s: float | None = None
        self._away_s = 0.0
        self.error: str | None = None
        """Why Redis cannot be written at present, None when it can."""
        self.journal_error: str | None = None
        """Why the journal cannot be written at present; a crash would lose up to one batch and what follows it."""
        try:
            self.recovered = recover(Path(state_dir), store)
            """Batches of dead writers that were merged at the start."""
            if fresh:
                store.reset()
            self._journal = Journal(Path(state_dir), store, self._writer)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"cannot write a journal in {state_dir}: {error}") from error
        self.version = 0
        """Version of the counts in Redis when they were last looked at."""
        self._read_version = 0
        self._known: Counts = {}  # what Redis holds as far as we know
        self._news: list[Increment] = []
        self._ids: deque[range] = deque()
        self._highest_id = 0
        self._reserving = threading.Lock()
        try:
            self._fetch_news()
            self._reserve_ids(at_least=1)
        except StoreError:
            self._journal.close()
            raise
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="table-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def degraded(self) -> bool:
        """Redis is away: decisions go on from memory, counts wait in the journal."""
        return self._away_since_s is not None

    @property
    def degraded_s(self) -> float:
        """Seconds spent degraded since the start."""
        since_s = self._away_since_s
        return self._away_s + (0.0 if since_s is None else time.monotonic() - since_s)

    @property
    def waiting(self) -> int:
        """Batches that Redis has not counted yet. After `close`: those the next run on this state folder will merge."""
        return self._journal.waiting + (self._held is not None)

    def add(self, increments: Sequence[Increment], state: StateChange | None = None) -> None:
        """Hand over increments, and the state of the matcher that they led to: both are saved in one step.

        Never waits for Redis. Raises ValueError on a bin outside the axis; nothing is added then.
        """
        for item in increments:
            if not 0 <= item.bin < self._bins:
                raise ValueError(f"{item}: bin outside 0..{self._bins - 1}")
        with self._lock:
            # Summed per bin: however long it takes to flush, memory is bounded by the number of distinct bins.
            for item in increments:
                row = self._pending.setdefault((item.from_camera, item.to_camera, item.epoch), {})
                row[item.bin] = row.get(item.bin, 0) + item.count
            if state is not None:
                self._state = state if self._state is None else self._state.then(state)

    def news(self) -> list[Increment]:
        """What others counted since the last call (at the first: all that was there): add it to the tables.

        A reset by somebody else arrives as retractions.
        """
        with self._lock:
            news, self._news = self._news, []
        return news

    def next_id(self) -> int:
        """A global id that nobody has or will have. From memory, unless half a block is used up within one interval.

        Raises a `StoreError` when the reserve is used up while Redis is away.
        """
        while True:
            with self._lock:
                if self._ids:
                    block = self._ids.popleft()
                    if len(block) > 1:
                        self._ids.appendleft(block[1:])
                    if len(block) == self._id_block // 2:
                        self._wake.set()
                    return block[0]
            self._reserve_ids(at_least=1)

    def flush(self) -> bool:
        """Flush now; whether everything has been counted."""
        with self._flushing:
            self._cycle()
        return self.error is None and not self.waiting

    def close(self) -> None:
        """Flush, give unused ids back, remove the journal if all is counted. Does not raise when Redis is away."""
        if self._stopping:
            return
        self._stopping = True
        self._wake.set()
        self._thread.join()
        self.flush()
        with suppress(StoreError):
            for block in reversed(self._ids):
                self._store.give_back_ids(block.start - 1, block.stop - 1)
        self._ids.clear()
        self._journal.close()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            with self._flushing:
                try:
                    self._cycle()
                except Exception as error:  # a defect must not end the thread unseen; `close` raises it again
                    self._away(f"{type(error).__name__}: {error}")

    def _cycle(self) -> None:
        """Journal what is pending, send what is journaled, then look what others did."""
        self._journal_pending()
        try:
            while (batch := self._journal.first()) is not None:
                self._send(batch)
                self._journal.drop_first()
            if self._held is not None:
                self._send(self._held)
                self._held = None
            self._fetch_news()
            self._reserve_ids(at_least=self._id_block // 2)
        except (StoreError, OSError) as error:
            self._away(str(error))
            if self._revive is not None and isinstance(error, StoreUnavailable):
                with suppress(StoreError, OSError):
                    self._revive()
            return
        self.error = None
        if self._away_since_s is not None:
            self._away_s += time.monotonic() - self._away_since_s
            self._away_since_s = None

    def _away(self, why: str) -> None:
        self.error = why
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()

    def _journal_pending(self) -> None:
        if self._held is None:
            with self._lock:
                counts, state = self._pending, self._state
                self._pending, self._state = {}, None
            if not counts and state is None:
                return
            self._number += 1
            self._held = Batch(self._writer, self._number, counts, state)
        try:
            self._journal.append(self._held)
        except OSError as error:
            # The batch keeps its number and stays in memory; later increments gather behind it in `_pending`.
            self.journal_error = f"cannot write {self._journal.path}: {error}"
        else:
            self._held, self.journal_error = None, None

    def _send(self, batch: Batch) -> None:
        self.version = self._store.flush(batch.counts, batch.number, state=batch.state, writer=batch.writer)
        if self.version == self._read_version + 1:
            self._read_version = self.version  # nobody else wrote: no need to read back what we sent
        for key, row in batch.counts.items():
            known = self._known.setdefault(key, {})
            for b, n in row.items():
                known[b] = known.get(b, 0) + n

    def _fetch_news(self) -> None:
        """All own batches are counted here, so what Redis has and we do not know comes from others."""
        fetched = self._store.refresh(self._read_version)
        changed = self._known.keys() | fetched.counts.keys() if fetched.complete else fetched.counts.keys()
        news: list[Increment] = []
        for key in sorted(changed):
            there, known = fetched.counts.get(key, {}), self._known.get(key, {})
            for b in sorted(there.keys() | known.keys()):
                if difference := there.get(b, 0) - known.get(b, 0):
                    news.append(Increment(*key, b, difference))
            self._known[key] = there
        self.version = self._read_version = fetched.version
        if news:
            with self._lock:
                self._news += news

    def _reserve_ids(self, at_least: int) -> None:
        with self._reserving:
            if self._spare_ids() >= at_least:
                return
            first = self._store.next_id(self._id_block, above=self._highest_id)
            self._highest_id = first + self._id_block - 1
            with self._lock:
                self._ids.append(range(first, first + self._id_block))

    def _spare_ids(self) -> int:
        with self._lock:
            return sum(map(len, self._ids))
