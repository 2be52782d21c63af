"""Watching: batches of frames in, sightings out; the half of a run that needs pictures.

`run` and `worker` share it, so when something is said depends on its own camera alone and never on which other cameras
the same process looks at: a stay speaks at the time of one of its camera's frames, and a camera that falls silent (its
file ends, its cable is pulled, a hole in its stream) closes its stays `lost_s` after its last frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Camera, Config
from pipeline.engines import Engines
from pipeline.sources import Frame
from pipeline.stays import Due, StayWatch, sightings
from pipeline.timing import StageClock
from pipeline.tracking import CameraTracker, Tracks
from pipeline.tracklog import RunJournal
from st_model.sightings import Sighting


@dataclass(frozen=True)
class Said:
    """What one step of watching had to say.

    sightings  in order of `emitted_s`, none before the `until_s` of the step before
    until_s    site time: nothing with an earlier `emitted_s` will be said any more
    """

    sightings: list[Sighting]
    until_s: float


class Watching:
    """A tracker and a stay watch per camera, and what was counted.

    new_track_id  gives track ids that no other camera and no other run has
    """

    def __init__(
        self,
        config: Config,
        cameras: Sequence[Camera],
        engines: Engines,
        new_track_id: Callable[[], int],
        journal: RunJournal,
        clock: StageClock,
    ) -> None:
        self.engines, self.journal, self.clock = engines, journal, clock
        self._config, self._new_track_id = config, new_track_id
        self._lost_s = config.tracker.lost_s
        self._trackers: dict[str, CameraTracker] = {}
        self._watches: dict[str, StayWatch] = {}
        for camera in cameras:
            self.watch(camera)
        self.on_tracks: Callable[[Frame, Tracks], None] = lambda frame, tracks: None
        """Told what was tracked in each frame."""
        self._last_s: dict[str, float] = {}
        self.frames = self.boxes = self.sightings = self.crops = 0
        self.first_s: float | None = None
        self.now_s = -math.inf
        self.until_s = -math.inf
        self.on_batch: Callable[[int], None] | None = None
        """Told how many frames are detected together."""

    @property
    def media_s(self) -> float:
        """Seconds of site time seen so far."""
        return 0.0 if self.first_s is None else self.now_s - self.first_s

    def step(self, batch: Sequence[Frame]) -> Said:
        """One batch: at most one frame per camera, none earlier than the earliest of the batch before."""
        due = self._silent(min(frame.time_s for frame in batch))
        if self.on_batch is not None:
            self.on_batch(len(batch))
        with self.clock.stage("detect"):
            detections = self.engines.detector(
                [f.camera for f in batch], [f.index for f in batch], [f.image for f in batch]
            )
        self.now_s = max(self.now_s, *(frame.time_s for frame in batch))
        if self.first_s is None:
            self.first_s = self.now_s
        for frame, found in zip(batch, detections, strict=True):
            if frame.time_s - self._last_s.get(frame.camera, frame.time_s) > self._lost_s:
                due += self._close_all(frame.camera)
            self._last_s[frame.camera] = frame.time_s
            with self.clock.stage("track"):
                tracker = self._trackers[frame.camera]
                tracks = tracker.update(frame.index, frame.time_s, frame.image, found)
                closed = tracker.closed()
            with self.clock.stage("log"):
                self.journal.boxes(
                    frame.camera, frame.index, frame.time_s, tracks.track_ids, tracks.boxes, tracks.scores
                )
            with self.clock.stage("crops"):
                watch = self._watches[frame.camera]
                due += [Due(stay, False, frame.time_s) for stay in watch.observe(frame, tracks)]
                due += [Due(stay, True, frame.time_s) for stay in watch.close(closed)]
            self.on_tracks(frame, tracks)
            self.frames += 1
            self.boxes += len(tracks.track_ids)
        return self._say(due, min(frame.time_s for frame in batch))

    def quiet(self, now_s: float) -> Said:
        """No frame of any camera came, and none earlier than `now_s` will."""
        return self._say(self._silent(now_s), now_s)

    def watch(self, camera: Camera) -> None:
        """Watch one more camera from now on."""
        self._trackers[camera.name] = CameraTracker(camera.name, self._config.tracker, self._new_track_id)
        self._watches[camera.name] = StayWatch(
            camera.name, self._config.reid.first_after_s, self._config.reid.max_crops
        )

    def leave(self, camera: str) -> Said:
        """Watch a camera no more: its open stays say their last word."""
        due = self._close_all(camera)
        del self._trackers[camera], self._watches[camera]
        self._last_s.pop(camera, None)
        return self._say(due, self.until_s)

    def finish(self) -> Said:
        """The sources have ended: every open stay says its last word."""
        said = self._say([due for camera in self._trackers for due in self._close_all(camera)], math.inf)
        self.journal.flush()
        return said

    def _silent(self, now_s: float) -> list[Due]:
        return [
            due
            for camera, last_s in self._last_s.items()
            if last_s + self._lost_s < now_s
            for due in self._close_all(camera)
        ]

    def _close_all(self, camera: str) -> list[Due]:
        tracker = self._trackers[camera]
        said_s = self._last_s.get(camera, -math.inf) + self._lost_s
        stays = self._watches[camera].close([*tracker.finish(), *tracker.closed()])
        return [Due(stay, True, said_s) for stay in stays]

    def _say(self, due: Sequence[Due], until_s: float) -> Said:
        said: list[Sighting] = []
        if due:
            with self.clock.stage("encode"):
                said = sorted(sightings(due, self.engines.encoder, self.engines.faces), key=lambda s: s.emitted_s)
        for sighting in said:
            self.journal.sighting(sighting)
        self.sightings += len(said)
        self.crops += sum(sighting.n_crops for sighting in said)
        self.until_s = max(self.until_s, until_s)
        return Said(said, self.until_s)

    def counters(self) -> dict[str, Any]:
        """What was seen, for run.json; where faces are asked for also what became of each crop's."""
        faces = self.engines.faces
        return {
            "camera_frames": self.frames,
            "boxes": self.boxes,
            "sightings": self.sightings,
            "crops": self.crops,
            **({"faces": dict(faces.seen)} if faces else {}),
        }
