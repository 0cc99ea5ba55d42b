"""Backpropagation against plain torch.nn, and what an engine promises: masks, subjects, precision."""

import numpy as np
import pytest
import torch
from scenes import BARE, CUDA, bottom_up, brute_mask, model, project, random_net, tensor_like
from torch import Tensor, nn

from cortexff.engines.backprop import BackpropEngine, Regularizers, cross_entropy, dropout_mask
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Plasticity, RateState
from cortexff.graph import afferents
from cortexff.readout import SoftmaxState, softmax_heard, start_softmax

SUBJECTS, CASES, LABELS = 2, 5, 4
EVERYTHING = Regularizers(dropout=0.4, input_dropout=0.2, label_smoothing=0.1)
CHAIN = model(
    {
        "retina": {"role": "input", "shape": [4, 4]},
        "V1": {"shape": [4, 4, 2]},
        "V2": {"units": 9},
        "label": {"role": "context", "units": LABELS},  # not used
    },
    [
        project("retina", "V1", receptive_field={"size": 3}),
        project("V1", "V2"),
        project("V2", "V1", "top_down"),
        project("label", "V2", "top_down"),
    ],
)


class Lesson:
    """A net that is no newborn, with all that one update takes."""

    def __init__(self, net, regularizers: Regularizers | None = None, seed: int = 0, **how) -> None:
        self.engine, random = BackpropEngine(net, regularizers, **how), np.random.default_rng(seed)
        self.state = self.engine.start(seed, range(SUBJECTS))
        for area, bias in self.state.biases.items():
            self.state.biases[area] = bias + 0.3 * tensor_like(random, bias)
        self.softmax = start_softmax(self.engine, SUBJECTS, LABELS)
        self.softmax.weights += 0.3 * tensor_like(random, self.softmax.weights)
        inputs = [area for area, role in net.nodes(data="role") if role == "input"]
        shapes = {area: (SUBJECTS - seed % 2, CASES, 1, self.engine.units[area]) for area in inputs}
        device = self.engine.device
        self.images = {a: tensor_like(random, torch.empty(shape)).to(device) for a, shape in shapes.items()}
        self.labels = torch.from_numpy(random.integers(0, LABELS, (SUBJECTS, CASES))).to(device)
        streams = [np.random.default_rng((seed, subject)) for subject in range(SUBJECTS)]
        self.masks = {
            area: dropout_mask(streams, CASES, self.engine.units[area], share).to(device)
            for area, share in self.engine.dropout.items()
        }

    def learn(self, plasticity: Plasticity = BARE) -> None:
        self.engine.learn(self.state, self.softmax, self.images, self.labels, self.masks, plasticity)

    def matrices(self, subject: int) -> dict[str, Tensor]:
        """A subject's weights and biases by name, the softmax's last; copies."""
        named = {**self.state.weights, **self.state.biases, "softmax": self.softmax.weights}
        return {name: array[subject].clone() for name, array in named.items()}


def plain_gradients(lesson: Lesson, subject: int, smoothing: float) -> dict[str, Tensor]:
    """The same net of nn.Linear in double precision, its loss by nn.CrossEntropyLoss: name → gradient."""
    engine, net = lesson.engine, lesson.engine.net
    leaves = {name: array.double().requires_grad_() for name, array in lesson.matrices(subject).items()}

    def left(area: str, activity: Tensor) -> Tensor:
        return activity * lesson.masks[area][subject] if area in lesson.masks else activity

    heard = {area: left(area, image[subject % len(image), :, 0].double()) for area, image in lesson.images.items()}
    for area in engine.areas:
        drive = leaves[area].expand(CASES, -1)
        for source, name in afferents(net, area, "bottom_up"):
            mask = brute_mask(net, source, area, name)
            drive = drive + nn.functional.linear(heard[source], leaves[name] * mask)
        heard[area] = left(area, nn.functional.relu(drive))
    logits = nn.functional.linear(heard[engine.areas[-1]], leaves["softmax"])
    nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, lesson.labels[subject]).backward()
    return {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize("regularizers", [Regularizers(), EVERYTHING], ids=["plain", "regularized"])
@pytest.mark.parametrize("number", range(12))
def test_an_update_goes_down_the_gradient_that_torch_finds(number, regularizers):
    """On random graphs with skips and local fields; what is above, beside or clamped to a label is left out."""
    lesson = Lesson(random_net(number), regularizers, seed=number)
    wanted = [plain_gradients(lesson, subject, regularizers.label_smoothing) for subject in range(SUBJECTS)]
    before = [lesson.matrices(subject) for subject in range(SUBJECTS)]
    lesson.learn()
    for subject in range(SUBJECTS):
        after = lesson.matrices(subject)
        for name, gradient in wanted[subject].items():
            moved = after[name] - before[subject][name]
            torch.testing.assert_close(
                moved, -gradient.float(), rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_some_updates_are_those_of_a_sequential_trained_by_sgd():
    net = model(
        {"retina": {"role": "input", "units": 12}, "V1": {"units": 10}, "V2": {"units": 8}},
        [project("retina", "V1"), project("V1", "V2")],
    )
    lesson, rate, cost = Lesson(net), 0.5, 0.02
    chain = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, LABELS, bias=False))
    mine = lesson.matrices(0)
    names = ["retina→V1", "V1", "V1→V2", "V2", "softmax"]
    for name, parameter in zip(names, chain.parameters(), strict=True):
        parameter.data = mine[name]
    decays = [{"params": [p], "weight_decay": cost if p.dim() == 2 else 0.0} for p in chain.parameters()]
    optimizer, loss = torch.optim.SGD(decays, lr=rate), nn.CrossEntropyLoss()
    for _ in range(5):
        optimizer.zero_grad()
        loss(chain(lesson.images["retina"][0, :, 0]), lesson.labels[0]).backward()
        optimizer.step()
        lesson.learn(Plasticity(rate, gradient_average=0.0, weight_cost=cost))
    for name, parameter in zip(names, chain.parameters(), strict=True):
        torch.testing.assert_close(lesson.matrices(0)[name], parameter.data, rtol=1e-4, atol=1e-5)
    percept = lesson.engine.look(lesson.state, lesson.images)
    logits = torch.bmm(softmax_heard(lesson.engine, percept), lesson.softmax.weights.mT)
    torch.testing.assert_close(logits[0], chain(lesson.images["retina"][0, :, 0]), rtol=1e-4, atol=1e-5)


def test_gradients_are_averaged_over_updates():
    """With an average that is kept whole nothing moves; half of it moves half as far at first."""
    found = {}
    for keep in (0.0, 0.5):
        lesson = Lesson(CHAIN)
        before = lesson.matrices(0)["V1→V2"]
        lesson.learn(Plasticity(1.0, gradient_average=keep, weight_cost=0.0))
        found[keep] = lesson.matrices(0)["V1→V2"] - before
    torch.testing.assert_close(found[0.5], 0.5 * found[0.0])


def test_weights_outside_a_field_stay_zero():
    lesson = Lesson(CHAIN, EVERYTHING)
    mask = brute_mask(CHAIN, "retina", "V1", "retina→V1").bool()
    before = lesson.matrices(0)["retina→V1"]
    for _ in range(5):
        lesson.learn(Plasticity(0.5))
    for subject in range(SUBJECTS):
        weights = lesson.matrices(subject)["retina→V1"]
        assert not weights[~mask].any() and weights[mask].all()
    assert not torch.equal(before, lesson.matrices(0)["retina→V1"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_subject_learns_alone_as_in_its_cohort(precision):
    together, alone = (Lesson(CHAIN, EVERYTHING, precision=precision) for _ in range(2))
    alone.state = RateState.select(alone.state, [1])
    alone.softmax = SoftmaxState(*(array[1:] for array in alone.softmax.arrays().values()))
    alone.images = {area: image[1:] for area, image in alone.images.items()}
    alone.labels, alone.masks = alone.labels[1:], {area: mask[1:] for area, mask in alone.masks.items()}
    for _ in range(3):
        together.learn(Plasticity(0.5))
        alone.learn(Plasticity(0.5))
    for name, array in alone.matrices(0).items():
        torch.testing.assert_close(array, together.matrices(1)[name], rtol=1e-4, atol=1e-5)


def test_newborns_have_the_weights_of_the_rate_engine_made_larger():
    """So that rectification, which loses half of the variance of a drive, leaves activity as strong as input."""
    net = bottom_up(CHAIN)
    theirs, ours = RateEngine(net, tiled=False).start(3, [0, 2]), BackpropEngine(CHAIN).start(3, [0, 2])
    assert ours.weights.keys() == theirs.weights.keys() and set(ours.biases) == {"V1", "V2"}
    for name, weights in ours.weights.items():
        torch.testing.assert_close(weights, 2**0.5 * theirs.weights[name])


def test_images_evoke_activity_without_normalization():
    """Twice the input, twice the activity of newborns, who have no biases."""
    engine = BackpropEngine(CHAIN)
    state, image = engine.start(0, range(SUBJECTS)), torch.rand(1, CASES, 3, 16)
    once, twice = (engine.look(state, {"retina": factor * image}).activity for factor in (1, 2))
    assert once["V1"].shape == (SUBJECTS, CASES, 3, 32) and once["V2"].shape == (SUBJECTS, CASES, 3, 9)
    for area, activity in once.items():
        torch.testing.assert_close(twice[area], 2 * activity)
        assert not activity.requires_grad


def test_bfloat16_products_are_those_of_float32_to_their_precision():
    found = {}
    for precision in ("float32", "bfloat16"):
        lesson = Lesson(CHAIN, precision=precision)
        before = torch.cat([array.flatten() for array in lesson.matrices(0).values()])
        lesson.learn()
        assert {array.dtype for array in lesson.matrices(0).values()} == {torch.float32}
        found[precision] = torch.cat([array.flatten() for array in lesson.matrices(0).values()]) - before
    exact, rounded = found.values()
    assert not torch.equal(exact, rounded) and (exact - rounded).norm() < 0.03 * exact.norm()


def test_an_area_that_leads_nowhere_learns_nothing():
    areas = {"retina": {"role": "input", "units": 6}, "aside": {"units": 5}, "V1": {"units": 7}}
    lesson = Lesson(model(areas, [project("retina", "aside"), project("retina", "V1")]))
    assert lesson.engine.areas[-1] == "V1"
    before = lesson.matrices(0)
    lesson.learn()
    after = lesson.matrices(0)
    assert {name for name in before if torch.equal(before[name], after[name])} == {"retina→aside", "aside"}


def test_dropout_leaves_the_mean_as_it_was():
    streams = [np.random.default_rng(subject) for subject in (0, 1)]
    mask = dropout_mask(streams, 200, 300, share=0.2)
    assert mask.shape == (2, 200, 300) and mask.unique().tolist() == pytest.approx([0, 1.25])
    # 60,000 draws with a standard deviation of ½.
    assert mask.mean((1, 2)).tolist() == pytest.approx([1, 1], abs=5 * 0.5 / 60_000**0.5)
    assert not torch.equal(mask[0], mask[1])


def test_draws_belong_to_places_of_the_minibatch():
    whole, part = (dropout_mask([np.random.default_rng(3)], cases, 6, 0.5, first) for cases, first in ((7, 0), (4, 3)))
    assert torch.equal(whole[:, 3:], part)


def test_nothing_is_dropped_unless_it_is_asked_for():
    assert BackpropEngine(CHAIN).dropout == {}
    assert BackpropEngine(CHAIN, Regularizers(dropout=0.5)).dropout == {"V1": 0.5, "V2": 0.5}
    assert BackpropEngine(CHAIN, Regularizers(input_dropout=0.2)).dropout == {"retina": 0.2}


def test_cross_entropy_is_its_formula():
    logits, labels = torch.randn(2, 3, LABELS), torch.tensor([[0, 3, 1], [2, 2, 0]])
    wanted = 0.7 * nn.functional.one_hot(labels, LABELS) + 0.3 / LABELS
    torch.testing.assert_close(cross_entropy(logits, labels, 0.3), -(wanted * logits.log_softmax(-1)).sum(-1))


@pytest.mark.parametrize("device", [CUDA])
def test_a_gpu_learns_what_a_processor_learns(device):
    here, there = (Lesson(CHAIN, EVERYTHING, device=where) for where in ("cpu", device))
    for lesson in (here, there):
        lesson.learn(Plasticity(0.5))
    for name, array in there.matrices(1).items():
        torch.testing.assert_close(array.cpu(), here.matrices(1)[name], rtol=1e-4, atol=1e-5)
