"""The matcher's parts: ledger, teaching, calibration, basis, drift, clocks, merging and splitting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sighting_streams import unit

from st_model.appearance import RETURN_DOUBT, Basis, fit_basis, raw_basis
from st_model.calibration import Calibration, calibration_for, fit_platt, reliability
from st_model.clocks import clock_offsets, clock_steps, cycle_residuals, pair_offsets
from st_model.drift import CALM_LINKS, PairDrift, distance, observe
from st_model.gallery import Gallery, Stay
from st_model.hypotheses import MatchSettings, about, transition_between, twice
from st_model.ledger import Correction, LedgerError, aliases, final_ids
from st_model.merging import find_merges
from st_model.sightings import Candidate, Decision
from st_model.snapshot import drift_from_row, drift_to_row
from st_model.splitting import find_splits, retractions
from st_model.teaching import Teacher, last_exit_weights
from st_model.transitions import ONE, Increment, TableSettings, TransitionTables
from st_model.witness_fit import fit_by_crowds

AXES = TableSettings(horizon_s=300.0)


def stay(camera: str, track_id: int, entered_s: float, last_s: float, look) -> Stay:
    return Stay(camera, track_id, entered_s, last_s, True, unit(np.asarray(look, float)), 1)


def decision(track_id: int, global_id: int, time_s: float, p: float = 0.9) -> Decision:
    return Decision("a", track_id, time_s, global_id, "match", (Candidate(global_id, 0.5, 1.0, 1.0, 0.5, p),))


def test_final_ids_follow_merges_of_merges_and_splits() -> None:
    decisions = [decision(1, 5, 0.0), decision(2, 6, 1.0), decision(2, 7, 2.0, 0.8)]
    ledger = [
        Correction("merge", 3.0, 7, 6, (("a", 2),), 0.9),
        Correction("merge", 4.0, 6, 5, (("a", 2),), 0.9),
        Correction("split", 5.0, 5, 8, (("a", 1),), 0.7),
    ]
    assert final_ids(decisions, ledger) == {("a", 1): (8, 0.7), ("a", 2): (5, 0.8)}


def test_a_later_decision_outranks_an_earlier_split() -> None:
    ledger = [Correction("split", 5.0, 1, 2, (("a", 1),), 0.7)]
    assert final_ids([decision(1, 1, 0.0), decision(1, 3, 6.0)], ledger)["a", 1][0] == 3


def test_merges_in_a_circle_are_refused() -> None:
    with pytest.raises(LedgerError, match="circle"):
        aliases([Correction("merge", 1.0, 1, 2, (), 0.9), Correction("merge", 2.0, 2, 1, (), 0.9)])


def test_last_exit_weights_leave_room_for_nobody() -> None:
    weights = last_exit_weights(np.array([0.0, 0.0]), np.array([1.0, 2.0]))
    assert weights.tolist() == [0.25, 0.5]


def test_only_the_latest_of_several_exits_teaches() -> None:
    teacher, basis = Teacher(AXES), raw_basis(Calibration(20.0, -10.0))
    red = [1, 0, 0]
    for n, camera in enumerate("abc"):
        taught = teacher.close(stay(camera, n, 20.0 * n, 20.0 * n + 5, red), basis)
    assert [(i.from_camera, i.to_camera, i.bin) for i in taught] == [("b", "c", AXES.bin_of(15.0))]


def test_platt_finds_the_slope_it_was_drawn_from() -> None:
    rng = np.random.default_rng(0)
    s = rng.uniform(-1, 1, 20_000)
    same = (rng.uniform(size=len(s)) < 1 / (1 + np.exp(-(8 * s - 2)))).astype(float)
    fit = fit_platt(s, same, np.ones(len(s)))
    assert fit is not None
    assert fit.g0 == pytest.approx(8, rel=0.05)
    assert fit.b0 == pytest.approx(-2, rel=0.1)
    honest = reliability(1 / (1 + np.exp(-(fit.g0 * s + fit.b0))), same)
    boastful = reliability(1 / (1 + np.exp(-3 * (fit.g0 * s + fit.b0))), same)
    assert honest.error < 0.02 < boastful.error


def test_platt_says_when_the_data_do_not_decide() -> None:
    assert fit_platt(np.zeros(3), np.ones(3), np.ones(3)) is None
    assert fit_platt(np.array([0.9, 0.1]), np.array([0.0, 1.0]), np.ones(2)) is None  # upside down


def test_an_unknown_encoder_gets_a_default_and_nonsense_is_refused() -> None:
    assert calibration_for("osnet_x0_25_msmt17") == calibration_for("osnet")
    assert calibration_for("my own") == calibration_for("pair")
    with pytest.raises(ValueError, match="g0"):
        Calibration(-1.0, 0.0)


def test_the_fitted_basis_undoes_a_colour_cast_and_separates_people() -> None:
    rng = np.random.default_rng(1)
    looks = rng.normal(size=(40, 24))
    cast = {"a": 2.0 * rng.normal(size=24), "b": 2.0 * rng.normal(size=24)}
    rows = [(c, p) for p in range(40) for c in "ab"]
    raw = np.stack([unit(looks[p] + cast[c] + 0.3 * rng.normal(size=24)) for c, p in rows])
    entered = np.array([200.0 * p + (10.0 if c == "b" else 0.0) for c, p in rows])
    basis = fit_basis([c for c, _ in rows], raw, entered, entered + 5, whiten=False, stays=80)
    v = basis.vectors([c for c, _ in rows], raw)
    same = np.array([float(v[2 * p] @ v[2 * p + 1]) for p in range(40)])
    other = np.array([float(v[2 * p] @ v[(2 * p + 3) % 80]) for p in range(40)])
    before = np.mean([float(raw[2 * p] @ raw[2 * p + 1]) for p in range(40)])
    assert same.mean() > before
    assert np.mean(basis.calibration.g0 * same + basis.calibration.b0 > 0) > 0.9
    assert np.mean(basis.calibration.g0 * other + basis.calibration.b0 < 0) > 0.9


@pytest.mark.filterwarnings("error")
def test_an_encoder_that_says_the_same_of_everybody_gives_a_basis_in_which_nobody_is_alike() -> None:
    same = np.tile(unit(np.arange(1.0, 9.0)), (80, 1))
    times = np.arange(80.0) * 10
    basis = fit_basis(["a", "b"] * 40, same, times, times + 5, whiten=True, stays=80)
    assert np.isfinite([basis.calibration.g0, basis.calibration.b0]).all()
    assert np.abs(basis.vectors(["a", "b"], same[:2])).max() < 1e-3


def test_drift_is_noticed_and_ends() -> None:
    rng = np.random.default_rng(2)
    state = PairDrift()
    for _ in range(500):
        state = observe(state, int(rng.normal(25.0, 4.0)), 3.0)
        assert not state.alarmed
    for n in range(4):
        state = observe(state, 900 + n, -3.0)
        assert not state.alarmed  # a few wrong links are no alarm
    links = 0
    while not state.alarmed and links < 12:
        state, links = observe(state, int(rng.normal(60.0, 4.0)), 2.0), links + 1
    assert state.alarmed
    state = observe(state, 60, -10.0)
    for _ in range(CALM_LINKS):
        assert state.alarmed  # until the table expects what comes
        state = observe(state, int(rng.normal(60.0, 4.0)), 3.0)
    assert not state.alarmed
    for _ in range(100):  # and the new delays are what is usual from now on
        state = observe(state, int(rng.normal(60.0, 4.0)), 3.0)
        assert not state.alarmed


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_the_distance_of_delays_is_that_of_kolmogorov_and_smirnov(a: list[int], b: list[int]) -> None:
    slow = max(abs(sum(x <= t for x in a) / len(a) - sum(x <= t for x in b) / len(b)) for t in range(31))
    assert distance(a, b) == pytest.approx(slow) == pytest.approx(distance(b, a))


def test_what_earlier_versions_kept_of_drift_is_read() -> None:
    assert drift_from_row([40, 3.0, 0.5, True, [1.0]]) == PairDrift(alarmed=True)
    state = PairDrift(False, (1, 2), (3,), (0.5,))
    assert drift_from_row(drift_to_row(state)) == state


def walks(pairs: dict[tuple[str, str], float], ahead: dict[str, float], epoch: int, n: int = 12) -> list[Increment]:
    axes = TableSettings(horizon_s=1000.0, epoch_s=600.0)
    out = []
    for (a, b), walk_s in pairs.items():
        for x, y in ((a, b), (b, a)):
            delay = walk_s + ahead.get(y, 0.0) - ahead.get(x, 0.0)
            if delay >= axes.origin_s:  # the others are seen the other way round
                out.append(Increment(x, y, epoch, axes.bin_of(delay) or 0, n * ONE))
            else:
                out.append(Increment(y, x, epoch, axes.bin_of(-delay) or 0, n * ONE))
    return out


WALKS = {("a", "b"): 20.0, ("b", "c"): 40.0, ("a", "c"): 60.0, ("c", "d"): 10.0}


def test_clock_offsets_are_found_with_their_uncertainty() -> None:
    tables = TransitionTables(TableSettings(horizon_s=1000.0, epoch_s=600.0))
    tables.add(walks(WALKS, {"b": -300.0}, 0))
    found = {c.camera: c for c in clock_offsets(tables)}
    assert found["b"].offset_s == pytest.approx(-300.0, abs=5)
    assert all(abs(found[c].offset_s) < 5 for c in "acd")
    assert all(0 < c.error_s < 30 for c in found.values())
    assert [r.cameras for r in cycle_residuals(pair_offsets(tables))] == [("a", "b", "c")]
    assert abs(cycle_residuals(pair_offsets(tables))[0].residual_s) < 5


def test_a_clock_that_jumps_is_dated() -> None:
    tables = TransitionTables(TableSettings(horizon_s=1000.0, epoch_s=600.0))
    for epoch in range(6):
        tables.add(walks(WALKS, {"d": -200.0} if epoch >= 3 else {}, epoch))
    steps = [(s.camera, s.from_s, round(s.offset_s, -1)) for s in clock_steps(tables) if s.camera == "d"]
    assert steps == [("d", 0.0, 0.0), ("d", 1800.0, -200.0)]


def test_one_odd_epoch_is_no_jump_and_the_latest_jump_waits_for_its_second() -> None:
    tables = TransitionTables(TableSettings(horizon_s=1000.0, epoch_s=600.0))
    offsets = [0.0, 0.0, 150.0, 0.0, 0.0, -200.0]
    for epoch, offset in enumerate(offsets):
        tables.add(walks(WALKS, {"d": offset}, epoch))

    def steps() -> list[tuple[float, float]]:
        return [(s.from_s, round(s.offset_s, -1) + 0.0) for s in clock_steps(tables) if s.camera == "d"]

    assert steps() == [(0.0, 0.0)]
    tables.add(walks(WALKS, {"d": -200.0}, len(offsets)))
    assert steps() == [(0.0, 0.0), (3000.0, -200.0)]


def test_a_camera_nobody_reaches_has_no_offset() -> None:
    tables = TransitionTables(AXES)
    assert clock_offsets(tables) == []
    tables.add([Increment("a", "a", 0, 20, 9 * ONE)])
    assert [(c.supported, c.error_s) for c in clock_offsets(tables)] == [(False, np.inf)]


def people(*groups: list[Stay]) -> Gallery:
    gallery = Gallery(raw_basis(Calibration(20.0, -10.0)))
    for n, group in enumerate(groups, 1):
        for s in group:
            gallery.give(s, n)
            gallery.confirm(s)
    return gallery


RED, BLUE = [1, 0, 0], [0, 1, 0]
SETTINGS = MatchSettings(calibration=Calibration(20.0, -10.0))


def share(camera: str, settings: MatchSettings) -> float:
    return 0.3


def test_two_identities_of_one_person_are_merged_into_the_older() -> None:
    gallery = people([stay("a", 1, 0, 5, RED)], [stay("b", 1, 20, 25, RED)], [stay("b", 2, 20, 25, BLUE)])
    merges = find_merges(gallery, [2], TransitionTables(AXES), SETTINGS, share, 30.0)
    assert [(m.global_id, m.into_id, m.stays) for m in merges] == [(2, 1, (("b", 1),))]


def test_people_in_view_at_the_same_time_are_never_merged() -> None:
    gallery = people([stay("a", 1, 0, 25, RED)], [stay("a", 2, 10, 20, RED)])
    assert find_merges(gallery, [1, 2], TransitionTables(AXES), SETTINGS, share, 30.0) == []


def test_a_stay_that_does_not_belong_is_split_and_its_links_retracted() -> None:
    red = [stay("a", n, 30.0 * n, 30.0 * n + 5, RED) for n in range(4)]
    blue = stay("b", 9, 150, 155, BLUE)
    blue.taught, blue.taught_from = Increment("a", "b", 0, 40, 3000), red[3].key
    gallery = people([*red, blue])
    found = find_splits(gallery, [1], TransitionTables(AXES), SETTINGS, share, 0.0)
    assert [(s.key, p > 0.99) for s, p in found] == [(blue.key, True)]
    assert retractions(gallery.identities[1], blue) == [Increment("a", "b", 0, 40, -3000)]
    assert retractions(gallery.identities[1], blue) == []  # only once


def test_prototypes_are_few_and_of_many_cameras() -> None:
    stays = [stay("a", n, 10.0 * n, 10.0 * n + 1, RED) for n in range(12)]
    stays += [stay("b", n, 10.0 * n + 3, 10.0 * n + 4, RED) for n in range(12)]
    gallery = people(stays)
    kept = gallery.identities[1].prototypes
    assert len(kept) <= gallery.most
    assert all(sum(s.camera == c for s in kept) <= gallery.per_camera for c in "ab")


def test_prototypes_that_disagree_count_less() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(80, 16))
    cameras = list(itertools.islice(itertools.cycle("ab"), 80))
    times = np.arange(80) * 50.0
    basis = fit_basis(cameras, np.stack([unit(r) for r in rows]), times, times + 5, whiten=False, stays=80)
    gallery = Gallery(basis)
    look = rng.normal(size=16)
    for n in range(2):
        one = stay("a", n, 10.0 * n, 10.0 * n + 1, look + 0.05 * rng.normal(size=16))
        mixed = stay("a", 5 + n, 10.0 * n, 10.0 * n + 1, look if n else -look + rng.normal(size=16))
        for s, i in ((one, 1), (mixed, 2)):
            gallery.give(s, i)
            gallery.confirm(s)
    lengths = [float(np.linalg.norm(gallery.vectors[gallery.slot(i)])) for i in (1, 2)]
    assert lengths[0] > 0.95
    assert lengths[1] < 0.7


def test_who_left_beyond_the_horizon_is_hardly_about() -> None:
    gallery, settings = Gallery(raw_basis(Calibration(20.0, -10.0))), MatchSettings()
    for n, last_s in enumerate((0.0, 10.0, 900.0)):
        gallery.give(stay("a", n, last_s, last_s, RED), n + 1)
    assert about(gallery, 1000.0, TransitionTables(AXES), settings) == pytest.approx(
        1.0 + 2.0 * np.exp(-settings.revival)
    )


def test_a_mean_of_several_stays_must_be_more_alike() -> None:
    basis = Basis(None, {}, None, Calibration(20.0, -10.0), 0, agreement=0.4)
    gallery = Gallery(basis)
    assert [gallery.gain_of(n) for n in (0, 1)] == [1.0, 1.0]
    assert gallery.gain_of(4) == pytest.approx(np.sqrt(4 / 2.2))
    for n in range(4):
        one = stay("abcd"[n], n, 10.0 * n, 10.0 * n + 1, RED)
        gallery.give(one, 1)
        gallery.confirm(one)
    assert gallery.gain[gallery.slot(1)] == pytest.approx(np.sqrt(4 / 2.2))


def test_the_fit_by_crowds_stands_where_nobody_is_near_or_seen_at_all() -> None:
    rng = np.random.default_rng(5)
    nothing = np.zeros(0)
    alone = fit_by_crowds(nothing, [nothing, nothing])
    assert (alone.slope, -alone.offset / alone.slope) == pytest.approx((2.0, 2.2), rel=1e-3)
    strangers, same = rng.normal(size=20_000), rng.normal(4.0, 1.0, 800)  # log-odds 4 z - 8
    late = fit_by_crowds(nothing, [strangers[:2000], np.append(same, strangers[2000:9000]), strangers[9000:]])
    assert late.slope == pytest.approx(4.0, rel=0.25)
    assert -late.offset / late.slope == pytest.approx(2.0, abs=0.3)


def test_twice_needs_more_than_a_broken_track() -> None:
    a, b, c = stay("a", 1, 0, 10, RED), stay("a", 2, 9.5, 20, RED), stay("a", 3, 5, 20, RED)
    assert not twice(a, b, 1.0)
    assert twice(a, c, 1.0)
    assert not twice(a, stay("b", 4, 0, 10, RED), 1.0)


@pytest.mark.parametrize("wrong", [{"bin_s": 0.0}, {"origin_s": 5.0}, {"floor": 0.0}, {"horizon_s": -1.0}])
def test_axes_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        TableSettings(**wrong)


def test_a_bin_outside_the_axis_adds_nothing() -> None:
    tables = TransitionTables(AXES)
    with pytest.raises(ValueError, match="outside"):
        tables.add([Increment("a", "b", 0, 1, ONE), Increment("a", "b", 0, AXES.bins, ONE)])
    assert tables.pairs() == []


def test_old_epochs_fade() -> None:
    tables = TransitionTables(AXES)
    tables.add([Increment("a", "b", 0, 3, 8 * ONE)])
    tables.at_epoch(7)
    assert tables.evidence("a", "b") == pytest.approx(4.0)


def test_a_pair_whose_counts_were_taken_back_is_as_one_never_seen() -> None:
    tables = TransitionTables(AXES)
    tables.add([Increment("a", "b", 0, 3, 4096), Increment("c", "b", 0, 3, 4096), Increment("c", "b", 1, 3, 9)])
    tables.add([Increment("a", "b", 0, 3, -4096), Increment("c", "b", 1, 3, -9)])
    anew = TransitionTables(AXES)
    anew.add(tables.items())
    for one in (tables, anew):
        assert one.pairs() == [("c", "b")] and one.sources("b") == ["c"] and one.epochs() == [0]
        assert one.log_lift("a", "b") == 0.0


def test_exits_are_counted_at_the_present_rate() -> None:
    gallery = Gallery(raw_basis(Calibration(20.0, -10.0)))
    teacher = Teacher(AXES)
    assert teacher.exits_per_s(50.0) == 0.0
    for n in range(6):
        teacher.close(stay("a", n, 10.0 * n, 10.0 * n + 5.0, RED), gallery.basis)
    assert teacher.exits_per_s(100.0) == pytest.approx(5 / 95.0)  # watched since the first exit, at 5 s: five since
    assert teacher.exits_per_s(30.0) == pytest.approx(3 / 60.0)  # at least a minute; later exits are not known yet
    assert teacher.exits_per_s(100.0 + 1800.0) == pytest.approx(1 / 1800.0)  # long quiet: as if one


def test_what_tables_say_counts_less_among_many_exits_and_returns_are_doubted() -> None:
    tables = TransitionTables(AXES)
    tables.add([Increment(a, "b", 0, AXES.bin_of(20.0) or 0, 50 * ONE) for a in ("a", "b")])
    old = stay("a", 1, 0.0, 10.0, RED)

    def log_r(crowd: float, from_camera: str = "a", delay_s: float = 20.0) -> float:
        new = stay("b", 2, 10.0 + delay_s, 40.0 + delay_s, RED)
        new.crowd = crowd
        return transition_between(tables, stay(from_camera, 1, 0.0, 10.0, RED), new, MatchSettings(lift=0.0))[0]

    alone, among = log_r(1.0), log_r(4.0)
    unlearnt = tables.unlearnt(old.camera, "b")
    assert np.exp(among) == pytest.approx(unlearnt + (np.exp(alone) - unlearnt) / 4.0)
    assert log_r(1.0, "b") == pytest.approx(alone - RETURN_DOUBT)
    assert log_r(1.0, "b", 0.5) == pytest.approx(log_r(1.0, "a", 0.5))  # a broken track goes on
