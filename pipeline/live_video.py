"""Annotated video of live cameras, whose pictures come only once.

Who somebody is, is known seconds after they appear. So pictures wait, compressed, for `output.delay_s`, and are then
drawn with the ids known by that time and encoded into segments. Corrections that come later are in the tables of the
run, not in the pictures. One thread a camera; what cannot keep up loses its oldest pictures, never the run its time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.annotate import Image, clock_text, draw_frame
from pipeline.atomic import OutputError
from pipeline.blur import Blur, Hider, load_faces
from pipeline.hidden_boxes import GAP_S, StayBoxes
from pipeline.mosaic import Mosaic
from pipeline.schema import Output
from pipeline.segments import SegmentWriter
from pipeline.sources import Frame
from pipeline.tracking import Tracks
from pipeline.trails import Trails

log = logging.getLogger(__name__)

IdOf = Callable[[str, int], tuple[int, float] | None]
"""(camera, track id) -> (global id, probability), None while there is none."""

JPEG_QUALITY = 92  # of the pictures that wait; nothing of it shows after H.264
WALL_HZ = 5.0
SILENT_S = 2.0  # a tile without a new picture for so long is dimmed
IDLE_S = 10.0  # the segment of a camera that has been silent for so long is finished
GONE_S = 600.0  # and its tile is given up after so long
HIDING_DELAY_S = 2.0  # hidden people need it: a track is told a few frames after somebody appears
_RAW_FRAMES = 8  # uncompressed, between the run and the camera's thread


class LiveVideo:
    """Draws what a run over live cameras sees. A context manager; leaving it finishes every file.

    folder  gets <camera>/<begin>.mp4 and mosaic/<begin>.mp4
    id_of   who is who, asked when a picture is drawn
    """

    def __init__(self, folder: Path, settings: Output, id_of: IdOf, blur: Blur = "none") -> None:
        self.folder, self.settings, self.id_of = Path(folder), settings, id_of
        if blur == "faces" and load_faces() is None:
            log.warning("no face detector is here (identrix models: yunet): heads are hidden instead of faces")
            blur = "heads"
        self.blur: Blur = blur
        self.delay_s = max(settings.delay_s, HIDING_DELAY_S if blur != "none" else 0.0)
        self._cameras: dict[str, _CameraVideo] = {}
        self._wall = _Wall(self.folder / "mosaic", settings)

    def add(self, frame: Frame, tracks: Tracks) -> None:
        """Take a picture and what was tracked in it. Never waits."""
        video = self._cameras.get(frame.camera)
        if video is None:
            video = self._cameras[frame.camera] = _CameraVideo(self, frame.camera, self._wall)
        video.put(frame, tracks)

    @property
    def most_bytes(self) -> float:
        """What the waiting pictures of one camera may take."""
        return 1e6 * self.settings.buffer_mb / max(len(self._cameras), 1)

    def counters(self) -> dict[str, int]:
        """Pictures drawn, pictures lost because drawing could not keep up, files."""
        videos = self._cameras.values()
        return {
            "videos": sum(1 for _ in self.folder.glob("*/*.mp4")),
            "video_frames": sum(video.drawn for video in videos),
            "video_frames_dropped": sum(video.dropped for video in videos),
        }

    def __enter__(self) -> LiveVideo:
        return self

    def __exit__(self, *_: object) -> None:
        videos = list(self._cameras.values())
        for video in videos:
            video.ask_to_end()
        for video in videos:
            video.thread.join()
        self._wall.stop()
        # What still waits is drawn as fast as it goes, all cameras in step, so that the mosaic has it, too.
        with ThreadPoolExecutor(min(8, len(videos) or 1), "draw") as pool:
            while heads := [video.head_s for video in videos if video.head_s is not None]:
                until_s = min(heads) + 1 / WALL_HZ
                list(pool.map(lambda video, until_s=until_s: video.draw_until(until_s), videos))
                self._wall.write()
            list(pool.map(lambda video: video.close(), videos))
        self._wall.close()


@dataclass(frozen=True, eq=False)
class _Waiting:
    came_s: float
    time_s: float
    jpeg: NDArray[np.uint8]
    tracks: Tracks


class _CameraVideo:
    """The pictures of one camera on their way into segments."""

    def __init__(self, all_: LiveVideo, camera: str, wall: _Wall) -> None:
        self._all, self.camera, self._wall = all_, camera, wall
        keep_hours = all_.settings.keep_hours
        keep_s = None if keep_hours is None else 3600 * keep_hours
        self._segments = SegmentWriter(all_.folder / camera, all_.settings.segment_s, keep_s)
        self._raw: deque[tuple[Frame, Tracks]] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._recent: deque[tuple[float, Tracks]] = deque()
        self._trails = Trails()
        self._hider: Hider | None = None
        if all_.blur != "none":
            self._hider = Hider(all_.blur, (), load_faces() if all_.blur == "faces" else None)
        self.drawn = self.dropped = 0
        self._drawn_s = time.monotonic()
        self.thread = threading.Thread(target=self._run, name=f"video {camera}", daemon=True)
        self.thread.start()

    def put(self, frame: Frame, tracks: Tracks) -> None:
        with self._changed:
            if len(self._raw) >= _RAW_FRAMES:
                self._raw.popleft()
                self.dropped += 1
            self._raw.append((frame, tracks))
            self._changed.notify()

    def ask_to_end(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                wait_s = 1.0 if not self._waiting else self._waiting[0].came_s + self._all.delay_s - time.monotonic()
                self._changed.wait_for(lambda: self._raw or self._ending, max(wait_s, 0.0))
                raw = self._raw.popleft() if self._raw else None
                if raw is None and self._ending:
                    return
            if raw is not None:
                self._keep(*raw)
            while self._waiting and self._due(self._waiting[0]):
                self._draw()
            if not self._waiting and time.monotonic() - self._drawn_s > IDLE_S:
                self.close()

    @property
    def head_s(self) -> float | None:
        """Site time of the first picture that waits."""
        return self._waiting[0].time_s if self._waiting else None

    def draw_until(self, until_s: float) -> None:
        """Draw what waits up to a site time; only once the thread has ended."""
        while self._waiting and self._waiting[0].time_s <= until_s:
            self._draw()

    def close(self) -> None:
        """Finish the last segment."""
        try:
            self._segments.close()
        except OutputError as error:
            self._hole(error)

    def _hole(self, error: OutputError) -> None:
        log.error("camera %s: its video has a hole: %s", self.camera, error, extra={"camera": self.camera})

    def _due(self, waiting: _Waiting) -> bool:
        return time.monotonic() - waiting.came_s >= self._all.delay_s or self._bytes > self._all.most_bytes

    def _keep(self, frame: Frame, tracks: Tracks) -> None:
        import cv2

        _, jpeg = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        packed = np.asarray(jpeg, np.uint8)
        self._waiting.append(_Waiting(time.monotonic(), frame.time_s, packed, tracks))
        self._bytes += packed.nbytes
        if self._hider is not None:
            self._recent.append((frame.time_s, tracks))

    def _draw(self) -> None:
        try:
            self._draw_next()
        except OutputError as error:
            self._hole(error)
        except Exception:  # a defect in drawing must not end the video unseen, nor the run
            log.exception("camera %s: a picture could not be drawn", self.camera, extra={"camera": self.camera})

    def _draw_next(self) -> None:
        import cv2

        waiting = self._waiting.popleft()
        self._bytes -= waiting.jpeg.nbytes
        image: Any = cv2.imdecode(waiting.jpeg, cv2.IMREAD_COLOR)
        if self._hider is not None:
            self._hider.follow(self._boxes_around(waiting.time_s))
            image = self._hider.hide(image, waiting.time_s)
        self._annotate(image, waiting)
        self.drawn += 1
        self._drawn_s = time.monotonic()
        self._wall.show(self.camera, image, waiting.time_s)
        self._segments.write(image, waiting.time_s)

    def _annotate(self, image: Image, waiting: _Waiting) -> None:
        tracks, time_s = waiting.tracks, waiting.time_s
        known = [self._all.id_of(self.camera, track_id) for track_id in tracks.track_ids.tolist()]
        ids = [None if found is None else found[0] for found in known]
        labels = ["" if found is None else f"P{found[0]} {found[1]:.0%}" for found in known]
        trails = self._trails.at(time_s, ids, tracks.boxes.tolist())
        draw_frame(image, tracks.boxes, ids, labels, trails, self.camera, clock_text(time_s))

    def _boxes_around(self, time_s: float) -> list[StayBoxes]:
        """The boxes of everybody seen shortly before and after: the future is what the pictures waited for."""
        while self._recent and self._recent[0][0] < time_s - GAP_S:
            self._recent.popleft()
        rows: dict[int, list[tuple[float, NDArray[np.float32]]]] = defaultdict(list)
        for seen_s, tracks in self._recent:
            for track_id, box in zip(tracks.track_ids.tolist(), tracks.boxes, strict=True):
                rows[track_id].append((seen_s, box))
        return [
            StayBoxes(track_id, np.array([s for s, _ in seen]), np.stack([box for _, box in seen]))
            for track_id, seen in rows.items()
        ]


class _Wall:
    """The mosaic of all cameras, at a steady rate, in segments of its own."""

    def __init__(self, folder: Path, settings: Output) -> None:
        keep_s = None if settings.keep_hours is None else 3600 * settings.keep_hours
        self._segments = SegmentWriter(folder, settings.segment_s, keep_s)
        self._lock = threading.Lock()
        self._latest: dict[str, tuple[Image, float]] = {}
        self._fresh: set[str] = set()
        self._mosaic: Mosaic | None = None
        self._sizes: dict[str, tuple[int, int]] = {}
        self._dimmed: set[str] = set()
        self._last_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="video mosaic", daemon=True)
        self._thread.start()

    def show(self, camera: str, image: Image, time_s: float) -> None:
        with self._lock:
            self._latest[camera] = (image, time_s)
            self._fresh.add(camera)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def close(self) -> None:
        try:
            self._segments.close()
        except OutputError as error:
            log.error("the mosaic's video has a hole: %s", error)

    def _run(self) -> None:
        while not self._stop.wait(1 / WALL_HZ):
            self.write()

    def write(self) -> None:
        """Write a picture if any camera has a new one."""
        try:
            self._write()
        except OutputError as error:
            log.error("the mosaic's video has a hole: %s", error)
        except Exception:
            log.exception("the mosaic could not be drawn")

    def _write(self) -> None:
        with self._lock:
            fresh = {name: self._latest[name] for name in sorted(self._fresh)}
            latest = dict(self._latest)
            self._fresh.clear()
        if not fresh:
            return
        newest_s = max(time_s for _, time_s in latest.values())
        latest = {name: shown for name, shown in latest.items() if newest_s - shown[1] <= GONE_S}
        with self._lock:
            for name in self._latest.keys() - latest.keys() - self._fresh:
                del self._latest[name]
        sizes = {name: (image.shape[1], image.shape[0]) for name, (image, _) in sorted(latest.items())}
        if self._mosaic is None or sizes != self._sizes:
            self._mosaic, self._sizes, self._dimmed = Mosaic(sizes), sizes, set()
            fresh = latest
        now_s = max(time_s for _, time_s in latest.values())
        for name, (image, _) in fresh.items():
            if name not in latest:
                continue
            self._mosaic.show(name, image)
            self._dimmed.discard(name)
        for name, (_, shown_s) in latest.items():
            if now_s - shown_s > SILENT_S and name not in self._dimmed:
                self._mosaic.end(name)
                self._dimmed.add(name)
        if now_s > self._last_s:
            self._last_s = now_s
            self._segments.write(self._mosaic.image, now_s)
