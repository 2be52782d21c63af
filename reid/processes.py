"""The processes that train together: started by torchrun, each with one device and a share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Meet the other processes that torchrun started and part from them at the end; yields this one's device.

    Without torchrun nothing is met. With GPUs every process takes the one of its local rank.
    """
    shares = int(os.environ.get("WORLD_SIZE", "1"))
    if shares == 1:
        yield device
        return
    import torch
    import torch.distributed as dist

    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def count() -> int:
    """How many train together."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def any_of(flag: bool, device: str = "cpu") -> bool:
    """Whether any of the processes says so: they must stop at the same step, or one would wait for ever."""
    if count() == 1:
        return flag
    import torch
    import torch.distributed as dist

    said = torch.tensor(float(flag), device=device)
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    return bool(said.item())


def rank() -> int:
    """Which of them this one is; the first, 0, tests, writes and reports."""
    import torch.distributed as dist

    return dist.get_rank() if count() > 1 else 0
