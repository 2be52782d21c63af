"""Live cameras over real RTSP servers: faults of every kind, and what the program makes of them."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import logging
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import walkers
from live_rounds import FAULTS, GIVE_UP_S, Watch, play
from rtsp_cameras import RtspCamera, why_not

from pipeline.camera_state import LiveSettings
from pipeline.frames import Frame, Source
from pipeline.live import LiveCameras

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

HASTY = LiveSettings(connect_timeout_s=1.5, read_timeout_s=1.5, stalled_after_s=0.5, stall_timeout_s=3.0)


def frames_of(cameras: LiveCameras) -> Iterator[Frame]:
    """All frames until the test's patience ends."""
    until_s = time.monotonic() + GIVE_UP_S
    for batch in cameras:
        assert time.monotonic() < until_s, cameras.health
        yield from batch


def until(cameras: LiveCameras, condition) -> None:
    """Read on until something holds."""
    until_s = time.monotonic() + GIVE_UP_S
    for _ in cameras:
        if condition():
            return
        assert time.monotonic() < until_s, cameras.health


def live_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("live ")]


def test_faults_of_every_kind(caplog):
    caplog.set_level(logging.WARNING)
    rounds, cameras, watch = play(list(FAULTS), HASTY, away_s=0.6)
    assert [r.fault for r in rounds] == list(FAULTS)  # every camera came back each time
    assert len({r.threads for r in rounds}) == 1 and live_threads() == []
    assert watch.rose
    reconnects = {name: health.live.reconnects for name, health in cameras.health.items()}
    assert reconnects["a"] >= 1 and reconnects["b"] >= 1 and reconnects["c"] == reconnects["d"] == 1
    assert cameras.health["b"].size_changes == 1 and cameras.health["b"].size == (160, 120)
    assert cameras.health["c"].live.clock == "sender"  # the last one struck has not reported yet
    assert all(health.live.jumps == 0 for health in cameras.health.values())
    text = caplog.text
    assert "camera a: live again after" in text and "Connection refused" in text and "another size" in text
    assert "no data for 1.5 s" in text and "no answer within 1.5 s" in text


def test_a_wrong_password_is_tried_rarely_and_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    with RtspCamera("160x120@10", user="me:s3cret") as served:
        wrong = Source("door", served.uri.replace("s3cret", "wr0ng"))
        with LiveCameras([wrong], HASTY) as cameras:
            until(cameras, lambda: cameras.state_of("door").phase == "failed")
            state = cameras.state_of("door")
            assert state.retry_at_s - time.monotonic() > 20
            assert "refuses the login" in state.reason and "Check user and password" in state.reason
            cameras.restart(Source("door", served.uri))  # somebody has mended it
            first = next(frames_of(cameras))
            assert first.image.shape == (120, 160, 3)
    shown = caplog.text + repr(cameras.health) + repr(wrong)
    assert "wr0ng" not in shown and "s3cret" not in shown


def test_the_end_of_a_stream_is_a_disconnect(tmp_path):
    film = walkers.film(tmp_path / "film.mp4", [0.5], duration_s=2)
    with RtspCamera(str(film)) as served, LiveCameras([Source("a", served.uri)], HASTY) as cameras:
        frames = []
        for frame in frames_of(cameras):
            frames.append(frame)
            if cameras.health["a"].live.reconnects == 2:
                break
        assert all(later.time_s > earlier.time_s for earlier, later in itertools.pairwise(frames))
        assert len(frames) > 12 and {f.image.shape for f in frames} == {(240, 320, 3)}
        ends_s = [to_s - from_s for _, from_s, to_s in cameras.outages()]
        assert all(gap_s > HASTY.stalled_after_s for gap_s in ends_s)
        assert abs(frames[-1].time_s - time.time()) < 5


def test_pictures_over_http_are_timed_by_arrival():
    """MJPEG, as simple cameras send it: no time in it, and here it hangs up after 2 s, again and again."""
    import cv2

    _, jpeg = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))
    part = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg.tobytes() + b"\r\n"

    class Camera(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(20):
                    self.wfile.write(part)
                    time.sleep(0.1)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        source = Source("yard", f"http://127.0.0.1:{server.server_port}/video", camera_behind=True)
        with LiveCameras([source], HASTY) as cameras:
            times = []
            for frame in frames_of(cameras):
                times.append(frame.time_s)
                if cameras.health["yard"].live.reconnects == 1 and len(times) > 30:
                    break
        server.shutdown()
    assert cameras.health["yard"].live.clock == "arrival" and abs(times[-1] - time.time()) < 5
    assert 0.08 < np.median(np.diff(times)) < 0.2  # their own pace, not 25 Hz


def test_offsets_hold():
    """A clock that is 1.5 s behind, set right: frames of one moment come together, in order."""
    with RtspCamera("160x120@10") as one, RtspCamera("160x120@10") as two:
        sources = [Source("a", one.uri), Source("b", two.uri, offset_s=1.5)]
        with LiveCameras(sources, HASTY) as cameras:
            times: dict[str, list[float]] = {"a": [], "b": []}
            for frame in frames_of(cameras):
                times[frame.camera].append(frame.time_s)
                if min(map(len, times.values())) > 30:
                    break
            late = cameras.health["a"].live.late + cameras.health["b"].live.late
        assert times["b"][-1] - times["a"][-1] < 0.5 and late < 5  # a's frames have waited for b's
        assert all(0.05 < step < 0.3 for step in np.diff(times["a"])[-15:])


def test_udp():
    with RtspCamera("160x120@10") as served:
        source = Source("a", served.uri, transport="udp")
        with LiveCameras([source], HASTY) as cameras:
            until(cameras, lambda: cameras.health["a"].frames_read > 10 and cameras.health["a"].live.clock == "sender")
            served.kill()
            served.start()
            until(cameras, lambda: cameras.health["a"].live.reconnects == 1)


def test_cameras_are_added_removed_and_restarted_meanwhile():
    with RtspCamera("160x120@10") as one, RtspCamera("160x120@10") as two:
        with LiveCameras([Source("a", one.uri)], HASTY) as cameras:
            watch = Watch(cameras)
            watch.frame_after("a", 0.0)
            cameras.add(Source("b", two.uri))
            with pytest.raises(ValueError, match="camera names must differ"):
                cameras.add(Source("b", two.uri))
            watch.frame_after("b", 0.0)
            cameras.restart(Source("a", two.uri, detect_hz=5))
            watch.frame_after("a", time.monotonic())
            cameras.remove("b")
            time.sleep(0.3)  # a batch may be on its way
            count = watch.counts["b"]
            watch.frame_after("a", time.monotonic() + 0.5)
            assert watch.counts["b"] == count and set(cameras.cameras) == {"a"}
            assert cameras.health["b"].ended and not cameras.health["a"].ended
            assert cameras.health["a"].live.reconnects == 1 and cameras.health["a"].frames_skipped > 0
        watch.thread.join(5)
    assert watch.rose and live_threads() == []


def test_leaving_does_not_wait_for_a_camera_that_hangs():
    with RtspCamera("160x120@10") as served:
        patient = LiveSettings(connect_timeout_s=120, read_timeout_s=120, stall_timeout_s=120)
        with LiveCameras([Source("a", served.uri)], patient) as cameras:
            next(frames_of(cameras))
            served.freeze()
            until(cameras, lambda: cameras.state_of("a").phase == "stalled")
        assert live_threads() == ["live a"]  # left behind in the library; a daemon
        served.kill()
        for _ in range(100):
            if not live_threads():
                break
            time.sleep(0.1)
        assert live_threads() == []


def test_a_slow_consumer_gets_the_present_and_every_drop_is_counted():
    with RtspCamera("160x120@30") as served, LiveCameras([Source("a", served.uri)], HASTY, spare_frames=1) as cameras:
        frames = []
        for frame in frames_of(cameras):
            frames.append(frame)
            time.sleep(0.2)
            if len(frames) == 15:
                break
        health = cameras.health["a"]
        assert health.frames_dropped > 20
        seen = frames[-1].index - frames[0].index + 1
        assert seen - len(frames) <= health.frames_dropped
        assert time.time() - frames[-1].time_s < 3.0
