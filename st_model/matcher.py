"""The online matcher: sightings in, decisions, corrections and teaching increments out.

`decide` is pure: it reads the state and says what it would do. `apply` does it. `OnlineMatcher` is the loop around them:
windows, ids, merging, the appearance basis. No clock but the sightings' own times: the same sightings give the same
decisions, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from st_model.appearance import fit_basis, raw_basis
from st_model.gallery import Gallery, Stay
from st_model.hypotheses import Hypotheses, MatchSettings, hypotheses
from st_model.ledger import Correction, StayKey
from st_model.merging import find_merges
from st_model.scoring import joint_calibrated, probabilities
from st_model.sightings import Candidate, Decision, Kind, Sighting
from st_model.teaching import Outage, Teacher
from st_model.transitions import Increment, TransitionTables

NEW = 0
"""The id in a proposal for a person not seen before; the loop gives it a real one."""


@dataclass(frozen=True)
class Outcome:
    """What happened since the last call, each in the order it was made. Increments are already in the matcher's tables."""

    decisions: list[Decision] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    increments: list[Increment] = field(default_factory=list)


@dataclass(eq=False)
class MatcherState:
    """Everything a matcher remembers, except the tables."""

    gallery: Gallery
    teacher: Teacher
    stays: dict[StayKey, Stay] = field(default_factory=dict)
    new_seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    """camera -> (probable new people, arrivals), of confirmed decisions"""

    def new_share(self, camera: str, settings: MatchSettings) -> float:
        """Share of arrivals at a camera that are new people, [0.02, 0.98]."""
        site_new = sum(n for n, _ in self.new_seen.values()) + settings.new_share * settings.new_evidence
        site_all = sum(a for _, a in self.new_seen.values()) + settings.new_evidence
        new, arrivals = self.new_seen.get(camera, (0.0, 0.0))
        share = (new + settings.new_evidence * site_new / site_all) / (arrivals + settings.new_evidence)
        return min(max(share, 0.02), 0.98)


def decide(
    state: MatcherState, sightings: Sequence[Sighting], tables: TransitionTables, settings: MatchSettings, time_s: float
) -> list[Decision]:
    """Decide the sightings of one window together, one identity to at most one of them. Changes nothing.

    Returns one decision per sighting; `global_id` is NEW where a new person is proposed.
    """
    stays = [_stay_of(state, s) for s in sightings]
    found = [
        hypotheses(stay, state.gallery, tables, settings, state.new_share(stay.camera, settings)) for stay in stays
    ]
    chosen = _assign(found)
    return [
        _decision(state, stay, h, column, tables, settings, time_s)
        for stay, h, column in zip(stays, found, chosen, strict=True)
    ]


def _stay_of(state: MatcherState, sighting: Sighting) -> Stay:
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
    if known is not None:
        stay.global_id = known.global_id
    return stay


def _assign(found: Sequence[Hypotheses]) -> list[int | None]:
    """Index of the hypothesis chosen for each arrival, None for a new person; no identity twice."""
    ids = sorted({int(i) for h in found for i in h.ids})
    column = {i: n for n, i in enumerate(ids)}
    n = len(found)
    impossible = 1e9
    cost = np.full((n, len(ids) + n), impossible)
    for row, h in enumerate(found):
        cost[row, len(ids) + row] = 0.0
        for i, weight in zip(h.ids, h.log_weight, strict=True):
            cost[row, column[int(i)]] = h.new - weight
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
    p = probabilities(np.append(h.log_weight, h.new))
    c = state.gallery.basis.calibration
    joint = joint_calibrated(h.cosine, h.log_r, g0=c.g0, b0=c.b0, g1=settings.g1)
    mine = len(h.ids) if chosen is None else chosen
    others = np.delete(p, mine)
    margin = float(p[mine] - (others.max() if len(others) else 0.0))
    new_joint = float(1.0 / (1.0 + np.exp(-h.new)))
    listed = [
        Candidate(
            int(h.ids[n]),
            float(np.clip(h.cosine[n], -1, 1)),
            float(h.delay_s[n]),
            float(np.exp(h.log_r[n])),
            float(joint[n]),
            float(p[n]),
            h.cameras[n],
        )
        for n in range(len(h.ids))
        if n < settings.shown or n == chosen
    ]
    listed.append(Candidate(None, 0.0, float("nan"), 1.0, new_joint, float(p[-1])))
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


def apply(
    state: MatcherState, decision: Decision, sighting: Sighting, tables: TransitionTables, settings: MatchSettings
) -> list[Increment]:
    """Carry out a decision (with a real id): move the stay, confirm prototypes, teach. Returns the increments to add."""
    assert decision.global_id != NEW
    stay = state.stays.get(sighting.key)
    if stay is None:
        stay = state.stays[sighting.key] = _stay_of(state, sighting)
    _update(stay, sighting)
    state.gallery.give(stay, decision.global_id)
    if not sighting.closed:
        return []
    chosen_new = max(decision.candidates, key=lambda c: c.probability).global_id is None
    p_new = next((c.probability for c in decision.candidates if c.global_id is None), 0.0)
    new, arrivals = state.new_seen.get(stay.camera, (0.0, 0.0))
    state.new_seen[stay.camera] = (new + p_new, arrivals + 1.0)
    certain = max(c.probability for c in decision.candidates)
    if chosen_new or (certain >= settings.prototype_at and decision.margin > 0):
        state.gallery.confirm(stay)
    del state.stays[sighting.key]
    return state.teacher.close(stay, state.gallery.basis)


def _update(stay: Stay, sighting: Sighting) -> None:
    stay.last_s = max(stay.last_s, sighting.last_s)
    stay.closed = stay.closed or sighting.closed
    stay.embedding, stay.n_crops = sighting.embedding, sighting.n_crops
    stay.last_box = sighting.last_box if sighting.last_box is not None else stay.last_box


class OnlineMatcher:
    """Submit sightings in order of `emitted_s`, advance the clock, take what was decided.

    A window opens with the first sighting that waits and is decided `window_s` later. All sightings emitted before `now_s`
    must have been submitted before `advance(now_s)`; how often it is called does not matter.

    >>> matcher = OnlineMatcher(MatchSettings(), iter(range(1, 99)).__next__, TransitionTables())
    >>> matcher.submit(Sighting("a", 1, 0.0, 1.5, 1.5, True, np.array([1.0, 0.0], np.float32)))
    >>> [d.global_id for d in matcher.finish().decisions]
    [1]
    """

    def __init__(
        self,
        settings: MatchSettings,
        next_id: Callable[[], int],
        tables: TransitionTables,
        outages: Sequence[Outage] = (),
    ) -> None:
        self.settings, self.next_id, self.tables = settings, next_id, tables
        self.state = MatcherState(Gallery(raw_basis(settings.calibration)), Teacher(tables.settings, outages))
        self._waiting: list[Sighting] = []
        self._changed: set[int] = set()

    def submit(self, sighting: Sighting) -> None:
        """Queue one sighting."""
        self._waiting.append(sighting)

    def advance(self, now_s: float) -> Outcome:
        """Decide every window that is over by `now_s`."""
        out = Outcome()
        self._waiting.sort(key=lambda s: (s.emitted_s, s.camera, s.track_id, s.closed))
        while self._waiting and self._waiting[0].emitted_s + self.settings.window_s <= now_s:
            end = self._waiting[0].emitted_s + self.settings.window_s
            window = [s for s in self._waiting if s.emitted_s < end]
            self._waiting = self._waiting[len(window) :]
            self._window(window, end, out)
        return out

    def finish(self) -> Outcome:
        """Decide everything that waits."""
        return self.advance(np.inf)

    def _window(self, window: list[Sighting], time_s: float, out: Outcome) -> None:
        latest = {s.key: s for s in window}  # only the last word of each stay
        state, settings = self.state, self.settings
        needed = []
        for s in latest.values():
            known = state.stays.get(s.key)
            if known is None or s.closed:
                needed.append(s)
            else:
                _update(known, s)
                state.gallery.touch(known.global_id)
        self.tables.at_epoch(self.tables.settings.epoch_of(time_s))
        proposals = decide(state, needed, self.tables, settings, time_s)
        for sighting, proposal in zip(needed, proposals, strict=True):
            decision = proposal
            if proposal.global_id == NEW:
                decision = replace(proposal, global_id=self.next_id())
            elif proposal.global_id not in state.gallery.identities:
                # its only stay was moved away by another decision of this window
                decision = replace(proposal, global_id=self.next_id())
            increments = apply(state, decision, sighting, self.tables, settings)
            out.decisions.append(decision)
            if increments:
                self.tables.add(increments)
                out.increments.extend(increments)
            self._changed.add(decision.global_id)
        self._merge(time_s, out)
        self._refresh_basis()
        self._forget(time_s)

    def _merge(self, time_s: float, out: Outcome) -> None:
        changed = sorted(i for i in self._changed if i in self.state.gallery.identities)
        self._changed.clear()
        for correction in find_merges(
            self.state.gallery, changed, self.tables, self.settings, self.state.new_share, time_s
        ):
            gallery = self.state.gallery
            for stay in list(gallery.identities[correction.global_id].stays):
                confirmed = stay.confirmed
                gallery.give(stay, correction.into_id)
                if confirmed:
                    gallery.confirm(stay)
            out.corrections.append(correction)
            self._changed.add(correction.into_id)

    def _refresh_basis(self) -> None:
        teacher, settings = self.state.teacher, self.settings
        fitted = self.state.gallery.basis.stays
        due = max(settings.centre_from, 2 * fitted) if fitted < 2048 else fitted + 2048
        if teacher.closed_stays < due:
            return
        stays = teacher.stays
        basis = fit_basis(
            [s.camera for s in stays],
            np.stack([s.embedding for s in stays]),
            np.array([s.entered_s for s in stays]),
            np.array([s.last_s for s in stays]),
            whiten=teacher.closed_stays >= settings.whiten_from,
            stays=teacher.closed_stays,
        )
        teacher.change_basis(basis)
        self.state.gallery.change_basis(basis)

    def _forget(self, time_s: float) -> None:
        gallery = self.state.gallery
        old = gallery.ids[(gallery.ids > 0) & ~gallery.in_view & (gallery.last_s < time_s - self.settings.memory_s)]
        for global_id in np.sort(old):
            gallery.remove(int(global_id))
