"""Looking after a site's tables through the door, with the embedded server: counts, pictures, clocks, freezing."""

from __future__ import annotations

import json

import pytest
from door import QUICK, films, identrix
from typer.testing import CliRunner
from walkers import draw_walkers

import run_pipeline
from pipeline.config import load_match_config
from pipeline.replay import replay_to, said_in
from pipeline.site_plots import plot_tables_graph
from pipeline.site_store import open_site, open_store
from pipeline.tables_file import write_tables
from st_model.saved_state import StateChange
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

SITE = ("--site", "shop")
BOTH_WAYS = [
    Increment(a, b, 0, TableSettings().bin_of(delay_s), 20 * ONE)
    for a, b, delay_s in (
        *(("gate", "hall", 20.0), ("hall", "gate", 20.0)),
        *(("gate", "exit", 140.0), ("gate", "exit", 100.0), ("hall", "exit", 120.0)),  # this clock is 120 s ahead
    )
]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state folder of this test's own."""
    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "state"))


@pytest.fixture
def learnt(tmp_path):
    """A file with what a site has learnt, imported."""
    path = tmp_path / "learnt.json"
    write_tables(path, TableSettings(), sorted(BOTH_WAYS))
    assert identrix("tables", "import", path, *SITE).exit_code == 0
    return path


def shown():
    return {
        (row["from_camera"], row["to_camera"]): row["evidence"]
        for row in json.loads(identrix("tables", "show", *SITE, "--json").stdout)
    }


def test_a_new_site_knows_nothing():
    assert identrix("tables", "show", *SITE).stdout == "nothing learnt yet\n"
    assert "nothing learnt yet" in identrix("tables", "clocks", *SITE).stdout


def test_import_counts_once_export_is_exact_and_reset_forgets(learnt, tmp_path):
    assert identrix("tables", "import", learnt, *SITE).stdout == "counted before: nothing added\n"
    (tmp_path / "copy.json").write_bytes(learnt.read_bytes())
    identrix("tables", "import", tmp_path / "copy.json", *SITE)
    assert shown()["gate", "exit"] == 40
    assert identrix("tables", "export", tmp_path / "again.json", *SITE).exit_code == 0
    assert (tmp_path / "again.json").read_text() == learnt.read_text()
    forgotten = identrix("tables", "reset", *SITE, "--yes")
    assert forgotten.stdout == "4 pairs, 100 observations forgotten at site shop\n" and forgotten.exit_code == 0
    assert shown() == {}
    assert identrix("tables", "import", learnt, *SITE).stdout == "4 pairs added\n"


def test_one_pair_is_not_some_pairs(tmp_path):
    write_tables(tmp_path / "one.json", TableSettings(), BOTH_WAYS[:1])
    assert identrix("tables", "import", tmp_path / "one.json", *SITE).stdout == "1 pair added\n"
    assert identrix("tables", "graph", tmp_path / "g.png", *SITE).stdout.startswith("1 pair: ")
    write_tables(tmp_path / "none.json", TableSettings(), [])
    assert identrix("tables", "import", tmp_path / "none.json", *SITE).stdout == "0 pairs added\n"


@pytest.mark.parametrize("command", [["export", "e.json"], ["plot", "p"], ["graph", "g.png"], ["freeze"], ["reset"]])
def test_a_site_that_is_not_there_is_said_and_nothing_written(learnt, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    refused = identrix("tables", *command, "--site", "nosuch")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == "nothing learnt yet at site 'nosuch'; sites here: shop\n"
    assert sorted(tmp_path.iterdir()) == before
    assert not (tmp_path / "state" / "identrix" / "frozen" / "nosuch").exists()
    assert "did you mean --site shop?" in identrix("tables", *command, "--site", "shopp").stderr


def test_what_is_not_frozen_cannot_be_unfrozen(learnt):
    refused = identrix("tables", "unfreeze", *SITE)
    assert (refused.exit_code, refused.stderr) == (2, "site 'shop' is not frozen\n")


def test_a_site_whose_redis_is_away_can_be_frozen():
    away = ("--set", "redis.url=redis://127.0.0.1:1/0")
    assert "is frozen" in identrix("tables", "freeze", *SITE, *away).stdout


@pytest.mark.parametrize(("said", "line"), [("n\n", "nothing was changed"), ("", "no answer: add --yes")])
def test_without_a_yes_nothing_is_forgotten(learnt, said, line):
    refused = CliRunner().invoke(run_pipeline.app, ["tables", "reset", *SITE], input=said)
    assert refused.exit_code == 2 and line in refused.stderr and "Traceback" not in refused.output
    assert shown()["gate", "exit"] == 40
    for command in (["forget", "runs/none", "P1"], ["forget", "P1", *SITE]):  # asked in the same words
        refused = CliRunner().invoke(run_pipeline.app, command, input=said)
        assert refused.exit_code == 2 and line in refused.stderr
    assert CliRunner().invoke(run_pipeline.app, ["tables", "reset", *SITE], input="y\n").exit_code == 0
    assert shown() == {}


def test_a_site_that_only_has_a_gallery_can_be_reset():
    config = load_match_config({"site": "shop"})
    with open_store(config, config.tables) as (store, _):
        store.flush([], 1, state=StateChange("1-0", {"somebody": b"x"}, ()))
    assert identrix("tables", "reset", *SITE, "--yes").exit_code == 0
    with open_store(config, config.tables) as (store, _):
        assert store.load_state() is None


def test_a_site_whose_axes_are_others_can_be_reset(learnt):
    others = ("--set", "tables.bin_s=1")
    refused = identrix("tables", "export", "x.json", *SITE, *others)
    assert refused.exit_code == 3 and "or reset the tables" in refused.stderr
    done = identrix("tables", "reset", "--yes", *SITE, *others)
    assert (done.exit_code, done.stdout) == (0, "4 pairs, 100 observations forgotten at site shop\n")
    assert (
        identrix("tables", "export", "x.json", *SITE, *others).exit_code == 2
    )  # nothing there, and nothing against it


@pytest.mark.parametrize(("epoch", "count", "said"), [(99999, ONE, "in the future"), (0, -ONE, "below 0")])
def test_counts_that_would_spoil_the_others_are_not_imported(learnt, tmp_path, epoch, count, said):
    before = shown()
    write_tables(tmp_path / "bad.json", TableSettings(), [Increment("a", "b", epoch, 3, count)])
    done = identrix("tables", "import", tmp_path / "bad.json", *SITE)
    assert done.exit_code == 2 and said in done.stderr and shown() == before


def test_the_graph_is_a_picture(learnt, tmp_path):
    result = identrix("tables", "graph", tmp_path / "graph.png", *SITE)
    assert result.stdout.startswith("4 pairs")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


def test_the_graph_is_written_as_its_name_says_and_not_as_anything_else(learnt, tmp_path):
    assert identrix("tables", "graph", tmp_path / "new" / "folder" / "g.svg", *SITE).exit_code == 0
    assert b"<svg" in (tmp_path / "new" / "folder" / "g.svg").read_bytes()
    for name in ("g.jpg", "g.txt", "g"):
        refused = identrix("tables", "graph", tmp_path / name, *SITE)
        assert refused.exit_code == 2 and "is written as .png, .svg, .pdf" in refused.stderr
        assert not (tmp_path / name).exists()


def test_missing_folders_are_made(learnt, tmp_path):
    assert identrix("tables", "export", tmp_path / "a" / "b" / "t.json", *SITE).exit_code == 0
    assert (tmp_path / "a" / "b" / "t.json").read_text() == learnt.read_text()


def test_the_graph_has_widths_by_evidence_and_median_times(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("pipeline.plots._save", lambda figure, path: drawn.append(figure.axes[0]))
    tables = TransitionTables()
    tables.add([*BOTH_WAYS, Increment("hall", "hall", 0, TableSettings().bin_of(60.0), 3 * ONE)])
    assert plot_tables_graph(tmp_path / "g.png", tables) == 5
    texts = {text.get_text() for text in drawn[0].texts}
    assert {"20 (21 s)", "20 (121 s)", "returns\n3 (61 s)"} <= texts
    assert any(text.startswith("40 (") for text in texts)
    widths = [text.arrow_patch.get_linewidth() for text in drawn[0].texts if getattr(text, "arrow_patch", None)]
    assert len(widths) == 4 and widths[0] > widths[1] == widths[3]


def test_clocks_are_reported_with_the_lines_that_would_correct_them(learnt):
    found = json.loads(identrix("tables", "clocks", *SITE, "--json").stdout)
    offsets = {row["camera"]: row["offset_s"] for row in found["offsets"]}
    assert offsets == pytest.approx({"exit": 121.0, "gate": 0.0, "hall": 0.0}, abs=2.0)
    (header, line) = found["yaml"]
    assert header == "cameras:" and line.startswith("  - {name: exit, offset_s: -12")
    words = identrix("tables", "clocks", *SITE).stdout
    assert "s ahead, give or take" in words and line in words
    assert shown()["gate", "exit"] == 40  # nothing is applied


def test_frozen_tables_are_read_and_not_taught(learnt):
    assert "frozen" in identrix("tables", "freeze", *SITE).stdout
    config = load_match_config({"site": "shop", "frozen": True})
    with open_site(config, config.tables) as site:
        assert site.tables.evidence("gate", "exit") == 40
        site.tables.add(BOTH_WAYS)
        site.tables.at_epoch(700)
        site.learn(BOTH_WAYS)
        site.finish()
        assert site.tables.evidence("gate", "exit") == 40
    assert shown()["gate", "exit"] == 40
    for command in (("import", learnt), ("reset", "--yes")):
        refused = identrix("tables", *command, *SITE)
        assert refused.exit_code == 2
        assert "'shop' are frozen: `tables unfreeze` first" in refused.stderr
    assert "learns again" in identrix("tables", "unfreeze", *SITE).stdout
    assert identrix("tables", "reset", *SITE, "--yes").exit_code == 0


def test_a_run_of_a_frozen_site_teaches_nothing_and_replays_the_same(tmp_path):
    walk = films(draw_walkers(tmp_path / "walk"))
    before = identrix("run", *walk, *SITE, *QUICK, "--out", tmp_path / "teaching")
    assert before.exit_code == 0
    taught = shown()
    assert taught
    identrix("tables", "freeze", *SITE)
    out = tmp_path / "frozen"
    assert identrix("run", *walk, *SITE, *QUICK, "--out", out).exit_code == 0
    assert shown() == taught
    assert json.loads((out / "run.json").read_text())["config"]["frozen"] is True
    again = replay_to(out, tmp_path / "again")
    assert repr(again.decisions) == repr(said_in(out).decisions)
    refused = identrix("run", *walk, *SITE, *QUICK, "--fresh", "--out", tmp_path / "fresh")
    assert refused.exit_code == 2 and "frozen" in refused.stderr
