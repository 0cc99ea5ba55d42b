"""What a protocol file may say, part by part: stimuli, engine, plasticity, readout, stages of life, closing table."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_ .-]*$")]  # names become groups of the results file

Names = Annotated[tuple[str, ...], Field(strict=False)]  # YAML knows lists alone

PHASES = {
    "interleaved": (True, False),  # positive and negative data in every update
    "wake": (True,),  # positive data alone
    "sleep": (False,),  # negative data alone
    "rest": (),  # no plasticity
    "scaling": (),  # each area's weights are scaled until its goodness on real data is what it was (Turrigiano 2008)
    "alternating": (),  # wake and sleep by turns, each as long as the stage's cycle says
}


class Section(BaseModel):
    """Part of a protocol: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _changes(section: type[Section]) -> type[Section]:
    """What a stage may replace of a section of the protocol: its settings, each of them or not."""
    fields = {}
    for name, field in section.model_fields.items():
        allowed = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        fields[name] = (allowed | None, None)
    return create_model(f"{section.__name__}Changes", __base__=Section, **fields)


class Stimuli(Section):
    images: Literal["digits", "mnist", "fashion_mnist", "cifar10"] = "digits"
    minibatch: Annotated[int, Field(ge=1)] = 100  # of hybrids and other_context at least two: a case takes from another
    repeats: Annotated[int, Field(ge=1)] = 1  # updates on each minibatch, and on its negative data
    validation: Count = 0  # training images held out for probes
    labels: Literal["context", "pixels", "none"] = "context"  # clamped; in the first pixels (§3.3); not shown (§3.2)
    # other_context: the image and its label, but areas hear from hidden areas above what another image evoked (§3.5)
    negatives: Literal["hard_labels", "random_labels", "hybrids", "other_context", "none"] = "hard_labels"
    blurs: Count = 6  # of the masks of hybrids (§3.2)
    jitter: Count = 0  # training images are shifted by up to so many pixels each way (§3.3)
    centred: bool = False  # without the mean of the training images, which photographs have in common

    @model_validator(mode="after")
    def _centred_where_they_stay(self) -> Stimuli:
        if self.centred and self.jitter:
            raise ValueError(f"jitter {self.jitter} would shift the mean image that centred takes away: leave one out")
        return self


class Spiking(Section):
    """How units spike where the engine's kind is ``spiking`` (``engines/neurons.py``)."""

    # Brian2, compiled (cpp) or run from Python (cython, numpy); torch: the same in PyTorch. auto: cpp where nothing
    # learns and there is a compiler, else torch.
    backend: Literal["auto", "cpp", "cython", "numpy", "torch"] = "auto"
    neuron: Literal["integrate_and_fire", "leaky"] = "integrate_and_fire"
    firing_rate: Positive = 50.0  # Hz, of a unit whose activity is 1
    time_constant: Positive = 20.0  # ms, of a unit's trace
    time_step: Positive = 1.0  # ms
    membrane_time_constant: Positive = 20.0  # ms, of a leaky unit
    refractory: NotNegative = 1.0  # ms, of a leaky unit


SpikingChanges = _changes(Spiking)


class Engine(Section):
    kind: Literal["rate", "spiking"] = "rate"
    # With backprop (§3.1) nothing else here may be given but the precision.
    learning: Literal["forward_forward", "backprop"] = "forward_forward"
    damping: Annotated[float, Field(ge=0, lt=1)] = 0.3
    steps: Count = 8  # 0: a feed-forward net, learning from its bottom-up pass (§3.2, §3.3)
    alternating: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: the fastest here, for the model at hand
    spiking: Spiking = Spiking()


class EngineChanges(Section):
    """What a stage replaces of the protocol's engine."""

    kind: Literal["rate", "spiking"] | None = None
    spiking: SpikingChanges = SpikingChanges()


class PlasticitySettings(Section):
    learning_rate: NotNegative
    gradient_average: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_cost: NotNegative = 0.001
    peer_normalization: NotNegative = 0.03
    # What becomes of learning once an input is on the right side of θ: it fades out, stops there, or never does (§9).
    saturation: Literal["log_sigmoid", "hinge", "linear"] = "log_sigmoid"
    # Controls: every synapse has the gradient of another one of its projection, or none has any; or derivatives travel
    # down from the areas above and are added, as in backpropagation (feed-forward nets).
    gradient: Literal["own", "shuffled", "none", "backpropagated"] = "own"
    # Awake, synapses learn too what negative data gave them in the last sleep, or in the first (note 15).
    baseline: Literal["none", "fresh", "stale"] = "none"
    # momentum: weights move by the average of the gradient. adam: instead of it, and for each phase by itself.
    optimizer: Literal["momentum", "adam"] = "momentum"
    sleeping: Names | None = None  # areas that learn from negative data; all unless given


PlasticityChanges = _changes(PlasticitySettings)


class StageStimuli(Section):
    """What of the stimuli is other in a stage."""

    # As in the protocol's stimuli, or images with shuffled pixels.
    negatives: Literal["hard_labels", "random_labels", "noise"] | None = None
    dreamer: str | None = None  # condition whose subjects, as they were at its end, draw the hard labels
    classes: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] | None = (
        None  # labels of the images that are met; all
    )
    remembered: Annotated[int, Field(ge=1)] | None = None  # so many images, chosen once for each subject; all
    shuffled_labels: bool = False  # real images have any label: a control


class Cycle(Section):
    """Updates of each phase in turn; a number alone is that of either."""

    wake: Annotated[int, Field(ge=1)]
    sleep: Count

    @model_validator(mode="before")
    @classmethod
    def _alike(cls, given: Any) -> Any:
        return {"wake": given, "sleep": given} if isinstance(given, int) and not isinstance(given, bool) else given

    @property
    def length(self) -> int:
        return self.wake + self.sleep


class BackpropSettings(Section):
    """Regularizers of a net that backpropagation trains (§3.1)."""

    dropout: Share = 0.0  # of the units of hidden areas
    input_dropout: Share = 0.0  # of the pixels
    label_smoothing: Share = 0.0


class SoftmaxSettings(Section):
    learning_rate: NotNegative = 30.0
    weight_cost: NotNegative = 0.003


class Readout(Section):
    # First and last step over which goodness is averaged; a feed-forward net has one moment.
    steps: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)] = [3, 5]
    skip_first: bool = False  # leave out the goodness of the first hidden area (§3.3)
    softmax: SoftmaxSettings = SoftmaxSettings()


class GoodnessSettings(Section):
    """Replaces what the model says, in every hidden area."""

    measure: Literal["sum_of_squares", "mean_square"] | None = None
    sign: Literal["max", "min"] | None = None
    threshold: float | None = None
    temperature: Positive | None = None
    blocks: Annotated[int, Field(ge=1)] | None = None


class Stage(Section):
    phase: Literal["interleaved", "wake", "sleep", "rest", "scaling", "alternating"]
    cycle: Cycle | None = None  # of phase alternating
    like: str | None = None  # of phase scaling: condition at whose end goodness was as it should be again
    updates: Count | None = None
    epochs: Count | None = None  # passes through the training images; give this or updates
    plasticity: PlasticityChanges = PlasticityChanges()
    stimuli: StageStimuli = StageStimuli()
    engine: EngineChanges = EngineChanges()
    decay_from: Fraction = 1.0  # share of the stage after which learning rates fall linearly to zero
    train_softmax: bool = False
    until: Fraction | None = None  # a subject's stage ends when its error by goodness, probed, is no more than this
    # turns: of wake and sleep, at the end of either, the first time and the last
    probe: Annotated[int, Field(ge=1)] | Literal["log", "epoch", "turns", "end"] = "end"
    probe_on: Literal["test", "validation", "training"] = "test"
    probe_images: Annotated[int, Field(ge=1)] | None = None  # the first so many of them; all unless given

    @model_validator(mode="after")
    def _one_length(self) -> Stage:
        if (self.updates is None) == (self.epochs is None):
            found = "neither" if self.updates is None else "both: set one of them to null, as in epochs=null"
            raise ValueError(f"give either 'updates' or 'epochs'; found {found}")
        if self.until is not None and self.probe_on == "test":
            raise ValueError("'until' must not look at the test images: probe_on validation or training")
        for key, phase in (("cycle", "alternating"), ("like", "scaling")):
            if (getattr(self, key) is None) == (self.phase == phase):
                raise ValueError(f"phase {phase} and '{key}' go together: give both or neither")
        if self.probe == "turns" and self.cycle is None:
            raise ValueError(f"probe turns needs the phase alternating, found {self.phase}")
        if self.plasticity.baseline not in (None, "none") and not set(self.phases) & {"wake", "sleep"}:
            raise ValueError(f"plasticity.baseline needs wake or sleep by itself, found the phase {self.phase}")
        return self

    @property
    def looks_back_to(self) -> dict[tuple[str, ...], str]:
        """Conditions that must be over before it begins, by the path of the setting that names them."""
        named = {("like",): self.like, ("stimuli", "dreamer"): self.stimuli.dreamer}
        return {path: condition for path, condition in named.items() if condition is not None}

    def phase_at(self, update: int) -> str:
        """The phase of an update, counted from 0 in the stage."""
        if self.cycle is None:
            return self.phase
        return "wake" if update % self.cycle.length < self.cycle.wake else "sleep"

    @property
    def phases(self) -> tuple[str, ...]:
        """That occur in it."""
        return (self.phase,) if self.cycle is None else ("wake", "sleep") if self.cycle.sleep else ("wake",)


class Condition(Section):
    start: Annotated[str | None, Field(alias="from")] = None
    stages: Annotated[list[str], Field(min_length=1)]


class Row(Section):
    """A quantity of the closing table: where the paper gives a figure for it, the two stand side by side."""

    # One figure for all, or variant → one for all its conditions, or variant → condition → figure.
    paper: float | dict[str, float | dict[str, float]] | None = None

    def figure(self, variant: str, condition: str) -> float | None:
        """The paper's figure for a variant and condition."""
        of_variant = self.paper.get(variant) if isinstance(self.paper, Mapping) else self.paper
        return of_variant.get(condition) if isinstance(of_variant, Mapping) else of_variant


class Table(Section):
    conditions: Annotated[list[str], Field(min_length=1)]
    against: str | None = None  # the condition that the others are compared with, subject by subject
    metrics: Annotated[dict[str, Row | None], Field(min_length=1)]


def merge(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with some replaced; a copy. What is no mapping is replaced whole."""
    merged = dict(copy.deepcopy(settings))
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
