"""Spikes in Brian2 are those of PyTorch; programs are compiled once."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from scenes import model, project
from test_spiking import EVERYTHING, LABELS, digits

from cortexff.engines import brian
from cortexff.engines.neurons import Neurons
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateDynamics, RateState
from cortexff.environment import compiler
from cortexff.graph import load_model

COMPILER = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
KINDS = {
    "integrate and fire": Neurons(),
    "leaky": Neurons(neuron="leaky", firing_rate=25, time_constant=40, time_step=2, refractory=2),
}


def shown(engine: SpikingEngine, state: RateState, cases: int) -> tuple[list[dict], list[dict]]:
    """Activity and spikes at every step, the first of them of the bottom-up pass."""
    percept = engine.look(state, digits(cases))
    moments = [({a: y.clone() for a, y in m.activity.items()}, m.spikes) for m in engine.settle(state, percept, LABELS)]
    return [percept.activity, *(activity for activity, _ in moments)], [spikes for _, spikes in moments]


def assert_the_same(one: SpikingEngine, other: SpikingEngine, state: RateState, cases: int) -> None:
    """Spikes within 1 % an area, goodness correlated above 0.99, at every step."""
    (mine, my_spikes), (theirs, their_spikes) = (shown(engine, state, cases) for engine in (one, other))
    for here, there in zip(mine, theirs, strict=True):
        for area in one.areas:
            goodness = [engine.goodness(area, y[area]).sum(-1) for engine, y in ((one, here), (other, there))]
            pair = torch.broadcast_tensors(*goodness)
            assert np.corrcoef(*(array.flatten().numpy() for array in pair))[0, 1] > 0.99
    for here, there in zip(my_spikes, their_spikes, strict=True):
        for area in one.areas:
            assert here[area].sum().item() == pytest.approx(there[area].sum().item(), rel=0.01)


@pytest.mark.parametrize("neurons", KINDS.values(), ids=KINDS)
def test_on_numpy_a_graph_with_everything_spikes_as_in_pytorch(neurons):
    ours, theirs = (SpikingEngine(EVERYTHING, RateDynamics(steps=3), neurons, name) for name in ("numpy", "torch"))
    assert_the_same(ours, theirs, ours.start(0, [0, 1]), cases=1)


def test_the_backend_can_be_used_in_a_thread_and_leaves_ctrl_c_alone():
    """As Dask's workers do; Brian2 by itself cannot be imported there."""
    script = """
import signal, threading
before, found = signal.getsignal(signal.SIGINT), []
def work():
    from cortexff.engines import brian
    found.append(brian.brian2.NeuronGroup)
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert found and signal.getsignal(signal.SIGINT) is before
signal.signal(signal.SIGINT, signal.SIG_IGN)
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_image_leaves_nothing_behind_for_the_next():
    engine = SpikingEngine(EVERYTHING, RateDynamics(steps=2), Neurons(), "numpy")
    state, both = engine.start(0, [0]), digits(2)
    alone = {"retina": both["retina"][:, 1:]}
    label = {"label": LABELS["label"][:, :, :1]}
    *_, together = engine.settle(state, engine.look(state, both), label)
    *_, single = engine.settle(state, engine.look(state, alone), label)
    for area in engine.areas:
        torch.testing.assert_close(together.activity[area][:, 1:], single.activity[area], rtol=0, atol=1e-6)
        assert torch.equal(together.spikes[area][:, 1:], single.spikes[area])


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
    with brian._quiet("numpy"):
        handles = brian.build(engine, 3, rows)
        for name, synapses in handles.projections.items():
            synapses.w = weights[name]
        pool = next(thing for thing in handles.network.objects if thing.name == "pool1")
        area = handles.biases["V1"]
        watch = {"record": True, "when": "end", "dt": neurons.time_step * brian2.ms}
        traces, squares = brian2.StateMonitor(area, "r", **watch), brian2.StateMonitor(pool, "m", **watch)
        handles.network.add(traces, squares)
        handles.network.run(brian._duration(engine, 3, 2), namespace={})
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
    with brian._quiet("numpy"):
        handles = brian.build(engine, 3, {area: row.view(1, -1).double().numpy() for area, row in rows.items()})
        for name, synapses in handles.projections.items():
            synapses.w = weights[name]
        for area, group in handles.biases.items():
            group.b = biases[area]
        groups = {thing.name: thing for thing in handles.network.objects}
        monitors = {area: brian2.SpikeMonitor(groups[f"area{n}"]) for n, area in enumerate(engine.net)}
        handles.network.add(*monitors.values())
        handles.network.run(brian._duration(engine, 3, 1), namespace={})
    for area, monitor in monitors.items():
        theirs = np.zeros((brian.period(engine.clock) + 1, engine.units[area]), dtype=bool)  # and a step of the next
        theirs[np.rint(np.asarray(monitor.t / brian2.ms) / neurons.time_step).astype(int), np.asarray(monitor.i)] = True
        theirs = theirs[: engine.clock.whole]
        assert theirs.any()
        np.testing.assert_array_equal(seen.spikes[area][0, 0, 0].numpy(), theirs, err_msg=area)


@COMPILER
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("neurons", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("target", ["cpp", "cython"])
def test_compiled_a_graph_with_everything_spikes_as_in_pytorch(target, neurons, tmp_path, monkeypatch):
    monkeypatch.setenv("CORTEXFF_CACHE", str(tmp_path))
    ours, theirs = (SpikingEngine(EVERYTHING, RateDynamics(steps=5), neurons, name) for name in (target, "torch"))
    assert_the_same(ours, theirs, ours.start(0, [0, 1]), cases=2)


@COMPILER
def test_a_program_is_compiled_once_and_says_so(tmp_path, monkeypatch):
    """Weights, images, subjects, how many there are of them, and labels do not ask for a new one."""
    monkeypatch.setenv("CORTEXFF_CACHE", str(tmp_path))
    monkeypatch.setattr(brian, "PRESENTATIONS", 5)
    told: list[str] = []
    areas = {
        "retina": {"role": "input", "units": 64},
        "V1": {"units": 20},
        "label": {"role": "context", "units": 10},
    }
    net = model(areas, [project("retina", "V1"), project("label", "V1", "top_down")])
    ours = SpikingEngine(net, RateDynamics(steps=1), backend="cpp", tell=told.append)
    theirs = SpikingEngine(net, RateDynamics(steps=1), backend="torch")
    for seed, cases in ((0, 3), (1, 12)):
        state = ours.start(seed, [0, 1])
        mine, expected = (engine.look(state, digits(cases)).activity["V1"] for engine in (ours, theirs))
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-4)
        (mine,), (expected,) = (
            engine.settle(state, engine.look(state, digits(cases)), LABELS) for engine in (ours, theirs)
        )
        torch.testing.assert_close(mine.activity["V1"], expected.activity["V1"], rtol=0, atol=1e-4)
    assert len(told) == 1 and "compiling" in told[0]
    assert len(list((tmp_path / "spiking").iterdir())) == 1


@COMPILER
def test_a_signal_to_the_group_leaves_the_program_running(tmp_path, monkeypatch):
    """Ctrl-C goes to every process of the terminal's group: a run stops after what is in hand, so that must finish."""
    began: dict = {}
    monkeypatch.setattr(brian.subprocess, "run", lambda *args, **options: began.update(options) or done)
    done = type("Done", (), {"returncode": 1, "stderr": "no"})
    with pytest.raises(brian.CortexffError, match="failed"):
        brian.Program(tmp_path, {}).run({}, {}, {})
    assert began["process_group"] == 0


def test_a_program_has_a_name_for_all_that_is_compiled_into_it():
    def digest(net=EVERYTHING, steps: int = 8, **neurons) -> str:
        engine = SpikingEngine(net, RateDynamics(), Neurons(**neurons), "numpy")
        return brian._digest(engine, steps, {"retina": 64})

    names = [
        digest(),
        digest(steps=0),
        digest(firing_rate=60),
        digest(neuron="leaky"),
        digest(net=load_model("digits_recurrent")),
    ]
    assert len(set(names)) == len(names)
    assert digest() == names[0]


def test_without_a_compiler_there_is_a_way_on(tmp_path, monkeypatch):
    monkeypatch.setenv("CORTEXFF_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    engine = SpikingEngine(EVERYTHING, RateDynamics(), backend="cpp")
    with pytest.raises(brian.CortexffError, match="install g\\+\\+, or give torch or numpy"):
        _ = engine.look(engine.start(0, [0]), digits(1)).activity
