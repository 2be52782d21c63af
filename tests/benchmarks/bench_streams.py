"""Sightings per second through Streams and matcher for 1 to 1000 simulated cameras, latency, two matchers, memory.

    python -m tests.benchmarks.bench_streams [--cameras 1 10 100 1000] [--sightings 4000] [--seconds 20] [--json OUT]

`drain`    workers have said everything before a matcher starts: how fast it decides, and where its time goes; CPU
           milliseconds tell what a busy machine's wall clock hides
`two`      the same cameras as two areas with a matcher process each, against one area with one
`crossing` two areas once more, in four ways: nobody hears of the others; everybody does, and nobody crosses; everybody
           walks from one area into the other; and the latter in one area
`live`     workers say sightings as they happen: seconds from saying a stay's first word to reading its decision
           back; the window of 1 s and the 0.25 s between two words of a silent camera are part of it
People walk along a ring of cameras; embeddings have 128 dimensions. Everything shares this machine's cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from redis_servers import any_server  # noqa: E402

from pipeline.config import Camera, Config, load_match_config  # noqa: E402
from pipeline.match import match  # noqa: E402
from pipeline.matching_area import MatchingArea  # noqa: E402
from pipeline.messages import Mark, WorkerSaid, packed_said  # noqa: E402
from pipeline.worker import stream_of  # noqa: E402
from st_model.counts import Axes  # noqa: E402
from st_model.sightings import Sighting  # noqa: E402
from st_model.site_stream import Message, SiteStream  # noqa: E402
from st_model.store import Store  # noqa: E402

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pipeline.match", "pipeline.worker"])
DIM = 128
PER_WORKER = 16  # cameras
LIVE_PER_CAMERA = {1: 2.0, 10: 1.0, 100: 0.5, 1000: 0.1}  # sightings per second


def config_of(
    url: str, site: str, cameras: int, areas: int = 1, neighbours: dict[str, tuple[str, ...]] | None = None
) -> Config:
    base = load_match_config({"site": site, "redis": {"url": url}, "reid": {"encoder": "stripes"}})
    named = tuple(Camera(name=f"c{n}", source=f"{n}.mp4", area=f"area{n % areas}") for n in range(cameras))
    streams = {"most_sightings": 10**6, "most_decisions": 10**5, "patience_s": 600, "neighbours": neighbours}
    return Config.model_validate({**base.model_dump(), "cameras": named, "streams": streams})


def walkers(cameras: int, sightings: int, per_second: float, seed: int = 1) -> list[Sighting]:
    """Two words about each stay of people who walk along a ring of cameras, in order of `emitted_s`."""
    rng = np.random.default_rng(seed)
    rows: list[Sighting] = []
    people = max(1, sightings // 10)
    span_s = sightings / per_second
    for person in range(people):
        look = rng.standard_normal(DIM)
        t, at = float(rng.uniform(0, span_s)), int(rng.integers(cameras))
        for visit in range(5):
            views = [look + 0.4 * rng.standard_normal(DIM) for _ in range(2)]
            early, late = ((v / np.linalg.norm(v)).astype(np.float32) for v in views)
            key = (f"c{at}", 10 * person + visit + 1)
            rows.append(Sighting(*key, t, t + 1.5, t + 1.5, False, early))
            rows.append(Sighting(*key, t, t + 5.0, t + 5.0, True, late, 4))
            t, at = t + 5 + float(rng.gamma(9, 2)), (at + 1) % cameras
    rows.sort(key=lambda s: s.emitted_s)
    return rows


class Workers:
    """Simulated workers, up to 16 cameras each: they put messages on the Streams as workers do."""

    def __init__(self, config: Config, store: Store) -> None:
        self.streams: dict[str, SiteStream] = {}
        self.number: dict[str, int] = defaultdict(int)
        self.of: dict[str, str] = {}
        self.cameras: dict[str, list[str]] = defaultdict(list)
        self.encoder = config.reid.encoder
        for n, camera in enumerate(sorted(config.cameras, key=lambda c: (c.area, int(c.name[1:])))):
            name = f"{camera.area}-w{n // PER_WORKER}"
            self.of[camera.name] = name
            self.cameras[name].append(camera.name)
            if name not in self.streams:
                self.streams[name] = stream_of(store, config, camera.area, name)

    def say(self, worker: str, rows: list[Sighting], until_s: float, state: str = "live") -> None:
        marks = dict.fromkeys(self.cameras[worker], Mark(until_s, state))
        number = self.number[worker] + 1
        said = WorkerSaid(worker, "bench", number, self.encoder, marks, rows)
        done = self.streams[worker].publish("bench", [Message(number, number - 1, packed_said(said))])
        assert done.state == "OK", done
        self.number[worker] = number

    def say_all(self, rows: list[Sighting], tick_s: float = 0.25) -> None:
        """Everything at once, in messages of so many seconds each."""
        ticks: dict[tuple[int, str], list[Sighting]] = defaultdict(list)
        for row in rows:
            ticks[int(row.emitted_s / tick_s), self.of[row.camera]].append(row)
        for (_, worker), some in sorted(ticks.items()):
            self.say(worker, some, some[-1].emitted_s)
        for worker in self.cameras:
            self.say(worker, [], rows[-1].emitted_s, "ended")


def scripts_us(store: Store) -> float:
    """Microseconds that the server has spent in scripts."""
    stats = store.client.info("commandstats")
    return float(sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("evalsha", "eval")))


def bytes_of(rows: list[Sighting]) -> float:
    said = WorkerSaid("w", "s", 1, "stripes", {"c0": Mark(0.0)}, rows[:100])
    return len(packed_said(said)) / min(100, len(rows))


def memory_mb(store: Store) -> float:
    return float(store.client.info("memory")["used_memory"]) / 2**20


def drain(url: str, cameras: int, sightings: int) -> dict[str, Any]:
    """One matcher over a full Stream, in this process, each part of a turn timed."""
    config = config_of(url, f"drain{cameras}", cameras)
    rows = walkers(cameras, sightings, 0.1 * max(cameras, 10))
    store = Store(url, config.site_name, axes=Axes.of(config.tables), timeout_s=60)
    empty_mb = memory_mb(store)
    begin_s = time.perf_counter()
    Workers(config, store).say_all(rows)
    said_s, full_mb = time.perf_counter() - begin_s, memory_mb(store)
    stream = stream_of(store, config, "area0", "m")
    spent: dict[str, float] = defaultdict(float)

    def timed(owner: Any, name: str, label: str) -> None:
        inner = getattr(owner, name)

        def outer(*given: Any, **more: Any) -> Any:
            start_s = time.perf_counter()
            try:
                return inner(*given, **more)
            finally:
                spent[label] += time.perf_counter() - start_s

        setattr(owner, name, outer)

    timed(stream, "read", "read")
    timed(stream, "store_turn", "store")
    redis_us = scripts_us(store)
    area = MatchingArea(config, stream, stream.lease())
    timed(area, "_hear", "parse")
    timed(area.listening, "advance", "match")
    timed(area.keeper, "change", "memory")
    turns, started_s, cpu_s = 0, time.perf_counter(), time.process_time()
    while not area.over:
        turn = area.step(most=500, wait_s=0.01)
        if turn is not None:
            version, _ = stream.store_turn(area.fence, turn)
            area.stored(turn, version)
            turns += 1
            area.tally.clear()
    seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    redis_us = scripts_us(store) - redis_us
    people, after_mb = len(area.matcher.state.gallery), memory_mb(store)
    state_mb = sum(len(v) for v in stream.load().entries.values()) / 2**20
    store.close()
    return {
        "cameras": cameras,
        "sightings": len(rows),
        "said_per_s": round(len(rows) / said_s),
        "decided_per_s": round(len(rows) / seconds, 1),
        "cpu_ms_per_sighting": round(1000 * cpu_s / len(rows), 2),
        "redis_ms_per_sighting": round(redis_us / 1000 / len(rows), 3),
        "message_bytes_per_sighting": round(bytes_of(rows), 0),
        "turns": turns,
        "share_of_time": {name: round(s / seconds, 3) for name, s in sorted(spent.items())},
        "people": people,
        "redis_mb": {"backlog": round(full_mb - empty_mb, 2), "after": round(after_mb - empty_mb, 2)},
        "state_kb_per_person": round(1024 * state_mb / max(people, 1), 1),
    }


def decide(config: dict[str, Any], areas: list[str], name: str) -> None:
    match(Config.model_validate(config), areas, name=name, until_ended=True)


def deciding(config: Config, areas: list[str], name: str) -> Any:
    """A matcher in a process of its own, started."""
    process = FORKS.Process(target=decide, args=(config.model_dump(mode="json"), areas, name))
    process.start()
    return process


def two(url: str, cameras: int, sightings: int) -> dict[str, Any]:
    """Seconds until everything is decided: one area and matcher, and two of each; processes are started before."""
    out: dict[str, Any] = {"cameras": cameras}
    for areas in (1, 2):
        config = config_of(url, f"two{cameras}-{areas}", cameras, areas)
        store = Store(url, config.site_name, axes=Axes.of(config.tables), timeout_s=60)
        workers = Workers(config, store)
        rows: list[Sighting] = []
        for area in range(areas):  # people stay within their area
            some = walkers(cameras // areas, sightings // areas, 0.1 * cameras, seed=area)
            for row in some:
                camera = f"c{int(row.camera[1:]) * areas + area}"
                rows.append(Sighting(camera, row.track_id, *_times(row), row.closed, row.embedding, row.n_crops))
        rows.sort(key=lambda s: s.emitted_s)
        processes = [deciding(config, [f"area{n}"], f"m{n}") for n in range(areas)]
        names = [f"area{n}" for n in range(areas)]
        while not all(stream_of(store, config, name, "x").holder() for name in names):
            time.sleep(0.05)
        begin_s = time.perf_counter()
        workers.say_all(rows)
        for process in processes:
            process.join()
        seconds = time.perf_counter() - begin_s
        out[f"matchers_{areas}"] = {
            "sightings": len(rows),
            "per_s": round(len(rows) / seconds, 1),
        }
        store.close()
    out["ratio"] = round(out["matchers_2"]["per_s"] / out["matchers_1"]["per_s"], 2)
    return out


def crossing(url: str, cameras: int, sightings: int) -> dict[str, Any]:
    """Sightings per second, exits, claims, and the size of an exit, in each of four ways; one process decides."""
    out: dict[str, Any] = {"cameras": cameras}
    for name, areas, apart, neighbours in (
        ("unlinked", 2, True, {}),
        ("nobody_crosses", 2, True, None),
        ("everybody_crosses", 2, False, None),
        ("one_area", 1, False, None),
    ):
        config = config_of(url, f"{name}{cameras}", cameras, areas, neighbours)
        store = Store(url, config.site_name, axes=Axes.of(config.tables), timeout_s=60)
        rows: list[Sighting] = []
        for n in range(2 if apart else 1):
            for row in walkers(cameras // (1 + apart), sightings // (1 + apart), 0.1 * cameras, seed=n):
                at = int(row.camera[1:])
                camera = f"c{2 * at + n if apart else at}"  # areas take turns along the ring
                rows.append(Sighting(camera, row.track_id, *_times(row), row.closed, row.embedding, row.n_crops))
        rows.sort(key=lambda s: s.emitted_s)
        Workers(config, store).say_all(rows)
        begin_s, cpu_s = time.perf_counter(), time.process_time()
        counts = match(config, name="m", until_ended=True)["counts"].values()
        seconds, cpu_s = time.perf_counter() - begin_s, time.process_time() - cpu_s
        keys = [store.keys.of(f"exits:area{n}") for n in range(areas)]
        exits = [len(e[b"m"]) for key in keys for _, e in store.client.xrange(key) if e[b"k"] == b"exit"]
        out[name] = {
            "sightings": len(rows),
            "per_s": round(len(rows) / seconds, 1),
            "cpu_ms_per_sighting": round(1000 * cpu_s / len(rows), 2),
            **{key: sum(count.get(key, 0) for count in counts) for key in ("exits", "claims", "claims_lost")},
            "site_seconds_per_s": round((rows[-1].emitted_s - rows[0].emitted_s) / seconds, 1),
            "exit_kb": round(statistics.mean(exits) / 1024, 1) if exits else None,
        }
        store.close()
    return out


def _times(row: Sighting) -> tuple[float, float, float]:
    return row.entered_s, row.last_s, row.emitted_s


def live(url: str, cameras: int, seconds: float) -> dict[str, Any]:
    """Workers say sightings as they happen; how long until their decision is read back."""
    config = config_of(url, f"live{cameras}", cameras)
    per_second = LIVE_PER_CAMERA.get(cameras, 0.1) * cameras
    store = Store(url, config.site_name, axes=Axes.of(config.tables))
    reader_store = Store(url, config.site_name, axes=Axes.of(config.tables))
    workers = Workers(config, store)
    warm_s = 120.0  # until as many people walk about as ever
    rows = [
        replace(row, **{name: getattr(row, name) - warm_s for name in ("entered_s", "last_s", "emitted_s")})
        for row in walkers(cameras, int(per_second * (seconds + warm_s)), per_second)
        if warm_s + 2.0 <= row.emitted_s < warm_s + seconds
    ]
    matcher = deciding(config, ["area0"], "m")
    reader = stream_of(reader_store, config, "area0", "reader")
    while not reader.holder():
        time.sleep(0.05)
    said_s: dict[tuple[str, int], float] = {}
    waits: list[float] = []
    over = threading.Event()

    def read() -> None:
        after, first = "0", set()
        while not over.is_set():
            for entry in reader.decisions(after, wait_s=0.1):
                after = entry.id
                if entry.fields["k"] == b"decision":
                    row = json.loads(entry.fields["m"])
                    key = (row["camera"], row["track_id"])
                    if key not in first and key in said_s:
                        first.add(key)
                        waits.append(time.time() - said_s[key])

    thread = threading.Thread(target=read)
    thread.start()
    begin_s, at = time.time(), 0
    spoke_s: dict[str, float] = defaultdict(float)
    rounds_s: list[float] = []
    while at < len(rows) or time.time() - begin_s < seconds:
        now_s = time.time() - begin_s
        some: dict[str, list[Sighting]] = defaultdict(list)
        while at < len(rows) and rows[at].emitted_s <= now_s:
            row = rows[at]
            entered_s, last_s, emitted_s = (begin_s + t for t in _times(row))
            some[workers.of[row.camera]].append(
                Sighting(row.camera, row.track_id, entered_s, last_s, emitted_s, row.closed, row.embedding)
            )
            at += 1
        for worker in workers.cameras:
            if worker in some or time.time() - spoke_s[worker] >= 0.25:  # a silent one says how far it is
                spoke_s[worker] = time.time()
                for row in some[worker]:
                    said_s.setdefault(row.key, time.time())
                workers.say(worker, some[worker], begin_s + now_s)
        rounds_s.append(time.time() - begin_s - now_s)
        time.sleep(max(0.0, 0.05 - (time.time() - begin_s - now_s)))
    for worker in workers.cameras:
        workers.say(worker, [], time.time(), "ended")
    matcher.join()
    time.sleep(0.3)
    over.set()
    thread.join()
    store.close()
    reader_store.close()
    waits.sort()
    return {
        "cameras": cameras,
        "sightings_per_s": round(len(rows) / seconds, 1),
        "first_decisions": len(waits),
        "p50_s_of_a_round_of_all_workers": round(statistics.median(rounds_s), 3),
        "p50_s": round(statistics.median(waits), 3),
        "p99_s": round(waits[min(len(waits) - 1, int(0.99 * len(waits)))], 3),
    }


def main() -> None:
    """Measure and, with --json, write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--sightings", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--server", choices=["embedded", "redis-server"], default="embedded")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows: dict[str, list[Any]] = {"drain": [], "two": [], "crossing": [], "live": []}
    with tempfile.TemporaryDirectory() as name, any_server(given.server, Path(name)) as url:
        for cameras in given.cameras:
            rows["drain"].append(drain(url, cameras, given.sightings))
            print(json.dumps(rows["drain"][-1]), flush=True)
        for cameras in given.cameras[-2:]:
            rows["two"].append(two(url, cameras, given.sightings))
            print(json.dumps(rows["two"][-1]), flush=True)
        for cameras in given.cameras[-2:]:
            rows["crossing"].append(crossing(url, cameras, given.sightings))
            print(json.dumps(rows["crossing"][-1]), flush=True)
        for cameras in given.cameras:
            rows["live"].append(live(url, cameras, given.seconds))
            print(json.dumps(rows["live"][-1]), flush=True)
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()}
    if given.json:
        given.json.write_text(json.dumps({"benchmark": "streams", "machine": machine, **rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
