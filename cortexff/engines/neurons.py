"""Spiking units: what a rate unit becomes, and when what happens while an image is shown.

A unit's *trace* r is its damped activity: it jumps by :attr:`Neurons.jump` with every spike and decays in between, so
that a unit that spikes at :attr:`Neurons.firing_rate` has a trace of 1. One iteration of the rate engine becomes the
time in which a trace falls to the damping's share; what an area sends arrives half an iteration later, which stands in
for the step that areas of the rate engine hold still. So moments of both engines can be set side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cortexff.errors import CortexffError

CEILING = 10.0  # activity that a unit must be able to tell; with 2.5 a trained net failed, with 10 nothing was lost
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
FLOOR = 0.05  # of the mean square that an area is divided by: in the first milliseconds it has hardly spiked


@dataclass(frozen=True)
class Neurons:
    """Constants of spiking units.

    neuron                  of hidden areas, ``integrate_and_fire`` or ``leaky``; a spike takes 1 off the membrane, and
                            what was above the threshold is not lost
    firing_rate             of a unit whose activity is 1, in Hz
    time_constant           τ of the trace, in ms
    time_step               of the simulation, in ms
    membrane_time_constant  of a leaky unit, in ms
    refractory              after a spike of a leaky unit, in ms
    """

    neuron: str = "integrate_and_fire"
    firing_rate: float = 50.0
    time_constant: float = 20.0
    time_step: float = 1.0
    membrane_time_constant: float = 20.0
    refractory: float = 1.0

    @property
    def per_step(self) -> float:
        """Spikes in a time step of a unit whose activity is 1."""
        return self.firing_rate * self.time_step / 1000.0

    @property
    def keep(self) -> float:
        """Share of a trace that is left after a time step."""
        return 1.0 - self.time_step / self.time_constant

    @property
    def jump(self) -> float:
        """What a spike adds to a trace."""
        return 1000.0 / (self.firing_rate * self.time_constant)

    @property
    def ceiling(self) -> float:
        """The highest activity that a unit can tell: a spike in every time step, or after every refractory period."""
        return 1.0 / (self.per_step * (1 + self.rest))

    @property
    def rest(self) -> int:
        """Time steps after a spike in which a unit does not integrate."""
        return round(self.refractory / self.time_step) if self.neuron == "leaky" else 0

    @property
    def leak(self) -> float:
        """Share of a leaky membrane that is left after a time step."""
        return 1.0 - self.time_step / self.membrane_time_constant


@dataclass(frozen=True)
class Clockwork:
    """When what happens while an image is shown, in time steps: a bottom-up pass, then label and feedback.

    half       half an iteration: the delay of every projection
    bottom_up  how long only the image is there; long enough to reach the last area and settle
    steps      iterations after that
    """

    half: int
    bottom_up: int
    steps: int

    @classmethod
    def of(cls, neurons: Neurons, damping: float, areas: int, steps: int) -> Clockwork:
        """For a net with so many hidden areas."""
        half = round(-neurons.time_constant * math.log(damping) / (2.0 * neurons.time_step))
        return cls(half, 2 * half * (areas + 2), steps)

    @property
    def iteration(self) -> int:
        return 2 * self.half

    @property
    def whole(self) -> int:
        """Of a presentation: moments begin half an iteration after the label, which takes that long to arrive."""
        return self.bottom_up + (self.half + self.steps * self.iteration if self.steps else 0)


def check_neurons(neurons: Neurons, damping: float, alternating: bool) -> None:
    """Raises CortexffError, with a value that would do, where spikes cannot stand for the rates of a protocol."""
    if not damping:
        raise CortexffError(
            "engine.damping is 0, but the trace of spikes needs time to decay: give 0.3, or engine.kind rate"
        )
    if alternating:
        raise CortexffError(
            "engine.alternating needs steps that areas take in turn, and spikes have none: leave it out"
        )
    if neurons.neuron == "leaky":
        if neurons.leak <= 0.0:
            raise CortexffError(
                f"engine.spiking.membrane_time_constant {neurons.membrane_time_constant:g} ms does not last a time "
                f"step of {neurons.time_step:g} ms: give more, or a smaller engine.spiking.time_step"
            )
        whole = neurons.rest * neurons.time_step
        if not math.isclose(whole, neurons.refractory, abs_tol=1e-9):
            next_up = math.ceil(neurons.refractory / neurons.time_step) * neurons.time_step
            raise CortexffError(
                f"engine.spiking.refractory {neurons.refractory:g} ms is no whole number of time steps of "
                f"{neurons.time_step:g} ms: give {next_up:g}"
            )
    if Clockwork.of(neurons, damping, 1, 1).half < 2:
        longest = -neurons.time_constant * math.log(damping) / 4.0
        raise CortexffError(
            f"engine.spiking.time_step {neurons.time_step:g} ms is too long for a trace of "
            f"{neurons.time_constant:g} ms and damping {damping:g}: give {round_down(longest):g} or less"
        )
    if neurons.ceiling < CEILING:
        longest = 1000.0 / (neurons.firing_rate * CEILING)
        can = f"cannot tell activity above {neurons.ceiling:.2g}, but activity can reach {CEILING:g}"
        if neurons.neuron == "integrate_and_fire":
            raise CortexffError(
                f"engine.spiking.firing_rate {neurons.firing_rate:g} Hz: with one spike a time step, a unit {can}: "
                f"give engine.spiking.time_step {round_down(longest):g} or less, not {neurons.time_step:g} ms"
            )
        raise CortexffError(
            f"engine.spiking.refractory {neurons.refractory:g} ms: at {neurons.firing_rate:g} Hz, a leaky unit {can}: "
            f"give refractory and time_step that together are {round_down(longest):g} ms or less"
        )


def round_down(value: float) -> float:
    """To two digits."""
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.floor(value / scale + 1e-9) * scale


def first_phases(units: int) -> list[float]:
    """Membrane of each unit when an image comes, between 0 and 1: spread as evenly as can be, the same every time.

    Steps of the golden section. Random ones, drawn once, cost half a point of error on the digits; anew for every image
    they would be noise.
    """
    return [number * GOLDEN % 1.0 for number in range(units)]
