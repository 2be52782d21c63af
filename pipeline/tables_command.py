"""Looking after a site's transition tables: show, plot, export, import, reset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import MatchConfig
from pipeline.freezing import check_not_frozen
from pipeline.plots import median_delay_s
from pipeline.site_plots import plot_tables, plot_tables_graph
from pipeline.site_store import open_store
from pipeline.tables_file import read_tables, write_tables
from st_model.counts import increments_of, summed
from st_model.store import Store
from st_model.transitions import TransitionTables


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


def show(config: MatchConfig) -> list[PairSummary]:
    """What the site has learnt."""
    with site_tables(config) as (_, tables):
        return summaries(tables)


def sites_beside(config: MatchConfig) -> list[str]:
    """The other sites that the same Redis holds: the one that was meant may be among them."""
    with open_store(config, config.tables) as (store, _):
        return [site for site in store.sites() if site != config.site_name]


def plot(config: MatchConfig, folder: Path) -> int:
    """Write a picture per pair into `folder`; returns how many."""
    with site_tables(config) as (_, tables):
        return plot_tables(folder, tables)


def graph(config: MatchConfig, path: Path) -> int:
    """Write the camera graph to a PNG; returns the number of pairs with evidence."""
    with site_tables(config) as (_, tables):
        return plot_tables_graph(path, tables)


def export(config: MatchConfig, path: Path) -> int:
    """Write the exact counts to a file; returns the number of pairs."""
    with site_tables(config) as (_, tables):
        write_tables(path, config.tables, tables.items())
        return len(tables.pairs())


def import_(config: MatchConfig, path: Path) -> int:
    """Add the counts of a file to the site's, in one step; returns the number of pairs added.

    The same counts are added once, however often and under whatever name they are imported; `reset` first to replace
    what is there. Raises FrozenError.
    """
    check_not_frozen(config)
    added = read_tables(path, config.tables)
    with open_store(config, config.tables) as (store, _):
        store.add_counts(summed(added.items()), "import")
    return len(added.pairs())


def reset(config: MatchConfig) -> None:
    """Forget every count of the site. Global ids go on counting. Raises FrozenError."""
    check_not_frozen(config)
    with open_store(config, config.tables) as (store, _):
        store.reset()
