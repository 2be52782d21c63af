"""From a model's name to the file that holds its weights.

A name is looked for, in this order:

1. as a path: anything that exists, or that has a folder or an ending in it;
2. in the folder `$IDENTRIX_MODELS` (for sites without a network; nothing there is ever changed);
3. in the cache, `$IDENTRIX_CACHE`, else `$XDG_CACHE_HOME/identrix`, else `~/.cache/identrix`, checked by sha256;
4. at its publisher's address: downloaded into the cache, checked, and only then given its name.

Where a publisher's sha256 is known it must fit. Where it is not, the sum of the first download is written beside the
file and must fit from then on.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from pipeline.known_models import KNOWN_MODELS, Model, ModelFile
from reid.cards import is_card, read_card

TIMEOUT_S = 30.0
"""Silence after which a download is given up; not a limit on its whole length."""

_CHUNK = 1 << 20


class WeightsError(ValueError):
    """Weights cannot be had; the message says which, from where, and into which folder to put them."""


class UnknownModel(WeightsError):
    """No model of that name."""


class WeightsNotFound(WeightsError, FileNotFoundError):
    """An explicit path with nothing there."""


class DownloadFailed(WeightsError, ConnectionError):
    """The publisher could not be reached, or the transfer broke."""


class WrongChecksum(WeightsError):
    """The file is not the one that its publisher named."""


def list_models() -> tuple[Model, ...]:
    """Every model known by name, detectors first."""
    return KNOWN_MODELS


def find_model(name: str) -> Model:
    """The row of a model; UnknownModel with the nearest names if there is none.

    >>> find_model("retail-0277").name
    'person-reidentification-retail-0277'
    >>> find_model("yolo11")
    Traceback (most recent call last):
    pipeline.weights.UnknownModel: no model named 'yolo11'; did you mean yolo11m, yolo11n or yolo11s? (or give a path)
    """
    for model in KNOWN_MODELS:
        if name in (model.name, *model.aliases):
            return model
    names = [n for model in KNOWN_MODELS for n in (model.name, *model.aliases)]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {_or(sorted(near))}?" if near else f"known: {', '.join(model.name for model in KNOWN_MODELS)}"
    raise UnknownModel(f"no model named {name!r}; {hint} (or give a path)")


def resolve(name: str) -> Path:
    """The file (or, for an exported YOLO, the folder) with that model's weights, downloaded if need be.

    Raises a WeightsError: UnknownModel, WeightsNotFound, DownloadFailed or WrongChecksum.
    """
    path = Path(name).expanduser()
    if path.exists() and (path.suffix or len(path.parts) > 1):
        return path
    if len(path.parts) > 1 or (path.suffix and not _is_entry(name)):
        raise WeightsNotFound(f"no weights at {path}")
    model = find_model(path.stem if _is_entry(name) else name)
    if not model.files:
        parts = ", ".join(model.parts) or "nothing"
        raise WeightsError(f"{model.name} has no weights file of its own; it is made of {parts}")
    return _in_models_folder(model) or _in_cache(model)


def resolve_all(name: str) -> dict[str, Path]:
    """Every file that the encoder of that name is made of: {model name: path}, ready for `reid.encoders.load_encoder`.

    `pair` gives two, `stripes` none, a model card itself and the weights it names, anything else one. Raises a
    WeightsError, and EncoderError for a card that is wrong.

    >>> resolve_all("stripes")
    {}
    """
    if is_card(name):
        card = resolve(name)
        return {name: card, Path(name).stem + " weights": read_card(card, models_folders()).file}
    try:
        model = find_model(name)
    except UnknownModel:
        return {name: resolve(name)}  # a path, or an error that says so
    if not model.files:
        return {part: resolve(part) for part in model.parts}
    return {model.name: resolve(model.name)}


def locate(name: str) -> Path | None:
    """Where the weights of a known model are now, without fetching anything; None when they are not here, and for
    models that have no file of their own (`model.files` is empty).

    Raises UnknownModel.
    """
    model = find_model(name)
    if not model.files:
        return None
    cached = cache_dir() / model.name
    here = all(_is_sound(cached / file.name, file) for file in model.files)
    return _in_models_folder(model) or (cached / model.files[0].name if here else None)


def models_folders() -> list[Path]:
    """The folder `$IDENTRIX_MODELS`, if it is set: where model cards may have their weights, too."""
    folder = os.environ.get("IDENTRIX_MODELS")
    return [Path(folder).expanduser()] if folder else []


def cache_dir() -> Path:
    """Folder that downloads go to; not created here."""
    if chosen := os.environ.get("IDENTRIX_CACHE"):
        return Path(chosen).expanduser() / "models"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "identrix" / "models"


def sha256_of(path: Path) -> str:
    """sha256 of weights, 64 hex digits: of a file; of a folder, or an OpenVINO .xml with its .bin, the sha256 of the
    lines "sum  name" in order of name, so that `sha256sum` can check it.

    Raises WeightsNotFound.
    """
    path = Path(path)
    if path.is_dir():
        members, root = sorted(p for p in path.rglob("*") if p.is_file()), path
    elif path.is_file():
        members, root = [path], path.parent
        if path.suffix == ".xml" and path.with_suffix(".bin").is_file():
            members = [path.with_suffix(".bin"), path]
    else:
        raise WeightsNotFound(f"no weights at {path}")
    if len(members) == 1 and path.is_file():
        return _file_sha256(path)
    lines = (f"{_file_sha256(member)}  {member.relative_to(root).as_posix()}\n" for member in members)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_entry(name: str) -> bool:
    """Whether somebody wrote a known model's published file name, as in `yolo11n.pt`."""
    return any(name == file.name for model in KNOWN_MODELS for file in model.files)


def _in_models_folder(model: Model) -> Path | None:
    folder = os.environ.get("IDENTRIX_MODELS")
    if not folder:
        return None
    candidates = (Path(folder).expanduser() / local for local in model.local_names)
    return next((path for path in candidates if path.exists()), None)


def _in_cache(model: Model) -> Path:
    folder = cache_dir() / model.name
    for file in model.files:
        target = folder / file.name
        if not _is_sound(target, file):
            _download(model, file, target)
    return folder / model.files[0].name


def _is_sound(target: Path, file: ModelFile) -> bool:
    return target.is_file() and _trusted_sum(target, file) == _file_sha256(target)


def _trusted_sum(target: Path, file: ModelFile) -> str | None:
    if file.sha256:
        return file.sha256
    with contextlib.suppress(FileNotFoundError):
        return _sum_file(target).read_text().split()[0]
    return None


def _sum_file(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _download(model: Model, file: ModelFile, target: Path) -> None:
    by_hand = f"fetch {file.url} by hand and put it into {_hand_folder(model)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary_name = tempfile.mkstemp(dir=target.parent, prefix=f".{file.name}.", suffix=".part")
    except OSError as error:
        raise WeightsError(
            f"{model.name}: cannot write to the cache {target.parent}: {error.strerror or error}; {by_hand}"
        ) from error
    temporary = Path(temporary_name)
    try:
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as out:
            for chunk in _fetch(file.url):
                digest.update(chunk)
                out.write(chunk)
        expected = _trusted_sum(target, file)
        if expected and digest.hexdigest() != expected:
            raise WrongChecksum(
                f"{model.name}: {file.url} gave a file with sha256 {digest.hexdigest()}, expected {expected}; "
                f"it was thrown away. Try again, or {by_hand}"
            )
        if not expected:
            _sum_file(target).write_text(f"{digest.hexdigest()}  {target.name}\n")
        temporary.replace(target)
    except (OSError, HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the open response
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise DownloadFailed(f"{model.name}: download of {file.url} failed ({reason}); {by_hand}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _fetch(url: str) -> Iterator[bytes]:
    request = urllib.request.Request(url, headers={"User-Agent": "identrix"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        announced = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            yield chunk
        if announced is not None and received != int(announced):
            raise ConnectionError(f"broke off after {received} of {announced} bytes")


def _hand_folder(model: Model) -> str:
    folder = os.environ.get("IDENTRIX_MODELS")
    nested = Path(model.local_names[0]).parent if len(model.files) > 1 else Path()
    if folder:
        return f"{Path(folder) / nested} ($IDENTRIX_MODELS)"
    return f"{cache_dir() / model.name}, or into a folder of your own named by $IDENTRIX_MODELS"


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _or(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
