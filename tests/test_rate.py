"""The rate engine: one update against autograd on random graphs, and exact statements about settling and learning."""

import copy
import json
import math
from dataclasses import dataclass, replace
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

from cortexff.engines.rate import STEPS_PER_PRODUCT, RateEngine, best_precision
from cortexff.engines.state import Plasticity, RateDynamics, RateState
from cortexff.equations.normalization import length_normalization
from cortexff.equations.plasticity import one_shot_rate
from cortexff.graph import hidden_areas, load_model, parse_model
from cortexff.readout import by_goodness
from cortexff.stimuli.labels import candidates, one_hot

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
BARE = Plasticity(learning_rate=1.0, gradient_average=0.0, weight_cost=0.0, peer_normalization=0.0)
BFLOAT16_TOLERANCE = 0.04  # twice the largest difference found, over 48 graphs
PHASES = [(True, False), (True,), (False,), (False, True, True)]


def model(areas: dict, projections: list[dict]) -> nx.MultiDiGraph:
    return parse_model(json.dumps({"format": "cortexff-model/1", "areas": areas, "projections": projections}))


def project(source: str, target: str, kind: str = "bottom_up", **more) -> dict:
    return {"from": source, "to": target, "kind": kind, **more}


FIGURE_3 = (
    {
        "retina": {"role": "input", "units": 12},
        "V1": {"units": 10},
        "V2": {"units": 8},
        "label": {"role": "context", "units": 3},
    },
    [
        project("retina", "V1"),
        project("V1", "V2"),
        project("V2", "V1", "top_down"),
        project("label", "V2", "top_down"),
    ],
)


@dataclass
class Scene:
    """A network with everything it needs for one update."""

    engine: RateEngine
    state: RateState
    images: dict[str, Tensor]
    context: dict[str, Tensor]
    is_positive: tuple[bool, ...]

    def settled(self) -> list[tuple[int, int, dict[str, Tensor]]]:
        """(step, group, activity) of every moment, copied."""
        percept = self.engine.look(self.state, self.images)
        moments = self.engine.settle(self.state, percept, self.context)
        return [(m.step, m.group, {area: y.clone() for area, y in m.activity.items()}) for m in moments]

    def learn(self, plasticity: Plasticity) -> None:
        percept = self.engine.look(self.state, self.images)
        self.engine.learn(self.state, percept, self.context, self.images, self.is_positive, plasticity)


def scene(net: nx.MultiDiGraph, is_positive: tuple[bool, ...] = (True, False), seed: int = 0, **dynamics) -> Scene:
    """Two subjects and three cases of random images and contexts; biases and averages are those of no newborn."""
    engine, random = RateEngine(net, RateDynamics(**dynamics)), np.random.default_rng(seed)
    subjects, cases = 2, 3
    state = engine.start(seed, range(subjects))
    for part in (state.biases, state.weight_averages, state.bias_averages):
        for name, array in part.items():
            part[name] = array + 0.3 * tensor_like(random, array)
    for name, projection in engine.projections.items():
        if projection.mask is not None:
            state.weight_averages[name] *= projection.mask
    for area, array in state.mean_activity.items():
        state.mean_activity[area] = tensor_like(random, array).abs()
    images, context = {}, {}
    for area, data in net.nodes(data=True):
        shape = (1 if seed % 3 == 0 else subjects, cases, 1, data["units"])
        if data["role"] == "input":
            images[area] = tensor_like(random, torch.empty(shape, device=engine.device))
        elif data["role"] == "context":
            shape = (1 if seed % 3 else subjects, 1 if seed % 4 == 0 else cases, len(is_positive), data["units"])
            context[area] = tensor_like(random, torch.empty(shape, device=engine.device))
    return Scene(engine, state, images, context, is_positive)


def tensor_like(random: np.random.Generator, array: Tensor) -> Tensor:
    return torch.from_numpy(random.standard_normal(array.shape, dtype=np.float32)).to(array.device)


def full(engine: RateEngine, state: RateState) -> RateState:
    """The same state with every projection as a full matrix, (subjects, target units, source units)."""
    weights, averages = (
        {name: engine.projections[name].matrix(array) for name, array in part.items()}
        for part in (state.weights, state.weight_averages)
    )
    return replace(state, weights=weights, weight_averages=averages)


def equal(left: RateState, right: RateState) -> bool:
    theirs = right.arrays()
    return list(left.arrays()) == list(theirs) and all(torch.equal(a, theirs[k]) for k, a in left.arrays().items())


def assert_close(left: RateState, right: RateState, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    assert set(left.arrays()) == set(right.arrays())
    for path, array in left.arrays().items():
        torch.testing.assert_close(array, right.arrays()[path], rtol=rtol, atol=atol, msg=lambda m, p=path: f"{p}: {m}")


# ------------------------------------------------------- one update is the gradient of a local objective


def random_net(number: int) -> nx.MultiDiGraph:
    """A graph that holds a little of everything; the number decides what."""
    random = np.random.default_rng(number)
    hidden = [f"h{place}" for place in range(1 + number % 4)]
    inputs, contexts = ["retina", "ear"][: 1 + number % 2], ["label", "task"][: (number + 1) % 3]
    areas = {}
    for area in inputs + hidden + contexts:
        areas[area] = {"shape": random.integers(2, 4, size=3).tolist()}
    for area in inputs:
        areas[area]["role"] = "input"
    for area in contexts:
        areas[area] = {"role": "context", "units": int(random.integers(2, 6))}
    for area in hidden:
        units = math.prod(areas[area]["shape"])
        areas[area]["goodness"] = {
            "measure": ["sum_of_squares", "mean_square"][random.integers(2)],
            "sign": ["max", "min"][random.integers(2)],
            "temperature": float(random.uniform(0.5, 4)),
            "blocks": int(random.choice([b for b in (1, 2, 3, 4) if units % b == 0])),
            **({"threshold": float(random.uniform(0.1, 9))} if random.random() < 0.5 else {}),
        }
    projections = [project(source, hidden[0]) for source in inputs]
    projections += [project(low, high) for low, high in pairwise(hidden)]
    projections += [project("retina", area, name=f"skip {area}") for area in hidden if random.random() < 0.4]
    projections += [project(hidden[0], area, name=f"far {area}") for area in hidden[2:] if random.random() < 0.6]
    for place, area in enumerate(hidden):
        projections += [project(c, area, "top_down") for c in contexts if area == hidden[-1] or random.random() < 0.4]
        projections += [project(high, area, "top_down") for high in hidden[place + 1 :] if random.random() < 0.7]
        if random.random() < 0.4:
            projections.append(project(area, area, "lateral"))
        if place and random.random() < 0.4:
            projections.append(project(area, hidden[0], "lateral", name=f"side {area}"))
            projections.append(project(area, hidden[0], "top_down", name=f"second {area}"))
    for projection in projections:
        if "shape" in areas[projection["from"]] and random.random() < 0.5:
            projection["receptive_field"] = {"size": random.integers(2, 4, size=2).tolist()}
    order = random.permutation(len(projections))
    return model(areas, [projections[place] for place in order])


def brute_mask(net: nx.MultiDiGraph, source: str, target: str, name: str) -> Tensor:
    """The receptive field of every unit, counted out location by location."""
    units = [net.nodes[area]["units"] for area in (target, source)]
    if (field := net.edges[source, target, name]["receptive_field"]) is None:
        return torch.ones(units, dtype=torch.float64)
    mask = torch.zeros(units, dtype=torch.float64)
    ours, theirs = net.nodes[target]["shape"], net.nodes[source]["shape"]
    for unit, at in enumerate(np.ndindex(*ours)):
        for other, there in enumerate(np.ndindex(*theirs)):
            inside = True
            for axis in (0, 1):
                size, stride = field.size[axis], field.stride[axis]
                start = math.floor(at[axis] * stride - ((ours[axis] - 1) * stride + size - theirs[axis]) / 2)
                inside &= start <= there[axis] < start + size
            mask[unit, other] = inside
    return mask


def normalized(activity: Tensor) -> Tensor:
    mean_square = activity.square().mean(-1, keepdim=True)
    return activity / mean_square.clamp(min=1e-20).sqrt()


def reference_update(given: Scene, plasticity: Plasticity) -> RateState:
    """One update by autograd, in float64: nothing of the engine but its settings, its weights, its order of areas."""
    net, dynamics, old = given.engine.net, given.engine.dynamics, full(given.engine, given.state)
    real = {path: array.double().cpu() for path, array in old.arrays().items()}
    weights = {name: real[f"weights/{name}"].requires_grad_() for name in old.weights}
    biases = {area: real[f"biases/{area}"].requires_grad_() for area in old.biases}
    masks = {name: brute_mask(net, s, t, name) for s, t, name in net.edges(keys=True)}
    cases, versions = next(iter(given.images.values())).shape[1], len(given.is_positive)
    heard = {
        area: normalized(x.double().cpu()).expand(-1, cases, versions, -1)
        for area, x in {**given.images, **given.context}.items()
    }

    def drive_of(area: str, sources: dict[str, Tensor], *kinds: str) -> Tensor:
        drive = biases[area][:, None, None, :].expand(-1, cases, versions, -1)
        for source, _, name, kind in net.in_edges(area, keys=True, data="kind"):
            if kind in kinds:
                x = sources[source].expand(len(drive), -1, -1, -1)
                drive = drive + torch.einsum("scvi,sji->scvj", x, weights[name] * masks[name])
        return drive

    activity, order = {}, hidden_areas(net)
    with torch.no_grad():  # the bottom-up pass, which teaches nothing
        for area in order:
            activity[area] = torch.relu(drive_of(area, heard, "bottom_up"))
            heard[area] = normalized(activity[area])

    objective, seen = torch.zeros((), dtype=torch.float64), {area: 0.0 for area in order}
    positive = torch.tensor(given.is_positive)
    groups = [order[0::2], order[1::2]] if dynamics.alternating else [order]
    for _ in range(dynamics.steps):
        for group in groups:
            fresh = {}
            for area in group:
                settings = net.nodes[area]["goodness"]
                drive = drive_of(area, heard, "bottom_up", "top_down", "lateral")
                fresh[area] = dynamics.damping * activity[area] + (1 - dynamics.damping) * torch.relu(drive)
                squares = fresh[area].unflatten(-1, (settings.blocks, -1)).square()
                goodness = squares.sum(-1) if settings.measure == "sum_of_squares" else squares.mean(-1)
                odds = (goodness - settings.threshold) / settings.temperature
                odds = odds if settings.sign == "max" else -odds
                log_p = torch.nn.functional.logsigmoid(torch.where(positive.view(-1, 1), odds, -odds))
                objective = objective + 0.5 * log_p.sum()
                mean = real[f"mean_activity/{area}"]
                pull = plasticity.peer_normalization * (mean.mean(-1, keepdim=True) - mean)
                objective = objective + (pull[:, None, None] * drive)[:, :, positive].sum()
            for area in group:
                activity[area] = fresh[area].detach()
                if positive.any():
                    seen[area] = seen[area] + activity[area][:, :, positive].mean((1, 2)) / dynamics.steps
            heard |= {area: normalized(activity[area]) for area in group}
    (objective / (cases * dynamics.steps)).backward()

    keep, wanted = plasticity.gradient_average, {}
    for area in order:
        arriving = list(net.in_edges(area, keys=True))
        ratio = plasticity.learning_rate / sum(masks[name].sum(1).mean().item() for _, _, name in arriving)
        for _, _, name in arriving:
            average = keep * real[f"weight_averages/{name}"] + (1 - keep) * weights[name].grad
            wanted[f"weight_averages/{name}"] = average
            wanted[f"weights/{name}"] = weights[name].detach() + ratio * (
                average - plasticity.weight_cost * weights[name].detach()
            )
        average = keep * real[f"bias_averages/{area}"] + (1 - keep) * biases[area].grad
        wanted[f"bias_averages/{area}"] = average
        wanted[f"biases/{area}"] = biases[area].detach() + ratio * average
        keep_mean = plasticity.activity_average if positive.any() else 1.0
        wanted[f"mean_activity/{area}"] = keep_mean * real[f"mean_activity/{area}"] + (1 - keep_mean) * seen[area]
    return RateState.from_arrays({path: wanted[path] for path in old.arrays()})


def assert_one_update_is_the_gradient(given: Scene, plasticity: Plasticity) -> None:
    wanted = reference_update(given, plasticity).arrays()
    given.learn(plasticity)
    for path, array in full(given.engine, given.state).arrays().items():
        assert array.dtype == torch.float32
        error = (array.double().cpu() - wanted[path]).norm() / wanted[path].norm().clamp(min=1e-3)
        assert error < 1e-5, f"{path}: off by {error:.1e}"


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("number", range(48))
def test_one_update_is_the_gradient_of_a_local_objective(number, device):
    """Eq. 3 on random graphs: ½ Σ log p of every block and step, with all that came before held constant."""
    net = random_net(number)
    # Where nothing tells one version from another, there is one.
    phases = PHASES if any(role == "context" for _, role in net.nodes(data="role")) else [(True,), (False,)]
    given = scene(
        net,
        phases[number // 4 % len(phases)],
        seed=number,
        damping=[0.0, 0.3, 0.8][number % 3],
        steps=[1, 3, 8, 11][number // 3 % 4],
        alternating=number // 2 % 2 == 1,
        device=device,
    )
    smooth = {"gradient_average": 0.9, "weight_cost": 0.05} if number % 5 else {"gradient_average": 0, "weight_cost": 0}
    peers = 0.3 if number // 8 % 2 else 0.0
    assert_one_update_is_the_gradient(given, Plasticity(3.0, peer_normalization=peers, activity_average=0.7, **smooth))


def test_the_random_graphs_hold_everything():
    """Whoever changes ``random_net`` sees here what no longer occurs."""
    nets = [random_net(number) for number in range(48)]
    edges = [(net, *edge) for net in nets for edge in net.edges(keys=True, data=True)]
    settings = [net.nodes[area]["goodness"] for net in nets for area in hidden_areas(net)]
    assert {len(hidden_areas(net)) for net in nets} == {1, 2, 3, 4}
    assert {(g.measure, g.sign, g.blocks > 1) for g in settings} == {
        (measure, sign, blocks)
        for measure in ("sum_of_squares", "mean_square")
        for sign in ("max", "min")
        for blocks in (0, 1)
    }
    assert any(source == target for _, source, target, _, _ in edges)
    assert any(net.number_of_edges(s, t) > 1 for net, s, t, _, _ in edges)
    assert {data["kind"] for *_, data in edges if data["receptive_field"]} == {"bottom_up", "top_down", "lateral"}
    assert any(name.startswith("far") for *_, name, _ in edges) and any(
        name.startswith("skip") for *_, name, _ in edges
    )


LATE_START = (  # the first area of the file and of the bottom-up order hears nothing but its context
    {
        "goal": {"units": 6},
        "retina": {"role": "input", "units": 5},
        "V1": {"units": 7},
        "task": {"role": "context", "units": 4},
    },
    [project("task", "goal", "top_down"), project("retina", "V1"), project("goal", "V1", "top_down")],
)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_area_that_only_hears_from_above_learns_like_any_other(number):
    given = scene(model(*LATE_START), seed=number)
    assert_one_update_is_the_gradient(given, Plasticity(3.0))


def test_an_area_that_only_hears_from_above_takes_part_in_the_bottom_up_pass():
    given = scene(model(*LATE_START))
    percept = given.engine.look(given.state, given.images)
    assert {area: tuple(y.shape[:3]) for area, y in percept.activity.items()} == {"goal": (2, 3, 1), "V1": (2, 3, 1)}
    assert {area: tuple(d.shape[:3]) for area, d in percept.input_drive.items()} == {"goal": (2, 3, 1), "V1": (2, 3, 1)}


def test_input_and_context_alone_are_enough():
    """No hidden area hears another: §3.3 with one layer and the label beside the image."""
    areas = {"retina": {"role": "input", "units": 5}, "V1": {"units": 6}, "label": {"role": "context", "units": 3}}
    given = scene(model(areas, [project("retina", "V1"), project("label", "V1", "top_down")]))
    assert_one_update_is_the_gradient(given, Plasticity(3.0))


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


# ------------------------------------------------------------------------ settling


def test_settling_and_learning_leave_the_percept_as_it_was():
    """The bottom-up pass is looked at again by the softmax; one version must not be written over."""
    for is_positive in PHASES:
        given = scene(model(*FIGURE_3), is_positive, seed=1)
        percept = given.engine.look(given.state, given.images)
        before = copy.deepcopy(percept)
        given.engine.learn(
            given.state, percept, given.context, given.images, is_positive, replace(BARE, learning_rate=0)
        )
        for now, then in ((percept.activity, before.activity), (percept.input_drive, before.input_drive)):
            assert all(torch.equal(now[area], then[area]) for area in then)


def test_damping_1_freezes():
    given = scene(model(*FIGURE_3), damping=0.999999, steps=8)
    start = given.engine.look(given.state, given.images).activity
    *_, (_, _, end) = given.settled()
    for area in end:
        torch.testing.assert_close(end[area], start[area].expand_as(end[area]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("damping", [0.3, 0.9])
def test_damping_keeps_a_share_of_the_activity_before(damping):
    """§3.4: "0.3 of the previous pre-normalized state plus 0.7 of the computed new state"."""
    given, free = (scene(model(*FIGURE_3), damping=d, steps=1) for d in (damping, 0.0))
    start = given.engine.look(given.state, given.images).activity
    ((_, _, damped),), ((_, _, undamped),) = given.settled(), free.settled()
    for area in damped:
        torch.testing.assert_close(damped[area], damping * start[area] + (1 - damping) * undamped[area])


def response(given: Scene, area: str, heard: dict[str, Tensor]) -> Tensor:
    """Rectified drive of an area, by hand."""
    drive = given.state.biases[area][:, None, None]
    for source, _, name in given.engine.net.in_edges(area, keys=True):
        drive = drive + length_normalization(heard[source]) @ given.state.weights[name].mT[:, None]
    return torch.relu(drive)


def test_synchronous_updates_listen_to_the_step_before():
    given = scene(model(*FIGURE_3), damping=0.0, steps=2)
    clamped = {**given.images, **given.context}
    start = given.engine.look(given.state, given.images).activity
    (_, _, first), (_, _, second) = given.settled()
    for area in ("V1", "V2"):
        torch.testing.assert_close(first[area], response(given, area, {**clamped, **start}).expand_as(first[area]))
        torch.testing.assert_close(second[area], response(given, area, {**clamped, **first}))


def test_alternating_updates_listen_to_the_new_activity():
    """§3.4: one half of the layers, then the other half "based on the new normalized activities"."""
    given = scene(model(*FIGURE_3), damping=0.0, steps=2, alternating=True)
    clamped = {**given.images, **given.context}
    start = given.engine.look(given.state, given.images).activity
    moments = given.settled()
    assert [(step, group) for step, group, _ in moments] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    (_, _, half), (_, _, whole), (_, _, again), _ = moments
    torch.testing.assert_close(half["V1"], response(given, "V1", {**clamped, **start}).expand_as(half["V1"]))
    assert torch.equal(half["V2"], start["V2"].expand_as(half["V2"])) and torch.equal(whole["V1"], half["V1"])
    torch.testing.assert_close(whole["V2"], response(given, "V2", {**clamped, **half}))
    torch.testing.assert_close(again["V1"], response(given, "V1", {**clamped, **whole}))


def test_the_bottom_up_pass_hears_nothing_from_above():
    given = scene(model(*FIGURE_3))
    activity = given.engine.look(given.state, given.images).activity
    below = given.images
    for source, area in (("retina", "V1"), ("V1", "V2")):
        drive = length_normalization(below[source]) @ given.state.weights[f"{source}→{area}"].mT[:, None]
        torch.testing.assert_close(activity[area], torch.relu(drive + given.state.biases[area][:, None, None]))
        below = activity


@pytest.mark.parametrize("source, kind", [("retina", "bottom_up"), ("label", "top_down")])
def test_skip_projections_reach(source, kind):
    """Note 10: with every other way closed, image and label still reach an area two steps away, and it learns."""
    areas, projections = FIGURE_3
    target = {"retina": "V2", "label": "V1"}[source]
    given = scene(model(areas, [*projections, project(source, target, kind, name="skip")]))
    for name, weights in given.state.weights.items():
        if name != "skip":
            weights.zero_()
    before, skip = given.settled()[-1][-1][target], given.state.weights["skip"].clone()
    clamped = given.images if source == "retina" else given.context
    clamped[source] = clamped[source].flip(-1)
    assert not torch.allclose(given.settled()[-1][-1][target], before)
    given.learn(BARE)
    assert not torch.allclose(given.state.weights["skip"], skip)


@pytest.mark.parametrize("net", [FIGURE_3, LATE_START])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_silence_makes_no_nonsense(net, precision):
    """A black image, a label of zeros and newborn biases: every area is silent, and learns without a NaN."""
    given = scene(model(*net), precision=precision)
    given.state = given.engine.start(0, range(2))
    for clamped in (given.images, given.context):
        for area in clamped:
            clamped[area] = torch.zeros_like(clamped[area])
    assert all((y == 0).all() for *_, activity in given.settled() for y in activity.values())
    for _ in range(3):
        given.learn(Plasticity(10.0))
    assert all(torch.isfinite(array).all() for array in given.state.arrays().values())


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


def test_the_working_set_does_not_grow_with_the_steps():
    """Nothing is kept of a step but its share of the sum."""
    sizes = {}
    for steps in (1, STEPS_PER_PRODUCT, 5 * STEPS_PER_PRODUCT + 1):
        given = scene(random_net(7), steps=steps)
        given.learn(BARE)
        sizes[steps] = sum(array.nbytes for array in given.engine.workspace.kept.values())
    assert sizes[1] < sizes[STEPS_PER_PRODUCT] >= sizes[5 * STEPS_PER_PRODUCT + 1]


def test_the_second_update_makes_no_new_arrays():
    given = scene(random_net(7))
    given.learn(BARE)
    before = {name: array.data_ptr() for name, array in given.engine.workspace.kept.items()}
    given.learn(BARE)
    assert {name: array.data_ptr() for name, array in given.engine.workspace.kept.items()} == before


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


def test_a_settle_may_end_early():
    given = scene(random_net(7), steps=6)
    percept = given.engine.look(given.state, given.images)
    whole = given.settled()
    short = [
        {area: y.clone() for area, y in moment.activity.items()}
        for moment in given.engine.settle(given.state, percept, given.context, steps=4)
    ]
    assert len(short) == 4
    assert all(torch.equal(short[3][area], whole[3][2][area]) for area in short[3])


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
        assert (engine.projections["retina→V1"].shapes[0][0] > 1) == tiled
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
