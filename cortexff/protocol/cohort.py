"""A cohort: subjects at one moment of their lives, to be forked, split, put together and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cortexff import readout
from cortexff.engines.state import RateState


@dataclass
class Cohort:
    """Some subjects at one moment of their lives.

    subjects  their numbers
    age       (subjects,) updates lived through; decides which data each meets next
    """

    subjects: list[int]
    state: RateState
    softmax: readout.SoftmaxState
    age: np.ndarray

    def select(self, members: Sequence[int]) -> Cohort:
        """A copy of some members, by their place."""
        members = list(members)
        softmax = readout.SoftmaxState(**{name: array[members] for name, array in self.softmax.arrays().items()})
        return Cohort([self.subjects[m] for m in members], self.state.select(members), softmax, self.age[members])

    def replace(self, members: Sequence[int], part: Cohort) -> None:
        """Put members back in their places."""
        members = list(members)
        self.state.replace(members, part.state)
        for name, array in self.softmax.arrays().items():
            array[members] = part.softmax.arrays()[name]
        self.age[members] = part.age

    def arrays(self) -> dict[str, np.ndarray]:
        tensors = {
            **{f"state/{name}": array for name, array in self.state.arrays().items()},
            **{f"softmax/{name}": array for name, array in self.softmax.arrays().items()},
        }
        return {"age": self.age, **{name: tensor.cpu().numpy() for name, tensor in tensors.items()}}

    @classmethod
    def from_arrays(cls, subjects: list[int], arrays: dict[str, np.ndarray], device: torch.device) -> Cohort:
        def part(prefix: str) -> dict[str, torch.Tensor]:
            found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            return {name: torch.from_numpy(array).to(device) for name, array in found.items()}

        state, softmax = RateState.from_arrays(part("state/")), readout.SoftmaxState(**part("softmax/"))
        return cls(subjects, state, softmax, arrays["age"])
