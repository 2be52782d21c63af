"""All cameras in one picture, on the site's common clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.annotate import Image, letterbox, paste, text_patch, text_scale

MAX_WIDTH, MAX_HEIGHT = 1920, 1080  # what every screen and browser plays
FOOTER_PX = 28  # one line of text for hand-overs
_DARK = (24, 24, 24)


class Mosaic:
    """A canvas with one tile per camera; tiles keep their last picture until a new one comes.

    sizes   camera -> (width, height) of its pictures; decides the grid

    >>> Mosaic({"a": (300, 576), "b": (300, 576)}).image.shape
    (604, 600, 3)
    """

    def __init__(self, sizes: Mapping[str, tuple[int, int]]) -> None:
        columns, tile = grid(list(sizes.values()), MAX_WIDTH, MAX_HEIGHT - FOOTER_PX)
        rows = -(-len(sizes) // columns)
        self._tile = tile
        self._corners = {name: (n % columns * tile[0], n // columns * tile[1]) for n, name in enumerate(sizes)}
        self.image: Image = np.full((rows * tile[1] + FOOTER_PX, columns * tile[0], 3), _DARK[0], np.uint8)
        for name in sizes:
            self.say(name, f"{name}: no picture yet")

    def show(self, camera: str, image: Image) -> None:
        """Put a camera's drawn picture (H, W, 3) into its tile."""
        self._view(camera)[:] = letterbox(image, *self._tile)

    def end(self, camera: str) -> None:
        """Dim the last picture of a camera that has ended."""
        view = self._view(camera)
        view[:] = view * np.float32(0.4)
        self.say(camera, f"{camera} ended")

    def say(self, camera: str, text: str) -> None:
        """Write into the middle of a camera's tile."""
        patch = text_patch(text, text_scale(self._tile[1]), (64, 64, 64))
        width, height = self._tile
        paste(self._view(camera), patch, (width - patch.shape[1]) // 2, (height - patch.shape[0]) // 2)

    def footer(self, notes: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
        """The line below the tiles: (text, BGR colour) chips from left to right; what does not fit is left out."""
        strip = self.image[-FOOTER_PX:]
        strip[:] = _DARK[0]
        left = 4
        for text, colour in notes:
            patch = text_patch(text, 0.9, colour)
            if left + patch.shape[1] > strip.shape[1]:
                break
            paste(strip, patch, left, (FOOTER_PX - patch.shape[0]) // 2)
            left += patch.shape[1] + 8

    def _view(self, camera: str) -> NDArray[np.uint8]:
        left, top = self._corners[camera]
        return self.image[top : top + self._tile[1], left : left + self._tile[0]]


def grid(sizes: Sequence[tuple[int, int]], max_width: int, max_height: int) -> tuple[int, tuple[int, int]]:
    """(columns, (tile width, tile height)) that show pictures of these sizes largest; never larger than they are.

    All tiles are alike: as wide as the widest and as high as the highest picture, times one scale. Sides are even.

    >>> grid([(1920, 1080)] * 4, 1920, 1080)
    (2, (960, 540))
    >>> grid([(300, 576)] * 2, 1920, 1080)
    (2, (300, 576))
    """
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    best = (0.0, 0.0, 1)
    for columns in range(1, len(sizes) + 1):
        rows = -(-len(sizes) // columns)
        scale = min(1.0, max_width / (columns * width), max_height / (rows * height))
        shape = -abs(math.log(columns * width / (rows * height) / (16 / 9)))  # equally large: the more screen-like grid
        best = max(best, (scale, shape, columns))
    scale, _, columns = best
    return columns, (max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2))
