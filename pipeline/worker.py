"""The `worker` role: watches some cameras of a site, says what it sees to the site's matcher, reads back who it was.

The same watching as in `run`; instead of a matcher there is a Stream. A worker that is killed and started again on the
same folder says nothing twice: over files it watches them again from the start and keeps silent until it comes to what
it has not said yet; over live cameras it says the last word of the stays it can no longer follow, and goes on.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import sources as reading
from pipeline.config import Camera, Config
from pipeline.engines import load_engines
from pipeline.live import LiveCameras
from pipeline.members import Beat, clock_offset_s
from pipeline.messages import Mark, packed_decision
from pipeline.metrics import open_metrics
from pipeline.outputs import check_writable, write_outputs, write_tracks_of
from pipeline.report import write_report
from pipeline.runner import Progress, RunError, RunResult, all_live, describe, openable, say_troubles, source_of
from pipeline.session import TRACKS, Session, left_open, new_session, read_session, watched_again
from pipeline.site_store import open_store
from pipeline.sources import CameraHealth, Source
from pipeline.speaking import Position, Speaker
from pipeline.timing import StageClock
from pipeline.tracklog import RunJournal, read_corrections, read_decisions, write_json_atomic
from pipeline.watching import Said, Watching
from pipeline.worker_facts import camera_facts
from st_model.counts import increments_of
from st_model.site_stream import SiteStream
from st_model.store import Store
from st_model.store_errors import StoreError
from st_model.transitions import TransitionTables

log = logging.getLogger(__name__)

_KEEP_EVERY_S = 5.0
_MANY = 10_000  # decisions that may come back within that time


@dataclass
class _Site:
    """A worker at work: what it speaks through, and what is known of it."""

    cameras: dict[str, Camera]
    session: Session
    speakers: dict[str, Speaker]
    live: bool
    number: int = 0
    until_s: float = -math.inf
    health: dict[str, CameraHealth] = field(default_factory=dict)

    def say(self, said: Said, state: str = "live", *, at_once: bool = False, outages: Sequence[Any] = ()) -> None:
        """One step, to every area whose cameras are watched here."""
        self.number += 1
        latest_s = max((s.emitted_s for s in said.sightings), default=self.until_s)
        self.until_s = latest_s if math.isinf(said.until_s) else max(self.until_s, said.until_s)
        for area, speaker in self.speakers.items():
            marks = {
                name: Mark(self.until_s, "ended" if self._failed(name) else state)
                for name, camera in self.cameras.items()
                if camera.area == area
            }
            mine = [s for s in said.sightings if self.cameras[s.camera].area == area]
            lost = [o for o in outages if o[0] in marks]
            speaker.say(self.number, marks, mine, outages=lost, at_once=at_once)

    def _failed(self, camera: str) -> bool:
        return not self.live and (camera not in self.health or self.health[camera].error is not None)

    def settled(self) -> tuple[bool, bool]:
        """Whether all that was said is decided, and whether all areas have ended. A StoreError when Redis is away."""
        found = [speaker.settled() for speaker in self.speakers.values()]
        return all(done for done, _ in found), all(ended for _, ended in found)


def work(
    config: Config,
    folder: Path,
    name: str,
    cameras: Sequence[str] = (),
    *,
    stop: threading.Event | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> RunResult:
    """Watch the named cameras (none named: all) and write their part of the site's files into `folder`.

    name  of this worker, unique in the site
    stop  set it to end early with complete files

    `degraded` in the result: what was seen is not all decided; the folder is kept unfinished, and the same worker
    started again on it goes on. Raises RunError, and the rooms' own errors for weights, Redis and the disk.
    """
    stop = stop or threading.Event()
    config = config.model_copy(update={"cameras": _chosen(config, cameras), "site": config.site_name})
    check_writable(folder)
    watched, refused = openable(config.cameras)
    sources = [source_of(camera) for camera in watched]
    live = all_live(sources)
    clock = StageClock()
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    with ExitStack() as stack:
        metrics = stack.enter_context(open_metrics(config.metrics))
        clock.observe = metrics.stage
        engines = load_engines(config)
        on_progress("watching", 0, None)
        store, revive = stack.enter_context(open_store(config, config.tables))
        streams = {area: stream_of(store, config, area, name) for area in sorted({c.area for c in config.cameras})}
        anywhere = next(iter(streams.values()))
        session = _session(folder, name, live, store, streams)
        write_json_atomic(folder / "run.json", {**describe(config, engines, {}), "interrupted": True})
        again = left_open(folder) if live else []
        known = _known(folder) if live else ()
        offset_s = clock_offset_s(anywhere) if live else 0.0
        sources = [replace(source, offset_s=source.offset_s + offset_s) for source in sources]
        journal = stack.enter_context(RunJournal(folder))
        by_name = {camera.name: camera for camera in config.cameras}
        speakers = {
            area: stack.enter_context(
                Speaker(
                    stream,
                    session.name,
                    config.reid.encoder,
                    [camera.name for camera in config.cameras if camera.area == area],
                    folder / "journal" / f"outbox-{area}",
                    journal,
                    after=session.after[area],
                    known=known,
                    revive=revive,
                    on_error=metrics.redis_error,
                )
            )
            for area, stream in streams.items()
        }
        site = _Site(by_name, session, speakers, live)
        if live:  # what was open when this worker was killed cannot be followed any more
            site.number = max(speaker.outbox.last for speaker in speakers.values())
            for sighting in again:
                closing = replace(sighting, closed=True, emitted_s=sighting.last_s + config.tracker.lost_s)
                journal.sighting(closing)
                site.say(Said([closing], closing.emitted_s), at_once=True)
        watching = Watching(config, watched, engines, session.track_ids().__next__, journal, clock)
        reader: Any = LiveCameras(sources, config.live) if live else reading.read_together(sources)
        reader.clock_s = offset_s
        together = stack.enter_context(reader)
        site.health = together.health
        beat = stack.enter_context(Beat(anywhere, "worker", lambda: _facts(site, watching)))
        watching.on_batch = metrics.batch
        metrics.watch(lambda: _facts(site, watching) | {"clock_s": beat.clock_s})
        metrics.ready = True
        with _kept(site, folder, journal):
            stopped = _loop(site, watching, together, journal, stop, on_progress)
            interrupted = stopped and not live  # live cameras are watched until somebody says stop
            said = watching.finish()
            site.say(said, "resting" if stopped or live else "ended", at_once=True)
            journal.flush()
            settled = _settle(site, config.streams.settle_s, stop)
            journal.flush()
        tables = TransitionTables(config.tables)
        if settled:
            tables.add(increments_of(store.load_counts()))
    summary = {
        **describe(config, engines, site.health),
        "role": "worker",
        "worker": name,
        "counters": {**watching.counters(), **_came_back(site)},
        "failed_cameras": {**refused, **{c: state.error for c, state in site.health.items() if state.error}},
        "interrupted": interrupted,
        "speed": {
            "camera_frames": watching.frames,
            "total_wall_s": time.perf_counter() - begin_s,
            "total_cpu_s": time.process_time() - begin_cpu_s,
            "wall_ms_per_camera_frame": clock.milliseconds_per(max(watching.frames, 1)),
        },
    }
    if settled:
        summary["counters"] |= _write(config, folder, sources, tables, clock, on_progress, watching)
    write_json_atomic(folder / "run.json", summary)
    if settled:
        write_report(folder)
    degraded_s = summary["counters"]["degraded_s"]
    return RunResult(folder, summary, summary["failed_cameras"], interrupted, not settled, degraded_s)


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


def _chosen(config: Config, names: Sequence[str]) -> tuple[Camera, ...]:
    known = {camera.name: camera for camera in config.cameras}
    if unknown := [name for name in names if name not in known]:
        raise RunError(f"no camera is called {unknown[0]!r}; the configuration has {', '.join(known)}")
    return tuple(known[name] for name in names) or config.cameras


def _session(folder: Path, name: str, live: bool, store: Store, streams: dict[str, SiteStream]) -> Session:
    """The session that this folder holds unfinished, or a new one."""
    session = read_session(folder)
    if session is None:
        after = {area: Position(stream.last_decision()) for area, stream in streams.items()}
        return new_session(name, folder, store.next_track_block(TRACKS).start, after)
    if session.worker != name or session.after.keys() != streams.keys():
        raise RunError(
            f"{folder} holds what worker {session.worker!r} has not finished: start that worker on it, with the same "
            f"cameras, or give another folder"
        )
    if live:
        session = replace(session, life=session.life + 1)
        session.write(folder)
    else:
        watched_again(folder)
    return session


def _known(folder: Path) -> set[tuple[str, bytes]]:
    """Decisions that a former life of this worker has read back."""
    journal = folder / "journal"
    decisions = map(packed_decision, read_decisions(journal / "decisions.jsonl")[-_MANY:])
    return {*decisions, *map(packed_decision, read_corrections(journal / "corrections.jsonl")[-_MANY:])}


def _loop(
    site: _Site,
    watching: Watching,
    together: Any,
    journal: RunJournal,
    stop: threading.Event,
    on_progress: Progress,
) -> bool:
    """Watch until the sources end; whether it was stopped before."""
    troubles: set[str] = set()
    for batch in together:
        if stop.is_set():
            return True
        said = watching.step(batch) if batch else watching.quiet(together.floor_s)
        if site.live and said.sightings:
            journal.flush()  # what the site knows of us, we must know after a kill
        site.say(said, outages=together.outages() if site.live else ())
        say_troubles(site.health, troubles)
        on_progress("watching", watching.media_s, None)
    say_troubles(site.health, troubles)
    return False


@contextmanager
def _kept(site: _Site, folder: Path, journal: RunJournal) -> Iterator[None]:
    """Keep, now and then, how far decisions have been read; only live workers go on from there."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(_KEEP_EVERY_S):
            after = {area: speaker.after for area, speaker in site.speakers.items()}
            journal.flush()
            replace(site.session, after=after).write(folder)

    thread = threading.Thread(target=keep, name="session", daemon=True)
    if site.live:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if site.live:
            thread.join()


def _settle(site: _Site, settle_s: float, stop: threading.Event) -> bool:
    """Wait until everything said here is decided, and a little longer for what others have to say about it.

    A run that was stopped does not wait for others. False: Redis or the matcher is away.
    """
    deadline_s = time.monotonic() + settle_s
    decided = False
    while True:
        try:
            decided, ended = site.settled()
            if decided and (ended or stop.is_set() or time.monotonic() > deadline_s):
                for speaker in site.speakers.values():
                    speaker.catch_up()
                return True
        except StoreError:
            decided = False
        if time.monotonic() > deadline_s and not decided:
            return False
        time.sleep(0.05)


def _came_back(site: _Site) -> dict[str, Any]:
    counts = sum((speaker.counts for speaker in site.speakers.values()), start=Counter())
    corrections = counts.pop("merge", 0) + counts.pop("split", 0)
    return {
        "decisions": dict(sorted(counts.items())),
        "corrections": corrections,
        "decisions_missed": any(speaker.missed for speaker in site.speakers.values()),
        "degraded_s": max(speaker.degraded_s for speaker in site.speakers.values()),
    }


def _write(
    config: Config,
    folder: Path,
    sources: Sequence[Source],
    tables: TransitionTables,
    clock: StageClock,
    on_progress: Progress,
    watching: Watching,
) -> dict[str, Any]:
    """The final files, with final ids; returns counts. Raises OutputError."""
    journal = folder / "journal"
    decisions = read_decisions(journal / "decisions.jsonl")
    counts = write_tracks_of(config, folder, sources, clock)
    counts |= write_outputs(config, folder, sources, tables, clock, on_progress, watching.frames, watching.now_s)
    counts.pop("video_start_s", None)
    return counts | {"first_global_id": min((d.global_id for d in decisions), default=None)}


def _facts(site: _Site, watching: Watching) -> dict[str, Any]:
    """What a worker says of itself to the site."""
    return {
        "cameras": {name: camera_facts(site.health.get(name)) for name in site.cameras},
        "frames": watching.frames,
        "sightings": watching.sightings,
        "until_s": site.until_s if math.isfinite(site.until_s) else None,
        "waiting": sum(speaker.outbox.waiting for speaker in site.speakers.values()),
        "full": any(speaker.full for speaker in site.speakers.values()),
        "degraded_s": max(speaker.degraded_s for speaker in site.speakers.values()),
        "read": {area: speaker.after.number for area, speaker in site.speakers.items()},
    }
