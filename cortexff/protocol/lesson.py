"""One update: each subject sees its next minibatch, finds its negative data, and learns from both (§3.2-§3.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cortexff import readout
from cortexff.engines import ranks
from cortexff.engines.backprop import BackpropEngine, dropout_mask
from cortexff.engines.from_above import derivatives_from_above
from cortexff.engines.gradients import AreaGradient
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import Activity, Percept, Plasticity
from cortexff.equations.plasticity import unit_input_rate
from cortexff.protocol import adam, averaging, baseline
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.scaling import scale
from cortexff.protocol.schedule import Protocol, decay
from cortexff.protocol.settings import PHASES, PlasticitySettings, Stage, StageStimuli
from cortexff.random_streams import generator
from cortexff.stimuli import pixels
from cortexff.stimuli.images import Images
from cortexff.stimuli.labels import hard_negatives, random_negatives


def told_to_engine(settings: PlasticitySettings, factor: float = 1.0) -> Plasticity:
    """Plasticity as the engine takes it, its learning rate times a factor."""
    told = settings.model_dump(exclude={"gradient", "baseline", "optimizer"})
    told["learning_rate"] = settings.learning_rate * factor
    if settings.optimizer == "adam":
        told["gradient_average"] = 0.0  # it has an average of its own
    return Plasticity(**told)


class Lessons:
    """The training images of a run, met in the order that belongs to each subject and age."""

    def __init__(self, images: Images, presentation: Presentation, subjects: int) -> None:
        self.presentation = presentation
        self.images = torch.from_numpy(images.training_images)
        self.labels = torch.from_numpy(images.training_labels)
        self.order = lru_cache(maxsize=4 * subjects)(self._order)
        self.pool = lru_cache(maxsize=4 * subjects)(self._pool)
        self.permutations: dict[tuple, Tensor] = {}

    def per_epoch(self, protocol: Protocol) -> int:
        """Minibatches in a pass through the training images."""
        return len(self.labels) // protocol.stimuli.minibatch

    def update(
        self,
        engine: RateEngine | BackpropEngine,
        cohort: Cohort,
        protocol: Protocol,
        stage: Stage,
        number: int = 0,
        updates: int = 1,
        ends: Mapping[str, Cohort] | None = None,
    ) -> None:
        """Let each subject learn from its next minibatch; the cohort is changed in place.

        number   of the update in the stage, from 0
        updates  of the whole stage
        ends     condition → its subjects at its end, at least those that the stage looks back to
        """
        phase, ends = stage.phase_at(number), ends or {}
        if phase == "scaling":
            steps = protocol.window
            scale(
                engine, cohort, ends[stage.like], self.presentation, self.images, self.labels, steps, updates - number
            )
        else:
            Lesson(self, engine, cohort, protocol, stage, decay(stage, number / updates), PHASES[phase], ends).learn()
        cohort.age += 1
        if "averaged" in protocol.measures:
            averaging.take_in(cohort, number, stage.cycle and stage.cycle.length)

    def cases(self, protocol: Protocol, subject: int, age: int, stimuli: StageStimuli | None = None) -> np.ndarray:
        """Places of the training images that a subject of that age meets, (minibatch,)."""
        size, stimuli = protocol.stimuli.minibatch, stimuli or StageStimuli()
        some = (stimuli.classes or (), stimuli.remembered or 0)
        epoch, batch = divmod(age, max(1, len(self.pool(protocol.seed, subject, *some)) // size))
        return self.order(protocol.seed, subject, epoch, *some)[batch * size : (batch + 1) * size]

    def _order(self, seed: int, subject: int, epoch: int, classes: tuple[int, ...], remembered: int) -> np.ndarray:
        pool = self.pool(seed, subject, classes, remembered)
        return pool[generator(seed, subject, "order", epoch).permutation(len(pool))]

    def _pool(self, seed: int, subject: int, classes: tuple[int, ...], remembered: int) -> np.ndarray:
        """Places of the images that may be met: of some classes, so many of them; all where nothing is said."""
        places = np.arange(len(self.labels))
        if classes:
            places = places[np.isin(self.labels.numpy(), classes)]
        return generator(seed, subject, "remembered").permutation(places)[:remembered] if remembered else places

    def permutation(self, seed: int, subjects: Sequence[int], name: str, there: Tensor) -> Tensor:
        """For each subject and synapse of a projection, or bias of an area, the place of another one.

        there    (...), 1 where there is a synapse
        returns  (subjects, synapses), the same whenever it is asked for
        """
        key = (seed, *subjects, name)
        if key not in self.permutations:
            of_one = np.arange(there.numel())
            synapses = np.flatnonzero(there.cpu().numpy())
            rows = np.tile(of_one, (len(subjects), 1))
            for row, subject in zip(rows, subjects, strict=True):
                row[synapses] = generator(seed, subject, f"shuffled synapses/{name}").permutation(synapses)
            self.permutations[key] = torch.from_numpy(rows).to(there.device)
        return self.permutations[key]


@dataclass
class Lesson:
    """One update under way.

    factor       on the learning rates
    is_positive  for each version of an image, whether it is real data; none: nothing is learned but the softmax
    ends         condition → its subjects at its end
    """

    lessons: Lessons
    engine: RateEngine | BackpropEngine
    cohort: Cohort
    protocol: Protocol
    stage: Stage
    factor: float
    is_positive: Sequence[bool]
    ends: Mapping[str, Cohort]

    def learn(self) -> None:
        """Let each subject learn; the cohort is changed in place."""
        cohort, protocol, stimuli = self.cohort, self.protocol, self.stage.stimuli
        self.minibatch, self.present = protocol.stimuli.minibatch, self.lessons.presentation
        self.share = ranks.share(self.minibatch)
        chosen = [self.lessons.cases(protocol, subject, age, stimuli) for subject, age in self._ages()]
        self.chosen = torch.from_numpy(np.stack(chosen))
        self.images = self._seen(self.chosen)
        self.labels = self.lessons.labels[self.chosen[:, self.share]].to(self.engine.device)
        settings = protocol.plasticity_of(self.stage)
        plasticity = told_to_engine(settings, self.factor)
        if isinstance(self.engine, BackpropEngine):
            shown, masks = self.present.plain(self.images), self._dropout()
            self.engine.learn(cohort.state, cohort.softmax, shown, self.labels, masks, plasticity, self.minibatch)
        else:
            self._forward_forward(plasticity, settings)
        cohort.met += [True in self.is_positive, False in self.is_positive]

    def _forward_forward(self, plasticity: Plasticity, settings: PlasticitySettings) -> None:
        """Find negative data for what is seen, and learn locally (§3.2-§3.4)."""
        engine, cohort, present, is_positive = self.engine, self.cohort, self.present, self.is_positive
        if present.labels == "none" and is_positive:
            before = self._seen(self.chosen.roll(1, dims=1))
            hybrids = present.hybrids(self.images, before, self._streams("negatives"), self.share.start)
            clamped, context = present.side_by_side(*(self.images if real else hybrids for real in is_positive))
            percept = engine.look(cohort.state, clamped)
            self._teach_softmax(percept)
        else:
            clamped, context = present.plain(self.images), {}
            percept = engine.look(cohort.state, clamped)
            belief = self._teach_softmax(percept)
            if is_positive:
                clamped, context, anew = self._labelled(belief)
                percept = engine.look(cohort.state, clamped) if anew else percept
        if is_positive:
            if self._has_baseline(settings):
                baseline.turn(cohort, settings.baseline, awake=is_positive[0])
            if settings.optimizer == "adam":
                adam.turn(cohort, is_positive)
            above = {}
            if settings.gradient == "backpropagated":
                above = derivatives_from_above(engine, cohort.state, clamped, is_positive, plasticity, self.minibatch)
            borrowed = [not real for real in is_positive] if self.negatives == "other_context" else ()
            engine.learn(
                *(cohort.state, percept, context, clamped, is_positive, plasticity, self.minibatch, borrowed),
                then=lambda area, gradient: self._change(settings, area, gradient, above),
            )
            if "physiology" in self.protocol.measures:
                self._measure_path(plasticity)

    @property
    def negatives(self) -> str:
        return self.stage.stimuli.negatives or self.protocol.stimuli.negatives

    def _labelled(self, belief: Tensor | None) -> tuple[Activity, Activity, bool]:
        """What areas are clamped to, the label in the image or as context; and whether the input has changed."""
        right = self.labels
        if self.stage.stimuli.shuffled_labels:
            drawn = [stream.integers(0, self.present.classes, self.minibatch) for stream in self._streams("shuffled")]
            right = torch.from_numpy(np.stack(drawn)[:, self.share]).to(right.device)
        if self.negatives == "noise" and False in self.is_positive:
            noise = pixels.shuffled_pixels(self.images, self._streams("negatives"))
            shown = [self.images if real else noise for real in self.is_positive]
            each = [self.present.labelled(images, right[:, :, None]) for images in shown]
            clamped, context = (
                {area: torch.cat([one[part][area] for one in each], dim=2) for area in each[0][part]} for part in (0, 1)
            )
            return clamped, context, True
        wrong = self._labels_of_negatives(belief) if False in self.is_positive else None
        versions = torch.stack([right if real else wrong for real in self.is_positive], dim=2)
        return *self.present.labelled(self.images, versions), self.present.labels == "pixels"

    def _has_baseline(self, settings: PlasticitySettings) -> bool:
        """Whether positive or negative data come alone, and the other's part is remembered (note 15)."""
        return settings.baseline != "none" and len(self.is_positive) == 1

    def _change(
        self, settings: PlasticitySettings, area: str, gradient: AreaGradient, above: Mapping[str, AreaGradient]
    ) -> None:
        """Replace, in place, what an area has learned by what its plasticity makes of it.

        above  from :func:`derivatives_from_above`, or empty
        """
        if above:
            gradient.add(above[area])
        if self._has_baseline(settings):
            baseline.learn_with(self.cohort, area, gradient, awake=self.is_positive[0])
        if settings.optimizer == "adam":
            adam.replace(self.cohort, self.is_positive, area, gradient, self.engine.inputs_heard[area])
        self._control(settings.gradient, area, gradient)

    def _control(self, control: str, area: str, gradient: AreaGradient) -> None:
        """Replace, in place, what an area has learned by what the controls of plasticity have it learn."""
        if control in ("own", "backpropagated"):
            return
        for name, array in {**gradient.weights, f"bias of {area}": gradient.bias}.items():
            if control == "none":
                array.zero_()
                continue
            mask = self.engine.projections[name].mask if name in gradient.weights else None
            there = torch.ones_like(array[0]) if mask is None else mask.expand(array.shape[1:])
            places = self.lessons.permutation(self.protocol.seed, self.cohort.subjects, name, there)
            array.copy_(array.flatten(1).gather(1, places).view_as(array))

    def _measure_path(self, plasticity: Plasticity) -> None:
        """Add the length of this step of the weights to the way that they have gone."""
        state = self.cohort.state
        for place, area in enumerate(self.engine.areas):
            moved = [state.weight_averages[name] for _, name in self.engine.sources[area]] + [state.bias_averages[area]]
            step = torch.stack([array.flatten(1).square().sum(1) for array in moved]).sum(0).sqrt()
            rate = unit_input_rate(plasticity.learning_rate, self.engine.inputs_heard[area])
            self.cohort.path[:, place] += rate * step.double().cpu().numpy()

    def _dropout(self) -> dict[str, Tensor]:
        """Which units each subject does without, anew for each image at each age (§3.1)."""
        engine, cases = self.engine, self.images.shape[1]
        return {
            area: dropout_mask(
                self._streams(f"dropout/{area}"), cases, engine.units[area], dropped, self.share.start
            ).to(engine.device)
            for area, dropped in engine.dropout.items()
        }

    def _seen(self, chosen: Tensor) -> Tensor:
        """This rank's part of the chosen images, as they fall on the retina, (subjects, cases, pixels)."""
        images = self.lessons.images[chosen[:, self.share]].to(self.engine.device)
        if reach := self.protocol.stimuli.jitter:
            images = pixels.jittered(images, self.present.shape, self._streams("jitter"), reach, self.share.start)
        return images

    def _teach_softmax(self, percept: Percept) -> Tensor | None:
        """What the softmax believed of each image, before it learned from it; None where nobody asks."""
        hard = False in self.is_positive and self.negatives == "hard_labels" and self.stage.stimuli.dreamer is None
        if not hard and not self.stage.train_softmax:
            return None
        heard, settings = readout.softmax_heard(self.engine, percept), self.protocol.readout.softmax
        belief = readout.belief(self.cohort.softmax, heard)
        if self.stage.train_softmax:
            rate = settings.learning_rate * self.factor
            given = {"weight_cost": settings.weight_cost, "minibatch": self.minibatch}
            readout.learn_softmax(self.cohort.softmax, heard, belief, self.labels, rate, **given)
        return belief

    def _labels_of_negatives(self, belief: Tensor | None) -> Tensor:
        if self.negatives == "other_context":
            return self.labels
        streams = self._streams("negatives")
        if self.negatives == "hard_labels":
            if self.stage.stimuli.dreamer is not None:
                belief = self._believed_by(self.ends[self.stage.stimuli.dreamer])
            return hard_negatives(belief, self.labels, streams, self.share.start)
        return random_negatives(self.labels, self.present.classes, streams, self.share.start)

    def _believed_by(self, others: Cohort) -> Tensor:
        """What the same subjects believed of the images at another time of their lives."""
        others = others.of(self.cohort.subjects)
        percept = self.engine.look(others.state, self.present.plain(self.images))
        return readout.belief(others.softmax, readout.softmax_heard(self.engine, percept))

    def _ages(self) -> Iterator[tuple[int, int]]:
        """Each subject and the number of minibatches that it has done with."""
        ages = self.cohort.age // self.protocol.stimuli.repeats
        yield from zip(self.cohort.subjects, ages.tolist(), strict=True)

    def _streams(self, purpose: str) -> list[np.random.Generator]:
        """A random stream for each subject at its age."""
        return [generator(self.protocol.seed, subject, purpose, age) for subject, age in self._ages()]
