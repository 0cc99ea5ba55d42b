"""A network of Brian2 as a compiled program that is kept.

It shows ``PRESENTATIONS`` images one after the other and writes down what it saw. Weights, biases, images and labels
are files that it reads when it starts, so it is compiled once for a net and its constants.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cortexff.engines.brian_network import brian2, build, constants_of, duration
from cortexff.environment import compiler, machine
from cortexff.errors import CortexffError

if TYPE_CHECKING:
    from cortexff.engines.spiking import SpikingEngine

PRESENTATIONS = 200  # of a program; fewer are filled up with blank ones, which cost half
SHARED_MEMORY = "/dev/shm"
ROOM = 200_000_000  # bytes there for traces, counts and what lists synapses
SOURCES = ("brian_network.py", "brian_program.py", "neurons.py")  # all that is compiled into a program


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
    """A name for all that is compiled into a program; constants that are the same in time steps make the same one."""
    masks = {
        name: hashlib.sha256(projection.mask.cpu().numpy().tobytes()).hexdigest()
        for name, projection in engine.projections.items()
        if projection.mask is not None
    }
    net = engine.net
    areas = {area: (data["role"], data["units"]) for area, data in net.nodes(data=True)}
    edges = [(source, target, name, kind) for source, target, name, kind in net.edges(keys=True, data="kind")]
    clock = engine.clock_of(steps)
    constants = {name: float(value) for name, value in constants_of(engine.neurons, clock).items()}
    text = json.dumps(
        {
            "net": [areas, edges, masks, list(units.items())],
            "time": [constants, asdict(clock), PRESENTATIONS],
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
            handles.network.run(duration(engine, steps, PRESENTATIONS), namespace={})
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
