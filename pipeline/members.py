"""Every process of a live site says once a second how it does, and measures its clock against the site's."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from pipeline.messages import packed_member
from st_model.site_stream import SiteStream
from st_model.store_errors import StoreError

log = logging.getLogger(__name__)

BEAT_S = 1.0
CLOCK_EVERY_S = 60.0
CLOCK_MOVED_S = 0.25
"""A machine's clock that moved this far against the site's since the start is reported."""


def clock_offset_s(stream: SiteStream, tries: int = 5) -> float:
    """What to add to this machine's clock to have the site's (that of Redis), seconds; a StoreError when it is away.

    Of several round trips the shortest is believed: half of it bounds the error.
    """
    best = (float("inf"), 0.0)
    for _ in range(tries):
        before_s = time.time()
        site_s = stream.time_s()
        took_s = time.time() - before_s
        best = min(best, (took_s, site_s - before_s - took_s / 2))
    return best[1]


class Beat:
    """A thread that says how this process does; a context manager.

    facts  what to say; called in that thread, once a second
    """

    def __init__(self, stream: SiteStream, role: str, facts: Callable[[], dict[str, Any]]) -> None:
        self._stream, self._facts = stream, facts
        self._who = {"role": role, "host": socket.gethostname(), "pid": os.getpid(), "area": stream.area}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        self.began_with_s: float | None = None
        self.clock_s = 0.0
        """This machine's clock against the site's, as measured last."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(StoreError):
            self._stream.leave()

    def _run(self) -> None:
        measure_at_s = 0.0
        while not self._stop.is_set():
            with suppress(StoreError):  # whoever sends or decides says that Redis is away
                if time.monotonic() >= measure_at_s:
                    self._measure()
                    measure_at_s = time.monotonic() + CLOCK_EVERY_S
                at_s = time.time() + self.clock_s
                facts = {**self._who, "at_s": at_s, "clock_s": self.clock_s, **self._facts()}
                self._stream.beat(packed_member(facts))
            self._stop.wait(BEAT_S)

    def _measure(self) -> None:
        self.clock_s = clock_offset_s(self._stream)
        if self.began_with_s is None:
            self.began_with_s = self.clock_s
        elif abs(self.clock_s - self.began_with_s) > CLOCK_MOVED_S:
            log.warning(
                "this machine's clock moved by %.2f s against the site's: is a time service running?",
                self.clock_s - self.began_with_s,
            )
            self.began_with_s = self.clock_s
