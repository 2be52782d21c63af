"""How fast the store is: counts per second one by one, pipelined and in one bulk call; start of the server.

    python -m tests.benchmarks.bench_store [--json OUT] [--redis-server]

Every figure is the median of several rounds on a server with an append-only file (fsync every second), with its spread.
One round of "bulk" is `Store.flush` from increments to the answer: summing, packing, socket and script.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis

from st_model.counts import Axes
from st_model.embedded import EmbeddedServer
from st_model.journal import Batch, Journal
from st_model.store import Store
from st_model.transitions import Increment
from st_model.writer import TableWriter
from tests.redis_servers import any_server

AXES = Axes(bin_s=2.0, origin_s=-30.0, bins=2015, epoch_s=86400.0)
COUNTS = 50_000  # distinct (pair, bin) cells of a flush
SEED = 20260101
Row = dict[str, object]


def increments(pairs: int, seed: int) -> list[Increment]:
    """COUNTS increments in distinct cells of so many camera pairs, shuffled."""
    rng = random.Random(seed)
    cells = [(n % pairs, bin) for n, bin in enumerate(rng.choices(range(AXES.bins), k=COUNTS * 2))]
    cells = list(dict.fromkeys(cells))[:COUNTS]
    rng.shuffle(cells)
    return [Increment(f"cam{p // 40:03d}", f"cam{p % 40:03d}", 20000, b, rng.randrange(1, 4097)) for p, b in cells]


def measured(name: str, work: Callable[[int], object], amount: int, rounds: int, unit: str = "counts/s") -> Row:
    """Median, fastest and slowest of some rounds after one to warm up; `work` gets the number of the round."""
    work(0)
    rates = []
    for n in range(1, rounds + 1):
        started_s = time.perf_counter()
        work(n)
        rates.append(amount / (time.perf_counter() - started_s))
    row = {"name": name, "unit": unit, "median": statistics.median(rates), "min": min(rates), "max": max(rates)}
    row = {key: round(value) if isinstance(value, float) else value for key, value in row.items()} | {"rounds": rounds}
    print(f"{name:48s} {row['median']:>12,} {unit}   ({row['min']:,} .. {row['max']:,})", flush=True)
    return row


def flush_rows(url: str, folder: Path) -> list[Row]:
    """Ways to bring counts into Redis, slowest first, and back."""
    rows = []
    store = Store(url, "bench", axes=AXES, timeout_s=60)
    client = redis.Redis.from_url(url)
    few = increments(400, SEED)[:2000]

    def one_by_one(_: int) -> None:
        for i in few:
            client.hincrby(f"one:{i.from_camera}:{i.to_camera}", str(i.bin), i.count)

    def pipelined(_: int) -> None:
        ask = client.pipeline(transaction=False)
        for i in many:
            ask.hincrby(f"pipe:{i.from_camera}:{i.to_camera}", str(i.bin), i.count)
        ask.execute()

    many = increments(400, SEED)
    rows.append(measured("HINCRBY one by one", one_by_one, len(few), 3))
    rows.append(measured("HINCRBY pipelined", pipelined, len(many), 5))
    for pairs in (50, 400, 1600):
        batch = increments(pairs, SEED)
        writer = f"bench{pairs}"

        def bulk(n: int, batch: list[Increment] = batch, writer: str = writer) -> None:
            store.flush(batch, n + 1, writer=writer)

        rows.append(measured(f"Store.flush, {COUNTS:,} counts in {pairs} pairs", bulk, COUNTS, 9) | {"pairs": pairs})
    loaded = sum(map(len, store.load_counts().values()))
    rows.append(measured(f"Store.load_counts, {loaded:,} counts", lambda _: store.load_counts(), loaded, 3))

    with TableWriter(store, folder, interval_s=3600.0) as table_writer:

        def through_the_writer(_: int) -> None:
            table_writer.add(many)
            assert table_writer.flush()

        rows.append(measured("TableWriter: add, journal, flush", through_the_writer, COUNTS, 5))

        def add(_: int) -> None:
            table_writer.add(many)

        rows.append(measured("TableWriter.add alone (the match loop's share)", add, COUNTS, 5))
    journal = Journal(folder, store, "bench-journal")
    counts = store.load_counts()
    rows.append(measured("Journal.append", lambda n: journal.append(Batch("b", n + 1, counts)), loaded, 3))
    while journal.first():
        journal.drop_first()
    journal.close()
    client.close()
    store.close()
    return rows


def start_rows(folder: Path) -> list[Row]:
    """Start and stop of the embedded server, milliseconds (smaller is better)."""
    rows = []
    for name, fill in (("empty", 0), ("1 million counts in its file", 20)):
        times_ms: dict[str, list[float]] = {"start": [], "stop": []}
        path = folder / name.split()[0]
        if fill:
            with EmbeddedServer(path) as server:
                store = Store(server.url, "bench", axes=AXES, timeout_s=60)
                for n in range(fill):
                    batch = [i._replace(epoch=n) for i in increments(400, n)]
                    store.flush(batch, n + 1)
                store.close()
        for _ in range(7):
            started_s = time.perf_counter()
            server = EmbeddedServer(path)
            up_s = time.perf_counter()
            server.close()
            times_ms["start"].append(1e3 * (up_s - started_s))
            times_ms["stop"].append(1e3 * (time.perf_counter() - up_s))
        for what, values in times_ms.items():
            row: Row = {"name": f"embedded server {what}, {name}", "unit": "ms", "rounds": len(values)}
            row |= {
                "median": round(statistics.median(values), 1),
                "min": round(min(values), 1),
                "max": round(max(values), 1),
            }
            print(f"{row['name']:48s} {row['median']:>12} ms   ({row['min']} .. {row['max']})", flush=True)
            rows.append(row)
    return rows


def main() -> None:
    """Measure and, with --json, write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--redis-server", action="store_true", help="measure Debian's redis-server instead")
    arguments = parser.parse_args()
    kind = "redis-server" if arguments.redis_server else "embedded"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with any_server(kind, folder / "server") as url:
            with redis.Redis.from_url(url) as client:
                info = client.info("server")
            rows = flush_rows(url, folder)
        if kind == "embedded":
            rows += start_rows(folder)
    version = info.get("valkey_version") or info["redis_version"]
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "machine": platform.machine()}
    metadata = {"server": kind, "server_version": version, "redis_py": redis.__version__, "seed": SEED, **machine}
    metadata["python"] = platform.python_version()
    if arguments.json:
        arguments.json.write_text(json.dumps({"benchmark": "store", **metadata, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
