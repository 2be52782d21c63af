"""How tall a person is at each row of one fixed camera's picture, learnt from the people it sees.

On a flat floor a person's height in pixels grows linearly with the row of the feet (Hoiem et al. 2008, "Putting objects
in perspective"). The line is fitted robustly, because some of the boxes it learns from are cut or merged.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

_ROWS_PER_BIN = 1 / 40  # of the picture height: a person who stands still fills one bin, not the memory
_PER_BIN = 8
_ENOUGH = 40  # boxes before the line is believed
_ENOUGH_BINS = 6
_REFIT_EVERY = 25
# Slope = height of a person / height of the camera for a level lens: 0.15 is a camera 11 m up, 0.75 one at 2.3 m.
_SLOPES = np.linspace(0.15, 0.75, 25)
_HORIZONS = np.linspace(-0.6, 0.5, 45)  # row where people vanish, share of the picture height; above it when tilted
_AGREE = 0.1  # people differ in height by about that much
_CONSENSUS = 0.5  # share of the boxes the best line must get
# Most cameras hang at two to three times a person's height: a line twice as flat or steep needs a quarter more of them.
# Without it the first few, still one-sided boxes fix a wrong line: F1 on the synthetic site fell from .88 to .83.
_USUAL_SLOPE, _PRIOR = 0.5, 1.0


@dataclass(eq=False)
class Perspective:
    """The line height = slope * foot + base, in pixels of a picture `rows` high; unknown until enough was seen.

    >>> view = Perspective(240)
    >>> for foot in range(100, 220):
    ...     view.learn(foot, 0.5 * foot - 10)
    >>> round(view.height_at(200)), round(view.height_below(110))
    (90, 90)
    """

    rows: int
    _bins: dict[int, deque[tuple[float, float]]] = field(default_factory=dict, repr=False)
    _news: int = 0
    _line: tuple[float, float] | None = None

    def learn(self, foot: float, height: float) -> None:
        """One whole person: the row of the feet and the height, pixels."""
        number = int(foot / (self.rows * _ROWS_PER_BIN))
        self._bins.setdefault(number, deque(maxlen=_PER_BIN)).append((foot, height))
        self._news += 1
        if self._news >= (_REFIT_EVERY if self._line else 5):
            self._news = 0
            self._fit()

    @property
    def known(self) -> bool:
        """Whether the line can be asked."""
        return self._line is not None

    def height_at(self, foot: float) -> float:
        """Height of a person whose feet are in that row, pixels. ValueError before the line is known."""
        slope, base = self._must_know()
        return max(2.0, slope * foot + base)

    def height_below(self, top: float) -> float:
        """Height of a person whose head's top is in that row, pixels. ValueError before the line is known."""
        slope, base = self._must_know()
        return max(2.0, (slope * top + base) / (1 - slope))

    def _must_know(self) -> tuple[float, float]:
        if self._line is None:
            raise ValueError("the perspective is not learnt yet; ask `known` first")
        return self._line

    def _fit(self) -> None:
        """The line that most boxes agree with (a Hough vote), then the median of what these leave over."""
        seen = np.array([pair for number in sorted(self._bins) for pair in self._bins[number]])
        if len(seen) < _ENOUGH or len(self._bins) < _ENOUGH_BINS:
            return
        foot, height = seen.T
        expected = _SLOPES[:, None, None] * (foot - self.rows * _HORIZONS[:, None])
        near = np.abs(expected - height) < _AGREE * height
        votes = near.sum(2) - (_PRIOR * len(seen) * np.abs(_SLOPES - _USUAL_SLOPE))[:, None]
        a, b = np.unravel_index(int(votes.argmax()), votes.shape)
        slope, agree = float(_SLOPES[a]), near[a, b]
        if agree.sum() < _CONSENSUS * len(seen):
            self._line = None
            return
        self._line = slope, float(np.median(height[agree] - slope * foot[agree]))
