"""The people of the synthetic site: how they look, and a walking figure drawn as a small sprite.

A figure is a skeleton in body axes (a forward, b to its right, h up; fractions of body height), swung through a walk
cycle, projected along its heading and drawn part by part, farthest first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Placed = tuple[float, float, float]  # canvas x, y and depth
Outline = NDArray[np.float64]  # (N, 2) canvas x, y

HEADINGS = 16
PHASES = 10
STRIDE_M = 1.45  # two steps
_BODY_PX = 210  # body height in a sprite; people in the pictures are smaller, so sprites are only ever scaled down
_CANVAS = (190, 256)
_FOOT = (95, 236)  # canvas pixel of the ground point
_TILT = 0.17  # the camera looks a little down: what is nearer lies a little lower


@dataclass(frozen=True)
class Look:
    """What one person wears. Colours are BGR."""

    upper: Colour
    upper_second: Colour
    pattern: str  # plain | hoops | pinstripes | checks
    sleeves: str  # long | short
    lower: Colour
    cut: str  # trousers | shorts | skirt
    shoes: Colour
    skin: Colour
    hair: Colour
    hair_style: str  # short | long | cap | bald
    bag: str  # none | backpack | shoulder
    bag_colour: Colour
    height_m: float
    girth: float


_UPPER = {
    "red": (48, 44, 190), "navy": (92, 52, 34), "white": (226, 228, 230), "green": (72, 132, 52),
    "yellow": (52, 196, 228), "purple": (140, 56, 104), "orange": (38, 118, 226), "sky": (214, 168, 92),
    "black": (42, 40, 40), "grey": (146, 144, 142), "pink": (176, 140, 226), "teal": (140, 132, 30),
    "brown": (52, 82, 124), "maroon": (50, 28, 104),
}  # fmt: skip
_LOWER = ((84, 52, 40), (46, 44, 44), (120, 86, 60), (128, 126, 124), (110, 150, 178), (44, 60, 88), (200, 204, 206))
_SKIN = ((168, 192, 232), (140, 172, 216), (104, 140, 192), (70, 100, 148), (48, 70, 104))
_HAIR = ((28, 26, 28), (40, 54, 84), (72, 120, 176), (40, 72, 140), (150, 150, 154))
_SHOES = ((36, 34, 34), (70, 84, 110), (215, 215, 218))
_PATTERNS = ("plain", "hoops", "plain", "checks", "pinstripes", "plain")


def draw_looks(seed: int, people: int) -> tuple[Look, ...]:
    """Clothes for so many people. Every fifth person wears what the one before wears, in all but small things: their
    appearance alone does not tell these two apart.

    >>> looks = draw_looks(3, 10)
    >>> looks[4].upper == looks[3].upper and looks[4] != looks[3]
    True
    """
    rng = np.random.default_rng([seed, 1 << 20])
    colours = list(_UPPER.values())
    turn = rng.permutation(len(colours))
    looks: list[Look] = []
    for n in range(people):
        upper = colours[turn[n % len(turn)]]
        second = colours[turn[(n + 5) % len(turn)]]
        bag = str(rng.choice(["none", "none", "backpack", "shoulder"]))
        look = Look(
            upper,
            second,
            _PATTERNS[(n + n // len(colours)) % len(_PATTERNS)],
            str(rng.choice(["long", "long", "short"])),
            _LOWER[int(rng.integers(len(_LOWER)))],
            str(rng.choice(["trousers", "trousers", "trousers", "shorts", "skirt"])),
            _SHOES[int(rng.integers(len(_SHOES)))],
            _SKIN[int(rng.integers(len(_SKIN)))],
            _HAIR[int(rng.integers(len(_HAIR)))],
            str(rng.choice(["short", "short", "long", "long", "cap", "bald"])),
            bag,
            colours[int(rng.integers(len(colours)))],
            float(np.clip(rng.normal(1.72, 0.08), 1.55, 1.95)),
            float(np.clip(rng.normal(1.0, 0.09), 0.82, 1.22)),
        )
        if n % 5 == 4:
            twin = looks[-1]
            look = Look(
                twin.upper, twin.upper_second, twin.pattern, twin.sleeves, twin.lower, twin.cut, look.shoes,
                look.skin, look.hair, look.hair_style, twin.bag, twin.bag_colour, look.height_m, look.girth,
            )  # fmt: skip
        looks.append(look)
    return tuple(looks)


@dataclass(frozen=True, eq=False)
class Sprite:
    """A figure cut out: image (h, w, 4) uint8 BGRA, colours multiplied by alpha; `foot` is its ground point in it."""

    image: NDArray[np.uint8]
    foot: tuple[float, float]
    body_px: float = float(_BODY_PX)


@lru_cache(maxsize=8192)
def sprite(look: Look, heading: int, phase: int) -> Sprite:
    """The figure for heading 0..HEADINGS-1 (0 = to the right, a quarter turn = away) and walk phase 0..PHASES-1, or
    phase -1: standing."""
    canvas = _draw(look, 2 * pi * heading / HEADINGS, None if phase < 0 else 2 * pi * phase / PHASES)
    rows, cols = np.nonzero(canvas[..., 3].any(1))[0], np.nonzero(canvas[..., 3].any(0))[0]
    top, left = int(rows[0]), int(cols[0])
    cut = np.ascontiguousarray(canvas[top : rows[-1] + 1, left : cols[-1] + 1])
    return Sprite(cut, (_FOOT[0] - left, _FOOT[1] - top))


def _shade(colour: Colour, factor: float) -> Colour:
    blue, green, red = (int(min(255, max(0, c * factor))) for c in colour)
    return blue, green, red


def _draw(look: Look, heading: float, phase: float | None) -> NDArray[np.uint8]:
    import cv2

    canvas = np.zeros((_CANVAS[1], _CANVAS[0], 4), np.uint8)
    dx, dz = cos(heading), sin(heading)

    def place(a: float, b: float, h: float) -> Placed:
        """Canvas x, y and depth (larger is farther) of a point in body axes."""
        depth = a * dz - b * dx
        return _FOOT[0] + _BODY_PX * (a * dx + b * dz), _FOOT[1] - _BODY_PX * (h + _TILT * depth), depth

    def limb(p: Placed, q: Placed, wide: float, narrow: float, colour: Colour) -> None:
        """A tapered limb with a lighter inner stripe: it reads as round."""
        for factor, shrink in ((0.74, 1.0), (1.0, 0.72), (1.08, 0.34)):
            rp, rq = max(1, round(_BODY_PX * wide * shrink)), max(1, round(_BODY_PX * narrow * shrink))
            shift = -0.22 * _BODY_PX * wide * (1 - shrink)
            ends = [(p[0] + shift, p[1]), (q[0] + shift, q[1])]
            along = np.subtract(ends[1], ends[0])
            length = float(np.hypot(*along)) or 1.0
            side = np.array([-along[1], along[0]]) / length
            outline = np.array([ends[0] + side * rp, ends[1] + side * rq, ends[1] - side * rq, ends[0] - side * rp])
            paint = (*_shade(colour, factor), 255)
            cv2.fillPoly(canvas, [np.round(outline).astype(np.int32)], paint, cv2.LINE_AA)
            for (x, y), r in ((ends[0], rp), (ends[1], rq)):
                cv2.circle(canvas, (round(x), round(y)), r, paint, -1, cv2.LINE_AA)

    def fill(outline: Outline, cloth: Colour, second: Colour | None = None, pattern: str = "plain") -> None:
        _fill(canvas, outline, cloth, second or cloth, pattern)

    parts: list[tuple[float, Callable[[], None]]] = []
    girth = look.girth
    shoulder_b, hip_b = 0.098 * girth, 0.052 * girth

    def leg(hip: Placed, knee: Placed, ankle: Placed, toe: Placed, dim: float) -> None:
        cloth, skin = _shade(look.lower, dim), _shade(look.skin, dim)
        limb(ankle, toe, 0.022, 0.017, _shade(look.shoes, dim))
        limb(knee, ankle, 0.034 * girth, 0.022, cloth if look.cut == "trousers" else skin)
        limb(hip, knee, 0.052 * girth, 0.037 * girth, skin if look.cut == "skirt" else cloth)

    # Legs: thigh swings, knee bends while the leg swings forward; then the body is lowered onto the lower foot.
    legs = []
    for side, turn in ((1, 0.0), (-1, pi)):
        swing = 0.0 if phase is None else 0.44 * sin(phase + turn)
        bend = 0.03 if phase is None else 0.10 + 0.80 * max(0.0, cos(phase + turn)) ** 1.4
        knee = (0.25 * sin(swing), -0.25 * cos(swing))
        ankle = (knee[0] + 0.235 * sin(swing - bend), knee[1] - 0.235 * cos(swing - bend))
        legs.append((side, knee, ankle, swing - bend))
    hip_h = 0.035 - min(ankle[1] for _, _, ankle, _ in legs)
    for side, knee, ankle, tilt in legs:
        b = side * hip_b
        hip_p, knee_p = place(0, b, hip_h), place(knee[0], b, hip_h + knee[1])
        ankle_p = place(ankle[0], b * 0.9, hip_h + ankle[1])
        toe_p = place(
            ankle[0] + 0.075 * cos(tilt * 0.6), b * 0.9, max(0.012, hip_h + ankle[1] - 0.028 + 0.05 * min(0, tilt))
        )
        depth = (hip_p[2] + ankle_p[2]) / 2
        dim = 0.82 if depth > 0.02 else 1.0
        # Legs first: jacket and skirt hang over them.
        parts.append((depth + 1, partial(leg, hip_p, knee_p, ankle_p, toe_p, dim)))

    shoulder_h = hip_h + 0.30

    def torso() -> None:
        heights = np.array([0.315, 0.295, 0.22, 0.12, 0.03, -0.035])
        across = np.array([0.060, 0.104, 0.102, 0.088, 0.092, 0.090]) * girth
        through = np.array([0.042, 0.062, 0.070, 0.062, 0.066, 0.066]) * girth
        half = _BODY_PX * np.hypot(across * dz, through * dx)
        centre, _, _ = place(0, 0, 0)
        ys = _FOOT[1] - _BODY_PX * (hip_h + heights)
        if look.cut == "skirt":
            hem = _BODY_PX * np.hypot(0.115 * girth * dz, 0.10 * girth * dx)
            y0, y1 = _FOOT[1] - _BODY_PX * (hip_h + 0.03), _FOOT[1] - _BODY_PX * (hip_h - 0.20)
            skirt = np.array([[centre - half[4], y0], [centre + half[4], y0], [centre + hem, y1], [centre - hem, y1]])
            fill(skirt, look.lower)
        outline = np.concatenate([np.stack([centre - half, ys], 1), np.stack([centre + half, ys], 1)[::-1]])
        fill(outline, look.upper, look.upper_second, look.pattern)

    parts.append((0.0, torso))

    def arm(shoulder: Placed, elbow: Placed, wrist: Placed, dim: float) -> None:
        sleeve, skin = _shade(look.upper, dim), _shade(look.skin, dim)
        hand = (round(wrist[0]), round(wrist[1] + 2))
        cv2.circle(canvas, hand, round(_BODY_PX * 0.024), (*skin, 255), -1, cv2.LINE_AA)
        limb(elbow, wrist, 0.026 * girth, 0.019, sleeve if look.sleeves == "long" else skin)
        limb(shoulder, elbow, 0.035 * girth, 0.027 * girth, sleeve)

    for side, turn in ((1, pi), (-1, 0.0)):
        swing = 0.04 if phase is None else 0.46 * sin(phase + turn)
        bend = 0.12 if phase is None else 0.30 + 0.22 * max(0.0, sin(phase + turn))
        b = side * shoulder_b
        elbow = (0.165 * sin(swing), shoulder_h - 0.02 - 0.165 * cos(swing))
        hand = (elbow[0] + 0.15 * sin(swing + bend), elbow[1] - 0.15 * cos(swing + bend))
        s, e, w = place(0, b, shoulder_h - 0.02), place(elbow[0], b * 1.16, elbow[1]), place(hand[0], b * 1.1, hand[1])
        parts.append((s[2] * 1.5, partial(arm, s, e, w, 0.8 if e[2] > 0.03 else 0.94)))

    if look.bag != "none":
        behind = look.bag == "backpack"
        a, b, h = (-0.10, 0.0, hip_h + 0.19) if behind else (0.0, 0.125 * girth, hip_h + 0.02)
        x, y, depth = place(a, b, h)
        half = np.hypot(0.075 * dz, 0.05 * dx) if behind else np.hypot(0.035 * dz, 0.075 * dx)
        w, t = _BODY_PX * half, _BODY_PX * (0.105 if behind else 0.06)
        box = np.array(
            [[x - w, y - t * 0.8], [x - w * 0.7, y - t], [x + w * 0.7, y - t], [x + w, y - t * 0.8],
             [x + w, y + t * 0.8], [x + w * 0.8, y + t], [x - w * 0.8, y + t], [x - w, y + t * 0.8]]
        )  # fmt: skip
        parts.append((depth * 1.6, partial(fill, box, look.bag_colour)))

    def head() -> None:
        neck, crown = place(0.005, 0, shoulder_h), place(0.012, 0, shoulder_h + 0.105)
        limb(neck, (crown[0], crown[1] + 0.04 * _BODY_PX, 0), 0.03, 0.03, _shade(look.skin, 0.86))
        x, y = crown[0], crown[1]
        rx, ry = _BODY_PX * (0.044 + 0.006 * abs(dx)), _BODY_PX * 0.062
        hair = look.skin if look.hair_style == "bald" else look.hair
        ellipse = cv2.ellipse
        if look.hair_style == "long":
            back = (round(x - dx * rx * 0.45), round(y + ry * 0.55))
            size = (round(rx * 1.12), round(ry * 1.35))
            ellipse(canvas, back, size, 0, 0, 360, (*_shade(hair, 0.9), 255), -1, cv2.LINE_AA)
        ellipse(
            canvas, (round(x), round(y)), (round(rx * 1.08), round(ry * 1.06)), 0, 0, 360, (*hair, 255), -1, cv2.LINE_AA
        )
        if dz < 0.55:  # the face is in view
            fx, width = x + dx * rx * 0.42, rx * (0.62 + 0.3 * max(0.0, -dz))
            face = (round(fx), round(y + ry * 0.2))
            ellipse(canvas, face, (round(width), round(ry * 0.8)), 0, 0, 360, (*look.skin, 255), -1, cv2.LINE_AA)
            if look.hair_style != "bald":
                ellipse(canvas, (round(x), round(y - ry * 0.42)), (round(rx), round(ry * 0.52)), 0, 180, 360,
                        (*hair, 255), -1, cv2.LINE_AA)  # fmt: skip
        if look.hair_style == "cap":
            cap = _shade(look.upper_second, 0.9)
            ellipse(canvas, (round(x), round(y - ry * 0.3)), (round(rx * 1.14), round(ry * 0.78)), 0, 180, 360,
                    (*cap, 255), -1, cv2.LINE_AA)  # fmt: skip
            if dz < 0.6:
                brim = (round(x + dx * rx * 0.95), round(y - ry * 0.28))
                half = (round(rx * 0.85), max(2, round(ry * 0.13)))
                ellipse(canvas, brim, half, 0, 0, 360, (*_shade(cap, 0.8), 255), -1, cv2.LINE_AA)

    for _, draw in sorted(parts, key=lambda part: -part[0]):
        draw()
    head()
    return canvas


def _fill(
    canvas: NDArray[np.uint8], outline: NDArray[np.float64], colour: Colour, second: Colour, pattern: str
) -> None:
    """Fills a polygon with cloth: pattern, a darker right and lower side, soft edge."""
    import cv2

    mask = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    x0, y0, w, h = cv2.boundingRect(np.round(outline).astype(np.int32))
    x0, y0 = max(0, x0 - 1), max(0, y0 - 1)
    roi = canvas[y0 : y0 + h + 2, x0 : x0 + w + 2]
    cover = mask[y0 : y0 + h + 2, x0 : x0 + w + 2].astype(np.float32)[..., None] / 255
    y, x = np.mgrid[0 : roi.shape[0], 0 : roi.shape[1]].astype(np.float32)
    across = (x - w / 2) / max(1.0, w / 2)
    step = _BODY_PX * 0.045
    bands = {
        "plain": np.zeros_like(x),
        "hoops": (np.floor(y / step) % 2).astype(np.float32),
        "pinstripes": (np.floor(np.arcsin(np.clip(across, -1, 1)) * 5) % 2).astype(np.float32) * 0.8,
        "checks": ((np.floor(y / step) + np.floor((x + 200) / step)) % 2).astype(np.float32),
    }[pattern]
    cloth = np.array(colour, np.float32) * (1 - bands[..., None]) + np.array(second, np.float32) * bands[..., None]
    light = 1.06 - 0.30 * np.clip(across + 0.25, -1.2, 1.2) ** 2 - 0.10 * y / max(1, h)
    cloth = np.clip(cloth * light[..., None], 0, 255)
    painted = np.concatenate([cloth, np.full_like(cloth[..., :1], 255)], axis=2)
    roi[:] = np.round(roi * (1 - cover) + painted * cover).astype(np.uint8)
