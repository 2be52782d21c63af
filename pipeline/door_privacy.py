"""`identrix correct`, `forget`, `retain`: what people change in what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.door import AsJson, ask, clear_errors, progress

ACTIONS = ("merge", "split", "undo", "list", "redraw")
SiteSet = Annotated[list[str] | None, typer.Option("--set", help="settings of the site, redis.url=... say; repeatable")]


def correct(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a finished run")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="merge, split, undo, list or redraw")],
    who: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WHO]...", help="merge: two persons; split: stays (lobby:7); undo: a number of the list"
        ),
    ] = None,
    into: Annotated[str | None, typer.Option("--into", help="split: the person they are; default: a new one")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="merge two who were in one camera at one time")] = False,
    teach: Annotated[bool, typer.Option("--teach/--no-teach", help="tell the site's transition tables, too")] = True,
    override: SiteSet = None,
    as_json: AsJson = False,
) -> None:
    """Correct who is who by hand: merge persons, split stays off, undo, list; redraw the videos with the new ids."""
    from pipeline import corrections, redraw
    from pipeline.audit import audit
    from pipeline.explain import correction_words
    from pipeline.journal import to_json
    from pipeline.run_edit import EditError, read_log, site_config

    with clear_errors():
        words = who or []
        _check_action(action, words, into)
        if action == "list":
            rows = corrections.listed(read_log(run_folder))
            shown: Any = [{"number": n, **to_json(c)} for n, c in rows]
            lines = [f"{n:>4}  {correction_words(c)}" for n, c in rows] or ["nothing was corrected"]
            typer.echo(json.dumps(shown, indent=1) if as_json else "\n".join(lines))
            return
        audit(site_config(run_folder, override or ()), f"correct {action}", run=run_folder, who=" ".join(words))
        if action == "redraw":
            with progress(quiet=as_json) as on_progress:
                paths = redraw.redraw(run_folder, on_progress)
            typer.echo(json.dumps({"videos": [str(p) for p in paths]}) if as_json else "\n".join(map(str, paths)))
            return
        how = corrections.How(teach=teach, overrides=tuple(override or ()))
        if action == "merge":
            found = corrections.merge(run_folder, *words, anyway=anyway, how=how)
        elif action == "split":
            found = corrections.split(run_folder, words, into, how=how)
        else:
            if words and not words[0].isdigit():
                raise EditError(f"undo {words[0]}: expected a number of `identrix correct {run_folder} list`")
            found = corrections.undo(run_folder, int(words[0]) if words else None, how=how)
        stale = redraw.is_stale(run_folder)
    if as_json:
        typer.echo(json.dumps({**to_json(found), "videos_stale": stale}, indent=1))
        return
    typer.echo(correction_words(found.correction))
    typer.echo(
        f"{found.persons} persons now; "
        + (
            f"the site's tables were left as they are: {found.not_taught}"
            if found.not_taught
            else f"the site's tables changed by {found.taught:+.2f} observations"
        )
    )
    if stale:
        typer.echo(f"the videos still show the ids from before: identrix correct {run_folder} redraw")


def _check_action(action: str, words: list[str], into: str | None) -> None:
    import difflib

    from pipeline.run_edit import EditError

    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(ACTIONS)}"
        raise EditError(f"{action!r} is nothing to do to a run; {hint}")
    wanted = {"merge": "two persons, as in: merge P3 P7", "split": "one stay or more, as in: split lobby:7"}
    if (action == "merge" and len(words) != 2) or (action == "split" and not words):
        raise EditError(f"{action} needs {wanted[action]}")
    if (action == "undo" and len(words) > 1) or (action in ("list", "redraw") and words):
        raise EditError(f"{action}: too many words: {' '.join(words)}")
    if into and action != "split":
        raise EditError("--into goes with split only")


def forget(
    what: Annotated[
        list[str], typer.Argument(metavar="[RUN]... WHO", help="run folders of one site, then the person (P7)")
    ],
    site: Annotated[str | None, typer.Option("--site", help="without a run: forget in this site's Redis only")] = None,
    remove_videos: Annotated[
        bool, typer.Option("--remove-videos", help="remove the runs' videos instead of writing them again")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    override: SiteSet = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person: from run folders, their reports and videos, and from the site's Redis. There is no way back."""
    from pipeline.config import load_match_config
    from pipeline.forget import forget as forget_in_runs
    from pipeline.forget import forget_in_site
    from pipeline.journal import to_json
    from pipeline.run_edit import EditError

    *runs, who = what
    with clear_errors():
        if bool(runs) == bool(site):
            raise EditError("say the run folders and then the person, or --site SITE and the person")
        if not yes:
            place = " and ".join(runs) or f"the Redis of site {site}"
            ask(f"Erase {who} from {place}? This cannot be undone.")
        if site:
            config = load_match_config({"site": site}, overrides=override or ())
            entries = forget_in_site(config, who)
            typer.echo(json.dumps({"redis": entries}) if as_json else f"forgotten: {entries} entries of Redis")
            return
        with progress(quiet=as_json) as on_progress:
            found = forget_in_runs(
                [Path(run) for run in runs],
                who,
                remove_videos=remove_videos,
                overrides=override or (),
                on_progress=on_progress,
            )
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=1))
        return
    for run, count in found.stays.items():
        videos = f"; videos {found.videos[run]}" if run in found.videos else ""
        typer.echo(f"{run}: {count} stays forgotten{videos}")
    typer.echo(f"{found.redis} entries of Redis forgotten")
    if found.unknown:
        typer.echo("not looked into (no files of ours): " + ", ".join(found.unknown))


def retain(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="a run folder, or the folder of many")] = Path("runs"),
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="site YAML: its retention for all of them, and its Redis")
    ] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="retention.videos_days=7 and the like")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, remove nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what is past its time: embeddings, sightings, videos, runs, and what Redis keeps (`retention` settings).

    Without --config and --set every run is held to its own settings.
    """
    from pipeline.config import ConfigError, load_config, load_match_config
    from pipeline.retention import expired, remove_expired, retain_in_redis, runs_in

    with clear_errors():
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; give a run folder, or the folder that runs are in")
        settings: Any = None
        if config:
            settings = load_config(config, overrides=override or ())
        elif override:
            settings = load_match_config({}, overrides=override)
        runs = runs_in(folder)
        found = expired(runs, settings.retention if settings else None)
        if not dry_run:
            found = remove_expired(found)
        keys = retain_in_redis(settings) if config and settings and not dry_run else None
    if as_json:
        rows = [{"run": str(e.run), "what": e.what, "age_days": round(e.age_days, 2)} for e in found]
        typer.echo(json.dumps({"runs": len(runs), "removed": rows, "dry_run": dry_run, "redis_keys": keys}, indent=1))
        return
    for item in found:
        typer.echo(f"{item.run}: {item.what} ({item.age_days:.1f} days old){' would go' if dry_run else ' removed'}")
    typer.echo(f"{len(runs)} runs looked at, {len(found)} things past their time")
    if keys is not None:
        typer.echo(f"{keys} keys of Redis were given their lifetime")
