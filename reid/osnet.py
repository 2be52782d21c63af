"""OSNet, the omni-scale network of torchreid, rebuilt from the shapes in its checkpoint: x1.0, x0.75, x0.5, x0.25.

    images (N, 3, H, W) RGB in [0, 1], normalised here by ImageNet's mean and std
      conv1   7x7, stride 2, then 3x3 max pooling, stride 2       -> (N, c0, H/4, W/4)
      conv2   two omni-scale blocks, 1x1, average pooling         -> (N, c1, H/8, W/8)
      conv3   the same                                            -> (N, c2, H/16, W/16)
      conv4   two omni-scale blocks                               -> (N, c3, H/16, W/16)
      conv5   1x1, then the mean over the picture                 -> (N, c3)
      fc      Linear, batch norm, ReLU                            -> (N, 512)

An omni-scale block adds up four streams of one to four light 3x3 convolutions (receptive fields 3, 5, 7, 9), each
weighed per image and channel by one gate that they share. Zhou, Yang, Cavallaro, Xiang, "Omni-Scale Feature Learning
for Person Re-Identification", ICCV 2019. Names of layers are torchreid's, so that its checkpoints load.

This module needs torch; import it where a network is really wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reid.encoders import EncoderError

_MARK = "conv2.0.conv2d.3.conv1.weight"
"""A layer that only an OSNet has."""


def is_osnet(state: Mapping[str, Any]) -> bool:
    """Whether a state dict (names as saved, with or without `module.`) is that of an OSNet.

    >>> is_osnet({"layer4.2.conv3.weight": None})
    False
    """
    return any(name.removeprefix("module.") == _MARK for name in state)


def osnet_from(state: Mapping[str, Tensor], name: str = "osnet") -> OSNet:
    """The network of a torchreid checkpoint, ready for inference; widths are read from the shapes, the classifier of
    the training identities is left out. EncoderError for another network or a variant (IBN, AIN)."""
    own = {key.removeprefix("module."): value for key, value in state.items()}
    own = {key: value for key, value in own.items() if not key.startswith("classifier.")}
    try:
        widths = [int(own[key].shape[0]) for key in ("conv1.conv.weight", *_ENDS)]
        network = OSNet(widths, int(own["fc.0.weight"].shape[0]))
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise EncoderError(f"{name}: not a torchreid OSNet: {error} is not in the checkpoint") from error
    expected = set(network.state_dict())
    if strange := sorted(own.keys() ^ expected):
        hint = "IBN and AIN variants do not load; export them to ONNX and write a card"
        raise EncoderError(f"{name}: a variant of OSNet that is not known ({strange[0]}); {hint}")
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise EncoderError(
            f"{name}: weights of another OSNet: {str(error).strip().splitlines()[-1].strip()}"
        ) from error
    return network.eval()


_ENDS = ("conv2.0.conv3.conv.weight", "conv3.0.conv3.conv.weight", "conv4.0.conv3.conv.weight")


class OSNet(nn.Module):
    """See the module. widths: c0 to c3; features: length of the embedding."""

    mean: Tensor
    std: Tensor

    def __init__(self, widths: list[int], features: int = 512) -> None:
        super().__init__()
        c0, c1, c2, c3 = widths
        self.embedding_dim = features
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1), persistent=False)
        self.conv1 = _Conv(3, c0, 7, stride=2, padding=3)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = nn.Sequential(_Block(c0, c1), _Block(c1, c1), nn.Sequential(_Conv(c1, c1), nn.AvgPool2d(2)))
        self.conv3 = nn.Sequential(_Block(c1, c2), _Block(c2, c2), nn.Sequential(_Conv(c2, c2), nn.AvgPool2d(2)))
        self.conv4 = nn.Sequential(_Block(c2, c3), _Block(c3, c3))
        self.conv5 = _Conv(c3, c3)
        self.fc = nn.Sequential(nn.Linear(c3, features), nn.BatchNorm1d(features), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] -> (N, features), not normalised."""
        x = self.maxpool(self.conv1((images - self.mean) / self.std))
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        features: Tensor = self.fc(x.mean(dim=(2, 3)))
        return features


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU (unless `linear`)."""

    def __init__(
        self, wide: int, out: int, size: int = 1, *, stride: int = 1, padding: int = 0, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(wide, out, size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.linear else torch.relu(x)


class _Light(nn.Module):
    """A 3x3 convolution taken apart: 1x1 over channels, then 3x3 within each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv2(self.conv1(x))))


class _Gate(nn.Module):
    """Each channel weighed in (0, 1) by what the whole picture shows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // 16, 1)
        self.fc2 = nn.Conv2d(width // 16, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))


class _Block(nn.Module):
    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        middle = out // 4
        self.conv1 = _Conv(wide, middle)
        self.conv2a = _Light(middle)
        self.conv2b = nn.Sequential(*(_Light(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(_Light(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(_Light(middle) for _ in range(4)))
        self.gate = _Gate(middle)
        self.conv3 = _Conv(middle, out, linear=True)
        self.downsample = _Conv(wide, out, linear=True) if wide != out else None

    def forward(self, x: Tensor) -> Tensor:
        start = self.conv1(x)
        streams = [self.gate(stream(start)) for stream in (self.conv2a, self.conv2b, self.conv2c, self.conv2d)]
        short = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.conv3(streams[0] + streams[1] + streams[2] + streams[3]) + short)
