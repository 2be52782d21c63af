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
            images = torch.stack(
                [
                    as_tensor(read_pixels(p.path), (seen.height_px, seen.width_px))
                    for p in pictures[start : start + batch]
                ]
            )
            found = (forward or network)(images.to(device).float().div_(255))
            rows[start : start + batch] = found.float().cpu().numpy()
    return rows


def score(network: Any, data: ReidData, *, batch: int = 64, forward: Embed | None = None) -> RankingScores | None:
    """Rank-k and mAP of query against gallery; None when there is no query or no gallery."""
    if not data.query or not data.gallery:
        return None
    query = embed_pictures(network, data.query, batch=batch, forward=forward)
    gallery = embed_pictures(network, data.gallery, batch=batch, forward=forward)
    return evaluate_ranking(query @ gallery.T, *labels(data.query), *labels(data.gallery))
