"""What the documents tell people to type: every command parses, and those that can run here are run, in order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from door import ROOT, identrix
from typer._click.exceptions import UsageError

import run_pipeline

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
RUN = ("README.md", "docs/tutorial.md")
"""Documents whose commands are run; each starts in a folder that holds lobby.mp4 and exit.mp4 and nothing else."""
NOT_RUN = {
    r"make (demo|test|setup)\b": "sets up a machine: .ci/run does it",
    r"identrix app\b": "serves until it is stopped: tests of its own",
    r"(git clone|cd|pip|export) ?": "prepares a shell",
    r"identrix .*rtsp://": "needs a camera: tests/integration has one",
}
FOOTAGE_S = 20.0


def sh_lines(document: Path) -> Iterator[tuple[int, str]]:
    """(line number, command) of every line in a ```sh block, comments and continuations taken out."""
    inside, kept = False, ""
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip().startswith("```"):
            inside = line.strip() == "```sh"
            continue
        if not inside:
            continue
        kept += line.strip()
        if kept.endswith("\\"):
            kept = kept[:-1]
            continue
        words = shlex.split(kept, comments=True)
        kept = ""
        if words:
            yield number, shlex.join(words).replace("'&&'", "&&")


def parse(arguments: list[str]) -> None:
    """Let the command line read these arguments without running anything. Raises UsageError."""
    command: Any = typer.main.get_command(run_pipeline.app)
    context = command.make_context("identrix", list(arguments))
    while isinstance(command, typer.core.TyperGroup):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, list(rest), parent=context)


def identrix_calls(command: str) -> Iterator[list[str]]:
    """The arguments of each `identrix` in a shell line."""
    for part in re.split(r"&&|;|\|", command):
        words = shlex.split(part)
        if words and words[0] in {"identrix", ".venv/bin/identrix"}:
            yield [word for word in words[1:] if word != "&"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_the_documents_parses(document):
    for number, command in sh_lines(document):
        for arguments in identrix_calls(command):
            try:
                parse(arguments)
            except typer.Exit:
                pass  # --help and its like
            except UsageError as error:
                pytest.fail(f"{document.name}:{number}: {command}: {error.format_message()}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_named_in_the_text_exists(document):
    """`identrix NAME` in running text names a command, and each --option after it is one of its options."""
    root: Any = typer.main.get_command(run_pipeline.app)
    for inline in re.findall(r"`(?:\./)?identrix ([^`]+)`", document.read_text(encoding="utf-8")):
        words = re.split(r"[\s|\\]+", inline)
        if words[0].startswith("-") or words[0] in {"COMMAND", "..."}:
            continue
        command = root.commands.get(words[0])
        assert command is not None, f"{document.name}: identrix {inline}"
        if isinstance(command, typer.core.TyperGroup) and len(words) > 1 and words[1].islower():
            command = command.commands.get(words[1])
            assert command is not None, f"{document.name}: identrix {inline}"
        if isinstance(command, typer.core.TyperGroup):
            continue
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        named = {word.split("=")[0] for word in words if word.startswith("--")}
        assert named <= known | {"--help"}, f"{document.name}: identrix {inline}"


@pytest.mark.slow
@pytest.mark.parametrize("document", [ROOT / name for name in RUN], ids=lambda path: path.name)
def test_the_commands_of_a_document_run_in_order(document, data_dir, models_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "state"))
    for name, camera in (("lobby", "a"), ("exit", "b")):
        cut(data_dir / "vcam_dev" / "videos" / f"{camera}.mp4", tmp_path / f"{name}.mp4")
    ran = 0
    for number, command in sh_lines(document):
        if any(re.match(pattern, command) for pattern in NOT_RUN):
            continue
        calls = list(identrix_calls(command))
        assert calls, f"{document.name}:{number}: no rule runs {command!r}"
        for arguments in calls:
            done = identrix(*arguments)
            assert done.exit_code == 0, f"{document.name}:{number}: {command}\n{done.stdout}\n{done.stderr}"
            ran += 1
    assert ran >= 2


def cut(source: Path, to: Path) -> None:
    """The first FOOTAGE_S seconds of a film."""
    import av

    with av.open(str(source)) as film, av.open(str(to), "w") as copy:
        stream = film.streams.video[0]
        kept = copy.add_stream_from_template(stream)
        for packet in film.demux(stream):
            if packet.dts is None or packet.time_base is None:
                continue
            if packet.dts * packet.time_base > FOOTAGE_S:
                break
            packet.stream = kept
            copy.mux(packet)
