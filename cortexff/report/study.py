"""What results files of sleep studies hold: populations of subjects, the lives they led, what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import networkx as nx
import numpy as np

from cortexff.errors import CortexffError
from cortexff.graph import hidden_areas, parse_model, with_goodness
from cortexff.log import open_file
from cortexff.protocol.loading import from_json
from cortexff.protocol.schedule import Protocol

ABREAST = 5  # populations that stand side by side in a report: the first ones


@dataclass(frozen=True)
class Course:
    """One condition of a population: its probes in time, and what was kept at its end.

    name    of the condition
    stages  of each probe, the stage that it belongs to
    phases  of each probe, the phase of the update before it; empty before the first
    found   every variable of the condition as the log holds it; those that grow have probes first, then subjects
    """

    name: str
    stages: list[str]
    phases: list[str]
    found: Mapping[str, np.ndarray]

    @property
    def updates(self) -> np.ndarray:
        """Of each probe, updates since the condition began, (probes,)."""
        return self.found["update"]

    def of(self, metric: str, area: int | None = None) -> np.ndarray:
        """A metric at every probe, (probes, subjects).

        area    place of one area; the mean over areas (and blocks) unless given
        raises  KeyError where it was not measured
        """
        values = self.found[metric].astype(float)
        if values.ndim > 2 and area is not None:
            values = values[:, :, area]
        if values.ndim == 2:
            return values
        # Areas have as many blocks as the one that has most; those that are not there are NaN.
        there = ~np.isnan(values).all((0, 1))
        if not there.any():  # as the response to a pulse of a net without recurrence
            return np.full(values.shape[:2], np.nan)
        return values.reshape(*values.shape[:2], -1)[..., there.ravel()].mean(-1)

    def at_end(self, metric: str, area: int | None = None) -> np.ndarray:
        """A metric at the last probe, (subjects,)."""
        return self.of(metric, area)[-1]


def end_to_end(courses: Sequence[Course], values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Courses that follow one another as one; the first probe of each but the first is the last one before, left out.

    values   of each course, (its probes, subjects)
    returns  updates since the first began, (probes,), and values (probes, subjects)
    """
    updates, joined, lasted = [], [], 0
    for place, (course, found) in enumerate(zip(courses, values, strict=True)):
        new = slice(min(place, 1), None)
        updates.append(lasted + course.updates[new])
        joined.append(found[new])
        lasted += int(course.updates[-1])
    return np.concatenate(updates), np.concatenate(joined)


@dataclass(frozen=True)
class Population:
    """The subjects of one variant of one run.

    name      of the variant, and of the preset where several runs are studied
    sign      of goodness: ``max``, ``min``, or ``mixed`` where areas differ
    protocol  with the variant's settings in place
    net       with the variant's goodness
    about     attributes of the results file: where the run came from
    courses   condition → course, in the order of the protocol
    path      of the results file
    """

    name: str
    sign: str
    protocol: Protocol
    net: nx.MultiDiGraph
    about: Mapping[str, Any]
    courses: Mapping[str, Course]
    path: Path = Path()

    @property
    def areas(self) -> list[str]:
        return hidden_areas(self.net)

    @property
    def subjects(self) -> int:
        return self.protocol.subjects

    def from_start(self, condition: str) -> list[str]:
        """A condition and those that it grew out of, the first one first."""
        line = [condition]
        while (start := self.protocol.conditions[line[0]].start) is not None:
            line.insert(0, start)
        return line

    def going_on(self, condition: str) -> list[str]:
        """A condition, and where there is one NAME_longer, which begins at its end and goes on with it."""
        longer = f"{condition}_longer"
        goes_on = longer in self.courses and self.protocol.conditions[longer].start == condition
        return [condition, longer] if goes_on else [condition]


def read(paths: Sequence[str | Path]) -> list[Population]:
    """The populations of results files, in their order.

    Of a run that is not finished, conditions that were not reached yet are left out, and the one under way too.

    raises  CortexffError where a file is none of cortexff, of settings that it does not know, or being written to
    """
    populations = []
    for path in paths:
        try:
            found = _of_file(path)
        except OSError as error:
            words = f"{path}: cannot be read to its end, as happens while a run writes to it"
            raise CortexffError(f"{words}: try again, or copy it first ({error})") from error
        for population in found:
            name = population.name if len(paths) == 1 else f"{population.name}, {population.about['preset']}"
            if name in (other.name for other in populations):
                name = f"{name} ({Path(path).stem})"
            populations.append(replace(population, name=name))
    return populations


def _of_file(path: str | Path) -> list[Population]:
    """The populations of one file, by their variants' names."""
    populations = []
    with open_file(path) as file:
        about = dict(file.attrs)
        try:
            protocol = from_json(about["settings"])
        except ValueError as error:
            words = f"{path}: has settings that this version of cortexff does not know"
            raise CortexffError(f"{words}: read it with the version that wrote it") from error
        if not isinstance(protocol, Protocol):
            raise CortexffError(f"{path}: of protocol {about['protocol_name']}, which has no sleep to report on")
        last = None if about["status"] == "finished" else _under_way(file, protocol)
        for variant in (name for name in protocol.variants if name in file):
            changed = protocol.variant(variant)
            net = with_goodness(parse_model(about["model"]), **changed.goodness.model_dump(exclude_none=True))
            signs = {net.nodes[area]["goodness"].sign for area in hidden_areas(net)}
            courses = {
                condition: _course(file[variant][condition])
                for condition in protocol.conditions
                if _probed(file, variant, condition) and (variant, condition) != last
            }
            sign = signs.pop() if len(signs) == 1 else "mixed"
            populations.append(Population(variant, sign, changed, net, about, courses, Path(path)))
    return populations


def _probed(file: h5py.File, variant: str, condition: str) -> bool:
    return condition in file[variant] and len(file[variant][condition]["update"]) > 0


def _under_way(file: h5py.File, protocol: Protocol) -> tuple[str, str] | None:
    """The variant and condition that was probed last: they are run in order."""
    reached = [(v, c) for v in protocol.variants if v in file for c in protocol.conditions if _probed(file, v, c)]
    return reached[-1] if reached else None


def _course(group: h5py.Group) -> Course:
    if lacking := {"phase", "positive_updates"} - set(group):
        words = f"{group.file.filename}: {group.name} has no {' and no '.join(sorted(lacking))}"
        raise CortexffError(f"{words}, as an earlier version of cortexff wrote it: run the protocol again")
    texts = {name: list(group[name].asstr()[:]) for name in ("stage", "phase")}
    found = {name: item[()] for name, item in group.items() if item.dtype.kind in "fiu" and "units" in item.attrs}
    return Course(group.name.split("/")[-1], texts["stage"], texts["phase"], found)
