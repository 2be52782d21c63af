"""Single-camera tracking: Ultralytics' ByteTrack or BoT-SORT, fed with our Detections and driven by seconds.

The library counts time in frames. Here a camera may run at 5 Hz, at 30 Hz or with holes, so this module turns seconds
into steps of the motion model and closes tracks by the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.detections import Detections
from detectors.quiet_ultralytics import house_rules

MOTION_STEP_S = 1 / 15
"""One step of the Kalman filter, whose noise figures are per step. A frame makes as many steps as fit into the time
since the last frame, at least one. IDF1 for one step per frame (what the library does by itself) and for steps of 1/10,
1/15, 1/20, 1/30 s: 25 Hz video thinned to 5 Hz .512 .657 .710 .735 .745, video of 7 Hz .722 .722 .806 .758 .754."""


@dataclass(frozen=True)
class TrackerSettings:
    """How boxes of one camera become tracks.

    method      association: `bytetrack` (Zhang et al., ECCV 2022) or `botsort` (Aharon et al., 2022) without camera
                motion and without appearance
    high_score  boxes from this score on take part in the first association, [0, 1]
    low_score   boxes between this and high_score may only continue a track (ByteTrack's second association), [0, 1]
    new_score   a box from this score on may start a track, [0, 1]; the second box in a row makes it one, except in the
                first frame, where the first box does
    min_iou     smallest overlap (IoU) between a box of the first association and where its track is expected, [0, 1]
    lost_s      a track not seen for this long is closed, seconds

    The defaults are one compromise for public clips with YOLO11n: PETS 2009 S2.L1 at 7 Hz, whole and cut into two
    views, and TUD-Campus at 25 Hz and thinned to 12.5 and 5 Hz, each also with boxes jittered and dropped. Points are
    the mean of HOTA and IDF1. high_score and low_score are the ByteTrack paper's; high_score .5 was 1.6 points worse.
    new_score .6 to .7, min_iou .2 to .3 and lost_s 1 to 3 are within a point; the library's new_score .25, which also
    follows still things that are no persons, was 4 points worse, lost_s .5 3.6, BoT-SORT 1.5.
    """

    method: Literal["bytetrack", "botsort"] = "bytetrack"
    high_score: float = 0.6
    low_score: float = 0.1
    new_score: float = 0.65
    min_iou: float = 0.25
    lost_s: float = 1.5

    def __post_init__(self) -> None:
        if self.method not in ("bytetrack", "botsort"):
            raise ValueError(f"method must be 'bytetrack' or 'botsort', got {self.method!r}")
        for name in ("high_score", "low_score", "new_score", "min_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not self.low_score <= self.high_score:
            raise ValueError(f"low_score {self.low_score} must not be above high_score {self.high_score}")
        if not 0 < self.lost_s < float("inf"):
            raise ValueError(f"lost_s must be positive and finite, got {self.lost_s}")


@dataclass(frozen=True, eq=False)
class Tracks:
    """The tracks seen in one frame.

    track_ids (N,) int64; boxes (N, 4) float32 xyxy px; scores (N,) float32. N may be 0.
    """

    track_ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.track_ids)


class CameraTracker:
    """The tracks of one camera.

    camera        its name, for messages
    new_track_id  gives every track a number that no other track of any camera or run has

    `update` wants rising time; a hole longer than `lost_s` closes every track.
    """

    def __init__(self, camera: str, settings: TrackerSettings, new_track_id: Callable[[], int]) -> None:
        self.camera, self.settings, self._new_track_id = camera, settings, new_track_id
        self._tracker = _library_tracker(settings)
        self._ids: dict[int, int] = {}  # the library's number -> ours, of the tracks that are open
        self._seen_s: dict[int, float] = {}  # the library's number -> when last seen
        self._closed: list[int] = []
        self._now_s = float("-inf")

    def update(self, index: int, time_s: float, image: NDArray[np.uint8] | None, detections: Detections) -> Tracks:
        """Take in the boxes of one frame and return the tracks seen in it.

        index, time_s  source frame number and site time in seconds; time_s must rise
        image          not looked at by the present methods; may be None

        Raises ValueError when time does not rise.
        """
        if not time_s > self._now_s:
            raise ValueError(f"camera {self.camera}: frame {index} at {time_s} s is not later than {self._now_s} s")
        if time_s - self._now_s > self.settings.lost_s:
            self._forget_all()
        self._move_on(time_s)
        self._tracker.update(_library_boxes(detections))
        seen = [track for track in self._tracker.tracked_stracks if track.is_activated]
        for track in seen:
            if track.track_id not in self._ids:
                self._ids[track.track_id] = self._new_track_id()
            self._seen_s[track.track_id] = time_s
        self._close_vanished()
        rows = [int(track.idx) for track in seen]
        return Tracks(
            np.array([self._ids[track.track_id] for track in seen], np.int64),
            detections.boxes[rows],
            detections.scores[rows],
        )

    def closed(self) -> list[int]:
        """The ids of the tracks closed since this was last asked."""
        closed, self._closed = self._closed, []
        return closed

    def finish(self) -> list[int]:
        """Close every track; returns the ids of all tracks closed since `closed` was last asked."""
        self._forget_all()
        return self.closed()

    def _move_on(self, time_s: float) -> None:
        """Let the motion model run up to one step before `time_s`, and drop what is lost for too long.

        The library makes the last step itself.
        """
        steps = 1 if self._now_s == float("-inf") else max(1, round((time_s - self._now_s) / MOTION_STEP_S))
        self._now_s = time_s
        tracker = self._tracker
        tracker.lost_stracks = [
            track for track in tracker.lost_stracks if time_s - self._seen_s[track.track_id] <= self.settings.lost_s
        ]
        moving = tracker.tracked_stracks + tracker.lost_stracks
        for _ in range(steps - 1):
            tracker.multi_predict(moving)

    def _close_vanished(self) -> None:
        alive = {track.track_id for track in self._tracker.tracked_stracks + self._tracker.lost_stracks}
        for number in [number for number in self._ids if number not in alive]:
            self._closed.append(self._ids.pop(number))
            del self._seen_s[number]

    def _forget_all(self) -> None:
        self._closed.extend(self._ids.values())
        self._ids.clear()
        self._seen_s.clear()
        self._tracker = _library_tracker(self.settings)


def _library_tracker(settings: TrackerSettings) -> Any:
    from types import SimpleNamespace

    house_rules()
    from ultralytics.trackers import BOTSORT, BYTETracker

    options = SimpleNamespace(
        track_high_thresh=settings.high_score,
        track_low_thresh=settings.low_score,
        new_track_thresh=settings.new_score,
        track_buffer=10**9,  # frames; tracks are closed by the clock instead
        match_thresh=1 - settings.min_iou,
        fuse_score=False,  # with the score in the cost, people at 5 Hz are lost more often (IDF1 .702 against .735)
        gmc_method="none",  # fixed cameras
        proximity_thresh=0.5,
        appearance_thresh=0.8,
        with_reid=False,
        model="auto",
    )
    make: Any = BOTSORT if settings.method == "botsort" else BYTETracker
    return make(options)


def _library_boxes(detections: Detections) -> Any:
    from ultralytics.engine.results import Boxes

    data = np.zeros((len(detections), 6), np.float32)
    data[:, :4], data[:, 4] = detections.boxes, detections.scores
    return Boxes(data, (1, 1))  # the size of the image matters to normalised boxes only
