"""How cautious to be at this site: what happens to arrivals who look like somebody that cannot be here.

Appearance, time and the number of people are joined into odds, and each of them is a little wrong in its own way at
every site. So the odds that a known person must bring up against a new one are not a constant: they are measured.
Each time a stay closes it is scored once more as a decoy, wearing the looks of somebody who left the same camera
longer ago than the tables reach and was not seen since; that person's own identity does not count. A decoy knows
nobody, so whoever it is taken for is a mistake, made by all parts of the matcher together. Caution rises with each
decoy that would be taken for somebody, and falls a little with each that would not, until a fixed share of them is:

    caution <- caution + STEP (mistaken - share)

which follows the quantile of a stream and needs no memory of it (Gibbs and Candes, "Adaptive conformal inference under
distribution shift", 2021; the idea of decoys: Elias and Gygi, "Target-decoy search strategy", 2007). No label is read.
Decoys come from people seen earlier, who look a little less alike than people of the same hour do: true strangers are
mistaken up to nearly three times as often (the three files of market_stream, labels used only to measure).
"""

from __future__ import annotations

import copy

import numpy as np

from st_model.gallery import Stay
from st_model.hypotheses import MatchSettings, hypotheses
from st_model.matcher_state import MatcherState
from st_model.transitions import TransitionTables

STEP = 0.1
"""Nats by which a decoy moves caution at most."""
LEAST_CAUTION, MOST_CAUTION = 0.0, 8.0
TRIES = 20
"""Old stays looked at for one of the same camera."""


def next_caution(caution: float, mistaken: bool, share: float) -> float:
    """Caution after a decoy, nats; in the long run `share` of all decoys are mistaken for somebody.

    >>> round(next_caution(3.0, True, 0.05), 3), round(next_caution(3.0, False, 0.05), 3)
    (3.095, 2.995)
    """
    return min(max(caution + STEP * (float(mistaken) - share), LEAST_CAUTION), MOST_CAUTION)


def decoy(state: MatcherState, stay: Stay, horizon_s: float) -> tuple[Stay, int] | None:
    """`stay` with the looks of somebody who cannot be about, and that person's id; None when nobody is known.

    Which one is chosen depends on nothing but how many stays closed: a replay chooses the same.
    """
    gone_s = stay.entered_s - horizon_s
    # So many stays close at a busy site that the teacher's are all younger.
    find = _of_stays if state.teacher.ended_before(gone_s) else _of_people
    other = find(state, stay.camera, gone_s)
    if other is None:
        return None
    fake = copy.copy(stay)
    fake.global_id, fake.embedding, fake.vector, fake.face = 0, other.embedding, None, None
    return fake, other.global_id


def _of_stays(state: MatcherState, camera: str, gone_s: float) -> Stay | None:
    """A stay that the teacher remembers, of somebody who did not come back."""
    teacher, gallery = state.teacher, state.gallery
    old = teacher.ended_before(gone_s)
    for turn in range(TRIES):
        other = teacher.stays[(7919 * teacher.closed_stays + 104729 * turn) % old]
        if other.camera != camera or other.last_s >= gone_s:
            continue
        known = other.global_id in gallery.identities
        slot = gallery.slot(other.global_id) if known else 0
        if known and (gallery.in_view[slot] or gallery.last_s[slot] >= gone_s):
            continue  # came back since
        return other
    return None


def _of_people(state: MatcherState, camera: str, gone_s: float) -> Stay | None:
    """The last stay of somebody the gallery remembers."""
    gallery = state.gallery
    here = (gallery.ids > 0) & (gallery.camera == gallery.index_of(camera))
    slots = np.flatnonzero(here & ~gallery.in_view & (gallery.last_s < gone_s))
    if not len(slots):
        return None
    identity = gallery.identities[int(gallery.ids[slots[7919 * state.teacher.closed_stays % len(slots)]])]
    return max(identity.stays, key=lambda s: (s.last_s, s.order))


def learn_caution(
    state: MatcherState, stay: Stay, tables: TransitionTables, settings: MatchSettings, crowd: float
) -> None:
    """Move the caution of `state` by one decoy of a closed stay, if there is one.

    settings  with the caution in force; crowd  of the stay
    """
    found = decoy(state, stay, tables.settings.horizon_s) if settings.mistaken > 0.0 else None
    if found is None:
        return
    fake, own = found
    fake.crowd = crowd
    h = hypotheses(fake, state.gallery, tables, settings, state.new_share(stay.camera, settings))
    best = max(h.log_weight[h.ids != own], default=-float("inf"))
    state.caution_learnt += next_caution(settings.caution, bool(best > h.new), settings.mistaken) - settings.caution
