"""`identrix doctor` and `identrix app`: does it work here, and the application in the browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.door import BAD_INPUT, DONE, AsJson, clear_errors


def doctor(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="site YAML: its settings, and its cameras")
    ] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="key.sub=value, repeatable")] = None,
    as_json: AsJson = False,
) -> None:
    """What works on this machine (video, GPU, engines, weights, Redis, disk, clock), and what to do about the rest."""
    from dataclasses import asdict

    from pipeline.config import load_config, load_machine_config
    from pipeline.doctor import examine, in_words

    with clear_errors():
        given = override or ()
        settings = load_config(config, overrides=given) if config else load_machine_config(given)
        checks = examine(settings, settings.output.dir)
    bad = [check.name for check in checks if check.state == "bad"]
    if as_json:
        typer.echo(json.dumps({"works": not bad, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        typer.echo("\n".join(in_words(checks)))
        typer.echo(f"cannot work yet: {', '.join(bad)}" if bad else "everything that is needed works")
    raise typer.Exit(BAD_INPUT if bad else DONE)


def app(
    folder: Annotated[Path, typer.Argument(metavar="[RUN|RUNS]", help="a run folder, or the folder of many")] = Path(
        "runs"
    ),
    host: Annotated[str, typer.Option("--host", help="address to bind to; others than loopback need a password")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="TCP port")] = 8501,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open a browser window")] = False,
) -> None:
    """The application in the browser: who was where and why, search by picture, corrections, what if, tables.

    A password is read from the environment variable IDENTRIX_APP_PASSWORD.
    """
    import os

    from pipeline.app_start import check_start, command, environment

    with clear_errors():
        check_start(folder, host, port)
    typer.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}", err=True)
    words = command(host, port, browser=browser)
    os.execve(words[0], words, environment(folder))
