"""Videos of a run in which somebody was forgotten: drawn again with grey boxes, blanked where that cannot be, or
removed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import output_error
from pipeline.hidden_boxes import ERASED_FILE, HOLD_S, StayBoxes, read_erased_boxes
from pipeline.journal import read_facts
from pipeline.redraw import draw_videos, sources_are_here
from pipeline.segments import begin_of

AFTER_S = 6.0  # longer than trails and lines about hand-overs stay in a picture
log = logging.getLogger(__name__)


def forget_in_videos(
    run_dir: Path, *, remove: bool, on_progress: Callable[[str, float, float | None], None]
) -> str | None:
    """Take whoever was forgotten out of the videos; what was done, None when there are none. May be done twice.

    Where the sources are at hand, all videos are drawn again from them, the person painted over. Where they are not
    (live cameras), each camera's video turns grey as long as the person was in it or written on it, and the mosaic of
    that time, which shows all at once, is removed. A video that cannot be read is removed. Raises OutputError.
    """
    folder = video_folder(run_dir)
    if not folder.is_dir():
        return None
    if remove:
        _remove(folder)
        (run_dir / ERASED_FILE).unlink(missing_ok=True)
        return "removed"
    if folder == run_dir / "video" and sources_are_here(run_dir):
        try:
            draw_videos(run_dir, on_progress)
            return "drawn again"
        except ValueError as error:
            log.warning("%s", error)
    _blank_all(folder, read_erased_boxes(run_dir) or {}, read_facts(run_dir).get("video_start_s", {}))
    return "blanked"


def video_folder(run_dir: Path) -> Path:
    """Where the videos of a run are; those of a part of a long run are the whole run's."""
    whole = run_dir.parent.parent if run_dir.parent.name == "parts" else run_dir
    return (whole if not (run_dir / "video").is_dir() else run_dir) / "video"


def _blank_all(folder: Path, erased: dict[str, list[StayBoxes]], starts_s: dict[str, Any]) -> None:
    """`video/<camera>.mp4`, or segments `video/<camera>/<begin>.mp4` of a live run; anything else is removed."""
    spans = {camera: [_span(stay) for stay in stays] for camera, stays in erased.items()}
    spans["mosaic"] = [span for camera in erased for span in spans[camera]]
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        segment = path.parent.parent == folder
        camera = path.parent.name if segment else path.stem
        start_s = begin_of(path) if segment else starts_s.get(camera)
        if path.suffix != ".mp4" or start_s is None:
            path.unlink(missing_ok=True)
            continue
        length_s = _length_s(path)
        if length_s is None:
            log.warning("%s cannot be read and is removed", path)
            path.unlink(missing_ok=True)
        elif any(
            first <= float(start_s) + length_s and last >= float(start_s) for first, last in spans.get(camera, ())
        ):
            if camera == "mosaic":
                path.unlink(missing_ok=True)
            else:
                _blank(path, float(start_s), spans[camera])


def _span(stay: StayBoxes) -> tuple[float, float]:
    """When somebody is in a picture or written on it; names of segments are rounded to a second."""
    return float(stay.times_s[0]) - HOLD_S - 1.0, float(stay.times_s[-1]) + HOLD_S + AFTER_S


def _length_s(path: Path) -> float | None:
    """Seconds of a video, None when it cannot be read."""
    import av

    try:
        with av.open(str(path)) as container:
            return float(container.duration or 0) / av.time_base
    except (OSError, av.FFmpegError):
        return None


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise output_error(path, error) from error


def _blank(path: Path, start_s: float, spans: list[tuple[float, float]]) -> None:
    """Write a video again, grey where the person was."""
    import av

    from pipeline.video import VideoWriter

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with av.open(str(path)) as container, VideoWriter(temporary) as writer:
            for frame in container.decode(video=0):
                image = frame.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
                time_s = start_s + float(frame.time or 0.0)
                if any(first <= time_s <= last for first, last in spans):
                    image = np.full_like(image, 96)
                writer.write(image, time_s)
        temporary.replace(path)
    except av.FFmpegError as error:
        log.warning("%s cannot be read again (%s) and is removed", path, error)
        temporary.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
