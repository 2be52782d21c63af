"""The store under fire: many writers, killed writers and servers, a full disk, a cluster. Counts stay exact."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from redis_servers import KINDS, any_server, binary, free_port, kill_server, running, wait_for

from st_model.counts import Axes, summed
from st_model.keys import Keys
from st_model.saved_state import StateChange
from st_model.store import Store
from st_model.store_errors import StoreFull, StoreUnavailable
from st_model.transitions import Increment
from st_model.writer import TableWriter

AXES = Axes(2.0, 0.0, 1000, 86400.0)
ROOT = Path(__file__).parents[2]

# Eight processes behind a barrier; each flushes 20 batches, each of them twice, some once more much later.
WRITERS = """
import multiprocessing, sys
import redis  # once, before the processes part
from st_model.counts import Axes
from st_model.store import Store
from st_model.transitions import Increment

def write(number, barrier):
    store = Store(sys.argv[1], "site", worker="same name", axes=Axes(2.0, 0.0, 1000, 86400.0))
    batches = [[Increment("a", "b", e, (17 * n * number + e) % 1000, n + 1) for e in range(40)] for n in range(20)]
    barrier.wait()
    ids = []
    for n, batch in enumerate(batches):
        store.flush(batch, n + 1)
        store.flush(batch, n + 1)
        store.flush(batches[n // 2], n // 2 + 1)
        ids.append(store.next_id())
    print("\\n".join(map(str, ids)) + "\\n", end="", flush=True)

fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(8)
processes = [fork.Process(target=write, args=(number, barrier)) for number in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
"""

# A process with a live writer that adds one known count after the other, and says how many, until it is killed.
LIVE = """
import sys
from st_model.counts import Axes
from st_model.saved_state import StateChange
from st_model.store import Store
from st_model.transitions import Increment
from st_model.writer import TableWriter
store = Store(sys.argv[1], "site", axes=Axes(2.0, 0.0, 1000, 86400.0))
writer = TableWriter(store, sys.argv[2], interval_s=0.001)
n = int(sys.argv[3])
while True:
    writer.add([Increment("a", "b", n % 50, n % 1000, n + 1)], StateChange(str(n + 1)))
    n += 1
    writer.flush()
    print(n, flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_eight_writers_with_duplicates_count_each_batch_once(kind, tmp_path):
    with any_server(kind, tmp_path) as url:
        ids = [int(word) for word in start(WRITERS, url).communicate(timeout=60)[0].split()]
        expected = summed(
            Increment("a", "b", e, (17 * n * number + e) % 1000, n + 1)
            for number in range(8)
            for n in range(20)
            for e in range(40)
        )
        store = Store(url, "site")
        assert store.load_counts() == expected
        assert store.version() == 8 * 20
        assert sorted(ids) == list(range(1, 161))
        store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_kill_of_the_server_in_mid_flush_then_restart_from_its_file(kind, tmp_path):
    """kill -9 of the process loses nothing that was answered; what was not answered is sent again."""
    batches = [[Increment("a", "b", e, n, e + 1) for e in range(500)] for n in range(60)]
    number = 0
    for _ in range(3):
        with running(kind, tmp_path) as url:
            store = Store(url, "site", axes=AXES, timeout_s=10)
            store.writer = "w"
            with redis.Redis.from_url(url) as client:
                pid = client.info("server")["process_id"]
            # a killer beside us, so that the kill falls into a flush
            killer = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.15; kill -9 {pid}"])
            with pytest.raises(StoreUnavailable):
                while True:
                    store.flush(batches[number % 60], number + 1)
                    number += 1
            killer.wait()
            store.close()
    with running(kind, tmp_path) as url:
        store = Store(url, "site", axes=AXES)
        store.flush(batches[number % 60], number + 1, writer="w")  # sent before the kill, never answered
        number += 1
        assert store.load_counts() == summed(i for n in range(number) for i in batches[n % 60])
        assert store.version() == number
        store.close()
    assert number > 3


def test_kill_of_the_writer_at_any_moment_counts_what_its_state_says(tmp_path):
    """Counts and position are saved in one step: a resumed matcher goes on exactly where the tables stand."""
    with any_server("embedded", tmp_path) as url:
        store = Store(url, "site", axes=AXES)
        position = 0
        for pause_s in (0.05, 0.11, 0.17):
            writer = start(LIVE, url, tmp_path, position)
            said = int(writer.stdout.readline())
            time.sleep(pause_s)
            writer.send_signal(signal.SIGKILL)
            rest = writer.communicate()[0].split()
            with TableWriter(store, tmp_path):  # merges the journal
                pass
            position = int(store.load_state().position)
            assert position >= int(rest[-1] if rest else said)  # what it said was flushed is there
            done = [Increment("a", "b", n % 50, n % 1000, n + 1) for n in range(position)]
            assert store.load_counts() == summed(done)
        store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_server_killed_again_and_again_under_a_live_writer(kind, tmp_path):
    with ExitStack() as servers:
        url = servers.enter_context(running(kind, tmp_path))
        store = Store(url, "site", axes=AXES)
        writer = TableWriter(store, tmp_path, interval_s=0.001)
        sent = []
        for n in range(300):
            sent.append(Increment("a", "b", n % 7, n % 1000, n + 1))
            writer.add(sent[-1:])
            if n % 100 == 50:
                kill_server(url)
            if n % 100 == 90:
                wait_for(lambda: writer.degraded)
                servers.close()
                url = servers.enter_context(running(kind, tmp_path))
            time.sleep(0.0005)
        wait_for(lambda: writer.flush())
        writer.close()
        assert writer.degraded_s > 0
        assert store.load_counts() == summed(sent)
        store.close()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, b"size=4m") != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    yield folder
    libc.umount2(str(folder).encode(), 2)  # MNT_DETACH


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_said_and_survived(kind, small_disk):
    ballast = small_disk / "ballast"
    with any_server(kind, small_disk) as url:
        store = Store(url, "site", axes=AXES)
        with TableWriter(store, small_disk / "journal", interval_s=0.01) as writer:
            writer.add([Increment("a", "b", 0, 0, 1)])
            assert writer.flush()
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while file.write(bytes(4096)) == 4096:
                    pass
                file.write(bytes(4096))
            sent = []
            while not writer.error or "disk space" not in writer.error:  # the server's buffers take a few
                sent.append(Increment("a", "b", len(sent) % 5, len(sent) % 1000, len(sent)))
                writer.add(sent[-1:])
                writer.flush()
            assert writer.degraded and writer.journal_error and "No space left" in writer.journal_error
            with pytest.raises(StoreFull, match="disk space"):
                store.next_id()
            ballast.unlink()
            wait_for(writer.flush)
            assert not writer.degraded
        assert store.load_counts() == summed([*sent, Increment("a", "b", 0, 0, 1)])
        store.close()


def test_a_cluster_keeps_a_site_on_one_node_and_is_followed(tmp_path):
    """Two nodes of a Redis Cluster: whichever address is given, each site is found where its slot lies."""
    binary("redis-server")
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        clients = []
        for port in ports:
            folder = tmp_path / str(port)
            folder.mkdir()
            options = ["--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(free_port())]
            stack.enter_context(running("redis-server", folder, *options, "--cluster-node-timeout", "2000"))
            clients.append(stack.enter_context(redis.Redis(port=port, decode_responses=True)))
        bus = int(clients[1].execute_command("CONFIG", "GET", "cluster-port")["cluster-port"])
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", ports[1], bus)
        clients[0].execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        clients[1].execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        for client in clients:
            wait_for(lambda client=client: client.cluster("info")["cluster_state"] == "ok")
        homes = set()
        for site in ("mall", "museum"):
            increments = [Increment(a, b, e, 3, 4) for a in "xyz" for b in "xyz" for e in range(3)]
            for n, port in enumerate(ports):
                store = Store(f"redis://127.0.0.1:{port}", site, axes=AXES)
                store.flush(increments, 1, state=StateChange("1", {"p": b"x"}))
                assert store.load_counts() == summed(increments * (n + 1))
                assert store.load_state().entries == {"p": b"x"}
                assert store.next_id(10) == 10 * n + 1
                store.close()
            held = [len(client.keys(Keys(site).of("*").replace("[", "?"))) for client in clients]
            assert min(held) == 0 < max(held)
            homes.add(held.index(max(held)))
            store = Store(f"redis://127.0.0.1:{ports[0]}", site)
            assert store.forget_state(["p"]) == 1
            store.reset()
            assert store.load_counts() == {}
            store.close()
        assert homes == {0, 1}  # or the test would not have left the first node
