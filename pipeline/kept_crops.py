"""A picture of each stay, kept in RUN/crops/<camera>/<track>.jpg: only when somebody asks for it.

Cut from the sources, with people hidden as the run's `privacy.blur` says. `forget` and retention know the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import atomic, output_error
from pipeline.blur import Hider, hiders
from pipeline.redraw import sources_of
from pipeline.run_folder import finished_run
from pipeline.sources import Source, SourceError, read_frames
from pipeline.tracks_table import read_tracks
from reid.crops import cut_out

if TYPE_CHECKING:
    import pyarrow as pa

HIGH_PX = 160  # a person is recognised by others at this height; a hundred such pictures are half a megabyte

Best = dict[int, tuple[int, NDArray[np.float32]]]
"""Track id -> (1-based source frame, box xyxy px) of its best moment."""


def keep_crops(
    run_dir: Path, on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None
) -> tuple[int, list[str]]:
    """Write the crops of a finished run; (how many, why those of some cameras are not there).

    Raises RunFolderError, PrivacyError, OutputError.
    """
    run_dir = finished_run(run_dir, "tracks.parquet", "run.json")
    wanted = best_moments(read_tracks(run_dir))
    sources = {source.camera: source for source in sources_of(run_dir)}
    hidden = hiders(run_dir, list(wanted))
    count, problems = 0, []
    for done, (camera, best) in enumerate(wanted.items()):
        on_progress("cutting pictures", done, len(wanted))
        source = sources.get(camera)
        try:
            if source is None:
                raise SourceError(f"camera {camera}: a live source cannot be read again")
            count += _keep(source, best, hidden[camera], run_dir / "crops" / camera)
        except SourceError as error:
            problems.append(str(error))
    return count, problems


def best_moments(tracks: pa.Table) -> dict[str, Best]:
    """Camera -> the best moment of each of its stays: a large box and a high score, not where they come or go."""
    found: dict[str, Best] = {}
    names = tracks["camera"].to_numpy(zero_copy_only=False)
    stays, frames = tracks["track_id"].to_numpy(), tracks["frame"].to_numpy()
    boxes = np.stack([tracks[side].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=1).astype(np.float32)
    worth = (boxes[:, 3] - boxes[:, 1]) * tracks["score"].to_numpy()
    order = np.lexsort((frames, stays, names.astype(str)))
    if not len(order):
        return found
    new = (names[order][1:] != names[order][:-1]) | (stays[order][1:] != stays[order][:-1])
    for rows in np.split(order, np.flatnonzero(new) + 1):
        edge = len(rows) // 5
        inner = rows[edge : len(rows) - edge]
        best = int(inner[np.argmax(worth[inner])])
        found.setdefault(str(names[best]), {})[int(stays[best])] = (int(frames[best]), boxes[best])
    return found


def _keep(source: Source, best: Best, hider: Hider, folder: Path) -> int:
    """Cut and write the crops of one camera. Raises SourceError, OutputError."""
    due: dict[int, list[int]] = {}
    for stay, (number, _) in best.items():
        due.setdefault(number, []).append(stay)
    last, count = max(due), 0
    with closing(read_frames(source)) as frames:
        for frame in frames:
            for stay in due.get(frame.index + 1, ()):
                image = hider.hide(frame.image.copy(), frame.time_s)
                count += _write(folder / f"{stay}.jpg", cut_out(image, best[stay][1]))
            if frame.index + 1 >= last:
                break
    return count


def _write(path: Path, crop: NDArray[np.uint8]) -> bool:
    import cv2

    if not crop.size:
        return False
    scale = min(1.0, HIGH_PX / crop.shape[0])
    size = max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))
    ok, coded = cv2.imencode(".jpg", cv2.resize(crop, size, interpolation=cv2.INTER_AREA))
    if not ok:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path.parent, error) from error
    with atomic(path) as temporary:
        temporary.write_bytes(coded.tobytes())
    return True
