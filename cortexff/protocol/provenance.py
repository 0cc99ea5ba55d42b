"""Where a run came from: opens its results file with that in it, and tells two runs apart."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import networkx as nx

from cortexff.description import read_text
from cortexff.engines import ranks
from cortexff.environment import machine, now
from cortexff.errors import CortexffError
from cortexff.graph import hidden_areas
from cortexff.log import Log, open_file
from cortexff.protocol.engine import most_blocks
from cortexff.protocol.loading import from_json
from cortexff.protocol.schedule import Common
from cortexff.resources import PREREGISTRATION, find


def origin(protocol: Common, net: nx.MultiDiGraph, name_or_path: str, preset: str) -> dict[str, Any]:
    """What is known of a run before it begins, wherever it will run."""
    path = find("protocols", name_or_path)
    predicted = path.with_name(f"{path.stem}{PREREGISTRATION}.yaml")
    return {
        "title": protocol.title,
        "protocol_name": Path(name_or_path).stem,
        "preset": preset,
        "protocol": read_text(path),
        **({"preregistration": hashlib.sha256(predicted.read_bytes()).hexdigest()} if predicted.is_file() else {}),
        "settings": protocol.model_dump_json(by_alias=True),
        "model": net.graph["text"],
        "model_source": Path(net.graph["source"]).name,
        "seed": protocol.seed,
        "command_line": "python -m cortexff.protocol " + shlex.join(sys.argv[1:]),
    }


def open_log(
    out: Path,
    protocol: Common,
    net: nx.MultiDiGraph,
    labels: int | None,
    origin: Mapping[str, Any],
    resume: bool = False,
    overwrite: bool = False,
    subjects: Sequence[int] | None = None,
) -> Log:
    """A new log that says where its run came from, or with ``resume`` the log of a run that was not finished.

    labels    number of labels that an image is tried with, where there are images
    subjects  their numbers, where not all of the protocol's
    returns   where several ranks share the run, the file on the first and a copy in memory on each other
    raises    CortexffError where there is nothing to resume, or it was begun with other settings
    """
    if resume and not out.exists():
        raise CortexffError(f"--resume: there is no {out} to go on with; run without --resume")
    if resume and status_of(out, origin) == "finished":
        raise CortexffError(f"--resume: {out} is finished; nothing is left to run")
    first = ranks.number() == 0
    if first:
        ranks.any_of(False)  # waits: the others must have read a file before it is written on
    if resume:
        log = Log.reopen(out, in_memory=not first)
    else:
        here = {
            "versions": json.dumps(_versions()),
            "git_commit": _git_commit(),
            "machine": machine(),
            "started": now(),
            "seconds": 0.0,  # the log counts for how long it is written on; pauses are none of it
        }
        dimensions = {
            "subject": list(range(protocol.subjects) if subjects is None else subjects),
            "area": hidden_areas(net),
            "block": list(range(most_blocks(protocol, net))),
        }
        if labels is not None:
            dimensions["label"] = list(range(labels))
        if "oscillation" in getattr(protocol, "measures", ()):
            dimensions["step"] = list(range(1, protocol.engine.steps + 1))
        log = Log.create(out, {**origin, **here}, dimensions, overwrite=overwrite, in_memory=not first)
    if not first:
        ranks.any_of(False)
    return log


def status_of(out: Path, origin: Mapping[str, Any]) -> str:
    """How the run of a results file ended; raises CortexffError where it was begun with other settings or model."""
    with open_file(out) as results:
        before = {key: results.attrs[key] for key in ("settings", "model", "status")}
    if changed := difference(before, origin):
        raise CortexffError(
            f"--resume: {out} was begun with other settings ({changed}); use the same, or --out another file"
        )
    return before["status"]


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting in which two runs differ, or that their models do; None where they are the same."""
    models = None if before["model"] == now["model"] else "the model's text"
    return _first_difference(*(_settings(run["settings"]) for run in (before, now))) or models


def _settings(text: str) -> dict:
    """All settings of a run; those that an earlier version of cortexff did not know have their defaults."""
    try:
        return json.loads(from_json(text).model_dump_json(by_alias=True))
    except ValueError:  # settings that this version no longer knows
        return json.loads(text)


def _first_difference(before: dict, now: dict, path: str = "") -> str | None:
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if found := _first_difference(old, new, f"{path}{key}."):
                return found
        elif old != new:
            return f"{path}{key} was {old}, now {new}"
    return None


def _versions() -> dict[str, str]:
    packages = ("cortexff", "torch", "numpy", "h5py", "networkx", "brian2")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _git_commit() -> str:
    """Commit of the checkout that this package runs from, "-dirty" where it was changed; empty where there is none."""
    try:
        folder = Path(__file__).resolve().parents[1]
        tree, commit = (
            subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--show-toplevel"], ["describe", "--always", "--dirty", "--abbrev=40"])
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit if Path(tree) == folder.parent else ""
