"""Spikes in PyTorch: many presentations at once, without a compiler; what the Brian2 programs are checked against.

What an area sends arrives half an iteration later. So all that arrives within half an iteration has been sent before it
begins, and each projection needs one product for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cortexff.engines.neurons import FLOOR, Clockwork, Neurons, first_phases
from cortexff.engines.workspace import Take
from cortexff.graph import afferents

if TYPE_CHECKING:
    from cortexff.engines.spiking import SpikingEngine
    from cortexff.engines.state import Activity, RateState


class Membranes:
    """Units of one area, in any number of presentations at once: (subjects, cases, versions, units)."""

    def __init__(self, neurons: Neurons, clock: Clockwork, shape: tuple[int, ...], device: torch.device) -> None:
        self.neurons = neurons
        # A leaky unit creeps up to its threshold: in float32 it would stay there at rates below some Hz.
        kind = torch.float64 if neurons.neuron == "leaky" else torch.float32
        self.voltage = torch.tensor(first_phases(shape[-1]), dtype=kind, device=device).expand(shape).clone()
        # Traces of the last half iteration, (subjects, time steps, cases, versions, units), and the one before those.
        self.traces = torch.zeros(shape[0], clock.half, *shape[1:], device=device)
        self.before = torch.zeros(shape, device=device)
        self.spikes = torch.zeros(shape[:-1], device=device)  # of all units, since the image came
        self.spiking = torch.zeros(shape, device=device)  # 1 for every unit that spikes in this time step
        self.rest = torch.zeros(shape, device=device) if neurons.neuron == "leaky" else None  # time steps left of it

    def integrate(self, step: int, drive: Tensor) -> None:
        """Go on by one time step, the given one of this half iteration; ``drive`` is not below zero."""
        now = self.traces[:, step]
        self._fire(drive)
        torch.mul(self.trace(step), self.neurons.keep, out=now).add_(self.spiking, alpha=self.neurons.jump)
        if step + 1 == self.traces.shape[1]:
            # What traces have gained and not lost; counted once for all time steps.
            kept = self.traces[:, :-1].sum((1, -1)).add_(self.before.sum(-1)).mul_(self.neurons.keep)
            self.spikes += self.traces.sum((1, -1)).sub_(kept).div_(self.neurons.jump).round_()
            self.before.copy_(now)

    def trace(self, step: int) -> Tensor:
        """The trace at the beginning of a time step of this half iteration."""
        return self.before if step == 0 else self.traces[:, step - 1]

    def mean(self, first: Tensor) -> Tensor:
        """Mean trace in this half iteration, at the beginnings of its time steps, as Brian2 sums it."""
        return self.traces[:, :-1].sum(1).add_(first).div_(self.traces.shape[1])

    def _fire(self, drive: Tensor) -> None:
        """Bring membranes on, and find out who spikes."""
        if self.rest is None:
            self.voltage.add_(drive, alpha=self.neurons.per_step)
            torch.floor(self.voltage, out=self.spiking)  # membranes are at least 0 and less than 2
            self.voltage -= self.spiking
            return
        current = leaky_current(self.neurons, drive.double())
        toward = (current - self.voltage).mul_(1.0 - self.neurons.leak)
        self.voltage.add_(toward.mul_(self.rest <= 0))
        self.rest -= 1.0
        spike = self.voltage >= 1.0
        # Past the threshold by some of a time step, a unit is past the reset by as long.
        begun = (self.voltage - 1.0).mul_(current).div_(current - 1.0)
        self.voltage = torch.where(spike, begun, self.voltage)
        self.rest.masked_fill_(spike, self.neurons.rest)
        self.spiking.copy_(spike).masked_fill_(self.voltage.isnan(), math.nan)  # a network that has diverged is told

    def expanded(self, versions: int) -> Membranes:
        """A copy with each of the versions that from now on differ."""
        copy = object.__new__(Membranes)
        copy.neurons = self.neurons
        for name in ("voltage", "before", "rest", "spiking"):
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

    def with_context(self, state: RateState, context: Mapping[str, Tensor]) -> Simulation:
        """Where it goes on from here with clamped areas that have been silent so far; this one stays as it is."""
        copy = object.__new__(Simulation)
        copy.engine, copy.state, copy.clamped = self.engine, state, {**self.clamped, **context}
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
            arriving = {area: self._arriving(take, area, kinds) for area in self.engine.areas}
            started = {area: self.units[area].before.clone() for area in self.engine.areas}
            for step in range(self.engine.clock.half):
                self._step(take, step, arriving)
        return {area: self.units[area].mean(first) for area, first in started.items()}

    def _arriving(self, take: Take, area: str, kinds: tuple[str, ...]) -> tuple[Tensor, list[tuple[str, Tensor]]]:
        """Bias and what arrives from clamped areas, and for each hidden source what arrives from there; in every time
        step, (subjects, steps, cases, versions, units).
        """
        shape = self.units[area].traces.shape
        steady = take(f"steady/{area}", shape).copy_(self.state.biases[area][:, None, None, None])
        others = []
        for source, name in afferents(self.engine.net, area, *kinds):
            if source in self.clamped:
                steady += self._brought(take, source, name, shape[0])
            elif source in self.units:
                others.append((source, self._brought(take, source, name, shape[0])))
        return steady, others

    def _brought(self, take: Take, source: str, name: str, subjects: int) -> Tensor:
        def lend(array: str, *how: Any) -> Tensor:
            """An array for this projection alone."""
            return take(f"{name}/{array}", *how)

        projection, traces = self.engine.projections[name], self.units[source].traces
        rows = traces.expand(subjects, *traces.shape[1:]).flatten(1, 3)
        ring = projection.ring(take, subjects, rows.shape[1], torch.float32)
        projection.hear(ring, slice(None), rows)
        brought = projection.bring(lend, self.state.weights[name], ring)
        return brought.view(subjects, *traces.shape[1:4], brought.shape[-1])

    def _step(self, take: Take, step: int, arriving: Mapping[str, tuple[Tensor, list[tuple[str, Tensor]]]]) -> None:
        gains = {area: self._gain(area, step) for area in arriving}
        drives = {}
        for area, (steady, others) in arriving.items():
            drive = drives[area] = take(f"drive/{area}", self.units[area].voltage.shape, torch.float32)
            before = steady[:, step]
            for source, brought in others:
                before = torch.addcmul(before, brought[:, step], gains[source], out=drive)
            torch.clamp(before, 0.0, self.engine.neurons.ceiling, out=drive)
        for area, units in self.units.items():
            units.integrate(step, drives[area] if area in drives else self.clamped[area])

    def _gain(self, area: str, step: int) -> Tensor:
        """What the pool unit of an area divides by: the length of its traces (§2.1)."""
        trace = self.units[area].trace(step)
        mean_square = torch.linalg.vector_norm(trace, dim=-1, keepdim=True).square_().div_(trace.shape[-1])
        return mean_square.clamp_(min=FLOOR).rsqrt_()


@dataclass(frozen=True)
class Recording:
    """Presentations time step by time step.

    spikes    area, hidden or clamped → whether a unit spikes: (subjects, cases, versions, time steps, units)
    traces    hidden area → traces at the end of a time step, of the same shape
    label_at  the time step in which label and feedback begin
    """

    spikes: dict[str, Tensor]
    traces: dict[str, Tensor]
    label_at: int


def record(engine: SpikingEngine, state: RateState, images: Activity, context: Activity) -> Recording:
    """Whole presentations, with the engine's number of iterations after the bottom-up pass.

    images, context  area → what it is clamped to, normalized
    """
    clock, neurons, simulation = engine.clock, engine.neurons, Simulation(engine, state, images)
    subjects = len(next(iter(state.biases.values())))
    cases, versions = (max(given.shape[axis] for given in (*images.values(), *context.values())) for axis in (1, 2))
    parts: dict[str, list[Tensor]] = {area: [] for area in (*images, *engine.areas, *context)}
    silent = torch.zeros(1, device=engine.device)  # a label that is yet to come
    for begin in range(0, clock.whole, clock.half):
        if begin == clock.bottom_up:
            simulation = simulation.with_context(state, context)
        simulation.advance(bottom_up_only=begin < clock.bottom_up)
        for area, seen in parts.items():
            shape = (subjects, clock.half, cases, versions, engine.units[area])
            now = simulation.units[area].traces if area in simulation.units else silent
            seen.append(now.expand(shape).clone())
    spikes, traces = {}, {}
    for area, seen in parts.items():
        now = torch.cat(seen, dim=1).movedim(1, 3)
        before = torch.nn.functional.pad(now, (0, 0, 1, -1))
        spikes[area] = (now - neurons.keep * before) / neurons.jump > 0.5
        if area in engine.areas:
            traces[area] = now
    return Recording(spikes, traces, clock.bottom_up)
