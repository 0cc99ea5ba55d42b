"""Joins the files of a run's shards into one: the file of the run done at once, up to rounding.

A cohort is probed until its last subject has reached a stage's criterion (``until``). A shard whose subjects have all
reached it goes on to the next stage, and lacks those rows; but in the cohort, too, they had stopped learning: each row
that is missing equals the one before it, age and all, and is filled in from there.
"""

from __future__ import annotations

import itertools
import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cortexff import sonata
from cortexff.errors import CortexffError
from cortexff.log import Log, contents, open_file, variable_of
from cortexff.protocol import table
from cortexff.protocol.provenance import difference
from cortexff.protocol.schedule import Protocol

MAY_DIFFER = ("git_commit", "machine", "command_line")  # between shards: all that were met are kept
RowKey = tuple[int, int, int]  # update, place of the stage in its condition, count where these two come again


def merge(paths: Sequence[str | Path], out: str | Path, overwrite: bool = False) -> list[table.Row]:
    """Join finished shards of one run into one results file with its closing table, and return the table.

    ``merge(glob("results/recurrent/quick.shards/*.h5"), "results/recurrent/quick.h5")``

    paths   files that each hold some variants of some subjects; together all of the run, each once; in any order
    raises  CortexffError naming the files and where they differ, overlap or leave something out
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise CortexffError(f"{out} exists: merge into another file, or let it be overwritten")
    if not paths:
        raise CortexffError(f"nothing to merge into {out}: no files were given")
    partial = out.with_suffix(".partial")  # so that a file named `out` is always whole
    with ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        files = [stack.enter_context(open_file(path)) for path in paths]
        _check_same_run(files)
        first = files[0]
        protocol = Protocol.model_validate_json(first.attrs["settings"])
        dimensions = {name: contents(item).tolist() for name, item in first.items() if isinstance(item, h5py.Dataset)}
        dimensions["subject"] = list(range(protocol.subjects))
        with Log.create(partial, _provenance(files), dimensions, overwrite=True) as log:
            for variant in protocol.variants:
                parts = _parts(files, variant, protocol)
                for condition in protocol.conditions:
                    _join(log, f"{variant}/{condition}", parts, protocol.variant(variant))
                for part in parts:
                    for trial in sonata.trials(part, variant):
                        sonata.append(log, trial)
            log.flush()
            rows = table.build(partial, protocol, first.attrs["protocol_name"], first.attrs["preset"])
            table.write(log, rows)
        os.replace(partial, out)
    return rows


def _check_same_run(files: Sequence[h5py.File]) -> None:
    for file in files:
        if file.attrs["status"] != "finished":
            raise CortexffError(f"{file.filename} is {file.attrs['status']}, not finished: resume it before merging")
        for name in ("settings", "model", "protocol_name", "preset", "started", "finished"):
            if name not in file.attrs:
                raise CortexffError(f"{file.filename} is no shard of a run: it does not tell its {name}")
        if differs := difference(files[0].attrs, file.attrs):
            raise CortexffError(f"{files[0].filename} and {file.filename} are of different runs: {differs}")


def _provenance(files: Sequence[h5py.File]) -> dict[str, Any]:
    about = [dict(file.attrs) for file in files]
    versions = [json.loads(attributes["versions"]) for attributes in about if "versions" in attributes]
    together = {name: [attributes[name] for attributes in about if name in attributes] for name in MAY_DIFFER}
    left_out = ("Conventions", "log_format", "status", "seconds", "magic", "version")
    seconds = [attributes["seconds"] for attributes in about if "seconds" in attributes]
    return {
        **{name: value for name, value in about[0].items() if name not in left_out},
        **{name: _distinct(values) for name, values in together.items() if values},
        "versions": json.dumps({name: _distinct([v.get(name, "none") for v in versions]) for name in versions[0]}),
        "started": min(attributes["started"] for attributes in about),
        "finished": max(attributes["finished"] for attributes in about),
        **({"seconds": sum(seconds)} if len(seconds) == len(about) else {}),
    }


def _distinct(texts: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _parts(files: Sequence[h5py.File], variant: str, protocol: Protocol) -> list[h5py.File]:
    """The files of one variant; each subject must be in exactly one of them."""
    parts = [file for file in files if variant in file]
    owner: dict[int, h5py.File] = {}
    for part in parts:
        for subject in part["subject"][:].tolist():
            if subject in owner:
                names = f"{owner[subject].filename} and {part.filename}"
                raise CortexffError(f"{names} both have subject {subject} of variant {variant}: merge one of them")
            owner[subject] = part
    if missing := [subject for subject in range(protocol.subjects) if subject not in owner]:
        lacking = f"subjects {', '.join(map(str, missing))} of variant {variant}"
        raise CortexffError(f"{lacking} are in none of {', '.join(file.filename for file in files)}")
    return parts


def _join(log: Log, group: str, parts: Sequence[h5py.File], protocol: Protocol) -> None:
    """Write one condition of one variant: rows of all parts side by side, subjects in order."""
    first = parts[0][group]
    order = np.argsort(np.concatenate([part["subject"][:] for part in parts]))
    keys = [_keys(part[group], protocol) for part in parts]
    union = sorted(set(itertools.chain(*keys)))
    shown = [_rows_shown(part[group], mine, union, protocol) for part, mine in zip(parts, keys, strict=True)]
    owner = [next(p for p, mine in enumerate(keys) if key in mine) for key in union]
    variables = {name: variable_of(item) for name, item in first.items()}
    growing = {name: variable for name, variable in variables.items() if first[name].maxshape[:1] == (None,)}

    def joined(name: str) -> np.ndarray:
        dims, values = variables[name].dims, [contents(part[group][name]) for part in parts]
        if name in growing:
            values = [value[rows] for value, rows in zip(values, shown, strict=True)]
        if "subject" in dims:
            return np.concatenate(values, axis=dims.index("subject")).take(order, axis=dims.index("subject"))
        if name in growing:
            return np.array([values[p][row] for row, p in enumerate(owner)], dtype=values[0].dtype)
        for part, value in zip(parts, values, strict=True):
            if not np.array_equal(value, values[0]):
                raise CortexffError(f"{parts[0].filename} and {part.filename} differ in {group}/{name}")
        return values[0]

    log.declare(group, variables=growing)
    columns = {name: joined(name) for name in growing if name != "probe"}
    for row in range(len(union)):
        log.append(group, {name: column[row] for name, column in columns.items()})
    for name, variable in variables.items():
        if name not in growing and "units" in first[name].attrs:  # else a dimension without coordinates
            log.write(group, name, joined(name), variable)


def _keys(group: h5py.Group, protocol: Protocol) -> list[RowKey]:
    """Where in the plan of its condition each row lies: keys that order as the plan does."""
    stages = protocol.conditions[group.name.split("/")[-1]].stages
    keys: list[RowKey] = []
    place = 0
    for update, stage in zip(group["update"][:].tolist(), group["stage"].asstr()[:], strict=True):
        place = stages.index(stage, place)  # a stage may come twice
        again = sum(key[:2] == (update, place) for key in keys)
        keys.append((update, place, again))
    return keys


def _rows_shown(group: h5py.Group, mine: list[RowKey], union: list[RowKey], protocol: Protocol) -> list[int]:
    """For each row of the whole, the part's own: the same, or the last before it once all its subjects had stopped."""
    rows = [bisect_right(mine, key) - 1 for key in union]
    stages = protocol.conditions[group.name.split("/")[-1]].stages
    for key, row in zip(union, rows, strict=True):
        update, place, _ = key
        if row < 0 or (mine[row] != key and protocol.stages[stages[place]].until is None):
            where = f"{group.name.strip('/')} after update {update} ({stages[place]})"
            raise CortexffError(f"{group.file.filename} has no probe of {where}, which another shard has")
    return rows
