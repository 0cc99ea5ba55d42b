"""What a sweep runs: a grid of settings, each point of it cut into shards that go to different workers.

A shard is one variant of some subjects. Subjects never meet and variants share nothing, so shards are independent of
one another; the conditions of a variant stay together, because they fork from a common checkpoint. Each shard is a run
like any other, with a results file and a checkpoint of its own (:mod:`~cortexff.protocol.workers` runs it); when all of
a point's are finished, :mod:`~cortexff.protocol.merge` joins them.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from cortexff.description import parse
from cortexff.errors import CortexffError
from cortexff.protocol import provenance
from cortexff.protocol.checkpoint import path_for
from cortexff.protocol.loading import assignment
from cortexff.protocol.plan import Segment, plan
from cortexff.protocol.schedule import Protocol


@dataclass(frozen=True)
class Point:
    """One run of a sweep: a protocol with its settings, and the file that it will fill.

    name    its settings in words, such as ``learning_rate=3``; empty where no settings are swept
    origin  what its file tells of where it came from (:func:`provenance.origin`)
    """

    name: str
    protocol: Protocol
    net: nx.MultiDiGraph
    origin: Mapping[str, Any]
    out: Path

    @property
    def folder(self) -> Path:
        """Where the shards lie until they are merged."""
        return self.out.with_suffix(".shards")


@dataclass(frozen=True)
class Shard:
    """One variant of some subjects of a point: all that a worker needs, wherever it is."""

    point: Point
    variant: str
    subjects: list[int]

    @property
    def path(self) -> Path:
        return self.point.folder / f"{self.variant}_{self.subjects[0]}-{self.subjects[-1]}.h5"

    def segments(self, training_cases: int) -> list[Segment]:
        return [segment for segment in plan(self.point.protocol, training_cases) if segment.variant == self.variant]


def grid(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every combination of ``KEY.PATH=VALUE,VALUE,...``: the name of each point, and its settings.

    ``["engine.steps=4,8", "seed=0,1"]`` gives ``steps=4 seed=0``, ``steps=4 seed=1``, ...; without texts, one point "".
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        found = parse(f"[{values}]", source=f"--sweep {path}")
        if not equals or not path.strip() or not found or None in found:
            raise CortexffError(f"--sweep {text}: write it as key.path=value,value,...")
        axes[path.strip()] = list(found)
    short = [path.split(".")[-1] for path in axes]
    labels = short if len(set(short)) == len(short) else list(axes)
    points = {}
    for values in itertools.product(*axes.values()):
        written = [value if isinstance(value, str) else json.dumps(value) for value in values]
        name = " ".join(f"{label}={value}" for label, value in zip(labels, written, strict=True))
        if name in points:
            raise CortexffError(f"--sweep: the point {name} comes twice; give each value once")
        points[name] = {
            f"--sweep {path}={value}": assignment(f"{path}={json.dumps(value)}")
            for path, value in zip(axes, values, strict=True)
        }
    return points


def path_of(out: Path, point: str) -> Path:
    """The results file of a point: ``out`` itself, or where settings are swept, a file in a folder beside it."""
    name = re.sub(r"[^\w.,=+-]+", "_", point)
    return out.with_suffix(".sweep") / f"{name}.h5" if point else out


def cut(points: Sequence[Point], workers: int) -> list[Shard]:
    """Shards of all points: the fewest that give each worker as many, subjects as even and as contiguous as can be."""
    wholes = [(point, variant) for point in points for variant in point.protocol.variants]
    pieces = math.lcm(len(wholes), workers) // max(len(wholes), 1)
    return [
        Shard(point, variant, members.tolist())
        for point, variant in wholes
        for members in np.array_split(np.arange(point.protocol.subjects), min(pieces, point.protocol.subjects))
    ]


def prepare(points: Sequence[Point], workers: int, resume: bool, overwrite: bool) -> list[Shard]:
    """The shards that are to be run, once it is sure that nothing is overwritten or resumed by mistake.

    raises  CortexffError where files are there and neither ``resume`` nor ``overwrite`` was asked for; where there is
            nothing to resume; or where what is there was begun with other settings or another number of workers
    """
    shards = cut(points, workers)
    if not resume:
        for place in (place for point in points for place in (point.out, point.folder)):
            if place.exists() and not overwrite:
                raise CortexffError(f"{place} exists: give --out another file, --overwrite it, or --resume it")
        for point in points:
            try:
                point.out.unlink(missing_ok=True)
                shutil.rmtree(point.folder, ignore_errors=True)
                point.folder.mkdir(parents=True)  # from here on there is something to resume
            except OSError as error:
                raise CortexffError(f"cannot write {point.out}: {error}") from error
        return shards
    begun = [point for point in points if point.out.exists() or point.folder.exists()]
    if not begun:
        raise CortexffError(f"--resume: there is no {points[0].folder} to go on with; run without --resume")
    finished = []
    for point in begun:
        if point.out.exists():
            if provenance.status_of(point.out, point.origin) != "finished":
                raise CortexffError(f"--resume: {point.out} was begun as one run: resume it without --jobs and --sweep")
            finished.append(point)
        known = {shard.path for shard in shards if shard.point is point}
        for path in sorted(point.folder.glob("*.h5")):
            if path not in known | {path_for(shard) for shard in known}:
                raise CortexffError(f"--resume: {path} is of a run with another number of --jobs; give the same again")
            if path in known:
                provenance.status_of(path, point.origin)
    if len(finished) == len(points):
        raise CortexffError(f"--resume: {', '.join(str(p.out) for p in points)} finished; nothing is left to run")
    return [shard for shard in shards if shard.point not in finished]
