"""Folders of person images: who is trained on, who is not, and what is left out with which reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reid_folders import market, plain, write_image

from reid.datasets import DISTRACTOR, JUNK, DatasetError, labels, read_data, read_pixels


def people(pictures):
    return {picture.person for picture in pictures}


def reasons(data):
    return {problem.reason.split(",")[0]: list(problem.names) for problem in data.problems}


def test_market_trains_on_its_training_folder_only(tmp_path: Path) -> None:
    data = read_data(market(tmp_path))
    assert data.layout == "market1501"
    assert {p.path.parent.name for p in data.train} == {"bounding_box_train"}
    assert people(data.train) == {1, 2, 3, 4, 5, 6}
    assert people(data.query) == people(data.gallery) == {7, 8, 9, 10}
    assert not people(data.train) & people((*data.query, *data.gallery))
    counts = data.counts()
    assert list(counts) == [
        "train_images", "train_people", "query_images", "query_people", "gallery_images", "left_out",
    ]  # fmt: skip
    assert list(counts.values()) == [36, 6, 8, 4, 16, 0]
    who, where = labels(data.query)
    assert who.tolist() == [7, 7, 8, 8, 9, 9, 10, 10] and set(where.tolist()) == {0, 1}


def test_nobody_of_query_or_gallery_is_trained_on(tmp_path: Path) -> None:
    """A folder in which somebody is on both sides is refused: its scores would be worthless."""
    for side, n in (("query", 8), ("bounding_box_test", 9)):
        root = market(tmp_path / side)
        write_image(root / side / f"0003_c1s1_000001_{n:02d}.jpg", 3)
        with pytest.raises(DatasetError, match=r"1 people are in training and in query or gallery \(3\)"):
            read_data(root)


def test_junk_and_distractors_are_gallery_and_never_trained_on(tmp_path: Path) -> None:
    root = market(tmp_path)
    for name in ("-1_c1s1_000001_00.jpg", "0000_c2s3_000002_00.jpg"):
        write_image(root / "bounding_box_test" / name, 99)
        write_image(root / "bounding_box_train" / name, 99)
    data = read_data(root)
    assert {JUNK, DISTRACTOR} <= people(data.gallery)
    assert not {JUNK, DISTRACTOR} & people(data.train)


def test_the_official_folders_of_market_in_small(tmp_path: Path) -> None:
    """As the published archive lies on disk: also hand-drawn boxes and a readme, which nobody reads."""
    root = tmp_path / "Market-1501-v15.09.15"
    train = [f"{person:04d}_c{camera}s{camera}_00{person}451_0{n}.jpg" for person, camera, n in
             [(2, 1, 1), (2, 1, 3), (2, 6, 1), (7, 2, 1), (7, 3, 2), (1500, 1, 1), (1500, 5, 1)]]  # fmt: skip
    test = ["-1_c1s1_000401_03.jpg", "-1_c6s4_001351_04.jpg", "0000_c1s1_000151_01.jpg", "0000_c3s2_079493_05.jpg",
            "0001_c1s1_001051_03.jpg", "0001_c2s1_000301_02.jpg", "1501_c6s4_001877_04.jpg"]  # fmt: skip
    query = ["0001_c1s1_001051_00.jpg", "0001_c2s1_000301_00.jpg", "1501_c6s4_001877_00.jpg"]
    drawn = ["0001_c1s1_001051_00_good.mat", "0001_c1s1_001051_00_junk.mat"]
    for folder, names in (("bounding_box_train", train), ("bounding_box_test", test), ("query", query)):
        for n, name in enumerate(names):
            write_image(root / folder / name, n)
        (root / folder / "Thumbs.db").write_bytes(b"x")
    write_image(root / "gt_bbox" / "0002_c1s1_000451_00.jpg", 1)
    (root / "gt_query").mkdir()
    for name in drawn:
        (root / "gt_query" / name).write_bytes(b"x")
    (root / "readme.txt").write_text("about")
    data = read_data(root)
    assert (data.layout, data.problems, data.people) == ("market1501", (), (2, 7, 1500))
    assert [p.path.name for p in data.train] == sorted(train)
    assert [p.path.name for p in data.query] == sorted(query)
    assert [p.path.name for p in data.gallery] == sorted(test)
    assert [(p.person, p.camera) for p in data.gallery] == [
        (JUNK, 0), (JUNK, 5), (DISTRACTOR, 0), (DISTRACTOR, 2), (1, 0), (1, 1), (1501, 5)
    ]  # fmt: skip
    assert not people(data.train) & people((*data.query, *data.gallery))
    who, where = labels(data.gallery)
    assert who.tolist() == [-1, -1, 0, 0, 1, 1, 1501] and where.tolist() == [0, 5, 0, 2, 0, 1, 5]


def test_nobody_of_markets_test_is_in_markets_training(data_dir: Path, tmp_path: Path) -> None:
    """Every published name of the training folder, and those of query and gallery that are at hand (half of them)."""
    lists = {
        "bounding_box_train": "bounding_box_train.txt",
        "query": "query_even_ids.txt",
        "bounding_box_test": "bounding_box_test_even_ids.txt",
    }
    source = data_dir / "market1501"
    if not all((source / name).is_file() for name in lists.values()):
        pytest.skip("no names of Market-1501")
    image = write_image(tmp_path / "one.jpg", 1, size=(4, 2))
    for folder, name in lists.items():
        (tmp_path / "market" / folder).mkdir(parents=True)
        for line in (source / name).read_text().split():
            (tmp_path / "market" / folder / line).hardlink_to(image)
    data = read_data(tmp_path / "market", check_images=False)
    assert data.problems == ()
    assert (len(data.train), len(data.people)) == (12936, 751)  # as published
    assert {p.camera for p in data.train} == set(range(6))
    tested = people((*data.query, *data.gallery)) - {JUNK, DISTRACTOR}
    assert len(tested) == 380 and not tested & set(data.people)
    assert {JUNK, DISTRACTOR} <= people(data.gallery) and not {JUNK, DISTRACTOR} & people((*data.query, *data.train))


def test_a_name_that_ends_twice_and_a_thumbnail_file_are_no_problem(tmp_path: Path) -> None:
    root = market(tmp_path)
    write_image(root / "bounding_box_train" / "0001_c1s6_000001_00.jpg", 1).rename(
        root / "bounding_box_train" / "0001_c1s6_000001_00.jpg.jpg"
    )
    (root / "bounding_box_train" / "Thumbs.db").write_bytes(b"x")
    data = read_data(root)
    assert data.problems == () and len(data.train) == 37


def test_what_cannot_be_used_is_left_out_and_said(tmp_path: Path) -> None:
    root = market(tmp_path)
    folder = root / "bounding_box_train"
    write_image(folder / "somebody.jpg", 1)
    write_image(folder / "0050_c1s1_000001_00.jpg", 50)  # an only image
    whole = (folder / "0001_c1s1_000100_00.jpg").read_bytes()
    (folder / "0001_c1s1_000100_00.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "0002_c1s1_000200_00.jpg").write_bytes(b"")
    (root / "query" / "0007_c1s1_000700_00.jpg").write_bytes(b"not an image at all")
    data = read_data(root)
    assert reasons(data) == {
        "not named as in 0002_c1s1_000451_03.jpg": ["bounding_box_train/somebody.jpg"],
        "not a readable image": [
            "bounding_box_train/0001_c1s1_000100_00.jpg",
            "bounding_box_train/0002_c1s1_000200_00.jpg",
            "query/0007_c1s1_000700_00.jpg",
        ],
        "the only image of its person": ["bounding_box_train/0050_c1s1_000001_00.jpg"],
    }
    assert len(data.train) == 34 and 50 not in people(data.train) and len(data.query) == 7
    assert str(data.problems[0]) == (
        "1 left out, not named as in 0002_c1s1_000451_03.jpg: bounding_box_train/somebody.jpg"
    )


def msmt(root: Path, people: int = 3) -> Path:
    for part, lists in (
        ("train", ("list_train.txt", "list_val.txt")),
        ("test", ("list_query.txt", "list_gallery.txt")),
    ):
        for n, name in enumerate(lists):
            lines = []
            for person in range(people):
                for image in range(2):
                    file = f"{person:04d}/{person:04d}_{n * 2 + image:03d}_{image + 1:02d}_0303morning_0015_{image}.jpg"
                    write_image(root / part / file, person + 10 * (part == "test"))
                    lines.append(f"{file} {person}")
            (root / name).write_text("\n".join(lines) + "\n")
    return root


def test_msmt_lists_are_read_and_its_two_countings_kept_apart(tmp_path: Path) -> None:
    data = read_data(msmt(tmp_path))
    assert data.layout == "msmt17"
    assert (len(data.train), len(data.query), len(data.gallery)) == (12, 6, 6)
    assert people(data.train) == {1, 2, 3} and people(data.query) == people(data.gallery) == {4, 5, 6}
    assert {p.camera for p in data.train} == {0, 1}
    assert data.problems == ()


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("mask_train_v2", "mask_test_v2"), ("mask_train_V2", "mask_test_V2")],
    ids=["V1", "V2", "V2 as some archives spell it"],
)
def test_the_official_lists_of_msmt_in_small(tmp_path: Path, train: str, test: str) -> None:
    """Both published versions: the same four lists, other folders; people of training and test both count from 0."""
    root = msmt(tmp_path / "MSMT17")
    (root / "train").rename(root / "aside")
    (root / "aside").rename(root / train)
    (root / "test").rename(root / "aside")
    (root / "aside").rename(root / test)
    data = read_data(root)
    assert (data.layout, data.problems) == ("msmt17", ())
    assert {p.path.relative_to(root).parts[0] for p in data.train} == {train}
    assert {p.path.relative_to(root).parts[0] for p in (*data.query, *data.gallery)} == {test}
    seen = {p.path.read_bytes() for p in data.train}
    assert not any(p.path.read_bytes() in seen for p in (*data.query, *data.gallery))
    assert people(data.train) == {1, 2, 3}
    assert people(data.query) == people(data.gallery) == {4, 5, 6}
    assert sorted((p.person - 4, p.camera) for p in data.query) == [(n, c) for n in range(3) for c in (0, 1)]


def test_msmt_with_bad_lines_and_missing_files(tmp_path: Path) -> None:
    root = msmt(tmp_path)
    with (root / "list_train.txt").open("a") as file:
        file.write("nonsense\n0000/0000_009_01_0303morning_0015_0.jpg 0\n")
    data = read_data(root)
    assert reasons(data)["no such file"] == ["train/0000/0000_009_01_0303morning_0015_0.jpg"]
    assert "list_train.txt:7" in next(
        names for reason, names in reasons(data).items() if reason.startswith("not a line")
    )
    (root / "train").rename(root / "elsewhere")
    with pytest.raises(DatasetError, match="folder train/, which is missing"):
        read_data(root)


def test_plain_folders_hold_some_people_out(tmp_path: Path) -> None:
    data = read_data(plain(tmp_path, people=8), held_out=0.25)
    assert data.layout == "folders"
    assert len(data.people) == 6 and len(people(data.query)) == 2
    assert not people(data.train) & people((*data.query, *data.gallery))
    assert len(data.query) == 4 and len(data.gallery) == 4  # one of each camera is asked
    assert read_data(tmp_path, held_out=0).query == ()


def test_plain_folders_may_bring_their_own_split(tmp_path: Path) -> None:
    plain(tmp_path / "train", people=4)
    plain(tmp_path / "test", people=2, first=5)
    data = read_data(tmp_path)
    assert len(data.people) == 4 and len(people(data.query)) == 2
    plain(tmp_path / "test", people=1)
    with pytest.raises(DatasetError, match="p1 in train/ and in test/"):
        read_data(tmp_path)


def test_images_beside_the_layout_are_said(tmp_path: Path) -> None:
    plain(tmp_path, people=4)
    write_image(tmp_path / "p1" / "portrait.png", 1)
    (tmp_path / "p1" / "notes.txt").write_text("x")
    data = read_data(tmp_path)
    assert reasons(data) == {"not at PERSON/CAMERA/image": ["p1/portrait.png"]}


@pytest.mark.parametrize("kind", ["absent", "file", "empty", "one person", "no identity twice", "not images"])
def test_folders_with_which_nothing_can_be_done(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    if kind == "file":
        root.write_text("x")
    elif kind != "absent":
        root.mkdir()
    if kind == "one person":
        plain(root, people=1)
    if kind == "no identity twice":
        for person in range(5):
            write_image(root / "bounding_box_train" / f"{person + 1:04d}_c1s1_000001_00.jpg", person)
    if kind == "not images":
        for n in range(4):
            (root / f"p{n % 2}" / "c").mkdir(parents=True, exist_ok=True)
            (root / f"p{n % 2}" / "c" / f"{n}.jpg").write_bytes(b"no")
    expected = {"absent": "no such folder", "file": "no such folder", "empty": "no image found"}.get(
        kind, "needs at least two people with two readable training images each"
    )
    with pytest.raises(DatasetError, match=expected) as caught:
        read_data(root, held_out=0)
    assert "\n" not in str(caught.value)


def test_a_layout_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="layout 'duke' is not known; expected auto, market1501"):
        read_data(tmp_path, "duke")
    with pytest.raises(DatasetError, match="bounding_box_train is missing"):
        read_data(tmp_path, "market1501")
    with pytest.raises(DatasetError, match="held_out"):
        read_data(tmp_path, held_out=1.0)


def test_grey_and_transparent_images_are_read_as_rgb(tmp_path: Path) -> None:
    from PIL import Image

    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (4, 6)).save(tmp_path / f"{mode}.png")
        pixels = read_pixels(tmp_path / f"{mode}.png")
        assert pixels.shape == (6, 4, 3) and pixels.dtype == np.uint8
