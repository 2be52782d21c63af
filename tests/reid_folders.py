"""Small folders of person images for tests: plain colours instead of people, one colour a person."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, person: int, seed: int = 0, size: tuple[int, int] = (32, 16)) -> Path:
    """An image of one person: their colour with noise. `size` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = np.array(colorsys.hsv_to_rgb((person * 0.381966) % 1, 0.8, 0.8)) * 255
    noise = np.random.default_rng([person, seed]).normal(0, 12, (*size, 3))
    Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def market(root: Path, train: int = 6, test: int = 4, images: int = 3, cameras: int = 2) -> Path:
    """A Market-1501 folder: so many people in training and test, `images` of each in each camera."""
    for person in range(1, train + test + 1):
        for camera in range(1, cameras + 1):
            for n in range(images):
                side = "bounding_box_train" if person <= train else "query" if n == 0 else "bounding_box_test"
                name = f"{person:04d}_c{camera}s1_{person * 100 + n:06d}_{n:02d}.jpg"
                write_image(root / side / name, person, camera * 10 + n)
    return root


def plain(root: Path, people: int = 6, cameras: int = 2, images: int = 2, first: int = 1) -> Path:
    """PERSON/CAMERA/*.png."""
    for person in range(first, first + people):
        for camera in range(1, cameras + 1):
            for n in range(images):
                write_image(root / f"p{person}" / f"cam{camera}" / f"{n}.png", person, camera * 10 + n)
    return root
