"""Video in files of a fixed length of time, of which old ones are removed: for cameras without an end.

video/<camera>/2026-11-22T10-00-00Z.mp4     begins then (site time, UTC), ends where the next begins
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import OutputError
from pipeline.video import VideoWriter

_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:-\d+)?\.mp4")
_TIME = "%Y-%m-%dT%H-%M-%SZ"


def name_of(time_s: float) -> str:
    """The file name of a segment that begins at a site time.

    >>> name_of(1_763_800_000.9)
    '2025-11-22T08-26-40Z.mp4'
    """
    return f"{datetime.fromtimestamp(int(time_s), UTC):{_TIME}}.mp4"


def begin_of(path: Path) -> float | None:
    """Site time at which a segment begins, to the second; None when it is no segment.

    >>> begin_of(Path("2025-11-22T08-26-40Z.mp4"))
    1763800000.0
    """
    found = _NAME.fullmatch(path.name)
    return datetime.strptime(found[1], _TIME).replace(tzinfo=UTC).timestamp() if found else None


def segments_of(folder: Path) -> list[tuple[float, Path]]:
    """(site time of the begin, to the second; path) of every segment in a camera's folder, in order of time."""
    files = folder.glob("*.mp4") if folder.is_dir() else ()
    return sorted((begin_s, path) for path in files if (begin_s := begin_of(path)) is not None)


class SegmentWriter:
    """Writes the pictures of one camera into segments.

    segment_s  length; segments begin at multiples of it (UTC), the first one when the first picture comes
    keep_s     segments that ended longer ago are removed whenever a new one begins; None: never

    A segment that cannot be written (disk full) raises OutputError once; what belongs to it is passed over after that,
    and the next segment is tried again.
    """

    def __init__(self, folder: Path, segment_s: float, keep_s: float | None = None) -> None:
        self.folder, self._segment_s, self._keep_s = Path(folder), segment_s, keep_s
        self._number: int | None = None
        self._writer: VideoWriter | None = None
        self.written = 0

    def write(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Add a picture (H, W, 3) uint8 BGR; times must rise. Raises OutputError."""
        number = int(time_s // self._segment_s)
        if number != self._number:
            self.close()
            self._number = number
            self._remove_old(time_s)
            self._writer = VideoWriter(self._free(self.folder / name_of(time_s)))
        if self._writer is None:
            return
        try:
            self._writer.write(image, time_s)
            self.written += 1
        except OutputError:
            writer, self._writer = self._writer, None
            with contextlib.suppress(OutputError):
                writer.close()
            raise

    def close(self) -> None:
        """Finish the segment at hand; a later picture begins another one. Raises OutputError."""
        writer, self._writer, self._number = self._writer, None, None
        if writer is not None:
            writer.close()

    def _free(self, path: Path) -> Path:
        """A run that was started again within a second must not write over what is there."""
        n = 1
        free = path
        while free.exists():
            n += 1
            free = path.with_name(f"{path.stem}-{n}.mp4")
        return free

    def _remove_old(self, now_s: float) -> None:
        if self._keep_s is None or not self.folder.is_dir():
            return
        begins = sorted((begin_s, path) for path in self.folder.iterdir() if (begin_s := begin_of(path)) is not None)
        for begin_s, path in begins:
            if (begin_s // self._segment_s + 1) * self._segment_s < now_s - self._keep_s:
                with contextlib.suppress(OSError):  # tried again with the next segment
                    path.unlink()
