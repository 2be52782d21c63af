"""A distributed site played by processes of its own: Redis, matchers, and workers that say prepared sightings.

Workers here have no pictures: they say the sightings of a `SightingsWorld` through the worker's own voice
(`pipeline.speaking`), outbox, journal and session as the real one, and everything else is the real thing. Any of them
can be killed at any moment and started again.
"""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from processes import FORKS, logged
from redis_servers import binary, wait_until_ready

SITE = "played"
LIMIT_S = 120.0


def play(config_path: Path, rows_path: Path, folder: Path, name: str, pause_s: float) -> None:
    """Be a worker: say the rows of a file, wait until they are decided, write who was who. Runs in its own process."""
    from pipeline.atomic import write_json_atomic
    from pipeline.config import load_config
    from pipeline.messages import Mark
    from pipeline.session import new_session, read_session, watched_again
    from pipeline.site_store import open_store
    from pipeline.speaking import Position, Speaker
    from pipeline.tracklog import RunJournal, read_corrections, read_decisions
    from pipeline.worker import stream_of
    from st_model.ledger import final_ids
    from st_model.store_errors import StoreError

    config = load_config(config_path)
    rows = pickle.loads(rows_path.read_bytes())
    cameras = sorted({row.camera for row in rows})
    (area,) = {camera.area for camera in config.cameras if camera.name in cameras}
    for attempt in itertools.count():
        try:
            stack = open_store(config, config.tables)
            store, _ = stack.__enter__()
            stream = stream_of(store, config, area, name)
            session = read_session(folder)
            if session is None:
                after = {area: Position("0")}
                first = store.next_track_block(1).start
                session = new_session(name, folder, first, areas=dict.fromkeys(cameras, area), after=after)
            else:
                watched_again(folder)
            break
        except StoreError:
            assert attempt < 500
            time.sleep(0.05)
    with RunJournal(folder) as journal:
        for attempt in itertools.count():
            try:
                speaker = Speaker(
                    stream,
                    session.name,
                    config.reid.encoder,
                    lambda decision: decision.camera in cameras,
                    folder / "outbox" / f"said-{area}",
                    journal,
                    after=session.after[area],
                )
                break
            except StoreError:
                assert attempt < 500
                time.sleep(0.05)
        with speaker:
            for number, row in enumerate(rows, start=1):
                speaker.say(number, dict.fromkeys(cameras, Mark(row.emitted_s)), [row])
                time.sleep(pause_s)
            speaker.say(len(rows) + 1, dict.fromkeys(cameras, Mark(rows[-1].emitted_s, "ended")), [], at_once=True)
            deadline_s = time.monotonic() + LIMIT_S
            while True:
                assert time.monotonic() < deadline_s, "never decided"
                try:
                    if speaker.settled() == (True, True):
                        speaker.catch_up()
                        break
                except StoreError:
                    pass
                time.sleep(0.02)
        journal.flush()
    decisions = read_decisions(folder / "journal" / "decisions.jsonl")
    corrections = read_corrections(folder / "journal" / "corrections.jsonl")
    ids = final_ids(decisions, corrections)
    found = [[*key, global_id] for key, (global_id, _) in sorted(ids.items())]
    write_json_atomic(folder / "ids.json", {"ids": found, "decisions": len(decisions), "missed": speaker.missed})


def decide(config_path: Path, name: str) -> None:
    """Be a matcher until every camera has ended. Runs in its own process."""
    from pipeline.config import load_config
    from pipeline.match import match
    from st_model.store_errors import StoreError

    for _ in range(500):
        try:
            match(load_config(config_path), name=name, until_ended=True)
            return
        except StoreError:  # Redis is away at the start; a service manager would start us again
            time.sleep(0.05)


@dataclass
class PlayedSite:
    """The processes of a site in `folder`; a context manager that leaves none behind.

    rows       worker -> what it says
    matchers   how many: one is active, the others stand by
    pause_s    how long a worker waits between two rows
    kind       of server: `embedded` or `redis-server`
    areas      camera -> area, where it is not `main`; all cameras of a worker are in one
    """

    folder: Path
    rows: dict[str, list]
    matchers: int = 1
    pause_s: float = 0.01
    kind: str = "embedded"
    settings: dict = field(default_factory=dict)
    areas: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Any] = field(default_factory=dict)
    kills: list[str] = field(default_factory=list)

    def __enter__(self) -> PlayedSite:
        self.folder.mkdir(parents=True, exist_ok=True)
        cameras = sorted({row.camera for rows in self.rows.values() for row in rows})
        config = {
            "site": SITE,
            "cameras": [{"name": c, "source": f"{c}.mp4", "area": self.areas.get(c, "main")} for c in cameras],
            "reid": {"encoder": "stripes"},
            "redis": {"url": self.url, "state_dir": str(self.folder / "state")},
            "streams": {"patience_s": 300, "lease_s": 0.5, **self.settings.get("streams", {})},
            **{key: value for key, value in self.settings.items() if key != "streams"},
        }
        self.config_path.write_text(json.dumps(config))  # YAML, too
        for name, rows in self.rows.items():
            (self.folder / f"{name}.pickle").write_bytes(pickle.dumps(rows))
        self.start("redis")
        for name in self.names[1:]:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.processes:
            self._end(name)

    @property
    def url(self) -> str:
        """Of the server."""
        return f"unix://{self.folder}/redis/s.sock"

    @property
    def config_path(self) -> Path:
        """The site's YAML."""
        return self.folder / "site.yaml"

    @property
    def names(self) -> list[str]:
        """All processes."""
        return ["redis", *(f"m{n}" for n in range(self.matchers)), *self.rows]

    def start(self, name: str) -> None:
        """Start a process, or start it again."""
        if name == "redis":
            place = self.folder / "redis"
            place.mkdir(exist_ok=True)
            (place / "s.sock").unlink(missing_ok=True)
            command = [binary(self.kind), "--port", "0", "--unixsocket", str(place / "s.sock"), "--dir", str(place)]
            command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
            self.processes[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wait_until_ready(self.url)
            return
        work: tuple[Any, ...] = (decide, self.config_path, f"{name}-{len(self.kills)}")
        if name in self.rows:
            work = (play, self.config_path, self.folder / f"{name}.pickle", self.folder / name, name, self.pause_s)
        self.processes[name] = FORKS.Process(target=logged, args=(self.folder / f"{name}.log", *work), daemon=True)
        self.processes[name].start()

    def kill(self, name: str) -> None:
        """kill -9, and start it again."""
        if self._code(name) is None:
            self._end(name)
            self.kills.append(name)
            self.start(name)

    def _code(self, name: str) -> int | None:
        process = self.processes[name]
        return process.poll() if name == "redis" else process.exitcode

    def _end(self, name: str) -> None:
        process = self.processes[name]
        process.kill()
        process.wait() if name == "redis" else process.join()

    def done(self, name: str) -> bool:
        """Whether a worker has finished; an error of its own is ours."""
        code = self._code(name)
        assert code in (None, 0), (self.folder / f"{name}.log").read_text()
        return code == 0

    def finish(self, random: Random | None = None, kills: int = 0, gap_s: float = 0.4) -> None:
        """Wait until every worker has finished; meanwhile kill somebody now and then."""
        deadline_s = time.monotonic() + LIMIT_S
        while not all(self.done(name) for name in self.rows):
            assert time.monotonic() < deadline_s, self.logs()
            if random is not None and kills:
                time.sleep(random.uniform(0.2, 2 * gap_s))
                self.kill(random.choice([name for name in self.names if name not in self.rows or not self.done(name)]))
                kills -= 1
            time.sleep(0.02)

    def logs(self) -> str:
        """The last words of everybody."""
        return "\n".join(f"{name}: {(self.folder / f'{name}.log').read_text()[-1500:]}" for name in self.names[1:])

    def ids(self) -> dict[tuple[str, int], int]:
        """Stay -> final id, as the workers read it back."""
        out = {}
        for name in self.rows:
            found = json.loads((self.folder / name / "ids.json").read_text())
            assert not found["missed"]
            out |= {(camera, track_id): global_id for camera, track_id, global_id in found["ids"]}
        return out


def renamed(ids: dict[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """The same, with ids counted up in the order of stays: equal for equal groups."""
    names: dict[int, int] = {}
    return {key: names.setdefault(ids[key], len(names)) for key in sorted(ids)}
