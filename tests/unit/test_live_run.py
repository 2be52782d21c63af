"""What a live run tells its site, with stand-ins for both."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from pipeline.config import Camera, Config
from pipeline.frames import CameraHealth, Frame, LiveHealth
from pipeline.live_run import LiveWatch, changes, not_delivering
from st_model.hypotheses import MatchSettings
from st_model.matcher import OnlineMatcher
from st_model.transitions import TransitionTables

FRAME = Frame("a", 0, 5.0, np.zeros((2, 2, 3), np.uint8))


def test_an_outage_is_known_while_it_lasts_and_ends_when_it_ends():
    matcher = OnlineMatcher(MatchSettings(), iter(range(9)).__next__, TransitionTables())
    away: list[tuple[str, float, float]] = []
    over: list[tuple[str, float, float]] = []
    cameras = SimpleNamespace(away=lambda: list(away), outages=lambda: [over.pop() for _ in list(over)], floor_s=7.0)
    seen: list[object] = []
    site = SimpleNamespace(add_outage=matcher.add_outage, step=lambda batch: seen.append(batch), quiet=seen.append)
    watch = LiveWatch(Config(cameras=(Camera(name="a", source="0"),)), site, cameras, lambda camera: None)
    watch.step([FRAME])
    away.append(("a", 5.0, math.inf))
    for _ in range(3):
        watch.step([])
    assert seen[:4] == [[FRAME], 7.0, 7.0, 7.0] and matcher.state.teacher.outages == (("a", 5.0, math.inf),)
    away.clear()
    watch.step([])
    assert matcher.state.teacher.outages == (("a", 5.0, 7.0),)
    over.append(("a", 5.0, 9.0))
    watch.step([FRAME])
    assert matcher.state.teacher.outages == (("a", 5.0, 9.0),) and watch.outages == [("a", 5.0, 9.0)]
    matcher.add_outage(("b", 1e6, math.inf))
    assert matcher.state.teacher.outages == (("b", 1e6, math.inf),)  # the old one is too old to matter


def test_who_was_not_sending_at_the_end():
    def health(state: str, *, ended: bool = False, reason: str | None = None) -> CameraHealth:
        return CameraHealth(ended=ended, live=LiveHealth(state=state, reason=reason))

    found = not_delivering(
        {
            "well": health("live"),
            "slow": health("stalled"),
            "gone": health("backing off", reason="no data for 5 s"),
            "new": health("connecting"),
            "removed": health("failed", ended=True),
        }
    )
    assert found == {"gone": "no data for 5 s", "new": "camera new: no picture came before the run ended"}


def test_a_camera_that_moves_to_another_area_ends_and_begins():
    one = Camera(name="a", source="rtsp://a")
    moved = one.model_copy(update={"area": "annex"})
    found = changes(Config(cameras=(one,)), Config(cameras=(moved,)))
    assert (found.added, found.removed, found.changed) == ((moved,), ("a",), ())
