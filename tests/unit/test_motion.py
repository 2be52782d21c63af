"""Persons from motion: the background model, how a mask becomes persons, and the perspective learnt on the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from detectors.motion import MotionDetector, MotionSettings
from detectors.perspective import Perspective
from detectors.silhouettes import find_persons
from pipeline.world_draw import draw_camera
from pipeline.world_figure import draw_looks
from pipeline.world_sim import simulate


def _floor(seed=0, size=(240, 320)):
    """An empty, noisy, textured place."""
    rng = np.random.default_rng(seed)
    still = rng.integers(80, 170, (size[0] // 8, size[1] // 8, 3)).repeat(8, 0).repeat(8, 1)

    def picture():
        return np.clip(still + rng.normal(0, 2, still.shape), 0, 255).astype(np.uint8)

    return picture


def _with_person(image, x, top=80, height=100, width=36):
    image[top : top + height, x : x + width] = (20, 20, 200)
    return image


def _hits(found, rows):
    """How many true boxes have a found one of their own at IoU .5."""
    if not len(found) or not rows:
        return 0
    truth = np.array([(x, y, x + w, y + h) for x, y, w, h in (row.box for row in rows)])
    boxes = found.boxes.astype(float)
    sides = np.minimum(truth[:, None, 2:], boxes[None, :, 2:]) - np.maximum(truth[:, None, :2], boxes[None, :, :2])
    common = np.clip(sides, 0, None).prod(2)
    area = [(b[:, 2:] - b[:, :2]).prod(1) for b in (truth, boxes)]
    good = common / (area[0][:, None] + area[1][None] - common) >= 0.5
    i, j = linear_sum_assignment(~good)
    return int(good[i, j].sum())


# --- the detector


def test_an_empty_scene_has_nobody():
    picture, detector = _floor(), MotionDetector()
    assert sum(len(detector(["a"], [k], [picture()])[0]) for k in range(60)) == 0


def test_a_person_is_found_where_they_are_and_the_box_is_in_source_pixels():
    picture, detector = _floor(size=(480, 640)), MotionDetector()
    for k in range(30):
        detector(["a"], [k], [picture()])
    (found,) = detector(["a"], [30], [_with_person(picture(), 200, 120, 220, 80)])
    assert len(found) == 1
    assert np.abs(found.boxes[0] - [200, 120, 280, 340]).max() <= 6
    assert 0.8 < found.scores[0] <= 1


def test_the_first_frames_report_nobody():
    picture, detector = _floor(), MotionDetector(MotionSettings(warm_up_frames=5))
    counts = [len(detector(["a"], [k], [_with_person(picture(), 20 + 9 * k)])[0]) for k in range(12)]
    assert counts[:5] == [0] * 5
    assert sum(counts[5:]) > 0


def test_a_new_picture_size_starts_anew():
    detector = MotionDetector(MotionSettings(warm_up_frames=12))
    small, large = _floor(), _floor(size=(288, 384))
    for k in range(20):
        detector(["a"], [k], [small()])
    for k in range(12):
        assert len(detector(["a"], [20 + k], [large()])[0]) == 0
    (found,) = detector(["a"], [32], [_with_person(large(), 200)])
    assert len(found) == 1 and found.boxes[0, 0] == pytest.approx(200, abs=5)


def test_cameras_do_not_disturb_each_other():
    one, other = _floor(1), _floor(2)
    alone, both = MotionDetector(), MotionDetector()
    frames = [one() for _ in range(20)] + [_with_person(one(), 60 + 10 * k) for k in range(10)]
    for k, frame in enumerate(frames):
        (expected,) = alone(["a"], [k], [frame])
        got, _ = both(["a", "b"], [k, k], [frame, other()])
        assert np.array_equal(got.boxes, expected.boxes) and np.array_equal(got.scores, expected.scores)


def test_a_switched_light_is_not_a_person():
    picture, detector = _floor(), MotionDetector()
    for k in range(30):
        detector(["a"], [k], [picture()])
    assert len(detector(["a"], [30], [np.clip(picture() * 1.6, 0, 255).astype(np.uint8)])[0]) == 0


def test_a_shadow_is_not_part_of_a_person():
    picture, detector = _floor(), MotionDetector()
    for k in range(30):
        detector(["a"], [k], [picture()])
    image = picture()
    image[165:185, 60:170] = (image[165:185, 60:170] * 0.7).astype(np.uint8)
    (found,) = detector(["a"], [30], [_with_person(image, 60)])
    assert len(found) == 1
    assert found.boxes[0, 2] < 110  # the shadow reaches to 170


def test_a_person_who_stops_is_still_there_after_ten_seconds():
    picture, detector = _floor(), MotionDetector()
    for k in range(160):
        detector(["a"], [k], [picture()])
    counts = [len(detector(["a"], [k], [_with_person(picture(), 150)])[0]) for k in range(160, 260)]
    assert min(counts) == 1


def test_as_many_cameras_as_images():
    with pytest.raises(ValueError, match="one of each"):
        MotionDetector()(["a", "b"], [0], [np.zeros((48, 64, 3), np.uint8)])


@pytest.mark.parametrize(
    "bad",
    [{"width_px": 8}, {"warm_up_frames": 0}, {"contrast": 0.0}, {"darkest_shadow": 1.5}, {"min_area": 0.0}],
)
def test_settings_refuse(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MotionSettings(**bad)


def test_the_synthetic_site_is_seen():
    """The floors lie 6 points under what was measured on this clip when they were set: precision .941, recall .925."""
    sim = simulate(seed=11, cameras=1, people=6, duration_s=30)
    detector, found, true, good = MotionDetector(), 0, 0, 0
    again = MotionDetector()
    for k, (image, rows) in enumerate(draw_camera(sim, sim.rooms[0], draw_looks(11, 6), fps=10)):
        (persons,) = detector(["lobby"], [k], [image])
        (repeated,) = again(["lobby"], [k], [image])
        assert np.array_equal(persons.boxes, repeated.boxes)
        found, true, good = found + len(persons), true + len(rows), good + _hits(persons, rows)
    assert true > 200
    assert good / found > 0.88
    assert good / true > 0.86


# --- mask to persons


def _mask(*boxes, size=(240, 320)):
    mask = np.zeros(size, np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = 1
    return mask


@pytest.fixture(scope="module")
def view():
    """A camera where people with feet in row 200 are 90 high."""
    learnt = Perspective(240)
    for foot in range(80, 236):
        learnt.learn(foot, 0.5 * foot - 10)
    assert learnt.known
    return learnt


def _boxes(mask, view=None):
    return sorted(p.box for p in find_persons(mask, 19, 90, view))


def test_specks_and_carpets_are_nobody():
    assert _boxes(_mask((10, 10, 14, 16), (40, 200, 280, 215))) == []


def test_head_torso_and_legs_apart_are_one_person():
    (box,) = _boxes(_mask((106, 60, 116, 74), (100, 80, 124, 110), (104, 116, 120, 150)))
    assert box == (100, 60, 124, 150)


def test_two_side_by_side_are_cut_at_the_valley():
    boxes = _boxes(_mask((100, 100, 130, 180), (130, 150, 140, 156), (140, 100, 170, 180)))
    assert len(boxes) == 2
    assert boxes[0][2] <= boxes[1][0] + 2 and abs(boxes[0][2] - 135) <= 6


def test_a_group_falls_apart_head_by_head(view):
    """Three of different height, shoulder to shoulder."""
    mask = _mask((100, 122, 134, 200), (134, 124, 166, 200), (166, 120, 200, 200))
    for x, top in ((117, 109), (150, 112), (183, 106)):
        mask[top:125, x - 5 : x + 6] = 1
    boxes = _boxes(mask, view)
    assert len(boxes) == 3
    for box, x in zip(boxes, (117, 150, 183), strict=True):
        assert box[0] <= x <= box[2] and abs(box[3] - 200) <= 6


def test_one_above_the_other_are_two(view):
    """A person at the back, feet hidden by one in front."""
    far, near = (150, 82, 172, 140), (140, 120, 176, 220)
    boxes = _boxes(_mask(far, near), view)
    assert len(boxes) == 2
    tops = sorted(box[1] for box in boxes)
    assert tops[0] == 82 and abs(tops[1] - 120) <= 12


def test_legs_behind_a_counter_are_completed(view):
    (box,) = _boxes(_mask((100, 110, 130, 160)), view)  # 50 of 90 rows are seen
    assert box[:3] == (100, 110, 130) and abs(box[3] - 200) <= 6


def test_completed_and_cut_boxes_teach_nothing(view):
    (person,) = find_persons(_mask((100, 110, 130, 160)), 19, 90, view)
    assert not person.whole
    (person,) = find_persons(_mask((0, 110, 36, 200)), 19, 90, view)
    assert not person.whole
    (person,) = find_persons(_mask((100, 110, 136, 200)), 19, 90, view)
    assert person.whole


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 220), st.integers(1, 120), st.integers(1, 200)), max_size=6),
    st.booleans(),
)
def test_any_mask_gives_boxes_inside_it(rectangles, with_view):
    view = None
    if with_view:
        view = Perspective(240)
        for foot in range(80, 236):
            view.learn(foot, 0.5 * foot - 10)
    for person in find_persons(_mask(*((x, y, x + w, y + h) for x, y, w, h in rectangles)), 19, 90, view):
        x0, y0, x1, y1 = person.box
        assert 0 <= x0 < x1 <= 320 and 0 <= y0 < y1 <= 240
        assert 0 < person.score <= 1


# --- perspective


def test_perspective_says_nothing_before_it_knows():
    empty = Perspective(240)
    for ask in (empty.height_at, empty.height_below):
        with pytest.raises(ValueError, match="known"):
            ask(100)


def test_one_place_teaches_no_perspective():
    """Somebody who stands still for minutes is one measurement, not a line."""
    learnt = Perspective(240)
    for _ in range(500):
        learnt.learn(150, 60)
    assert not learnt.known


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 0.7), st.floats(0.0, 0.3), st.integers(0, 10_000))
def test_perspective_is_found_among_cut_and_merged_boxes(slope, horizon, seed):
    """A third of the boxes is wrong by a lot; the line is right to a tenth where people walk."""
    rng = np.random.default_rng(seed)
    learnt = Perspective(240)
    for foot in rng.uniform(120, 235, 400):
        height = slope * (foot - 240 * horizon) * rng.normal(1, 0.03)
        wrong = rng.uniform() < 0.33
        learnt.learn(foot, height * (rng.choice([0.4, 0.6, 1.8]) if wrong else 1.0))
    assert learnt.known
    for foot in (140, 180, 220):
        expected = slope * (foot - 240 * horizon)
        assert learnt.height_at(foot) == pytest.approx(expected, rel=0.12)
        assert learnt.height_below(foot - learnt.height_at(foot)) == pytest.approx(learnt.height_at(foot), rel=1e-6)
