"""Models: what a file becomes, how each mistake in it is answered, and that writing one loses nothing."""

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from cortexff.errors import CortexffError
from cortexff.graph import (
    Goodness,
    afferents,
    has_context,
    hidden_areas,
    json_schema,
    load_model,
    only_area,
    parse_model,
    with_goodness,
    write_model,
)
from cortexff.receptive_fields import ReceptiveField, connection_mask

MODELS = sorted((Path(__file__).parent.parent / "models").glob("*.yaml"))

BASE = """\
format: cortexff-model/1
areas:
  retina: {role: input, shape: [8, 8]}
  V1: {units: 20}
  V2: {shape: [4, 5]}
  label: {role: context, units: 10}
projections:
  - {from: retina, to: V1}
  - {from: V1, to: V2}
  - {from: V2, to: V1, kind: top_down}
  - {from: label, to: V2, kind: top_down}
"""


def base(*changes: tuple[str, str]) -> str:
    """The model above with some of its text replaced."""
    text = BASE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def field(settings: str) -> str:
    """The model above with a receptive field from its retina to V2, on line 8."""
    return base(("{from: retina, to: V1}", f"{{from: retina, to: V2, receptive_field: {settings}}}"))


def goodness(settings: str) -> str:
    """The model above with goodness settings for V1, on line 4."""
    return base(("V1: {units: 20}", f"V1: {{units: 20, goodness: {settings}}}"))


def contents(net: nx.MultiDiGraph) -> tuple:
    """Everything that a model says, in order."""
    return net.graph["description"], list(net.nodes(data=True)), list(net.edges(keys=True, data=True))


# ------------------------------------------------------------------------------------------------ what a file becomes


def test_a_model_becomes_a_graph_that_carries_every_setting():
    net = parse_model(BASE, "my.yaml")
    assert isinstance(net, nx.MultiDiGraph)
    assert net.graph == {"format": "cortexff-model/1", "description": "", "text": BASE, "source": "my.yaml"}
    default = Goodness(measure="sum_of_squares", sign="max", threshold=20.0, temperature=1.0, blocks=1)
    relu = {"activation": "relu"}
    assert dict(net.nodes(data=True)) == {
        "retina": {"role": "input", "units": 64, "shape": (8, 8), "goodness": None, **relu},
        "V1": {"role": "hidden", "units": 20, "shape": None, "goodness": default, **relu},
        "V2": {"role": "hidden", "units": 20, "shape": (4, 5), "goodness": default, **relu},
        "label": {"role": "context", "units": 10, "shape": None, "goodness": None, **relu},
    }
    assert {key: data for *_, key, data in net.edges(keys=True, data=True)} == {
        "retina→V1": {"kind": "bottom_up", "receptive_field": None},
        "V1→V2": {"kind": "bottom_up", "receptive_field": None},
        "V2→V1": {"kind": "top_down", "receptive_field": None},
        "label→V2": {"kind": "top_down", "receptive_field": None},
    }


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("{}", Goodness("sum_of_squares", "max", 20.0, 1.0, 1)),
        ("{blocks: 4}", Goodness("sum_of_squares", "max", 5.0, 1.0, 4)),
        ("{measure: mean_square}", Goodness("mean_square", "max", 1.0, 1.0, 1)),
        ("{measure: mean_square, blocks: 4}", Goodness("mean_square", "max", 1.0, 1.0, 4)),
        ("{sign: min, threshold: -3, temperature: 1e-1}", Goodness("sum_of_squares", "min", -3.0, 0.1, 1)),
    ],
)
def test_the_default_threshold_is_a_mean_square_of_one(settings, expected):
    assert parse_model(goodness(settings)).nodes["V1"]["goodness"] == expected


@pytest.mark.parametrize(
    ("settings", "size", "stride"),
    [
        ("{size: 3}", (3, 3), (2.0, 8 / 5)),  # topographic: rows of the source over rows of the target
        ("{size: [2, 4], stride: 1}", (2, 4), (1.0, 1.0)),
        ("{size: 3, stride: [1.5, 2]}", (3, 3), (1.5, 2.0)),
    ],
)
def test_receptive_fields(settings, size, stride):
    net = parse_model(field(settings).replace("{from: V1, to: V2}", "{from: retina, to: V1}"))
    assert net.edges["retina", "V2", "retina→V2"]["receptive_field"] == ReceptiveField(size, stride)


def test_settings_cannot_be_changed_by_accident():
    with pytest.raises(FrozenInstanceError):
        parse_model(BASE).nodes["V1"]["goodness"].threshold = 3.0


def test_units_may_be_repeated_beside_a_shape():
    assert contents(parse_model(base(("[8, 8]", "[8, 8], units: 64")))) == contents(parse_model(BASE))


def test_json_is_yaml():
    model = {
        "format": "cortexff-model/1",
        "areas": {
            "retina": {"role": "input", "shape": [8, 8]},
            "V1": {"units": 20},
            "V2": {"shape": [4, 5]},
            "label": {"role": "context", "units": 10},
        },
        "projections": [
            {"from": "retina", "to": "V1"},
            {"from": "V1", "to": "V2"},
            {"from": "V2", "to": "V1", "kind": "top_down"},
            {"from": "label", "to": "V2", "kind": "top_down"},
        ],
    }
    assert contents(parse_model(json.dumps(model))) == contents(parse_model(BASE))


@pytest.mark.parametrize("name", ["no", "on", "12:30:00", "ÄREA 17", "V1 layer 4", "y"])
def test_any_word_names_an_area(name):
    """YAML 1.2: `no` is a word."""
    net = parse_model(BASE.replace("V1", name))
    assert hidden_areas(net) == [name, "V2"]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("{from: retina, to: V2}", id="skip connection"),
        pytest.param("{from: label, to: V1, kind: top_down}", id="second top-down source"),
        pytest.param("{from: V1, to: V2, name: magnocellular}", id="second projection between one pair"),
        pytest.param("{from: V2, to: V2, kind: lateral}", id="an area hears itself"),
        pytest.param("{from: V1, to: V2, kind: lateral, name: sideways}", id="lateral between areas"),
        pytest.param("{from: V1, to: V2, kind: top_down, name: odd}", id="top-down along a bottom-up pair"),
    ],
)
def test_wiring_is_free(more):
    assert parse_model(f"{BASE}  - {more}\n").number_of_edges() == 5


def test_a_tiny_model_reads_like_this():
    net = parse_model("""
format: cortexff-model/1
areas:
  retina: {role: input, shape: [8, 8]}
  V1:     {units: 200}
  V2:     {units: 200, goodness: {blocks: 10}}
  label:  {role: context, units: 10}
projections:
  - {from: retina, to: V1}
  - {from: V1, to: V2}
  - {from: V2, to: V1, kind: top_down}
  - {from: label, to: V2, kind: top_down}
""")
    assert [net.nodes[area]["goodness"].threshold for area in hidden_areas(net)] == [200, 20]
    assert list(net.edges(keys=True)) == [
        ("retina", "V1", "retina→V1"),
        ("V1", "V2", "V1→V2"),
        ("V2", "V1", "V2→V1"),
        ("label", "V2", "label→V2"),
    ]


# ----------------------------------------------------------------------------------- mistakes, each answered in a line


MISTAKES = {
    # a key that nobody knows, at every level
    "key of the model": (BASE + "area: {}\n", 12, ["'area'", "did you mean 'areas'?", "projections"]),
    "key of an area": (base(("V1: {units", "V1: {units: 2, unit")), 4, ["V1", "'units'", "role", "shape"]),
    "key of goodness": (goodness("{block: 2}"), 4, ["V1", "did you mean 'blocks'?", "temperature"]),
    "key of a projection": (base(("to: V2}", "to: V2, knd: lateral}")), 9, ["did you mean 'kind'?", "receptive_field"]),
    "key of a receptive field": (field("{size: 3, strides: 1}"), 8, ["did you mean 'stride'?", "size"]),
    "key that resembles none": (base(("to: V2}", "to: V2, qqq: 1}")), 9, ["qqq", "known: from, to, name, kind"]),
    "python's name for from": (base(("from: retina", "source: retina")), 8, ["from"]),
    # the file
    "nothing": ("", 1, ["cortexff-model/1", "nothing"]),
    "only a comment": ("# soon\n", 1, ["nothing"]),
    "a list": ("- retina\n", 1, ["mapping", "['retina']"]),
    "a word": ("retina\n", 1, ["mapping", "'retina'"]),
    "two documents": (BASE + "---\n" + BASE, 12, ["document"]),
    "tab": (base(("  V1:", "\tV1:")), 4, ["tab", "spaces"]),
    "bracket not closed": (base(("[8, 8]", "[8, 8")), 3, ["]"]),
    "brace not closed": (base(("{units: 20}", "{units: 20")), 5, ["}"]),
    "colon forgotten": (base(("format:", "format")), 2, ["mapping"]),
    "unknown anchor": (base(("units: 20", "units: *n")), 4, ["'n'"]),
    "other format": (base(("model/1", "model/2")), 1, ["'cortexff-model/2'", "'cortexff-model/1'"]),
    "format without number": (base(("format: cortexff-model/1", "format:")), 1, ["format", "'cortexff-model/1'"]),
    "no format": (base(("format: cortexff-model/1\n", "")), 1, ["'format' is missing"]),
    "no areas": ("format: cortexff-model/1\nprojections: []\n", 1, ["'areas' is missing"]),
    "no projections": ("format: cortexff-model/1\nareas: {}\n", 1, ["'projections' is missing"]),
    "list of areas": ("format: cortexff-model/1\nareas: [V1]\nprojections: []\n", 2, ["areas", "['V1']"]),
    "projections by name": (BASE.split("  - ")[0] + "  a: 1\n", 7, ["projections", "list"]),
    "a projection that is a word": (BASE + "  - V1\n", 12, ["projections.4", "'V1'"]),
    "description that is a number": (BASE + "description: 3\n", 12, ["description", "3", "text"]),
    "character nobody sees": (base(("units: 20", "units: 2\0")), 4, [r"'\x00'", "not allowed"]),
    "deep lists": ("[" * 500, 1, ["nested too deeply"]),
    "deep mappings": ("\n".join(" " * depth + "a:" for depth in range(400)), 1, ["nested too deeply"]),
    "a mapping that is its own key": ("areas: &a\n  ? *a\n  : 1\n? {}\n: *a\n", 1, []),
    "unknown tag": (base(("units: 20", "units: !many 20")), 4, ["tag !many"]),
    # anchors
    "mistake in a merged mapping": (
        base(("retina: {", "retina: &map {shpae: 3, "), ("V2: {", "V2: {<<: *map, ")),
        3,
        ["areas.retina.shpae", "did you mean 'shape'?"],
    ),
    "mistake after a merge": (base(("retina: {", "retina: &r {"), ("{units: 20", "{<<: *r, size: 20")), 4, ["V1.size"]),
    "mistake that a merge brings": (
        base(("retina: {", "retina: &r {"), ("{units: 20}", "\n    <<: *r\n    units: 20")),
        6,
        ["area V1 has 'units' 20", "[8, 8]", "64"],
    ),
    "role that a merge brings": (
        base(("retina: {", "retina: &r {goodness: {}, "), ("{units: 20}", "\n    <<: *r\n    role: hidden")),
        3,
        ["area retina"],
    ),
    # said twice
    "model key twice": (BASE + "areas: {}\n", 12, ["duplicate key", "areas"]),
    "area twice": (base(("  label:", "  V1: {units: 3}\n  label:")), 6, ["duplicate key", "V1"]),
    "setting twice": (base(("units: 20", "units: 20, units: 30")), 4, ["duplicate key", "units"]),
    "projection twice": (BASE + "  - {from: V1, to: V2}\n", 12, ["'V1→V2'", "'name'"]),
    "name twice": (BASE + "  - {from: V1, to: V1, kind: lateral, name: V1→V2}\n", 12, ["'V1→V2'", "'name'"]),
    # sizes
    "units many": (base(("units: 20", "units: many")), 4, ["V1.units", "found 'many', should be a whole number ≥ 1"]),
    "units -3": (base(("units: 20", "units: -3")), 4, ["V1.units", "-3", "whole number ≥ 1"]),
    "units 0": (base(("units: 20", "units: 0")), 4, ["V1.units", "0", "whole number ≥ 1"]),
    "units 2.5": (base(("units: 20", "units: 2.5")), 4, ["V1.units", "found 2.5, should be a whole number ≥ 1"]),
    "units true": (base(("units: 20", "units: true")), 4, ["V1.units", "found true, should be a whole number ≥ 1"]),
    "units quoted": (base(("units: 20", "units: '20'")), 4, ["V1.units", "found '20', should be a whole number ≥ 1"]),
    "neither units nor shape": (base(("{units: 20}", "{}")), 4, ["area V1", "'units'", "'shape'"]),
    "units without a number": (base(("{units: 20}", "{units: }")), 4, ["area V1", "'units'", "'shape'"]),
    "area without settings": (base(("V1: {units: 20}", "V1:")), 4, ["areas.V1"]),
    "area that is a number": (base(("V1: {units: 20}", "V1: 20")), 4, ["areas.V1", "20"]),
    "units and shape at odds": (base(("[8, 8]", "[8, 8], units: 60")), 3, ["retina", "60", "[8, 8]", "64"]),
    "shape of a number": (base(("[8, 8]", "8")), 3, ["retina.shape", "found 8", "[rows, columns]"]),
    "shape of one": (base(("[8, 8]", "[8]")), 3, ["retina.shape", "found [8]", "[rows, columns]"]),
    "shape of four": (base(("[8, 8]", "[8, 8, 8, 8]")), 3, ["[8, 8, 8, 8]", "[rows, columns, channels]"]),
    "shape with nothing": (base(("[8, 8]", "[8, 0]")), 3, ["[8, 0]", "above 0"]),
    "shape with a fraction": (base(("[8, 8]", "[8, 8.5]")), 3, ["[8, 8.5]", "whole numbers"]),
    "area called by a number": (base(("  label:", "  17:")), 6, ["name 17", "quotes"]),
    "units without a value": (base(("V1: {units: 20}", "V1:\n    units:")), 5, ["area V1", "'units'", "'shape'"]),
    "units beyond reason": (base(("units: 20", "units: 1000000000000")), 4, ["1000000000000", "≤ 1000000000"]),
    "list of units": (base(("units: 20", "units: [1]")), 4, ["V1.units: found [1], should be a whole number ≥ 1"]),
    "units with an exponent": (base(("units: 20", "units: 2e1")), 4, ["V1.units: found 20.0", "whole number"]),
    "units that are no number": (base(("units: 20", "units: !!int many")), 4, ["cannot be read as int"]),
    "area called true": (base(("  label:", "  true:")), 6, ["name true", "quotes"]),
    "area called null": (base(("  label:", "  null:")), 6, ["name nothing", "quotes"]),
    "area called by a list": (base(("  label:", "  [a, b]:")), 6, ["quotes"]),
    "area without a name": (base(("  label:", "  '':")), 6, ["''", "letter or digit"]),
    "area called like a folder": (base(("  label:", "  V/1:")), 6, ["'V/1'", "'/'"]),
    "area called by two lines": (base(("  label:", '  "V\\n1":')), 6, [r"'V\n1'", "line break"]),
    "key that is a number": (base(("units: 20", "units: 20, 3: 4")), 4, ["3", "quotes"]),
    "key of two lines": (base(("units: 20", 'units: 20, "a\\nb": 4')), 4, [r"'areas.V1.a\nb'"]),
    # choices
    "unknown role": (base(("role: input", "role: inptu")), 3, ["'inptu'", "'input', 'hidden' or 'context'"]),
    "unknown activation": (base(("20}", "20, activation: tanh}")), 4, ["'tanh'", "'relu'"]),
    "unknown measure": (goodness("{measure: squares}"), 4, ["'squares'", "'sum_of_squares' or 'mean_square'"]),
    "unknown sign": (goodness("{sign: up}"), 4, ["V1.goodness.sign", "'up'", "'max' or 'min'"]),
    "no is a word": (goodness("{sign: no}"), 4, ["found 'no'", "'max' or 'min'"]),
    "goodness that is a word": (goodness("max"), 4, ["V1.goodness: found 'max', should be a mapping of settings"]),
    "unknown kind": (base(("V1, kind: top_down", "V1, kind: topdown")), 10, ["'topdown'", "'top_down' or 'lateral'"]),
    # goodness
    "temperature 0": (goodness("{temperature: 0}"), 4, ["temperature", "found 0", "a number > 0"]),
    "temperature -1": (goodness("{temperature: -1}"), 4, ["temperature", "found -1", "a number > 0"]),
    "temperature hot": (goodness("{temperature: hot}"), 4, ["temperature", "'hot'", "number"]),
    "temperature without end": (goodness("{temperature: .inf}"), 4, ["temperature", "found inf", "a number > 0"]),
    "threshold that is no number": (goodness("{threshold: .nan}"), 4, ["threshold", "nan", "finite"]),
    "blocks that do not divide": (goodness("{blocks: 3}"), 4, ["area V1", "20 units", "3 blocks"]),
    "no blocks": (goodness("{blocks: 0}"), 4, ["V1.goodness.blocks", "found 0", "whole number ≥ 1"]),
    "goodness of an input": (base(("[8, 8]", "[8, 8], goodness: {}")), 3, ["retina", "hidden", "'input'"]),
    "goodness of a context": (base(("units: 10", "units: 10, goodness: {}")), 6, ["label", "hidden", "'context'"]),
    # wiring
    "from nowhere": (base(("from: V1", "from: V9")), 9, ["from", "'V9'", "retina, V1, V2, label"]),
    "to nowhere": (base(("to: V2}", "to: V9}")), 9, ["to", "'V9'", "retina, V1, V2, label"]),
    "no from": (base(("from: retina, ", "")), 8, ["'projections.0.from' is missing"]),
    "no to": (base((", to: V1}", "}")), 8, ["'projections.0.to' is missing"]),
    "name without letters": (base(("to: V2}", "to: V2, name: ''}")), 9, ["name", "''"]),
    "into an input": (BASE + "  - {from: V1, to: retina, kind: top_down}\n", 12, ["V1→retina", "'input'"]),
    "into a context": (BASE + "  - {from: V2, to: label}\n", 12, ["V2→label", "'context'"]),
    "top-down from an input": (base(("V1}", "V1, kind: top_down}")), 8, ["an input area", "'kind: bottom_up'"]),
    "lateral from an input": (base(("V1}", "V1, kind: lateral}")), 8, ["an input area", "'kind: bottom_up'"]),
    "bottom-up from a context": (base(("to: V2, kind: top_down", "to: V2")), 11, ["label→V2", "'kind: top_down'"]),
    "lateral from a context": (
        base(("to: V2, kind: top_down", "to: V2, kind: lateral")),
        11,
        ["found kind 'lateral'", "a context area", "'kind: top_down'"],
    ),
    "bottom-up to itself": (BASE + "  - {from: V2, to: V2}\n", 12, ["V2→V2", "'kind: lateral'"]),
    "top-down to itself": (BASE + "  - {from: V2, to: V2, kind: top_down}\n", 12, ["V2→V2", "'kind: lateral'"]),
    "loop": (base(("V1, kind: top_down", "V1")), 10, ["V1 → V2 → V1", "top_down"]),
    "area that hears nothing": (base(("  label:", "  IT: {units: 3}\n  label:")), 6, ["area IT", "'to: IT'"]),
    "area that hears itself alone": (
        base(("  label:", "  IT: {units: 3}\n  label:")) + "  - {from: IT, to: IT, kind: lateral}\n",
        6,
        ["area IT"],
    ),
    "no input area": (base(("role: input, ", "")), 2, ["no area has role 'input'"]),
    "no areas at all": ("format: cortexff-model/1\nareas: {}\nprojections: []\n", 2, ["no area has role 'input'"]),
    "no hidden area": (
        "format: cortexff-model/1\nareas:\n  retina: {role: input, units: 3}\nprojections: []\n",
        2,
        ["no area has role 'hidden'"],
    ),
    # receptive fields
    "field to an area without a map": (
        base(("retina, to: V1", "retina, to: V1, receptive_field: {size: 3}")),
        8,
        ["retina→V1", "area V1", "[rows, columns]"],
    ),
    "field from an area without a map": (
        base(("V1, to: V2", "V1, to: V2, receptive_field: {size: 3}")),
        9,
        ["V1→V2", "area V1", "[rows, columns]"],
    ),
    "size 0": (field("{size: 0}"), 8, ["receptive_field.size", "found 0", "above 0"]),
    "size -1": (field("{size: -1}"), 8, ["receptive_field.size", "found -1", "above 0"]),
    "size 2.5": (field("{size: 2.5}"), 8, ["receptive_field.size", "found 2.5", "whole number"]),
    "size of three": (field("{size: [3, 3, 3]}"), 8, ["found [3, 3, 3]", "[rows, columns]"]),
    "no size": (field("{stride: 1}"), 8, ["receptive_field.size", "missing"]),
    "stride 0": (field("{size: 3, stride: 0}"), 8, ["receptive_field.stride", "found 0", "above 0"]),
    "stride without end": (field("{size: 3, stride: .inf}"), 8, ["receptive_field.stride", "inf"]),
    "stride of words": (field("{size: 3, stride: [one, 1]}"), 8, ["['one', 1]", "[rows, columns]"]),
    "stride beyond the map": (field("{size: 3, stride: 9}"), 8, ["retina→V2", "[3, 3]", "[9.0, 9.0]", "nothing"]),
    "columns beyond the map": (field("{size: 3, stride: [2, 5]}"), 8, ["[2.0, 5.0]", "8 rows and 8 columns"]),
    "field that is a number": (field("3"), 8, ["receptive_field", "found 3"]),
}


LEAKS = re.compile(r"Input|tuple|dict|instance|Commented|pydantic|object at|Keys should")  # words of the libraries


@pytest.mark.parametrize(("text", "line", "parts"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_answered_in_one_line(text, line, parts):
    with pytest.raises(CortexffError) as error:
        parse_model(text, "my.yaml")
    message = str(error.value)
    assert message.startswith(f"my.yaml:{line}: ")
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []
    assert not LEAKS.search(message)


def test_lines_are_counted_in_long_form_too():
    text = BASE.replace("V1: {units: 20}", "V1:\n    units: 20\n    goodness:\n      sign: max\n\n      blocks: 3")
    with pytest.raises(CortexffError, match=r"^my\.yaml:9: area V1: 20 units do not divide into 3 blocks"):
        parse_model(text, "my.yaml")


def test_a_loop_is_the_bottom_up_one():
    """A top-down projection between the same areas is not the one to change."""
    loop = base(("  - {from: label, to: V2", "  - {from: V2, to: V1, name: up}\n  - {from: label, to: V2"))
    with pytest.raises(CortexffError, match=r"^my\.yaml:11: .*V1 → V2 → V1"):
        parse_model(loop, "my.yaml")


@pytest.mark.parametrize(
    ("content", "line"), [(BASE.encode("utf-16"), 1), (BASE.encode() + b"# caf\xe9\n", 12)], ids=["UTF-16", "Latin-1"]
)
def test_a_file_that_is_not_utf8_is_refused(tmp_path, content, line):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(CortexffError, match=rf"my\.yaml:{line}: not UTF-8"):
        load_model(path)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "my.yaml").write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_model(tmp_path / "my.yaml").graph["text"] == BASE


def test_a_folder_is_no_model(tmp_path):
    (tmp_path / "my.yaml").mkdir()
    with pytest.raises(CortexffError, match=r"no file .*my\.yaml"):
        load_model(tmp_path / "my.yaml")


def test_a_large_map_is_checked_without_making_it():
    large = base(("[8, 8]", "[90000, 90000]"), ("[4, 5]", "[80000, 80000]"))
    net = parse_model(large.replace("V1, to: V2", "retina, to: V2, receptive_field: {size: 3}"))
    assert net.nodes["V2"]["units"] == 80000**2


TOKENS = "{ } [ ] : , - &a *a <<: !!int !x !!set !!omap !!str ? | > \" ' # % --- ... null true no ~ = 1e3 -1 0 .inf"
TOKENS = [
    *TOKENS.split(),
    "9" * 30,
    "2001-02-03",
    "!!bool ''",
    "\t",
    "\n",
    "\r",
    "\0",
    "\x85",
    "\u2028",
    "\ud800",
    "V2",
]


def spoiled(random: np.random.Generator) -> str:
    """A good model after one to four slips: lines, characters and words lost, doubled or exchanged."""
    text = goodness("{blocks: 4}").replace("units: 20", "shape: [4, 5]", 1)
    text = text.replace("{from: retina", "{receptive_field: {size: 3}, from: retina", 1)
    for _ in range(random.integers(1, 5)):
        lines, place = text.split("\n"), int(random.integers(len(text) + 1))
        line = int(random.integers(len(lines)))
        match random.integers(6):
            case 0:
                text = "\n".join(lines[:line] + lines[line + 1 :])
            case 1:
                text = "\n".join([*lines[:line], str(random.choice(lines)), *lines[line:]])
            case 2:
                text = text[:place] + text[place + 1 :]
            case 3:
                text = text[:place] + TOKENS[random.integers(len(TOKENS))] + text[place:]
            case _:
                words = list(re.finditer(r"[\w.]+|[^\w\s]|\n +", text)) or [re.match("", text)]
                old, new = (words[random.integers(len(words))] for _ in range(2))
                new = new.group() if random.random() < 0.7 else TOKENS[random.integers(len(TOKENS))]
                text = text[: old.start()] + new + text[old.end() :]
    return text


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.YAMLWarning")
def test_whatever_is_written_is_a_model_or_a_mistake_with_a_line(seed):
    random, models = np.random.default_rng(seed), 0
    for _ in range(500):
        text = spoiled(random)
        try:
            parse_model(text, "my.yaml")
            models += 1
        except CortexffError as error:
            message = str(error)
            said = re.fullmatch(r"my\.yaml:(\d+): \S.*", message)
            assert said and len(message.splitlines()) == 1, (message, text)
            assert 1 <= int(said[1]) <= max(len(text.splitlines()), 1), (message, text)
            assert not LEAKS.search(message), (message, text)
    assert 5 < models < 480  # both kinds were met


# ------------------------------------------------------------------------------------------------ asking the graph


def test_hidden_areas_come_in_bottom_up_order():
    turned = base(("  V1: {units: 20}\n", ""), ("  label:", "  V1: {units: 20}\n  label:"))
    assert hidden_areas(parse_model(turned)) == ["V1", "V2"]
    apart = base(("{from: V1, to: V2}", "{from: retina, to: V2}"))
    assert hidden_areas(parse_model(apart)) == ["V1", "V2"]
    assert hidden_areas(parse_model(apart.replace("V1", "V3").replace("V2", "V1"))) == ["V3", "V1"]


def test_afferents():
    net = parse_model(BASE + "  - {from: V1, to: V2, kind: lateral, name: side}\n")
    assert afferents(net, "V2") == [("V1", "V1→V2"), ("V1", "side"), ("label", "label→V2")]
    assert afferents(net, "V2", "bottom_up") == [("V1", "V1→V2")]
    assert afferents(net, "V2", "lateral", "top_down") == [("V1", "side"), ("label", "label→V2")]
    assert afferents(net, "retina") == []


def test_only_area():
    net = parse_model(BASE + "  - {from: V1, to: V2, kind: lateral, name: side}\n", "my.yaml")
    assert (only_area(net, "input"), only_area(net, "context")) == ("retina", "label")
    net.add_node("ear", role="input")
    with pytest.raises(CortexffError, match=r"my\.yaml: .* one input area, found 2 \(retina, ear\)"):
        only_area(net, "input")


# ------------------------------------------------------------------------------------------------ another goodness


def test_with_goodness_changes_a_copy():
    net = parse_model(BASE)
    before = contents(net.copy())
    changed = with_goodness(net, sign="min", temperature=2.0)
    assert contents(net) == before
    assert [changed.nodes[area]["goodness"] for area in ("V1", "V2")] == [
        Goodness("sum_of_squares", "min", 20, 2, 1)
    ] * 2
    assert changed.nodes["retina"]["goodness"] is None
    assert list(changed.edges(keys=True, data=True)) == list(net.edges(keys=True, data=True))


def test_a_default_threshold_follows_and_a_chosen_one_stays():
    net = parse_model(goodness("{threshold: 7}"))
    changed = with_goodness(net, measure="mean_square", blocks=2)
    assert changed.nodes["V1"]["goodness"] == Goodness("mean_square", "max", 7.0, 1.0, 2)
    assert changed.nodes["V2"]["goodness"] == Goodness("mean_square", "max", 1.0, 1.0, 2)
    back = with_goodness(changed, measure="sum_of_squares")
    assert back.nodes["V2"]["goodness"] == Goodness("sum_of_squares", "max", 10.0, 1.0, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 3}, "my.yaml: area V1: 20 units do not divide into 3 blocks"),
        ({"blocks": 0}, "my.yaml: area V1: blocks: found 0"),
        ({"sign": "up"}, "my.yaml: area V1: sign: found 'up', allowed: 'max' or 'min'"),
        ({"sing": "min"}, "my.yaml: area V1: unknown key 'sing'; did you mean 'sign'?"),
    ],
)
def test_with_goodness_refuses_what_a_file_may_not_say(changes, message):
    with pytest.raises(CortexffError) as error:
        with_goodness(parse_model(BASE, "my.yaml"), **changes)
    assert str(error.value).startswith(message)


# ------------------------------------------------------------------------------------------------ there and back


def random_model(seed: int) -> str:
    """A model of up to six hidden areas with all kinds of settings and projections, as text."""
    random = np.random.default_rng(seed)
    hidden = [f"area {n}" for n in range(1 + seed % 6)]
    areas = {"retina": {"role": "input", "shape": [6, 7]}, "goal": {"role": "context", "units": 3}}
    for area in hidden:
        mapped = random.random() < 0.6
        areas[area] = {"shape": random.integers(2, 5, size=3).tolist()} if mapped else {"units": 12}
        if random.random() < 0.6:
            areas[area]["goodness"] = {
                "measure": str(random.choice(["sum_of_squares", "mean_square"])),
                "sign": str(random.choice(["max", "min"])),
                "temperature": float(10 ** random.uniform(-9, 9)),
                "blocks": int(random.choice([1, areas[area].get("shape", [12])[0]])),
            }
        if random.random() < 0.3:
            areas[area].setdefault("goodness", {})["threshold"] = float(random.normal())
    projections = []

    def project(source: str, target: str, kind: str) -> None:
        entry = {"from": source, "to": target, "kind": kind, "name": f"{kind} {len(projections)}"}
        if random.random() < 0.3 and not any(p["from"] == source and p["to"] == target for p in projections):
            del entry["name"]
        if "shape" in areas[source] and "shape" in areas[target] and random.random() < 0.7:
            entry["receptive_field"] = {"size": random.integers(3, 6, size=2).tolist()}
            if random.random() < 0.5:
                entry["receptive_field"]["stride"] = random.uniform(0.5, 1.0, size=2).tolist()
        projections.append(entry)

    for number, area in enumerate(hidden):
        project(str(random.choice(["retina", *hidden[:number]])), area, "bottom_up")
    for _ in range(int(random.integers(0, 12))):
        low, high = sorted(random.integers(0, len(hidden), size=2))
        kind = str(random.choice(["bottom_up", "top_down", "lateral"])) if low < high else "lateral"
        project(*((hidden[low], hidden[high]) if kind == "bottom_up" else (hidden[high], hidden[low])), kind)
    project("goal", hidden[-1], "top_down")
    order = [list(areas)[n] for n in random.permutation(len(areas))]
    projections = [projections[n] for n in random.permutation(len(projections))]
    description = str(random.choice(["", "no", "two\nlines: {\n", "# ünusual →", "3", "long " * 60]))
    model = {"format": "cortexff-model/1", "description": description}
    return json.dumps({**model, "areas": {area: areas[area] for area in order}, "projections": projections})


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_reads_back_the_same(seed, tmp_path):
    net = parse_model(random_model(seed))
    path = tmp_path / "again.yaml"
    write_model(net, path)
    again = load_model(path)
    assert contents(again) == contents(net)
    assert [afferents(again, area) for area in again] == [afferents(net, area) for area in net]
    write_model(again, tmp_path / "third.yaml")
    assert (tmp_path / "third.yaml").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "name", ["no", "12", "1e3", "null", "12:30:00", "2001-02-03", "a: b", "a #b", "été →", "0x1", "1,2"]
)
def test_names_that_look_like_something_else_stay_names(name, tmp_path):
    net = nx.relabel_nodes(parse_model(BASE), {"V1": name})
    net.add_edge("retina", "V2", key=name, kind="bottom_up", receptive_field=None)
    write_model(net, tmp_path / "my.yaml")
    assert contents(load_model(tmp_path / "my.yaml")) == contents(net)


def test_defaults_are_not_written(tmp_path):
    write_model(parse_model(goodness("{blocks: 1, sign: min, temperature: 1}")), tmp_path / "my.yaml")
    expected = base(("V1: {units: 20}", "V1:\n    units: 20\n    goodness: {sign: min}"))
    expected = expected.replace("{role: input, shape: [8, 8]}", "\n    role: input\n    shape: [8, 8]")
    expected = expected.replace("{shape: [4, 5]}", "\n    shape: [4, 5]").replace(": \n", ":\n")
    assert (tmp_path / "my.yaml").read_text(encoding="utf-8") == expected


def test_networkx_takes_and_gives_models():
    net = parse_model(goodness("{sign: min}"))
    again = nx.node_link_graph(nx.node_link_data(net, edges="edges"), edges="edges")
    assert isinstance(again, nx.MultiDiGraph)
    assert contents(again) == contents(net)
    assert nx.shortest_path(net, "retina", "V2") == ["retina", "V1", "V2"]


def test_a_model_edited_with_networkx_is_written_as_edited(tmp_path):
    net = parse_model(BASE)
    net.add_edge("retina", "V2", key="skip", kind="bottom_up", receptive_field=ReceptiveField((3, 3), (2.0, 2.0)))
    net.remove_edge("V2", "V1", "V2→V1")
    write_model(net, tmp_path / "my.yaml")
    assert contents(load_model(tmp_path / "my.yaml")) == contents(net)


# ------------------------------------------------------------------------------------------------ the schema


def test_the_schema_knows_every_key_and_forbids_the_rest():
    schema = json_schema()
    parts = [schema, *schema["$defs"].values()]
    assert all(part["additionalProperties"] is False for part in parts)
    keys = {frozenset(part["properties"]) for part in parts}
    assert keys == {
        frozenset({"format", "description", "areas", "projections"}),
        frozenset({"role", "units", "shape", "activation", "goodness"}),
        frozenset({"measure", "sign", "threshold", "temperature", "blocks"}),
        frozenset({"from", "to", "name", "kind", "receptive_field"}),
        frozenset({"size", "stride"}),
    }
    assert json.loads(json.dumps(schema)) == schema


# ------------------------------------------------------------------------------------------------ the models we ship


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_model_loads(path):
    net = load_model(path)
    assert net.graph["description"]
    assert net.graph["text"] == path.read_text(encoding="utf-8")
    assert nx.is_weakly_connected(net)
    assert only_area(net, "input") in ("retina", "text")
    assert not has_context(net) or only_area(net, "context") == "label"


def test_the_grid_of_note_8():
    """4x4, stride 6, 10x10 fields, 128 channels; 3x3 with 220 and 2x2 with 512, each reading 4 adjacent grid points."""
    net = load_model("mnist_local")
    assert [net.nodes[area]["units"] for area in hidden_areas(net)] == [2048, 1980, 2048]  # "approximately 2000"
    masks = {}
    for source, target, field in net.edges(data="receptive_field"):
        shapes = [net.nodes[area]["shape"] for area in (source, target)]
        masks[target] = connection_mask(*shapes, field)
    assert [set(masks[area].sum(1)) for area in ("V1", "V2", "V3")] == [{100}, {4 * 128}, {4 * 220}]
    assert masks["V1"].any(0).all()  # no pixel is left out


@pytest.mark.parametrize(
    ("name", "units"),
    [("digits_recurrent", [64, 200, 200, 10]), ("mnist_recurrent", [784, 2000, 2000, 10])],
)
def test_figure_3(name, units):
    net = load_model(name)
    assert [net.nodes[area]["units"] for area in ("retina", "V1", "V2", "label")] == units
    assert {key: kind for *_, key, kind in net.edges(keys=True, data="kind")} == {
        "retina→V1": "bottom_up",
        "V1→V2": "bottom_up",
        "V2→V1": "top_down",
        "label→V2": "top_down",
    }


def test_the_visual_hierarchy():
    net = load_model("visual_hierarchy")
    assert hidden_areas(net) == ["V1", "V2", "V4", "IT"]
    assert max(units for _, units in net.nodes(data="units")) <= 800
    assert len(afferents(net, "V1", "top_down")) == len(afferents(net, "V2", "top_down")) == 2
    assert len(afferents(net, "V4", "bottom_up")) == len(afferents(net, "IT", "bottom_up")) == 2
    assert any(goodness and goodness.blocks > 1 for _, goodness in net.nodes(data="goodness"))
    for source, target, data in net.edges(data=True):
        if data["receptive_field"]:
            shapes = net.nodes[source]["shape"], net.nodes[target]["shape"]
            mask = connection_mask(*shapes, data["receptive_field"])
            assert mask.any(axis=0).all(), f"some units of {source} are not read by {target}"


def test_loading_does_not_wait_for_heavy_libraries():
    script = (
        "import sys; from cortexff import load_model; load_model('visual_hierarchy');"
        "print([name for name in ('torch', 'scipy', 'matplotlib', 'xarray', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
