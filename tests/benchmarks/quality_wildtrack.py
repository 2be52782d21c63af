"""Quality on WILDTRACK's real paths: seven cameras that overlap, 313 people, 200 s; appearance is made up.

Boxes become stays per person and camera (single-camera tracks without a fault). An embedding is the person's vector
plus the camera's bias, the look in that camera, and noise, in the proportions of the middle world of sightings.
"""

from __future__ import annotations

import csv
import gzip
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.evaluation import evaluate
from st_model.link_scores import LabelledStay, score_links
from st_model.sightings import Sighting
from st_model.transitions import TransitionTables
from st_model.world_settings import Looks
from tests.benchmarks.quality_runs import COSINE, Row, Run, config_for, figures, three_runs, tuned_cosine, with_removed

GAP_S = 2.0  # a longer hole begins another stay
HZ = 2.0


class Box(NamedTuple):
    """A box of the ground truth and the stay it belongs to."""

    frame: int
    camera: str
    person: int
    track_id: int
    left_top_width_height: tuple[float, float, float, float]


def read_wildtrack(folder: Path) -> tuple[list[Box], list[LabelledStay]]:
    """All boxes, and the stays they make."""
    with gzip.open(folder / "boxes.csv.gz", "rt") as file:
        rows = sorted(csv.DictReader(file), key=lambda r: (r["camera"], int(r["person"]), float(r["time_s"])))
    boxes: list[Box] = []
    spans: dict[tuple[str, int], list[float]] = {}
    person_of: dict[tuple[str, int], int] = {}
    track_id = 0
    last: tuple[str, int, float] | None = None
    for row in rows:
        camera, person, time_s = row["camera"], int(row["person"]), float(row["time_s"])
        if last is None or last[:2] != (camera, person) or time_s - last[2] > GAP_S:
            track_id += 1
        last = camera, person, time_s
        x1, y1, x2, y2 = (float(row[name]) for name in ("x1", "y1", "x2", "y2"))
        boxes.append(Box(round(time_s * HZ) + 1, camera, person, track_id, (x1, y1, x2 - x1, y2 - y1)))
        span = spans.setdefault((camera, track_id), [time_s, time_s])
        span[1] = time_s
        person_of[camera, track_id] = person
    stays = [LabelledStay(c, t, person_of[c, t], start, end) for (c, t), (start, end) in spans.items()]
    return boxes, stays


def made_up_sightings(stays: list[LabelledStay], seed: int, looks: Looks | None = None) -> list[Sighting]:
    """Two rows per stay: 1.5 s after entry, and at its end (one row when it is shorter)."""
    looks = looks or Looks()
    rng = np.random.default_rng(seed)
    widths = 1.0 / np.sqrt(1 + np.arange(looks.dim) / 3)
    widths /= np.linalg.norm(widths)

    def draw() -> np.ndarray:
        return rng.standard_normal(looks.dim) * widths

    bias = {c: looks.camera * draw() for c in sorted({s.camera for s in stays})}
    person = {p: looks.outfit * draw() + looks.person * draw() for p in sorted({s.person for s in stays})}
    view: dict[tuple[int, str], np.ndarray] = defaultdict(lambda: looks.view * draw())
    common = looks.common * draw()
    out = []
    for s in sorted(stays):
        look = common + bias[s.camera] + person[s.person] + view[s.person, s.camera] + looks.stay * draw()
        long = s.last_s - s.entered_s > 1.5
        for until_s, closed, crops in [(s.entered_s + 1.5, False, 3)] * long + [(s.last_s, True, 6)]:
            vector = look + looks.crop * draw() / np.sqrt(crops)
            unit = (vector / np.linalg.norm(vector)).astype(np.float32)
            said = Sighting(s.camera, s.track_id, s.entered_s, until_s, until_s, closed, unit, crops)
            out.append(said)
    return sorted(out, key=lambda s: (s.emitted_s, s.camera, s.track_id))


def wildtrack_rows(folder: Path, seed: int = 101, *, cosine: bool = True, matcher: bool = True) -> list[Row]:
    """All runs; HOTA, AssA and IDF1 are those of perfect boxes, so only ids cost."""
    boxes, truth = read_wildtrack(folder)
    sightings = made_up_sightings(truth, seed)
    runs: dict[str, Run] = {}
    if cosine:
        ids, _ = tuned_cosine(sightings, lambda ids: score_links(truth, ids).hand_over.f1)
        runs[COSINE] = Run(ids, {}, TransitionTables())
    if matcher:
        runs |= three_runs(sightings, config_for())
    rows: list[Row] = [
        {"data": "wildtrack", "run": name, **track_scores(boxes, r.ids), **figures(truth, r.ids, r.settled_s)}
        for name, r in runs.items()
    ]
    return with_removed(rows)


def track_scores(boxes: list[Box], ids: Mapping[tuple[str, int], int]) -> Row:
    """HOTA, AssA and IDF1 over all cameras, of these boxes under these ids."""
    with tempfile.TemporaryDirectory() as work:
        true, said = Path(work, "true"), Path(work, "said")
        _write(true, [(b, b.person) for b in boxes])
        _write(said, [(b, ids[b.camera, b.track_id] + 1) for b in boxes])
        scores = evaluate(said, true)["all"]
    return {name: round(scores[name], 4) for name in ("HOTA", "AssA", "IDF1")}


def _write(folder: Path, boxes: list[tuple[Box, int]]) -> None:
    folder.mkdir()
    lines: dict[str, dict[tuple[int, int], str]] = defaultdict(dict)
    for box, global_id in boxes:
        # One id twice in a camera and frame is a fault of its own; MOT files cannot hold it, the first box stays.
        place = ",".join(map(str, box.left_top_width_height))
        lines[box.camera].setdefault((box.frame, global_id), f"{box.frame},{global_id},{place},1,-1,-1,-1")
    for camera, rows in lines.items():
        (folder / f"{camera}.txt").write_text("\n".join(rows.values()) + "\n")
