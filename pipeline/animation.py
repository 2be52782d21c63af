"""A short animated picture of a video, for a page that shows no videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.atomic import atomic

if TYPE_CHECKING:
    from PIL import Image

_QUALITIES = (80, 70, 55, 42, 30, 20, 12)


def write_animation(
    video: Path, out: Path, *, begin_s: float, length_s: float, fps: float, width: int, most_bytes: int
) -> int:
    """Write `length_s` of a video from `begin_s` on as an endless animated WebP; returns its bytes.

    The best quality that fits into `most_bytes` is taken, the worst if none does. Raises FileNotFoundError, ValueError
    when the part holds no picture, OutputError.
    """
    frames = _frames(video, begin_s, length_s, fps, width)
    if not frames:
        raise ValueError(f"{video}: no picture between {begin_s} and {begin_s + length_s} s")
    size = 0
    for quality in _QUALITIES:
        with atomic(out) as temporary:
            frames[0].save(
                temporary,
                "WEBP",
                save_all=True,
                append_images=frames[1:],
                duration=round(1000 / fps),
                loop=0,
                quality=quality,
                method=4,
                minimize_size=True,
            )
        size = out.stat().st_size
        if size <= most_bytes:
            break
    return size


def _frames(video: Path, begin_s: float, length_s: float, fps: float, width: int) -> list[Image.Image]:
    import av

    if not video.is_file():
        raise FileNotFoundError(f"{video} does not exist")
    found: list[Image.Image] = []
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            time_s = float(frame.time or 0.0)
            if time_s >= begin_s + length_s:
                break
            if time_s >= begin_s + len(found) / fps - 1e-6:
                height = round(frame.height * width / frame.width / 2) * 2
                picture: Image.Image = frame.to_image(  # type: ignore[no-untyped-call]
                    width=width, height=height, interpolation="LANCZOS"
                )
                found.append(picture)
    return found
