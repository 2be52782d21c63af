"""Films that are drawn once, and a state folder for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from walkers import draw_walkers


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Camera name -> film: four people, each seen by a and then by b."""
    return draw_walkers(tmp_path_factory.mktemp("walk"))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder, where the embedded server keeps this test's tables."""
    folder = tmp_path / "state"
    monkeypatch.setenv("IDENTRIX_STATE", str(folder))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run folder that does not exist yet."""
    return tmp_path / "run"
