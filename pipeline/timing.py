"""How long each stage takes: wall seconds per stage name, for run.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class StageClock:
    """Adds up wall seconds per stage; `observe` hears of each time, too.

    >>> clock = StageClock()
    >>> with clock.stage("detect"):
    ...     pass
    >>> clock.wall_s["detect"] >= 0
    True
    """

    wall_s: dict[str, float] = field(default_factory=dict)
    observe: Callable[[str, float], None] | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside the with-block under this name."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            took_s = time.perf_counter() - begin
            self.wall_s[name] = self.wall_s.get(name, 0.0) + took_s
            if self.observe is not None:
                self.observe(name, took_s)

    def milliseconds_per(self, count: int) -> dict[str, float]:
        """Wall milliseconds per item, when `count` items went through each stage."""
        return {name: 1000 * seconds / max(count, 1) for name, seconds in self.wall_s.items()}
