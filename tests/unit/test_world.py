"""The synthetic site: what is simulated, what is drawn, and whether the truth says what the pixels show."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.world import WorldCamera, hand_overs, mot_text, render_world, world_config
from pipeline.world_draw import TruthRow, draw_camera
from pipeline.world_figure import HEADINGS, PHASES, draw_looks, sprite
from pipeline.world_plan import ROOMS, View
from pipeline.world_sim import simulate

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def small():
    """Two cameras, four people, a few seconds, drawn once."""
    sim = simulate(seed=5, cameras=2, people=4, duration_s=12)
    looks = draw_looks(5, 4)
    return sim, looks, {room.name: list(draw_camera(sim, room, looks, fps=5)) for room in sim.rooms}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    told = []
    root = tmp_path_factory.mktemp("world")
    world = render_world(
        root, seed=5, cameras=3, people=5, duration_s=6, fps=5, progress=lambda *args: told.append(args)
    )
    return world, told


# --- simulation


def test_equal_arguments_give_equal_walks():
    a, b = (simulate(seed=4, people=6, duration_s=30) for _ in range(2))
    assert len(a.stays) == len(b.stays) > 6
    for one, other in zip(a.stays, b.stays, strict=True):
        assert (one.person, one.camera) == (other.person, other.camera)
        assert np.array_equal(one.times_s, other.times_s) and np.array_equal(one.points_m, other.points_m)


def test_another_seed_gives_other_walks():
    begins = [[s.begin_s for s in simulate(seed=seed, people=6, duration_s=30).stays] for seed in SEEDS]
    assert begins[0] != begins[1] != begins[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_in_two_places_at_once_and_gaps_are_positive(seed):
    sim = simulate(seed=seed)
    for person in range(1, sim.people + 1):
        stays = [s for s in sim.stays if s.person == person]
        assert stays, f"person {person} never appears"
        for before, after in pairwise(stays):
            assert after.begin_s > before.end_s


@pytest.mark.parametrize("seed", SEEDS)
def test_every_move_follows_an_edge(seed):
    sim = simulate(seed=seed)
    edges = {(e.from_, e.to) for e in sim.edges}
    moves = 0
    for person in range(1, sim.people + 1):
        for a, b in pairwise([s for s in sim.stays if s.person == person]):
            assert ((a.camera, a.exit), (b.camera, b.entry)) in edges
            moves += 1
    assert moves >= sim.people  # the site has traffic between cameras


def test_times_rise_and_walking_is_continuous():
    for stay in simulate(seed=1).stays:
        assert (np.diff(stay.times_s) > 0).all() and (np.diff(stay.distance_m) >= 0).all()
        steps = np.hypot(*np.diff(stay.points_m, axis=0).T)
        speed = steps / np.diff(stay.times_s)
        assert speed.max() < 2.5  # nobody jumps


def test_some_people_stop_on_their_way():
    stays = simulate(seed=1).stays
    standing = [s for s in stays if (np.diff(s.times_s)[np.diff(s.distance_m) < 1e-9] > 1.0).any()]
    assert 0 < len(standing) < len(stays) / 2


def test_some_people_turn_back_and_some_return():
    stays = [s for seed in SEEDS for s in simulate(seed=seed).stays]
    assert 0 < sum(s.entry == s.exit for s in stays) < 0.2 * len(stays)
    sim = simulate(seed=1)
    visits = [(s.person, s.camera) for s in sim.stays]
    assert len(set(visits)) < len(visits)  # somebody comes back to a camera


def test_travel_times_come_from_the_mixture():
    edge = simulate(seed=1).edges[0]
    drawn = np.array([edge.draw_s(np.random.default_rng(n)) for n in range(400)])
    expected = sum(w * mean for w, mean, _ in edge.mixture) / sum(w for w, _, _ in edge.mixture)
    assert drawn.min() > 0
    assert abs(drawn.mean() - expected) < 0.4


def test_people_outside_their_stay_are_nowhere():
    stay = simulate(seed=1).stays[0]
    assert stay.at(stay.begin_s - 0.1) is None and stay.at(stay.end_s + 0.1) is None
    (x, z), (dx, dz), walked = stay.at(stay.begin_s)
    assert (x, z) == tuple(stay.points_m[0]) and walked == 0
    assert np.hypot(dx, dz) == pytest.approx(1)


@pytest.mark.parametrize(
    "bad", [{"cameras": 0}, {"cameras": 5}, {"people": 0}, {"duration_s": 0.0}, {"duration_s": float("nan")}]
)
def test_simulate_refuses(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        simulate(seed=1, **bad)


def test_cameras_left_out_leave_no_dangling_edges():
    sim = simulate(seed=1, cameras=2, people=8, duration_s=40)
    names = {room.name for room in sim.rooms}
    assert {e.from_[0] for e in sim.edges} | {e.to[0] for e in sim.edges} <= names
    assert {s.camera for s in sim.stays} == names


def test_the_camera_sees_what_is_near_lower_and_larger():
    view = View("v", 640, 360, 500.0, 3.0, 50.0, 320.0)
    (_, near_foot), (_, near_head) = view.project(0, 6), view.project(0, 6, 1.7)
    (_, far_foot), (_, far_head) = view.project(0, 12), view.project(0, 12, 1.7)
    assert near_foot > far_foot
    assert near_foot - near_head == pytest.approx(2 * (far_foot - far_head))


# --- clothes and figures


def test_people_differ_except_look_alikes():
    looks = draw_looks(1, 20)
    assert len(set(looks)) == 20
    small = {"shoes": (0, 0, 0), "skin": (0, 0, 0), "hair": (0, 0, 0), "hair_style": "", "height_m": 0.0, "girth": 0.0}
    outfits = [replace(look, **small) for look in looks]
    assert [n for n in range(1, 20) if outfits[n] == outfits[n - 1]] == [4, 9, 14, 19]


@pytest.mark.parametrize("heading", range(0, HEADINGS, 4))
def test_a_figure_is_upright_and_stands_on_its_foot_point(heading):
    look = draw_looks(1, 1)[0]
    for phase in (-1, 0, PHASES // 2):
        figure = sprite(look, heading, phase)
        height, width = figure.image.shape[:2]
        assert width < 0.7 * height
        assert 0.93 * figure.body_px < height < 1.12 * figure.body_px
        assert abs(figure.foot[1] - height) < 0.06 * height
        assert (figure.image[..., :3] <= figure.image[..., 3:].astype(int) + 2).all()  # colours are multiplied by alpha


def test_walking_moves_the_limbs():
    look = draw_looks(1, 1)[0]
    assert len({sprite(look, 0, phase).image.shape[1] for phase in range(PHASES)}) > 3


# --- pixels and truth


def test_the_same_seed_draws_the_same_pixels_and_truth(small):
    sim, looks, drawn = small
    again = list(draw_camera(sim, sim.rooms[0], looks, fps=5))
    for (image, rows), (image_2, rows_2) in zip(drawn["lobby"], again, strict=True):
        assert np.array_equal(image, image_2) and rows == rows_2


def test_moving_pixels_lie_in_true_boxes(small):
    """Against the same camera without people: nearly all change is in a box, and every box holds change."""
    sim, looks, drawn = small
    empty = replace(sim, stays=())
    for room in sim.rooms:
        inside = total = 0
        seen = 0
        for (image, rows), (nothing, no_rows) in zip(
            drawn[room.name], draw_camera(empty, room, looks, fps=5), strict=True
        ):
            assert no_rows == ()
            changed = np.abs(image.astype(int) - nothing).max(2) > 40  # more than a shadow at the feet, mostly
            covered = np.zeros_like(changed)
            for row in rows:
                x, y, w, h = (int(n) for n in row.box)
                covered[y : y + h, x : x + w] = True
                seen += 1
                if row.visibility > 0.9:
                    assert changed[y : y + h, x : x + w].mean() > 0.12
            if rows:
                inside += int((changed & covered).sum())
                total += int(changed.sum())
        assert seen > 10
        assert inside / total > 0.85  # the rest: shadows, and people too hidden to count


def test_truth_rows_are_in_the_picture_and_name_nobody_twice(small):
    sim, _, drawn = small
    for room in sim.rooms:
        for image, rows in drawn[room.name]:
            assert image.shape == (room.view.height, room.view.width, 3) and image.dtype == np.uint8
            people = [row.person for row in rows]
            assert len(people) == len(set(people))
            for row in rows:
                x, y, w, h = row.box
                assert x >= 0 and y >= 0 and w > 0 and h > 0
                assert x + w <= room.view.width and y + h <= room.view.height
                assert 0.25 <= row.visibility <= 1


def test_a_pillar_and_other_people_hide():
    """In a busy site some boxes are partly hidden, most are not."""
    sim = simulate(seed=2)
    room = sim.rooms[0]
    seen = [row.visibility for _, rows in draw_camera(sim, room, draw_looks(2, sim.people), fps=1) for row in rows]
    assert len(seen) > 40
    assert 0.05 < np.mean(np.array(seen) < 0.8) < 0.6


def test_every_camera_has_its_own_look():
    """Different sizes and colour casts; one clock starts late."""
    assert len({(room.view.width, room.view.height) for room in ROOMS}) >= 3
    assert len({room.view.gain_bgr for room in ROOMS}) == len(ROOMS)
    assert [room.name for room in ROOMS if room.view.offset_s] == ["shop"]


# --- files


def test_files_of_a_world(rendered):
    import av

    world, told = rendered
    assert [c.name for c in world.cameras] == ["lobby", "corridor", "shop"]
    for camera in world.cameras:
        with av.open(str(camera.path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.average_rate) == ("h264", 5)
            frames = [frame.time for frame in container.decode(stream)]
        assert len(frames) == camera.frames == 30
        assert (world.truth_dir / f"{camera.name}.txt").exists()
        assert [t for t in told if t[0] == camera.name][-1] == (camera.name, 30, 30)
    assert world_config(world)["cameras"][2] == {
        "name": "shop",
        "uri": str(world.cameras[2].path.resolve()),
        "offset_s": 2.7,
        "fps": 5.0,
    }


def test_world_json_tells_the_truth(rendered):
    world, _ = rendered
    facts = json.loads((world.root / "world.json").read_text())
    assert facts["seed"] == 5 and facts["people"] == 5
    assert [c["offset_s"] for c in facts["cameras"]] == [0.0, 0.0, 2.7]
    assert (world.root / facts["cameras"][0]["path"]).exists()
    assert {tuple(e["from"]) for e in facts["travel_times"]} >= {("lobby", "right"), ("corridor", "far")}


def test_films_and_truth_are_equal_byte_for_byte_from_run_to_run(rendered, tmp_path):
    world, _ = rendered
    again = render_world(tmp_path, seed=5, cameras=3, people=5, duration_s=6, fps=5)
    for camera in world.cameras:
        name = f"{camera.name}.txt"
        assert (world.truth_dir / name).read_bytes() == (again.truth_dir / name).read_bytes()
    for one, other in zip(world.cameras, again.cameras, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
    assert world.hand_overs == again.hand_overs


def test_hand_overs_use_site_time(rendered):
    """The camera whose clock starts late is put right by its offset; a short gap is no second stay."""
    cameras = [replace(c, offset_s=o) for c, o in zip(rendered[0].cameras[:2], (0.0, 2.0), strict=True)]
    row = (TruthRow(1, (0.0, 0.0, 1.0, 1.0), 1.0),)
    truth = {
        "lobby": [row, row, (), row, (), (), (), (), (), ()],
        "corridor": [(), (), (), (), (), row, (), (), (), ()],
    }
    (move,) = hand_overs(cameras, truth, fps=2.0)
    assert (move.from_camera, move.left_s, move.to_camera, move.entered_s) == ("lobby", 1.5, "corridor", 4.5)
    assert move.delay_s == 3.0


def test_demo_sized_hand_overs_have_positive_gaps():
    """Blind gaps between cameras, read from the boxes themselves."""
    sim = simulate(seed=3, cameras=3, people=6, duration_s=40)
    looks = draw_looks(3, 6)
    rows = {room.name: [r for _, r in draw_camera(sim, room, looks, fps=2)] for room in sim.rooms}
    cameras = [WorldCamera(room.name, Path(), 1, 1, 1, room.view.offset_s) for room in sim.rooms]
    moves = hand_overs(cameras, rows, fps=2.0)
    assert len(moves) >= 4
    assert all(move.delay_s > 0.5 for move in moves)


def test_mot_text_of_nothing_is_empty():
    assert mot_text([(), ()]) == ""


def test_render_refuses_a_bad_rate(tmp_path):
    with pytest.raises(ValueError, match="fps"):
        render_world(tmp_path, fps=0)


def test_render_into_a_file_is_an_os_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError):
        render_world(tmp_path / "taken", cameras=1, people=1, duration_s=1, fps=2)
