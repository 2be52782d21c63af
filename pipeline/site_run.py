"""The compute loop of a run: batches of frames in, tracks, sightings and decisions out, each into the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.config import Camera, Config
from pipeline.engines import Engines
from pipeline.site_store import SiteStore
from pipeline.sources import Frame
from pipeline.stays import Stay, StayWatch, sightings
from pipeline.timing import StageClock
from pipeline.tracking import CameraTracker
from pipeline.tracklog import RunJournal
from st_model.ledger import Correction
from st_model.matcher import OnlineMatcher, Outcome
from st_model.sightings import Decision


class SiteRun:
    """The state of one run: a tracker and a stay watch per camera, the matcher, and what was decided so far."""

    def __init__(
        self,
        config: Config,
        cameras: Sequence[Camera],
        engines: Engines,
        store: SiteStore,
        journal: RunJournal,
        clock: StageClock,
    ) -> None:
        self.engines, self.store, self.journal, self.clock = engines, store, journal, clock
        self.trackers = {
            camera.name: CameraTracker(camera.name, config.tracker, store.new_track_id) for camera in cameras
        }
        self.watches = {
            camera.name: StayWatch(camera.name, config.reid.first_after_s, config.reid.max_crops) for camera in cameras
        }
        self.matcher = OnlineMatcher(config.match, store.next_id, store.tables)
        self.decisions: list[Decision] = []
        self.corrections: list[Correction] = []
        self.frames = self.boxes = self.sightings = self.crops = 0
        self.first_s: float | None = None
        self.now_s = float("-inf")

    @property
    def media_s(self) -> float:
        """Seconds of site time seen so far."""
        return 0.0 if self.first_s is None else self.now_s - self.first_s

    def step(self, batch: Sequence[Frame]) -> None:
        """One batch: at most one frame per camera."""
        with self.clock.stage("detect"):
            detections = self.engines.detector(
                [f.camera for f in batch], [f.index for f in batch], [f.image for f in batch]
            )
        self.now_s = max(self.now_s, *(frame.time_s for frame in batch))
        if self.first_s is None:
            self.first_s = self.now_s
        due: list[tuple[Stay, bool]] = []
        for frame, found in zip(batch, detections, strict=True):
            with self.clock.stage("track"):
                tracker = self.trackers[frame.camera]
                tracks = tracker.update(frame.index, frame.time_s, frame.image, found)
                closed = tracker.closed()
            with self.clock.stage("log"):
                self.journal.boxes(
                    frame.camera, frame.index, frame.time_s, tracks.track_ids, tracks.boxes, tracks.scores
                )
            with self.clock.stage("crops"):
                watch = self.watches[frame.camera]
                due += [(stay, False) for stay in watch.observe(frame, tracks)]
                due += [(stay, True) for stay in watch.close(closed)]
            self.frames += 1
            self.boxes += len(tracks.track_ids)
        self._say(due)

    def finish(self) -> None:
        """The sources have ended: every open stay says its last word, every open window is decided."""
        due = [
            (stay, True)
            for name, tracker in self.trackers.items()
            for stay in self.watches[name].close([*tracker.finish(), *tracker.closed()])
        ]
        self._say(due)
        with self.clock.stage("match"):
            self._take(self.matcher.finish())
        self.journal.flush()

    def _say(self, due: Sequence[tuple[Stay, bool]]) -> None:
        said = []
        if due:
            with self.clock.stage("encode"):
                said = sightings(due, self.now_s, self.engines.encoder)
        with self.clock.stage("match"):
            # Windows that ended before this moment are decided before anything said at this moment is heard:
            # `replay`, which only sees the sightings, meets the same order.
            self._take(self.matcher.advance(self.now_s))
            for sighting in said:
                self.journal.sighting(sighting)
                self.matcher.submit(sighting)
        self.sightings += len(said)
        self.crops += sum(sighting.n_crops for sighting in said)

    def _take(self, outcome: Outcome) -> None:
        for decision in outcome.decisions:
            self.journal.decision(decision)
        for correction in outcome.corrections:
            self.journal.correction(correction)
        self.decisions += outcome.decisions
        self.corrections += outcome.corrections
        self.store.learn(outcome.increments)

    def counters(self) -> dict[str, Any]:
        """What was seen and decided, for run.json."""
        kinds = [decision.kind for decision in self.decisions]
        return {
            "camera_frames": self.frames,
            "boxes": self.boxes,
            "sightings": self.sightings,
            "crops": self.crops,
            "decisions": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            "corrections": len(self.corrections),
            "first_global_id": min((decision.global_id for decision in self.decisions), default=None),
        }
