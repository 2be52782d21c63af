"""The demo: render a small site whose truth is known, run the whole path on it, score it. No network, no weights."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import output_error
from pipeline.config import ConfigError, load_config
from pipeline.evaluation import evaluate, score_table
from pipeline.outputs import check_writable
from pipeline.runner import run
from pipeline.world import render_world, world_config

_PARTS = ("site", "run", "state")


@dataclass(frozen=True)
class DemoResult:
    """Scores (as `evaluate` gives them), a table of them for the terminal, and lines that say where to look."""

    scores: dict[str, Any]
    table: object
    lines: tuple[str, ...]
    interrupted: bool


def run_demo(
    out: Path,
    *,
    seed: int = 7,
    cameras: int = 3,
    people: int = 12,
    duration_s: float = 160.0,
    animation: Path | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
) -> DemoResult:
    """Render into `out/site`, run into `out/run`, evaluate. What an earlier demo left there is replaced.

    The run is the ordinary one: motion detection and `stripes` instead of networks, because these need no weights.
    A run that was stopped has no scores. `animation`: where to write a short animated WebP of its middle.
    Raises KeyboardInterrupt when stopped while rendering, ConfigError when `out`
    holds folders of somebody else, OutputError when it cannot be written.
    """
    _clear(out)

    def rendered(camera: str, done: int, frames: int) -> None:
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        on_progress(f"rendering {camera}", done, frames)

    import av

    try:
        world = render_world(
            out / "site", seed=seed, cameras=cameras, people=people, duration_s=duration_s, progress=rendered
        )
    except (OSError, av.FFmpegError) as error:
        raise output_error(out / "site", error) from error
    watched = [
        {"name": camera["name"], "source": camera["uri"], "offset_s": camera["offset_s"]}
        for camera in world_config(world)["cameras"]
    ]
    config = load_config(
        extra={
            "site": "demo",
            "cameras": watched,
            "detector.model": "motion",
            "reid.encoder": "stripes",
            "redis.state_dir": str((out / "state").resolve()),
        }
    )
    result = run(config, out / "run", fresh=True, stop=stop, on_progress=on_progress)
    if result.interrupted:
        return DemoResult({}, "", (f"stopped; what was seen until then is in {result.folder}",), True)
    scores = evaluate(
        result.folder,
        world.truth_dir,
        offset_frames={camera.name: round(camera.offset_s * world.fps) for camera in world.cameras},
    )
    if animation is not None:
        _animate(result.folder / "video" / "mosaic.mp4", animation, duration_s)
    lines = (
        f"{world.people} people walked {len(world.hand_overs)} times between {len(world.cameras)} cameras.",
        f"videos      {result.folder / 'video' / 'mosaic.mp4'} and one per camera beside it",
        f"pictures    {result.folder / 'plots'}",
        f"tables      {result.folder / 'tracks.csv'}, transitions.csv, decisions.jsonl",
        f"truth       {world.truth_dir}",
    )
    return DemoResult(scores, score_table(scores), lines, False)


def _animate(video: Path, out: Path, duration_s: float) -> None:
    from pipeline.animation import write_animation

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    begin_s = 0.4 * duration_s  # people are everywhere, and some come from another camera
    length_s = min(15.0, duration_s - begin_s)
    write_animation(video, out, begin_s=begin_s, length_s=length_s, fps=8, width=840, most_bytes=2_000_000)


def _clear(out: Path) -> None:
    """Remove what an earlier demo left in `out`, and nothing else."""
    mark = out / ".identrix-demo"
    if not mark.exists() and (foreign := [part for part in _PARTS if (out / part).exists()]):
        raise ConfigError(f"--out {out}: it has a folder {foreign[0]!r} that is not of a demo; name another folder")
    check_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    mark.touch()
    for part in _PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
