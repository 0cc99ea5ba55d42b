"""The file from which an interrupted run resumes: written under a temporary name, then renamed, so it is never half."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cortexff.errors import CortexffError


def path_for(results: Path) -> Path:
    """Where the checkpoint of a results file lies: beside it."""
    return results.with_suffix(".checkpoint.h5")


def save(path: Path, arrays: Mapping[str, np.ndarray], position: Mapping[str, Any]) -> None:
    """Replace the checkpoint.

    arrays    every array that the run has changed, by name
    position  how far the run had come: anything JSON can hold
    """
    temporary = path.with_suffix(".partial")
    with h5py.File(temporary, "w") as file:
        file.attrs["position"] = json.dumps(position)
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    os.replace(temporary, path)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What :func:`save` was given. Raises CortexffError where there is no checkpoint or it cannot be read."""
    if not path.is_file():
        raise CortexffError(f"no checkpoint {path} to resume from: run without --resume")
    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            position = json.loads(file.attrs["position"])
            file.visititems(
                lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise CortexffError(f"{path} is not a checkpoint that can be read ({error}): run without --resume") from error
    return arrays, position
