"""The net 64-200-200-10 in spikes as a Brian2 user would write it down for this one case: the benchmark's yardstick.

The same units, delays and pool units as the engine's, with constants as numbers; shows images and labels one after
the other and counts spikes in a window. What the engine has beside it (any graph, traces of every half iteration,
weights read at the start) is not here.
"""

import subprocess
from pathlib import Path

import brian2
import numpy as np
from brian2 import Hz, NeuronGroup, StateMonitor, Synapses, TimedArray, linked_var, ms

TAU, RATE, HALF, PERIOD = 20 * ms, 50 * Hz, 12, 312  # the last two in steps of 1 ms
UNIT = """
dv/dt = rate*clip(b + from_below*gain_below + (label + from_above*gain_above)*int(steps >= 96), 0, 20) : 1
dr/dt = -r/tau : 1
dfrom_below/dt = -from_below/tau : 1
dfrom_above/dt = -from_above/tau : 1
dlabel/dt = -label/tau : 1
steps = t_in_timesteps % 312 : integer (shared)
b : 1 (constant)
v0 : 1 (constant)
count : 1
gain_below : 1 (linked)
gain_above : 1 (linked)
"""
POOL = "dm/dt = -m*(2/tau - dt/tau**2) : 1\ngain : 1"


def compile_script(folder: Path, images: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray]) -> Path:
    """Build the program in a folder; returns it.

    images, labels  what is shown, (presentations, 64) and (presentations, 10), each row of mean square 1
    weights         ``retina→V1`` and so on, (target units, source units)
    """
    brian2.set_device("cpp_standalone", build_on_run=False, directory=str(folder))
    brian2.prefs.devices.cpp_standalone.extra_make_args_unix = ["-j2"]
    brian2.defaultclock.dt = 1 * ms
    names = {
        "tau": TAU,
        "rate": RATE,
        "image": TimedArray(images, PERIOD * ms),
        "name": TimedArray(labels, PERIOD * ms),
    }
    every = {"method": "euler", "namespace": names}
    within = " and t_in_timesteps % 312 < 300"
    phases = (np.sqrt(5) - 1) / 2
    at_once = "dv/dt = rate*image(t, i) : 1\nv0 : 1 (constant)"
    later = "dv/dt = rate*name(t, i)*int(t_in_timesteps % 312 >= 96) : 1\nv0 : 1 (constant)"
    retina = NeuronGroup(64, at_once, threshold="v >= 1" + within, reset="v -= 1", **every)
    label = NeuronGroup(10, later, threshold="v >= 1" + within, reset="v -= 1", **every)
    areas = [
        NeuronGroup(200, UNIT, threshold="v >= 1" + within, reset="v -= 1; r += 1; count += 1", **every) for _ in "12"
    ]
    pools = [NeuronGroup(1, POOL, **every) for _ in areas]
    fixed = NeuronGroup(1, "one : 1", namespace=names)
    fixed.one = 1
    first, second = areas
    everyone = np.zeros(200, dtype=int)
    first.gain_below, first.gain_above = (
        linked_var(g, v, index=everyone) for g, v in ((fixed, "one"), (pools[1], "gain"))
    )
    second.gain_below, second.gain_above = (
        linked_var(g, v, index=everyone) for g, v in ((pools[0], "gain"), (fixed, "one"))
    )
    parts = [retina, label, *areas, *pools, fixed]
    for source, target, variable, name in (
        (retina, first, "from_below", "retina→V1"),
        (first, second, "from_below", "V1→V2"),
        (second, first, "from_above", "V2→V1"),
        (label, second, "label", "label→V2"),
    ):
        synapses = Synapses(source, target, "w : 1", on_pre=f"{variable}_post += w", delay=(HALF - 1) * ms)
        synapses.connect()
        synapses.w = weights[name].T.ravel()
        parts.append(synapses)
    for group in (retina, label, *areas):
        group.v0 = np.arange(len(group)) * phases % 1
    for clamped in (retina, label):
        clamped.run_regularly("v = v0", dt=PERIOD * ms, order=2)
    for area, pool in zip(areas, pools, strict=True):
        counting = Synapses(area, pool, on_pre="m_post += (2*r_pre + 1)/200")
        counting.connect()
        parts.append(counting)
        area.run_regularly(
            "v = v0; r = 0; from_below = 0; from_above = 0; label = 0; count = 0", dt=PERIOD * ms, order=2
        )
        pool.run_regularly("m = 0", dt=PERIOD * ms, order=2)
        pool.run_regularly("gain = 1/sqrt(clip(m, 0.05, inf))", order=3)
        parts.append(StateMonitor(area, "count", record=True, dt=PERIOD * ms, when="start", order=0))
    network = brian2.Network(parts)
    network.run(len(images) * PERIOD * ms)
    brian2.get_device().build(directory=str(folder), compile=True, run=False)
    brian2.get_device().reinit()
    brian2.set_device("runtime")
    return folder / "main"


def run(program: Path) -> None:
    """Show all that it has to show."""
    subprocess.run([str(program)], cwd=program.parent, check=True, capture_output=True)
