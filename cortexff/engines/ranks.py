"""Several processes that share one run: each takes its part of every minibatch, and all make the same update.

``torchrun --nproc-per-node=N -m cortexff.protocol ...`` starts them. Everywhere else there is one rank, number 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
import torch.distributed as distributed
from torch import Tensor


def join(device: str = "cpu") -> None:
    """Meet the other ranks where ``torchrun`` started several; elsewhere do nothing."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not _are_many():
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")


def is_another() -> bool:
    """Whether ``torchrun`` started this process beside a first one; known before they meet."""
    return int(os.environ.get("RANK", 0)) > 0


def leave() -> None:
    """Part from the other ranks, once all have come this far."""
    if _are_many():
        distributed.barrier()
        distributed.destroy_process_group()


def count() -> int:
    """Number of ranks."""
    return distributed.get_world_size() if _are_many() else 1


def number() -> int:
    """Which of them this process is, from 0."""
    return distributed.get_rank() if _are_many() else 0


def share(cases: int) -> slice:
    """The part of so many cases that is this rank's: contiguous, and as even as can be."""
    return slice(number() * cases // count(), (number() + 1) * cases // count())


def add_up(arrays: Sequence[Tensor]) -> Callable[[], None]:
    """Begin to replace each array by its sum over all ranks; the returned call waits until that is done."""
    if not _are_many():
        return lambda: None
    under_way = [distributed.all_reduce(array, async_op=True) for array in arrays]

    def wait() -> None:
        for work in under_way:
            work.wait()

    return wait


def any_of(here: bool, device: torch.device | str = "cpu") -> bool:
    """Whether it is so on any rank; all ranks must ask."""
    if not _are_many():
        return here
    asked = torch.tensor(float(here), device=device)
    distributed.all_reduce(asked)
    return asked.item() > 0


def _are_many() -> bool:
    return distributed.is_available() and distributed.is_initialized()
