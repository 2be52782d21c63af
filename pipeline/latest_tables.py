"""What a site has learnt, read from Redis now and then: a worker writes it at each cut, and never waits for Redis."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from pipeline.tables_file import write_tables
from st_model.counts import Counts, increments_of
from st_model.store import Store
from st_model.store_errors import StoreError
from st_model.transitions import TableSettings

LOOK_EVERY_S = 60.0


class LatestTables:
    """A thread that asks for news of the tables; a context manager. Entering asks once. Raises a StoreError then."""

    def __init__(self, store: Store, settings: TableSettings) -> None:
        self._store, self._settings = store, settings
        self._counts: Counts = {}
        self._version = 0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="tables", daemon=True)

    def write(self, path: Path) -> None:
        """Write them as they were when Redis was last asked. Raises OutputError."""
        with self._lock:
            increments = increments_of(self._counts)
        write_tables(path, self._settings, increments)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            with suppress(StoreError):  # whoever speaks says that Redis is away
                self._look()

    def _look(self) -> None:
        news = self._store.refresh(self._version)
        with self._lock:
            self._counts = news.counts if news.complete else {**self._counts, **news.counts}
            self._version = news.version
