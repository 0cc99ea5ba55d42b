"""The backend in Brian2: presentations as compiled programs, or run from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cortexff.engines import brian_program
from cortexff.engines.brian_network import brian2, build, duration, pairs_of, period
from cortexff.engines.brian_program import Program
from cortexff.engines.state import Activity

if TYPE_CHECKING:
    from cortexff.engines.spiking import Course, SpikingEngine
    from cortexff.engines.state import RateState


class Brian:
    """The backend in Brian2.

    target  ``cpp``, a program compiled once; ``cython`` or ``numpy``, run from Python
    """

    def __init__(self, engine: SpikingEngine, target: str) -> None:
        self.engine, self.target = engine, target
        self.pairs = {name: pairs_of(engine, name) for name in engine.projections}
        self.program = lru_cache(lambda steps, units: Program.of(engine, steps, dict(units)))

    def show(self, state: RateState, images: Activity, context: Activity, steps: int, begun: Any = None) -> Course:
        from cortexff.engines.spiking import Course

        # One program serves all: it runs to the end, with a label that is silent where there is none.
        silent = {
            area: torch.zeros(1, 1, 1, data["units"])
            for area, data in self.engine.net.nodes(data=True)
            if data["role"] == "context"
        }
        clamped = {**images, **silent, **context}
        subjects = len(next(iter(state.biases.values())))
        cases, versions = (max(given.shape[axis] for given in clamped.values()) for axis in (1, 2))
        cases = cases if all(image.numel() for image in images.values()) else 0  # of a rank without any
        traces, counts = [], []
        for subject in range(subjects):
            rows = {
                area: given[min(subject, len(given) - 1)]
                .expand(cases, versions, -1)
                .flatten(0, 1)
                .double()
                .cpu()
                .numpy()
                for area, given in clamped.items()
            }
            seen = self._present(rows, *self._given(state, subject), max(steps, self.engine.dynamics.steps))
            traces.append([half.view(cases, versions, *half.shape[1:]) for half in seen[0]])
            counts.append([half.view(cases, versions, half.shape[-1]) for half in seen[1]])
        first = self.engine.clock.bottom_up // self.engine.clock.half
        ends = [first, *(first + 1 + 2 * step for step in range(1, steps + 1))]  # of moments
        # Every array that follows is (subjects, cases, versions, half iterations, ...).
        by_area = dict(zip(self.engine.areas, map(torch.stack, zip(*traces, strict=True)), strict=True))
        spikes = dict(zip(self.engine.areas, map(torch.stack, zip(*counts, strict=True)), strict=True))
        for subject in range(subjects):
            if not _finite(state, subject):  # spikes know no NaN: a network that has diverged is told by its weights
                for half in by_area.values():
                    half[subject] = torch.nan
        halves = [
            {area: half[..., number, :] for area, half in by_area.items()} for number in range(first - 3, ends[-1])
        ]
        return Course(halves, {area: [count[..., end - 1] for end in ends] for area, count in spikes.items()})

    def _given(self, state: RateState, subject: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Biases of a subject, and the weights of every synapse, as a spike brings them to a trace."""
        weights = {}
        for name, projection in self.engine.projections.items():
            matrix = projection.matrix(state.weights[name][subject : subject + 1])[0].double().cpu().numpy()
            pairs = self.pairs[name]
            weights[name] = self.engine.neurons.jump * (matrix.T.ravel() if pairs is None else matrix[pairs])
        return {area: bias[subject].double().cpu().numpy() for area, bias in state.biases.items()}, weights

    def _present(
        self,
        rows: Mapping[str, np.ndarray],
        biases: Mapping[str, np.ndarray],
        weights: Mapping[str, np.ndarray],
        steps: int,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """By area, mean traces (presentations, half iterations, units) and spikes (presentations, half iterations)."""
        count = len(next(iter(rows.values())))
        if not count:
            halves = period(self.engine.clock_of(steps)) // self.engine.clock.half
            traces = [torch.zeros(0, halves, self.engine.units[area]) for area in self.engine.areas]
            return traces, [torch.zeros(0, halves) for _ in traces]
        if self.target != "cpp":
            return _outcome(self.engine, steps, *self._run_here(rows, biases, weights, steps), count)
        units, at_once = {area: shown.shape[1] for area, shown in rows.items()}, brian_program.PRESENTATIONS
        program = self.program(steps, tuple(units.items()))

        def part(begin: int) -> tuple[list[Tensor], list[Tensor]]:
            some = {area: shown[begin : begin + at_once] for area, shown in rows.items()}
            here = min(at_once, count - begin)
            full = {area: np.pad(shown, ((0, at_once - here), (0, 0))) for area, shown in some.items()}
            return _outcome(self.engine, steps, *program.run(full, biases, weights), here)

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # a thread waits for a program of its own
            parts = list(pool.map(part, range(0, count, at_once)))
        traces, counts = (
            [torch.cat(of_area) for of_area in zip(*what, strict=True)] for what in zip(*parts, strict=True)
        )
        return traces, counts

    def _run_here(
        self,
        rows: Mapping[str, np.ndarray],
        biases: Mapping[str, np.ndarray],
        weights: Mapping[str, np.ndarray],
        steps: int,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """As :meth:`Program.run`, from Python."""
        with _quiet(self.target):
            handles = build(self.engine, steps, rows)
            for name, synapses in handles.projections.items():
                synapses.w = weights[name]
            for area, group in handles.biases.items():
                group.b = biases[area]
            handles.network.run(duration(self.engine, steps, len(next(iter(rows.values())))), namespace={})
            return (
                [np.asarray(monitor.gathered).T.ravel() for monitor in handles.traces.values()],
                [np.asarray(monitor.spikes)[0] for monitor in handles.counts.values()],
            )


def _finite(state: RateState, subject: int) -> bool:
    return all(array[subject].isfinite().all() for array in (*state.weights.values(), *state.biases.values()))


def _outcome(
    engine: SpikingEngine, steps: int, traces: list[np.ndarray], counts: list[np.ndarray], count: int
) -> tuple[list[Tensor], list[Tensor]]:
    """What monitors saw of the first ``count`` presentations; the first thing they saw is from before them."""
    clock = engine.clock_of(steps)
    halves = period(clock) // clock.half
    sized = zip((engine.units[area] for area in engine.areas), traces, strict=True)
    return (
        [
            torch.from_numpy(np.diff(seen[units:].reshape(-1, halves, units)[:count], axis=1, prepend=0.0)).float()
            for units, seen in sized
        ],
        [torch.from_numpy(seen[1:].reshape(-1, halves)[:count]).float() for seen in counts],
    )


@contextmanager
def _quiet(target: str) -> Iterator[None]:
    """Brian2 with a target, from Python, and without its remarks."""
    before = brian2.prefs.codegen.target
    brian2.prefs.codegen.target = target
    brian2.BrianLogger.log_level_error()
    try:
        yield
    finally:
        brian2.prefs.codegen.target = before
