"""A synthetic site with known truth: films of people who walk from camera to camera, made from a seed.

`world_plan` is the site, `world_sim` says who is where, `world_draw` films it; this module writes the films, the ground
truth and `world.json`. The demo runs on it without a network, weights or footage; the tests use small ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import STAY_GAP
from pipeline.world_draw import TruthRow, draw_camera, frame_count
from pipeline.world_figure import draw_looks
from pipeline.world_sim import Simulation, simulate

Truth = tuple[TruthRow, ...]
Progress = Callable[[str, int, int], None]
"""Called as progress(camera, frames done, frames of this camera)."""


@dataclass(frozen=True)
class WorldCamera:
    """One film: its file, size, frames, and the site time of its first frame (how late its clock started)."""

    name: str
    path: Path
    width: int
    height: int
    frames: int
    offset_s: float


@dataclass(frozen=True)
class HandOver:
    """A true move from one camera to another: last seen there, first seen here, site seconds."""

    person: int
    from_camera: str
    left_s: float
    to_camera: str
    entered_s: float

    @property
    def delay_s(self) -> float:
        """Seconds out of sight."""
        return self.entered_s - self.left_s


@dataclass(frozen=True)
class World:
    """A rendered site: films in `root/videos`, MOTChallenge truth in `root/gt`, the rest in `root/world.json`."""

    root: Path
    seed: int
    fps: float
    people: int
    cameras: tuple[WorldCamera, ...]
    hand_overs: tuple[HandOver, ...]

    @property
    def truth_dir(self) -> Path:
        """Folder of the ground truth, one `<camera>.txt` per camera."""
        return self.root / "gt"


def render_world(
    out_dir: Path | str,
    *,
    seed: int = 1,
    cameras: int = 4,
    people: int = 18,
    duration_s: float = 80.0,
    fps: float = 10.0,
    progress: Progress | None = None,
) -> World:
    """Films a synthetic site into `out_dir` and returns what is true about it.

    cameras     1 to 4 (lobby, corridor, shop, yard)
    people      at least 1; each wears clothes of their own, every fifth is a look-alike of the one before
    duration_s  length of each film, > 0
    fps         frames per second, > 0

    Writes `videos/<camera>.mp4` (H.264), `gt/<camera>.txt` (MOTChallenge: 1-based frame, site-wide id, left, top,
    width, height, 1, 1, visibility; boxes of which less than a quarter is visible are left out) and `world.json`.
    Equal arguments give equal pictures and truth, byte for byte before encoding.

    Raises ValueError when an argument is out of range, OSError when a file cannot be written.
    """
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    root = Path(out_dir)
    simulation = simulate(seed=seed, cameras=cameras, people=people, duration_s=duration_s)
    looks = draw_looks(seed, people)
    for folder in ("videos", "gt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    films, truth = [], {}
    total = frame_count(duration_s, fps)
    for room in simulation.rooms:
        view = room.view
        film = WorldCamera(
            view.name, root / "videos" / f"{view.name}.mp4", view.width, view.height, total, view.offset_s
        )
        rows: list[Truth] = []
        _write_film(film, fps, _counted(draw_camera(simulation, room, looks, fps), rows, film, progress))
        (root / "gt" / f"{view.name}.txt").write_text(mot_text(rows), encoding="utf-8")
        films.append(film)
        truth[view.name] = rows
    world = World(root, seed, float(fps), people, tuple(films), hand_overs(films, truth, fps))
    (root / "world.json").write_text(json.dumps(_facts(world, simulation), indent=1) + "\n", encoding="utf-8")
    return world


def world_config(world: World) -> dict[str, Any]:
    """The cameras of a rendered world as plain data for a site configuration: name, uri, offset_s, fps.

    `offset_s` is what has to be added to that file's own time to get site time.
    """
    return {
        "cameras": [
            {"name": c.name, "uri": str(c.path.resolve()), "offset_s": c.offset_s, "fps": world.fps}
            for c in world.cameras
        ]
    }


def mot_text(frames: Iterable[Truth]) -> str:
    """Truth rows per frame as MOTChallenge text.

    >>> mot_text([(), (TruthRow(7, (1.0, 2.0, 30.0, 80.0), 0.5),)])
    '2,7,1.00,2.00,30.00,80.00,1,1,0.50\\n'
    """
    return "".join(
        f"{number},{row.person},{row.box[0]:.2f},{row.box[1]:.2f},{row.box[2]:.2f},{row.box[3]:.2f},1,1,{row.visibility:.2f}\n"
        for number, rows in enumerate(frames, start=1)
        for row in rows
    )


def hand_overs(cameras: Iterable[WorldCamera], truth: dict[str, list[Truth]], fps: float) -> tuple[HandOver, ...]:
    """True moves between cameras, read from what is visible: a stay is a run of frames with gaps of at most `STAY_GAP`
    frames; two stays of a person next to each other in time and in different cameras are a hand-over."""
    stays: list[tuple[int, float, float, str]] = []
    for camera in cameras:
        seen: dict[int, list[int]] = {}
        for frame, rows in enumerate(truth[camera.name]):
            for row in rows:
                seen.setdefault(row.person, []).append(frame)
        for person, frames in seen.items():
            first = frames[0]
            for here, after in zip(frames, [*frames[1:], None], strict=True):
                if after is None or after - here > STAY_GAP + 1:
                    stays.append((person, camera.offset_s + first / fps, camera.offset_s + here / fps, camera.name))
                    first = after if after is not None else first
    stays.sort()
    return tuple(
        HandOver(a[0], a[3], round(a[2], 6), b[3], round(b[1], 6))
        for a, b in pairwise(stays)
        if a[0] == b[0] and a[3] != b[3]
    )


def _counted(
    frames: Iterable[tuple[NDArray[np.uint8], Truth]], rows: list[Truth], film: WorldCamera, progress: Progress | None
) -> Iterator[NDArray[np.uint8]]:
    """Passes the pictures on, keeps the truth rows, tells the progress."""
    for number, (image, here) in enumerate(frames, start=1):
        rows.append(here)
        yield image
        if progress is not None:
            progress(film.name, number, film.frames)


def _write_film(film: WorldCamera, fps: float, images: Iterable[NDArray[np.uint8]]) -> None:
    import av

    with av.open(str(film.path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = film.width, film.height, "yuv420p"
        # Without x264's macroblock tree: with it, the same pictures give other bytes from time to time (12 of 12 equal
        # without, 11 of 12 and fewer with), and a site of one seed must be one site.
        stream.options = {"preset": "veryfast", "crf": "20", "x264-params": "mbtree=0"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())


def _facts(world: World, simulation: Simulation) -> dict[str, Any]:
    return {
        "seed": world.seed,
        "fps": world.fps,
        "people": world.people,
        "duration_s": simulation.duration_s,
        "cameras": [{**asdict(c), "path": c.path.relative_to(world.root).as_posix()} for c in world.cameras],
        "travel_times": [
            {
                "from": list(e.from_),
                "to": list(e.to),
                "mixture": [dict(zip(("weight", "mean_s", "sd_s"), part, strict=True)) for part in e.mixture],
            }
            for e in simulation.edges
        ],
        "hand_overs": [{**asdict(h), "delay_s": round(h.delay_s, 6)} for h in world.hand_overs],
    }
