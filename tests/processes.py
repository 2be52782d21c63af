"""Commands in processes of their own, forked from one that has loaded what takes long; none is left behind."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pipeline.match", "pipeline.worker", "pyarrow", "redis", "ultralytics.trackers", "av"])


def logged(log: Path, work: Callable[..., None], *arguments: Any) -> None:
    """The body of a process: everything it says goes to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    work(*arguments)


def through_the_door(*arguments: str) -> None:
    """Do a command, as a user would."""
    import run_pipeline

    run_pipeline.app(list(arguments))


@contextmanager
def started(log: Path) -> Iterator[Callable[..., Any]]:
    """Starts commands, whose words go to one log."""
    processes = []

    def start(*arguments: object) -> Any:
        words = [str(argument) for argument in arguments]
        process = FORKS.Process(target=logged, args=(log, through_the_door, *words), daemon=True)
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


def ended(process: Any, code: int, log: Path, limit_s: float = 100) -> None:
    """Wait for the end of a process and look at its exit code."""
    process.join(limit_s)
    assert process.exitcode == code, log.read_text()
