"""What the matcher would do about the arrivals of one window: pure, reads the state and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import expit

from st_model.gallery import Stay
from st_model.hypotheses import Hypotheses, MatchSettings, abouts, crowd_among, hypotheses
from st_model.matcher_state import MatcherState
from st_model.scoring import joint_calibrated, probabilities
from st_model.sightings import Candidate, Decision, Kind, Sighting
from st_model.transitions import TransitionTables

NEW = 0
"""The id in a proposal for a person not seen before; the loop gives it a real one."""


def crowds(
    state: MatcherState, sightings: Sequence[Sighting], tables: TransitionTables, settings: MatchSettings
) -> list[float]:
    """`hypotheses.crowd_among` of each sighting's stay; of a known stay what it was when it began."""
    entered = sorted({s.entered_s for s in sightings if s.key not in state.stays})
    people = abouts(state.gallery, entered, tables, settings)
    new = {
        e: crowd_among(n, state.teacher.exits_per_s(e) * tables.settings.horizon_s)
        for e, n in zip(entered, people, strict=True)
    }
    return [state.stays[s.key].crowd if s.key in state.stays else new[s.entered_s] for s in sightings]


def decide(
    state: MatcherState,
    sightings: Sequence[Sighting],
    tables: TransitionTables,
    settings: MatchSettings,
    time_s: float,
    before: Sequence[float] | None = None,
) -> list[Decision]:
    """Decide the sightings of one window together: no identity is chosen for two of them. Changes nothing.

    (A stay that is the only one of its identity, and whom nobody else fits, keeps it, also when the very next one is
    taken for the same person: a broken track.)

    before  `crowds` of the sightings, when they are known already
    Returns one decision per sighting; `global_id` is NEW where a new person is proposed.
    """
    stays = [stay_after(state, s) for s in sightings]
    before = crowds(state, sightings, tables, settings) if before is None else before
    for stay, crowd in zip(stays, before, strict=True):
        stay.crowd = crowd
    gallery = state.gallery
    cosines = np.stack([gallery.vector(s) for s in stays]) @ gallery.vectors.T if stays and len(gallery) else None
    people = abouts(gallery, [s.entered_s for s in stays], tables, settings)
    found = [
        hypotheses(
            stay,
            gallery,
            tables,
            settings,
            state.new_share(stay.camera, settings),
            None if cosines is None else cosines[n],
            people[n],
        )
        for n, stay in enumerate(stays)
    ]
    chosen = _assign(found)
    return [
        _decision(state, stay, h, column, tables, settings, time_s)
        for stay, h, column in zip(stays, found, chosen, strict=True)
    ]


def stay_after(state: MatcherState, sighting: Sighting) -> Stay:
    """The stay as it stands after this sighting; a known one is not changed but copied."""
    known = state.stays.get(sighting.key)
    stay = Stay(
        sighting.camera,
        sighting.track_id,
        sighting.entered_s,
        sighting.last_s,
        sighting.closed,
        sighting.embedding,
        sighting.n_crops,
        sighting.first_box,
        sighting.last_box,
    )
    stay.face = sighting.face
    if known is not None:
        stay.global_id, stay.crowd = known.global_id, known.crowd
        stay.face = known.face if sighting.face is None else sighting.face
    return stay


def _assign(found: Sequence[Hypotheses]) -> list[int | None]:
    """Index of the hypothesis chosen for each arrival, None for a new person; no identity twice."""
    likely = [np.flatnonzero(h.log_weight > h.new) for h in found]  # "new" is free for everybody: less is never chosen
    ids = np.unique(np.concatenate([np.zeros(0, np.int64), *(h.ids[k] for h, k in zip(found, likely, strict=True))]))
    n = len(found)
    impossible = 1e9
    cost = np.full((n, len(ids) + n), impossible)
    for row, (h, k) in enumerate(zip(found, likely, strict=True)):
        cost[row, len(ids) + row] = 0.0
        cost[row, np.searchsorted(ids, h.ids[k])] = h.new - h.log_weight[k]
    _, columns = linear_sum_assignment(cost)
    out: list[int | None] = []
    for h, c in zip(found, columns, strict=True):
        out.append(None if c >= len(ids) else int(np.flatnonzero(h.ids == ids[c])[0]))
    return out


def _decision(
    state: MatcherState,
    stay: Stay,
    h: Hypotheses,
    chosen: int | None,
    tables: TransitionTables,
    settings: MatchSettings,
    time_s: float,
) -> Decision:
    kept = list(range(min(len(h.ids), settings.shown)))
    if chosen is not None and chosen >= settings.shown:
        kept.append(chosen)
    p = probabilities(np.append(h.log_weight[kept], h.new))
    c = state.gallery.basis.calibration
    joint = joint_calibrated(h.cosine[kept], h.log_r[kept], g0=c.g0, b0=c.b0, g1=settings.g1, face=h.face[kept])
    mine = len(kept) if chosen is None else kept.index(chosen)
    others = np.delete(p, mine)
    margin = float(p[mine] - (others.max() if len(others) else 0.0))
    listed = [
        Candidate(
            int(h.ids[n]),
            float(np.clip(h.cosine[n], -1, 1)),
            float(h.delay_s[n]),
            float(np.exp(h.log_r[n])),
            float(joint[k]),
            float(p[k]),
            h.cameras[n],
            float(h.face[n]),
        )
        for k, n in enumerate(kept)
    ]
    listed.append(Candidate(None, 0.0, float("nan"), 1.0, float(expit(h.new)), float(p[-1])))
    listed.sort(key=lambda x: (-x.probability, x.global_id or 0))
    former = state.stays.get(stay.key)
    global_id = NEW if chosen is None else int(h.ids[chosen])
    if global_id == NEW and former is not None and len(state.gallery.identities[former.global_id].stays) == 1:
        global_id = former.global_id  # still the only stay of the identity it founded
    kind: Kind
    if not stay.closed and margin < settings.margin:
        kind = "provisional"
    elif former is None:
        kind = "new" if chosen is None else "match"
    elif global_id == former.global_id:
        kind = "confirm" if chosen is not None else "new"
    else:
        kind = "switch"
    return Decision(
        stay.camera, stay.track_id, time_s, global_id, kind, tuple(listed), margin, table_version=tables.version
    )
