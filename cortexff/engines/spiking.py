"""The spiking engine: a graph that the rate engine runs, as integrate-and-fire units.

It has the rate engine's weights and answers its calls. A moment of it is an iteration's stretch of time, and a unit's
activity its mean trace in it; so goodness, readouts and probes are the same code for both engines. Time begins anew
with every image: a bottom-up pass without label or feedback, then both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import networkx as nx
import torch
from torch import Tensor

from cortexff.engines.gradients import AreaGradient, Gradients
from cortexff.engines.neurons import Clockwork, Neurons, check_neurons, round_down
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Activity, Moment, Plasticity, RateDynamics, RateState
from cortexff.engines.twin import Recording, Simulation, record
from cortexff.engines.workspace import Take
from cortexff.environment import compiler
from cortexff.equations.normalization import length_normalization
from cortexff.errors import CortexffError


@dataclass
class Course:
    """What is seen of presentations; arrays are (subjects, cases, versions, units), spikes without the units.

    Moments are numbered: 0 is the last iteration of the bottom-up pass, 1 the first that the label has reached.

    halves  for each half iteration, area → mean trace; from the last three of the bottom-up pass on
    spikes  area → spikes from the beginning to the end of each moment
    begun   what the backend needs to go on after the bottom-up pass with another context
    """

    halves: list[Activity]
    spikes: dict[str, list[Tensor]]
    begun: Any = None

    def activity(self, moment: int) -> Activity:
        """Area → mean trace in a moment."""
        return self._mean(2 * moment + 2 if moment else 1)

    def arrived(self, moment: int) -> Activity:
        """Area → mean trace of which others heard in a moment: half an iteration before."""
        return self._mean(2 * moment + 1 if moment else 0)

    def _mean(self, half: int) -> Activity:
        one, other = self.halves[half : half + 2]
        return {area: (one[area] + other[area]) / 2.0 for area in one}


class Backend(Protocol):
    """What lets units spike."""

    def show(self, state: RateState, images: Activity, context: Activity, steps: int, begun: Any = None) -> Course:
        """Whole presentations: a bottom-up pass, then so many iterations.

        images, context  area → what it is clamped to, normalized: (subjects or 1, cases or 1, versions or 1, units)
        begun            of a course with the same state and images, if there was one
        """


class Twin:
    """The backend in PyTorch."""

    def __init__(self, engine: SpikingEngine) -> None:
        self.engine = engine

    def show(self, state: RateState, images: Activity, context: Activity, steps: int, begun: Any = None) -> Course:
        clock = self.engine.clock
        if begun is None:
            simulation = Simulation(self.engine, state, images)
            halves = [simulation.advance(bottom_up_only=True) for _ in range(clock.bottom_up // clock.half)]
            begun = (simulation, halves[-3:])
        simulation, halves = begun
        course = Course([*halves], {area: [simulation.units[area].spikes] for area in self.engine.areas}, begun)
        if steps:
            simulation = simulation.with_context(state, context)
            course.halves.append(simulation.advance(bottom_up_only=False))
            for _ in range(steps):
                course.halves += [simulation.advance(bottom_up_only=False) for _ in range(2)]
                for area, spikes in course.spikes.items():
                    spikes.append(simulation.units[area].spikes.clone())
        return course


def _brian(target: str) -> Callable[[SpikingEngine], Backend]:
    def backend(engine: SpikingEngine) -> Backend:
        from cortexff.engines.brian import Brian

        return Brian(engine, target)

    return backend


BACKENDS: dict[str, Callable[[SpikingEngine], Backend]] = {
    "torch": Twin,
    **{target: _brian(target) for target in ("cpp", "cython", "numpy")},
}


def backend_for(name: str, learning: bool, device: str) -> str:
    """The backend that ``auto`` stands for: Brian2's programs, unless there is something to learn or no compiler.

    raises  CortexffError for one of Brian2's on a GPU
    """
    if name not in ("auto", "torch") and device != "cpu":
        raise CortexffError(f"engine.spiking.backend {name} runs on processors alone: give torch, or --device cpu")
    if name != "auto":
        return name
    return "cpp" if compiler() and not learning and device == "cpu" else "torch"


class SpikingPercept:
    """What the bottom-up pass leaves behind: simulated when it is asked for, or on the way to what follows.

    seen  the presentation, once there is one
    """

    def __init__(self, engine: SpikingEngine, state: RateState, images: Activity) -> None:
        self.engine, self.state, self.images = engine, state, images
        self.seen: Course | None = None

    @property
    def activity(self) -> Activity:
        """Area → activity that is evoked, (subjects, cases, versions of the image, units)."""
        if self.seen is None:
            self.seen = self.engine.backend.show(self.state, self.images, {}, 0)
        versions = max(image.shape[2] for image in self.images.values())
        return {area: evoked[:, :, :versions] for area, evoked in self.seen.activity(0).items()}


class SpikingEngine(RateEngine):
    """``start`` makes weights, ``look`` and ``settle`` let units spike, ``learn`` changes the weights.

    neurons  constants of the units
    backend  name in ``BACKENDS``: Brian2's ``cpp``, ``cython`` or ``numpy``, or ``torch``
    tell     hears in a line what takes long, such as compiling
    """

    def __init__(
        self,
        net: nx.MultiDiGraph,
        dynamics: RateDynamics,
        neurons: Neurons | None = None,
        backend: str = "cpp",
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(net, dynamics)
        self.tell = tell
        self.neurons = neurons or Neurons()
        check_neurons(self.neurons, dynamics.damping, dynamics.alternating)
        check_labels(net, self.neurons)
        self.clock = Clockwork.of(self.neurons, dynamics.damping, len(self.areas), dynamics.steps)
        self.backend = BACKENDS[backend](self)

    @cached_property
    def rates(self) -> RateEngine:
        """The rate engine of the same graph."""
        return RateEngine(self.net, self.dynamics)

    def clock_of(self, steps: int) -> Clockwork:
        """When what happens, with so many iterations after the bottom-up pass."""
        return replace(self.clock, steps=steps)

    def look(self, state: RateState, images: Mapping[str, Tensor]) -> SpikingPercept:
        """As :meth:`RateEngine.look`; raises CortexffError for a pixel that no unit could tell by its spikes."""
        clamped = _normalized(images)
        for area, image in clamped.items():
            if not image.numel():  # of a rank that has no cases
                continue
            if (lowest := images[area].min().item()) < 0.0:
                raise CortexffError(
                    f"area {area}: a pixel is {lowest:.3g}, and no unit spikes at a rate below zero: give pixels of at "
                    "least 0, or engine.kind rate"
                )
            if (highest := image.max().item()) * self.neurons.per_step > 1.0:
                raise CortexffError(
                    f"area {area}: a pixel has {highest:.3g} times the root mean square of its image, and a unit can "
                    f"tell at most {1 / self.neurons.per_step:.3g}: {_give_less(self.neurons, highest)}"
                )
        return SpikingPercept(self, state, clamped)

    def settle(
        self, state: RateState, percept: SpikingPercept, context: Mapping[str, Tensor], steps: int | None = None
    ) -> Iterator[Moment]:
        """As :meth:`RateEngine.settle`; response is activity here, and nobody hears by rings."""
        asked = self.dynamics.steps if steps is None else steps
        steps = asked if self.dynamics.steps else 0
        seen = self._show(state, percept, context, steps)
        for step in range(1, (steps if self.dynamics.steps else 1) + 1):
            number = step if steps else 0  # the one moment of a feed-forward net is its bottom-up pass
            activity = seen.activity(number)
            spikes = {area: counts[number] for area, counts in seen.spikes.items()}
            yield Moment(step, 0, self.areas, activity, activity, {}, {}, spikes)

    def record(self, state: RateState, images: Mapping[str, Tensor], context: Mapping[str, Tensor]) -> Recording:
        """Presentations time step by time step; by the twin, whatever the backend."""
        return record(self, state, self.look(state, images).images, _normalized(context))

    def _show(self, state: RateState, percept: SpikingPercept, context: Mapping[str, Tensor], steps: int) -> Course:
        begun = None if percept.seen is None else percept.seen.begun
        percept.seen = self.backend.show(state, percept.images, _normalized(context), steps, begun)
        return percept.seen

    def _gradients(
        self,
        state: RateState,
        percept: SpikingPercept,
        cases: int,
        context: Mapping[str, Tensor],
        images: Mapping[str, Tensor],
        is_positive: Sequence[bool],
        plasticity: Plasticity,
        share: float,
        borrowed: Sequence[bool],
    ) -> Iterator[AreaGradient]:
        """Eq. 3 as a rule of three factors: a synapse holds what arrives and the trace of the unit it ends on, each as
        it has been on average since the label came, and the goodness of the unit's area tells, moment by moment, how
        much of their product is learned.

        Traces of single moments, of a spike or two, left thrice the error after 15 epochs. Goodness is that of the
        moment: of averages it is lower, so that a net which learned from it took many a wrong label for real.
        """
        if any(borrowed):
            raise CortexffError("stimuli.negatives other_context is not known to spiking units: give engine.kind rate")
        positive = torch.tensor(is_positive, dtype=torch.float32, device=self.device).view(-1, 1)
        seen = self._show(state, percept, context, self.dynamics.steps)
        with self.workspace.lend("learn") as take:
            sums = Gradients(self, take, state, cases, {**images, **context}, is_positive, positive, plasticity, share)
            traces, arrived = Average(), Average()
            for step in range(1, self.dynamics.moments + 1):
                number = step if self.dynamics.steps else 0
                now = seen.activity(number)
                held = traces.over(now), arrived.over(seen.arrived(number))
                moment = self._moment(take, step, now, *held, sums.slots)
                for area in self.areas:
                    sums.add(moment, area)
            for area in self.areas:
                yield sums.close(area)

    def _moment(
        self, take: Take, step: int, now: Activity, activity: Activity, arrived: Activity, slots: int
    ) -> Moment:
        """A moment with what areas heard of each other, in rings that hold some moments side by side."""
        rings, places = {}, {}
        for source, sent in arrived.items():
            rows = length_normalization(sent).flatten(1, 2)
            start = (step - 1) % slots * rows.shape[1]
            places[source] = slice(start, start + rows.shape[1])
            for _, _, name in self.net.out_edges(source, keys=True):
                projection = self.projections[name]
                rings[name] = projection.ring(take, len(rows), slots * rows.shape[1], self.product_type)
                projection.hear(rings[name], places[source], rows)
        active = {area: trace.clone() for area, trace in activity.items()}
        return Moment(step, 0, self.areas, active, activity, rings, places, judged=now)


def _normalized(given: Mapping[str, Tensor]) -> Activity:
    """Area → what it is clamped to, of length 1."""
    return {area: length_normalization(clamped.float()) for area, clamped in given.items()}


class Average:
    """The mean of what has been shown to it so far."""

    def __init__(self) -> None:
        self.mean: Activity = {}
        self.count = 0

    def over(self, activity: Activity) -> Activity:
        """The mean, with this one."""
        self.count += 1
        for area, trace in activity.items():
            self.mean[area] = self.mean[area].lerp(trace, 1.0 / self.count) if area in self.mean else trace
        return self.mean


def check_labels(net: nx.MultiDiGraph, neurons: Neurons) -> None:
    """Raises CortexffError where a label's one active unit would have to spike twice in a time step."""
    for area, data in net.nodes(data=True):
        highest = data["units"] ** 0.5  # of mean square 1, all in one
        if data["role"] == "context" and highest * neurons.per_step > 1.0:
            raise CortexffError(
                f"area {area} of {net.graph['source']} has {data['units']} labels, whose one active unit would spike "
                f"{highest * neurons.per_step:.2g} times in a time step: {_give_less(neurons, highest)}"
            )


def _give_less(neurons: Neurons, highest: float) -> str:
    longest = round_down(1000.0 / (neurons.firing_rate * highest))
    return f"give engine.spiking.time_step {longest:g} ms or less, not {neurons.time_step:g}"
