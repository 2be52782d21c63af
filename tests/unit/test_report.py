"""The report page: right numbers, whole without a network, and safe with any camera name."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pipeline.atomic import write_json_atomic
from pipeline.journal import JournalError
from pipeline.journal_writer import RunJournal
from pipeline.report import MAX_PERSONS, write_report
from pipeline.tracklog import finish_run

PIXEL = b"\x89PNG\r\n\x1a\n not a real picture"


def seen(journal: RunJournal, camera: str, track_id: int, begin_s: float, end_s: float) -> None:
    for time_s in (begin_s, end_s):
        box, score = np.array([[0, 0, 10, 20]], np.float32), np.ones(1, np.float32)
        journal.boxes(camera, int(time_s * 10), time_s, np.array([track_id]), box, score)


@pytest.fixture
def run_dir(tmp_path):
    """P1 goes from `1` to `<b>` and back, P2 stays; camera `1` has a name that looks like a number."""
    with RunJournal(tmp_path) as journal:
        seen(journal, "1", 11, 0.0, 10.0)
        seen(journal, "<b>", 12, 14.0, 20.0)
        seen(journal, "1", 13, 26.0, 28.0)
        seen(journal, "1", 21, 3.0, 5.0)
    finish_run(tmp_path, {("1", 11): (1, 0.9), ("<b>", 12): (1, 0.8), ("1", 13): (1, 0.6), ("1", 21): (2, 0.5)})
    return tmp_path


def rows(page: str) -> list[list[str]]:
    """Every table row as texts."""
    found = re.findall(r"<tr>(.*?)</tr>", page)
    return [
        [html.unescape(re.sub(r"<.*?>", "", cell)) for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", r)] for r in found
    ]


def test_numbers(run_dir):
    page = write_report(run_dir).read_text()
    table = rows(page)
    assert ["1", "<b>", "1", "4.0 s", "80%"] in table
    assert ["<b>", "1", "1", "6.0 s", "60%"] in table
    assert ["1", "", "", "3", "2", "2.0 s"] in table  # camera 1: three stays of two persons
    assert ["P1", "1 → <b> → 1", "00:00:00.0", "00:00:28.0", "18 s"] in table
    assert ["P2", "1", "00:00:03.0", "00:00:05.0", "2 s"] in table
    assert "<b>2</b>persons" in page and "<b>2</b>moves between cameras" in page


def test_facts_of_the_run_are_shown_when_they_are_there(run_dir):
    health = {"1": {"frames_read": 280, "error": "camera 1: the file is cut off"}, "c": {"frames_read": 7}}
    write_json_atomic(run_dir / "run.json", {"site": "Haus & Hof", "cameras": health})
    page = write_report(run_dir).read_text()
    assert "<h1>Haus &amp; Hof</h1>" in page
    assert ["1", "camera 1: the file is cut off", "280", "3", "2", "2.0 s"] in rows(page)
    assert ["c", "", "7", "0", "0", "-"] in rows(page)  # a camera that saw nobody is listed, too


def test_the_page_is_whole_and_links_to_nothing(run_dir):
    (run_dir / "plots").mkdir()
    for name in ("timeline", "cameras", "transition 1 to <b>"):
        (run_dir / "plots" / f"{name}.png").write_bytes(PIXEL)
    page = write_report(run_dir).read_text()
    links = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            links.extend(value for key, value in attrs if key in ("src", "href"))

    Links().feed(page)
    assert len(links) == 3
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert 'alt="transition 1 to &lt;b&gt;"' in page
    assert "http" not in page


def test_nobody_is_a_page_too(tmp_path):
    RunJournal(tmp_path).close()
    finish_run(tmp_path, {})
    page = write_report(tmp_path).read_text()
    assert "nobody was seen" in page and "<b>0</b>persons" in page


def test_a_crowd_is_cut_and_the_page_says_so(tmp_path):
    count = MAX_PERSONS + 5
    with RunJournal(tmp_path) as journal:
        for n in range(count):
            seen(journal, "a", n, float(n), n + 0.5)
    finish_run(tmp_path, {("a", n): (n + 1, 1.0) for n in range(count)})
    page = write_report(tmp_path).read_text()
    assert sum(row[:1] != [] and row[0].startswith("P") for row in rows(page)) == MAX_PERSONS
    assert "and 5 more, in stays.csv" in page


def test_an_unfinished_or_damaged_run_is_named(tmp_path, run_dir):
    with pytest.raises(FileNotFoundError, match="finished run"):
        write_report(tmp_path / "absent")
    (run_dir / "run.json").write_text("{")
    with pytest.raises(JournalError, match=r"run\.json: cannot be read"):
        write_report(run_dir)
    (run_dir / "run.json").write_text(json.dumps({}))
    (run_dir / "stays.csv").write_text("a,b\n1\n")
    with pytest.raises(JournalError, match=r"stays\.csv"):
        write_report(run_dir)
