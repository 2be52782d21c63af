"""Films that are drawn once, and a state folder for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from door import PLAIN, films, identrix
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


@pytest.fixture(scope="session")
def recorded(walk: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of the site `hall` (run) and the state it left (state); not to be changed."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDENTRIX_STATE", str(folder / "state"))
        done = identrix("run", *films(walk), "--site", "hall", "--out", folder / "run", *PLAIN)
    assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def hall(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run; the state folder in force is a copy of what it left."""
    shutil.copytree(recorded, tmp_path / "hall")
    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "hall" / "state"))
    return tmp_path / "hall" / "run"
