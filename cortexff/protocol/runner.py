"""The runner: carries out a protocol, one variant and condition after another, and logs what the probes find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import networkx as nx
import numpy as np
import torch

from cortexff import readout, sonata
from cortexff.engines import ranks
from cortexff.engines.backprop import BackpropEngine
from cortexff.engines.rate import RateEngine
from cortexff.engines.spiking import SpikingEngine, backend_for
from cortexff.errors import CortexffError
from cortexff.log import Log
from cortexff.protocol import averaging, checkpoint, physiology, vigilance
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.engine import AnyEngine, engine_of, most_blocks
from cortexff.protocol.fit import check_fit
from cortexff.protocol.lesson import Lessons
from cortexff.protocol.plan import Segment, plan
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.probe import (
    STIMULUS_VARIABLES,
    Measurement,
    Probe,
    measure,
    measure_softmax,
)
from cortexff.protocol.rows import PICTURES, REACHED, row_variables
from cortexff.protocol.schedule import Protocol, learns, probe_updates
from cortexff.protocol.settings import Engine
from cortexff.protocol.trials import trials
from cortexff.stimuli.images import Images

EXAMPLES = 10


class Interrupted(Exception):
    """The run was asked to stop; everything up to here is in the checkpoint."""


@dataclass
class Position:
    """How far a run has come.

    segment  number of the stage in the plan: all variants, conditions and stages in order
    updates  updates of that stage that are over
    active   places of the subjects that the stage still trains
    rows     group → rows logged; ``trials`` too
    """

    segment: int = 0
    updates: int = 0
    active: list[int] | None = None
    rows: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Listener:
    """Who hears how the run goes on.

    advanced  updates done since the last call
    probed    a probe was logged: the group, its update, what was found in a few words
    noted     something worth telling: one line
    stop      asked after every update: should the run be interrupted?
    began     a stage begins, or goes on in a resumed run: its name
    resumed   updates that were done before, in a run that is resumed
    """

    advanced: Callable[[int], None] = lambda updates: None
    probed: Callable[[str, int, str], None] = lambda group, update, words: None
    noted: Callable[[str], None] = lambda text: None
    stop: Callable[[], bool] = lambda: False
    began: Callable[[str], None] = lambda stage: None
    resumed: Callable[[int], None] = lambda updates: None


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
        for segment in self.segments:
            if (engine := protocol.variant(segment.variant).engine_of(segment.stage)).kind == "spiking":
                backend_for(engine.spiking.backend, learns(segment.stage), device)  # refuses what cannot run there
        self.presentation = Presentation.of(protocol.stimuli, net, images)
        self.lessons = Lessons(images, self.presentation, len(self.subjects))
        self.position = Position()
        self.ends: dict[str, Cohort] = {}  # condition → its cohort at the end, where another starts from it
        self.last_probes: dict[tuple, Measurement] = {}  # of conditions in this process, by what was probed and how

    @property
    def updates(self) -> int:
        """Of all segments together."""
        return sum(segment.updates for segment in self.segments)

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
            self.log.attributes("/", {"images_read_from": self.images.source, "images_split": self.images.split})
            for segment in self.segments:
                variables = row_variables(self.protocol.variant(segment.variant), segment.condition)
                self.log.declare(segment.group, variables=variables)
        first = self.position.segment
        for number, segment in enumerate(self.segments[first:], start=first):
            protocol = self.protocol.variant(segment.variant)
            engine = self._engine(segment.variant, protocol.engine_of(segment.stage), learns(segment.stage))
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
            needed = {protocol.conditions[later.condition].start for later in to_come}
            needed = needed.union(*(later.stage.looks_back_to.values() for later in to_come))
            self.ends = {name: end for name, end in self.ends.items() if name in needed}
            self.last_probes = {key: found for key, found in self.last_probes.items() if key[1] in needed}

    def forget_checkpoint(self) -> None:
        """Remove the checkpoint: the results are complete."""
        self.checkpoint_path.unlink(missing_ok=True)

    def _begin(self, engine: AnyEngine, protocol: Protocol, segment: Segment) -> Cohort:
        start = protocol.conditions[segment.condition].start
        if start is not None:
            return self.ends[start].select(range(len(self.subjects)))
        state = engine.start(protocol.seed, self.subjects)
        softmax = readout.start_softmax(engine, len(self.subjects), self.images.classes)
        return Cohort.newborn(self.subjects, state, softmax)

    def _live(self, engine: AnyEngine, protocol: Protocol, segment: Segment, everyone: Cohort) -> None:
        """One stage: updates, and probes between them."""
        stage, position = segment.stage, self.position
        several = len(protocol.conditions[segment.condition].stages) > 1
        self.listener.began(segment.group + (f", {segment.stage_name}" if several else ""))
        probes = set(probe_updates(stage, segment.updates, self.lessons.per_epoch(protocol)))
        found = None
        unseen = segment.first and position.updates == 0 and not position.rows.get(segment.group)
        if unseen or segment.updates == 0:
            found = self._probe(engine, protocol, segment, everyone, 0)
        cohort = everyone if len(position.active) == len(self.subjects) else everyone.select(position.active)
        while position.updates < segment.updates and position.active:
            if ranks.any_of(self.listener.stop(), self.device):
                self._put_back(everyone, cohort)
                self._save(segment, everyone)
                raise Interrupted
            step = 1
            if learns(stage):
                self.lessons.update(engine, cohort, protocol, stage, position.updates, segment.updates, self.ends)
            else:  # nothing changes until the next probe
                step = min(probe for probe in probes if probe > position.updates) - position.updates
            position.updates += step
            self.listener.advanced(step)
            if position.updates in probes:
                self._put_back(everyone, cohort)
                found = self._probe(engine, protocol, segment, everyone, position.updates)
                if stage.until is not None:
                    # A diverged network has no error; it goes on, and is not taken for grown up.
                    reached = _error(found.row) <= stage.until
                    remaining = [member for member in position.active if not reached[member]]
                    if remaining != position.active:
                        position.active = remaining
                        cohort = everyone.select(remaining) if remaining else cohort
                self._save(segment, everyone)
        self.listener.advanced(segment.updates - position.updates)
        found = found or self._measure(engine, protocol, segment, everyone)  # a run resumed here has no probe in hand
        if stage.until is not None:
            reached = _error(found.row) <= stage.until
            self.log.write(segment.group, "reached", reached, REACHED)
            count = f"{reached.sum()} of {len(reached)} subjects reached the criterion"
            rest = "" if reached.all() else "; the others lived through the whole stage"
            self.listener.noted(f"{segment.group}: {count} (error ≤ {100 * stage.until:g} %){rest}")
        if segment.last:
            self.last_probes[self._looks(protocol, segment, segment.condition)] = found
        if stage.probe_on == "test" and segment.last:
            for name, values in found.stimuli.items():
                self.log.write(segment.group, name, values, STIMULUS_VARIABLES[name])
            for name, picture in self._pictures(engine, protocol, segment, everyone):
                self.log.write(segment.group, name, picture, PICTURES[name])
            if "vigilance" in protocol.measures:
                for name, values in self._vigilance(engine, protocol, segment, everyone).items():
                    self.log.write(segment.group, name, values, vigilance.VARIABLES[name])
        if protocol.raster and segment.last and isinstance(engine, SpikingEngine) and self.subjects[0] == 0:
            self._keep_spikes(engine, protocol, segment, everyone)

    def _put_back(self, everyone: Cohort, cohort: Cohort) -> None:
        if cohort is not everyone and self.position.active:
            everyone.replace(self.position.active, cohort)

    # ------------------------------------------------------------------- probes

    def _probe(
        self, engine: AnyEngine, protocol: Protocol, segment: Segment, everyone: Cohort, update: int
    ) -> Measurement:
        start = protocol.conditions[segment.condition].start if segment.first and not update else None
        found = self.last_probes.get(self._looks(protocol, segment, start))
        found = found or self._measure(engine, protocol, segment, everyone)
        phase = segment.stage.phase_at(update - 1) if update else ""
        row = {"update": segment.before + update, "stage": segment.stage_name, "phase": phase, "age": everyone.age}
        row |= {"positive_updates": everyone.met[:, 0], "negative_updates": everyone.met[:, 1], **found.row}
        self.log.append(segment.group, row)
        self.position.rows[segment.group] = self.log.length(segment.group)
        words = f"error {100 * _error(row).mean():5.2f} %  "
        if "fp_neg" in row:
            words += f"hallucinations {100 * row['fp_neg'].mean():5.1f} %  d′ {row['dprime'].mean():.2f}  "
        self.listener.probed(segment.group, segment.before + update, f"{words}({segment.stage.probe_on} images)")
        return found

    def _looks(self, protocol: Protocol, segment: Segment, condition: str | None) -> tuple:
        """Everything on which it depends what a probe finds at the end of a condition."""
        stage, measures = segment.stage, tuple(protocol.measures_of(segment.condition))
        engine = (protocol.engine_of(stage), learns(stage))
        return segment.variant, condition, stage.probe_on, stage.probe_images, *engine, *measures

    def _measure(self, engine: AnyEngine, protocol: Protocol, segment: Segment, everyone: Cohort) -> Measurement:
        probe = self._stimuli(segment.stage.probe_on, segment.stage.probe_images, protocol.seed)
        if isinstance(engine, BackpropEngine):
            return measure_softmax(engine, everyone.state, everyone.softmax, probe)
        measures = protocol.measures_of(segment.condition)
        options = {"skip_first": protocol.readout.skip_first, "measures": measures}
        found = measure(engine, everyone.state, everyone.softmax, probe, protocol.window, self.blocks, **options)
        if "physiology" in measures:
            shown = (self.presentation, probe.images, probe.labels, protocol.seed, self.subjects, protocol.window)
            found.row.update(physiology.measure(engine, everyone.state, *shown), weight_path=everyone.path.copy())
        if "averaged" in measures:
            averaged, of_mean = averaging.averaged_state(everyone), found
            if averaged is not everyone.state:
                options["measures"] = ()
                of_mean = measure(engine, averaged, everyone.softmax, probe, protocol.window, self.blocks, **options)
            found.row.update({f"averaged_{name}": of_mean.row[name] for name in averaging.MEASURED})
        return found

    def _vigilance(
        self, engine: RateEngine, protocol: Protocol, segment: Segment, everyone: Cohort
    ) -> dict[str, np.ndarray]:
        probe = self._stimuli(segment.stage.probe_on, segment.stage.probe_images, protocol.seed)
        shown = (array[: vigilance.TRIALS].numpy() for array in (probe.images, probe.labels))
        task = vigilance.Task.of(*shown, protocol.seed, self.subjects)
        counted = engine.areas[1:] if protocol.readout.skip_first else engine.areas
        return vigilance.measure(engine, everyone.state, self.presentation, task, counted)

    def _pictures(
        self, engine: AnyEngine, protocol: Protocol, segment: Segment, everyone: Cohort
    ) -> Iterator[tuple[str, np.ndarray]]:
        """What can be drawn in the shape of an image, by its name in ``PICTURES``."""
        first, retina = engine.areas[0], self.presentation.retina
        seen = [name for source, name in engine.sources[first] if source == retina]
        if protocol.receptive_fields and seen:
            units = (
                np.linspace(0, engine.units[first] - 1, min(protocol.receptive_fields, engine.units[first]))
                .round()
                .astype(int)
            )
            weights = everyone.state.weights[seen[0]]
            matrices = [engine.projections[seen[0]].matrix(weights[s : s + 1])[0, units] for s in range(len(weights))]
            yield "receptive_fields", torch.stack(matrices).cpu().numpy()
        probe = self._stimuli(segment.stage.probe_on, segment.stage.probe_images, protocol.seed)
        if probe.hybrids is not None:
            yield "image_examples", probe.images[:EXAMPLES].numpy()
            yield "hybrid_examples", probe.hybrids[:, :EXAMPLES].numpy()

    def _keep_spikes(self, engine: SpikingEngine, protocol: Protocol, segment: Segment, everyone: Cohort) -> None:
        probe, count = self._stimuli(segment.stage.probe_on, segment.stage.probe_images, protocol.seed), protocol.raster
        shown = (self.presentation, probe.images[:count], probe.labels[:count])
        whose = (segment.variant, segment.condition, 0, segment.stage.probe_on)
        for trial in trials(engine, everyone.state.select([0]), *shown, *whose, protocol.window):
            sonata.append(self.log, trial)
        self.position.rows["trials"] = self.log.length("trials")

    @lru_cache(maxsize=4)  # noqa: B019  (a run lives as long as its process)
    def _stimuli(self, which: str, count: int | None, seed: int) -> Probe:
        images = getattr(self.images, f"{which}_images")[:count]
        labels = getattr(self.images, f"{which}_labels")[:count]
        if self.protocol.learns_by_backprop:
            return Probe.bare(images, labels, self.presentation)
        return Probe.of(images, labels, seed, self.subjects, self.presentation)

    @lru_cache(maxsize=2)  # noqa: B019
    def _engine(self, variant: str, settings: Engine, learning: bool) -> AnyEngine:
        protocol = self.protocol.variant(variant).model_copy(update={"engine": settings})
        return engine_of(protocol, self.net, self.device, learning, self.listener.noted)

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
        if self.protocol.stimuli.validation and self.log.file.attrs.get("images_split") != self.images.split:
            words = f"{self.checkpoint_path}: an earlier version of cortexff held other validation images out"
            raise CortexffError(f"{words}: run without --resume")
        self.position = Position(**position)
        for segment in self.segments:
            self.log.truncate(segment.group, self.position.rows.get(segment.group, 0))
        sonata.truncate(self.log, self.position.rows.get("trials", 0))
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
        self.listener.resumed(done)
        return Cohort.from_arrays(self.subjects, cohorts["now"], device)


def _error(row: Mapping[str, np.ndarray]) -> np.ndarray:
    """The error by goodness of every subject; of a net without goodness, by softmax."""
    return row[next(name for name in ("err_goodness", "err_hybrids", "err_softmax") if name in row)]
