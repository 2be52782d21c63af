"""The app: in Streamlit's own harness, and in a real browser, clicked through as a user does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from door import ROOT, identrix
from redis_servers import free_port

from pipeline.app_data import runs_of
from pipeline.app_start import FOLDER, PASSWORD, check_start, command, environment, is_loopback, may_enter
from pipeline.audit import audit_path
from pipeline.config import load_match_config
from pipeline.corrections import How, merge
from pipeline.tracks_table import read_assignments

pytest.importorskip("streamlit")
VIEWS = ("Overview", "Persons", "Why", "Search", "Corrections", "What if", "Tables", "Audit")


def persons(run: Path) -> list[int]:
    return sorted({person for person, _ in read_assignments(run / "assignments.csv").values()})


def audited() -> list[dict[str, str]]:
    return [json.loads(line) for line in audit_path(load_match_config({"site": "hall"})).read_text().splitlines()]


# ------------------------------------------------------------------------------------------------ before it starts


def test_it_does_not_open_itself_to_others_without_a_password(hall, monkeypatch):
    monkeypatch.delenv(PASSWORD, raising=False)
    refused = identrix("app", hall, "--host", "0.0.0.0", "--port", free_port())
    assert refused.exit_code == 2 and PASSWORD in refused.stderr and len(refused.stderr.splitlines()) == 1
    monkeypatch.setenv(PASSWORD, "short")
    assert identrix("app", hall, "--host", "0.0.0.0", "--port", free_port()).exit_code == 2
    monkeypatch.setenv(PASSWORD, "long enough")
    check_start(hall, "0.0.0.0", free_port())
    assert may_enter("long enough") and not may_enter("long enough ") and not may_enter("")
    assert is_loopback("::1") and not is_loopback("192.168.0.7")


def test_what_cannot_be_shown_is_said_before_a_port_is_opened(hall, tmp_path):
    import socket

    (tmp_path / "empty").mkdir()
    for folder, said in ((tmp_path / "gone", "no such folder"), (tmp_path / "empty", "there is no run in it")):
        refused = identrix("app", folder)
        assert refused.exit_code == 2 and said in refused.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = identrix("app", hall, "--port", taken.getsockname()[1])
        assert refused.exit_code == 2 and "choose another one" in refused.stderr


def test_the_server_gets_safe_settings(hall):
    words = command("127.0.0.1", 8501, browser=False)
    settings = dict(zip(words[5::2], words[6::2], strict=True))
    assert settings["--server.address"] == "127.0.0.1" and settings["--browser.gatherUsageStats"] == "false"
    assert settings["--client.showErrorDetails"] == "none" and int(settings["--server.maxUploadSize"]) <= 50
    assert environment(hall)[FOLDER] == str(hall)


# --------------------------------------------------------------------------------------- Streamlit's own harness


@pytest.fixture
def page(hall: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from streamlit.testing.v1 import AppTest

    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.setenv(FOLDER, str(hall))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def at(view: str | None = None, **state: object) -> Any:
        test = AppTest.from_file(str(ROOT / "pipeline" / "app_page.py"), default_timeout=120)
        for name, value in state.items():
            test.session_state[name] = value
        if view:
            test.session_state["page"] = view
        return test.run()

    return at


def words(test: Any) -> str:
    kinds = ("error", "warning", "info", "success", "markdown", "caption", "title", "subheader")
    return "\n".join(str(item.value) for kind in kinds for item in getattr(test, kind))


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_drawn(page, view):
    test = page(view)
    assert not test.exception and not test.error, words(test)


def test_merge_undo_and_somebody_faster(page, hall):
    before = persons(hall)
    test = page("Corrections")
    test.selectbox(key="merge_one").set_value(before[0]).run()
    test.selectbox(key="merge_two").set_value(before[1]).run()
    test.button(key="merge").click().run()
    assert not test.exception and f"P{before[1]} was found to be P{before[0]}" in test.success[0].value
    assert persons(hall) == [before[0], *before[2:]]
    test.button(key="undo 1").click().run()
    assert "taken back" in test.success[0].value and persons(hall) == before

    merge(hall, f"P{before[2]}", f"P{before[3]}", how=How(by="ann"))  # meanwhile
    test.selectbox(key="split_of").set_value(before[0]).run()
    own = [f"{c}:{n}" for (c, n), (i, _) in read_assignments(hall / "assignments.csv").items() if i == before[0]]
    test.multiselect(key="split_stays").set_value(own[:1]).run()
    merge(hall, f"P{before[0]}", f"P{before[1]}", how=How(by="ann"))  # between looking and clicking
    test.button(key="split").click().run()
    assert "somebody corrected this run since you looked at it" in test.error[0].value
    assert {c["did"] for c in audited()} >= {"app: opened", "app: merge", "app: undo", "app: split"}


def test_replay_with_other_settings_shows_what_would_differ(page, hall):
    before = (hall / "assignments.csv").read_bytes()
    test = page("What if")
    (test.button[0]).click().run()
    assert test.metric[1].value == "0" and not test.exception
    test.slider(key="if match.calibration.g0").set_value(1.0)
    test.slider(key="if match.new_share").set_value(0.95)
    test.button[0].click().run()
    assert int(test.metric[1].value) > 0 and "match.calibration.g0=1" in test.code[0].value
    assert (hall / "assignments.csv").read_bytes() == before


def test_freeze_unfreeze_and_reset(page):
    test = page("Tables")
    test.button(key="freeze").click().run()
    assert "frozen" in words(test)
    assert test.button(key="reset").disabled
    test.checkbox(key="sure").check().run()
    test.button(key="reset").click().run()
    assert "are frozen" in test.error[0].value  # and nothing was lost
    test = page("Tables")
    test.button(key="freeze").click().run()
    test.checkbox(key="sure").check().run()
    test.button(key="reset").click().run()
    assert "Nothing was learnt yet" in words(test)


def test_a_password_and_a_name(page, monkeypatch):
    monkeypatch.setenv(PASSWORD, "open sesame")
    test = page()
    assert test.title[0].value == "Identrix" and not test.sidebar.selectbox
    test.text_input[1].set_value("open sesame")
    test.button[0].click().run()
    assert "who you are" in test.error[0].value
    test.text_input[0].set_value("ann")
    test.text_input[1].set_value("wrong")
    test.button[0].click().run()
    assert "not the password" in test.error[0].value
    test.text_input[1].set_value("open sesame")
    test.button[0].click().run()
    assert test.sidebar.selectbox and audited()[-1]["by"] == "ann"


def test_broken_and_going_runs_are_said(page, hall, monkeypatch):
    runs = hall.parent / "runs"
    for name in ("good", "cut", "damaged", "going"):
        shutil.copytree(hall, runs / name)
    (runs / "cut" / "stays.csv").unlink()
    (runs / "damaged" / "run.json").write_text("{")
    (runs / "going" / "journal").mkdir()
    shutil.copy(hall / "decisions.jsonl", runs / "going" / "journal")
    monkeypatch.setenv(FOLDER, str(runs))
    assert {e.path.name: e.state for e in runs_of(runs)} == {
        "good": "finished",
        "cut": "broken",
        "damaged": "broken",
        "going": "going",
    }
    test = page()
    for name, said in (("cut", "stays.csv missing"), ("damaged", "cannot be read"), ("going", "going on")):
        test.sidebar.selectbox(key="run").set_value(name).run()
        assert said in words(test) and not test.exception, name
    (runs / "good" / "decisions.jsonl").write_text("no json\n")
    test.sidebar.selectbox(key="run").set_value("good").run()
    test = page("Why", run="good")
    assert "decisions.jsonl:1: not JSON" in test.error[0].value and not test.exception


# ------------------------------------------------------------------------------------------------ a real browser


@pytest.fixture
def server(hall: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    env = {**os.environ, PASSWORD: "open sesame", "PYTHONPATH": str(ROOT)}
    log = (tmp_path / "app.log").open("wb")
    words_ = [sys.executable, str(ROOT / "run_pipeline.py"), "app", str(hall), "--port", str(port)]
    process = subprocess.Popen(words_, env=env, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline_s, (tmp_path / "app.log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.fixture
def chromium() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("chromium and chromedriver are not installed (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield found
    finally:
        found.quit()


class Browser:
    """What a user does: look for words and click on them."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def find(self, css: str, text: str = "", exact: bool = False) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException

        deadline_s = time.monotonic() + 90
        while time.monotonic() < deadline_s:
            try:
                for element in self.driver.find_elements("css selector", css):
                    if element.text == text if exact else text in element.text:
                        return element
            except StaleElementReferenceException:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{css} with {text!r} did not come: {self.words()[:2000]}")

    def click(self, css: str, text: str) -> None:
        self.driver.execute_script("arguments[0].click()", self.find(css, text, exact=True))

    def choose(self, label: str, text: str) -> None:
        """In a select box: open it, type, take the first."""
        from selenium.webdriver.common.keys import Keys

        box = self.find('[data-testid="stSelectbox"]', label).find_element("css selector", "input")
        box.send_keys(text)
        self.find('[data-testid="stSelectboxVirtualDropdown"] li, [role="option"]', text)
        box.send_keys(Keys.ENTER)
        self.settle()

    def view(self, name: str) -> None:
        self.click('[data-testid="stButtonGroup"] button', name)
        self.settle()

    def settle(self) -> None:
        time.sleep(0.5)
        self.find('[data-testid="stApp"][data-test-script-state="notRunning"]')

    def words(self) -> str:
        return str(self.driver.find_element("css selector", "body").text)

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_clicked_through_in_chromium(server, chromium, hall, tmp_path):
    see = Browser(chromium)
    chromium.set_window_size(1280, 1000)
    chromium.get(server)
    name, password = (see.find(f'input[type="{kind}"]') for kind in ("text", "password"))
    name.send_keys("ann")
    password.send_keys("open sesame")
    see.click("button", "Enter")
    see.find('[data-testid="stMetric"]', "moves between cameras")
    see.find("video")
    ready = "return document.querySelector('video').readyState"
    deadline_s = time.monotonic() + 60
    while chromium.execute_script(ready) < 2 and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert chromium.execute_script(ready) >= 2  # the video can be played

    one, two, *_ = persons(hall)
    see.view("Persons")
    see.choose("Person", f"P{two}")
    see.find("p", "b:")
    assert len(chromium.find_elements("css selector", '[data-testid="stImage"] img')) == 2

    see.view("Why")
    see.find("p", f"P{two}")
    see.find("p", "What spoke for and against each")
    see.find('[data-testid="stVegaLiteChart"] canvas, [data-testid="stVegaLiteChart"] svg')

    see.view("Corrections")
    see.choose("is the same as", f"P{two}")
    see.click("button", "Merge")
    see.find('[data-testid="stAlert"]', f"P{two} was found to be P{one}, says ann")
    assert two not in persons(hall)
    see.click("button", "Undo")
    see.find('[data-testid="stAlert"]', "taken back")
    assert two in persons(hall)

    see.view("What if")
    see.click("button", "Replay")
    see.find('[data-testid="stMetric"]', "stays decided differently")

    see.view("Search")
    upload = see.find('input[type="file"]')
    (tmp_path / "text.jpg").write_bytes(b"this is no picture")
    upload.send_keys(str(tmp_path / "text.jpg"))
    assert "text.jpg: not a readable picture" in see.find('[data-testid="stAlert"]', "text.jpg").text
    from PIL import Image

    Image.new("1", (20_000, 15_000)).save(tmp_path / "huge.png")  # 40 kB, and 300 million pixels
    see.find('input[type="file"]').send_keys(str(tmp_path / "huge.png"))
    assert "pixels" in see.find('[data-testid="stAlert"]', "huge.png").text
    person = np.full((120, 60, 3), 90, np.uint8)
    person[30:70], person[70:] = (200, 40, 40), (20, 30, 60)
    Image.fromarray(person).save(tmp_path / "person.png")
    see.find('input[type="file"]').send_keys(str(tmp_path / "person.png"))
    see.find("p", "4 persons in this run")

    see.view("Tables")
    see.find("p", "Bars: what was seen")
    see.view("Audit")
    see.find('[data-testid="stDataFrame"]')
    assert see.errors() == []

    chromium.set_window_size(390, 844)
    for view in VIEWS:
        see.view(view)
        width = chromium.execute_script("return document.querySelector('[data-testid=stMain]').scrollWidth")
        assert width <= chromium.execute_script("return window.innerWidth"), view
    assert see.errors() == []
