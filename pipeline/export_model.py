"""`export-model`: a trained network as ONNX with a free batch, with its model card, from a name, a path or a card."""

from __future__ import annotations

import errno
from pathlib import Path

from pipeline.atomic import output_error
from pipeline.weights import models_folders, resolve
from reid.export import Exported, export_onnx


def export_model(model: str, out: Path) -> Exported:
    """Export a .safetensors or .pth file, or the card of a timm model; see `reid.export`.

    Raises EncoderError (also when export and torch disagree), WeightsError, OutputError.
    """
    source = resolve(model)
    if not out.parent.is_dir():  # said now: exporting takes long
        raise output_error(out, FileNotFoundError(errno.ENOENT, "no such folder"))
    try:
        return export_onnx(source, out, folders=tuple(models_folders()))
    except OSError as error:
        raise output_error(out, error) from error


def in_words(done: Exported) -> list[str]:
    """What was written, for people."""
    differences = ", ".join(f"{worst:.1e} at batch {batch}" for batch, worst in done.differences.items())
    return [
        f"{done.path}: {done.dim}-d embeddings, any batch; largest difference to torch {differences}",
        f"use it: --set reid.encoder={done.card}",
    ]
