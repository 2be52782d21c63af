"""A real headless Chromium for pages that must work in one; tests that need it are skipped where there is none."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def chromium(*, width: int = 1280, height: int = 900, phone: bool = False) -> Iterator[Any]:
    """A selenium driver, quit at the end. Skips the test when Chromium, its driver or selenium are missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no chromium with a chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--window-size={width},{height}")
    if phone:
        metrics = {"width": width, "height": height, "pixelRatio": 2.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.set_page_load_timeout(60)
        browser.set_script_timeout(30)
        yield browser
    finally:
        browser.quit()


def complaints(browser: Any) -> list[str]:
    """What the page has logged since the last call: errors, refused scripts and styles, failed loads."""
    return [entry["message"] for entry in browser.get_log("browser")]


def until(condition: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    """The first true value of a condition; fails when there is none in time."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.03)
    return value


def open_page(browser: Any, path: Path, fragment: str = "") -> None:
    """Open a page of ours from disk and wait until all of it is drawn."""
    browser.get("about:blank")
    browser.get(path.resolve().as_uri() + fragment)
    until(lambda: browser.execute_script("return document.documentElement.dataset.readyMs"))
