"""Merging identities that turn out to be one person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import expit, logit

from st_model.faces import face_term, mean_face
from st_model.gallery import Gallery, Identity, Stay
from st_model.hypotheses import MatchSettings, transition_between, twice
from st_model.ledger import Correction
from st_model.transitions import TransitionTables

BOTH_MEANS = 1.4
"""Of two means the zero of the log-odds rises with their gains to this power (labelled fits on the tuning worlds and on
market_stream: 1.2 to 1.5; of a stay and a mean: 0.9 to 1.2, taken as 1)."""
LATEST_STAYS = 24
"""Stays of an identity looked at when its chain is joined with another."""


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
    for global_id in changed:
        if global_id in gone:
            continue
        best = _best_partner(gallery, global_id, gone, tables, settings, new_share)
        if best is None:
            continue
        other, log_odds = best
        back = _best_partner(gallery, other, gone, tables, settings, new_share)
        if back is None or back[0] != global_id or expit(log_odds) < settings.merge_at:
            continue
        into, away = min(global_id, other), max(global_id, other)
        gone |= {into, away}  # one merge each per look: both changed
        stays = tuple(s.key for s in gallery.identities[away].stays)
        out.append(
            Correction("merge", time_s, away, into, stays, float(expit(log_odds)), "mutual best and never apart")
        )
    return out


def _best_partner(
    gallery: Gallery,
    global_id: int,
    gone: set[int],
    tables: TransitionTables,
    settings: MatchSettings,
    new_share: Callable[[str, MatchSettings], float],
) -> tuple[int, float] | None:
    c = gallery.basis.calibration
    identity = gallery.identities[global_id]
    cosine = gallery.vectors @ gallery.vectors[gallery.slot(global_id)]
    wanted = float(logit(settings.merge_at))
    share = new_share(identity.stays[0].camera, settings)
    prior = float(np.log1p(-share) - np.log(share) - np.log(max(gallery.people - 1, 1)))
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


def join_gain(a: Identity, b: Identity, tables: TransitionTables, settings: MatchSettings) -> float | None:
    """Sum of log r along the joined chain minus that along both alone; None if they were ever apart at one time."""
    first, second = a.stays[-LATEST_STAYS:], b.stays[-LATEST_STAYS:]
    if any(twice(s, t, settings.tolerance_s) for s in first for t in second if s.camera == t.camera):
        return None
    both = sorted([*first, *second], key=lambda s: s.order)
    return _chain(both, tables, settings) - _chain(first, tables, settings) - _chain(second, tables, settings)


def _chain(stays: Sequence[Stay], tables: TransitionTables, settings: MatchSettings) -> float:
    total = 0.0
    for n in range(1, len(stays)):
        log_r, _ = transition_between(tables, stays[n - 1], stays[n], settings.lift)
        total += log_r if np.isfinite(log_r) else -settings.revival
    return total
