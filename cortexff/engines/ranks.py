"""Several processes that share one run: each takes its part of every minibatch, and all make the same update.

``torchrun --nproc-per-node=N -m cortexff.protocol ...`` starts them. Everywhere else there is one rank, number 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.distributed as distributed
from torch import Tensor


def count() -> int:
    """Number of ranks."""
    return distributed.get_world_size() if _are_many() else 1


def number() -> int:
    """Which of them this process is, from 0."""
    return distributed.get_rank() if _are_many() else 0


def add_up(arrays: Sequence[Tensor]) -> Callable[[], None]:
    """Begin to replace each array by its sum over all ranks; the returned call waits until that is done."""
    if not _are_many():
        return lambda: None
    under_way = [distributed.all_reduce(array, async_op=True) for array in arrays]

    def wait() -> None:
        for work in under_way:
            work.wait()

    return wait


def _are_many() -> bool:
    return distributed.is_available() and distributed.is_initialized()
