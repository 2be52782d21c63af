"""Pictures of who was found by `search`: cut from the source videos, if they are still there. Written only when asked.

What a run hides in its videos (`privacy.blur`, people who were forgotten) is hidden here, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import output_error
from pipeline.blur import hiders
from pipeline.journal import read_facts
from pipeline.schema import Camera
from pipeline.search import Found
from pipeline.sources import SourceError, read_frames
from pipeline.tracks_table import read_tracks
from reid.crops import cut_out


@dataclass(frozen=True)
class Wanted:
    """One picture to cut: the box (4,) xyxy px of a stay in a 1-based source frame."""

    frame: int
    box: NDArray[np.float32]
    file: Path


def write_crops(run: Path, found: Sequence[Found], folder: Path) -> tuple[list[Path], list[str]]:
    """One picture per person, of the most similar stay: (files written, why others were not).

    Raises OutputError.
    """
    import cv2

    wanted = _wanted(run, found, folder)
    cameras = {c["name"]: c for c in read_facts(run).get("config", {}).get("cameras", ())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    hidden = hiders(run, list(wanted))
    written, problems = [], []
    for camera, pictures in wanted.items():
        try:
            left = _cut(Camera(**cameras[camera]) if camera in cameras else None, pictures, hidden[camera])
        except SourceError as error:
            problems.append(str(error))
            continue
        for picture, crop in left:
            ok, coded = cv2.imencode(".jpg", crop)
            if not ok:
                continue
            try:
                picture.file.write_bytes(coded.tobytes())
            except OSError as error:
                raise output_error(picture.file, error) from error
            written.append(picture.file)
        if len(left) < len(pictures):
            problems.append(f"camera {camera}: {len(pictures) - len(left)} pictures are no longer in its video")
    return sorted(written), problems


def _wanted(run: Path, found: Sequence[Found], folder: Path) -> dict[str, list[Wanted]]:
    """The best box of each person's most similar stay, by camera, in order of frames."""
    tracks = read_tracks(run)
    names = tracks["camera"].to_numpy(zero_copy_only=False)
    numbers = tracks["track_id"].to_numpy()
    by_camera: dict[str, list[Wanted]] = defaultdict(list)
    for rank, person in enumerate(found, 1):
        stay = person.stays[0]
        rows = np.flatnonzero((numbers == stay.track_id) & (names == stay.camera))
        if not len(rows):
            continue
        own = tracks.take(rows)
        boxes = np.stack([own[side].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=1).astype(np.float32)
        tall = (boxes[:, 3] - boxes[:, 1]) * own["score"].to_numpy()
        inner = slice(len(rows) // 5, len(rows) - len(rows) // 5)  # people are cut by the border where they come and go
        best = inner.start + int(np.argmax(tall[inner]))
        frame, when = int(own["frame"][best].as_py()), float(own["time_s"][best].as_py())
        file = folder / f"{rank:02d} P{person.global_id} {stay.camera} {when:.1f}s.jpg"
        by_camera[stay.camera].append(Wanted(frame, boxes[best], file))
    return {camera: sorted(wanted, key=lambda w: w.frame) for camera, wanted in by_camera.items()}


def _cut(camera: Camera | None, wanted: Sequence[Wanted], hidden: object) -> list[tuple[Wanted, NDArray[np.uint8]]]:
    """The crops that the camera's video still has. Raises SourceError."""
    from pipeline.runner import source_of

    if camera is None:
        return []
    source = source_of(camera)
    if source.live:
        raise SourceError(f"camera {camera.name}: a live source cannot be read again")
    crops: list[tuple[Wanted, NDArray[np.uint8]]] = []
    waiting = list(wanted)
    with closing(read_frames(source)) as frames:
        for frame in frames:
            while waiting and waiting[0].frame < frame.index + 1:
                waiting.pop(0)
            if not waiting:
                break
            due = [w for w in waiting if w.frame == frame.index + 1]
            if due:
                image = hidden.hide(frame.image, frame.time_s)  # type: ignore[attr-defined]
                crops += [(w, cut_out(image, w.box).copy()) for w in due if cut_out(image, w.box).size]
    return crops
