"""The pair's cosine is the convex combination of its parts' cosines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reid.encoders import PAIR, load_encoder, unit_rows
from reid.pair import DEFAULT_WEIGHT, PairEncoder, fuse


class Constant:
    """Gives every crop the same row."""

    def __init__(self, row: list[float]) -> None:
        self.name, self.dim, self._row = "constant", len(row), unit_rows(np.array([row]), "constant")

    def __call__(self, crops: list[np.ndarray]) -> np.ndarray:
        return np.repeat(self._row, len(crops), axis=0)


def unit(dim: int) -> st.SearchStrategy[np.ndarray]:
    coordinates = st.floats(-1, 1, width=32)
    return (
        arrays(np.float32, (2, dim), elements=coordinates)
        .filter(lambda rows: (np.linalg.norm(rows, axis=1) > 0.1).all())
        .map(lambda rows: unit_rows(rows, "drawn"))
    )


@given(unit(5), unit(3), st.floats(0, 1))
def test_the_cosine_is_the_convex_combination(first: np.ndarray, second: np.ndarray, weight: float) -> None:
    fused = fuse(first, second, weight)
    assert fused.dtype == np.float32
    assert np.linalg.norm(fused, axis=1) == pytest.approx([1, 1], abs=1e-5)
    want = weight * float(first[0] @ first[1]) + (1 - weight) * float(second[0] @ second[1])
    assert float(fused[0] @ fused[1]) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_outside_0_1_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must lie"):
        fuse(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), weight)
    with pytest.raises(ValueError, match="weight must lie"):
        PairEncoder(Constant([1]), Constant([1]), weight)


def test_no_crops_give_no_rows() -> None:
    encode = PairEncoder(Constant([1, 2]), Constant([3]))
    assert (encode.dim, encode([]).shape) == (3, (0, 3))


def test_the_default_pair_is_made_of_two_real_networks(models_dir: Path) -> None:
    retail = models_dir / PAIR[0] / f"{PAIR[0]}.xml"
    osnet = models_dir / f"{PAIR[1]}.onnx"
    if not (retail.exists() and osnet.exists()):
        pytest.skip(f"no {' or '.join(PAIR)} in {models_dir}")
    encode = load_encoder("pair", {PAIR[1]: osnet, PAIR[0]: retail})  # by name, so their order does not matter
    crops = [np.full((120, 50, 3), level, np.uint8) for level in (40, 200)]
    got = encode(crops)
    assert (encode.name, got.shape) == ("pair", (2, 768))
    first, second = load_encoder(PAIR[0], retail)(crops), load_encoder(PAIR[1], osnet)(crops)
    want = DEFAULT_WEIGHT * first[0] @ first[1] + (1 - DEFAULT_WEIGHT) * second[0] @ second[1]
    assert got[0] @ got[1] == pytest.approx(want, abs=1e-4)
