"""Commands of a distributed site: `worker`, `match`, `status`."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Annotated

import typer

from pipeline.door import (
    CAMERA_FAILED,
    DONE,
    INTERRUPTED,
    STORAGE,
    AsJson,
    clear_errors,
    progress,
    reread_on_hangup,
    say,
    stop_on_signals,
)

SiteFile = Annotated[Path, typer.Option("--config", "-c", help="site YAML, the same for all processes of the site")]
Override = Annotated[list[str] | None, typer.Option("--set", help="key.sub=value, repeatable")]


def worker(
    config: SiteFile,
    camera: Annotated[
        list[str] | None, typer.Option("--camera", help="which cameras to watch; repeat; default: all of the file")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="of this worker, unique in the site; default: the host's name")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="run folder; default: the next runs/NAME-NNN")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda:0")] = None,
    for_s: Annotated[float | None, typer.Option("--for", min=0, help="live cameras: end after so many seconds")] = None,
    override: Override = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a finished run in the folder")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the run's summary as JSON")] = False,
) -> None:
    """Watch some cameras of a site, near them; `identrix match` decides. Goes on where it was killed.

    Live cameras: SIGHUP reads the file again.
    """
    from pipeline.config import Config, ConfigError, load_config
    from pipeline.runner import source_of
    from pipeline.session import read_session, worker_folder
    from pipeline.words import counted
    from pipeline.worker import of_worker, work

    def load() -> Config:
        return load_config(config, overrides=override or (), extra={"device": device} if device else {})

    with clear_errors():
        settings = load()
        mine = of_worker(settings, camera or ()).cameras
        who = name or socket.gethostname()
        folder = out or worker_folder(settings.output.dir, who)
        if folder.is_dir() and any(folder.iterdir()) and not overwrite and read_session(folder) is None:
            raise ConfigError(f"--out {folder}: the folder holds a finished run; name another one or add --overwrite")
        live = all(source_of(camera).live for camera in mine)
        with (
            progress(quiet=as_json) as on_progress,
            stop_on_signals() as stop,
            reread_on_hangup(live and load) as reread,
        ):
            result = work(
                settings, folder, who, camera or (), stop=stop, for_s=for_s, reread=reread, on_progress=on_progress
            )
    if result.failed:
        say(f"{len(result.failed)} of {len(mine)} cameras ended in error: {', '.join(result.failed)}")
    counts = result.summary["counters"]
    if as_json:
        typer.echo(json.dumps(result.summary, indent=1))
    elif not result.degraded:
        typer.echo(f"{counted(counts['persons'], 'person')}, {counted(counts['stays'], 'stay')}: {folder}")
    if result.degraded:
        say(
            f"not everything is decided (no matcher, or Redis is away): it is kept; start this worker on {folder} again"
        )
        raise typer.Exit(STORAGE)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(CAMERA_FAILED if result.failed else DONE)


def match(
    config: SiteFile,
    area: Annotated[
        list[str] | None, typer.Option("--area", help="which areas to decide; repeat; default: all")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="of this process, unique in the site")] = None,
    until_ended: Annotated[
        bool, typer.Option("--until-ended", help="stop when every camera has ended (recordings)")
    ] = False,
    override: Override = None,
    as_json: AsJson = False,
) -> None:
    """Decide who is who from what the workers of a site say. Start two: one is active, the other stands by."""
    from pipeline.config import load_config
    from pipeline.match import match as decide

    with clear_errors():
        settings = load_config(config, overrides=override or ())
        with stop_on_signals() as stop:
            done = decide(settings, area or (), name=name, stop=stop, until_ended=until_ended)
    if as_json:
        typer.echo(json.dumps(done, indent=1))
    raise typer.Exit(DONE)


def status(
    config: SiteFile,
    once: Annotated[bool, typer.Option("--once", help="print it once; the default where nobody watches")] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.1, help="seconds between two looks")] = 1.0,
    override: Override = None,
    as_json: AsJson = False,
) -> None:
    """How a site does right now: its processes, cameras, matchers and alarms; live in a terminal."""
    import sys

    from rich.console import Console

    from pipeline.config import load_config
    from pipeline.site_store import open_store
    from pipeline.status import site_status, status_table, watch_status

    with clear_errors():
        settings = load_config(config, overrides=override or ())
        with open_store(settings, settings.tables) as (store, _):
            if as_json:
                typer.echo(json.dumps(site_status(settings, store), indent=1))
            elif once or not sys.stdout.isatty():
                Console().print(status_table(site_status(settings, store)))
            else:
                watch_status(settings, store, Console(), every_s)
