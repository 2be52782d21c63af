"""Reading a site's configuration. What does not fit is named: file, key, what was expected, the nearest name.

    site: shop
    cameras:
      - {name: lobby, source: videos/lobby.mp4, start: 2026-11-22T10:00:00Z}
      - {name: exit,  source: videos/exit.mp4,  start: 2026-11-22T10:00:00Z, offset_s: -1.5}
    detector: {model: yolo11n}

The keys are those of pipeline/schema.py. Secrets never stand in the file: `${NAME}` in a source or in redis.url is read
from the environment.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.schema import Camera, Config, MatchConfig, Reid, known_keys
from pipeline.weights import UnknownModel, find_model, list_models
from reid.cards import is_card, read_card
from reid.encoders import EncoderError
from st_model.calibration import DEFAULTS, Calibration, calibration_for
from st_model.faces import FACE

__all__ = ["Camera", "Config", "ConfigError", "MatchConfig", "check_encoder", "load_config", "load_match_config"]

C = TypeVar("C", bound=MatchConfig)


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where and what was expected."""


class _MachineConfig(Config):
    """The whole configuration, where no camera need be named."""

    cameras: tuple[Camera, ...] = ()


def load_config(
    path: Path | None = None,
    *,
    sources: Sequence[str] = (),
    overrides: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Config:
    """Read a site's YAML, or build one from `NAME=URI` sources; `key.sub=value` overrides win.

    Relative paths in a file are taken from the file's folder, those in `sources` from the current one.
    Raises ConfigError.

    >>> load_config(sources=["door=0"], overrides=["reid.max_crops=4"]).reid.max_crops
    4
    >>> load_config(sources=["door=0"], overrides=["reid.max_crop=4"])
    Traceback (most recent call last):
    ...
    pipeline.config.ConfigError: command line: reid.max_crop: unknown key; did you mean 'max_crops'?
    """
    origin = str(path) if path else "command line"
    raw = read_yaml(path) if path else {}
    if path:
        _beside_the_file(raw, path.parent)
    if sources:
        raw["cameras"] = [_source_argument(argument) for argument in sources]
    for override in overrides:
        set_key(raw, override)
    for key, value in (extra or {}).items():
        _put(raw, key.split("."), value)
    if not raw.get("cameras"):
        raise ConfigError(f"{origin}: no cameras; give --source NAME=URI (repeatable) or a 'cameras' list in the file")
    return _with_absolute_paths(_validated(raw, origin, Config), path.parent if path and not sources else Path.cwd())


def load_machine_config(overrides: Sequence[str] = ()) -> Config:
    """Every section from `key.sub=value` overrides, no camera needed: for a look at the machine. Raises ConfigError.

    >>> load_machine_config(["detector.model=motion"]).detector.model
    'motion'
    """
    raw: dict[str, Any] = {"site": MatchConfig().site_name}
    for override in overrides:
        set_key(raw, override)
    return _with_absolute_paths(_validated(raw, "command line", _MachineConfig), Path.cwd())


def _validated(raw: dict[str, Any], origin: str, kind: type[C]) -> C:
    try:
        return kind.model_validate(_with_face_calibration(_with_calibration(_with_environment(raw, origin))))
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {line}" for line in explained(error, kind))) from None


def read_yaml(path: Path, needs: str = "at least a 'cameras' list") -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; a YAML configuration was expected") from None
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if raw is None:
        raise ConfigError(f"{path}: the file is empty; it needs {needs}")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys such as 'cameras:' at the top, got {type(raw).__name__}")
    return raw


def _beside_the_file(raw: dict[str, Any], base: Path) -> None:
    """Make paths to weights and model cards that lie beside the site's file absolute."""
    for section, key in (("reid", "encoder"), ("faces", "encoder")):
        given = raw.get(section)
        if not isinstance(given, dict):
            continue
        wanted = given.get(key)
        if isinstance(wanted, str) and Path(wanted).suffix and (base / wanted).is_file():
            raw[section] = {**given, key: str((base / wanted).resolve())}


def _source_argument(argument: str) -> dict[str, Any]:
    name, sign, uri = argument.partition("=")
    # An URL's own '=' (rtsp://host/?a=b) is no separator, and a bare path names its camera after itself.
    if not sign or "/" in name or ":" in name:
        name, uri = Path(argument).stem if not argument.isdigit() else f"cam{argument}", argument
    if not uri:
        raise ConfigError(f"--source {argument}: nothing stands after '='; expected NAME=URI")
    return {"name": name, "source": uri}


def set_key(raw: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set {override}: expected key.sub=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    _put(raw, key.split("."), value)


def _put(raw: dict[str, Any], path: Sequence[str], value: Any) -> None:
    node: Any = raw
    for depth, part in enumerate(path[:-1]):
        node = (
            node[int(part)]
            if isinstance(node, list) and part.isdigit() and int(part) < len(node)
            else _child(node, part, path[: depth + 1])
        )
    if isinstance(node, list):
        raise ConfigError(
            f"--set {'.'.join(path)}: {path[-1]!r} is inside a list; say which entry, as in cameras.0.offset_s=1"
        )
    if not isinstance(node, dict):
        raise ConfigError(f"--set {'.'.join(path)}: there is nothing below {'.'.join(path[:-1])!r}")
    node[path[-1]] = value


def _child(node: Any, part: str, path: Sequence[str]) -> Any:
    if not isinstance(node, dict):
        raise ConfigError(f"--set {'.'.join(path)}: there is nothing below {'.'.join(path[:-1])!r}")
    if node.get(part) is None:
        node[part] = {}
    return node[part]


def _with_environment(value: Any, origin: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_environment(item, origin) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item, origin) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: _variable(match[1], origin), value)
    return value


def _variable(name: str, origin: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise ConfigError(
            f"{origin}: the environment has no variable {name}, which the configuration asks for"
        ) from None


def load_match_config(raw: Mapping[str, Any], *, overrides: Sequence[str] = ()) -> MatchConfig:
    """What matching needs, from plain values (a run's own configuration, say) and `key.sub=value` overrides.

    Keys that only cameras need are left out of `raw` and refused in `overrides`. An encoder of another program is taken
    from `raw` as it is; one that `overrides` name must be known. Raises ConfigError.

    >>> load_match_config({}, overrides=["match.g1=0.5"]).match.g1
    0.5
    """
    kept: dict[str, Any] = {key: deepcopy(raw[key]) for key in MatchConfig.model_fields if key in raw}
    recorded = _encoder_of(kept)
    for override in overrides:
        set_key(kept, override)
    unused = Config.model_fields.keys() - MatchConfig.model_fields.keys()
    keys = (override.partition("=")[0] for override in overrides)
    if foreign := [key for key in keys if key.split(".")[0] in unused]:
        why = "this command does not use it (it works on what was already seen)"
        raise ConfigError("\n".join(f"command line: {key}: {why}" for key in foreign))
    if isinstance(encoder := _encoder_of(kept), str) and encoder != recorded:
        check_encoder(encoder, "command line: reid.encoder")
    return _validated(kept, "command line", MatchConfig)


def _encoder_of(raw: Mapping[str, Any]) -> object:
    reid = raw.get("reid")
    return reid.get("encoder") if isinstance(reid, dict) else None


def check_encoder(name: str, said: str = "--encoder") -> None:
    """Raise ConfigError unless `name`, given in `said`, is an encoder that ships, a model card or a file that is there.

    >>> check_encoder("osnet")
    >>> check_encoder("osnet_x9")
    Traceback (most recent call last):
    ...
    pipeline.config.ConfigError: --encoder: no encoder named 'osnet_x9'; did you mean 'osnet'? (or give a path)
    """
    encoders = [model for model in list_models() if model.kind == "encoder"]
    names = [name for model in encoders for name in (model.name, *model.aliases)]
    if name in names or any(name == file.name for model in encoders for file in model.files):
        return
    path = Path(name).expanduser()
    if path.suffix or len(path.parts) > 1:
        if not path.exists():
            raise ConfigError(f"{said}: nothing at {path}; give a model card, weights, or one of: {', '.join(names)}")
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    raise ConfigError(f"{said}: no encoder named {name!r}; {hint} (or give a path)")


def _with_calibration(raw: dict[str, Any]) -> dict[str, Any]:
    """What a site's own calibration leaves open is taken from the one that ships for its encoder."""
    match, reid = raw.get("match") or {}, raw.get("reid") or {}
    if not (isinstance(match, dict) and isinstance(reid, dict)):
        return raw
    own = match.get("calibration") or {}
    if not isinstance(own, dict):
        return raw
    encoder = str(reid.get("encoder", Reid().encoder))
    if is_card(encoder) and not {"g0", "b0"} <= own.keys():  # a run's own settings outlive the card
        return {**raw, "match": {**match, "calibration": asdict(_calibration_of_card(Path(encoder))) | own}}
    names = {encoder}
    with contextlib.suppress(UnknownModel):
        model = find_model(encoder)
        names |= {model.name, *model.aliases}
    shipped = calibration_for(next(iter(sorted(names & DEFAULTS.keys())), encoder))
    return {**raw, "match": {**match, "calibration": asdict(shipped) | own}}


def _with_face_calibration(raw: dict[str, Any]) -> dict[str, Any]:
    """The same for faces, where they are asked for and their network comes with a card."""
    match, faces = raw.get("match") or {}, raw.get("faces") or {}
    if not (isinstance(match, dict) and isinstance(faces, dict) and faces.get("enabled") is True):
        return raw
    if "face_calibration" in match or not is_card(str(faces.get("encoder", ""))):
        return raw
    found = _calibration_of_card(Path(str(faces["encoder"])), FACE)
    return {**raw, "match": {**match, "face_calibration": asdict(found)}}


def _calibration_of_card(path: Path, other: Calibration | None = None) -> Calibration:
    try:
        found = read_card(path, check_file=False).calibration  # a replay needs no weights
    except EncoderError as error:
        raise ConfigError(str(error)) from error
    return Calibration(*found) if found else other or calibration_for(path.stem)


def _with_absolute_paths(config: Config, base: Path) -> Config:
    def absolute(path: Path | None) -> Path | None:
        return None if path is None else (base / path.expanduser()).resolve()

    cameras = tuple(
        camera
        if "://" in camera.source or camera.source.isdigit()
        else camera.model_copy(update={"source": str(absolute(Path(camera.source)))})
        for camera in config.cameras
    )
    detector = config.detector.model_copy(update={"recorded_dir": absolute(config.detector.recorded_dir)})
    redis = config.redis.model_copy(update={"state_dir": absolute(config.redis.state_dir)})
    return config.model_copy(update={"cameras": cameras, "detector": detector, "redis": redis})


def explained(error: ValidationError, root: Any = None) -> list[str]:
    """One line per thing to mend. A list whose entries are bad is not also called too short."""
    errors = error.errors()
    bad = {e["loc"][: len(e["loc"]) - n] for e in errors for n in range(1, len(e["loc"]))}
    return [_explain(e, root) for e in errors if not (e["type"] == "too_short" and e["loc"] in bad)]


def _explain(error: Any, root: Any) -> str:
    """One line for one pydantic error: key path, what was expected, what came, nearest valid name."""
    location = [str(part) for part in error["loc"]]
    where = ".".join(location)
    if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = known_keys(location[:-1], root)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(sorted(known))}"
        return f"{where}: unknown key; {hint}"
    message = re.sub(r"^(Value error|Assertion failed), ", "", error["msg"])
    got = error["input"]
    shown = "" if isinstance(got, dict | list) or error["type"] == "missing" or "got" in message else f" (got {got!r})"
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"
