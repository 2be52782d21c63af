"""Values of the matcher: what it eats (Sighting) and what it says (Candidate, Decision).

Time is float seconds on one site clock. Embeddings are unit float32 vectors, so a dot product is a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["new", "match", "provisional", "confirm", "switch"]
"""What a decision did with a stay: `new` person, `match` to a known one, `provisional` (small margin: shown, never
teaches), `confirm` (second decision agrees), `switch` (second decision at the end of the stay chose another id)."""


LARGEST_TIME_S = 1e11
"""Unix time in the year 5138: anything beyond was not counted in seconds."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """One emission about one stay of a person in one camera.

    A stay is emitted when it has a few good crops, perhaps again later, and a last time when it closes: the row with
    `closed` true is its last word.

    camera, track_id   together name the stay; track ids are never shared between cameras or runs
    entered_s, last_s  first and last time the person was seen so far, seconds (at most `LARGEST_TIME_S` from 0),
                       entered_s <= last_s
    emitted_s          when this row was said, seconds, >= entered_s; rows are processed in this order
    closed             the stay is over
    embedding          (D,) float32, unit length, read-only
    n_crops            how many crops the embedding is the mean of, >= 1
    quality            [0, 1], larger is better
    first_box, last_box  (4,) float32 xyxy px where the stay began and (so far) ended, or None when unknown
    face               (F,) float32 unit embedding of the face, read-only, or None where none was seen or looked for
    branch_weights     (2,) float32, read-only: share of the local and of the global branch of a dual backbone in the
                       embedding, >= 0, sum 1; None of an encoder without branches. Nothing is decided by it

    Raises ValueError when a field does not fit.

    >>> import numpy as np
    >>> s = Sighting("lobby", 7, 10.0, 11.5, 11.5, False, np.array([0.6, 0.8], np.float32), 3, 0.9)
    >>> s.key
    ('lobby', 7)
    """

    camera: str
    track_id: int
    entered_s: float
    last_s: float
    emitted_s: float
    closed: bool
    embedding: NDArray[np.float32]
    n_crops: int = 1
    quality: float = 1.0
    first_box: NDArray[np.float32] | None = None
    last_box: NDArray[np.float32] | None = None
    face: NDArray[np.float32] | None = None
    branch_weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not self.camera:
            raise ValueError("sighting without a camera name")
        times = (self.entered_s, self.last_s, self.emitted_s)
        if not all(np.isfinite(t) for t in times):
            raise ValueError(f"sighting {self.key}: times must be finite, got {times}")
        if max(map(abs, times)) > LARGEST_TIME_S:
            raise ValueError(f"sighting {self.key}: times are seconds, got {times}: milliseconds, nanoseconds?")
        if self.last_s < self.entered_s or self.emitted_s < self.entered_s:
            raise ValueError(f"sighting {self.key}: last_s and emitted_s must not precede entered_s, got {times}")
        embedding = self.embedding
        if embedding.ndim != 1 or embedding.dtype != np.float32 or not len(embedding):
            raise ValueError(
                f"sighting {self.key}: embedding must be (D,) float32, got {embedding.shape} {embedding.dtype}"
            )
        norm = float(np.linalg.norm(embedding))
        if not abs(norm - 1.0) < 1e-2:  # also catches NaN
            raise ValueError(f"sighting {self.key}: embedding must have unit length, got {norm}")
        if self.n_crops < 1:
            raise ValueError(f"sighting {self.key}: n_crops must be at least 1, got {self.n_crops}")
        embedding.setflags(write=False)
        for box in (self.first_box, self.last_box):
            if box is not None:
                if box.shape != (4,) or box.dtype != np.float32:
                    raise ValueError(f"sighting {self.key}: a box must be (4,) float32, got {box.shape} {box.dtype}")
                box.setflags(write=False)
        face = self.face
        if face is not None:
            if face.ndim != 1 or face.dtype != np.float32 or not abs(float(np.linalg.norm(face)) - 1.0) < 1e-2:
                raise ValueError(f"sighting {self.key}: face must be (F,) float32 of unit length, got {face.shape}")
            face.setflags(write=False)
        weights = self.branch_weights
        if weights is not None:
            if weights.shape != (2,) or weights.dtype != np.float32:
                found = f"{weights.shape} {weights.dtype}"
                raise ValueError(f"sighting {self.key}: branch_weights must be (2,) float32, got {found}")
            if not ((weights >= 0).all() and abs(float(weights.sum()) - 1.0) < 1e-3):  # also catches NaN
                raise ValueError(
                    f"sighting {self.key}: branch_weights must be >= 0 and sum to 1, got {weights.tolist()}"
                )
            weights.setflags(write=False)

    @property
    def key(self) -> tuple[str, int]:
        """The stay this row speaks of."""
        return self.camera, self.track_id


@dataclass(frozen=True)
class Candidate:
    """One hypothesis about a stay.

    global_id    the identity, or None for "a new person", which competes like any other
    appearance   cosine to the identity's prototypes, [-1, 1]; 0 for None
    delay_s      entered_s minus the identity's last exit, seconds; may be negative where views overlap; NaN for None
    transition   density(delay) x horizon, dimensionless: 1 says nothing, 0.1 speaks against, 10 speaks for
    joint        (0, 1), the two streams joined, before priors
    probability  over all candidates and None; they sum to 1
    from_camera  where the identity was last seen, None for "a new person"
    face         log-odds that faces added to the joint score; 0 where none was seen
    """

    global_id: int | None
    appearance: float
    delay_s: float
    transition: float
    joint: float
    probability: float
    from_camera: str | None = None
    face: float = 0.0


@dataclass(frozen=True)
class Decision:
    """What the matcher said about one stay, with everything needed to explain it.

    time_s         site time of the decision (emitted_s of the sighting, or the end of its window)
    global_id      the id given
    candidates     best first, the chosen one included, None among them
    margin         probability of the chosen candidate minus the best other, [-1, 1]
    table_version  of the transition tables that were read
    """

    camera: str
    track_id: int
    time_s: float
    global_id: int
    kind: Kind
    candidates: tuple[Candidate, ...] = field(default=())
    margin: float = 1.0
    table_version: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """The stay this decision is about."""
        return self.camera, self.track_id

    @property
    def probability(self) -> float:
        """Probability of the id given. An id that is nobody's among the candidates was given to "a new person"."""
        by_id = {c.global_id: c.probability for c in self.candidates}
        return by_id.get(self.global_id, by_id.get(None, 0.0))
