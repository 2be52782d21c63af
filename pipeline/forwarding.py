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
from collections.abc import Callable
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
        self._client = _client(settings.mqtt)
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
        pause_s, said = _PAUSE_S[0], False
        while not self._stop.is_set():
            if not self._active():
                self._stop.wait(0.5)
                continue
            try:
                self._forward()
                pause_s, said = _PAUSE_S[0], False
            except (StoreError, OSError, ValueError, RuntimeError) as error:
                if not said:
                    said = True
                    log.warning("events are not forwarded to %s: %s; trying again", self._place, error)
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S[1])

    def _forward(self) -> None:
        """Connect, and forward until something goes wrong or we are no longer active."""
        address = urlsplit(self._settings.mqtt or "")
        port = address.port or (8883 if address.scheme == "mqtts" else 1883)
        self._client.connect(address.hostname or "localhost", port, keepalive=30)
        self._client.loop_start()
        try:
            position = self._stream.forwarded()
            while self._active() and not self._stop.is_set():
                entries = self._stream.events(position, wait_s=0.3)
                for entry in entries:
                    self._publish(entry.fields["m"])
                    position = entry.id
                if entries:
                    self._stream.note_forwarded(position)
        finally:
            self._client.loop_stop()
            self._client.disconnect()

    def _publish(self, content: bytes) -> None:
        event = json.loads(content)
        if event["area"] != self._stream.area:
            return
        topic = "/".join([self._settings.topic, self._site, event["area"], event["event"]])
        sent = self._client.publish(topic, content.rstrip(), qos=1)
        sent.wait_for_publish(_ACK_S)
        if not sent.is_published():
            raise OSError("the broker does not acknowledge")
        self.forwarded += 1


def _client(url: str) -> Any:
    try:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise ForwardError("MQTT needs the Python package paho-mqtt: pip install 'identrix[live]'") from error
    address = urlsplit(url)
    if not address.hostname:
        raise ForwardError(f"events.mqtt: {redact(url)} names no host; expected mqtt://[user:password@]host[:port]")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"identrix-{os.getpid()}-{threading.get_ident()}")
    if address.username:
        client.username_pw_set(unquote(address.username), unquote(address.password or ""))
    if address.scheme == "mqtts":
        client.tls_set()
    return client
