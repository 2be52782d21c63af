"""How long scoring an arrival takes, against the bare matrix product; table updates and look-ups; a whole matcher.

    python tests/benchmarks/bench_matcher.py [--json OUT] [--repeats 15]

Medians and spread of several runs after one warm-up, on one thread of whatever machine this is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from st_model.appearance import raw_basis  # noqa: E402
from st_model.calibration import DEFAULTS, Calibration  # noqa: E402
from st_model.deciding import decide  # noqa: E402
from st_model.gallery import Gallery, Stay  # noqa: E402
from st_model.hypotheses import MatchSettings  # noqa: E402
from st_model.matcher import OnlineMatcher  # noqa: E402
from st_model.matcher_state import MatcherState  # noqa: E402
from st_model.merging import find_merges  # noqa: E402
from st_model.sightings import Sighting  # noqa: E402
from st_model.sightings_world import SightingsWorld, world_settings  # noqa: E402
from st_model.teaching import Teacher  # noqa: E402
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables  # noqa: E402

CALIBRATION = Calibration(25.0, -12.0)
SETTINGS = MatchSettings(calibration=CALIBRATION)


def timed(work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Median and spread of a call, milliseconds."""
    work()
    runs = []
    for _ in range(repeats):
        start = clock()
        work()
        runs.append(1000 * (clock() - start))
    runs.sort()
    return {"median_ms": statistics.median(runs), "best_ms": runs[0], "worst_ms": runs[-1], "repeats": repeats}


def timed_in_turn(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """`timed` of two calls that take turns, so that what else the machine does meets both."""
    runs = [(timed(first, 1), timed(second, 1)) for _ in range(repeats)]
    both = []
    for n in (0, 1):
        times = sorted(run[n]["median_ms"] for run in runs)
        both.append(
            {"median_ms": statistics.median(times), "best_ms": times[0], "worst_ms": times[-1], "repeats": repeats}
        )
    return both[0], both[1]


def units(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def site(people: int, dim: int, cameras: int = 16) -> tuple[MatcherState, TransitionTables, np.random.Generator]:
    """A gallery of people seen within the last hour, and tables taught for a ring of cameras."""
    rng = np.random.default_rng(0)
    axes = TableSettings()
    tables = TransitionTables(axes)
    for c in range(cameras):
        for step in (1, 2):
            bins = rng.integers(15 + 5 * step, 60 + 5 * step, 200)
            tables.add([Increment(f"c{c}", f"c{(c + step) % cameras}", 0, int(b), ONE) for b in bins])
    gallery = Gallery(raw_basis(CALIBRATION))
    for n, look in enumerate(units(rng, people, dim)):
        last = float(rng.uniform(6400, 10_000))
        stay = Stay(f"c{n % cameras}", n, last - 5, last, True, look, 4)
        gallery.give(stay, n + 1)
    return MatcherState(gallery, Teacher(axes)), tables, rng


def scoring(people: int, arrivals: int, dim: int, repeats: int) -> dict[str, object]:
    state, tables, rng = site(people, dim)
    looks = units(rng, arrivals, dim)
    rows = [Sighting(f"c{n % 16}", 10**6 + n, 10_001.0, 10_002.5, 10_002.5, False, looks[n]) for n in range(arrivals)]
    matrix = np.ascontiguousarray(state.gallery.vectors)
    bare, whole = timed_in_turn(
        lambda: looks @ matrix.T if arrivals > 1 else matrix @ looks[0],
        lambda: decide(state, rows, tables, SETTINGS, 10_003.0),
        repeats,
    )
    return {"bare_product": bare, "decide": whole, "ratio": whole["median_ms"] / bare["median_ms"]}


def tables_speed(repeats: int) -> dict[str, object]:
    _, tables, rng = site(10, 8)
    batch = [Increment("c0", "c1", 0, int(b), ONE) for b in rng.integers(0, 2000, 1000)]
    row = tables.log_ratio("c0", "c1")
    index = rng.integers(0, len(row), 1_000_000)

    def refreshed() -> None:
        tables.add(batch[:1])
        tables.log_ratio("c0", "c1")

    return {
        "add_1000_counts": timed(lambda: tables.add(batch), repeats),
        "add_one_and_refresh_its_row": timed(refreshed, repeats),
        "million_look_ups": timed(lambda: row[index], repeats),
    }


def ring_of_walkers(cameras: int, stays: int, dim: int) -> list[Sighting]:
    """A person a second walks past five cameras of a ring, some 20 s apart; in order of `emitted_s`."""
    rng = np.random.default_rng(1)
    looks = units(rng, stays // 5, dim)
    rows = []
    for person, look in enumerate(looks):
        t, at = float(rng.uniform(0, stays / 5)), int(rng.integers(cameras))
        for visit in range(5):
            seen = look + 0.4 * rng.standard_normal(dim, dtype=np.float32) / np.sqrt(dim)
            seen = (seen / np.linalg.norm(seen)).astype(np.float32)
            rows.append(Sighting(f"c{at}", 10 * person + visit, t, t + 5, t + 5, True, seen))
            t, at = t + 5 + float(rng.gamma(9, 2)), (at + 1) % cameras
    return sorted(rows, key=lambda s: s.emitted_s)


def matched(rows: list[Sighting]) -> OnlineMatcher:
    """A new matcher, to which all of them were given."""
    matcher = OnlineMatcher(SETTINGS, itertools.count(1).__next__, TransitionTables())
    for row in rows:
        matcher.advance(row.emitted_s)
        matcher.submit(row)
    matcher.finish()
    return matcher


def stream_speed(cameras: int, stays: int, dim: int, repeats: int) -> dict[str, object]:
    """Sightings per CPU second through the whole matcher on a large site, and what memory, tables and all, it then
    takes beyond the sightings themselves.
    """
    rows = ring_of_walkers(cameras, stays, dim)
    cost = timed(lambda: matched(rows), repeats, time.process_time)
    tracemalloc.start()
    matcher = matched(rows)
    taken_mb = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    return {
        "cameras": cameras,
        "sightings": len(rows),
        "persons": len(matcher.state.gallery),
        **{f"sightings_per_s_{name}": 1000 * len(rows) / cost[f"{name}_ms"] for name in ("median", "best", "worst")},
        "repeats": repeats,
        "memory_mb": taken_mb,
    }


def look_speed(people: list[int], repeats: int) -> dict[str, dict[str, float]]:
    """CPU time of a look for merges, of everybody who may be about against everybody remembered, as a middling site of
    50 cameras fills with people.
    """
    settings = replace(world_settings("middle", 50, 86400.0), arrivals_per_hour=6.0)
    rows = (seen.sighting for seen in SightingsWorld(settings, seed=5).observations())
    shipped = MatchSettings(calibration=DEFAULTS["stripes"])
    matcher, out = OnlineMatcher(shipped, itertools.count(1).__next__, TransitionTables()), {}
    for wanted in people:
        while len(matcher.state.gallery) < wanted:
            row = next(rows)
            matcher.advance(row.emitted_s)
            matcher.submit(row)
        state, now_s = matcher.state, row.emitted_s
        ids = sorted(state.gallery.seen_since(now_s - matcher.tables.settings.horizon_s))
        look = (state.gallery, ids, matcher.tables, shipped, state.new_share, now_s)
        cost = timed(lambda look=look: find_merges(*look), repeats, time.process_time)  # type: ignore[misc]
        out[str(wanted)] = {"about": len(ids), **cost}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json")
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    result = {
        "machine": {"python": platform.python_version(), "numpy": np.__version__, "processor": platform.machine()},
        "seeds": [0, 1],
        "one_against_10000_at_128": scoring(10_000, 1, 128, given.repeats),
        "128_against_100000_at_128": scoring(100_000, 128, 128, max(3, given.repeats // 3)),
        "tables": tables_speed(given.repeats),
        "site_of_1000_cameras": [stream_speed(1000, n, 128, max(3, given.repeats // 5)) for n in (3000, 15_000)],
        "look_for_merges_among": look_speed([250, 500, 1000, 2000], max(3, given.repeats // 5)),
    }
    text = json.dumps(result, indent=1)
    if given.json:
        Path(given.json).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
