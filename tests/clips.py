"""Small video files for tests, made on the spot with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np


def grey_of(index: int) -> int:
    """The grey level of frame ``index`` of a clip: tells frames apart even after lossy coding."""
    return 30 + (index * 23) % 200


def write_clip(
    path: Path,
    codec: str = "libx264",
    *,
    frames: int = 20,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    times_ms: Sequence[int] | None = None,
    pixels: str = "yuv420p",
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    turned_deg: int = 0,
    noise: bool = False,
) -> Path:
    """Write a clip of even grey frames (`grey_of`); the upper left quarter is white, so that turning shows.

    times_ms      time stamps of the frames; else frame / fps
    container_options  of libav's muxer, such as {"movflags": "faststart"}
    noise         add noise, so that frames have some size in bytes
    """
    import av

    rng = np.random.default_rng(1)
    width, height = size
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if turned_deg:
            stream.set_display_rotation(turned_deg)
        unit = Fraction(1, fps) if times_ms is None else Fraction(1, 1000)
        stream.codec_context.time_base = unit
        if not frames:
            container.start_encoding()
        for index in range(frames):
            image = np.full((height, width, 3), grey_of(index), np.uint8)
            if noise:
                image = (image + rng.integers(-20, 20, image.shape)).astype(np.uint8)
            image[: height // 2, : width // 2] = 255
            picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pixels)
            picture.pts, picture.time_base = index if times_ms is None else times_ms[index], unit
            container.mux(stream.encode(picture))
        if frames:
            container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """Write half a second of silence, and no picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for block in range(24):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 48000, block * 1024
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path
