"""The matcher's choices the slow way: every identity in a loop, every assignment tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from st_model.appearance import BROKEN_S, RETURN_DOUBT
from st_model.gallery import Gallery, Stay
from st_model.hypotheses import TOGETHER_S, MatchSettings
from st_model.merging import BOTH_MEANS, join_gain
from st_model.transitions import DISJOINT_FROM, DISJOINT_SHARE, TransitionTables


def slow_log_weights(
    stay: Stay, gallery: Gallery, tables: TransitionTables, settings: MatchSettings, new_share: float
) -> dict[int | None, float]:
    """Log-weight of every identity, and of None = a new person. For a stay that belongs to nobody yet."""
    basis, axes = gallery.basis, tables.settings
    own = basis.vector(stay.camera, stay.embedding)
    out: dict[int | None, float] = {None: math.log(new_share) + settings.caution}
    last_seen = [
        max((s.last_s for s in i.stays if s.closed), default=math.inf)
        if all(s.closed for s in i.stays)
        else max(s.last_s for s in i.stays if not s.closed)
        for i in gallery.identities.values()
    ]
    expired = sum(last < stay.entered_s - axes.horizon_s for last in last_seen)
    about = len(last_seen) - expired * (1 - math.exp(-settings.revival))
    for global_id, identity in gallery.identities.items():
        twice = False
        for s in identity.stays:
            if s.camera == stay.camera:
                end = min(s.last_s if s.closed else math.inf, stay.last_s if stay.closed else math.inf)
                twice = twice or end - max(s.entered_s, stay.entered_s) > settings.tolerance_s
            elif min(s.last_s, stay.last_s) - max(s.entered_s, stay.entered_s) > TOGETHER_S:
                counts = [tables.histogram(s.camera, stay.camera), tables.histogram(stay.camera, s.camera)]
                ends = [axes.origin_s + (n + 1) * axes.bin_s for n in range(axes.bins)]
                early = sum(sum(n for n, end in zip(c, ends, strict=True) if end <= -2 * axes.bin_s) for c in counts)
                both = sum(sum(c) for c in counts)
                twice = twice or (both >= DISJOINT_FROM and early <= DISJOINT_SHARE * both)
        if twice:
            continue
        earlier = [s for s in identity.stays if s.order < stay.order]
        in_view = [s for s in earlier if not s.closed or s.last_s >= stay.entered_s]
        if in_view:
            old, new = max(in_view, key=lambda s: s.order), stay
        elif earlier:
            old, new = max(earlier, key=lambda s: (s.last_s, s.order)), stay
        else:
            old, new = stay, min(identity.stays, key=lambda s: s.order)
        delay = max(new.entered_s - old.last_s, axes.origin_s)
        b = math.floor((delay - axes.origin_s) / axes.bin_s)
        if b >= axes.bins and old.closed:
            log_r = -settings.revival
        else:
            b = min(b, axes.bins - 1)
            density = tables.density(old.camera, new.camera)
            r = density[b] * axes.bins if old.closed else float(np.mean(density[: b + 1])) * axes.bins
            seen = tables.evidence(old.camera, new.camera)
            learnt = (1 - axes.floor) * seen / (seen + axes.floor_evidence)
            r = (1 - learnt) + (r - (1 - learnt)) / new.crowd  # what was learnt is shared among all exits
            log_r = math.log(r) + settings.lift * tables.log_lift(old.camera, new.camera)
        if old.camera == new.camera and new.entered_s - old.last_s > BROKEN_S:
            log_r -= RETURN_DOUBT
        cosine = float(np.dot(gallery.vector_of(identity), own))
        prior = math.log(1 - new_share) - math.log(max(about, 1))
        rho, n = basis.agreement, len(identity.prototypes)
        gain = math.sqrt(n / (1 + (n - 1) * rho)) if n > 1 and rho is not None else 1.0
        out[global_id] = basis.calibration.g0 * cosine + basis.calibration.b0 * gain + settings.g1 * log_r + prior
    return out


def slow_assignment(weights: list[dict[int | None, float]]) -> float:
    """Largest total log-weight when no identity is given twice."""
    best = -math.inf
    for chosen in itertools.product(*(list(w) for w in weights)):
        known = [c for c in chosen if c is not None]
        if len(known) == len(set(known)):
            best = max(best, sum(w[c] for w, c in zip(weights, chosen, strict=True)))
    return best


def slow_merges(
    gallery: Gallery,
    changed: Sequence[int],
    tables: TransitionTables,
    settings: MatchSettings,
    new_share: float,
    time_s: float,
) -> list[tuple[int, int]]:
    """(id, into id) of every merge: each changed identity in turn with its best partner, if it is that one's best."""
    c, everybody = gallery.basis.calibration, gallery.identities
    wanted = math.log(settings.merge_at / (1 - settings.merge_at))
    gone_s = time_s - tables.settings.horizon_s
    about = sum(
        1.0 if max(s.last_s for s in i.stays) >= gone_s else math.exp(-settings.revival) for i in everybody.values()
    )

    def weights(a: int) -> dict[int, float]:
        out = {}
        for b in everybody.keys() - {a}:
            time = join_gain(everybody[a], everybody[b], tables, settings)
            if not everybody[b].prototypes or time is None:
                continue
            cosine = float(np.dot(gallery.vector_of(everybody[a]), gallery.vector_of(everybody[b])))
            gains = [gallery.gain_of(len(everybody[i].prototypes)) for i in (a, b)]
            alike = c.g0 * cosine + c.b0 * (gains[0] * gains[1]) ** BOTH_MEANS
            alike += math.log(1 - new_share) - math.log(new_share) - math.log(max(about - 1, 1))
            if alike + settings.merge_time >= wanted:  # time alone never merges
                out[b] = alike + min(settings.g1 * time, settings.merge_time)
        return out

    merged: list[tuple[int, int]] = []
    gone: set[int] = set()
    for a in changed:
        own = {b: w for b, w in weights(a).items() if b not in gone} if everybody[a].prototypes else {}
        if a in gone or not own:
            continue
        b = max(own, key=lambda i: (own[i], -i))
        back = {i: w for i, w in weights(b).items() if i not in gone}
        if own[b] >= wanted and back and max(back, key=lambda i: (back[i], -i)) == a:
            merged.append((max(a, b), min(a, b)))
            gone |= {a, b}
    return merged
