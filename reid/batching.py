"""Batches as large as the device's memory allows: when it runs out, the batch is halved and the work goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.encoders import EncoderError

log = logging.getLogger(__name__)

Array = NDArray[Any]

_SIGNS = ("out of memory", "failed to allocate memory", "cuda_error_out_of_memory", "bfc_arena", "bfcarena")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, ONNX Runtime or CUDA says that memory ran out. Their classes differ; what they say
    does not.

    >>> out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    True
    >>> out_of_memory(RuntimeError("shapes differ"))
    False
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS)


class Batches:
    """Calls `run` on a batch, in parts no larger than what has fitted so far.

    run     (n, ...) -> (n, D)
    most    crops per call, None: all at once
    free    called after memory ran out, before the next try
    name    of the encoder, for messages

    The size that fitted is kept, so memory runs out once and not in every call.

    >>> Batches("net", lambda part: part.sum(axis=1, keepdims=True), most=2)(np.ones((5, 3)))[:, 0].tolist()
    [3.0, 3.0, 3.0, 3.0, 3.0]
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Array], Array],
        most: int | None = None,
        free: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.most = name, most
        self._run, self._free = run, free

    def __call__(self, batch: Array) -> Array:
        """All rows of `batch`, in order. EncoderError when not even one crop fits."""
        parts, start = [], 0
        while start < len(batch):
            part = batch[start : start + self.most] if self.most else batch[start:]
            rows = self._try(part)
            if rows is None:
                continue  # smaller now
            parts.append(rows)
            start += len(part)
        return np.concatenate(parts)

    def _try(self, part: Array) -> Array | None:
        try:
            return self._run(part)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(part) == 1:
                message = f"{self.name}: the device is out of memory with a single crop; use --device cpu"
                raise EncoderError(message) from error
        # Outside of the handler: the error's frames hold the very tensors that are to be freed.
        self.most = len(part) // 2
        self._free()
        log.warning("%s: out of memory at a batch of %d; going on with %d", self.name, len(part), self.most)
        return None
