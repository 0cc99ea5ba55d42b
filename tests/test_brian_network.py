"""The network in Brian2, looked into: its pool units, each of its spikes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from test_brian import KINDS
from test_spiking import EVERYTHING, digits

from cortexff.engines.brian import _quiet
from cortexff.engines.brian_network import STEP, build, duration, period
from cortexff.engines.neurons import Neurons
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateDynamics


def test_the_backend_can_be_used_in_a_thread_and_leaves_ctrl_c_alone():
    """As Dask's workers do; Brian2 by itself cannot be imported there."""
    script = """
import signal, threading
before, found = signal.getsignal(signal.SIGINT), []
def work():
    from cortexff.engines.brian_network import brian2
    found.append(brian2.NeuronGroup)
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert found and signal.getsignal(signal.SIGINT) is before
signal.signal(signal.SIGINT, signal.SIG_IGN)
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "neurons", [KINDS["integrate and fire"], Neurons(firing_rate=25, time_constant=40, time_step=2)]
)
def test_the_pool_unit_holds_the_mean_square_of_its_areas_traces(neurons):
    """At every time step of a run, to 1e-9, though it hears nothing but spikes."""
    import brian2

    engine = SpikingEngine(EVERYTHING, RateDynamics(steps=3), neurons, "numpy")
    state, random = engine.start(0, [0]), np.random.default_rng(0)
    rows = {"retina": random.random((2, 64)), "label": np.eye(10)[:2] * 10**0.5}
    rows["retina"] /= np.sqrt((rows["retina"] ** 2).mean(1, keepdims=True))
    _, weights = engine.backend._given(state, 0)
    with _quiet("numpy"):
        handles = build(engine, 3, rows)
        for name, synapses in handles.projections.items():
            synapses.w = weights[name]
        pool = next(thing for thing in handles.network.objects if thing.name == "pool1")
        area = handles.biases["V1"]
        watch = {"record": True, "when": "end", "dt": STEP}
        traces, squares = brian2.StateMonitor(area, "r", **watch), brian2.StateMonitor(pool, "m", **watch)
        handles.network.add(traces, squares)
        handles.network.run(duration(engine, 3, 2), namespace={})
    expected = (np.asarray(traces.r) ** 2).mean(0)
    assert expected.max() > 0.1
    np.testing.assert_allclose(np.asarray(squares.m)[0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("neurons", KINDS.values(), ids=KINDS)
def test_a_recording_has_each_spike_of_brian2_in_its_time_step(neurons):
    import brian2

    engine = SpikingEngine(EVERYTHING, RateDynamics(steps=3), neurons, "numpy")
    state, image = engine.start(0, [0]), digits(1)
    label = {"label": torch.eye(10)[None, None, :1]}
    seen = engine.record(state, image, label)
    rows = {**engine.look(state, image).images, "label": label["label"] * 10**0.5}
    biases, weights = engine.backend._given(state, 0)
    with _quiet("numpy"):
        handles = build(engine, 3, {area: row.view(1, -1).double().numpy() for area, row in rows.items()})
        for name, synapses in handles.projections.items():
            synapses.w = weights[name]
        for area, group in handles.biases.items():
            group.b = biases[area]
        groups = {thing.name: thing for thing in handles.network.objects}
        monitors = {area: brian2.SpikeMonitor(groups[f"area{n}"]) for n, area in enumerate(engine.net)}
        handles.network.add(*monitors.values())
        handles.network.run(duration(engine, 3, 1), namespace={})
    for area, monitor in monitors.items():
        theirs = np.zeros((period(engine.clock) + 1, engine.units[area]), dtype=bool)  # and a step of the next
        theirs[np.rint(np.asarray(monitor.t / STEP)).astype(int), np.asarray(monitor.i)] = True
        theirs = theirs[: engine.clock.whole]
        assert theirs.any()
        np.testing.assert_array_equal(seen.spikes[area][0, 0, 0].numpy(), theirs, err_msg=area)
