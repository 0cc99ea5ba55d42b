"""A condition with a grid stands for one for each combination of settings, and its mistakes are told by their line."""

import json

import pytest

from cortexff.errors import CortexffError
from cortexff.protocol.loading import assignment, from_json, load_protocol

TEXT = """\
format: cortexff-protocol/1
title: Turns of several lengths
section: "9"
model: digits_recurrent
stimuli: {validation: 20}
subjects: 3
plasticity: {learning_rate: 2}
stages:
  childhood: {phase: interleaved, updates: 2}
  turns: {phase: alternating, updates: 8, plasticity: {weight_cost: 0}}
conditions:
  young: {stages: [childhood]}
  apart:
    from: young
    stages: [childhood, turns]
    grid:
      cycle: [1, 4]
      plasticity: {learning_rate: [0.5, 5], gradient_average: [0]}
variants:
  max: {goodness: {sign: max}}
  min: {goodness: {sign: min}, stages: {turns: {updates: 16}}}
table: {conditions: [young, apart c4 lr0.5 ga0], metrics: {fp_neg: }}
presets:
  quick:
    conditions: {apart: {grid: {cycle: [2], plasticity: {learning_rate: [1]}}}}
    table: {conditions: [young]}
"""
CELLS = [f"apart c{b} lr{rate} ga0" for b in (1, 4) for rate in ("0.5", "5")]


def load(folder, text=TEXT, preset="default", *changes):
    path = folder / "turns.yaml"
    path.write_text(text, encoding="utf-8")
    return load_protocol(path, preset, {f"--set {one}": assignment(one) for one in changes})


def test_a_grid_becomes_a_condition_and_a_stage_for_each_combination(tmp_path):
    protocol = load(tmp_path)
    assert list(protocol.conditions) == ["young", *CELLS] and list(protocol.stages) == ["childhood", *CELLS]
    for name in CELLS:
        condition, stage = protocol.conditions[name], protocol.stages[name]
        assert condition.start == "young" and condition.stages == ["childhood", name]
        assert f"c{stage.cycle.wake} " in name and stage.cycle.wake == stage.cycle.sleep
        assert f"lr{stage.plasticity.learning_rate:g} " in name and stage.plasticity.weight_cost == 0
    assert from_json(protocol.model_dump_json(by_alias=True)) == protocol


def test_presets_and_variants_reach_the_cells(tmp_path):
    """What a preset or --set changes of a grid, and a variant of the stage, as of any other."""
    quick = load(tmp_path, TEXT, "quick")
    assert list(quick.conditions) == ["young", "apart c2 lr1 ga0"]
    more = load(tmp_path, TEXT, "quick", "conditions.apart.grid.plasticity.learning_rate=[3, 4]")
    assert [stage.plasticity.learning_rate for stage in list(more.stages.values())[1:]] == [3, 4]
    of_min = load(tmp_path).variant("min").stages
    assert [of_min[name].updates for name in CELLS] == [16] * 4
    assert [of_min[name].cycle.wake for name in CELLS] == [1, 1, 4, 4]


def test_a_stage_that_others_use_stays(tmp_path):
    text = TEXT.replace("phase: alternating", "phase: alternating, cycle: {wake: 2, sleep: 1}")
    text = text.replace("  young: {stages: [childhood]}", "  young: {stages: [childhood]}\n  old: {stages: [turns]}")
    protocol = load(tmp_path, text)
    assert protocol.stages["turns"].cycle.length == 3 and protocol.stages[CELLS[0]].cycle.length == 2


@pytest.mark.parametrize(
    ("old", "new", "word", "words"),
    [
        ("cycle: [1, 4]", "cycle: 4", "cycle: 4", "grid.cycle should be settings of its stage, each with a list"),
        ("cycle: [1, 4]", "cycle: []", "cycle: []", "found []"),
        ("cycle: [1, 4]", "cycle: [1, 1]", "grid:", "have the name 'apart c1 lr0.5"),
        ("cycle: [1, 4]", "cycle: [1, 0]", "cycle: [1, 0]", "cycle: found 0, should be ≥ 1"),
        ("cycle: [1, 4]", "cicle: [1, 4]", "cicle: [1, 4]", "unknown key"),
        ("[childhood, turns]", "[childhood, tunes]", "tunes", "its last stage, 'tunes', is not known"),
        ("updates: 8", "updates: many", "many", "found 'many', should be a whole number"),
        ("from: young", "from: born", "from: born", "starts from 'born'"),
    ],
)
def test_a_mistake_in_a_grid_is_one_line(tmp_path, old, new, word, words):
    text = TEXT.replace(old, new)
    number = next(number for number, line in enumerate(text.splitlines(), start=1) if word in line)
    with pytest.raises(CortexffError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'turns.yaml'}:{number}: ") and words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_section_in_a_grid_takes_the_place_of_the_number_that_stood_for_it(tmp_path):
    text = TEXT.replace("phase: alternating", "phase: alternating, cycle: 8")
    protocol = load(
        tmp_path,
        text.replace("cycle: [1, 4]", "cycle: {wake: [1, 4], sleep: [2]}"),
        "default",
        "table.conditions=[young]",
    )
    assert {(stage.cycle.wake, stage.cycle.sleep) for stage in list(protocol.stages.values())[1:]} == {(1, 2), (4, 2)}


def test_a_cycle_of_one_number_is_alike_in_both_phases(tmp_path):
    stored = json.loads(load(tmp_path).model_dump_json())["stages"][CELLS[-1]]
    assert stored["cycle"] == {"wake": 4, "sleep": 4}
