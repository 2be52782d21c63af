"""From tracks to sightings: keeps the best crops of every stay, says when it is due, embeds all that is due at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.sources import Frame
from pipeline.tracking import Tracks
from reid.branches import mean_weights, weighed
from reid.crops import Crop, KeyCrops, mean_embedding, overlap_with_others
from reid.faces import SeenFace, face_of
from st_model.sightings import Sighting

Encode = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]
ReadFaces = Callable[[Sequence[NDArray[np.uint8]]], list[SeenFace | None]]


@dataclass
class Stay:
    """One stay in progress (the only mutable thing here: it lives as long as its track)."""

    camera: str
    track_id: int
    entered_s: float
    first_box: NDArray[np.float32]
    keeper: KeyCrops
    last_s: float
    last_box: NDArray[np.float32]
    spoken: bool = False
    embedded: dict[Crop, NDArray[np.float32]] = field(default_factory=dict)
    faces: dict[Crop, SeenFace | None] = field(default_factory=dict)
    weights: dict[Crop, NDArray[np.float32]] = field(default_factory=dict)


@dataclass
class StayWatch:
    """The stays in progress of one camera.

    first_after_s  a stay speaks for the first time when it is this old (or when it closes earlier)
    max_crops      crops kept per stay
    """

    camera: str
    first_after_s: float
    max_crops: int
    _open: dict[int, Stay] = field(default_factory=dict)

    def observe(self, frame: Frame, tracks: Tracks) -> list[Stay]:
        """Look at the tracks of a frame; returns the stays that are now due to speak for the first time."""
        overlaps = overlap_with_others(tracks.boxes)
        for row, track_id in enumerate(tracks.track_ids.tolist()):
            box = tracks.boxes[row]
            stay = self._open.get(track_id)
            if stay is None:
                stay = Stay(self.camera, track_id, frame.time_s, box, KeyCrops(self.max_crops), frame.time_s, box)
                self._open[track_id] = stay
            stay.last_s, stay.last_box = frame.time_s, box
            stay.keeper.offer(frame.image, box, frame.time_s, float(tracks.scores[row]), float(overlaps[row]))
        return [
            stay
            for stay in self._open.values()
            if not stay.spoken and frame.time_s - stay.entered_s >= self.first_after_s and stay.keeper.best()
        ]

    def close(self, track_ids: Iterable[int]) -> list[Stay]:
        """Forget these tracks; returns their stays, each due for its last word (those without any crop say nothing)."""
        stays = [self._open.pop(track_id) for track_id in track_ids if track_id in self._open]
        return [stay for stay in stays if stay.keeper.best()]


class Due(NamedTuple):
    """A stay that is to speak: for the last time or not, and at which site time, seconds."""

    stay: Stay
    closed: bool
    emitted_s: float


def sightings(due: Sequence[Due], encode: Encode, read_faces: ReadFaces | None = None) -> list[Sighting]:
    """Embed all crops that were not embedded before in one batch, and say one Sighting for each that is due.

    encode      an encoder; where it has branches (`reid.branches`), sightings say which one spoke
    read_faces  finds and embeds the faces in crops, where faces are asked for
    """
    fresh = [(stay, crop) for stay, _, _ in due for crop in stay.keeper.best() if crop not in stay.embedded]
    if fresh:
        embeddings, weights = weighed(encode, [crop.image for _, crop in fresh])
        for n, (stay, crop) in enumerate(fresh):
            stay.embedded[crop] = embeddings[n]
            if weights is not None:
                stay.weights[crop] = weights[n]
        if read_faces is not None:
            for (stay, crop), face in zip(fresh, read_faces([crop.image for _, crop in fresh]), strict=True):
                stay.faces[crop] = face
    return [_sighting(*item) for item in due]


def _sighting(stay: Stay, closed: bool, emitted_s: float) -> Sighting:
    crops = stay.keeper.best()
    qualities = np.array([crop.quality for crop in crops], np.float32)
    embedding = mean_embedding(np.stack([stay.embedded[crop] for crop in crops]), qualities)
    stay.embedded = {crop: stay.embedded[crop] for crop in crops}
    stay.faces = {crop: stay.faces[crop] for crop in crops if crop in stay.faces}
    stay.weights = {crop: stay.weights[crop] for crop in crops if crop in stay.weights}
    stay.spoken = True
    return Sighting(
        camera=stay.camera,
        track_id=stay.track_id,
        entered_s=stay.entered_s,
        last_s=stay.last_s,
        emitted_s=max(emitted_s, stay.last_s),
        closed=closed,
        embedding=embedding,
        n_crops=len(crops),
        quality=float(qualities.mean()),
        first_box=stay.first_box.copy(),
        last_box=stay.last_box.copy(),
        face=face_of(list(stay.faces.values())),
        branch_weights=mean_weights(np.stack(list(stay.weights.values())), qualities) if stay.weights else None,
    )
