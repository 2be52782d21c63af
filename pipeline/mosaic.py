"""All cameras in one picture, on the site's common clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.annotate import Image, letterbox, paste, person_colour, text_patch, text_scale
from pipeline.camera_layout import Flows, grid_cells, places
from pipeline.roster import OnSite

MAX_WIDTH, MAX_HEIGHT = 1920, 1080  # what every screen and browser plays
FOOTER_PX = 28  # one line of text for hand-overs
STRIP_PX = 210  # who is on site: a number, a camera's name and a time
_DARK = (24, 24, 24)
_DIM = (70, 62, 54)  # the ground of those who are between two cameras


class Mosaic:
    """A canvas with one tile per camera; tiles keep their last picture until a new one comes.

    sizes   camera -> (width, height) of its pictures; decides the grid
    flows   who goes where how often: cameras with much traffic between them become neighbours. None: in order of sizes
    strip   room on the right for the list of who is on site

    >>> Mosaic({"a": (300, 576), "b": (300, 576)}).image.shape
    (604, 600, 3)
    """

    def __init__(
        self, sizes: Mapping[str, tuple[int, int]], flows: Flows | None = None, *, strip: bool = False
    ) -> None:
        side = STRIP_PX if strip else 0
        columns, tile = grid(list(sizes.values()), MAX_WIDTH - side, MAX_HEIGHT - FOOTER_PX)
        rows = -(-len(sizes) // columns)
        self._tile = tile
        names = list(sizes)
        cells = [(n % columns, n // columns) for n in range(len(names))]
        if flows:
            cells = grid_cells(places(names, flows), columns, rows)
        self._corners = {name: (x * tile[0], y * tile[1]) for name, (x, y) in zip(names, cells, strict=True)}
        height, width = rows * tile[1] + FOOTER_PX, columns * tile[0]
        self.image: Image = np.full((height, width + side, 3), _DARK[0], np.uint8)
        self._strip = self.image[:-FOOTER_PX, width:]
        self._listed: object = None
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

    def roster(self, people: Sequence[OnSite]) -> None:
        """The strip on the right: everybody on site, those in view first, with where they are or came from."""
        lines = [(one.global_id, *_whereabouts(one)) for one in sorted(people, key=lambda one: not one.cameras)]
        if lines == self._listed:
            return
        self._listed = lines
        strip = self._strip
        strip[:] = _DARK[0]
        paste(strip, text_patch(f"{len(lines)} on site", 1.0, _DARK), 6, 4)
        high = 22
        fit = (strip.shape[0] - 30) // high
        shown = lines if len(lines) <= fit else lines[: max(fit - 1, 0)]
        top = 30
        for global_id, where, here in shown:
            chip = text_patch(f"P{global_id}", 0.85, person_colour(global_id))
            paste(strip, chip, 8, top)
            text = text_patch(where, 0.85, _DARK if here else _DIM)
            room = strip.shape[1] - chip.shape[1] - 14
            if room > 0 and top + text.shape[0] <= strip.shape[0]:
                paste(strip[:, 12 + chip.shape[1] :], text[:, :room], 0, top)
            top += high
        if len(shown) < len(lines) and fit > 0:
            paste(strip, text_patch(f"and {len(lines) - len(shown)} more", 0.85, _DARK), 8, top)

    def _view(self, camera: str) -> NDArray[np.uint8]:
        left, top = self._corners[camera]
        return self.image[top : top + self._tile[1], left : left + self._tile[0]]


def _whereabouts(one: OnSite) -> tuple[str, bool]:
    """Where somebody is, in few words, and whether they are in view."""
    since = f"{one.since_s:.0f} s" if one.since_s < 100 else f"{one.since_s / 60:.0f} min"
    return (f"{' + '.join(one.cameras)}  {since}", True) if one.cameras else (f"left {one.last}  {since}", False)


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
