"""What drawing and hiding cost against encoding alone, on the same frames, in the same process, turn by turn.

    python -m tests.benchmarks.bench_video [--json OUT] [--rounds N] [--rendered]

`$IDENTRIX_DATA/vcam_dev` when it is there, else (or with `--rendered`) a rendered site; one run with the weights-free
detector gives the boxes. Each round measures milliseconds per camera frame: decoding alone, decoding and encoding each
camera, the same with everything drawn on it, the same with the mosaic and its strip (what a run writes), and that with
people hidden in each way. Figures are medians over the rounds; `x_encode_cpu` is CPU time over that of encoding.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.annotate import Image
from pipeline.config import Config
from pipeline.render import _scribes, render_videos
from pipeline.runner import run, source_of
from pipeline.sources import Frame, read_together
from pipeline.tracks_table import read_assignments, read_tracks
from pipeline.video import VideoWriter
from tests.benchmarks.bench_pipeline import sources, timed

WAYS = ("none", "heads", "faces", "bodies")


def finished_run(work: Path, rendered: bool) -> tuple[Path, Config]:
    config = sources([], rendered, work)
    light = {"model": "motion"}, {"encoder": "stripes"}
    plain = config.model_copy(
        update={
            "detector": config.detector.model_copy(update=light[0]),
            "reid": config.reid.model_copy(update=light[1]),
            "output": config.output.model_copy(update={"video": False, "plots": False}),
        }
    )
    run(plain, work / "run", fresh=True)
    return work / "run", plain


def each_camera(config: Config, folder: Path, picture: Callable[[Frame], Image] | None) -> None:
    """Decode all cameras, and encode what `picture` makes of each frame; None: decode only."""
    writers: dict[str, VideoWriter] = {}
    with read_together([source_of(camera) for camera in config.cameras]) as cameras:
        for batch in cameras:
            for frame in batch:
                if picture is None:
                    continue
                if frame.camera not in writers:
                    writers[frame.camera] = VideoWriter(folder / f"{frame.camera}.mp4")
                writers[frame.camera].write(picture(frame), frame.time_s)
    for writer in writers.values():
        writer.close()


def hide(folder: Path, how: str) -> None:
    facts = json.loads((folder / "run.json").read_text())
    facts["config"]["privacy"] = {**facts["config"].get("privacy", {}), "blur": how}
    (folder / "run.json").write_text(json.dumps(facts))


def one_round(folder: Path, config: Config, work: Path, frames: int) -> dict[str, float]:
    out: dict[str, float] = {}

    def note(name: str, measured: tuple[float, float]) -> None:
        out[f"{name}_wall_ms"], out[f"{name}_cpu_ms"] = (1000 * seconds / frames for seconds in measured)

    hide(folder, "none")
    note("decode", timed(lambda: each_camera(config, work, None)))
    note("encode", timed(lambda: each_camera(config, work, lambda frame: frame.image)))
    tables = read_tracks(folder), read_assignments(folder / "assignments.csv")
    scribes = _scribes(folder, [camera.name for camera in config.cameras], *tables)
    note("overlay", timed(lambda: each_camera(config, work, lambda frame: scribes[frame.camera].draw(frame))))
    for how in WAYS:
        hide(folder, how)
        note(f"mosaic_{how}", timed(lambda: render_videos(folder, [source_of(camera) for camera in config.cameras])))
    encode_ms = out["encode_cpu_ms"]
    return out | {f"{n[:-7]}_x_encode_cpu": v / encode_ms for n, v in out.items() if n.endswith("_cpu_ms")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rendered", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder, config = finished_run(work, arguments.rendered)
        facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
        frames = facts["counters"]["camera_frames"]
        rounds = [one_round(folder, config, work / "video", frames) for _ in range(arguments.rounds)]
    figures = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    for name, figure in figures.items():
        print(f"{name:28s} {figure:8.2f}   ({min(r[name] for r in rounds):.2f} .. {max(r[name] for r in rounds):.2f})")
    result = {
        "benchmark": "video",
        "machine": {"cpu_count": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "cameras": {name: state["size"] for name, state in facts["cameras"].items()},
        "camera_frames": frames,
        "rounds": arguments.rounds,
        "figures": figures,
    }
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
