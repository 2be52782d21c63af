"""The active matcher of one area: reads what workers say, decides, and stores each turn in one step.

Nothing here survives in memory only. After any trouble (Redis was away and came back with an older state, another
matcher took over) it is thrown away and loaded again, which is also how a standby takes over and how a restart goes on.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.area_workers import Tally, Worker, all_ended, packed_worker, said_until, worker_from
from pipeline.config import Config
from pipeline.events import events_of
from pipeline.freezing import tables_for
from pipeline.journal import correction_from_json
from pipeline.listening import Listening
from pipeline.messages import Mark, MessageError, WorkerSaid, packed_decision, unpacked_said
from pipeline.neighbours import LAG_S, Neighbours, Word, increments_of, linked, packed_mark
from st_model.counts import Counts, summed
from st_model.counts import increments_of as counts_as_increments
from st_model.drift import Alarm
from st_model.exits import ANEW, CORRECTION, EXIT, KNOWN_AS, LEARNT, Crossings, ExitError, Known, known_from, packed
from st_model.ledger import Correction, StayKey
from st_model.live_state import StateKeeper
from st_model.matcher import OnlineMatcher, Outcome
from st_model.saved_state import StateChange
from st_model.sightings import Sighting
from st_model.site_stream import Entry, SiteStream, Turn
from st_model.transitions import Increment, TransitionTables

log = logging.getLogger(__name__)

_OWN = "site:"
"""Entries of the state that are not the matcher's memory: `site:WORKER` -> number, session, marks, outages."""
_SPARE_IDS = 200
_NEWS_S = 5.0
_TRIES = 5
_DIM_SAID = "other embeddings than its site's"


class MatchingArea:
    """An area as long as this process is active in it.

    config   of the site; its cameras of this area are waited for
    stream   of the area, leased: `fence` is what `lease` gave
    lost     people who turned out to be with another area (`ClaimsLost.lost`): they are forgotten

    A camera or another area that says nothing is waited for `streams.patience_s`; from now if it was never heard.

    Raises a StoreError, SnapshotError.
    """

    def __init__(self, config: Config, stream: SiteStream, fence: int, lost: Mapping[int, int] | None = None) -> None:
        self.config, self.stream, self.fence = config, stream, fence
        self.expected = frozenset(camera.name for camera in config.cameras if camera.area == stream.area)
        self.began_s = time.monotonic()
        self.tally = Tally()
        saved = stream.load()
        self.turn = int(saved.position)
        own = {name[len(_OWN) :]: json.loads(v) for name, v in saved.entries.items() if name.startswith(_OWN)}
        area = own.pop("", {})
        self.workers = {name: worker_from(row, self.began_s) for name, row in own.items()}
        outages = tuple(outage for worker in self.workers.values() for outage in worker.outages)
        patience_s = config.streams.patience_s
        self.neighbours = Neighbours(stream, linked(config, stream.area), area.get("after", {}), patience_s)
        self._known: Counts = {}
        self._version, self._news_s = 0, time.monotonic()
        self.tables = self._load_tables()
        self.keeper = StateKeeper()
        state = None
        memory = {name: v for name, v in saved.entries.items() if not name.startswith((_OWN, KNOWN_AS))}
        if memory:
            state, self.keeper = StateKeeper.load(memory, config.tables, outages)
        self.ids: list[int] = []
        self.highest_id = 0
        self.matcher = OnlineMatcher(config.match, self._next_id, self.tables, outages, state)
        self.listening = Listening(self.matcher, area.get("until_s", -math.inf))
        self.dim: int | None = area.get("dim")
        self.crossings = self._crossings(known_from(saved.entries), lost)
        self._passed_on: list[Correction] = []
        self._mark: Mark | None = None
        self._ended_s = math.inf  # monotonic
        self._area: dict[str, Any] = area
        self._changed: set[str] = set()
        self._forgotten: set[str] = set()
        self._held: dict[str, tuple[str, int, list[Sighting]]] = {}  # entry -> worker, number, sightings
        self._done: list[tuple[str, str, int]] = []  # entry, worker, number: nothing in it waits
        self._heard = False
        self._hear(stream.claim())

    def step(self, most: int = 1000, wait_s: float = 0.2) -> Turn | None:
        """Read what is new and decide what can be decided; what has to be stored now, None when there is nothing."""
        behind_s = self._own_until()[0] - self.neighbours.bound_s()
        held_up = behind_s > 0 or (self._over() and bool(self.neighbours.areas))  # what we wait for is their word
        self._hear(self.stream.read(most, 0.0 if held_up else wait_s))
        self.neighbours.read(wait_s if held_up else 0.0)
        if len(self.ids) < len(self.matcher.state.waiting) + _SPARE_IDS:
            self._reserve_ids(2 * len(self.matcher.state.waiting) + 4 * _SPARE_IDS)
        own_s, state = self._own_until()
        open_ids = {key: stay.global_id for key, stay in self.matcher.state.stays.items()}
        outcome = self._advance(min(own_s, self.neighbours.bound_s()))
        if self.matcher.state.waiting or self.listening.until_s < own_s:
            state = "live"  # others wait for what is said and not decided, too
        # Before the first window: no window ends before the first sighting, so others need not wait for us that far.
        until_s = max(self.listening.until_s, min(own_s, self.matcher.due_s - self.config.match.window_s))
        return self._turn_of(outcome, open_ids, Mark(until_s, state))

    @property
    def holds(self) -> int:
        """Entries that were read and are not stored as decided."""
        return len(self._held) + len(self._done)

    @property
    def over(self) -> bool:
        """Every camera has ended since we are active, everything is decided, and that is stored."""
        return self._heard and bool(self._area.get("ended")) and not self.holds

    def stored(self, turn: Turn, version: int) -> None:
        """The turn is stored."""
        self.turn = turn.number
        if turn.increments:
            self._know(turn.increments)
            self.neighbours.versions.add(version)
            self._explain()

    def news(self) -> None:
        """Add to the tables what others (an import, a `run` on the same site) have counted. Raises a StoreError.

        What linked areas have learnt comes with their exits and counts from a site time on.
        """
        if time.monotonic() - self._news_s < _NEWS_S:
            return
        self._news_s = time.monotonic()
        version = self.stream.store.version()
        self.neighbours.read()
        self._explain()
        if version == self._version:
            return
        fetched = self.stream.store.refresh(self._version)
        changed = self._known.keys() | fetched.counts.keys() if fetched.complete else fetched.counts.keys()
        later = {} if fetched.complete else summed(self.neighbours.learnt_later(fetched.version))
        news = []
        for key in sorted(changed):
            there, known = _less(fetched.counts.get(key, {}), later.get(key, {})), self._known.get(key, {})
            for b in sorted(there.keys() | known.keys()):
                if difference := there.get(b, 0) - known.get(b, 0):
                    news.append(Increment(*key, b, difference))
            self._known[key] = there
        self._version = fetched.version
        if news:
            self.tables.add(news)
        if any(epoch < self.tables.oldest for _, _, epoch in self._known):
            self._known = {key: row for key, row in self._known.items() if key[2] >= self.tables.oldest}

    # ------------------------------------------------------------------------------------------------- hearing

    def _hear(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.tally.entries += 1
            try:
                said = unpacked_said(entry.fields["m"])
            except (MessageError, KeyError) as error:
                self._refuse(entry, "", 0, str(error))
                continue
            if said.encoder != self.config.reid.encoder:
                why = f"encoder {said.encoder!r}, this matcher is set up for {self.config.reid.encoder!r}"
                self._refuse(entry, said.worker, said.number, f"worker {said.worker}: {why}")
                continue
            self._hear_one(entry, said)

    def _hear_one(self, entry: Entry, said: WorkerSaid) -> None:
        self._heard = True
        worker = self.workers.get(said.worker)
        if worker is None or worker.session != said.session:
            self._begin_anew_if_over(said)
            worker = self.workers[said.worker] = Worker(said.session, 0)
        worker.heard_s = time.monotonic()
        if said.number > worker.number:  # what waits is heard again after a restart, older than what is known
            worker.number, worker.marks = said.number, dict(said.marks)
            worker.outages = (*worker.outages, *said.outages)[-1000:]
        for outage in said.outages:
            self.matcher.add_outage(outage)
        self._changed.add(said.worker)
        fitting = []
        for sighting in said.sightings:
            self.dim = self.dim or len(sighting.embedding)
            if len(sighting.embedding) == self.dim:
                fitting.append(sighting)
            else:
                self.tally.refused += 1
                log.error("worker %s: %s; a sighting of %s is left out", said.worker, _DIM_SAID, sighting.camera)
        heard = self.listening.hear(fitting)
        self.tally.sightings += len(heard)
        if heard:
            self._held[entry.id] = (said.worker, said.number, heard)
        else:
            self._done.append((entry.id, said.worker, said.number))

    def _refuse(self, entry: Entry, worker: str, number: int, why: str) -> None:
        self.tally.refused += 1
        log.error("area %s: a message is left out: %s", self.stream.area, why)
        self._done.append((entry.id, worker, number))

    def _begin_anew_if_over(self, said: WorkerSaid) -> None:
        """Every recording had ended, and now another one begins, earlier in time: nobody is remembered."""
        earliest_s = min((mark.until_s for mark in said.marks.values()), default=math.inf)
        if not self._ended() or earliest_s >= self.listening.until_s:
            return
        log.info("area %s: a new recording begins: everybody is forgotten, ids go on", self.stream.area)
        self.matcher = OnlineMatcher(self.config.match, self._next_id, self.tables)
        before_s, self.listening = self.listening.until_s, Listening(self.matcher)
        former, self.crossings = self.crossings, self._crossings({})
        self.crossings.begin_anew(former, before_s)
        self.neighbours.begin_anew()
        self._ended_s = math.inf
        self._forgotten |= self.workers.keys()
        self.workers.clear()
        self.began_s = time.monotonic()

    # ------------------------------------------------------------------------------------------------ deciding

    def _crossings(self, known: Mapping[int, Known], lost: Mapping[int, int] | None = None) -> Crossings:
        return Crossings(
            self.stream.area,
            self.expected,
            self.matcher.state,
            known,
            lost,
            # As long as nothing is known a guest counts like anybody: as if both areas were one. (0.5 and 0.1 were
            # tried where nobody crosses: hand-over F1 .945 and .943 instead of .947, purity lower, too.)
            weight=lambda camera: self.tables.share_into(camera, self.expected, 1.0),
            most=self.config.streams.most_guests,
            horizon_s=self.config.tables.horizon_s,
            passes_on=self.config.streams.neighbours is not None,
        )

    def _advance(self, until_s: float) -> Outcome:
        """Decide every window that is over by then, in between act on what other areas said."""
        if not self.neighbours.areas:
            return self.listening.advance(until_s) if until_s > self.listening.until_s else Outcome()
        out = Outcome()
        while True:
            due_s, word = self.matcher.due_s, self.neighbours.next
            if due_s <= until_s and (word is None or due_s <= word.from_s):
                before = {key: stay.global_id for key, stay in self.matcher.state.stays.items()}
                decided = self.listening.advance(due_s)
                self.crossings.decided(decided.decisions, decided.corrections, before, due_s)
                if decided.increments and not self.config.frozen:
                    learnt = packed(due_s, increments=[list(i) for i in decided.increments])
                    self.crossings.said.items.append((LEARNT, learnt))
                out.decisions.extend(decided.decisions)
                out.corrections.extend(decided.corrections)
                out.increments.extend(decided.increments)
                out.alarms.extend(decided.alarms)
            elif word is not None and self._counts(word, until_s):
                self._act_on(word)
            else:
                break
        if until_s > self.listening.until_s:
            self.listening.advance(until_s)
        return out

    def _counts(self, word: Word, until_s: float) -> bool:
        """Whether a word counts by now. After the end nothing depends on when, but another recording waits for ours."""
        return word.kind != ANEW if self._over() else word.from_s <= until_s

    def _act_on(self, word: Word) -> None:
        try:
            if word.kind == CORRECTION:
                self._passed_on.append(correction_from_json(word.row["correction"]))
            elif word.kind == LEARNT:
                increments = increments_of(word)
                self.tables.add(increments)
                self._know(increments)
            elif word.kind:
                self.crossings.take_in(word.area, word.kind, word.row, self.listening.until_s)
        except (ExitError, KeyError, TypeError, ValueError) as error:
            self.tally.refused += 1
            log.error("area %s: a word of area %s is left out: %s", self.stream.area, word.area, error)
        self.neighbours.acted_on(word)

    def _own_until(self) -> tuple[float, str]:
        """Up to which site time everything has been said here, and whether any camera is live."""
        now_s, patience_s = time.monotonic(), self.config.streams.patience_s
        until_s, live = said_until(
            self.workers.values(), self.expected, now_s=now_s, began_s=self.began_s, patience_s=patience_s
        )
        return (until_s, "live") if live else (until_s + self.config.match.window_s, "resting")

    def _over(self) -> bool:
        """Every camera has ended, and everything they saw is decided."""
        return self._ended() and not self._held and not self.matcher.state.waiting

    def _ended(self) -> bool:
        return all_ended(self.workers.values(), self.expected)

    def _turn_of(self, outcome: Outcome, open_ids: Mapping[StayKey, int], mark: Mark) -> Turn | None:
        waiting = {id(sighting) for sighting in self.matcher.state.waiting}
        decided: list[Sighting] = []
        for entry, (worker, number, sightings) in list(self._held.items()):
            if not any(id(sighting) in waiting for sighting in sightings):
                self._done.append((entry, worker, number))
                del self._held[entry]
                decided += sightings
        over = self._over()
        ended = over and self._others_ended()
        due = self._mark_due(replace(mark, state="ended") if over else mark)
        heard = bool(self.neighbours.areas) and self.neighbours.after != self._area.get("after")
        said = outcome.decisions or outcome.corrections or outcome.alarms
        if not (self._done or said or due or heard or ended != self._area.get("ended", False)):
            return None
        area: dict[str, Any] = {"until_s": self.listening.until_s, "dim": self.dim, "ended": ended}
        if self.neighbours.areas:
            area["after"] = dict(self.neighbours.after)
        own = {name: self.workers[name] for name in self._changed if name in self.workers}
        changed = {f"{_OWN}{name}": packed_worker(worker) for name, worker in own.items()}
        kept = {key: value for key, value in area.items() if value not in (None, -math.inf)}
        changed[_OWN] = json.dumps(kept).encode()
        memory = self.keeper.change(self.matcher.state, "turn")
        told, exits, gone = self.crossings.take_said()
        removed = (*memory.removed, *gone, *(f"{_OWN}{name}" for name in self._forgotten - self.workers.keys()))
        turn = Turn(
            self.turn + 1,
            StateChange("turn", {**memory.changed, **exits, **changed}, removed),
            [entry for entry, _, _ in self._done],
            [*map(packed_decision, outcome.decisions), *map(packed_decision, [*outcome.corrections, *self._passed_on])],
            events_of(self.config.site_name, self.stream.area, outcome, decided, open_ids),
            self._progress() | {"ended": int(ended)},
            [] if self.config.frozen else outcome.increments,
            told,
            b"" if due is None else packed_mark(due),
        )
        self._area, self._mark = area, due or self._mark
        self._done, self._changed, self._forgotten, self._passed_on = [], set(), set(), []
        self.tally.outcomes.append(outcome)
        self.tally.exits += sum(kind == EXIT for kind, _ in told.items)
        self.tally.claims += len(told.claims)
        return turn

    def _mark_due(self, mark: Mark) -> Mark | None:
        """What other areas must know of how far we are; not every step is worth a turn."""
        if not self.neighbours.areas or not math.isfinite(mark.until_s) or mark == self._mark:
            return None
        if self._mark is None or self._mark.state != mark.state or self._done:
            return mark
        return mark if abs(mark.until_s - self._mark.until_s) >= LAG_S / 2 else None

    def _others_ended(self) -> bool:
        """Whether nothing is to come from other areas, such as a merge that our workers must hear of.

        At the most `patience_s` are waited for it: cameras of another area may have no end.
        """
        now_s = time.monotonic()
        self._ended_s = min(self._ended_s, now_s)
        waited = now_s - self._ended_s >= self.config.streams.patience_s
        return waited or bool(self._area.get("ended")) or self.neighbours.ended()

    def _progress(self) -> dict[str, int]:
        """Worker -> its last message before the first that waits."""
        first: dict[str, int] = {}
        for worker, number, _ in self._held.values():
            first[worker] = min(number, first.get(worker, number))
        names = {worker for _, worker, _ in self._done if worker in self.workers}
        return {f"worker:{name}": first[name] - 1 if name in first else self.workers[name].number for name in names}

    # -------------------------------------------------------------------------------------------- ids and tables

    def _next_id(self) -> int:
        return self.ids.pop()

    def _reserve_ids(self, n: int) -> None:
        first = self.stream.store.next_id(n, above=self.highest_id)
        self.highest_id = first + n - 1
        self.ids = [*range(self.highest_id, first - 1, -1), *self.ids]

    def _load_tables(self) -> TransitionTables:
        """What is counted, less what other areas have learnt that does not count yet."""
        for _ in range(_TRIES):
            fetched = self.stream.store.refresh(0)
            self.neighbours.read()
            if not self.neighbours.areas or self.stream.store.version() == fetched.version:
                break  # otherwise counts may hold more than the version says, for as long as nobody teaches
        later = summed(self.neighbours.learnt_later(fetched.version))
        self._known = {key: _less(row, later.get(key, {})) for key, row in fetched.counts.items()}
        self._version = fetched.version
        return tables_for(self.config, counts_as_increments(self._known))

    def _explain(self) -> None:
        """The tables' version up to which everything has come: our own, and what areas said."""
        versions = self.neighbours.versions
        while self._version + 1 in versions:
            self._version += 1
        versions.difference_update([version for version in versions if version <= self._version])

    def _know(self, increments: Sequence[Increment]) -> None:
        for key, row in summed(increments).items():
            known = self._known.setdefault(key, {})
            for b, n in row.items():
                known[b] = known.get(b, 0) + n

    # ------------------------------------------------------------------------------------------------- looking

    def alarms(self) -> list[Alarm]:
        """Pairs of cameras whose transitions changed, as things stand."""
        drift = self.matcher.state.drift
        return [Alarm(pair, self.listening.until_s, True) for pair, d in sorted(drift.items()) if d.alarmed]

    def facts(self) -> dict[str, Any]:
        """How matching does, for members and metrics."""
        state = self.matcher.state
        return {
            "until_s": self.listening.until_s if math.isfinite(self.listening.until_s) else None,
            "turn": self.turn,
            "people": len(state.gallery),
            "guests": len(state.gallery.guests),
            "open_stays": len(state.stays),
            "waiting": len(state.waiting),
            "late": self.listening.late,
            "table_version": self._version,
            "alarms": ["->".join(alarm.pair) for alarm in self.alarms()],
        }


def _less(row: Mapping[int, int], later: Mapping[int, int]) -> dict[int, int]:
    """Bin -> count, without what comes later."""
    left = {b: row.get(b, 0) - later.get(b, 0) for b in row.keys() | later.keys()}
    return {b: n for b, n in left.items() if n}
