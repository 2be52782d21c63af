"""Embeddings of image files, and how well a network finds the people of a query folder in a gallery folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid.augment import as_tensor
from reid.datasets import Picture, ReidData, labels, read_pixels
from reid.ranking import RankingScores, evaluate_ranking

if TYPE_CHECKING:
    from torch import Tensor

Embed = Callable[["Tensor"], "Tensor"]


def embed_pictures(
    network: Any, pictures: Sequence[Picture], *, batch: int = 64, forward: Embed | None = None
) -> NDArray[np.float32]:
    """(N, E) float32 unit rows, in the order of the pictures; the network is put into inference mode.

    forward  (n, 3, H, W) float RGB in [0, 1] -> (n, E), when another pass than the network's own is wanted
    """
    import torch

    seen = network.architecture
    device = next(network.parameters()).device
    network.eval()
    rows = np.zeros((len(pictures), seen.embedding_dim), np.float32)
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            images = _images(pictures[start : start + batch], (seen.height_px, seen.width_px))
            found = (forward or network)(images.to(device))
            rows[start : start + batch] = found.float().cpu().numpy()
    return rows


def branch_shares(network: Any, pictures: Sequence[Picture], *, batch: int = 64) -> NDArray[np.float32]:
    """(N, 2) how much a DualBackboneNet's local and global branch had to say about each picture; rows sum to 1."""
    import torch

    seen = network.architecture
    device = next(network.parameters()).device
    network.eval()
    rows = np.zeros((len(pictures), 2), np.float32)
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            images = _images(pictures[start : start + batch], (seen.height_px, seen.width_px))
            rows[start : start + batch] = network.inspect(images.to(device)).weights.float().cpu().numpy()
    return rows


def _images(pictures: Sequence[Picture], size_px: tuple[int, int]) -> Tensor:
    """(n, 3, H, W) float RGB in [0, 1]."""
    import torch

    return torch.stack([as_tensor(read_pixels(picture.path), size_px) for picture in pictures]).float().div_(255)


def score(network: Any, data: ReidData, *, batch: int = 64, forward: Embed | None = None) -> RankingScores | None:
    """Rank-k and mAP of query against gallery; None when there is no query or no gallery."""
    if not data.query or not data.gallery:
        return None
    query = embed_pictures(network, data.query, batch=batch, forward=forward)
    gallery = embed_pictures(network, data.gallery, batch=batch, forward=forward)
    return evaluate_ranking(query @ gallery.T, *labels(data.query), *labels(data.gallery))
