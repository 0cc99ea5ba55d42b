"""Descriptions: YAML 1.2 with its lines, and one clear line for each mistake."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, model_validator

from cortexff.description import Mistake, check, holds, line_of, parse, read_text, shown
from cortexff.errors import CortexffError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    units: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    parts: dict[str, Inner] = {}

    @model_validator(mode="after")
    def _has_no_twin(self) -> "Outer":
        if "twin" in self.parts:
            raise Mistake("no twins, please", "parts", "twin", "units")
        return self


def mistake(text: str) -> str:
    written = parse(text, "my.yaml")
    with pytest.raises(CortexffError) as caught:
        check(Outer, written, lambda path: f"my.yaml:{line_of(written, path)}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-3", 0.001),
        ("no", "no"),
        ("12:30:00", "12:30:00"),
        ("0x10", 16),
        ("null", None),
        ("2001-02-03", "2001-02-03"),
    ],
)
def test_yaml_is_of_version_1_2(text, value):
    """Of 1.1 it would be otherwise: `no` is a word, 1e-3 a number, 12:30:00 no number of seconds, and a date text."""
    assert parse(f"a: {text}", "x")["a"] == value


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "name: a\nparts: {V1: {unit: 3}}",
            "my.yaml:2: unknown key 'parts.V1.unit'; did you mean 'units'? (known: units)",
        ),
        (
            "name: a\nparts:\n  V1:\n    units: many",
            "my.yaml:4: parts.V1.units: found 'many', should be a whole number",
        ),
        ("name: 3", "my.yaml:1: name: found 3, should be text"),
        ("parts: {}", "my.yaml:1: 'name' is missing"),
        ("nam: a", "my.yaml:1: unknown key 'nam'; did you mean 'name'? (known: name, parts)"),
        ("name: a\nunits: 3", "my.yaml:2: unknown key 'units'; did you mean 'parts.NAME.units'? (known: name, parts)"),
        ("name: a\nparts: {V1: 3}", "my.yaml:2: parts.V1: found 3, should be a mapping of settings"),
        ("name: a\nparts:\n  3: {}", "my.yaml:3: found the name 3, should be text: write it in quotes"),
        (
            "name: a\nparts:\n  V1:\n    null: 3",
            "my.yaml:4: found the name nothing, should be text: write it in quotes",
        ),
        ("name: [1, [2], true, ~]", "my.yaml:1: name: found [1, […], true, nothing], should be text"),
        ("name: a\nparts:\n  twin:\n    units: 2", "my.yaml:4: no twins, please"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text, said):
    assert mistake(text) == said


@pytest.mark.parametrize("text", ["a: [1, 2", "a: 1\na: 2", "a:\n\t- 1", "a: *b", "a: 1\n---\nb: 2", "a: \0"])
def test_what_is_no_yaml_is_one_line_with_its_place(text):
    with pytest.raises(CortexffError, match=r"^my\.yaml:\d+: [^\n]+$"):
        parse(text, "my.yaml")


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "a: 1\nb: [1, 2\nc: 3",
            "3: expected ',' or ']', but got ':', while parsing a flow sequence that begins on line 2",
        ),
        ("a: 1\nb: 2\na: 3", '3: found duplicate key "a"'),
        ("a:\n\t- 1", "2: a tab where YAML wants spaces"),
        ("a: 1\n---\nb: 2", "2: expected a single document in the stream but found another document"),
        ("a: 1\nb: \x07", r"2: character '\x07' is not allowed"),
        ("a: 1\nb: !!int many", "2: this cannot be read as int"),
        ("a: 1\nb: !other 3", "2: tag !other has no meaning here"),
        (
            "a: 'never closed\n",
            "1: found unexpected end of stream, while scanning a quoted scalar that begins on line 1",
        ),
    ],
)
def test_what_is_no_yaml_is_told_in_plain_words(text, said):
    with pytest.raises(CortexffError) as caught:
        parse(text, "my.yaml")
    assert str(caught.value) == f"my.yaml:{said}"


def test_lines_of_keys_that_were_merged_in():
    written = parse("a: &a\n  b: 1\nc: &c {d: 2}\ne:\n  <<: [*a, *c]\n  f: 3\n", "x")
    assert [line_of(written, ["e", key]) for key in "bdf"] == [2, 3, 6]


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "nothing"),
        (True, "true"),
        ("a\nb", r"'a\nb'"),
        ({"a": 1}, "a mapping"),
        ([1, "a", [2]], "[1, 'a', […]]"),
        (0.5, "0.5"),
        ("x" * 100, "'" + "x" * 77 + "…'"),
    ],
)
def test_values_are_shown_short_and_on_one_line(value, text):
    assert shown(value) == text


def test_lines_of_keys_items_and_what_is_not_there():
    written = parse("a:\n  - b: 1\n  - c: 2\nd: {e: 3}\n", "x")
    assert [line_of(written, path) for path in (["a", 1, "c"], ["a", 1], ["d", "e"], ["d", "f"], ["z"])] == [
        3,
        3,
        4,
        4,
        1,
    ]
    assert holds(written, ["a", 1, "c"]) and not holds(written, ["a", 2]) and not holds(written, ["d", "e", "f"])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(CortexffError, match="cannot read"):
        read_text(tmp_path)
    with pytest.raises(CortexffError, match="cannot read"):
        read_text(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(CortexffError, match=r"latin\.yaml:2: not UTF-8"):
        read_text(tmp_path / "latin.yaml")
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_text(tmp_path / "marked.yaml") == "a: 1\n"
    assert read_text(Path(__file__)).startswith('"""Descriptions')
