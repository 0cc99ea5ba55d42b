"""Arrays to work in, made once and used again: large ones cost more to get from the system than to fill."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
Take = Callable[[str, Sequence[int], torch.dtype], Tensor]


def keep_freed_memory() -> None:
    """Ask the C library not to give freed memory back to the system: what PyTorch makes inside an operation, and frees.

    Getting it anew, page by page, took a tenth of a step. Elsewhere than with GNU's library nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest that it takes
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


class Workspace:
    """Lends arrays by name and keeps the last of each name for the next one who asks."""

    def __init__(self, device: torch.device) -> None:
        keep_freed_memory()
        self.device = device
        self.kept: dict[str, Tensor] = {}

    @contextmanager
    def lend(self, purpose: str) -> Iterator[Take]:
        """Give a function ``take(name, shape, dtype)``; what it hands out is its caller's until the block ends.

        A new array is zero; one that is used again holds what it held. The same name gives the same array within a
        block, and never one that another block still has, so what runs side by side stays apart.
        """
        lent: dict[str, Tensor] = {}

        def take(name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
            name, shape = f"{purpose}/{name}", tuple(shape)
            array = lent[name] if name in lent else self.kept.pop(name, None)
            if array is None or array.shape != shape or array.dtype != dtype:
                array = torch.zeros(shape, dtype=dtype, device=self.device)
            lent[name] = array
            return array

        try:
            yield take
        finally:
            self.kept |= lent
