"""The runner: carries out a protocol, one variant and condition after another, and logs what the probes find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch

from cortexff import readout
from cortexff.engines import ranks
from cortexff.engines.rate import RateEngine, best_precision
from cortexff.engines.state import Plasticity, RateDynamics
from cortexff.errors import CortexffError
from cortexff.graph import hidden_areas, only_area, with_goodness
from cortexff.log import Log, Variable
from cortexff.protocol import checkpoint
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.probe import STIMULUS_VARIABLES, VARIABLES, Measurement, Probe, measure
from cortexff.protocol.schedule import PHASES, Protocol, Stage, decay, probe_updates, stage_lengths
from cortexff.random_streams import generator
from cortexff.stimuli.images import Images
from cortexff.stimuli.labels import hard_negatives, one_hot, random_negatives

ROW_VARIABLES = {
    "update": Variable(("probe",), "updates", "updates since the condition began", dtype="i8"),
    "stage": Variable(("probe",), "1", "stage of the condition", dtype="str"),
    "age": Variable(("probe", "subject"), "updates", "updates that each subject has lived through", dtype="i8"),
    # Updates and stage are coordinates, so that xarray plots against them.
    **{name: dataclasses.replace(variable, coordinates="update stage") for name, variable in VARIABLES.items()},
}
REACHED = Variable(("subject",), "1", "whether the subject met the stage's criterion, 'until'", dtype="i1")


class Interrupted(Exception):
    """The run was asked to stop; everything up to here is in the checkpoint."""


@dataclass
class Position:
    """How far a run has come.

    segment  number of the stage in the plan: all variants, conditions and stages in order
    updates  updates of that stage that are over
    active   places of the subjects that the stage still trains
    rows     group → rows logged
    """

    segment: int = 0
    updates: int = 0
    active: list[int] | None = None
    rows: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    """One stage of one condition of one variant."""

    variant: str
    condition: str
    stage_name: str
    stage: Stage
    updates: int
    first: bool  # the condition's first stage
    last: bool  # and its last
    before: int  # updates of the condition that come before it

    @property
    def group(self) -> str:
        return f"{self.variant}/{self.condition}"


@dataclass(frozen=True)
class Listener:
    """Who hears how the run goes on.

    advanced  updates done since the last call
    probed    a probe was logged: the segment, its update, its measurement
    noted     something worth telling: one line
    stop      asked after every update: should the run be interrupted?
    """

    advanced: Callable[[int], None] = lambda updates: None
    probed: Callable[[Segment, int, Measurement], None] = lambda segment, update, measurement: None
    noted: Callable[[str], None] = lambda text: None
    stop: Callable[[], bool] = lambda: False


def plan(protocol: Protocol, training_cases: int) -> list[Segment]:
    """All stages of a protocol in the order in which they are run."""
    per_epoch = training_cases // protocol.stimuli.minibatch
    if per_epoch == 0:
        raise CortexffError(
            f"stimuli.minibatch {protocol.stimuli.minibatch} exceeds the {training_cases} training images: lower it"
        )
    segments = []
    for variant in protocol.variants:
        stages = list(stage_lengths(protocol.variant(variant), per_epoch))
        before = 0
        for place, (condition, name, stage, updates) in enumerate(stages):
            first = place == 0 or stages[place - 1][0] != condition
            last = place + 1 == len(stages) or stages[place + 1][0] != condition
            before = 0 if first else before
            segments.append(Segment(variant, condition, name, stage, updates, first, last, before))
            before += updates
    return segments


def with_precision(protocol: Protocol, net: nx.MultiDiGraph, device: str, here: bool = True) -> Protocol:
    """The protocol with the precision that ``auto`` stands for, so that its settings say what was done.

    here  whether the run will be on this machine; where it is not, nothing is known but that float32 works
    """
    if protocol.engine.precision != "auto":
        return protocol
    precision = best_precision(net, device) if here else "float32"
    engine = protocol.engine.model_copy(update={"precision": precision})
    return protocol.model_copy(update={"engine": engine})


class Run:
    """One execution of a protocol on one machine."""

    def __init__(
        self,
        protocol: Protocol,
        net: nx.MultiDiGraph,
        images: Images,
        log: Log,
        checkpoint_path: Path,
        listener: Listener | None = None,
        run_id: str = "",
        subjects: Sequence[int] | None = None,
        device: str = "cpu",
        variants: Sequence[str] | None = None,
    ) -> None:
        self.protocol, self.net, self.images, self.log = protocol, net, images, log
        self.checkpoint_path, self.listener, self.device = checkpoint_path, listener or Listener(), device
        self.run_id, self.blocks = run_id, most_blocks(protocol, net)
        self.subjects = list(subjects if subjects is not None else range(protocol.subjects))
        segments = plan(protocol, len(images.training_labels))
        self.segments = [segment for segment in segments if variants is None or segment.variant in variants]
        check_fit(protocol, net, images)
        self.retina, self.label = only_area(net, "input"), only_area(net, "context")
        self.training_images = torch.from_numpy(images.training_images)
        self.training_labels = torch.from_numpy(images.training_labels)
        self.position = Position()
        self.ends: dict[str, Cohort] = {}  # condition → its cohort at the end, where another starts from it
        self.order = lru_cache(maxsize=4 * len(self.subjects))(self._order)

    # --------------------------------------------------------------- the course

    def carry_out(self, resume: bool = False) -> None:
        """Run the whole plan, or what is left of it. The checkpoint stays until :meth:`forget_checkpoint`.

        raises  Interrupted when the listener asked for it; the checkpoint then holds everything
        """
        cohort = None
        if resume:
            cohort = self._resume()
        else:
            self.checkpoint_path.unlink(missing_ok=True)  # of an earlier run that this one replaces
            for segment in self.segments:
                self.log.declare(segment.group, variables=ROW_VARIABLES)
        first = self.position.segment
        for number, segment in enumerate(self.segments[first:], start=first):
            protocol = self.protocol.variant(segment.variant)
            engine = self._engine(segment.variant)
            if cohort is None:
                cohort = self._begin(engine, protocol, segment)
            if self.position.active is None:
                self.position = dataclasses.replace(
                    self.position, segment=number, active=list(range(len(self.subjects)))
                )
            self._live(engine, protocol, segment, cohort)
            self.position = Position(number + 1, rows=self.position.rows)
            to_come = [later for later in self.segments[number + 1 :] if later.variant == segment.variant]
            if segment.last:
                self.ends[segment.condition] = cohort
                cohort = None
            starts = {protocol.conditions[later.condition].start for later in to_come}
            self.ends = {name: end for name, end in self.ends.items() if name in starts}

    def forget_checkpoint(self) -> None:
        """Remove the checkpoint: the results are complete."""
        self.checkpoint_path.unlink(missing_ok=True)

    def _begin(self, engine: RateEngine, protocol: Protocol, segment: Segment) -> Cohort:
        start = protocol.conditions[segment.condition].start
        if start is not None:
            return self.ends[start].select(range(len(self.subjects)))
        state = engine.start(protocol.seed, self.subjects)
        softmax = readout.start_softmax(engine, len(self.subjects), self.images.classes)
        return Cohort(self.subjects, state, softmax, np.zeros(len(self.subjects), dtype=np.int64))

    def _live(self, engine: RateEngine, protocol: Protocol, segment: Segment, everyone: Cohort) -> None:
        """One stage: updates, and probes between them."""
        stage, position = segment.stage, self.position
        probes = set(probe_updates(stage, segment.updates, self._per_epoch(protocol)))
        found = None
        unseen = segment.first and position.updates == 0 and not position.rows.get(segment.group)
        if unseen or segment.updates == 0:
            found = self._probe(engine, protocol, segment, everyone, 0)
        cohort = everyone if len(position.active) == len(self.subjects) else everyone.select(position.active)
        plasticity = Plasticity(**protocol.plasticity_of(stage).model_dump())
        while position.updates < segment.updates and position.active:
            if ranks.any_of(self.listener.stop(), self.device):
                self._put_back(everyone, cohort)
                self._save(segment, everyone)
                raise Interrupted
            factor = decay(stage, position.updates / segment.updates)
            step = 1
            if PHASES[stage.phase]:
                rated = dataclasses.replace(plasticity, learning_rate=plasticity.learning_rate * factor)
                self._update(engine, protocol, stage, cohort, rated, factor)
            else:  # nothing changes until the next probe
                step = min(probe for probe in probes if probe > position.updates) - position.updates
            position.updates += step
            self.listener.advanced(step)
            if position.updates in probes:
                self._put_back(everyone, cohort)
                found = self._probe(engine, protocol, segment, everyone, position.updates)
                if stage.until is not None:
                    # A diverged network has no error; it goes on, and is not taken for grown up.
                    reached = found.row["err_goodness"] <= stage.until
                    remaining = [member for member in position.active if not reached[member]]
                    if remaining != position.active:
                        position.active = remaining
                        cohort = everyone.select(remaining) if remaining else cohort
                self._save(segment, everyone)
        self.listener.advanced(segment.updates - position.updates)
        found = found or self._measure(engine, protocol, segment, everyone)  # a run resumed here has no probe in hand
        if stage.until is not None:
            reached = found.row["err_goodness"] <= stage.until
            self.log.write(segment.group, "reached", reached, REACHED)
            count = f"{reached.sum()} of {len(reached)} subjects reached the criterion"
            self.listener.noted(f"{segment.group}: {count} (error ≤ {100 * stage.until:g} %)")
        if stage.probe_on == "test" and segment.last:
            for name, variable in STIMULUS_VARIABLES.items():
                self.log.write(segment.group, name, found.stimuli[name], variable)

    def _put_back(self, everyone: Cohort, cohort: Cohort) -> None:
        if cohort is not everyone and self.position.active:
            everyone.replace(self.position.active, cohort)

    # --------------------------------------------------------------- one update

    def _update(
        self,
        engine: RateEngine,
        protocol: Protocol,
        stage: Stage,
        cohort: Cohort,
        plasticity: Plasticity,
        factor: float,
    ) -> None:
        """Show each subject its next minibatch and let it learn from it."""
        minibatch = protocol.stimuli.minibatch
        share = ranks.share(minibatch)
        chosen = torch.from_numpy(np.stack([self._cases(protocol, s, a)[share] for s, a in self._ages(cohort)]))
        labels = self.training_labels[chosen].to(engine.device)
        images = {self.retina: self.training_images[chosen].unsqueeze(2).to(engine.device)}
        is_positive = PHASES[stage.phase]
        percept = engine.look(cohort.state, images)
        shown = {True: labels}
        if stage.train_softmax or False in is_positive:
            heard = readout.softmax_heard(engine, percept)
            belief = readout.belief(cohort.softmax, heard)
            if False in is_positive:
                streams = [generator(protocol.seed, s, "negatives", a) for s, a in self._ages(cohort)]
                if protocol.stimuli.negatives == "hard_labels":
                    shown[False] = hard_negatives(belief, labels, streams, share.start)
                else:
                    shown[False] = random_negatives(labels, self.images.classes, streams, share.start)
            if stage.train_softmax:
                settings = protocol.readout.softmax
                readout.learn_softmax(
                    cohort.softmax,
                    heard,
                    belief,
                    labels,
                    settings.learning_rate * factor,
                    weight_cost=settings.weight_cost,
                    minibatch=minibatch,
                )
        versions = torch.stack([one_hot(shown[real], self.images.classes) for real in is_positive], dim=2)
        engine.learn(cohort.state, percept, {self.label: versions}, images, is_positive, plasticity, minibatch)
        cohort.age += 1

    def _ages(self, cohort: Cohort) -> Iterator[tuple[int, int]]:
        yield from zip(cohort.subjects, cohort.age.tolist(), strict=True)

    def _per_epoch(self, protocol: Protocol) -> int:
        return len(self.training_labels) // protocol.stimuli.minibatch

    def _cases(self, protocol: Protocol, subject: int, age: int) -> np.ndarray:
        """Places of the training images that a subject of that age meets, (minibatch,)."""
        epoch, batch = divmod(age, self._per_epoch(protocol))
        size = protocol.stimuli.minibatch
        return self.order(protocol.seed, subject, epoch)[batch * size : (batch + 1) * size]

    def _order(self, seed: int, subject: int, epoch: int) -> np.ndarray:
        return generator(seed, subject, "order", epoch).permutation(len(self.training_labels))

    # ------------------------------------------------------------------- probes

    def _probe(
        self, engine: RateEngine, protocol: Protocol, segment: Segment, everyone: Cohort, update: int
    ) -> Measurement:
        found = self._measure(engine, protocol, segment, everyone)
        row = {"update": segment.before + update, "stage": segment.stage_name, "age": everyone.age, **found.row}
        self.log.append(segment.group, row)
        self.position.rows[segment.group] = self.log.length(segment.group)
        self.listener.probed(segment, update, found)
        return found

    def _measure(self, engine: RateEngine, protocol: Protocol, segment: Segment, everyone: Cohort) -> Measurement:
        probe = self._stimuli(segment.stage.probe_on, segment.stage.probe_images, protocol.seed)
        return measure(engine, everyone.state, everyone.softmax, probe, tuple(protocol.readout.steps), self.blocks)

    @lru_cache(maxsize=4)  # noqa: B019  (a run lives as long as its process)
    def _stimuli(self, which: str, count: int | None, seed: int) -> Probe:
        images = getattr(self.images, f"{which}_images")[:count]
        labels = getattr(self.images, f"{which}_labels")[:count]
        return Probe.of(images, labels, seed, self.subjects, self.images.classes)

    @lru_cache(maxsize=2)  # noqa: B019
    def _engine(self, variant: str) -> RateEngine:
        protocol = self.protocol.variant(variant)
        dynamics = RateDynamics(**protocol.engine.model_dump(), device=self.device)
        return RateEngine(with_goodness(self.net, **_goodness_changes(protocol)), dynamics)

    # ------------------------------------------------------- interrupt and resume

    def _save(self, segment: Segment, everyone: Cohort) -> None:
        cohorts = {"now": everyone, **{f"ends/{name}": cohort for name, cohort in self.ends.items()}}
        arrays = {
            f"{where}/{name}": array for where, cohort in cohorts.items() for name, array in cohort.arrays().items()
        }
        if ranks.number() == 0:
            checkpoint.save(self.checkpoint_path, arrays, {"run_id": self.run_id, **dataclasses.asdict(self.position)})

    def _resume(self) -> Cohort:
        arrays, position = checkpoint.load(self.checkpoint_path)
        if position.pop("run_id") != self.run_id:
            raise CortexffError(f"{self.checkpoint_path} belongs to another run: run without --resume")
        self.position = Position(**position)
        for segment in self.segments:
            self.log.truncate(segment.group, self.position.rows.get(segment.group, 0))
        device = torch.device(self.device)
        cohorts: dict[str, dict[str, np.ndarray]] = {}
        for path, array in arrays.items():
            parts = path.split("/")
            depth = 2 if parts[0] == "ends" else 1
            cohorts.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = array
        for where, found in cohorts.items():
            if where != "now":
                self.ends[where.removeprefix("ends/")] = Cohort.from_arrays(self.subjects, found, device)
        done = sum(s.updates for s in self.segments[: self.position.segment]) + self.position.updates
        self.listener.advanced(done)
        return Cohort.from_arrays(self.subjects, cohorts["now"], device)


def check_fit(protocol: Protocol, net: nx.MultiDiGraph, images: Images) -> None:
    """Model, images and every variant go together; raises CortexffError before anything is written where not."""
    for role, needed, what in (
        ("input", images.training_images.shape[1], "pixels"),
        ("context", images.classes, "labels"),
    ):
        area = only_area(net, role)
        units = net.nodes[area]["units"]
        if units != needed:
            raise CortexffError(
                f"image set {images.name} has {needed} {what}, but area {area} has {units} units: "
                f"change the area in {net.graph['source']}, or stimuli.images in the protocol"
            )
    for metric in protocol.table.metrics:
        if metric not in VARIABLES:
            raise CortexffError(f"table.metrics: unknown metric '{metric}' (known: {', '.join(VARIABLES)})")
    most_blocks(protocol, net)


def most_blocks(protocol: Protocol, net: nx.MultiDiGraph) -> int:
    """The largest number of goodness blocks of an area, over all variants."""
    variants = [with_goodness(net, **_goodness_changes(protocol.variant(name))) for name in protocol.variants]
    return max(changed.nodes[area]["goodness"].blocks for changed in variants for area in hidden_areas(net))


def _goodness_changes(protocol: Protocol) -> dict[str, Any]:
    return protocol.goodness.model_dump(exclude_none=True)
