"""Writing the run journal (pipeline/journal.py) while a run goes, so that a kill loses a second at most.

`RunJournal` buffers in memory and writes whole records, so what was flushed is complete. A record that a kill cut in
the middle is cut off when a journal is opened again.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import output_error
from pipeline.journal import BOX_RECORD, NOBODY, JournalError, json_line, sighting_to_json, to_json
from st_model.ledger import Correction
from st_model.sightings import Decision, Sighting

FLUSH_S = 1.0  # a kill loses at most what was said since


def check_camera_name(camera: str) -> str:
    """A camera's name is also the name of its files.

    Raises ValueError for an empty name, one with a slash, a NUL or a leading dot.

    >>> check_camera_name("lobby north")
    'lobby north'
    """
    if not camera or camera.startswith(".") or any(c in camera for c in "/\\\0\n"):
        raise ValueError(f"camera name {camera!r} cannot be used as a file name; use letters, digits, '-' and '_'")
    return camera


@contextmanager
def alone(run_dir: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a run's journal while the block runs; False: it has none (any more).

    wait  for whoever else holds it. Raises JournalError without it, while a run writes there (it holds a lock until it
    ends, however it ends) or another process finishes it.
    """
    journal = Path(run_dir) / "journal"
    try:
        held = os.open(journal, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{run_dir}: a run is going on there; stop it first") from None
        yield journal.is_dir()  # who held it may have finished it
    finally:
        os.close(held)


class RunJournal:
    """Appends what a run sees and decides to `<run_dir>/journal/`.

    Calls copy into memory; what is there is written by the first call after `FLUSH_S` seconds, and by `flush`. They may
    come from several threads. `flush` hands the bytes to the operating system: they survive a kill of the process.
    Opening an existing journal appends to it, after cutting off a record that a kill left unfinished.

    Raises OutputError when a file cannot be written, ValueError when the arrays do not fit or a camera's name cannot
    be a file name.

    >>> import tempfile
    >>> from pipeline.journal import read_boxes
    >>> with tempfile.TemporaryDirectory() as folder, RunJournal(Path(folder)) as journal:
    ...     box, score = np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32)
    ...     journal.boxes("lobby", 0, 0.0, np.array([1]), box, score)
    ...     journal.flush()
    ...     len(read_boxes(Path(folder))["lobby"])
    1
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = Path(run_dir) / "journal"
        self._pending: dict[Path, list[bytes]] = {}
        self._written_s = time.monotonic()
        self._files: dict[Path, int] = {}
        self._lock = threading.Lock()
        try:
            (self._folder / "boxes").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self._folder, error) from error
        self._box_paths: dict[str, Path] = {}
        self._held = self._hold()

    def _hold(self) -> int:
        """A lock that says that a run writes here, however it ends."""
        held = os.open(self._folder, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)
        return held

    def boxes(
        self,
        camera: str,
        index: int,
        time_s: float,
        track_ids: NDArray[np.int64],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> None:
        """The tracks seen in one frame: index 0-based, track_ids (N,), boxes (N, 4) xyxy px, scores (N,).

        Call it for every frame that was looked at: one without a track is marked, so that the log knows of it.
        """
        count = len(track_ids)
        if boxes.shape != (count, 4) or len(scores) != count:
            raise ValueError(f"{count} track ids, but boxes {boxes.shape} and {len(scores)} scores")
        path = self._box_paths.get(camera)
        if path is None:
            path = self._box_paths[camera] = self._folder / "boxes" / f"{check_camera_name(camera)}.bin"
        records = np.zeros(max(count, 1), BOX_RECORD)
        records["frame"] = index
        records["time_s"] = time_s
        records["track_id"] = track_ids if count else NOBODY
        if count:
            records["box"] = boxes
            records["score"] = scores
        self._append(path, records.tobytes())

    def sighting(self, sighting: Sighting) -> None:
        """One emission about a stay."""
        self._append(self._folder / "sightings.jsonl", json_line(sighting_to_json(sighting)))

    def decision(self, decision: Decision) -> None:
        """What the matcher said about a stay."""
        self._append(self._folder / "decisions.jsonl", json_line(to_json(decision)))

    def correction(self, correction: Correction) -> None:
        """A merge or split of ids."""
        self._append(self._folder / "corrections.jsonl", json_line(to_json(correction)))

    def flush(self) -> None:
        """Write everything said so far. Raises OutputError."""
        with self._lock:
            self._write_pending()

    def move_to(self, folder: Path) -> None:
        """Move all that was said to `<folder>/journal`, and go on with an empty journal here. Raises OutputError."""
        with self._lock:
            self._write_pending()
            self._let_go()
            try:
                self._folder.rename(Path(folder) / "journal")
                (self._folder / "boxes").mkdir(parents=True)
                self._held = self._hold()
            except OSError as error:
                raise output_error(self._folder, error) from error

    def close(self) -> None:
        """Flush and close; calling it twice is fine."""
        with self._lock:
            try:
                self._write_pending()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def __enter__(self) -> RunJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, path: Path, data: bytes) -> None:
        with self._lock:
            self._pending.setdefault(path, []).append(data)
            if time.monotonic() - self._written_s > FLUSH_S:
                self._write_pending()

    def _write_pending(self) -> None:
        pending, self._pending, self._written_s = self._pending, {}, time.monotonic()
        for path, parts in pending.items():
            try:
                descriptor = self._files.get(path)
                if descriptor is None:
                    descriptor = self._files[path] = _open_for_append(path)
                left = memoryview(b"".join(parts))
                while left:  # a nearly full disk takes a part and refuses the rest on the next call
                    left = left[os.write(descriptor, left) :]
            except OSError as error:
                if path in self._files:
                    _cut_unfinished(self._files[path], path)
                raise output_error(path, error) from error


def _open_for_append(path: Path) -> int:
    """Open at the end of the last whole record."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    _cut_unfinished(descriptor, path)
    return descriptor


def _cut_unfinished(descriptor: int, path: Path) -> None:
    """Cut off a record that was written in part, so that the next one starts where a record may start."""
    size = os.fstat(descriptor).st_size
    if path.suffix == ".bin":
        whole = size - size % BOX_RECORD.itemsize
    else:
        whole = path.read_bytes().rfind(b"\n") + 1 if size else 0
    if whole != size:
        os.ftruncate(descriptor, whole)
