"""What a worker remembers of its former lives."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.config import Camera, Config, ConfigError
from pipeline.journal_writer import RunJournal
from pipeline.runner import RunError
from pipeline.session import TRACKS_A_LIFE, left_open, new_session, note_open, read_session
from pipeline.speaking import Position
from pipeline.timing import StageClock
from pipeline.tracklog import finish_run
from pipeline.worker import of_worker
from pipeline.worker_site import WorkerSite
from st_model.sightings import Sighting

LOOK = np.array([1.0, 0.0], np.float32)


def sighting(track, *, closed=False, emitted_s=2.0):
    return Sighting("a", track, 0.0, 1.0, emitted_s, closed, LOOK)


def begun(folder):
    return new_session("w", folder, 0, began_s=5.0, areas={"a": "main"}, after={"main": Position("7-0", 3)})


def test_a_session_lives_as_long_as_its_folder_is_unfinished(tmp_path):
    session = begun(tmp_path)
    assert read_session(tmp_path) == session
    with RunJournal(tmp_path):
        pass
    finish_run(tmp_path)
    assert read_session(tmp_path) is None  # killed before it had removed what it remembers
    (tmp_path / "journal").mkdir()
    assert read_session(tmp_path) == session


def test_stays_that_were_open_in_earlier_parts_are_known(tmp_path):
    begun(tmp_path)
    note_open(tmp_path, [sighting(1), sighting(2), sighting(3, emitted_s=1.5)])
    with RunJournal(tmp_path) as journal:
        journal.sighting(sighting(2, closed=True, emitted_s=3.0))
        journal.sighting(sighting(3, emitted_s=4.0))
        journal.sighting(sighting(4, emitted_s=3.5))
    assert [(row.track_id, row.emitted_s) for row in left_open(tmp_path)] == [(1, 2.0), (4, 3.5), (3, 4.0)]


def test_a_life_with_more_tracks_than_a_life_has_takes_those_of_the_next(tmp_path):
    config = Config(cameras=(Camera(name="a", source="rtsp://a"),))
    with RunJournal(tmp_path) as journal:
        site = WorkerSite(tmp_path, config, (), SimpleNamespace(), begun(tmp_path), journal, StageClock(), live=True)
        site._track_ids = itertools.count(TRACKS_A_LIFE - 1)
        assert site.new_track_id() == TRACKS_A_LIFE - 1 and read_session(tmp_path).life == 0
        assert site.new_track_id() == TRACKS_A_LIFE and read_session(tmp_path).life == 1
        assert site.new_track_id() == TRACKS_A_LIFE + 1 and read_session(tmp_path).life == 1


def test_which_cameras_are_a_workers():
    a, b = (Camera(name=name, source=f"rtsp://{name}") for name in "ab")
    whole = Config(cameras=(a, b))
    assert of_worker(whole, ()).cameras == (a, b) and of_worker(whole, ["b"]).cameras == (b,)
    with pytest.raises(RunError, match="no camera is called 'c'"):
        of_worker(whole, ["a", "c"])
    assert of_worker(whole, ["a", "c"], again=True).cameras == (a,)
    with pytest.raises(ConfigError, match=r"none of this worker's cameras \(c\)"):
        of_worker(whole, ["c"], again=True)
