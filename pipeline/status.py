"""How a site does right now: its processes, cameras, areas and Streams, from what they say of themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pipeline.config import Config
from pipeline.messages import MessageError, unpacked_member
from pipeline.worker import stream_of
from st_model.store import Store

_SHOWN = ("people", "guests", "open_stays", "waiting", "late", "until_s", "alarms")
SILENT_S = 5.0
"""A member that said nothing for so long is shown as silent: killed, hung, or cut off."""


def site_status(config: Config, store: Store) -> dict[str, Any]:
    """Everything at once, as plain values. Raises the StoreError tree.

    members  name -> facts (pipeline/members.py) with `silent_s`, newest first
    areas    name -> active matcher, lengths of its Streams
    alarms   lines that somebody should read
    """
    areas = sorted({camera.area for camera in config.cameras})
    streams = {area: stream_of(store, config, area, "status") for area in areas}
    anywhere = next(iter(streams.values()))
    now_s = anywhere.time_s()
    members: dict[str, dict[str, Any]] = {}
    for name, content in sorted(anywhere.members().items()):
        try:
            facts = unpacked_member(content)
        except MessageError as error:
            members[name] = {"role": "?", "silent_s": 0.0, "error": str(error)}
            continue
        members[name] = {**facts, "silent_s": max(0.0, now_s - facts["at_s"])}
    status = {
        "site": config.site_name,
        "time_s": now_s,
        "table_version": store.version(),
        "members": members,
        "areas": {
            area: {"matcher": stream.holder(), **stream.lengths(), **_matching(members, area)}
            for area, stream in streams.items()
        },
    }
    return {**status, "alarms": _alarms(config, status)}


def _matching(members: Mapping[str, Mapping[str, Any]], area: str) -> dict[str, Any]:
    for facts in members.values():
        mine = facts.get("areas", {}).get(area, {})
        if mine.get("active"):
            return {key: mine.get(key) for key in _SHOWN}
    return {}


def _alarms(config: Config, status: Mapping[str, Any]) -> list[str]:
    lines = []
    for area, row in status["areas"].items():
        if row["matcher"] is None:
            lines.append(f"area {area}: nobody decides")
        if row["sightings"] > 0.5 * config.streams.most_sightings:
            lines.append(f"area {area}: {row['sightings']} messages wait, of {config.streams.most_sightings} that may")
        lines += [f"area {area}: delays of {pair} changed" for pair in row.get("alarms") or ()]
    seen = set()
    for name, facts in status["members"].items():
        if facts["silent_s"] > SILENT_S:
            lines.append(f"{facts['role']} {name}: silent for {facts['silent_s']:.0f} s")
        lines += facts.get("stream_alarms", ())
        if facts.get("full"):
            lines.append(f"worker {name}: the Stream takes no more, {facts['waiting']} messages are kept on disk")
        if abs(facts.get("clock_s", 0.0)) > 0.5:
            lines.append(f"{facts['role']} {name}: its clock is {-facts['clock_s']:+.2f} s off the site's")
        for camera, row in facts.get("cameras", {}).items():
            seen.add(camera)
            if row["state"] not in ("live", "ended", "connecting"):
                reason = f": {row['reason']}" if row.get("reason") else ""
                lines.append(f"camera {camera}: {row['state']}{reason}")
    lines += [f"camera {c.name}: nobody watches it" for c in config.cameras if c.name not in seen]
    return lines


def status_table(status: Mapping[str, Any]) -> Any:
    """The status for a terminal."""
    from rich.console import Group
    from rich.table import Table

    now_s = status["time_s"]
    areas = Table(
        "area", "matcher", "persons", "guests", "open stays", "waiting", "late", "decided until", title=status["site"]
    )
    for name, row in status["areas"].items():
        numbers = [_shown(row.get(key)) for key in ("people", "guests", "open_stays", "sightings", "late")]
        areas.add_row(name, row["matcher"] or "nobody", *numbers, _ago(row.get("until_s"), now_s))
    members = Table("process", "role", "host", "said", "frames", "on disk", "clock")
    for name, facts in status["members"].items():
        numbers = [_shown(facts.get(key)) for key in ("frames", "waiting")]
        said = f"{facts['silent_s']:.0f} s ago"
        members.add_row(
            name, facts["role"], str(facts.get("host", "")), said, *numbers, f"{facts.get('clock_s', 0.0):+.3f} s"
        )
    cameras = Table("camera", "state", "frames", "dropped", "reconnects", "latest frame", "worker")
    for name, facts in status["members"].items():
        for camera, row in facts.get("cameras", {}).items():
            numbers = [_shown(row.get(key)) for key in ("frames", "dropped", "reconnects")]
            cameras.add_row(camera, row["state"], *numbers, _ago(row.get("last_s"), now_s), name)
    return Group(areas, members, cameras, *status["alarms"])


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _ago(then_s: float | None, now_s: float) -> str:
    """How long ago for live times, the time itself for recordings.

    >>> _ago(99.0, 100.5), _ago(12.0, 1.7e9), _ago(None, 0.0)
    ('1.5 s ago', '12.0 s', '')
    """
    if then_s is None:
        return ""
    return f"{now_s - then_s:.1f} s ago" if abs(now_s - then_s) < 86400 else f"{then_s:.1f} s"


def watch_status(config: Config, store: Store, show: Any, every_s: float) -> None:
    """Show the status again and again until Ctrl-C."""
    from rich.live import Live

    with Live(console=show, screen=False, auto_refresh=False) as live:
        while True:
            live.update(status_table(site_status(config, store)), refresh=True)
            time.sleep(every_s)
