"""Tables: equal to the slow oracle, independent of order and partition, densities that are densities."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.oracle_transitions import slow_counts, slow_density

from st_model.transitions import ONE, Increment, TableSettings, TransitionTables

AXES = TableSettings(bin_s=2.0, origin_s=-10.0, horizon_s=90.0, sigma_s=3.0)

increments = st.lists(
    st.builds(
        Increment,
        st.sampled_from("ab"),
        st.sampled_from("bc"),
        st.integers(0, 3),
        st.integers(0, AXES.bins - 1),
        st.integers(1, 3 * ONE),
    ),
    max_size=30,
)


def filled(batch: list[Increment]) -> TransitionTables:
    tables = TransitionTables(AXES)
    tables.add(batch)
    return tables


@given(increments)
def test_counts_equal_the_oracle(batch: list[Increment]) -> None:
    assert {tuple(i[:4]): i.count for i in filled(batch).items()} == slow_counts(batch)


@settings(max_examples=30)
@given(increments)
def test_density_equals_the_oracle_and_is_a_density(batch: list[Increment]) -> None:
    tables = filled(batch)
    for pair in (("a", "b"), ("b", "b"), ("c", "a")):
        fast = tables.density(*pair)
        np.testing.assert_allclose(fast, slow_density(batch, pair, AXES), rtol=1e-12, atol=1e-15)
        assert (fast >= 0).all()
        assert abs(fast.sum() - 1) < 1e-12
        assert np.allclose(tables.log_ratio(*pair), np.log(fast * AXES.bins), atol=1e-6)
        running = np.cumsum(fast) / np.arange(1, AXES.bins + 1) * AXES.bins
        assert np.allclose(tables.log_ratio_in_view(*pair), np.log(running), atol=1e-6)
        assert tables.largest_log_ratio(*pair) >= tables.log_ratio_in_view(*pair).max() - 1e-6


@given(increments, st.randoms(use_true_random=False), st.integers(0, 30))
def test_order_partition_and_restart_do_not_matter(batch, random, cut) -> None:
    whole = filled(batch)
    shuffled = list(batch)
    random.shuffle(shuffled)
    parts = TransitionTables(AXES)
    parts.add(shuffled[:cut])
    parts.add(shuffled[cut:])
    restarted = TransitionTables(AXES)
    restarted.add(list(whole.items()))
    for other in (parts, restarted):
        assert list(other.items()) == list(whole.items())
        assert other.density("a", "b").tobytes() == whole.density("a", "b").tobytes()
        assert other.log_lift("a", "b") == whole.log_lift("a", "b")


@given(increments, increments, st.integers(0, 5))
def test_histogram_is_bit_equal_to_dense_rows_of_all_epochs(batch, more, later) -> None:
    tables = filled(batch)
    tables.at_epoch(max((i.epoch for i in batch), default=0) + later)
    list(tables.items())  # reading packs the counts; what is added afterwards lies beside them
    tables.add(more)
    tables.add([i._replace(count=-i.count) for i in batch[::2]])
    dense: dict[int, np.ndarray] = {}
    for i in [*batch, *more, *(i._replace(count=-i.count) for i in batch[::2])]:
        if i[:2] == ("a", "b"):
            dense.setdefault(i.epoch, np.zeros(AXES.bins, np.int64))[i.bin] += i.count
    now = max([0, *(i.epoch for i in more), max((i.epoch for i in batch), default=0) + later])
    slow = np.zeros(AXES.bins)
    for epoch, row in sorted(dense.items()):
        slow += 2.0 ** (-(now - epoch) / AXES.half_life_epochs) * row
    assert tables.histogram("a", "b").tobytes() == (np.maximum(slow, 0.0) / ONE).tobytes()
    assert tables.counts("a", "b", [1, 2]).tolist() == (dense.get(1, 0 * slow) + dense.get(2, 0 * slow)).tolist()
    assert {e for e, row in dense.items() if row.any()} <= set(tables.epochs())


@given(increments, st.integers(0, 3))
def test_what_is_forgotten_counts_less_than_a_millionth(batch, late) -> None:
    fading = TableSettings(bin_s=2.0, origin_s=-10.0, horizon_s=90.0, half_life_epochs=0.05)
    whole, lean = TransitionTables(fading), TransitionTables(fading)
    whole.add(batch)
    lean.add(batch)
    for tables in (whole, lean):
        tables.at_epoch(late)
    lean.forget_faded()
    now = max([0, late, *(i.epoch for i in batch)])
    assert list(lean.items()) == [i for i in whole.items() if i.epoch >= now - 1]
    total = sum(i.count for i in batch) / ONE
    for pair in (("a", "b"), ("b", "c"), ("b", "b")):
        assert np.abs(lean.histogram(*pair) - whole.histogram(*pair)).max() <= 2.0**-20 * total
    lean.add(batch)  # of forgotten epochs nothing comes back, in whatever order
    lean.add([i._replace(count=-i.count) for i in batch])
    assert list(lean.items()) == [i for i in whole.items() if i.epoch >= now - 1]
    lean.add([i._replace(count=-i.count) for i in batch])
    assert list(lean.items()) == []


@given(increments, increments)
def test_retracting_is_the_identity(kept, undone) -> None:
    tables = filled(kept)
    tables.add(undone)
    tables.add([i._replace(count=-i.count) for i in undone])
    assert list(tables.items()) == list(filled(kept).items())


@given(increments, st.integers(0, AXES.bins - 1))
def test_a_likelier_delay_and_an_unseen_pair(batch, b) -> None:
    tables = filled(batch)
    assert not tables.log_ratio("c", "a").any()  # unseen: says nothing anywhere
    assert tables.log_lift("x", "y") == 0.0 or batch
    row = tables.log_ratio("a", "b")
    assert row[b] >= np.log(AXES.floor) - 1e-6  # the floor bounds how strongly time can speak against


@given(increments)
def test_no_trust_is_neutral(batch) -> None:
    tables = filled(batch)
    before = tables.log_ratio("a", "b").copy()
    tables.set_trust(("a", "b"), 0.0)
    assert np.abs(tables.log_ratio("a", "b")).max() < 1e-6
    assert tables.trusted_log_ratio("a", "b").tobytes() == before.tobytes()
    tables.set_trust(("a", "b"), 1.0)
    assert tables.log_ratio("a", "b").tobytes() == before.tobytes()
