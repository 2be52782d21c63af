"""`identrix search`, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.door import AsJson, clear_errors, say, show


def search(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a finished run")],
    image: Annotated[Path, typer.Option("--image", "-i", help="a picture of the person")],
    top: Annotated[int, typer.Option("--top", help="how many persons to name")] = 10,
    near: Annotated[
        str | None, typer.Option("--near", metavar="CAMERA@TIME", help="where and when the picture was taken")
    ] = None,
    crops: Annotated[Path | None, typer.Option("--crops", metavar="DIR", help="write a picture of each there")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="the picture is one person and nothing else")] = False,
    encoder: Annotated[str | None, typer.Option("--encoder", help="what made the run's embeddings")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:0")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Who in a run looks like the person in a picture: persons, cameras, times, similarity, probability."""
    from pipeline.journal import to_json
    from pipeline.search import search as find
    from pipeline.search_table import in_a_table

    with clear_errors():
        result = find(run_folder, image, top=top, near=near, encoder=encoder, whole=whole, device=device)
        written: list[Path] = []
        problems: list[str] = []
        if crops:
            from pipeline.search_crops import write_crops

            written, problems = write_crops(run_folder, result.found, crops)
    if as_json:
        typer.echo(json.dumps({**to_json(result), "crops": [str(p) for p in written], "problems": problems}, indent=1))
        return
    show(in_a_table(result))
    for line in (*result.notes, *problems):
        say(line)
    if crops:
        typer.echo(f"{len(written)} pictures: {crops}")
