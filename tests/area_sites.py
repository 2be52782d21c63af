"""A site of several areas in one process: everything is said at once, then a matcher per area decides in a thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import Camera, Config, load_match_config
from pipeline.match import match
from pipeline.messages import Mark, WorkerSaid, packed_said, unpacked_decision
from pipeline.worker import stream_of
from st_model.counts import Axes
from st_model.ledger import Correction, StayKey, final_ids
from st_model.sightings import Sighting
from st_model.site_stream import Message
from st_model.store import Store


@dataclass(frozen=True)
class Matched:
    """What came out: stay -> final id, as each area's workers read it; what `match` returned; how it was set up."""

    ids: dict[StayKey, int]
    counts: dict[str, dict[str, int]]
    config: Config


def area_config(url: str, site: str, area_of: Mapping[str, str], **streams: Any) -> Config:
    """Cameras by area; areas wait for each other for as long as it takes."""
    base = load_match_config({"site": site, "redis": {"url": url}, "reid": {"encoder": "stripes"}})
    cameras = tuple(Camera(name=c, source=f"{c}.mp4", area=area) for c, area in sorted(area_of.items()))
    bounds = {"patience_s": 300, "most_sightings": 10**6, "most_decisions": 10**6, **streams}
    return Config.model_validate({**base.model_dump(), "cameras": cameras, "streams": bounds})


def opened(config: Config) -> Store:
    """A connection to the site."""
    return Store(config.redis.url, config.site_name, axes=Axes.of(config.tables), timeout_s=60)


def say(store: Store, config: Config, rows: Sequence[Sighting], session: str = "s", each: int = 3) -> None:
    """Put rows, in order of `emitted_s`, on the Streams of their areas: one worker an area, `each` a message."""
    by: dict[str, list[Sighting]] = defaultdict(list)
    area_of = {camera.name: camera.area for camera in config.cameras}
    for row in rows:
        by[area_of[row.camera]].append(row)
    for area in sorted(set(area_of.values())):
        cameras = [c for c, a in area_of.items() if a == area]
        parts = [by[area][n : n + each] for n in range(0, len(by[area]), each)]
        said = [(dict.fromkeys(cameras, Mark(part[-1].emitted_s)), part) for part in parts]
        said.append((dict.fromkeys(cameras, Mark(rows[-1].emitted_s, "ended")), []))
        messages = [
            Message(n, n - 1, packed_said(WorkerSaid(f"w-{area}", session, n, "stripes", marks, part)))
            for n, (marks, part) in enumerate(said, start=1)
        ]
        assert stream_of(store, config, area, f"w-{area}").publish(session, messages).state == "OK"


def read_ids(store: Store, config: Config) -> dict[StayKey, int]:
    """Stay -> final id, as the workers of each stay's own area read it."""
    out: dict[StayKey, int] = {}
    for area in sorted({camera.area for camera in config.cameras}):
        entries = stream_of(store, config, area, "reader").decisions("0", most=10**6)
        said = [unpacked_decision(entry.fields["k"].decode(), entry.fields["m"]) for entry in entries]
        corrections = [s for s in said if isinstance(s, Correction)]
        found = final_ids([s for s in said if not isinstance(s, Correction)], corrections)
        out |= {key: global_id for key, (global_id, _) in found.items()}
    return out


def matched(url: str, site: str, rows: Sequence[Sighting], area_of: Mapping[str, str], **streams: Any) -> Matched:
    """Say everything, decide everything."""
    config = area_config(url, site, area_of, **streams)
    store = opened(config)
    try:
        say(store, config, rows)
        counts = match(config, until_ended=True, name="m")["counts"]
        return Matched(read_ids(store, config), counts, config)
    finally:
        store.close()


def walk(people: int, cameras: str, gap_s: float = 20.0, dim: int = 64, apart_s: float = 40.0) -> list[Sighting]:
    """Everybody walks through all cameras, one after the other; track = 100 x person + visit. In order of time."""
    rows = []
    for person in range(people):
        rng = np.random.default_rng(person)
        look = rng.standard_normal(dim)
        t = apart_s * person
        for visit, camera in enumerate(cameras):
            vector = look + 0.1 * rng.standard_normal(dim)
            vector = (vector / np.linalg.norm(vector)).astype(np.float32)
            for closed, last_s in ((False, t + 1.5), (True, t + 6.0)):
                rows.append(Sighting(camera, 100 * person + visit, t, last_s, last_s, closed, vector, 4))
            t += 6.0 + gap_s
    return sorted(rows, key=lambda row: (row.emitted_s, row.camera))
