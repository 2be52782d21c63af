"""The report as people meet it: opened from disk in a real Chromium, found, zoomed, read on a phone and on paper."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import chromium, complaints, open_page, until

from pipeline.atomic import write_json_atomic
from pipeline.journal_writer import RunJournal
from pipeline.report import write_report
from pipeline.tables_file import write_tables
from pipeline.tracklog import finish_run
from pipeline.video import VideoWriter
from st_model.transitions import ONE, Increment, TableSettings

EVIL = "</script><img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def desk() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


def write_run(folder: Path, persons: int, cameras: tuple[str, ...] = ("hall", "shop", "exit")) -> Path:
    """Every person goes through all cameras, ten seconds apart; with tables, a video and a merge."""
    ids: dict[tuple[str, int], tuple[int, float]] = {}
    box, score = np.array([[5, 5, 20, 40]], np.float32), np.ones(1, np.float32)
    with RunJournal(folder) as journal:
        for person in range(persons):
            for n, camera in enumerate(cameras):
                track, begin_s = person * len(cameras) + n, person * 2.0 + n * 10.0
                for time_s in (begin_s, begin_s + 6.0):
                    journal.boxes(camera, int(time_s * 10), time_s, np.array([track]), box, score)
                ids[camera, track] = (person + 1, 0.9)
    finish_run(folder, ids)
    axes = TableSettings()
    ways = itertools.pairwise(cameras)
    moves = [Increment(a, b, 0, axes.bin_of(4.0 + k % 3), ONE) for a, b in ways for k in range(9)]
    write_tables(folder / "tables_end.json", axes, moves)
    with VideoWriter(folder / "video" / "mosaic.mp4") as writer:
        for n in range(20):
            writer.write(np.full((48, 64, 3), 12 * n, np.uint8), float(n))
    merge = {"kind": "merge", "time_s": 3.0, "global_id": 99, "into_id": 2, "stays": [["hall", 3]], "probability": 0.97}
    (folder / "corrections.jsonl").write_text(json.dumps({**merge, "reason": "alike"}) + "\n")
    diagram = {"predicted": [0.1, None, 0.9], "observed": [0.2, None, 0.8], "weight": [5.0, 0.0, 9.0], "error": 0.1}
    write_json_atomic(folder / "calibration.json", {name: {"by_time": diagram} for name in ("before", "after")})
    health = {name: {"frames_read": 100, "first_s": 0.0, "last_s": 60.0, "fps": 10.0} for name in cameras}
    health[cameras[-1]]["live"] = {
        "reconnects": 2,
        "seconds": {"live": 50.0, "stalled": 12.0},
        "reason": "<i>no route</i>",
    }
    settings = {"match": {"calibration": {"g0": 18.0, "b0": -9.5}, "window_s": 1.0}}
    write_json_atomic(folder / "run.json", {"site": "store", "cameras": health, "config": settings})
    return write_report(folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), persons=300)


def text(browser: Any, selector: str) -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def window(browser: Any) -> tuple[str, str]:
    box = browser.find_element("id", "timeline")
    return box.get_attribute("data-from"), box.get_attribute("data-to")


def test_it_opens_from_disk_without_a_complaint_and_asks_for_nothing(desk, page):
    open_page(desk, page)
    assert complaints(desk) == []
    assert desk.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert text(desk, "h1") == "store" and "300" in text(desk, "#tiles")
    assert "hall → shop" in text(desk, "#histograms") and "evidence 9" in text(desk, "#histograms")
    assert len(desk.find_elements("css selector", "#graph .node")) == 3
    assert desk.execute_script("return document.querySelectorAll('#histograms .curve').length") == 2
    assert "exit, live: 2 reconnects, stalled for 12 s, lost last: <i>no route</i>." in text(desk, "#alarms")
    assert "dashed: after, error 0.100" in text(desk, "#calibration")
    painted = "const c = document.querySelector('#timeline canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return new Set(Array.from({length: 4000}, (_, k) => d[4 * 97 * k] << 16 | d[4 * 97 * k + 1] << 8 | d[4 * 97 * k + 2])).size"  # noqa: E501
    assert desk.execute_script(painted) > 4  # ground, lines and the colours of three cameras


def test_a_person_is_found_and_their_moment_plays(desk, page):
    open_page(desk, page)
    find = desk.find_element("id", "find")
    find.send_keys("p2")
    assert text(desk, "#count").startswith("111 of 300")  # 2, 20 to 29, 200 to 299
    find.send_keys("\n")
    card = desk.find_element("id", "card")
    assert card.get_attribute("open") is not None
    assert "P2 3 cameras, 3 stays" in card.text and "shop after 4.0 s" in card.text
    assert "P99 was found to be P2 (97 %): alike" in card.text
    desk.find_element("css selector", "#card .watch a").click()
    at_s = "const v = document.querySelector('video'); return v.readyState >= 2 && v.currentTime"
    assert until(lambda: desk.execute_script(at_s)) >= 2.0
    assert desk.execute_script("return location.hash") == "#P2"
    desk.switch_to.active_element.send_keys("\ue00c")  # Escape
    until(lambda: card.get_attribute("open") is None)
    assert complaints(desk) == []


def test_a_link_to_a_person_opens_their_card(desk, page):
    open_page(desk, page, "#P17")
    assert "P17" in text(desk, "#cardname")


def test_the_timeline_by_keyboard(desk, page):
    open_page(desk, page)
    whole = until(lambda: window(desk))
    box = desk.find_element("id", "timeline")
    desk.execute_script("arguments[0].focus()", box)
    box.send_keys("++")
    until(lambda: window(desk) != whole)
    closer = window(desk)
    box.send_keys("\ue014")  # right
    until(lambda: window(desk) != closer)
    assert window(desk)[0] > closer[0]
    box.send_keys("0")
    until(lambda: window(desk) == whole)
    box.send_keys("\ue015\ue015")  # down, down
    assert text(desk, "#said").startswith("P2: hall, shop, exit")
    box.send_keys("\ue010")  # End
    assert text(desk, "#said").startswith("P300:") and desk.execute_script("return arguments[0].scrollTop", box) > 1000
    box.send_keys("\n")
    assert "P300" in text(desk, "#cardname")


def test_the_wheel_zooms_at_the_pointer_and_a_drag_moves(desk, page):
    open_page(desk, page)
    whole = until(lambda: window(desk))
    wheel = "const b = document.getElementById('timeline'), r = b.getBoundingClientRect(); b.dispatchEvent(new WheelEvent('wheel', {deltaY: -300, ctrlKey: true, clientX: r.left + r.width / 2, clientY: r.top + 60, cancelable: true}))"  # noqa: E501
    desk.execute_script(wheel)
    until(lambda: window(desk) != whole)
    closer = window(desk)
    assert whole[0] < closer[0] < closer[1] < whole[1]
    from selenium.webdriver import ActionChains

    box = desk.find_element("id", "timeline")
    ActionChains(desk).move_to_element(box).click_and_hold().move_by_offset(-150, 0).release().perform()
    until(lambda: window(desk)[0] > closer[0])
    assert desk.find_element("id", "card").get_attribute("open") is None  # a drag chooses nobody


def test_rows_exist_only_where_they_are_seen(desk, page):
    open_page(desk, page)
    rows = "return document.querySelectorAll('#list .row').length"
    until(lambda: desk.execute_script(rows))
    assert desk.execute_script(rows) < 30
    desk.execute_script("document.getElementById('list').scrollTop = 1e6")
    until(lambda: "P300" in text(desk, "#list"))
    assert desk.execute_script(rows) < 30


def test_a_camera_of_the_graph_shows_its_own_ways(desk, page):
    open_page(desk, page)
    assert "shop" in text(desk, "#flows") and text(desk, "#flows").count("300") == 2
    node = desk.find_element("css selector", "#graph .node")
    desk.execute_script("arguments[0].focus()", node)
    node.send_keys("\n")
    assert node.get_attribute("aria-pressed") == "true" and text(desk, "#flows").count("300") == 1


def test_on_paper_there_are_rows_instead_of_scrollers(desk, page):
    open_page(desk, page)
    desk.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    desk.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert text(desk, "#printedlist").count("hall → shop → exit") == 300
        assert not desk.find_element("id", "timeline").is_displayed()
        assert desk.find_element("css selector", "#printedtimeline canvas").is_displayed()
    finally:
        desk.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_names_that_are_markup_stay_names(desk, tmp_path):
    page = write_run(tmp_path, persons=3, cameras=("hall", "shop"))
    facts = json.loads((tmp_path / "run.json").read_text())
    for name in ("stays.csv", "transitions.csv", "tables_end.json", "corrections.jsonl"):
        hostile = json.dumps(EVIL)[1:-1] if name.startswith(("tables", "corr")) else EVIL
        (tmp_path / name).write_text((tmp_path / name).read_text().replace("shop", hostile))
    write_json_atomic(tmp_path / "run.json", {**facts, "site": EVIL, "cameras": {EVIL: {"error": EVIL}}})
    write_report(tmp_path)
    open_page(desk, page, "#P1")
    assert text(desk, "h1") == EVIL and desk.title == EVIL
    assert EVIL in text(desk, "#healthtable") and EVIL in text(desk, "#card")
    assert desk.execute_script("return document.images.length") == 0
    assert complaints(desk) == []


def test_nobody(desk, tmp_path):
    RunJournal(tmp_path).close()
    finish_run(tmp_path, {})
    open_page(desk, write_report(tmp_path))
    assert "Nobody was seen." in text(desk, "header") and complaints(desk) == []


def test_on_a_phone_nothing_sticks_out(page):
    with chromium(width=390, height=844, phone=True) as browser:
        open_page(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        browser.execute_script("document.querySelector('#list .row').click()")  # a smooth scroll is still going on
        card = browser.find_element("id", "card")
        assert card.get_attribute("open") is not None and card.size["width"] <= 390
        assert complaints(browser) == []
