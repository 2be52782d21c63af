"""What runs a network: memory that runs out, OSNet checkpoints, exports that agree with torch, providers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from door import identrix
from tiny_onnx import write_channel_means

from reid.batching import Batches
from reid.encoders import EncoderError, Preprocessing, Speed, load_encoder
from reid.onnx_encoder import OnnxEncoder, providers_for

torch = pytest.importorskip("torch")

from reid import export  # noqa: E402
from reid.dual_backbone import Architecture, DualBackboneNet, save  # noqa: E402
from reid.osnet import OSNet, osnet_from  # noqa: E402
from reid.torch_encoder import TorchEncoder  # noqa: E402

SMALL = Architecture("resnet10t", "vit_tiny_patch16_224", height_px=64, width_px=32, projection_dim=16, embedding_dim=8)


def noise(n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (64, 32, 3), dtype=np.uint8) for _ in range(n)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual backbone with weights of its own."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save(DualBackboneNet(SMALL), path)
    return path


def full_at(limit: int, calls: list[int], error: type[Exception] = RuntimeError):
    """A network whose device has room for `limit` crops."""

    def run(part):
        calls.append(len(part))
        if len(part) > limit:
            raise error("CUDA out of memory. Tried to allocate 20.00 MiB")
        return part * 2

    return run


def test_a_full_device_halves_the_batch_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    freed: list[int] = []
    batches = Batches("net", full_at(3, calls), free=lambda: freed.append(1))
    rows = np.arange(20.0).reshape(10, 2)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(batches(rows), rows * 2)
    assert calls == [10, 5, 2, 2, 2, 2, 2]
    assert len(freed) == 2
    assert [r.message for r in caplog.records][-1] == "net: out of memory at a batch of 5; going on with 2"
    calls.clear()
    batches(rows[:4])
    assert calls == [2, 2]  # remembered


def test_a_device_too_full_for_one_crop_says_so() -> None:
    with pytest.raises(EncoderError, match="net: the device is out of memory with a single crop; use --device cpu"):
        Batches("net", full_at(0, []))(np.ones((4, 2)))


def test_another_error_is_not_taken_for_a_full_device() -> None:
    calls: list[int] = []

    def run(part):
        calls.append(len(part))
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Batches("net", run)(np.ones((4, 2)))
    assert calls == [4]


def test_torch_encoder_goes_on_when_memory_runs_out(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = TorchEncoder("small", small)
    whole = encode(noise(6))
    network, seen = encode._network, []

    def scarce(images):
        seen.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return network(images)

    monkeypatch.setattr(encode, "_network", scarce)
    np.testing.assert_allclose(encode(noise(6)), whole, atol=1e-5)
    assert seen == [6, 3, 1, 1, 1, 1, 1, 1]


def test_onnx_encoder_goes_on_when_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = OnnxEncoder("net", write_channel_means(tmp_path / "net.onnx"), Preprocessing())
    whole = encode(noise(5))
    session = encode._session

    class Scarce:
        def run(self, names, inputs):
            if len(next(iter(inputs.values()))) > 2:
                raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 1073741824")
            return session.run(names, inputs)

    monkeypatch.setattr(encode, "_session", Scarce())
    np.testing.assert_allclose(encode(noise(5)), whole, atol=1e-6)


def test_providers_in_order() -> None:
    every = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert providers_for("cpu", every, Speed()) == [("CPUExecutionProvider", {})]
    assert providers_for("cuda:1", every, Speed())[0] == ("CUDAExecutionProvider", {"device_id": 1})
    first = providers_for("cuda:0", every, Speed(half=True, tensorrt=True))[0]
    assert first == ("TensorrtExecutionProvider", {"device_id": 0, "trt_fp16_enable": True})


def test_a_gpu_that_onnx_runtime_cannot_use_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime can use a GPU")
    with caplog.at_level(logging.WARNING):
        OnnxEncoder("net", write_channel_means(tmp_path / "net.onnx"), Preprocessing(), "cuda:0")
    assert "no CUDA provider" in caplog.text


def test_half_precision_needs_a_gpu(small: Path) -> None:
    with pytest.raises(EncoderError, match="half precision needs a GPU"):
        load_encoder("small", small, speed=Speed(half=True))


def test_compiling_goes_through_torch_compile_or_says_that_it_cannot(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real compiling takes minutes on a busy machine: the benchmark does that."""
    asked: list[dict] = []

    def compiled(network, **options):
        asked.append(options)
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    np.testing.assert_array_equal(
        load_encoder("small", small, speed=Speed(compile=True))(noise(2)), load_encoder("small", small)(noise(2))
    )
    assert asked == [{"dynamic": True}]

    def broken(network, **options):
        def run(images):
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler\nmore")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(EncoderError, match=r"small: torch\.compile does not work here, leave reid\.compile out: Inv"):
        load_encoder("small", small, speed=Speed(compile=True))


def test_a_torch_network_that_gives_nan_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DualBackboneNet(SMALL)
    torch.nn.init.constant_(network.head.bias, float("nan"))
    save(network, tmp_path / "nan.safetensors")
    with pytest.raises(EncoderError, match="not finite"):
        load_encoder("nan", tmp_path / "nan.safetensors")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("half", [False, True])
def test_a_gpu_agrees_with_the_cpu(small: Path, half: bool) -> None:
    on_gpu = load_encoder("small", small, "cuda:0", speed=Speed(half=half))(noise(9))
    np.testing.assert_allclose(on_gpu, load_encoder("small", small)(noise(9)), atol=2e-2 if half else 1e-3)


# ---------------------------------------------------------------------------------------------------- OSNet


def test_osnet_of_torchreid_agrees_with_its_export(models_dir: Path) -> None:
    paths = [models_dir / f"osnet_x0_25_msmt17.{end}" for end in ("pth", "onnx")]
    if not all(path.exists() for path in paths):
        pytest.skip("no OSNet as both .pth and .onnx")
    ours, theirs = (load_encoder("osnet", path)(noise(5)) for path in paths)
    assert ours.shape == (5, 512)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_osnet_is_found_by_its_name_as_a_checkpoint_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.weights import resolve

    (tmp_path / "osnet_x0_25_msmt17.pth").write_bytes(b"x")
    monkeypatch.setenv("IDENTRIX_MODELS", str(tmp_path))
    assert resolve("osnet") == tmp_path / "osnet_x0_25_msmt17.pth"
    (tmp_path / "osnet_x0_25_msmt17.onnx").write_bytes(b"x")
    assert resolve("osnet") == tmp_path / "osnet_x0_25_msmt17.onnx"


@pytest.mark.parametrize("widths", [[16, 64, 96, 128], [32, 128, 192, 256]])
def test_osnet_reads_its_widths_from_the_checkpoint(tmp_path: Path, widths: list[int]) -> None:
    torch.manual_seed(0)
    network = OSNet(widths, 64).eval()
    state = {f"module.{k}": v for k, v in network.state_dict().items()}
    state["module.classifier.weight"] = torch.zeros(5, 64)
    torch.save({"state_dict": state}, tmp_path / "osnet.pth")
    images = torch.rand(2, 3, 256, 128)
    with torch.inference_mode():
        torch.testing.assert_close(osnet_from(state)(images), network(images))
    assert load_encoder("mine", tmp_path / "osnet.pth").dim == 64


def test_osnet_of_another_kind_is_refused() -> None:
    state = OSNet([16, 64, 96, 128], 64).state_dict()
    with pytest.raises(EncoderError, match="a variant of OSNet that is not known"):
        osnet_from({**state, "conv2.0.IN.weight": torch.ones(64)})
    with pytest.raises(EncoderError, match="weights of another OSNet"):
        osnet_from({**state, "conv5.conv.weight": torch.ones(99, 128, 1, 1)})
    with pytest.raises(EncoderError, match="not a torchreid OSNet"):
        osnet_from({"conv1.conv.weight": torch.ones(16, 3, 7, 7)})


# ---------------------------------------------------------------------------------------------------- export


def test_an_export_agrees_with_torch_at_every_batch(small: Path, tmp_path: Path) -> None:
    done = identrix("export-model", small, tmp_path / "small.onnx", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["differences"].keys() == {"1", "2", "32"}
    assert max(said["differences"].values()) < 1e-4
    assert {p.name for p in tmp_path.iterdir()} == {"small.onnx", "small.yaml"}
    original, exported = load_encoder("small", small), load_encoder("any", tmp_path / "small.yaml")
    assert isinstance(exported, OnnxEncoder)
    assert exported.fixed_batch is None
    for batch in (1, 2, 32):
        np.testing.assert_allclose(exported(noise(batch)), original(noise(batch)), atol=1e-4)


def test_a_pcb_is_exported_the_same_way(tmp_path: Path) -> None:
    from reid import pcb

    torch.manual_seed(0)
    pcb.save(pcb.PCB(pcb.PcbArchitecture("resnet10t", 96, 32, parts=3, part_dim=4)), tmp_path / "pcb.safetensors")
    done = export.export_onnx(tmp_path / "pcb.safetensors", tmp_path / "pcb.onnx")
    assert (done.dim, max(done.differences.values()) < 1e-4) == (12, True)
    np.testing.assert_allclose(
        load_encoder("any", done.card)(noise(3)), load_encoder("any", tmp_path / "pcb.safetensors")(noise(3)), atol=1e-4
    )


def test_an_export_that_disagrees_is_not_written(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export with the batch written into it, right for one crop only."""

    def wrong(module, images, path, source, outputs):
        write_channel_means(path, ["batch", 3, 64, 32], mixes_batch=True)

    class Means(torch.nn.Module):
        def forward(self, images):
            return images.mean(dim=(2, 3)) * 2

    monkeypatch.setattr(export, "_export", wrong)
    images = export._pictures(32, 64, 32)
    write_channel_means(tmp_path / "probe.onnx", ["batch", 3, 64, 32], mixes_batch=True)
    differences = export.compare(Means(), tmp_path / "probe.onnx", images)
    assert differences[1] < 1e-6 < 1e-3 < differences[32]
    done = identrix("export-model", small, tmp_path / "bad.onnx")
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["probe.onnx"]


def test_what_cannot_be_exported_is_one_clear_line(small: Path, tmp_path: Path) -> None:
    write_channel_means(tmp_path / "net.onnx")
    (tmp_path / "junk.pth").write_bytes(b"x" * 100)
    for model, out, code, says in (
        (tmp_path / "net.onnx", tmp_path / "out.onnx", 2, "is an export already"),
        (tmp_path / "junk.pth", tmp_path / "out.onnx", 2, "cannot be read"),
        (tmp_path / "gone.pth", tmp_path / "out.onnx", 2, "no weights at"),
        (small, tmp_path / "out.xml", 2, "must end in .onnx"),
        (small, tmp_path / "absent" / "out.onnx", 3, "cannot write"),
    ):
        done = identrix("export-model", model, out)
        assert (done.exit_code, len(done.stderr.strip().splitlines())) == (code, 1), done.stderr
        assert says in done.stderr
    assert not (tmp_path / "out.onnx").exists()
