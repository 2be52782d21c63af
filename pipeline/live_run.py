"""The loop of a run or worker over live cameras: it ends when it is told to, its cameras may change while it goes.

On SIGHUP the configuration is read again: cameras that are new begin, cameras that are gone end, cameras whose entry
has changed are opened anew, and those that wait for their next attempt try at once. Everything else needs a restart.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.atomic import write_json_atomic
from pipeline.config import Camera, Config, ConfigError
from pipeline.journal_writer import RunJournal
from pipeline.live import LiveCameras
from pipeline.live_ids import LiveIds
from pipeline.live_video import LiveVideo
from pipeline.parts import Parts
from pipeline.sources import CameraHealth, Frame, Source
from pipeline.watching import Watching
from st_model.teaching import Outage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """What a new configuration means for the cameras of a run. One that moves to another area ends and begins.

    ignored  top-level keys that differ, and take effect at the next start only
    """

    added: tuple[Camera, ...]
    removed: tuple[str, ...]
    changed: tuple[Camera, ...]
    ignored: tuple[str, ...]


def changes(before: Config, now: Config) -> Changes:
    """Compare two configurations.

    >>> one, two = Camera(name="a", source="rtsp://a"), Camera(name="b", source="rtsp://b")
    >>> found = changes(Config(cameras=(one,)), Config(cameras=(two, one.model_copy(update={"stride": 2}))))
    >>> [camera.name for camera in found.added], [camera.name for camera in found.changed]
    (['b'], ['a'])
    """
    old, new = ({camera.name: camera for camera in config.cameras} for config in (before, now))
    keys = type(before).model_fields.keys() - {"cameras", "site"}
    ignored = {key for key in keys if getattr(before, key) != getattr(now, key)}
    if before.site_name != now.site_name and (before.site or now.site):
        ignored.add("site")
    stay = {name for name, camera in new.items() if name in old and camera.area == old[name].area}
    return Changes(
        added=tuple(camera for name, camera in new.items() if name not in stay),
        removed=tuple(name for name in old if name not in stay),
        changed=tuple(camera for name, camera in new.items() if name in stay and camera != old[name]),
        ignored=tuple(sorted(ignored)),
    )


MOST_OUTAGES = 10_000
"""Kept for run.json, from which a replay learns of them."""


class Site(Protocol):
    """What cameras are watched for: a `run` with a matcher of its own, or a `worker`."""

    watching: Watching
    ids: LiveIds

    def step(self, batch: Sequence[Frame]) -> None:
        """One batch: at most one frame per camera."""

    def quiet(self, until_s: float) -> None:
        """No frame came, and none earlier than `until_s` will."""

    def watch(self, camera: Camera) -> None:
        """Watch one more camera from now on."""

    def leave(self, camera: str) -> None:
        """Watch a camera no more."""

    def add_outage(self, outage: Outage) -> None:
        """A camera was not watching from .. to; infinity while that lasts."""


@dataclass
class LiveWatch:
    """Feeds a site from live cameras.

    source_of  the reader's view of a configured camera
    reread     the new configuration when one is asked for, else None; may raise ConfigError
    on_change  called with the configuration as it is from now on
    each       called after every step, a few times a second at least
    video      draws what is seen
    """

    config: Config
    site: Site
    cameras: LiveCameras
    source_of: Callable[[Camera], Source]
    reread: Callable[[], Config | None] = lambda: None
    on_change: Callable[[Config], None] = lambda config: None
    each: Callable[[], None] = lambda: None
    video: LiveVideo | None = None
    _away: set[tuple[str, float, float]] = field(default_factory=set)
    _over: dict[tuple[str, float], float] = field(default_factory=dict)

    @property
    def outages(self) -> list[tuple[str, float, float]]:
        """(camera, from_s, to_s) of the latest times in which a camera was away, for run.json."""
        return [(camera, from_s, to_s) for (camera, from_s), to_s in self._over.items()]

    def watch(self, stop: threading.Event, for_s: float | None, on_progress: Callable[[float], None]) -> None:
        """Watch until `stop` is set or `for_s` seconds are over."""
        end_s = float("inf") if for_s is None else time.monotonic() + for_s
        with self.cameras:
            for batch in self.cameras:
                if stop.is_set() or time.monotonic() >= end_s:
                    return
                self.step(batch)
                self.each()
                on_progress(self.site.watching.media_s)

    def step(self, batch: Sequence[Frame]) -> None:
        """One batch, perhaps an empty one, and what else has happened meanwhile."""
        away, floor_s = set(self.cameras.away()), self.cameras.floor_s
        back = [(camera, from_s, max(from_s, floor_s)) for camera, from_s, _ in self._away - away]
        for outage in (*(away - self._away), *back, *self.cameras.outages()):  # the exact end comes last and holds
            self.site.add_outage(outage)
            if math.isfinite(outage[2]):
                self._over[outage[:2]] = outage[2]
        while len(self._over) > MOST_OUTAGES:
            del self._over[next(iter(self._over))]
        self._away = away
        if batch:
            self.site.step(batch)
        else:
            self.site.quiet(self.cameras.floor_s)
        try:
            config = self.reread()
        except ConfigError as error:
            log.error("the configuration is not read again, all stays as it is: %s", error)
            return
        if config is not None:
            self._become(config)

    def _become(self, config: Config) -> None:
        files = [camera.name for camera in config.cameras if not self.source_of(camera).live]
        if files:
            log.error("the configuration is not read again: %s: a file cannot join live cameras", ", ".join(files))
            return
        found = changes(self.config, config)
        for name in found.removed:
            self.cameras.remove(name)
            self.site.leave(name)
        for camera in found.added:
            self.site.watch(camera)
            self.cameras.add(self.source_of(camera))
        for camera in found.changed:
            self.cameras.restart(self.source_of(camera))
        self.cameras.try_now()
        if found.ignored:
            log.warning("changes of %s take effect at the next start", ", ".join(found.ignored))
        names = [
            f"{word} {', '.join(who)}"
            for word, who in (
                ("added", [camera.name for camera in found.added]),
                ("removed", found.removed),
                ("restarted", [camera.name for camera in found.changed]),
            )
            if who
        ]
        log.warning("configuration read again: %s", "; ".join(names) or "no camera has changed")
        self.config = self.config.model_copy(update={"cameras": config.cameras, "site": self.config.site_name})
        self.on_change(self.config)


@contextmanager
def live_folder(
    watch: LiveWatch,
    folder: Path,
    journal: RunJournal,
    about: Callable[[Config, Mapping[str, CameraHealth]], dict[str, Any]],
    write_tables: Callable[[Path], None],
    **parts_options: Any,
) -> Iterator[None]:
    """Keep the folder of a live site while the block runs: run.json, parts, video; leaving it finishes these files.

    about          what run.json says of the run
    write_tables   writes the tables as they are at a cut into a file
    parts_options  see `Parts`

    Raises OutputError.
    """

    def facts() -> dict[str, Any]:
        return {**about(watch.config, watch.cameras.health), "interrupted": True}

    watch.on_change = lambda now: write_json_atomic(folder / "run.json", facts())
    output, each = watch.config.output, watch.each
    parts = Parts(folder, 3600 * output.part_hours, journal, facts, write_tables, **parts_options)

    def look() -> None:
        each()
        parts.look()

    watch.each = look
    try:
        if output.video:
            with LiveVideo(folder / "video", output, watch.site.ids.of, watch.config.privacy.blur) as watch.video:
                watch.site.watching.on_tracks = watch.video.add
                yield
        else:
            yield
    finally:
        parts.close()


def not_delivering(health: dict[str, CameraHealth]) -> dict[str, str]:
    """Camera -> why it sent nothing when the run ended; removed cameras are no failure."""
    out = {}
    for name, state in health.items():
        if state.live is not None and not state.ended and state.live.state not in ("live", "stalled"):
            out[name] = state.live.reason or f"camera {name}: no picture came before the run ended"
    return out
