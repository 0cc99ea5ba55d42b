"""The course of an experiment: the conditions of each variant, one after another, all from the same newborn subjects.

Subjects are probed as they learn, and every probe leaves a checkpoint from which an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import networkx as nx
import numpy as np
import torch

from cortexff.engines import cost
from cortexff.engines.rate import RateEngine
from cortexff.engines.rehearsal import Stopwatch
from cortexff.errors import CortexffError
from cortexff.log import Log, Variable
from cortexff.protocol import checkpoint
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.estimate import SECONDS_TO_START, duration
from cortexff.protocol.runner import Interrupted, Listener, Position
from cortexff.protocol.schedule import Common, decay, probe_updates
from cortexff.protocol.settings import Stage

HEAD = {
    "update": Variable(("probe",), "updates", "updates since the condition began", dtype="i8"),
    "age": Variable(("probe", "subject"), "updates", "updates that each subject has lived through", dtype="i8"),
}


class Experiment(Protocol):
    """What an experiment brings.

    protocol   its settings
    subjects   their numbers
    device     where it computes
    stage      the updates of each condition, and when it is probed
    variables  what a probe finds, each growing along ``probe``
    size       what an update takes in, in words
    """

    protocol: Common
    subjects: Sequence[int]
    device: str
    stage: Stage
    variables: Mapping[str, Variable]
    size: str

    def rehearsal(self) -> tuple[Experiment, float]:
        """The experiment with less data, and how many times less: to be timed."""

    def engine(self, variant: str) -> RateEngine:
        """The engine of a variant."""

    def begin(self, engine: RateEngine) -> Cohort:
        """Newborn subjects."""

    def update(self, engine: RateEngine, cohort: Cohort, variant: str, condition: str, factor: float) -> None:
        """Let all subjects learn once, with their learning rates times a factor; the cohort is changed in place."""

    def measure(self, engine: RateEngine, cohort: Cohort) -> dict[str, Any]:
        """A value for each variable, without the probe dimension; plasticity is off."""

    def words(self, row: Mapping[str, Any]) -> str:
        """A probe in a few words."""


class Course:
    """One execution of an experiment."""

    def __init__(
        self,
        experiment: Experiment,
        log: Log,
        checkpoint_path: Path,
        listener: Listener | None = None,
        run_id: str = "",
    ) -> None:
        self.experiment, self.log, self.checkpoint_path = experiment, log, checkpoint_path
        self.listener, self.run_id, self.position = listener or Listener(), run_id, Position()
        protocol = experiment.protocol
        self.plan = [(variant, condition) for variant in protocol.variants for condition in protocol.conditions]

    @property
    def updates(self) -> int:
        """Of all conditions together."""
        return len(self.plan) * self.experiment.stage.updates

    def carry_out(self, resume: bool = False) -> None:
        """Run everything, or what is left of it. The checkpoint stays until :meth:`forget_checkpoint`.

        raises  Interrupted when the listener asked for it; the checkpoint then holds everything
        """
        coordinates = {n: dataclasses.replace(v, coordinates="update") for n, v in self.experiment.variables.items()}
        cohort = None
        if resume:
            cohort = self._resume()
        else:
            self.checkpoint_path.unlink(missing_ok=True)  # of an earlier run that this one replaces
            for variant, condition in self.plan:
                self.log.declare(f"{variant}/{condition}", variables={**HEAD, **coordinates})
        for number in range(self.position.segment, len(self.plan)):
            engine = self.experiment.engine(self.plan[number][0])
            self._live(engine, number, cohort or self.experiment.begin(engine))
            cohort = None
            self.position = Position(number + 1, rows=self.position.rows)

    def forget_checkpoint(self) -> None:
        """Remove the checkpoint: the results are complete."""
        self.checkpoint_path.unlink(missing_ok=True)

    def _live(self, engine: RateEngine, number: int, cohort: Cohort) -> None:
        """One condition: updates, and probes between them."""
        (variant, condition), stage, position = self.plan[number], self.experiment.stage, self.position
        self.listener.began(f"{variant}/{condition}")
        probes = set(probe_updates(stage, stage.updates, 1))
        if not position.rows.get(f"{variant}/{condition}"):
            self._probe(engine, number, cohort)
        while position.updates < stage.updates:
            if self.listener.stop():
                self._save(cohort)
                raise Interrupted
            factor = decay(stage, position.updates / stage.updates)
            self.experiment.update(engine, cohort, variant, condition, factor)
            position.updates += 1
            self.listener.advanced(1)
            if position.updates in probes:
                self._probe(engine, number, cohort)
                self._save(cohort)

    def _probe(self, engine: RateEngine, number: int, cohort: Cohort) -> None:
        group, update = "/".join(self.plan[number]), self.position.updates
        row = self.experiment.measure(engine, cohort)
        self.log.append(group, {"update": update, "age": cohort.age, **row})
        self.position.rows[group] = self.log.length(group)
        self.listener.probed(group, update, self.experiment.words(row))

    # ------------------------------------------------------- interrupt and resume

    def _save(self, cohort: Cohort) -> None:
        position = {"run_id": self.run_id, **dataclasses.asdict(self.position)}
        checkpoint.save(self.checkpoint_path, cohort.arrays(), position)

    def _resume(self) -> Cohort:
        arrays, position = checkpoint.load(self.checkpoint_path)
        if position.pop("run_id") != self.run_id:
            raise CortexffError(f"{self.checkpoint_path} belongs to another run: run without --resume")
        self.position = Position(**position)
        for variant, condition in self.plan:
            group = f"{variant}/{condition}"
            self.log.truncate(group, self.position.rows.get(group, 0))
        self.listener.resumed(self.position.segment * self.experiment.stage.updates + self.position.updates)
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return Cohort.from_arrays(list(self.experiment.subjects), arrays, torch.device(self.experiment.device))


def describe(experiment: Experiment, net: nx.MultiDiGraph, out: Path) -> str:
    """What a run will do and roughly cost, as text: an update of each condition is timed on part of the data."""
    protocol, stage = experiment.protocol, experiment.stage
    probes = len({0} | set(probe_updates(stage, stage.updates, 1)))
    lines = [protocol.title, f"model {net.graph['source']}, {protocol.subjects} subjects, results in {out}", ""]
    lines.append(f"{'condition':<28}{'updates':>9}{'probes':>8}  {'an update':>12}")
    few, times = experiment.rehearsal()
    seconds = SECONDS_TO_START
    for variant in protocol.variants:
        engine = experiment.engine(variant)
        for condition in protocol.conditions:
            cohort = experiment.begin(engine)
            works = (partial(few.update, engine, cohort, variant, condition, 1.0), partial(few.measure, engine, cohort))
            update, probe = (times * Stopwatch(work, experiment.device).seconds() for work in works)
            seconds += stage.updates * update + probes * probe
            lines.append(f"{f'{variant}/{condition}':<28}{stage.updates:>9}{probes:>8}  {update:>10.2f} s")
    megabytes = 4 * protocol.subjects * cost.all_synapses(net) * 6 / 1e6
    total = stage.updates * len(protocol.variants) * len(protocol.conditions)
    lines += ["", f"{total} updates of {experiment.size}: about {duration(seconds)} on this machine,"]
    lines.append(f"about {megabytes + 600:.0f} MB of memory ({megabytes:.0f} MB of them weights)")
    return "\n".join(lines)
