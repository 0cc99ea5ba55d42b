"""A protocol: stages of life, conditions that fork from one another, variants; what goes together, and what comes when.

A *stage* is a stretch of updates of one phase. A *condition* is a list of stages; it begins where another condition
ended (``from``), or with newborn subjects. Conditions that fork from the same one meet the same data in the same order.
A *variant* is the whole protocol again with some settings changed, such as the sign of the goodness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cortexff.description import Mistake
from cortexff.protocol.settings import (
    PHASES,
    BackpropSettings,
    Condition,
    Count,
    Engine,
    EngineChanges,
    GoodnessSettings,
    Name,
    PlasticitySettings,
    Readout,
    Section,
    Spiking,
    Stage,
    Stimuli,
    Table,
    merge,
)

# What a variant may change: the rest is common to the whole run and its file.
IN_VARIANTS = ("goodness", "engine", "plasticity", "backprop", "readout", "stages", "stimuli.negatives")


class Common(Section):
    """What every protocol has, whether the runner carries it out or an experiment of its own does."""

    format: Literal["cortexff-protocol/1"]
    title: str
    section: Annotated[str, BeforeValidator(str)]  # of the paper
    model: str
    plasticity: PlasticitySettings
    goodness: GoodnessSettings = GoodnessSettings()
    subjects: Annotated[int, Field(ge=1)] = 1
    seed: Count = 0
    conditions: Annotated[dict[Name, Any], Field(min_length=1)]
    variants: Annotated[dict[Name, dict[str, Any] | None], Field(min_length=1)]
    table: Table

    @model_validator(mode="after")
    def _table_and_variants_are_known(self) -> Self:
        against = [] if self.table.against is None else [("against", self.table.against)]
        for key, name in [*(("conditions", name) for name in self.table.conditions), *against]:
            if name not in self.conditions:
                words = f"the table's condition '{name}' is not known (known: {', '.join(self.conditions)})"
                if name in self.variants:
                    words += "; it is a variant: what the table shall compare must be conditions"
                raise Mistake(words, "table", key)
        if self.table.against not in (None, *self.table.conditions):
            words = f"the table compares with '{self.table.against}', which is not among its conditions"
            raise Mistake(words, "table", "against")
        for metric, row in self.table.metrics.items():
            figures = row.paper if row is not None and isinstance(row.paper, Mapping) else {}
            for name, of_variant in figures.items():
                named, known = [name], list(self.variants)
                if name in self.variants:
                    named, known = list(of_variant) if isinstance(of_variant, Mapping) else [], self.table.conditions
                for one in (one for one in named if one not in known):
                    words = f"the paper's figure of {metric} is for '{one}' (known: {', '.join(known)})"
                    raise Mistake(words, "table", "metrics", metric, "paper", name)
        for name, changes in self.variants.items():
            if name in ("spikes", "report", "trials", "table"):
                raise Mistake(f"variant {name}: the results file has something else under that name", "variants", name)
            for key, value in (changes or {}).items():
                key = f"stimuli.{'.'.join(value)}" if key == "stimuli" and isinstance(value, Mapping) else key
                if key not in IN_VARIANTS:
                    words = f"variant {name} cannot change '{key}' (it can: {', '.join(IN_VARIANTS)})"
                    raise Mistake(words, "variants", name, *key.split(".")[:1])
        return self

    def variant(self, name: str) -> Self:
        """The protocol with the settings of one variant in place."""
        changes = self.variants[name] or {}
        return type(self).model_validate(merge(self.model_dump(by_alias=True), changes))


class ByExperiment(Common):
    """A protocol with steps of its own, which the file of that name in ``cortexff/experiments/`` carries out."""

    experiment: str


class Protocol(Common):
    stimuli: Stimuli = Stimuli()
    engine: Engine = Engine()
    backprop: BackpropSettings = BackpropSettings()
    readout: Readout = Readout()
    # Measured at every probe beside the rest: how far drives from above and below cancel (§3.5); oscillations (§3.4);
    # firing rates, spikes and how far they say what rates with the same weights say.
    # Of the weights averaged over the last whole cycle of wake and sleep: error, hallucinations, d′ (averaged).
    # And of rates: excitability, energy, dimensions of activity, and what synapses are like; and at the end of each
    # condition, whose probes are on test images, how a network reacts to images that appear (§9).
    measures: Annotated[
        tuple[Literal["cancellation", "oscillation", "spikes", "physiology", "vigilance", "averaged"], ...],
        Field(strict=False),
    ] = ()
    # Images of which every spike of the first subject is kept at the end of each condition that spikes, with their true
    # label and with another.
    raster: Count = 0
    receptive_fields: Count = 0  # units of the first hidden area whose weights from the image are kept, and drawn
    stages: Annotated[dict[Name, Stage], Field(min_length=1)]
    conditions: Annotated[dict[Name, Condition], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_known(self) -> Protocol:
        earlier: list[str] = []
        for name, condition in self.conditions.items():
            if condition.start is not None and condition.start not in earlier:
                words = f"condition {name} starts from '{condition.start}', which is not a condition before it"
                raise Mistake(words, "conditions", name, "from")
            for stage in condition.stages:
                if stage not in self.stages:
                    words = f"condition {name} has no stage '{stage}' (known: {', '.join(self.stages)})"
                    raise Mistake(words, "conditions", name, "stages")
                for path, other in self.stages[stage].looks_back_to.items():
                    if other not in earlier:
                        words = f"stage {stage} of condition {name} looks back to '{other}', no condition before it"
                        raise Mistake(words, "stages", stage, *path)
            earlier.append(name)
        for name, stage in self.stages.items():
            if stage.epochs is not None and self.stimuli.repeats > 1:
                words = (
                    f"stage {name} counts epochs, but stimuli.repeats shows each minibatch {self.stimuli.repeats} times"
                )
                raise Mistake(f"{words}: give updates", "stages", name, "epochs")
            self._stage_has_what_it_needs(name, stage)
            if "sleep" in stage.phases and stage.train_softmax and self.stimuli.labels == "none":
                words = f"stage {name} shows hybrids alone: it has no image to train the softmax on"
                raise Mistake(words, "stages", name, "train_softmax")
            if stage.probe_on == "validation" and not self.stimuli.validation:
                words = f"stage {name} probes on validation images, but stimuli.validation is 0"
                raise Mistake(words, "stages", name, "probe_on")
        if "averaged" in self.measures and (self.stimuli.labels == "none" or self.learns_by_backprop):
            words = (
                "measures has averaged, but there is no error by goodness: stimuli.labels is none, or learning backprop"
            )
            raise Mistake(words, "measures")
        of_steps = [measure for measure in self.measures if measure in ("cancellation", "oscillation", "spikes")]
        if of_steps and (self.stimuli.labels == "none" or not self.engine.steps):
            words = f"measures {of_steps} need labels and steps, but stimuli.labels is none or engine.steps is 0"
            raise Mistake(words, "measures")
        if self.learns_by_backprop:
            self._backprop_has_what_it_needs()
        else:
            self._forward_forward_has_what_it_needs()
        self._spikes_have_what_they_need()
        self._measures_have_what_they_need()
        self._what_is_given_is_used()
        self._what_is_compared_is_alike()
        return self

    def _stage_has_what_it_needs(self, name: str, stage: Stage) -> None:
        """What a stage changes of the stimuli has something to change."""
        shown, phases = stage.stimuli, [positive for phase in stage.phases for positive in PHASES[phase]]
        of_labels = {"negatives": shown.negatives, "dreamer": shown.dreamer, "shuffled_labels": shown.shuffled_labels}
        for key, value in of_labels.items():
            needed = key == "shuffled_labels"  # negative data, or positive
            if value and (self.stimuli.labels == "none" or needed not in phases):
                words = f"stage {name}: stimuli.{key} has no effect where stimuli.labels is {self.stimuli.labels}"
                raise Mistake(f"{words} and the phase {stage.phase}: leave it out", "stages", name, "stimuli", key)
        negatives = shown.negatives or self.stimuli.negatives
        if shown.dreamer is not None and negatives != "hard_labels":
            words = f"stage {name}: stimuli.dreamer draws hard_labels, but its negatives are {negatives}"
            raise Mistake(words, "stages", name, "stimuli", "dreamer")

    def _what_is_compared_is_alike(self) -> None:
        """Conditions that the table compares end on as many images of the same set."""
        ends = {name: self.conditions[name].stages[-1] for name in self.table.conditions}
        usual = ends.get(self.table.against)
        for name, stage in ends.items() if usual else ():
            one, other = self.stages[usual], self.stages[stage]
            if one.probe_on == other.probe_on and one.probe_images != other.probe_images:
                words = f"the table compares {name} with {self.table.against}, but they end on other images"
                raise Mistake(
                    f"{words}: give stages {usual} and {stage} the same probe_images", "stages", stage, "probe_images"
                )

    def _forward_forward_has_what_it_needs(self) -> None:
        if self.engine.steps and not self.readout.steps[0] <= self.readout.steps[1] <= self.engine.steps:
            words = f"readout.steps {self.readout.steps} must lie within 1 to engine.steps {self.engine.steps}"
            raise Mistake(words, "readout", "steps")
        for name, stage in self.stages.items():
            spiking = self.engine_of(stage).kind == "spiking"
            if self.plasticity_of(stage).gradient == "backpropagated" and (self.engine.steps or spiking):
                of = ("stages", name, "plasticity") if stage.plasticity.gradient is not None else ("plasticity",)
                found = "engine.kind is spiking" if spiking else f"engine.steps is {self.engine.steps}: give 0"
                words = f"stage {name}: plasticity.gradient backpropagated is of feed-forward rates, but {found}"
                raise Mistake(f"{words}, or give another gradient", *of, "gradient")
        negatives, labels = self.stimuli.negatives, self.stimuli.labels
        if negatives == "none":
            raise Mistake("stimuli.negatives none needs engine.learning backprop: give hybrids", "stimuli", "negatives")
        if (labels == "none") != (negatives == "hybrids"):
            words = "stimuli.labels none and stimuli.negatives hybrids go together: give both or neither"
            raise Mistake(words, "stimuli", "negatives")
        if negatives == "other_context" and not self.engine.steps:
            words = "stimuli.negatives other_context needs top-down input, but engine.steps is 0"
            raise Mistake(words, "stimuli", "negatives")
        if negatives in ("hybrids", "other_context") and self.stimuli.minibatch < 2:
            words = f"stimuli.negatives {negatives} takes from another image of the minibatch"
            raise Mistake(f"{words}, but stimuli.minibatch is 1: give 2 or more", "stimuli", "minibatch")

    def _spikes_have_what_they_need(self) -> None:
        engines = {name: self.engine_of(stage) for name, stage in self.stages.items()}
        for name, engine in engines.items():
            if engine.kind != "spiking":
                continue
            stage = self.stages[name]
            place = ("stages", name, "engine") if stage.engine != EngineChanges() else ("engine",)
            if engine.learning == "backprop":
                words = f"stage {name}: engine.kind is spiking, but spiking units have no derivative for backprop"
                raise Mistake(f"{words}: give engine.learning forward_forward", *place)
            if learns(stage) and self.stimuli.negatives == "other_context":
                words = f"stage {name}: stimuli.negatives other_context is not known to spiking units"
                raise Mistake(f"{words}: give hard_labels, or engine.kind rate", *place)
        spiking, units = self._some_spike(), [engine.spiking for engine in engines.values()]
        of_variants = [(engine.get("spiking") or {}).get("neuron") for engine in self._engines_of_variants()]
        if spiking and "leaky" not in [unit.neuron for unit in units] + of_variants:
            for key in ("membrane_time_constant", "refractory"):
                if any(getattr(unit, key) != Spiking.model_fields[key].default for unit in units):
                    words = f"engine.spiking.{key} has no effect where engine.spiking.neuron is integrate_and_fire"
                    raise Mistake(f"{words} in every stage: leave it out, or give leaky", "engine", "spiking", key)
        if not spiking:
            self._has_no_effect("engine.kind is rate in every stage", "engine", "spiking")

    def _engines_of_variants(self) -> list[dict[str, Any]]:
        """What variants change of the engine."""
        return [(changes or {}).get("engine") or {} for changes in self.variants.values()]

    def _some_spike(self) -> bool:
        """Whether any stage of any variant is of spiking units."""
        of_stages = [self.engine_of(stage).kind for stage in self.stages.values()]
        return "spiking" in [*of_stages, *(engine.get("kind") for engine in self._engines_of_variants())]

    def _measures_have_what_they_need(self) -> None:
        spiking = self._some_spike()
        for of_rates in {"physiology", "vigilance"}.intersection(self.measures):
            if spiking or self.learns_by_backprop:
                words = f"measures has {of_rates}, but only rates that learn by Forward-Forward have it"
                raise Mistake(words, "measures")
        if "vigilance" in self.measures and self.stimuli.labels == "none":
            raise Mistake("measures has vigilance, which needs labels, but stimuli.labels is none", "measures")
        if "spikes" in self.measures and not spiking:
            words = "measures has spikes, but in no stage engine.kind is spiking (--engine spiking)"
            raise Mistake(words, "measures")
        if self.raster and not spiking:
            words = "raster keeps spikes, but in no stage engine.kind is spiking (--engine spiking)"
            raise Mistake(words, "raster")
        if self.raster and (self.stimuli.labels == "none" or not self.engine.steps):
            words = "raster needs labels and steps, but stimuli.labels is none or engine.steps is 0: leave it out"
            raise Mistake(words, "raster")
        for name, stage in self.stages.items() if self.raster else ():
            if stage.probe_images is not None and stage.probe_images < self.raster:
                words = f"raster keeps {self.raster} images, but stage {name} probes {stage.probe_images}"
                raise Mistake(f"{words}: give raster no more", "raster")

    def _what_is_given_is_used(self) -> None:
        """No setting differs from its default where it would have no effect, and no variant changes what is common."""
        of_steps = [("engine", "damping"), ("engine", "alternating")]
        if self.learns_by_backprop:
            unused = {
                "engine.learning is backprop": [("goodness",), ("readout",), ("plasticity", "peer_normalization")]
            }
            local = ("baseline", "optimizer", "saturation", "sleeping", "gradient")
            unused["engine.learning is backprop"] += [("plasticity", key) for key in local]
            unused["engine.learning is backprop"] += [*of_steps, ("engine", "steps")]
        else:
            unused = {"engine.learning is forward_forward": [("backprop",)]}
            unused |= {} if self.engine.steps else {"engine.steps is 0": of_steps}
        for reason, paths in unused.items():
            for path in paths:
                self._has_no_effect(reason, *path)
        for name, changes in self.variants.items():
            changed = (changes or {}).get("engine") or {}
            for key in ("learning", *(["steps"] if "oscillation" in self.measures else [])):
                if changed.get(key, getattr(self.engine, key)) != getattr(self.engine, key):
                    words = f"variant {name} changes engine.{key}, on which depends what the whole file measures"
                    raise Mistake(f"{words}: write a protocol of its own", "variants", name, "engine", key)

    def _has_no_effect(self, reason: str, section: str, key: str | None = None) -> None:
        """Raises Mistake where a section, or one key of it, is not as it is by default."""
        found = getattr(self, section)
        usual = type(self).model_fields[section].default
        if key is not None:
            found, usual, section = getattr(found, key), type(found).model_fields[key].default, f"{section}.{key}"
        if found != usual:
            raise Mistake(f"{section} has no effect where {reason}: leave it out", *section.split("."))

    def _backprop_has_what_it_needs(self) -> None:
        for key in ("labels", "negatives"):
            if (found := getattr(self.stimuli, key)) != "none":
                words = (
                    f"engine.learning is backprop, which clamps no label and has no negative data, but stimuli.{key}"
                )
                raise Mistake(f"{words} is {found}: give none", "stimuli", key)
        for name, stage in self.stages.items():
            if stage.phase not in ("wake", "rest"):
                words = f"stage {name} has phase {stage.phase}, but engine.learning is backprop, without negative data"
                raise Mistake(f"{words}: give wake or rest", "stages", name, "phase")
            if stage.train_softmax:
                words = (
                    f"stage {name} has train_softmax, but backprop trains the softmax whenever it trains: leave it out"
                )
                raise Mistake(words, "stages", name, "train_softmax")
            if stage.until is not None:
                words = f"stage {name} has until, but a net trained by backprop has no goodness: leave it out"
                raise Mistake(words, "stages", name, "until")

    @property
    def learns_by_backprop(self) -> bool:
        return self.engine.learning == "backprop"

    @property
    def window(self) -> tuple[int, int]:
        """First and last moment over which goodness is averaged; a feed-forward net has one."""
        return (self.readout.steps[0], self.readout.steps[1]) if self.engine.steps else (1, 1)

    def versions(self, classes: int) -> int:
        """In which an image is tried: with every label, or as itself (0) and its hybrid (1)."""
        return 2 if self.stimuli.negatives == "hybrids" else classes

    def engine_of(self, stage: Stage) -> Engine:
        """The engine of a stage: the protocol's, with the stage's own changes."""
        return Engine.model_validate(merge(self.engine.model_dump(), stage.engine.model_dump(exclude_none=True)))

    def measures_of(self, condition: str) -> list[str]:
        """What a condition's probes measure beside the rest; spikes only where there are some."""
        stages = [self.stages[name] for name in self.conditions[condition].stages]
        spiking = any(self.engine_of(stage).kind == "spiking" for stage in stages)
        return [measure for measure in self.measures if measure != "spikes" or spiking]

    def plasticity_of(self, stage: Stage) -> PlasticitySettings:
        """The plasticity of a stage: the protocol's, with the stage's own changes."""
        return self.plasticity.model_copy(update=stage.plasticity.model_dump(exclude_none=True))


def split_metric(metric: str) -> tuple[str, str | None]:
    """Name of a metric of the table, and the area it is asked of: ``rate[V1]``; None for the mean over areas."""
    name, bracket, area = metric.partition("[")
    return (name, area.removesuffix("]")) if bracket else (name, None)


def learns(stage: Stage) -> bool:
    """Whether anything changes in a stage."""
    return stage.phase == "scaling" or any(PHASES[phase] for phase in stage.phases) or stage.train_softmax


def probe_updates(stage: Stage, updates: int, updates_per_epoch: int) -> list[int]:
    """The updates of a stage after which subjects are probed; the last one is always among them.

    ``log`` is 1, 2, 5, 10, 20, 50, ..., so that a dose-response curve is even on a logarithmic axis. Where wake and
    sleep take turns, it counts the turns, the last one among them, and subjects are probed at the end of either phase.
    """
    if stage.probe == "log":
        decades = range(int(math.log10(max(updates, 1))) + 1)
        at = [leading * 10**decade for decade in decades for leading in (1, 2, 5)]
        if stage.cycle is not None:
            at.append(max(1, updates // stage.cycle.length))
            at = [turn * stage.cycle.length - rest for turn in at for rest in (stage.cycle.sleep, 0)]
    elif stage.probe == "turns":
        last = max(1, updates // stage.cycle.length)
        at = [turn * stage.cycle.length - rest for turn in (1, last) for rest in (stage.cycle.sleep, 0)]
    elif stage.probe == "end":
        at = []
    else:
        every = updates_per_epoch if stage.probe == "epoch" else stage.probe
        at = list(range(every, updates + 1, every))
    return sorted({update for update in at if update < updates} | {updates})


def decay(stage: Stage, progress: float) -> float:
    """Factor on the learning rates: 1, then a straight fall to 0 at the end of the stage.

    progress  share of the stage that is over, from 0 to below 1
    """
    return 1.0 if progress < stage.decay_from else (1.0 - progress) / (1.0 - stage.decay_from)


def stage_lengths(protocol: Protocol, updates_per_epoch: int) -> Iterator[tuple[str, str, Stage, int]]:
    """Condition, stage name, stage and its number of updates, in the order they are run."""
    for name, condition in protocol.conditions.items():
        for stage_name in condition.stages:
            stage = protocol.stages[stage_name]
            updates = stage.updates if stage.updates is not None else stage.epochs * updates_per_epoch
            yield name, stage_name, stage, updates
