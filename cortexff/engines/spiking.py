"""The spiking engine: a graph that the rate engine runs, as integrate-and-fire units.

It has the rate engine's weights and answers its calls. A moment of it is an iteration's stretch of time, and a unit's
activity its mean trace in it; so goodness, readouts and probes are the same code for both engines. Time begins anew
with every image: a bottom-up pass without label or feedback, then both.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import networkx as nx
from torch import Tensor

from cortexff.engines.neurons import Clockwork, Neurons, check_neurons
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Activity, Moment, RateDynamics, RateState
from cortexff.engines.twin import Simulation
from cortexff.equations.normalization import length_normalization
from cortexff.errors import CortexffError


@dataclass
class Course:
    """What is seen of presentations; arrays are (subjects, cases, versions, units), spikes without the units.

    evoked   area → mean trace in the last iteration of the bottom-up pass
    moments  for each iteration after it, area → mean trace
    spikes   area → spikes of the bottom-up pass, and of each iteration
    begun    what the backend needs to go on after the bottom-up pass with another context
    """

    evoked: Activity
    moments: list[Activity]
    spikes: dict[str, list[Tensor]]
    begun: Any = None


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
            begun = Simulation(self.engine, state, images)
            for _ in range(clock.bottom_up // clock.half - 2):
                begun.advance(bottom_up_only=True)
            begun.evoked = self._mean(begun, bottom_up_only=True)
        course = Course(begun.evoked, [], {area: [begun.units[area].spikes] for area in self.engine.areas}, begun)
        if steps:
            simulation = begun.with_context(context)
            simulation.advance(bottom_up_only=False)
            for _ in range(steps):
                course.moments.append(self._mean(simulation, bottom_up_only=False))
                for area, spikes in course.spikes.items():
                    spikes.append(simulation.units[area].spikes.clone())
        return course

    def _mean(self, simulation: Simulation, bottom_up_only: bool) -> Activity:
        """Mean traces of an iteration."""
        one, other = (simulation.advance(bottom_up_only) for _ in range(2))
        return {area: one[area].add_(other[area]).div_(2.0) for area in one}


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
    """The backend that ``auto`` stands for: Brian2's programs, unless there is something to learn or no compiler."""
    if name != "auto":
        return name
    compiler = shutil.which("g++") or shutil.which("clang++")
    return "cpp" if compiler and not learning and device == "cpu" else "torch"


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
        return {area: evoked[:, :, :versions] for area, evoked in self.seen.evoked.items()}


class SpikingEngine(RateEngine):
    """``start`` makes weights; ``look`` and ``settle`` show images to spiking units that have them.

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
        clamped = {area: length_normalization(image.float()) for area, image in images.items()}
        for area, image in clamped.items():
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
        steps = self.dynamics.steps if steps is None else steps
        clamped = {area: length_normalization(given.float()) for area, given in context.items()}
        begun = None if percept.seen is None else percept.seen.begun
        seen = percept.seen = self.backend.show(state, percept.images, clamped, steps, begun)
        spikes = {area: counts[0] for area, counts in seen.spikes.items()}
        for step, activity in enumerate(seen.moments or [seen.evoked], start=1):
            if seen.moments:
                spikes = {area: counts[step] for area, counts in seen.spikes.items()}
            yield Moment(step, 0, self.areas, activity, activity, {}, {}, spikes)

    def learn(self, *args: Any, **options: Any) -> None:
        """Not in spikes, so far."""
        raise CortexffError("the spiking engine takes weights from the rate engine and does not learn: let rates learn")


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
    longest = 1000.0 / (neurons.firing_rate * highest)
    return f"give engine.spiking.time_step {longest:.1g} ms or less, not {neurons.time_step:g}"
