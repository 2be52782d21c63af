"""What is drawn: a colour per person, boxes where they belong, labels that hide no other; the mosaic's grid."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotate import UNKNOWN, clock_text, draw_frame, letterbox, paste, person_colour, text_patch
from pipeline.mosaic import FOOTER_PX, MAX_HEIGHT, MAX_WIDTH, Mosaic, grid
from pipeline.roster import OnSite

GREY = 90


def canvas(width: int = 320, height: int = 240) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def draw(image, boxes, ids, labels=None, trails=None, **texts):
    table = np.array(boxes, np.float32).reshape(-1, 4)
    texts = {"camera": "lobby", "clock": "00:00:01.0"} | texts
    return draw_frame(image, table, ids, labels or [""] * len(ids), trails or {}, **texts)


def perceived(global_id: int) -> np.ndarray:
    colour = np.array([[person_colour(global_id)]], np.uint8)
    return cv2.cvtColor(colour.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0, 0]


def test_ids_that_meet_have_colours_that_differ():
    # People in view together mostly have ids close to each other; a CIE76 distance of 2.3 is just noticeable.
    for step in range(1, 21):
        distances = [np.linalg.norm(perceived(n) - perceived(n + step)) for n in range(200)]
        assert min(distances) > 5, step
    assert min(np.linalg.norm(perceived(n) - perceived(n + 1)) for n in range(200)) > 30


def test_a_box_is_drawn_in_the_colour_of_its_person():
    image = draw(canvas(), [[100, 100, 140, 200], [200, 100, 240, 200]], [7, None])
    assert tuple(image[150, 100]) == tuple(image[150, 140]) == tuple(image[200, 120]) == person_colour(7)
    assert tuple(image[150, 200]) == UNKNOWN
    assert (image[110:190, 110:130] == GREY).all()  # the person stays visible
    assert (image[:, 260:] == GREY).all()


def test_nothing_but_the_corner_is_drawn_on_an_empty_scene():
    image = draw(canvas(), [], [])
    changed = np.argwhere((image != GREY).any(2))
    assert len(changed)
    assert (changed.max(0) < [30, 200]).all()


def test_labels_of_neighbours_do_not_hide_each_other():
    names = ["P1 90%", "P2 90%", "P3 90%"]
    boxes = [[100, 150, 120, 200], [105, 150, 125, 200], [110, 152, 130, 200]]
    image = draw(canvas(), boxes, [1, 2, 3], names)
    for name, person in zip(names, (1, 2, 3), strict=True):
        patch = text_patch(name, 0.8, person_colour(person))
        found = cv2.matchTemplate(image, patch, cv2.TM_SQDIFF).min()
        assert found < 100, name  # a hidden corner gives thousands


def test_a_trail_leads_to_the_feet():
    path = np.array([[20, 220], [60, 220], [100, 220]], np.float32)
    image = draw(canvas(), [[90, 100, 110, 220]], [5], trails={5: path})
    assert image[220, 80].astype(int) == pytest.approx(np.array(person_colour(5)), abs=20)
    assert (image[210, 20:80] == GREY).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 80),
    st.integers(2, 80),
    st.lists(st.tuples(*[st.floats(width=32)] * 4), max_size=4),
)
def test_any_box_on_any_picture_can_be_drawn(width, height, boxes):
    image = np.zeros((height, width, 3), np.uint8)
    ids = list(range(len(boxes)))
    trails = {n: np.array([box[:2], box[2:]], np.float32) for n, box in zip(ids, boxes, strict=True)}
    out = draw(image, boxes, ids, ["P1 100%\nfrom a, 3 s"] * len(ids), trails)
    assert out.shape == (height, width, 3)


def test_texts_may_be_more_than_ascii():
    assert not np.array_equal(text_patch("Süd", 1.0, UNKNOWN), text_patch("S?d", 1.0, UNKNOWN))
    assert text_patch("", 1.0, UNKNOWN).size > 0


@pytest.mark.parametrize(
    ("time_s", "text"),
    [
        (0.0, "00:00:00.0"),
        (59.99, "00:00:59.9"),
        (3661.5, "01:01:01.5"),
        (-2.5, "-00:00:02.5"),
        (360000.0, "100:00:00.0"),
        (1_763_800_000.0, "2025-11-22 08:26:40.0 UTC"),
    ],
)
def test_clock(time_s, text):
    assert clock_text(time_s) == text


@given(st.lists(st.floats(-1e6, 4e9), min_size=2, max_size=5))
def test_the_clock_never_runs_backwards(times):
    utc = [clock_text(t) for t in sorted(times) if t >= 1e9]
    assert all(a <= b for a, b in pairwise(utc))


def test_letterbox_keeps_the_aspect():
    picture = np.full((50, 100, 3), 200, np.uint8)
    fitted = letterbox(picture, 100, 100)
    assert fitted.shape == (100, 100, 3)
    assert (fitted[25:75] == 200).all()
    assert (fitted[:25] == 0).all() and (fitted[75:] == 0).all()
    assert letterbox(picture, 100, 50) is picture


@given(st.integers(1, 400), st.integers(1, 400), st.integers(2, 90), st.integers(2, 90))
def test_any_picture_can_be_fitted(width, height, into_width, into_height):
    fitted = letterbox(np.full((height, width, 3), 200, np.uint8), into_width, into_height)
    assert fitted.shape == (into_height, into_width, 3)
    shown = np.argwhere(fitted[..., 0] == 200)
    tall, wide = shown.max(0) - shown.min(0) + 1
    ratio = min(into_width / width, into_height / height)
    assert abs(wide - max(1, width * ratio)) <= 1 and abs(tall - max(1, height * ratio)) <= 1


def test_fine_stripes_turn_grey_when_a_picture_is_made_small():
    stripes = np.zeros((240, 320, 3), np.uint8)
    stripes[:, ::2] = 200
    fitted = letterbox(stripes, 75, 56).astype(int)
    assert np.abs(fitted[5:-5, 5:-5] - 100).max() <= 2


@given(st.integers(1, 20), st.integers(1, 20), st.integers(-30, 30), st.integers(-30, 30))
def test_a_patch_is_pasted_inside(width, height, left, top):
    image = np.zeros((10, 10, 3), np.uint8)
    paste(image, np.full((height, width, 3), 255, np.uint8), left, top)
    assert (image.any(2).sum()) == min(width, 10) * min(height, 10)


# ------------------------------------------------------------------------------------------------------- the mosaic

SIZES = st.lists(st.tuples(st.integers(16, 4000), st.integers(16, 4000)), min_size=1, max_size=30)


@given(SIZES)
def test_the_grid_fits_the_screen_and_never_enlarges(sizes):
    columns, (width, height) = grid(sizes, MAX_WIDTH, MAX_HEIGHT)
    rows = -(-len(sizes) // columns)
    assert columns * width <= MAX_WIDTH
    assert rows * height <= MAX_HEIGHT
    assert width % 2 == height % 2 == 0
    assert width <= max(w for w, _ in sizes)
    assert height <= max(h for _, h in sizes)


@pytest.mark.parametrize(
    ("count", "size", "columns", "tile"),
    [
        (1, (1920, 1080), 1, (1920, 1080)),
        (2, (1920, 1080), 2, (960, 540)),
        (4, (1920, 1080), 2, (960, 540)),
        (9, (1280, 720), 3, (640, 360)),
        (3, (640, 480), 2, (640, 480)),
        (2, (301, 577), 2, (300, 576)),
    ],
)
def test_grids_people_expect(count, size, columns, tile):
    assert grid([size] * count, 1920, 1080) == (columns, tile)


def test_the_mosaic_shows_each_camera_in_its_tile():
    mosaic = Mosaic({"a": (60, 40), "b": (60, 40)})
    mosaic.show("a", np.full((40, 60, 3), 100, np.uint8))
    mosaic.show("b", np.full((80, 120, 3), 200, np.uint8))  # larger than said: fitted
    assert mosaic.image.shape == (40 + FOOTER_PX, 120, 3)
    assert (mosaic.image[:40, :60] == 100).all()
    assert (mosaic.image[:40, 60:] == 200).all()
    mosaic.end("b")
    assert (mosaic.image[:40, :60] == 100).all()
    assert (mosaic.image[0, 60:] == 80).all()


def test_cameras_with_traffic_between_them_are_neighbours():
    sizes = dict.fromkeys("abcd", (60, 40))  # a 2 x 2 grid
    ring = {("a", "d"): 5.0, ("d", "b"): 5.0, ("b", "c"): 5.0, ("c", "a"): 5.0}
    mosaic = Mosaic(sizes, ring)
    place = {}
    for n, name in enumerate(sizes):
        mosaic.show(name, np.full((40, 60, 3), 50 * (n + 1), np.uint8))
    for n, name in enumerate(sizes):
        rows, columns = np.nonzero((mosaic.image == 50 * (n + 1)).all(2))
        place[name] = int(columns.mean()) // 60, int(rows.mean()) // 40
    assert len(set(place.values())) == 4
    for one, other in ring:
        assert sum(abs(a - b) for a, b in zip(place[one], place[other], strict=True)) == 1


def test_a_full_strip_says_how_many_more():
    mosaic = Mosaic({"a": (200, 200)}, strip=True)
    people = [OnSite(n, ("a",) if n % 2 else (), "a", 3.0) for n in range(40)]
    mosaic.roster(people)
    before = mosaic.image.copy()
    assert (before[:, 200:] != 24).any() and (before[:, :200][:-28] == mosaic.image[:, :200][:-28]).all()
    mosaic.roster(people[:2])
    assert (mosaic.image[80:170, 200:] == 24).all()  # the rest of the list is wiped


def test_hand_overs_stand_below_the_tiles_as_many_as_fit():
    mosaic = Mosaic({"a": (200, 40)})
    mosaic.footer([("P1 from a", (0, 0, 255)), ("P2 from a", (0, 255, 0)), ("P3 from a", (255, 0, 0))])
    strip = mosaic.image[-FOOTER_PX:].reshape(-1, 3)
    assert (strip == (0, 0, 255)).all(1).any()
    assert not (strip == (255, 0, 0)).all(1).any()  # cut rather than half written
    mosaic.footer([])
    assert len(np.unique(mosaic.image[-FOOTER_PX:])) == 1
