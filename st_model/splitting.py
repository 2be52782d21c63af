"""Splitting stays from an identity they no longer agree with, and taking back what the undone links taught."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import expit, logit

from st_model.faces import face_term
from st_model.gallery import Gallery, Identity, Stay
from st_model.hypotheses import MatchSettings, others_about, transition_between
from st_model.transitions import Increment, TransitionTables

LEAST_STAYS = 3
"""With two stays nobody knows which one is wrong."""
SLACK = 0.01
"""Nats; more than sums in another order differ by."""


def find_splits(
    gallery: Gallery,
    changed: Sequence[int],
    tables: TransitionTables,
    settings: MatchSettings,
    new_share: Callable[[str, MatchSettings], float],
    time_s: float,
) -> list[tuple[Stay, float]]:
    """(stay, probability that it is somebody else), at most one of each changed identity: the worst."""
    c = gallery.basis.calibration
    others = others_about(gallery, time_s, tables, settings)
    out = []
    for global_id in changed:
        identity = gallery.identities[global_id]
        if len(identity.prototypes) < LEAST_STAYS:
            continue
        share = new_share(identity.stays[0].camera, settings)
        prior = float(np.log1p(-share) - np.log(share) - np.log(others))
        offset = c.b0 * gallery.gain_of(len(identity.prototypes) - 1)
        orders = [s.order for s in identity.stays]
        rest = [
            min(settings.g1 * _time_gain(identity, stay, orders, tables, settings), settings.merge_time)
            + _face_gain(identity, stay, settings)
            for stay in identity.prototypes
        ]
        belonging = c.g0 * gallery.agreements(identity) + offset + rest + prior
        if belonging.min() > SLACK - float(logit(settings.split_at)):  # nearly all; no need to be exact
            continue
        worst: tuple[float, Stay] | None = None
        for stay, more in zip(identity.prototypes, rest, strict=True):
            cosine = float(gallery.vector_of(identity, without=stay) @ gallery.vector(stay))
            belongs = c.g0 * cosine + offset + more + prior
            if worst is None or belongs < worst[0]:
                worst = belongs, stay
        if worst is not None and worst[0] < -float(logit(settings.split_at)):
            out.append((worst[1], float(expit(-worst[0]))))
    return out


def _face_gain(identity: Identity, stay: Stay, settings: MatchSettings) -> float:
    others = (s.face for s in identity.stays if s is not stay)
    return face_term(stay.face, others, settings.face_calibration, settings.face_limit)


def _time_gain(
    identity: Identity,
    stay: Stay,
    orders: Sequence[tuple[float, float, str, int]],
    tables: TransitionTables,
    settings: MatchSettings,
) -> float:
    """log r of the links to and from a stay, minus that of the link which would replace them.

    orders  of all stays of the identity
    """

    def link(old: Stay, new: Stay) -> float:
        return transition_between(tables, old, new, settings)[0]

    own, stays = stay.order, identity.stays
    before = next((stays[n] for n in range(len(stays) - 1, -1, -1) if orders[n] < own), None)
    after = next((s for s, order in zip(stays, orders, strict=True) if order > own), None)
    gain = 0.0 if before is None else link(before, stay)
    gain += 0.0 if after is None else link(stay, after)
    return gain - (0.0 if before is None or after is None else link(before, after))


def retractions(identity: Identity, stay: Stay) -> list[Increment]:
    """What a split takes back: the links between the stay and the identity it leaves that taught the tables."""
    known = list(dict.fromkeys([*identity.prototypes, *identity.stays]))  # a prototype may be older than the stays
    own = {s.key for s in known}
    out = []
    for s in known:
        into = s.key == stay.key and s.taught_from in own
        if s.taught is not None and (into or s.taught_from == stay.key):
            out.append(s.taught._replace(count=-s.taught.count))
            s.taught = s.taught_from = None
    return out
