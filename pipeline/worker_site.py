"""A worker at work: what it watches with, what it speaks through, and what it must remember.

The worker's counterpart of `pipeline/site_run.py`: what is seen goes to the speakers of its areas instead of a matcher.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Camera, Config
from pipeline.engines import Engines
from pipeline.live_ids import LiveIds
from pipeline.messages import Mark
from pipeline.session import Session, note_open
from pipeline.sources import CameraHealth, Frame
from pipeline.speaking import Speaker
from pipeline.timing import StageClock
from pipeline.tracklog import RunJournal
from pipeline.watching import Said, Watching
from pipeline.worker_facts import camera_facts
from st_model.ledger import StayKey
from st_model.sightings import Sighting
from st_model.teaching import Outage

_KEEP_EVERY_S = 5.0


class WorkerSite:
    """The state of a worker. `serve` its areas before the first step.

    cameras  of the configuration; only the `watched` ones can be opened
    live     they have no end
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        watched: Sequence[Camera],
        engines: Engines,
        session: Session,
        journal: RunJournal,
        clock: StageClock,
        *,
        live: bool,
    ) -> None:
        self.folder, self.session, self.journal, self.live = folder, session, journal, live
        self.cameras = {camera.name: camera for camera in config.cameras}
        self.speakers: dict[str, Speaker] = {}
        self.ids = LiveIds()
        self.health: Mapping[str, CameraHealth] = {}
        self.number = session.first_number
        self.until_s = -math.inf
        self._track_ids = session.track_ids()
        self._open: dict[StayKey, Sighting] = {}
        self._outages: list[Outage] = []
        self._kept_s = -math.inf
        self.watching = Watching(config, watched, engines, self.new_track_id, journal, clock)

    def serve(self, area: str, speaker: Speaker) -> None:
        """Speak to one more area from now on."""
        self.speakers = {**self.speakers, area: speaker}
        self.number = max(self.number, speaker.outbox.last if self.live else 0)

    def new_track_id(self) -> int:
        """A track id that nobody else has, and no other life of this worker."""
        track_id = next(self._track_ids)
        if self.live and not self.session.of_this_life(track_id):
            self._remember(life=self.session.life + 1)
        return track_id

    # ---------------------------------------------------------------------------------------------------- watching

    def step(self, batch: Sequence[Frame]) -> None:
        """One batch: at most one frame per camera."""
        self.say(self.watching.step(batch))

    def quiet(self, until_s: float) -> None:
        """No frame came, and none earlier than `until_s` will."""
        self.say(self.watching.quiet(until_s))

    def watch(self, camera: Camera) -> None:
        """Watch one more camera from now on; its area is served. Raises OutputError."""
        self.watching.watch(camera)
        self.cameras = {**self.cameras, camera.name: camera}
        self._remember(areas={**self.session.areas, camera.name: camera.area})

    def leave(self, camera: str) -> None:
        """Watch a camera no more: nobody waits for it any longer."""
        self.say(self.watching.leave(camera), at_once=True, leaving=camera)
        self.cameras = {name: c for name, c in self.cameras.items() if name != camera}

    def add_outage(self, outage: Outage) -> None:
        """A camera was not watching; said with the next step. One that goes on has no place in a message yet."""
        if math.isfinite(outage[2]):
            self._outages.append(outage)

    def finish(self, state: str) -> None:
        """The sources have ended, or we have been stopped: every open stay says its last word."""
        self.say(self.watching.finish(), state, at_once=True)
        self.journal.flush()

    def close_open(self, stays: Sequence[Sighting], lost_s: float) -> None:
        """Say the last word of stays that a former life was watching: they cannot be followed any more."""
        for sighting in stays:
            closing = replace(sighting, closed=True, emitted_s=sighting.last_s + lost_s)
            self.journal.sighting(closing)
            self.say(Said([closing], closing.emitted_s), at_once=True)

    def say(self, said: Said, state: str = "live", *, at_once: bool = False, leaving: str = "") -> None:
        """One step, to every area that is served; a camera that is `leaving` rests from then on."""
        if self.live:
            if said.sightings:
                self.journal.flush()  # what the site knows of us, we must know after a kill
            for sighting in said.sightings:
                self._open[sighting.key] = sighting
                if sighting.closed:
                    del self._open[sighting.key]
        self.number += 1
        latest_s = max((s.emitted_s for s in said.sightings), default=self.until_s)
        self.until_s = latest_s if math.isinf(said.until_s) else max(self.until_s, said.until_s)
        outages, self._outages = self._outages, []
        areas = self.session.areas
        for area, speaker in self.speakers.items():
            marks = {
                name: Mark(self.until_s, "ended" if self._failed(name) else state)
                for name, camera in self.cameras.items()
                if camera.area == area
            }
            if leaving in marks:
                marks[leaving] = Mark(max(self.until_s, latest_s), "resting")
            mine = [s for s in said.sightings if areas[s.camera] == area]
            lost = [o for o in outages if areas[o[0]] == area]
            if marks or mine or lost:
                speaker.say(self.number, marks, mine, outages=lost, at_once=at_once)

    def _failed(self, camera: str) -> bool:
        return not self.live and (camera not in self.health or self.health[camera].error is not None)

    # ------------------------------------------------------------------------------------------------- remembering

    def keep(self, *, now: bool = False) -> None:
        """Keep, now and then, how far decisions have been read; only live workers go on from there."""
        if not self.live or (not now and time.monotonic() - self._kept_s < _KEEP_EVERY_S):
            return
        self._kept_s = time.monotonic()
        after = {area: speaker.after for area, speaker in self.speakers.items()}
        self.journal.flush()
        self._remember(after={**self.session.after, **after})

    @contextmanager
    def cutting(self) -> Iterator[None]:
        """While the journal is moved away: what a next life must know of it is kept beside it."""
        with ExitStack() as stack:
            for speaker in self.speakers.values():
                stack.enter_context(speaker.silent())
            note_open(self.folder, self._open.values())
            self.keep(now=True)
            yield

    def _remember(self, **changes: Any) -> None:
        self.session = replace(self.session, **changes)
        self.session.write(self.folder)

    # ----------------------------------------------------------------------------------------------------- looking

    def settled(self) -> tuple[bool, bool]:
        """Whether all that was said is decided, and whether all areas have ended. A StoreError when Redis is away."""
        found = [speaker.settled() for speaker in self.speakers.values()]
        return all(done for done, _ in found), all(ended for _, ended in found)

    def settled_s(self) -> float:
        """What was said until then (monotonic seconds) is decided and read back, as far as is known; asks nobody."""
        return min(speaker.settled_s for speaker in self.speakers.values())

    def counters(self) -> dict[str, Any]:
        """What was seen and what came back, for run.json."""
        counts = sum((speaker.counts for speaker in self.speakers.values()), start=Counter())
        corrections = counts.pop("merge", 0) + counts.pop("split", 0)
        return {
            **self.watching.counters(),
            "decisions": dict(sorted(counts.items())),
            "corrections": corrections,
            "decisions_missed": any(speaker.missed for speaker in self.speakers.values()),
            "degraded_s": self.degraded_s,
        }

    @property
    def degraded_s(self) -> float:
        """Seconds without Redis since the start."""
        return max(speaker.degraded_s for speaker in self.speakers.values())

    def facts(self) -> dict[str, Any]:
        """What a worker says of itself to the site."""
        speakers = self.speakers
        return {
            "cameras": {name: camera_facts(self.health.get(name)) for name in self.cameras},
            "frames": self.watching.frames,
            "sightings": self.watching.sightings,
            "until_s": self.until_s if math.isfinite(self.until_s) else None,
            "waiting": sum(speaker.outbox.waiting for speaker in speakers.values()),
            "full": any(speaker.full for speaker in speakers.values()),
            "degraded_s": self.degraded_s,
            "read": {area: speaker.after.number for area, speaker in speakers.items()},
        }
