"""Encoders: unit rows, the same at any batch, and one clear line for every wrong file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import write_channel_means

from reid.encoders import EncoderError, Preprocessing, load_encoder, normalised, resized, unit_rows
from reid.onnx_encoder import OnnxEncoder
from reid.openvino_encoder import OpenVinoEncoder

RETAIL = "person-reidentification-retail-0277"
RETAIL_SMALL = "person-reidentification-retail-0287"
OSNET = "osnet_x0_25_msmt17"


def smooth_crops(n: int, seed: int = 0) -> list[np.ndarray]:
    """Coloured blobs of different sizes: unlike each other, unlike noise."""
    import cv2

    rng = np.random.default_rng(seed)
    sizes = rng.integers((40, 20), (200, 90), (n, 2))
    return [cv2.resize(rng.integers(0, 255, (6, 3, 3), dtype=np.uint8), (int(w), int(h))) for h, w in sizes]


def weights(models_dir: Path, name: str) -> Path:
    path = models_dir / f"{name}.onnx" if name == OSNET else models_dir / name / f"{name}.xml"
    if not path.exists():
        pytest.skip(f"no {name} in {models_dir}")
    return path


def write_ir(path: Path, channels: int = 3, height_px: int = 256) -> Path:
    """An OpenVINO IR that gives the mean of each channel, stored with batch 1."""
    import openvino as ov
    from openvino import opset8 as op

    pixels = op.parameter([1, channels, height_px, 128], np.float32)
    ov.save_model(ov.Model([op.reduce_mean(pixels, [2, 3])], [pixels]), path, compress_to_fp16=False)
    return path


def test_normalised_equals_the_formula() -> None:
    crop = np.random.default_rng(0).integers(0, 255, (256, 128, 3), dtype=np.uint8)
    got = normalised([crop], Preprocessing())
    rgb = crop[..., ::-1].astype(np.float64) / 255
    want = (rgb - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert got.shape == (1, 3, 256, 128)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], want.transpose(2, 0, 1), atol=1e-5)


def test_bgr_keeps_the_order_of_channels() -> None:
    blue = np.zeros((10, 5, 3), np.uint8)
    blue[..., 0] = 255
    assert resized([blue], Preprocessing(rgb=False))[0, 0, 0].tolist() == [255, 0, 0]
    assert resized([blue], Preprocessing(rgb=True))[0, 0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((0, 5, 3), np.uint8), np.zeros((10, 5), np.uint8), np.zeros((10, 5, 4), np.uint8), np.zeros((10, 5, 3))],
)
def test_what_is_no_crop_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(EncoderError, match="crop 1 must be"):
        resized([np.zeros((10, 5, 3), np.uint8), wrong], Preprocessing())


@pytest.mark.parametrize("wrong", [{"height_px": 0}, {"scale": 0.0}, {"std": (1.0, 0.0, 1.0)}])
def test_senseless_preprocessing_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Preprocessing(**wrong)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_unit_rows_names_the_bad_crop(bad: float) -> None:
    features = np.ones((3, 4), np.float32)
    features[2] = bad
    with pytest.raises(EncoderError, match="crop 2 is zero or not finite"):
        unit_rows(features, "net")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_network_gives_unit_rows_alike_at_any_batch(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    write_channel_means(path) if suffix == ".onnx" else write_ir(path)
    encode = load_encoder("net", path)
    crops = smooth_crops(32)
    together = encode(crops)
    assert (encode.name, encode.dim, together.shape, together.dtype) == ("net", 3, (32, 3), np.float32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for size in (1, 2):
        parts = np.concatenate([encode(crops[n : n + size]) for n in range(0, 32, size)])
        np.testing.assert_allclose(parts, together, atol=1e-5)
    assert encode([]).shape == (0, 3)


def test_intel_networks_get_bgr_0_255(tmp_path: Path) -> None:
    orange = np.full((20, 10, 3), (0, 128, 255), np.uint8)
    expected = np.array([0, 128, 255]) / np.hypot(128, 255)
    np.testing.assert_allclose(load_encoder("net", write_ir(tmp_path / "net.xml"))([orange])[0], expected, atol=1e-5)


@pytest.mark.parametrize("engine", [OnnxEncoder, OpenVinoEncoder])
def test_both_engines_normalise_alike(tmp_path: Path, engine: type) -> None:
    path = write_channel_means(tmp_path / "net.onnx")
    crops = smooth_crops(3)
    means = normalised(crops, Preprocessing()).mean(axis=(2, 3))
    np.testing.assert_allclose(engine("net", path, Preprocessing())(crops), unit_rows(means, "net"), atol=1e-5)


@pytest.mark.parametrize("n", [1, 4, 5, 9])
def test_a_fixed_batch_is_padded(tmp_path: Path, n: int) -> None:
    fixed = OnnxEncoder("net", write_channel_means(tmp_path / "four.onnx", [4, 3, 256, 128]), Preprocessing())
    free = OnnxEncoder("net", write_channel_means(tmp_path / "free.onnx"), Preprocessing())
    assert (fixed.fixed_batch, free.fixed_batch) == (4, None)
    np.testing.assert_allclose(fixed(smooth_crops(n)), free(smooth_crops(n)), atol=1e-6)


def test_a_fixed_batch_is_freed_where_openvino_can(tmp_path: Path) -> None:
    fixed = write_channel_means(tmp_path / "sixteen.onnx", [16, 3, 256, 128])
    encode = load_encoder("net", fixed)
    assert isinstance(encode, OpenVinoEncoder)
    np.testing.assert_allclose(
        encode(smooth_crops(3)), OnnxEncoder("net", fixed, Preprocessing())(smooth_crops(3)), atol=1e-5
    )


def test_a_fixed_batch_that_mixes_its_images_is_run_one_by_one(tmp_path: Path) -> None:
    fixed = write_channel_means(tmp_path / "sixteen.onnx", [16, 3, 256, 128], mixes_batch=True)
    encode = load_encoder("net", fixed)
    crops = smooth_crops(3)
    np.testing.assert_allclose(encode(crops), np.concatenate([encode([crop]) for crop in crops]), atol=1e-6)


@pytest.mark.parametrize("engine", [OnnxEncoder, OpenVinoEncoder])
def test_an_export_that_mixes_its_batch_is_run_one_by_one(tmp_path: Path, engine: type) -> None:
    encode = engine("net", write_channel_means(tmp_path / "net.onnx", mixes_batch=True), Preprocessing())
    crops = smooth_crops(4)
    np.testing.assert_allclose(encode(crops), np.concatenate([encode([crop]) for crop in crops]), atol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "content", "says"),
    [
        (".onnx", b"", "is empty"),
        (".onnx", b"this is not a network" * 100, "cannot read"),
        (".xml", b"", "is empty"),
        (".xml", b"<net><layers>", "cannot read"),
        (".xml", b"<?xml version='1.0'?><html/>", "cannot read"),
        (".safetensors", b"x" * 400, "cannot be read"),
        (".pth", b"x" * 400, "cannot be read"),
        (".weights", b"x", "known endings"),
    ],
)
def test_damaged_files_give_one_clear_line(tmp_path: Path, suffix: str, content: bytes, says: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=says) as caught:
        load_encoder("net", path)
    assert "\n" not in str(caught.value)
    assert "net" in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"no weights file .*gone\.onnx"):
        load_encoder("net", tmp_path / "gone.onnx")
    with pytest.raises(EncoderError, match=r"gone\.xml"):
        load_encoder("net", tmp_path / "gone.xml")
    ir = write_ir(tmp_path / "net.xml")
    ir.with_suffix(".bin").unlink()
    with pytest.raises(EncoderError, match="pair: no weights file given for osnet_x0_25_msmt17"):
        load_encoder("pair", {RETAIL: ir})


def test_an_ir_cut_short_is_refused(tmp_path: Path, models_dir: Path) -> None:
    source = weights(models_dir, RETAIL_SMALL)
    (tmp_path / "net.xml").write_bytes(source.read_bytes())
    (tmp_path / "net.bin").write_bytes(source.with_suffix(".bin").read_bytes()[:100_000])
    with pytest.raises(EncoderError, match="cannot read"):
        load_encoder("net", tmp_path / "net.xml")


def test_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"takes .*112.*112.*, a crop encoder takes \[N, 3, 256, 128\]"):
        load_encoder("face", write_channel_means(tmp_path / "face.onnx", [1, 3, 112, 112]))
    with pytest.raises(EncoderError, match="a crop encoder takes"):
        load_encoder("grey", write_ir(tmp_path / "grey.xml", channels=1))
    with pytest.raises(EncoderError, match="one vector per crop"):
        load_encoder("picture", write_channel_means(tmp_path / "picture.onnx", keeps_picture=True))
    with pytest.raises(EncoderError, match="not finite"):
        load_encoder("nan", write_channel_means(tmp_path / "nan.onnx", not_a_number=True))(smooth_crops(1))


def test_a_network_of_another_size_works_with_its_preprocessing(tmp_path: Path) -> None:
    path = write_channel_means(tmp_path / "face.onnx", [1, 3, 112, 112])
    encode = load_encoder("face", path, preprocessing=Preprocessing(112, 112))
    assert encode(smooth_crops(3)).shape == (3, 3)


@pytest.mark.parametrize("name", [RETAIL, RETAIL_SMALL, OSNET])
def test_real_networks_agree_at_every_batch(models_dir: Path, name: str) -> None:
    encode = load_encoder(name, weights(models_dir, name))
    crops = smooth_crops(32)
    together = encode(crops)
    assert together.shape == (32, 512 if name == OSNET else 256)
    np.testing.assert_allclose(encode(crops[:1]), together[:1], atol=1e-4)
    np.testing.assert_allclose(encode(crops[30:]), together[30:], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_osnet_with_a_batch_of_sixteen_written_into_it(models_dir: Path, tmp_path: Path) -> None:
    """The publisher's file is like that; this one is made by overwriting the name of the batch axis with the number."""
    source = weights(models_dir, OSNET)
    content = source.read_bytes()
    if b"\x12\x05batch" not in content:
        pytest.skip("this OSNet file has no free batch axis to fix")
    fixed = tmp_path / "osnet.onnx"
    fixed.write_bytes(content.replace(b"\x12\x05batch", b"\x08\x90\x80\x80\x80\x80\x00"))
    assert OnnxEncoder(OSNET, fixed, Preprocessing()).fixed_batch == 16
    crops = smooth_crops(3)
    np.testing.assert_allclose(load_encoder(OSNET, fixed)(crops), load_encoder(OSNET, source)(crops), atol=1e-4)
