"""`identrix test-reid` and `export-model`, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.door import AsJson, clear_errors, progress, say, show


def test_reid(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="pictures as Market-1501 or MSMT17 keep them, or PERSON/CAMERA/*.jpg"),
    ] = None,
    encoder: Annotated[str, typer.Option("--encoder", help="a name of `models`, a path, or a model card")] = "pair",
    flip: Annotated[bool, typer.Option("--flip", help="mean of each picture and its mirror")] = False,
    camera_norm: Annotated[bool, typer.Option("--camera-norm", help="take out what a camera's pictures share")] = False,
    joint: Annotated[str, typer.Option("--joint", help="calibrated, or paper: the published product")] = "calibrated",
    layout: Annotated[str, typer.Option("--layout", help="auto, market1501, msmt17 or folders")] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:0")] = "auto",
    train: Annotated[
        Path | None, typer.Option("--train", metavar="NAMES.txt", help="names of the training images")
    ] = None,
    query: Annotated[Path | None, typer.Option("--query", metavar="NAMES.txt", help="names of the queries")] = None,
    gallery: Annotated[Path | None, typer.Option("--gallery", metavar="NAMES.txt", help="names of the gallery")] = None,
    query_features: Annotated[
        Path | None, typer.Option("--query-features", metavar="Q.npy", help="(N, D), a row per query")
    ] = None,
    gallery_features: Annotated[Path | None, typer.Option("--gallery-features", metavar="G.npy", help="(N, D)")] = None,
    sequence_lengths: Annotated[
        Path | None, typer.Option("--sequence-lengths", metavar="L.json", help='{"c1s1": frames}')
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="write the rows to this file; - prints them")
    ] = None,
    train_features: Annotated[
        Path | None, typer.Option("--train-features", metavar="T.npy", help="adds the slope that labels would give")
    ] = None,
) -> None:
    """How well an encoder finds people again, with re-ranking and delays: from a FOLDER of pictures, or from names and
    features."""
    from pipeline.atomic import write_json_atomic
    from pipeline.image_retrieval import Choices, Rated
    from pipeline.image_retrieval import rate_pictures as rows_of_pictures
    from pipeline.image_retrieval import rows_table as picture_table
    from pipeline.market import MarketTestError, rows_table
    from pipeline.market import test_reid as rows_of_features

    files = {
        "--train": train,
        "--query": query,
        "--gallery": gallery,
        "--query-features": query_features,
        "--gallery-features": gallery_features,
        "--sequence-lengths": sequence_lengths,
    }
    missing = [name for name, path in files.items() if path is None]
    tested: Rated | None = None
    with clear_errors():
        if joint not in ("calibrated", "paper"):
            raise MarketTestError(f"--joint {joint}: expected calibrated or paper")
        if folder is not None:
            if extra := [name for name in files if name not in missing and name != "--sequence-lengths"]:
                raise MarketTestError(f"{', '.join(extra)}: features have their own form; leave out FOLDER or these")
            choices = Choices(
                encoder, device, flip, camera_norm, joint=joint, layout=layout, sequence_lengths=sequence_lengths
            )
            with progress(quiet=str(json_file) == "-") as on_progress:
                tested = rows_of_pictures(folder, choices, on_progress)
            rows: dict[str, dict[str, float]] = tested.rows
        else:
            if train is None or query is None or gallery is None or missing:
                raise MarketTestError(f"give a FOLDER of pictures, or names and features: {', '.join(missing)} missing")
            assert query_features and gallery_features and sequence_lengths
            rows = rows_of_features(
                train, query, gallery, query_features, gallery_features, sequence_lengths, train_features
            )
        plain = {"rows": rows, "counts": tested.counts, "notes": tested.notes} if tested else rows
        if json_file and str(json_file) != "-":
            write_json_atomic(json_file, plain)
    if str(json_file) == "-":
        typer.echo(json.dumps(plain, indent=1))
        return
    show(picture_table(tested) if tested else rows_table(rows))
    for note in tested.notes if tested else ():
        say(note)


def export_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a .safetensors or .pth file, or a model card")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="the file to write; its model card goes beside it")],
    as_json: AsJson = False,
) -> None:
    """Write a network as ONNX that takes any batch, checked against torch at batches 1, 2 and 32."""
    from pipeline.export_model import export_model as export
    from pipeline.export_model import in_words

    with clear_errors():
        done = export(model, out)
    if as_json:
        plain = {"path": str(done.path), "card": str(done.card), "dim": done.dim}
        typer.echo(json.dumps({**plain, "differences": {str(n): d for n, d in done.differences.items()}}, indent=1))
    else:
        typer.echo("\n".join(in_words(done)))
