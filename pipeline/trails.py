"""Where the persons of one camera stood in the last seconds: the lines behind them in every annotated video."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

TRAIL_S = 3.0  # long enough to see where somebody came from, short enough not to fill the picture


class Trails:
    """Feet of the persons of one camera, told frame by frame in order of time.

    >>> trails = Trails()
    >>> _ = trails.at(0.0, [7], [(10.0, 0.0, 20.0, 40.0)])
    >>> trails.at(1.0, [7], [(12.0, 0.0, 22.0, 40.0)])[7].tolist()
    [[15.0, 40.0], [17.0, 40.0]]
    >>> trails.at(9.0, [], [])
    {}
    """

    def __init__(self) -> None:
        self._feet: dict[int, deque[tuple[float, float, float]]] = defaultdict(deque)

    def at(
        self, time_s: float, ids: Sequence[int | None], boxes: Iterable[Sequence[float]]
    ) -> dict[int, NDArray[np.float32]]:
        """Add the boxes (xyxy px) of a frame, None for who has no id yet; id -> (N, 2) points px, oldest first."""
        for global_id, (x1, _, x2, y2) in zip(ids, boxes, strict=True):
            if global_id is not None:
                self._feet[global_id].append((time_s, (x1 + x2) / 2, y2))
        for global_id in list(self._feet):
            trail = self._feet[global_id]
            while trail and trail[0][0] < time_s - TRAIL_S:
                trail.popleft()
            if not trail:
                del self._feet[global_id]
        return {who: np.array(trail, np.float32)[:, 1:] for who, trail in self._feet.items()}
