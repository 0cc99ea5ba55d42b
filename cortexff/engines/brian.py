"""Spikes in Brian2: the network of a graph, as a compiled program that is kept, or run from Python.

A program shows a number of images one after the other, ``PRESENTATIONS`` of them, and writes down what it saw. Weights,
biases, images and labels are files that it reads when it starts, so it is compiled once for a net and its constants.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cortexff.engines.neurons import FLOOR, Clockwork, Neurons, first_phases
from cortexff.engines.state import Activity
from cortexff.environment import compiler, machine
from cortexff.errors import CortexffError

# Brian2 wants Ctrl-C for itself, which is refused anywhere but in the main thread, and is ours.
_signal, signal.signal = signal.signal, lambda number, handler: None
try:
    import brian2
finally:
    signal.signal = _signal

if TYPE_CHECKING:
    from cortexff.engines.spiking import Course, SpikingEngine
    from cortexff.engines.state import RateState

PRESENTATIONS = 200  # of a program; fewer are filled up with blank ones, which cost half
SHARED_MEMORY = "/dev/shm"
ROOM = 200_000_000  # bytes there for traces, counts and what lists synapses
SOURCES = ("brian.py", "neurons.py")  # all that is compiled into a program
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
    step = neurons.time_step * brian2.ms
    namespace = _constants(neurons, clock)
    place = {area: number for number, area in enumerate(net)}
    images, groups, pools = {}, {}, {}
    for area, rows in shown.items():
        name = f"image{place[area]}"
        images[area] = namespace[name] = brian2.TimedArray(rows, dt=period(clock) * step, name=name)
    # Brian2 makes a clock for every `dt`, and looks at all of them in every time step.
    clocks = {n: brian2.Clock(n * step, name=f"clock{n}") for n in {1, clock.half, period(clock)}}
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
            number, pairs = len(projections), _pairs(engine, one.projection)
            later = {"delay": (clock.half - 1) * step, "name": f"projection{number}", "clock": clocks[1]}
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


def _constants(neurons: Neurons, clock: Clockwork) -> dict[str, Any]:
    """Every constant of the equations: nothing is picked up from the caller."""
    step = neurons.time_step * brian2.ms
    constants = {
        "firing_rate": neurons.firing_rate * brian2.Hz,
        "trace": neurons.time_constant * brian2.ms,
        "half": clock.half * step,
        "jump": neurons.jump,
        "ceiling": neurons.ceiling,
        "whole": clock.whole,
        "period": period(clock),
        "bottom_up": clock.bottom_up,
    }
    if neurons.neuron == "leaky":
        constants |= {
            "membrane": neurons.membrane_time_constant * brian2.ms,
            "step": step,
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


def _pairs(engine: SpikingEngine, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Target and source unit of every synapse, ordered by source, then target; None where all units are joined."""
    projection = engine.projections[name]
    if projection.mask is None:
        return None
    source_of, target_of = np.nonzero(projection.matrix(projection.mask).cpu().numpy().T)
    return target_of, source_of


class Brian:
    """The backend in Brian2.

    target  ``cpp``, a program compiled once; ``cython`` or ``numpy``, run from Python
    """

    def __init__(self, engine: SpikingEngine, target: str) -> None:
        self.engine, self.target = engine, target
        self.pairs = {name: _pairs(engine, name) for name in engine.projections}
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
        units = {area: shown.shape[1] for area, shown in rows.items()}
        program = self.program(steps, tuple(units.items()))

        def part(begin: int) -> tuple[list[Tensor], list[Tensor]]:
            some = {area: shown[begin : begin + PRESENTATIONS] for area, shown in rows.items()}
            here = min(PRESENTATIONS, count - begin)
            full = {area: np.pad(shown, ((0, PRESENTATIONS - here), (0, 0))) for area, shown in some.items()}
            return _outcome(self.engine, steps, *program.run(full, biases, weights), here)

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # a thread waits for a program of its own
            parts = list(pool.map(part, range(0, count, PRESENTATIONS)))
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
            handles.network.run(_duration(self.engine, steps, len(next(iter(rows.values())))), namespace={})
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


def _duration(engine: SpikingEngine, steps: int, presentations: int) -> brian2.Quantity:
    """Of a number of presentations, and one time step in which the monitors see the end of the last."""
    return (presentations * period(engine.clock_of(steps)) + 1) * engine.neurons.time_step * brian2.ms


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


@dataclass(frozen=True)
class Program:
    """A compiled network.

    folder  where it lies
    parts   what it reads (``image/AREA``, ``bias/AREA``, ``projection/NAME``) and writes (``traces/AREA``,
            ``counts/AREA``), and how it calls them
    """

    folder: Path
    parts: Mapping[str, str]

    @classmethod
    def of(cls, engine: SpikingEngine, steps: int, units: Mapping[str, int]) -> Program:
        """The program of an engine's graph, compiled unless it has been; ``units`` of the clamped areas."""
        folder = programs() / _digest(engine, steps, units)
        if not (folder / "parts.json").exists():
            engine.tell(f"compiling spiking units of {engine.net.graph['source']}, once: about a minute")
            _compile(engine, steps, units, folder)
        return cls(folder, json.loads((folder / "parts.json").read_text()))

    def run(
        self, shown: Mapping[str, np.ndarray], biases: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Traces and counts of each area, as its monitors saw them."""
        given = {
            f"{kind}/{name}": array
            for kind, arrays in (("image", shown), ("bias", biases), ("projection", weights))
            for name, array in arrays.items()
        }
        # In memory, where there is room for what is read, and for as much that is written.
        needed = ROOM + 2 * sum(8 * array.size for array in given.values())
        spacious = os.path.isdir(SHARED_MEMORY) and shutil.disk_usage(SHARED_MEMORY).free > needed
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if spacious else None) as place:
            arguments = []
            for part, array in given.items():
                if part in self.parts:
                    path = Path(place) / f"given{len(arguments)}"
                    np.ascontiguousarray(array, dtype=np.float64).tofile(path)
                    arguments.append(f"{self.parts[part]}={path}")
            done = subprocess.run(
                [str(self.folder / "main"), "--results_dir", f"{place}/", *arguments],
                cwd=self.folder,
                capture_output=True,
                text=True,
                process_group=0,  # Ctrl-C is for us: the program would stop halfway and call that success
            )
            if done.returncode or done.stderr.strip():
                raise CortexffError(f"the spiking program in {self.folder} failed: {done.stderr.strip()[-500:]}")
            found: dict[str, list[np.ndarray]] = {"traces": [], "counts": []}
            for part, file in self.parts.items():
                kind, _, _ = part.partition("/")
                if kind in found:
                    found[kind].append(np.fromfile(Path(place) / file))
        return found["traces"], found["counts"]


def programs() -> Path:
    """Where compiled programs are kept: the user's cache folder."""
    import pooch

    return Path(os.environ.get("CORTEXFF_CACHE") or pooch.os_cache("cortexff")) / "spiking"


def _digest(engine: SpikingEngine, steps: int, units: Mapping[str, int]) -> str:
    """A name for all that is compiled into a program."""
    masks = {
        name: hashlib.sha256(projection.mask.cpu().numpy().tobytes()).hexdigest()
        for name, projection in engine.projections.items()
        if projection.mask is not None
    }
    net = engine.net
    areas = {area: (data["role"], data["units"]) for area, data in net.nodes(data=True)}
    edges = [(source, target, name, kind) for source, target, name, kind in net.edges(keys=True, data="kind")]
    text = json.dumps(
        {
            "net": [areas, edges, masks, list(units.items())],
            "time": [asdict(engine.neurons), asdict(engine.clock_of(steps)), PRESENTATIONS],
            "made by": [brian2.__version__, machine(), *(Path(__file__).with_name(n).read_text() for n in SOURCES)],
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _compile(engine: SpikingEngine, steps: int, units: Mapping[str, int], folder: Path) -> None:
    """Write a program and compile it; where two processes do so at once, the first to be ready is kept."""
    if compiler() is None:
        raise CortexffError(
            "engine.spiking.backend cpp needs a C++ compiler, and there is none: install g++, or give torch or numpy"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        brian2.BrianLogger.log_level_error()
        brian2.prefs.devices.cpp_standalone.extra_make_args_unix = [f"-j{len(os.sched_getaffinity(0))}"]
        brian2.set_device("cpp_standalone", build_on_run=False, directory=place)
        try:
            blank = {area: np.zeros((PRESENTATIONS, count)) for area, count in units.items()}
            handles = build(engine, steps, blank, compiled=True)
            handles.network.run(_duration(engine, steps, PRESENTATIONS), namespace={})
            device = brian2.get_device()
            device.build(directory=place, compile=True, run=False)

            def file(monitor: brian2.StateMonitor, variable: str) -> str:
                return device.get_array_filename(monitor.variables[variable])

            parts = {
                **{f"image/{area}": f"{image.name}.values" for area, image in handles.images.items()},
                **{f"bias/{area}": f"{group.name}.b" for area, group in handles.biases.items()},
                **{f"projection/{name}": f"{part.name}.w" for name, part in handles.projections.items()},
                **{f"traces/{area}": file(monitor, "gathered") for area, monitor in handles.traces.items()},
                **{f"counts/{area}": file(monitor, "spikes") for area, monitor in handles.counts.items()},
            }
        finally:
            brian2.get_device().reinit()
            brian2.set_device("runtime")
        (Path(place) / "parts.json").write_text(json.dumps(parts))
        try:
            os.rename(place, folder)
        except OSError:
            if not folder.exists():
                raise
        else:
            os.mkdir(place)  # for the end of the block to remove
