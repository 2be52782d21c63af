"""Shared fixtures: where real footage and weights are, if they are anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

collect_ignore = ["rtsp_server.py"]  # a program for the system's Python, whose imports are not here

# How long an example takes says more of the machine than of us. The same code is tested with the same examples
# everywhere, so that a red test is a change's own; IDENTRIX_RANDOM=1 looks for new ones.
settings.register_profile("project", deadline=None, derandomize=not os.environ.get("IDENTRIX_RANDOM"))
settings.load_profile("project")


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} is not set to an existing folder; this test needs it")
    return Path(value)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real footage ($IDENTRIX_DATA)."""
    return _folder("IDENTRIX_DATA")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder of weights ($IDENTRIX_MODELS)."""
    return _folder("IDENTRIX_MODELS")
