"""A worker's clock is measured against the site's, and live cameras are read by the site's."""

from __future__ import annotations

import logging
import time

import pytest

from pipeline import members
from pipeline.members import Beat, clock_offset_s


class Site:
    """A site whose clock is `ahead_s` ahead, and whose answers take `takes_s` on the way back only."""

    area = "main"

    def __init__(self, ahead_s: float, takes_s: list[float] = ()):
        self.ahead_s, self.takes_s, self.said = ahead_s, list(takes_s), []

    def time_s(self) -> float:
        now_s = time.time() + self.ahead_s
        time.sleep(self.takes_s.pop(0) if self.takes_s else 0.0)
        return now_s

    def beat(self, facts: bytes) -> None:
        self.said.append(facts)

    def leave(self) -> None:
        self.said.append(b"")


@pytest.mark.parametrize("ahead_s", [-7.5, 0.0, 3600.0])
def test_the_shortest_way_is_believed(ahead_s):
    assert clock_offset_s(Site(ahead_s, [0.3, 0.2, 0.0, 0.25])) == pytest.approx(ahead_s, abs=0.1)


def test_a_clock_that_moves_is_reported(monkeypatch, caplog):
    monkeypatch.setattr(members, "BEAT_S", 0.01)
    monkeypatch.setattr(members, "CLOCK_EVERY_S", 0.02)
    site = Site(0.0)
    with caplog.at_level(logging.WARNING), Beat(site, "worker", dict) as beat:
        until_s = time.monotonic() + 20
        while len(site.said) < 3 and time.monotonic() < until_s:
            time.sleep(0.01)
        assert caplog.text == ""
        site.ahead_s = 2.0
        while not caplog.text and time.monotonic() < until_s:
            time.sleep(0.01)
    assert "clock moved by 2.0" in caplog.text and beat.clock_s == pytest.approx(2.0, abs=0.1)
    assert site.said[-1] == b"", "it leaves"
