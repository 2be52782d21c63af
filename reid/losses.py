"""What training makes small: three losses over a batch of embeddings, all means, all >= 0.

info_nce            pick the right person out of the batch (van den Oord et al., arXiv:1807.03748)
batch_hard_triplet  the furthest image of the same person nearer than the nearest other (Hermans et al.,
                        arXiv:1703.07737)
identity_loss       name the person, with smoothed labels (Szegedy et al., CVPR 2016, section 7)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def info_nce(embeddings: Tensor, people: Tensor, scale: float = 16.0) -> Tensor:
    """Softmax loss over in-batch candidates: of each image a and each other image p of the same person

        -log( exp(scale a.p) / (exp(scale a.p) + sum over images n of other people of exp(scale a.n)) )

    averaged over all such pairs (a, p). A further image of the same person is no candidate: it would not be wrong.

    embeddings  (N, E) unit rows; people (N,) integers; scale > 0, larger looks at the hardest candidates only
    Returns a scalar; 0 when nobody else is in the batch. Raises ValueError when no person has two images.

    >>> import torch
    >>> alone = torch.eye(2)[[0, 0, 1, 1]]
    >>> round(float(info_nce(alone, torch.tensor([1, 1, 2, 2]), 1.0)), 4)  # log(1 + 2 / e)
    0.5514
    """
    import torch
    from torch.nn.functional import softplus

    _check(embeddings, people, scale > 0, f"scale must be positive, got {scale}")
    similar = scale * (embeddings @ embeddings.T).float()
    same = people[:, None] == people[None, :]
    pairs = same & ~torch.eye(len(people), dtype=torch.bool, device=people.device)
    if not bool(pairs.any()):
        raise ValueError("info_nce needs a person with two images in the batch")
    if bool(same.all()):
        return similar.sum() * 0.0
    others = similar.masked_fill(same, -torch.inf).logsumexp(dim=1)  # (N,) all the wrong candidates of each image
    return softplus(others[:, None] - similar)[pairs].mean()


def batch_hard_triplet(embeddings: Tensor, people: Tensor, margin: float = 0.3) -> Tensor:
    """max(0, margin + furthest distance to the same person - nearest distance to another one), averaged over the
    images that have both.

    embeddings  (N, E) unit rows (Euclidean distances lie in [0, 2]); people (N,) integers; margin >= 0
    Returns a scalar; 0 when no image has both.

    >>> import torch
    >>> float(batch_hard_triplet(torch.eye(2)[[0, 0, 1, 1]], torch.tensor([1, 1, 2, 2]), 1.5)) < 0.1  # sqrt(2) apart
    True
    """
    import torch

    _check(embeddings, people, margin >= 0, f"margin must be at least 0, got {margin}")
    # The root has no slope at 0: a floor keeps the gradient of equal embeddings finite.
    distance = (2 - 2 * (embeddings @ embeddings.T).float()).clamp(min=1e-6).sqrt()
    same = people[:, None] == people[None, :]
    pairs = same & ~torch.eye(len(people), dtype=torch.bool, device=people.device)
    furthest = distance.masked_fill(~pairs, -torch.inf).amax(dim=1)
    nearest = distance.masked_fill(same, torch.inf).amin(dim=1)
    counted = pairs.any(dim=1) & ~same.all(dim=1)
    if not bool(counted.any()):
        return distance.sum() * 0.0
    return (margin + furthest[counted] - nearest[counted]).clamp(min=0).mean()


def identity_loss(logits: Tensor, classes: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy of naming the person, averaged over images and parts; the right one is worth 1 - smoothing and
    `smoothing` is shared by all C.

    logits (N, K, C) one row per image and part (K = 1 without parts); classes (N,) in [0, C); smoothing in [0, 1)

    >>> import torch
    >>> round(float(identity_loss(torch.zeros(1, 1, 4), torch.tensor([2]))), 4)  # log 4, whatever the smoothing
    1.3863
    """
    from torch.nn.functional import cross_entropy

    if logits.ndim != 3 or classes.shape != logits.shape[:1] or not 0 <= smoothing < 1:
        raise ValueError(
            f"need (N, K, C) logits, (N,) classes, smoothing in [0, 1); got {tuple(logits.shape)}, "
            f"{tuple(classes.shape)}, {smoothing}"
        )
    repeated = classes[:, None].expand(logits.shape[:2])
    return cross_entropy(logits.float().flatten(0, 1), repeated.flatten(), label_smoothing=smoothing)


def _check(embeddings: Tensor, people: Tensor, fits: bool, otherwise: str) -> None:
    if embeddings.ndim != 2 or people.shape != embeddings.shape[:1] or not len(people):
        raise ValueError(
            f"need (N, E) embeddings and (N,) people, N >= 1; got {tuple(embeddings.shape)}, {tuple(people.shape)}"
        )
    if not fits:
        raise ValueError(otherwise)
