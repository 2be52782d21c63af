"""How sure appearance may be, fitted to a run without labels, and how well its probabilities hold before and after.

The witness is time: a pair of stays that shows one person makes a delay that the transition tables know; strangers make
any delay. So from the delays alone follows which share of pairs of some cosine shows one person
(`st_model.unlabelled_fit`), and with it slope, intercept and a reliability diagram. The tables are those the matcher
taught itself, from appearance, when the sightings are replayed.

    CalibrateError (ValueError)   sightings or truth that nothing can be fitted to
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from pipeline.atomic import output_error, write_json_atomic
from pipeline.journal import to_json
from pipeline.replay import Replayed, read_inputs, replay_inputs
from pipeline.words import counted
from st_model.calibration import Calibration, Reliability, fit_platt, reliability
from st_model.hypotheses import MatchSettings
from st_model.ledger import StayKey
from st_model.sightings import Sighting
from st_model.transitions import TransitionTables
from st_model.unlabelled_fit import fit_by_delays

MOST_STAYS = 5000
"""The latest stays are looked at: 25 million pairs, a few seconds."""
MOST_ALIKE = 20
"""Identities compared with each arrival, the most similar ones. On the six cameras of two networks (Market-1501 people)
5 gives too steep, all of them too coarse a picture of the range in which decisions fall; 10 to 50 differ little."""
_BINS = 10


class CalibrateError(ValueError):
    """Nothing can be fitted here; says why."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of an arrival and the last exit of an identity: the most similar ones of each arrival.

    first, second  (N,) indices of the stays; cosine (N,) raw; ratio (N,) delay ratio, 1 = says nothing, mean 1 over
    strangers; all_pairs: how many pairs these were selected from
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    cosine: NDArray[np.float64]
    ratio: NDArray[np.float64]
    all_pairs: int


@dataclass(frozen=True)
class Fit:
    """A calibration, and how well the probabilities it gives hold.

    by_time    observed shares from the delays
    by_labels  observed shares from the truth, None without one
    """

    calibration: Calibration
    by_time: Reliability
    by_labels: Reliability | None = None


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate` found.

    stays, pairs  looked at
    share         of all pairs that show one person, by the delays: the prior of the diagrams
    before        the calibration that was configured
    after         fitted to the delays
    labelled      fitted to the truth, to compare with; None without one
    better        whether `after` misses by less than `before`, by labels where there are some, else by time, in the
                  three digits that are said
    """

    stays: int
    pairs: int
    share: float
    before: Fit
    after: Fit
    labelled: Fit | None = None
    better: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "better", round(_miss(self.after), 3) < round(_miss(self.before), 3))


def _miss(fit: Fit) -> float:
    return (fit.by_labels or fit.by_time).error


def calibrate(
    source: Path,
    *,
    overrides: Sequence[str] = (),
    encoder: str | None = None,
    truth: Path | None = None,
    on_progress: Callable[[str, float, float | None], None] = lambda stage, done, total: None,
) -> Calibrated:
    """Calibrate on a run folder or a sightings.parquet; `truth` is a CSV with camera, track_id and person of each stay.

    Raises CalibrateError, ReplayError, ConfigError, JournalError.
    """
    inputs = read_inputs(source, overrides=overrides, encoder=encoder)
    persons = read_persons(truth) if truth else None
    done = replay_inputs(inputs, on_progress)
    settings: MatchSettings = inputs.config.match
    return fit(inputs.sightings, done, settings.calibration, persons)


def fit(
    sightings: Sequence[Sighting], done: Replayed, before: Calibration, persons: Mapping[StayKey, int] | None = None
) -> Calibrated:
    """Fit slope and offset to the stays of a replay. Raises CalibrateError."""
    stays = list({s.key: s for s in sightings}.values())
    stays = sorted(stays, key=lambda s: (s.entered_s, s.key))[-MOST_STAYS:]
    if not stays:
        raise CalibrateError("there are no sightings: nothing to fit")
    pairs = select_pairs(stays, done.ids, done.tables)
    try:
        found = fit_by_delays(pairs.cosine, pairs.ratio)
    except ValueError as error:
        raise CalibrateError(
            f"{len(stays)} stays do not say how sure appearance may be: {error}; try a longer run"
        ) from None
    share = float(expit(found.slope * pairs.cosine + found.intercept).sum()) / pairs.all_pairs
    after = Calibration(found.slope, found.intercept - float(logit(share)))
    same = None if persons is None else _same(stays, pairs, persons)

    def judged(calibration: Calibration, prior: float) -> Fit:
        p = expit(calibration.g0 * pairs.cosine + calibration.b0 + logit(prior))
        return Fit(calibration, reliability_by_time(p, pairs.ratio), None if same is None else reliability(p, same))

    labelled = None
    if same is not None:
        true_share = float(same.sum()) / pairs.all_pairs
        if (by_labels := _labelled(pairs, same, true_share)) is not None:
            labelled = judged(by_labels, true_share)
    return Calibrated(len(stays), len(pairs.cosine), share, judged(before, share), judged(after, share), labelled)


def select_pairs(
    stays: Sequence[Sighting], ids: Mapping[StayKey, tuple[int, float]], tables: TransitionTables
) -> Pairs:
    """The `MOST_ALIKE` most similar identities of each arrival, each by its last exit: never selected by delay."""
    axes = tables.settings
    vectors = np.stack([s.embedding for s in stays])
    entered, last = np.array([s.entered_s for s in stays]), np.array([s.last_s for s in stays])
    names = sorted({s.camera for s in stays})
    camera = np.array([names.index(s.camera) for s in stays])
    person = np.array([ids[s.key][0] for s in stays])
    ratios = np.array([[np.exp(tables.log_ratio(a, b)) for b in names] for a in names])
    newest_first = np.argsort(-last, kind="stable")
    first, second, cosine, ratio = [], [], [], []
    low: list[float] = []
    all_pairs = 0
    for n, stay in enumerate(stays):
        delay = stay.entered_s - last[newest_first]
        possible = (delay >= axes.origin_s) & (delay < axes.horizon_s) & (newest_first != n)
        possible &= (entered[newest_first] <= stay.entered_s) & ~((camera[newest_first] == camera[n]) & (delay < 0))
        here = newest_first[possible]
        here = here[np.unique(person[here], return_index=True)[1]]
        if not len(here):
            continue
        values = (vectors[here] @ vectors[n]).astype(np.float64)
        bins = np.floor((stay.entered_s - last[here] - axes.origin_s) / axes.bin_s).astype(np.intp)
        times = ratios[camera[here], camera[n], np.minimum(bins, axes.bins - 1)].astype(np.float64)
        order = np.argsort(-values, kind="stable")
        low += times[order[len(order) // 2 :]].tolist()
        best = order[:MOST_ALIKE]
        first.append(here[best])
        second.append(np.full(len(best), n, np.intp))
        cosine.append(values[best])
        ratio.append(times[best])
        all_pairs += len(here)
    if not first:
        raise CalibrateError("no two stays could show one person: nothing to fit")
    # Arrivals come in waves: strangers, too, make short delays more often than long ones. The less similar half of all
    # pairs, strangers nearly all, says how much.
    chance = float(np.mean(low))
    told = np.concatenate(ratio) / chance
    return Pairs(np.concatenate(first), np.concatenate(second), np.concatenate(cosine), told, all_pairs)


def reliability_by_time(probability: NDArray[np.float64], ratio: NDArray[np.float64]) -> Reliability:
    """A reliability diagram without labels: per bin, the share of one person under which the delays are most likely.

    probability, ratio  (N,) predicted, and delay ratio

    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(20000)
    >>> short = rng.random(20000) < np.where(rng.random(20000) < p, 0.9, 0.1)  # delays of one person, of strangers
    >>> found = reliability_by_time(p, np.where(short, 9.0, 1 / 9))
    >>> bool(abs(found.observed - found.predicted).max() < 0.1)
    True
    """
    by_bin = reliability(probability, np.zeros_like(probability), bins=_BINS)
    index = np.clip(np.digitize(probability, by_bin.edges) - 1, 0, _BINS - 1)
    observed = np.full(_BINS, np.nan)
    for n in np.flatnonzero(by_bin.weight > 0):
        excess = ratio[index == n] - 1.0
        observed[n] = minimize_scalar(_unlikely, bounds=(0.0, 1.0), method="bounded", args=(excess,)).x
    gaps = np.nan_to_num(np.abs(by_bin.predicted - observed))
    error = float((gaps * by_bin.weight).sum() / by_bin.weight.sum())
    return Reliability(by_bin.edges, by_bin.predicted, observed, by_bin.weight, error)


def _unlikely(share: float, excess: NDArray[np.float64]) -> float:
    return -float(np.log(np.maximum(1.0 + share * excess, 1e-12)).sum())


def _labelled(pairs: Pairs, same: NDArray[np.float64], share: float) -> Calibration | None:
    """The same fit with labels; None where they do not decide it."""
    # Hardly any ridge: the cosine is not scaled, and slopes are around 20.
    found = fit_platt(pairs.cosine, same, np.ones_like(same), ridge=1e-9)
    return None if found is None else Calibration(found.g0, found.b0 - float(logit(share)))


def _same(stays: Sequence[Sighting], pairs: Pairs, persons: Mapping[StayKey, int]) -> NDArray[np.float64]:
    unknown = [s.key for s in stays if s.key not in persons]
    if unknown:
        camera, track_id = unknown[0]
        raise CalibrateError(f"the truth lacks {len(unknown)} of {len(stays)} stays, the first is {camera}:{track_id}")
    person = np.array([persons[s.key] for s in stays])
    same = (person[pairs.first] == person[pairs.second]) & (person[pairs.first] >= 0)
    if not 0 < same.sum() < len(same):
        raise CalibrateError("by the truth all pairs show one person, or none does: nothing to compare")
    return np.asarray(same, np.float64)


def read_persons(path: Path) -> dict[StayKey, int]:
    """Person of each stay from a CSV with columns camera, track_id and person (-1: nobody). Raises CalibrateError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = {"camera", "track_id", "person"} - set(rows.fieldnames or ())
            if missing:
                raise CalibrateError(f"{path}: lacks the columns {', '.join(sorted(missing))}")
            return {(row["camera"], int(row["track_id"])): int(row["person"]) for row in rows}
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrateError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, CalibrateError):
            raise
        raise CalibrateError(f"{path}: track_id and person must be whole numbers: {error}") from error


def plot(found: Calibrated, folder: Path) -> list[Path]:
    """Write reliability.png, with a truth reliability-by-labels.png, and calibration.json into `folder`.

    A report of the run shows the latter when it lies in the run folder. Raises OutputError.
    """
    from pipeline.plots import plot_reliability

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    both = {"before": found.before, "after": found.after}
    paths = [folder / "reliability.png"]
    plot_reliability(paths[0], {name: item.by_time for name, item in both.items()}, "observed by time, no labels")
    if found.labelled is not None:
        both["with labels"] = found.labelled
        judged = {name: item.by_labels for name, item in both.items() if item.by_labels is not None}
        paths.append(folder / "reliability-by-labels.png")
        plot_reliability(paths[1], judged, "observed by labels")
    paths.append(folder / "calibration.json")
    write_json_atomic(paths[-1], to_json(found))
    return paths


def yaml_lines(calibration: Calibration) -> list[str]:
    """What to put into a site's YAML.

    >>> yaml_lines(Calibration(24.70, -15.262))
    ['match:', '  calibration: {g0: 24.7, b0: -15.26}']
    """
    return ["match:", f"  calibration: {{g0: {round(calibration.g0, 2)}, b0: {round(calibration.b0, 2)}}}"]


def in_words(found: Calibrated) -> list[str]:
    """The result as lines for people."""
    rows = [("before", found.before), ("after", found.after)]
    rows += [("with labels", found.labelled)] if found.labelled else []
    looked_at = f"{counted(found.stays, 'stay')}, {counted(found.pairs, 'pair')}"
    lines = [f"{looked_at}; {100 * found.share:.2f} % of all pairs show one person, by time"]
    for name, item in rows:
        c, labels = item.calibration, item.by_labels
        told = "" if labels is None else f", by labels {labels.error:.3f}"
        lines.append(
            f"{name:>12}: log-odds = {c.g0:.2f} x cosine {c.b0:+.2f}, even at {-c.b0 / c.g0:.3f}; "
            f"expected calibration error by time {item.by_time.error:.3f}{told}"
        )
    if not found.better:
        return [*lines, "", "no better than what is in force: keep it"]
    return [*lines, "", *yaml_lines(found.after.calibration)]
