"""How long a large run's report takes to write, to open and to scroll, in a real headless Chromium.

    python -m tests.benchmarks.bench_report [--json OUT] [--rounds N] [--cameras 24] [--persons 2000] [--stays 100000]
                                            [--keep DIR]

The run folder is made up: walks of persons through a ring of cameras with cross ways. Figures are medians over rounds,
each with a browser of its own: size of the page, seconds to write it, milliseconds until the first screen is there
(the load event) and until the whole page is drawn, longest frame while scrolling and zooming the timeline.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import write_csv, write_json_atomic
from pipeline.movements import transitions
from pipeline.report import write_report
from pipeline.tables_file import write_tables
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

FRAME_SCRIPT = """
const done = arguments[arguments.length - 1], box = document.getElementById("timeline");
const frames = [];
let last = performance.now(), n = 0;
function step(now) {
  frames.push(now - last); last = now;
  box.scrollTop += 700;
  if (n % 5 === 0) box.dispatchEvent(new KeyboardEvent("keydown", { key: n % 10 ? "-" : "+" }));
  if (++n < 60) requestAnimationFrame(step); else done(frames.slice(2));
}
requestAnimationFrame(step);
"""


def make_run(folder: Path, *, cameras: int, persons: int, stays: int, seed: int = 5) -> None:
    """Write what a finished run of this size holds, as far as a report reads it."""
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    names = [f"camera {n + 1:02d}" for n in range(cameras)]
    person = np.sort(rng.integers(0, persons, stays))
    first = np.r_[True, np.diff(person) != 0]
    step = np.where(rng.random(stays) < 0.8, rng.choice([-1, 1], stays), rng.integers(2, 6, stays))
    start = rng.integers(0, cameras, stays)
    camera = np.zeros(stays, np.int64)
    entered = np.zeros(stays)
    dwell = rng.gamma(2.0, 12.0, stays)
    delay = rng.gamma(4.0, 6.0, stays)
    begin = 1.79e9 + rng.uniform(0, 8 * 3600, stays)
    for n in range(stays):
        if first[n]:
            camera[n], entered[n] = start[n], begin[n]
        else:
            camera[n], entered[n] = (camera[n - 1] + step[n]) % cameras, entered[n - 1] + dwell[n - 1] + delay[n]
    table = pa.table(
        {
            "global_id": person + 1,
            "camera": pa.array([names[c] for c in camera], pa.string()),
            "track_id": np.arange(1, stays + 1),
            "entered_s": np.round(entered, 4),
            "left_s": np.round(entered + dwell, 4),
            "dwell_s": np.round(dwell, 4),
            "probability": np.round(rng.beta(8, 1, stays), 4),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table, folder / "stays.csv")
    moves = transitions(table)
    write_csv(moves, folder / "transitions.csv")
    axes = TableSettings()
    learnt = TransitionTables(axes)
    for row in moves.slice(0, 20_000).to_pylist():
        if (place := axes.bin_of(row["delay_s"])) is not None:
            learnt.add([Increment(row["from_camera"], row["to_camera"], 0, place, ONE)])
    write_tables(folder / "tables_end.json", axes, learnt.items())
    health = {
        name: {"frames_read": 288_000, "fps": 10.0, "first_s": 1.79e9, "last_s": 1.79e9 + 28_800} for name in names
    }
    write_json_atomic(folder / "run.json", {"site": "made up", "version": "-", "cameras": health})


def browser() -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def one_round(folder: Path) -> dict[str, float]:
    begin = time.perf_counter()
    path = write_report(folder)
    out = {"write_s": time.perf_counter() - begin, "page_mib": path.stat().st_size / 2**20}
    page = browser()
    try:
        page.set_script_timeout(60)
        page.get(path.resolve().as_uri())
        deadline = time.monotonic() + 60
        while not (ready := page.execute_script("return document.documentElement.dataset.readyMs")):
            if time.monotonic() > deadline:
                raise TimeoutError("the page was not ready after a minute")
            time.sleep(0.02)
        timing = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd"
        out["first_screen_ms"], out["all_drawn_ms"] = float(page.execute_script(timing)), float(ready)
        frames = page.execute_async_script(FRAME_SCRIPT)
        out["scroll_frame_median_ms"], out["scroll_frame_worst_ms"] = statistics.median(frames), max(frames)
    finally:
        page.quit()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cameras", type=int, default=24)
    parser.add_argument("--persons", type=int, default=2000)
    parser.add_argument("--stays", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="leave the run folder here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.keep or Path(folder) / "run"
        make_run(work, cameras=arguments.cameras, persons=arguments.persons, stays=arguments.stays)
        rounds = [one_round(work) for _ in range(arguments.rounds)]
    figures = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    for name, figure in figures.items():
        print(f"{name:24s} {figure:10.2f}   ({min(r[name] for r in rounds):.2f} .. {max(r[name] for r in rounds):.2f})")
    result = {
        "benchmark": "report",
        "machine": {"cpu_count": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "size": {"cameras": arguments.cameras, "persons": arguments.persons, "stays": arguments.stays},
        "rounds": arguments.rounds,
        "figures": figures,
    }
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
