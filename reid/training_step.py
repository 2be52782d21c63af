"""One step of training: images in, gradients out, on one process or several, at once or in micro-batches.

A contrastive loss compares all images of a batch, so a batch cannot simply be split. Here the loss always sees the
embeddings of the whole batch, over all processes: they are computed first, without a graph; the loss gives the
gradient at each; then every micro-batch passes again and is given its share (Gao et al., "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup", 2021). Gradients are equal to those of one large batch on one machine,
apart from batch norm, which sees what passes at once.

This module needs torch; import it where a network is really trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reid.losses import batch_hard_triplet, identity_loss, info_nce
from reid.recipe import Losses

Context = Callable[[], contextlib.AbstractContextManager[Any]]


class Trainee(nn.Module):
    """A network with what only training needs: a softmax head per part, when the identity loss is used.

    network  has `features` (N, K, F) and `embed`, as DualBackboneNet (K = 1) and PCB do
    classes  people trained on; 0: no heads
    """

    def __init__(self, network: Any, classes: int = 0) -> None:
        super().__init__()
        self.network = network
        seen = network.architecture
        parts, width = getattr(seen, "parts", 1), getattr(seen, "part_dim", seen.embedding_dim)
        self.heads = nn.ModuleList(nn.Linear(width, classes) for _ in range(parts if classes else 0))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) uint8 RGB -> embeddings (N, E), logits (N, K, C); C = 0 without heads."""
        features = self.network.features(images.float().div(255))
        logits = [head(features[:, part]) for part, head in enumerate(self.heads)]
        empty = features.new_zeros(len(features), features.shape[1], 0)
        return self.network.embed(features), torch.stack(logits, dim=1) if logits else empty


def loss_of(
    embeddings: Tensor, logits: Tensor, people: Tensor, classes: Tensor, losses: Losses
) -> tuple[Tensor, dict[str, float]]:
    """Weighted sum of the losses of a batch, and each one's own value. With several processes `embeddings` are this
    one's and are compared with those of all.

    Each process's sum is such that the mean of their gradients is the gradient of the one whole batch.
    """
    processes = dist.get_world_size() if dist.is_initialized() else 1
    everybody, names = _gathered(embeddings, people) if processes > 1 else (embeddings, people)
    parts: dict[str, Tensor] = {}
    if losses.info_nce:
        parts["info_nce"] = info_nce(everybody, names, losses.scale)
    if losses.triplet:
        parts["triplet"] = batch_hard_triplet(everybody, names, losses.margin)
    # Only this process's own embeddings carry a gradient here, one share of it: times the number of shares.
    total = processes * sum(
        (getattr(losses, name) * value for name, value in parts.items()), start=embeddings.new_zeros(())
    )
    if losses.identity:
        parts["identity"] = identity_loss(logits, classes, losses.smoothing)
        total = total + losses.identity * parts["identity"]
    values = {name: float(value.detach()) for name, value in parts.items()}
    values["loss"] = sum(getattr(losses, name) * value for name, value in values.items())
    return total, values


def backward(
    model: nn.Module,
    images: Tensor,
    people: Tensor,
    classes: Tensor,
    losses: Losses,
    *,
    micro_batch: int | None = None,
    autocast: Context = contextlib.nullcontext,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> dict[str, float]:
    """Add the gradients of a batch to the parameters; returns the value of each loss and of their sum.

    model        a Trainee, or one inside DistributedDataParallel
    images       (N, 3, H, W) uint8; people, classes (N,) int64
    micro_batch  images at once; None: all
    scale        what mixed precision multiplies a loss with before it goes backward
    """
    # At least two images each: batch norm has nothing to norm in one.
    pieces = min(-(-len(images) // micro_batch), len(images) // 2) if micro_batch else 1
    if pieces <= 1:
        with autocast():
            embeddings, logits = model(images)
        total, values = loss_of(embeddings.float(), logits, people, classes, losses)
        _go_back(scale(total))
        return values
    inner = model.module if hasattr(model, "module") else model
    chunks = images.tensor_split(pieces)
    with torch.no_grad(), autocast():
        first = [inner(chunk) for chunk in chunks]  # type: ignore[operator]
    embeddings = torch.cat([out[0] for out in first]).float().requires_grad_()
    logits = torch.cat([out[1] for out in first]).float().requires_grad_()
    total, values = loss_of(embeddings, logits, people, classes, losses)
    _go_back(total)
    slopes = zip(_slope(embeddings).tensor_split(pieces), _slope(logits).tensor_split(pieces), strict=True)
    for n, (chunk, (at_embedding, at_logits)) in enumerate(zip(chunks, slopes, strict=True)):
        last = n == pieces - 1
        # Processes exchange gradients once, with the last micro-batch.
        quiet = contextlib.nullcontext() if last or inner is model else model.no_sync()  # type: ignore[operator]
        with quiet:
            with autocast():
                again, named = model(chunk)
            share = (again.float() * at_embedding).sum() + (named.float() * at_logits).sum()
            _go_back(scale(share))
    return values


def _go_back(loss: Any) -> None:
    loss.backward()


def _slope(leaf: Tensor) -> Tensor:
    """The gradient at what a loss may not have looked at."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _gathered(embeddings: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings and people of all processes, in their order; only this process's own carry a gradient."""
    shape = (dist.get_world_size(), *embeddings.shape)
    rows, names = embeddings.new_empty(shape), people.new_empty(shape[:2])
    dist.all_gather(list(rows), embeddings.detach().contiguous())
    dist.all_gather(list(names), people.contiguous())
    parts = [embeddings if n == dist.get_rank() else part for n, part in enumerate(rows)]
    return torch.cat(parts), names.flatten()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device (or the machine) has no memory left.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), out_of_memory(RuntimeError("shape"))
    (True, False)
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
