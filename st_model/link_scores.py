"""How good global ids are, against known people: links, pairs, false merges, purity, completeness.

A link joins a stay to the one it follows. Every stay of a person but the first has one, from an earlier stay of that
person:

    broken   the last stay of the same camera ended at most BROKEN_S before (a track broke); otherwise from the stay in
             which the person was seen last before this entry (of several that are still open, the one entered last):
    overlap  another camera, and the person is still in view there
    blind    another camera, left before this entry
    return   the same camera

Hand-overs are blind + overlap. Claimed links are the same made from global ids. A link of the truth is hit when its two
stays have one global id; a claimed link is right when it is a link of the truth.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

BROKEN_S = 1.0
HAND_OVERS = ("blind", "overlap")
KINDS = ("blind", "overlap", "broken", "return")

NOBODY = -1
"""Person of a false detection: each such stay is somebody else's and nobody's."""

StayKey = tuple[str, int]


class LabelledStay(NamedTuple):
    """A stay and who it was; unscored stays are there, but only as something others may wrongly be merged with."""

    camera: str
    track_id: int
    person: int
    entered_s: float
    last_s: float
    scored: bool = True

    @property
    def key(self) -> StayKey:
        """Camera and track."""
        return self.camera, self.track_id


class Ratio(NamedTuple):
    """Recall is hit / truth, precision right / claimed; both 0 where there is nothing to divide by."""

    hit: int
    truth: int
    right: int
    claimed: int

    @property
    def recall(self) -> float:
        """Share of the truth that was found."""
        return self.hit / self.truth if self.truth else 0.0

    @property
    def precision(self) -> float:
        """Share of what was claimed that is right."""
        return self.right / self.claimed if self.claimed else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        both = self.recall + self.precision
        return 2 * self.recall * self.precision / both if both else 0.0


@dataclass(frozen=True)
class LinkScores:
    """Everything about one assignment of global ids.

    links         Ratio per kind of link, and "hand_over"
    pairs, pairs_cross   all pairs of scored stays; those of different cameras only
    people, stays, nobody, ids   how many people, scored stays, false detections among them, and global ids
    false_merges  ids (of a scored stay) with stays of two or more people
    split         people with two or more ids
    purity, completeness   share of the stays whose person is their id's most frequent, and whose id is their person's
    unassigned    scored stays without an id; each counts as an id of its own
    """

    links: dict[str, Ratio]
    pairs: Ratio
    pairs_cross: Ratio
    people: int
    stays: int
    nobody: int
    ids: int
    false_merges: int
    split: int
    purity: float
    completeness: float
    unassigned: int

    @property
    def hand_over(self) -> Ratio:
        """Links between cameras."""
        return self.links["hand_over"]


def score_links(stays: Iterable[LabelledStay], ids: Mapping[StayKey, Hashable]) -> LinkScores:
    """Compare global ids with the truth. Raises ValueError when no scored stay is anybody's.

    >>> stays = [LabelledStay("a", 1, 5, 0, 10), LabelledStay("b", 1, 5, 30, 40), LabelledStay("b", 2, 6, 31, 41)]
    >>> scores = score_links(stays, {("a", 1): 1, ("b", 1): 1, ("b", 2): 2})
    >>> scores.hand_over.f1, scores.purity
    (1.0, 1.0)
    """
    stays = sorted(stays, key=lambda s: (s.entered_s, s.camera, s.track_id, s.last_s))
    person = {s.key: s.person if s.person != NOBODY else s.key for s in stays}
    own_id = {s.key: s.key if ids.get(s.key) is None else ids[s.key] for s in stays}
    truth = _links(stays, lambda s: person[s.key])
    claimed = _links([s for s in stays if ids.get(s.key) is not None], lambda s: own_id[s.key])
    scored = [s for s in stays if s.scored]
    people = [s for s in scored if s.person != NOBODY]
    if not people:
        raise ValueError("no scored stay of a person, so there is nothing to score")
    kinds = {kind: _compare(truth, claimed, own_id, (kind,)) for kind in KINDS}
    members: dict[Hashable, set[Hashable]] = defaultdict(set)
    for s in stays:
        members[own_id[s.key]].add(person[s.key])
    found_ids = {own_id[s.key] for s in scored}
    by_both = Counter((own_id[s.key], s.person) for s in people)
    id_peak, person_peak, ids_of = Counter[Hashable](), Counter[int](), Counter[int]()
    for (global_id, who), n in by_both.items():
        id_peak[global_id] = max(id_peak[global_id], n)
        person_peak[who] = max(person_peak[who], n)
        ids_of[who] += 1
    return LinkScores(
        links={"hand_over": _compare(truth, claimed, own_id, HAND_OVERS), **kinds},
        pairs=_pairs(scored, person, own_id, cross=False),
        pairs_cross=_pairs(scored, person, own_id, cross=True),
        people=len(ids_of),
        stays=len(scored),
        nobody=len(scored) - len(people),
        ids=len(found_ids),
        false_merges=sum(len(members[i]) > 1 for i in found_ids),
        split=sum(n > 1 for n in ids_of.values()),
        purity=id_peak.total() / len(people),
        completeness=person_peak.total() / len(people),
        unassigned=sum(ids.get(s.key) is None for s in scored),
    )


def _links(
    stays: Sequence[LabelledStay], label: Callable[[LabelledStay], Hashable]
) -> dict[tuple[StayKey, StayKey], str]:
    """{(from, to): kind} for scored `to`; stays come in order of entry."""
    groups: dict[Hashable, list[LabelledStay]] = defaultdict(list)
    for stay in stays:
        groups[label(stay)].append(stay)
    found: dict[tuple[StayKey, StayKey], str] = {}
    for group in groups.values():
        seen = _Seen()
        for stay in group:
            kind, before = seen.source(stay)
            if before is not None and stay.scored:
                found[before.key, stay.key] = kind
    return found


class _Seen:
    """Earlier stays of one person or id: those still open, and the last that ended, anywhere and per camera."""

    def __init__(self) -> None:
        self._open: list[tuple[float, int, LabelledStay]] = []
        self._ended: LabelledStay | None = None
        self._ended_in: dict[str, LabelledStay] = {}
        self._count = 0

    def source(self, stay: LabelledStay) -> tuple[str, LabelledStay | None]:
        """Kind of the link to this stay and where it comes from (None: nowhere); then it counts as seen."""
        while self._open and self._open[0][0] < stay.entered_s:
            _, _, old = heapq.heappop(self._open)
            if self._ended is None or (old.last_s, old.entered_s) > (self._ended.last_s, self._ended.entered_s):
                self._ended = old
            here = self._ended_in.get(old.camera)
            if here is None or old.last_s > here.last_s:
                self._ended_in[old.camera] = old
        here = self._ended_in.get(stay.camera)
        still_open = [s for _, _, s in sorted(self._open, key=lambda entry: entry[1])]
        heapq.heappush(self._open, (stay.last_s, self._count, stay))
        self._count += 1
        if here is not None and stay.entered_s - here.last_s <= BROKEN_S:
            return "broken", here
        if still_open:
            before = max(still_open, key=lambda s: s.entered_s)
            return ("return" if before.camera == stay.camera else "overlap"), before
        before_ended = self._ended
        return ("return" if before_ended and before_ended.camera == stay.camera else "blind"), before_ended


def _compare(
    truth: Mapping[tuple[StayKey, StayKey], str],
    claimed: Mapping[tuple[StayKey, StayKey], str],
    own_id: Mapping[StayKey, Hashable],
    kinds: tuple[str, ...],
) -> Ratio:
    wanted = [pair for pair, kind in truth.items() if kind in kinds]
    made = [pair for pair, kind in claimed.items() if kind in kinds]
    return Ratio(
        hit=sum(own_id[a] == own_id[b] for a, b in wanted),
        truth=len(wanted),
        right=sum(pair in truth for pair in made),
        claimed=len(made),
    )


def _pairs(
    stays: Sequence[LabelledStay],
    person: Mapping[StayKey, Hashable],
    own_id: Mapping[StayKey, Hashable],
    *,
    cross: bool,
) -> Ratio:
    """All pairs by counting group sizes; for pairs across cameras, those inside a camera are taken off again."""

    def count(label: Callable[[LabelledStay], Hashable]) -> int:
        total = _choose_two(label(s) for s in stays)
        return total - _choose_two((label(s), s.camera) for s in stays) if cross else total

    both = count(lambda s: (person[s.key], own_id[s.key]))
    return Ratio(both, count(lambda s: person[s.key]), both, count(lambda s: own_id[s.key]))


def _choose_two(labels: Iterable[Hashable]) -> int:
    return sum(n * (n - 1) // 2 for n in Counter(labels).values())
