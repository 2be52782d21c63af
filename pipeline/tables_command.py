"""Looking after a site's transition tables: show, plot, export, import, freeze, reset.

NothingLearnt (ConfigError)   nothing is known of a site, mistyped perhaps, that was to be written out or forgotten
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import output_error
from pipeline.config import ConfigError, MatchConfig
from pipeline.freezing import check_not_frozen, freeze
from pipeline.plots import FORMATS, median_delay_s
from pipeline.site_plots import plot_tables, plot_tables_graph
from pipeline.site_store import open_store
from pipeline.tables_file import TablesFileError, read_tables, write_tables
from st_model.counts import Counts, increments_of, summed
from st_model.store import Store
from st_model.store_errors import StoreError
from st_model.transitions import ONE, TransitionTables

AHEAD_S = 7 * 86400.0
"""Counts of epochs that begin later than this from now are not imported: no clock is that wrong."""


class NothingLearnt(ConfigError):
    """Nothing is known of the site; says which sites there are."""


@dataclass(frozen=True)
class PairSummary:
    """What is known about one ordered pair of cameras.

    evidence  observations, older epochs counting less
    median_s  median delay from exit to entry, seconds; None without evidence
    """

    from_camera: str
    to_camera: str
    evidence: float
    median_s: float | None


def summaries(tables: TransitionTables) -> list[PairSummary]:
    """One row per pair with counts, most evidence first."""
    axes = tables.settings
    rows = [
        PairSummary(a, b, tables.evidence(a, b), median_delay_s(tables.histogram(a, b), axes.bin_s, axes.origin_s))
        for a, b in tables.pairs()
    ]
    return sorted(rows, key=lambda row: (-row.evidence, row.from_camera, row.to_camera))


@contextmanager
def site_tables(config: MatchConfig) -> Iterator[tuple[Store, TransitionTables]]:
    """The site's store and its tables as they are now. Raises the StoreError tree."""
    with open_store(config, config.tables) as (store, _):
        tables = TransitionTables(config.tables)
        tables.add(increments_of(store.load_counts()))
        yield store, tables


@contextmanager
def learnt_tables(config: MatchConfig) -> Iterator[TransitionTables]:
    """The tables of a site that has learnt something. Raises NothingLearnt, the StoreError tree."""
    with site_tables(config) as (store, tables):
        if not tables.pairs():
            raise _nothing_learnt(config, store)
        yield tables


def _nothing_learnt(config: MatchConfig, store: Store) -> NothingLearnt:
    hint = _which_site(config.site_name, store.sites())
    return NothingLearnt(f"nothing learnt yet at site {config.site_name!r}{hint}")


def _which_site(name: str, sites: Sequence[str]) -> str:
    """Of a site that nothing is known of: which was meant, perhaps, or which there are.

    >>> _which_site("halle", ["hall", "yard"]), _which_site("x", ["hall", "yard"]), _which_site("x", ["x"])
    ('; did you mean --site hall?', '; sites here: hall, yard', '')
    """
    others = [site for site in sites if site != name]
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.5)
    return f"; did you mean --site {near[0]}?" if near else f"; sites here: {', '.join(others)}" if others else ""


def show(config: MatchConfig) -> list[PairSummary]:
    """What the site has learnt."""
    with site_tables(config) as (_, tables):
        return summaries(tables)


def which_site(config: MatchConfig) -> str:
    """What to say beside "nothing learnt yet": the site of the same Redis that was meant, perhaps, or all of them."""
    with open_store(config, config.tables) as (store, _):
        return _which_site(config.site_name, store.sites())


def plot(config: MatchConfig, folder: Path) -> int:
    """Write a picture per pair into `folder`; returns how many. Raises NothingLearnt, OutputError."""
    with learnt_tables(config) as tables:
        return plot_tables(folder, tables)


def graph(config: MatchConfig, path: Path) -> int:
    """Write the camera graph, in the format of the file's ending; returns the number of pairs with evidence.

    Raises ConfigError for another ending, NothingLearnt, OutputError.
    """
    if path.suffix[1:].lower() not in FORMATS:
        raise ConfigError(f"{path}: a picture is written as {', '.join(f'.{f}' for f in FORMATS)}: name it so")
    with learnt_tables(config) as tables:
        _make_folder_of(path)
        return plot_tables_graph(path, tables)


def export(config: MatchConfig, path: Path) -> int:
    """Write the exact counts to a file; returns the number of pairs. Raises NothingLearnt, OutputError."""
    with learnt_tables(config) as tables:
        _make_folder_of(path)
        write_tables(path, config.tables, tables.items())
        return len(tables.pairs())


def _make_folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path.parent, error) from error


def import_(config: MatchConfig, path: Path) -> int | None:
    """Add the counts of a file to the site's, in one step; returns the number of pairs added.

    The same counts are added once, however often and under whatever name they are imported: None when they were counted
    before. `reset` first to replace what is there. Raises FrozenError; TablesFileError also for counts below 0, and of
    an epoch that lies ahead: beside it all others would be old and forgotten.
    """
    check_not_frozen(config)
    added = read_tables(path, config.tables)
    now_s = max(time.time(), 0.0) + AHEAD_S
    for item in added.items():
        if item.count < 0 or item.epoch * config.tables.epoch_s > now_s:
            wrong = "is below 0" if item.count < 0 else "lies in the future"
            raise TablesFileError(f"{path}: a count {wrong}: {json.dumps(item)}")
    with open_store(config, config.tables) as (store, _):
        before = store.version()
        counted_before = store.add_counts(summed(added.items()), "import") == before
    pairs = len(added.pairs())
    return None if pairs and counted_before else pairs


def freeze_site(config: MatchConfig) -> None:
    """Let no run on this machine teach the site's tables from now on. Raises NothingLearnt, OutputError."""
    with suppress(StoreError), learnt_tables(config):  # a Redis that is away or does not fit is no reason to teach on
        pass
    freeze(config)


def check_resettable(config: MatchConfig) -> None:
    """Raise what `reset` would raise, before somebody is asked whether it should."""
    with _resettable(config):
        pass


@contextmanager
def _resettable(config: MatchConfig) -> Iterator[tuple[Store, Counts]]:
    """The store and what it counts; its axes may be others than the settings': that is what a reset is for."""
    check_not_frozen(config)
    with open_store(config, None) as (store, _):
        counts = {key: row for key, row in store.load_counts().items() if any(row.values())}
        if not counts and store.load_state() is None:  # a live site has a state before it has counts
            raise _nothing_learnt(config, store)
        yield store, counts


def reset(config: MatchConfig) -> tuple[int, float]:
    """Forget every count of the site; returns how many pairs and observations these were. Global ids go on counting.

    Raises FrozenError, NothingLearnt.
    """
    with _resettable(config) as (store, counts):
        store.reset()
    return len({key[:2] for key in counts}), sum(sum(row.values()) for row in counts.values()) / ONE
