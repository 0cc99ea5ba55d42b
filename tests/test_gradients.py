"""Eq. 3: one update against autograd on random graphs, and the memory that it takes."""

from dataclasses import replace

import pytest
import torch
from scenes import (
    BARE,
    CUDA,
    FIGURE_3,
    LATE_START,
    PHASES,
    Scene,
    bottom_up,
    brute_mask,
    full,
    model,
    project,
    random_net,
    scene,
)
from torch import Tensor

from cortexff.engines.gradients import STEPS_PER_PRODUCT
from cortexff.engines.state import Plasticity, RateState
from cortexff.graph import hidden_areas


def normalized(activity: Tensor) -> Tensor:
    mean_square = activity.square().mean(-1, keepdim=True)
    return activity / mean_square.clamp(min=1e-20).sqrt()


OBJECTIVES = {
    "log_sigmoid": torch.nn.functional.logsigmoid,
    "hinge": lambda log_odds: log_odds.clamp(max=0.0),
    "linear": lambda log_odds: log_odds,
}


def reference_update(given: Scene, plasticity: Plasticity, backpropagated: bool = False) -> RateState:
    """One update by autograd, in float64: nothing of the engine but its settings, its weights, its order of areas.

    backpropagated  whether derivatives travel from area to area in the bottom-up pass
    """
    net, dynamics, old = given.engine.net, given.engine.dynamics, full(given.engine, given.state)
    real = {path: array.double().cpu() for path, array in old.arrays().items()}
    weights = {name: real[f"weights/{name}"].requires_grad_() for name in old.weights}
    biases = {area: real[f"biases/{area}"].requires_grad_() for area in old.biases}
    masks = {name: brute_mask(net, s, t, name) for s, t, name in net.edges(keys=True)}
    cases, versions = next(iter(given.images.values())).shape[1], len(given.is_positive)
    order, borrowed = hidden_areas(net), [version for version, elsewhere in enumerate(given.borrowed) if elsewhere]
    heard = {
        area: normalized(x.double().cpu()).expand(-1, cases, versions, -1)
        for area, x in {**given.images, **given.context}.items()
    }

    def drive_of(area: str, sources: dict[str, Tensor], *kinds: str) -> Tensor:
        drive = biases[area][:, None, None, :].expand(-1, cases, versions, -1)
        for source, _, name, kind in net.in_edges(area, keys=True, data="kind"):
            if kind in kinds:
                x = sources[source].expand(len(drive), -1, -1, -1)
                if kind == "top_down" and source in order:
                    x = torch.stack([x[:, :, v].roll(int(v in borrowed), 1) for v in range(versions)], 2)
                drive = drive + torch.einsum("scvi,sji->scvj", x, weights[name] * masks[name])
        return drive

    activity = {}
    objective, seen = torch.zeros((), dtype=torch.float64), {area: 0.0 for area in order}
    positive, moments = torch.tensor(given.is_positive), dynamics.steps or 1

    def learn_from(area: str, fresh: Tensor, alone: Tensor) -> None:
        """From the area's fresh activity; peers pull at its drive alone, whatever travels."""
        nonlocal objective
        settings = net.nodes[area]["goodness"]
        squares = fresh.unflatten(-1, (settings.blocks, -1)).square()
        goodness = squares.sum(-1) if settings.measure == "sum_of_squares" else squares.mean(-1)
        odds = (goodness - settings.threshold) / settings.temperature
        odds = odds if settings.sign == "max" else -odds
        right = OBJECTIVES[plasticity.saturation](torch.where(positive.view(-1, 1), odds, -odds))
        if plasticity.sleeping is not None and area not in plasticity.sleeping:
            right = right[:, :, positive]
        objective = objective + 0.5 * right.sum()
        mean = real[f"mean_activity/{area}"]
        pull = plasticity.peer_normalization * (mean.mean(-1, keepdim=True) - mean)
        objective = objective + (pull[:, None, None] * alone)[:, :, positive].sum()
        if positive.any():
            seen[area] = seen[area] + fresh.detach()[:, :, positive].mean((1, 2)) / moments

    for area in order:  # the bottom-up pass teaches only where nothing follows
        drive = drive_of(area, heard, "bottom_up")
        alone = drive_of(area, {source: x.detach() for source, x in heard.items()}, "bottom_up")
        activity[area] = torch.relu(drive) if backpropagated else torch.relu(drive).detach()
        heard[area] = normalized(activity[area])
        if not dynamics.steps:
            learn_from(area, torch.relu(drive), alone)
    groups = [order[0::2], order[1::2]] if dynamics.alternating else [order]
    for _ in range(dynamics.steps):
        for group in groups:
            fresh = {}
            for area in group:
                drive = drive_of(area, heard, "bottom_up", "top_down", "lateral")
                fresh[area] = dynamics.damping * activity[area] + (1 - dynamics.damping) * torch.relu(drive)
                learn_from(area, fresh[area], drive)
            activity |= {area: fresh[area].detach() for area in group}
            heard |= {area: normalized(activity[area]) for area in group}
    (objective / (cases * moments)).backward()

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
    wanted = reference_update(given, plasticity)
    given.learn(plasticity)
    assert_alike(given, wanted)


def assert_alike(given: Scene, reference: RateState) -> None:
    wanted = reference.arrays()
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


@pytest.mark.parametrize("saturation", OBJECTIVES)
@pytest.mark.parametrize("number", range(4))
def test_another_objective_or_areas_that_stay_awake(number, saturation):
    """Hinge and linear objectives; areas that do not sleep learn from positive data alone."""
    net = random_net(number)
    given = scene(net, (True, False), seed=number, damping=0.3, steps=3)
    sleeping = [None, tuple(hidden_areas(net)[:1]), ()][number % 3]
    assert_one_update_is_the_gradient(given, Plasticity(3.0, saturation=saturation, sleeping=sleeping))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("number", range(24))
def test_a_feedforward_net_learns_from_its_bottom_up_pass(number, device):
    """§3.3: no steps; what tells positive from negative data lies in the input itself."""
    phases = PHASES[number % len(PHASES)]
    net, more = bottom_up(random_net(number)), {"damping": 0.3, "steps": 0, "device": device}
    given = scene(net, phases, seed=number, images_differ=True, **more)
    assert_one_update_is_the_gradient(given, Plasticity(3.0, weight_cost=0.05, activity_average=0.7))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("number", range(24))
def test_images_that_differ_between_versions(number, device):
    """A recurrent net whose input, and context if it has one, differ between positive and negative data."""
    more = {"steps": [1, 3, 11][number % 3], "alternating": number % 2 == 1, "device": device}
    given = scene(random_net(number), PHASES[number % len(PHASES)], seed=number, images_differ=True, **more)
    assert_one_update_is_the_gradient(given, Plasticity(3.0, weight_cost=0.05, activity_average=0.7))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("number", range(24))
def test_top_down_input_of_another_case(number, device):
    """§3.5: what areas hear from hidden areas above is, in negative versions, that of the case before."""
    more = {"steps": [2, 3, 11][number % 3], "alternating": number % 2 == 1, "device": device}
    phases = PHASES[number % len(PHASES)]
    given = scene(random_net(number), phases, seed=number, images_differ=number % 5 == 0, **more)
    given.borrowed = tuple(not real for real in phases)
    assert_one_update_is_the_gradient(given, Plasticity(3.0, weight_cost=0.05, activity_average=0.7))


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


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_area_that_only_hears_from_above_learns_like_any_other(number):
    given = scene(model(*LATE_START), seed=number)
    assert_one_update_is_the_gradient(given, Plasticity(3.0))


def test_input_and_context_alone_are_enough():
    """No hidden area hears another: §3.3 with one layer and the label beside the image."""
    areas = {"retina": {"role": "input", "units": 5}, "V1": {"units": 6}, "label": {"role": "context", "units": 3}}
    given = scene(model(areas, [project("retina", "V1"), project("label", "V1", "top_down")]))
    assert_one_update_is_the_gradient(given, Plasticity(3.0))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("number", range(8))
def test_no_cases_teach_nothing(number, precision):
    """A rank may be left without cases of a small minibatch: its gradients are zero, and it asks as many sums."""
    given = scene(random_net(number), seed=number, precision=precision, steps=10)
    given.learn(BARE)  # arrays that are used again hold what they held
    before = full(given.engine, given.state).arrays()
    given.images = {area: x[:, :0] for area, x in given.images.items()}
    given.context = {area: x[:, :0] for area, x in given.context.items()}
    given.engine.learn(
        given.state,
        given.engine.look(given.state, given.images),
        given.context,
        given.images,
        given.is_positive,
        replace(BARE, activity_average=1.0),
        minibatch=3,
    )
    for path, array in full(given.engine, given.state).arrays().items():
        assert torch.equal(array, before[path]) or "averages" in path, path
        assert array.isfinite().all()


def test_a_context_that_is_not_shown_teaches_nothing():
    given = scene(model(*FIGURE_3))
    given.learn(BARE)
    before = given.state.weights["label→V2"].clone()
    percept = given.engine.look(given.state, given.images)
    given.engine.learn(given.state, percept, {}, given.images, given.is_positive, BARE)
    assert torch.equal(given.state.weights["label→V2"], before)


# ------------------------------------------------------------------------ memory


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
