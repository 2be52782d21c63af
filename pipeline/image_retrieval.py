"""`test-reid FOLDER`: how well an encoder finds people again, from their pictures: the rows of the st-ReID paper.

    cosine      appearance alone
    +RK         after k-reciprocal re-ranking
    +ST         joined with the delays between cameras that the names of the training pictures tell of
    +ST+RK      both

Space-time needs names as Market-1501 writes them; where there are none, the two rows are left out and it is said why.

    ImageTestError (ValueError)   a folder that nothing can be tested on
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.engines import choose_device
from pipeline.market import MarketTestError, fit_slope
from pipeline.weights import resolve_all
from reid.camera_norm import centred_per_camera
from reid.datasets import JUNK, Picture, ReidData, labels, read_data
from reid.embedding import get_embeddings
from reid.encoders import Speed, load_encoder
from reid.ranking import evaluate_ranking
from reid.reranking import K1, cosine_rows, rerank_rows
from st_model.market1501 import (
    MarketFileError,
    MarketImages,
    parse_names,
    people_of,
    read_sequence_lengths,
    sequence_starts,
)
from st_model.paper import DelayTable, calibrated_ratio, join_calibrated, join_paper, paper_density, paper_weights

if TYPE_CHECKING:
    from rich.table import Table

Floats = NDArray[np.float32]
Rows = dict[str, dict[str, float]]


class ImageTestError(ValueError):
    """Pictures that nothing can be tested on."""


@dataclass(frozen=True)
class Choices:
    """How to test.

    encoder         a name, a path or a model card
    flip            mean of each picture and its mirror
    camera_norm     take each camera's mean out of the embeddings
    joint           `calibrated` (sum of log-odds, fitted without labels) or `paper` (the published product)
    layout          of the folder, see `reid.datasets`
    held_out        share of the people of a plain folder that is tested on
    sequence_lengths  JSON of frames per camera and sequence; default: FOLDER/sequence_lengths.json, else as long as the
                      names say
    """

    encoder: str = "pair"
    device: str = "auto"
    flip: bool = False
    camera_norm: bool = False
    joint: str = "calibrated"
    layout: str = "auto"
    held_out: float = 0.25
    sequence_lengths: Path | None = None
    batch: int = 64


@dataclass(frozen=True)
class Rated:
    """What came out.

    rows    name -> rank1, rank5, rank10, mAP_trapezoid, mAP_standard, mINP
    counts  pictures, people and cameras of query and gallery
    notes   what was left out, and why
    """

    rows: Rows
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Delays:
    """What the names say of time: of queries and scored gallery, and tables of the training names."""

    queries: MarketImages
    gallery: MarketImages
    ratio: DelayTable
    weights: DelayTable


def rate_pictures(
    root: Path,
    choices: Choices | None = None,
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
) -> Rated:
    """Embed query and gallery of a folder (Market-1501, MSMT17 or PERSON/CAMERA/*.jpg) and rate four rankings.

    Junk pictures are left out everywhere. Raises ImageTestError, DatasetError, EncoderError, WeightsError, DeviceError
    and MarketFileError (all ValueError), each with one line.
    """
    choices = choices or Choices()
    device = choose_device(choices.device)
    encode = load_encoder(choices.encoder, resolve_all(choices.encoder), device, speed=Speed())
    data = read_data(root, choices.layout, held_out=choices.held_out)
    queries = [p for p in data.query if p.person != JUNK]
    gallery = [p for p in data.gallery if p.person != JUNK]
    if not queries or not gallery:
        raise ImageTestError(f"{root}: {len(queries)} queries and {len(gallery)} gallery pictures; both are needed")
    pictures = [*queries, *gallery]
    features = get_embeddings(
        [p.path for p in pictures],
        encode,
        batch=choices.batch,
        flip=choices.flip,
        on_progress=lambda done, total: on_progress("embedding", done, total),
    )
    people, cameras = labels(pictures)
    if choices.camera_norm:
        features = centred_per_camera(features, cameras)
    split = len(queries)

    def rate(scores: NDArray[np.floating]) -> dict[str, float]:
        return evaluate_ranking(
            np.asarray(scores, np.float32), people[:split], cameras[:split], people[split:], cameras[split:]
        ).as_dict()

    notes = [str(problem) for problem in data.problems]
    enough = len(pictures) >= K1 + 2
    if not enough:
        notes.append(f"no re-ranking: it compares {K1} neighbours and needs {K1 + 2} pictures")
    delays = _delays(data, queries, gallery, choices, notes)
    similarity = features[:split] @ features[split:].T
    rows: Rows = {"cosine": rate(similarity)}
    if enough:
        on_progress("re-ranking", 0, 1)
        rows["+RK"] = rate(-rerank_rows(cosine_rows(features, device), len(pictures), split))
    join = None
    if delays:
        try:
            join = _join(delays, choices.joint, similarity)
        except MarketTestError as error:  # appearance that says nothing (an untrained network) still has its cosine row
            notes.append(f"no space-time rows: {error}")
    if delays and join:
        rows["+ST"] = rate(join(similarity, delays.queries, delays.gallery))
        del similarity
        if enough:
            both = delays.queries.then(delays.gallery)
            far = _joint_rows(features, both, join, as_odds=choices.joint == "calibrated")
            rows["+ST+RK"] = rate(-rerank_rows(far, len(pictures), split))
    counts = {
        "queries": split,
        "gallery": len(gallery),
        "people": len(set(people[:split].tolist())),
        "cameras": len(set(cameras.tolist())),
        "dimension": int(features.shape[1]),
    }
    return Rated(rows, counts, notes)


def rows_table(tested: Rated) -> Table:
    """The rows as a table for people."""
    from rich.table import Table

    table = Table()
    table.add_column("ranking", no_wrap=True)
    columns = {"rank1": "CMC@1", "rank5": "CMC@5", "rank10": "CMC@10", "mAP_standard": "mAP", "mINP": "mINP"}
    for title in columns.values():
        table.add_column(title, justify="right")
    for name, row in tested.rows.items():
        table.add_row(name, *(f"{row[column]:.4f}" for column in columns))
    return table


Join = Callable[[Floats, MarketImages, MarketImages], Floats]


def _join(delays: _Delays, kind: str, similarity: Floats) -> Join:
    """(cosines, images of the rows, images of the columns) -> joint scores, in place."""
    if kind == "paper":
        return lambda cosine, rows, columns: join_paper(cosine, delays.weights, rows, columns)
    fit = fit_slope(similarity, delays.queries, delays.gallery, delays.ratio)
    log_ratio = DelayTable(np.log(delays.ratio.values))

    def join(cosine: Floats, rows: MarketImages, columns: MarketImages) -> Floats:
        return join_calibrated(cosine, log_ratio, *fit, rows, columns)

    return join


def _joint_rows(features: Floats, images: MarketImages, join: Join, *, as_odds: bool) -> Callable[[int, int], Floats]:
    """Rows of distances 2 - 2 * joint among all pictures, for `rerank_rows`; a few at a time."""

    def rows(start: int, stop: int) -> Floats:
        joint = join(features[start:stop] @ features.T, images.take(np.arange(start, stop)), images)
        if as_odds:
            np.clip(joint, -80.0, 80.0, out=joint)
            np.negative(joint, out=joint)
            np.exp(joint, out=joint)
            joint += 1
            np.reciprocal(joint, out=joint)
        joint *= -2
        joint += 2
        return joint

    return rows


def _delays(
    data: ReidData, queries: Sequence[Picture], gallery: Sequence[Picture], choices: Choices, notes: list[str]
) -> _Delays | None:
    """Times and tables; None, and a note why, where the names tell no times."""
    if data.layout != "market1501":
        notes.append(f"no space-time rows: the names of a folder of layout {data.layout} tell no times")
        return None
    names = {part: [p.path.name for p in getattr(data, part)] for part in ("train", "query", "gallery")}
    starts = _sequence_starts(data.root, choices.sequence_lengths, [n for part in names.values() for n in part])
    try:
        training = people_of(parse_names(names["train"], starts, "training names"))
        asked = parse_names([p.path.name for p in queries], starts, "query names")
        shown = parse_names([p.path.name for p in gallery], starts, "gallery names")
    except MarketFileError as error:
        if choices.sequence_lengths:
            raise
        notes.append(f"no space-time rows: {error}")
        return None
    ratio = calibrated_ratio(training, asked.then(shown))
    return _Delays(asked, shown, ratio, paper_weights(paper_density(training)))


def _sequence_starts(root: Path, given: Path | None, names: Sequence[str]) -> dict[tuple[int, int], int]:
    """Where each sequence of a camera begins: from a file, else every sequence ends with its last picture."""
    own = given or root / "sequence_lengths.json"
    if given or own.is_file():
        return read_sequence_lengths(own)
    last: dict[str, int] = {}
    for name in names:
        if parts := re.match(r"(?:-1|\d+)_(c[1-9]\d*s[1-9]\d*)_(\d+)_", name):
            last[parts[1]] = max(last.get(parts[1], 1), int(parts[2]) + 1)
    for key in list(last):
        camera, _, number = key.partition("s")
        for before in range(1, int(number)):
            last.setdefault(f"{camera}s{before}", 1)  # a sequence nobody was seen in
    return sequence_starts(last)
