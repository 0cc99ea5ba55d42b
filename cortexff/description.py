"""Text files that describe things: YAML 1.2 read with line numbers, and checked, one clear line for a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from cortexff.errors import CortexffError

Schema = TypeVar("Schema", bound=BaseModel)


def read_text(path: Path) -> str:
    """The text of a description; raises CortexffError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CortexffError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CortexffError(f"{path}:{line}: not UTF-8 text (byte {error.object[error.start]:#04x})") from error


def parse(text: str, source: str) -> Any:
    """YAML as plain values that still know their lines (ruamel's ``.lc``).

    source  the file's name, for errors
    raises  CortexffError for a syntax error or a duplicate key, with its line
    """
    try:
        return YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join((error.problem or "not YAML").split())
        raise CortexffError(f"{source}:{mark.line + 1 if mark else 1}: {problem}") from error
    except YAMLError as error:
        raise CortexffError(f"{source}:1: {' '.join(str(error).split())}") from error


def line_of(written: Any, path: Sequence[str | int]) -> int:
    """Line on which the value at a path was written, from 1; the nearest line above it where it was not."""
    line = 1
    for key in path:
        if isinstance(written, Mapping) and key in written:
            line = written.lc.key(key)[0] + 1 if hasattr(written, "lc") else line
        elif (
            isinstance(written, Sequence)
            and not isinstance(written, str)
            and isinstance(key, int)
            and key < len(written)
        ):
            line = written.lc.item(key)[0] + 1 if hasattr(written, "lc") else line
        else:
            break
        written = written[key]
    return line


def holds(written: Any, path: Sequence[str | int]) -> bool:
    """Whether there is anything at a path of nested mappings and lists."""
    for key in path:
        try:
            written = written[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def check(schema: type[Schema], settings: Any, place: Callable[[Sequence[str | int]], str]) -> Schema:
    """Settings as an instance of a pydantic schema.

    place   where the user wrote the setting at a path: "file:line"
    raises  CortexffError for the first mistake: its place, the thing, the value found, the values allowed
    """
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    # Where a value may be of several kinds, pydantic adds the kind it tried to the path.
    path = list(first["loc"])
    while path and not holds(settings, path) and first["type"] != "missing":
        path.pop()
    raise CortexffError(f"{place(path)}: {explain(schema, first, path)}")


def explain(schema: type[BaseModel], mistake: Mapping[str, Any], path: Sequence[str | int]) -> str:
    """One of pydantic's mistakes in the user's words."""
    name = ".".join(map(str, path))
    found = mistake.get("input")
    match mistake["type"]:
        case "extra_forbidden":
            known = known_keys(schema, path[:-1])
            close = difflib.get_close_matches(str(path[-1]), known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            return f"unknown key '{name}'{hint}" + (f" (known: {', '.join(known)})" if known else "")
        case "missing":
            return f"'{name}' is missing"
        case "value_error":
            return (f"{name}: " if name else "") + str(mistake["ctx"]["error"])
        case "literal_error":
            return f"{name}: found {found!r}, allowed: {mistake['ctx']['expected']}"
        case _:
            wanted = mistake["msg"].removeprefix("Input should be ").removeprefix("a valid ")
            return f"{name}: found {found!r}, should be {wanted}"


def known_keys(schema: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Keys that a schema allows at a path; none where the path leaves the schema."""
    from typing import get_args

    for part in path:
        field = next((f for key, f in schema.model_fields.items() if part in (key, f.alias)), None) if schema else None
        if field is None:
            # A key of a mapping of descriptions, or a place in a list: the schema of its values is already in hand.
            continue
        inner = [field.annotation]
        while inner and not (isinstance(inner[0], type) and issubclass(inner[0], BaseModel)):
            inner = [*get_args(inner[0]), *inner[1:]]
            if inner and isinstance(inner[0], type) and not issubclass(inner[0], BaseModel):
                inner = inner[1:]
        if not inner:
            return []
        schema = inner[0]
    return [field.alias or key for key, field in schema.model_fields.items()]
