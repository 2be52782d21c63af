"""Ultralytics as a guest: it prints nothing, installs nothing, sends nothing, and keeps its settings in our folder."""

from __future__ import annotations

import os
from pathlib import Path

_HOUSE_RULES = {
    "YOLO_AUTOINSTALL": "false",  # a missing package is an error, not a pip install
    "YOLO_OFFLINE": "true",  # no usage statistics; weights come as files
    "YOLO_VERBOSE": "false",  # its logger speaks of errors only
    "ULTRALYTICS_SAFE_LOAD": "true",  # .pt files are read with weights_only: known layers, no code of the file's own
}


def house_rules() -> None:
    """Set the environment that Ultralytics reads when it is first imported; call this before every import of it.

    What the user has set in the environment stays. The settings folder is `$YOLO_CONFIG_DIR`, else
    `$XDG_CACHE_HOME/identrix`, else `~/.cache/identrix`.
    """
    for name, value in _HOUSE_RULES.items():
        os.environ.setdefault(name, value)
    if "YOLO_CONFIG_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        os.environ["YOLO_CONFIG_DIR"] = str(Path(cache) / "identrix")
