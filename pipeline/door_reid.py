"""`identrix export-model`, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.door import AsJson, clear_errors


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
