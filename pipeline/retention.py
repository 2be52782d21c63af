"""Keeping what was recorded no longer than the site's settings say (`retention`, pipeline/schema.py).

Age counts from the end of a run. What goes: embeddings out of sightings.parquet (search, replay and calibrate end
there, everything else goes on), sightings.parquet whole, videos, or the run. In Redis, everything that should not live
for ever gets its lifetime.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import atomic, output_error
from pipeline.audit import audit
from pipeline.config import MatchConfig
from pipeline.corrections import finish_pending
from pipeline.journal import JournalError, read_facts
from pipeline.parts import parts_of
from pipeline.run_edit import EditError, locked, site_config
from pipeline.schema import Retention
from pipeline.sightings_file import without_embeddings

DAY_S = 86400.0


@dataclass(frozen=True)
class Expired:
    """One thing that is past its time: embeddings, sightings, videos or run, of a run folder this many days old."""

    run: Path
    what: str
    age_days: float


def ended_at_s(run_dir: Path) -> float:
    """When a run ended, UTC seconds: as it says itself, else when its starting tables were written."""
    facts = read_facts(run_dir)
    said = facts.get("ended_at_s", facts.get("part", {}).get("ends_s"))
    if isinstance(said, int | float):
        return float(said)
    first = run_dir / "tables_start.json"  # never written again, unlike the others
    return (first if first.is_file() else run_dir / "run.json").stat().st_mtime


def runs_in(folder: Path) -> list[Path]:
    """The finished runs of a folder, or the folder itself when it is one, and the parts of long runs; a run (or part)
    that is not finished is not among them.
    """
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
    places = [part for place in places for part in (*parts_of(place), place)]
    return [p for p in places if (p / "run.json").is_file() and not (p / "journal").is_dir()]


def expired(run_dirs: Sequence[Path], rule: Retention | None = None, *, now_s: float | None = None) -> list[Expired]:
    """What is past its time, by each run's own settings, or by `rule` for all. Raises ConfigError, JournalError."""
    now_s = time.time() if now_s is None else now_s
    out = []
    for run in run_dirs:
        kept = rule or site_config(run).retention
        age_days = (now_s - ended_at_s(run)) / DAY_S
        if kept.runs_days is not None and age_days > kept.runs_days:
            out.append(Expired(run, "run", age_days))
            continue
        for what, days in (("videos", kept.videos_days), ("sightings", kept.sightings_days)):
            if days is not None and age_days > days and _there(run, what):
                out.append(Expired(run, what, age_days))
        gone = [e.what for e in out if e.run == run]
        days = kept.embeddings_days
        if days is not None and age_days > days and "sightings" not in gone and _there(run, "embeddings"):
            out.append(Expired(run, "embeddings", age_days))
    return out


def _there(run_dir: Path, what: str) -> bool:
    if what == "videos":
        return any((run_dir / name).is_dir() for name in _PICTURES)
    path = run_dir / "sightings.parquet"
    if not path.is_file() or what == "sightings":
        return path.is_file()
    import pyarrow.parquet as pq

    return "embedding" in pq.read_schema(path).names


_PICTURES = ("video", "clips", "crops")


def remove_expired(found: Sequence[Expired]) -> list[Expired]:
    """Remove it; returns what was removed. A run that somebody is changing is left for the next time.

    Raises OutputError, ConfigError, the StoreError tree where a change of the run has to be completed first.
    """
    out = []
    for item in found:
        try:
            with locked(item.run):
                finish_pending(item.run)
                audit(site_config(item.run), f"retention: {item.what} removed", by="retention", run=item.run)
                _remove(item)
                out.append(item)
        except EditError:
            continue
    return out


def _remove(item: Expired) -> None:
    import pyarrow.parquet as pq

    run, path = item.run, item.run / "sightings.parquet"
    try:
        if item.what == "run":
            from pipeline.outputs import remove_run

            remove_run(run)
            if not any(run.iterdir()):
                run.rmdir()
        elif item.what == "videos":
            for name in _PICTURES:
                if (run / name).is_dir():
                    shutil.rmtree(run / name)
        elif item.what == "sightings":
            path.unlink(missing_ok=True)
        else:
            table = without_embeddings(pq.read_table(path))
            with atomic(path) as temporary:
                pq.write_table(table, temporary, compression="zstd")
    except OSError as error:
        raise output_error(run, error) from error


def retain_parts(run_dir: Path) -> list[Expired]:
    """Remove what is past its time in the finished parts of a run that goes on, by their own settings.

    Raises as `remove_expired`, JournalError.
    """
    return remove_expired(expired([part for part in parts_of(run_dir) if not (part / "journal").is_dir()]))


def retain_in_redis(config: MatchConfig) -> int:
    """Give everything of the site in Redis that should end the lifetime of the settings, where it has a longer one or
    none; returns how many keys that were. Raises the StoreError tree.
    """
    from pipeline.site_store import open_store

    with open_store(config, config.tables) as (store, _):
        return store.limit_lifetimes()


def at_start(config: MatchConfig, runs: Path) -> list[Expired]:
    """What a run does before it begins: the site's other runs in the same folder, by the run's own settings.

    Runs that cannot be read are left alone: a damaged folder must not stop a new run. Raises OutputError.
    """
    rule = config.retention
    if all(days is None for days in (rule.embeddings_days, rule.sightings_days, rule.videos_days, rule.runs_days)):
        return []
    mine = []
    for run in runs_in(runs):
        try:
            if read_facts(run).get("site") == config.site_name:
                mine.append(run)
        except JournalError:
            continue
    return remove_expired(expired(mine, rule))
