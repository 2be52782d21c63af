"""`get_embeddings`, the mirror test, camera normalisation and re-ranking in chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid import embedding
from reid.camera_norm import centred_per_camera
from reid.embedding import ImageFileError, get_embeddings, read_image
from reid.encoders import EncoderError, load_encoder
from reid.reranking import cosine_rows, rerank, rerank_rows


def crops(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.repeat(rng.integers(0, 255, (8, 4, 3), dtype=np.uint8), 9, axis=0) for _ in range(n)]


def test_files_and_arrays_in_any_batch(tmp_path: Path) -> None:
    import cv2

    encode = load_encoder("stripes")
    images = crops(7)
    for n, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{n}.png"), image)
    seen: list[tuple[int, int]] = []
    rows = get_embeddings(images, encode, batch=3, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 7), (6, 7), (7, 7)]
    np.testing.assert_array_equal(rows, encode(images))
    np.testing.assert_array_equal(rows, get_embeddings([tmp_path / f"{n}.png" for n in range(7)], encode))
    assert get_embeddings([], encode).shape == (0, encode.dim)
    with pytest.raises(ValueError, match="batch must be at least 1"):
        get_embeddings(images, encode, batch=0)
    with pytest.raises(EncoderError, match="crop 0 must be"):
        get_embeddings([np.zeros((4, 4), np.uint8)], encode)


def test_a_picture_and_its_mirror_are_one(tmp_path: Path) -> None:
    encode = load_encoder("stripes")
    images = crops(3)
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    both = get_embeddings(images, encode, flip=True)
    np.testing.assert_allclose(both, get_embeddings(mirrored, encode, flip=True), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)


def test_what_is_no_picture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:400])
    for name, says in (
        ("text.jpg", "not a readable picture"),
        ("empty.png", "not a readable picture"),
        ("cut.jpg", "not a readable picture"),
        ("gone.jpg", "no such file"),
        (".", "not a readable picture"),
    ):
        with pytest.raises(ImageFileError, match=says) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    monkeypatch.setattr(embedding, "MOST_PIXELS", 1000)
    with pytest.raises(ImageFileError, match="40x30 pixels are too many"):
        read_image(tmp_path / "large.png")


def test_a_picture_too_large_to_unpack_is_refused_by_its_header(tmp_path: Path) -> None:
    """A PNG of a few bytes that says it has ten thousand million pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))
    with pytest.raises(ImageFileError, match="pixels"):
        read_image(path)


def test_pictures_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    from PIL import Image

    image = Image.new("RGB", (30, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (5, 4), (255, 0, 0, 128)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "turned.jpg").shape == (30, 10, 3)
    assert read_image(tmp_path / "clear.png")[0, 0].tolist() == [0, 0, 255]


def test_centring_takes_a_cast_out() -> None:
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(40, 16))
    cast = np.stack([np.eye(16)[0] * 6, np.eye(16)[1] * 6])
    cameras = np.repeat([0, 1], 40)
    rows = np.concatenate([looks, looks]) + rng.normal(0, 0.3, (80, 16)) + cast[cameras]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def right(embeddings: np.ndarray) -> float:
        return float((np.argmax(embeddings[:40] @ embeddings[40:].T, axis=1) == np.arange(40)).mean())

    centred = centred_per_camera(rows, cameras)
    assert right(rows) < 0.9 < right(centred)
    np.testing.assert_allclose(np.linalg.norm(centred, axis=1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="cameras"):
        centred_per_camera(rows, cameras[:3])


@pytest.mark.parametrize("chunk_rows", [1, 7, 64, 1000])
def test_re_ranking_in_chunks_is_that_of_the_square(chunk_rows: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(90, 8)) + 2 * rng.normal(size=(6, 8))[rng.integers(0, 6, 90)]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    square = 2 - 2 * (rows @ rows.T)
    expected = rerank(square, 20)
    np.testing.assert_array_equal(rerank_rows(lambda a, b: square[a:b], 90, 20, chunk_rows=chunk_rows), expected)
    np.testing.assert_allclose(rerank_rows(cosine_rows(rows), 90, 20, chunk_rows=chunk_rows), expected, atol=1e-5)


def test_re_ranking_on_a_gpu_is_that_on_the_cpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(90, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    on_gpu, on_cpu = (rerank_rows(cosine_rows(rows, device), 90, 20) for device in ("cuda:0", "cpu"))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)
