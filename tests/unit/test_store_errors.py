"""Every way Redis can refuse: one clear line of ours, and never a password in it."""

from __future__ import annotations

import socket
import socketserver
import threading

import pytest
import redis
from redis_servers import KINDS, free_port, running

from st_model.counts import Axes
from st_model.store import Store
from st_model.store_errors import (
    NotRedis,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    WrongKeyType,
    redact,
    translated,
)
from st_model.transitions import Increment

AXES = Axes(2.0, 0.0, 100_000, 86400.0)
SECRET = "tr0ub4dor"


def message_of(expected: type[StoreError], url: str, **more) -> str:
    with pytest.raises(expected) as caught:
        Store(url, "site", axes=AXES, **more)
    text = str(caught.value)
    assert "\n" not in text and SECRET not in text
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    return text


def test_nobody_listens(tmp_path):
    port = free_port()
    text = message_of(StoreUnavailable, f"redis://me:{SECRET}@127.0.0.1:{port}/0")
    assert f"redis://***@127.0.0.1:{port}/0" in text
    assert "is it running?" in message_of(StoreUnavailable, f"unix://{tmp_path}/none.sock")
    assert issubclass(StoreUnavailable, ConnectionError)


def test_no_such_host():
    message_of(StoreUnavailable, f"redis://:{SECRET}@host.invalid:6379")


@pytest.mark.parametrize(
    "url", [f"redis://me:{SECRET}", f"http://me:{SECRET}@host", f"redis://me:{SECRET}@host:port/0", "embedded", ""]
)
def test_not_an_address(url):
    assert "expected redis://" in message_of(StoreError, url)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", NotRedis),
        (b"SSH-2.0-OpenSSH_9.2\r\n", NotRedis),
        (b"", StoreUnavailable),
    ],
)
def test_something_else_listens(answer, expected):
    class Other(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1000)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            text = message_of(expected, f"redis://:{SECRET}@127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()
    assert "a Redis server" in text


def test_somebody_who_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = message_of(StoreUnavailable, f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
    assert "in time" in text


@pytest.mark.parametrize("kind", KINDS)
def test_the_password(kind, tmp_path):
    with running(kind, tmp_path, "--requirepass", SECRET) as url:
        path = url.removeprefix("unix://")
        assert "check user, password" in message_of(StoreDenied, f"unix://:{SECRET}x@{path}")
        assert "check user, password" in message_of(StoreDenied, url)
        store = Store(f"unix://:{SECRET}@{path}", "site", axes=AXES)
        assert store.flush([Increment("a", "b", 0, 1, 1)], 1) == 1
        assert SECRET not in store.place
        with redis.Redis.from_url(f"unix://:{SECRET}@{path}") as admin:
            admin.acl_setuser(
                "reader", enabled=True, passwords=[f"+{SECRET}"], categories=["+@all", "-@scripting"], keys=["*"]
            )
        reader = Store(f"unix://reader:{SECRET}@{path}", "site", axes=AXES)
        with pytest.raises(StoreDenied, match="check user, password") as caught:
            reader.flush([Increment("a", "b", 0, 1, 1)], 1)
        assert SECRET not in str(caught.value)
        store.close()
        reader.close()


@pytest.mark.parametrize("kind", KINDS)
def test_no_memory_left(kind, tmp_path):
    with running(kind, tmp_path, "--maxmemory", "3mb") as url:
        store = Store(url, "site", axes=AXES)
        batch = 0
        with pytest.raises(StoreFull, match="maxmemory"):
            for batch in range(1, 1000):
                store.flush([Increment("a", "b", batch, n, 4096) for n in range(5000)], batch)
        before = store.load_counts()
        with pytest.raises(StoreFull):
            store.flush([Increment("a", "b", batch, n, 4096) for n in range(5000)], batch)
        assert store.load_counts() == before  # a refused batch leaves nothing behind, reading goes on
        assert {key[2] for key in before} == set(range(1, batch))
        with redis.Redis.from_url(url) as admin:
            admin.config_set("maxmemory", "0")
        store.flush([Increment("a", "b", batch, n, 4096) for n in range(5000)], batch)
        assert len(store.load_counts()) == batch
        store.close()


def test_every_error_of_the_client_library_becomes_ours():
    def all_of(kind: type) -> set[type]:
        return {kind}.union(*(all_of(sub) for sub in kind.__subclasses__()))

    kinds = all_of(redis.exceptions.RedisError) | all_of(redis.exceptions.RedisClusterException)
    assert len(kinds) > 30
    for kind in kinds:
        error = kind.__new__(kind)  # their constructors differ
        Exception.__init__(error, "line one\nline two")
        with pytest.raises(StoreError) as caught, translated("redis://h", "site"):
            raise error
        assert "\n" not in str(caught.value), kind


@pytest.mark.parametrize(
    ("reply", "expected", "hint"),
    [
        ("MISCONF Errors writing to the AOF file: No space left on device", StoreFull, "disk space"),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreFull, "maxmemory"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", WrongKeyType, "site name"),
        ("NOAUTH Authentication required.", StoreDenied, "password"),
        ("READONLY You can't write against a read only replica.", StoreError, "primary"),
        ("ERR something new", StoreError, "something new"),
    ],
)
def test_error_replies(reply, expected, hint):
    with pytest.raises(expected, match=hint), translated("redis://h", "site"):
        raise redis.exceptions.ResponseError(reply)


def test_redaction():
    assert redact(f"rediss://u:{SECRET}@h:1/2?x=1") == "rediss://***@h:1/2?x=1"
    assert redact(f"unix://:{SECRET}@/run/r.sock?db=1") == "unix://***@/run/r.sock?db=1"
    assert SECRET not in redact(f"redis://h/0?username=u&password={SECRET}")
    assert SECRET not in redact(f"redis://:a/{SECRET}@b@h")
