"""Spikes in PyTorch: many presentations at once, without a compiler; what the Brian2 programs are checked against.

What an area sends arrives half an iteration later. So all that arrives within half an iteration has been sent before it
begins, and each projection needs one product for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cortexff.engines.neurons import FLOOR, Clockwork, Neurons, first_phases
from cortexff.engines.workspace import Take
from cortexff.graph import afferents

if TYPE_CHECKING:
    from cortexff.engines.spiking import SpikingEngine
    from cortexff.engines.state import RateState


class Membranes:
    """Units of one area, in any number of presentations at once: (subjects, cases, versions, units)."""

    def __init__(self, neurons: Neurons, clock: Clockwork, shape: tuple[int, ...], device: torch.device) -> None:
        self.neurons = neurons
        # A leaky unit creeps up to its threshold: in float32 it would stay there at rates below some Hz.
        kind = torch.float64 if neurons.neuron == "leaky" else torch.float32
        self.voltage = torch.tensor(first_phases(shape[-1]), dtype=kind, device=device).expand(shape).clone()
        self.traces = torch.zeros(clock.half, *shape, device=device)  # of the last half iteration, each time step
        self.before = torch.zeros(shape, device=device)  # the trace before those
        self.spikes = torch.zeros(shape[:-1], device=device)  # of all units, since the image came
        self.rest = torch.zeros(shape, device=device) if neurons.neuron == "leaky" else None  # time steps left of it

    def integrate(self, step: int, drive: Tensor) -> None:
        """Go on by one time step, the given one of this half iteration; ``drive`` is not below zero."""
        trace = self.before if step == 0 else self.traces[step - 1]
        spike = self._fire(drive)
        torch.mul(trace, self.neurons.keep, out=self.traces[step]).add_(spike, alpha=self.neurons.jump)
        self.spikes += spike.sum(-1)
        if step + 1 == len(self.traces):
            self.before.copy_(self.traces[step])

    def _fire(self, drive: Tensor) -> Tensor:
        """Bring membranes on; 1 for every unit that spikes."""
        if self.rest is None:
            self.voltage.add_(drive, alpha=self.neurons.per_step)
            spike = (self.voltage > 1.0).float()
            self.voltage -= spike
            return spike
        current = leaky_current(self.neurons, drive.double())
        toward = (current - self.voltage).mul_(1.0 - self.neurons.leak)
        self.voltage.add_(toward.mul_(self.rest <= 0))
        self.rest -= 1.0
        spike = self.voltage > 1.0
        # Past the threshold by some of a time step, a unit is past the reset by as long.
        begun = (self.voltage - 1.0).mul_(current).div_(current - 1.0)
        self.voltage = torch.where(spike, begun, self.voltage)
        self.rest.masked_fill_(spike, self.neurons.rest)
        return spike.float()

    def expanded(self, versions: int) -> Membranes:
        """A copy with each of the versions that from now on differ."""
        copy = object.__new__(Membranes)
        copy.neurons = self.neurons
        for name in ("voltage", "before", "rest"):
            now = getattr(self, name)
            setattr(copy, name, None if now is None else now.expand(-1, -1, versions, -1).clone())
        copy.traces = self.traces.expand(-1, -1, -1, versions, -1).clone()
        copy.spikes = self.spikes.expand(-1, -1, versions).clone()
        return copy


def leaky_current(neurons: Neurons, drive: Tensor) -> Tensor:
    r"""The current that makes a leaky unit spike at the rate of its drive, as a unit that does not leak would.

    .. math:: I = 1 / (1 - q^{\,n}), \qquad n = 1/(\text{drive} \cdot \text{per step}) - \text{rest}

    With q the share of the membrane that is left after a time step, n are the steps from reset to the next spike.
    """
    steps = (drive * neurons.per_step).clamp_(min=1e-9).reciprocal_().sub_(neurons.rest)
    return steps.mul_(math.log(neurons.leak)).exp_().neg_().add_(1.0).reciprocal_().mul_(drive > 0)


class Simulation:
    """Presentations under way; all of them began together.

    clamped  area → what it is clamped to, normalized
    """

    def __init__(self, engine: SpikingEngine, state: RateState, clamped: Mapping[str, Tensor]) -> None:
        self.engine, self.state, self.clamped = engine, state, dict(clamped)
        subjects = next(iter(state.biases.values())).shape[0]
        cases, versions = next(iter(clamped.values())).shape[1:3]
        self.units = {area: self._clamped(given) for area, given in clamped.items()}
        for area in engine.areas:
            shape = (subjects, cases, versions, engine.units[area])
            self.units[area] = Membranes(engine.neurons, engine.clock, shape, engine.device)

    def with_context(self, context: Mapping[str, Tensor]) -> Simulation:
        """Where it goes on from here with clamped areas that have been silent so far; this one stays as it is."""
        copy = object.__new__(Simulation)
        copy.engine, copy.state, copy.clamped = self.engine, self.state, {**self.clamped, **context}
        versions = max(given.shape[2] for given in copy.clamped.values())
        copy.units = {
            area: units.expanded(versions if area in self.engine.areas else units.voltage.shape[2])
            for area, units in self.units.items()
        }
        copy.units |= {area: copy._clamped(given) for area, given in context.items()}
        return copy

    def _clamped(self, given: Tensor) -> Membranes:
        """Units that stand for pixels or labels: they do not leak."""
        neurons = replace(self.engine.neurons, neuron="integrate_and_fire")
        return Membranes(neurons, self.engine.clock, tuple(given.shape), self.engine.device)

    def advance(self, bottom_up_only: bool) -> dict[str, Tensor]:
        """Half an iteration; returns each hidden area's mean trace in it."""
        with self.engine.workspace.lend("twin") as take:
            kinds = ("bottom_up",) if bottom_up_only else ()
            arriving = {
                area: [self._arriving(take, area, source, name) for source, name in self._heard(area, kinds)]
                for area in self.engine.areas
            }
            started = {area: self.units[area].before.clone() for area in self.engine.areas}
            for step in range(self.engine.clock.half):
                self._step(take, step, arriving)
        lasting = self.engine.clock.half
        return {
            area: (first + self.units[area].traces[:-1].sum(0)).div_(lasting) for area, first in started.items()
        }  # as Brian2 sums it: traces at the beginning of every time step

    def _heard(self, area: str, kinds: tuple[str, ...]) -> list[tuple[str, str]]:
        return [(source, name) for source, name in afferents(self.engine.net, area, *kinds) if source in self.units]

    def _arriving(self, take: Take, area: str, source: str, name: str) -> tuple[str, Tensor]:
        """Source, and what arrives from it in each time step, (subjects, steps, cases, versions, units)."""
        projection, traces = self.engine.projections[name], self.units[source].traces
        subjects = len(self.state.biases[area])
        rows = traces.transpose(0, 1).expand(subjects, *traces.shape[:1], *traces.shape[2:])
        heard = rows.flatten(1, 3)
        ring = projection.ring(take, subjects, heard.shape[1], torch.float32)
        projection.hear(ring, slice(None), heard)
        brought = projection.bring(take, self.state.weights[name], ring)
        kept = take(f"arriving/{name}", brought.shape).copy_(brought)
        return source, kept.view(subjects, *rows.shape[1:4], -1)

    def _step(self, take: Take, step: int, arriving: Mapping[str, list[tuple[str, Tensor]]]) -> None:
        areas = self.engine.areas
        gains = {area: self._gain(area, step) for area in areas}
        drives = {}
        for area in areas:
            drive = take(f"drive/{area}", self.units[area].voltage.shape)
            drive.copy_(self.state.biases[area][:, None, None])
            for source, brought in arriving[area]:
                if source in gains:
                    drive.addcmul_(brought[:, step], gains[source])
                else:
                    drive.add_(brought[:, step])
            drives[area] = drive.clamp_(0.0, self.engine.neurons.ceiling)
        for area, units in self.units.items():
            units.integrate(step, drives[area] if area in areas else self.clamped[area])

    def _gain(self, area: str, step: int) -> Tensor:
        """What the pool unit of an area divides by: the length of its traces (§2.1)."""
        units = self.units[area]
        trace = units.before if step == 0 else units.traces[step - 1]
        mean_square = torch.linalg.vector_norm(trace, dim=-1, keepdim=True).square_().div_(trace.shape[-1])
        return mean_square.clamp_(min=FLOOR).rsqrt_()
