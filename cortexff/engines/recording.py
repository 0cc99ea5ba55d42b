"""Work on a GPU that is recorded once and played again: hundreds of small operations start at one call.

On a GPU a step takes less time than Python needs to ask for its operations. A recording holds every operation with the
addresses of its arrays, so the arrays that it reads and writes must be the same ones every time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from cortexff.engines.workspace import Workspace

Result = TypeVar("Result")
Arrays = Mapping[str, Mapping[str, Tensor]]
Tape = Callable[[Callable[[], Result]], tuple[Result, Callable[[], None]]]

KEPT = 4  # recordings: of wake and of sleep, with the cohort as it is and as it was


def cuda_graph(work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
    """Record work as a CUDA graph: returns what it returns, and a call that does it again, into the same arrays."""
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as the one that watches over ranks, may go on asking the GPU.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return result, graph.replay


class Recordings(Generic[Result]):
    """Plays work again that was asked for before; what is new is done once, then recorded."""

    def __init__(self, tape: Tape, device: torch.device) -> None:
        self.tape, self.device = tape, device
        self.kept: dict[Hashable, tuple[Workspace, Arrays, list[Result], Callable[[], None]]] = {}

    def play(
        self, key: Hashable, arrays: Arrays, work: Callable[[Workspace, Arrays], Iterable[Result]]
    ) -> list[Result]:
        """Results of ``work``, good until it is played again; until then they may be changed.

        What is new runs three times: at once, to be recorded, and from the recording.

        key     everything the work depends on beside ``arrays``, such as the addresses of what else it reads
        arrays  copied to where the recording reads them
        work    may not look at what is in an array, only do operations with it
        """
        shapes = [(part, name, array.shape, array.dtype) for part, of in arrays.items() for name, array in of.items()]
        key = (key, *shapes)
        if key in self.kept:
            self.kept[key] = self.kept.pop(key)  # the one that has not been played for longest comes first
        else:
            if len(self.kept) == KEPT:
                del self.kept[next(iter(self.kept))]
            inputs = {part: {name: array.clone() for name, array in of.items()} for part, of in arrays.items()}
            # Its own: arrays that others may borrow, or replace, would be written to by every replay.
            workspace = Workspace(self.device)
            list(work(workspace, inputs))  # makes the arrays, and what libraries make at their first call
            self.kept[key] = (workspace, inputs, *self.tape(lambda: list(work(workspace, inputs))))
        _, inputs, results, replay = self.kept[key]
        for part, name, *_ in shapes:
            inputs[part][name].copy_(arrays[part][name])
        replay()
        return results
