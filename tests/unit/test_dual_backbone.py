"""DualBackboneNet: shapes at every step, weights that can be inspected, files that stand alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from reid.encoders import EncoderError, load_encoder

torch = pytest.importorskip("torch")

from reid.dual_backbone import Architecture, DualBackboneNet, load, save  # noqa: E402

SMALL = Architecture("resnet10t", "vit_tiny_patch16_224", height_px=64, width_px=32, projection_dim=16, embedding_dim=8)


@pytest.fixture(scope="module")
def small() -> DualBackboneNet:
    torch.manual_seed(0)
    return DualBackboneNet(SMALL).eval()


def images(n: int, architecture: Architecture = SMALL) -> torch.Tensor:
    return torch.rand(n, 3, architecture.height_px, architecture.width_px, generator=torch.Generator().manual_seed(1))


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@torch.inference_mode()
def test_shapes_and_weights_of_one_pass(small: DualBackboneNet) -> None:
    seen = small.inspect(images(3))
    assert seen.embedding.shape == (3, 8)
    assert seen.weights.shape == (3, 2)
    assert seen.branches.shape == (3, 2, 16)
    torch.testing.assert_close(seen.embedding.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(seen.weights.sum(dim=1), torch.ones(3))
    assert (seen.weights >= 0).all()
    torch.testing.assert_close(seen.embedding, small(images(3)))


@torch.inference_mode()
def test_the_embedding_follows_the_drawing(small: DualBackboneNet) -> None:
    """The formula of the module's page, one image at a time."""
    seen = small.inspect(images(2))
    for n in range(2):
        local, overall = seen.branches[n]
        hidden = torch.relu(small.attention[0](torch.cat([local, overall])))
        w1, w2 = torch.softmax(small.attention[2](hidden), dim=0)
        out = small.head(w1 * local + w2 * overall)
        torch.testing.assert_close(seen.embedding[n], out / out.norm())


@torch.inference_mode()
def test_ablation_silences_the_other_branch(small: DualBackboneNet) -> None:
    local_only = small.inspect(images(2), weights=torch.tensor([1.0, 0.0]))
    assert local_only.weights.tolist() == [[1, 0], [1, 0]]
    expected = torch.nn.functional.normalize(small.head(local_only.branches[:, 0]), dim=1)
    torch.testing.assert_close(local_only.embedding, expected)
    assert not torch.allclose(local_only.embedding, small(images(2)))


def test_gradients_reach_both_branches_and_the_attention(small: DualBackboneNet) -> None:
    small.zero_grad()
    small(images(2))[:, 0].sum().backward()
    for part in (small.local_branch, small.global_branch, small.attention, small.head):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_the_real_one_has_the_size_of_its_parts() -> None:
    import timm

    network = DualBackboneNet().eval()
    resnet = timm.create_model("resnet50", num_classes=0)
    vit = timm.create_model("vit_base_patch16_224", num_classes=0, img_size=(256, 128))
    projections = (2048 * 128 + 128) + (768 * 128 + 128)
    fusion = (256 * 128 + 128) + (128 * 2 + 2) + (128 * 128 + 128)
    assert parameters(network) == parameters(resnet) + parameters(vit) + projections + fusion
    with torch.inference_mode():
        seen = network.inspect(images(2, network.architecture))
    assert seen.embedding.shape == (2, 128)
    assert seen.branches.shape == (2, 2, 128)
    assert torch.isfinite(seen.embedding).all()


@torch.inference_mode()
def test_any_two_backbones_and_sizes_fit() -> None:
    architecture = replace(SMALL, local_backbone="mobilenetv3_small_050", global_backbone="resnet10t", height_px=96)
    assert DualBackboneNet(architecture).eval()(images(2, architecture)).shape == (2, 8)


def test_position_embeddings_fit_the_input() -> None:
    tokens = DualBackboneNet(SMALL).global_branch.backbone.pos_embed.shape[1]
    assert tokens == 64 // 16 * (32 // 16) + 1  # patches and the class token


@torch.inference_mode()
def test_square_input_is_possible() -> None:
    square = replace(SMALL, height_px=224, width_px=224)
    network = DualBackboneNet(square).eval()
    assert network.global_branch.backbone.pos_embed.shape[1] == 14 * 14 + 1
    assert network(images(1, square)).shape == (1, 8)


@pytest.mark.parametrize("size_px", [(128, 64), (224, 224)])
def test_pretrained_position_embeddings_are_interpolated(tmp_path: Path, size_px: tuple[int, int]) -> None:
    """A ramp over the 14 x 14 patches of published weights is a ramp over the patches of another input."""
    import timm
    from safetensors.torch import save_file

    vit = timm.create_model("vit_tiny_patch16_224", num_classes=1000)
    state = vit.state_dict()
    ramp = torch.linspace(-1, 1, 14).repeat_interleave(14)  # from top to bottom
    state["pos_embed"][0, 1:] = ramp[:, None]
    save_file(state, tmp_path / "vit.safetensors")
    wide = replace(SMALL, height_px=size_px[0], width_px=size_px[1])
    network = DualBackboneNet(wide, {"vit_tiny_patch16_224": tmp_path / "vit.safetensors"})
    rows, columns = size_px[0] // 16, size_px[1] // 16
    grid = network.global_branch.backbone.pos_embed[0, 1:, 0].detach().view(rows, columns)
    torch.testing.assert_close(grid.min(dim=1).values, grid.max(dim=1).values)
    assert (grid[:, 0].diff() > 0).all() and grid[0, 0] < -0.8 and grid[-1, 0] > 0.8
    torch.testing.assert_close(
        network.global_branch.backbone.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"]
    )


@pytest.mark.parametrize(("only", "share"), [("local", [1, 0]), ("global", [0, 1])])
@torch.inference_mode()
def test_a_network_may_have_one_branch_only(small: DualBackboneNet, tmp_path: Path, only: str, share: list) -> None:
    architecture = replace(SMALL, branches=only)
    torch.manual_seed(0)
    network = DualBackboneNet(architecture).eval()
    seen = network.inspect(images(2))
    assert seen.weights.tolist() == [share, share]
    own = share.index(1)
    expected = torch.nn.functional.normalize(network.head(seen.branches[:, own]), dim=1)
    torch.testing.assert_close(seen.embedding, expected)
    assert (seen.branches[:, 1 - own] == 0).all()
    there = {"local": small.local_branch, "global": small.global_branch}[only]
    assert parameters(network) == parameters(there) + parameters(small.head)
    save(network, tmp_path / "net.safetensors")
    torch.testing.assert_close(load(tmp_path / "net.safetensors")(images(2)), seen.embedding)
    with pytest.raises(ValueError, match=f"its {only} branch only"):
        network.inspect(images(2), weights=torch.tensor([0.5, 0.5]))


def test_an_architecture_is_checked() -> None:
    with pytest.raises(ValueError, match="branches must be one of both, local, global, got 'left'"):
        replace(SMALL, branches="left")
    with pytest.raises(ValueError, match="must be positive"):
        replace(SMALL, width_px=0)


def test_each_branch_normalises_as_it_was_trained(small: DualBackboneNet) -> None:
    assert small.local_branch.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert small.global_branch.mean.flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_saved_network_gives_the_same_embeddings(small: DualBackboneNet, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save({"architecture": asdict(SMALL), "state_dict": small.state_dict()}, path)
    else:
        save(small, path)
    again = load(path)
    assert again.architecture == SMALL
    assert not again.training
    with torch.inference_mode():
        torch.testing.assert_close(again(images(3)), small(images(3)))


def test_the_encoder_embeds_crops_alike_at_any_batch(small: DualBackboneNet, tmp_path: Path) -> None:
    save(small, tmp_path / "net.safetensors")
    encode = load_encoder("mine", tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 255, (int(h), 30, 3), dtype=np.uint8) for h in rng.integers(40, 120, 5)]
    got = encode(crops)
    assert (encode.name, encode.dim, got.shape, got.dtype) == ("mine", 8, (5, 8), np.float32)
    np.testing.assert_allclose(np.concatenate([encode([crop]) for crop in crops]), got, atol=1e-5)
    assert encode([]).shape == (0, 8)


def test_the_encoder_feeds_rgb(small: DualBackboneNet, tmp_path: Path) -> None:
    save(small, tmp_path / "net.safetensors")
    blue = np.zeros((64, 32, 3), np.uint8)
    blue[..., 0] = 255
    rgb = torch.zeros(1, 3, 64, 32)
    rgb[:, 2] = 1
    with torch.inference_mode():
        expected = small(rgb).numpy()
    np.testing.assert_allclose(load_encoder("mine", tmp_path / "net.safetensors")([blue]), expected, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
def test_the_gpu_agrees_with_the_cpu(small: DualBackboneNet, tmp_path: Path) -> None:
    save(small, tmp_path / "net.safetensors")
    crops = [np.random.default_rng(n).integers(0, 255, (90, 40, 3), dtype=np.uint8) for n in range(4)]
    on_cpu, on_gpu = (load_encoder("mine", tmp_path / "net.safetensors", device)(crops) for device in ("cpu", "cuda:0"))
    assert (on_cpu * on_gpu).sum(axis=1).min() > 0.999


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(small: DualBackboneNet, tmp_path: Path) -> None:
    save(small, tmp_path / "net.safetensors")
    with pytest.raises(EncoderError, match="torch sees no GPU; use cpu"):
        load_encoder("mine", tmp_path / "net.safetensors", "cuda:0")


def test_an_unknown_backbone_is_refused_with_its_neighbours() -> None:
    with pytest.raises(EncoderError, match=r"no backbone 'resnet5000'; near: .*resnet"):
        DualBackboneNet(replace(SMALL, local_backbone="resnet5000"))


def test_weights_of_something_else_are_refused(small: DualBackboneNet, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "net.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(EncoderError, match="not an Identrix network"):
        load(path)
    save_file(
        {"a": torch.zeros(2)}, path, metadata={"identrix.dual_backbone": '{"local_backbone": "resnet10t", "x": 1}'}
    )
    with pytest.raises(EncoderError, match="not understood"):
        load(path)
    from dataclasses import asdict

    torch.save(
        {"architecture": asdict(replace(SMALL, embedding_dim=9)), "state_dict": small.state_dict()}, tmp_path / "a.pth"
    )
    with pytest.raises(EncoderError, match="weights of another network") as caught:
        load(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    torch.save({"state_dict": {}}, tmp_path / "b.pth")
    with pytest.raises(EncoderError, match="not an Identrix network"):
        load(tmp_path / "b.pth")


def test_a_file_cut_short_is_refused(small: DualBackboneNet, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save(small, path)
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(EncoderError, match="cannot be read as safetensors"):
        load(path)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "run"

    class Payload:
        def __reduce__(self) -> tuple:
            return Path.touch, (marker,)

    torch.save({"architecture": Payload(), "state_dict": {}}, tmp_path / "bad.pth")
    with pytest.raises(EncoderError, match="weights-only"):
        load(tmp_path / "bad.pth")
    assert not marker.exists()
