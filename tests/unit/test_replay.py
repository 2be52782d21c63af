"""Replay is exact, and says what changed and why."""

import json

import numpy as np
import pytest

from pipeline.config import load_match_config
from pipeline.journal import JournalError
from pipeline.replay import ReplayError, changes, decisions_of, read_inputs, replay, replay_to
from pipeline.sightings_file import write_sightings
from pipeline.tables_file import TablesFileError, read_tables, write_tables
from st_model.calibration import calibration_for
from st_model.sightings import Sighting
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables


@pytest.fixture
def sightings():
    """Six people who walk from camera a to camera b, ten seconds apart; embeddings with a little noise."""
    rng = np.random.default_rng(5)
    said = []
    for person in range(6):
        looks = rng.normal(size=64)
        for camera, entered_s in (("a", 20.0 * person), ("b", 20.0 * person + 14.0)):
            seen = looks + 0.1 * rng.normal(size=64)
            embedding = (seen / np.linalg.norm(seen)).astype(np.float32)
            track_id = 10 * person + (camera == "b")
            said.append(Sighting(camera, track_id, entered_s, entered_s + 4, entered_s + 5, True, embedding, 4))
    return sorted(said, key=lambda s: s.emitted_s)


def test_the_same_input_gives_the_same_decisions_bit_for_bit(sightings):
    config = load_match_config({})
    first, second = (replay(sightings, config, TransitionTables(config.tables)) for _ in range(2))
    assert first.decisions == second.decisions or repr(first.decisions) == repr(second.decisions)  # NaN delays
    assert first.corrections == second.corrections
    assert list(first.tables.items()) == list(second.tables.items())


def test_a_file_of_an_unknown_encoder_brings_its_own_calibration(tmp_path):
    rng = np.random.default_rng(6)
    rows = []
    for person in range(60):
        looks = rng.normal(size=32) + 4.0  # all embeddings point one way: cosines of strangers lie near .94
        for n, camera in enumerate("ab"):
            seen = looks + 0.2 * rng.normal(size=32)
            entered_s = 9.0 * person + 12.0 * n
            embedding = (seen / np.linalg.norm(seen)).astype(np.float32)
            rows.append(Sighting(camera, 2 * person + n, entered_s, entered_s + 4, entered_s + 5, True, embedding, 4))
    path = tmp_path / "sightings.parquet"
    write_sightings(path, sorted(rows, key=lambda s: s.emitted_s))
    shipped, fitted = load_match_config({}).match.calibration, read_inputs(path).config.match.calibration
    vectors = {s.key: s.embedding for s in rows}
    strangers = [float(vectors["a", 2 * n] @ vectors["b", 2 * n + 3]) for n in range(59)]
    same = [float(vectors["a", 2 * n] @ vectors["b", 2 * n + 1]) for n in range(60)]
    assert np.mean([shipped.log_odds(c) > 0 for c in strangers]) > 0.9
    assert np.mean([fitted.log_odds(c) > 0 for c in strangers]) < 0.1
    assert np.mean([fitted.log_odds(c) > 0 for c in same]) > 0.9
    assert read_inputs(path, encoder="osnet").config.match.calibration == calibration_for("osnet")
    assert read_inputs(path, overrides=["match.calibration.g0=7"]).config.match.calibration.g0 == 7


def test_people_keep_their_id_from_camera_to_camera(sightings):
    config = load_match_config({})
    ids = replay(sightings, config, TransitionTables(config.tables)).ids
    assert [ids["a", 10 * n][0] == ids["b", 10 * n + 1][0] for n in range(6)] == [True] * 6
    assert len({global_id for global_id, _ in ids.values()}) == 6


def test_ids_count_up_from_where_they_are_told(sightings):
    config = load_match_config({})
    done = replay(sightings, config, TransitionTables(config.tables), first_id=500)
    assert min(global_id for global_id, _ in done.ids.values()) == 500


def test_writes_what_it_says_and_lists_changes(sightings, tmp_path):
    write_sightings(tmp_path / "sightings.parquet", sightings)
    same = replay_to(tmp_path / "sightings.parquet", tmp_path / "one")
    assert changes(decisions_of(tmp_path / "one"), same.decisions) == []
    # Nobody is ever alike: every stay is a person of its own, and the six in b are decided differently.
    apart = replay_to(
        tmp_path / "sightings.parquet",
        tmp_path / "two",
        overrides=["match.calibration.g0=1", "match.calibration.b0=-40"],
    )
    lines = changes(same.decisions, apart.decisions)
    assert len(lines) == 12  # who loses a companion has changed as well
    assert any(line.startswith("b:1 at") and "no longer with a:0" in line and "a new person" in line for line in lines)
    rows = (tmp_path / "two" / "assignments.csv").read_text().splitlines()
    assert rows[0] == "camera,track_id,global_id,probability"
    assert len(rows) == 13


def test_without_anything_to_replay(tmp_path):
    with pytest.raises(ReplayError, match="no such file"):
        replay_to(tmp_path / "sightings.parquet", tmp_path / "out")
    with pytest.raises(ReplayError, match="no such file"):
        decisions_of(tmp_path)
    (tmp_path / "run.json").write_text("{")
    write_sightings(tmp_path / "sightings.parquet", [])
    with pytest.raises(JournalError, match=r"run\.json"):
        replay_to(tmp_path, tmp_path / "out")


def test_tables_survive_a_file_exactly(tmp_path):
    settings = TableSettings(horizon_s=100.0)
    counts = [Increment("a", "b", 0, 20, ONE), Increment("a", "b", 3, 21, 17), Increment("b", "a", 0, 0, 1)]
    write_tables(tmp_path / "t.json", settings, counts)
    assert list(read_tables(tmp_path / "t.json", settings).items()) == counts
    assert '["a", "b", 3, 21, 17],\n' in (tmp_path / "t.json").read_text()
    assert read_tables(tmp_path / "t.json").settings.horizon_s == 100.0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"axes": {}, "counts": []}',
        json.dumps({"axes": {"bin_s": 2, "origin_s": -30, "horizon_s": 100, "epoch_s": 86400}, "one": 7, "counts": []}),
        json.dumps(
            {
                "axes": {"bin_s": 2, "origin_s": -30, "horizon_s": 100, "epoch_s": 86400},
                "one": ONE,
                "counts": [["a", "b", 0, 99999, 1]],
            }
        ),
    ],
)
def test_a_bad_tables_file_is_one_clear_line(tmp_path, text):
    path = tmp_path / "t.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TablesFileError, match=r"t\.json"):
        read_tables(path)


def test_tables_of_other_axes_are_refused(tmp_path):
    write_tables(tmp_path / "t.json", TableSettings(bin_s=1.0), [])
    with pytest.raises(TablesFileError, match="do not add"):
        read_tables(tmp_path / "t.json", TableSettings(bin_s=2.0))
