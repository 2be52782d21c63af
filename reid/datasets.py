"""Folders of person images: who, which camera, and which images may be trained on.

layout      found by                 what is read
market1501  bounding_box_train/      `0002_c1s1_000451_03.jpg` in bounding_box_train, query, bounding_box_test
msmt17      list_train.txt           `0000/0000_000_01_0303morning_0015_0.jpg 0` in list_{train,val,query,gallery}.txt,
                                     below train/, test/ (V1) or mask_train_v2/, mask_test_v2/ (V2)
folders     otherwise                `PERSON/CAMERA/*.jpg`, below train/ and test/ or with some people held out

Nobody of query or gallery is ever trained on. What cannot be used is left out and reported.

    DatasetError (ValueError)   a folder with which nothing can be done; says why and what was expected
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYOUTS = ("market1501", "msmt17", "folders")
JUNK, DISTRACTOR = -1, 0
"""Market-1501's labels of pieces of people (never scored) and of people nobody asks for (they count as wrong)."""

_MARKET = re.compile(r"(-1|\d{4,})_c([1-9]\d*)s[1-9]\d*_\d+_\d+\.jpg(?:\.jpg)?")  # a few published names end twice
_MSMT = re.compile(r"\d+_\d+_(\d+)_.*\.(?:jpg|png)")
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp")


class DatasetError(ValueError):
    """A folder of images that cannot be used."""


@dataclass(frozen=True)
class Picture:
    """One image: its file, who it shows (JUNK and DISTRACTOR are nobody), and the number of its camera."""

    path: Path
    person: int
    camera: int


@dataclass(frozen=True)
class Problem:
    """Files that were left out for the same reason."""

    reason: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.names[:3]) + (", ..." if len(self.names) > 3 else "")
        return f"{len(self.names)} left out, {self.reason}: {shown}"


@dataclass(frozen=True)
class ReidData:
    """Training images, queries and gallery, and what was left out. Query and gallery may be empty."""

    root: Path
    layout: str
    train: tuple[Picture, ...]
    query: tuple[Picture, ...] = ()
    gallery: tuple[Picture, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def people(self) -> tuple[int, ...]:
        """Who is trained on, ascending."""
        return tuple(sorted({picture.person for picture in self.train}))

    def counts(self) -> dict[str, int]:
        """How many images and people, by part."""
        return {
            "train_images": len(self.train),
            "train_people": len(self.people),
            "query_images": len(self.query),
            "query_people": len({p.person for p in self.query}),
            "gallery_images": len(self.gallery),
            "left_out": sum(len(problem.names) for problem in self.problems),
        }


def read_data(root: Path | str, layout: str = "auto", *, held_out: float = 0.25, check_images: bool = True) -> ReidData:
    """Read a folder of person images; see the module for the layouts.

    held_out      share of the people of a plain folder without train/ and test/ that are kept for testing, [0, 1):
                  evenly picked from their sorted names
    check_images  open every image once, so that a broken one is reported now

    Raises DatasetError when there is no such folder or nothing to train on, or when somebody is in both parts.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder of images")
    if not 0 <= held_out < 1:
        raise DatasetError(f"held_out must lie in [0, 1), got {held_out}")
    if layout == "auto":
        layout = _layout(root)
    if layout not in LAYOUTS:
        raise DatasetError(f"layout {layout!r} is not known; expected auto, {', '.join(LAYOUTS)}")
    read: Callable[[Path, _Report], ReidData] = {
        "market1501": _market,
        "msmt17": _msmt,
        "folders": lambda root, report: _folders(root, report, held_out),
    }[layout]
    report = _Report(root)
    data = read(root, report)
    shared = {p.person for p in data.train} & {p.person for p in (*data.query, *data.gallery)} - {JUNK, DISTRACTOR}
    if shared:
        some = ", ".join(str(person) for person in sorted(shared)[:5])
        raise DatasetError(
            f"{root}: {len(shared)} people are in training and in query or gallery ({some}); "
            "scores on people trained on would be worthless"
        )
    if check_images:
        data = _readable(data, report)
    data = replace(data, train=_with_two_images(data.train, report), problems=report.problems())
    if len(data.people) < 2:
        why = "; ".join(str(problem) for problem in data.problems) or "no image found"
        raise DatasetError(f"{root}: needs at least two people with two readable training images each ({why})")
    return data


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8 RGB. DatasetError when it is broken, cut short or no image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: not a readable image: {error}") from error
    except ImportError as error:  # once Ultralytics was imported, what Pillow does not know is tried with a HEIF reader
        raise DatasetError(f"{path}: not a readable image: of no kind that Pillow knows") from error


def labels(pictures: Iterable[Picture]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) people and (N,) cameras."""
    rows = np.array([(p.person, p.camera) for p in pictures], np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


class _Report:
    """Collects what is left out, by reason."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, list[str]] = defaultdict(list)

    def __call__(self, reason: str, name: Path | str) -> None:
        path = Path(name)
        inside = path.is_absolute() and path.is_relative_to(self._root)
        self._names[reason].append(path.relative_to(self._root).as_posix() if inside else str(name))

    def problems(self) -> tuple[Problem, ...]:
        return tuple(Problem(reason, tuple(names)) for reason, names in self._names.items())


def _layout(root: Path) -> str:
    if (root / "bounding_box_train").is_dir():
        return "market1501"
    return "msmt17" if (root / "list_train.txt").is_file() else "folders"


def _market(root: Path, report: _Report) -> ReidData:
    if not (root / "bounding_box_train").is_dir():
        raise DatasetError(f"{root}: Market-1501's folder bounding_box_train is missing; training uses nothing else")
    parts = {name: _market_folder(root / name, report) for name in ("bounding_box_train", "query", "bounding_box_test")}
    train = tuple(p for p in parts["bounding_box_train"] if p.person not in (JUNK, DISTRACTOR))
    return ReidData(root, "market1501", train, parts["query"], parts["bounding_box_test"])


def _market_folder(folder: Path, report: _Report) -> tuple[Picture, ...]:
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = _MARKET.fullmatch(path.name)
        if name:
            found.append(Picture(path, int(name[1]), int(name[2]) - 1))
        elif path.name.lower() != "thumbs.db":  # the published archive holds one
            report("not named as in 0002_c1s1_000451_03.jpg", path)
    return tuple(found)


def _msmt(root: Path, report: _Report) -> ReidData:
    """Labels of the test lists begin at 0 again and mean other people: they are moved behind those of training."""
    train = _msmt_list(root, ("list_train.txt", "list_val.txt"), "train", 1, report)
    behind = max((p.person for p in train), default=0) + 1
    query = _msmt_list(root, ("list_query.txt",), "test", behind, report)
    gallery = _msmt_list(root, ("list_gallery.txt",), "test", behind, report)
    return ReidData(root, "msmt17", train, query, gallery)


def _msmt_list(root: Path, lists: tuple[str, ...], part: str, first: int, report: _Report) -> tuple[Picture, ...]:
    named = sorted(p for p in root.iterdir() if p.is_dir() and re.fullmatch(rf"(mask_)?{part}(_v2)?", p.name.lower()))
    found = []
    for name in lists:
        path = root / name
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            file, _, person = line.strip().rpartition(" ")
            fits = _MSMT.fullmatch(Path(file).name)
            if not fits or not person.isdigit():
                report("not a line such as '0000/0000_000_01_0303morning_0015_0.jpg 0'", f"{name}:{number}")
                continue
            if not named:
                raise DatasetError(f"{root}: {name} names images of a folder {part}/, which is missing")
            found.append(Picture(named[-1] / file, int(person) + first, int(fits[1]) - 1))
    return tuple(found)


def _folders(root: Path, report: _Report, held_out: float) -> ReidData:
    split = (root / "train").is_dir() and (root / "test").is_dir()
    sides = [root / "train", root / "test"] if split else [root]
    names = sorted({p.name for side in sides for p in side.iterdir() if p.is_dir()})
    cameras = sorted(
        {c.name for side in sides for p in side.iterdir() if p.is_dir() for c in p.iterdir() if c.is_dir()}
    )
    number = {name: n for n, name in enumerate(names, 1)}
    if split:
        both = {p.name for p in sides[0].iterdir() if p.is_dir()} & {p.name for p in sides[1].iterdir() if p.is_dir()}
        if both:
            raise DatasetError(f"{root}: {', '.join(sorted(both)[:5])} in train/ and in test/; folders are people")
    pictures = [_plain(side, number, cameras, report) for side in sides]
    if split:
        train, test = pictures
    else:
        kept = round(held_out * len(names))
        step = len(names) / kept if kept else 1
        asked = {number[names[int((n + 0.5) * step)]] for n in range(kept)}
        train = [p for p in pictures[0] if p.person not in asked]
        test = [p for p in pictures[0] if p.person in asked]
    # As Market-1501 does: one query of each person and camera; the rest is gallery.
    seen: set[tuple[int, int]] = set()
    query: list[Picture] = []
    gallery: list[Picture] = []
    for picture in test:
        first = (picture.person, picture.camera) not in seen
        seen.add((picture.person, picture.camera))
        (query if first else gallery).append(picture)
    return ReidData(root, "folders", tuple(train), tuple(query), tuple(gallery))


def _plain(side: Path, number: dict[str, int], cameras: list[str], report: _Report) -> list[Picture]:
    found = []
    for path in sorted(side.rglob("*")):
        if path.is_dir() or path.name.startswith("."):
            continue
        parts = path.relative_to(side).parts
        if len(parts) == 3 and path.suffix.lower() in _IMAGES:
            found.append(Picture(path, number[parts[0]], cameras.index(parts[1])))
        elif path.suffix.lower() in _IMAGES:
            report("not at PERSON/CAMERA/image", path)
    return found


def _readable(data: ReidData, report: _Report) -> ReidData:
    def fault(picture: Picture) -> str | None:
        if not picture.path.is_file():
            return "no such file"
        try:
            read_pixels(picture.path)
        except DatasetError:
            return "not a readable image"
        return None

    parts: dict[str, Any] = {}
    with ThreadPoolExecutor(4) as pool:  # decoding leaves Python's lock
        for part in ("train", "query", "gallery"):
            pictures: tuple[Picture, ...] = getattr(data, part)
            faults = list(pool.map(fault, pictures))
            for picture, why in zip(pictures, faults, strict=True):
                if why:
                    report(why, picture.path)
            parts[part] = tuple(p for p, why in zip(pictures, faults, strict=True) if not why)
    return replace(data, **parts)


def _with_two_images(train: tuple[Picture, ...], report: _Report) -> tuple[Picture, ...]:
    images = Counter(picture.person for picture in train)
    for picture in train:
        if images[picture.person] < 2:
            report("the only image of its person, nothing to compare it with", picture.path)
    return tuple(p for p in train if images[p.person] >= 2)
