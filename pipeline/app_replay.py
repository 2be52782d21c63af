"""What if: the sightings of a run matched again with other settings, and what would have been decided differently."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.app_data import AppError
from pipeline.replay import changes, read_inputs, replay_inputs, said_in
from pipeline.schema import MatchConfig

MOST_SIGHTINGS = 30_000
"""About a minute of replaying; more is for `identrix replay`, which nobody waits in a browser for."""


@dataclass(frozen=True)
class Slider:
    """One setting that may be tried.

    key  of the configuration; low, high, step of the slider; says what it means, for people
    """

    key: str
    low: float
    high: float
    step: float
    says: str


SLIDERS = (
    Slider("match.g1", 0.0, 3.0, 0.05, "weight of delays: 0 looks at appearance alone"),
    Slider("match.calibration.g0", 1.0, 60.0, 0.5, "weight of appearance: how much one unit of cosine says"),
    Slider("match.new_share", 0.02, 0.95, 0.01, "share of arrivals that are new people, before anything was learnt"),
    Slider("match.margin", 0.0, 0.95, 0.01, "probability by which the best must lead to be confirmed"),
    Slider("match.merge_at", 0.5, 1.0, 0.01, "probability from which two persons become one"),
    Slider("match.split_at", 0.5, 1.0, 0.01, "probability from which a stay is taken from a person"),
)


@dataclass(frozen=True)
class WhatIf:
    """What other settings would have done.

    changed  one line per stay that would be with other stays
    """

    stays: int
    persons_before: int
    persons_after: int
    changed: tuple[str, ...]


def value_of(config: MatchConfig, key: str) -> float:
    """A setting by its key.

    >>> value_of(MatchConfig(), "match.g1")
    1.0
    """
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    assert isinstance(value, int | float)
    return float(value)


def settings_of(run_dir: Path) -> dict[str, float]:
    """The run's own values of all sliders, by key. Raises ConfigError, JournalError."""
    from pipeline.run_edit import site_config

    config = site_config(run_dir)
    return {slider.key: value_of(config, slider.key) for slider in SLIDERS}


def overrides_of(run_dir: Path, values: Mapping[str, float]) -> list[str]:
    """`key=value` of the sliders that stand elsewhere than the run's own settings."""
    own = settings_of(run_dir)
    steps = {slider.key: slider.step for slider in SLIDERS}
    return [f"{key}={value:g}" for key, value in values.items() if abs(value - own[key]) > 1e-3 * steps[key]]


def what_if(
    run_dir: Path,
    overrides: Sequence[str],
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
) -> WhatIf:
    """Match a run again with `overrides` and compare. Raises AppError, ConfigError, ReplayError, JournalError."""
    inputs = read_inputs(run_dir, overrides=overrides)
    if len(inputs.sightings) > MOST_SIGHTINGS:
        said = " ".join(f"--set {override}" for override in overrides)
        raise AppError(
            f"{len(inputs.sightings):,} sightings are too many to wait for here: "
            f"identrix replay {run_dir} --out OUT {said} --against {run_dir}"
        )
    before = said_in(run_dir)
    own = read_inputs(run_dir)
    first, after = replay_inputs(own), replay_inputs(inputs, on_progress)
    return WhatIf(
        stays=len(after.ids),
        persons_before=len({i for i, _ in first.ids.values()}),
        persons_after=len({i for i, _ in after.ids.values()}),
        changed=tuple(changes(before, after)),
    )
