"""Goes through the door as a user does, in this process or in one of its own, and can act at a moment of a run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import run_pipeline

ROOT = Path(__file__).parents[1]
PLAIN = ("--set", "detector.model=motion", "--set", "reid.encoder=stripes")
"""No weights."""
QUICK = (*PLAIN, "--no-video", "--set", "output.plots=false")
"""And no pictures."""


def identrix(*arguments: object) -> Any:
    """Run a command in this process; its exit_code, stdout and stderr. A bug's traceback comes out as it is."""
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        result = CliRunner().invoke(run_pipeline.app, [str(argument) for argument in arguments])
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def films(paths: dict[str, Path]) -> list[str]:
    """The `--source` arguments of some films."""
    return [part for name, path in paths.items() for part in ("--source", f"{name}={path}")]


def acting_at(media_s: float, action: Callable[[], object], slow_s: float = 0.0) -> Any:
    """A stand-in for the door's `_progress`: does `action` once when a run has seen `media_s` seconds.

    slow_s  wall seconds added to every step
    """

    @contextmanager
    def progress(*, quiet: bool) -> Iterator[Callable[[str, float, float | None], None]]:
        done = False

        def show(stage: str, seen: float, total: float | None) -> None:
            nonlocal done
            time.sleep(slow_s)
            if stage == "watching" and seen >= media_s and not done:
                done = True
                action()

        yield show

    return progress


def own_process(script: str, *arguments: object, state: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the door in a process of its own, in which `script` has run before."""
    code = f"import run_pipeline\n{script}\nrun_pipeline.main()"
    environment = {**os.environ, "IDENTRIX_STATE": str(state), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **options,
    )
