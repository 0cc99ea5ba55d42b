"""One update: each subject sees its next minibatch, finds its negative data, and learns from both (§3.2-§3.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cortexff import readout
from cortexff.engines import ranks
from cortexff.engines.backprop import BackpropEngine, dropout_mask
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Percept, Plasticity
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.schedule import PHASES, Protocol, Stage
from cortexff.random_streams import generator
from cortexff.stimuli import pixels
from cortexff.stimuli.images import Images
from cortexff.stimuli.labels import hard_negatives, random_negatives


class Lessons:
    """The training images of a run, met in the order that belongs to each subject and age."""

    def __init__(self, images: Images, presentation: Presentation, subjects: int) -> None:
        self.presentation = presentation
        self.images = torch.from_numpy(images.training_images)
        self.labels = torch.from_numpy(images.training_labels)
        self.order = lru_cache(maxsize=4 * subjects)(self._order)

    def per_epoch(self, protocol: Protocol) -> int:
        """Minibatches in a pass through the training images."""
        return len(self.labels) // protocol.stimuli.minibatch

    def update(
        self,
        engine: RateEngine | BackpropEngine,
        cohort: Cohort,
        protocol: Protocol,
        stage: Stage,
        factor: float,
    ) -> None:
        """Let each subject learn from its next minibatch; the cohort is changed in place.

        factor  on the learning rates
        """
        minibatch, share = protocol.stimuli.minibatch, ranks.share(protocol.stimuli.minibatch)
        chosen = torch.from_numpy(np.stack([self.cases(protocol, s, age) for s, age in _ages(cohort)]))
        images = self._seen(engine, cohort, protocol, chosen, share)
        labels = self.labels[chosen[:, share]].to(engine.device)
        plasticity = Plasticity(**protocol.plasticity_of(stage).model_dump())
        plasticity = replace(plasticity, learning_rate=plasticity.learning_rate * factor)
        if isinstance(engine, BackpropEngine):
            shown, masks = self.presentation.plain(images), self._dropout(engine, cohort, protocol, images, share)
            engine.learn(cohort.state, cohort.softmax, shown, labels, masks, plasticity, minibatch)
        else:
            self._forward_forward(engine, cohort, protocol, stage, chosen, images, labels, plasticity, factor)
        cohort.age += 1

    def _forward_forward(
        self,
        engine: RateEngine,
        cohort: Cohort,
        protocol: Protocol,
        stage: Stage,
        chosen: Tensor,
        images: Tensor,
        labels: Tensor,
        plasticity: Plasticity,
        factor: float,
    ) -> None:
        """Find negative data for what is seen, and learn locally (§3.2-§3.4)."""
        minibatch, present, is_positive = protocol.stimuli.minibatch, self.presentation, PHASES[stage.phase]
        share = ranks.share(minibatch)
        if present.labels == "none" and is_positive:
            before = self._seen(engine, cohort, protocol, chosen.roll(1, dims=1), share)
            hybrids = present.hybrids(images, before, _streams(protocol, cohort, "negatives"), share.start)
            clamped, context = present.side_by_side(*(images if real else hybrids for real in is_positive))
            percept = engine.look(cohort.state, clamped)
            self._teach_softmax(engine, cohort, protocol, stage, percept, labels, factor)
        else:
            clamped, context = present.plain(images), {}
            percept = engine.look(cohort.state, clamped)
            belief = self._teach_softmax(engine, cohort, protocol, stage, percept, labels, factor)
            if is_positive:
                wrong = (
                    self._labels_of_negatives(cohort, protocol, belief, labels, share) if False in is_positive else None
                )
                versions = torch.stack([labels if real else wrong for real in is_positive], dim=2)
                clamped, context = present.labelled(images, versions)
                if present.labels == "pixels":
                    percept = engine.look(cohort.state, clamped)
        if is_positive:
            borrowed = [not real for real in is_positive] if protocol.stimuli.negatives == "other_context" else ()
            engine.learn(cohort.state, percept, context, clamped, is_positive, plasticity, minibatch, borrowed)

    def _dropout(
        self, engine: BackpropEngine, cohort: Cohort, protocol: Protocol, images: Tensor, share: slice
    ) -> dict[str, Tensor]:
        """Which units each subject does without, anew for each image at each age (§3.1)."""
        return {
            area: dropout_mask(
                _streams(protocol, cohort, f"dropout/{area}"), images.shape[1], engine.units[area], dropped, share.start
            ).to(engine.device)
            for area, dropped in engine.dropout.items()
        }

    def cases(self, protocol: Protocol, subject: int, age: int) -> np.ndarray:
        """Places of the training images that a subject of that age meets, (minibatch,)."""
        epoch, batch = divmod(age, self.per_epoch(protocol))
        size = protocol.stimuli.minibatch
        return self.order(protocol.seed, subject, epoch)[batch * size : (batch + 1) * size]

    def _order(self, seed: int, subject: int, epoch: int) -> np.ndarray:
        return generator(seed, subject, "order", epoch).permutation(len(self.labels))

    def _seen(self, engine: RateEngine, cohort: Cohort, protocol: Protocol, chosen: Tensor, share: slice) -> Tensor:
        """This rank's part of the chosen images, as they fall on the retina, (subjects, cases, pixels)."""
        images = self.images[chosen[:, share]].to(engine.device)
        if reach := protocol.stimuli.jitter:
            streams = _streams(protocol, cohort, "jitter")
            images = pixels.jittered(images, self.presentation.shape, streams, reach, share.start)
        return images

    def _teach_softmax(
        self,
        engine: RateEngine,
        cohort: Cohort,
        protocol: Protocol,
        stage: Stage,
        percept: Percept,
        labels: Tensor,
        factor: float,
    ) -> Tensor | None:
        """What the softmax believed of each image, before it learned from it; None where nobody asks."""
        hard = False in PHASES[stage.phase] and protocol.stimuli.negatives == "hard_labels"
        if not hard and not stage.train_softmax:
            return None
        heard, settings = readout.softmax_heard(engine, percept), protocol.readout.softmax
        belief = readout.belief(cohort.softmax, heard)
        if stage.train_softmax:
            readout.learn_softmax(
                cohort.softmax,
                heard,
                belief,
                labels,
                settings.learning_rate * factor,
                weight_cost=settings.weight_cost,
                minibatch=protocol.stimuli.minibatch,
            )
        return belief

    def _labels_of_negatives(
        self, cohort: Cohort, protocol: Protocol, belief: Tensor | None, labels: Tensor, share: slice
    ) -> Tensor:
        if protocol.stimuli.negatives == "other_context":
            return labels
        streams = _streams(protocol, cohort, "negatives")
        if protocol.stimuli.negatives == "hard_labels":
            return hard_negatives(belief, labels, streams, share.start)
        return random_negatives(labels, self.presentation.classes, streams, share.start)


def _ages(cohort: Cohort) -> Iterator[tuple[int, int]]:
    yield from zip(cohort.subjects, cohort.age.tolist(), strict=True)


def _streams(protocol: Protocol, cohort: Cohort, purpose: str) -> list[np.random.Generator]:
    """A random stream for each subject at its age."""
    return [generator(protocol.seed, subject, purpose, age) for subject, age in _ages(cohort)]
