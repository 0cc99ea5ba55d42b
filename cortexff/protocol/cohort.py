"""A cohort: subjects at one moment of their lives, to be forked, split, put together and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from cortexff import readout
from cortexff.engines.state import RateState


@dataclass
class Cohort:
    """Some subjects at one moment of their lives.

    subjects  their numbers
    age       (subjects,) updates lived through; decides which data each meets next
    met       (subjects, 2) updates with positive data, and with negative data
    path      (subjects, areas) length of the way that the weights of an area have gone
    kept      name → (subjects, ...), what ``averaging`` and ``baseline`` keep of earlier updates
    """

    subjects: list[int]
    state: RateState
    softmax: readout.SoftmaxState
    age: np.ndarray
    met: np.ndarray
    path: np.ndarray
    kept: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def newborn(cls, subjects: list[int], state: RateState, softmax: readout.SoftmaxState) -> Cohort:
        count = len(subjects)
        met, path = np.zeros((count, 2), dtype=np.int64), np.zeros((count, len(state.biases)))
        return cls(subjects, state, softmax, np.zeros(count, dtype=np.int64), met, path)

    def select(self, members: Sequence[int]) -> Cohort:
        """A copy of some members, by their place."""
        members = list(members)
        softmax = readout.SoftmaxState(**{name: array[members] for name, array in self.softmax.arrays().items()})
        subjects, state = [self.subjects[m] for m in members], self.state.select(members)
        kept = {name: array[members] for name, array in self.kept.items()}
        return Cohort(subjects, state, softmax, self.age[members], self.met[members], self.path[members], kept)

    def of(self, subjects: list[int]) -> Cohort:
        """These subjects: the cohort itself where they are all of it, else a copy of some members, by their number."""
        if subjects == self.subjects:
            return self
        return self.select([self.subjects.index(subject) for subject in subjects])

    def replace(self, members: Sequence[int], part: Cohort) -> None:
        """Put members back in their places."""
        members = list(members)
        self.state.replace(members, part.state)
        for name, array in self.softmax.arrays().items():
            array[members] = part.softmax.arrays()[name]
        for name, array in part.kept.items():
            empty = array.new_zeros(len(self.subjects), *array.shape[1:])
            self.kept.setdefault(name, empty)[members] = array
        self.age[members], self.met[members], self.path[members] = part.age, part.met, part.path

    def arrays(self) -> dict[str, np.ndarray]:
        tensors = {
            **{f"state/{name}": array for name, array in self.state.arrays().items()},
            **{f"softmax/{name}": array for name, array in self.softmax.arrays().items()},
            **{f"kept/{name}": array for name, array in self.kept.items()},
        }
        lived = {"age": self.age, "met": self.met, "path": self.path}
        return {**lived, **{name: tensor.cpu().numpy() for name, tensor in tensors.items()}}

    @classmethod
    def from_arrays(cls, subjects: list[int], arrays: dict[str, np.ndarray], device: torch.device) -> Cohort:
        def part(prefix: str) -> dict[str, torch.Tensor]:
            found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            return {name: torch.from_numpy(array).to(device) for name, array in found.items()}

        state, softmax = RateState.from_arrays(part("state/")), readout.SoftmaxState(**part("softmax/"))
        return cls(subjects, state, softmax, arrays["age"], arrays["met"], arrays["path"], part("kept/"))
