"""Events on their way out of the site: from its Stream to an MQTT broker, each at least once, in order.

How far an area has been forwarded is kept in Redis, so the next active matcher goes on there. After a kill the last few
events may come again: their `id` tells. Topic: TOPIC/SITE/AREA/EVENT, QoS 1.

    ForwardError (OSError)   the broker's address cannot be used
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pipeline.schema import Events
from pipeline.sources import redact
from st_model.site_stream import SiteStream
from st_model.store_errors import StoreError

log = logging.getLogger(__name__)

_ACK_S = 10.0
_PAUSE_S = (0.2, 10.0)


class ForwardError(OSError):
    """Events cannot be forwarded."""


class Forwarder:
    """A thread that forwards the events of an area while `active()`; a context manager. Raises ForwardError."""

    def __init__(self, settings: Events, site: str, stream: SiteStream, active: Callable[[], bool]) -> None:
        assert settings.mqtt is not None
        self._settings, self._site, self._stream, self._active = settings, site, stream, active
        self._place = redact(settings.mqtt)
        check_mqtt(settings.mqtt)
        self.forwarded = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mqtt {stream.area}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s, said = _PAUSE_S[0], ""
        while not self._stop.is_set():
            if not self._active():
                self._stop.wait(0.5)
                continue
            try:
                self._forward()
                pause_s, said = _PAUSE_S[0], ""
            except (StoreError, OSError, ValueError, RuntimeError) as error:
                if said != str(error):
                    said = str(error)
                    log.warning("events are not forwarded to %s: %s; trying again", self._place, error)
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S[1])

    def _forward(self) -> None:
        """Connect, and forward until something goes wrong or we are no longer active."""
        connection = _Connection(self._settings.mqtt or "")
        try:
            connection.wait()
            position = self._stream.forwarded()
            while self._active() and not self._stop.is_set():
                entries = self._stream.events(position, wait_s=0.3)
                for entry in entries:
                    self._publish(connection, entry.fields["m"])
                    position = entry.id
                if entries:
                    self._stream.note_forwarded(position)
        finally:
            connection.close()

    def _publish(self, connection: _Connection, content: bytes) -> None:
        event = json.loads(content)
        if event["area"] != self._stream.area:
            return
        topic = "/".join([self._settings.topic, self._site, event["area"], event["event"]])
        connection.publish(topic, content.rstrip())
        self.forwarded += 1


class _Connection:
    """One connection to a broker, never mended: what it had not acknowledged is said again by the next one."""

    def __init__(self, url: str) -> None:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        address = urlsplit(url)
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"identrix-{os.getpid()}-{threading.get_ident()}",
            reconnect_on_failure=False,
        )
        if address.username:
            self._client.username_pw_set(unquote(address.username), unquote(address.password or ""))
        if address.scheme == "mqtts":
            self._client.tls_set()
        self._answered, self._why = threading.Event(), ""
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        port = address.port or (8883 if address.scheme == "mqtts" else 1883)
        self._client.connect(address.hostname or "localhost", port, keepalive=30)
        self._client.loop_start()

    def wait(self) -> None:
        """Return when the broker has let us in. Raises OSError."""
        if not self._answered.wait(_ACK_S):
            raise OSError("the broker does not answer")
        self._check()

    def publish(self, topic: str, content: bytes) -> None:
        """Return when the broker has it. Raises OSError, ValueError, RuntimeError."""
        sent = self._client.publish(topic, content, qos=1)
        until_s = time.monotonic() + _ACK_S
        while not sent.is_published():
            self._check()
            if time.monotonic() > until_s:
                raise OSError("the broker does not acknowledge")
            sent.wait_for_publish(0.1)

    def close(self) -> None:
        """End it."""
        self._client.disconnect()
        self._client.loop_stop()

    def _check(self) -> None:
        if self._why:
            raise OSError(self._why)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._why = f"the broker refuses us: {reason}" if reason.is_failure else ""
        self._answered.set()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._why = self._why or f"the broker is gone: {reason}"
        self._answered.set()


def check_mqtt(url: str) -> None:
    """Raise ForwardError when events cannot be forwarded to an address at all."""
    if find_spec("paho") is None:
        raise ForwardError("MQTT needs the Python package paho-mqtt: pip install 'identrix[live]'")
    if not urlsplit(url).hostname:
        raise ForwardError(f"events.mqtt: {redact(url)} names no host; expected mqtt://[user:password@]host[:port]")
