"""Text files that describe things: YAML 1.2 read with line numbers, and checked, one clear line for a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from cortexff.errors import CortexffError

Schema = TypeVar("Schema", bound=BaseModel)

# What pydantic asked for, in the user's words.
WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_pattern_mismatch": "letters, digits, '_', '.', '-' and spaces, beginning with a letter or digit",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of settings",
    "greater_than_equal": "≥ {ge}",
    "greater_than": "> {gt}",
    "less_than_equal": "≤ {le}",
    "less_than": "< {lt}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


class _Constructor(RoundTripConstructor):
    """Makes values of a text's parts; one that cannot be made, such as ``!!int many``, is told with its line."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as error:
            kind = str(node.tag).rpartition(":")[2]
            raise ConstructorError(None, None, f"this cannot be read as {kind}", node.start_mark) from error

    def construct_undefined(self, node: Any) -> Any:
        raise ConstructorError(None, None, f"tag {node.tag} has no meaning here", node.start_mark)


for _tag in (None, *(f"tag:yaml.org,2002:{kind}" for kind in ("set", "omap", "binary"))):
    _Constructor.add_constructor(_tag, _Constructor.construct_undefined)
for _tag in ("str", "timestamp", "value"):  # YAML 1.2 has no dates: they stay text, also a mistaken one
    _Constructor.add_constructor(f"tag:yaml.org,2002:{_tag}", lambda _, node: node.value)


def read_text(path: Path) -> str:
    """The text of a description; raises CortexffError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
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
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor = _Constructor
    try:
        return yaml.load(text)
    except MarkedYAMLError as error:
        line, problem = _syntax_problem(error)
    except ReaderError as error:
        line, problem = text.count("\n", 0, error.position) + 1, f"character {text[error.position]!r} is not allowed"
    except YAMLError as error:
        line, problem = 1, str(error)
    except (RecursionError, TypeError):  # ruamel has no better answer
        line, problem = 1, "a list or mapping is nested too deeply, or is part of itself"
    # An error at the end of a file lies one line below it.
    raise CortexffError(f"{source}:{min(line, max(len(text.splitlines()), 1))}: {' '.join(problem.split())}")


def _syntax_problem(error: MarkedYAMLError) -> tuple[int, str]:
    """Line and words of a syntax error."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "not YAML"
    if problem.startswith("found duplicate key"):
        problem = problem.partition(" with value")[0]
    elif problem.startswith("but "):
        problem = f"{error.context} {problem}"
    elif error.context and error.context_mark:
        problem = f"{problem}, {error.context} that begins on line {error.context_mark.line + 1}"
    if "'\\t'" in problem:
        problem = "a tab where YAML wants spaces"
    return mark.line + 1 if mark else 1, problem


def line_of(written: Any, path: Sequence[str | int]) -> int:
    """Line on which the value at a path was written, from 1; the nearest line above it where it was not."""
    line = 1
    for key in path:
        if not holds(written, [key]):
            break
        # A mapping may also have taken the key from others, by "<<".
        for holder in (written, *getattr(written, "merge", ())):
            places = getattr(getattr(holder, "lc", None), "data", None) or {}
            if key in places:
                line = places[key][0] + 1
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


class Mistake(ValueError):
    """A mistake that only several settings together show, for a pydantic validator to raise.

    path  of the setting to change, from the part that is validated
    """

    def __init__(self, words: str, *path: str | int) -> None:
        super().__init__(words)
        self.path = path


def check(schema: type[Schema], settings: Any, place: Callable[[Sequence[str | int]], str]) -> Schema:
    """Settings as an instance of a pydantic schema.

    place   where the user wrote the setting at a path: "file:line"
    raises  CortexffError for the first mistake: its place, the thing, the value found, the values allowed
    """
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        # A misspelt key is often a missing one too: say the former.
        first = min(error.errors(include_url=False), key=lambda mistake: mistake["type"] != "extra_forbidden")
    path = [*first["loc"], *getattr(first.get("ctx", {}).get("error"), "path", ())]
    if first["type"] == "invalid_key":
        path[-1] = first["input"]
    elif path[-1:] == ["[key]"]:
        path[-2:] = [first["input"]]
    # Where a value may be of several kinds, pydantic adds the kind it tried to the path.
    while path and not holds(settings, path) and first["type"] != "missing":
        path.pop()
    raise CortexffError(f"{place(path)}: {explain(schema, first, path)}")


def shown(value: Any) -> str:
    """A value as an error shows it: as in YAML, short, on one line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case Mapping():
            return "a mapping"
        case list():
            text = f"[{', '.join('[…]' if isinstance(part, list) else shown(part) for part in value)}]"
        case str():
            text = repr(str(value))
        case _:
            text = repr(value)
    return text if len(text) <= 80 else f"{text[:78]}…{text[-1]}"


def explain(schema: type[BaseModel], mistake: Mapping[str, Any], path: Sequence[Any]) -> str:
    """One of pydantic's mistakes in the user's words."""
    if mistake["type"] == "invalid_key" or (mistake["loc"][-1:] == ("[key]",) and mistake["type"] == "string_type"):
        return f"found the name {shown(mistake['input'])}, should be text: write it in quotes"
    name = shown(".".join(map(str, path)))[1:-1]
    found = shown(mistake.get("input"))
    match mistake["type"]:
        case "extra_forbidden":
            known = known_keys(schema, path[:-1])
            elsewhere = sorted(places_of(str(path[-1]), schema), key=lambda place: place.split(".")[0] != str(path[0]))
            close = elsewhere or difflib.get_close_matches(str(path[-1]), known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            return f"unknown key '{name}'{hint}" + (f" (known: {', '.join(known)})" if known else "")
        case "missing":
            return f"'{name}' is missing"
        case "value_error":
            error = mistake["ctx"]["error"]
            return str(error) if isinstance(error, Mistake) or not name else f"{name}: {error}"
        case "literal_error":
            return f"{name}: found {found}, allowed: {mistake['ctx']['expected']}"
        case kind:
            wanted = WANTED[kind].format(**mistake.get("ctx", {})) if kind in WANTED else mistake["msg"]
            if kind == "too_short" and isinstance(mistake["input"], Mapping):
                wanted = wanted.replace("a list", "a mapping")
            return f"{name}: found {found}, should be {wanted}"


def places_of(key: str, schema: type[BaseModel], above: str = "") -> list[str]:
    """Paths at which a schema knows a key; NAME stands for names that the user gives."""
    found, deeper = [], []
    for name, field in schema.model_fields.items():
        path = f"{above}{field.alias or name}"
        if (field.alias or name) == key:
            found.append(path)
        for inner in _schemas(field.annotation):
            named = get_origin(field.annotation) is dict
            deeper += places_of(key, inner, f"{path}.{'NAME.' if named else ''}")
    return found + deeper


def _schemas(annotation: Any) -> list[type[BaseModel]]:
    """Schemas that an annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [schema for part in get_args(annotation) for schema in _schemas(part)]


def known_keys(schema: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Keys that a schema allows at a path; none where the path leaves the schema."""
    for part in path:
        field = next((f for key, f in schema.model_fields.items() if part in (key, f.alias)), None) if schema else None
        if field is None:
            # A key of a mapping of descriptions, or a place in a list: the schema of its values is already in hand.
            continue
        inner = _schemas(field.annotation)
        if not inner:
            return []
        schema = inner[0]
    return [field.alias or key for key, field in schema.model_fields.items()]
