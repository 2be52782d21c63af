"""The training loop: gradients, resumption, memory, schedule, recipes that do not fit."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reid_folders import market

from reid.augment import NO_AUGMENTATION, Augmentation
from reid.checkpoints import NAME, CheckpointError
from reid.datasets import ReidData, read_data
from reid.recipe import Batch, Losses, Optimisation, Recipe, RecipeError, rate_factor

torch = pytest.importorskip("torch")

from reid.dual_backbone import Architecture, DualBackboneNet, load  # noqa: E402
from reid.initial import new_network  # noqa: E402
from reid.pcb import PcbArchitecture  # noqa: E402
from reid.testing import embed_pictures, score  # noqa: E402
from reid.training import TrainingError, train  # noqa: E402
from reid.training_step import Trainee, backward  # noqa: E402

TINY = Architecture("test_convnext", "test_vit", 64, 32, 16, 16)
"""Layer norm in both: what an image gives does not depend on its company."""

QUICK = Recipe(
    epochs=3,
    batch=Batch(people=3, images=2),
    optimisation=Optimisation(lr=2e-3, warmup_epochs=1),
    augmentation=Augmentation(rotation=0),
    ema_decay=0.9,
    evaluate_every=3,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReidData:
    return read_data(market(tmp_path_factory.mktemp("market")))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def fresh(architecture: object = TINY) -> object:
    torch.manual_seed(5)
    return new_network(architecture)


def same(one: object, other: object) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# Gradients


def gradients(trainee: Trainee, losses: Losses = Losses(1.0, 0.5, 0.25), **options: object) -> tuple[list, dict]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (8, 3, 64, 32), dtype=torch.uint8, generator=generator)
    people = torch.tensor([4, 4, 7, 7, 9, 9, 1, 1])
    classes = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    trainee.zero_grad()
    values = backward(trainee, images, people, classes, losses, **options)
    return [torch.zeros(()) if p.grad is None else p.grad.clone() for p in trainee.parameters()], values


@pytest.mark.parametrize("micro_batch", [2, 3, 5, 8, 100])
def test_micro_batches_have_the_gradients_of_the_whole_batch(micro_batch: int) -> None:
    trainee = Trainee(fresh(), classes=4)
    whole, values = gradients(trainee)
    parts, again = gradients(trainee, micro_batch=micro_batch)
    assert values == pytest.approx(again, rel=1e-5) and set(values) == {"loss", "info_nce", "triplet", "identity"}
    assert values["loss"] == pytest.approx(values["info_nce"] + 0.5 * values["triplet"] + 0.25 * values["identity"])
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("losses", [Losses(1, 0, 0), Losses(0, 1, 0), Losses(0, 0, 1)], ids=str)
def test_micro_batches_with_one_loss_alone(losses: Losses) -> None:
    trainee = Trainee(fresh(), classes=4 if losses.identity else 0)
    whole, _ = gradients(trainee, losses)
    parts, _ = gradients(trainee, losses, micro_batch=3)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


_SHARE = """
import sys, torch, torch.distributed as dist
rank, folder = int(sys.argv[1]), sys.argv[2]
sys.path.insert(0, sys.argv[3])
torch.set_num_threads(1)
from reid.dual_backbone import Architecture, DualBackboneNet
from reid.recipe import Losses
from reid.training_step import Trainee, backward
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
images = torch.randint(0, 256, (8, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
own = slice(4 * rank, 4 * rank + 4)
people, classes = torch.tensor([4, 4, 7, 7, 9, 9, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
for micro in (None, 2):
    torch.manual_seed(5)
    trainee = Trainee(DualBackboneNet(Architecture("test_convnext", "test_vit", 64, 32, 16, 16)), classes=4)
    model = torch.nn.parallel.DistributedDataParallel(trainee)
    backward(model, images[own], people[own], classes[own], Losses(1.0, 0.5, 0.25), micro_batch=micro)
    torch.save([p.grad for p in trainee.parameters()], f"{folder}/{rank}-{micro}.pt")
dist.destroy_process_group()
"""


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SHARE]
    ends = [str(tmp_path), str(Path.cwd())]
    running = [subprocess.Popen([*command, str(rank), *ends], stderr=subprocess.PIPE, text=True) for rank in (0, 1)]
    said = [process.communicate(timeout=250)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    torch.manual_seed(5)
    alone, _ = gradients(Trainee(DualBackboneNet(TINY), classes=4))
    for file in sorted(tmp_path.glob("*.pt")):
        for a, b in zip(alone, torch.load(file, weights_only=True), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert len(list(tmp_path.glob("*.pt"))) == 4


# The loop


def test_the_loss_falls_and_every_epoch_is_told(data: ReidData, tmp_path: Path) -> None:
    recipe = replace(QUICK, epochs=8, evaluate_every=8, augmentation=NO_AUGMENTATION)
    seen: list[tuple[str, float, float | None]] = []
    rows: list[dict[str, float]] = []
    done = train(fresh(), data, recipe, tmp_path, on_progress=lambda *step: seen.append(step), on_epoch=rows.append)
    assert [row["epoch"] for row in done.history] == list(range(9)) and list(done.history) == rows
    assert done.history[-1]["loss"] < 0.6 * done.history[1]["loss"]
    assert done.history[-1]["mAP_standard"] == score(done.network, data).mAP_standard
    assert seen[-1] == ("training", 8.0, 8) and ("this epoch", 6.0, 6) in seen
    assert not done.network.training and (tmp_path / NAME).is_file()


def test_a_stopped_training_ends_as_one_that_was_not(data: ReidData, tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = train(fresh(), data, QUICK, tmp_path / "whole")

    stop = threading.Event()

    def leave(stage: str, done: float, total: float | None) -> None:
        if stage == "training" and done > 1.4:
            stop.set()

    parts = train(fresh(), data, QUICK, tmp_path / "parts", stop=stop, on_progress=leave)
    assert parts.interrupted and len(parts.history) == 2
    torch.manual_seed(99)  # whatever happens in between
    resumed = train(new_network(TINY), data, QUICK, tmp_path / "parts", resume=True)
    assert same(resumed.network, whole.network) and not resumed.interrupted
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in a.items() if k != "images_per_s"} == {
            k: v for k, v in b.items() if k != "images_per_s"
        }


def test_workers_change_nothing(data: ReidData, tmp_path: Path) -> None:
    recipe = replace(QUICK, epochs=1)
    here = train(fresh(), data, recipe, tmp_path)
    beside = train(fresh(), data, replace(recipe, batch=replace(recipe.batch, workers=1)), tmp_path)
    assert same(here.network, beside.network)


def test_memory_that_runs_out_halves_what_passes_at_once(
    data: ReidData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = train(fresh(), data, replace(QUICK, epochs=1), tmp_path)
    passed: list[int] = []
    features = DualBackboneNet.features

    def small_device(self: DualBackboneNet, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            passed.append(len(images))
            if len(images) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return features(self, images)

    monkeypatch.setattr(DualBackboneNet, "features", small_device)
    done = train(fresh(), data, replace(QUICK, epochs=1), tmp_path)
    assert passed[0] == 6 and set(passed[1:]) == {3}
    assert caplog.messages == ["out of memory: going on with 3 images at once"]
    for a, b in zip(plain.network.parameters(), done.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)  # the same steps, in another order of sums
    assert torch.load(tmp_path / NAME, weights_only=True)["micro_batch"] == 3

    def full(self: DualBackboneNet, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(DualBackboneNet, "features", full)
    monkeypatch.setattr("reid.training.score", lambda network, data: None)
    with pytest.raises(TrainingError, match="out of memory with 2 images at once; lower"):
        train(fresh(), data, QUICK, tmp_path)
    monkeypatch.setattr(DualBackboneNet, "features", lambda self, images: images @ images)
    with pytest.raises(RuntimeError, match="size"):  # a bug stays one
        train(fresh(), data, QUICK, tmp_path)


def test_pcb_with_all_losses_and_its_published_optimiser(data: ReidData, tmp_path: Path) -> None:
    recipe = replace(
        QUICK,
        epochs=1,
        losses=Losses(info_nce=0, triplet=1, identity=1),
        optimisation=Optimisation(name="sgd", lr=0.01, heads_lr=10, schedule="step", step_epochs=1, warmup_epochs=0),
        ema_decay=0,
    )
    network = fresh(PcbArchitecture("test_resnet", 96, 32, 6, 8))
    done = train(network, data, recipe, tmp_path)
    assert done.network is network
    assert {"loss", "triplet", "identity"} <= done.history[1].keys() and "info_nce" not in done.history[1]
    saved = torch.load(tmp_path / NAME, weights_only=True)
    assert saved["trainee"]["heads.5.weight"].shape == (6, 8)
    assert [group["top_lr"] for group in saved["optimizer"]["param_groups"]] == [0.01, 0.1]


@pytest.mark.parametrize(
    "recipe",
    [
        replace(QUICK, epochs=1, batch=Batch("triplets", people=4)),
        replace(QUICK, epochs=1, precision="bf16"),
        replace(QUICK, epochs=1, batch=Batch(people=3, images=2, micro_batch=2)),
    ],
    ids=["triplets", "bfloat16", "micro-batches"],
)
def test_other_ways_to_train(data: ReidData, tmp_path: Path, recipe: Recipe) -> None:
    done = train(fresh(), data, recipe, tmp_path)
    assert 0 < done.history[-1]["loss"] < 20
    assert all(torch.isfinite(weights).all() for weights in done.network.parameters())


def test_embeddings_follow_the_order_of_the_pictures(data: ReidData) -> None:
    network = fresh()
    rows = embed_pictures(network, data.query, batch=3)
    backwards = embed_pictures(network, data.query[::-1])
    assert rows.shape == (8, 16)
    torch.testing.assert_close(torch.tensor(rows), torch.tensor(backwards[::-1].copy()))
    assert score(network, replace(data, query=())) is None


# What does not fit


def test_a_checkpoint_of_another_training_is_not_continued(data: ReidData, tmp_path: Path) -> None:
    recipe = replace(QUICK, epochs=1)
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(fresh(), data, recipe, tmp_path, resume=True)
    train(fresh(), data, recipe, tmp_path)
    other = replace(recipe, epochs=2, batch=replace(recipe.batch, images=3))
    with pytest.raises(CheckpointError, match=r"another training \(recipe.batch.images, recipe.epochs differ\)"):
        train(fresh(), data, other, tmp_path, resume=True)
    whole = (tmp_path / NAME).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\x80\x04N."):
        (tmp_path / NAME).write_bytes(content)
        with pytest.raises(CheckpointError, match="start anew"):
            train(fresh(), data, recipe, tmp_path, resume=True)


def test_a_loss_that_explodes_is_said(data: ReidData, tmp_path: Path) -> None:
    wild = replace(QUICK, optimisation=Optimisation(lr=1e30, warmup_epochs=0), ema_decay=0)
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, step \d: lower optimisation.lr"):
        train(fresh(), data, wild, tmp_path)


def test_recipes_that_do_not_fit(data: ReidData, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"batch.people is 7, but there are 6 people to train on; lower it to 6"):
        train(fresh(), data, replace(QUICK, batch=Batch(people=7)), tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="fp16 needs a GPU"):
            train(fresh(), data, replace(QUICK, precision="fp16"), tmp_path)
    for bad in (
        lambda: Batch(people=1),
        lambda: Batch("all"),
        lambda: Batch(micro_batch=1),
        lambda: Losses(info_nce=0),
        lambda: Losses(scale=0),
        lambda: Optimisation(name="lion"),
        lambda: Optimisation(lr=0),
        lambda: Recipe(epochs=0),
        lambda: Recipe(precision="int8"),
        lambda: Augmentation(flip=2),
        lambda: Augmentation(cast=1),
    ):
        with pytest.raises(ValueError, match="must"):
            bad()


@given(st.integers(1, 60), st.floats(0, 20), st.sampled_from(["cosine", "step"]))
def test_the_learning_rate_rises_then_falls(epochs: int, warmup: float, schedule: str) -> None:
    how = Optimisation(warmup_epochs=warmup, schedule=schedule, step_epochs=7)
    rates = [rate_factor(how, epochs * n / 50, epochs) for n in range(51)]
    top = rates.index(max(rates))
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_a_trained_file_is_an_encoder(data: ReidData, tmp_path: Path) -> None:
    from reid.dual_backbone import save
    from reid.network_files import load_own, read_card

    done = train(fresh(), data, replace(QUICK, epochs=1), tmp_path)
    save(done.network, tmp_path / "net.safetensors", {"commit": "abc", "scores": {"rank-1": 0.5}})
    assert read_card(tmp_path / "net.safetensors")["scores"] == {"rank-1": 0.5}
    assert same(load(tmp_path / "net.safetensors"), done.network)
    assert same(load_own(tmp_path / "net.safetensors"), done.network)
