"""`search`: who in a run looks like the person in a picture, and who could have been where and when it was taken.

SearchError (ValueError)   nothing can be searched for, or nothing to search in; says why and what to do
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit import audit
from pipeline.config import MatchConfig, load_match_config
from pipeline.engines import choose_device
from pipeline.journal import read_facts
from pipeline.replay import read_inputs, replay_inputs
from pipeline.run_edit import site_config
from pipeline.run_folder import finished_run
from pipeline.sightings_file import read_sightings
from pipeline.tracks_table import read_assignments
from pipeline.weights import resolve, resolve_all, sha256_of
from reid.crops import cut_out
from reid.embedding import get_embeddings, read_image
from reid.encoders import load_encoder
from reid.ranking import match_topk
from st_model.scoring import log_odds, probabilities
from st_model.sightings import Sighting
from st_model.transitions import TransitionTables

Picture = NDArray[np.uint8]

SURE_PERSON = 0.4
"""Score from which a box found in the picture is taken for a person."""


class SearchError(ValueError):
    """Nothing can be searched for, or nothing to search in."""


@dataclass(frozen=True)
class SeenStay:
    """One stay of a person, and its cosine to the picture."""

    camera: str
    track_id: int
    entered_s: float
    last_s: float
    similarity: float


@dataclass(frozen=True)
class Found:
    """One person of the run.

    similarity   cosine of the most similar stay, [-1, 1]
    probability  that the picture shows this person; with `nobody` they sum to 1 over all persons of the run
    stays        most similar first
    delay_s, transition  with a place and time: seconds between them and the nearest stay, and how much more often
                 somebody takes this long than by chance; None without
    """

    global_id: int
    similarity: float
    probability: float
    stays: tuple[SeenStay, ...]
    delay_s: float | None = None
    transition: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """Answer, most probable person first.

    nobody   probability that the picture shows none of them
    people   how many persons the run has
    notes    what the reader should know (which of several people in the picture was taken, say)
    """

    found: tuple[Found, ...]
    nobody: float
    people: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Near:
    """Where and when the picture was taken."""

    camera: str
    time_s: float


def search(
    run: Path,
    image: Path,
    *,
    top: int = 10,
    near: str | None = None,
    encoder: str | None = None,
    whole: bool = False,
    device: str = "auto",
) -> SearchResult:
    """Rank the persons of a finished run by how much they look like the one in a picture.

    image    a photograph, or a crop of one person; of several people the largest is taken
    top      persons in the answer, >= 1
    near     `camera@time`, in seconds of the site clock or as a date: travel times count, too, by the tables as they
             stood at the end of the run
    encoder  what made the run's embeddings, when run.json does not say
    whole    the picture shows one person and nothing else; do not look for people in it

    Raises SearchError, RunFolderError, ImageFileError, EncoderError, WeightsError, DetectorError.
    """
    if top < 1:
        raise SearchError(f"--top {top}: at least one person must be asked for")
    finished_run(run, "sightings.parquet", "assignments.csv")
    audit(site_config(run), "search", run=run)
    facts = read_facts(run)
    config = load_match_config(facts.get("config", {}))
    stays = last_words(read_sightings(run / "sightings.parquet"))
    ids = {key: global_id for key, (global_id, _) in read_assignments(run / "assignments.csv").items()}
    stays = [s for s in stays if s.key in ids]
    if not stays:
        raise SearchError(f"{run}: nobody was seen in this run, so nobody can be found in it")
    place = _near(near, sorted({s.camera for s in stays})) if near else None
    pixels = read_image(image)  # before any network is loaded: most mistakes are made here
    device = choose_device(device)
    notes: list[str] = []
    if not whole:
        pixels, note = _person_in(pixels, image, facts, device)
        notes += [note] if note else []
    query = _embedded(pixels, run, facts, encoder, device)
    if len(query) != len(stays[0].embedding):
        raise SearchError(
            f"{run}: its embeddings have length {len(stays[0].embedding)}, this encoder gives {len(query)}: "
            "the run was made by another encoder; name it with --encoder"
        )
    order, similarity = match_topk(query[None], np.stack([s.embedding for s in stays]), len(stays))
    people: dict[int, list[SeenStay]] = {}
    for n, cosine in zip(order[0], similarity[0].tolist(), strict=True):
        s = stays[n]
        stay = SeenStay(s.camera, s.track_id, s.entered_s, s.last_s, float(np.clip(cosine, -1, 1)))
        people.setdefault(ids[s.key], []).append(stay)
    tables = _tables(run) if place else None
    return _ranked(people, config, place, tables, top, notes)


def last_words(sightings: Sequence[Sighting]) -> list[Sighting]:
    """The latest sighting of every stay, in order of entry."""
    latest = {s.key: s for s in sightings}
    return sorted(latest.values(), key=lambda s: (s.entered_s, s.key))


def _ranked(
    people: dict[int, list[SeenStay]],
    config: MatchConfig,
    near: Near | None,
    tables: TransitionTables | None,
    top: int,
    notes: list[str],
) -> SearchResult:
    """As the matcher weighs them: appearance, delay, everybody equally likely before, and "a new person"."""
    match = config.match
    ids = list(people)
    best = np.array([people[i][0].similarity for i in ids])
    times = [_time_says(people[i], near, tables, people, match.lift, match.revival) for i in ids] if near else None
    log_r = np.array([t[0] for t in times]) if times else np.zeros(len(ids))
    weights = log_odds(best, log_r, g0=match.calibration.g0, b0=match.calibration.b0, g1=match.g1)
    weights = weights + math.log1p(-match.new_share) - math.log(len(ids))
    shares = probabilities(np.append(weights, math.log(match.new_share)))
    found = [
        Found(
            i,
            float(best[n]),
            float(shares[n]),
            tuple(people[i]),
            times[n][1] if times else None,
            float(np.exp(times[n][0])) if times else None,
        )
        for n, i in enumerate(ids)
    ]
    found.sort(key=lambda f: (-f.probability, -f.similarity, f.global_id))
    return SearchResult(tuple(found[:top]), float(shares[-1]), len(ids), tuple(notes))


def _time_says(
    stays: Sequence[SeenStay],
    near: Near | None,
    tables: TransitionTables | None,
    people: dict[int, list[SeenStay]],
    lift: float,
    revival: float,
) -> tuple[float, float]:
    """(log r, delay in seconds) of a person whose stays these are having been at a place at a time.

    In that camera's view just then: r is one over the share of persons who were. Else the stay nearest in time counts:
    its delay to or from that moment, by the table of the two cameras.
    """
    assert near is not None and tables is not None
    if any(_in_view(s, near) for s in stays):
        there = sum(any(_in_view(s, near) for s in others) for others in people.values())
        return math.log(len(people) / there), 0.0
    nearest = min(stays, key=lambda s: (_gap(s, near), s.entered_s))
    before = nearest.entered_s <= near.time_s
    delay = near.time_s - nearest.last_s if before else nearest.entered_s - near.time_s
    pair = (nearest.camera, near.camera) if before else (near.camera, nearest.camera)
    b = tables.settings.bin_of(max(delay, tables.settings.origin_s))
    if b is None:
        return -revival, delay
    return float(tables.log_ratio(*pair)[b]) + lift * tables.log_lift(*pair), delay


def _in_view(stay: SeenStay, near: Near) -> bool:
    return stay.camera == near.camera and stay.entered_s <= near.time_s <= stay.last_s


def _gap(stay: SeenStay, near: Near) -> float:
    return max(stay.entered_s - near.time_s, near.time_s - stay.last_s, 0.0)


def _near(text: str, cameras: Sequence[str]) -> Near:
    """`lobby@12.5` or `lobby@2026-11-22T10:00:05Z`."""
    from pipeline.schema import _seconds

    camera, sign, when = text.rpartition("@")
    if not sign or not camera:
        raise SearchError(f"--near {text}: expected CAMERA@TIME, as in {cameras[0]}@12.5")
    if camera not in cameras:
        guess = difflib.get_close_matches(camera, cameras, n=1, cutoff=0.5)
        hint = f"did you mean {guess[0]!r}?" if guess else f"this run saw people in {', '.join(cameras)}"
        raise SearchError(f"--near {text}: no camera {camera!r}; {hint}")
    try:
        time_s = float(when)
    except ValueError:
        try:
            time_s = float(_seconds(when))  # type: ignore[arg-type]
        except ValueError as error:
            raise SearchError(f"--near {text}: the time {error}") from error
    if not math.isfinite(time_s):
        raise SearchError(f"--near {text}: the time must be finite")
    return Near(camera, time_s)


def _tables(run: Path) -> TransitionTables:
    """The transition tables as they stood at the end of the run: those it began with, and what it taught."""
    return replay_inputs(read_inputs(run)).tables


def _person_in(pixels: Picture, image: Path, facts: dict[str, Any], device: str) -> tuple[Picture, str]:
    """The largest person in a picture, cut out, and what to say about it."""
    model = str(facts.get("config", {}).get("detector", {}).get("model", "yolo11n"))
    if model in ("motion", "recorded"):
        return (
            pixels,
            f"the detector of this run ({model}) needs a video: the whole picture is taken for the person",
        )
    from detectors.yolo import YoloDetector

    (found,) = YoloDetector(resolve(model), device=device, conf=SURE_PERSON)([""], [0], [pixels])
    if not len(found.boxes):
        raise SearchError(f"{image}: no person found in it; if it shows one and nothing else, add --whole")
    sizes = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    largest = int(np.argmax(sizes))
    cut = cut_out(pixels, found.boxes[largest])
    box = ", ".join(f"{v:.0f}" for v in found.boxes[largest])
    note = f"{len(found.boxes)} people in the picture: the largest is searched for, at {box}"
    return np.ascontiguousarray(cut), note if len(found.boxes) > 1 else ""


def _embedded(
    pixels: Picture, run: Path, facts: dict[str, Any], encoder: str | None, device: str
) -> NDArray[np.float32]:
    """(D,) embedding of one crop by the network that made the run's own."""
    made_with = facts.get("config", {}).get("reid", {}).get("encoder")
    name = encoder or made_with
    if not name:
        raise SearchError(f"{run}: run.json does not say which encoder made its embeddings; name it with --encoder")
    files = resolve_all(name)
    for model, path in files.items():
        known = facts.get("weights", {}).get(model, {}).get("sha256")
        if known and known != sha256_of(path):
            raise SearchError(
                f"{run}: was made with another {model} than {path}, so similarities would mean nothing; "
                f"put the file with sha256 {known[:12]}... there"
            )
    if encoder and made_with and encoder != made_with and not files.keys() & facts.get("weights", {}).keys():
        raise SearchError(f"{run}: was made by {made_with}, not by {encoder}; leave --encoder out")
    found = get_embeddings([pixels], load_encoder(name, files, device))
    return np.asarray(found[0])
