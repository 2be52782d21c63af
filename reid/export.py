"""Torch networks to ONNX with a free batch, and the proof that the export says the same at every batch.

ReID exports are known to be right at batch 1 and wrong beyond: a batch written into some inner shape, and no error
tells. So an export counts only after ONNX Runtime has agreed with torch on batches of 1, 2 and 32.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.branches import OUTPUT
from reid.cards import Card, is_card, read_card, write_card
from reid.encoders import EncoderError, Preprocessing

BATCHES = (1, 2, 32)
AGREEMENT = 1e-4
"""Largest difference of a component of the unit vectors that counts as the same."""
OPSET = 20
"""The first with GELU as one operator: on a ViT it is a few percent faster than four of its parts, in ONNX Runtime."""


@dataclass(frozen=True)
class Exported:
    """What `export_onnx` wrote.

    path, card   the network, and the model card that tells `load_encoder` how to feed it
    dim          length of an embedding
    differences  batch -> largest difference to torch of a component of the unit vectors
    """

    path: Path
    card: Path
    dim: int
    differences: dict[int, float]


def export_onnx(source: Path, out: Path, *, folders: tuple[Path, ...] = ()) -> Exported:
    """Write `out` (.onnx) and, beside it, its model card (.yaml).

    source   what `reid.networks` can load: DualBackboneNet, OSNet .pth, or a card of a timm model
    folders  where a card may have its weights besides its own folder

    The exported network takes (N, 3, H, W) RGB in [0, 1] and normalises inside; its vectors are of unit length when the
    torch network's are. A dual backbone's has a second output, the weights of its branches (`reid.branches`). Written
    only when it agrees with torch to 1e-4 at batches 1, 2 and 32. Raises EncoderError when it does not, when there is
    nothing to export, or the exporter fails; OSError when `out` cannot be written.
    """
    import torch

    from reid.networks import load_network

    if out.suffix != ".onnx":
        raise EncoderError(f"{out}: the file to write must end in .onnx")
    card = read_card(source, folders) if is_card(source) else None
    file = card.file if card else source
    if file.suffix in (".onnx", ".xml"):
        raise EncoderError(f"{file}: is an export already; export-model takes .safetensors or .pth, or a card of one")
    network = load_network(file, card.name if card else source.stem, card)
    module = network.module.eval()
    images = _pictures(max(BATCHES), network.height_px, network.width_px)
    part = out.with_name(f".{out.name}.part.onnx")
    try:
        outputs = ["embedding", *([OUTPUT] if network.has_branches else [])]
        _export(module, torch.from_numpy(images[:2]), part, source, outputs)
        differences = compare(module, part, images)
        worst = max(differences.values())
        if not worst <= AGREEMENT:
            raise EncoderError(
                f"{source}: the export differs from torch by {worst:.1e} (batches {differences}); nothing was written"
            )
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    beside = out.with_suffix(".yaml")
    plain = Preprocessing(network.height_px, network.width_px, True, 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    described = Card(out.stem, out, plain, network.dim, card.calibration if card else None)
    write_card(
        beside,
        described,
        f"Exported from {file.name}; normalisation is inside.\n"
        f"Differs from torch by at most {worst:.1e} a component (batches {', '.join(map(str, BATCHES))}).",
    )
    return Exported(out, beside, network.dim, differences)


def compare(module: Any, path: Path, images: Any) -> dict[int, float]:
    """Largest difference between torch and ONNX Runtime per batch of `BATCHES`, of unit vectors and of what else comes.

    images  (N, 3, H, W) float32 in [0, 1], N at least the largest batch
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    differences = {}
    for batch in BATCHES:
        with torch.inference_mode():
            given = module(torch.from_numpy(images[:batch]))
        ours = [part.numpy() for part in (given if isinstance(given, tuple) else (given,))]
        theirs = session.run(None, {name: images[:batch]})
        shapes, others = [part.shape for part in theirs], [part.shape for part in ours]
        if shapes != others:
            raise EncoderError(f"{path.name}: gives {shapes} at batch {batch}, torch {others}")
        ours[0], theirs[0] = _unit(ours[0]), _unit(theirs[0])
        differences[batch] = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    return differences


def _export(module: Any, images: Any, path: Path, source: Path, outputs: list[str]) -> None:
    import torch

    try:
        quiet = logging.getLogger("torch.onnx")
        before, quiet.disabled = quiet.disabled, True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the exporter's own making; the comparison is what counts
                torch.onnx.export(
                    module,
                    (images,),
                    str(path),
                    input_names=["images"],
                    output_names=outputs,
                    dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
                    opset_version=OPSET,
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                )
        finally:
            quiet.disabled = before
    except ImportError as error:
        raise EncoderError(
            f"export needs the packages onnx and onnxscript: pip install 'identrix[export]' ({error})"
        ) from (error)
    except OSError:
        raise
    except Exception as error:  # torch raises a dozen unrelated types here
        reason = str(error).strip().splitlines()[0][:200]
        raise EncoderError(f"{source}: cannot be exported to ONNX: {reason}") from error


def _pictures(n: int, height_px: int, width_px: int) -> Any:
    """(n, 3, H, W) float32 in [0, 1]: smooth blobs, all different."""
    rng = np.random.default_rng(0)
    small = rng.random((n, 3, 8, 4), dtype=np.float32)
    rows = np.linspace(0, 7, height_px).round().astype(np.int64)
    columns = np.linspace(0, 3, width_px).round().astype(np.int64)
    return np.ascontiguousarray(small[:, :, rows][:, :, :, columns])


def _unit(rows: Any) -> Any:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
