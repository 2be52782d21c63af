"""Habits of the shell: completion, nearest names, JSON from everything that reports, and a doctor who is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from door import ROOT, identrix

import run_pipeline
from pipeline import doctor

WRITES_A_FILE = {"tables export", "tables graph", "tables import", "tables plot"}
SAYS_ONE_LINE = {"tables freeze", "tables unfreeze", "tables reset", "app"}


def commands(group: click.Command | None = None, before: str = "") -> Iterator[tuple[str, click.Command]]:
    group = group or typer.main.get_command(run_pipeline.app)
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def test_everything_that_reports_speaks_json():
    silent = {name for name, c in commands() if "--json" not in {o for p in c.params for o in p.opts}}
    assert silent - WRITES_A_FILE - SAYS_ONE_LINE == set()


def test_every_command_says_what_it_does():
    for name, command in commands():
        assert command.help and command.help.strip().endswith("."), name
        assert all(getattr(p, "help", "") or p.name in {"path", "out", "as_json"} for p in command.params), name


@pytest.mark.parametrize(
    ("shell", "said", "expected"),
    [
        ("bash", {"COMP_WORDS": "identrix ta", "COMP_CWORD": "1"}, "tables"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "identrix tables fr"}, "freeze"),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "identrix explain --js", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            "--json",
        ),
    ],
)
def test_completion(shell, said, expected):
    environment = {**os.environ, **said, "_IDENTRIX_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT)}
    code = "import sys; sys.argv = ['identrix']; import run_pipeline; run_pipeline.app(prog_name='identrix')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert expected in done.stdout, (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("exlpain", "x", "y"), "explain"),
        (("tables", "sho"), "show"),
        (("doctor", "--jsno"), "--json"),
        (("doctor", "--set", "redis.ulr=x"), "'url'"),
        (("doctor", "--set", "reid.encoder=osnett"), "osnet"),
        (("correct", "x", "mrege"), "'merge'"),
    ],
)
def test_the_nearest_name_is_named(words, near):
    done = identrix(*words)
    assert done.exit_code == 2 and near in done.stderr + done.stdout


def checked(*arguments: object) -> tuple[int, dict[str, dict[str, str]]]:
    done = identrix("doctor", "--json", *arguments)
    report = json.loads(done.stdout)
    assert report["works"] == (done.exit_code == 0)
    return done.exit_code, {check["name"]: check for check in report["checks"]}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("IDENTRIX_STATE", "IDENTRIX_CACHE", "IDENTRIX_MODELS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def test_a_healthy_machine_without_weights(empty):
    code, found = checked("--set", "reid.encoder=stripes")
    assert code == 0 and not [c for c in found.values() if c["state"] == "bad"]
    assert found["encoder"]["state"] == "ok" and found["detector"]["state"] == "note"
    assert "IDENTRIX_MODELS" in found["detector"]["advice"] and "h264" in found["video"]["found"]
    assert "embedded" in found["redis"]["found"]
    assert all(c["advice"] for c in found.values() if c["state"] != "ok")


def test_what_is_wrong_is_found_and_said(empty, walk, monkeypatch):
    site = empty / "site.yaml"
    site.write_text(
        f"site: s\ncameras:\n- {{name: a, source: {walk['a']}}}\n- {{name: b, source: gone.mp4}}\n"
        "redis: {url: 'redis://127.0.0.1:1/0'}\ndevice: cuda:0\ndetector: {model: motion}\n"
    )
    monkeypatch.setattr(doctor, "_opencv", lambda: 1 / 0)
    code, found = checked("--config", site, "--set", "output.dir=/proc/nowhere")
    bad = {name for name, check in found.items() if check["state"] == "bad"}
    gpu = {"device"} if "no GPU" in found["device"]["found"] else set()  # the machine of this test may have one
    assert code == 2 and bad == {"pictures", "redis", "disk", "camera b", *gpu}
    assert found["camera a"]["found"].startswith("h264 320x240") and "no such file" in found["camera b"]["found"]
    assert "ZeroDivisionError" in found["pictures"]["found"] and all(found[name]["advice"] for name in bad)
    said = identrix("doctor", "--config", site).stdout
    assert "BAD  camera b" in said and said.splitlines()[-1].startswith("cannot work yet:")


def test_a_site_that_was_mistyped(hall):
    assert "did you mean --site hall?" in identrix("tables", "show", "--site", "halle").stdout
    assert "sites here: hall" in identrix("tables", "show", "--site", "x").stdout
