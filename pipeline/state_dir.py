"""Where this machine keeps what outlives a run: the embedded server's file, journals of writers, frozen sites."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.schema import MatchConfig


def state_dir(config: MatchConfig) -> Path:
    """`redis.state_dir`, else $IDENTRIX_STATE or $XDG_STATE_HOME or ~/.local/state, and `identrix` in it."""
    if config.redis.state_dir:
        return config.redis.state_dir
    base = os.environ.get("IDENTRIX_STATE") or os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "identrix"
