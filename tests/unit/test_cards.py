"""Model cards: any network by a small YAML file, and one clear line for every wrong card."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_onnx import write_channel_means

from pipeline.config import ConfigError, load_config, load_match_config
from pipeline.engines import load_engines
from pipeline.weights import resolve_all
from reid.cards import Card, read_card, write_card
from reid.encoders import EncoderError, Preprocessing, load_encoder

PLAIN = {
    "file": "net.onnx",
    "input": [64, 32],
    "colours": "rgb",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.5, 0.5, 1.0],
    "dimension": 3,
}


def card(folder: Path, without: str = "", **changed: object) -> Path:
    """A card with these keys changed, beside a network of its size."""
    if not (folder / "net.onnx").exists():
        write_channel_means(folder / "net.onnx", ["batch", 3, 64, 32])
    path = folder / "net.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**PLAIN, **changed}.items() if k != without}))
    return path


def red() -> np.ndarray:
    """Pure red, BGR."""
    return np.full((64, 32, 3), (0, 0, 255), np.uint8)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, [(1 - 0.1) / 0.5, -0.2 / 0.5, -0.3]),
        ({"colours": "BGR"}, [-0.1 / 0.5, -0.2 / 0.5, 1 - 0.3]),
        ({"range": 1, "mean": [127.5, 0, 0], "std": [1, 1, 1]}, [127.5, 0, 0]),
    ],
)
def test_a_card_says_what_the_network_sees(tmp_path: Path, changed: dict, expected: list[float]) -> None:
    seen = load_encoder("any", card(tmp_path, **changed))([red()])[0]
    np.testing.assert_allclose(seen, np.array(expected) / np.linalg.norm(expected), atol=1e-5)


def test_the_file_may_lie_in_a_folder_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    path = card(tmp_path)
    (tmp_path / "net.onnx").rename(tmp_path / "models" / "net.onnx")
    with pytest.raises(EncoderError, match=r"no weights file net\.onnx"):
        load_encoder("any", path)
    monkeypatch.setenv("IDENTRIX_MODELS", str(tmp_path / "models"))
    found = resolve_all(str(path))
    assert list(found.values()) == [path, tmp_path / "models" / "net.onnx"]
    assert load_encoder(str(path), found)([red()]).shape == (1, 3)


def test_a_card_is_written_as_it_is_read(tmp_path: Path) -> None:
    write_channel_means(tmp_path / "mine.onnx", ["batch", 3, 64, 32])
    see = Preprocessing(64, 32, False, 1 / 255, (0.1, 0.2, 0.3), (1.0, 1.0, 0.5))
    made = Card("mine", tmp_path / "mine.onnx", see, 3, (20.0, -12.0), None, "embedding")
    write_card(tmp_path / "mine.yaml", made, "made\nby a test")
    assert read_card(tmp_path / "mine.yaml") == made


def test_the_sha256_of_a_card_must_fit(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(write_channel_means(tmp_path / "net.onnx", ["batch", 3, 64, 32]).read_bytes()).hexdigest()
    assert read_card(card(tmp_path, sha256=sha256.upper())).dimension == 3
    with pytest.raises(EncoderError, match="the card says 00ff; fetch it again"):
        read_card(card(tmp_path, sha256="00ff"))


@pytest.mark.parametrize("key", PLAIN)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(EncoderError, match=rf"net\.yaml: {key} is missing$"):
        load_encoder("any", card(tmp_path, without=key))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"dimensions": 3}, "unknown key 'dimensions'; did you mean 'dimension'"),
        ({"input": [256]}, "input must be a list of 2 numbers"),
        ({"input": [64, 0]}, "input must hold whole numbers from 1"),
        ({"input": [64.5, 32]}, "input must hold whole numbers"),
        ({"colours": "grey"}, "colours must be rgb or bgr"),
        ({"mean": [0, 0]}, "mean must be a list of 3"),
        ({"mean": [0, 0, float("nan")]}, "mean must hold numbers"),
        ({"std": [1, 1, 0]}, "std must be positive"),
        ({"range": 0}, "range and std must be positive"),
        ({"calibration": [-3, 1]}, "slope of the calibration must be positive"),
        ({"calibration": 20}, "calibration must be a list of 2"),
        ({"dimension": 4}, "dimension is 4, but net.onnx gives vectors of length 3"),
        ({"input": [256, 128]}, r"takes .*64, 32.*a crop encoder takes \[N, 3, 256, 128\]"),
        ({"output": "features"}, "no output 'features'; it has embedding"),
        ({"file": "gone.onnx"}, "no weights file gone.onnx"),
        ({"file": "net.yaml"}, "cannot tell how to run net.yaml"),
    ],
)
def test_a_wrong_card_is_one_clear_line(tmp_path: Path, changed: dict, says: str) -> None:
    path = card(tmp_path, **changed)
    with pytest.raises(EncoderError, match=says) as caught:
        load_encoder("any", path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"a: [", b"\xff\xfe\x00"])
def test_what_is_no_card_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.yaml"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"card .*net\.yaml") as caught:
        load_encoder("any", path)
    assert "\n" not in str(caught.value)


def test_a_network_that_gives_nan_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    write_channel_means(tmp_path / "net.onnx", ["batch", 3, 64, 32], not_a_number=True)
    with pytest.raises(EncoderError, match="not finite"):
        load_encoder("any", card(tmp_path))


@pytest.mark.parametrize("mixes_batch", [False, True])
def test_a_fixed_batch_still_gives_each_crop_its_own(tmp_path: Path, mixes_batch: bool) -> None:
    write_channel_means(tmp_path / "net.onnx", [4, 3, 64, 32], mixes_batch=mixes_batch)
    encode = load_encoder("any", card(tmp_path))
    crops = [red(), np.ascontiguousarray(red()[..., ::-1]), red() // 2]
    np.testing.assert_allclose(encode(crops), np.concatenate([encode([crop]) for crop in crops]), atol=1e-6)


def test_the_calibration_of_a_card_is_the_sites_until_it_has_its_own(tmp_path: Path) -> None:
    path = card(tmp_path, calibration=[21.5, -11.25])
    match = load_match_config({"reid": {"encoder": str(path)}}).match
    assert (match.calibration.g0, match.calibration.b0) == (21.5, -11.25)
    own = {"reid": {"encoder": str(path)}, "match": {"calibration": {"g0": 9.0, "b0": -1.0}}}
    assert load_match_config(own).match.calibration.g0 == 9.0
    with pytest.raises(ConfigError, match="dimension is missing"):
        load_match_config({"reid": {"encoder": str(card(tmp_path, without="dimension"))}})


def test_a_site_names_a_card_beside_its_own_file(tmp_path: Path) -> None:
    path = card(tmp_path, calibration=[21.5, -11.25])
    (tmp_path / "site.yaml").write_text(
        "cameras: [{name: a, source: a.mp4}]\nreid: {encoder: net.yaml}\ndetector: {model: motion}\n"
    )
    config = load_config(tmp_path / "site.yaml")
    assert (config.reid.encoder, config.match.calibration.b0) == (str(path.resolve()), -11.25)
    engines = load_engines(config)
    assert engines.encoder.dim == 3
    assert [w["file"] for w in engines.weights.values()] == ["net.yaml", "net.onnx"]


def test_a_timm_model_through_a_card(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import timm

    torch.manual_seed(0)
    body = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=(64, 32)).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in body.state_dict().items()}}, tmp_path / "vit.pth")
    path = card(tmp_path, file="vit.pth", timm="vit_tiny_patch16_224", dimension=192, std=[0.5, 0.5, 0.5])
    crop = np.random.default_rng(0).integers(0, 255, (64, 32, 3), dtype=np.uint8)
    images = (
        torch.from_numpy(crop[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        - torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    ) / 0.5
    with torch.inference_mode():
        expected = body.forward_head(body.forward_features(images), pre_logits=True).numpy()[0]
    np.testing.assert_allclose(load_encoder("any", path)([crop])[0], expected / np.linalg.norm(expected), atol=1e-5)
    with pytest.raises(EncoderError, match="gives vectors of length 192, 100 was expected"):
        load_encoder("any", card(tmp_path, file="vit.pth", timm="vit_tiny_patch16_224", dimension=100))([crop])
    with pytest.raises(EncoderError, match="timm has no model 'vit_tyni'"):
        load_encoder("any", card(tmp_path, file="vit.pth", timm="vit_tyni", dimension=192))
    with pytest.raises(EncoderError, match="holds no weights of timm's resnet10t"):
        load_encoder("any", card(tmp_path, file="vit.pth", timm="resnet10t", dimension=512))
    with pytest.raises(EncoderError, match=r"another network than timm's vit_tiny.*pos_embed"):
        load_encoder("any", card(tmp_path, input=[96, 32], file="vit.pth", timm="vit_tiny_patch16_224", dimension=192))
