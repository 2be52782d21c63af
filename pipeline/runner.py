"""The `run` path: sources -> detect -> track -> key crops -> embed -> match -> outputs, all in one process.

Everything that decides is driven by media time, never by the wall clock, so the same files give the same ids and
`replay` of the written sightings gives the same decisions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import sources as reading
from pipeline.config import Camera, Config
from pipeline.engines import Engines, load_engines
from pipeline.freezing import with_freeze
from pipeline.live import LiveCameras
from pipeline.live_run import LiveWatch, Site, live_folder, not_delivering
from pipeline.live_video import LiveVideo
from pipeline.operations import open_operations
from pipeline.outputs import check_writable, remove_run, write_outputs, write_tracks_of
from pipeline.report import write_report
from pipeline.retention import at_start
from pipeline.site_run import SiteRun
from pipeline.site_store import open_site
from pipeline.sources import CameraHealth, CamerasTogether, Source
from pipeline.tables_file import write_tables
from pipeline.timing import StageClock
from pipeline.tracklog import RunJournal, write_json_atomic

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
    degraded_s   seconds without Redis
    """

    folder: Path
    summary: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    degraded: bool = False
    degraded_s: float = 0.0


def run(
    config: Config,
    folder: Path,
    *,
    fresh: bool = False,
    stop: threading.Event | None = None,
    for_s: float | None = None,
    reread: Callable[[], Config | None] = lambda: None,
    on_progress: Progress = lambda stage, done, total: None,
) -> RunResult:
    """Run the whole path over the configured cameras and write the run folder.

    folder  made when it is missing; what an earlier run left in it is replaced
    fresh   start with empty transition tables (global ids go on counting: they are never reused)
    stop    set it (from a signal handler, say) to end the run with complete files: early, if it reads files
    for_s   live cameras: end after so many seconds
    reread  live cameras: the new configuration when somebody asks for it, else None

    Cameras, folder, weights and Redis are looked at first, in this order, and nothing is written before all are well.
    What becomes of a camera is logged as it happens: errors, and warnings for footage that is not as it should be.
    Raises RunError when no camera can be opened, and the rooms' own errors for weights, Redis and the disk.
    """
    config = with_freeze(config)
    cameras, refused = openable(config.cameras)
    sources = [source_of(camera) for camera in cameras]
    check_writable(folder)
    live = all_live(sources)
    if for_s is not None and not live:
        raise RunError("a run over files ends with them; an end by time is for live cameras")
    clock = StageClock()
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    with ExitStack() as stack:
        engines = load_engines(config)
        on_progress("watching", 0, None)
        at_start(config, folder.parent)
        store = stack.enter_context(open_site(config, config.tables, fresh=fresh))
        remove_run(folder)
        journal = stack.enter_context(RunJournal(folder))
        write_tables(folder / "tables_start.json", config.tables, store.start)
        # What a killed run leaves: the settings that `finish` needs.
        write_json_atomic(
            folder / "run.json",
            {**describe(config, engines, {}), "failed_cameras": refused, "interrupted": True},
        )
        site = SiteRun(config, cameras, engines, store, journal, clock)
        seen: dict[str, CameraHealth] = {}
        operations = open_operations(config, store.store, site, lambda: seen, lambda: store.degraded_s, live)
        stack.enter_context(operations)
        stop = stop or threading.Event()
        video: LiveVideo | None = None
        outages: list[tuple[str, float, float]] = []
        if live:
            watch = LiveWatch(config, site, LiveCameras(sources, config.live), source_of, reread)
            health = seen = watch.cameras.health
            tables, settings = store.tables, config.tables
            stack.enter_context(
                live_folder(
                    watch,
                    folder,
                    journal,
                    lambda now, seen: describe(now, engines, seen),
                    lambda path: write_tables(path, settings, tables.items()),
                )
            )
            watch.watch(stop, for_s, lambda seen_s: on_progress("watching", seen_s, None))
            config, interrupted, video = watch.config, False, watch.video
            sources = [source_of(camera) for camera in config.cameras]
            refused, outages = not_delivering(health), watch.outages
        else:
            together = stack.enter_context(reading.read_together(sources))
            seen = together.health
            interrupted = watch_files(site, together, _expected_s(sources), stop, on_progress)
            health = together.health
        site.finish()  # live video, which waits for ids, is finished after it
        version = store.finish()
    processing = {"wall_s": time.perf_counter() - begin_s, "cpu_s": time.process_time() - begin_cpu_s}
    failed = {**refused, **{name: state.error for name, state in health.items() if state.error}}
    frames = max(site.frames, 1)

    starts_s: dict[str, float] = {}

    def summary(outputs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **describe(config, engines, health),
            "table_version": version,
            "counters": {**site.counters(), **outputs, "degraded_s": store.degraded_s},
            "alarms": [asdict(alarm) for alarm in site.alarms],
            "failed_cameras": failed,
            "interrupted": interrupted,
            "outages": outages,
            "ended_at_s": time.time(),  # `retention` counts from here
            "video_start_s": starts_s,
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

    counts = write_tracks_of(config, folder, sources, clock)
    # Pictures and videos may take long: the answer is out before.
    write_json_atomic(folder / "run.json", summary(counts))
    counts |= write_outputs(config, folder, sources, store.tables, clock, on_progress, site.frames, site.now_s)
    starts_s |= counts.pop("video_start_s", {})
    counts |= video.counters() if video else {}
    result = summary(counts)
    write_json_atomic(folder / "run.json", result)
    write_report(folder)
    return RunResult(folder, result, failed, interrupted, store.degraded, store.degraded_s)


def all_live(sources: Sequence[Source]) -> bool:
    """Whether the sources are live cameras. Raises RunError when some are and some are not."""
    live = [source.camera for source in sources if source.live]
    if live and len(live) < len(sources):
        raise RunError(f"live cameras ({', '.join(live)}) and files cannot be read in one run: files have no present")
    return bool(live)


def source_of(camera: Camera) -> Source:
    """The reader's view of a configured camera."""
    return Source(
        camera.name,
        camera.source,
        start_s=camera.start,
        offset_s=camera.offset_s,
        detect_hz=camera.detect_hz,
        stride=camera.stride,
        transport=camera.transport,
        camera_behind=camera.live,
    )


def openable(cameras: Sequence[Camera]) -> tuple[list[Camera], dict[str, str]]:
    """Which cameras can be opened, and why the others cannot. Raises RunError when there is none."""
    good, refused = [], {}
    for camera in cameras:
        try:
            if not source_of(camera).live:  # a live one is tried for as long as it takes
                reading.check(source_of(camera))
            good.append(camera)
        except reading.SourceError as error:
            refused[camera.name] = str(error)
    if not good:
        raise RunError("\n".join(refused.values()))
    for reason in refused.values():
        log.error("%s", reason)
    return good, refused


def _expected_s(sources: Sequence[Source]) -> float | None:
    """How long the longest file is on the site clock, None when a source does not say."""
    starts, ends = [], []
    for source in sources:
        try:
            duration_s = reading.probe(source).duration_s
        except reading.SourceError:
            return None  # the reader will meet it, too, and say so
        if duration_s is None:
            return None
        starts.append(source.start_s + source.offset_s)
        ends.append(starts[-1] + duration_s)
    return max(ends) - min(starts)


def watch_files(
    site: Site,
    together: CamerasTogether,
    expected_s: float | None,
    stop: threading.Event,
    on_progress: Progress,
) -> bool:
    """Feed a run or a worker until its files end; whether it was stopped before.

    expected_s  how long the longest is, None when that is not known
    """
    said: set[str] = set()
    for batch in together:
        if stop.is_set():
            return True
        site.step(batch)
        _say_troubles(together.health, said)
        on_progress("watching", site.watching.media_s, expected_s)
    _say_troubles(together.health, said)
    return False


def _say_troubles(health: Mapping[str, CameraHealth], said: set[str]) -> None:
    """Log every error and warning of a camera once."""
    for state in health.values():
        if state.error and state.error not in said:
            log.error("%s", state.error)
            said.add(state.error)
        if state.warning and state.warning not in said:
            log.warning("%s", state.warning)
            said.add(state.warning)


def describe(config: Config, engines: Engines, health: Mapping[str, CameraHealth]) -> dict[str, Any]:
    """What ran, with what: the beginning of a run.json, without secrets."""
    from importlib.metadata import version

    settings = config.model_dump(mode="json")
    for camera in settings["cameras"]:
        camera["source"] = reading.redact(camera["source"])
    settings["redis"]["url"] = reading.redact(settings["redis"]["url"])
    settings["events"]["mqtt"] = reading.redact(settings["events"]["mqtt"] or "") or None
    return {
        "version": version("identrix"),
        "site": config.site_name,
        "config": settings,
        "device": engines.device,
        "weights": engines.weights,
        "cameras": {name: asdict(state) for name, state in health.items()},
    }
