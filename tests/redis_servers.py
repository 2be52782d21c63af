"""Real servers for tests: ours (embedded) and Debian's redis-server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from st_model.embedded import EmbeddedServer, server_binary

KINDS = ("embedded", "redis-server")


def binary(kind: str) -> str:
    """The program of a kind of server; skips the test when it is not installed."""
    if kind == "embedded":
        return str(server_binary())
    path = shutil.which("redis-server")
    if path is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    return path


@contextmanager
def running(kind: str, folder: Path, *options: str) -> Iterator[str]:
    """A server with an append-only file in `folder`, killed at the end (as a crash would); its URL."""
    path = folder / "s.sock"
    command = [binary(kind), "--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([*command, "--appendonly", "yes", *options], stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(f"unix://{path}")
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def any_server(kind: str, folder: Path) -> Iterator[str]:
    """A server of either kind, ours in the way the project starts it; its URL."""
    if kind == "embedded":
        with EmbeddedServer(folder) as server:
            yield server.url
    else:
        with running(kind, folder) as url:
            yield url


def wait_until_ready(url: str) -> None:
    """Return when the server answers, even if it only asks for a password."""
    with redis.Redis.from_url(url) as client:
        for _ in range(500):
            try:
                client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                time.sleep(0.01)
    raise AssertionError(f"no server at {url}")


def kill_server(url: str) -> None:
    """kill -9 of the server behind a URL; returns when it no longer listens."""
    with redis.Redis.from_url(url) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
        wait_for(lambda: not _listens(url))


def _listens(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def wait_for(condition, limit_s: float = 20.0) -> None:
    """Return when the condition holds; fail when it does not come true."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
