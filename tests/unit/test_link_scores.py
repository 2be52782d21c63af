"""Scores of global ids: the situations by hand, and the independent scoring tool when it is there."""

from __future__ import annotations

import importlib.util
import random

import pytest

from st_model.link_scores import NOBODY, LabelledStay, score_links

STAYS = [
    LabelledStay("A", 1, 7, 0, 10),
    LabelledStay("B", 1, 7, 8, 20),  # overlap
    LabelledStay("A", 2, 7, 10.3, 12),  # broken track
    LabelledStay("C", 1, 7, 25, 30),  # blind
    LabelledStay("C", 2, 7, 40, 45),  # return
    LabelledStay("A", 3, 8, 11, 15),
    LabelledStay("B", 2, 8, 18, 22),  # blind
]
TRUTH = {s.key: s.person for s in STAYS}


def test_perfect_ids():
    scores = score_links(STAYS, TRUTH)
    assert {kind: ratio.truth for kind, ratio in scores.links.items()} == {
        "hand_over": 3,
        "blind": 2,
        "overlap": 1,
        "broken": 1,
        "return": 1,
    }
    assert all(ratio.f1 == 1 for ratio in scores.links.values())
    assert (scores.false_merges, scores.split, scores.purity, scores.completeness) == (0, 0, 1, 1)


def test_no_ids_at_all():
    scores = score_links(STAYS, {})
    assert scores.hand_over == (0, 3, 0, 0)
    assert (scores.unassigned, scores.ids, scores.split) == (7, 7, 2)


def test_one_id_for_all():
    scores = score_links(STAYS, dict.fromkeys(TRUTH, 1))
    assert scores.hand_over.recall == 1 > scores.hand_over.precision
    assert (scores.false_merges, scores.pairs.hit, scores.pairs.claimed, scores.pairs_cross.truth) == (1, 11, 21, 9)


def test_a_swap_in_one_camera():
    scores = score_links(STAYS, TRUTH | {("B", 1): 8, ("B", 2): 7})
    assert scores.links["blind"].hit == 0
    assert scores.hand_over.right == 0
    assert scores.links["broken"].f1 == 1
    assert scores.purity == pytest.approx(5 / 7)


def test_a_false_detection_is_nobodys():
    ghosts = [LabelledStay("B", 3, NOBODY, 16, 17), LabelledStay("A", 4, NOBODY, 32, 33)]
    alone = score_links(STAYS + ghosts, TRUTH | {("B", 3): 20, ("A", 4): 21})
    assert (alone.false_merges, alone.people, alone.purity, alone.nobody) == (0, 2, 1, 2)
    joined = score_links(STAYS + ghosts, TRUTH | {("B", 3): 8, ("A", 4): 8})
    assert (joined.false_merges, joined.pairs.claimed, joined.purity) == (1, 16, 1)


def test_unscored_stays_only_teach():
    stays = [s._replace(scored=s.key == ("C", 2)) for s in STAYS]
    scores = score_links(stays, TRUTH | {("A", 3): 99, ("C", 2): 99})
    assert scores.false_merges == 1
    assert scores.links["return"].truth == 1
    assert scores.hand_over.truth == 0


def test_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match="nothing to score"):
        score_links([], {})


@pytest.fixture(scope="module")
def tool(data_dir):
    path = data_dir.parent / "tools" / "score_assignments.py"
    if not path.is_file():
        pytest.skip("the scoring tool is not beside the data")
    spec = importlib.util.spec_from_file_location("score_assignments", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_independent_tool(tool, seed):
    rng = random.Random(seed)
    stays, ids = [], {}
    for track in range(rng.randint(2, 60)):
        start = rng.choice([rng.uniform(0, 100), rng.randint(0, 20)])  # whole seconds make ties
        stay = LabelledStay(
            rng.choice("ABC"),
            track,
            rng.choice([NOBODY, *range(1, 6)]) if track else 1,
            start,
            start + rng.choice([0.0, 1.0, 5.0, rng.uniform(0, 30)]),
            rng.random() < 0.9 or not track,
        )
        stays.append(stay)
        if rng.random() < 0.9:
            ids[stay.key] = rng.randint(1, 8)
    theirs = tool.score(
        sorted(
            tool.Stay(
                s.entered_s,
                s.camera,
                s.track_id,
                s.last_s,
                str(s.person) if s.person != NOBODY else f"-1 {s.camera} {s.track_id}",
                s.scored,
            )
            for s in stays
        ),
        {key: str(i) for key, i in ids.items()},
    )
    ours = score_links(stays, ids)
    for kind, ratio in [*ours.links.items(), ("pairs", ours.pairs), ("pairs_cross", ours.pairs_cross)]:
        assert tuple(ratio) == tuple(theirs[kind][part] for part in ("hit", "truth", "right", "claimed")), kind
        assert ratio.f1 == pytest.approx(theirs[kind]["f1"])
    for name in ("stays", "nobody", "people", "ids", "false_merges", "purity", "completeness", "unassigned"):
        assert getattr(ours, name) == pytest.approx(theirs[name]), name
    assert ours.split == theirs["persons_split"]
