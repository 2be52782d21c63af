"""The annotated videos: a second pass over the sources after a run, so that final ids are drawn from the first frame.

The frames drawn are the ones that were detected. Cameras are drawn and encoded side by side; the mosaic takes the
pictures that are drawn already.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.annotate import Colour, Image, clock_text, draw_frame, person_colour
from pipeline.blur import Hider, hiders
from pipeline.mosaic import Mosaic
from pipeline.movements import stays, transitions
from pipeline.roster import Roster, flows_of
from pipeline.sources import CameraHealth, Frame, Source, SourceError, probe, read_together
from pipeline.tracks_table import FinalIds, read_assignments, read_tracks
from pipeline.trails import Trails
from pipeline.video import VideoWriter

if TYPE_CHECKING:
    import pyarrow as pa

NOTE_S = 4.0  # how long a hand-over stays written: time to read a short line
FLASH_S = 1.2  # how long somebody who came from another camera glows
ENDED_AFTER_S = 1.0  # without a picture while others go on


@dataclass(frozen=True)
class RenderedVideos:
    """frames: pictures drawn. paths: videos written. errors: camera -> why its source could not be read again.
    starts_s: video -> site time of its first picture, where its own time is 0."""

    frames: int
    paths: tuple[Path, ...]
    errors: dict[str, str]
    starts_s: dict[str, float]


def render_videos(
    run_dir: Path,
    sources: Sequence[Source],
    *,
    until_s: float = math.inf,
    on_progress: Callable[[int], None] = lambda frames: None,
) -> RenderedVideos:
    """Write video/<camera>.mp4 and video/mosaic.mp4 of a finished run.

    sources      the files of the run, with the settings they were read with; live sources cannot be read again
                 and are left out
    until_s      frames after this site time are not drawn: what a stopped run has looked at
    on_progress  called with the number of camera frames drawn so far

    People are hidden first, as the run's own `privacy.blur` says.
    A source that cannot be read again is reported in `errors`; the others are written. Raises FileNotFoundError when
    the run has no tracks.parquet, OutputError when a video cannot be written.
    """
    sources = [source for source in sources if not source.live]
    tracks_and_ids = read_tracks(run_dir), read_assignments(Path(run_dir) / "assignments.csv")
    scribes = _scribes(Path(run_dir), [source.camera for source in sources], *tracks_and_ids)
    if not scribes:
        return RenderedVideos(0, (), {}, {})
    folder = Path(run_dir) / "video"
    drawn = 0
    with ExitStack() as stack:
        writers = {name: stack.enter_context(VideoWriter(folder / f"{name}.mp4")) for name in scribes}
        pool = stack.enter_context(ThreadPoolExecutor(min(len(scribes), 8), "draw"))
        persons = stays(*tracks_and_ids)
        wall = stack.enter_context(_Wall(folder / "mosaic.mp4", sources, persons))

        def draw(frame: Frame) -> Image:
            image = scribes[frame.camera].draw(frame)
            writers[frame.camera].write(image, frame.time_s)
            return image

        together = stack.enter_context(read_together(sources))
        for batch in together:
            batch = [frame for frame in batch if frame.time_s <= until_s]
            if not batch:
                break
            images = list(pool.map(draw, batch))
            now_s = max(frame.time_s for frame in batch)
            news = [line for scribe in scribes.values() for line in scribe.news(now_s)]
            wall.add(batch, images, news, together.health)
            drawn += len(batch)
            on_progress(drawn)
        errors = {name: health.error for name, health in together.health.items() if health.error}
    paths = [folder / f"{name}.mp4" for name in [*scribes, "mosaic"]]
    starts_s = {
        name: writer.first_s
        for name, writer in [*writers.items(), ("mosaic", wall.writer)]
        if writer.first_s is not None
    }
    return RenderedVideos(drawn, tuple(path for path in paths if path.exists()), errors, starts_s)


@dataclass(frozen=True)
class _Arrival:
    """Somebody came from another camera."""

    entered_s: float
    global_id: int
    short: str
    line: str


def _scribes(run_dir: Path, cameras: Sequence[str], tracks: pa.Table, final_ids: FinalIds) -> dict[str, _Scribe]:
    import pyarrow.compute as pc

    arrivals: dict[str, list[_Arrival]] = defaultdict(list)
    for move in transitions(stays(tracks, final_ids)).sort_by("entered_s").to_pylist():
        who, origin, to, sure = move["global_id"], move["from_camera"], move["to_camera"], move["probability"]
        delay_s = move["delay_s"]
        short = f"from {origin}, {delay_s:.0f} s" if delay_s >= 0 else f"from {origin}, in both views"
        arrivals[to].append(_Arrival(move["entered_s"], who, short, f"P{who} {short}, to {to}, {sure:.0%}"))
    hidden = hiders(run_dir, cameras)
    return {
        c: _Scribe(c, tracks.filter(pc.equal(tracks["camera"], c)), final_ids, arrivals[c], hidden[c]) for c in cameras
    }


class _Scribe:
    """Knows what to write onto the pictures of one camera, which come in order of time."""

    def __init__(
        self, camera: str, rows: pa.Table, final_ids: FinalIds, arrivals: list[_Arrival], hider: Hider
    ) -> None:
        self.camera, self._hider = camera, hider
        self._frames = rows["frame"].to_numpy()
        self._ids = rows["global_id"].to_numpy()
        self._stays = rows["track_id"].to_numpy()
        self._boxes = np.stack([rows[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
        self._sure = {track: sure for (where, track), (_, sure) in final_ids.items() if where == camera}
        self._arrivals, self._arrival_s = arrivals, [arrival.entered_s for arrival in arrivals]
        self._trails = Trails()

    def draw(self, frame: Frame) -> Image:
        """The frame's picture with everything on it; drawn in place where the picture may be written to."""
        low, high = np.searchsorted(self._frames, [frame.index + 1, frame.index + 2])
        ids, boxes = self._ids[low:high].tolist(), self._boxes[low:high]
        fresh = {arrival.global_id: arrival.short for arrival in self._fresh(frame.time_s)}
        labels = []
        for global_id, track_id in zip(ids, self._stays[low:high].tolist(), strict=True):
            sure = self._sure.get(track_id)
            label = f"P{global_id} {sure:.0%}" if sure else f"P{global_id}"
            labels.append(f"{label}\n{fresh[global_id]}" if global_id in fresh else label)
        image = frame.image if frame.image.flags.writeable else frame.image.copy()
        image = self._hider.hide(image, frame.time_s)  # before anything is drawn: labels stay readable
        trails = self._trails.at(frame.time_s, ids, boxes.tolist())
        flashes = {
            arrival.global_id: 1.0 - (frame.time_s - arrival.entered_s) / FLASH_S
            for arrival in self._fresh(frame.time_s)
            if frame.time_s - arrival.entered_s < FLASH_S
        }
        return draw_frame(image, boxes, ids, labels, trails, self.camera, clock_text(frame.time_s), flashes)

    def news(self, time_s: float) -> list[tuple[str, Colour]]:
        """Lines about those who came in from another camera just now."""
        return [(arrival.line, person_colour(arrival.global_id)) for arrival in self._fresh(time_s)]

    def _fresh(self, time_s: float) -> list[_Arrival]:
        return self._arrivals[bisect_right(self._arrival_s, time_s - NOTE_S) : bisect_right(self._arrival_s, time_s)]


class _Wall:
    """The mosaic video. A picture is written when a camera is about to show its next one: at the fastest one's rate."""

    def __init__(self, path: Path, sources: Sequence[Source], persons: pa.Table) -> None:
        sizes = {}
        for source in sources:
            try:
                info = probe(source)
                sizes[source.camera] = (info.width, info.height)
            except SourceError:
                sizes[source.camera] = (640, 360)  # its tile will say that there is no picture
        self._mosaic = Mosaic(sizes, flows_of(transitions(persons)), strip=True)
        self._roster = Roster(persons)
        self.writer = VideoWriter(path)
        self._pool = ThreadPoolExecutor(1, "mosaic")
        self._written: Future[None] | None = None
        self._fresh: dict[str, float] = {}
        self._last_s: dict[str, float] = {}
        self._ended: set[str] = set()

    def add(
        self,
        batch: Sequence[Frame],
        images: Sequence[Image],
        news: Sequence[tuple[str, Colour]],
        health: dict[str, CameraHealth],
    ) -> None:
        """Show the drawn pictures of one batch."""
        if any(frame.camera in self._fresh for frame in batch):
            self._write()
        self._wait()  # the canvas is being read until then
        for frame, image in zip(batch, images, strict=True):
            self._mosaic.show(frame.camera, image)
            self._fresh[frame.camera] = self._last_s[frame.camera] = frame.time_s
        now_s = max(self._fresh.values())
        for name, shown_s in self._last_s.items():
            if name not in self._ended and health[name].ended and now_s - shown_s > ENDED_AFTER_S:
                self._mosaic.end(name)
                self._ended.add(name)
        self._mosaic.footer(news)
        self._mosaic.roster(self._roster.at(now_s))

    def _write(self) -> None:
        self._wait()
        self._written = self._pool.submit(self.writer.write, self._mosaic.image, max(self._fresh.values()))
        self._fresh.clear()

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()
            self._written = None

    def __enter__(self) -> _Wall:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._fresh and kind is None:
                self._write()
            self._wait()
        finally:
            self._pool.shutdown()
            self.writer.close()
