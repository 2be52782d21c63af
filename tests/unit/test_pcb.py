"""PCB: shapes at every step, the drawing's formula, files that stand alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid.encoders import EncoderError, load_encoder

torch = pytest.importorskip("torch")

from reid import dual_backbone  # noqa: E402
from reid.network_files import load_own, read_card  # noqa: E402
from reid.pcb import PCB, PcbArchitecture, load, save  # noqa: E402

SMALL = PcbArchitecture("test_resnet", height_px=96, width_px=48, parts=6, part_dim=8)


@pytest.fixture(scope="module")
def small() -> PCB:
    torch.manual_seed(0)
    network = PCB(SMALL)
    network(images(8))  # batch norm has seen something
    return network.eval()


def images(n: int, architecture: PcbArchitecture = SMALL) -> torch.Tensor:
    return torch.rand(n, 3, architecture.height_px, architecture.width_px, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_the_real_one_has_the_published_shapes_and_size() -> None:
    import timm

    network = PCB().eval()
    pictures = images(1, network.architecture)
    assert network.backbone((pictures - network.mean) / network.std).shape == (1, 2048, 24, 12)
    assert network.features(pictures).shape == (1, 6, 256)
    assert network(pictures).shape == (1, 1536) == (1, network.architecture.embedding_dim)
    resnet = timm.create_model("resnet50", num_classes=0)
    reduction = 6 * (2048 * 256) + 2 * 6 * 256  # six matrices, batch norm's scale and shift
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in resnet.parameters()) + reduction
    # Stride, pooling and head are other; no weight is: ImageNet's fit.
    assert network.backbone.state_dict().keys() == resnet.state_dict().keys()


@torch.inference_mode()
def test_each_stripe_is_described_by_itself(small: PCB) -> None:
    pictures = images(3)
    maps = small.backbone((pictures - small.mean) / small.std)
    features = small.features(pictures)
    width = maps.shape[1]
    for part in range(6):
        stripe = maps[:, :, part : part + 1].mean(dim=(2, 3))  # the map is six rows high
        weight = small.reduce.weight.view(6, 8, width)[part]
        norm, own = small.norm, slice(part * 8, part * 8 + 8)
        expected = (stripe @ weight.T - norm.running_mean[own]) / (norm.running_var[own] + norm.eps).sqrt()
        torch.testing.assert_close(features[:, part], expected * norm.weight[own] + norm.bias[own])
    joined = torch.cat([torch.nn.functional.normalize(features[:, part], dim=1) for part in range(6)], dim=1)
    torch.testing.assert_close(small(pictures), joined / 6**0.5)
    torch.testing.assert_close(small(pictures).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("backbone", ["resnet10t", "test_resnet"])
@torch.inference_mode()
def test_the_last_stage_keeps_its_size(backbone: str) -> None:
    network = PCB(replace(SMALL, backbone=backbone)).eval()
    assert network.backbone(images(1)).shape[2:] == (6, 3)  # a sixteenth, not a thirty-second


def test_a_saved_network_gives_the_same_embeddings(small: PCB, tmp_path: Path) -> None:
    save(small, tmp_path / "net.safetensors", {"commit": "abc"})
    again = load(tmp_path / "net.safetensors")
    assert again.architecture == SMALL and not again.training
    assert read_card(tmp_path / "net.safetensors") == {"commit": "abc"}
    with torch.inference_mode():
        torch.testing.assert_close(again(images(3)), small(images(3)))
    assert isinstance(load_own(tmp_path / "net.safetensors"), PCB)


def test_it_is_an_encoder(small: PCB, tmp_path: Path) -> None:
    save(small, tmp_path / "net.safetensors")
    encode = load_encoder("pcb", tmp_path / "net.safetensors")
    rows = encode([np.full((60, 30, 3), 90, np.uint8)] * 2)
    assert rows.shape == (2, 48) == (2, encode.dim)


@torch.inference_mode()
def test_the_published_test_adds_the_mirror_image_first(small: PCB, tmp_path: Path) -> None:
    """Section 1 of the published method: features of image + mirror, then each part's length 1, then joined."""
    from reid.embedding import get_embeddings

    save(small, tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 255, (96, 48, 3), dtype=np.uint8) for _ in range(5)]
    pictures = torch.from_numpy(np.stack([crop[..., ::-1].transpose(2, 0, 1) for crop in crops])).float() / 255
    added = small.features(pictures) + small.features(pictures.flip(3))  # (5, 6, 8)
    expected = torch.cat([added[:, part] / added[:, part].norm(dim=1, keepdim=True) for part in range(6)], dim=1)
    found = get_embeddings(crops, load_encoder("pcb", tmp_path / "net.safetensors"), batch=2, flip=True)
    np.testing.assert_allclose(found, expected.numpy() / 6**0.5, atol=1e-5)
    plain = get_embeddings(crops, load_encoder("pcb", tmp_path / "net.safetensors"), batch=2)
    assert np.abs(found - plain).max() > 1e-3
    assert load_encoder("pcb", tmp_path / "net.safetensors").mirrored([]).shape == (0, 48)


def test_weights_of_another_architecture_are_refused(small: PCB, tmp_path: Path) -> None:
    dual = dual_backbone.DualBackboneNet(dual_backbone.Architecture("test_resnet", "test_vit", 64, 32, 8, 8))
    dual_backbone.save(dual, tmp_path / "dual.safetensors")
    with pytest.raises(EncoderError, match=r"no identrix.pcb in its metadata"):
        load(tmp_path / "dual.safetensors")
    save(small, tmp_path / "pcb.safetensors")
    with pytest.raises(EncoderError, match=r"no identrix.dual_backbone in its metadata"):
        dual_backbone.load(tmp_path / "pcb.safetensors")
    from reid.network_files import write_network

    key = "identrix.pcb"
    write_network(tmp_path / "other.safetensors", small.state_dict(), key, {"parts": 4, "backbone": "test_resnet"})
    with pytest.raises(EncoderError, match="weights of another network"):
        load(tmp_path / "other.safetensors")
    write_network(tmp_path / "odd.safetensors", small.state_dict(), key, {"stripes": 4})
    with pytest.raises(EncoderError, match="not understood"):
        load(tmp_path / "odd.safetensors")


def test_a_backbone_that_is_no_resnet_is_refused() -> None:
    with pytest.raises(EncoderError, match="needs a ResNet"):
        PCB(replace(SMALL, backbone="test_convnext"))
    with pytest.raises(ValueError, match="must be positive"):
        PcbArchitecture(parts=0)
