"""Model cards: what a network wants to see and what it gives, in a small YAML file beside its weights.

    file: transreid_msmt17.onnx      # beside the card, or in $IDENTRIX_MODELS
    input: [256, 128]                # height, width in pixels
    colours: rgb                     # or bgr
    mean: [0.5, 0.5, 0.5]            # per channel, in the order of `colours`, after division by `range`
    std: [0.5, 0.5, 0.5]
    dimension: 768                   # length of the embedding
    calibration: [22.0, -14.0]       # slope and offset: log-odds of "one person" = slope * cosine + offset

and, where they are needed:

    range: 255                       # pixels are divided by this first; 1 for networks fed with 0-255 (default 255)
    sha256: e78604f4...              # the file must have it
    timm: vit_base_patch16_224       # `file` holds weights of this timm model (.pth or .safetensors)
    name: transreid-msmt17           # what a run folder calls it (default: the card's file name)
    output: embedding                # which output of an ONNX file (default: the first)
    trained_on: MSMT17               # said for people, not used

`calibration` may be left out: `pair`'s is used then, until the site has fitted its own.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.encoders import EncoderError, Preprocessing

NEEDED = ("file", "input", "colours", "mean", "std", "dimension")
OPTIONAL = ("calibration", "range", "sha256", "timm", "name", "output", "trained_on", "licence", "note")


@dataclass(frozen=True)
class Card:
    """One network, described.

    file         where the weights are
    dimension    D, length of an embedding
    calibration  (slope, offset) of raw cosines, or None
    timm         timm's name of the network when `file` holds bare weights
    output       name of the ONNX output, or None for the first
    """

    name: str
    file: Path
    preprocessing: Preprocessing
    dimension: int
    calibration: tuple[float, float] | None = None
    timm: str | None = None
    output: str | None = None


def is_card(path: Path | str) -> bool:
    """Whether a path is that of a card, by its ending.

    >>> is_card("nets/transreid.yaml"), is_card("osnet.onnx")
    (True, False)
    """
    return Path(path).suffix.lower() in (".yaml", ".yml")


def read_card(path: Path, folders: Sequence[Path] = (), *, check_file: bool = True) -> Card:
    """Read a card. `file` is looked for beside the card, then in `folders`.

    check_file  false: the weights need not be there

    Raises EncoderError with one line: not YAML, a key missing or unknown, a value that makes no sense, no such
    weights, or another sha256.
    """
    path = Path(path)
    raw = _content(path)
    if unknown := [key for key in raw if key not in (*NEEDED, *OPTIONAL)]:
        near = difflib.get_close_matches(str(unknown[0]), [*NEEDED, *OPTIONAL], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join([*NEEDED, *OPTIONAL])}"
        raise EncoderError(f"card {path}: unknown key {unknown[0]!r}; {hint}")
    if missing := [key for key in NEEDED if raw.get(key) is None]:
        raise EncoderError(f"card {path}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    height, width = (_whole(path, "input", value) for value in _list(path, raw, "input", 2))
    colours = str(raw["colours"]).lower()
    if colours not in ("rgb", "bgr"):
        raise EncoderError(f"card {path}: colours must be rgb or bgr, got {raw['colours']!r}")
    divisor = _number(path, "range", raw.get("range", 255))
    mean, std = (_numbers(path, raw, key, 3) for key in ("mean", "std"))
    if divisor <= 0 or min(std) <= 0:
        raise EncoderError(f"card {path}: range and std must be positive, got {divisor:g} and {std}")
    calibration = _numbers(path, raw, "calibration", 2) if raw.get("calibration") is not None else None
    if calibration and calibration[0] <= 0:
        raise EncoderError(f"card {path}: the slope of the calibration must be positive, got {calibration[0]:g}")
    return Card(
        name=str(raw.get("name") or path.stem),
        file=_file(path, raw, folders) if check_file else path.parent / str(raw["file"]),
        preprocessing=Preprocessing(
            height, width, colours == "rgb", 1 / divisor, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
        ),
        dimension=_whole(path, "dimension", raw["dimension"]),
        calibration=(calibration[0], calibration[1]) if calibration else None,
        timm=None if raw.get("timm") is None else str(raw["timm"]),
        output=None if raw.get("output") is None else str(raw["output"]),
    )


def write_card(path: Path, card: Card, comment: str = "") -> None:
    """Write a card that `read_card` reads back; `file` is named without its folder."""
    see = card.preprocessing
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [
        f"name: {card.name}",
        f"file: {card.file.name}",
        f"input: [{see.height_px}, {see.width_px}]",
        f"colours: {'rgb' if see.rgb else 'bgr'}",
        f"range: {1 / see.scale:g}",
        f"mean: {list(see.mean)}",
        f"std: {list(see.std)}",
        f"dimension: {card.dimension}",
    ]
    if card.calibration:
        lines.append(f"calibration: {list(card.calibration)}")
    if card.output:
        lines.append(f"output: {card.output}")
    part = path.with_name(f".{path.name}.part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(path)


def _content(path: Path) -> dict[str, Any]:
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EncoderError(f"card {path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "problem", None) or "not text"
        raise EncoderError(f"card {path}: not valid YAML: {reason}") from error
    if not isinstance(raw, dict):
        raise EncoderError(f"card {path}: expected keys such as 'file:' and 'input:', got {type(raw).__name__}")
    return raw


def _file(path: Path, raw: dict[str, Any], folders: Sequence[Path]) -> Path:
    wanted = Path(str(raw["file"])).expanduser()
    places = [path.parent / wanted, *(folder / wanted for folder in folders)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        where = " or ".join(str(place.parent) for place in places)
        raise EncoderError(f"card {path}: no weights file {wanted.name} in {where}")
    expected = raw.get("sha256")
    if expected is not None:
        with found.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != str(expected).lower():
            raise EncoderError(f"card {path}: {found.name} has sha256 {got}, the card says {expected}; fetch it again")
    return found


def _list(path: Path, raw: dict[str, Any], key: str, length: int) -> list[Any]:
    value = raw[key]
    if not isinstance(value, list) or len(value) != length:
        raise EncoderError(f"card {path}: {key} must be a list of {length} numbers, got {value!r}")
    return value


def _numbers(path: Path, raw: dict[str, Any], key: str, length: int) -> list[float]:
    return [_number(path, key, value) for value in _list(path, raw, key, length)]


def _number(path: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EncoderError(f"card {path}: {key} must hold numbers, got {value!r}")
    return float(value)


def _whole(path: Path, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise EncoderError(f"card {path}: {key} must hold whole numbers from 1, got {value!r}")
    return value
