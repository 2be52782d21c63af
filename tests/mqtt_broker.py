"""The smallest MQTT 3.1.1 broker that a publisher can talk to: keeps what is published, acknowledges QoS 1."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while True:
            head = self.rfile.read(1)
            if not head:
                return
            length = shift = 0
            while True:
                (byte,) = self.rfile.read(1)
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            body = self.rfile.read(length)
            kind = head[0] >> 4
            if kind == 1:  # CONNECT
                self.wfile.write(b"\x20\x02\x00\x00")
            elif kind == 3:  # PUBLISH
                size = int.from_bytes(body[:2])
                topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
                if head[0] & 0b110:
                    self.server.published.append((topic, rest[2:]))
                    self.wfile.write(b"\x40\x02" + rest[:2])
                else:
                    self.server.published.append((topic, rest))
            elif kind == 12:  # PINGREQ
                self.wfile.write(b"\xd0\x00")
            elif kind == 14:  # DISCONNECT
                return


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A publisher that vanishes is no error."""


@contextmanager
def mqtt_broker() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """(address, what was published as (topic, payload))."""
    with _Server(("127.0.0.1", 0), _Connection) as server:
        server.published = []
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"mqtt://127.0.0.1:{server.server_address[1]}", server.published
        finally:
            server.shutdown()
            thread.join()
