"""Spikes in Brian2 are those of PyTorch."""

import numpy as np
import pytest
import torch
from test_spiking import EVERYTHING, LABELS, digits

from cortexff.engines.neurons import Neurons
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateDynamics, RateState
from cortexff.environment import compiler

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


@COMPILER
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("neurons", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("target", ["cpp", "cython"])
def test_compiled_a_graph_with_everything_spikes_as_in_pytorch(target, neurons, tmp_path, monkeypatch):
    monkeypatch.setenv("CORTEXFF_CACHE", str(tmp_path))
    ours, theirs = (SpikingEngine(EVERYTHING, RateDynamics(steps=5), neurons, name) for name in (target, "torch"))
    assert_the_same(ours, theirs, ours.start(0, [0, 1]), cases=2)
