"""Drawing the videos of a finished run again, after its ids were corrected, from the sources it was made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.journal import read_facts
from pipeline.run_edit import EditError, check_finished, locked
from pipeline.schema import Camera
from pipeline.sources import Source

Progress = Callable[[str, float, float | None], None]


def is_stale(run_dir: Path) -> bool:
    """Whether the run has videos that are older than its ids."""
    ids, videos = run_dir / "assignments.csv", list((run_dir / "video").glob("*.mp4"))
    return bool(videos) and min(video.stat().st_mtime for video in videos) < ids.stat().st_mtime


def redraw(run_dir: Path, on_progress: Progress = lambda stage, done, total: None) -> Sequence[Path]:
    """Write the videos again with the ids as they are now; returns their paths.

    Who was forgotten stays a grey box. Raises EditError when the sources are not where they were, PrivacyError,
    OutputError, JournalError.
    """
    check_finished(run_dir)
    sources = sources_of(run_dir)
    missing = [source.camera for source in sources if not Path(source.uri).is_file()]
    if missing or not sources:
        raise EditError(f"{run_dir}: the sources of {', '.join(missing) or 'its cameras'} are not where they were")
    with locked(run_dir):
        return draw_videos(run_dir, on_progress)


def sources_are_here(run_dir: Path) -> bool:
    """Whether every camera of the run can be read again."""
    cameras = read_facts(run_dir).get("config", {}).get("cameras", [])
    sources = sources_of(run_dir)
    return len(sources) == len(cameras) > 0 and all(Path(source.uri).is_file() for source in sources)


def draw_videos(run_dir: Path, on_progress: Progress) -> Sequence[Path]:
    """Write the videos from the sources. Call it under the run's lock. Raises EditError, PrivacyError, OutputError."""
    from pipeline.render import render_videos

    facts = read_facts(run_dir)
    last_s = [camera.get("last_s") for camera in facts.get("cameras", {}).values()]
    until_s = max((s for s in last_s if s is not None), default=math.inf)
    frames = facts.get("counters", {}).get("camera_frames")
    videos = render_videos(
        run_dir, sources_of(run_dir), until_s=until_s, on_progress=lambda n: on_progress("drawing videos", n, frames)
    )
    if videos.errors:
        raise EditError("\n".join(videos.errors.values()))
    return videos.paths


def sources_of(run_dir: Path) -> list[Source]:
    """The files a run was made of, as it read them; live sources are left out. Raises EditError."""
    from pipeline.runner import source_of

    facts = read_facts(run_dir)
    failed = facts.get("failed_cameras", {})
    try:
        cameras = [Camera.model_validate(camera) for camera in facts.get("config", {}).get("cameras", [])]
    except ValidationError as error:
        raise EditError(f"{run_dir / 'run.json'}: its cameras cannot be read: {error.errors()[0]['msg']}") from None
    found = [source_of(camera) for camera in cameras if camera.name not in failed]
    return [source for source in found if not source.live]
