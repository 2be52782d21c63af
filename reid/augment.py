"""What training does to an image so that a network does not learn it by heart: pose, light and occlusion vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How strongly images are varied; 0 switches a part off.

    flip        probability of a mirrored image
    rotation    largest turn, degrees
    shift       largest move, share of the image's size: boxes of a detector miss
    brightness, contrast, saturation, hue   largest change, as torchvision's ColorJitter has them
    cast        largest gain of each colour channel by itself: every camera has a cast of its own
    erasing     probability that a random block is erased (Zhong et al., AAAI 2020; the "RE" of st-ReID)
    """

    flip: float = 0.5
    rotation: float = 8.0
    shift: float = 0.05
    brightness: float = 0.25
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.0
    cast: float = 0.1
    erasing: float = 0.5

    def __post_init__(self) -> None:
        if not (0 <= self.flip <= 1 and 0 <= self.erasing <= 1 and 0 <= self.rotation <= 180 and 0 <= self.shift < 1):
            raise ValueError("flip and erasing must lie in [0, 1], rotation in [0, 180], shift in [0, 1)")
        if (
            min(self.brightness, self.contrast, self.saturation, self.hue) < 0
            or self.hue > 0.5
            or not 0 <= self.cast < 1
        ):
            raise ValueError(
                "brightness, contrast and saturation must be at least 0, hue lie in [0, 0.5], cast in [0, 1)"
            )


NO_AUGMENTATION = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


def augmented(image: NDArray[np.uint8], size_px: tuple[int, int], how: Augmentation, seed: int) -> Tensor:
    """(H, W, 3) uint8 RGB of any size -> (3, *size_px) uint8, varied by that seed and by nothing else.

    Every worker process and every resumed run draws the same from the same seed.
    """
    import torch
    from torchvision.transforms import v2

    steps: list[v2.Transform] = []
    if how.flip:
        steps.append(v2.RandomHorizontalFlip(how.flip))
    if how.rotation or how.shift:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomAffine(how.rotation, (how.shift, how.shift), interpolation=bilinear, fill=114))
    if how.brightness or how.contrast or how.saturation or how.hue:
        steps.append(v2.ColorJitter(how.brightness, how.contrast, how.saturation, how.hue))
    if how.erasing:
        # The mean colour instead of the published noise: a block of noise is nothing that hides people.
        steps.append(v2.RandomErasing(how.erasing, scale=(0.02, 0.4), ratio=(0.3, 3.3), value=114))
    picture = as_tensor(image, size_px)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in steps:
            picture = step(picture)
        if how.cast:
            gains = 1 + how.cast * (2 * torch.rand(3, 1, 1) - 1)
            picture = (picture * gains).clamp_(0, 255).to(torch.uint8)
    return picture


def as_tensor(image: NDArray[np.uint8], size_px: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 RGB of any size -> (3, *size_px) uint8, resized as the encoders do it."""
    import cv2
    import torch

    resized = cv2.resize(image, (size_px[1], size_px[0]))
    return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
