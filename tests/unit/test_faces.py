"""Faces: found, judged, aligned; carried by sightings; a third factor that is silent where there is none."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sighting_streams import stream, unit

from pipeline.config import load_match_config
from pipeline.journal import decision_from_json, sighting_from_json, sighting_to_json, to_json
from pipeline.replay import replay
from pipeline.sightings_file import SightingsFileError, read_sightings, without_embeddings, write_sightings
from reid.encoders import EncoderError
from reid.faces import (
    TEMPLATE,
    Face,
    FaceFinder,
    FaceGates,
    FaceReader,
    SeenFace,
    aligned,
    face_of,
    fault,
    pose,
    similarity,
)
from st_model.calibration import Calibration
from st_model.faces import face_term
from st_model.sightings import Decision, Sighting
from st_model.snapshot import state_from_dict, state_to_dict
from st_model.transitions import TransitionTables

SEEDS = st.integers(0, 2**32 - 1)


def turned(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    a = np.radians(degrees)
    return (points @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) * scale + shift).astype(np.float32)


# ------------------------------------------------------------------------------------------------ geometry and gates


@given(st.floats(-60, 60), st.floats(0.1, 8), st.floats(-50, 400))
def test_alignment_undoes_any_turn_scale_and_shift(degrees: float, scale: float, shift: float) -> None:
    points = turned(TEMPLATE, degrees, scale, (shift, 2 * shift))
    matrix = similarity(points, TEMPLATE)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=0.05)
    np.testing.assert_allclose(pose(points), pose(TEMPLATE), atol=1e-3)


def test_an_aligned_face_has_its_eyes_in_place() -> None:
    import cv2

    image = np.zeros((300, 300, 3), np.uint8)
    points = turned(TEMPLATE, 20, 1.6, (60, 40))
    for n, (x, y) in enumerate(points):
        cv2.circle(image, (round(float(x)), round(float(y))), 5, (50 * n + 50,) * 3, -1)
    chip = aligned(image, points)
    assert chip.shape == (112, 112, 3)
    for n, (x, y) in enumerate(TEMPLATE):
        assert abs(int(chip[round(float(y)), round(float(x)), 0]) - (50 * n + 50)) < 8
    with pytest.raises(EncoderError, match="all in one place"):
        aligned(image, np.full((5, 2), 7, np.float32))


def test_each_gate_keeps_its_own_faces_out() -> None:
    rng = np.random.default_rng(0)
    crisp, soft = rng.integers(0, 255, (112, 112, 3), np.uint8), np.full((112, 112, 3), 90, np.uint8)
    good = Face(np.zeros(4, np.float32), TEMPLATE, 0.9)
    gates = FaceGates()
    assert fault(good, crisp, gates) is None
    assert fault(replace(good, score=0.5), crisp, gates) == "score"
    assert fault(replace(good, points=TEMPLATE * np.float32(0.3)), crisp, gates) == "size"
    aside = TEMPLATE.copy()
    aside[2, 0] += 20
    assert fault(replace(good, points=aside), crisp, gates) == "pose"
    down = TEMPLATE.copy()
    down[2, 1] = down[3, 1]
    assert fault(replace(good, points=down), crisp, gates) == "pose"
    assert fault(good, soft, gates) == "sharpness"
    for wrong in ({"score": 2.0}, {"eyes_px": 0.0}, {"turn": 0.0}, {"nod": (0.5, 0.5)}):
        with pytest.raises(ValueError, match="must"):
            FaceGates(**wrong)


class OneFace:
    """Finds a face in every crop that is brighter than grey."""

    def __call__(self, crop):
        return Face(np.zeros(4, np.float32), TEMPLATE, 0.9) if crop.mean() > 100 else None


class Brightness:
    name, dim = "brightness", 2

    def __call__(self, crops):
        return np.array([unit(np.array([c.mean(), 128.0])) for c in crops], np.float32)


def test_the_reader_says_nothing_of_crops_without_a_face() -> None:
    rng = np.random.default_rng(0)
    face = rng.integers(60, 255, (112, 112, 3), np.uint8)
    dark, blurred = np.zeros((112, 112, 3), np.uint8), np.full((112, 112, 3), 200, np.uint8)
    read = FaceReader(OneFace(), Brightness())  # type: ignore[arg-type]
    seen = read([dark, face, blurred, face])
    assert [s is not None for s in seen] == [False, True, False, True]
    assert read.seen == {"none": 1, "face": 2, "sharpness": 1}
    assert all(0 < s.quality <= 1 for s in seen if s)
    np.testing.assert_allclose(face_of(seen), seen[1].embedding, atol=1e-6)
    assert face_of([None]) is None
    assert read([]) == []


def test_the_mean_face_follows_quality() -> None:
    a, b = np.eye(2, dtype=np.float32)
    mean = face_of([SeenFace(a, 0.9), None, SeenFace(b, 0.1)])
    np.testing.assert_allclose(mean, unit(np.array([0.9, 0.1])), atol=1e-6)
    np.testing.assert_array_equal(face_of([SeenFace(a, 0.5), SeenFace(-a, 0.5)]), a)


def test_real_faces_are_found_and_told_apart(models_dir: Path) -> None:
    """Two men in a picture that comes with Ultralytics; the second looks aside."""
    import cv2

    from reid.cards import read_card
    from reid.encoders import load_encoder

    found = find_spec("ultralytics")
    picture = Path(found.origin if found and found.origin else "").parent / "assets" / "zidane.jpg"
    paths = [models_dir / name for name in ("face_detection_yunet_2026may.onnx", "mobilefacenet.onnx")]
    if not (picture.exists() and all(path.exists() for path in paths)):
        pytest.skip("no picture of faces, or no YuNet and MobileFaceNet")
    image = cv2.imread(str(picture))
    card = Path(__file__).parents[2] / "configs" / "cards" / "mobilefacenet.yaml"
    assert read_card(card, [models_dir]).dimension == 128
    read = FaceReader(FaceFinder(paths[0]), load_encoder("faces", [card, paths[1]]))
    left, right = image[150:, 430:760], image[:, 740:1130]
    half = cv2.resize(right, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    far = cv2.resize(right, None, fx=0.12, fy=0.12, interpolation=cv2.INTER_AREA)
    first, second, aside, small, back = read([right, half, left, far, image[:300, :300]])
    assert first is not None and second is not None
    assert float(first.embedding @ second.embedding) > 0.8
    assert (aside, small, back) == (None, None, None)
    assert read.seen["pose"] == 1


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"no network" * 50)
    with pytest.raises(EncoderError, match="not a face detector"):
        FaceFinder(tmp_path / "junk.onnx")
    with pytest.raises(EncoderError, match="no weights file"):
        FaceFinder(tmp_path / "gone.onnx")


# ------------------------------------------------------------------------------------------------ the seam


def sighting(face: np.ndarray | None = None, track_id: int = 1) -> Sighting:
    return Sighting("a", track_id, 0.0, 1.0, 1.0 + track_id, True, unit(np.arange(1.0, 5.0)), face=face)


def test_a_sighting_carries_a_face_or_none() -> None:
    face = unit(np.array([1.0, 2.0]))
    assert sighting().face is None
    assert not sighting(face).face.flags.writeable
    for wrong in (face * 2, face.astype(np.float64), face[None], np.array([np.nan, 1], np.float32)):
        with pytest.raises(ValueError, match="face must be"):
            sighting(wrong)


def test_faces_go_through_journal_and_file_bit_for_bit(tmp_path: Path) -> None:
    face = unit(np.random.default_rng(0).normal(size=128))
    rows = [sighting(face, 1), sighting(None, 2)]
    for row in rows:
        back = sighting_from_json(sighting_to_json(row))
        assert (back.face is None) == (row.face is None)
        assert back.face is None or np.array_equal(back.face, row.face)
    assert "face" not in sighting_to_json(rows[1])
    write_sightings(tmp_path / "s.parquet", rows)
    first, second = read_sightings(tmp_path / "s.parquet")
    np.testing.assert_array_equal(first.face, face)
    assert second.face is None


def test_files_without_faces_are_as_they_were(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_sightings(tmp_path / "s.parquet", [sighting()])
    assert "face" not in pq.read_schema(tmp_path / "s.parquet").names
    assert read_sightings(tmp_path / "s.parquet")[0].face is None
    with pytest.raises(ValueError, match="faces of one length"):
        write_sightings(tmp_path / "t.parquet", [sighting(unit(np.ones(2))), sighting(unit(np.ones(3)), 2)])


def test_erased_embeddings_take_the_faces_with_them(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "s.parquet"
    write_sightings(path, [sighting(unit(np.ones(4)))])
    pq.write_table(without_embeddings(pq.read_table(path)), path)
    assert not {"embedding", "face"} & set(pq.read_schema(path).names)
    with pytest.raises(SightingsFileError, match="embeddings were erased"):
        read_sightings(path)


# ------------------------------------------------------------------------------------------------ the third factor


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_the_term_is_monotone_bounded_and_silent_without_faces(c1: float, c2: float) -> None:
    def term(cosine: float) -> float:
        face = np.array([cosine, np.sqrt(1 - cosine * cosine)], np.float32)
        return face_term(face, [np.array([1, 0], np.float32)], Calibration(10.0, -3.0), 6.0)

    low, high = sorted((c1, c2))
    assert -6 <= term(low) <= term(high) <= 6
    assert term(c1) == pytest.approx(np.clip(10 * np.float32(c1) - 3, -6, 6), abs=1e-5)
    assert face_term(None, [np.ones(1, np.float32)]) == 0.0 == face_term(np.ones(1, np.float32), [None, None])


def decisions(rows: list[Sighting], **match: object) -> list[Decision]:
    config = load_match_config({"reid": {"encoder": "stripes"}, "match": match})
    return replay(rows, config, TransitionTables(config.tables)).decisions


@given(SEEDS)
@settings(max_examples=8)
def test_one_face_in_a_run_changes_no_decision_and_no_number(seed: int) -> None:
    """Nobody to compare it with: bit for bit as without."""
    rows, _ = stream(seed % 1000, people=4, visits=3)
    rows = [s for s in rows if s.closed]
    with_one = [replace(rows[0], face=unit(np.ones(8))), *rows[1:]]
    assert list(map(repr, decisions(rows))) == list(map(repr, decisions(with_one)))


def test_faces_decide_where_bodies_cannot() -> None:
    """Everybody wears the same; faces are seen in every stay."""
    rows, truth = stream(3, people=5, visits=4, noise=0.3)
    rows = [s for s in rows if s.closed]
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(5, 64))
    uniform = unit(np.ones(16))
    doubtful = {"calibration": {"g0": 10.0, "b0": -9.0}}
    rows = [replace(s, embedding=unit(uniform + 0.02 * rng.normal(size=16))) for s in rows]
    faces = [replace(s, face=unit(looks[truth[s.key]] + 0.6 * rng.normal(size=64))) for s in rows]

    def right(rows: list[Sighting]) -> float:
        given_ids = {d.key: d.global_id for d in decisions(rows, **doubtful)}
        keys = sorted(given_ids)
        pairs = [(a, b) for n, a in enumerate(keys) for b in keys[:n]]
        return float(np.mean([(given_ids[a] == given_ids[b]) == (truth[a] == truth[b]) for a, b in pairs]))

    assert right(faces) > right(rows) + 0.1
    said = decisions(faces, **doubtful)
    seen = [c.face for d in said for c in d.candidates if c.global_id is not None]
    assert max(seen) > 0 > min(seen)
    assert all(abs(f) <= 6 for f in seen)
    assert {c.face for d in said for c in d.candidates if c.global_id is None} == {0.0}
    assert repr(decision_from_json(to_json(said[-1]))) == repr(said[-1])


def test_faces_speak_for_and_against_a_merge() -> None:
    from st_model.appearance import raw_basis
    from st_model.gallery import Gallery, Stay
    from st_model.merging import find_merges

    config = load_match_config({"reid": {"encoder": "stripes"}, "match": {"calibration": {"g0": 10.0, "b0": -9.0}}})
    body, a, b = unit(np.ones(8)), unit(np.array([1.0, 0.1])), unit(np.array([0.1, 1.0]))

    def merged(first: np.ndarray | None, second: np.ndarray | None) -> list[float]:
        gallery = Gallery(raw_basis(config.match.calibration))
        for n, face in ((1, first), (2, second)):
            stay = Stay("a", n, 100.0 * n, 100.0 * n + 5, True, body, 3, face=face)
            gallery.give(stay, n)
            gallery.confirm(stay)
        tables = TransitionTables(config.tables)
        return [m.probability for m in find_merges(gallery, [1, 2], tables, config.match, lambda *_: 0.3, 300.0)]

    assert merged(None, None) == merged(a, None) == merged(None, b) == merged(a, b) == []
    assert merged(a, a)[0] > config.match.merge_at


def test_a_matcher_that_is_stopped_goes_on_with_faces() -> None:
    from st_model.matcher import OnlineMatcher

    rows, truth = stream(5, people=3, visits=3)
    rng = np.random.default_rng(1)
    looks = rng.normal(size=(3, 16))
    rows = [replace(s, face=unit(looks[truth[s.key]] + 0.2 * rng.normal(size=16))) for s in rows]
    config = load_match_config({"reid": {"encoder": "stripes"}})

    def run(stop_at: int | None) -> list[str]:
        ids, tables, said = iter(range(1, 999)), TransitionTables(config.tables), []
        matcher = OnlineMatcher(config.match, ids.__next__, tables)
        for n, row in enumerate(rows):
            said += matcher.advance(row.emitted_s).decisions
            matcher.submit(row)
            if n == stop_at:
                state = state_from_dict(state_to_dict(matcher.state), tables.settings)
                matcher = OnlineMatcher(config.match, ids.__next__, tables, state=state)
        return [repr(d) for d in said + matcher.finish().decisions]

    assert run(None) == run(len(rows) // 2)


# ------------------------------------------------------------------------------------------------ through a run


def test_a_stay_says_the_mean_of_its_faces() -> None:
    from pipeline.stays import Due, Stay, sightings
    from reid.crops import KeyCrops

    box = np.array([10, 10, 60, 130], np.float32)
    keeper = KeyCrops(cell_s=1.0)
    for n in range(3):
        keeper.offer(np.full((200, 100, 3), 60 * n + 20, np.uint8), box, float(n))
    stay = Stay("a", 1, 0.0, box, keeper, 3.0, box)
    a, b = np.eye(2, dtype=np.float32)
    asked: list[int] = []

    def read(crops):
        asked.append(len(crops))
        return [{0: SeenFace(a, 0.5), 1: None, 2: SeenFace(b, 0.5)}[int(c[0, 0, 0]) // 60] for c in crops]

    def encode(crops):
        return np.array([unit(np.array([1.0, c[0, 0, 0]])) for c in crops])

    (said,) = sightings([Due(stay, False, 3.0)], encode, read)
    np.testing.assert_allclose(said.face, unit(np.array([1.0, 1.0])), atol=1e-6)
    (again,) = sightings([Due(stay, True, 4.0)], encode, read)
    np.testing.assert_array_equal(again.face, said.face)
    assert asked == [3]  # each crop once
    assert sightings([Due(Stay("a", 2, 0.0, box, keeper, 3.0, box), True, 3.0)], encode)[0].face is None


def test_the_switch_is_off_and_wants_a_card() -> None:
    from pipeline.config import ConfigError, load_config

    assert load_config(sources=["a=0"]).faces.enabled is False
    with pytest.raises(ConfigError, match=r"faces: enabled needs faces\.encoder"):
        load_config(sources=["a=0"], overrides=["faces.enabled=true"])
    card = Path(__file__).parents[2] / "configs" / "cards" / "mobilefacenet.yaml"
    on = [f"faces.encoder={card}", "faces.enabled=true", "faces.gates.eyes_px=20"]
    config = load_config(sources=["a=0"], overrides=on)
    assert config.faces.gates.eyes_px == 20
    assert config.match.face_calibration == Calibration(15.0, -4.5)
    own = load_config(sources=["a=0"], overrides=[*on, "match.face_calibration={g0: 9.0, b0: -2.0}"])
    assert own.match.face_calibration.g0 == 9.0
    with pytest.raises(ConfigError, match=r"faces\.gates: .*eyes_px"):
        load_config(sources=["a=0"], overrides=["faces.gates.eyes_px=-1"])


@pytest.mark.parametrize("name", ["arcface", "ghostfacenet", "magface", "mobilefacenet", "sface"])
def test_the_cards_that_ship_can_be_read(name: str) -> None:
    from reid.cards import read_card

    card = read_card(Path(__file__).parents[2] / "configs" / "cards" / f"{name}.yaml", check_file=False)
    assert (card.preprocessing.height_px, card.preprocessing.width_px) == (112, 112)
    assert card.calibration is not None


def test_a_run_that_sees_no_face_writes_none(walk_film: Path, tmp_path: Path, models_dir: Path) -> None:
    import json

    import pyarrow.parquet as pq
    from door import QUICK, identrix

    if not all((models_dir / n).exists() for n in ("face_detection_yunet_2026may.onnx", "mobilefacenet.onnx")):
        pytest.skip("no YuNet and MobileFaceNet")
    card = Path(__file__).parents[2] / "configs" / "cards" / "mobilefacenet.yaml"
    on = ["--set", f"faces.encoder={card}", "--set", "faces.enabled=true"]
    done = identrix("run", "--source", f"a={walk_film}", "--out", tmp_path / "run", *QUICK, *on)
    assert (done.exit_code, done.stderr) == (0, "")
    table = pq.read_table(tmp_path / "run" / "sightings.parquet")
    assert table.num_rows > 0
    assert "face" not in table.column_names
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"yunet", "mobilefacenet weights"} <= facts["weights"].keys()
    assert facts["counters"]["faces"]["none"] > 0
    assert "face" not in facts["counters"]["faces"]


@pytest.fixture
def walk_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One camera and one drawn person, who has no face."""
    from walkers import ENTERS_A_S, film

    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "state"))
    return film(tmp_path / "a.mp4", ENTERS_A_S[:1], duration_s=8.0)


def test_explain_shows_what_a_face_added_and_reads_the_weights_all_the_same() -> None:
    from scipy.special import expit

    from pipeline.counterfactual import weights_at
    from pipeline.explain import ExplainedDecision, ExplainedStay, Explanation, in_words
    from st_model.sightings import Candidate

    def candidate(i: int, cosine: float, face: float) -> Candidate:
        return Candidate(i, cosine, 5.0, 2.0, float(expit(20 * cosine - 12 + np.log(2) + face)), 0.5 / i, "b", face)

    shown = tuple(candidate(i, c, f) for i, c, f in ((1, 0.6, 3.0), (2, 0.5, -4.5), (3, 0.7, 0.0)))
    decision = Decision("a", 1, 9.0, 1, "match", shown)
    found = weights_at([decision], 0)
    assert found is not None
    assert (found.g0, found.g1) == (pytest.approx(20), 1)
    stay = ExplainedStay("a", 1, 1, 0.5, (ExplainedDecision(decision, 0.5, (), None),), ())
    lines = [line for line in in_words(Explanation("a:1", None, (stay,))) if "cosine" in line]
    assert ["face x" in line for line in lines] == [True, True, False]
