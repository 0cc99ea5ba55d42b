"""The engine at work on random images, to see how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import networkx as nx
import numpy as np
import torch

from cortexff.engines.backprop import BackpropEngine, dropout_mask
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Plasticity, RateState
from cortexff.graph import has_context, only_area
from cortexff.readout import by_goodness, by_softmax, softmax_heard, start_softmax
from cortexff.stimuli.labels import candidates

PLASTICITY = Plasticity(learning_rate=1.0)
SAMPLE = 0.05  # seconds that one sample lasts at least: short work is repeated


class Rehearsal:
    """Subjects, such as newborn ones, and one batch of random images with right and wrong labels.

    Where the model has no context area, the images themselves differ between versions.

    versions  that a test tries of each image; all labels of the context area unless given
    """

    def __init__(self, engine: RateEngine, state: RateState, cases: int, versions: int | None = None) -> None:
        self.engine, self.state = engine, state
        subjects, net = len(state.biases[engine.areas[0]]), engine.net
        self.retina, self.label = only_area(net, "input"), None
        if has_context(net):
            self.label = only_area(net, "context")
            images, pairs = random_batch(net, subjects, cases)
            self.images, self.pairs = images.to(engine.device), pairs.to(engine.device)
            self.every_label = candidates(pairs.shape[-1], engine.device)
        else:
            shape = (subjects, cases, versions or 2, net.nodes[self.retina]["units"])
            self.images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(engine.device)

    def update(self, is_positive: Sequence[bool] = (True, False)) -> None:
        """One bottom-up pass and one update; a phase alone learns from the right labels."""
        images, context = {self.retina: self.images}, {}
        if self.label is None:
            images = {self.retina: self.images[:, :, : len(is_positive)]}
        else:
            context = {self.label: self.pairs[:, :, : len(is_positive)]}
        percept = self.engine.look(self.state, images)
        self.engine.learn(self.state, percept, context, images, is_positive, PLASTICITY)

    def test(self, window: tuple[int, int]) -> torch.Tensor:
        """The version of highest goodness of every image."""
        percept = self.engine.look(self.state, {self.retina: self.images})
        context = {} if self.label is None else {self.label: self.every_label}
        return by_goodness(self.engine, self.state, percept, context, window)


class BackpropRehearsal:
    """As :class:`Rehearsal`, of a net that backpropagation trains: one batch of random images and labels."""

    def __init__(self, engine: BackpropEngine, state: RateState, cases: int, labels: int) -> None:
        self.engine, self.state = engine, state
        retina, subjects = only_area(engine.net, "input"), len(state.biases[engine.areas[0]])
        self.softmax = start_softmax(engine, subjects, labels)
        self.streams = [np.random.default_rng(subject) for subject in range(subjects)]
        random = torch.Generator().manual_seed(0)
        images = torch.rand(subjects, cases, 1, engine.units[retina], generator=random)
        self.images = {retina: images.to(engine.device)}
        self.labels = torch.randint(labels, (subjects, cases), generator=random).to(engine.device)

    def update(self) -> None:
        """One update, with what is drawn for it."""
        cases, units, device = self.labels.shape[1], self.engine.units, self.engine.device
        masks = {
            area: dropout_mask(self.streams, cases, units[area], share).to(device)
            for area, share in self.engine.dropout.items()
        }
        self.engine.learn(self.state, self.softmax, self.images, self.labels, masks, PLASTICITY)

    def test(self) -> torch.Tensor:
        """The label of every image."""
        return by_softmax(self.softmax, softmax_heard(self.engine, self.engine.look(self.state, self.images)))


def random_batch(net: nx.MultiDiGraph, subjects: int, cases: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images, (subjects, cases, 1, pixels), and a right and a wrong label, (subjects, cases, 2, labels)."""
    pixels, labels = (net.nodes[only_area(net, role)]["units"] for role in ("input", "context"))
    random = torch.Generator().manual_seed(0)
    images = torch.rand(subjects, cases, 1, pixels, generator=random)
    right = torch.randint(labels, (subjects, cases, 1), generator=random)
    pairs = torch.cat([right, (right + 1) % labels], dim=2)
    return images, torch.nn.functional.one_hot(pairs, labels).float()


class Stopwatch:
    """Times one piece of work again and again."""

    def __init__(self, work: Callable[[], object], device: str) -> None:
        self.work, self.device, self.samples = work, device, []
        self.times = 1  # that one sample repeats the work
        self.seconds()  # the first run warms up, the second tells
        self.times = max(1, round(SAMPLE / self.seconds()))

    def seconds(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(self.times):
            self.work()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / self.times

    def sample(self) -> None:
        self.samples.append(self.seconds())

    @property
    def median(self) -> float:
        return float(np.median(self.samples))
