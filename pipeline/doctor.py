"""What works on this machine, and what to do about the rest. Every check does the thing itself, in small."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Config
from pipeline.state_dir import state_dir

State = Literal["ok", "note", "bad"]
LEAST_DISK_GB, LEAST_MEMORY_GB = 2.0, 2.0
"""Below this a run of an hour may not fit: an hour of video is about 1 GB a camera, networks take about 1 GB."""
_FIRST_GOOD_YEAR = 2024
_STA_UNSYNC, _TIME_ERROR = 0x0040, 5  # of adjtimex(2)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    state   ok; note: works, but something is missing that some need; bad: a run with these settings cannot work
    found   what is there
    advice  what to do; empty when it is ok
    """

    name: str
    state: State
    found: str
    advice: str = ""


def examine(config: Config, runs: Path) -> list[Check]:
    """Look at everything, in the order a run needs it. Cameras that `config` names are opened, too."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("video", _codecs),
        ("pictures", _opencv),
        ("device", lambda: _device(config)),
        ("engines", _engines),
        ("detector", lambda: _detector(config)),
        ("encoder", lambda: _encoder(config)),
        ("faces", lambda: _faces(config)),
        ("redis", lambda: _redis(config)),
        ("disk", lambda: _disk(runs, state_dir(config))),
        ("memory", _memory),
        ("clock", _clock),
        ("app", _app),
    ]
    checks += [(f"camera {camera.name}", lambda camera=camera: _camera(camera)) for camera in config.cameras]  # type: ignore[misc]
    return [_safely(name, check) for name, check in checks]


def _safely(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a broken installation fails in any way it likes, and that is the finding
        return Check(
            name, "bad", f"{type(error).__name__}: {error}".splitlines()[0], "install Identrix again: make setup"
        )


def _python() -> Check:
    return Check("python", "ok", f"Python {sys.version.split()[0]}, Identrix {_version('identrix')}")


def _codecs() -> Check:
    """Write a second of H.264 and read it again; which other codecs can be read."""
    import av
    import numpy as np

    from pipeline.sources import Source, read_frames
    from pipeline.video import VideoWriter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        with VideoWriter(path) as writer:
            for n in range(5):
                writer.write(np.full((64, 64, 3), 40 * n, np.uint8), n / 5)
        read = sum(1 for _ in read_frames(Source("a", str(path))))
    if read != 5:
        return Check("video", "bad", f"wrote 5 pictures of H.264, read {read}", "install PyAV again: pip install av")
    wanted = ("h264", "hevc", "av1", "vp9", "mjpeg", "mpeg4")
    known = av.codecs_available
    missing = [name for name in wanted if name not in known]
    libraries = ", ".join(f"{name} {'.'.join(map(str, v))}" for name, v in sorted(av.library_versions.items())[:2])
    found = f"PyAV {_version('av')} ({libraries}); writes H.264, reads {', '.join(n for n in wanted if n in known)}"
    if missing:
        return Check("video", "note", found, f"films in {', '.join(missing)} cannot be read: convert them with ffmpeg")
    return Check("video", "ok", found)


def _opencv() -> Check:
    try:
        import cv2
    except ImportError as error:
        return Check(
            "pictures",
            "bad",
            f"OpenCV does not load: {error}",
            "on a server without a screen: apt-get install libgl1 libglib2.0-0, or pip install opencv-python-headless",
        )
    return Check("pictures", "ok", f"OpenCV {cv2.__version__}, {cv2.getNumThreads()} threads")


def _device(config: Config) -> Check:
    import torch

    wanted = config.device
    there = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if there else []
    if wanted.startswith("cuda") and not there:
        return Check(
            "device", "bad", f"device {wanted}: torch sees no GPU", "say device: auto, or install a GPU driver"
        )
    if names:
        return Check("device", "ok", f"{', '.join(names)} (torch {torch.__version__})")
    seen = "an NVIDIA driver is here" if shutil.which("nvidia-smi") else "no NVIDIA driver"
    return Check("device", "ok", f"CPU, {os.cpu_count()} cores; {seen} (torch {torch.__version__})")


def _engines() -> Check:
    names = ("torch", "onnxruntime", "openvino", "ultralytics", "timm")
    there = {name: _version(name) for name in names}
    missing = [name for name, number in there.items() if number == "missing"]
    import onnxruntime

    providers = ", ".join(p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers())
    found = f"{', '.join(f'{n} {v}' for n, v in there.items() if n not in missing)}; ONNX Runtime on {providers}"
    if missing:
        return Check("engines", "note", found, f"models of {', '.join(missing)} cannot be used: make setup installs it")
    return Check("engines", "ok", found)


def _detector(config: Config) -> Check:
    name = config.detector.model
    if name in ("motion", "recorded"):
        return Check("detector", "ok", f"{name}: needs no weights")
    return _weights("detector", name, "--set detector.model=motion needs none")


def _encoder(config: Config) -> Check:
    return _weights("encoder", config.reid.encoder, "--set reid.encoder=stripes needs none")


def _weights(what: str, name: str, instead: str) -> Check:
    from pipeline.weights import UnknownModel, cache_dir, find_model, locate, resolve

    try:
        model = find_model(name)
    except UnknownModel:
        return Check(what, "ok", f"{name}: {resolve(name)}")  # a path, or the error that says what is near
    parts = [find_model(part) for part in model.parts] or [model]
    absent = [part.name for part in parts if part.files and locate(part.name) is None]
    if not absent:
        return Check(
            what, "ok", f"{name}: " + (", ".join(str(locate(p.name)) for p in parts if p.files) or "no weights")
        )
    folder = os.environ.get("IDENTRIX_MODELS") or str(cache_dir())
    return Check(
        what,
        "note",
        f"{name}: {', '.join(absent)} not here yet",
        f"the first run fetches it; without a network: identrix models says what to put into {folder}, or {instead}",
    )


def _faces(config: Config) -> Check:
    from pipeline.blur import load_faces

    if load_faces() is not None:
        return Check("faces", "ok", "YuNet: privacy.blur=faces finds faces")
    asked = config.privacy.blur == "faces"
    advice = (
        "privacy.blur=faces hides whole heads instead: identrix models says where yunet comes from" if asked else ""
    )
    return Check("faces", "note" if asked else "ok", "no face detector (only privacy.blur=faces uses one)", advice)


def _redis(config: Config) -> Check:
    from pipeline.site_store import open_store
    from st_model.store_errors import StoreError

    url = config.redis.url
    try:
        began_s = time.perf_counter()
        with open_store(config, config.tables) as (store, _):
            version_now, place = store.version(), store.place
            server = store.client.info("server")
        took_ms = 1000 * (time.perf_counter() - began_s)
    except StoreError as error:
        advice = (
            f"look at {state_dir(config) / 'server.log'}, or set redis.url to a server of yours"
            if url == "embedded"
            else "start it, or mend redis.url; redis.url=embedded needs none"
        )
        return Check("redis", "bad", str(error), advice)
    name = f"{server.get('server_name', 'redis')} {server.get('valkey_version') or server.get('redis_version')}"
    where = f"embedded, in {state_dir(config)}" if url == "embedded" else place
    found = f"{name} ({where}), answers in {took_ms:.0f} ms; site {config.site_name}, tables version {version_now}"
    if url != "embedded" and server.get("maxmemory_policy", "noeviction") != "noeviction":
        return Check("redis", "note", found, "set maxmemory-policy noeviction, or counts vanish unseen")
    return Check("redis", "ok", found)


def _disk(*folders: Path) -> Check:
    said, short = [], []
    for folder in folders:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not os.access(there, os.W_OK):
            return Check("disk", "bad", f"{there} cannot be written to", "choose another --out, or redis.state_dir")
        free_gb = shutil.disk_usage(there).free / 1e9
        said.append(f"{folder}: {free_gb:.0f} GB free")
        short += [str(folder)] if free_gb < LEAST_DISK_GB else []
    if short:
        return Check("disk", "bad", "; ".join(said), f"make room in {', '.join(short)}: identrix retain, --no-video")
    return Check("disk", "ok", "; ".join(said))


def _memory() -> Check:
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free_gb = int(rows["MemAvailable"].split()[0]) * 1024 / 1e9
    except (OSError, KeyError, ValueError):
        return Check("memory", "ok", "this system does not say how much is free")
    if free_gb < LEAST_MEMORY_GB:
        return Check("memory", "note", f"{free_gb:.1f} GB free", "end other programs, or take reid.encoder=retail-0287")
    return Check("memory", "ok", f"{free_gb:.1f} GB free")


def _clock() -> Check:
    """Live cameras are stamped with this clock; a jump looks like people who took a jump's time."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.gmtime().tm_year < _FIRST_GOOD_YEAR:
        return Check("clock", "bad", now, "set the clock: live cameras are stamped with it")
    synchronised = _clock_synchronised()
    if synchronised is False:
        advice = "live cameras on several machines need one clock: start chrony or systemd-timesyncd"
        return Check("clock", "note", f"{now}, not synchronised with a time server", advice)
    return Check("clock", "ok", now + (", synchronised" if synchronised else ""))


def _clock_synchronised() -> bool | None:
    """What the kernel says; None where it cannot be asked."""
    import ctypes

    class Timex(ctypes.Structure):
        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset_to_esterror", ctypes.c_long * 4),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 256),
        )

    try:
        timex = Timex()
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else not (state == _TIME_ERROR or timex.status & _STA_UNSYNC)


def _app() -> Check:
    found = _version("streamlit")
    if found == "missing":
        return Check("app", "note", "Streamlit is not installed", "identrix app needs it: pip install 'identrix[app]'")
    return Check("app", "ok", f"Streamlit {found}")


def _camera(camera: Any) -> Check:
    from pipeline.runner import source_of
    from pipeline.sources import SourceError, check, probe

    source = source_of(camera)
    try:
        check(source)
        info = probe(source)
    except SourceError as error:
        return Check(f"camera {camera.name}", "bad", str(error), "mend its source in the configuration")
    rate = f"{info.fps:.3g} fps" if info.fps else "rate unknown"
    return Check(f"camera {camera.name}", "ok", f"{info.codec} {info.width}x{info.height}, {rate}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def in_words(checks: Sequence[Check]) -> list[str]:
    """The checks as lines for people."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[check.state]
        lines.append(f"{mark} {check.name:<{width}}  {check.found}")
        if check.advice:
            lines.append(f"     {'':<{width}}  -> {check.advice}")
    return lines
