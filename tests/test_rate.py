"""The rate engine as a whole: what an update does, cohorts, order, precision, and learning a task."""

import copy
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from scenes import (
    BARE,
    CUDA,
    FIGURE_3,
    LATE_START,
    Scene,
    assert_close,
    brute_mask,
    equal,
    full,
    model,
    project,
    random_net,
    scene,
    tensor_like,
)
from torch import Tensor

from cortexff.engines.projections import Local
from cortexff.engines.rate import RateEngine, best_precision
from cortexff.engines.state import Plasticity, RateDynamics, RateState
from cortexff.equations.normalization import length_normalization
from cortexff.equations.plasticity import one_shot_rate
from cortexff.graph import load_model
from cortexff.readout import by_goodness
from cortexff.stimuli.labels import candidates, one_hot

BFLOAT16_TOLERANCE = 0.04  # twice the largest difference found, over 48 graphs

# ------------------------------------------------------------------------ §6: what one update does


def one_area(units: int = 9, inputs: int = 30, **goodness) -> tuple[RateEngine, RateState, dict[str, Tensor]]:
    """One input, one area, one case; no damping, one step."""
    areas = {"retina": {"role": "input", "units": inputs}, "V1": {"units": units, "goodness": goodness}}
    engine = RateEngine(model(areas, [project("retina", "V1")]), RateDynamics(damping=0.0, steps=1))
    image = torch.randn(1, 1, 1, inputs, generator=torch.Generator().manual_seed(0))
    return engine, engine.start(0, [0]), {"retina": image}


@pytest.mark.parametrize("measure", ["sum_of_squares", "mean_square"])
@pytest.mark.parametrize("sign", ["max", "min"])
@pytest.mark.parametrize("real", [True, False])
def test_an_update_does_not_move_what_is_passed_on(measure, sign, real):
    """Eq. 3: for the input it was learned from, only the length of the response changes."""
    engine, state, images = one_area(measure=measure, sign=sign)
    before = engine.look(state, images)
    response = before.activity["V1"].clone()
    engine.learn(state, before, {}, images, [real], replace(BARE, learning_rate=0.4))
    after = engine.look(state, images).activity["V1"]
    grows = real == (sign == "max")
    assert (after.norm() > 1.001 * response.norm()) if grows else (after.norm() < 0.999 * response.norm())
    torch.testing.assert_close(length_normalization(after), length_normalization(response))


@pytest.mark.parametrize("wanted", [0.5, 4.0, 60.0])
def test_one_update_reaches_the_wanted_goodness(wanted):
    """Eq. 4 through the engine: its ε is that of the paper, whatever the number of inputs."""
    engine, state, images = one_area()
    percept = engine.look(state, images)
    goodness = engine.goodness("V1", percept.activity["V1"])
    wrong = 1 - torch.sigmoid(engine.log_odds("V1", goodness)).item()
    # The bias learns as from one more input, always 1, which eq. 4 does not count.
    epsilon = one_shot_rate(wanted, goodness.item()) / wrong * 30 / 31
    engine.learn(state, percept, {}, images, [True], replace(BARE, learning_rate=epsilon))
    after = engine.look(state, images).activity["V1"]
    assert engine.goodness("V1", after).item() == pytest.approx(wanted, rel=1e-4)


# ------------------------------------------------------------------------ the bottom-up pass


def test_the_bottom_up_pass_hears_nothing_from_above():
    given = scene(model(*FIGURE_3))
    activity = given.engine.look(given.state, given.images).activity
    below = given.images
    for source, area in (("retina", "V1"), ("V1", "V2")):
        drive = length_normalization(below[source]) @ given.state.weights[f"{source}→{area}"].mT[:, None]
        torch.testing.assert_close(activity[area], torch.relu(drive + given.state.biases[area][:, None, None]))
        below = activity


def test_an_area_that_only_hears_from_above_takes_part_in_the_bottom_up_pass():
    given = scene(model(*LATE_START))
    percept = given.engine.look(given.state, given.images)
    assert {area: tuple(y.shape[:3]) for area, y in percept.activity.items()} == {"goal": (2, 3, 1), "V1": (2, 3, 1)}
    assert {area: tuple(d.shape[:3]) for area, d in percept.input_drive.items()} == {"goal": (2, 3, 1), "V1": (2, 3, 1)}


# ------------------------------------------------------------------------ order changes nothing


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_the_order_of_the_file_changes_nothing(number):
    """Synchronous updates, from weights drawn by name: the same areas and projections in another order."""
    net = random_net(number)
    areas = list(net.nodes(data=True))
    turned = nx.MultiDiGraph(**net.graph)
    turned.add_nodes_from(reversed(areas))
    turned.add_edges_from(reversed(list(net.edges(keys=True, data=True))))
    given, other = scene(net, seed=number), scene(turned, seed=number)
    assert all(
        torch.equal(w, other.engine.start(7, [0]).weights[k]) for k, w in given.engine.start(7, [0]).weights.items()
    )
    other.state, other.images, other.context = copy.deepcopy(given.state), given.images, given.context
    given.learn(Plasticity(3.0))
    other.learn(Plasticity(3.0))
    assert_close(given.state, other.state)


@pytest.mark.parametrize("area", ["V1", "V2", "retina", "label"])
def test_the_order_of_units_changes_nothing(area):
    given = scene(model(*FIGURE_3), seed=1)
    other = copy.deepcopy(given)
    order = torch.randperm(given.engine.net.nodes[area]["units"], generator=torch.Generator().manual_seed(0))

    def turn(scene: Scene) -> None:
        for source, target, name in scene.engine.net.edges(keys=True):
            for part in (scene.state.weights, scene.state.weight_averages):
                part[name] = part[name][:, order] if target == area else part[name]
                part[name] = part[name][:, :, order] if source == area else part[name]
        for part in (scene.state.biases, scene.state.bias_averages, scene.state.mean_activity):
            if area in part:
                part[area] = part[area][:, order]
        for clamped in (scene.images, scene.context):
            if area in clamped:
                clamped[area] = clamped[area][..., order]

    turn(other)
    for each in (given, other):
        for _ in range(3):
            each.learn(Plasticity(3.0))
    turn(given)
    assert_close(other.state, given.state)


# ------------------------------------------------------------------------ receptive fields


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_masked_weight_stays_zero(precision):
    areas = {
        "retina": {"role": "input", "shape": [6, 6]},
        "V1": {"shape": [3, 3, 2]},
        "V2": {"shape": [2, 2, 3]},
        "label": {"role": "context", "units": 3},
    }
    small = {"receptive_field": {"size": 2}}
    projections = [
        project("retina", "V1", **small),
        project("V1", "V2", **small),
        project("V2", "V1", "top_down", **small),
        project("V1", "V1", "lateral", receptive_field={"size": 1}),
        project("label", "V2", "top_down"),
    ]
    net = model(areas, projections)
    given = scene(net, precision=precision, steps=3)
    given.state = given.engine.start(0, range(2))
    for _ in range(5):
        given.learn(Plasticity(3.0))
    state = full(given.engine, given.state)
    for source, target, name in net.edges(keys=True):
        there = brute_mask(net, source, target, name).bool()
        assert (state.weights[name][:, ~there] == 0).all()
        assert (state.weight_averages[name][:, ~there] == 0).all()
        assert (state.weights[name][:, there] != 0).all()


def test_newborn_drive_has_unit_variance():
    """Each projection brings its share, whatever its receptive field, also where a field is cut at the edge."""
    areas = {
        "retina": {"role": "input", "shape": [12, 12]},
        "ear": {"role": "input", "units": 50},
        "V1": {"shape": [6, 6, 4]},
    }
    net = model(areas, [project("retina", "V1", receptive_field={"size": 5}), project("ear", "V1")])
    engine = RateEngine(net)
    state = engine.start(0, range(30))
    random = np.random.default_rng(0)
    images = {a: tensor_like(random, torch.empty(1, 40, 1, net.nodes[a]["units"])) for a in ("retina", "ear")}
    drive = engine.look(state, images).input_drive["V1"]
    assert drive.square().mean().item() == pytest.approx(1, abs=0.05)
    corner = drive.unflatten(-1, (6, 6, 4))[..., 0, 0, :]
    assert corner.square().mean().item() == pytest.approx(1, abs=0.15)


# ------------------------------------------------------------------------ cohorts


def members(given: Scene, chosen: list[int]) -> Scene:
    """The same scene for some of its subjects."""
    part = [{area: x.expand(5, -1, -1, -1)[chosen] for area, x in c.items()} for c in (given.images, given.context)]
    return Scene(given.engine, given.engine.start(11, chosen), *part, given.is_positive)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("alternating", [False, True])
def test_a_subject_lives_alone_as_in_its_cohort(alternating, device):
    given = scene(random_net(7), seed=1, alternating=alternating, steps=4, device=device)
    random = np.random.default_rng(0)
    for clamped in (given.images, given.context):
        for area, x in clamped.items():
            clamped[area] = tensor_like(random, torch.empty(5, *x.shape[1:], device=device))
    cohort, alone = members(given, [0, 1, 2, 3, 4]), members(given, [3])
    assert equal(cohort.state.select([3]), alone.state)
    for _ in range(20):
        cohort.learn(Plasticity(1.0))
        alone.learn(Plasticity(1.0))
    assert_close(cohort.state.select([3]), alone.state, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(cohort.state.biases["h0"][2], cohort.state.biases["h0"][3])


def test_members_leave_and_come_back():
    state = scene(model(*FIGURE_3)).engine.start(0, range(5))
    whole = copy.deepcopy(state)
    part = state.select([4, 1])
    assert torch.equal(part.weights["V1→V2"], whole.weights["V1→V2"][[4, 1]])
    for array in part.arrays().values():
        array += 1
    assert equal(state, whole)  # what was selected is a copy
    state.replace([4, 1], part)
    assert equal(state.select([0, 2, 3]), whole.select([0, 2, 3]))
    assert equal(state.select([4, 1]), part)


def test_arrays_and_back():
    state = scene(random_net(3)).state
    back = RateState.from_arrays(state.arrays())
    assert equal(back, state) and back.weights.keys() == state.weights.keys()
    odd = RateState(weights={"a/b": torch.ones(1)}, biases={"a/b": torch.zeros(1)})
    assert equal(RateState.from_arrays(odd.arrays()), odd)  # a name may hold a slash


# ------------------------------------------------------------------------ precision and memory


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_bfloat16_is_for_products_alone(device):
    """Weights and sums stay float32."""
    for number in range(0, 24, 3):
        exact, rough = (
            scene(random_net(number), seed=number, steps=11, precision=p, device=device)
            for p in ("float32", "bfloat16")
        )
        for each in (exact, rough):
            each.learn(replace(BARE, peer_normalization=0.03))
        for path, array in rough.state.arrays().items():
            assert array.dtype == torch.float32
            wanted = exact.state.arrays()[path]
            assert (array - wanted).norm() <= BFLOAT16_TOLERANCE * wanted.norm().clamp(min=1e-3), path


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_settles_side_by_side_stay_apart(precision):
    """One engine serves two states in turn, and its arrays and converted weights are not mixed up."""
    net = random_net(7)
    one, other = (scene(net, seed=seed, precision=precision) for seed in (1, 2))
    wanted = [each.settled()[-1][-1] for each in (one, other)]
    other.engine = one.engine
    percepts = [one.engine.look(each.state, each.images) for each in (one, other)]
    settles = [one.engine.settle(each.state, p, each.context) for each, p in zip((one, other), percepts, strict=True)]
    for moments in zip(*settles, strict=True):
        found = [{area: y.clone() for area, y in moment.activity.items()} for moment in moments]
    for ours, theirs in zip(found, wanted, strict=True):
        assert all(torch.equal(ours[area], theirs[area]) for area in theirs)


@pytest.mark.parametrize("change", ["update", "in place", "replaced"])
def test_bfloat16_products_see_changed_weights(change):
    given = scene(model(*FIGURE_3), precision="bfloat16")
    given.settled()
    if change == "update":
        given.learn(Plasticity(30.0))
    elif change == "in place":
        given.state.weights["retina→V1"].mul_(-1)
    else:
        given.state.weights["retina→V1"] = -given.state.weights["retina→V1"]
    fresh = replace(given, engine=RateEngine(given.engine.net, given.engine.dynamics))
    ours, theirs = (each.settled()[-1][-1] for each in (given, fresh))
    assert all(torch.equal(ours[area], theirs[area]) for area in theirs)


def test_precision_is_chosen_by_processor_and_size(monkeypatch):
    small, large = model(*FIGURE_3), load_model("mnist_recurrent")
    for features, wanted in (({"avx512_bf16": True}, "bfloat16"), ({"avx512_bf16": False}, "float32"), ({}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=features: found, raising=False)
        assert (best_precision(small), best_precision(large)) == ("float32", wanted)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tiles_and_full_matrices_live_the_same_life(precision):
    """Local receptive fields, stored either way: the same newborns, activity and weights, to rounding."""
    areas = {
        "retina": {"role": "input", "shape": [12, 12, 2]},
        "V1": {"shape": [12, 12, 2], "goodness": {"blocks": 4}},
        "V2": {"shape": [6, 6, 5]},
        "label": {"role": "context", "units": 3},
    }
    projections = [
        project("retina", "V1", receptive_field={"size": 5}),
        project("V1", "V2", receptive_field={"size": [4, 3]}),
        project("V2", "V1", "top_down", receptive_field={"size": 3}),
        project("V1", "V1", "lateral", receptive_field={"size": 3}),
        project("label", "V2", "top_down"),
    ]
    net, dynamics = model(areas, projections), RateDynamics(steps=10, precision=precision)
    given = scene(net, precision=precision, steps=10)
    lives = []
    for tiled in (True, False):
        engine = RateEngine(net, dynamics, tiled)
        other = replace(given, engine=engine, state=engine.start(0, range(2)))
        assert isinstance(engine.projections["retina→V1"], Local) == tiled
        for _ in range(3):
            other.learn(Plasticity(1.0))
        lives.append((other.settled()[-1][-1], full(engine, other.state)))
    tolerance = 1e-4 if precision == "float32" else BFLOAT16_TOLERANCE
    for path, array in lives[0][1].arrays().items():
        assert (array - lives[1][1].arrays()[path]).norm() <= tolerance * array.norm().clamp(min=1e-2), path
    for area, y in lives[0][0].items():
        assert (y - lives[1][0][area]).norm() <= tolerance * y.norm()


# ------------------------------------------------------------------------ learning a task


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("sign", ["max", "min"])
def test_two_classes_are_learned(sign, device):
    """A few hundred updates on two noisy patterns: nearly no errors, where a coin makes 50 %."""
    areas, projections = copy.deepcopy(FIGURE_3)
    areas["label"]["units"] = 2
    for area in ("V1", "V2"):
        areas[area]["goodness"] = {"sign": sign}
    engine = RateEngine(model(areas, projections), RateDynamics(device=device))
    state, random = engine.start(0, range(2)), np.random.default_rng(0)
    patterns = torch.from_numpy(random.random((2, 12), dtype=np.float32))

    def minibatch(cases: int) -> tuple[dict[str, Tensor], Tensor]:
        labels = torch.from_numpy(random.integers(0, 2, (2, cases)))
        noise = torch.from_numpy(random.normal(0, 0.3, (2, cases, 12)).astype(np.float32))
        return {"retina": (patterns[labels] + noise).unsqueeze(2).to(device)}, labels.to(device)

    def error() -> float:
        images, labels = minibatch(300)
        every_label = {"label": candidates(2, device)}
        found = by_goodness(engine, state, engine.look(state, images), every_label, (3, 5))
        return (found != labels).float().mean().item()

    for _ in range(300):
        images, labels = minibatch(20)
        shown = {"label": torch.stack([one_hot(labels, 2), one_hot(1 - labels, 2)], dim=2)}
        engine.learn(state, engine.look(state, images), shown, images, [True, False], Plasticity(1.0))
    assert error() < 0.15
