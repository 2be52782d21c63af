"""Looking after a site's tables through the door, with the embedded server: counts, pictures, clocks, freezing."""

from __future__ import annotations

import json

import pytest
from door import QUICK, films, identrix
from walkers import draw_walkers

from pipeline.config import load_match_config
from pipeline.replay import replay_to, said_in
from pipeline.site_plots import plot_tables_graph
from pipeline.site_store import open_site
from pipeline.tables_file import write_tables
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
    identrix("tables", "import", learnt, *SITE)
    (tmp_path / "copy.json").write_bytes(learnt.read_bytes())
    identrix("tables", "import", tmp_path / "copy.json", *SITE)
    assert shown()["gate", "exit"] == 40
    assert identrix("tables", "export", tmp_path / "again.json", *SITE).exit_code == 0
    assert (tmp_path / "again.json").read_text() == learnt.read_text()
    assert identrix("tables", "reset", *SITE, "--yes").exit_code == 0
    assert shown() == {}


def test_the_graph_is_a_picture(learnt, tmp_path):
    result = identrix("tables", "graph", tmp_path / "graph.png", *SITE)
    assert result.stdout.startswith("4 pairs")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


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
