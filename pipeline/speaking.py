"""A worker's voice: what it says goes to its outbox on disk first, and from there to the site's Stream.

The compute loop never waits for Redis. While Redis is away, or its Stream is full because nobody decides, messages
gather on disk; when it is back they follow in order, none twice. Decisions come back the same way, into the journal.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.messages import Mark, MessageError, WorkerSaid, packed_said, unpacked_decision
from pipeline.outbox import Outbox
from pipeline.tracklog import RunJournal
from st_model.ledger import Correction
from st_model.sightings import Decision, Sighting
from st_model.site_stream import Entry, SiteStream
from st_model.store_errors import StoreError, StoreUnavailable

log = logging.getLogger(__name__)

_MOST = 256  # messages in one call
_SILENT_S = 0.25  # how far cameras have come is said at least so often
_ALARM_MB = 256.0
_BACKOFF_S = (0.05, 2.0)
_POLL_S = 0.5
_ASK_S = 2.0


@dataclass(frozen=True)
class Position:
    """How far an area's decisions have been read: the id of the last entry, and its number (0: not known)."""

    entry: str = "0"
    number: int = 0


class Speaker:
    """One worker's side of one area; a context manager with a thread that sends and one that reads decisions.

    stream      of the area; `stream.who` names the worker
    session     of the worker
    mine        whether a decision is about a stay of this worker
    after       how far decisions have been read
    known       decisions that are in the journal already
    revive      called when Redis is away, before the next attempt
    on_error    called for every failed attempt, for the metrics
    on_decided  told every decision of its own and every correction that comes back, in order, in a thread
    """

    def __init__(
        self,
        stream: SiteStream,
        session: str,
        encoder: str,
        mine: Callable[[Decision], bool],
        outbox: Path,
        journal: RunJournal,
        *,
        after: Position,
        known: Collection[tuple[str, bytes]] = (),
        revive: Callable[[], None] | None = None,
        on_error: Callable[[], None] = lambda: None,
        on_decided: Callable[[Decision | Correction], None] = lambda said: None,
    ) -> None:
        self.stream, self.session, self.encoder, self._mine = stream, session, encoder, mine
        self._journal, self._revive, self._on_error, self._on_decided = journal, revive, on_error, on_decided
        self.outbox = Outbox(outbox)
        taken = stream.publish(session, [])  # what Redis has taken of this session
        self.outbox.skip_to(taken.last)
        self.outbox.taken(taken.last)
        self.resumed_at = self.outbox.last
        """Messages up to this number were said by a former life of this worker."""
        self.after = after
        self._known = frozenset(known)
        self.counts: Counter[str] = Counter()
        """How many decisions of each kind, and corrections, came back."""
        self.full = False
        self.missed = False
        """Decisions were trimmed before this worker had read them."""
        self.settled_s = -math.inf
        """What was said until then (monotonic seconds) is decided, and the decisions have been read."""
        self._asked: tuple[float, int] | None = None
        self._asked_s = -math.inf
        self.away_since_s: float | None = None
        self._away_s = 0.0
        self._alarmed = False
        self._said_s = 0.0
        self._marks: Mapping[str, Mark] = {}
        self._wake, self._stop = threading.Event(), threading.Event()
        self._lock, self._reading, self._noting = threading.Lock(), threading.Lock(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"{work.__name__} {stream.area}", daemon=True)
            for work in (self._send, self._read)
        ]

    def __enter__(self) -> Speaker:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        self.outbox.close()

    @property
    def degraded_s(self) -> float:
        """Seconds without Redis since the start."""
        since_s = self.away_since_s
        return self._away_s + (0.0 if since_s is None else time.monotonic() - since_s)

    def say(
        self,
        number: int,
        marks: Mapping[str, Mark],
        sightings: Sequence[Sighting],
        *,
        outages: Sequence[tuple[str, float, float]] = (),
        at_once: bool = False,
    ) -> None:
        """Say one step: it is on disk when this returns. A step without sightings is said now and then.

        One that a former life of this worker has said already is not said again. Raises OutputError.
        """
        if number <= self.outbox.last:
            return
        now_s = time.monotonic()
        changed = {camera: mark.state for camera, mark in marks.items()} != {c: m.state for c, m in self._marks.items()}
        if not (sightings or outages or at_once or changed) and now_s - self._said_s < _SILENT_S:
            return
        self._said_s, self._marks = now_s, dict(marks)
        said = WorkerSaid(self.stream.who, self.session, number, self.encoder, marks, tuple(sightings), tuple(outages))
        with self._lock:
            self.outbox.append(number, packed_said(said))
        if self.outbox.waiting_bytes > _ALARM_MB * 2**20 and not self._alarmed:
            self._alarmed = True
            log.error(
                "area %s: more than %.0f MB wait to be sent: %s",
                self.stream.area,
                _ALARM_MB,
                "nobody decides (is a matcher running?)" if self.full else "Redis is away",
            )
        self._wake.set()

    @property
    def _name(self) -> str:
        return f"worker:{self.stream.who}"

    def drained(self) -> bool:
        """Whether Redis has taken everything that was said."""
        return self.outbox.waiting == 0

    def settled(self) -> tuple[bool, bool]:
        """Whether everything this worker said has been decided, and whether every camera of the area has ended.

        Raises a StoreError while Redis is away.
        """
        decided = self.stream.decided()
        return decided.get(self._name, 0) >= self.outbox.last, bool(decided.get("ended"))

    def catch_up(self) -> None:
        """Read decisions up to the newest. Raises a StoreError."""
        while self._take_decisions(0.0):
            pass

    @contextmanager
    def silent(self) -> Iterator[None]:
        """While the block runs nothing that comes back is written down, and `after` stays."""
        with self._noting:
            yield

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run `work` again and again; while Redis is away wait a little, and longer each time."""
        pause_s = _BACKOFF_S[0]
        while not self._stop.is_set():
            try:
                work()
                pause_s = _BACKOFF_S[0]
                if self.away_since_s is not None and work == self._send:
                    self._away_s += time.monotonic() - self.away_since_s
                    self.away_since_s = None
                    log.warning("area %s: Redis is back", self.stream.area)
            except StoreError as error:
                self._on_error()
                if self.away_since_s is None:
                    self.away_since_s = time.monotonic()
                    log.warning("area %s: %s; what is said meanwhile is kept on disk", self.stream.area, error)
                if self._revive is not None and isinstance(error, StoreUnavailable):
                    with suppress(StoreError, OSError):
                        self._revive()
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _BACKOFF_S[1])

    def _send(self) -> None:
        self._wake.wait(_POLL_S)
        self._wake.clear()
        despite_gap = False
        while True:
            with self._lock:
                messages = self.outbox.unsent(_MOST)
            done = self.stream.publish(self.session, messages, despite_gap=despite_gap)
            with self._lock:
                self.outbox.taken(done.last)
                despite_gap = done.state == "GAP" and not self.outbox.knows(done.last)
            self.full = done.state == "FULL"
            if despite_gap:
                log.error("area %s: Redis has lost messages that this worker no longer has", self.stream.area)
            if self.full:
                self._stop.wait(0.1)
            if self._stop.is_set() or not self.outbox.waiting:
                return

    def _read(self) -> None:
        if time.monotonic() - self._asked_s >= _ASK_S:
            self._asked_s = time.monotonic()
            self._ask()
        self._take_decisions(_POLL_S)

    def _ask(self) -> None:
        """Look how far this worker has been decided."""
        self._asked = self._asked or (time.monotonic(), self.outbox.last)
        if self.stream.decided().get(self._name, 0) >= self._asked[1]:
            self.catch_up()
            self.settled_s, self._asked = self._asked[0], None
            self._known = frozenset()  # whatever a former life had read lies behind

    def _take_decisions(self, wait_s: float) -> bool:
        with self._reading:
            return self._take_some(wait_s)

    def _take_some(self, wait_s: float) -> bool:
        entries = self.stream.decisions(self.after.entry, wait_s=wait_s)
        with self._noting:
            self._note(entries)
        return bool(entries)

    def _note(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            number = int(entry.fields["n"])
            if self.after.number and number != self.after.number + 1:
                self.missed = True
                log.error(
                    "area %s: %d decisions were trimmed before this worker had read them: ids in its files may be old",
                    self.stream.area,
                    number - self.after.number - 1,
                )
            self.after = Position(entry.id, number)
            kind, content = entry.fields["k"].decode(), entry.fields["m"]
            if (kind, content) in self._known:
                continue
            try:
                said = unpacked_decision(kind, content)
            except MessageError as error:
                log.error("area %s: %s", self.stream.area, error)
                continue
            if isinstance(said, Correction):
                self._journal.correction(said)
            elif self._mine(said):
                self._journal.decision(said)
            else:
                continue
            self.counts[said.kind] += 1
            self._on_decided(said)
