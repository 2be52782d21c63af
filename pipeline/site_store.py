"""A run's hold on its site: the server, the tables in memory, the writer behind them, and fresh ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pipeline.config import MatchConfig
from pipeline.freezing import check_not_frozen, tables_for
from pipeline.state_dir import state_dir
from st_model.counts import Axes
from st_model.store import Store
from st_model.store_errors import StoreUnavailable
from st_model.transitions import Increment, TableSettings, TransitionTables
from st_model.writer import TableWriter

_T = TypeVar("_T")


@dataclass
class SiteStore:
    """Tables to score from, and where what is learnt goes. Nothing here waits for Redis.

    tables  what the site has learnt, with what this run adds
    start   the counts as they were when the run began: with them, a replay gives the same decisions
    frozen  nothing is learnt
    store   the connection, for what goes beside the tables; its calls wait for Redis
    """

    tables: TransitionTables
    frozen: bool
    start: tuple[Increment, ...]
    store: Store
    _writer: TableWriter
    _track_ids: Iterator[int]

    def learn(self, increments: Sequence[Increment]) -> None:
        """Send increments to Redis in the background (the matcher has added them to the tables already)."""
        if increments and not self.frozen:
            self._writer.add(increments)

    def next_id(self) -> int:
        """A global id that nobody has or will have."""
        return self._writer.next_id()

    def new_track_id(self) -> int:
        """A track id that no other camera and no other run has."""
        return next(self._track_ids)

    def finish(self) -> int:
        """Send what is left; returns the version of the tables in Redis."""
        self._writer.flush()
        return self._writer.version

    @property
    def degraded(self) -> bool:
        """Counts of this run wait in the journal because Redis is away."""
        return self._writer.degraded or self._writer.waiting > 0

    @property
    def degraded_s(self) -> float:
        """Seconds of this run without Redis."""
        return self._writer.degraded_s


@contextmanager
def open_store(
    config: MatchConfig, settings: TableSettings | None
) -> Iterator[tuple[Store, Callable[[], None] | None]]:
    """Connect to the site's Redis (starting the embedded server if that is the choice). Raises the StoreError tree.

    settings  whose axes the counts must have; None: whatever they have, nothing is added
    """
    with ExitStack() as stack:
        url, revive = config.redis.url, None
        if url == "embedded":
            from st_model.embedded import EmbeddedServer

            server = stack.enter_context(EmbeddedServer(state_dir(config)))
            url, revive = server.url, server.ensure
        lifetime_s = config.retention.redis_days * 86400.0
        axes = Axes.of(settings) if settings else None
        store = _opened(lambda: Store(url, config.site_name, axes=axes, retention_s=lifetime_s), revive)
        stack.callback(store.close)
        yield store, revive


@contextmanager
def open_site(config: MatchConfig, settings: TableSettings, *, fresh: bool = False) -> Iterator[SiteStore]:
    """Open a site for a run: its tables as they are, or empty ones with `fresh`.

    Raises the StoreError tree; FrozenError for a frozen site that is to start with empty ones.
    """
    if fresh:
        check_not_frozen(config)
    with ExitStack() as stack:
        store, revive = stack.enter_context(open_store(config, settings))
        writer = stack.enter_context(
            _opened(lambda: TableWriter(store, state_dir(config), fresh=fresh, revive=revive), revive)
        )
        start = tuple(writer.news())
        yield SiteStore(tables_for(config, start), config.frozen, start, store, writer, iter(store.next_track_block()))


def _opened(attempt: Callable[[], _T], revive: Callable[[], None] | None) -> _T:
    """What `attempt` gives. The embedded server may be the one of a run that was killed just now: it answers once more,
    then ends. Ours is started in that case, and asked again.
    """
    try:
        return attempt()
    except StoreUnavailable:
        if revive is None:
            raise
        revive()
    return attempt()
