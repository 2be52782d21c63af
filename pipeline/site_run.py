"""The compute loop of a run: watching and listening in one process, everything into the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.config import Camera, Config
from pipeline.engines import Engines
from pipeline.listening import Listening
from pipeline.live_ids import LiveIds
from pipeline.site_store import SiteStore
from pipeline.sources import Frame
from pipeline.timing import StageClock
from pipeline.tracklog import RunJournal
from pipeline.watching import Said, Watching
from st_model.drift import Alarm
from st_model.ledger import StayKey
from st_model.matcher import OnlineMatcher, Outcome
from st_model.sightings import Sighting
from st_model.teaching import Outage

MOST_ALARMS = 1000
"""Kept for run.json; all of them are in the log of events."""


class SiteRun:
    """The state of one run: what watches, what listens, and counts of what was decided so far.

    What was decided is in the journal, not here: a run over live cameras has no end.
    """

    def __init__(
        self,
        config: Config,
        cameras: Sequence[Camera],
        engines: Engines,
        store: SiteStore,
        journal: RunJournal,
        clock: StageClock,
    ) -> None:
        self.store, self.journal, self.clock = store, journal, clock
        self.watching = Watching(config, cameras, engines, store.new_track_id, journal, clock)
        self.matcher = OnlineMatcher(config.match, store.next_id, store.tables)
        self.listening = Listening(self.matcher)
        self.on_listen: Callable[[list[Sighting], Outcome, dict[StayKey, int]], None] | None = None
        """Told what was heard and decided in each step, and the ids of the stays that were open before it."""
        self._kinds: Counter[str] = Counter()
        self._corrected = 0
        self.first_global_id: int | None = None
        self.alarms: list[Alarm] = []
        self.ids = LiveIds()

    @property
    def frames(self) -> int:
        """Frames looked at."""
        return self.watching.frames

    @property
    def now_s(self) -> float:
        """Site time of the latest frame."""
        return self.watching.now_s

    def step(self, batch: Sequence[Frame]) -> None:
        """One batch: at most one frame per camera."""
        self._listen(self.watching.step(batch))

    def quiet(self, until_s: float) -> None:
        """No frame came, and none earlier than `until_s` will."""
        self._listen(self.watching.quiet(until_s))

    def watch(self, camera: Camera) -> None:
        """Watch one more camera from now on."""
        self.watching.watch(camera)

    def leave(self, camera: str) -> None:
        """Watch a camera no more."""
        self._listen(self.watching.leave(camera))

    def add_outage(self, outage: Outage) -> None:
        """A camera was not watching from .. to; infinity while that lasts."""
        self.matcher.add_outage(outage)

    def finish(self) -> None:
        """The sources have ended: every open stay says its last word, every open window is decided."""
        self._listen(self.watching.finish())
        self.journal.flush()

    def _listen(self, said: Said) -> None:
        with self.clock.stage("match"):
            open_ids = {} if self.on_listen is None else {k: s.global_id for k, s in self.matcher.state.stays.items()}
            heard = self.listening.hear(said.sightings)
            outcome = self.listening.advance(said.until_s)
            self._take(outcome)
        if self.on_listen is not None:
            self.on_listen(heard, outcome, open_ids)

    def _take(self, outcome: Outcome) -> None:
        for decision in outcome.decisions:
            self.journal.decision(decision)
        for correction in outcome.corrections:
            self.journal.correction(correction)
        self.ids.take(outcome.decisions, outcome.corrections)
        self._kinds.update(decision.kind for decision in outcome.decisions)
        self._corrected += len(outcome.corrections)
        ids = [decision.global_id for decision in outcome.decisions]
        self.first_global_id = min(ids if self.first_global_id is None else [*ids, self.first_global_id], default=None)
        self.alarms += outcome.alarms
        del self.alarms[:-MOST_ALARMS]
        self.store.learn(outcome.increments)

    def counters(self) -> dict[str, Any]:
        """What was seen and decided, for run.json."""
        return {
            **self.watching.counters(),
            "decisions": dict(sorted(self._kinds.items())),
            "corrections": self._corrected,
            "first_global_id": self.first_global_id,
        }
