"""How a camera does, in a few words, for members, metrics and `identrix status`."""

from __future__ import annotations

from typing import Any

from pipeline.sources import CameraHealth


def camera_facts(health: CameraHealth | None) -> dict[str, Any]:
    """How a camera does, in a few words."""
    if health is None:
        return {"state": "failed"}
    live = health.live
    state = live.state if live else "failed" if health.error else "ended" if health.ended else "live"
    return {
        "state": state,
        "frames": health.frames_read,
        "dropped": health.frames_dropped,
        "reconnects": live.reconnects if live else 0,
        "last_s": health.last_s,
        "reason": (live.reason if live else None) or health.error,
    }
