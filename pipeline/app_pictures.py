"""Pictures of stays for the app: cut in memory out of the run's own videos, where everybody is hidden who should be.

No picture is written to disk. A run without videos (`--no-video`, or a live one) has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.journal import read_facts
from pipeline.tracks_table import read_tracks
from st_model.ledger import StayKey

Picture = NDArray[np.uint8]
AIR = 0.35  # of the box's height, to see some of the place
SHAPE = 3 / 4  # width over height: pictures side by side are alike
_SEEK_BACK_S = 2.5  # key frames are at most 2 s apart


def pictures_of(run_dir: Path, stays: Sequence[StayKey]) -> dict[StayKey, Picture]:
    """Stay -> (h, w, 3) uint8 RGB of its largest box; stays without a video to cut from are left out."""
    mtime = (run_dir / "tracks.parquet").stat().st_mtime_ns if (run_dir / "tracks.parquet").is_file() else 0
    found = {key: _picture(run_dir, key, mtime) for key in dict.fromkeys(stays)}
    return {key: picture for key, picture in found.items() if picture is not None}


@lru_cache(maxsize=256)
def _picture(run_dir: Path, key: StayKey, mtime: int) -> Picture | None:
    video = run_dir / "video" / f"{key[0]}.mp4"
    if not mtime or not video.is_file():
        return None
    facts = read_facts(run_dir)
    start_s = facts.get("video_start_s", {}).get(key[0])
    if start_s is None:
        start_s = facts.get("cameras", {}).get(key[0], {}).get("first_s")
    row = _rows_by_stay(run_dir, mtime).get(key)
    if row is None or start_s is None:
        return None
    image = picture_at(video, row["time_s"] - float(start_s))
    return None if image is None else cut(image, [row[name] for name in ("x1", "y1", "x2", "y2")])


@lru_cache(maxsize=4)
def _rows_by_stay(run_dir: Path, mtime: int) -> dict[StayKey, dict[str, float]]:
    """The row with the largest box of every stay."""
    table = read_tracks(run_dir)
    if not table.num_rows:
        return {}
    columns = {name: table[name].to_numpy() for name in ("track_id", "time_s", "x1", "y1", "x2", "y2")}
    cameras = table["camera"].combine_chunks().dictionary_encode()
    codes, names = cameras.indices.to_numpy(), cameras.dictionary.to_pylist()
    size = (columns["x2"] - columns["x1"]) * (columns["y2"] - columns["y1"])
    order = np.lexsort((-size, columns["track_id"], codes))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(codes[order]) != 0) | (np.diff(columns["track_id"][order]) != 0)
    return {
        (names[codes[n]], int(columns["track_id"][n])): {name: float(column[n]) for name, column in columns.items()}
        for n in order[first]
    }


def picture_at(video: Path, at_s: float) -> Picture | None:
    """The picture (H, W, 3) uint8 RGB of a video at a time in seconds; None where it has none or cannot be read."""
    import av

    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            if stream.time_base is not None and at_s > _SEEK_BACK_S:
                container.seek(int((at_s - 0.05) / stream.time_base), stream=stream, backward=True)
            best: av.VideoFrame | None = None
            for frame in container.decode(stream):
                shown_s = float(frame.time or 0.0)
                if shown_s > at_s + 0.02 and best is not None:
                    break
                best = frame
                if shown_s >= at_s - 0.02:
                    break
            return None if best is None else np.asarray(best.to_ndarray(format="rgb24"), np.uint8)
    except (OSError, av.FFmpegError):
        return None


def cut(image: Picture, box: Sequence[float]) -> Picture:
    """A part of a picture around a box xyxy px, three wide and four high (less at the picture's edge, then in grey).

    >>> cut(np.zeros((100, 100, 3), np.uint8), [40, 20, 60, 80]).shape
    (82, 61, 3)
    """
    x1, y1, x2, y2 = box
    high = max((1 + AIR) * (y2 - y1), (x2 - x1) / SHAPE, 4.0)
    wide = SHAPE * high
    left, top = round((x1 + x2 - wide) / 2), round((y1 + y2 - high) / 2)
    out = np.full((round(high) + 1, round(wide), 3), 225, np.uint8)
    a, b = max(left, 0), max(top, 0)
    part = image[b : max(b, top + len(out)), a : max(a, left + out.shape[1])]
    out[b - top : b - top + part.shape[0], a - left : a - left + part.shape[1]] = part
    return out
