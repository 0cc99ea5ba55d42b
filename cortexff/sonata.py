"""Spikes in a results file, as SONATA lays them out (Dai et al. 2020), so that libsonata and bmtk read them.

Trials, presentations of an image with a label, lie one behind the other in a time of their own. ``/spikes/AREA`` says
when which unit spikes, ``/report/AREA`` gives the trace of each unit every ``SAMPLE`` ms, and the table ``/trials``
tells when each trial begins and what is shown. An area that is named like a dimension of the file, as ``label`` is,
goes by ``label_area`` there, and its own name is the attribute ``area``: xarray opens no file in which the two meet.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import h5py
import numpy as np

from cortexff.errors import CortexffError
from cortexff.log import Log, Variable, dimension_only

SAMPLE = 5.0  # ms between two samples of a trace; a trial begins on one
MAGIC, VERSION = np.uint32(0x0A7A), np.array([0, 1], dtype="u4")
SORTING = h5py.enum_dtype({"none": 0, "by_id": 1, "by_time": 2}, basetype="i1")
ROWS = 8192  # spikes of a chunk


@dataclass(frozen=True)
class Trial:
    """A presentation with all its spikes. Times are in ms from its beginning.

    variant, condition, subject_number  whose
    image_set                           that was probed: test, validation or training
    stimulus                            number of the image among those that were probed
    true_label, shown_label             of the image; that it is shown with
    label_at                            when label and feedback begin
    duration                            of the whole
    read_from, read_until               iterations between which goodness is read out
    iteration                           over which traces are averaged before goodness is read
    spikes                              area → times, ascending, and the number of the unit that spikes at each
    traces                              hidden area → (samples, units), one at the beginning and every ``SAMPLE``
    """

    variant: str
    condition: str
    subject_number: int
    image_set: str
    stimulus: int
    true_label: int
    shown_label: int
    label_at: float
    duration: float
    read_from: float
    read_until: float
    iteration: float
    spikes: Mapping[str, tuple[np.ndarray, np.ndarray]]
    traces: Mapping[str, np.ndarray]


TRIAL_VARIABLES = {
    "variant": Variable(("trial",), "1", "variant of the protocol", dtype="str"),
    "condition": Variable(("trial",), "1", "condition, at its end", dtype="str"),
    "subject_number": Variable(("trial",), "1", "subject", dtype="i8"),
    "image_set": Variable(("trial",), "1", "images that were probed", dtype="str"),
    "stimulus": Variable(("trial",), "1", "number of the image among those that were probed", dtype="i8"),
    "true_label": Variable(("trial",), "1", "true label of the image", dtype="i8"),
    "shown_label": Variable(("trial",), "1", "label that the image is shown with", dtype="i8"),
    "start": Variable(("trial",), "ms", "when the image comes", dtype="f8"),
    "label_at": Variable(("trial",), "ms", "when label and feedback begin", dtype="f8"),
    "stop": Variable(("trial",), "ms", "when the image goes", dtype="f8"),
    "read_from": Variable(("trial",), "ms", "when the iterations begin over which goodness is read out", dtype="f8"),
    "read_until": Variable(("trial",), "ms", "when they end", dtype="f8"),
    "iteration": Variable(("trial",), "ms", "length of one: traces are averaged over it", dtype="f8"),
}
SINCE_START = ("label_at", "read_from", "read_until")  # a trial counts from its beginning, the file from the first


def append(log: Log, trial: Trial) -> None:
    """Add a trial behind those that are there."""
    file, count = log.file, log.length("trials")
    if not count:
        log.declare("trials", growing="trial", variables=TRIAL_VARIABLES)
        file.attrs.update({"magic": MAGIC, "version": VERSION})
    _check(file)
    samples = _samples(file, count)
    truncate(log, count)  # what is left of one that was cut short
    start = samples * SAMPLE
    for area, (times, units) in trial.spikes.items():
        group = _population(file, "spikes", area) or _spikes_of(file, area)
        kept = len(group["timestamps"])
        _resize(group, "spikes", kept + len(times))
        group["timestamps"][kept:] = start + times
        group["node_ids"][kept:] = units
    for area, traces in trial.traces.items():
        group = _population(file, "report", area) or _report_of(file, area, traces.shape[1])
        _resize(group, "report", samples + len(traces))
        group["data"][samples:] = traces
    known = {name: getattr(trial, name) for name in TRIAL_VARIABLES if hasattr(trial, name)}
    times = {name: start + getattr(trial, name) for name in SINCE_START}
    log.append("trials", known | times | {"start": start, "stop": start + trial.duration})


def truncate(log: Log, count: int) -> None:
    """Forget all but so many trials, such as those since the last checkpoint."""
    if "trials" not in log.file:
        return
    log.truncate("trials", count)
    samples = _samples(log.file, count)
    for kind in ("spikes", "report"):
        for group in log.file[kind].values() if kind in log.file else ():
            _resize(group, kind, samples if kind == "report" else _before(group, samples * SAMPLE))
    log.flush()


def trials(file: h5py.File, variant: str | None = None) -> Iterator[Trial]:
    """Every trial of a results file, or of one variant, in order; none where no spikes were kept.

    raises  CortexffError where they were kept by a version of cortexff that did not say yet what was read out when
    """
    if "trials" not in file:
        return
    _check(file)
    columns = ((name, file["trials"][name]) for name in TRIAL_VARIABLES)
    table = {name: (column.asstr() if column.dtype.kind == "O" else column)[:].tolist() for name, column in columns}
    for row in zip(*table.values(), strict=True):
        about = dict(zip(table, row, strict=True))
        if variant not in (None, about["variant"]):
            continue
        start, stop = about.pop("start"), about.pop("stop")
        about |= {name: about[name] - start for name in SINCE_START} | {"duration": stop - start}
        spikes = {}
        for group in file["spikes"].values():
            span = slice(_before(group, start), _before(group, stop))
            spikes[group.attrs["area"]] = (group["timestamps"][span] - start, group["node_ids"][span])
        first = round(start / SAMPLE)
        span = slice(first, first + samples_of(about["duration"]))
        yield Trial(
            **about,
            spikes=spikes,
            traces={group.attrs["area"]: group["data"][span] for group in file["report"].values()},
        )


def samples_of(duration: float) -> int:
    """Samples of a trial's traces; the next one begins where one more would be."""
    return math.floor(duration / SAMPLE + 1e-6) + 1


def missing(file: h5py.File) -> str | None:
    """The first column that an earlier version of cortexff left out of ``/trials``; None where none is missing."""
    return next((name for name in TRIAL_VARIABLES if "trials" in file and name not in file["trials"]), None)


def _check(file: h5py.File) -> None:
    if name := missing(file):
        raise CortexffError(f"{file.filename}: /trials is of an earlier version, without {name}: run it again")


def _samples(file: h5py.File, count: int) -> int:
    """Samples of so many trials."""
    if not count:
        return 0
    start, stop = (float(file["trials"][name][count - 1]) for name in ("start", "stop"))
    return round(start / SAMPLE) + samples_of(stop - start)


def _population(file: h5py.File, kind: str, area: str) -> h5py.Group | None:
    """The group of an area under ``spikes`` or ``report``, where there is one."""
    return next((group for group in file.get(kind, {}).values() if group.attrs["area"] == area), None)


def _new_population(file: h5py.File, kind: str, area: str) -> h5py.Group:
    name = area
    while isinstance(file.get(name), h5py.Dataset) or f"{kind}/{name}" in file:
        name += "_area"
    group = file.create_group(f"{kind}/{name}", track_order=True)
    group.attrs["area"] = area
    return group


def _spikes_of(file: h5py.File, area: str) -> h5py.Group:
    """The group of an area that has not spiked yet."""
    group = _new_population(file, "spikes", area)
    group.attrs.create("sorting", 2, dtype=SORTING)
    # Nothing here is compressed: the libsonata of the package index comes without zlib.
    spike = dimension_only(group, "spike", 0)
    about = {
        "timestamps": ("f8", "ms", "when a unit spikes"),
        "node_ids": ("u8", "1", "number of the unit in its area"),
    }
    for name, (dtype, units, meaning) in about.items():
        dataset = group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(ROWS,))
        dataset.attrs.update({"units": units, "long_name": meaning})
        dataset.dims[0].attach_scale(spike)
    return group


def _report_of(file: h5py.File, area: str, units: int) -> h5py.Group:
    """The group of an area whose traces have not been seen yet."""
    group = _new_population(file, "report", area)
    sample, unit = dimension_only(group, "sample", 0), dimension_only(group, "unit", units)
    data = group.create_dataset("data", (0, units), "f4", maxshape=(None, units), chunks=(64, units))
    data.attrs.update({"units": "activity", "long_name": "trace of each unit"})
    for place, scale in enumerate((sample, unit)):
        data.dims[place].attach_scale(scale)
    mapping = group.create_group("mapping", track_order=True)
    fixed = {
        "node_ids": (np.arange(units, dtype="u8"), unit),
        "element_ids": (np.zeros(units, dtype="u4"), unit),
        "index_pointers": (np.arange(units + 1, dtype="u8"), dimension_only(mapping, "pointer", units + 1)),
        "time": (np.array([0.0, 0.0, SAMPLE]), dimension_only(mapping, "limit", 3)),  # begin, end, step
    }
    for part, (values, scale) in fixed.items():
        mapping.create_dataset(part, data=values).dims[0].attach_scale(scale)
    mapping["node_ids"].attrs["sorted"] = np.uint8(1)
    mapping["time"].attrs["units"] = "ms"
    return group


def _resize(group: h5py.Group, kind: str, rows: int) -> None:
    for name in ("spike", "timestamps", "node_ids") if kind == "spikes" else ("sample", "data"):
        group[name].resize(rows, axis=0)
    if kind == "report":
        group["mapping/time"][1] = rows * SAMPLE


def _before(group: h5py.Group, time: float) -> int:
    """Number of spikes of an area before a time."""
    return bisect_left(group["timestamps"], time)
