"""Adam's steps are those of PyTorch's optimizer, one for each phase, in the scale of a net with input of length 1."""

import math

import pytest
import torch
from test_lesson import SUBJECTS, lesson

from cortexff.engines.gradients import AreaGradient
from cortexff.protocol import adam
from cortexff.protocol.settings import Stage


def test_steps_are_those_of_pytorch():
    random = torch.Generator().manual_seed(0)
    gradients = [torch.randn(2, 3, 4, generator=random) for _ in range(5)]
    weights = torch.zeros(2, 3, 4, requires_grad=True)
    theirs = torch.optim.Adam([weights], lr=0.01)
    cohort, ours = lesson({"labels": "pixels"}, {"phase": "rest"})[1], torch.zeros(2, 3, 4)
    for gradient in gradients:
        weights.grad = -gradient  # it descends
        theirs.step()
        own = AreaGradient({"a→b": gradient.clone()}, gradient[:, :, 0].clone(), gradient[:, :, 0].clone())
        adam.turn(cohort, [True])
        adam.replace(cohort, [True], "b", own, inputs=4)
        ours += 0.01 / 4 * own.weights["a→b"]
    torch.testing.assert_close(ours * math.sqrt(4), weights.detach())  # weights of inputs of length 1 are √N as large


def test_every_phase_has_moments_of_its_own():
    """The first step has the size of the learning rate, for each optimizer anew and whatever the gradient."""
    engine, cohort, lessons, protocol = lesson({"labels": "pixels", "negatives": "random_labels"}, {"phase": "rest"})
    plasticity = {"optimizer": "adam", "learning_rate": 1e-3, "weight_cost": 0, "peer_normalization": 0}
    for phase in ("wake", "sleep", "interleaved"):
        before = cohort.state.select(range(2))
        stage = Stage.model_validate({"phase": phase, "updates": 1, "plasticity": plasticity})
        lessons.update(engine, cohort, protocol, stage)
        for area, bias in cohort.state.biases.items():
            step = (bias - before.biases[area]).abs()
            assert step.max().item() == pytest.approx(1e-3, rel=1e-3)
        for name, weights in cohort.state.weights.items():
            step = (weights - before.weights[name]).abs() * math.sqrt(weights.shape[2])
            assert step.max().item() == pytest.approx(1e-3, rel=1e-2)
    counts = {name: array.tolist() for name, array in cohort.kept.items() if name.startswith("adam updates")}
    assert counts == {f"adam updates {whose}": [1, 1] for whose in ("positive", "negative", "both")}


def test_moments_are_taken_up_where_they_were():
    engine, cohort, lessons, protocol = lesson({"labels": "pixels"}, {"phase": "rest"})
    plasticity = {"optimizer": "adam", "learning_rate": 1e-2, "weight_cost": 0, "peer_normalization": 0}
    turns = {"phase": "alternating", "cycle": 1, "updates": 8, "plasticity": plasticity}
    stage = Stage.model_validate(turns)
    for number in range(8):
        if number == 5:
            cohort = type(cohort).from_arrays(SUBJECTS, cohort.arrays(), torch.device("cpu"))
        lessons.update(engine, cohort, protocol, stage, number, 8)
    engine, whole, lessons, protocol = lesson({"labels": "pixels"}, {"phase": "rest"})
    for number in range(8):
        lessons.update(engine, whole, protocol, stage, number, 8)
    for name, array in whole.arrays().items():
        assert (cohort.arrays()[name] == array).all()


def test_a_minibatch_and_its_negative_data_come_again():
    stage = {"phase": "interleaved", "plasticity": {"learning_rate": 0}}
    shown = []
    for repeats in (1, 3):
        stimuli = {"labels": "pixels", "negatives": "random_labels", "repeats": repeats}
        engine, cohort, lessons, protocol = lesson(stimuli, stage)
        course = [engine.learned]
        for number in range(1, 6):
            lessons.update(engine, cohort, protocol, protocol.stages["school"], number, 6)
            course.append(engine.learned)
        shown.append(course)
    once, thrice = shown
    for number, seen in enumerate(thrice):
        assert torch.equal(seen, once[number // 3])
    assert not torch.equal(once[0], once[1])
