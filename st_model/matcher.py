"""The online matcher: sightings in, decisions, corrections and teaching increments out.

`decide` is pure: it reads the state and says what it would do. `apply` does it. `OnlineMatcher` is the loop around
them:
windows, ids, merges and splits, alarms, the appearance basis. No clock but the sightings' own times: the same sightings
give the same decisions, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit, logit

from st_model.appearance import fit_basis, raw_basis
from st_model.deciding import NEW, crowds, decide, stay_after
from st_model.decoys import learn_caution
from st_model.drift import Alarm, PairDrift, observe
from st_model.gallery import Gallery, Stay
from st_model.hypotheses import MatchSettings
from st_model.ledger import Correction
from st_model.matcher_state import MatcherState
from st_model.merging import find_merges
from st_model.sightings import Decision, Sighting
from st_model.splitting import find_splits, retractions
from st_model.teaching import Outage, Teacher
from st_model.transitions import Increment, TransitionTables

__all__ = ["NEW", "MatchSettings", "MatcherState", "OnlineMatcher", "Outcome", "apply", "decide"]


REFIT_EVERY = 512
"""Closed stays after which the appearance basis is fitted again; doubling up to there."""
LONGEST_STAY_S = 86400.0
"""A stay without a word for so long, and longer than memory lasts, is not in view: its worker is gone for good."""
FITTED_STAYS = 1536
"""Latest closed stays it is fitted to."""


@dataclass(frozen=True)
class Outcome:
    """What happened since the last call, each in the order it was made. Increments are already in the matcher's
    tables.
    """

    decisions: list[Decision] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    increments: list[Increment] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)


def apply(
    state: MatcherState, decision: Decision, sighting: Sighting, settings: MatchSettings, crowd: float = 1.0
) -> list[Increment]:
    """Carry out a decision (with a real id): move the stay, confirm prototypes, teach. Returns the increments to add.

    crowd  `hypotheses.crowd_among` of a stay not known yet
    """
    if decision.global_id == NEW:
        raise ValueError(f"decision about {decision.key} has no id yet")
    stay = state.stays.get(sighting.key)
    if stay is None:
        stay = state.stays[sighting.key] = stay_after(state, sighting)
        stay.crowd = crowd
    _update(stay, sighting)
    state.gallery.give(stay, decision.global_id)
    state.changed.add(decision.global_id)
    if not sighting.closed:
        return []
    p_new = next((c.probability for c in decision.candidates if c.global_id is None), 0.0)
    if 0.0 < p_new < 1.0:  # caution is a cost, not evidence: counted as such it would feed itself until all are new
        p_new = float(expit(logit(p_new) - settings.caution))
    state.saw(stay.camera, p_new)
    best = max(decision.candidates, key=lambda c: c.probability, default=None)
    if best is None or best.global_id is None or (best.probability >= settings.prototype_at and decision.margin > 0):
        state.gallery.confirm(stay)
    del state.stays[sighting.key]
    return state.teacher.close(stay, state.gallery.basis)


def _update(stay: Stay, sighting: Sighting) -> None:
    stay.last_s = max(stay.last_s, sighting.last_s)
    stay.closed = stay.closed or sighting.closed
    stay.embedding, stay.n_crops, stay.vector = sighting.embedding, sighting.n_crops, None
    stay.last_box = sighting.last_box if sighting.last_box is not None else stay.last_box
    stay.face = sighting.face if sighting.face is not None else stay.face


class OnlineMatcher:
    """Submit sightings in order of `emitted_s`, advance the clock, take what was decided.

    A window opens with the first sighting that waits and is decided `window_s` later. All sightings emitted before
    `now_s`
    must have been submitted before `advance(now_s)`; how often it is called does not matter.

    outages  (camera, from_s, to_s) known so far: no delay across one teaches; more with `add_outage`
    state    of a matcher that was stopped (`st_model.snapshot`), to go on where it was

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
        state: MatcherState | None = None,
    ) -> None:
        self.settings, self.next_id, self.tables = settings, next_id, tables
        self.state = state or MatcherState(Gallery(raw_basis(settings.calibration)), Teacher(tables.settings, outages))
        tables.trust_all_but(pair for pair, drift in self.state.drift.items() if drift.alarmed)

    def submit(self, sighting: Sighting) -> None:
        """Queue one sighting."""
        self.state.waiting.append(sighting)

    def add_outage(self, outage: Outage) -> None:
        """A camera was not watching from .. to: delays across it teach nothing.

        While it lasts its end is infinite; given again with the same begin, the later end holds.
        """
        # Delays longer than the table's axis teach nothing anyway: old outages are let go, a live site has no end.
        teacher, since_s = self.state.teacher, outage[1] - 2 * self.tables.settings.horizon_s
        kept = (known for known in teacher.outages if known[2] >= since_s and known[:2] != outage[:2])
        teacher.outages = (*kept, outage)

    @property
    def due_s(self) -> float:
        """When the next window is over, infinite while nothing waits."""
        return min((s.emitted_s for s in self.state.waiting), default=np.inf) + self.settings.window_s

    def advance(self, now_s: float) -> Outcome:
        """Decide every window that is over by `now_s`."""
        out, state = Outcome(), self.state
        state.waiting.sort(key=lambda s: (s.emitted_s, s.camera, s.track_id, s.closed))
        while state.waiting and state.waiting[0].emitted_s + self.settings.window_s <= now_s:
            begin = state.waiting[0].emitted_s
            end = begin + self.settings.window_s
            window = [s for s in state.waiting if s.emitted_s < end or s.emitted_s == begin]  # end may round to begin
            state.waiting = state.waiting[len(window) :]
            self._window(window, end, out)
        return out

    def finish(self) -> Outcome:
        """Decide everything that waits."""
        return self.advance(np.inf)

    def forget(self, global_id: int) -> None:
        """Erase a person: the identity, its stays and their embeddings."""
        gallery, teacher = self.state.gallery, self.state.teacher
        gone = {s.key for s in teacher.stays if s.global_id == global_id}
        if global_id in gallery.identities:
            gone |= {s.key for s in gallery.identities[global_id].stays}
            gallery.remove(global_id)
        teacher.forget(gone)
        self.state.waiting = [s for s in self.state.waiting if s.key not in gone]
        for key in gone & self.state.stays.keys():
            del self.state.stays[key]

    def _window(self, window: list[Sighting], time_s: float, out: Outcome) -> None:
        state = self.state
        settings = replace(self.settings, caution=self.settings.caution + state.caution_learnt)
        needed = []
        for s in {s.key: s for s in window}.values():  # only the last word of each stay
            known = state.stays.get(s.key)
            if known is None or s.closed:
                needed.append(s)
            else:
                _update(known, s)
                state.gallery.touch(known.global_id)
        self.tables.at_epoch(self.tables.settings.epoch_of(time_s))
        self.tables.forget_faded()
        # One to one holds within a camera; somebody two cameras see at once arrives in both in one window.
        groups: dict[str, list[Sighting]] = {}
        for s in sorted(needed, key=lambda s: s.entered_s):
            groups.setdefault(s.camera, []).append(s)
        for group in groups.values():
            before = crowds(state, group, self.tables, settings)
            proposals = decide(state, group, self.tables, settings, time_s, before)
            for sighting, crowd, proposal in zip(group, before, proposals, strict=True):
                decision = proposal
                if proposal.global_id not in state.gallery.identities:  # NEW, or emptied by a decision just before
                    decision = replace(proposal, global_id=self.next_id())
                if sighting.closed:
                    learn_caution(state, stay_after(state, sighting), self.tables, settings, crowd)
                increments = apply(state, decision, sighting, settings, crowd)
                out.decisions.append(decision)
                self._teach(increments, time_s, out)
        self._correct(time_s, out)
        self._refresh_basis()
        self._forget_old(time_s)

    def _teach(self, increments: list[Increment], time_s: float, out: Outcome) -> None:
        for item in increments:
            pair = (item.from_camera, item.to_camera)
            if item.count > 0:
                before = self.state.drift.get(pair, PairDrift())
                after = observe(before, item.bin, float(self.tables.trusted_log_ratio(*pair)[item.bin]))
                self.state.drift[pair] = after
                if after.alarmed != before.alarmed:
                    out.alarms.append(Alarm(pair, time_s, after.alarmed))
                    self.tables.set_trust(pair, 0.0 if after.alarmed else 1.0)
        self.tables.add(increments)
        out.increments.extend(increments)

    def _correct(self, time_s: float, out: Outcome) -> None:
        state, settings = self.state, self.settings
        if time_s >= state.look_again_s:  # what was learnt since may join identities that have not changed
            since_s = time_s - self.tables.settings.horizon_s
            state.changed.update(state.gallery.seen_since(since_s) - state.gallery.guests)
            state.look_again_s = time_s + settings.merge_every_s
        changed = sorted(i for i in state.changed if i in state.gallery.identities)
        state.changed.clear()
        shares: dict[str, float] = {}

        def new_share(camera: str, settings: MatchSettings) -> float:  # of thousands of identities, few cameras
            if camera not in shares:
                shares[camera] = state.new_share(camera, settings)
            return shares[camera]

        gallery = state.gallery
        own = [i for i in changed if i not in gallery.guests]  # guests are split where they come from
        for stay, probability in find_splits(gallery, own, self.tables, settings, new_share, time_s):
            former, into = stay.global_id, self.next_id()
            self._teach(retractions(state.gallery.identities[former], stay), time_s, out)
            confirmed = stay.confirmed
            state.gallery.give(stay, into)
            if confirmed:
                state.gallery.confirm(stay)
            reason = "no longer agrees with the other stays of its identity"
            out.corrections.append(Correction("split", time_s, former, into, (stay.key,), probability, reason))
            state.changed.update((former, into))
        for merge in find_merges(gallery, changed, self.tables, settings, new_share, time_s):
            slots = {gallery.slot(i): i for i in (merge.global_id, merge.into_id)}
            if slots[max(slots, key=lambda n: (gallery.in_view[n], gallery.last_s[n]))] in gallery.guests:
                continue  # the area that saw one of them last joins them: not both areas
            state.gallery.join(merge.global_id, merge.into_id)
            state.teacher.rename(merge.global_id, merge.into_id)
            out.corrections.append(merge)
            state.changed.add(merge.into_id)

    def _refresh_basis(self) -> None:
        teacher, settings = self.state.teacher, self.settings
        fitted = self.state.gallery.basis.stays
        due = max(settings.centre_from, 2 * fitted) if fitted < REFIT_EVERY else fitted + REFIT_EVERY
        stays = teacher.stays[-FITTED_STAYS:]
        if teacher.closed_stays < due or len(stays) < settings.centre_from:
            return
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

    def _forget_old(self, time_s: float) -> None:
        gallery = self.state.gallery
        kept_s = self.settings.memory_s + np.where(gallery.in_view, LONGEST_STAY_S, 0.0)
        for global_id in np.sort(gallery.ids[(gallery.ids > 0) & (gallery.last_s < time_s - kept_s)]):
            for stay in gallery.identities[int(global_id)].stays:
                self.state.stays.pop(stay.key, None)
            gallery.remove(int(global_id))
