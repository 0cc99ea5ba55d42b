"""A graph as a network of Brian2: equations, units, synapses, and what watches them.

Presentations follow one another; with each, membranes and traces begin anew.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cortexff.engines.neurons import FLOOR, Clockwork, Neurons, first_phases

# Brian2 wants Ctrl-C for itself, which is refused anywhere but in the main thread, and is ours.
_signal, signal.signal = signal.signal, lambda number, handler: None
try:
    import brian2
finally:
    signal.signal = _signal

if TYPE_CHECKING:
    from cortexff.engines.spiking import SpikingEngine

# The time step is a power of two whatever it stands for, so that all times are exact: Brian2's programs take clocks for
# apart whose times differ by 1e-14 s, as rounded ones do after a minute; what begins an image anew then came too late.
STEP = 2.0**-10 * brian2.second
# The order of what happens at the beginning of a time step.
SEEN, IMAGE_ANEW, GAIN, CURRENT = range(4)

INTEGRATE_AND_FIRE = "dv/dt = firing_rate*u : 1"
LEAKY = """
dv/dt = int(rest <= 0)*(current - v)/membrane : 1
drest/dt = -1/step : 1                                                       # time steps left of refractoriness
current : 1
"""
LEAKY_CURRENT = "current = int(u > 0)/(1 - exp(log_leak*(1/clip(u*per_step, 1e-9, inf) - silent)))"
# Past the threshold by some of a time step, a unit is past the reset by as long.
RESETS = {"integrate_and_fire": "v -= 1", "leaky": "v = (v - 1)*current/(current - 1); rest = silent"}
HIDDEN = """
u = clip(b + {drive}, 0, ceiling) : 1                                        # drive
dr/dt = -r/trace : 1                                                         # trace
dgathered/dt = r/half : 1                                                    # mean traces of half iterations, added up
b : 1 (constant)
v0 : 1 (constant)
{heard}
"""
CLAMPED = """
dv/dt = firing_rate*{image}(t, i)*{when} : 1
v0 : 1 (constant)
"""
AFTER_BOTTOM_UP = "int(t_in_timesteps % period >= bottom_up)"
# Nobody spikes in the gap between two images, so that what is under way arrives before the next one.
SPIKES = "v >= 1 and t_in_timesteps % period < whole"
POOL = """
dm/dt = -m*(2/trace - dt/trace**2) : 1                                       # mean square of the traces, exactly
gain : 1
spikes : 1
arrived : 1                                                                  # events, where ROW brings them
"""
# Where all units of two areas are joined, a spike adds a row of the weights to what the target hears. As synapses of
# Brian2 that is a loop over their numbers: some four times slower, and more memory.
ROW = """
double bring(const int unit) {{
    const double* __restrict row = brian::{weights} + static_cast<size_t>(unit)*{units};
    double* __restrict heard = brian::{heard};
    for (int target = 0; target < {units}; target++) heard[target] += row[target];
    return {units};
}}
"""


@dataclass
class Handles:
    """A network, and its parts by the names of the graph.

    images       clamped area → values of what is shown
    biases       area → group
    projections  name → what has their weights, ``w``
    traces       area → monitor of mean traces, added up, at the end of every half iteration
    counts       area → monitor of spikes since the image came
    """

    network: brian2.Network
    images: dict[str, brian2.TimedArray]
    biases: dict[str, brian2.NeuronGroup]
    projections: dict[str, brian2.Synapses | brian2.NeuronGroup]
    traces: dict[str, brian2.StateMonitor]
    counts: dict[str, brian2.StateMonitor]


def build(engine: SpikingEngine, steps: int, shown: Mapping[str, np.ndarray], compiled: bool = False) -> Handles:
    """The network of an engine's graph.

    steps     iterations after the bottom-up pass; without any, nothing from above is heard
    shown     clamped area → (presentations, units), normalized
    compiled  whether it becomes a program in C++
    """
    neurons, net = engine.neurons, engine.net
    clock = engine.clock_of(steps)
    namespace = constants_of(neurons, clock)
    place = {area: number for number, area in enumerate(net)}
    images, groups, pools = {}, {}, {}
    for area, rows in shown.items():
        name = f"image{place[area]}"
        images[area] = namespace[name] = brian2.TimedArray(rows, dt=period(clock) * STEP, name=name)
    # Brian2 makes a clock for every `dt`, and looks at all of them in every time step.
    clocks = {n: brian2.Clock(n * STEP, name=f"clock{n}") for n in {1, clock.half, period(clock)}}
    every = {"clock": clocks[1], "method": "euler", "namespace": namespace}
    for area in shown:
        when = AFTER_BOTTOM_UP if net.nodes[area]["role"] == "context" else "1"
        equations = CLAMPED.format(image=f"image{place[area]}", when=when)
        groups[area] = brian2.NeuronGroup(
            engine.units[area], equations, threshold=SPIKES, reset="v -= 1", name=f"area{place[area]}", **every
        )
    inputs = {area: _inputs(engine, area, place, shown, steps) for area in engine.areas}
    for area in engine.areas:
        equations = _equations(neurons, inputs[area])
        reset = f"{RESETS[neurons.neuron]}; r += jump"
        groups[area] = brian2.NeuronGroup(
            engine.units[area], equations, threshold=SPIKES, reset=reset, name=f"area{place[area]}", **every
        )
        pools[area] = brian2.NeuronGroup(1, POOL, name=f"pool{place[area]}", **every)
    for area, heard in inputs.items():
        for source, gain in {(one.source, one.gain) for one in heard if one.gain}:
            linked = brian2.linked_var(pools[source], "gain", index=np.zeros(engine.units[area], dtype=int))
            setattr(groups[area], gain, linked)
    for area, group in groups.items():
        group.v0 = group.v = np.array(first_phases(engine.units[area]))
    projections, bringing = {}, []
    for area, heard in inputs.items():
        for one in heard:
            number, pairs = len(projections), pairs_of(engine, one.projection)
            later = {"delay": (clock.half - 1) * STEP, "name": f"projection{number}", "clock": clocks[1]}
            source, target = groups[one.source], groups[area]
            if compiled and pairs is None:
                weights = brian2.NeuronGroup(len(source) * len(target), "w : 1", name=f"weights{number}")
                bring = {"bring": _bring(weights, target, one.variable)}
                synapses = brian2.Synapses(
                    source, pools[area], on_pre="arrived_post += bring(i)", namespace=bring, **later
                )
                synapses.connect()
            else:
                weights = synapses = brian2.Synapses(
                    source, target, "w : 1", on_pre=f"{one.variable}_post += w", **later
                )
                synapses.connect(**({} if pairs is None else dict(zip("ji", pairs, strict=True))))
            projections[one.projection] = weights
            bringing.append(synapses)
    counting = {
        area: brian2.Synapses(
            groups[area],
            pools[area],
            on_pre="m_post += jump*(2*r_pre + jump)/units; spikes_post += 1",  # before the reset adds to r
            namespace={**namespace, "units": engine.units[area]},
            name=f"counting{place[area]}",
            clock=clocks[1],
        )
        for area in engine.areas
    }
    for synapses in counting.values():
        synapses.connect()
    image = clocks[period(clock)]
    for area in engine.areas:
        zero = [
            "r",
            "gathered",
            *dict.fromkeys(one.variable for one in inputs[area]),
            *(["rest"] if neurons.neuron == "leaky" else []),
        ]
        fresh = "v = v0; " + "; ".join(f"{variable} = 0" for variable in zero)
        groups[area].run_regularly(fresh, clock=image, when="start", order=IMAGE_ANEW, name=f"anew{place[area]}")
        pools[area].run_regularly(
            "m = 0; spikes = 0", clock=image, when="start", order=IMAGE_ANEW, name=f"pool_anew{place[area]}"
        )
        pools[area].run_regularly(
            f"gain = 1/sqrt(clip(m, {FLOOR}, inf))",
            clock=clocks[1],
            when="start",
            order=GAIN,
            name=f"gain{place[area]}",
        )
        if neurons.neuron == "leaky":
            groups[area].run_regularly(
                LEAKY_CURRENT, clock=clocks[1], when="start", order=CURRENT, name=f"current{place[area]}"
            )
    for area in shown:
        groups[area].run_regularly("v = v0", clock=image, when="start", order=IMAGE_ANEW, name=f"anew{place[area]}")
    watch = {"record": True, "clock": clocks[clock.half], "when": "start", "order": SEEN}
    traces = {a: brian2.StateMonitor(groups[a], "gathered", name=f"traces{place[a]}", **watch) for a in engine.areas}
    counts = {a: brian2.StateMonitor(pools[a], "spikes", name=f"counts{place[a]}", **watch) for a in engine.areas}
    parts = (groups, pools, counting, traces, counts)
    things = (thing for part in parts for thing in part.values())
    network = brian2.Network(*things, *bringing, name="presentations")
    return Handles(network, images, {a: groups[a] for a in engine.areas}, projections, traces, counts)


def period(clock: Clockwork) -> int:
    """Time steps from one image to the next."""
    return clock.whole + clock.half


def duration(engine: SpikingEngine, steps: int, presentations: int) -> brian2.Quantity:
    """Of a number of presentations, and one time step in which the monitors see the end of the last."""
    return (presentations * period(engine.clock_of(steps)) + 1) * STEP


def constants_of(neurons: Neurons, clock: Clockwork) -> dict[str, Any]:
    """Every constant of the equations: nothing is picked up from the caller."""
    constants = {
        "firing_rate": neurons.per_step / STEP,
        "trace": neurons.time_constant / neurons.time_step * STEP,
        "half": clock.half * STEP,
        "jump": neurons.jump,
        "ceiling": neurons.ceiling,
        "whole": clock.whole,
        "period": period(clock),
        "bottom_up": clock.bottom_up,
    }
    if neurons.neuron == "leaky":
        constants |= {
            "membrane": neurons.membrane_time_constant / neurons.time_step * STEP,
            "step": STEP,
            "log_leak": np.log(neurons.leak),
            "per_step": neurons.per_step,
            "silent": neurons.rest,
        }
    return constants


@dataclass(frozen=True)
class Input:
    """What a projection brings to an area.

    variable  that takes it: one for all that is divided by the same gain and gated alike
    gain      of its source area, None where that is clamped
    gated     whether it is heard only after the bottom-up pass
    """

    source: str
    projection: str
    variable: str
    gain: str | None
    gated: bool


def _inputs(
    engine: SpikingEngine, area: str, place: Mapping[str, int], shown: Collection[str], steps: int
) -> list[Input]:
    found = []
    for source, name in engine.sources[area]:
        bottom_up = engine.net.edges[source, area, name]["kind"] == "bottom_up"
        if not steps and not bottom_up:
            continue
        if source in shown:
            found.append(Input(source, name, "clamped", None, False))
        elif source in engine.areas:
            when, number = ("always" if bottom_up else "later"), place[source]
            found.append(Input(source, name, f"{when}{number}", f"gain{number}", not bottom_up))
    return found


def _equations(neurons: Neurons, inputs: Iterable[Input]) -> str:
    """Of a hidden area."""
    alike = {one.variable: one for one in inputs}.values()
    drive = [
        "*".join([one.variable, *([one.gain] if one.gain else []), *([AFTER_BOTTOM_UP] if one.gated else [])])
        for one in alike
    ]
    heard = [f"d{one.variable}/dt = -{one.variable}/trace : 1" for one in alike]
    gains = [f"{gain} : 1 (linked)" for gain in dict.fromkeys(one.gain for one in alike) if gain]
    membrane = INTEGRATE_AND_FIRE if neurons.neuron == "integrate_and_fire" else LEAKY
    return membrane + HIDDEN.format(drive=" + ".join(drive), heard="\n".join([*heard, *gains]))


def _bring(weights: brian2.NeuronGroup, target: brian2.NeuronGroup, variable: str) -> brian2.Function:
    """What a compiled spike does where all units are joined: a function of the number of the unit that spikes."""
    arrays = [
        brian2.get_device().get_array_name(group.variables[name])
        for group, name in ((weights, "w"), (target, variable))
    ]
    code = ROW.format(weights=arrays[0], heard=arrays[1], units=len(target))
    function = brian2.Function(lambda unit: unit, arg_units=[1], return_unit=1, stateless=False)
    function.implementations.add_implementation("cpp", code, name="bring")
    return function


def pairs_of(engine: SpikingEngine, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Target and source unit of every synapse, ordered by source, then target; None where all units are joined."""
    projection = engine.projections[name]
    if projection.mask is None:
        return None
    source_of, target_of = np.nonzero(projection.matrix(projection.mask).cpu().numpy().T)
    return target_of, source_of
