"""Quality on real footage, through the whole path: two virtual cameras with a blind gap; people one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Config, load_config
from pipeline.demo import run_demo
from pipeline.evaluation import evaluate
from pipeline.replay import replay
from pipeline.runner import run
from pipeline.tracklog import read_sightings, read_tracks
from pipeline.tracks_table import FinalIds, write_tracks
from st_model.transitions import TransitionTables
from tests.benchmarks.quality_runs import (
    APPEARANCE,
    COLD,
    COSINE,
    WARM,
    Row,
    copy_of,
    tuned_cosine,
    with_removed,
)

FIGURES = ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDSW")


def footage_config(sources: Sequence[str], work: Path, start_s: dict[str, float] | None = None) -> Config:
    """As shipped, without videos and pictures, with a state folder of its own."""
    config = load_config(
        sources=sources,
        extra={
            "site": "quality",
            "redis.state_dir": str(work / "state"),
            "output.video": False,
            "output.plots": False,
        },
    )
    cameras = tuple(c.model_copy(update={"start": (start_s or {}).get(c.name, 0.0)}) for c in config.cameras)
    return config.model_copy(update={"cameras": cameras})


def vcam_config(folder: Path, work: Path) -> Config:
    """The two virtual cameras."""
    return footage_config([f"{name}={folder / 'videos' / name}.mp4" for name in "ab"], work)


def run_scores(run_dir: Path, truth: Path) -> Row:
    """The figures of a finished run, ratios in [0, 1]."""
    return scores_of(evaluate(run_dir, truth))


def scores_of(found: dict[str, Any]) -> Row:
    """The figures shown, of all that `evaluate` gives."""
    moves = found["handovers"]
    scores = {name: round(float(found["all"][name]), 4) for name in FIGURES}
    return {
        **scores,
        "hand_over_f1": round(moves["f1"], 4),
        "hand_over_precision": round(moves["precision"] or 0.0, 4),
        "hand_over_recall": round(moves["recall"] or 0.0, 4),
        "false_merges": moves["false_merges"],
        "fragments": moves["fragments"],
        "cross_errors": moves["true_handovers"] - moves["kept"] + moves["predicted_handovers"] - moves["right"],
    }


def vcam_run(folder: Path, work: Path) -> Row:
    """The run alone: what a user gets from empty tables."""
    run(vcam_config(folder, work), work / "run", fresh=True)
    return run_scores(work / "run", folder)


def small_demo(work: Path) -> Row:
    """The demo on a smaller site: rendered people, motion detection, `stripes`; no weights."""
    result = run_demo(work, duration_s=30.0, people=8)
    return scores_of(result.scores)


def vcam_rows(folder: Path, work: Path) -> list[Row]:
    """Detection, tracking and appearance once (see `seen`), then the matcher over these sightings, in several ways."""
    config = vcam_config(folder, work)
    first = seen(config, work / "vcam")
    sightings = read_sightings(first / "sightings.parquet")
    cold = replay(sightings, config, TransitionTables(config.tables))
    timeless = config.model_copy(update={"match": replace(config.match, g1=0.0)})
    passes: dict[str, FinalIds] = {
        APPEARANCE: replay(sightings, timeless, TransitionTables(config.tables)).ids,
        COLD: cold.ids,
        WARM: replay(sightings, config, copy_of(cold.tables)).ids,
    }

    def scored(ids: FinalIds) -> Row:
        _renamed(first, work / "renamed", ids)
        return run_scores(work / "renamed", folder)

    def as_final(ids: dict[tuple[str, int], int]) -> FinalIds:
        return {key: (global_id + 1, 1.0) for key, global_id in ids.items()}

    tuned, chosen = tuned_cosine(sightings, lambda ids: float(str(scored(as_final(ids))["HOTA"])))
    passes = {COSINE: as_final(tuned), **passes}
    rows: list[Row] = [{"data": "vcam_dev", "run": name, **scored(ids)} for name, ids in passes.items()]
    rows[0] |= chosen
    return with_removed(rows)


def seen(config: Config, run_dir: Path) -> Path:
    """A finished run: that of an earlier measurement where there is one. What cameras, detector, tracker and encoder
    say does not depend on the matcher, and a replay of it gives the ids that a run would give."""
    if not (run_dir / "sightings.parquet").is_file():
        run(config, run_dir, fresh=True)
    return run_dir


def _renamed(run_dir: Path, out: Path, ids: FinalIds) -> None:
    """The tracks of a finished run under other global ids. Filling and smoothing do not depend on ids.

    Where two stays of one id show a box in the same frame, the one with the better score stays.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    tracks = read_tracks(run_dir)
    keys = zip(tracks["camera"].to_pylist(), tracks["track_id"].to_pylist(), strict=True)
    named = [ids[key][0] for key in keys]
    tracks = tracks.set_column(tracks.column_names.index("global_id"), "global_id", pa.array(named, pa.int64()))
    order = [("camera", "ascending"), ("frame", "ascending"), ("global_id", "ascending"), ("score", "descending")]
    tracks = tracks.sort_by(order)
    shown: set[tuple[object, ...]] = set()
    keep = []
    for row in zip(*(tracks[name].to_pylist() for name in ("camera", "frame", "global_id")), strict=True):
        keep.append(row not in shown)
        shown.add(row)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_tracks(out, tracks.filter(pa.array(keep)), cameras=sorted(pc.unique(tracks["camera"]).to_pylist()))


def one_by_one(folder: Path, work: Path, out: Path | None = None) -> Row:
    """Nine people who walk by one after the other; first half of the film is one camera, second half another.

    Nobody passes twice, so every id that is in both halves, and every id with two persons, is a false merge; which
    these are is for the eye: `out` gets one annotated frame per stay.
    """
    film = folder / "one-by-one-person-detection.mp4"
    half_s = cut_in_two(film, work / "first.mp4", work / "second.mp4")
    sources = [f"first={work / 'first.mp4'}", f"second={work / 'second.mp4'}"]
    config = footage_config(sources, work, {"second": half_s})
    run_dir = seen(config, work / "one-by-one")
    ids = replay(read_sightings(run_dir / "sightings.parquet"), config, TransitionTables(config.tables)).ids
    _renamed(run_dir, work / "renamed", ids)
    tracks = read_tracks(work / "renamed")
    boxes: dict[tuple[str, int, int], list[float]] = {}
    for camera, track, gid, time_s in zip(
        *(tracks[n].to_pylist() for n in ("camera", "track_id", "global_id", "time_s")), strict=True
    ):
        boxes.setdefault((camera, track, gid), []).append(time_s)
    stays = sorted((min(t), max(t), c, k, g) for (c, k, g), t in boxes.items())
    both = {g for _, _, c, _, g in stays if c == "first"} & {g for _, _, c, _, g in stays if c == "second"}
    if out is not None:
        _contact_sheet(work, tracks, stays, half_s, out)
    return {
        "data": "intel_one_by_one",
        "run": "run, as shipped",
        "ids": len({s[4] for s in stays}),
        "stays": len(stays),
        "ids_in_both_halves": len(both),
        "timeline": [f"{c}:{k} {a:.1f}-{b:.1f} s P{g}" for a, b, c, k, g in stays],
    }


def cut_in_two(film: Path, first: Path, second: Path) -> float:
    """Write the two halves of a film (H.264); returns the time of the cut in seconds."""
    import av

    with av.open(str(film)) as source:
        stream = source.streams.video[0]
        rate = stream.average_rate
        frames = stream.frames
        if rate is None or not frames:
            raise ValueError(f"{film} does not say how many frames it has, so it cannot be halved")
        outputs = [av.open(str(path), "w") for path in (first, second)]
        writers = []
        for output in outputs:
            writer = output.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
            writer.width, writer.height, writer.pix_fmt = stream.width, stream.height, "yuv420p"
            writers.append(writer)
        for n, frame in enumerate(source.decode(stream)):
            part = 0 if n < frames // 2 else 1
            picture = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
            outputs[part].mux(writers[part].encode(picture))
        for output, writer in zip(outputs, writers, strict=True):
            output.mux(writer.encode(None))
            output.close()
    return float(frames // 2 / rate)


def _contact_sheet(
    work: Path, tracks: object, stays: list[tuple[float, float, str, int, int]], half_s: float, out: Path
) -> None:
    """One picture: the frame in the middle of each stay with its boxes and ids."""
    import av
    import cv2
    import numpy as np

    rows = tracks.to_pylist()  # type: ignore[attr-defined]
    images = []
    for camera, file in (("first", work / "first.mp4"), ("second", work / "second.mp4")):
        wanted: dict[int, list[dict[str, object]]] = {}
        for _, _, c, track, _ in stays:
            if c == camera:
                mine = [r for r in rows if r["camera"] == c and r["track_id"] == track]
                middle = mine[len(mine) // 2]["frame"]
                wanted[middle] = [r for r in rows if r["camera"] == c and r["frame"] == middle]
        with av.open(str(file)) as source:
            for n, frame in enumerate(source.decode(video=0), start=1):
                if n in wanted:
                    image = frame.to_ndarray(format="bgr24")
                    for r in wanted[n]:
                        x1, y1, x2, y2 = (round(float(str(r[k]))) for k in ("x1", "y1", "x2", "y2"))
                        cv2.rectangle(image, (x1, y1), (x2, y2), (0, 255, 0), 2)
                        label = f"P{r['global_id']} ({r['track_id']}) {float(str(r['time_s'])):.0f} s {camera}"
                        cv2.putText(image, label, (5, 30), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (0, 0, 255), 2)
                    images.append(cv2.resize(image, (384, 216)))
    while len(images) % 4:
        images.append(np.zeros((216, 384, 3), np.uint8))
    sheet = np.vstack([np.hstack(images[k : k + 4]) for k in range(0, len(images), 4)])
    cv2.imwrite(str(out), sheet)
