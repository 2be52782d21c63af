"""Debian's MQTT broker in a process of its own, always on the same port, for tests."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from redis_servers import free_port, wait_for

_PATH = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def why_not() -> str | None:
    """Why no broker can be started here; None when one can."""
    return None if _PATH else "mosquitto is not installed (apt-get install mosquitto)"


class Mosquitto:
    """A broker; a context manager. login: "user:password" that it demands, "" when it lets everybody in."""

    def __init__(self, folder: Path, login: str = "") -> None:
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start(login)

    def start(self, login: str = "") -> None:
        """Start (again); returns when it listens."""
        assert _PATH is not None
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {str(not login).lower()}", "user root"]
        if login:
            passwords = self._folder / "passwords"
            passwords.write_text(f"{login}\n")
            subprocess.run([str(Path(_PATH).parent.parent / "bin/mosquitto_passwd"), "-U", str(passwords)], check=True)
            lines.append(f"password_file {passwords}")
        path = self._folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen([_PATH, "-c", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._listens)

    def freeze(self) -> None:
        """It holds its connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """As when the power goes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Mosquitto:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Subscriber:
    """Takes everything at QoS 1; a context manager. got: (topic, payload, QoS) in the order of arrival."""

    def __init__(self, port: int, login: str = "") -> None:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        self.got: list[tuple[str, bytes, int]] = []
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"test-{time.monotonic_ns()}")
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_disconnect = lambda *_: self._ready.clear()
        self._client.on_message = lambda c, u, message: self.got.append((message.topic, message.payload, message.qos))
        self._client.reconnect_delay_set(1, 1)
        if login:
            self._client.username_pw_set(*login.split(":"))
        self._client.connect("127.0.0.1", port)

    @property
    def ready(self) -> bool:
        """Whether it is subscribed right now."""
        return self._ready.is_set()

    def __enter__(self) -> Subscriber:
        self._client.loop_start()
        wait_for(lambda: self.ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
