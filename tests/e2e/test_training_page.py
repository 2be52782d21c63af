"""Every command of docs/training.md runs, with networks and sets small enough for a test."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clips import write_clip
from door import QUICK, ROOT, identrix

PAGE = ROOT / "docs" / "training.md"
SMALL = (
    *("--init", "none", "--epochs", "2", "--device", "cpu", "--set", "recipe.batch.people=4"),
    *("--set", "network.height_px=64", "--set", "network.width_px=32", "--set", "network.part_dim=8"),
    *("--set", "recipe.batch.micro_batch=8"),
)


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line]


@contextmanager
def stopping(*, quiet: bool) -> Iterator[object]:
    """A stand-in for the door's progress: Ctrl-C after the first epoch."""
    yield (
        lambda stage, done, total: os.kill(os.getpid(), signal.SIGINT) if stage == "training" and done == 1 else None
    )


@pytest.mark.slow
@pytest.mark.timeout(600)  # a dozen commands, one of them three processes
def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "state"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name in "ab":
        write_clip(tmp_path / f"{name}.mp4", frames=6)
    ran = []
    for program, *arguments in commands():
        pcb = "configs/training.pcb.yaml" in arguments
        small = [*SMALL, "--backbones", "test_resnet" if pcb else "test_convnext,test_vit"]
        if program == "torchrun":
            command = [sys.executable, "-m", "torch.distributed.run", *arguments, *small]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
            assert done.returncode == 0, done.stderr
        else:
            assert program == "identrix"
            extra = {"render-reid": ["--ids", "10", "--cameras", "2"], "train": small, "run": [*QUICK[:2], *QUICK[4:]]}
            resumed = "--resume" in arguments
            with monkeypatch.context() as patched:
                # One training is stopped, so that there is something to resume.
                stopped = arguments == ["train", "runs/people", "--out", "runs/dual"]
                if stopped:
                    patched.setattr("pipeline.door_train.progress", stopping)
                done = identrix(*arguments, *([] if resumed else extra.get(arguments[0], [])))
            assert done.exit_code == (130 if stopped else 0), (arguments, done.stderr)
        ran.append(arguments)
    assert len(ran) >= 9
    for name in ("first", "dual", "configured", "local", "pcb", "two"):
        assert (tmp_path / "runs" / name / "network.safetensors").is_file(), name
