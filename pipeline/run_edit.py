"""Changing a finished run: one at a time, never half, and everything that follows from its decisions written anew.

Whoever changes a run holds its lock. What is to be done is noted in `by_hand/pending.json` before the first file is
touched; after a kill the next one who comes finds the note and completes it first.

    EditError (ValueError)       this folder is not a finished run, or a change makes no sense there
      EditConflict               somebody else is changing it, or has changed it since it was looked at
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.atomic import atomic, output_error, write_csv, write_json_atomic, write_lines
from pipeline.config import MatchConfig, load_match_config
from pipeline.freezing import with_freeze
from pipeline.journal import json_line, read_corrections, read_decisions, read_facts, to_json
from pipeline.movements import stays, transitions
from pipeline.tracks_table import read_assignments, read_tracks, write_assignments, write_tracks
from st_model.ledger import Correction, StayKey, final_ids
from st_model.sightings import Candidate, Decision

if TYPE_CHECKING:
    import pyarrow as pa

BY_HAND = "by_hand"
BASE_TRACKS, BASE_IDS = f"{BY_HAND}/tracks.parquet", f"{BY_HAND}/assignments.csv"
"""Tracks and ids as the run wrote them: boxes that a merge hides come back when it is undone."""
LOCK_WAIT_S = 20.0
"""A correction of a large run writes for seconds; who comes meanwhile waits as long."""
_LOCK, _PENDING = ".edit.lock", f"{BY_HAND}/pending.json"


class EditError(ValueError):
    """The run cannot be changed like this."""


class EditConflict(EditError):
    """Somebody else changes the run, or has changed it meanwhile."""


@dataclass(frozen=True)
class RunLog:
    """What was decided in a run, and what was corrected since.

    given  the ids that the run gave in the end, before anybody corrected them. A part of a long run has stays that
           were decided in its neighbours: there this is the last word
    """

    decisions: list[Decision]
    corrections: list[Correction]
    given: Mapping[StayKey, tuple[int, float]] = field(default_factory=dict)

    @property
    def ids(self) -> dict[StayKey, tuple[int, float]]:
        """(camera, track_id) -> (global id, probability) as they are now."""
        own = final_ids(self.decisions, [c for c in self.corrections if not c.by])
        last_s = {d.key: d.time_s for d in self.decisions}
        elsewhere = [
            Decision(*key, last_s.get(key, 0.0), i, "confirm", (Candidate(i, 0.0, 0.0, 1.0, 0.5, sure),))
            for key, (i, sure) in self.given.items()
            if own.get(key, (None,))[0] != i
        ]
        return final_ids([*self.decisions, *elsewhere], self.corrections)


def read_log(run_dir: Path) -> RunLog:
    """The decisions and corrections of a finished run. Raises EditError, JournalError."""
    check_finished(run_dir)
    corrections = read_corrections(run_dir / "corrections.jsonl")
    kept = run_dir / BASE_IDS
    given: Mapping[StayKey, tuple[int, float]] = {}
    if kept.is_file() or not any(c.by for c in corrections):
        path = kept if kept.is_file() else run_dir / "assignments.csv"
        given = read_assignments(path) if path.is_file() else {}
    return RunLog(read_decisions(run_dir / "decisions.jsonl"), corrections, given)


def check_finished(run_dir: Path) -> None:
    """Raise EditError unless this is the folder of a finished run."""
    if (run_dir / "journal").is_dir():
        raise EditError(
            f"{run_dir}: the run is not finished; if nothing runs there any more: identrix finish {run_dir}"
        )
    missing = [n for n in ("run.json", "decisions.jsonl", "tracks.parquet") if not (run_dir / n).is_file()]
    if missing:
        raise EditError(f"{run_dir}: not the folder of a finished run ({', '.join(missing)} missing)")


def version_of(run_dir: Path) -> str:
    """Changes with every correction; whoever looked at a run hands it in with a change (see `editing`)."""
    digest = hashlib.sha256()
    for name in ("corrections.jsonl", "assignments.csv"):
        path = run_dir / name
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:12]


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run's lock. Raises EditConflict when somebody holds it for longer than `LOCK_WAIT_S`, OutputError."""
    try:
        file = (run_dir / _LOCK).open("ab")
    except OSError as error:
        raise output_error(run_dir / _LOCK, error) from error
    deadline_s = time.monotonic() + LOCK_WAIT_S
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise EditConflict(
                        f"{run_dir}: somebody else is changing this run; try again in a moment"
                    ) from None
                time.sleep(0.05)
        yield


def check_version(run_dir: Path, version: str | None) -> None:
    """Raise EditConflict when the run is no longer as it was when `version` was taken; None: whatever it is."""
    if version is not None and version != version_of(run_dir):
        raise EditConflict(f"{run_dir}: somebody corrected this run since you looked at it; look again, then decide")


def note(run_dir: Path, todo: Mapping[str, Any]) -> None:
    """Write down what is being done. Raises OutputError."""
    try:
        (run_dir / BY_HAND).mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(run_dir / BY_HAND, error) from error
    write_json_atomic(run_dir / _PENDING, todo)


def noted(run_dir: Path) -> dict[str, Any] | None:
    """What was being done when somebody was killed, None when nothing was."""
    path = run_dir / _PENDING
    if not path.is_file():
        return None
    todo: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return todo


def done(run_dir: Path) -> None:
    """It is done."""
    (run_dir / _PENDING).unlink(missing_ok=True)


def site_config(run_dir: Path, overrides: Sequence[str] = ()) -> MatchConfig:
    """The settings under which a run's site is reached, as the run had them, with `overrides`. Raises ConfigError.

    A password in redis.url is not kept in run.json: give the URL again, as `redis.url=...`.
    """
    facts = read_facts(run_dir)
    settings = {**facts.get("config", {}), "site": facts.get("site")}
    return with_freeze(load_match_config(settings, overrides=overrides))


def derive(run_dir: Path, log: RunLog, tracks: pa.Table) -> dict[str, int]:
    """Write every file that follows from decisions, corrections and boxes; returns counts as run.json has them.

    tracks  boxes of the run under any ids; stays without an id are left out. Videos are not drawn again.
    Raises OutputError.
    """
    ids = log.ids
    table = relabelled(tracks, {key: i for key, (i, _) in ids.items()})
    names = {path.stem for path in (run_dir / "tracks").glob("*.txt")} | set(table["camera"].unique().to_pylist())
    write_tracks(run_dir, table, cameras=sorted(names))
    persons = stays(table, ids)
    moves = transitions(persons)
    for name, rows in (("stays.csv", persons), ("transitions.csv", moves)):
        with atomic(run_dir / name) as temporary:
            write_csv(rows, temporary)
    write_lines(run_dir / "decisions.jsonl", _decision_lines(log.decisions, ids))
    write_lines(run_dir / "corrections.jsonl", (json_line(to_json(c)) for c in log.corrections))
    write_assignments(run_dir / "assignments.csv", ids)
    counts = {
        "persons": len(set(persons["global_id"].to_pylist())),
        "stays": persons.num_rows,
        "transitions": moves.num_rows,
        "rows": table.num_rows,
        "corrections": len(log.corrections),
    }
    facts = read_facts(run_dir)
    write_json_atomic(run_dir / "run.json", {**facts, "counters": {**facts.get("counters", {}), **counts}})
    show_again(run_dir)
    return counts


def show_again(run_dir: Path) -> None:
    """Write the report and the plots of persons and moves again where the run has them. Raises OutputError."""
    if (run_dir / "plots").is_dir():
        from pipeline.site_plots import plot_people

        for name in ("timeline.png", "cameras.png"):
            (run_dir / "plots" / name).unlink(missing_ok=True)
        plot_people(run_dir)
    if (run_dir / "report.html").is_file():
        from pipeline.report import write_report

        write_report(run_dir)


def _decision_lines(decisions: Iterable[Decision], ids: Mapping[StayKey, tuple[int, float]]) -> Iterator[bytes]:
    for decision in decisions:
        row = to_json(decision)
        row["final_id"] = ids[decision.key][0] if decision.key in ids else None
        yield json_line(row)


def base_tracks(run_dir: Path) -> pa.Table:
    """The boxes as the run wrote them. Raises JournalError."""
    kept = run_dir / BASE_TRACKS
    return read_tracks(kept.parent) if kept.is_file() else read_tracks(run_dir)


def keep_base(run_dir: Path) -> None:
    """Put tracks and ids as they are aside, once, before ids in them change. Raises OutputError."""
    import pyarrow.parquet as pq

    if not (run_dir / BASE_IDS).is_file() and (run_dir / "assignments.csv").is_file():
        write_assignments(run_dir / BASE_IDS, read_assignments(run_dir / "assignments.csv"))
    kept = run_dir / BASE_TRACKS
    if not kept.is_file():
        table = read_tracks(run_dir)
        kept.parent.mkdir(exist_ok=True)
        with atomic(kept) as temporary:
            pq.write_table(table, temporary, compression="zstd")


def relabelled(tracks: pa.Table, ids: Mapping[StayKey, int]) -> pa.Table:
    """The tracks table under other ids: stays without one are left out, and of two boxes of one person in a frame of a
    camera the surer one stays.
    """
    import pyarrow as pa

    if not tracks.num_rows:
        return tracks
    cameras = tracks["camera"].combine_chunks().dictionary_encode()
    codes, names = cameras.indices.to_numpy(), cameras.dictionary.to_pylist()
    track_ids, frames, scores = (tracks[name].to_numpy() for name in ("track_id", "frame", "score"))
    keys, of_row = np.unique(np.stack([codes.astype(np.int64), track_ids]), axis=1, return_inverse=True)
    new = np.array([ids.get((names[c], t), -1) for c, t in keys.T.tolist()], np.int64)[of_row.ravel()]
    rank = np.argsort(np.argsort(np.array(names)))  # by camera name, as the file is ordered
    order = np.lexsort((track_ids, -scores, new, frames, rank[codes]))
    order = order[new[order] >= 0]
    same = np.zeros(len(order), bool)
    if len(order):
        a, b = order[:-1], order[1:]
        same[1:] = (codes[a] == codes[b]) & (frames[a] == frames[b]) & (new[a] == new[b])
    keep = order[~same]
    out = tracks.take(pa.array(keep))
    return out.set_column(out.column_names.index("global_id"), "global_id", pa.array(new[keep]))
