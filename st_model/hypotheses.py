"""All hypotheses about one arrival: every identity that may be this person, and "a new person", with log-weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from st_model.appearance import return_doubt
from st_model.calibration import DEFAULTS, Calibration
from st_model.faces import FACE, FACE_LIMIT, face_term
from st_model.gallery import Gallery, Identity, Stay
from st_model.transitions import TableSettings, TransitionTables

NEGLIGIBLE = 14.0
"""Hypotheses this many nats below "new person" or below the best are left out (a millionth)."""
TOGETHER_S = 5.0
"""In view of two cameras that do not overlap: tracks end late and clocks disagree by less than this."""


_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("window_s", "memory_s", "new_evidence", "merge_every_s"), lambda x: x > 0, "be positive"),
    (("tolerance_s", "g1", "revival", "merge_time", "face_limit"), lambda x: x >= 0, "not be negative"),
    (("new_share",), lambda x: 0 < x < 1, "lie in (0, 1)"),
    (("margin", "mistaken"), lambda x: 0 <= x < 1, "lie in [0, 1)"),
    (("merge_at", "split_at"), lambda x: 0 < x <= 1, "lie in (0, 1]"),
    (("prototype_at", "lift"), lambda x: 0 <= x <= 1, "lie in [0, 1]"),
    (("shown", "centre_from", "whiten_from"), lambda x: x >= 1, "be at least 1"),
)


@dataclass(frozen=True)
class MatchSettings:
    """Every threshold of the matcher.

    calibration        appearance log-odds of raw cosines, until the site was seen long enough to fit its own
    g1                 weight of log r, 1 in theory
    window_s           arrivals of this span are decided together, those of one camera one to one
    margin             smallest probability margin of a confirmed decision; below it the decision is provisional
    prototype_at       probability from which a closed stay becomes a prototype
    tolerance_s        how long one person may be "twice" in one camera: broken tracks overlap with their own twin
    revival            log-odds an identity must bring up alone once its last exit lies beyond the tables' horizon
    memory_s           identities not seen for this long are forgotten
    new_share          share of arrivals that are new people before anything was learnt
    new_evidence       how many arrivals that guess is worth
    caution            nats that a known person must bring up against a new one: a false merge costs more than a second
                       id. A cost, not evidence: it teaches nobody's share of new people. Where decoys were seen
                       (`st_model.decoys`) it is where it starts
    mistaken           share of decoys that may be taken for somebody known, [0, 1); 0: caution stays as it is
    lift               weight of "how often does this pair of cameras happen at all", [0, 1]
    merge_at           probability from which two identities are merged
    merge_time         nats that time may add to a merge at most: it never merges what does not look alike
    centre_from, whiten_from   closed stays after which embeddings are centred per camera, and whitened
    shown              candidates kept in a decision
    face_calibration, face_limit   log-odds of cosines of faces, where faces are seen, and the most they may add
    """

    calibration: Calibration = DEFAULTS["pair"]
    g1: float = 1.0
    window_s: float = 1.0
    margin: float = 0.2
    prototype_at: float = 0.5
    tolerance_s: float = 1.0
    revival: float = 7.0
    memory_s: float = 86400.0
    new_share: float = 0.3
    new_evidence: float = 100.0
    caution: float = 3.45
    mistaken: float = 0.03
    lift: float = 1.0
    merge_at: float = 0.945
    merge_time: float = 9.0
    merge_every_s: float = 600.0
    split_at: float = 0.9
    centre_from: int = 64
    whiten_from: int = 512
    shown: int = 8
    face_calibration: Calibration = FACE
    face_limit: float = FACE_LIMIT

    def __post_init__(self) -> None:
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if not isinstance(f.default, Calibration)}
        if bad := [name for name, number in numbers.items() if not math.isfinite(number)]:
            raise ValueError(f"{', '.join(bad)} must be finite")
        for names, fits, where in _RANGES:
            if bad := [name for name in names if not fits(numbers[name])]:
                raise ValueError(f"{bad[0]} must {where}, got {numbers[bad[0]]}")


@dataclass(frozen=True)
class Hypotheses:
    """Identities worth considering for one arrival, best first: arrays (N,), and the log-weight of "new".

    log_weight: log-odds of appearance, transition and face plus log prior; `new` is log prior of a new person.
    face: what faces add, 0 where none was seen.
    """

    ids: NDArray[np.int64]
    cosine: NDArray[np.float64]
    delay_s: NDArray[np.float64]
    log_r: NDArray[np.float64]
    log_weight: NDArray[np.float64]
    cameras: tuple[str, ...]
    new: float
    face: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def transition_between(tables: TransitionTables, old: Stay, new: Stay, settings: MatchSettings) -> tuple[float, float]:
    """(log r, delay) of one person going from stay `old` to stay `new`; beyond the axis log r is `-revival`."""
    axes, delay = tables.settings, new.entered_s - old.last_s
    b = axes.bin_of(max(delay, axes.origin_s))
    if b is None:
        if old.closed:
            return -settings.revival, delay
        b = axes.bins - 1  # `last_s` is when somebody still in view was last spoken of, not an exit
    row = tables.log_ratio(old.camera, new.camera) if old.closed else tables.log_ratio_in_view(old.camera, new.camera)
    log_r = float(_among(float(row[b]), tables.unlearnt(old.camera, new.camera), new.crowd))
    log_r += settings.lift * tables.log_lift(old.camera, new.camera)
    return log_r - float(return_doubt(old.camera == new.camera, delay)), delay


def crowd_among(people: float, exits: float) -> float:
    """How many stays end in a horizon for each identity that is about, >= 1.

    people  `about`; exits  stays that end within the tables' horizon at the present rate (`Teacher.exits_per_s`)

    >>> crowd_among(20.0, 100.0), crowd_among(20.0, 5.0)
    (5.0, 1.0)
    """
    return max(exits / max(people, 1.0), 1.0)


def _among(log_r: NDArray[np.float64] | float, unlearnt: float, crowd: float) -> NDArray[np.float64]:
    """(N,) or one log r as it counts among `crowd`.

    Rates compete. What was not learnt makes all identities equally likely (r = 1). What was learnt belongs to one exit
    among all within the horizon: that somebody comes from this one has odds density x horizon to their number, not to
    that of the identities, of which only the last exit is left.
    """
    return np.asarray(np.log(unlearnt + np.maximum(np.exp(log_r) - unlearnt, 0.0) / crowd))


def about(gallery: Gallery, entered_s: float, tables: TransitionTables, settings: MatchSettings) -> float:
    """How many identities may be about: who left longer ago than the tables reach counts exp(-revival)."""
    return abouts(gallery, [entered_s], tables, settings)[0]


def others_about(gallery: Gallery, time_s: float, tables: TransitionTables, settings: MatchSettings) -> float:
    """How many besides oneself, at least one: among so many an identity's other half is looked for."""
    return max(about(gallery, time_s, tables, settings) - 1.0, 1.0)


def abouts(
    gallery: Gallery, entered_s: Sequence[float], tables: TransitionTables, settings: MatchSettings
) -> list[float]:
    """`about` of each of several arrivals of one window; one pass over all identities serves them all."""
    if not entered_s:
        return []
    gone = np.subtract(entered_s, tables.settings.horizon_s)
    weight, last_s = gallery.weight, gallery.last_s
    long_gone = last_s < gone.min()
    expired = np.full(len(gone), float(weight[long_gone].sum()))
    if gone.max() > gone.min():
        between = np.flatnonzero(~long_gone & (last_s < gone.max()))
        between = between[np.argsort(last_s[between], kind="stable")]
        up_to = np.concatenate([[0.0], np.cumsum(weight[between])])
        expired += up_to[np.searchsorted(last_s[between], gone, side="left")]
    faded = 1.0 - float(np.exp(-settings.revival))
    people = gallery.people
    return [people - n * faded for n in expired.tolist()]


def twice(a: Stay, b: Stay, tolerance_s: float) -> bool:
    """Whether two stays of one camera overlap by more than a broken track or a double box explains."""
    if a.camera != b.camera:
        return False
    end_a = a.last_s if a.closed else np.inf
    end_b = b.last_s if b.closed else np.inf
    if not a.closed and not b.closed:
        return True
    return bool(min(end_a, end_b) - max(a.entered_s, b.entered_s) > tolerance_s)


def exclude(a: Stay, b: Stay, tables: TransitionTables, settings: MatchSettings) -> bool:
    """Whether two stays cannot be one person's: `twice` in one camera, or for a while in view of two that are known to
    see nobody at once. (Of a stay that is open only what was said counts: it may have ended since.)
    """
    if a.camera == b.camera:
        return twice(a, b, settings.tolerance_s)
    together_s = min(a.last_s, b.last_s) - max(a.entered_s, b.entered_s)
    return together_s > TOGETHER_S and tables.disjoint(a.camera, b.camera)


def hypotheses(
    stay: Stay,
    gallery: Gallery,
    tables: TransitionTables,
    settings: MatchSettings,
    new_share: float,
    cosines: NDArray[np.float32] | None = None,
    people: float | None = None,
) -> Hypotheses:
    """Score one stay against everybody. The stay itself is left out of its own identity.

    cosines  (slots,) of the stay to all identities, when they were computed for many stays at once
    people   `about`, likewise
    """
    c = gallery.basis.calibration
    vector = gallery.vector(stay)
    own = stay.global_id
    log_new = float(np.log(new_share)) + settings.caution
    count = len(gallery) - (1 if own and len(gallery.identities[own].stays) == 1 else 0)
    people = about(gallery, stay.entered_s, tables, settings) if people is None else people
    log_prior = float(np.log1p(-new_share)) - float(np.log(max(people, 1.0)))
    if count <= 0:
        return Hypotheses(*_empty(), cameras=(), new=log_new)
    cosine = gallery.vectors @ vector if cosines is None else cosines
    best_r = _largest_log_r(tables, stay.camera, settings)
    offset = c.b0 if c.b0 < 0.0 else c.b0 * gallery.largest_gain()  # the most anybody's can be: gains are >= 1
    offset += 0.0 if stay.face is None else settings.face_limit
    least = (log_new - NEGLIGIBLE - log_prior - offset - settings.g1 * best_r) / c.g0  # below it nobody can matter
    index = np.flatnonzero(cosine >= least)
    if own:
        index = np.union1d(index, [gallery.slot(own)])
    index = index[gallery.ids[index] > 0]
    ids, found = gallery.ids[index], cosine[index].astype(np.float64)
    delay = stay.entered_s - gallery.last_s[index]
    log_r = _look_up(tables, gallery, stay, index, delay, settings)
    where = gallery.camera[index].copy()
    # whoever was seen since this stay began may hold newer stays, or be in view right here
    special = (ids == own) | gallery.in_view[index] | (gallery.last_s[index] >= stay.entered_s)
    for n in np.flatnonzero(special):
        identity = gallery.identities[int(ids[n])]
        link = _exactly(stay, identity, vector, gallery, tables, settings, float(found[n]))
        if link is None:
            log_r[n] = -np.inf
        else:
            found[n], log_r[n], delay[n], where[n] = link
    possible = np.isfinite(log_r)
    time = np.where(possible, settings.g1 * np.where(possible, log_r, 0.0), -np.inf)
    gain = gallery.gain[index]
    if own:
        left = sum(s.key != stay.key for s in gallery.identities[own].prototypes)
        gain[ids == own] = gallery.gain_of(left)
    face = _faces(stay, ids, gallery, settings)
    weight = c.g0 * found + c.b0 * gain + time + log_prior + face
    order = np.lexsort((ids, -weight))
    order = order[weight[order] > max(float(weight.max(initial=-np.inf)), log_new) - NEGLIGIBLE]
    names = tuple(gallery.cameras[c] for c in where[order].tolist())
    return Hypotheses(ids[order], found[order], delay[order], log_r[order], weight[order], names, log_new, face[order])


def _faces(stay: Stay, ids: NDArray[np.int64], gallery: Gallery, settings: MatchSettings) -> NDArray[np.float64]:
    """(N,) what faces add for each identity; zeros where the stay shows none."""
    out = np.zeros(len(ids))
    if stay.face is not None:
        for n, i in enumerate(ids.tolist()):
            others = (s.face for s in gallery.identities[i].stays if s.key != stay.key)
            out[n] = face_term(stay.face, others, settings.face_calibration, settings.face_limit)
    return out


def _exactly(
    stay: Stay,
    identity: Identity,
    vector: NDArray[np.float32],
    gallery: Gallery,
    tables: TransitionTables,
    settings: MatchSettings,
    cosine: float,
) -> tuple[float, float, float, int] | None:
    """(cosine, log r, delay, camera index) of the link to an identity that holds this stay, newer ones, or stays in the
    same camera; None where it cannot be this person.
    """
    others = [s for s in identity.stays if s.track_id != stay.track_id or s.camera != stay.camera]
    if not others or any(exclude(stay, s, tables, settings) for s in others):
        return None
    if stay.global_id == identity.global_id:
        cosine = float(gallery.vector_of(identity, without=stay) @ vector)
    before = identity.before(stay)
    other = identity.after(stay) if before is None else before
    assert other is not None
    old, new = (stay, other) if before is None else (other, stay)
    log_r, delay = transition_between(tables, old, new, settings)
    return cosine, log_r, delay, gallery.camera_index(other.camera)


def _look_up(
    tables: TransitionTables,
    gallery: Gallery,
    stay: Stay,
    index: NDArray[np.int64],
    delay: NDArray[np.float64],
    settings: MatchSettings,
) -> NDArray[np.float64]:
    """(N,) log r of coming into `stay` from where each identity in `index` was last seen."""
    axes = tables.settings
    out = np.where(_bins(delay, axes) >= axes.bins, -settings.revival, 0.0)
    cameras, in_view, sources = gallery.camera[index], gallery.in_view[index], tables.sources(stay.camera)
    # NumPy sorts 16-bit integers by radix, several times faster; nobody has 32,768 cameras in one gallery.
    order = np.argsort(cameras.astype(np.int16) if len(gallery.cameras) < 2**15 else cameras, kind="stable")
    codes = np.array([gallery.index_of(name) for name in sources], np.int32)
    begins, ends = (np.searchsorted(cameras[order], codes, side=side).tolist() for side in ("left", "right"))
    for name, begin, end in zip(sources, begins, ends, strict=True):  # anywhere else nothing is known: log r = 0
        if begin < end:
            here = order[begin:end]
            out[here] = _from_one(tables, name, stay, delay[here], in_view[here], settings)
    return out - return_doubt(cameras == gallery.index_of(stay.camera), delay)


def _from_one(
    tables: TransitionTables,
    name: str,
    stay: Stay,
    delay: NDArray[np.float64],
    in_view: NDArray[np.bool_],
    settings: MatchSettings,
) -> NDArray[np.float64]:
    """(N,) log r of coming into `stay` from camera `name`, a pair with counts."""
    camera = stay.camera
    bins = _bins(delay, tables.settings)
    expired = bins >= tables.settings.bins
    bins[expired] = 0
    log_r = tables.log_ratio(name, camera)[bins].astype(np.float64)
    if in_view.any():
        log_r[in_view] = tables.log_ratio_in_view(name, camera)[bins[in_view]]
    out = _among(log_r, tables.unlearnt(name, camera), stay.crowd)
    out += settings.lift * tables.log_lift(name, camera)
    out[expired] = -settings.revival
    return out


def _bins(delay: NDArray[np.float64], axes: TableSettings) -> NDArray[np.int64]:
    return np.floor((np.maximum(delay, axes.origin_s) - axes.origin_s) / axes.bin_s).astype(np.int64)


def _largest_log_r(tables: TransitionTables, camera: str, settings: MatchSettings) -> float:
    sources = tables.sources(camera)
    tops = [tables.largest_log_ratio(a, camera) + settings.lift * tables.log_lift(a, camera) for a in sources]
    return max(0.0, *tops) if tops else 0.0


def _empty() -> tuple[
    NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
]:
    nothing = np.zeros(0)
    return np.zeros(0, np.int64), nothing, nothing, nothing, nothing
