"""Frozen sites: their transition tables are read and not taught, and do not fade either.

`frozen: true` in the configuration freezes a run. `tables freeze` does it for all runs of a site on this machine: it
leaves a file in the state folder, beside the embedded server's own. A site whose Redis is shared by several machines is
frozen on each of them, or in the configuration they share.

    FrozenError (ValueError)   the tables were to be changed while they are frozen, or unfrozen while they are not
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pipeline.atomic import output_error
from pipeline.schema import MatchConfig
from pipeline.state_dir import state_dir
from st_model.transitions import Increment, TableSettings, TransitionTables

C = TypeVar("C", bound=MatchConfig)


class FrozenError(ValueError):
    """The tables were to be changed while they are frozen, or unfrozen while they are not."""


class FrozenTables(TransitionTables):
    """Tables with the counts they were made with, as old as the last of them: what is added is not counted.

    >>> tables = FrozenTables(TableSettings(horizon_s=100.0), [Increment("a", "b", 3, 20, 4096)])
    >>> tables.add([Increment("a", "b", 9, 20, 4096)])
    >>> tables.at_epoch(90)
    >>> tables.evidence("a", "b")
    1.0
    """

    def __init__(self, settings: TableSettings, counts: Iterable[Increment]) -> None:
        self._held = False
        super().__init__(settings)
        super().add(counts)
        self._held = True

    def add(self, increments: Iterable[Increment]) -> None:
        """Nothing is learnt."""

    def at_epoch(self, epoch: int) -> None:
        """Time stands still once the counts are there."""
        if not self._held:
            super().at_epoch(epoch)

    def forget_faded(self) -> None:
        """Nothing fades."""


def tables_for(config: MatchConfig, counts: Iterable[Increment]) -> TransitionTables:
    """Tables with these counts, which learn unless the configuration says that they are frozen."""
    if config.frozen:
        return FrozenTables(config.tables, counts)
    tables = TransitionTables(config.tables)
    tables.add(counts)
    return tables


def with_freeze(config: C) -> C:
    """The configuration, frozen if the site is: a run's own record of it then says so, and a replay does the same."""
    return config.model_copy(update={"frozen": True}) if _flag(config).exists() else config


def is_frozen(config: MatchConfig) -> bool:
    """Whether the site is frozen, on this machine or in the configuration."""
    return config.frozen or _flag(config).exists()


def check_not_frozen(config: MatchConfig) -> None:
    """Raise FrozenError if the site is frozen."""
    if is_frozen(config):
        raise FrozenError(f"the tables of site {config.site_name!r} are frozen: `tables unfreeze` first")


def freeze(config: MatchConfig) -> None:
    """Let no run on this machine teach the site's tables from now on. Raises OutputError."""
    flag = _flag(config)
    try:
        flag.parent.mkdir(parents=True, exist_ok=True)
        flag.touch()
    except OSError as error:
        raise output_error(flag, error) from error


def unfreeze(config: MatchConfig) -> None:
    """Let runs teach again. Raises OutputError; FrozenError if the configuration freezes, or nothing does."""
    if not is_frozen(config):
        raise FrozenError(f"site {config.site_name!r} is not frozen")
    flag = _flag(config)
    try:
        flag.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(flag, error) from error
    if config.frozen:
        raise FrozenError("the configuration itself says frozen: true")


def _flag(config: MatchConfig) -> Path:
    return state_dir(config) / "frozen" / config.site_name
