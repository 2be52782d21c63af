"""One person's way through all cameras as one video: each stay after the other, the person in the light, what came
between on a card.

Cut from the sources where they are at hand, else from the run's own videos, which show everybody. People are hidden as
in the run's videos.

    ClipError (ValueError)   there is no such person, or nothing to cut from
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.annotate import Image, clock_text, draw_frame, letterbox, paste, person_colour, text_patch
from pipeline.atomic import atomic
from pipeline.blur import hiders
from pipeline.hidden_boxes import StayBoxes
from pipeline.journal import read_corrections, read_facts
from pipeline.movements import stays
from pipeline.redraw import sources_of
from pipeline.run_folder import finished_run
from pipeline.seeking import read_between
from pipeline.segments import segments_of
from pipeline.sources import Frame, Source
from pipeline.tracks_table import read_assignments, read_tracks
from pipeline.video import VideoWriter
from st_model.ledger import aliases

if TYPE_CHECKING:
    import pyarrow as pa

MAX_WIDTH, MAX_HEIGHT = 1280, 720
BAR_PX = 30  # one line above, the way below
PAD_S = 0.6  # shown before and after a stay: where somebody comes from and goes to
JOIN_S = 3.0  # stays of one camera closer than this are one scene
CARD_S = 1.4  # time to read where and how long
FLASH_S = 1.2
TRAIL_S = 3.0
DIM = 0.62  # light left for everybody else
_DARK = (24, 24, 24)


class ClipError(ValueError):
    """The clip cannot be made."""


@dataclass(frozen=True)
class Scene:
    """One person in one camera without a break. came: from where and after how long, in words; empty at the start."""

    camera: str
    begin_s: float
    end_s: float
    sure: float
    came: str


@dataclass(frozen=True)
class Clip:
    """What was made: the file, its scenes, its length, and the cameras that were cut from the run's own videos."""

    path: Path
    global_id: int
    scenes: tuple[Scene, ...]
    seconds: float
    from_videos: tuple[str, ...]


def make_clip(
    run_dir: Path,
    who: str,
    out: Path,
    *,
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
) -> Clip:
    """Write the way of a person (`12` or `P12`) to the MP4 file `out`.

    Raises ClipError, RunFolderError, SourceError for a source that cannot be read, PrivacyError, OutputError.
    """
    run_dir = finished_run(run_dir, "tracks.parquet", "assignments.csv")
    if out.suffix.lower() != ".mp4":
        raise ClipError(f"--out {out}: the clip is an MP4 file; name it so")
    tracks = read_tracks(run_dir)
    table = stays(tracks, read_assignments(run_dir / "assignments.csv"))
    person = _person(run_dir, who, sorted(set(table["global_id"].to_pylist())))
    scenes = scenes_of(table, person)
    cuts = _cuts(run_dir, [scene.camera for scene in scenes])
    boxes = _boxes(tracks, person)
    hidden = hiders(run_dir, sorted({scene.camera for scene in scenes}))
    size = _size(run_dir, scenes)
    whole_s = sum(scene.end_s - scene.begin_s for scene in scenes)
    done_s = clip_s = 0.0
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as temporary, VideoWriter(temporary) as writer:
        for number, scene in enumerate(scenes):
            own = cuts[scene.camera][0].camera == _OWN
            progress = _Progress(person, scenes, number, size)
            if number:
                clip_s = _write_card(writer, progress, clip_s)
            hider = None if own else hidden[scene.camera]
            artist = None if own else _Artist(person, boxes.get(scene.camera, []), scene)
            last_s = None
            for frame in _read(cuts[scene.camera], scene):
                clip_s += min(frame.time_s - last_s, 1.0) if last_s is not None else 0.0
                last_s = frame.time_s
                image = frame.image if frame.image.flags.writeable else frame.image.copy()
                image = hider.hide(image, frame.time_s) if hider else image
                image = artist.draw(image, frame.time_s) if artist else image
                writer.write(progress.framed(image, frame.time_s), clip_s)
                on_progress("cutting", done_s + frame.time_s - scene.begin_s, whole_s)
            clip_s += 0.1
            done_s += scene.end_s - scene.begin_s
        if writer.first_s is None:
            raise ClipError(f"{run_dir}: no picture of P{person} could be read")
    from_videos = tuple(sorted(name for name, sources in cuts.items() if sources[0].camera == _OWN))
    return Clip(out, person, tuple(scenes), clip_s, from_videos)


def scenes_of(table: pa.Table, person: int) -> list[Scene]:
    """The person's stays as scenes in order of time, near ones of one camera joined, with some air around."""
    scenes: list[Scene] = []
    mine = [row for row in table.to_pylist() if row["global_id"] == person]
    for row in sorted(mine, key=lambda row: (row["entered_s"], row["left_s"])):
        last = scenes[-1] if scenes else None
        if last and last.camera == row["camera"] and row["entered_s"] - last.end_s <= JOIN_S:
            sure = min(last.sure, row["probability"])
            scenes[-1] = replace(last, end_s=max(last.end_s, row["left_s"]), sure=sure)
            continue
        came = ""
        if last:
            delay_s = row["entered_s"] - last.end_s
            after = f"{delay_s:.0f} s" if delay_s >= 0 else "in both views"
            came = f"from {last.camera}, {after}, {row['probability']:.0%}"
        scenes.append(Scene(row["camera"], row["entered_s"], row["left_s"], row["probability"], came))
    return [replace(scene, begin_s=scene.begin_s - PAD_S, end_s=scene.end_s + PAD_S) for scene in scenes]


_OWN = "\0own video"
"""Camera of a Source that is a video of the run: everything is drawn on it already."""


def _read(sources: Sequence[Source], scene: Scene) -> Iterator[Frame]:
    """The scene's frames from what there is to cut from: one file, or segments that follow each other."""
    for source, after in zip(sources, [*sources[1:], None], strict=True):
        end_s = min(scene.end_s, after.start_s - 1e-3) if after else scene.end_s
        begin_s = scene.begin_s if len(sources) == 1 else max(scene.begin_s, source.start_s)
        if begin_s < end_s:
            yield from read_between(replace(source, camera=scene.camera), begin_s, end_s)


def _cuts(run_dir: Path, cameras: Sequence[str]) -> dict[str, list[Source]]:
    """Camera -> what to cut from, in order of time.

    Raises ClipError when there is neither the source nor a video of the run.
    """
    sources = {source.camera: source for source in sources_of(run_dir)}
    starts_s = read_facts(run_dir).get("video_start_s") or {}
    found: dict[str, list[Source]] = {}
    for camera in cameras:
        source, video = sources.get(camera), run_dir / "video" / f"{camera}.mp4"
        if source is not None and Path(source.uri.removeprefix("file://")).is_file():
            found[camera] = [source]
        elif segments := segments_of(run_dir / "video" / camera):
            found[camera] = [Source(_OWN, str(path), start_s=begin_s) for begin_s, path in segments]
        elif video.is_file() and camera in starts_s:
            found[camera] = [Source(_OWN, str(video), start_s=float(starts_s[camera]))]
        else:
            where = f"its source {source.label}" if source else "its source"
            raise ClipError(f"camera {camera}: neither {where} nor {video} is there to cut from")
    return found


def _person(run_dir: Path, who: str, known: Sequence[int]) -> int:
    asked = re.fullmatch(r"[Pp]?(\d+)", who.strip())
    if not asked:
        raise ClipError(f"{who!r}: expected a person such as P12")
    wanted = int(asked[1])
    now = aliases(read_corrections(run_dir / "corrections.jsonl")).get(wanted, wanted)
    if now not in known:
        near = sorted(known, key=lambda other: (abs(other - wanted), other))[:3]
        hint = f"the nearest are {', '.join(f'P{n}' for n in sorted(near))}" if near else "nobody was seen here"
        raise ClipError(f"{run_dir}: there is no person P{wanted}; {hint}")
    return now


def _boxes(tracks: pa.Table, person: int) -> dict[str, list[StayBoxes]]:
    import pyarrow.compute as pc

    mine = tracks.filter(pc.equal(tracks["global_id"], person)).sort_by("time_s")
    found: dict[str, list[StayBoxes]] = {}
    for camera, stay in sorted(set(zip(mine["camera"].to_pylist(), mine["track_id"].to_pylist(), strict=True))):
        rows = mine.filter(pc.and_(pc.equal(mine["camera"], camera), pc.equal(mine["track_id"], stay)))
        boxes = np.stack([rows[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
        found.setdefault(camera, []).append(StayBoxes(stay, rows["time_s"].to_numpy(), boxes))
    return found


def _size(run_dir: Path, scenes: Sequence[Scene]) -> tuple[int, int]:
    """(width, height) that holds the pictures of all cameras, without the bars."""
    health = read_facts(run_dir).get("cameras") or {}
    sizes = [(health.get(scene.camera) or {}).get("size") or (640, 360) for scene in scenes]
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    scale = min(1.0, MAX_WIDTH / width, (MAX_HEIGHT - 2 * BAR_PX) / height)
    return max(320, round(width * scale) // 2 * 2), max(180, round(height * scale) // 2 * 2)


class _Artist:
    """Puts one person of one scene into the light."""

    def __init__(self, person: int, boxes: Sequence[StayBoxes], scene: Scene) -> None:
        self._person, self._boxes, self._scene = person, boxes, scene
        self._trail: list[tuple[float, float, float]] = []

    def draw(self, image: Image, time_s: float) -> Image:
        import cv2

        here = [box for stay in self._boxes if (box := _seen(stay, time_s)) is not None]
        lit = [_grown(box, image) for box in here]
        bright = [image[y1:y2, x1:x2].copy() for x1, y1, x2, y2 in lit]
        dark = cv2.convertScaleAbs(image, alpha=DIM)
        for (x1, y1, x2, y2), part in zip(lit, bright, strict=True):
            dark[y1:y2, x1:x2] = part
        self._trail = [point for point in self._trail if point[0] >= time_s - TRAIL_S]
        self._trail += [(time_s, float(box[0] + box[2]) / 2, float(box[3])) for box in here[:1]]
        trail = {self._person: np.array([point[1:] for point in self._trail], np.float32).reshape(-1, 2)}
        since_s = time_s - self._scene.begin_s - PAD_S
        flash = {self._person: 1.0 - since_s / FLASH_S} if self._scene.came and 0 <= since_s < FLASH_S else {}
        table = np.array(here, np.float32).reshape(-1, 4)
        label = [f"P{self._person}"] * len(here)
        return draw_frame(
            np.asarray(dark, np.uint8),
            table,
            [self._person] * len(here),
            label,
            trail,
            self._scene.camera,
            clock_text(time_s),
            flash,
        )


def _seen(stay: StayBoxes, time_s: float) -> Any:
    """The box at a moment inside the stay, not held beyond its ends."""
    return stay.at(time_s) if stay.times_s[0] - 1e-3 <= time_s <= stay.times_s[-1] + 1e-3 else None


def _grown(box: Any, image: Image) -> tuple[int, int, int, int]:
    air = 0.12 * float(box[3] - box[1])
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(edge) for edge in box)
    left, top = max(round(x1 - air), 0), max(round(y1 - air), 0)
    return left, top, max(min(round(x2 + air), width), left), max(min(round(y2 + air), height), top)


class _Progress:
    """The frame around the pictures: who, where in the way, and how far."""

    def __init__(self, person: int, scenes: Sequence[Scene], number: int, size: tuple[int, int]) -> None:
        self._person, self._scenes, self._number, self._size = person, scenes, number, size
        self._colour = person_colour(person)

    def framed(self, image: Image, time_s: float) -> Image:
        """A picture with the line above and the way below."""
        width, height = self._size
        scene = self._scenes[self._number]
        canvas = np.full((height + 2 * BAR_PX, width, 3), _DARK[0], np.uint8)
        canvas[BAR_PX:-BAR_PX] = letterbox(image, width, height)
        chip = text_patch(f"P{self._person}", 1.0, self._colour)
        paste(canvas, chip, 6, 5)
        told = f"{self._number + 1} of {len(self._scenes)}   {scene.camera}"
        paste(canvas, text_patch(f"{told}   {scene.came}" if scene.came else told, 1.0, _DARK), 12 + chip.shape[1], 5)
        self._way(canvas, (time_s - scene.begin_s) / max(scene.end_s - scene.begin_s, 1e-9))
        return canvas

    def card(self) -> Image:
        """What is shown before a scene: from where, how long, how sure."""
        width, height = self._size
        before, scene = self._scenes[self._number - 1], self._scenes[self._number]
        canvas = np.full((height + 2 * BAR_PX, width, 3), _DARK[0], np.uint8)
        delay_s = scene.begin_s - before.end_s + 2 * PAD_S
        between = f"{delay_s:.0f} s later" if delay_s >= 0 else "in both views at once"
        lines = [
            (f"P{self._person}", 1.6, self._colour),
            (f"{before.camera}  →  {scene.camera}", 1.6, _DARK),
            (f"{between}   {scene.sure:.0%}", 1.2, _DARK),
        ]
        patches = [text_patch(*line) for line in lines]
        top = (canvas.shape[0] - sum(patch.shape[0] + 8 for patch in patches)) // 2
        for patch in patches:
            paste(canvas, patch, (width - patch.shape[1]) // 2, top)
            top += patch.shape[0] + 8
        self._way(canvas, 0.0)
        return canvas

    def _way(self, canvas: Image, share: float) -> None:
        width = canvas.shape[1]
        whole_s = sum(scene.end_s - scene.begin_s for scene in self._scenes)
        left, high = 8.0, canvas.shape[0] - BAR_PX // 2
        room = width - 16 - 4 * (len(self._scenes) - 1)
        for number, scene in enumerate(self._scenes):
            wide = room * (scene.end_s - scene.begin_s) / whole_s
            done = 1.0 if number < self._number else min(max(share, 0.0), 1.0) if number == self._number else 0.0
            canvas[high - 3 : high + 3, round(left) : round(left + wide)] = 80
            canvas[high - 3 : high + 3, round(left) : round(left + wide * done)] = self._colour
            left += wide + 4


def _write_card(writer: VideoWriter, progress: _Progress, clip_s: float) -> float:
    """Show the card for a while; the clip's time after it."""
    for moment_s in _moments(clip_s, CARD_S):
        writer.write(progress.card(), moment_s)
    return clip_s + CARD_S


def _moments(begin_s: float, length_s: float) -> Iterator[float]:
    yield from (begin_s + step * 0.2 for step in range(round(length_s / 0.2)))
