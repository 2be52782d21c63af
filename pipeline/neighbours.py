"""Other areas of a site: what they say, in which order it counts, and how long an area waits for them.

What another area decided in a window that ended at `t` counts here from `t + LAG_S` on, and no window is decided before
everything that counts by its end has come. So the order in which exits count depends on site time alone, not on who is
faster; and areas that wait for each other always get on, because each may be LAG_S ahead.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.messages import Mark
from st_model.exits import ANEW, LEARNT, ExitError, unpacked
from st_model.site_stream import SiteStream
from st_model.transitions import Increment

log = logging.getLogger(__name__)

LAG_S = 1.0
"""A window's length: with less, areas would take turns for every sighting; with more, whoever walks over quickly is
a stranger at first."""


def linked(config: Config, area: str) -> frozenset[str]:
    """The areas that hear of each other with this one.

    Every other one unless `streams.neighbours` says which; it is enough when one of two names the other.
    """
    areas = {camera.area for camera in config.cameras} - {area}
    told = config.streams.neighbours
    if told is None:
        return frozenset(areas)
    return frozenset(other for other in areas if other in told.get(area, ()) or area in told.get(other, ()))


class Word(NamedTuple):
    """Something that an area said, from which site time on it counts, and the tables' version it was stored with."""

    area: str
    entry: str
    kind: str
    row: dict[str, Any]
    from_s: float
    version: int


@dataclass
class _Heard:
    """How far another area has come, and when that changed last (monotonic, of this process)."""

    mark: Mark | None
    heard_s: float


class Neighbours:
    """What the linked areas say, in order.

    stream    of this area
    areas     linked with it; none: everything here does nothing
    after     area -> id of the last entry of its exits that was acted on, as it was saved
    """

    def __init__(self, stream: SiteStream, areas: frozenset[str], after: Mapping[str, str], patience_s: float) -> None:
        self._stream, self.areas, self._patience_s = stream, areas, patience_s
        self.after = {area: after.get(area, "0") for area in sorted(areas)}
        self._read = dict(self.after)
        self._marked = dict.fromkeys(areas, "0")
        self._said: dict[str, deque[Word]] = {area: deque() for area in self.after}
        now_s = time.monotonic()
        self._heard = {area: _Heard(None, now_s) for area in areas}
        self.versions: set[int] = set()
        """Of the tables, with which something came that was read; whoever asks may empty it."""

    def read(self, wait_s: float = 0.0) -> None:
        """Read what is new; wait for it. Raises a StoreError."""
        if not self.areas:
            return
        items, marks = self._stream.hear(self._read, self._marked, wait_s)
        for area, entry in items:
            kind, row = entry.fields["k"].decode(), {}
            try:
                row = unpacked(entry.fields["m"])
            except ExitError as error:
                log.error("area %s: a word of area %s is left out: %s", self._stream.area, area, error)
                kind = ""
            if kind == ANEW:
                self._said[area].clear()
            # an unreadable one, and the beginning of another recording, count at once
            from_s = row["at_s"] + LAG_S if kind not in ("", ANEW) else -math.inf
            version = int(entry.fields.get("v", b"0"))
            self._said[area].append(Word(area, entry.id, kind, row, from_s, version))
            self.versions.add(version)
        for area, content in marks.items():
            row = json.loads(content)
            mark = Mark(float(row["until_s"]), str(row["state"]))
            if mark != self._heard[area].mark:
                self._heard[area] = _Heard(mark, time.monotonic())

    @property
    def next(self) -> Word | None:
        """What counts next; of one time, the area first in the alphabet. One area's words stay in order."""
        heads = [words[0] for words in self._said.values() if words]
        return min(heads, key=lambda word: (word.from_s, word.area), default=None)

    def acted_on(self, word: Word) -> None:
        """The word that counts next has been acted on."""
        self.after[word.area] = self._said[word.area].popleft().entry

    def learnt_later(self, version: int) -> list[Increment]:
        """What tables of this version hold and what does not count yet."""
        words = (word for words in self._said.values() for word in words if word.version <= version)
        return [increment for word in words if word.kind == LEARNT for increment in increments_of(word)]

    def bound_s(self) -> float:
        """Up to which site time everything that counts has come. An area that says nothing for `patience_s`, rests or
        has ended is not waited for.
        """
        now_s, bound_s = time.monotonic(), math.inf
        for heard in self._heard.values():
            if now_s - heard.heard_s >= self._patience_s:
                continue
            if heard.mark is None:
                return -math.inf
            if heard.mark.state == "live":
                bound_s = min(bound_s, heard.mark.until_s + LAG_S)
        return bound_s

    def begin_anew(self) -> None:
        """Another recording begins: areas that had ended are waited for as if they had never been heard."""
        for area, heard in self._heard.items():
            if heard.mark is not None and heard.mark.state == "ended":
                self._heard[area] = _Heard(None, time.monotonic())

    def ended(self) -> bool:
        """Whether nothing is to come from any of them: recordings are over, or the area is silent."""
        now_s = time.monotonic()
        over = (
            now_s - h.heard_s >= self._patience_s or (h.mark is not None and h.mark.state == "ended")
            for h in self._heard.values()
        )
        return all(over)


def increments_of(word: Word) -> list[Increment]:
    """What a word of kind `learnt` adds to the tables. Raises ValueError, KeyError or TypeError when it is none."""
    return [Increment(str(a), str(b), int(epoch), int(bin), int(n)) for a, b, epoch, bin, n in word.row["increments"]]


def packed_mark(mark: Mark) -> bytes:
    """As it stands in the Stream of marks."""
    return json.dumps({"until_s": mark.until_s, "state": mark.state}).encode()
