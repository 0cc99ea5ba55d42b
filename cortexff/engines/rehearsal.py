"""The engine at work on random images, to see how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import networkx as nx
import numpy as np
import torch

from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Plasticity, RateState
from cortexff.graph import only_area
from cortexff.readout import by_goodness
from cortexff.stimuli.labels import candidates

PLASTICITY = Plasticity(learning_rate=1.0)
SAMPLE = 0.05  # seconds that one sample lasts at least: short work is repeated


class Rehearsal:
    """Subjects, such as newborn ones, and one batch of random images with right and wrong labels.

    images  input area → (subjects, cases, 1, pixels)
    labels  context area → (subjects, cases, 2, labels), one-of-N: the right one, then a wrong one
    """

    def __init__(self, engine: RateEngine, state: RateState, cases: int) -> None:
        self.engine, self.state = engine, state
        self.retina, self.label = only_area(engine.net, "input"), only_area(engine.net, "context")
        images, pairs = random_batch(engine.net, len(state.biases[engine.areas[0]]), cases)
        self.images, self.labels = {self.retina: images.to(engine.device)}, {self.label: pairs.to(engine.device)}
        self.every_label = {self.label: candidates(pairs.shape[-1], engine.device)}

    def update(self, is_positive: Sequence[bool] = (True, False)) -> None:
        """One bottom-up pass and one update; a phase alone learns from the right labels."""
        shown = {self.label: self.labels[self.label][:, :, : len(is_positive)]}
        percept = self.engine.look(self.state, self.images)
        self.engine.learn(self.state, percept, shown, self.images, is_positive, PLASTICITY)

    def test(self, window: tuple[int, int]) -> torch.Tensor:
        """The label of every image by goodness."""
        percept = self.engine.look(self.state, self.images)
        return by_goodness(self.engine, self.state, percept, self.every_label, window)


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
