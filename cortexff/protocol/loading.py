"""Protocol files: read, merged with a preset and with what the command line says, and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cortexff.description import check, holds, line_of, parse, read_text, shown
from cortexff.errors import CortexffError
from cortexff.experiments import EXPERIMENTS, module
from cortexff.protocol import grid
from cortexff.protocol.schedule import Common, Protocol
from cortexff.protocol.settings import merge
from cortexff.resources import find


def assignment(text: str) -> dict[str, Any]:
    """``stages.deprivation.updates=300`` as nested settings; the value is read as YAML."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise CortexffError(f"--set {text}: write it as key.path=value, such as plasticity.learning_rate=0.5")
    nested: Any = parse(value, source=f"--set {path}")
    for key in reversed(path.strip().split(".")):
        nested = {key: nested}
    return nested


def load_protocol(
    name_or_path: str | Path, preset: str = "default", changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Protocol | Common:
    """A checked protocol: the file, then the preset's changes, then those given.

    changes  settings to replace, each under the words that stand for it in an error (``--set seed=x``)
    raises   CortexffError with file, line, the value found and the values allowed
    """
    path = find("protocols", name_or_path)
    written = parse(read_text(path), source=str(path))
    if not isinstance(written, Mapping):
        raise CortexffError(f"{path}:1: a protocol is a mapping of settings, found {shown(written)}")
    presets = written.get("presets") or {}
    if not isinstance(presets, Mapping) or not all(p is None or isinstance(p, Mapping) for p in presets.values()):
        raise CortexffError(f"{path}:{line_of(written, ['presets'])}: presets are names, each with settings to replace")
    if preset != "default" and preset not in presets:
        raise CortexffError(f"{path}: no preset '{preset}' (known: {', '.join(dict.fromkeys(['default', *presets]))})")
    changes = changes or {}
    settings, of_preset = {key: value for key, value in written.items() if key != "presets"}, presets.get(preset) or {}
    if "variants" in of_preset:  # in place of the others, not beside them
        settings.pop("variants", None)
    layers = {f"{path}: preset {preset}": of_preset, **changes}
    for words, layer in layers.items():
        settings = merge(settings, _chosen(settings, layer, words))
    if "stages" in settings and any(isinstance(layer.get("conditions"), list) for layer in layers.values()):
        used = {stage for condition in settings["conditions"].values() for stage in (condition or {}).get("stages", ())}
        known = {name for part in (written, of_preset) for name in part.get("stages") or ()}  # others are mistakes
        settings["stages"] = {
            name: stage for name, stage in settings["stages"].items() if name in used or name not in known
        }

    def place(mistake: Sequence[str | int]) -> str:
        """Where the user wrote a setting: the last layer that has it, or what it should be part of."""
        for end in range(len(mistake), 0, -1):
            part = mistake[:end]
            for words, change in reversed(changes.items()):
                if holds(change, part):
                    return words
            for found in (("presets", preset, *part), part):
                if holds(written, found):
                    return f"{path}:{line_of(written, found)}"
        return f"{path}:1"

    schema = _schema(settings, place)
    if schema is Protocol:
        settings, place = grid.expand(settings, place)
    protocol = check(schema, settings, place)
    own = [replaced or {} for replaced in protocol.variants.values()]
    of_goodness = [("goodness", key) for key, value in protocol.goodness if value is not None]
    for path_of_key in (*of_goodness, *(leaf for change in changes.values() for leaf in _leaves(change))):
        if all(holds(replaced, path_of_key) for replaced in own):
            key = ".".join(path_of_key)
            words = f"{key} has no effect where each variant has its own: set variants.NAME.{key}"
            raise CortexffError(f"{place(path_of_key)}: {words}")
    for variant, replaced in protocol.variants.items():
        check(schema, merge(settings, replaced or {}), lambda mistake, v=variant: place(("variants", v, *mistake)))
    return protocol


def _leaves(nested: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path to every setting that is not a mapping of others."""
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


def _chosen(settings: dict[str, Any], layer: Mapping[str, Any], words: str) -> Mapping[str, Any]:
    """A layer without lists of ``variants`` and ``conditions``: they leave the others out of ``settings``."""
    lists = {key: layer[key] for key in ("variants", "conditions") if isinstance(layer.get(key), list)}
    for key, names in lists.items():
        known = settings.get(key) or {}
        if unknown := [name for name in names if name not in known]:
            raise CortexffError(f"{words}: no {key[:-1]} {shown(unknown[0])} (known: {', '.join(known)})")
        settings[key] = {name: known[name] for name in known if name in names}
        if isinstance(settings.get("table"), Mapping):
            rest = settings[key] if key == "conditions" else None
            settings["table"] = _without(settings["table"], set(known) - set(names), rest)
    asked, known = layer.get("variants"), settings.get("variants") or {}
    dropped = [name for name, changes in (asked.items() if isinstance(asked, Mapping) else ()) if changes is None]
    rest = ", ".join(name for name in known if name not in dropped)
    if dropped and rest:  # where none is left, they are all to change nothing
        raise CortexffError(f"{words}: to leave variant {dropped[0]} out, give --set 'variants=[{rest}]'")
    return {key: value for key, value in layer.items() if key not in lists}


def _without(table: Mapping[str, Any], left_out: set[str], rest: Collection[str] | None) -> dict[str, Any]:
    """A closing table without some variants or conditions.

    rest  the conditions that are left, to be shown where the table had no other; None where variants are left out
    """

    def figures(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        return {name: figures(value) for name, value in part.items() if name not in left_out} or None

    found = dict(table)
    if rest is not None and isinstance(found.get("conditions"), list):
        found["conditions"] = [name for name in found["conditions"] if name not in left_out] or list(rest)
        if found.get("against") in left_out:
            found["against"] = None
    if isinstance(found.get("metrics"), Mapping):
        found["metrics"] = {
            metric: {**row, "paper": figures(row.get("paper"))} if isinstance(row, Mapping) else row
            for metric, row in found["metrics"].items()
        }
    return found


def from_json(settings: str) -> Protocol | Common:
    """The protocol that a results file holds as text."""
    name = json.loads(settings).get("experiment")
    return (Protocol if name is None else module(name).Protocol).model_validate_json(settings)


def _schema(settings: Mapping[str, Any], place: Callable[[Sequence[str | int]], str]) -> type[Common]:
    """The schema of a protocol: that of the runner's, or of the experiment that it names."""
    name = settings.get("experiment")
    if name is None:
        return Protocol
    if name not in EXPERIMENTS:
        allowed = ", ".join(EXPERIMENTS)
        raise CortexffError(f"{place(['experiment'])}: experiment: found {shown(name)}, allowed: {allowed}")
    return module(name).Protocol
