"""Training as a user does it: through the door, killed, resumed, shared by processes, and with everything wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from door import ROOT, identrix
from reid_folders import market, write_image
from safetensors.torch import load_file

from reid.network_files import read_card

TINY = (
    *("--backbones", "test_convnext,test_vit", "--init", "none"),
    *("--set", "network.height_px=64", "--set", "network.width_px=32"),
    *("--set", "network.embedding_dim=16", "--set", "network.projection_dim=16"),
    *("--set", "recipe.batch.people=4", "--set", "recipe.batch.images=2", "--set", "recipe.optimisation.lr=0.001"),
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market(tmp_path_factory.mktemp("market") / "people")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def weights_equal(one: Path, other: Path) -> bool:
    a, b = load_file(one / "network.safetensors"), load_file(other / "network.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_from_a_folder_to_a_network_with_its_card(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_image(people / "bounding_box_train" / "nobody.jpg", 1)
    done = identrix("train", people, "--out", out, *TINY, "--epochs", 2)
    (people / "bounding_box_train" / "nobody.jpg").unlink()
    assert done.exit_code == 0
    assert done.stdout.startswith("2 epochs, loss ") and str(out / "network.safetensors") in done.stdout
    assert done.stderr.splitlines() == [
        "people (market1501): 36 images of 6 people to train on; 8 queries of 4 others among 16 images",
        "1 left out, not named as in 0002_c1s1_000451_03.jpg: bounding_box_train/nobody.jpg",
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        "card.md", "curves.png", "network.safetensors", "training.json",
    ]  # fmt: skip
    facts = json.loads((out / "training.json").read_text())
    assert [row["epoch"] for row in facts["history"]] == [0, 1, 2] and facts["data"]["train_people"] == 6
    card = read_card(out / "network.safetensors")
    assert card["recipe"] == facts["config"]["recipe"] and set(card["scores"]) == {"before", "after"}
    written = (out / "card.md").read_text()
    assert card["commit"] in written and f"{card['scores']['after']['mAP']:.3f}" in written and "nobody.jpg" in written
    share = card["local_share"]
    assert 0 <= share["lowest"] <= share["median"] <= share["highest"] <= 1
    assert f"median {100 * share['median']:.0f} %" in written
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "network.safetensors").stat().st_mode & 0o044  # others may read it

    tested = identrix("test-reid", people, "--encoder", out / "network.safetensors")
    assert tested.exit_code == 0 and "cosine" in tested.stdout


_SLOWLY = """
import sys, time, torch
torch.set_num_threads(1)
import pipeline.training_command as command
plain = command.train_to
command.train_to = lambda *a, **k: plain(*a, **{**k, "on_progress": lambda *step: time.sleep(0.05)})
import run_pipeline
run_pipeline.main()
"""


def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(people: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ["train", str(people), *TINY, "--epochs", "4"]
    assert identrix(*arguments, "--out", whole).exit_code == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, *arguments, "--out", str(killed)], env=environment, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 240
    while not (killed / "checkpoint.pt").exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    time.sleep(0.15)  # into the middle of the next epoch
    child.send_signal(signal.SIGKILL)
    _, said = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, said
    kept = json.loads((killed / "training.json").read_text())["history"][-1]["epoch"]
    assert kept < 4 and not (killed / "network.safetensors").exists()

    refused = identrix(*arguments, "--out", killed)
    assert refused.exit_code == 2 and "add --resume" in refused.stderr
    resumed = identrix("train", "--resume", "--out", killed)
    assert resumed.exit_code == 0 and resumed.stdout.startswith("4 epochs")
    assert weights_equal(whole, killed)
    histories = [json.loads((out / "training.json").read_text())["history"] for out in (whole, killed)]
    for a, b in zip(*histories, strict=True):
        assert a["epoch"] == b["epoch"] and a.get("loss") == b.get("loss") and a.get("rank1") == b.get("rank1")


def test_ctrl_c_says_how_to_go_on(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def progress(*, quiet: bool) -> Iterator[object]:
        def show(stage: str, done: float, total: float | None) -> None:
            if stage == "training" and 1.2 < done < 1.6:
                os.kill(os.getpid(), signal.SIGINT)

        yield show

    monkeypatch.setattr("pipeline.door_train.progress", progress)
    out = tmp_path / "out"
    done = identrix("train", people, "--out", out, *TINY, "--epochs", 3)
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == f"stopped after 1 whole epochs: identrix train --resume --out {out}"
    assert (out / "checkpoint.pt").exists() and (out / "curves.png").exists()
    again = identrix("train", "--resume", "--out", out, "--epochs", 5)
    assert again.exit_code == 2 and "recipe.epochs differ" in again.stderr


@pytest.mark.slow
def test_torchrun_trains_together(people: Path, tmp_path: Path) -> None:
    """Two processes share every batch; what they make is what one makes (but for the order of sums)."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["train", str(people), *TINY, "--epochs", "1", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "-m", "run_pipeline", *arguments, "--out", str(tmp_path / "two")],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 epochs") == 1  # the first process alone speaks
    assert identrix(*arguments, "--out", tmp_path / "one").exit_code == 0
    one, two = (load_file(tmp_path / name / "network.safetensors") for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=2e-3)


_NOTED = """
import sys
from pathlib import Path
from pipeline.training_command import _logbook
from pipeline.training_schema import Wandb
with _logbook(Wandb(mode="offline"), Path(sys.argv[1]), {"device": "cpu"}) as note:
    for epoch in (0.0, 1.0):
        note({"epoch": epoch, "loss": 0.5})
"""


def test_weights_and_biases_offline_writes_beside_the_training(tmp_path: Path) -> None:
    """In a process of its own: the service leaves threads behind."""
    pytest.importorskip("wandb")
    done = subprocess.run(
        [sys.executable, "-c", _NOTED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 1 and runs[0].stat().st_size > 0


def test_a_rendered_set_through_the_door(tmp_path: Path) -> None:
    done = identrix("render-reid", tmp_path / "set", "--ids", 4, "--cameras", 2)
    assert done.exit_code == 0 and "images of 2 + 2 people" in done.stdout
    again = identrix("render-reid", tmp_path / "set", "--ids", 4)
    assert again.exit_code == 2 and "something already" in again.stderr
    few = identrix("render-reid", tmp_path / "few", "--ids", 1, "--json")
    assert few.exit_code == 2 and "4 to 9999 people" in few.stderr


def test_the_published_pcb_on_a_rendered_set(tmp_path: Path) -> None:
    """configs/training.pcb.yaml through the command line with its own optimiser, losses and augmentation, to its end in
    small: a smaller ResNet and input, fewer people a batch, and the step of the rate at two thirds of the epochs."""
    assert identrix("render-reid", tmp_path / "set", "--ids", 12, "--cameras", 3).exit_code == 0
    out = tmp_path / "pcb"
    small = (
        *("--set", "network.backbones=[test_resnet]", "--set", "network.height_px=96", "--set", "network.width_px=48"),
        *(
            "--set",
            "network.part_dim=16",
            "--set",
            "recipe.batch.people=4",
            "--set",
            "recipe.optimisation.step_epochs=4",
        ),
    )
    config = ROOT / "configs" / "training.pcb.yaml"
    arguments = ("--config", config, "--out", out, "--init", "none", "--device", "cpu", "--epochs", 6, *small)
    done = identrix("train", tmp_path / "set", *arguments)
    assert done.exit_code == 0, done.stderr
    told = json.loads((out / "training.json").read_text())
    recipe = told["config"]["recipe"]
    assert (recipe["optimisation"]["name"], recipe["losses"]["identity"], recipe["batch"]["images"]) == ("sgd", 1, 4)
    rows = told["history"]
    assert [round(row["lr"], 6) for row in rows[1:]] == [0.01] * 4 + [0.001] * 2
    assert rows[-1]["loss"] < rows[1]["loss"] and set(rows[1]) >= {"identity"} and "info_nce" not in rows[1]
    assert rows[-1]["mAP_standard"] > 0

    network = out / "network.safetensors"
    tested = identrix("test-reid", tmp_path / "set", "--encoder", network, "--flip")
    assert tested.exit_code == 0, tested.stderr
    exported = identrix("export-model", network, tmp_path / "pcb.onnx")
    assert exported.exit_code == 0, exported.stderr


def test_a_full_disk_is_said_and_what_was_there_stays(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    saved = 0

    def full(number: int) -> None:
        nonlocal saved
        saved += 1
        if saved == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("reid.network_files.os.fsync", full)
    done = identrix("train", people, "--out", out, *TINY, "--epochs", 3)
    assert done.exit_code == 3
    assert "No space left on device; free some space" in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.pt", "curves.png", "training.json"]
    assert torch.load(out / "checkpoint.pt", weights_only=True)["epoch"] == 1
    assert identrix("train", "--resume", "--out", out).exit_code == 0


def test_what_is_wrong_is_said_in_one_line(people: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "bad.yaml").write_text("data: {path: people}\nrecipe: {epoch: 3}\n")
    (tmp_path / "empty.yaml").touch()
    out = ("--out", tmp_path / "out")
    cases = [
        (("train",), 2, "no images to train on; name a folder"),
        (("train", tmp_path / "absent", *out, *TINY), 2, "no such folder of images"),
        (("train", people, *out, *TINY, "--set", "recipe.batch.people=9"), 2, "lower it to 6"),
        (("train", people, *out, "--init", "none", "--backbones", "test_vit"), 2, "two backbones, local and global"),
        (("train", people, *out, "--init", "none", "--backbones", "resnet5,test_vit"), 2, "no backbone 'resnet5'"),
        (("train", people, *out, *TINY, "--init", "imagnet"), 2, "neither none, imagenet, nor"),
        (("train", people, *out, *TINY, "--set", "recipe.losses.scal=3"), 2, "did you mean 'scale'?"),
        (("train", people, *out, *TINY, "--wandb", "on"), 2, "wandb.mode"),
        (("train", *out, "--config", tmp_path / "bad.yaml"), 2, "recipe.epoch: unknown key; did you mean 'epochs'?"),
        (("train", *out, "--config", tmp_path / "empty.yaml"), 2, "needs at least data.path"),
        (("train", "--resume"), 2, "say with --out which training"),
        (("train", "--resume", *out), 2, "holds no training"),
        (("train", people, "--out", tmp_path / "file" / "out", *TINY), 3, "cannot write"),
    ]  # fmt: skip
    if not torch.cuda.is_available():
        cases.append((("train", people, *out, *TINY, "--device", "cuda:0"), 2, "no such GPU"))
    for arguments, code, said in cases:
        done = identrix(*arguments)
        assert (done.exit_code, done.stdout) == (code, ""), arguments
        assert said in done.stderr.splitlines()[-1], done.stderr
        assert not (tmp_path / "out" / "network.safetensors").exists()
