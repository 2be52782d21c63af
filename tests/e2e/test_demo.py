"""The demo, on a smaller site than it shows by default."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from door import acting_at, identrix
from PIL import Image

import pipeline.demo
import run_pipeline
from pipeline.demo import run_demo


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.demo, "run_demo", partial(run_demo, people=4, duration_s=10.0))


def test_the_demo_scores_a_run_of_its_own_site(tmp_path):
    (tmp_path / "notes").mkdir()
    picture = tmp_path / "site" / ".." / "short.webp"
    done = identrix("demo", "--out", tmp_path, "--animation", picture)
    assert (done.exit_code, done.stderr) == (0, "")
    with Image.open(picture) as moving:
        assert (moving.format, moving.n_frames, moving.width) == ("WEBP", 48, 840)  # six of ten seconds at 8 Hz
    assert picture.stat().st_size <= 2_000_000
    assert "HOTA" in done.stdout and "IDF1" in done.stdout
    named = [Path(word.rstrip(",")) for word in done.stdout.split() if word.startswith(str(tmp_path))]
    assert len(named) >= 3 and all(path.exists() for path in named)

    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["weights"] == {} and facts["counters"]["persons"] > 0
    evaluated = identrix("evaluate", tmp_path / "run", "--truth", tmp_path / "site" / "gt", "--json")
    assert json.loads(evaluated.stdout)["all"]["HOTA"] > 0.3  # it found people where they are


def test_a_second_demo_replaces_the_first_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    refused = identrix("demo", "--out", tmp_path)
    assert refused.exit_code == 2 and "not of a demo" in refused.stderr and (tmp_path / "site").exists()
    (tmp_path / "site").rmdir()

    monkeypatch.setattr(run_pipeline, "progress", acting_at(3.0, lambda: os.kill(os.getpid(), signal.SIGINT)))
    for _ in range(2):
        done = identrix("demo", "--out", tmp_path)
        assert done.exit_code == 130 and done.stdout.startswith("stopped; what was seen until then is in")
        assert (tmp_path / "run" / "video" / "mosaic.mp4").stat().st_size > 0
        assert not (tmp_path / "run" / "left over").exists()
        (tmp_path / "run" / "left over").touch()


def test_ctrl_c_while_the_site_is_drawn(tmp_path, monkeypatch):
    @contextmanager
    def progress(*, quiet: bool) -> Iterator[object]:
        yield lambda stage, done, total: os.kill(os.getpid(), signal.SIGTERM) if done == 5 else None

    monkeypatch.setattr(run_pipeline, "progress", progress)
    done = identrix("demo", "--out", tmp_path)
    assert done.exit_code == 130 and done.stderr.splitlines()[-1] == "stopped"
    assert not (tmp_path / "run").exists()


def test_a_demo_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    done = identrix("demo", "--out", tmp_path / "file" / "demo")
    assert done.exit_code == 3 and len(done.stderr.splitlines()) == 1 and "cannot write" in done.stderr
