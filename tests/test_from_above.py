"""The control whose derivatives travel down from the areas above, against autograd through the whole net."""

import pytest
from scenes import CUDA, PHASES, Scene, bottom_up, random_net, scene
from test_gradients import OBJECTIVES, assert_alike, reference_update

from cortexff.engines.from_above import derivatives_from_above
from cortexff.engines.state import Plasticity
from cortexff.graph import hidden_areas


def learn(given: Scene, plasticity: Plasticity) -> None:
    engine, (cases, *_) = given.engine, next(iter(given.images.values())).shape[1:]
    above = derivatives_from_above(engine, given.state, given.images, given.is_positive, plasticity, cases)
    percept = engine.look(given.state, given.images)
    told = {"then": lambda area, gradient: gradient.add(above[area])}
    engine.learn(given.state, percept, given.context, given.images, given.is_positive, plasticity, **told)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("number", range(24))
def test_with_what_comes_from_above_an_update_is_that_of_backpropagation(number, device):
    """All areas' ½ Σ log p, nothing held constant: on random graphs, with receptive fields, blocks, either sign."""
    net, phases = bottom_up(random_net(number)), PHASES[number % len(PHASES)]
    given = scene(net, phases, seed=number, images_differ=True, steps=0, device=device)
    peers = 0.3 if number % 2 else 0.0
    saturation = list(OBJECTIVES)[number % len(OBJECTIVES)]
    sleeping = tuple(hidden_areas(net)[:1]) if number % 5 == 0 else None
    plasticity = Plasticity(3.0, peer_normalization=peers, saturation=saturation, sleeping=sleeping)
    wanted = reference_update(given, plasticity, backpropagated=True)
    learn(given, plasticity)
    assert_alike(given, wanted)


@pytest.mark.parametrize("number", range(8))
def test_nothing_comes_to_the_last_area_from_above(number):
    net = bottom_up(random_net(number))
    given = scene(net, (True, False), seed=number, images_differ=True, steps=0)
    cases = next(iter(given.images.values())).shape[1]
    above = derivatives_from_above(given.engine, given.state, given.images, (True, False), Plasticity(1.0), cases)
    last = hidden_areas(net)[-1]
    assert not any(array.any() for array in above[last].arrays())
    assert not any(gradient.seen.any() for gradient in above.values())
