"""Who has been seen: stays and identities, and the arrays that score an arrival against all identities at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st_model.appearance import Basis
from st_model.ledger import StayKey
from st_model.transitions import Increment

MOST_STAYS = 64
"""Stays an identity remembers; older ones keep their id but are no longer looked at."""
COHERENCE = 4.0
"""How strongly prototypes that disagree shorten their mean."""


@dataclass(eq=False)
class Stay:
    """What is known of one stay so far; the latest row of its sightings, and what was decided.

    closed     its last word was said
    confirmed  closed and decided with enough certainty to be a prototype of its identity
    """

    camera: str
    track_id: int
    entered_s: float
    last_s: float
    closed: bool
    embedding: NDArray[np.float32]
    n_crops: int
    first_box: NDArray[np.float32] | None = None
    last_box: NDArray[np.float32] | None = None
    global_id: int = 0
    confirmed: bool = False
    vector: NDArray[np.float32] | None = None
    """`embedding` in the gallery's basis, kept so that it is computed once per basis."""
    crowd: float = 1.0
    """Exits for each identity that was about when it entered (`hypotheses.crowd_among`)."""
    taught: Increment | None = None
    taught_from: StayKey | None = None
    """What the link into this stay taught the tables, and the stay it came from."""
    face: NDArray[np.float32] | None = None
    """(F,) unit embedding of the face, where one was seen."""

    @property
    def key(self) -> StayKey:
        """(camera, track_id)"""
        return self.camera, self.track_id

    @property
    def order(self) -> tuple[float, float, str, int]:
        """Sort key: by entry, then exit; names last, so that the order is total."""
        return self.entered_s, self.last_s, self.camera, self.track_id


@dataclass(eq=False)
class Identity:
    """One person: the stays given to it, in order of entry, and its prototypes (raw embeddings of confirmed stays)."""

    global_id: int
    stays: list[Stay] = field(default_factory=list)
    prototypes: list[Stay] = field(default_factory=list)

    def before(self, stay: Stay) -> Stay | None:
        """The stay this person was last in when `stay` began: of those still open the one entered last, else the
        last to end.
        """
        key, order = stay.key, stay.order
        earlier = [s for s in self.stays if s.order < order and s.key != key]
        open_then = [s for s in earlier if _in_view_at(s, stay.entered_s)]
        if open_then:
            return max(open_then, key=lambda s: s.order)
        return max(earlier, key=lambda s: (s.last_s, s.order)) if earlier else None

    def after(self, stay: Stay) -> Stay | None:
        """The first stay that began after `stay` did."""
        return next((s for s in self.stays if s.key != stay.key and s.order > stay.order), None)


def _in_view_at(stay: Stay, time_s: float) -> bool:
    return not stay.closed or stay.last_s >= time_s


class Gallery:
    """Identities and, one row each, the arrays they are scored by: `vectors` (slots, D) float32 contiguous.

    A slot holds `ids` (0 = empty), the last exit (`camera` index, `last_s`), `entered_s` of the newest stay and
    whether the
    person is `in_view`. Prototypes: the newest up to `most` and at most `per_camera` of one camera.
    """

    def __init__(self, basis: Basis, most: int = 8, per_camera: int = 3) -> None:
        self.basis = basis
        self.most, self.per_camera = most, per_camera
        self.identities: dict[int, Identity] = {}
        self.guests: set[int] = set()
        """People last seen in another area (`st_model.exits`): candidates like any other."""
        self.cameras: list[str] = []
        self._camera_index: dict[str, int] = {}
        self._slot: dict[int, int] = {}
        self._free: list[int] = []
        self._used = 0
        self._vectors = np.zeros((0, 0), np.float32)
        self._ids = np.zeros(0, np.int64)
        self._last_s = np.zeros(0)
        self._entered_s = np.zeros(0)
        self._camera = np.zeros(0, np.int32)
        self._in_view = np.zeros(0, np.bool_)
        self._gain = np.zeros(0)
        self._largest_gain: float | None = None
        self._weight = np.zeros(0)

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(slots, D) mean direction of each identity; zero where a slot is empty."""
        return self._vectors[: self._used]

    @property
    def ids(self) -> NDArray[np.int64]:
        """(slots,) global ids, 0 = empty."""
        return self._ids[: self._used]

    @property
    def last_s(self) -> NDArray[np.float64]:
        """(slots,) when the person was last seen."""
        return self._last_s[: self._used]

    @property
    def entered_s(self) -> NDArray[np.float64]:
        """(slots,) when the person's newest stay began."""
        return self._entered_s[: self._used]

    @property
    def camera(self) -> NDArray[np.int32]:
        """(slots,) index into `cameras` of where the person was last seen."""
        return self._camera[: self._used]

    @property
    def in_view(self) -> NDArray[np.bool_]:
        """(slots,) whether that stay is still open."""
        return self._in_view[: self._used]

    @property
    def gain(self) -> NDArray[np.float64]:
        """(slots,) `gain_of` the prototypes of each identity."""
        return self._gain[: self._used]

    def largest_gain(self) -> float:
        """The largest `gain` of all slots, 1 without any."""
        if self._largest_gain is None:
            self._largest_gain = float(self.gain.max(initial=1.0))
        return self._largest_gain

    @property
    def weight(self) -> NDArray[np.float64]:
        """(slots,) how much each identity counts among those who may be about: 1, or less for a guest; 0 = empty."""
        return self._weight[: self._used]

    @property
    def people(self) -> float:
        """How many identities there are, guests by their weight."""
        return float(self.weight.sum())

    def seen_since(self, time_s: float) -> set[int]:
        """Identities in view, or seen at that time or later."""
        here = (self.ids > 0) & (self.in_view | (self.last_s >= time_s))
        return set(self.ids[here].tolist())

    def weigh(self, global_id: int, weight: float) -> None:
        """Let an identity count by so much, in [0, 1]."""
        self._weight[self._slot[global_id]] = weight

    def camera_index(self, camera: str) -> int:
        """Index of a camera, given on first sight."""
        index = self._camera_index.get(camera)
        if index is None:
            index = self._camera_index[camera] = len(self.cameras)
            self.cameras.append(camera)
        return index

    def index_of(self, camera: str) -> int:
        """Index of a camera, -1 for one where nobody was seen."""
        return self._camera_index.get(camera, -1)

    def slot(self, global_id: int) -> int:
        """Row of an identity."""
        return self._slot[global_id]

    def give(self, stay: Stay, global_id: int) -> None:
        """Make a stay part of an identity, which is created when unknown; taken from its former one."""
        if stay.global_id == global_id:
            return self.touch(global_id)
        if stay.global_id:
            self.take(stay)
        identity = self.identities.get(global_id)
        if identity is None:
            identity = self.identities[global_id] = Identity(global_id)
            self._slot[global_id] = self._new_slot(len(stay.embedding))
        stay.global_id = global_id
        identity.stays.append(stay)
        identity.stays.sort(key=lambda s: s.order)
        if len(identity.stays) > MOST_STAYS:
            oldest = next((n for n, s in enumerate(identity.stays) if s.closed), None)
            if oldest is not None:
                del identity.stays[oldest]
        return self.touch(global_id)

    def take(self, stay: Stay) -> None:
        """Take a stay from its identity; an identity without stays is gone."""
        identity = self.identities[stay.global_id]
        identity.stays = [s for s in identity.stays if s is not stay]
        identity.prototypes = [s for s in identity.prototypes if s is not stay]
        stay.global_id, stay.confirmed = 0, False
        if identity.stays:
            self.touch(identity.global_id)
        else:
            self.remove(identity.global_id)

    def confirm(self, stay: Stay) -> None:
        """Make a stay a prototype of its identity; it may be too old to be one of the newest."""
        identity = self.identities[stay.global_id]
        stay.confirmed = True
        kept = sorted([*identity.prototypes, stay], key=lambda s: s.order)
        here = [s for s in kept if s.camera == stay.camera]
        if len(here) > self.per_camera:
            kept.remove(here[0])
        identity.prototypes = kept[-self.most :]
        self.touch(identity.global_id)

    def put(self, identity: Identity) -> None:
        """Take in a person as they are, stays in order of entry; the id must be unknown here."""
        self.identities[identity.global_id] = identity
        self._slot[identity.global_id] = self._new_slot(len(identity.stays[0].embedding))
        self.touch(identity.global_id)

    def join(self, global_id: int, into_id: int) -> None:
        """Give all stays of one identity to another."""
        identity = self.identities[global_id]
        prototypes = list(identity.prototypes)
        for stay in list(identity.stays):
            self.give(stay, into_id)
        for stay in prototypes:  # one may be older than the stays remembered
            stay.global_id = into_id
            self.confirm(stay)

    def remove(self, global_id: int) -> None:
        """Forget an identity."""
        slot = self._slot.pop(global_id)
        del self.identities[global_id]
        self._ids[slot] = 0
        self._vectors[slot], self._gain[slot], self._weight[slot] = 0.0, 0.0, 0.0
        self._free.append(slot)
        self.guests.discard(global_id)

    def touch(self, global_id: int) -> None:
        """Recompute an identity's row from its stays."""
        identity, slot = self.identities[global_id], self._slot[global_id]
        open_now = [s for s in identity.stays if not s.closed]
        last = open_now[-1] if open_now else max(identity.stays, key=lambda s: (s.last_s, s.order))
        self._camera[slot] = self.camera_index(last.camera)
        self._ids[slot] = global_id
        self._last_s[slot] = last.last_s
        self._entered_s[slot] = identity.stays[-1].entered_s
        self._in_view[slot] = bool(open_now)
        self._vectors[slot] = self.vector_of(identity)
        self._gain[slot] = self.gain_of(len(identity.prototypes))
        self._largest_gain = None

    def gain_of(self, prototypes: int) -> float:
        """How much larger cosines to the mean of so many prototypes are than to one of them, >= 1.

        Stays of one person agree by rho; their mean agrees with another one by rho sqrt(n / (1 + (n - 1) rho)).
        """
        rho = self.basis.agreement
        if rho is None or prototypes < 2:
            return 1.0
        return float(np.sqrt(prototypes / (1.0 + (prototypes - 1) * min(max(rho, 0.0), 1.0))))

    def vector_of(self, identity: Identity, without: Stay | None = None) -> NDArray[np.float32]:
        """(D,) mean direction of the prototypes (or, as long as there is none, of the newest stay), one stay left out.

        Of unit length, or shorter when the prototypes agree less than one person's do.
        """
        own = [s for s in identity.prototypes if without is None or s.key != without.key]
        if not own:
            own = [s for s in identity.stays if without is None or s.key != without.key][-1:]
        if len(own) == 1:
            return self.vector(own[0])
        total = np.sum([self.vector(s) for s in own], axis=0)
        norm = max(float(np.sqrt(total @ total)), 1e-6)
        length = 1.0
        if (
            self.basis.agreement is not None
        ):  # prototypes that disagree are hardly one person: less of a match for anybody
            n, rho = len(own), min(max(self.basis.agreement, 0.0), 1.0)
            length = min(1.0, norm / float(np.sqrt(n + n * (n - 1) * rho))) ** COHERENCE
        return np.asarray(total * (length / norm), dtype=np.float32)

    def agreements(self, identity: Identity) -> NDArray[np.float64]:
        """(N,) cosine of each of several prototypes to `vector_of` the others, all at once: equal but for rounding."""
        own = np.stack([self.vector(s) for s in identity.prototypes]).astype(np.float64)
        rest = own.sum(axis=0) - own
        norm = np.maximum(np.sqrt(np.einsum("nd,nd->n", rest, rest)), 1e-6)
        length: Any = 1.0
        n = len(own) - 1
        if self.basis.agreement is not None and n > 1:
            rho = min(max(self.basis.agreement, 0.0), 1.0)
            length = np.minimum(1.0, norm / float(np.sqrt(n + n * (n - 1) * rho))) ** COHERENCE
        return np.asarray(np.einsum("nd,nd->n", rest, own) * length / norm)

    def vector(self, stay: Stay) -> NDArray[np.float32]:
        """(D,) unit vector of a stay's embedding in the gallery's basis."""
        if stay.vector is None:
            stay.vector = self.basis.vector(stay.camera, stay.embedding)
        return stay.vector

    def change_basis(self, basis: Basis) -> None:
        """Compare everybody in another basis from now on."""
        self.basis = basis
        for identity in self.identities.values():
            for stay in (*identity.stays, *identity.prototypes):  # a prototype may be older than the stays remembered
                stay.vector = None
        for global_id in self.identities:
            self.touch(global_id)

    def _new_slot(self, dim: int) -> int:
        if self._free:
            self._weight[self._free[-1]] = 1.0
            return self._free.pop()
        if self._used == len(self._ids):
            size = max(64, 2 * self._used)
            vectors = np.zeros((size, dim), np.float32)
            vectors[: self._used] = self._vectors[: self._used] if self._used else 0.0
            self._vectors = vectors
            for name in ("_ids", "_last_s", "_entered_s", "_camera", "_in_view", "_gain", "_weight"):
                old = getattr(self, name)
                new = np.zeros(size, old.dtype)
                new[: self._used] = old[: self._used]
                setattr(self, name, new)
        self._weight[self._used] = 1.0
        self._used += 1
        return self._used - 1

    def layout(self, number: Mapping[int, int]) -> dict[str, Any]:
        """The arrangement of identities and slots as plain values; `number` numbers stays by `id`."""
        return {
            "cameras": self.cameras,
            "used": self._used,
            "free": self._free,
            "identities": [
                [i, self._slot[i], [number[id(s)] for s in p.stays], [number[id(s)] for s in p.prototypes]]
                for i, p in self.identities.items()
            ],
        }

    @classmethod
    def from_layout(cls, saved: Mapping[str, Any], stays: Sequence[Stay], basis: Basis) -> Gallery:
        """A gallery as `layout` described it."""
        gallery = cls(basis)
        for camera in saved["cameras"]:
            gallery.camera_index(camera)
        if stays:
            for _ in range(saved["used"]):
                gallery._new_slot(len(stays[0].embedding))
        gallery._free = list(saved["free"])
        gallery._weight[gallery._free] = 0.0
        for global_id, slot, own, prototypes in saved["identities"]:
            gallery.identities[global_id] = Identity(global_id, [stays[n] for n in own], [stays[n] for n in prototypes])
            gallery._slot[global_id] = slot
            gallery.touch(global_id)
        return gallery
