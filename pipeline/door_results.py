"""`identrix report`, `export` and `clip`: what a finished run is turned into for people and for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.door import AsJson, clear_errors

Run = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a finished run")]


def report(
    run_folder: Run,
    look: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    as_json: AsJson = False,
) -> None:
    """Write RUN/report.html again: who was where, ways, travel times, persons and health in one file."""
    from pipeline.report import write_report

    with clear_errors():
        path = write_report(run_folder)
    if look:
        typer.launch(str(path.resolve()))
    typer.echo(json.dumps({"report": str(path), "bytes": path.stat().st_size}, indent=1) if as_json else str(path))
