"""Which crops are kept, and what they add up to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.crops import key_crops_offline, overlap_one_by_one

from reid.crops import HALF_SHARPNESS, KeyCrops, box_quality, cut_out, mean_embedding, overlap_with_others, sharpness

SIZE = (240, 320)


def checkered(height: int = 240, width: int = 320, cell: int = 4) -> np.ndarray:
    """A sharp picture: every crop of it has the same sharpness."""
    board = (np.indices((height, width)).sum(axis=0) // cell % 2 * 200).astype(np.uint8)
    return np.repeat(board[..., None], 3, axis=2)


boxes = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 150), st.integers(1, 80), st.integers(1, 90)), max_size=8
).map(lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4))


@given(boxes)
def test_overlap_equals_the_slow_one(drawn: np.ndarray) -> None:
    got = overlap_with_others(drawn)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, overlap_one_by_one(drawn), atol=1e-6)


def test_the_one_behind_suffers_more_than_the_one_in_front() -> None:
    behind, in_front = overlap_with_others(np.array([[0, 0, 20, 50], [10, 10, 30, 60]], np.float32))
    assert behind == pytest.approx(0.4)
    assert in_front == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("what", "box", "kwargs"),
    [
        ("smaller", [100, 100, 115, 140], {}),
        ("half hidden", [100, 50, 150, 180], {"overlap": 0.5}),
        ("cut by the left border", [0, 50, 50, 180], {}),
        ("cut by the lower border", [100, 110, 150, 240], {}),
        ("wider than tall", [100, 50, 250, 180], {}),
        ("unsure detection", [100, 50, 150, 180], {"score": 0.3}),
    ],
)
def test_every_fault_lowers_the_quality(what: str, box: list[int], kwargs: dict[str, float]) -> None:
    whole = box_quality(np.array([100, 50, 150, 180], np.float32), SIZE)
    assert 0 < box_quality(np.array(box, np.float32), SIZE, **kwargs) < whole, what


@pytest.mark.parametrize("box", [[400, 50, 450, 180], [-60, 50, -10, 180], [10, 10, 11, 80], [10, 10, 40, 12]])
def test_nothing_of_a_person_has_no_quality(box: list[int]) -> None:
    assert box_quality(np.array(box, np.float32), SIZE) == 0


@given(st.lists(st.floats(-50, 400), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_quality_lies_in_0_1(corners: list[float], score: float, overlap: float) -> None:
    assert 0 <= box_quality(np.array(corners, np.float32), SIZE, score, overlap) <= 1


def test_blur_lowers_sharpness_and_size_alone_does_not() -> None:
    import cv2

    rng = np.random.default_rng(0)
    small = cv2.resize(rng.integers(0, 255, (16, 8, 3), dtype=np.uint8), (64, 128))
    assert sharpness(cv2.GaussianBlur(small, (0, 0), 6)) < 0.3 * sharpness(small)
    assert sharpness(cv2.resize(small, (128, 256))) == pytest.approx(sharpness(small), rel=0.25)


def test_cut_out_is_clipped_to_the_image() -> None:
    image = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    np.testing.assert_array_equal(cut_out(image, np.array([15.5, 3, 90, 7.2], np.float32)), image[3:8, 15:20])
    assert cut_out(image, np.array([30, 3, 40, 7], np.float32)).size == 0


offers = st.lists(
    st.tuples(st.integers(0, 400).map(lambda n: n / 8), st.integers(20, 120), st.integers(0, 9).map(lambda n: n / 10)),
    max_size=25,
)


@given(offers, st.integers(1, 6))
def test_streaming_choice_equals_the_choice_in_hindsight(drawn: list[tuple[float, int, float]], max_crops: int) -> None:
    image = checkered()
    keeper = KeyCrops(max_crops, cell_s=0.5)
    seen = []
    for time_s, height, overlap in sorted(drawn):
        box = np.array([100, 50, 140, 50 + height], np.float32)
        keeper.offer(image, box, time_s, overlap=overlap)
        quality = box_quality(box, image.shape[:2], 1.0, overlap)
        measured = sharpness(cut_out(image, box))
        seen.append((time_s, quality * (0.5 + 0.5 * measured / (measured + HALF_SHARPNESS))))
    kept = [(crop.time_s, crop.quality) for crop in keeper.best()]
    assert sorted(kept) == sorted(key_crops_offline(seen, max_crops, 0.5, keeper.min_quality))
    assert len(kept) <= max_crops
    assert [q for _, q in kept] == sorted((q for _, q in kept), reverse=True)


def test_a_long_stay_is_covered_evenly_by_few_crops() -> None:
    image, box = checkered(), np.array([100, 50, 150, 180], np.float32)
    keeper = KeyCrops(max_crops=6)
    for n in range(3600):
        keeper.offer(image, box, float(n))
    times = sorted(crop.time_s for crop in keeper.best())
    assert 3 <= len(times) <= 6
    assert np.diff(times).min() > 3600 / 12


def test_a_kept_crop_is_a_copy() -> None:
    image = checkered()
    keeper = KeyCrops()
    assert keeper.offer(image, np.array([100, 50, 150, 180], np.float32), 0.0)
    before = keeper.best()[0].image.copy()
    image[:] = 0
    np.testing.assert_array_equal(keeper.best()[0].image, before)


def test_a_hopeless_box_is_not_kept() -> None:
    keeper = KeyCrops()
    assert not keeper.offer(checkered(), np.array([100, 50, 150, 180], np.float32), 0.0, overlap=0.98)
    assert not keeper.offer(checkered(), np.array([500, 50, 550, 180], np.float32), 0.1)
    assert keeper.best() == []


@pytest.mark.parametrize("wrong", [{"max_crops": 0}, {"cell_s": 0.0}, {"min_quality": 1.5}])
def test_keeper_refuses_senseless_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need max_crops"):
        KeyCrops(**wrong)


def test_mean_embedding_is_pulled_toward_quality() -> None:
    rows = np.eye(3, dtype=np.float32)
    mean = mean_embedding(rows, np.array([1.0, 0.1, 0.1]))
    assert mean.dtype == np.float32
    assert np.linalg.norm(mean) == pytest.approx(1)
    assert mean[0] > 0.9


def test_mean_embedding_of_useless_and_of_opposite_crops() -> None:
    rows = np.array([[1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(mean_embedding(rows, np.zeros(2)), np.sqrt([0.5, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(mean_embedding(np.array([[1, 0], [-1, 0]], np.float32), np.ones(2)), [1, 0])


def test_mean_embedding_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="N >= 1"):
        mean_embedding(np.zeros((0, 4), np.float32), np.zeros(0))
    with pytest.raises(ValueError, match="qualities"):
        mean_embedding(np.eye(2, dtype=np.float32), np.ones(3))
