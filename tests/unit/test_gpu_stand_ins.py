"""What happens on a GPU, as far as a machine without one can show it: choices, types and fall-backs, with stand-ins.

Memory that runs out is in test_engines_of_encoders.py and test_training.py, torch.compile in the former. Nothing here
proves that a GPU computes the right thing: tests that need one are skipped without.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reid_folders import market

from pipeline.engines import DeviceError, choose_device
from reid.datasets import ReidData, read_data
from reid.encoders import Speed, load_encoder
from reid.loading import batches, cpus
from reid.onnx_encoder import providers_for
from reid.recipe import Batch, Losses, Optimisation, Recipe, RecipeError
from reid.reranking import cosine_rows

torch = pytest.importorskip("torch")

from reid import training  # noqa: E402
from reid.dual_backbone import Architecture, DualBackboneNet, save  # noqa: E402
from reid.training_step import Trainee, backward  # noqa: E402

TINY = Architecture("test_convnext", "test_vit", 64, 32, 16, 16)


@pytest.fixture
def data(tmp_path: Path) -> ReidData:
    return read_data(market(tmp_path / "market"))


def test_a_device_is_chosen_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, count, wanted, got in ((False, 0, "auto", "cpu"), (True, 2, "auto", "cuda:0"), (True, 2, "cpu", "cpu"),
                                      (True, 2, "cuda", "cuda:0"), (True, 2, "cuda:1", "cuda:1")):  # fmt: skip
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert choose_device(wanted) == got
    with pytest.raises(DeviceError, match="device cuda:2: this machine has no such GPU"):
        choose_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="say auto or cpu"):
        choose_device("cuda:0")


def test_half_precision_gives_nearly_the_same_unit_vectors(tmp_path: Path) -> None:
    """The encoder's half path on a CPU: float16 in the network, float32 and length 1 out of it."""
    torch.manual_seed(0)
    save(DualBackboneNet(TINY), tmp_path / "net.safetensors")
    whole, half = (load_encoder("net", tmp_path / "net.safetensors") for _ in range(2))
    half._half, half._network = True, half._network.half()
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 255, (80, 40, 3), dtype=np.uint8) for _ in range(4)]
    found, weights = half.weighed(crops)
    assert found.dtype == weights.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert 0 < np.abs(found - whole(crops)).max() < 2e-2
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def test_auto_takes_bfloat16_where_the_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_it, kind in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has_it=has_it: has_it)
        assert training._precision(Recipe(), "cuda:0") is kind
    assert training._precision(Recipe(), "cpu") is None  # without hardware for it tens of times slower
    for name, kind in (("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        assert training._precision(Recipe(precision=name), "cuda:0") is kind
    with pytest.raises(RecipeError, match="fp16 needs a GPU"):
        training._precision(Recipe(precision="fp16"), "cpu")


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_float16_with_a_scaled_loss_has_nearly_the_same_gradients(micro_batch: int | None) -> None:
    """Autocast and scaling as on a GPU without bfloat16, computed on a CPU."""
    torch.manual_seed(5)
    trainee = Trainee(DualBackboneNet(TINY), classes=4)
    images = torch.randint(0, 256, (8, 3, 64, 32), dtype=torch.uint8)
    people = torch.arange(4).repeat_interleave(2)
    found = []
    for options in ({}, {"autocast": lambda: torch.autocast("cpu", torch.float16), "scale": lambda loss: loss * 256}):
        trainee.zero_grad()
        losses = Losses(1.0, 0.5, 0.25)
        values = backward(trainee, images, people, people, losses, micro_batch=micro_batch, **options)
        scale = 256 if options else 1
        found.append((values["loss"], torch.cat([p.grad.flatten() / scale for p in trainee.parameters()])))
    (whole, a), (half, b) = found
    assert half == pytest.approx(whole, rel=0.01)
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.99
    assert b.norm() == pytest.approx(float(a.norm()), rel=0.05)


def test_float16_training_keeps_its_scale(data: ReidData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed training goes on with the scale it had found: its first steps may overflow and are then left out."""
    recipe = Recipe(
        epochs=1,
        batch=Batch(people=3, images=2),
        optimisation=Optimisation(warmup_epochs=0),
        evaluate_every=9,
    )
    monkeypatch.setattr(training, "_precision", lambda recipe, device: torch.float16)
    done = training.train(DualBackboneNet(TINY), data, recipe, tmp_path)
    assert 0 < done.history[-1]["loss"] < 20
    assert all(torch.isfinite(weights).all() for weights in done.network.parameters())
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["scaler"]
    assert 0 < saved["scale"] <= 65536


def test_images_are_read_by_processes_and_pinned_for_a_gpu(data: ReidData, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(batch=Batch(people=3, images=2))
    on_gpu, on_cpu = (batches(data, recipe, TINY, 0, device) for device in ("cuda:0", "cpu"))
    monkeypatch.setattr("reid.loading.os.sched_getaffinity", lambda process: set(range(64)))
    assert cpus() == 64
    monkeypatch.undo()
    assert (on_gpu.num_workers, on_gpu.pin_memory) == (min(16, cpus()), True)  # more would make torch warn
    assert (on_cpu.num_workers, on_cpu.pin_memory) == (0, False)
    none = replace(recipe, batch=replace(recipe.batch, workers=0))
    assert batches(data, none, TINY, 0, "cuda:0").num_workers == 0


def test_distances_for_re_ranking_may_be_multiplied_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked: list[object] = []

    def to(self: object, device: object) -> object:
        asked.append(device)
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)
    here, there = cosine_rows(rows), cosine_rows(rows, "cuda:0")
    for start, stop in ((0, 50), (10, 13), (49, 50)):
        np.testing.assert_allclose(there(start, stop), here(start, stop), atol=1e-6)
    assert set(asked) == {"cuda:0"}


def test_tensorrt_that_is_not_there_is_not_asked_for() -> None:
    some = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    names = [name for name, _ in providers_for("cuda:0", some, Speed(half=True, tensorrt=True))]
    assert names == some
    assert [name for name, _ in providers_for("cuda:0", ["CPUExecutionProvider"], Speed(tensorrt=True))] == some[1:]
