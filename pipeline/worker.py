"""The `worker` role: watches some cameras of a site, says what it sees to the site's matcher, reads back who it was.

The same watching as in `run`; instead of a matcher there is a Stream. A worker that is killed and started again on the
same folder says nothing twice: over files it watches them again from the start and keeps silent until it comes to what
it has not said yet; over live cameras it says the last word of the stays it can no longer follow, and goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import sources as reading
from pipeline.config import Camera, Config, ConfigError
from pipeline.engines import load_engines
from pipeline.latest_tables import LatestTables
from pipeline.live import LiveCameras
from pipeline.live_run import LiveWatch, live_folder, not_delivering
from pipeline.members import Beat, clock_offset_s
from pipeline.messages import packed_decision
from pipeline.metrics import open_metrics
from pipeline.outputs import SPOKEN, check_writable, write_outputs, write_tracks_of
from pipeline.report import write_report
from pipeline.retention import at_start
from pipeline.runner import Progress, RunError, RunResult, all_live, describe, openable, source_of, watch_files
from pipeline.session import TRACKS, Session, left_open, new_session, read_session, watched_again
from pipeline.site_store import open_store
from pipeline.sources import CameraHealth, Source
from pipeline.speaking import Position, Speaker
from pipeline.timing import StageClock
from pipeline.tracklog import RunJournal, read_corrections, read_decisions, write_json_atomic
from pipeline.worker_site import WorkerSite
from st_model.counts import increments_of
from st_model.site_stream import SiteStream
from st_model.store import Store
from st_model.store_errors import StoreError
from st_model.transitions import TransitionTables

log = logging.getLogger(__name__)

_MANY = 10_000  # decisions that may come back between two times at which a session is kept


def work(
    config: Config,
    folder: Path,
    name: str,
    cameras: Sequence[str] = (),
    *,
    stop: threading.Event | None = None,
    for_s: float | None = None,
    reread: Callable[[], Config | None] = lambda: None,
    on_progress: Progress = lambda stage, done, total: None,
) -> RunResult:
    """Watch the named cameras (none named: all) and write their part of the site's files into `folder`.

    name    of this worker, unique in the site
    stop    set it to end early with complete files
    for_s   live cameras: end after so many seconds
    reread  live cameras: the site's new configuration when somebody asks for it, else None

    `degraded` in the result: what was seen is not all decided; the folder is kept unfinished, and the same worker
    started again on it goes on. Raises RunError, and the rooms' own errors for weights, Redis and the disk.
    """
    stop = stop or threading.Event()
    config = of_worker(config, cameras)
    check_writable(folder)
    watched, refused = openable(config.cameras)
    live = all_live([source_of(camera) for camera in watched])
    if for_s is not None and not live:
        raise RunError("a worker over files ends with them; an end by time is for live cameras")
    clock = StageClock()
    begin_s = time.perf_counter()
    with ExitStack() as stack:
        metrics = stack.enter_context(open_metrics(config.metrics))
        clock.observe = metrics.stage
        engines = load_engines(config)
        on_progress("watching", 0, None)
        at_start(config, folder.parent)
        store, revive = stack.enter_context(open_store(config, config.tables))
        session = _session(folder, name, live, config, store)

        def about(now: Config, health: Mapping[str, CameraHealth]) -> dict[str, Any]:
            return {**describe(now, engines, health), "role": "worker", "worker": name}

        write_json_atomic(folder / "run.json", {**about(config, {}), "interrupted": True})
        again, known = (left_open(folder), _known(folder)) if live else ([], set())
        journal = stack.enter_context(RunJournal(folder))
        site = WorkerSite(folder, config, watched, engines, session, journal, clock, live=live)

        def open_area(area: str) -> Speaker:
            stream = stream_of(store, config, area, name)
            return stack.enter_context(
                Speaker(
                    stream,
                    session.name,
                    config.reid.encoder,
                    lambda decision: decision.track_id in session.tracks,
                    folder / SPOKEN / f"said-{area}",
                    journal,
                    after=session.after.get(area) or Position(stream.last_decision()),
                    known=known,
                    revive=revive,
                    on_error=metrics.redis_error,
                    on_decided=site.ids.hear,
                )
            )

        # Also those of cameras that it was watching before it was killed: they may have more to say.
        for area in sorted({*session.after, *(camera.area for camera in config.cameras)}):
            site.serve(area, open_area(area))
        anywhere = next(iter(site.speakers.values())).stream
        site.close_open(again, config.tracker.lost_s)
        beat = stack.enter_context(Beat(anywhere, "worker", site.facts))
        site.watching.on_batch = metrics.batch
        metrics.watch(lambda: site.facts() | {"clock_s": beat.clock_s})
        outages: list[tuple[str, float, float]] = []
        sources = [source_of(camera) for camera in watched]
        watch: LiveWatch | None = None
        if live:
            offset_s = clock_offset_s(anywhere)

            def source_at(camera: Camera) -> Source:
                """As `source_of`, on the site's clock."""
                source = source_of(camera)
                return replace(source, offset_s=source.offset_s + offset_s)

            def reread_mine() -> Config | None:
                new = reread()
                if new is None:
                    return None
                new = of_worker(new, cameras, again=True)
                try:
                    for area in sorted({camera.area for camera in new.cameras} - site.speakers.keys()):
                        site.serve(area, open_area(area))
                except StoreError as error:
                    raise ConfigError(f"area {area!r} is new here: {error}") from None
                return new

            watching = LiveCameras([source_at(camera) for camera in watched], config.live)
            watching.clock_s = offset_s
            watch = LiveWatch(config, site, watching, source_at, reread_mine, each=site.keep)
            site.health = watching.health
            tables_now = stack.enter_context(LatestTables(store, config.tables))
            if not (folder / "tables_start.json").is_file():
                tables_now.write(folder / "tables_start.json")
            stack.enter_context(
                live_folder(
                    watch,
                    folder,
                    journal,
                    about,
                    tables_now.write,
                    begin_s=session.began_s,
                    settled_s=site.settled_s,
                    around_cut=site.cutting,
                )
            )
            metrics.ready = True
            watch.watch(stop, for_s, lambda seen_s: on_progress("watching", seen_s, None))
            config, interrupted, outages = watch.config, False, watch.outages
            sources = [source_at(camera) for camera in config.cameras]
            refused = not_delivering(site.health)
            site.finish("resting")
        else:
            together = stack.enter_context(reading.read_together(sources))
            site.health = together.health
            metrics.ready = True
            interrupted = watch_files(site, together, None, stop, on_progress)
            site.finish("resting" if interrupted else "ended")
        settled = _settle(site, config.streams.settle_s, stop, whole=not live)
        journal.flush()
        tables = TransitionTables(config.tables)
        if settled:
            tables.add(increments_of(store.load_counts()))
    summary = {
        **about(config, site.health),
        "counters": site.counters(),
        "failed_cameras": {**refused, **{c: state.error for c, state in site.health.items() if state.error}},
        "interrupted": interrupted,
        "outages": outages,
        "ended_at_s": time.time(),  # `retention` counts from here
        "speed": {
            "camera_frames": site.watching.frames,
            "total_wall_s": time.perf_counter() - begin_s,
            "wall_ms_per_camera_frame": clock.milliseconds_per(max(site.watching.frames, 1)),
        },
    }
    if settled:
        summary["counters"] |= _write(config, folder, sources, tables, clock, on_progress, site)
    if watch is not None and watch.video is not None:
        summary["counters"] |= watch.video.counters()
    write_json_atomic(folder / "run.json", summary)
    if settled:
        write_report(folder)
    degraded_s = summary["counters"]["degraded_s"]
    return RunResult(folder, summary, summary["failed_cameras"], interrupted, not settled, degraded_s)


def of_worker(config: Config, cameras: Sequence[str], *, again: bool = False) -> Config:
    """A site's configuration with the named cameras alone (none named: all).

    again  it has been read before: a camera that is no longer there has been removed

    Raises RunError for a name that is not there, ConfigError when none is left.
    """
    known = {camera.name: camera for camera in config.cameras}
    if not again and (unknown := [name for name in cameras if name not in known]):
        raise RunError(f"no camera is called {unknown[0]!r}; the configuration has {', '.join(known)}")
    mine = tuple(known[name] for name in cameras if name in known) if cameras else config.cameras
    if not mine:
        raise ConfigError(f"none of this worker's cameras ({', '.join(cameras)}) is in it")
    return config.model_copy(update={"cameras": mine, "site": config.site_name})


def stream_of(store: Store, config: Config, area: str, who: str) -> SiteStream:
    """The Streams of an area, with the configured bounds."""
    bounds = config.streams
    return SiteStream(
        store,
        area,
        who,
        most_sightings=bounds.most_sightings,
        most_decisions=bounds.most_decisions,
        lease_s=bounds.lease_s,
        most_exits=bounds.most_exits,
        exit_s=config.match.memory_s,
    )


def _session(folder: Path, name: str, live: bool, config: Config, store: Store) -> Session:
    """The session that this folder holds unfinished, or a new one."""
    areas = {camera.name: camera.area for camera in config.cameras}
    session = read_session(folder)
    if session is None:
        served = sorted(set(areas.values()))
        streams = {area: stream_of(store, config, area, name) for area in served}
        return new_session(
            name,
            folder,
            store.next_track_block(TRACKS).start,
            began_s=time.time(),
            first_number=max(stream.decided().get(f"worker:{name}", 0) for stream in streams.values()),
            areas=areas,
            after={area: Position(stream.last_decision()) for area, stream in streams.items()},
        )
    if session.worker != name or not (live or session.after.keys() == set(areas.values())):
        raise RunError(
            f"{folder} holds what worker {session.worker!r} has not finished: start that worker on it, with the same "
            f"cameras, or give another folder"
        )
    if live:
        session = replace(session, life=session.life + 1, areas={**session.areas, **areas})
        session.write(folder)
    else:
        watched_again(folder)
    return session


def _known(folder: Path) -> set[tuple[str, bytes]]:
    """Decisions that a former life of this worker has read back."""
    journal = folder / "journal"
    decisions = map(packed_decision, read_decisions(journal / "decisions.jsonl")[-_MANY:])
    return {*decisions, *map(packed_decision, read_corrections(journal / "corrections.jsonl")[-_MANY:])}


def _settle(site: WorkerSite, settle_s: float, stop: threading.Event, *, whole: bool) -> bool:
    """Wait until everything said here is decided, and a little longer for what others have to say about it.

    whole  wait for others, too: until all cameras of the site have ended; not when stopped. False: Redis or the matcher
    is away.
    """
    deadline_s = time.monotonic() + settle_s
    decided = False
    while True:
        try:
            decided, ended = site.settled()
            if decided and (ended or not whole or stop.is_set() or time.monotonic() > deadline_s):
                for speaker in site.speakers.values():
                    speaker.catch_up()
                return True
        except StoreError:
            decided = False
        if time.monotonic() > deadline_s and not decided:
            return False
        site.keep()
        time.sleep(0.05)


def _write(
    config: Config,
    folder: Path,
    sources: Sequence[Source],
    tables: TransitionTables,
    clock: StageClock,
    on_progress: Progress,
    site: WorkerSite,
) -> dict[str, Any]:
    """The final files, with final ids; returns counts. Raises OutputError."""
    journal = folder / "journal"
    decisions = read_decisions(journal / "decisions.jsonl")
    counts = write_tracks_of(config, folder, sources, clock)
    seen = site.watching
    counts |= write_outputs(config, folder, sources, tables, clock, on_progress, seen.frames, seen.now_s)
    counts.pop("video_start_s", None)
    return counts | {"first_global_id": min((d.global_id for d in decisions), default=None)}
