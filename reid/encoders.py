"""Encoders behind one call: person crops in, unit embeddings out.

encode = load_encoder("pair", {"person-reidentification-retail-0277": path, "osnet_x0_25_msmt17": path})
embeddings = encode(crops)          # (N, D) float32, unit rows: a dot product is a cosine

encoder             weights                                    D
stripes             none                                       see reid/stripes.py
OpenVINO IR (.xml)  Intel person-reidentification-retail-*    256
ONNX (.onnx)        OSNet x0.25 MSMT17, any ReID export        512, as exported
torch               DualBackboneNet .safetensors / .pth        128
                    PCB .safetensors / .pth                    1536
                    OSNet .pth of torchreid                    512
card (.yaml)        any of these, or a timm model              as the card says (reid/cards.py)
pair                two of the above, fused by weight          sum of both
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class EncoderError(ValueError):
    """An encoder cannot be loaded or gave a result that cannot be used; the message says which and what to do."""


class Encoder(Protocol):
    """A callable that embeds crops.

    name  what a run folder calls it
    dim   D, length of an embedding
    """

    name: str
    dim: int

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """N crops (H, W, 3) uint8 BGR of any size -> (N, D) float32, unit rows. N may be 0."""
        ...


@dataclass(frozen=True)
class Preprocessing:
    """What a network wants to see: input = (pixel * scale - mean) / std, channels first.

    height_px, width_px  input size
    rgb                  channel order of the input, and of mean and std; False is BGR
    scale                1/255 for networks fed with [0, 1], 1 for 0-255
    mean, std            per channel, after scaling

    The defaults are ImageNet's, which torchreid, FastReID (apart from its scale) and timm exports use.
    """

    height_px: int = 256
    width_px: int = 128
    rgb: bool = True
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.height_px < 1 or self.width_px < 1:
            raise ValueError(f"input size must be positive, got {self.height_px}x{self.width_px}")
        if self.scale <= 0 or min(self.std) <= 0:
            raise ValueError(f"scale and std must be positive, got {self.scale} and {self.std}")


@dataclass(frozen=True)
class Speed:
    """How a network may be hurried; each changes embeddings by rounding, so none is on by itself.

    half      float16, on a GPU only (torch, TensorRT)
    compile   torch.compile: the first calls take minutes
    tensorrt  ONNX Runtime's TensorRT provider, where it is installed: the first calls build engines
    """

    half: bool = False
    compile: bool = False
    tensorrt: bool = False


RAW_BGR = Preprocessing(rgb=False, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""Intel's retail networks: BGR, 0-255; normalisation is inside the network."""

PAIR = ("person-reidentification-retail-0277", "osnet_x0_25_msmt17")
"""The two networks of the default `pair`."""


def resized(crops: Sequence[NDArray[np.uint8]], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Crops of any size -> (N, H, W, 3) uint8 in the network's channel order. EncoderError for what is not a crop."""
    import cv2

    batch = np.empty((len(crops), preprocessing.height_px, preprocessing.width_px, 3), np.uint8)
    for n, crop in enumerate(crops):
        if crop.ndim != 3 or crop.shape[2] != 3 or crop.dtype != np.uint8 or crop.size == 0:
            raise EncoderError(f"crop {n} must be (H, W, 3) uint8 with H, W >= 1, got {crop.shape} {crop.dtype}")
        cv2.resize(crop, (preprocessing.width_px, preprocessing.height_px), dst=batch[n])
    return np.ascontiguousarray(batch[..., ::-1]) if preprocessing.rgb else batch


def normalised(crops: Sequence[NDArray[np.uint8]], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Crops of any size -> (N, 3, H, W) float32, ready for a network."""
    batch = resized(crops, preprocessing)
    out = np.empty((len(batch), 3, *batch.shape[1:3]), np.float32)
    for channel in range(3):
        gain = preprocessing.scale / preprocessing.std[channel]
        shift = preprocessing.mean[channel] / preprocessing.std[channel]
        np.multiply(batch[..., channel], np.float32(gain), out=out[:, channel], casting="unsafe")
        out[:, channel] -= np.float32(shift)
    return out


def unit_rows(features: NDArray[np.floating], name: str) -> NDArray[np.float32]:
    """(N, D) raw network output -> unit rows float32. EncoderError for NaN, infinity or a row of zeros."""
    rows = np.asarray(features, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths < 1e-12).any():
        bad = int(np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] < 1e-12))[0])
        raise EncoderError(f"{name}: embedding of crop {bad} is zero or not finite; damaged weights or no ReID network")
    unit: NDArray[np.float32] = rows / lengths
    return unit


def probe_crops() -> list[NDArray[np.uint8]]:
    """Two unlike pictures, for asking a network what it does: a dark-to-light ramp, and colours side by side."""
    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[:, None], 32, axis=1)
    colours = np.zeros((64, 32, 3), np.uint8)
    colours[:, :16, 0] = colours[:32, :, 2] = 200
    return [np.repeat(ramp[..., None], 3, axis=2), colours]


def keeps_crops_apart(run: Callable[[Array], Array], batch: Array) -> bool:
    """Whether a network says the same of each picture alone and in company. Exports with a batch of 1 baked into some
    inner shape do not, and no error tells."""
    try:
        together = run(batch)
    except EncoderError:
        return False
    alone = np.concatenate([run(batch[n : n + 1]) for n in range(len(batch))])
    # Equal to rounding; unlike pictures differ by far more.
    return together.shape == alone.shape and np.allclose(together, alone, rtol=1e-3, atol=1e-4, equal_nan=True)


def one_vector_each(features: Array, name: str) -> Array:
    """(N, D), or (N, D, 1, 1) as pooling layers leave it -> (N, D); EncoderError for anything else."""
    if features.ndim > 2 and features.shape[2:] == (1,) * (features.ndim - 2):
        features = features.reshape(features.shape[:2])
    if features.ndim != 2:
        raise EncoderError(f"{name}: a ReID network gives one vector per crop, this one gave shape {features.shape}")
    return features


def check_file(path: Path, name: str) -> None:
    """EncoderError when there is no such weights file or it is empty."""
    if not path.is_file():
        raise EncoderError(f"{name}: no weights file {path}")
    if path.stat().st_size == 0:
        raise EncoderError(f"{name}: {path} is empty; fetch it again")


def load_encoder(
    name: str,
    paths: Mapping[str, Path] | Sequence[Path] | Path | None = None,
    device: str = "cpu",
    preprocessing: Preprocessing | None = None,
    speed: Speed | None = None,
) -> Encoder:
    """Make the encoder of that name from its weights files.

    name    `stripes` (no files), `pair` (two files, retail-0277 and OSNet), or any name with one file, whose ending
            says how to run it: .xml OpenVINO, .onnx ONNX Runtime, .safetensors or .pth torch, .yaml a card, which
            names the weights (its second file, where it is given, is where they are)
    paths   {model name: file}, or files in order (`pair`: retail, then OSNet), or one file
    device  "cpu" or "cuda:0"; OpenVINO always runs on the CPU
    preprocessing  for a network with its own; the default follows from the kind of file
    speed   half precision, torch.compile, TensorRT

    Raises EncoderError when files are missing, damaged or of another kind of network.

    >>> load_encoder("stripes").name
    'stripes'
    >>> load_encoder("osnet")
    Traceback (most recent call last):
    reid.encoders.EncoderError: osnet: needs 1 weights file, got 0
    """
    files = _in_order(name, paths)
    if files and files[0].suffix.lower() in (".yaml", ".yml"):
        return _load_card(files[0], files[1:], device, speed)
    if name == "stripes":
        from reid.stripes import StripesEncoder

        return StripesEncoder()
    wanted = 2 if name == "pair" else 1
    if len(files) != wanted:
        raise EncoderError(f"{name}: needs {wanted} weights file{'s' * (wanted > 1)}, got {len(files)}")
    if name == "pair":
        from reid.pair import PairEncoder

        first, second = (load_encoder(part, file, device, speed=speed) for part, file in zip(PAIR, files, strict=True))
        return PairEncoder(first, second)
    (path,) = files
    if path.suffix == ".xml":
        from reid.openvino_encoder import OpenVinoEncoder

        return OpenVinoEncoder(name, path, preprocessing or RAW_BGR)
    if path.suffix == ".onnx":
        return _load_onnx(name, path, preprocessing or Preprocessing(), device, speed)
    if path.suffix in (".safetensors", ".pth", ".pt"):
        from reid.torch_encoder import TorchEncoder

        return TorchEncoder(name, path, device, speed=speed)
    raise EncoderError(
        f"{name}: cannot tell how to run {path}; known endings are .xml, .onnx, .safetensors, .pth, .yaml"
    )


def _load_card(path: Path, weights: Sequence[Path], device: str, speed: Speed | None) -> Encoder:
    from reid.cards import read_card

    card = read_card(path, [file.parent for file in weights])
    encoder: Encoder
    if card.file.suffix == ".xml":
        from reid.openvino_encoder import OpenVinoEncoder

        encoder = OpenVinoEncoder(card.name, card.file, card.preprocessing)
    elif card.file.suffix == ".onnx":
        encoder = _load_onnx(card.name, card.file, card.preprocessing, device, speed, card.output)
    elif card.file.suffix in (".safetensors", ".pth", ".pt"):
        from reid.torch_encoder import TorchEncoder

        encoder = TorchEncoder(card.name, card.file, device, card, speed)
    else:
        raise EncoderError(f"card {path}: cannot tell how to run {card.file.name}; .onnx, .xml, .safetensors or .pth")
    if encoder.dim != card.dimension:
        raise EncoderError(
            f"card {path}: dimension is {card.dimension}, but {card.file.name} gives vectors of length {encoder.dim}"
        )
    return encoder


def _load_onnx(
    name: str,
    path: Path,
    preprocessing: Preprocessing,
    device: str,
    speed: Speed | None = None,
    output: str | None = None,
) -> Encoder:
    from reid.onnx_encoder import OnnxEncoder

    encoder = OnnxEncoder(name, path, preprocessing, device, speed, output)
    if encoder.fixed_batch in (None, 1) or device != "cpu":
        return encoder
    # The published OSNet file has a batch of 16 written into it: one crop would cost as much as sixteen. OpenVINO can
    # reshape such a network; taken only if it then says the same.
    from reid.openvino_encoder import OpenVinoEncoder

    probes = probe_crops()
    try:
        reshaped = OpenVinoEncoder(name, path, preprocessing)
        agrees = np.allclose(reshaped(probes), encoder(probes), atol=1e-3)
    except EncoderError:
        return encoder
    return reshaped if agrees else encoder


def _in_order(name: str, paths: Mapping[str, Path] | Sequence[Path] | Path | None) -> list[Path]:
    if paths is None:
        return []
    if isinstance(paths, str | Path):
        return [Path(paths)]
    if isinstance(paths, Mapping):
        parts = PAIR if name == "pair" else tuple(paths)
        missing = [part for part in parts if part not in paths]
        if missing:
            raise EncoderError(f"{name}: no weights file given for {', '.join(missing)}")
        return [Path(paths[part]) for part in parts]
    return [Path(path) for path in paths]
