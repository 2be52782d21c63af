"""What a worker has said and Redis may not have yet: numbered messages on disk, so that nothing is lost or said twice.

Append-only, one line per message: a CRC-32 in hexadecimal, a space, the message's number and that of the one before,
its content. Memory holds where the lines are, not what they say. A message is kept for `keep_s` after Redis has taken
it: a server that is killed may lose its last second, and is then told again.
"""

from __future__ import annotations

import errno
import os
import time
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import output_error
from st_model.site_stream import Message

KEEP_S = 10.0
"""Redis loses two seconds at most with its default `appendfsync everysec`; five times that costs some kilobytes."""
_COMPACT_BYTES = 16 * 2**20


@dataclass(slots=True)
class _Line:
    number: int
    before: int
    begin: int
    length: int
    taken_s: float | None = None


class Outbox:
    """The messages of one worker for one area. Raises OutputError when the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outbox = Outbox(Path(folder) / "outbox-main")
    ...     outbox.append(3, b"hello")
    ...     outbox.append(8, b"again")
    ...     outbox.close()
    ...     reopened = Outbox(Path(folder) / "outbox-main")
    ...     reopened.taken(3)
    ...     reopened.unsent(10)
    [Message(number=8, before=3, content=b'again')]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: deque[_Line] = deque()
        self._sent = 0  # how many of them Redis has
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # embeddings are personal data
            self._end = 0
            for line in self._read():
                self._lines.append(line)
                self._end = line.begin + line.length
            os.ftruncate(self._file, self._end)
        except OSError as error:
            raise output_error(path, error) from error
        self.last = self._lines[-1].number if self._lines else 0
        """Number of the last message that was ever appended (0: none that is still known)."""

    @property
    def waiting(self) -> int:
        """Messages that Redis has not taken yet."""
        return len(self._lines) - self._sent

    @property
    def waiting_bytes(self) -> int:
        """Their size."""
        return self._end - self._lines[self._sent].begin if self.waiting else 0

    def append(self, number: int, content: bytes) -> None:
        """Write a message through to the operating system: it survives a kill of this process."""
        if number <= self.last:
            raise ValueError(f"message {number} after {self.last}")
        body = b"%d %d %s" % (number, self.last, content.rstrip(b"\n"))
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        try:
            if os.pwrite(self._file, line, self._end) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise output_error(self.path, error) from error
        self._lines.append(_Line(number, self.last, self._end, len(line)))
        self._end += len(line)
        self.last = number

    def skip_to(self, number: int) -> None:
        """Redis has taken messages up to this number that this file does not know (it was removed)."""
        if number > self.last:
            self._lines.clear()
            self._sent, self.last = 0, number

    def unsent(self, most: int, most_bytes: int = 2**20) -> list[Message]:
        """The oldest messages that Redis has not taken yet."""
        out: list[Message] = []
        size = 0
        for n in range(self._sent, min(self._sent + most, len(self._lines))):
            line = self._lines[n]
            size += line.length
            if out and size > most_bytes:
                break
            out.append(Message(line.number, line.before, self._content(line)))
        return out

    def taken(self, last: int) -> None:
        """Redis has taken everything up to this number; and, if it once had taken more, it has lost that."""
        now_s = time.monotonic()
        while self._sent < len(self._lines) and self._lines[self._sent].number <= last:
            self._lines[self._sent].taken_s = now_s
            self._sent += 1
        while self._sent and self._lines[self._sent - 1].number > last:
            self._sent -= 1
            self._lines[self._sent].taken_s = None
        self._drop(now_s)

    def knows(self, last: int) -> bool:
        """Whether everything after message `last` can be said again."""
        return not self._lines or self._lines[0].before <= last

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _drop(self, now_s: float) -> None:
        while self._sent and len(self._lines) > 1 and (self._lines[0].taken_s or now_s) <= now_s - KEEP_S:
            self._lines.popleft()
            self._sent -= 1
        if self._lines and self._lines[0].begin > max(_COMPACT_BYTES, self._end // 2):
            self._compact()

    def _compact(self) -> None:
        """Leave out what was dropped, in a new file that replaces the old one whole."""
        shift = self._lines[0].begin
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                for line in self._lines:
                    file.write(os.pread(self._file, line.length, line.begin))
            replacement = os.open(temporary, os.O_RDWR)
            temporary.replace(self.path)
        except OSError as error:
            raise output_error(self.path, error) from error
        os.close(self._file)
        self._file = replacement
        self._end -= shift
        for line in self._lines:
            line.begin -= shift

    def _content(self, line: _Line) -> bytes:
        body = os.pread(self._file, line.length, line.begin)[9:-1]
        return body.split(b" ", 2)[2]

    def _read(self) -> Iterator[_Line]:
        """The sound lines from the start; what follows a damaged one was never promised to anybody."""
        begin = 0
        with self.path.open("rb") as file:
            for line in file:
                body = line[9:-1]
                if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(body):
                    return
                number, before, _ = body.split(b" ", 2)
                yield _Line(int(number), int(before), begin, len(line))
                begin += len(line)
