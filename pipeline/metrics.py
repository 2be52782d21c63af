"""`/metrics` for Prometheus, `/healthz` and `/readyz`, when the configuration gives a port; otherwise nothing happens.

Counters that a process keeps anyway are read when somebody asks (`watch`); only what must be timed is pushed.

    MetricsError (OSError)   the address cannot be listened on, or prometheus-client is not installed
"""

from __future__ import annotations

import http.server
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.area_workers import Tally
from pipeline.schema import Metrics as MetricsSettings
from st_model.site_stream import Turn

log = logging.getLogger(__name__)

Facts = Callable[[], dict[str, Any]]
Names = tuple[str, ...]
_STAGES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class MetricsError(OSError):
    """Metrics cannot be served."""


class Metrics:
    """What this process tells Prometheus. Every method is cheap, and does nothing while there is nobody to tell.

    ready  `/readyz` says yes
    alive  whether `/healthz` says yes; asked in another thread
    """

    def __init__(self, registry: Any = None) -> None:
        self.ready = False
        self.alive: Callable[[], bool] = lambda: True
        self._registry = registry
        self._facts: Facts | None = None
        if registry is None:
            return
        from prometheus_client import Counter, Histogram

        def histogram(name: str, what: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Any:
            return Histogram(f"identrix_{name}", what, labels, buckets=buckets, registry=registry)

        def counter(name: str, what: str, labels: tuple[str, ...] = ()) -> Any:
            return Counter(f"identrix_{name}", what, labels, registry=registry)

        self._stages = histogram("stage_seconds", "wall seconds of one call of a stage", ("stage",), _STAGES_S)
        self._batches = histogram("batch_frames", "frames detected in one batch", (), _SIZES)
        self._turns = histogram("turn_store_seconds", "seconds until Redis had stored a turn", (), _STAGES_S)
        self._entries = histogram("turn_messages", "messages of workers in one turn", (), _SIZES)
        self._probability = histogram("match_probability", "probability of the id given", ("kind",), _SHARES)
        self._decisions = counter("decisions", "decisions by kind", ("kind",))
        self._corrections = counter("corrections", "merges and splits", ("kind",))
        self._sightings = counter("sightings_heard", "sightings that came to the matcher")
        self._refused = counter("messages_refused", "messages and sightings that could not be used")
        self._links = counter("table_updates", "transitions added to the tables (or taken back)")
        self._exits = counter("exits", "people who left an area and were announced to others")
        self._claims = counter("claims", "exits claimed before somebody was given the id again", ("result",))
        self._redis = counter("redis_errors", "calls of Redis that failed")
        self._alarms = counter("drift_alarms", "alarms raised for a pair of cameras")
        registry.register(self)

    def watch(self, facts: Facts) -> None:
        """Ask this for facts whenever somebody asks us; it is called in another thread."""
        self._facts = facts

    def stage(self, name: str, seconds: float) -> None:
        """A stage took so long once."""
        if self._registry is not None:
            self._stages.labels(name).observe(seconds)

    def batch(self, frames: int) -> None:
        """So many frames were detected together."""
        if self._registry is not None and frames:
            self._batches.observe(frames)

    def redis_error(self) -> None:
        """A call of Redis failed."""
        if self._registry is not None:
            self._redis.inc()

    def claims_lost(self, n: int) -> None:
        """So many people turned out to be with another area."""
        if self._registry is not None:
            self._claims.labels("lost").inc(n)

    def outcome(self, outcome: Any) -> None:
        """What a matcher said."""
        if self._registry is None:
            return
        for decision in outcome.decisions:
            self._decisions.labels(decision.kind).inc()
            self._probability.labels(decision.kind).observe(decision.probability)
        for correction in outcome.corrections:
            self._corrections.labels(correction.kind).inc()
        self._links.inc(len(outcome.increments))
        self._alarms.inc(sum(alarm.raised for alarm in outcome.alarms))

    def turn(self, tally: Tally, turn: Turn, store_s: float) -> None:
        """A matcher stored a turn."""
        if self._registry is None:
            return
        for outcome in tally.outcomes:
            self.outcome(outcome)
        self._turns.observe(store_s)
        self._entries.observe(len(turn.entries))
        self._sightings.inc(tally.sightings)
        self._refused.inc(tally.refused)
        self._exits.inc(tally.exits)
        self._claims.labels("won").inc(tally.claims)

    def collect(self) -> Iterator[Any]:
        """Called by prometheus-client: what the process knows at this moment."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        facts = self._facts() if self._facts is not None else {}

        def one(kind: Any, name: str, what: str, rows: Iterable[tuple[Names, Any]], labels: Names) -> Any:
            family = kind(f"identrix_{name}", what, labels=labels)
            for values, value in rows:
                if value is not None and math.isfinite(value):
                    family.add_metric(list(values), float(value))
            return family

        now_s = time.time() + facts.get("clock_s", 0.0)
        for name, what, key in (
            ("degraded_seconds", "seconds without Redis", "degraded_s"),
            ("frames", "frames looked at", "frames"),
            ("sightings", "sightings said", "sightings"),
        ):
            if key in facts:
                yield one(CounterMetricFamily, name, what, [((), facts[key])], ())
        for name, what, key in (
            ("clock_offset_seconds", "what this machine's clock lacks against the site's", "clock_s"),
            ("outbox_messages", "messages on disk that Redis has not taken", "waiting"),
            ("stream_full", "the Stream takes no more: nobody decides", "full"),
            ("stream_alarm", "a Stream will be trimmed before everybody has read it", "alarm"),
        ):
            if key in facts:
                yield one(GaugeMetricFamily, name, what, [((), facts[key])], ())
        cameras = facts.get("cameras", {})
        for name, what, key in (
            ("camera_frames", "frames read", "frames"),
            ("camera_frames_dropped", "frames dropped because they came too fast", "dropped"),
            ("camera_reconnects", "how often a camera came back", "reconnects"),
        ):
            rows = [((camera,), row.get(key)) for camera, row in cameras.items()]
            yield one(CounterMetricFamily, name, what, rows, ("camera",))
        lags = [
            ((c,), now_s - r["last_s"]) for c, r in cameras.items() if r.get("last_s") and r.get("state") != "ended"
        ]
        yield one(GaugeMetricFamily, "camera_lag_seconds", "age of the latest frame", lags, ("camera",))
        states = [((camera, row["state"]), 1) for camera, row in cameras.items()]
        yield one(GaugeMetricFamily, "camera_state", "1 for the state a camera is in", states, ("camera", "state"))
        areas = facts.get("areas", {})
        for name, what, key in (
            ("active", "1 where this matcher decides, 0 where it stands by", "active"),
            ("gallery_size", "persons that are remembered", "people"),
            ("guests", "persons among them who were last seen in another area", "guests"),
            ("open_stays", "stays that are not over", "open_stays"),
            ("sightings_waiting", "sightings that wait for their window", "waiting"),
            ("sightings_late", "sightings that came after their window", "late"),
            ("table_version", "version of the transition tables", "table_version"),
            ("decided_until_seconds", "site time up to which everything is decided", "until_s"),
        ):
            yield one(GaugeMetricFamily, name, what, [((a,), row.get(key)) for a, row in areas.items()], ("area",))
        drifting = [((a, pair), 1) for a, row in areas.items() for pair in row.get("alarms", ())]
        yield one(GaugeMetricFamily, "drift_alarm", "1 while its delays are surprising", drifting, ("area", "pair"))


@contextmanager
def open_metrics(settings: MetricsSettings) -> Iterator[Metrics]:
    """Serve metrics while the block runs, if the settings give a port. Raises MetricsError."""
    if settings.port is None:
        yield Metrics()
        return
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as error:
        raise MetricsError("metrics need the Python package prometheus-client: pip install 'identrix[live]'") from error
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._reply(200, generate_latest(registry), "text/plain; version=0.0.4; charset=utf-8")
            elif path == "/healthz":
                self._reply(200 if metrics.alive() else 503, b"ok\n" if metrics.alive() else b"stuck\n")
            elif path == "/readyz":
                self._reply(200 if metrics.ready else 503, b"ready\n" if metrics.ready else b"not ready\n")
            else:
                self._reply(404, b"/metrics, /healthz, /readyz\n")

        def _reply(self, status: int, body: bytes, kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    try:
        server = http.server.ThreadingHTTPServer((settings.host, settings.port), Handler)
    except OSError as error:
        raise MetricsError(
            f"metrics cannot be served at {settings.host}:{settings.port} ({error.strerror}): choose another port"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
    thread.start()
    log.info("metrics: http://%s:%d/metrics", *server.server_address[:2])
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
