"""The journal: batches on disk until Redis has counted them.

Append-only, one line per batch: a CRC-32 in hexadecimal, a space, JSON. A line that was cut off by a crash can only be
the last one, and was never promised to anybody, so it is dropped; damage before it is an error. Each writer has a file
of its own, `journal-WRITER.jsonl`, locked while the writer lives. What a dead writer left is merged by `recover`: under
its own name and batch numbers, so that a batch which did reach Redis is not counted twice.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from st_model.counts import Counts
from st_model.saved_state import StateChange
from st_model.store import Store
from st_model.store_errors import AxesMismatch, JournalCorrupt, StoreError


@dataclass(frozen=True)
class Batch:
    """What one flush carries. `number` rises by one within a writer."""

    writer: str
    number: int
    counts: Counts
    state: StateChange | None = None


def to_line(batch: Batch, site: str, axes: dict[str, str]) -> bytes:
    """A batch as a line of a journal."""
    body = {
        "site": site,
        "axes": axes,
        "writer": batch.writer,
        "batch": batch.number,
        "counts": [[*key, {str(b): n for b, n in row.items()}] for key, row in batch.counts.items()],
    }
    if batch.state is not None:
        changed = {name: base64.b64encode(value).decode() for name, value in batch.state.changed.items()}
        body["state"] = {"position": batch.state.position, "changed": changed, "removed": list(batch.state.removed)}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def from_line(line: bytes) -> tuple[Batch, str, dict[str, str]]:
    """The inverse of `to_line`: (batch, site, axes). Raises ValueError when the line is damaged.

    >>> batch = Batch("main-1", 3, {("a", "b", 0): {5: 4096}}, StateChange("17", {"person:1": b"x"}))
    >>> from_line(to_line(batch, "mall", {"bins": "9"})) == (batch, "mall", {"bins": "9"})
    True
    """
    if not line.endswith(b"\n"):
        raise ValueError("the line is cut off")
    text = line[9:-1]
    if line[:9] != b"%08x " % zlib.crc32(text):
        raise ValueError("the checksum does not fit")
    body = json.loads(text)
    counts = {(a, b, epoch): {int(k): n for k, n in row.items()} for a, b, epoch, row in body["counts"]}
    state = None
    if "state" in body:
        changed = {name: base64.b64decode(value) for name, value in body["state"]["changed"].items()}
        state = StateChange(body["state"]["position"], changed, tuple(body["state"]["removed"]))
    return Batch(body["writer"], body["batch"], counts, state), body["site"], body["axes"]


def read_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The sound lines from where the file stands; a damaged last line is dropped.

    Raises JournalCorrupt when a damaged line has others after it.
    """
    while line := file.readline():
        end = file.tell()
        try:
            from_line(line)
        except ValueError as error:
            if file.read(1):
                raise JournalCorrupt(
                    f"{path} is damaged before byte {end} ({error}): move it away; its counts are not in the tables"
                ) from None
            return
        yield line
        file.seek(end)


class Journal:
    """The journal of one living writer: a queue of batches on disk.

    Raises OSError when the file cannot be made.
    """

    def __init__(self, folder: Path, store: Store, writer: str) -> None:
        if store.axes is None:
            raise ValueError("a journal needs the axes of its counts")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # state in it is personal data
        self.path = folder / f"journal-{writer}.jsonl"
        self._site, self._axes = store.site, store.axes.fields()
        # Unbuffered: after a failed write nothing may stay behind that follows later.
        self._file = self.path.open("a+b", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._begin = 0  # byte at which the oldest waiting line begins
        self._lengths: deque[int] = deque()

    @property
    def waiting(self) -> int:
        """Batches that Redis has not counted yet."""
        return len(self._lengths)

    def append(self, batch: Batch) -> None:
        """Write a batch through to the disk. After an OSError (disk full) the journal is as it was before."""
        line = to_line(batch, self._site, self._axes)
        end = self._begin + sum(self._lengths)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)
            raise
        self._lengths.append(len(line))

    def first(self) -> Batch | None:
        """The oldest batch that waits."""
        if not self._lengths:
            return None
        return from_line(os.pread(self._file.fileno(), self._lengths[0], self._begin))[0]

    def drop_first(self) -> None:
        """The oldest batch has been counted."""
        self._begin += self._lengths.popleft()
        if not self._lengths:
            self._file.truncate(0)
            self._begin = 0

    def close(self) -> None:
        """Close the file, and remove it when nothing waits."""
        if not self._lengths:
            self.path.unlink(missing_ok=True)
        self._file.close()


def recover(folder: Path, store: Store) -> int:
    """Merge what dead writers of this site left in `folder`; returns the number of batches sent.

    Call it before `Store.reset`, or the left-overs will count towards the new tables. Journals of living writers and of
    other sites are left alone. Raises JournalCorrupt, AxesMismatch, or what `Store.flush` raises; then nothing is lost.
    """
    sent = 0
    for path in sorted(folder.glob("journal-*.jsonl")):
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            continue  # another process has just merged it
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            ours = True
            for line in read_lines(file, path):
                batch, site, axes = from_line(line)
                if site != store.site:
                    ours = False
                    break
                if store.axes is None:
                    raise StoreError(f"{path} holds counts to merge: open the store with the axes of the counts")
                if axes != store.axes.fields():
                    raise AxesMismatch(
                        f"{path} holds counts with {axes}: start once with these settings, or move the file away"
                    )
                store.flush(batch.counts, batch.number, state=batch.state, writer=batch.writer)
                sent += 1
            if ours:
                path.unlink(missing_ok=True)
    return sent
