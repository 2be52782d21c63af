"""Forgetting a person: out of run folders, pictures and videos, Redis and the audit log.

It is noted before the first file changes (`by_hand/pending.json`), every step may be done twice, and who comes after a
kill goes on with it. The ids of all others stay, and the forgotten id is never given again. What is left: a line in the
audit log that somebody was forgotten, transition counts (which name nobody), and in videos a grey box.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import atomic, output_error, write_json_atomic, write_lines
from pipeline.audit import audit, redact
from pipeline.config import MatchConfig
from pipeline.corrections import finish_pending, os_user, person_of
from pipeline.explain import ExplainError
from pipeline.forget_video import forget_in_videos, video_folder
from pipeline.hidden_boxes import FILE, erase_boxes
from pipeline.journal import json_line, read_facts, read_json_lines
from pipeline.outputs import finish_killed
from pipeline.parts import parts_of
from pipeline.run_edit import (
    BASE_IDS,
    BASE_TRACKS,
    BY_HAND,
    EditError,
    RunLog,
    check_finished,
    derive,
    done,
    locked,
    note,
    read_log,
    site_config,
)
from pipeline.state_dir import state_dir
from pipeline.tracks_table import read_assignments, read_tracks, write_assignments
from st_model.ledger import StayKey, aliases

DERIVED_BY_OTHERS = ("exports", "clips")
"""Folders in a run that hold what was made from it on request: they are removed, and can be made again."""

Progress = Callable[[str, float, float | None], None]


@dataclass(frozen=True)
class Forgotten:
    """What was erased.

    stays    (camera, track_id) per run folder
    redis    entries of Redis that went or changed
    videos   "drawn again", "blanked" (parts of them) or "removed" per run folder that had any
    unknown  files in the run folders that are not ours: nobody looked into them
    """

    stays: dict[str, int]
    redis: int
    videos: dict[str, str]
    unknown: tuple[str, ...]


def forget(
    run_dirs: Sequence[Path],
    who: str,
    *,
    by: str | None = None,
    remove_videos: bool = False,
    overrides: Sequence[str] = (),
    on_progress: Progress = lambda stage, done, total: None,
) -> Forgotten:
    """Forget a person (`P7`) in runs of one site, and in the site's Redis.

    Ids are a site's: the same id in several runs is the same person. Raises EditError (ExplainError where none of the
    runs knows the person), EditConflict, the StoreError tree (MatcherRuns while a live matcher works on the site),
    OutputError.
    """
    run_dirs = [Path(run) for run in run_dirs]
    for run in run_dirs:
        whole = run.parent.parent if run.parent.name == "parts" else run
        if (whole / "journal").is_dir():
            finish_killed(whole)
    run_dirs = [folder for run in run_dirs for folder in (*parts_of(run), run)]
    stays: dict[str, int] = {}
    videos: dict[str, str] = {}
    entries, unknown = 0, []
    known: list[tuple[Path, dict[str, Any]]] = []
    missing: list[Exception] = []
    with ExitStack() as locks:
        sites = {str(site_config(run, overrides).site_name) for run in run_dirs if (run / "run.json").is_file()}
        if len(sites) > 1:
            raise EditError(
                f"these runs are of different sites ({', '.join(sorted(sites))}): ids mean other people there"
            )
        for run in run_dirs:
            check_finished(run)
            locks.enter_context(locked(run))
            finish_pending(run, overrides)
            try:
                known.append((run, _todo(run, who, by or os_user(), remove_videos)))
            except ExplainError as error:  # not in this run; perhaps in another
                missing.append(error)
        if not known:
            raise missing[0]
        for run, todo in known:
            audit(site_config(run, overrides), "forget", by=by, run=run)
            note(run, todo)
        for run, todo in known:
            found = _carry_out(run, todo, overrides, on_progress)
            stays[str(run)], entries = len(todo["stays"]), entries + found["redis"]
            if found["videos"]:
                videos[str(run)] = found["videos"]
            unknown += found["unknown"]
    return Forgotten(stays, entries, videos, tuple(unknown))


def forget_in_site(config: MatchConfig, who: str, *, by: str | None = None) -> int:
    """Forget a person in a site's Redis alone; returns how many entries went or changed. Raises the StoreError tree,
    EditError.
    """
    text = who.strip().upper().removeprefix("P")
    if not (text.isascii() and text.isdigit()):
        raise EditError(f"{who!r}: expected a person such as P12")
    audit(config, "forget in Redis", by=by)
    entries = _forget_in_redis(config, {int(text)}, set(), [])
    redact(config, [], [who])
    return entries


def finish_forgetting(run_dir: Path, todo: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Go on where somebody was killed. Call it under the run's lock."""
    _carry_out(run_dir, todo, overrides, lambda stage, done, total: None)


def _todo(run_dir: Path, who: str, by: str, remove_videos: bool) -> dict[str, Any]:
    log = read_log(run_dir)
    person = person_of(run_dir, log, who)
    ids = {person, *(old for old, now in aliases(log.corrections).items() if now == person)}
    stays = sorted(key for key, (i, _) in log.ids.items() if i == person)
    return {
        "what": "forget",
        "by": by,
        "ids": sorted(ids),
        "stays": [list(key) for key in stays],
        "remove_videos": remove_videos,
        "forgotten": int(read_facts(run_dir).get("forgotten") or 0) + 1,
    }


def _carry_out(
    run_dir: Path, todo: Mapping[str, Any], overrides: Sequence[str], on_progress: Progress
) -> dict[str, Any]:
    ids = {int(i) for i in todo["ids"]}
    stays: set[StayKey] = {(str(camera), int(track)) for camera, track in todo["stays"]}
    config = site_config(run_dir, overrides)
    entries = _forget_in_redis(config, ids, stays, _embeddings(run_dir, stays))
    if not todo.get("files_done"):
        if not todo.get("boxes_done"):
            if video_folder(run_dir).is_dir() and not todo["remove_videos"]:
                erase_boxes(run_dir, stays)
            todo = {**todo, "boxes_done": True}
            note(run_dir, todo)
        _forget_in_files(run_dir, ids, stays, int(todo["forgotten"]))
        todo = {**todo, "files_done": True}
        note(run_dir, todo)
    videos = forget_in_videos(run_dir, remove=bool(todo["remove_videos"]), on_progress=on_progress)
    redact(config, [run_dir], [*(f"P{i}" for i in sorted(ids)), *(f"{c}:{n}" for c, n in sorted(stays))])
    for left in run_dir.rglob(".*.tmp"):
        left.unlink(missing_ok=True)
    done(run_dir)
    return {"redis": entries, "videos": videos, "unknown": _unknown_files(run_dir)}


def _forget_in_redis(config: MatchConfig, ids: set[int], stays: set[StayKey], needles: Sequence[bytes]) -> int:
    from pipeline.site_store import open_store
    from st_model.erasing import erase_people
    from st_model.journal import recover

    with open_store(config, config.tables) as (store, _):
        recover(state_dir(config), store)  # what a killed run left on disk may speak of the person, too
        return erase_people(store, ids, stays, needles, config.tables)


def _embeddings(run_dir: Path, stays: set[StayKey]) -> list[bytes]:
    import pyarrow.parquet as pq

    path = run_dir / "sightings.parquet"
    if not path.is_file() or "embedding" not in pq.read_schema(path).names:
        return []
    vectors = [name for name in ("embedding", "face") if name in pq.read_schema(path).names]
    table = pq.read_table(path, columns=["camera", "track_id", *vectors])
    found = [table[name][int(n)].as_py() for n in np.flatnonzero(_of_stays(table, stays)) for name in vectors]
    return [np.asarray(vector, "<f4").tobytes() for vector in found if vector is not None]


def _of_stays(table: Any, stays: set[StayKey]) -> NDArray[np.bool_]:
    """Which rows of a table with camera and track_id are of these stays."""
    pairs = zip(table["camera"].to_pylist(), table["track_id"].to_pylist(), strict=True)
    return np.fromiter((pair in stays for pair in pairs), np.bool_, table.num_rows)


def _forget_in_files(run_dir: Path, ids: set[int], stays: set[StayKey], forgotten: int) -> None:
    """Erase stays and ids in every file of the run. May be done twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("sightings.parquet", FILE, BASE_TRACKS):
        path = run_dir / name
        if path.is_file():
            table = pq.read_table(path)
            kept = table.filter(pa.array(~_of_stays(table, stays)))
            with atomic(path) as temporary:
                pq.write_table(kept, temporary, compression="zstd")
    ids_file = run_dir / BASE_IDS
    if ids_file.is_file():
        kept_ids = {k: v for k, v in read_assignments(ids_file).items() if k not in stays and v[0] not in ids}
        write_assignments(ids_file, kept_ids)
    links = run_dir / BY_HAND / "links.jsonl"
    if links.is_file():
        rows = [row for _, row in read_json_lines(links)]
        kept_rows = [row for row in rows if not {(str(c), int(n)) for c, n in row["stays"]} & stays]
        write_lines(links, (json_line(row) for row in kept_rows))
    log = without(read_log(run_dir), ids, stays)
    facts = read_facts(run_dir)
    given = min((d.global_id for d in log.decisions), default=None)
    counters = {**facts.get("counters", {}), "first_global_id": given}
    write_json_atomic(run_dir / "run.json", {**facts, "counters": counters, "forgotten": forgotten})
    base = run_dir / BASE_TRACKS
    try:
        for camera, track in stays:
            for crop in (run_dir / "crops" / camera).glob(f"{track}.*"):
                crop.unlink(missing_ok=True)
        for name in DERIVED_BY_OTHERS:
            if (run_dir / name).is_dir():
                shutil.rmtree(run_dir / name)
    except OSError as error:
        raise output_error(run_dir, error) from error
    # After the pictures went: the report is written here, and would hold them.
    derive(run_dir, log, read_tracks(base.parent) if base.is_file() else read_tracks(run_dir))


def without(log: RunLog, ids: set[int], stays: set[StayKey]) -> RunLog:
    """The log as if these stays had not been: their decisions gone, the ids gone from the candidates of others.

    Everybody else keeps the id they have now. A decision about somebody else that gave a forgotten id (for a while)
    says instead what that person's id is now.
    """
    now = {key: i for key, (i, _) in log.ids.items() if key not in stays}
    decisions = []
    for d in log.decisions:
        if d.key in stays:
            continue
        kept = tuple(c for c in d.candidates if c.global_id not in ids)
        decisions.append(replace(d, candidates=kept, global_id=now[d.key] if d.global_id in ids else d.global_id))
    corrections = [
        replace(c, stays=tuple(key for key in c.stays if key not in stays))
        for c in log.corrections
        if c.global_id not in ids and c.into_id not in ids
    ]
    given = {key: word for key, word in log.given.items() if key not in stays and word[0] not in ids}
    after = RunLog(decisions, corrections, given)
    wrong = {key for key, (i, _) in after.ids.items() if i != now[key]}
    if wrong:  # a correction that named the forgotten id had made the difference
        decisions = [replace(d, global_id=now[d.key]) if d.key in wrong else d for d in decisions]
        after = RunLog(decisions, corrections, {key: word for key, word in given.items() if key not in wrong})
    return after


def _unknown_files(run_dir: Path) -> list[str]:
    from pipeline.outputs import is_ours

    found = (path for path in sorted(run_dir.rglob("*")) if path.is_file())
    return [str(path) for path in found if not is_ours(path.relative_to(run_dir))]
