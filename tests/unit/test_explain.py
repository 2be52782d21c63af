"""Explanations say what the log says, and their limits are the points at which a decision turns."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from door import identrix

from pipeline.config import load_match_config
from pipeline.counterfactual import Weights, chosen_of, counterfactual, weights_at
from pipeline.explain import ExplainError, explain, in_words
from pipeline.journal import json_line, read_decisions, to_json
from pipeline.replay import replay_to
from pipeline.sightings_file import write_sightings
from st_model.ledger import Correction
from st_model.sightings import Candidate, Decision, Sighting

NEW = Candidate(None, 0.0, math.nan, 1.0, 0.5, 0.1)


def logistic(x):
    return 1 / (1 + math.exp(-x))


def candidate(global_id, cosine, transition, probability, camera="hall"):
    """A candidate as the matcher logs it with g0 = 20, b0 = -12, g1 = 1."""
    joint = logistic(20 * cosine - 12 + math.log(transition))
    return Candidate(global_id, cosine, 4.0, transition, joint, probability, camera)


def write(folder, decisions, corrections=()):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decisions.jsonl").write_bytes(b"".join(json_line(to_json(d)) for d in decisions))
    (folder / "corrections.jsonl").write_bytes(b"".join(json_line(to_json(c)) for c in corrections))
    return folder


@pytest.fixture
def folder(tmp_path):
    """lobby:7 was P3 and became P5, whose later name is P2; hall:4 left P2 again; exit:1 is alone."""
    both = (candidate(3, 0.8, 2.0, 0.6), candidate(5, 0.7, 3.0, 0.3), NEW)
    later = (candidate(5, 0.9, 3.0, 0.8), candidate(3, 0.7, 2.0, 0.1), NEW)
    return write(
        tmp_path / "run",
        [
            Decision("hall", 4, 2.0, 5, "new", (replace(NEW, probability=1.0),), 1.0, 0),
            Decision("lobby", 7, 10.0, 3, "provisional", both, 0.3, 4),
            Decision("exit", 1, 12.0, 9, "new", (replace(NEW, probability=0.9), candidate(3, 0.2, 1.0, 0.1)), 0.8, 5),
            Decision("lobby", 7, 15.0, 5, "switch", later, 0.7, 6),
        ],
        [
            Correction("merge", 20.0, 5, 2, (("hall", 4), ("lobby", 7)), 0.97, "mutual best"),
            Correction("split", 30.0, 2, 11, (("hall", 4),), 0.99, "no longer agrees"),
        ],
    )


def test_a_stay_comes_with_every_decision_and_correction(folder):
    answer = explain(folder, "lobby:7")
    (stay,) = answer.stays
    assert (stay.final_id, answer.global_id) == (2, None)
    assert [item.decision.kind for item in stay.decisions] == ["provisional", "switch"]
    assert [item.probability for item in stay.decisions] == [0.6, 0.8]
    assert [c.kind for c in stay.corrections] == ["merge"]
    text = "\n".join(in_words(answer))
    assert "changed to P5: 80.0 %, margin 0.70, tables version 6" in text
    assert "at 20.0 s P5 was found to be P2 (97.0 %): mutual best" in text
    assert "a cosine to P5 above 0.73, or a transition above x6" in text  # log(.6 / .3) = .69 nats = .035 of cosine


def test_who_got_the_likelier_one_is_named(tmp_path):
    """Two arrivals of one camera and moment look like P3; one in another camera does, too, and takes nothing away."""
    likely = (candidate(3, 0.8, 2.0, 0.7), replace(NEW, probability=0.3))
    run = write(
        tmp_path / "run",
        [
            Decision("hall", 1, 10.0, 3, "match", (candidate(3, 0.9, 2.0, 0.9), NEW), 0.8, 1),
            Decision("hall", 2, 10.0, 4, "provisional", likely, -0.4, 1),
            Decision("yard", 5, 10.0, 3, "match", (candidate(3, 0.9, 2.0, 0.9), NEW), 0.8, 1),
        ],
    )
    (item,) = explain(run, "hall:2").stays[0].decisions
    assert (item.beside, item.taken_by) == ((("hall", 1),), ("hall", 1))
    text = "\n".join(in_words(explain(run, "hall:2")))
    assert "P3 was 2.3 times likelier, but went to hall:1 of the same moment" in text
    assert text.endswith("that a wrong match costs more than a second id")
    (other,) = explain(run, "hall:1").stays[0].decisions
    assert other.taken_by is None


@pytest.mark.parametrize("who", ["2", "P2", "p5"])
def test_a_person_is_found_under_each_of_its_ids(folder, who):
    answer = explain(folder, who)
    assert answer.global_id == 2
    assert [(stay.camera, stay.final_id) for stay in answer.stays] == [("hall", 11), ("lobby", 2)]
    assert [c.kind for c in answer.stays[0].corrections] == ["merge", "split"]
    text = "\n".join(in_words(answer))
    assert text.startswith("P2 (P5 was merged into it): 1 stay" if who == "p5" else "P2: 1 stay")
    assert "hall:4 is P11" in text and "no longer this person" in text


def test_a_person_that_lost_its_only_stay_is_still_explained(folder):
    assert [(stay.camera, stay.final_id) for stay in explain(folder, "P3").stays] == [("lobby", 2)]


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("P4", "no person P4; the nearest are P2, P3, P5"),
        ("lobby:8", "no stay lobby:8; the nearest are lobby:7"),
        ("loby:7", "no camera 'loby'; did you mean 'lobby'"),
        ("quay:7", "no camera 'quay'; there are exit, hall, lobby"),
        ("lobby", "expected a person such as P12, or a stay such as lobby:7"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(folder, who, message):
    with pytest.raises(ExplainError, match=message):
        explain(folder, who)
    result = identrix("explain", folder, who)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_folder_without_decisions_is_refused(tmp_path):
    assert identrix("explain", tmp_path, "P1").exit_code == 2


def test_a_run_that_still_goes_can_be_asked(tmp_path):
    write(tmp_path / "journal", [Decision("hall", 4, 2.0, 5, "new", (replace(NEW, probability=1.0),))])
    assert [stay.camera for stay in explain(tmp_path, "5").stays] == ["hall"]


def test_json_through_the_door_holds_the_same(folder):
    result = identrix("explain", folder, "lobby:7", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    decision = answer["stays"][0]["decisions"][0]
    assert decision["changed_by"]["runner_up"] == 5
    assert decision["decision"]["candidates"][2]["delay_s"] is None
    assert identrix("explain", folder, "lobby:7").stdout.splitlines() == in_words(explain(folder, "lobby:7"))


def test_limits_are_where_both_are_equally_likely():
    chosen, other = candidate(3, 0.8, 2.0, 0.6), candidate(5, 0.7, 3.0, 0.3)
    decision = Decision("lobby", 7, 10.0, 3, "match", (chosen, other, NEW), 0.3)
    change = counterfactual(decision, weights_at([decision], 0))
    assert change.runner_up == 5
    # Odds of the same priors: raise or lower one side to its limit, and the two weigh the same.
    prior = math.log(0.6 / 0.3) - (20 * 0.1 + math.log(2 / 3))
    for cosines, transitions in (
        ((0.8, change.appearance_needed), (2.0, 3.0)),
        ((0.8, 0.7), (2.0, change.transition_needed)),
        ((change.appearance_limit, 0.7), (2.0, 3.0)),
        ((0.8, 0.7), (change.transition_limit, 3.0)),
    ):
        assert 20 * (cosines[0] - cosines[1]) + math.log(transitions[0] / transitions[1]) + prior == pytest.approx(0)


def test_no_limit_is_named_that_no_cosine_can_reach():
    chosen = candidate(3, 0.8, 1.0, 0.999999)
    decision = Decision("lobby", 7, 10.0, 3, "match", (chosen, replace(NEW, probability=1e-6)), 0.99)
    change = counterfactual(decision, Weights(2.0, 1.0))
    assert (change.appearance_limit, change.appearance_needed) == (None, None)
    assert change.transition_limit == pytest.approx(1e-6, rel=1e-3)


def test_a_likelier_person_who_was_taken_is_said_to_be():
    taken = candidate(3, 0.8, 2.0, 0.8)
    decision = Decision("lobby", 7, 10.0, 9, "new", (taken, replace(NEW, probability=0.2)), -0.6)
    assert chosen_of(decision).global_id is None
    assert counterfactual(decision, None).times_likelier == pytest.approx(0.25)


def test_weights_of_a_real_replay_are_those_it_ran_with(tmp_path):
    rng = np.random.default_rng(2)
    said = []
    for n in range(30):
        looks = rng.normal(size=8) + (n % 5 == 0)
        embedding = (looks / np.linalg.norm(looks)).astype(np.float32)
        said.append(Sighting("ab"[n % 2], n, 9.0 * n, 9.0 * n + 4, 9.0 * n + 5, True, embedding, 2))
    write_sightings(tmp_path / "sightings.parquet", said)
    overrides = ["match.g1=0.7", "match.calibration.g0=8", "match.calibration.b0=-4"]
    assert load_match_config({}, overrides=overrides).match.g1 == 0.7
    replay_to(tmp_path / "sightings.parquet", tmp_path / "out", overrides=overrides)
    decisions = read_decisions(tmp_path / "out" / "decisions.jsonl")
    found = [weights_at(decisions, n) for n in range(4, len(decisions))]
    assert {round(w.g0, 6) for w in found} == {8.0}
    with_time = [n for n, d in enumerate(decisions) if len({c.transition for c in d.candidates}) > 2]
    assert all(weights_at(decisions, n).g1 == pytest.approx(0.7) for n in with_time)
