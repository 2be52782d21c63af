"""A webcam as a live camera, with a stand-in for OpenCV's capture: no machine of ours has one."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pipeline.camera_state import LiveSettings
from pipeline.frames import Source
from pipeline.live import LiveCameras


class Device:
    """Gives a picture every 20 ms; can be pulled out and can hang."""

    plugged = True
    hangs: threading.Event | None = None

    def __init__(self, number: int) -> None:
        self.number = number

    def isOpened(self) -> bool:
        return self.plugged

    def get(self, what: int) -> float:
        return {3: 64.0, 4: 48.0, 5: 30.0}[what]

    def grab(self) -> bool:
        if self.hangs is not None:
            self.hangs.wait(10)
        time.sleep(0.02)
        return self.plugged

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((48, 64, 3), np.uint8)

    def release(self) -> None: ...


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    import cv2

    class Mine(Device): ...

    monkeypatch.setattr(cv2, "VideoCapture", Mine)
    monkeypatch.setattr("pipeline.reading.sys.platform", "any")
    return Mine


def until(cameras: LiveCameras, condition) -> None:
    end_s = time.monotonic() + 10
    for _ in cameras:
        if condition():
            return
        assert time.monotonic() < end_s, cameras.health


def test_it_is_pulled_out_and_put_back(device):
    with LiveCameras([Source("desk", "0")], LiveSettings(stalled_after_s=0.2)) as cameras:
        health = cameras.health["desk"]
        until(cameras, lambda: health.frames_read > 5)
        assert health.size == (64, 48) and health.live.clock == "arrival"
        device.plugged = False
        until(cameras, lambda: health.live.state == "backing off")
        assert "webcam" in health.live.reason  # it sends no more pictures, then it is not there
        device.plugged = True
        until(cameras, lambda: health.live.state == "live")
        assert health.live.reconnects == 1
        ((camera, from_s, to_s),) = cameras.outages()
        assert camera == "desk" and to_s > from_s


def test_a_driver_that_hangs_holds_nobody_up(device):
    with LiveCameras([Source("desk", "0")], LiveSettings(stalled_after_s=0.2)) as cameras:
        health = cameras.health["desk"]
        until(cameras, lambda: health.frames_read > 5)
        device.hangs = threading.Event()
        until(cameras, lambda: health.live.state == "stalled")
        begin_s = time.monotonic()
    assert time.monotonic() - begin_s < 9  # the thread is a daemon and left behind
    device.hangs.set()
