"""Videos of a run in which somebody was forgotten: drawn again with grey boxes, blanked where that cannot be, or
removed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.atomic import output_error
from pipeline.hidden_boxes import HOLD_S, StayBoxes, read_erased_boxes
from pipeline.journal import read_facts
from pipeline.redraw import draw_videos, sources_are_here

AFTER_S = 6.0  # longer than trails and lines about hand-overs stay in a picture
log = logging.getLogger(__name__)


def forget_in_videos(
    run_dir: Path, *, remove: bool, on_progress: Callable[[str, float, float | None], None]
) -> str | None:
    """Take whoever was forgotten out of the videos; what was done, None when there are none. May be done twice.

    Where the sources are at hand, all videos are drawn again from them, the person painted over. Where they are not,
    each camera's video turns grey as long as the person was in it or written on it, and the mosaic, which shows all at
    once, is removed. A video that cannot be read is removed. Raises OutputError.
    """
    folder = run_dir / "video"
    if not folder.is_dir():
        return None
    if remove:
        _remove(folder)
        (run_dir / "erased_boxes.parquet").unlink(missing_ok=True)
        return "removed"
    if sources_are_here(run_dir):
        try:
            draw_videos(run_dir, on_progress)
            return "drawn again"
        except ValueError as error:
            log.warning("%s", error)
    erased = read_erased_boxes(run_dir) or {}
    starts_s = read_facts(run_dir).get("video_start_s", {})
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        camera = path.stem
        if path.suffix == ".mp4" and camera in starts_s and camera != "mosaic" and path.parent == folder:
            if erased.get(camera):
                _blank(path, float(starts_s[camera]), erased[camera])
        else:
            path.unlink(missing_ok=True)
    return "blanked"


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise output_error(path, error) from error


def _blank(path: Path, start_s: float, stays: list[StayBoxes]) -> None:
    """Write a video again, grey where the person was."""
    import av

    from pipeline.video import VideoWriter

    spans = [(stay.times_s[0] - HOLD_S, stay.times_s[-1] + HOLD_S + AFTER_S) for stay in stays]
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
