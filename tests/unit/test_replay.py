"""Replay is exact, and says what changed and why."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sighting_streams import unit

from pipeline.atomic import OutputError, write_lines
from pipeline.config import load_match_config
from pipeline.hand_teaching import links_of_run
from pipeline.journal import JournalError, json_line, to_json
from pipeline.replay import ReplayError, Said, changes, read_inputs, replay, replay_inputs, replay_to, said_in
from pipeline.sightings_file import write_sightings
from pipeline.tables_file import TablesFileError, read_tables, write_tables
from st_model.calibration import calibration_for
from st_model.ledger import Correction
from st_model.sightings import Decision, Sighting
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

TIMES = ("entered_s", "last_s", "emitted_s")


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
    assert changes(said_in(tmp_path / "one"), same) == []
    # Nobody is ever alike: every stay is a person of its own, and the six in b are decided differently.
    apart = replay_to(
        tmp_path / "sightings.parquet",
        tmp_path / "two",
        overrides=["match.calibration.g0=1", "match.calibration.b0=-40"],
    )
    lines = changes(same, apart)
    assert len(lines) == 12  # who loses a companion has changed as well
    assert any(line.startswith("b:1 at") and "no longer with a:0" in line and "a new person" in line for line in lines)
    rows = (tmp_path / "two" / "assignments.csv").read_text().splitlines()
    assert rows[0] == "camera,track_id,global_id,probability"
    assert len(rows) == 13


def test_changes_see_what_corrections_did(tmp_path):
    decisions = [Decision("a", 1, 5.0, 1, "new"), Decision("b", 2, 9.0, 2, "new")]
    merge = Correction("merge", 20.0, 2, 1, (("b", 2),), 0.98)
    apart, together = Said(decisions, []), Said(decisions, [merge])
    lines = changes(apart, together)
    assert [line.split(" at")[0] for line in lines] == ["a:1", "b:2"]
    assert "now with a:1;" in lines[1] and lines[1].endswith("is a new person (0 %), later merged into P1")
    assert changes(together, together) == []
    # What was joined by hand is not what the matcher said.
    write_lines(tmp_path / "decisions.jsonl", [json_line(to_json(d)) for d in decisions])
    write_lines(tmp_path / "corrections.jsonl", [json_line(to_json(replace(merge, by="ann")))])
    assert changes(apart, said_in(tmp_path)) == []


def test_an_outage_of_the_run_is_one_of_its_replays(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for n in range(6):
        look, at_s = unit(rng.standard_normal(64)), 100.0 + 200 * n
        for camera, track_id, entered_s in (("a", 2 * n, at_s), ("b", 2 * n + 1, at_s + 23)):
            rows.append(Sighting(camera, track_id, entered_s, entered_s + 3, entered_s + 3, True, look))
    calibration = {"match": {"calibration": {"g0": 60.0, "b0": -30.0}}}
    config = load_match_config(calibration)
    facts = {"config": calibration, "outages": [["b", 1108.0, 1115.0]], "counters": {}}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    write_sightings(tmp_path / "sightings.parquet", rows)
    write_tables(tmp_path / "tables_start.json", config.tables, [])
    done = replay_inputs(read_inputs(tmp_path))
    taught = [item.count for item in done.tables.items()]
    assert sum(taught) < sum(i.count for i in replay(rows, config, TransitionTables(config.tables)).tables.items())
    links = links_of_run(tmp_path, done.decisions)
    assert links is not None and sum(item.count for item in links.values()) == sum(taught)
    assert (("a", 10), ("b", 11)) not in links and (("a", 8), ("b", 9)) in links


def test_without_anything_to_replay(tmp_path):
    with pytest.raises(ReplayError, match="no such file"):
        replay_to(tmp_path / "sightings.parquet", tmp_path / "out")
    with pytest.raises(ReplayError, match="no such file"):
        said_in(tmp_path)
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


BAD_COUNTS = {
    '["a", "b", 0, 3]': "must be",
    '["", "b", 0, 3, 4096]': "no name of a camera",
    '[null, "b", 0, 3, 4096]': "no name of a camera",
    '["a", "b\\u0000", 0, 3, 4096]': "no name of a camera",
    '["a", "b", 0, 3, 1.5]': "no whole number",
    '["a", "b", 0, 3, true]': "no whole number",
    '["a", "b", 0, 3, 99999999999999999999]': "no whole number",
    '["a", "b", -99999999999999999999, 3, 1]': "no whole number",
    '["a", "b", 0, 99999, 1]': "outside",
}


@pytest.mark.parametrize("row", BAD_COUNTS)
def test_a_bad_count_is_named(tmp_path, row):
    write_tables(tmp_path / "t.json", TableSettings(), [])
    whole = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(whole.replace("[\n\n]", f"[\n{row}\n]"))
    with pytest.raises(TablesFileError, match=BAD_COUNTS[row]):
        read_tables(tmp_path / "t.json")
    (tmp_path / "t.json").write_text(whole.replace('"one": 4096, ', ""))
    with pytest.raises(TablesFileError, match="one observation must be 4096 counts"):
        read_tables(tmp_path / "t.json")


def test_a_run_is_never_replayed_into_its_own_folder(sightings, tmp_path, caplog):
    write_sightings(tmp_path / "sightings.parquet", sightings)
    replay_to(tmp_path, tmp_path)  # no run: sightings alone
    assert "no run.json" in caplog.text
    (tmp_path / "run.json").write_text('{"counters": {}}')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ReplayError, match="this is the folder of a run"):
        replay_to(tmp_path, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    caplog.clear()
    replay_to(tmp_path, tmp_path / "again")
    assert "no tables_start.json" in caplog.text


def test_where_nothing_can_be_written_nothing_is_matched(sightings, tmp_path, monkeypatch):
    write_sightings(tmp_path / "sightings.parquet", sightings)
    (tmp_path / "file").touch()
    monkeypatch.setattr("pipeline.replay.replay_inputs", lambda *_: pytest.fail("matched first"))
    with pytest.raises(OutputError):
        replay_to(tmp_path / "sightings.parquet", tmp_path / "file" / "out")


@pytest.mark.parametrize("outages", ["5", '[["a", "x", 3]]', '[["a", 1]]'])
def test_damaged_outages_are_named(sightings, tmp_path, outages):
    write_sightings(tmp_path / "sightings.parquet", sightings)
    (tmp_path / "run.json").write_text(f'{{"outages": {outages}}}')
    with pytest.raises(ReplayError, match=r"run\.json: damaged"):
        read_inputs(tmp_path)


def test_a_tiny_window_ends(sightings):
    config = load_match_config({"match": {"window_s": 1e-300}})
    late = [replace(s, **{name: getattr(s, name) + 1e9 for name in TIMES}) for s in sightings]
    assert len(replay(late, config, TransitionTables(config.tables)).ids) == 12
    with pytest.raises(ValueError, match="times are seconds"):
        replace(sightings[0], last_s=1.7e12, emitted_s=1.7e12)


def test_tables_of_other_axes_are_refused(tmp_path):
    write_tables(tmp_path / "t.json", TableSettings(bin_s=1.0), [])
    with pytest.raises(TablesFileError, match="do not add"):
        read_tables(tmp_path / "t.json", TableSettings(bin_s=2.0))
