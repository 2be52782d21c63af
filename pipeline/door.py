"""What every command of the door shares: exit codes, one clear line per error, progress, signals, logs."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import typer

DONE, CAMERA_FAILED, BAD_INPUT, STORAGE, INTERRUPTED = 0, 1, 2, 3, 130

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def log_to_stderr(log_format: str, verbose: bool) -> None:
    """Send every log line to stderr, as text for people or as one JSON object per line for machines."""
    handler = _ToStderr()
    handler.setFormatter(_JsonLines() if log_format == "json" else logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler], force=True)


class _ToStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Looks for stderr every time: a progress bar stands in for it while it is shown, and prints above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


_ABOUT = ("area", "worker", "camera", "from_camera", "track_id", "global_id", "into_id", "kind")
"""What a log line may be about, as fields of their own for machines."""


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        about = {name: record.__dict__[name] for name in _ABOUT if name in record.__dict__}
        return json.dumps(
            {
                "time_s": record.created,
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
                **about,
            }
        )


@contextmanager
def clear_errors() -> Iterator[None]:
    """One clear line and the right exit code for everything a user can mend; a bug keeps its traceback."""
    from pipeline.errors import code_of

    try:
        yield
    except KeyboardInterrupt:
        say("stopped")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        say(str(error))
        raise typer.Exit(code) from None


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """The first Ctrl-C or SIGTERM ends the run with complete files; a second Ctrl-C gives up at once."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Not through `print`, which may be at work below this handler and must not be entered twice.
        os.write(2, b"\n" * os.isatty(2) + b"finishing: files are being completed (Ctrl-C again to give up)\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def reread_on_hangup(load: Callable[[], Any] | Literal[False] | None) -> Iterator[Callable[[], Any]]:
    """A function that gives what `load` gives, once after every SIGHUP, else None. Without `load` a SIGHUP ends us."""
    if not load:
        yield lambda: None
        return
    asked = threading.Event()

    def reread() -> Any:
        if not asked.is_set():
            return None
        asked.clear()
        return load()

    before = signal.signal(signal.SIGHUP, lambda number, frame: asked.set())
    try:
        yield reread
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Any]:
    """A progress bar per stage; silent when nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: float, total: float | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield advance


def show(renderable: object) -> None:
    from rich.console import Console

    Console().print(renderable)


def say(message: str) -> None:
    typer.echo(message, err=True)


def ask(question: str) -> None:
    """Go on after a yes. A no, or nobody there to answer, is input by which nothing can be done: exit code 2."""
    try:
        if typer.confirm(question, err=True):
            return
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            say("\nstopped")
            raise typer.Exit(INTERRUPTED) from None
        say("\nno answer: add --yes to go on without being asked")
        raise typer.Exit(BAD_INPUT) from None
    say("nothing was changed")
    raise typer.Exit(BAD_INPUT)
