"""Lags by looks: equal to the slow oracle, and independent of the order of the stays and of when time began."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.oracle_clock_lags import slow_histogram, slow_peak

from st_model.calibration import Calibration
from st_model.clock_lags import LEAST_STAYS, clock_lags

SCALE = Calibration(20.0, -8.0)


def drawn(seed: int, people: int, late_s: float):
    """(cameras, entered_s, last_s, vectors) of people seen by three cameras, the last of which is late."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(people, 8))
    cameras, at_s, rows = [], [], []
    for camera, off_s in zip("abc", (0.0, 0.0, late_s), strict=True):
        seen = looks + 0.3 * rng.normal(size=looks.shape)
        rows.append(seen / np.linalg.norm(seen, axis=1, keepdims=True))
        at_s.append(np.sort(rng.uniform(0, 3000, people)) + off_s + rng.uniform(0, 40, people))
        cameras += [camera] * people
    entered_s = np.concatenate(at_s)
    return cameras, entered_s, entered_s + rng.uniform(0, 9, len(cameras)), np.concatenate(rows).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 14), st.floats(-4000, 4000), st.sampled_from([600.0, 1500.0]))
def test_spans_equal_the_oracle(seed: int, people: int, late_s: float, span_s: float) -> None:
    cameras, entered_s, last_s, vectors = drawn(seed, people, late_s)
    middle = ((entered_s + last_s) / 2).tolist()
    for span in clock_lags(cameras, entered_s, last_s, vectors, SCALE, span_s=span_s, least_stays=3):
        own = [k for k, c in enumerate(cameras) if c == span.camera and span.from_s <= middle[k] < span.to_s]
        others = [k for k, c in enumerate(cameras) if c != span.camera]
        assert len(own) >= 3
        slow = slow_peak(*slow_histogram(middle, vectors.tolist(), own, others, SCALE))
        np.testing.assert_allclose(
            (span.lag_s, span.error_s, span.evidence, span.background), slow, rtol=1e-6, atol=1e-5
        )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(-40, 40))
def test_order_and_origin_of_time_change_nothing(seed: int, bins: int) -> None:
    cameras, *rest = drawn(seed, LEAST_STAYS, 900.0)
    entered_s, last_s, vectors = (np.round(rest[0] * 64) / 64, np.round(rest[1] * 64) / 64, rest[2])
    order = np.random.default_rng(seed).permutation(len(cameras))
    before = clock_lags(cameras, entered_s, last_s, vectors, SCALE)
    shift_s = 1024.0 * bins
    mixed = [cameras[k] for k in order]
    after = clock_lags(mixed, entered_s[order] + shift_s, last_s[order] + shift_s, vectors[order], SCALE)
    assert [(s.camera, s.from_s + shift_s, s.supported) for s in before] == [
        (s.camera, s.from_s, s.supported) for s in after
    ]
    np.testing.assert_allclose([s.lag_s for s in before], [s.lag_s for s in after], atol=1e-6)
