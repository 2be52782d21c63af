"""Seven days of a 50-camera site at high speed: does anything grow that should not?

    python -m tests.benchmarks.bench_soak [--days 7] [--cameras 50] [--arrivals 1] [--json OUT]

Simulated workers say what a middling `SightingsWorld` of that size would give them (two words a stay, 128 dimensions,
broken tracks, late and repeated rows), through Streams, an active matcher and a server with an append-only file; only
pictures are left out, and all identities are looked at again for merges every hour instead of every ten minutes, which
otherwise is half of the time. Every six hours: resident memory of the matcher's process, persons remembered,
entries and bytes in Redis, bytes of its file, bytes of a worker's outbox.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from redis_servers import running  # noqa: E402

from pipeline.matching_area import MatchingArea  # noqa: E402
from pipeline.messages import Mark, WorkerSaid, packed_said  # noqa: E402
from pipeline.outbox import Outbox  # noqa: E402
from pipeline.worker import stream_of  # noqa: E402
from st_model.counts import Axes  # noqa: E402
from st_model.sightings import Sighting  # noqa: E402
from st_model.sightings_world import SightingsWorld, world_settings  # noqa: E402
from st_model.store import Store  # noqa: E402
from tests.benchmarks.bench_streams import Workers, config_of, memory_mb  # noqa: E402

HOUR_S, DAY_S = 3600.0, 86400.0
CHUNK_S = 300.0


def chunks_of(world: SightingsWorld, days: float) -> Iterator[list[Sighting]]:
    """What is said in each `CHUNK_S`; cameras named c0, c1, ..."""
    rows = (seen.sighting for seen in world.observations())
    row = next(rows, None)
    for chunk in range(int(days * DAY_S / CHUNK_S)):
        out = []
        while row is not None and row.emitted_s < (chunk + 1) * CHUNK_S:
            out.append(replace(row, camera=f"c{int(row.camera[1:])}"))
            row = next(rows, None)
        yield out


def rss_mb() -> float:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return math.nan


def folder_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def soak(url: str, folder: Path, cameras: int, arrivals: float, days: float) -> dict[str, Any]:
    config = config_of(url, "soak", cameras)
    config = config.model_copy(update={"match": replace(config.match, merge_every_s=HOUR_S)})
    store = Store(url, config.site_name, axes=Axes.of(config.tables), timeout_s=60)
    workers = Workers(config, store)
    stream = stream_of(store, config, "area0", "m")
    area = MatchingArea(config, stream, stream.lease())
    outbox = Outbox(folder / "outbox")
    settings = replace(world_settings("middle", cameras, days * DAY_S), arrivals_per_hour=arrivals)
    world = SightingsWorld(settings, seed=5)
    samples: list[dict[str, Any]] = []
    sightings, begin_s, empty_mb = 0, time.perf_counter(), memory_mb(store)
    every = int(6 * HOUR_S / CHUNK_S)
    for chunk, rows in enumerate(chunks_of(world, days)):
        until_s = (chunk + 1) * CHUNK_S
        by_worker: dict[str, list[Sighting]] = defaultdict(list)
        for row in rows:
            by_worker[workers.of[row.camera]].append(row)
        for n, worker in enumerate(workers.cameras):
            for start in range(0, max(len(by_worker[worker]), 1), 20):
                some = by_worker[worker][start : start + 20]
                last = start + 20 >= len(by_worker[worker])
                workers.say(worker, some, until_s if last else some[-1].emitted_s)
                if n == 0:  # one of them keeps an outbox, as every worker does
                    number = workers.number[worker]
                    said = WorkerSaid(worker, "soak", number, "stripes", {"c0": Mark(until_s)}, some)
                    outbox.append(number, packed_said(said))
                    outbox.taken(number)
        sightings += len(rows)
        while area.listening.until_s < until_s:
            turn = area.step(most=1000, wait_s=0.01)
            if turn is not None:
                area.stored(turn, stream.store_turn(area.fence, turn)[0])
                area.tally.clear()
        area.news()
        if (chunk + 1) % every == 0:
            lengths = stream.lengths()
            samples.append(
                {
                    "day": round(until_s / DAY_S, 2),
                    "sightings": sightings,
                    "rss_mb": round(rss_mb(), 1),
                    "people": len(area.matcher.state.gallery),
                    "redis_mb": round(memory_mb(store) - empty_mb, 1),
                    "redis_file_mb": round(folder_mb(folder / "redis"), 1),
                    "waiting": lengths["sightings"],
                    "decisions_kept": lengths["decisions"],
                    "outbox_mb": round(folder_mb(folder) - folder_mb(folder / "redis"), 2),
                    "seconds": round(time.perf_counter() - begin_s, 1),
                }
            )
            print(json.dumps(samples[-1]), flush=True)
    second_half = [s for s in samples if s["day"] > days / 2]
    slope = float(np.polyfit([s["day"] for s in second_half], [s["rss_mb"] for s in second_half], 1)[0])
    return {"samples": samples, "rss_mb_per_day": round(slope, 2), "late": area.listening.late}


def main() -> None:
    """Soak and, with --json, write what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--cameras", type=int, default=50)
    parser.add_argument("--arrivals", type=float, default=1.0, help="parties per gate and hour")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "redis").mkdir()
        with running("embedded", folder / "redis", "--appendfsync", "everysec") as url:
            result = soak(url, folder, given.cameras, given.arrivals, given.days)
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()}
    settings = {"days": given.days, "cameras": given.cameras, "arrivals_per_gate_and_hour": given.arrivals}
    if given.json:
        text = json.dumps({"benchmark": "soak", "machine": machine, **settings, **result}, indent=1)
        given.json.write_text(text + "\n")
    print(f"resident memory over the second half: {result['rss_mb_per_day']:+.2f} MB a day")


if __name__ == "__main__":
    main()
