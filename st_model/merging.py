"""Merging identities that turn out to be one person."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import attrgetter

import numpy as np
from scipy.special import expit, logit

from st_model.faces import face_term, mean_face
from st_model.gallery import Gallery, Identity, Stay
from st_model.hypotheses import MatchSettings, exclude, others_about, transition_between
from st_model.ledger import Correction
from st_model.transitions import TransitionTables

BOTH_MEANS = 1.4
"""Of two means the zero of the log-odds rises with their gains to this power (labelled fits on the tuning worlds and on
market_stream: 1.2 to 1.5; of a stay and a mean: 0.9 to 1.2, taken as 1)."""
LATEST_STAYS = 24
"""Stays of an identity whose delays count when its chain is joined with another."""
Links = dict[tuple[int, int], float]
BLOCK = 128
"""Identities compared with all others in one matrix product."""
SLACK = 0.01
"""Nats; float32 sums of unit vectors differ by a thousandth of this, times the slope."""


def find_merges(
    gallery: Gallery,
    changed: Sequence[int],
    tables: TransitionTables,
    settings: MatchSettings,
    new_share: Callable[[str, MatchSettings], float],
    time_s: float,
) -> list[Correction]:
    """Merges of identities changed since the last look: mutual best, probable enough, never twice in view in one
    camera.
    """
    changed = [i for i in changed if gallery.identities[i].prototypes]
    if len(gallery) < 2 or not changed:
        return []
    out: list[Correction] = []
    gone: set[int] = set()
    people = others_about(gallery, time_s, tables, settings)
    for global_id in _promising(gallery, changed, tables, settings, new_share, people):
        if global_id in gone:
            continue
        best = _best_partner(gallery, global_id, gone, tables, settings, new_share, people)
        if best is None or expit(best[1]) < settings.merge_at:
            continue
        other, log_odds = best
        back = _best_partner(gallery, other, gone, tables, settings, new_share, people)
        if back is None or back[0] != global_id:
            continue
        into, away = min(global_id, other), max(global_id, other)
        gone |= {into, away}  # one merge each per look: both changed
        stays = tuple(s.key for s in gallery.identities[away].stays)
        out.append(
            Correction("merge", time_s, away, into, stays, float(expit(log_odds)), "mutual best and never apart")
        )
    return out


def _promising(
    gallery: Gallery,
    changed: Sequence[int],
    tables: TransitionTables,
    settings: MatchSettings,
    new_share: Callable[[str, MatchSettings], float],
    people: float,
) -> list[int]:
    """Those of `changed`, in their order, whose best partner may be probable enough; nearly all identities have none.

    Scores as `_best_partner` does, many identities in one product, but never lower: cosines of another order of
    summation (`SLACK`), the most that a face can add, and merges of this look not yet taken away.
    """
    c = gallery.basis.calibration
    need = float(logit(settings.merge_at)) - SLACK + float(np.log(people))
    gain, alive = gallery.gain**BOTH_MEANS, gallery.ids > 0
    alone: dict[int, float] = {}
    links: Links = {}
    joined: dict[tuple[int, int], float | None] = {}

    def time_of(a: Identity, b: Identity) -> float | None:
        pair = (min(a.global_id, b.global_id), max(a.global_id, b.global_id))
        if pair not in joined:
            joined[pair] = join_gain(a, b, tables, settings, alone, links)
        return joined[pair]

    out = []
    for start in range(0, len(changed), BLOCK):
        block = [gallery.identities[i] for i in changed[start : start + BLOCK]]
        slots = [gallery.slot(i.global_id) for i in block]
        share = np.array([new_share(i.stays[0].camera, settings) for i in block])
        least = need - np.log1p(-share) + np.log(share)  # what likeness and time must bring together
        least -= [0.0 if all(s.face is None for s in i.stays) else settings.face_limit for i in block]
        scaled = (gallery.vectors[slots] * np.float32(c.g0)) @ gallery.vectors.T
        offset = c.b0 * gain[slots]
        most = np.maximum(offset * gain[alive].min(), offset * gain[alive].max())  # first one number for all others
        rows, columns = np.nonzero(scaled >= (least - settings.merge_time - most).astype(np.float32)[:, None])
        alike = scaled[rows, columns] + offset[rows] * gain[columns]
        near = (alike >= least[rows] - settings.merge_time) & alive[columns] & (columns != np.array(slots)[rows])
        found: set[int] = set()
        others = gallery.ids[columns[near]].tolist()
        for row, other_id, likeness in zip(rows[near].tolist(), others, alike[near].tolist(), strict=True):
            other = gallery.identities[other_id]
            if row in found or not other.prototypes:
                continue
            time = time_of(block[row], other)
            if time is not None and likeness + min(settings.g1 * time, settings.merge_time) >= least[row]:
                found.add(row)
        out += [block[row].global_id for row in sorted(found)]
    return out


def _best_partner(
    gallery: Gallery,
    global_id: int,
    gone: set[int],
    tables: TransitionTables,
    settings: MatchSettings,
    new_share: Callable[[str, MatchSettings], float],
    people: float,
) -> tuple[int, float] | None:
    c = gallery.basis.calibration
    identity = gallery.identities[global_id]
    cosine = gallery.vectors @ gallery.vectors[gallery.slot(global_id)]
    wanted = float(logit(settings.merge_at))
    share = new_share(identity.stays[0].camera, settings)
    prior = float(np.log1p(-share) - np.log(share) - np.log(people))
    face = mean_face(s.face for s in identity.stays)
    most_face = 0.0 if face is None else settings.face_limit
    offset = c.b0 * (gallery.gain * gallery.gain[gallery.slot(global_id)]) ** BOTH_MEANS
    least = (wanted - offset - prior - settings.merge_time - most_face) / c.g0
    best: tuple[int, float] | None = None
    for slot in np.flatnonzero((cosine >= least) & (gallery.ids > 0)):
        other_id = int(gallery.ids[slot])
        other = gallery.identities[other_id]
        if other_id == global_id or other_id in gone or not other.prototypes:
            continue
        chain = join_gain(identity, other, tables, settings)
        if chain is None:
            continue
        alike = c.g0 * float(cosine[slot]) + float(offset[slot])
        log_odds = alike + min(settings.g1 * chain, settings.merge_time) + prior
        if face is not None:
            log_odds += face_term(face, (s.face for s in other.stays), settings.face_calibration, settings.face_limit)
        if best is None or (log_odds, -other_id) > (best[1], -best[0]):
            best = other_id, log_odds
    return best


def join_gain(
    a: Identity,
    b: Identity,
    tables: TransitionTables,
    settings: MatchSettings,
    alone: dict[int, float] | None = None,
    links: Links | None = None,
) -> float | None:
    """Sum of log r along the joined chain minus that along both alone; None if they were ever apart at one time.

    alone  sums along one identity's chain by global id, kept for as long as neither stays nor tables change
    links  log r from one stay to another by their `id`, likewise
    """
    if _apart(a, b, tables, settings):
        return None
    first, second = a.stays[-LATEST_STAYS:], b.stays[-LATEST_STAYS:]
    alone, links = {} if alone is None else alone, {} if links is None else links
    both = sorted([*first, *second], key=attrgetter("order"))
    for identity, stays in ((a, first), (b, second)):
        if identity.global_id not in alone:
            alone[identity.global_id] = _chain(stays, tables, settings, links)
    return _chain(both, tables, settings, links) - alone[a.global_id] - alone[b.global_id]


def _apart(a: Identity, b: Identity, tables: TransitionTables, settings: MatchSettings) -> bool:
    """Whether both were seen at once where one person cannot be."""
    for s in a.stays:
        ends_s = s.last_s if s.closed else math.inf
        for t in b.stays:
            if t.entered_s > ends_s:
                break  # they come in order of entry
            if (t.last_s > s.entered_s or not t.closed) and exclude(s, t, tables, settings):
                return True
    return False


def _chain(stays: Sequence[Stay], tables: TransitionTables, settings: MatchSettings, links: Links) -> float:
    total = 0.0
    for old, new in pairwise(stays):
        log_r = links.get((id(old), id(new)))
        if log_r is None:
            log_r = links[id(old), id(new)] = transition_between(tables, old, new, settings)[0]
        total += log_r
    return total
