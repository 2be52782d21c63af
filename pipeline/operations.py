"""What lets a `run` be watched from outside: metrics, its place in `identrix status`, events on the site's Stream.

None of it is waited for, and none of it decides anything. Events of a run are sent as they come and kept while Redis is
away, up to `MOST_EVENTS`; a run that is killed may lose those of its last second (`match` loses none).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from pipeline.config import Config
from pipeline.events import events_of
from pipeline.forwarding import Forwarder
from pipeline.members import Beat
from pipeline.metrics import open_metrics
from pipeline.site_run import SiteRun
from pipeline.sources import CameraHealth
from pipeline.worker_facts import camera_facts
from st_model.ledger import StayKey
from st_model.matcher import Outcome
from st_model.sightings import Sighting
from st_model.site_stream import SiteStream
from st_model.store import Store
from st_model.store_errors import StoreError

log = logging.getLogger(__name__)

MOST_EVENTS = 100_000
AREA = "main"


class EventSender:
    """A thread that puts events on the site's Stream; a context manager."""

    def __init__(self, site: str, stream: SiteStream) -> None:
        self._site, self._stream = site, stream
        self._waiting: deque[bytes] = deque(maxlen=MOST_EVENTS)
        self._said: dict[int, Sighting] = {}
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def __enter__(self) -> EventSender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def listened(
        self, heard: Sequence[Sighting], outcome: Outcome, waiting: Sequence[Sighting], open_ids: Mapping[StayKey, int]
    ) -> None:
        """What was heard and decided in one step, what waits after it, and stay -> id of those open before it."""
        self._said |= {id(sighting): sighting for sighting in heard}
        still = {id(sighting) for sighting in waiting}
        decided = [sighting for number, sighting in self._said.items() if number not in still]
        self._said = {number: sighting for number, sighting in self._said.items() if number in still}
        if outcome.decisions or outcome.corrections:
            self._waiting.extend(events_of(self._site, AREA, outcome, decided, open_ids))
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(1.0)
            self._wake.clear()
            stopping = self._stop.is_set()
            with suppress(StoreError):  # the writer of the tables says that Redis is away
                while self._waiting:
                    some = [self._waiting[n] for n in range(min(len(self._waiting), 500))]
                    self._stream.add_events(some)
                    for _ in some:
                        self._waiting.popleft()
            if stopping:
                return


@contextmanager
def open_operations(
    config: Config,
    store: Store,
    site: SiteRun,
    health: Callable[[], Mapping[str, CameraHealth]],
    degraded_s: Callable[[], float],
    live: bool,
) -> Iterator[None]:
    """Watch over a run while the block runs, as far as the configuration asks for it.

    A run over live cameras is always a member of its site. Raises MetricsError, ForwardError.
    """
    with ExitStack() as stack:
        metrics = stack.enter_context(open_metrics(config.metrics))
        site.clock.observe = metrics.stage
        wants_events = config.events.stream or config.events.mqtt is not None
        if not (live or wants_events or config.metrics.port is not None):
            yield
            return
        stream = SiteStream(
            store, AREA, f"run-{socket.gethostname()}-{os.getpid()}", most_decisions=config.streams.most_decisions
        )

        def facts() -> dict[str, Any]:
            state, watching = site.matcher.state, site.watching
            area = {
                "active": True,
                "people": len(state.gallery),
                "open_stays": len(state.stays),
                "waiting": len(state.waiting),
                "late": site.listening.late,
                "table_version": site.matcher.tables.version,
                "alarms": ["->".join(pair) for pair, drift in list(state.drift.items()) if drift.alarmed],
            }
            return {
                "cameras": {name: camera_facts(state) for name, state in list(health().items())},
                "frames": watching.frames,
                "sightings": watching.sightings,
                "degraded_s": degraded_s(),
                "areas": {AREA: area},
            }

        beat = stack.enter_context(Beat(stream, "run", facts))
        sender = stack.enter_context(EventSender(config.site_name, stream)) if wants_events else None
        if config.events.mqtt:
            stack.enter_context(Forwarder(config.events, config.site_name, stream, lambda: True))

        def listened(heard: Sequence[Sighting], outcome: Outcome, open_ids: Mapping[StayKey, int]) -> None:
            metrics.outcome(outcome)
            if sender is not None:
                sender.listened(heard, outcome, site.matcher.state.waiting, open_ids)

        site.on_listen = listened
        site.watching.on_batch = metrics.batch
        metrics.watch(lambda: facts() | {"clock_s": beat.clock_s})
        metrics.ready = True
        try:
            yield
        finally:
            site.on_listen = None
