"""A net that reads strings, predicts the next character, and learns from what it reads and from what it imagines.

What a context, a window and its negative are is said in :mod:`~cortexff.experiments.next_character`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cortexff import readout
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Part, Percept, RateState
from cortexff.graph import only_area
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.lesson import told_to_engine
from cortexff.protocol.settings import PHASES
from cortexff.random_streams import generator
from cortexff.stimuli.text import ALPHABET, CONTEXT

if TYPE_CHECKING:
    from cortexff.experiments.next_character import Protocol, Regime

SYMBOLS = len(ALPHABET)


def windows(strings: Tensor) -> Tensor:
    """Every stretch of ten symbols: (..., strings, symbols) → (..., strings, symbols - 9, 10)."""
    return strings.unfold(-1, CONTEXT, 1)


def shown(windows: Tensor) -> Tensor:
    """Each symbol as one of 30 units: (subjects, strings, positions, 10) → (subjects, cases, 1, 300)."""
    units = torch.eye(SYMBOLS, device=windows.device)[windows.long()]
    return units.flatten(-2).flatten(1, 2).unsqueeze(2)


def sample(believed: Tensor, uniform: Tensor) -> Tensor:
    """A symbol drawn from each distribution, by one number between 0 and 1: (..., symbols) and (...) → (...)."""
    return (believed.cumsum(-1) <= uniform.unsqueeze(-1)).sum(-1).clamp(max=believed.shape[-1] - 1)


def with_last(windows: Tensor, symbols: Tensor) -> Tensor:
    """The windows with other last symbols: (1, strings, positions, 10) and (subjects, strings, positions)."""
    kept = windows[..., :-1].expand(len(symbols), -1, -1, -1)
    return torch.cat([kept, symbols.unsqueeze(-1).to(windows.dtype)], dim=-1)


def uniforms(seed: int, cohort: Cohort, purpose: str, shape: Sequence[int], ages: Sequence[int]) -> Tensor:
    """Numbers between 0 and 1 that are each subject's own at its age, (subjects, *shape)."""
    streams = [generator(seed, subject, purpose, age) for subject, age in zip(cohort.subjects, ages, strict=True)]
    return torch.from_numpy(np.stack([stream.random(tuple(shape), dtype=np.float32) for stream in streams]))


class Reader:
    """A cohort that reads strings with an engine; it sees some strings at once, and its weights change in place."""

    def __init__(self, engine: RateEngine, cohort: Cohort, strings_at_once: int) -> None:
        self.engine, self.cohort, self.strings_at_once = engine, cohort, strings_at_once
        self.input = only_area(engine.net, "input")

    def parts(self, strings: Tensor) -> Iterator[slice]:
        for first in range(0, len(strings), self.strings_at_once):
            yield slice(first, min(first + self.strings_at_once, len(strings)))

    def look(self, windows: Tensor) -> Percept:
        return self.engine.look(self.cohort.state, {self.input: shown(windows)})

    def heard(self, percept: Percept) -> Tensor:
        """What the softmax hears, of all hidden areas (figure 4): (subjects, cases, units)."""
        return readout.softmax_heard(self.engine, percept, self.engine.areas)

    def read(self, strings: Tensor) -> tuple[Percept, Tensor]:
        """Strings (strings, symbols): the percept of every stretch of ten, and what the softmax hears of contexts."""
        percept = self.look(windows(strings[None]))
        heard = self.heard(percept).unflatten(1, (len(strings), -1))
        return percept, heard[:, :, :-1].flatten(1, 2)

    def roll_out(self, openings: Tensor, uniform: Tensor) -> Tensor:
        """Strings that go on from their first ten symbols by themselves, each symbol drawn from the softmax.

        openings  (strings, 10)
        uniform   (subjects, strings, symbols to draw), between 0 and 1
        returns   (subjects, strings, 10 + symbols drawn)
        """
        subjects, count, drawn = uniform.shape
        strings = torch.cat([openings.expand(subjects, -1, -1), openings.new_zeros(subjects, count, drawn)], dim=-1)
        for place in range(drawn):
            percept = self.look(strings[:, :, None, place : place + CONTEXT])
            believed = readout.belief(self.cohort.softmax, self.heard(percept))
            strings[:, :, place + CONTEXT] = sample(believed, uniform[:, :, place]).to(strings.dtype)
        return strings

    def learn(self, strings: Tensor, regime: Regime, protocol: Protocol, factor: float = 1.0) -> None:
        """One update from all strings (strings, symbols); ``factor`` is on the learning rates."""
        shape = (len(strings), strings.shape[1] - CONTEXT)
        uniform = uniforms(protocol.seed, self.cohort, "predictions", shape, self.cohort.age.tolist())
        for phase in regime.phases:
            self._phase(strings, phase, regime, protocol, factor, uniform.to(strings.device))
        self.cohort.age += 1

    def _phase(
        self, strings: Tensor, phase: str, regime: Regime, protocol: Protocol, factor: float, uniform: Tensor
    ) -> None:
        is_positive, softmax = PHASES[phase], self.cohort.softmax
        awake, imagining = phase != "sleep", False in is_positive
        dreams = None
        if imagining and regime.negatives == "rolled_out":
            dreams = self.roll_out(strings[:, :CONTEXT], uniform)
        gradient = torch.zeros_like(softmax.weights)

        def parts() -> Iterator[Part]:
            for some in self.parts(strings):
                seen, following = windows(strings[some][None])[:, :, 1:], strings[some, CONTEXT:]
                if awake or dreams is None:
                    percept, heard = self.read(strings[some])
                    believed = readout.belief(softmax, heard)
                if awake:
                    labels = following.flatten().long().expand(len(heard), -1)
                    gradient.add_(readout.delta_rule(heard, believed, labels))
                if True in is_positive:
                    yield Part(of_windows(percept, len(seen[0])), {self.input: shown(seen)}, (True,))
                if imagining:
                    if dreams is None:
                        unreal = with_last(seen, sample(believed.unflatten(1, following.shape), uniform[:, some]))
                    else:
                        unreal = windows(dreams[:, some])[:, :, 1:]
                    yield Part(self.look(unreal), {self.input: shown(unreal)}, (False,))

        plasticity = told_to_engine(protocol.plasticity, factor)
        # The weight cost is that of an update, however many phases it has.
        plasticity = replace(plasticity, weight_cost=plasticity.weight_cost / len(regime.phases))
        state = self.cohort.state if awake else _asleep(self.cohort.state)
        self.engine.learn_in_parts(state, parts(), is_positive, plasticity, uniform[0].numel())
        if awake:
            of_softmax = protocol.readout.softmax
            readout.change_softmax(
                softmax,
                gradient / uniform[0].numel(),
                of_softmax.learning_rate * factor,
                of_softmax.gradient_average,
                of_softmax.weight_cost,
            )


def _asleep(state: RateState) -> RateState:
    """The same weights with the running averages of the sleep's gradients, which lie beside those of the wake."""
    averages = []
    for of_wake in (state.weight_averages, state.bias_averages):
        names = [name for name in of_wake if not name.startswith("sleep/")]
        for name in names:
            of_wake.setdefault(f"sleep/{name}", torch.zeros_like(of_wake[name]))
        averages.append({name: of_wake[f"sleep/{name}"] for name in names})
    return RateState(state.weights, averages[0], state.biases, averages[1], state.mean_activity)


def of_windows(percept: Percept, strings: int) -> Percept:
    """Of a percept of every stretch of ten, what is a window: all but the first of each string."""

    def some(array: Tensor) -> Tensor:
        return array.unflatten(1, (strings, -1))[:, :, 1:].flatten(1, 2)

    arrays = (percept.input_drive, percept.brought, percept.activity)
    return Percept(*({name: some(array) for name, array in part.items()} for part in arrays))
