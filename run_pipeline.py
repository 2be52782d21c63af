"""The door: command line and exit codes. 0 done, 1 a camera ended in error, 2 configuration or input, 3 storage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.door import (
    CAMERA_FAILED,
    DONE,
    INTERRUPTED,
    STORAGE,
    AsJson,
    clear_errors,
    log_to_stderr,
    progress,
    reread_on_hangup,
    say,
    show,
    stop_on_signals,
)
from pipeline.door_app import app as browser_app
from pipeline.door_app import doctor
from pipeline.door_privacy import correct, forget, retain
from pipeline.door_reid import export_model, test_reid
from pipeline.door_results import clip, export, report
from pipeline.door_search import search
from pipeline.door_site import match, status, worker
from pipeline.door_tables import tables_app
from pipeline.door_train import render_reid, train

app = typer.Typer(
    name="identrix",
    help="Who is where: one ID per person across all your cameras, learnt by watching.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.add_typer(tables_app, name="tables")


@app.callback()
def _settings(
    log_format: Annotated[str, typer.Option("--log-format", help="text for people, json for machines")] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="say more")] = False,
) -> None:
    if log_format not in {"text", "json"}:
        raise typer.BadParameter("expected 'text' or 'json'", param_hint="--log-format")
    log_to_stderr(log_format, verbose)
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")


@app.command()
def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="site YAML")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", "-s", help="NAME=URI: a file, rtsp://... or a webcam number; repeat per camera"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="run folder; default: the next runs/run-NNN")] = None,
    site: Annotated[str | None, typer.Option("--site", help="whose transition tables to use and to teach")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start with empty transition tables")] = False,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda:0")] = None,
    conf: Annotated[float | None, typer.Option("--conf", help="lowest detection score (detector.conf)")] = None,
    save: Annotated[bool, typer.Option("--save/--no-save", "--video/--no-video", help="write annotated videos")] = True,
    override: Annotated[list[str] | None, typer.Option("--set", help="key.sub=value, repeatable")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an existing run folder")] = False,
    for_s: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=0, help="live cameras: end after so long")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the run's summary as JSON")] = False,
) -> None:
    """Watch several cameras and give every person one ID."""
    from pipeline.config import load_config

    with clear_errors():
        extra = {"site": site, "device": device, "detector.conf": conf, "output.video": None if save else False}

        def load() -> Any:
            given = {k: v for k, v in extra.items() if v is not None}
            return load_config(config, sources=source or (), overrides=override or (), extra=given)

        settings = load()
        folder = _run_folder(out, settings.output.dir, overwrite)
        raise typer.Exit(_run(settings, folder, fresh, as_json, for_s, load if config else None))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="where the rendered site and the run go")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="another seed is another site")] = 7,
    animation: Annotated[
        Path | None, typer.Option(metavar="FILE.webp", help="also write a short animated picture of the result")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the scores as JSON")] = False,
) -> None:
    """Render a small site with known truth, run the whole path on it (no network, no weights), and score it."""
    from pipeline.demo import run_demo

    with clear_errors(), progress(quiet=as_json) as on_progress, stop_on_signals() as stop:
        result = run_demo(out, seed=seed, animation=animation, stop=stop, on_progress=on_progress)
    if as_json:
        typer.echo(json.dumps(result.scores, indent=1))
    else:
        if result.scores:
            show(result.table)
        typer.echo("\n".join(result.lines))
    raise typer.Exit(INTERRUPTED if result.interrupted else DONE)


@app.command()
def finish(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run that was killed")],
    as_json: Annotated[bool, typer.Option("--json", help="print the counts as JSON")] = False,
) -> None:
    """Make the final files of a run that was killed, from what it had written until then (no pictures, no videos)."""
    from pipeline.outputs import finish_killed

    with clear_errors():
        counts = finish_killed(run_folder)
    typer.echo(json.dumps(counts, indent=1) if as_json else _counted(counts, run_folder))


@app.command()
def evaluate(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="a run folder, or any folder with one <camera>.txt each")
    ],
    truth: Annotated[
        Path, typer.Option("--truth", help="folder with the true <camera>.txt (MOTChallenge, site-wide ids)")
    ],
    min_stay: Annotated[int, typer.Option(help="ignore stays of fewer boxes than this in hand-overs")] = 3,
    iou: Annotated[float, typer.Option(help="overlap from which a box is right")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="print all figures as JSON")] = False,
) -> None:
    """Score a run against the truth: HOTA, IDF1, MOTA per camera and over all, and hand-overs."""
    from pipeline.evaluation import evaluate as score
    from pipeline.evaluation import score_table

    with clear_errors():
        result = score(run_folder, truth, min_stay=min_stay, iou=iou)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        show(score_table(result))


@app.command()
def replay(
    source: Annotated[Path, typer.Argument(metavar="RUN|SIGHTINGS.parquet", help="what to feed to the matcher again")],
    out: Annotated[Path, typer.Option("--out", "-o", help="where decisions and assignments.csv go")],
    override: Annotated[list[str] | None, typer.Option("--set", help="match.x=value or tables.x=value")] = None,
    encoder: Annotated[str | None, typer.Option(help="encoder that made the embeddings (its calibration)")] = None,
    tables: Annotated[Path | None, typer.Option(help="start from these tables (of `tables export`)")] = None,
    against: Annotated[Path | None, typer.Option(help="list which decisions differ from this run's, and why")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
) -> None:
    """Match recorded sightings again, with other settings if you like: same input, same decisions, bit for bit."""
    from pipeline.replay import changes, replay_to, said_in
    from pipeline.words import counted

    with clear_errors():
        before = said_in(against) if against else None
        with progress(quiet=as_json) as on_progress:
            done = replay_to(
                source, out, overrides=override or (), encoder=encoder, tables=tables, on_progress=on_progress
            )
        changed = changes(before, done) if before is not None else None
    stays, persons = len(done.ids), len({global_id for global_id, _ in done.ids.values()})
    if as_json:
        typer.echo(json.dumps({"stays": stays, "persons": persons, "changed": changed, "out": str(out)}, indent=1))
        return
    typer.echo(f"{counted(stays, 'stay')}, {counted(persons, 'person')}: {out / 'assignments.csv'}")
    if changed is not None:
        typer.echo("\n".join([f"{counted(len(changed), 'stay')} decided differently", *changed]))


@app.command()
def explain(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a folder of `run` or `replay`")],
    who: Annotated[str, typer.Argument(metavar="WHO", help="a person (12 or P12) or a stay (lobby:7)")],
    as_json: AsJson = False,
) -> None:
    """Why a person or a stay has its id: candidates, what would have changed the decision, later corrections."""
    from pipeline.explain import explain as explanation_of
    from pipeline.explain import in_words
    from pipeline.journal import to_json

    with clear_errors():
        explanation = explanation_of(run_folder, who)
    typer.echo(json.dumps(to_json(explanation), indent=1) if as_json else "\n".join(in_words(explanation)))


Seen = Annotated[Path, typer.Argument(metavar="RUN|SIGHTINGS.parquet", help="a run folder, or what was seen")]
Encoder = Annotated[str | None, typer.Option("--encoder", help="encoder that made the embeddings")]


@app.command()
def calibrate(
    source: Seen,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="CSV with camera, track_id, person: compare with a labelled fit")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for the reliability diagrams")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="match.x=value or tables.x=value")] = None,
    encoder: Encoder = None,
    as_json: AsJson = False,
) -> None:
    """How sure appearance may be at a site: fit it to a run without labels, and say what to put into the YAML."""
    from pipeline.calibrate import calibrate as fit
    from pipeline.calibrate import in_words, plot
    from pipeline.journal import to_json

    with clear_errors():
        with progress(quiet=as_json) as on_progress:
            found = fit(source, overrides=override or (), encoder=encoder, truth=truth, on_progress=on_progress)
        pictures = plot(found, out) if out else []
    typer.echo(json.dumps(to_json(found), indent=1) if as_json else "\n".join([*in_words(found), *map(str, pictures)]))


@app.command()
def clocks(
    source: Seen,
    override: Annotated[list[str] | None, typer.Option("--set", help="match.x=value or tables.x=value")] = None,
    encoder: Encoder = None,
    as_json: AsJson = False,
) -> None:
    """How far each camera's clock is off, and since when, from what was seen (`tables clocks`: from all learnt)."""
    from pipeline.clocks_command import as_json as plain
    from pipeline.clocks_command import clocks_of_run, in_words, offsets_of_run

    with clear_errors(), progress(quiet=as_json) as on_progress:
        found = clocks_of_run(source, overrides=override or (), encoder=encoder, on_progress=on_progress)
        known = offsets_of_run(source)
    typer.echo(json.dumps(plain(found, known), indent=1) if as_json else "\n".join(in_words(found, known)))


@app.command()
def models(as_json: AsJson = False) -> None:
    """Which weights are known, where they come from, and which are here."""
    from pipeline.weights import list_models, locate

    found = [(model, locate(model.name)) for model in list_models()]
    if as_json:
        rows = [{"name": m.name, "kind": m.kind, "licence": m.licence, "path": p and str(p)} for m, p in found]
        typer.echo(json.dumps(rows, indent=1))
        return
    for model, path in found:
        where = path or ("not here yet: fetched on first use" if model.files else " + ".join(model.parts) or "no file")
        typer.echo(f"{model.name:<36} {model.kind:<9} {model.licence:<24.24} {where}")


# Commands kept in files of their own: one line each.
app.command("correct")(correct)
app.command("app")(browser_app)
app.command("doctor")(doctor)
app.command("forget")(forget)
app.command("render-reid")(render_reid)
app.command("retain")(retain)
app.command("test-reid")(test_reid)
app.command("export-model")(export_model)
app.command("search")(search)
app.command("report")(report)
app.command("export")(export)
app.command("clip")(clip)
app.command("worker")(worker)
app.command("match")(match)
app.command("status")(status)
app.command("train")(train)


def main() -> None:
    """The console script."""
    app()


def _run(
    settings: Any, folder: Path, fresh: bool, as_json: bool, for_s: float | None, load: Callable[[], Any] | None
) -> int:
    from pipeline.runner import run as run_site
    from pipeline.runner import source_of

    live = all(source_of(camera).live for camera in settings.cameras)
    with progress(quiet=as_json) as on_progress, stop_on_signals() as stop, reread_on_hangup(live and load) as reread:
        try:
            result = run_site(
                settings, folder, fresh=fresh, stop=stop, for_s=for_s, reread=reread, on_progress=on_progress
            )
        except BaseException:
            if (folder / "journal").is_dir():
                say(f"what was seen until then is kept: identrix finish {folder}")
            raise
    if result.failed:
        say(f"{len(result.failed)} of {len(settings.cameras)} cameras ended in error: {', '.join(result.failed)}")
    if as_json:
        typer.echo(json.dumps(result.summary, indent=1))
    else:
        typer.echo(_counted(result.summary["counters"], folder))
    if result.degraded:
        say("Redis was away at the end: the counts are kept in the state folder and merge at the next start")
        return STORAGE
    if result.degraded_s:
        say(f"Redis was away for {result.degraded_s:.1f} s: nothing was lost")
    if result.interrupted:
        return INTERRUPTED
    return CAMERA_FAILED if result.failed else DONE


def _counted(counts: dict[str, Any], folder: Path) -> str:
    from pipeline.words import counted

    told = (counted(counts[f"{thing}s"], thing) for thing in ("person", "stay", "transition"))
    return f"{', '.join(told)}: {folder}"


def _run_folder(out: Path | None, base: Path, overwrite: bool) -> Path:
    if out is None:
        taken = [int(p.name[4:]) for p in base.glob("run-*") if p.name[4:].isdigit()] if base.is_dir() else []
        return base / f"run-{max(taken, default=0) + 1:03d}"
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        from pipeline.config import ConfigError

        unfinished = f" (it holds a run that was killed: identrix finish {out})" if (out / "journal").is_dir() else ""
        raise ConfigError(f"--out {out}: the folder is not empty; name another one or add --overwrite{unfinished}")
    return out


if __name__ == "__main__":
    main()
