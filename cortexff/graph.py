"""Models: cortical areas and the projections between them, read from a text file into a networkx graph.

An area is a node, a projection a keyed edge (several may join one pair of areas). The graph alone says who speaks to
whom; it is checked once, here, and engines then take it as it is.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

import networkx as nx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from ruamel.yaml import YAML

from cortexff.description import check, line_of, parse, read_text, shown
from cortexff.errors import CortexffError
from cortexff.receptive_fields import ReceptiveField, every_field_is_on_map
from cortexff.resources import find

FORMAT = "cortexff-model/1"


def _said(wanted: str) -> WrapValidator:
    """One answer to whatever is wrong with a value of several parts, or of several possible kinds."""

    def validate(value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"found {shown(value)}, should be {wanted}") from None

    return WrapValidator(validate)


def _printable(name: str) -> str:
    # Files of results are laid out by these names.
    if not re.match(r"\w", name) or not name.isprintable() or "/" in name:
        raise ValueError(
            f"found the name {shown(name)}, should begin with a letter or digit and hold no '/' or line break"
        )
    return name


Whole = Annotated[int, Field(ge=1), _said("a whole number ≥ 1"), Field(le=10**9)]
Positive = Annotated[float, Field(gt=0), _said("a number > 0")]
Name = Annotated[str, AfterValidator(_printable)]
SHAPE = "[rows, columns] or [rows, columns, channels], whole numbers above 0"
SIZE = "a whole number of locations above 0, or two: [rows, columns]"
STRIDE = "a number of locations above 0, or two: [rows, columns]"


@dataclass(frozen=True)
class Goodness:
    """How a hidden area tells real data from negative data (eq. 1).

    measure      ``sum_of_squares`` or ``mean_square`` of a block's activity
    sign         ``max``: high on real data; ``min``: low on real data (§3.5)
    threshold    θ of each block, in units of goodness
    temperature  κ, in units of goodness
    blocks       equal parts of the area, each with a goodness of its own (§5.3)
    """

    measure: str
    sign: str
    threshold: float
    temperature: float
    blocks: int


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _GoodnessText(_Part):
    measure: Literal["sum_of_squares", "mean_square"] = "sum_of_squares"
    sign: Literal["max", "min"] = "max"
    threshold: float | None = None
    temperature: Positive = 1.0
    blocks: Whole = 1

    def resolved(self, units: int) -> Goodness:
        """With the default threshold: a mean square of 1."""
        default = units / self.blocks if self.measure == "sum_of_squares" else 1.0
        threshold = default if self.threshold is None else self.threshold
        return Goodness(self.measure, self.sign, float(threshold), float(self.temperature), self.blocks)


class _Area(_Part):
    role: Literal["input", "hidden", "context"] = "hidden"
    units: Whole | None = None
    shape: Annotated[Annotated[list[Whole], Field(min_length=2, max_length=3)] | None, _said(SHAPE)] = None
    activation: Literal["relu"] = "relu"
    goodness: _GoodnessText | None = None


class _Field(_Part):
    size: Annotated[Whole | Annotated[list[Whole], Field(min_length=2, max_length=2)], _said(SIZE)]
    stride: Annotated[Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] | None, _said(STRIDE)] = (
        None
    )


class _Projection(_Part):
    source: Annotated[str, Field(alias="from")]
    target: Annotated[str, Field(alias="to")]
    name: Name | None = None
    kind: Literal["bottom_up", "top_down", "lateral"] = "bottom_up"
    receptive_field: _Field | None = None


class _Model(_Part):
    format: Literal["cortexff-model/1"]
    description: str = ""
    areas: dict[Name, _Area]
    projections: list[_Projection]


def load_model(name_or_path: str | Path) -> nx.MultiDiGraph:
    """A checked model by name or path. Raises CortexffError with file, line, the value found and those allowed."""
    path = find("models", name_or_path)
    return parse_model(read_text(path), source=str(path))


def parse_model(text: str, source: str = "<text>") -> nx.MultiDiGraph:
    """A checked model from its text: a graph whose nodes and edges carry every setting.

    nodes  ``role``, ``units``, ``shape`` (or None), ``activation``, ``goodness`` (a ``Goodness``; hidden areas only)
    edges  keyed by projection name: ``kind``, ``receptive_field`` (a ``ReceptiveField``, or None for all-to-all)
    graph  ``format``, ``description``, ``text``, ``source``
    """
    written = parse(text, source)
    if not isinstance(written, Mapping):
        wanted = f"a model is a mapping that begins with 'format: {FORMAT}'"
        raise CortexffError(f"{source}:1: {wanted}, found {shown(written)}")
    model = check(_Model, written, lambda path: f"{source}:{line_of(written, path)}")
    return _Builder(model, written, source).build(text)


class _Builder:
    """Checks what needs more than one part of a model to see, and builds the graph."""

    def __init__(self, model: _Model, written: Any, source: str) -> None:
        self.model, self.written, self.source = model, written, source

    def fail(self, path: Sequence[str | int], problem: str) -> None:
        raise CortexffError(f"{self.source}:{line_of(self.written, path)}: {problem}")

    def build(self, text: str) -> nx.MultiDiGraph:
        head = {"format": FORMAT, "description": self.model.description, "text": text, "source": self.source}
        net = nx.MultiDiGraph(**head)
        for name, area in self.model.areas.items():
            self.add_area(net, name, area)
        for number, projection in enumerate(self.model.projections):
            self.add_projection(net, number, projection)
        self.check_whole(net)
        return net

    def add_area(self, net: nx.MultiDiGraph, name: str, area: _Area) -> None:
        at = ("areas", name)
        if area.units is None and area.shape is None:
            self.fail(
                (*at, "units"),
                f"area {name} has no size: give 'units' (a whole number) or 'shape' ([rows, columns, channels])",
            )
        units = math.prod(area.shape) if area.shape else area.units
        if area.units not in (None, units):
            self.fail(
                (*at, "units"), f"area {name} has 'units' {area.units}, but its shape {list(area.shape)} makes {units}"
            )
        if area.goodness is not None and area.role != "hidden":
            self.fail((*at, "goodness"), f"area {name}: only hidden areas have goodness, and its role is '{area.role}'")
        goodness = None
        if area.role == "hidden":
            settings = area.goodness or _GoodnessText()
            if units % settings.blocks:
                self.fail(
                    (*at, "goodness", "blocks"),
                    f"area {name}: {units} units do not divide into {settings.blocks} blocks",
                )
            goodness = settings.resolved(units)
        shape = tuple(area.shape) if area.shape else None
        net.add_node(name, role=area.role, units=units, shape=shape, activation=area.activation, goodness=goodness)

    def add_projection(self, net: nx.MultiDiGraph, number: int, projection: _Projection) -> None:
        at = ("projections", number)
        for key, area in (("from", projection.source), ("to", projection.target)):
            if area not in net:
                self.fail((*at, key), f"projection {key} unknown area {shown(area)} (known: {', '.join(net)})")
        source, target, kind = projection.source, projection.target, projection.kind
        name = projection.name or f"{source}→{target}"
        what = f"projection {name}"
        roles = {area: net.nodes[area]["role"] for area in (source, target)}
        if roles[target] != "hidden":
            self.fail(
                (*at, "to"), f"{what}: area {target} is clamped (role '{roles[target]}'), nothing can project to it"
            )
        wanted = {"input": "bottom_up", "context": "top_down"}.get(roles[source], kind)
        if source == target:
            wanted = "lateral"
        if kind != wanted:
            article = "an" if roles[source] == "input" else "a"
            why = (
                "an area's projection to itself"
                if source == target
                else f"a projection from {article} {roles[source]} area"
            )
            self.fail((*at, "kind"), f"{what}: found kind '{kind}', but {why} must have 'kind: {wanted}'")
        if any(name == key for *_, key in net.edges(keys=True)):
            self.fail(at, f"a second projection is called '{name}': give it a 'name' of its own")
        field = None
        if projection.receptive_field is not None:
            field = self.receptive_field(
                net, (*at, "receptive_field"), what, source, target, projection.receptive_field
            )
        net.add_edge(source, target, key=name, kind=kind, receptive_field=field)

    def receptive_field(
        self, net: nx.MultiDiGraph, at: tuple, what: str, source: str, target: str, given: _Field
    ) -> ReceptiveField:
        shapes = [net.nodes[area]["shape"] for area in (source, target)]
        for area, shape in zip((source, target), shapes, strict=True):
            if shape is None:
                self.fail(
                    at, f"{what} has a receptive field, but area {area} is no map: give it a 'shape: [rows, columns]'"
                )
        topographic = [shapes[0][axis] / shapes[1][axis] for axis in (0, 1)]
        stride = topographic if given.stride is None else given.stride
        size = given.size if isinstance(given.size, list) else [given.size] * 2
        stride = [float(step) for step in (stride if isinstance(stride, list) else [stride] * 2)]
        field = ReceptiveField(tuple(size), tuple(stride))
        for axis in (0, 1):
            if not every_field_is_on_map(shapes[0][axis], shapes[1][axis], size[axis], stride[axis]):
                self.fail(
                    at,
                    f"{what}: with size {size} and stride {stride} some units of {target} read nothing, "
                    f"for area {source} has {shapes[0][0]} rows and {shapes[0][1]} columns",
                )
        return field

    def check_whole(self, net: nx.MultiDiGraph) -> None:
        for role in ("input", "hidden"):
            if not any(data["role"] == role for _, data in net.nodes(data=True)):
                self.fail(("areas",), f"no area has role '{role}'")
        for area, data in net.nodes(data=True):
            if data["role"] == "hidden" and not set(net.predecessors(area)) - {area}:
                self.fail(("areas", area), f"no projection reaches area {area}: add one with 'to: {area}'")
            if data["role"] != "hidden" and not net.out_degree(area):
                self.fail(("areas", area), f"area {area} projects to no other: add a projection with 'from: {area}'")
        upward = nx.DiGraph((s, t) for s, t, kind in net.edges(data="kind") if kind == "bottom_up")
        if not nx.is_directed_acyclic_graph(upward):
            around = [source for source, _ in nx.find_cycle(upward)]
            closing = (around[-1], around[0], "bottom_up")
            parts = enumerate(self.model.projections)
            number = next(n for n, part in parts if (part.source, part.target, part.kind) == closing)
            loop = " → ".join([*around, around[0]])
            self.fail(("projections", number), f"bottom-up projections form a loop: {loop}; make one of them top_down")


def hidden_areas(net: nx.MultiDiGraph) -> list[str]:
    """Hidden areas in bottom-up order; where that leaves a choice, in the order of the file."""
    place = {area: number for number, area in enumerate(net)}
    upward = nx.DiGraph()
    upward.add_nodes_from(net)
    upward.add_edges_from((s, t) for s, t, kind in net.edges(data="kind") if kind == "bottom_up")
    ordered = nx.lexicographical_topological_sort(upward, key=place.get)
    return [area for area in ordered if net.nodes[area]["role"] == "hidden"]


def only_area(net: nx.MultiDiGraph, role: Literal["input", "context"]) -> str:
    """The one area of that role; protocols show their images and labels to it."""
    found = [area for area, data in net.nodes(data=True) if data["role"] == role]
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise CortexffError(
            f"{net.graph['source']}: a protocol needs exactly one {role} area, found {len(found)} ({names})"
        )
    return found[0]


def has_context(net: nx.MultiDiGraph) -> bool:
    """Whether the net has areas that are clamped to a label."""
    return any(role == "context" for _, role in net.nodes(data="role"))


def afferents(net: nx.MultiDiGraph, area: str, *kinds: str) -> list[tuple[str, str]]:
    """Projections that reach an area, of the kinds named or of all: (source area, projection name).

    In the order of the file's areas, then of its projections, which a copy of the graph keeps.
    """
    edges = net.in_edges(area, keys=True, data="kind")
    order = {name: number for number, (*_, name) in enumerate(net.edges(keys=True))}
    return sorted(((s, name) for s, _, name, kind in edges if not kinds or kind in kinds), key=lambda e: order[e[1]])


def with_goodness(net: nx.MultiDiGraph, **changes: Any) -> nx.MultiDiGraph:
    """A copy in which some settings of goodness are replaced in every hidden area.

    A threshold that was the default stays the default of the new measure and blocks. Raises CortexffError for
    settings that a model file may not have either.
    """
    copy = net.copy()
    for area in hidden_areas(net):
        units, place = net.nodes[area]["units"], f"{net.graph['source']}: area {area}"
        now = _given(net.nodes[area]["goodness"], units)
        settings = check(_GoodnessText, {**now, **changes}, lambda path, place=place: place)
        if units % settings.blocks:
            raise CortexffError(f"{place}: {units} units do not divide into {settings.blocks} blocks")
        copy.nodes[area]["goodness"] = settings.resolved(units)
    return copy


def _given(goodness: Goodness, units: int) -> dict[str, Any]:
    """Settings of goodness that differ from the defaults."""
    settings = dataclasses.asdict(goodness)
    if _GoodnessText(**{**settings, "threshold": None}).resolved(units).threshold == goodness.threshold:
        del settings["threshold"]
    return {
        key: value for key, value in settings.items() if key == "threshold" or value != getattr(_GoodnessText(), key)
    }


def write_model(net: nx.MultiDiGraph, path: str | Path) -> None:
    """Write a model as YAML that :func:`load_model` reads back to the same graph; defaults are left out."""
    areas = {}
    for area, data in net.nodes(data=True):
        entry: dict[str, Any] = {} if data["role"] == "hidden" else {"role": data["role"]}
        entry |= {"shape": list(data["shape"])} if data["shape"] else {"units": data["units"]}
        if data["goodness"] and (given := _given(data["goodness"], data["units"])):
            entry["goodness"] = given
        areas[area] = entry
    projections = []
    for source, target, name, data in net.edges(keys=True, data=True):
        entry = {"from": source, "to": target}
        entry |= {"name": name} if name != f"{source}→{target}" else {}
        entry |= {"kind": data["kind"]} if data["kind"] != "bottom_up" else {}
        if field := data["receptive_field"]:
            entry["receptive_field"] = _field_text(field, net.nodes[source]["shape"], net.nodes[target]["shape"])
        projections.append(entry)
    head = {"format": FORMAT, **({"description": net.graph["description"]} if net.graph.get("description") else {})}
    text = StringIO()
    yaml = YAML(typ="rt")
    yaml.default_flow_style = None  # the innermost settings share a line
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump({**head, "areas": areas, "projections": projections}, text)
    Path(path).write_text(text.getvalue(), encoding="utf-8")


def _field_text(field: ReceptiveField, source: Sequence[int], target: Sequence[int]) -> dict[str, Any]:
    """A receptive field between maps of these shapes, as short as it can be written."""
    rows, columns = field.size
    text: dict[str, Any] = {"size": rows if rows == columns else [rows, columns]}
    if field.stride != (source[0] / target[0], source[1] / target[1]):
        down, across = field.stride
        text["stride"] = down if down == across else [down, across]
    return text


def json_schema() -> dict[str, Any]:
    """The model format as JSON Schema, for editors that complete and check YAML."""
    return _Model.model_json_schema(by_alias=True)
