"""Exports of TransReID, CLIP-ReID and SOLIDER through the cards that ship: networks of their shape, random weights.

Their weights cannot be had here. What these networks have in common with the real ones is what an export can get wrong:
how they are fed (the card), what they give, a camera number, a second output, patches that overlap and are shuffled,
windows that do not divide the input. The recipe that exports them is the one of docs/encoders.md, taken from the page.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from door import ROOT

from reid.cards import read_card
from reid.encoders import Encoder, EncoderError, load_encoder, resized
from reid.onnx_encoder import OnnxEncoder
from reid.openvino_encoder import OpenVinoEncoder

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

CARDS = ROOT / "configs" / "cards"


class LikeTransReID(nn.Module):
    """ViT with a patch every 12 pixels and a camera's own embedding; the whole, and four groups of shuffled patches.

    images (N, 3, 256, 128), a camera number -> (N, 5 width)
    """

    def __init__(self, width: int, depth: int, heads: int, cameras: int = 6) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        self.patches = nn.Conv2d(3, width, 16, stride=12)
        count = ((256 - 16) // 12 + 1) * ((128 - 16) // 12 + 1)  # 21 x 10
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, count + 1, width))
        self.cameras = nn.Parameter(0.1 * torch.randn(cameras, 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.whole, self.part = (nn.Sequential(Block(width, heads, qkv_bias=True), nn.LayerNorm(width)) for _ in "ab")

    def forward(self, images, cam_label):
        seen = self.patches(images).flatten(2).transpose(1, 2)
        seen = torch.cat([self.token.expand(images.shape[0], -1, -1), seen], dim=1)
        seen = self.blocks(seen + self.positions + 3.0 * self.cameras[cam_label])
        token, patches = seen[:, :1], torch.cat([seen[:, 5:], seen[:, 1:5]], dim=1)  # shifted by four
        shuffled = patches.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        size = shuffled.shape[1] // 4
        groups = [self.part(torch.cat([token, shuffled[:, n * size : (n + 1) * size]], dim=1))[:, 0] for n in range(4)]
        return torch.cat([self.whole(seen)[:, 0], *(group / 4 for group in groups)], dim=1)


class LikeClipReID(nn.Module):
    """CLIP's image tower; what stands before its projection, and what comes out of it: (N, width + projected)."""

    def __init__(self, width: int, depth: int, heads: int, projected: int) -> None:
        super().__init__()
        import timm

        shape = {"img_size": (256, 128), "embed_dim": width, "depth": depth, "num_heads": heads}
        self.tower = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=projected, **shape)

    def forward(self, images):
        before = self.tower.forward_head(self.tower.forward_features(images), pre_logits=True)
        return torch.cat([before, self.tower.head(before)], dim=1)


class LikeSolider(nn.Module):
    """A Swin at 384x128, which its windows of 7 do not divide; gives feature maps, too."""

    def __init__(self, **shape: object) -> None:
        super().__init__()
        import timm

        self.base = timm.create_model("swin_base_patch4_window7_224", img_size=(384, 128), num_classes=0, **shape)

    def forward(self, images):
        maps = self.base.forward_features(images)
        return self.base.forward_head(maps), maps.permute(0, 3, 1, 2)


def recipe() -> dict[str, object]:
    """`export` of the page: the block in which it is defined, run."""
    page = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def export" in b]
    names: dict[str, object] = {}
    exec(block, names)
    return names


def small(kind: str) -> tuple[nn.Module, nn.Module, int]:
    """(the network, what is exported of it, its dimension)."""
    torch.manual_seed(0)
    made: dict[str, tuple[type[nn.Module], dict[str, object], int]] = {
        "transreid": (LikeTransReID, {"width": 24, "depth": 2, "heads": 4}, 5 * 24),
        "clipreid": (LikeClipReID, {"width": 24, "depth": 2, "heads": 4, "projected": 16}, 24 + 16),
        "solider": (LikeSolider, {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}, 64),
    }
    kind_of, shape, dimension = made[kind]
    network = kind_of(**shape).eval()
    with torch.no_grad():  # far from zero, so that what it says depends on the picture
        for weights in network.parameters():
            weights.mul_(4 if weights.ndim > 1 else 1)
    return network, recipe()["WithoutCamera"](network).eval() if kind == "transreid" else network, dimension


def crops(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.kron(rng.integers(0, 255, (8, 4, 3)), np.ones((int(s), 20, 1))).astype(np.uint8) for s in range(18, 18 + n)
    ]


def theirs(module: nn.Module, seen: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """As the projects test: RGB, (pixel / 255 - .5) / .5, vectors of length 1. Resized as this project does."""
    from reid.encoders import Preprocessing

    images = torch.from_numpy(resized(seen, Preprocessing(*size))).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        found = module((images - 0.5) / 0.5)
    rows = (found[0] if isinstance(found, tuple) else found).numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def shipped_card(kind: str, folder: Path, dimension: int) -> Path:
    """The card that ships, but for the length of the small network's vectors."""
    card = yaml.safe_load((CARDS / f"{kind}.yaml").read_text())
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(card | {"dimension": dimension}))
    return path


@pytest.mark.parametrize("kind", ["transreid", "clipreid", "solider"])
def test_an_export_of_their_shape_loads_through_its_card(kind: str, tmp_path: Path) -> None:
    network, exported, dimension = small(kind)
    size = (384, 128) if kind == "solider" else (256, 128)
    recipe()["export"](exported, tmp_path / f"{kind}.onnx", size)
    encode = load_encoder("any", shipped_card(kind, tmp_path, dimension))
    assert isinstance(encode, OnnxEncoder)
    assert (encode.dim, encode.fixed_batch, encode.has_branches) == (dimension, None, False)
    card = read_card(tmp_path / f"{kind}.yaml")
    engines: list[Encoder] = [encode, OpenVinoEncoder("any", card.file, card.preprocessing)]
    for batch in (1, 2, 32):
        expected = theirs(exported, crops(batch), size)
        for engine in engines:
            np.testing.assert_allclose(engine(crops(batch)), expected, atol=1e-4)
        if batch > 1:  # pictures are told apart, so mixed up ones would show
            assert np.abs(expected[0] - expected[1]).max() > 2e-3
    if kind == "transreid":  # the camera says something: the wrapper must fix it
        with torch.inference_mode():
            one, other = (network(torch.zeros(1, 3, 256, 128), camera) for camera in (0, 1))
        assert not torch.allclose(one, other, atol=1e-2)


def test_their_cards_say_what_the_projects_publish() -> None:
    sizes = {"transreid": (256, 128, 5 * 768), "clipreid": (256, 128, 768 + 512), "solider": (384, 128, 8 * 128)}
    for kind, (height, width, dimension) in sizes.items():
        card = read_card(CARDS / f"{kind}.yaml", check_file=False)
        see = card.preprocessing
        assert (see.height_px, see.width_px, card.dimension, see.rgb) == (height, width, dimension, True)
        assert see.mean == see.std == (0.5, 0.5, 0.5) and see.scale == pytest.approx(1 / 255)


def test_another_networks_export_behind_a_card_is_refused(tmp_path: Path) -> None:
    """A Swin behind TransReID's card, vectors of another length, the feature maps taken for the embedding."""
    _, exported, dimension = small("solider")
    recipe()["export"](exported, tmp_path / "solider.onnx", (384, 128))
    (tmp_path / "transreid.onnx").write_bytes((tmp_path / "solider.onnx").read_bytes())
    with pytest.raises(EncoderError, match=r"takes .*384, 128.*a crop encoder takes \[N, 3, 256, 128\]"):
        load_encoder("any", shipped_card("transreid", tmp_path, dimension))
    with pytest.raises(EncoderError, match=f"dimension is 1024, but solider.onnx gives vectors of length {dimension}"):
        load_encoder("any", shipped_card("solider", tmp_path, 1024))
    path = shipped_card("solider", tmp_path, dimension)
    path.write_text(path.read_text().replace("output: embedding", "output: maps"))
    with pytest.raises(EncoderError, match="one vector per crop"):
        load_encoder("any", path)
