"""`get_embeddings`: pictures of people in, unit vectors out. Arrays or files, two of them or twenty thousand.

ImageFileError (ValueError)   a file that is no picture, or one too large to be looked at; says which and why
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.encoders import Encoder

Picture = NDArray[np.uint8]

MOST_PIXELS = 100_000_000
"""Pictures of more pixels are refused before they are unpacked: 300 MB, and no camera makes them."""


class ImageFileError(ValueError):
    """A file that cannot be read as a picture."""


def get_embeddings(
    images: Sequence[Picture | Path | str],
    encode: Encoder,
    *,
    batch: int = 64,
    flip: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Embed pictures of one person each: (N, D) float32, unit rows, in the order of the pictures.

    images       (H, W, 3) uint8 BGR arrays of any size, or paths of image files
    encode       an encoder of `reid.encoders.load_encoder`
    batch        pictures per call, and in memory at once, >= 1
    flip         also look at the mirror image and take the mean direction, as ReID papers do when they test (a PCB adds
                 the features before its stripes get length 1, as its paper does)
    on_progress  called with (pictures done, of how many)

    A dot product of two rows is a cosine; `reid.ranking.match_topk` finds the nearest rows. Raises ImageFileError for a
    file that is no picture, EncoderError for an array that is none, ValueError for a batch below 1.

    >>> from reid.encoders import load_encoder
    >>> red, blue = np.zeros((2, 80, 40, 3), np.uint8)
    >>> red[..., 2] = blue[..., 0] = 200
    >>> red[20:40] = blue[20:40] = 90
    >>> rows = get_embeddings([red, blue, red], load_encoder("stripes"), batch=2)
    >>> rows.shape, bool(rows[0] @ rows[2] > 0.999 > rows[0] @ rows[1])
    ((3, 312), True)

    With `match_topk`, a search:

    >>> from reid.ranking import match_topk
    >>> nearest, similarity = match_topk(rows[2:], rows[:2], k=1)
    >>> int(nearest[0, 0]), float(similarity[0, 0].round(3))
    (0, 1.0)
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    rows = np.empty((len(images), encode.dim), np.float32)
    for start in range(0, len(images), batch):
        asked = images[start : start + batch]
        part = [image if isinstance(image, np.ndarray) else read_image(image) for image in asked]
        rows[start : start + len(part)] = _with_mirror(part, encode) if flip else encode(part)
        on_progress(start + len(part), len(images))
    return rows


def _with_mirror(part: Sequence[Picture], encode: Encoder) -> NDArray[np.float32]:
    if getattr(encode, "adds_mirror", False):
        added: NDArray[np.float32] = encode.mirrored(part)  # type: ignore[attr-defined]
        return added
    found = encode(part) + encode([np.ascontiguousarray(image[:, ::-1]) for image in part])
    # Two opposite unit vectors would cancel; a picture and its mirror never do.
    mean: NDArray[np.float32] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.float32(1e-6))
    return mean


def read_image(path: Path | str) -> Picture:
    """A picture file as (H, W, 3) uint8 BGR, turned as its EXIF data say. Raises ImageFileError."""
    from PIL import Image, ImageOps

    path = Path(path)
    try:
        with Image.open(path) as image:  # reads the header only
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ImageFileError(
                    f"{path}: {width}x{height} pixels are too many (up to {MOST_PIXELS // 10**6} million); "
                    "cut the person out first"
                )
            upright: Any = ImageOps.exif_transpose(image)
            rgb = np.asarray(upright.convert("RGB"))
    except FileNotFoundError as error:
        raise ImageFileError(f"{path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise ImageFileError(f"{path}: too many pixels (up to {MOST_PIXELS // 10**6} million)") from error
    except ImageFileError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, ImportError) as error:
        # ImportError: once Ultralytics was imported, what Pillow does not know is tried with a HEIF reader.
        unknown = isinstance(error, ImportError)
        reason = "of a kind that is not known" if unknown else (str(error).splitlines() or [repr(error)])[0]
        raise ImageFileError(f"{path}: not a readable picture: {reason}") from error
    return np.ascontiguousarray(rgb[..., ::-1])
