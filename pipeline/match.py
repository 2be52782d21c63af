"""The `match` role: decides what the workers of a site say. One active process per area, others stand by.

Sharding: an area (`area` of a camera) is what is matched together, with a gallery, a Stream and an active matcher of
its own; a sighting goes to the area of its own camera, the destination of the transition. Shared by all areas: the
transition tables (counts only add), the counter of ids (nobody gets the same one), Streams' bounds, and exits: who has
left an area is a guest in the galleries of the others, until one claims them (`st_model.exits`).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import Config
from pipeline.forwarding import Forwarder
from pipeline.freezing import with_freeze
from pipeline.matching_area import MatchingArea
from pipeline.members import Beat
from pipeline.messages import MessageError, unpacked_member
from pipeline.metrics import Metrics, open_metrics
from pipeline.runner import RunError
from pipeline.site_store import open_store
from pipeline.worker import stream_of
from st_model.site_stream import ClaimsLost, Fenced, SiteStream, StateLost
from st_model.store_errors import StoreError, StoreUnavailable

log = logging.getLogger(__name__)

_PAUSE_S = (0.05, 2.0)
_LOOK_S = 2.0
_FULL = 0.8
"""Share of a Stream's bound at which an alarm is raised."""
_STUCK_S = 300.0
"""A matcher whose turn takes longer than this is taken for stuck: its lease is renewed no more, and `/healthz` says so.
Generous: looking at all identities again for merges takes long where very many are remembered."""


@dataclass
class _Area:
    """One area in this process: its Streams, and the matcher while it is active here."""

    stream: SiteStream
    active: MatchingArea | None = None
    busy_since_s: float | None = None
    degraded_s: float = 0.0
    away_since_s: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    alarms: dict[str, str] = field(default_factory=dict)
    looked_s: float = 0.0
    seen_going: bool = False
    lost: dict[int, int] = field(default_factory=dict)
    claims_lost: int = 0

    @property
    def stuck(self) -> bool:
        """A turn does not come to an end."""
        return self.busy_since_s is not None and time.monotonic() - self.busy_since_s > _STUCK_S

    def look(self) -> None:
        """Every few seconds: is a Stream filling up? Said before anything is trimmed or refused."""
        if time.monotonic() - self.looked_s < _LOOK_S:
            return
        self.looked_s = time.monotonic()
        lengths = self.stream.lengths()
        alarms = {}
        if lengths["sightings"] > _FULL * self.stream.most_sightings:
            alarms["sightings"] = (
                f"{lengths['sightings']} messages wait to be decided; workers soon keep theirs on disk"
            )
        for name, content in self.stream.members().items():
            with suppress(MessageError):
                read = unpacked_member(content).get("read", {}).get(self.stream.area)
                if read and lengths["said"] - read > _FULL * self.stream.most_decisions:
                    alarms[name] = f"worker {name} has {lengths['said'] - read} decisions to read; some will be trimmed"
        for key, why in alarms.items():
            if key not in self.alarms:
                log.error("area %s: %s", self.stream.area, why, extra={"area": self.stream.area})
        self.alarms = alarms


def match(
    config: Config,
    areas: Sequence[str] = (),
    *,
    name: str | None = None,
    stop: threading.Event | None = None,
    until_ended: bool = False,
) -> dict[str, Any]:
    """Decide for the named areas (none named: all of the configuration) until `stop` is set; returns what was done.

    name         of this process, unique in the site; by default host and process id
    until_ended  return when every camera of every area has ended (files)

    Where another process is active this one stands by. Raises RunError for an unknown area, the StoreError tree when
    Redis is away at the start or does not fit.
    """
    config = with_freeze(config.model_copy(update={"site": config.site_name}))
    stop = stop or threading.Event()
    known = sorted({camera.area for camera in config.cameras})
    if unknown := sorted(set(areas) - set(known)):
        raise RunError(f"no camera is in area {unknown[0]!r}; the configuration has {', '.join(known)}")
    who = name or f"match-{socket.gethostname()}-{os.getpid()}"
    with ExitStack() as stack:
        metrics = stack.enter_context(open_metrics(config.metrics))
        store, revive = stack.enter_context(open_store(config, config.tables))
        served = [_Area(stream_of(store, config, area, who)) for area in areas or known]
        beat = stack.enter_context(Beat(served[0].stream, "match", lambda: _facts(served)))
        stack.enter_context(_Leases(served, stop))
        if config.events.mqtt:
            for area in served:
                stack.enter_context(_forwarder(config, area))
        metrics.watch(lambda: _facts(served) | {"clock_s": beat.clock_s})
        metrics.alive = lambda: not any(area.stuck for area in served)
        metrics.ready = True
        threads = [
            threading.Thread(
                target=_serve, args=(config, area, metrics, revive, stop, until_ended), name=f"match {area.stream.area}"
            )
            for area in served
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
        facts = _facts(served)
    counts = {area.stream.area: {**area.counts, "claims_lost": area.claims_lost} for area in served}
    return {"who": who, **facts, "counts": counts}


def _forwarder(config: Config, area: _Area) -> Forwarder:
    return Forwarder(config.events, config.site_name, area.stream, lambda: area.active is not None)


def _serve(
    config: Config,
    area: _Area,
    metrics: Metrics,
    revive: Callable[[], None] | None,
    stop: threading.Event,
    until_ended: bool,
) -> None:
    """Be active in an area whenever nobody else is."""
    pause_s = _PAUSE_S[0]
    while not stop.is_set():
        try:
            if area.active is None:
                fence = area.stream.lease()
                if not fence:
                    ended = bool(area.stream.decided().get("ended"))
                    if until_ended and ended and area.seen_going:
                        return
                    area.seen_going = area.seen_going or not ended
                    stop.wait(min(0.2, area.stream.lease_s / 4))
                    continue
                area.active = MatchingArea(config, area.stream, fence, area.lost)
                log.info("area %s: active, from turn %d on", area.stream.area, area.active.turn)
            if _turn(area, metrics, stop) and until_ended:
                break
            pause_s = _PAUSE_S[0]
            _back(area)
        except Fenced:
            log.warning("area %s: another matcher is active; standing by", area.stream.area)
            area.active = None
        except ClaimsLost as error:
            log.info("%s: forgetting them and deciding again", error)
            area.lost |= error.lost
            area.claims_lost += len(error.lost)
            metrics.claims_lost(len(error.lost))
            area.active = None
        except StateLost as error:
            log.warning("%s: loading what it has", error)
            area.active = None
        except StoreError as error:
            metrics.redis_error()
            if area.away_since_s is None:
                area.away_since_s = time.monotonic()
                log.warning("area %s: %s", area.stream.area, error)
            area.active = None  # what was read and not stored comes again
            if revive is not None and isinstance(error, StoreUnavailable):
                with suppress(StoreError, OSError):
                    revive()
            stop.wait(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S[1])
    if area.active is not None:
        with suppress(StoreError):
            area.stream.release()


def _turn(area: _Area, metrics: Metrics, stop: threading.Event) -> bool:
    """One turn of an active area; whether all its cameras have ended and everything is decided."""
    active = area.active
    assert active is not None
    area.busy_since_s = time.monotonic()
    turn = active.step()
    decided_s = time.monotonic()
    if turn is not None:
        version, held = active.stream.store_turn(active.fence, turn)
        active.stored(turn, version)
        area.lost = {}
        if held != active.holds:
            raise StateLost(f"area {area.stream.area!r}: {held} entries are held, {active.holds} are known")
        metrics.turn(active.tally, turn, time.monotonic() - decided_s)
        for name, n in active.tally.numbers().items():
            area.counts[name] = area.counts.get(name, 0) + n
        active.tally.clear()
    active.news()
    area.look()
    area.busy_since_s = None
    return active.over


def _back(area: _Area) -> None:
    if area.away_since_s is not None:
        area.degraded_s += time.monotonic() - area.away_since_s
        area.away_since_s = None
        log.warning("area %s: Redis is back", area.stream.area)


class _Leases:
    """A thread that keeps the leases of the areas that are active here, as long as their turns come to an end."""

    def __init__(self, areas: Sequence[_Area], stop: threading.Event) -> None:
        self._areas, self._stop, self._over = areas, stop, threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> _Leases:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        interval_s = min(area.stream.lease_s for area in self._areas) / 3
        while not self._over.wait(interval_s):
            for area in self._areas:
                if area.active is not None and not area.stuck and not self._stop.is_set():
                    with suppress(StoreError):
                        area.stream.lease()


def _facts(areas: Sequence[_Area]) -> dict[str, Any]:
    return {
        "areas": {
            area.stream.area: {"active": False}
            if area.active is None
            else {"active": True, **area.active.facts(), "claims_lost": area.claims_lost}
            for area in areas
        },
        "alarm": sum(len(area.alarms) for area in areas),
        "stream_alarms": [why for area in areas for why in area.alarms.values()],
        "degraded_s": max(
            area.degraded_s + (time.monotonic() - area.away_since_s if area.away_since_s is not None else 0.0)
            for area in areas
        ),
    }
