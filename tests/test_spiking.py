"""The spiking engine as a whole: what it says beside the rate engine, and what it refuses."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scenes import BARE, model, project, random_net
from sklearn.datasets import load_digits

from cortexff.engines.neurons import Neurons
from cortexff.engines.rate import RateEngine
from cortexff.engines.spiking import BACKENDS, SpikingEngine, backend_for
from cortexff.engines.state import RateDynamics, RateState
from cortexff.equations.normalization import length_normalization
from cortexff.errors import CortexffError
from cortexff.graph import load_model

# A skip projection, one that runs over an area, lateral ones, local fields, blocks, and both signs of goodness.
AREAS = {
    "retina": {"role": "input", "shape": [8, 8, 1]},
    "V1": {"shape": [8, 8, 2]},
    "V2": {"shape": [4, 4, 8], "goodness": {"blocks": 4}},
    "V3": {"units": 60, "goodness": {"sign": "min"}},
    "label": {"role": "context", "units": 10},
}
PROJECTIONS = [
    project("retina", "V1", receptive_field={"size": [5, 5]}),
    project("V1", "V2", receptive_field={"size": [4, 4]}),
    project("retina", "V2", name="skip"),
    project("V2", "V3"),
    project("V1", "V3", name="far"),
    project("V3", "V2", "top_down"),
    project("V2", "V1", "top_down", receptive_field={"size": [3, 3]}),
    project("V1", "V1", "lateral", receptive_field={"size": [3, 3]}),
    project("label", "V3", "top_down"),
]
EVERYTHING = model(AREAS, PROJECTIONS)
LABELS = {"label": torch.eye(10)[None, None]}


def digits(cases: int) -> dict[str, torch.Tensor]:
    return {"retina": torch.from_numpy(load_digits().images[:cases]).float().view(1, cases, 1, 64) / 16.0}


def settled(engine: RateEngine, state: RateState, cases: int) -> list[dict[str, torch.Tensor]]:
    """Activity at every step."""
    percept = engine.look(state, digits(cases))
    return [{a: y.clone() for a, y in moment.activity.items()} for moment in engine.settle(state, percept, LABELS)]


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return np.corrcoef(*(array.flatten().numpy() for array in torch.broadcast_tensors(one, other)))[0, 1]


@pytest.mark.parametrize(
    "neurons",
    [Neurons(), Neurons(firing_rate=25, time_constant=40, time_step=2), Neurons(neuron="leaky")],
    ids=["integrate and fire", "biological", "leaky"],
)
def test_a_graph_with_everything_says_in_spikes_what_it_says_in_rates(neurons):
    engine = SpikingEngine(EVERYTHING, RateDynamics(), neurons, "torch")
    state = engine.start(0, [0, 1])
    spikes, rates = (settled(one, state, 12) for one in (engine, engine.rates))
    for step in range(2, 5):  # those that a readout reads
        for area in engine.areas:
            here, there = spikes[step][area], rates[step][area]
            assert correlation(here, there) > 0.9
            for block in range(EVERYTHING.nodes[area]["goodness"].blocks):
                goodness = (engine.goodness(area, activity)[..., block] for activity in (here, there))
                assert correlation(*goodness) > 0.9


@pytest.mark.parametrize("number", range(4))
def test_any_graph_can_be_looked_at_in_spikes(number):
    net = random_net(number)
    engine = SpikingEngine(net, RateDynamics(steps=3), backend="torch")
    state, random = engine.start(0, [0, 1]), np.random.default_rng(number)
    clamped = {
        role: {
            area: torch.from_numpy(random.random((1, 2, 1, data["units"]), dtype=np.float32))
            for area, data in net.nodes(data=True)
            if data["role"] == role
        }
        for role in ("input", "context")
    }
    moments = list(engine.settle(state, engine.look(state, clamped["input"]), clamped["context"]))
    assert len(moments) == 3
    assert all(torch.isfinite(y).all() and (y >= 0).all() for moment in moments for y in moment.activity.values())


def test_faster_units_come_closer_to_rates():
    far = []
    for firing_rate in (12.5, 25, 50, 100):
        engine = SpikingEngine(EVERYTHING, RateDynamics(), Neurons(firing_rate=firing_rate), "torch")
        state = engine.start(0, [0])
        spikes, rates = (settled(one, state, 8)[3]["V2"] for one in (engine, engine.rates))
        far.append((spikes - rates).square().mean().item())
    assert far == sorted(far, reverse=True)


def test_weights_are_those_of_the_rate_engine():
    engine = SpikingEngine(EVERYTHING, RateDynamics(), backend="torch")
    for (name, mine), theirs in zip(
        engine.start(3, [7]).arrays().items(), engine.rates.start(3, [7]).arrays().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_spikes_add_up_from_the_beginning_of_the_presentation():
    engine = SpikingEngine(EVERYTHING, RateDynamics(), backend="torch")
    state = engine.start(0, [0])
    counts = [moment.spikes["V1"].clone() for moment in engine.settle(state, engine.look(state, digits(3)), LABELS)]
    assert counts[0].shape == (1, 3, 10)
    assert all((late >= early).all() for early, late in pairwise(counts))


def test_a_feed_forward_net_has_one_moment_its_bottom_up_pass():
    net = model(
        {"retina": {"role": "input", "units": 64}, "V1": {"units": 30}, "V2": {"units": 20}},
        [project("retina", "V1"), project("V1", "V2")],
    )
    engine = SpikingEngine(net, RateDynamics(steps=0), backend="torch")
    state = engine.start(0, [0])
    percept = engine.look(state, digits(10))
    (moment,) = engine.settle(state, percept, {})
    (of_rates,) = engine.rates.settle(state, engine.rates.look(state, digits(10)), {})
    for area in engine.areas:
        assert torch.equal(moment.activity[area], percept.activity[area])
        assert correlation(moment.activity[area], of_rates.activity[area]) > 0.95


def test_a_pixel_that_no_unit_can_tell_is_refused():
    engine = SpikingEngine(EVERYTHING, RateDynamics(), Neurons(firing_rate=100), "torch")
    state, images = engine.start(0, [0]), torch.zeros(1, 1, 1, 64)
    images[..., 0] = 1.0
    assert list(engine.settle(state, engine.look(state, {"retina": images}), LABELS))  # 8 times the root mean square
    with pytest.raises(CortexffError, match="area retina: a pixel is -1"):
        engine.look(state, {"retina": images - 1.0})
    wide = model({"retina": {"role": "input", "units": 400}, "V1": {"units": 5}}, [project("retina", "V1")])
    engine, images = SpikingEngine(wide, RateDynamics(), Neurons(firing_rate=100), "torch"), torch.zeros(1, 1, 1, 400)
    images[..., 0] = 1.0
    with pytest.raises(CortexffError, match=r"20 times the root mean square .* give engine.spiking.time_step 0.5 ms"):
        engine.look(engine.start(0, [0]), {"retina": images})


def test_more_labels_than_a_unit_can_tell_are_refused():
    net = model(
        {
            "retina": {"role": "input", "units": 4},
            "V1": {"units": 5},
            "label": {"role": "context", "units": 900},
        },
        [project("retina", "V1"), project("label", "V1", "top_down")],
    )
    with pytest.raises(CortexffError, match=r"area label .* has 900 labels.*time_step 0.66 ms or less"):
        SpikingEngine(net, RateDynamics(), backend="torch")
    SpikingEngine(net, RateDynamics(), Neurons(time_step=0.66), backend="torch")  # what was advised


def pass_through(engine: RateEngine, state: RateState, images: torch.Tensor, labels: torch.Tensor) -> dict:
    """What a newborn would change in a pass through the images, each with its label and with the one after it."""
    seen = {"retina": images}
    context = {"label": torch.stack([torch.eye(10)[(labels + wrong) % 10] for wrong in (0, 1)], dim=1)[None]}
    found = {}
    percept = engine.look(state, seen)
    gradients = engine.gradients(state, percept, context, seen, (True, False), BARE, images.shape[1])
    for area, gradient in zip(engine.areas, gradients, strict=True):
        found |= {name: array.clone() for name, array in gradient.weights.items()} | {area: gradient.bias.clone()}
    return found


def test_the_change_over_a_pass_is_that_of_rates():
    """Correlated at least 0.95 in the first hidden area and 0.8 in the second."""
    engine = SpikingEngine(load_model("digits_recurrent"), RateDynamics(), backend="torch")
    state, labels = engine.start(0, [0]), torch.from_numpy(load_digits().target[:200])
    spikes, rates = (pass_through(one, state, digits(200)["retina"], labels) for one in (engine, engine.rates))
    for name, least in {"retina→V1": 0.95, "V2→V1": 0.95, "V1": 0.95, "V1→V2": 0.8, "label→V2": 0.8, "V2": 0.8}.items():
        assert correlation(spikes[name], rates[name]) > least, name


def test_what_is_learned_from_is_what_has_arrived_so_far():
    """Eq. 3, written out from the spikes' own traces: the moment's residual, times trace, times what arrived, both as
    means since the label came."""
    net = model(
        {"retina": {"role": "input", "units": 64}, "V1": {"units": 15}, "V2": {"units": 12}},
        [project("retina", "V1"), project("V1", "V2"), project("V2", "V1", "top_down")],
    )
    engine = SpikingEngine(net, RateDynamics(steps=3), backend="torch")
    state, cases = engine.start(0, [0]), 4
    percept = engine.look(state, digits(cases))
    found = engine.gradients(state, percept, {}, digits(cases), (True,), BARE, cases)
    weights = {name: array.clone() for gradient in found for name, array in gradient.weights.items()}
    course = percept.seen
    expected = torch.zeros(12, 15)
    for moment in (1, 2, 3):
        trace = torch.stack([course.activity(until)["V2"] for until in range(1, moment + 1)]).mean(0)
        arrived = torch.stack([course.arrived(until)["V1"] for until in range(1, moment + 1)]).mean(0)
        residual = 1.0 - engine.p_positive("V2", engine.goodness("V2", course.activity(moment)["V2"]))
        expected += torch.einsum("scvi,scvj->ij", residual * trace * (trace > 0), length_normalization(arrived))
    assert correlation(weights["V1→V2"][0], expected) > 0.99999


def test_wake_raises_goodness_and_sleep_lowers_it():
    net = load_model("digits_recurrent")
    engine = SpikingEngine(net, RateDynamics(steps=4), backend="torch")
    labels = {"label": torch.eye(10)[torch.from_numpy(load_digits().target[:10])][None, :, None]}
    for real in (True, False):
        state, goodness = engine.start(0, [0]), []
        for _ in range(4):
            percept = engine.look(state, digits(10))
            *_, moment = engine.settle(state, percept, labels)
            goodness.append(engine.goodness("V1", moment.activity["V1"]).mean().item())
            engine.learn(state, percept, labels, digits(10), (real,), replace(BARE, learning_rate=0.5))
        assert (goodness[-1] > goodness[0]) == real


def test_what_is_learned_without_hard_negatives_is_shown_once():
    engine = SpikingEngine(load_model("digits_recurrent"), RateDynamics(steps=2), backend="torch")
    state, images, shown = engine.start(0, [0]), digits(5), []
    show = engine.backend.show
    engine.backend.show = lambda *given: shown.append(given[3]) or show(*given)
    labels = {"label": torch.eye(10)[:5][None, :, None]}
    engine.learn(state, engine.look(state, images), labels, images, (True,), BARE)
    assert shown == [2]


def test_representations_of_another_image_are_refused():
    engine = SpikingEngine(EVERYTHING, RateDynamics(), backend="torch")
    state, images = engine.start(0, [0]), digits(2)
    with pytest.raises(CortexffError, match="other_context"):
        percept = engine.look(state, images)
        engine.learn(state, percept, LABELS, images, (True,), BARE, borrowed=(True,))


@pytest.mark.parametrize("backend", ["torch", "numpy"])
@pytest.mark.parametrize("neuron", ["integrate_and_fire", "leaky"])
def test_a_network_that_has_diverged_is_told_by_its_activity(backend, neuron):
    engine = SpikingEngine(load_model("digits_recurrent"), RateDynamics(steps=1), Neurons(neuron=neuron), backend)
    state, label = engine.start(0, [0, 1]), {"label": LABELS["label"][:, :, :1]}
    state.weights["retina→V1"][1] = torch.nan
    (moment,) = engine.settle(state, engine.look(state, digits(1)), label)
    assert moment.activity["V1"][0].isfinite().all() and moment.activity["V1"][1].isnan().any()


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_rank_without_cases_has_nothing_to_show(backend):
    engine = SpikingEngine(load_model("digits_recurrent"), RateDynamics(steps=2), backend=backend)
    state = engine.start(0, [0])
    percept = engine.look(state, {"retina": torch.zeros(1, 0, 1, 64)})
    moments = list(engine.settle(state, percept, LABELS))
    assert [moment.activity["V1"].shape for moment in moments] == [(1, 0, 10, 200)] * 2


def test_as_many_moments_as_the_rates_have():
    recurrent, chain = (
        SpikingEngine(load_model(name), RateDynamics(steps=steps), backend="torch")
        for name, steps in (("digits_recurrent", 4), ("digits_feedforward", 0))
    )
    for engine, context in ((recurrent, LABELS), (chain, {})):
        state = engine.start(0, [0])
        for steps in (None, 0, 1, 3):
            counts = [
                len(list(one.settle(state, one.look(state, digits(1)), context, steps)))
                for one in (engine, engine.rates)
            ]
            assert counts[0] == counts[1], steps


def test_programs_do_not_run_on_a_gpu():
    with pytest.raises(CortexffError, match=r"backend cpp runs on processors alone"):
        backend_for("cpp", learning=False, device="cuda")


def test_auto_is_a_compiled_program_where_nothing_learns_and_there_is_a_compiler(monkeypatch):
    assert backend_for("numpy", learning=True, device="cpu") == "numpy"
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert backend_for("auto", learning=False, device="cpu") == "cpp"
    assert backend_for("auto", learning=True, device="cpu") == "torch"
    assert backend_for("auto", learning=False, device="cuda") == "torch"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert backend_for("auto", learning=False, device="cpu") == "torch"
    assert set(BACKENDS) == {"cpp", "cython", "numpy", "torch"}
