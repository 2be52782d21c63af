"""How fast the whole path is against detection alone, on the same frames, in the same process, turn by turn.

    python -m tests.benchmarks.bench_pipeline [--json OUT] [--rounds N] [--source NAME=FILE ... | --rendered]

Without sources: `$IDENTRIX_DATA/vcam_dev` when it is there, else (or with `--rendered`) a rendered site with the
weights-free detector.
The whole path writes everything, videos included. Each round measures, on equal frames: decoding alone, detection alone
(frames decoded before), drawing and video encoding alone, and the whole. Figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config import Config, load_config
from pipeline.engines import load_engines
from pipeline.runner import run, source_of
from pipeline.sources import Frame, read_together
from pipeline.video import VideoWriter


def sources(given: list[str], rendered: bool, work: Path) -> Config:
    """The cameras to measure on; no Redis state survives."""
    extra: dict[str, Any] = {"site": "bench", "redis.state_dir": str(work / "state")}
    footage = Path(os.environ.get("IDENTRIX_DATA", "")) / "vcam_dev" / "videos"
    if given or (footage.is_dir() and not rendered):
        return load_config(sources=given or [f"{name}={footage / name}.mp4" for name in "ab"], extra=extra)
    from pipeline.world import render_world, world_config

    world = render_world(work / "world", seed=3, cameras=3, duration_s=30.0)
    cameras = [{"name": c["name"], "source": c["uri"]} for c in world_config(world)["cameras"]]
    return load_config(extra={**extra, "cameras": cameras, "detector.model": "motion", "reid.encoder": "stripes"})


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(wall seconds, CPU seconds of this process)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def one_round(config: Config, batches: list[list[Frame]], detector: Any, work: Path, number: int) -> dict[str, float]:
    """Every figure once: wall and CPU milliseconds per camera frame."""
    frames = sum(map(len, batches))
    out: dict[str, float] = {}

    def note(name: str, measured: tuple[float, float]) -> None:
        out[f"{name}_wall_ms"], out[f"{name}_cpu_ms"] = (1000 * seconds / frames for seconds in measured)

    note("decode", timed(lambda: read_all(config)))
    note("detect_alone", timed(lambda: [detect(detector, batch) for batch in batches]))
    note("video_encode", timed(lambda: encode(batches, work / f"encode-{number}")))
    folder = work / f"run-{number}"
    note("whole", timed(lambda: run(config, folder, fresh=True)))
    summary = json.loads((folder / "run.json").read_text())
    for stage, ms in summary["speed"]["wall_ms_per_camera_frame"].items():
        out[f"stage_{stage}_wall_ms"] = ms
    out["ratio_wall"] = out["detect_alone_wall_ms"] / out["whole_wall_ms"]
    out["ratio_cpu"] = out["detect_alone_cpu_ms"] / out["whole_cpu_ms"]
    return out


def read_all(config: Config) -> list[list[Frame]]:
    with read_together([source_of(camera) for camera in config.cameras]) as cameras:
        return list(cameras)


def detect(detector: Any, batch: list[Frame]) -> object:
    return detector([f.camera for f in batch], [f.index for f in batch], [f.image for f in batch])


def encode(batches: list[list[Frame]], folder: Path) -> None:
    writers: dict[str, VideoWriter] = {}
    for batch in batches:
        for frame in batch:
            if frame.camera not in writers:
                writers[frame.camera] = VideoWriter(folder / f"{frame.camera}.mp4").__enter__()
            writers[frame.camera].write(frame.image, frame.time_s)
    for writer in writers.values():
        writer.__exit__(None, None, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--source", action="append", default=[])
    where.add_argument("--rendered", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        config = sources(arguments.source, arguments.rendered, work)
        batches = read_all(config)
        detector = load_engines(config).detector
        detect(detector, batches[0])  # warm
        rounds = [one_round(config, batches, detector, work, n) for n in range(arguments.rounds + 1)][1:]
    names = rounds[0].keys()
    figures = {
        name: {
            "median": statistics.median(r[name] for r in rounds),
            "min": min(r[name] for r in rounds),
            "max": max(r[name] for r in rounds),
        }
        for name in names
    }
    for name, figure in figures.items():
        print(f"{name:30s} {figure['median']:9.3f}   ({figure['min']:.3f} .. {figure['max']:.3f})")
    result = {
        "benchmark": "pipeline",
        "machine": {"cpu_count": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "detector": config.detector.model,
        "encoder": config.reid.encoder,
        "camera_frames": sum(map(len, batches)),
        "rounds": arguments.rounds,
        "frames_per_second_whole": 1000 / figures["whole_wall_ms"]["median"],
        "frames_per_second_detection_alone": 1000 / figures["detect_alone_wall_ms"]["median"],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "figures": figures,
    }
    print(f"peak memory {result['peak_memory_mib']:.0f} MiB")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
