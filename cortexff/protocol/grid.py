"""Conditions that stand for many: one for every combination of some settings of their stage.

A condition with ``grid: {cycle: [1, 16], plasticity: {learning_rate: [0.5, 5]}}`` becomes four, which all begin where
it would have begun. Each has the condition's last stage for itself, with its own settings in place, and is named after
them, by their initials: ``separated c16 lr0.5``. Everything later, and the results file, knows these alone.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cortexff.description import shown
from cortexff.errors import CortexffError

Path = tuple[str, ...]
Place = Callable[[Sequence[str | int]], str]


def expand(settings: Mapping[str, Any], place: Place) -> tuple[dict[str, Any], Place]:
    """Settings of a protocol with every grid carried out.

    place    where the user wrote the setting at a path: "file:line"
    returns  the settings, and where the user wrote what stands at a path of theirs
    raises   CortexffError with the place of a grid that cannot be carried out
    """
    conditions, stages = settings.get("conditions"), settings.get("stages")
    grids = {
        name: condition
        for name, condition in (conditions.items() if isinstance(conditions, Mapping) else ())
        if isinstance(condition, Mapping) and "grid" in condition
    }
    if not grids or not isinstance(stages, Mapping):
        return dict(settings), place
    expanded = copy.deepcopy(dict(settings))
    expanded["conditions"], expanded["stages"] = {}, dict(stages)
    written: dict[str, tuple[str, str, list[Path]]] = {}  # cell → condition, stage and settings as written
    for name, condition in conditions.items():
        if name not in grids:
            expanded["conditions"][name] = condition
            continue
        axes, stage = _axes(name, condition["grid"], place), _last_stage(name, condition, stages, place)
        for values in itertools.product(*axes.values()):
            cell = _name(name, dict(zip(axes, values, strict=True)))
            if cell in conditions or cell in stages or cell in written:
                words = f"condition {name}: two of its grid, or another condition or stage, have the name '{cell}'"
                raise CortexffError(f"{place(('conditions', name, 'grid'))}: {words}: change one of them")
            written[cell] = (name, stage, list(axes))
            others = {key: value for key, value in condition.items() if key != "grid"}
            expanded["conditions"][cell] = {**others, "stages": [*condition["stages"][:-1], cell]}
            expanded["stages"][cell] = _with(stages[stage], axes, values)
    _change_cells_too(expanded, written)
    used = {stage for condition in expanded["conditions"].values() for stage in _stages(condition)}
    for stage in {stage for _, stage, _ in written.values()} - used:  # it may lack what only its cells have
        for part in (expanded, *(expanded.get("variants") or {}).values()):
            if isinstance(part, Mapping) and isinstance(part.get("stages"), Mapping):
                part["stages"] = {name: value for name, value in part["stages"].items() if name != stage}

    def place_of(path: Sequence[str | int]) -> str:
        match list(path):
            case ["conditions", cell, *inner] if cell in written:
                return place(("conditions", written[cell][0], *inner))
            case ["stages", cell, *inner] if cell in written:
                name, stage, axes = written[cell]
                of_grid = any(tuple(inner[: len(axis)]) == axis for axis in axes)
                return place(("conditions", name, "grid", *inner) if of_grid else ("stages", stage, *inner))
        return place(path)

    return expanded, place_of


def _axes(name: str, grid: Any, place: Place) -> dict[Path, Sequence[Any]]:
    """Path of each setting in the stage → its values."""
    found: dict[Path, Sequence[Any]] = {}

    def walk(part: Any, path: Path) -> None:
        if isinstance(part, Mapping) and part:
            for key, inner in part.items():
                walk(inner, (*path, str(key)))
        elif path and isinstance(part, Sequence) and not isinstance(part, str) and part:
            found[path] = part
        else:
            words = f"condition {name}: {'.'.join(('grid', *path))} should be settings of its stage, each with a list"
            raise CortexffError(f"{place(('conditions', name, 'grid', *path))}: {words} of values; found {shown(part)}")

    walk(grid, ())
    return found


def _last_stage(name: str, condition: Mapping[str, Any], stages: Mapping[str, Any], place: Place) -> str:
    """The stage that a grid changes."""
    last = (_stages(condition) or [None])[-1]
    if not isinstance(last, str) or not isinstance(stages.get(last), Mapping):
        words = f"condition {name} has a grid, but its last stage, {shown(last)}, is not known"
        raise CortexffError(f"{place(('conditions', name, 'stages'))}: {words} (known: {', '.join(map(str, stages))})")
    return last


def _stages(condition: Any) -> list[Any]:
    """Names of a condition's stages; none where they are no list, of which the schema will tell."""
    listed = condition.get("stages") if isinstance(condition, Mapping) else None
    return list(listed) if isinstance(listed, Sequence) and not isinstance(listed, str) else []


def _name(condition: str, settings: Mapping[Path, Any]) -> str:
    """Name of a cell: its condition, and the initials of each setting with its value."""
    initials = ("".join(word[:1] for word in path[-1].split("_")) for path in settings)
    values = (f"{value:g}" if isinstance(value, float) else str(value) for value in settings.values())
    words = (initial + value for initial, value in zip(initials, values, strict=True))
    return re.sub(r"[^A-Za-z0-9_.-]+", " ", " ".join([condition, *words])).strip()


def _with(stage: Mapping[str, Any], axes: Mapping[Path, Any], values: Sequence[Any]) -> dict[str, Any]:
    """A copy of a stage with a value at each path."""
    changed = copy.deepcopy(dict(stage))
    for path, value in zip(axes, values, strict=True):
        part = changed
        for key in path[:-1]:
            inner = part.get(key)
            part[key] = dict(inner) if isinstance(inner, Mapping) else {}  # a number may stand for a section
            part = part[key]
        part[path[-1]] = value
    return changed


def _change_cells_too(settings: dict[str, Any], written: Mapping[str, tuple[str, str, list[Path]]]) -> None:
    """What a variant changes of a stage, it changes of the cells that have it; their own settings stay."""
    for variant in (settings.get("variants") or {}).values():
        changed = variant.get("stages") if isinstance(variant, Mapping) else None
        if not isinstance(changed, Mapping):
            continue
        for cell, (_, stage, axes) in written.items():
            if isinstance(changed.get(stage), Mapping):
                own = settings["stages"][cell]
                kept = [_at(own, axis) for axis in axes]
                variant["stages"] = {**variant["stages"], cell: _with(changed[stage], dict.fromkeys(axes), kept)}


def _at(stage: Mapping[str, Any], path: Path) -> Any:
    for key in path:
        stage = stage[key]
    return stage
