"""What a site's configuration may say: sections, keys, types, ranges and defaults. Reading it is pipeline/config.py."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass as validated

from pipeline.camera_state import LiveSettings
from pipeline.tracking import TrackerSettings
from reid.faces import FaceGates
from st_model.hypotheses import MatchSettings
from st_model.transitions import TableSettings

_STRICT = ConfigDict(extra="forbid", frozen=True)


class _Section(BaseModel):
    model_config = _STRICT


def _seconds(value: object) -> object:
    """Site time of a video's first frame: a number of seconds, or a date (UTC unless it says otherwise)."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be seconds or a date such as 2026-11-22T10:00:00Z") from None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return value


class Camera(_Section):
    """One camera: where its pictures come from and how its clock stands to the site's."""

    name: str = Field(min_length=1, max_length=64)
    source: str = Field(min_length=1)
    start: Annotated[float, BeforeValidator(_seconds)] = 0.0
    offset_s: float = 0.0
    detect_hz: float | None = Field(default=None, gt=0, le=240)
    stride: int = Field(default=1, ge=1)
    transport: Literal["tcp", "udp"] = "tcp"
    live: bool = False  # http: whether a camera stands behind the address; rtsp and webcams are always live
    area: str = Field(default="main", min_length=1, max_length=64, pattern=r"^[\w.-]+$")

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, name: str) -> str:
        if not re.fullmatch(r"[\w][\w. -]*", name):
            raise ValueError("may hold letters, digits, space, '.', '_' and '-' only: it names files")
        if name.lower() == "mosaic":
            raise ValueError("is taken: video/mosaic.mp4 shows all cameras")
        return name

    @model_validator(mode="after")
    def _only_addresses_are_live(self) -> Camera:
        if self.live and "://" not in self.source and not self.source.isdigit():
            raise ValueError("a file cannot be live; leave 'live' out")
        return self

    @field_validator("source", mode="before")
    @classmethod
    def _webcam_number(cls, source: object) -> object:
        return str(source) if isinstance(source, int) and not isinstance(source, bool) else source


class Detector(_Section):
    """What finds persons: a YOLO model or path, `motion` (no weights) or `recorded` (MOT files in `recorded_dir`)."""

    model: str = "yolo11n"
    conf: float = Field(default=0.1, gt=0, lt=1)
    iou: float = Field(default=0.7, gt=0, lt=1)
    imgsz: int | None = Field(default=None, ge=32, le=4096)
    recorded_dir: Path | None = None

    @model_validator(mode="after")
    def _recorded_needs_files(self) -> Detector:
        if self.model == "recorded" and self.recorded_dir is None:
            raise ValueError("model 'recorded' needs recorded_dir, a folder with one <camera>.txt (MOTChallenge) each")
        return self


class Reid(_Section):
    """What describes appearance: an encoder name, a path to weights or a model card, and how many crops a stay is
    judged by. `half`, `compile` and `tensorrt`: see `reid.encoders.Speed`."""

    encoder: str = "pair"
    half: bool = False
    compile: bool = False
    tensorrt: bool = False
    max_crops: int = Field(default=6, ge=1, le=64)
    first_after_s: float = Field(default=1.5, ge=0)


class Redis(_Section):
    """Where the tables live: `embedded`, or `redis://`, `rediss://`, `unix://`."""

    url: str = "embedded"
    state_dir: Path | None = None

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if url != "embedded" and not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be 'embedded' or start with redis://, rediss:// or unix://")
        return url


class Output(_Section):
    """What is written. Of live cameras, whose pictures come once:

    segment_s   video is written in files of so many seconds
    keep_hours  older ones are removed; null: none
    delay_s     pictures wait so long, compressed, for the ids of the people in them
    buffer_mb   so much memory may wait in all; beyond it pictures are drawn with what is known
    part_hours  tracks and decisions are finished in parts of so many hours, so that memory has an end
    """

    dir: Path = Path("runs")
    video: bool = True
    plots: bool = True
    fill_gaps_s: float = Field(default=1.0, ge=0)
    smooth_s: float = Field(default=0.2, ge=0)
    segment_s: float = Field(default=600.0, ge=1)
    keep_hours: float | None = Field(default=None, gt=0)
    delay_s: float = Field(default=5.0, ge=0, le=120)
    buffer_mb: float = Field(default=512.0, ge=1)
    part_hours: float = Field(default=24.0, gt=0)


class Privacy(_Section):
    """What is made unrecognisable in every picture and video that is written, before it is encoded."""

    blur: Literal["none", "faces", "heads", "bodies"] = "none"


class Retention(_Section):
    """How many days a run keeps what, counted from its end; null: for ever. `identrix retain` and `run` apply it.

    runs_days   the whole run
    redis_days  counts and live state in Redis, counted from their last change
    """

    embeddings_days: float | None = Field(default=None, ge=0)
    sightings_days: float | None = Field(default=None, ge=0)
    videos_days: float | None = Field(default=None, ge=0)
    runs_days: float | None = Field(default=None, ge=0)
    redis_days: float = Field(default=90.0, gt=0)


class Streams(_Section):
    """How workers and matchers of a live site talk to each other through Redis.

    most_sightings  messages that may wait to be decided; beyond it workers keep theirs on disk
    most_decisions  decisions and events that are kept to be read
    patience_s      how long a matcher waits for a camera that says nothing at all
    lease_s         after how long a silent matcher is taken for dead
    settle_s        how long a worker that ends waits for the last decisions
    neighbours      area -> areas between which people may walk, either way; not given: all of them; `{}`: none
    most_guests     people last seen in other areas that an area remembers; the oldest are let go first
    most_exits      exits that are kept until the other areas have read them
    """

    most_sightings: int = Field(default=100_000, ge=10)
    most_decisions: int = Field(default=100_000, ge=10)
    patience_s: float = Field(default=30.0, gt=0)
    lease_s: float = Field(default=5.0, ge=0.5, le=60)
    settle_s: float = Field(default=20.0, ge=0)
    neighbours: dict[str, tuple[str, ...]] | None = None
    most_guests: int = Field(default=2000, ge=1)
    most_exits: int = Field(default=5000, ge=10)


class Metrics(_Section):
    """Where Prometheus finds `/metrics`, `/healthz` and `/readyz`: nowhere unless a port is given (0: any free one)."""

    port: int | None = Field(default=None, ge=0, le=65535)
    host: str = "127.0.0.1"


class Events(_Section):
    """Where else events go. `match` always writes them to the site's Stream; `run` does with `stream: true`."""

    stream: bool = False
    mqtt: str | None = Field(default=None, pattern=r"^mqtts?://")
    topic: str = Field(default="identrix", pattern=r"^[^#+]+$")


if TYPE_CHECKING:
    Tracker = TrackerSettings
    Match = MatchSettings
    Tables = TableSettings
    Live = LiveSettings
    Gates = FaceGates
else:  # the same classes, but strict about unknown keys and types
    Tracker = validated(TrackerSettings, config=_STRICT)
    Match = validated(MatchSettings, config=_STRICT)
    Tables = validated(TableSettings, config=_STRICT)
    Live = validated(LiveSettings, config=_STRICT)
    Gates = validated(FaceGates, config=_STRICT)


class MatchConfig(_Section):
    """What matching needs to know: enough for `replay` and `tables`, which look through no camera.

    frozen  the site's transition tables are read and not taught
    """

    site: str | None = Field(default=None, min_length=1, max_length=64, pattern=r"^[\w.-]+$")
    frozen: bool = False
    reid: Reid = Reid()
    match: Match = Field(default_factory=Match)
    tables: Tables = Field(default_factory=Tables)
    redis: Redis = Redis()
    streams: Streams = Streams()
    metrics: Metrics = Metrics()
    events: Events = Events()
    retention: Retention = Retention()

    @property
    def site_name(self) -> str:
        """The site's name."""
        return self.site or "default"


class Faces(_Section):
    """Faces as a second opinion about who somebody is; read DATA-PROTECTION.md first.

    detector  `yunet`, or a path to another YuNet
    encoder   model card of a face network (configs/cards)
    gates     what a face must be like to count (`reid.faces.FaceGates`)
    """

    enabled: bool = False
    detector: str = "yunet"
    encoder: str = ""
    gates: Gates = Field(default_factory=Gates)

    @model_validator(mode="after")
    def _enabled_needs_an_encoder(self) -> Faces:
        if self.enabled and not self.encoder:
            raise ValueError("enabled needs faces.encoder: the model card of a face network, as in configs/cards")
        return self


class Config(MatchConfig):
    """Everything a run needs to know."""

    cameras: tuple[Camera, ...] = Field(min_length=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    detector: Detector = Detector()
    faces: Faces = Faces()
    tracker: Tracker = Field(default_factory=Tracker)
    output: Output = Output()
    privacy: Privacy = Privacy()
    live: Live = Field(default_factory=Live)

    @field_validator("cameras")
    @classmethod
    def _names_differ(cls, cameras: tuple[Camera, ...]) -> tuple[Camera, ...]:
        seen: set[str] = set()
        for camera in cameras:
            if camera.name.lower() in seen:  # files of both would overwrite each other where case does not count
                raise ValueError(f"two cameras are called {camera.name!r}; every camera needs a name of its own")
            seen.add(camera.name.lower())
        return cameras

    @model_validator(mode="after")
    def _neighbours_are_areas(self) -> Config:
        areas = sorted({camera.area for camera in self.cameras})
        for area, others in (self.streams.neighbours or {}).items():
            if unknown := [name for name in (area, *others) if name not in areas]:
                raise ValueError(
                    f"streams.neighbours: no camera is in area {unknown[0]!r}; the areas are {', '.join(areas)}"
                )
        return self

    @property
    def site_name(self) -> str:
        """The site's name; without one, the same cameras over the same sources are the same site.

        >>> Config(cameras=(Camera(name="a", source="a.mp4"),)).site_name
        'site-b1f4abfc10'
        """
        if self.site:
            return self.site
        pairs = "\n".join(sorted(f"{camera.name}={camera.source}" for camera in self.cameras))
        return f"site-{hashlib.sha256(pairs.encode()).hexdigest()[:10]}"


def known_keys(location: Sequence[str], root: Any = None) -> list[str]:
    """The keys that a section may hold; numbers in `location` are entries of a list. Empty where there is no section.

    >>> known_keys(["redis"]), "offset_s" in known_keys(["cameras", "0"])
    (['url', 'state_dir'], True)
    """
    section: Any = root or Config
    for part in location:
        if not part.isdigit():
            field = _fields(section).get(part)
            section = getattr(field, "annotation", None) or getattr(field, "type", None)
            section = next(iter(get_args(section)), section)
    return list(_fields(section))


def _fields(section: Any) -> dict[str, Any]:
    """Name -> field of a pydantic model or of a dataclass, validated or plain."""
    return getattr(section, "__pydantic_fields__", None) or getattr(section, "__dataclass_fields__", {})
