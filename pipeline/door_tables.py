"""`identrix tables ...`: a site's transition tables on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.door import AsJson, ask, clear_errors

tables_app = typer.Typer(
    help="A site's transition tables: how long people take from camera to camera.", no_args_is_help=True
)

SiteOption = Annotated[str, typer.Option("--site", help="whose tables (run.json says under which name a run taught)")]
SiteFile = Annotated[Path | None, typer.Option("--config", "-c", help="site YAML, for redis and tables settings")]
SiteSet = Annotated[list[str] | None, typer.Option("--set", help="redis.url=value and the like")]


@tables_app.command("show")
def tables_show(
    site: SiteOption = "", config: SiteFile = None, override: SiteSet = None, as_json: AsJson = False
) -> None:
    """Evidence and median travel time of every pair of cameras."""
    from dataclasses import asdict

    from pipeline.tables_command import show

    with clear_errors():
        rows = show(_site(site, config, override))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    for row in rows:
        median = "-" if row.median_s is None else f"{row.median_s:.1f} s"
        typer.echo(f"{row.from_camera:>16} -> {row.to_camera:<16} {row.evidence:9.2f} observations, median {median}")
    if not rows:
        from pipeline.tables_command import which_site

        with clear_errors():
            typer.echo(f"nothing learnt yet{which_site(_site(site, config, override))}")


@tables_app.command("plot")
def tables_plot(out: Path, site: SiteOption = "", config: SiteFile = None, override: SiteSet = None) -> None:
    """A picture per pair of cameras: histogram and Parzen curve."""
    from pipeline.tables_command import plot
    from pipeline.words import counted

    with clear_errors():
        typer.echo(f"{counted(plot(_site(site, config, override), out), 'picture')}: {out}")


@tables_app.command("graph")
def tables_graph(out: Path, site: SiteOption = "", config: SiteFile = None, override: SiteSet = None) -> None:
    """The camera graph (.png, .svg, .pdf): an arrow per pair, as wide as its evidence, with the median travel time."""
    from pipeline.tables_command import graph
    from pipeline.words import counted

    with clear_errors():
        typer.echo(f"{counted(graph(_site(site, config, override), out), 'pair')}: {out}")


@tables_app.command("clocks")
def tables_clocks(
    site: SiteOption = "", config: SiteFile = None, override: SiteSet = None, as_json: AsJson = False
) -> None:
    """How far each camera's clock is off, from what the site has learnt; prints the `offset_s` lines for the YAML."""
    from pipeline.clocks_command import as_json as plain
    from pipeline.clocks_command import clocks_of_site, configured_offsets, in_words

    with clear_errors():
        settings = _site(site, config, override)
        found, known = clocks_of_site(settings), configured_offsets(settings)
    typer.echo(json.dumps(plain(found, known), indent=1) if as_json else "\n".join(in_words(found, known)))


@tables_app.command("export")
def tables_export(path: Path, site: SiteOption = "", config: SiteFile = None, override: SiteSet = None) -> None:
    """Write the exact counts to a JSON file."""
    from pipeline.tables_command import export
    from pipeline.words import counted

    with clear_errors():
        typer.echo(f"{counted(export(_site(site, config, override), path), 'pair')}: {path}")


@tables_app.command("import")
def tables_import(path: Path, site: SiteOption = "", config: SiteFile = None, override: SiteSet = None) -> None:
    """Add the counts of an exported file to the site's (reset first to replace them)."""
    from pipeline.tables_command import import_
    from pipeline.words import counted

    with clear_errors():
        added = import_(_site(site, config, override), path)
    typer.echo("counted before: nothing added" if added is None else f"{counted(added, 'pair')} added")


@tables_app.command("freeze")
def tables_freeze(site: SiteOption = "", config: SiteFile = None, override: SiteSet = None) -> None:
    """Read the site's tables from now on, but do not teach them (runs on this machine; `frozen: true` in the YAML)."""
    from pipeline.tables_command import freeze_site

    with clear_errors():
        settings = _site(site, config, override)
        freeze_site(settings)
    typer.echo(f"site {settings.site_name} is frozen: runs on this machine read its tables and teach nothing")


@tables_app.command("unfreeze")
def tables_unfreeze(site: SiteOption = "", config: SiteFile = None, override: SiteSet = None) -> None:
    """Let runs teach the site's tables again."""
    from pipeline.freezing import unfreeze

    with clear_errors():
        settings = _site(site, config, override)
        unfreeze(settings)
    typer.echo(f"site {settings.site_name} learns again")


@tables_app.command("reset")
def tables_reset(
    site: SiteOption = "",
    config: SiteFile = None,
    override: SiteSet = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Forget everything learnt about the site."""
    from pipeline.tables_command import check_resettable, reset
    from pipeline.words import counted

    with clear_errors():
        settings = _site(site, config, override)
        if not yes:
            check_resettable(settings)
            ask(f"Forget all transition tables of site {settings.site_name!r}?")
        pairs, observations = reset(settings)
    typer.echo(f"{counted(pairs, 'pair')}, {observations:.0f} observations forgotten at site {settings.site_name}")


def _site(site: str, config: Path | None, override: list[str] | None) -> Any:
    from pipeline.config import load_config, load_match_config

    extra = [f"site={site}"] if site else []
    if config:
        return load_config(config, overrides=[*(override or ()), *extra])
    return load_match_config({}, overrides=[*(override or ()), *extra])
