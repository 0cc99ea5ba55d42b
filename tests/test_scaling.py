"""Synaptic scaling brings goodness back to what it was, at once or in steps, and leaves directions alone."""

import numpy as np
import pytest
import torch

from cortexff import readout
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import RateDynamics
from cortexff.graph import load_model
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.scaling import _goodness, scale
from cortexff.stimuli.labels import one_hot

STEPS, SUBJECTS = (3, 5), [0, 1, 2]


@pytest.fixture
def scene():
    engine = RateEngine(load_model("digits_recurrent"), RateDynamics(precision="float32"))
    cohort = Cohort.newborn(SUBJECTS, engine.start(0, SUBJECTS), readout.start_softmax(engine, 3, 10))
    random = torch.Generator().manual_seed(0)
    images, labels = torch.rand(40, 64, generator=random), torch.randint(10, (40,), generator=random)
    return engine, cohort, Presentation("context", "retina", "label", (8, 8), 10, 6), images, labels


@pytest.mark.parametrize("updates", [1, 4])
def test_goodness_is_as_it_was(scene, updates):
    engine, cohort, present, images, labels = scene
    like = cohort.select([0, 1, 2])
    for gain, (name, weights) in enumerate(cohort.state.weights.items(), start=1):
        weights.mul_(1 + 0.1 * gain + 0.2 * torch.rand(weights.shape, generator=torch.Generator().manual_seed(gain)))
        assert name
    some = cohort.select([2, 0])  # as where the others are done
    wanted = _goodness(engine, like.select([2, 0]), present, images, labels, STEPS)
    before = _goodness(engine, some, present, images, labels, STEPS)
    for left in range(updates, 0, -1):
        scale(engine, some, like, present, images, labels, STEPS, left)
    after = _goodness(engine, some, present, images, labels, STEPS)
    for area in engine.areas:
        assert (before[area] / wanted[area] - 1).abs().min() > 0.05
        torch.testing.assert_close(after[area], wanted[area], rtol=1e-4, atol=1e-4)


def test_what_other_areas_hear_is_the_same(scene):
    engine, cohort, present, images, labels = scene
    like, before = cohort.select([0, 1, 2]), cohort.select([0, 1, 2])
    for weights in like.state.weights.values():
        weights.mul_(0.5)
    scale(engine, cohort, like, present, images, labels, STEPS, 1)
    clamped, context = present.labelled(images[None], labels[None, :, None])
    assert torch.equal(context["label"][0, :, 0], one_hot(labels, 10))
    directions = []
    for one in (before, cohort):
        last = list(engine.settle(one.state, engine.look(one.state, clamped), context))[-1].activity["V2"].clone()
        directions.append(last / last.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(*directions, rtol=1e-4, atol=1e-5)
    assert np.isfinite(cohort.state.weights["V1→V2"].numpy()).all()
