"""The four rooms of the synthetic site, painted: where doors, windows, shelves, plants and pillars are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.world_plan import View
from pipeline.world_scene import FINE, Canvas, Image, Plane, Scene, noise, tiles, tint


def paint_scene(view: View, seed: int) -> Scene:
    """The empty room of that camera. Raises KeyError for a camera without a room."""
    painters = {"lobby": _lobby, "corridor": _corridor, "shop": _shop, "yard": _yard}
    return painters[view.name](Canvas(view, np.random.default_rng([seed, 1 << 21, sorted(painters).index(view.name)])))


def _lobby(c: Canvas) -> Scene:
    rng = c.rng

    def floor(x: Plane, y: Plane, z: Plane) -> Image:
        face, pick = tiles(x, z, 0.9)
        veins = 0.05 * noise(rng, x + 0.6 * z, z, 0.35)
        gloss = 0.10 * np.exp(-((x - 0.6) ** 2) / 3.5) * np.clip((z - 5) / 8, 0, 1)
        return tint(face * (0.86 + 0.05 * pick + veins + gloss), (196, 202, 206))

    def wall(x: Plane, y: Plane, z: Plane) -> Image:
        wood = 0.9 + 0.06 * np.sin(x * 40) * (y < 1.0) + 0.03 * noise(rng, x * 3, y, 0.4)
        base = np.where((y < 1.0)[:, None], np.array((92, 122, 160)), np.array((188, 206, 214)))
        rail: Plane = wood - 0.12 * (np.abs(y - 1.0) < 0.03)
        return np.asarray(base * rail[:, None], np.float32)

    def ceiling(x: Plane, y: Plane, z: Plane) -> Image:
        face, _ = tiles(x, z, 1.2, 0.03)
        return tint(face, (214, 218, 220))

    z = 13.0
    surfaces = c.room(z, -30, 30, 3.3, {"floor": floor, "back": wall, "ceiling": ceiling})
    for x0 in (-7.4, -4.6):  # windows to the street
        c.panel(x0, x0 + 2.3, 0.95, 2.75, z, (120, 120, 118))
        for k in range(2):
            c.panel(x0 + 0.08 + k * 1.1, x0 + 1.12 + k * 1.1, 1.03, 2.67, z, (236, 222, 200))
            c.panel(x0 + 0.08 + k * 1.1, x0 + 1.12 + k * 1.1, 1.03, 1.5, z, (150, 176, 160))
    c.panel(-0.6, 1.8, 0, 2.45, z, (228, 214, 194))  # glass doors, the street behind
    c.panel(-0.6, 1.8, 0.0, 0.9, z, (168, 176, 176))
    c.panel(-0.6, 1.8, 0.9, 1.25, z, (140, 160, 140))
    for x0 in (-0.7, -0.02, 1.22, 1.8):
        c.panel(x0 - 0.05, x0 + 0.05, 0, 2.5, z, (74, 70, 66))
    c.panel(-0.75, 1.85, 2.42, 2.55, z, (74, 70, 66))
    open_ = c.panel(0.04, 1.16, 0, 2.4, z, (0, 0, 0), 0.0)
    c.hide(np.where(surfaces["back"][0], 1.0, 0.0).astype(np.float32) * (1 - open_), z)
    for x0, colour in ((3.0, (60, 70, 170)), (5.2, (150, 110, 50))):  # pictures
        c.panel(x0, x0 + 1.3, 1.35, 2.3, z, (40, 46, 52))
        c.panel(x0 + 0.08, x0 + 1.22, 1.43, 2.22, z, colour)
        c.panel(x0 + 0.2, x0 + 0.7, 1.6, 2.05, z, (190, 200, 210))
    c.light(-3.2, 10.6, 1.5, 1.6, 0.16, 0.4)
    c.light(-6.0, 10.6, 1.2, 1.6, 0.14, 0.4)
    c.light(0.7, 11.0, 0.9, 1.7, 0.13, 0.2)
    desk = c.box(-4.6, -1.9, 11.3, 12.1, 1.08, (72, 104, 150))  # reception
    desk = np.maximum(desk, c.panel(-4.7, -1.8, 1.05, 1.13, 11.25, (196, 206, 212)))
    desk = np.maximum(desk, c.panel(-3.6, -3.0, 1.12, 1.5, 11.4, (44, 40, 38)))
    c.hide(desk, 11.6)
    pillar = c.box(2.55, 3.1, 9.9, 10.45, 3.4, (178, 190, 196))
    c.hide(pillar, 10.15)
    sofa = c.box(3.3, 5.2, 11.4, 12.2, 0.45, (120, 92, 60))
    sofa = np.maximum(sofa, c.box(3.3, 5.2, 12.0, 12.3, 0.95, (110, 84, 54)))
    c.hide(sofa, 11.9)
    c.plant(-3.15, 5.9, 1.5, 0.52)
    c.plant(6.0, 12.4, 1.7, 0.5)
    return c.done(shadow_lean=0.25)


def _corridor(c: Canvas) -> Scene:
    rng = c.rng
    half, z_end, top = 2.1, 15.0, 2.95

    def floor(x: Plane, y: Plane, z: Plane) -> Image:
        lamps = 0.20 * np.exp(-((x - 0.1) ** 2) / 0.25) * (0.55 + 0.45 * np.cos(z * 2 * np.pi / 3.2))
        border = -0.22 * (np.abs(np.abs(x) - 1.75) < 0.06)
        return tint(0.80 + 0.05 * noise(rng, x * 4, z * 4, 0.25) + lamps + border, (150, 164, 150))

    def wall(x: Plane, y: Plane, z: Plane) -> Image:
        dado = (y < 1.05)[:, None]
        base = np.where(dado, np.array((150, 138, 96)), np.array((206, 214, 216)))
        light = 0.82 + 0.12 * np.exp(-((y - 2.4) ** 2) / 0.8) * (0.6 + 0.4 * np.cos(z * 2 * np.pi / 3.2))
        trim: Plane = 0.2 * (np.abs(y - 1.05) < 0.035) + 0.3 * (y < 0.1)
        return np.asarray(base * (light + 0.02 * noise(rng, z, y, 0.3) - trim)[:, None], np.float32)

    def ceiling(x: Plane, y: Plane, z: Plane) -> Image:
        lamp = (np.abs(x) < 0.35) & (np.abs((z / 3.2) % 1 - 0.5) < 0.22)
        return tint(np.where(lamp, 1.2, 0.86).astype(np.float32), (212, 214, 214))

    def back(x: Plane, y: Plane, z: Plane) -> Image:
        return tint(0.78 + 0.0 * x, (196, 204, 208))

    surfaces = c.room(
        z_end, -half, half, top, {"floor": floor, "left": wall, "right": wall, "ceiling": ceiling, "back": back}
    )
    # The far end opens into the lobby: bright.
    far = c.panel(-0.9, 1.3, 0, 2.3, z_end, (226, 226, 220))
    c.panel(-0.9, 1.3, 0, 0.5, z_end, (176, 186, 188))
    for x0 in (-0.94, 1.34):
        c.panel(x0 - 0.06, x0 + 0.06, 0, 2.36, z_end, (70, 84, 110))
    c.panel(-1.0, 1.4, 2.3, 2.42, z_end, (70, 84, 110))
    c.panel(-0.1, 0.6, 2.5, 2.78, z_end, (60, 140, 50))  # exit sign
    c.hide(surfaces["back"][0].astype(np.float32) * (1 - far), z_end)
    for z0 in (6.4, 12.4):  # closed doors on the right
        c.side_panel(half, z0 - 0.08, z0 + 1.08, 0, 2.14, (60, 76, 104))
        c.side_panel(half, z0, z0 + 1.0, 0, 2.05, (92, 128, 168))
        c.side_panel(half, z0 + 0.12, z0 + 0.2, 0.95, 1.08, (200, 204, 206))
        c.side_panel(half, z0 + 0.35, z0 + 0.65, 1.4, 1.8, (206, 196, 176))
    for z0, colour in ((5.6, (86, 120, 196)), (8.4, (70, 150, 96)), (10.6, (150, 100, 90))):  # posters
        if z0 != 8.4:
            c.side_panel(-half, z0, z0 + 0.8, 1.3, 2.1, (230, 232, 232))
            c.side_panel(-half, z0 + 0.06, z0 + 0.74, 1.36, 2.04, colour)
        c.side_panel(half, z0 + 1.0, z0 + 1.6, 1.35, 2.05, (226, 228, 230))
        c.side_panel(half, z0 + 1.05, z0 + 1.55, 1.4, 2.0, tuple(reversed(colour)))
    c.side_panel(-half, 8.9, 10.5, 0, 2.3, (70, 84, 110))
    side = c.side_panel(-half, 9.0, 10.4, 0, 2.2, (54, 58, 62))  # an open door to the yard
    c.side_panel(-half, 9.0, 10.4, 0, 0.35, (92, 96, 96))
    beyond = np.clip(surfaces["left"][0].astype(np.float32) + surfaces["back"][0] + surfaces["ceiling"][0], 0, 1)
    rest = np.maximum(beyond, surfaces["floor"][0]) * (1 - side)
    c.hide(rest, 0, across=-1.0, limit=half)
    bench = c.box(1.5, 2.05, 8.9, 10.2, 0.46, (60, 92, 140))
    c.hide(bench, 9.6)
    c.plant(1.75, 5.6, 1.15, 0.30)
    c.plant(-1.75, 13.9, 1.2, 0.26)
    return c.done(shadow=0.38)


def _shelf(c: Canvas, x0: float, x1: float, z: float, height: float, depth: float = 0.5) -> Plane:
    """A rack of goods facing the camera; returns its mask."""
    mask = c.box(x0, x1, z, z + depth, height, (168, 176, 182))
    boards = int(height / 0.42)
    colours = np.array(
        [(60, 60, 190), (60, 150, 70), (190, 120, 50), (60, 180, 220), (200, 200, 206), (130, 60, 130), (50, 110, 220)]
    )
    for k in range(boards):
        y0 = 0.08 + k * 0.42
        c.panel(x0 + 0.04, x1 - 0.04, y0, y0 + 0.36, z, (70, 72, 76))
        x = x0 + 0.07
        while x < x1 - 0.2:
            w = float(c.rng.uniform(0.10, 0.24))
            colour = colours[int(c.rng.integers(len(colours)))] * c.rng.uniform(0.7, 1.1)
            c.panel(
                x,
                min(x + w, x1 - 0.06),
                y0,
                y0 + float(c.rng.uniform(0.18, 0.33)),
                z - 0.01,
                tuple(np.clip(colour, 0, 245)),
            )
            x += w + 0.02
    return mask


def _shop(c: Canvas) -> Scene:
    rng = c.rng

    def floor(x: Plane, y: Plane, z: Plane) -> Image:
        face, pick = tiles(x, z, 0.6, 0.012)
        dark = (np.floor(x / 0.6) + np.floor(z / 0.6)) % 2
        return tint(face * (0.94 - 0.20 * dark + 0.04 * pick + 0.02 * noise(rng, x, z, 0.1)), (190, 204, 214))

    def wall(x: Plane, y: Plane, z: Plane) -> Image:
        face, pick = tiles(x, y, 0.3, 0.01)
        return tint(0.9 * np.where(y > 2.3, 0.95, face) + 0.02 * pick, (176, 200, 190))

    z = 12.4
    surfaces = c.room(
        z, -30, 30, 3.4, {"floor": floor, "back": wall, "ceiling": lambda x, y, z: tint(0.9 + 0 * x, (206, 206, 206))}
    )
    c.panel(-8, 8, 2.62, 3.1, z, (70, 64, 150))  # the sign board
    for n in range(11):
        c.panel(-5.6 + n * 0.62, -5.6 + n * 0.62 + 0.36, 2.74, 2.98, z, (226, 232, 236))
    opening = c.panel(2.3, 3.75, 0, 2.2, z, (78, 82, 88))
    c.panel(2.3, 3.75, 0, 0.5, z, (110, 118, 120))
    for x0 in (2.26, 3.79):
        c.panel(x0 - 0.07, x0 + 0.07, 0, 2.26, z, (62, 78, 100))
    c.panel(2.2, 3.86, 2.2, 2.32, z, (62, 78, 100))
    c.hide(surfaces["back"][0].astype(np.float32) * (1 - opening), z)
    for x0, x1 in ((-6.6, -4.2), (-3.9, -1.3), (-1.0, 1.6)):
        c.hide(_shelf(c, x0, x1, 11.7, 2.15), 11.9)
    c.hide(_shelf(c, 4.4, 6.6, 11.6, 2.15), 11.8)
    c.light(0.6, 8.4, 3.2, 0.8, 0.07)
    c.light(-2.4, 6.6, 2.2, 0.6, 0.06)
    counter = c.box(-4.9, -3.6, 7.7, 8.5, 1.0, (84, 116, 164))  # the till
    counter = np.maximum(counter, c.panel(-4.5, -4.1, 1.0, 1.35, 7.9, (46, 44, 42)))
    c.hide(counter, 8.1)
    c.hide(_shelf(c, 0.5, 2.5, 5.45, 0.9, 0.45), 5.7)  # a low rack in front
    pillar = c.box(-0.75, -0.35, 8.6, 9.0, 3.5, (168, 184, 190))
    c.hide(pillar, 8.8)
    c.plant(4.05, 8.6, 1.6, 0.42)
    return c.done(shadow=0.36)


def _yard(c: Canvas) -> Scene:
    rng = c.rng

    def ground(x: Plane, y: Plane, z: Plane) -> Image:
        row = np.floor(z / 0.34)
        face, pick = tiles(x + 0.25 * (row % 2), z, 0.34, 0.012)
        paving = tint(face * (0.80 + 0.12 * pick + 0.04 * noise(rng, x, z, 0.9)), (150, 158, 168))
        grass = (
            np.array((62, 122, 92))
            * (0.9 + 0.16 * noise(rng, x * 6, z * 6, 0.4) + 0.12 * noise(rng, x, z, 1.3))[:, None]
        ).astype(np.float32)
        lawn = (z > 13.1 + 0.1 * np.sin(x * 1.5)) & (np.abs(x + 1.9) > 1.15)
        return np.where(lawn[:, None], grass, paving)

    def sky(x: Plane, y: Plane, z: Plane) -> Image:
        up = np.clip((y - 2.5) / 3, 0, 1)[:, None]
        cloud = np.clip(noise(rng, x, y * 2, 2.0) + 0.5 * noise(rng, x, y * 2, 0.8), 0, 1)[:, None]
        return (np.array((226, 206, 180)) * (1 - up) + np.array((216, 178, 132)) * up + 26 * cloud).astype(np.float32)

    z = 15.6
    surfaces = c.room(z, -60, 60, 60.0, {"floor": ground, "back": sky})
    for x0, x1, h, colour in ((-12, -5.2, 4.3, (140, 156, 176)), (3.4, 11, 4.0, (120, 140, 150))):  # houses behind
        c.panel(x0, x1, 0, h, z, colour)
        for n in range(8):
            wx = x0 + 0.5 + n * 0.95
            if wx + 0.5 < x1:
                c.panel(wx, wx + 0.5, 2.75, 3.5, z, (150, 130, 104))
    for _ in range(46):  # a hedge of tree tops
        x = float(rng.uniform(-5, 4))
        c.polygon(
            _blob(c, x, 2.6 + float(rng.uniform(-0.2, 0.7)), z, 0.5),
            tuple(np.array((64, 112, 78)) * rng.uniform(0.7, 1.15)),
            0.9,
        )
    wall = c.panel(-20, 20, 0, 2.5, z, (86, 108, 158))
    mask, bx, by, _ = surfaces["back"]
    brick = mask & (by < 2.5)
    course = np.floor(by[brick] / 0.12)
    _, shade = tiles(bx[brick] / 0.30 + 0.5 * (course % 2), course + 0.5, 1.0)
    joint = np.abs(by[brick] / 0.12 - np.round(by[brick] / 0.12)) < 0.1
    c.image[brick] = tint((0.88 + 0.18 * shade) * np.where(joint, 0.84, 1), (84, 104, 158))
    c.panel(-20, 20, 2.5, 2.64, z, (150, 158, 164))
    gate = c.panel(-2.75, -1.05, 0, 2.5, z, (206, 204, 196))  # the open gate and the road
    c.panel(-2.75, -1.05, 0, 0.75, z, (140, 142, 144))
    c.panel(-2.75, -1.05, 0.75, 1.4, z, (112, 140, 116))
    for x0 in (-2.85, -0.95):
        c.panel(x0 - 0.16, x0 + 0.16, 0, 2.85, z - 0.05, (128, 140, 150))
    c.hide(np.clip(wall - gate, 0, 1), z)
    # A parked van: people pass in front of it or are hidden behind it.
    van = c.box(3.1, 6.4, 13.2, 14.9, 1.75, (190, 186, 176), 0.25)
    van = np.maximum(van, c.panel(3.1, 6.4, 0.25, 0.75, 13.19, (150, 96, 60)))
    c.panel(3.3, 4.2, 1.05, 1.6, 13.18, (96, 84, 72))
    c.panel(4.4, 5.2, 1.05, 1.6, 13.18, (96, 84, 72))
    import cv2

    for wx in (3.8, 5.7):
        at = c.px((wx, 0.32, 13.15))[0]
        r = round(c.view.focal_px / 13.15 * FINE * 0.33)
        cv2.circle(c.image, (int(at[0]), int(at[1])), r, (36.0, 36.0, 36.0), -1, cv2.LINE_AA)
        cv2.circle(c.image, (int(at[0]), int(at[1])), r // 2, (160.0, 160.0, 160.0), -1, cv2.LINE_AA)
    c.hide(van, 14.0)
    c.plant(-4.7, 13.7, 3.6, 1.25, trunk=True)
    bench = c.box(-5.6, -4.0, 11.6, 12.0, 0.45, (60, 92, 132))
    c.hide(bench, 11.8)
    lamp = c.box(1.15, 1.31, 8.35, 8.5, 3.9, (66, 62, 58))
    c.hide(lamp, 8.42)
    c.plant(-4.25, 7.4, 0.95, 0.62)
    c.light(0.5, 9.5, 4.5, 2.2, 0.09, 0.5)
    return c.done(shadow_lean=0.75, shadow=0.5)


def _blob(c: Canvas, x: float, y: float, z: float, r: float) -> NDArray[np.int32]:
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    radii = r * c.rng.uniform(0.75, 1.15, 12)
    return c.px(*((x + a * np.cos(t), y + a * np.sin(t), z) for a, t in zip(radii, turns, strict=True)))
