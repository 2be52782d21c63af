"""The rendered set: Market-1501's shape and names, the same from the same seed, nobody in both halves."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.atomic import OutputError
from pipeline.world_reid import FOLDERS, draw_cameras, render_reid
from reid.datasets import DISTRACTOR, JUNK, read_data
from st_model.market1501 import read_names, read_sequence_lengths

NAME = re.compile(r"(-1|\d{4})_c[1-4]s1_\d{6}_\d{2}\.jpg")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "rendered"
    render_reid(folder, seed=3, people=16, cameras=4)
    return folder


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def test_it_has_market_1501s_shape(root: Path) -> None:
    files = [path for name in FOLDERS for path in (root / name).iterdir()]
    assert all(NAME.fullmatch(path.name) for path in files)
    assert len({path.name for path in files}) == len(files)
    image = cv2.imread(str(files[0]))
    assert image.shape == (128, 64, 3)
    facts = json.loads((root / "rendered.json").read_text())
    assert sum(facts["images"].values()) == len(files) and facts["people"] == 16


def test_it_is_read_like_the_real_one(root: Path) -> None:
    data = read_data(root)
    assert data.layout == "market1501" and data.problems == ()
    assert set(data.people) == set(range(1, 9))
    assert {p.person for p in data.query} == set(range(9, 17))
    assert {p.person for p in data.gallery} >= {JUNK, DISTRACTOR, *range(9, 17)}
    cameras = {person: {p.camera for p in data.gallery if p.person == person} for person in range(9, 17)}
    assert all(len(seen) >= 2 for seen in cameras.values())
    asked = [(p.person, p.camera) for p in data.query]
    assert len(set(asked)) == len(asked)  # one query per person and camera


def test_its_names_tell_when(root: Path) -> None:
    """Frames fit into the sequences, and people need time from camera to camera."""
    lengths = json.loads((root / "sequence_lengths.json").read_text())
    assert set(lengths) == {f"c{n}s1" for n in range(1, 5)}
    names = sorted(path.name for path in (root / "bounding_box_train").iterdir())
    (root.parent / "names.txt").write_text("\n".join(names) + "\n")
    images = read_names(root.parent / "names.txt", read_sequence_lengths(root / "sequence_lengths.json"))
    assert images.frame.max() < min(lengths.values())
    for person in np.unique(images.person):
        own = images.take(images.person == person)
        order = np.argsort(own.frame)
        moved = np.diff(own.camera[order]) != 0
        assert np.diff(own.frame[order])[~moved].max() <= 1.5 * 25 + 1
        assert np.diff(own.frame[order])[moved].min() > 25


def test_equal_arguments_give_equal_files(root: Path, tmp_path: Path) -> None:
    render_reid(tmp_path / "again", seed=3, people=16, cameras=4)
    assert digest(tmp_path / "again") == digest(root)
    render_reid(tmp_path / "other", seed=4, people=16, cameras=4)
    assert digest(tmp_path / "other") != digest(root)


def test_cameras_differ_in_colour_and_sharpness() -> None:
    cameras = draw_cameras(1, 6)
    assert len({camera.gain_bgr for camera in cameras}) == len({camera.body_px for camera in cameras}) == 6
    assert min(camera.walk_s for camera in cameras) > 0


def test_a_person_looks_like_themselves_only_roughly(root: Path) -> None:
    """Another image of a person is nearer than one of a stranger, but not always: casts and poses must matter."""
    from reid.stripes import StripesEncoder

    data = read_data(root)
    rows = StripesEncoder()([cv2.imread(str(p.path)) for p in data.train])
    people, cameras = np.array([p.person for p in data.train]), np.array([p.camera for p in data.train])
    cosine = rows @ rows.T
    across = cameras[:, None] != cameras
    same, different = (cosine[across & (fits == (people[:, None] == people))] for fits in (True, False))
    assert same.mean() > different.mean() + 0.1
    assert same.min() < different.max()


def test_what_cannot_be_rendered(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4 to 9999 people and 2 to 9 cameras, got 3 and 6"):
        render_reid(tmp_path / "a", people=3)
    with pytest.raises(ValueError, match="got 8 and 1"):
        render_reid(tmp_path / "a", people=8, cameras=1)
    with pytest.raises(ValueError, match="something already"):
        render_reid(root)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        render_reid(tmp_path / "file" / "set")
