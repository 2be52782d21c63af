"""RTSP cameras for tests: starts, kills, freezes and replaces real servers (tests/rtsp_server.py) on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from functools import lru_cache
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
_SERVER = Path(__file__).with_name("rtsp_server.py")
_NEEDED = ("videotestsrc", "x264enc", "rtph264pay", "qtdemux", "h264parse")


@lru_cache
def why_not() -> str | None:
    """Why no RTSP server can be started here; None when one can."""
    if shutil.which(SYSTEM_PYTHON) is None:
        return f"no {SYSTEM_PYTHON}"
    look = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')\n"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None)\n"
        f"print(*[e for e in {_NEEDED!r} if Gst.ElementFactory.find(e) is None])"
    )
    done = subprocess.run([SYSTEM_PYTHON, "-c", look], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        return "GStreamer's RTSP server is missing (gir1.2-gst-rtsp-server-1.0, python3-gi)"
    return f"GStreamer has no {done.stdout.strip()}" if done.stdout.strip() else None


class RtspCamera:
    """One camera: a server process of its own, always on the same port. what: see tests/rtsp_server.py."""

    def __init__(self, what: str, user: str = "") -> None:
        self.what = what
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self._user = user
        self.start()

    @property
    def uri(self) -> str:
        login = f"{self._user}@" if self._user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/cam"

    def start(self, what: str | None = None) -> None:
        """Start (again), with another picture if wanted; returns when the server listens."""
        self.what = what or self.what
        self._process = subprocess.Popen(
            [
                SYSTEM_PYTHON,
                str(_SERVER),
                str(self.port),
                f"cam={self.what}",
                *(["--login", self._user] if self._user else []),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said.strip().isdigit(), "the RTSP server did not start"
        self.port = int(said)

    def kill(self) -> None:
        """As when the power goes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        """It holds its connections, accepts new ones, and says nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> RtspCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Garbage:
    """Answers every connection to a port with noise: another device has taken the camera's address."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self._socket.settimeout(0.1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        noise = bytes(range(256)) * 16
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    connection.settimeout(0.5)
                    connection.recv(4096)
                    connection.sendall(noise)
                except OSError:
                    pass

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
