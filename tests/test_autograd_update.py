"""What the benchmark times as "plain autograd" is the engine's own update."""

import numpy as np
import torch
from autograd_update import AutogradNet

from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Plasticity, RateDynamics
from cortexff.graph import load_model
from cortexff.stimuli.labels import one_hot


def test_three_updates_are_those_of_the_engine():
    dynamics, plasticity = RateDynamics(precision="float32"), Plasticity(learning_rate=3.0)
    engine = RateEngine(load_model("digits_recurrent"), dynamics)
    state = engine.start(0, [0])
    plain = AutogradNet(64, 200, 10, dynamics, plasticity)
    layers = {"retina→V1": plain.image, "V1→V2": plain.up, "V2→V1": plain.down, "label→V2": plain.label}
    biases = {"V1": plain.image.bias, "V2": plain.label.bias}
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(state.weights[name][0])
        for bias in biases.values():
            bias.zero_()
    born = {name: layer.weight.detach().clone() for name, layer in layers.items()}

    random = np.random.default_rng(0)
    for _ in range(3):
        images = torch.from_numpy(random.random((30, 64), dtype=np.float32))
        labels = torch.from_numpy(random.integers(0, 10, 30))
        right, wrong = one_hot(labels, 10), one_hot((labels + 1) % 10, 10)
        clamped, shown = {"retina": images[None, :, None]}, {"label": torch.stack([right, wrong], 1)[None]}
        engine.learn(state, engine.look(state, clamped), shown, clamped, [True, False], plasticity)
        plain.update(images, right, wrong)

    for name, layer in layers.items():
        moved, wanted = layer.weight.detach() - born[name], state.weights[name][0] - born[name]
        assert (moved - wanted).norm() < 1e-4 * wanted.norm(), name
    for area, bias in biases.items():
        assert (bias - state.biases[area][0]).norm() < 1e-4 * state.biases[area].norm(), area
    for mean, area in zip(plain.mean_activity, biases, strict=True):
        torch.testing.assert_close(mean, state.mean_activity[area][0], rtol=1e-4, atol=1e-6)
