"""Programs are compiled once, for all that goes into them."""

import shutil

import pytest
import torch
from scenes import model, project
from test_brian import COMPILER
from test_spiking import EVERYTHING, LABELS, digits

from cortexff.engines import brian_program
from cortexff.engines.neurons import Neurons
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateDynamics
from cortexff.errors import CortexffError
from cortexff.graph import load_model


@COMPILER
def test_a_program_is_compiled_once_and_says_so(tmp_path, monkeypatch):
    """Weights, images, subjects, how many there are of them, and labels do not ask for a new one.

    Here 120 presentations of 1.4 s: after a minute, rounded clocks no longer agreed, and images came a step late.
    """
    monkeypatch.setenv("CORTEXFF_CACHE", str(tmp_path))
    monkeypatch.setattr(brian_program, "PRESENTATIONS", 120)
    told: list[str] = []
    areas = {
        "retina": {"role": "input", "units": 64},
        "V1": {"units": 20},
        "label": {"role": "context", "units": 10},
    }
    net = model(areas, [project("retina", "V1"), project("label", "V1", "top_down")])
    slow = Neurons(firing_rate=5, time_constant=230, time_step=10)
    ours = SpikingEngine(net, RateDynamics(steps=1), slow, "cpp", tell=told.append)
    theirs = SpikingEngine(net, RateDynamics(steps=1), slow, "torch")
    for seed, cases in ((0, 3), (1, 15)):
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
    monkeypatch.setattr(brian_program.subprocess, "run", lambda *args, **options: began.update(options) or done)
    done = type("Done", (), {"returncode": 1, "stderr": "no"})
    with pytest.raises(CortexffError, match="failed"):
        brian_program.Program(tmp_path, {}).run({}, {}, {})
    assert began["process_group"] == 0


def test_a_program_has_a_name_for_all_that_is_compiled_into_it():
    def digest(net=EVERYTHING, steps: int = 8, **neurons) -> str:
        engine = SpikingEngine(net, RateDynamics(), Neurons(**neurons), "numpy")
        return brian_program._digest(engine, steps, {"retina": 64})

    names = [
        digest(),
        digest(steps=0),
        digest(firing_rate=60),
        digest(neuron="leaky"),
        digest(net=load_model("digits_recurrent")),
    ]
    assert len(set(names)) == len(names)
    assert digest() == names[0] == digest(firing_rate=20, time_constant=50, time_step=2.5)  # the same, stretched


def test_without_a_compiler_there_is_a_way_on(tmp_path, monkeypatch):
    monkeypatch.setenv("CORTEXFF_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    engine = SpikingEngine(EVERYTHING, RateDynamics(), backend="cpp")
    with pytest.raises(CortexffError, match="install g\\+\\+, or give torch or numpy"):
        _ = engine.look(engine.start(0, [0]), digits(1)).activity
