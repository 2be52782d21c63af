"""The `run` path: sources -> detect -> track -> key crops -> embed -> match -> outputs, all in one process.

Everything that decides is driven by media time, never by the wall clock, so the same files give the same ids and
`replay` of the written sightings gives the same decisions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import sources as reading
from pipeline.config import Camera, Config
from pipeline.engines import Engines, load_engines
from pipeline.outputs import write_outputs
from pipeline.site_store import SiteStore, open_site
from pipeline.sources import CameraHealth, CamerasTogether, Frame, Source
from pipeline.stays import Stay, StayWatch, sightings
from pipeline.tables_file import write_tables
from pipeline.timing import StageClock
from pipeline.tracking import CameraTracker
from pipeline.tracklog import RunJournal, write_json_atomic
from st_model.ledger import Correction
from st_model.matcher import OnlineMatcher, Outcome
from st_model.sightings import Decision

log = logging.getLogger(__name__)

Progress = Callable[[str, float, float | None], None]
"""Called with (stage, done, total or None); `done` and `total` are seconds of media or counts."""


class RunError(ValueError):
    """The run cannot start; the message says why, one line per problem."""


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    failed       cameras that ended in error, with the reason
    interrupted  the run was stopped before its sources ended
    degraded     Redis was away at the end: the counts are journaled and merge at the next start
    """

    folder: Path
    summary: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    degraded: bool = False


def run(
    config: Config,
    folder: Path,
    *,
    fresh: bool = False,
    stop: threading.Event | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> RunResult:
    """Run the whole path over the configured cameras and write the run folder.

    fresh  start with empty transition tables (global ids go on counting: they are never reused)
    stop   set it (from a signal handler, say) to end the run early with complete files

    Raises RunError when no camera can be opened, and the rooms' own errors for weights, Redis and the disk.
    """
    cameras, refused = _openable(config.cameras)
    clock = StageClock()
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    with ExitStack() as stack:
        engines = load_engines(config)
        on_progress("watching", 0, None)
        journal = stack.enter_context(RunJournal(folder))
        store = stack.enter_context(open_site(config, config.tables, fresh=fresh))
        write_tables(folder / "tables_start.json", config.tables, store.start)
        site = _Site(config, cameras, engines, store, journal, clock)
        together = stack.enter_context(reading.read_together([source_of(camera) for camera in cameras]))
        interrupted = _loop(site, together, stop or threading.Event(), on_progress)
        site.finish()
        health = together.health
        version = store.finish()
    processing = {"wall_s": time.perf_counter() - begin_s, "cpu_s": time.process_time() - begin_cpu_s}
    failed = {**refused, **{name: state.error for name, state in health.items() if state.error}}
    outputs = write_outputs(
        config,
        folder,
        [source_of(camera) for camera in cameras],
        site.decisions,
        site.corrections,
        store.tables,
        clock,
        on_progress,
        site.frames,
    )
    frames = max(site.frames, 1)
    summary = {
        **_describe(config, engines, health),
        "table_version": version,
        "counters": {**site.counters(), **outputs, "degraded_s": store.degraded_s},
        "failed_cameras": failed,
        "interrupted": interrupted,
        "speed": {
            "camera_frames": site.frames,
            "processing_wall_s": processing["wall_s"],
            "processing_cpu_s": processing["cpu_s"],
            "total_wall_s": time.perf_counter() - begin_s,
            "total_cpu_s": time.process_time() - begin_cpu_s,
            "cpu_ms_per_camera_frame": 1000 * (time.process_time() - begin_cpu_s) / frames,
            "wall_ms_per_camera_frame": clock.milliseconds_per(frames),
        },
    }
    write_json_atomic(folder / "run.json", summary)
    return RunResult(folder, summary, failed, interrupted, store.degraded)


def source_of(camera: Camera) -> Source:
    """The reader's view of a configured camera."""
    return Source(
        camera.name,
        camera.source,
        start_s=camera.start,
        offset_s=camera.offset_s,
        detect_hz=camera.detect_hz,
        stride=camera.stride,
    )


def _openable(cameras: Sequence[Camera]) -> tuple[list[Camera], dict[str, str]]:
    """Which cameras can be opened, and why the others cannot. One bad camera does not stop the rest; none is an error."""
    good, refused = [], {}
    for camera in cameras:
        try:
            reading.check(source_of(camera))
            good.append(camera)
        except reading.SourceError as error:
            refused[camera.name] = str(error)
            log.error("%s", error)
    if not good:
        raise RunError("\n".join(refused.values()))
    return good, refused


def _loop(site: _Site, together: CamerasTogether, stop: threading.Event, on_progress: Progress) -> bool:
    total_s = site.expected_s()
    for batch in together:
        site.step(batch)
        on_progress("watching", site.media_s, total_s)
        if stop.is_set():
            return True
    return False


class _Site:
    """The state of one run: a tracker and a stay watch per camera, the matcher, and what was decided so far."""

    def __init__(
        self,
        config: Config,
        cameras: Sequence[Camera],
        engines: Engines,
        store: SiteStore,
        journal: RunJournal,
        clock: StageClock,
    ):
        self.config, self.cameras, self.engines, self.store, self.journal, self.clock = (
            config,
            cameras,
            engines,
            store,
            journal,
            clock,
        )
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
        return 0.0 if self.first_s is None else self.now_s - self.first_s

    def expected_s(self) -> float | None:
        """How long the longest file is on the site clock, None when a source is live."""
        ends, starts = [], []
        for camera in self.cameras:
            duration_s = reading.probe(source_of(camera)).duration_s
            if duration_s is None:
                return None
            starts.append(camera.start + camera.offset_s)
            ends.append(starts[-1] + duration_s)
        return max(ends) - min(starts)

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


def _describe(config: Config, engines: Engines, health: dict[str, CameraHealth]) -> dict[str, Any]:
    from importlib.metadata import version

    settings = config.model_dump(mode="json")
    for camera in settings["cameras"]:
        camera["source"] = reading.redact(camera["source"])
    settings["redis"]["url"] = reading.redact(settings["redis"]["url"])
    return {
        "version": version("identrix"),
        "site": config.site_name,
        "config": settings,
        "device": engines.device,
        "weights": engines.weights,
        "cameras": {name: asdict(state) for name, state in health.items()},
    }
