"""Two tiny films of four people who walk through one camera and, seconds later, through the other. Drawn in a blink."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

FPS = 5
SIZE = (320, 240)  # width, height px
PEOPLE = 4
DURATION_S = 30
DELAY_S = 8.0  # from entering a to entering b
ENTERS_A_S = (2.0, 6.4, 11.0, 15.4)  # when each person comes into a's picture

_PX_PER_S = 60
_CLOTHES_BGR = (
    ((40, 40, 200), (60, 30, 20)),
    ((40, 180, 40), (200, 200, 200)),
    ((210, 60, 50), (30, 120, 160)),
    ((30, 190, 220), (90, 30, 110)),
)


def draw_walkers(folder: Path) -> dict[str, Path]:
    """Film both cameras: everybody walks through a, then through b."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "a": film(folder / "a.mp4", ENTERS_A_S, seed=0),
        "b": film(folder / "b.mp4", [start_s + DELAY_S for start_s in ENTERS_A_S], seed=1),
    }


def film(path: Path, enters_s: Sequence[float], *, seed: int = 0, duration_s: float = DURATION_S) -> Path:
    """One camera: person n comes in from the left at `enters_s[n]`. The index stands first: a cut film still opens."""
    import av

    rng = np.random.default_rng(seed)
    width, height = SIZE
    empty = np.kron(rng.integers(90, 150, (height // 16, width // 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in range(round(duration_s * FPS)):
            image = empty.copy()
            for (jacket, trousers), start_s in zip(_CLOTHES_BGR, enters_s, strict=False):
                left = int((frame / FPS - start_s) * _PX_PER_S) - 30
                image[90:105, max(left + 8, 0) : max(left + 22, 0)] = (150, 170, 210)
                image[105:140, max(left, 0) : max(left + 30, 0)] = jacket
                image[140:180, max(left, 0) : max(left + 30, 0)] = trousers
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path
