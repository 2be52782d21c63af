"""`identrix report`, `export` and `clip`: what a finished run is turned into for people and for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.door import AsJson, clear_errors, progress, say

Run = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a finished run")]


def report(
    run_folder: Run,
    crops: Annotated[
        bool, typer.Option("--crops", help="cut a picture of each stay from the sources, keep it in RUN/crops, show it")
    ] = False,
    look: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    as_json: AsJson = False,
) -> None:
    """Write RUN/report.html again: who was where, ways, travel times, persons and health in one file."""
    from pipeline.report import write_report

    problems: list[str] = []
    with clear_errors(), progress(quiet=as_json) as on_progress:
        if crops:
            from pipeline.kept_crops import keep_crops

            _, problems = keep_crops(run_folder, on_progress)
        path = write_report(run_folder)
    for problem in problems:
        say(f"no pictures: {problem}")
    if look:
        typer.launch(str(path.resolve()))
    typer.echo(json.dumps({"report": str(path), "bytes": path.stat().st_size}, indent=1) if as_json else str(path))


def export(
    run_folder: Run,
    format: Annotated[
        str, typer.Option("--format", "-f", help="mot, aicity, csv, jsonl, parquet, cvat, coco or supervision")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the files: copies that `forget` does not reach")],
    camera: Annotated[list[str] | None, typer.Option("--camera", help="only this camera; repeat for more")] = None,
    salt: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="other ids, made with the salt in this environment variable"),
    ] = None,
    first_frame: Annotated[int, typer.Option(help="number of a source's first frame, 0 or 1 (CVAT: always 0)")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write a run in the format of another program."""
    from pipeline.exports import export_run, keep_ids, salted_ids
    from pipeline.salted import salt_of

    with clear_errors():
        ids = salted_ids(salt_of(salt)) if salt else keep_ids
        done = export_run(run_folder, out, format, cameras=camera or (), ids=ids, first_frame=first_frame)
    if as_json:
        told = {"files": [str(path) for path in done.paths], "boxes": done.boxes, "persons": done.persons}
        typer.echo(json.dumps(told, indent=1))
        return
    typer.echo(f"{done.boxes} boxes of {done.persons} persons in {len(done.paths)} files: {out}")


def clip(
    run_folder: Run,
    who: Annotated[str, typer.Argument(metavar="WHO", help="a person: 12 or P12")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="MP4 file; default: P12.mp4 in this folder")] = None,
    as_json: AsJson = False,
) -> None:
    """Cut one person's way over all cameras into one video: a copy that `forget` does not reach."""
    from pipeline.clip import make_clip

    with clear_errors(), progress(quiet=as_json) as on_progress:
        done = make_clip(run_folder, who, out or Path(f"{who.strip().upper()}.mp4"), on_progress=on_progress)
    if as_json:
        scenes = [{"camera": scene.camera, "begin_s": scene.begin_s, "end_s": scene.end_s} for scene in done.scenes]
        told = {"clip": str(done.path), "person": done.global_id, "seconds": done.seconds, "scenes": scenes}
        typer.echo(json.dumps({**told, "from_videos": done.from_videos}, indent=1))
        return
    if done.from_videos:
        say(f"{', '.join(done.from_videos)}: the source is gone; cut from the run's own video, which shows everybody")
    typer.echo(f"{len(done.scenes)} scenes, {done.seconds:.0f} s: {done.path}")
