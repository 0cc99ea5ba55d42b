"""Protocol files: every one that is shipped loads, settings merge, and a mistake is one line that says where it is."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cortexff.errors import CortexffError
from cortexff.protocol.loading import assignment, load_protocol
from cortexff.protocol.schedule import ByExperiment, Protocol, decay, probe_updates, stage_lengths
from cortexff.protocol.settings import Cycle, Stage, merge
from cortexff.resources import find, names

SHIPPED = [find("protocols", name) for name in names("protocols")]
PRESETS = [(path.stem, preset) for path in SHIPPED for preset in ("default", *YAML(typ="safe").load(path)["presets"])]
TEXT = """\
format: cortexff-protocol/1
title: A short life
section: "9"
model: digits_recurrent
stimuli: {minibatch: 10, validation: 20}
engine: {steps: 6}
readout: {steps: [3, 5]}
subjects: 3
plasticity: {learning_rate: 2, weight_cost: 0}
stages:
  childhood:
    phase: interleaved
    epochs: 2
    plasticity: {learning_rate: 5}
    probe_on: validation
  awake: {phase: wake, updates: 7, probe: log}
conditions:
  young: {stages: [childhood]}
  old: {from: young, stages: [awake, childhood]}
variants:
  max: {goodness: {sign: max}}
  min:
    goodness:
      sign: min
table: {conditions: [young, old], against: young, metrics: {fp_neg: null, miss: {paper: 3}}}
presets:
  quick:
    subjects: 1
    stages: {childhood: {epochs: 1}}
"""


def load(folder: Path, text: str = TEXT, preset: str = "default", *assignments: str) -> Protocol:
    path = folder / "short.yaml"
    path.write_text(text, encoding="utf-8")
    return load_protocol(path, preset, {f"--set {one}": assignment(one) for one in assignments})


def mistake(folder: Path, *args: str) -> str:
    """The one line that is said about a protocol."""
    with pytest.raises(CortexffError) as caught:
        load(folder, *args)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).replace(f"{folder / 'short.yaml'}", "short.yaml")


def line(text: str, word: str) -> int:
    """Number of the first line that holds a word."""
    return next(number for number, content in enumerate(text.splitlines(), start=1) if word in content)


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


# ------------------------------------------------------------------------ what loads


@pytest.mark.parametrize("name, preset", PRESETS)
def test_every_shipped_protocol_loads_with_every_preset(name, preset):
    protocol = load_protocol(name, preset)
    assert protocol.title and protocol.section and protocol.conditions and protocol.variants
    for variant in map(protocol.variant, protocol.variants):
        assert variant.updates if isinstance(variant, ByExperiment) else list(stage_lengths(variant, 48))


def test_defaults_are_the_papers():
    plain = load_protocol("recurrent")
    assert (plain.engine.damping, plain.engine.steps, plain.readout.steps) == (0.3, 8, [3, 5])


def test_a_preset_replaces_what_it_names_and_nothing_else(tmp_path):
    full, quick = load(tmp_path), load(tmp_path, TEXT, "quick")
    assert (full.subjects, full.stages["childhood"].epochs) == (3, 2)
    assert (quick.subjects, quick.stages["childhood"].epochs) == (1, 1)
    assert quick.stages["childhood"].model_copy(update={"epochs": 2}) == full.stages["childhood"]
    assert quick.model_copy(update={"subjects": 3, "stages": full.stages}) == full


def test_assignments_come_after_the_preset_and_in_order(tmp_path):
    sets = ("subjects=5", "stages.childhood.epochs=4", "subjects=6", "readout.steps=[1, 2]", "model=my_model")
    protocol = load(tmp_path, TEXT, "quick", *sets)
    assert (protocol.subjects, protocol.stages["childhood"].epochs) == (6, 4)
    assert (protocol.readout.steps, protocol.model) == ([1, 2], "my_model")
    assert protocol.stages["childhood"].plasticity.model_dump(exclude_none=True) == {"learning_rate": 5}


def test_an_assignment_may_exchange_epochs_for_updates(tmp_path):
    sets = ("stages.childhood.epochs=null", "stages.childhood.updates=3")
    protocol = load(tmp_path, TEXT, "default", *sets)
    assert [updates for *_, updates in stage_lengths(protocol, 100)] == [3, 7, 3]


def test_merge_copies():
    settings = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    merged = merge(settings, {"a": {"c": [9]}, "d": {"e": 4}})
    assert merged == {"a": {"b": 1, "c": [9]}, "d": {"e": 4}}
    merged["a"]["b"] = 7
    assert settings == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


@pytest.mark.parametrize(
    "text, nested",
    [
        ("seed=3", {"seed": 3}),
        ("a.b.c=[1, 2]", {"a": {"b": {"c": [1, 2]}}}),
        ("model=a=b", {"model": "a=b"}),
        (" until=null", {"until": None}),
        ("x=1e-3", {"x": 0.001}),
    ],
)
def test_an_assignment_is_nested_and_read_as_yaml(text, nested):
    assert assignment(text) == nested


def test_a_stage_changes_only_the_plasticity_that_it_names(tmp_path):
    protocol = load(tmp_path)
    childhood, awake = (protocol.plasticity_of(protocol.stages[name]) for name in ("childhood", "awake"))
    assert (childhood.learning_rate, childhood.weight_cost) == (5, 0)
    assert awake == protocol.plasticity


def test_a_stage_changes_only_what_it_names_of_the_engine(tmp_path):
    changes = ("engine.spiking.firing_rate=40", "stages.awake.engine={kind: spiking, spiking: {time_constant: 10}}")
    protocol = load(tmp_path, TEXT, "default", *changes)
    awake, childhood = (protocol.engine_of(protocol.stages[name]) for name in ("awake", "childhood"))
    assert childhood == protocol.engine and childhood.kind == "rate"
    assert (awake.kind, awake.steps, awake.spiking.firing_rate, awake.spiking.time_constant) == ("spiking", 6, 40, 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["measures=[spikes]"], "measures has spikes, but in no stage engine.kind is spiking"),
        (["raster=2"], "raster keeps spikes, but in no stage engine.kind is spiking"),
        (["engine.kind=spiking", "raster=2", "engine.steps=0"], "raster needs labels and steps"),
        (["variants.trials={}"], "variant trials: the results file has something else"),
        (["engine.spiking.firing_rate=40"], "engine.kind is rate in every stage"),
        (["engine.kind=spiking", "engine.spiking.refractory=2"], "engine.spiking.refractory has no effect"),
        (["engine.kind=spiking", "engine.spiking.membrane_time_constant=9"], "or give leaky"),
        (["engine.kind=spiking", "stimuli.negatives=other_context"], "not known to spiking units"),
        (["engine.kind=spikes"], "allowed"),
        (["stages.awake.engine={steps: 3}"], "unknown key"),
        (["engine.kind=spiking", "engine.spiking.firing_rate=-1"], "engine.spiking.firing_rate"),
    ],
)
def test_what_spikes_need_is_said(tmp_path, changes, words):
    with pytest.raises(CortexffError, match=words):
        load(tmp_path, TEXT, "default", *changes)


def test_a_variant_may_be_the_one_that_spikes(tmp_path):
    protocol = load(tmp_path, TEXT, "default", "measures=[spikes]", "variants.min.engine={kind: spiking}")
    assert protocol.variant("max").measures_of("old") == [] and protocol.variant("min").measures_of("old") == ["spikes"]


def test_a_variant_may_be_the_one_that_leaks(tmp_path):
    changes = ("engine.kind=spiking", "engine.spiking.refractory=2")
    protocol = load(tmp_path, TEXT, "default", *changes, "variants.min.engine={spiking: {neuron: leaky}}")
    assert protocol.variant("min").engine.spiking.neuron == "leaky"


def test_spikes_are_measured_where_there_are_some(tmp_path):
    changes = ("measures=[spikes, oscillation]", "stages.awake.engine={kind: spiking}")
    protocol = load(tmp_path, TEXT, "default", *changes)
    assert protocol.measures_of("young") == ["oscillation"]
    assert protocol.measures_of("old") == ["spikes", "oscillation"]


def test_a_variant_is_the_protocol_with_its_goodness(tmp_path):
    protocol = load(tmp_path)
    assert [protocol.variant(name).goodness.sign for name in protocol.variants] == ["max", "min"]
    assert protocol.variant("min").model_copy(update={"goodness": protocol.goodness}) == protocol


def test_a_variant_without_changes_is_the_protocol_itself(tmp_path):
    protocol = load(tmp_path, TEXT.replace("max: {goodness: {sign: max}}", "max:"))
    assert protocol.variant("max") == protocol


# ------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    "old, new, place, words",
    [
        ("subjects: 3", "subject: 3", "subject: 3", ["unknown key 'subject'", "did you mean 'subjects'"]),
        ("phase: wake", "phase: wakee", "awake", ["stages.awake.phase", "'wakee'", "'wake'"]),
        ("probe: log", "prob: log", "awake", ["stages.awake.prob", "did you mean 'probe'"]),
        ("updates: 7", "updates: -7", "awake", ["stages.awake.updates", "-7"]),
        ("updates: 7", "updates: 7, epochs: 1", "awake", ["stages.awake", "found both", "epochs=null"]),
        (", updates: 7", "", "awake", ["stages.awake", "either 'updates' or 'epochs'; found neither"]),
        ("probe: log", "until: 0.1", "awake", ["stages.awake", "must not look at the test images"]),
        ("sign: max", "sgn: max", "sgn", ["goodness.sgn", "did you mean 'sign'"]),
        ("sign: min", "sgn: min", "sgn", ["goodness.sgn", "did you mean 'sign'"]),
        ("sign: min", "sign: least", "least", ["goodness.sign", "'least'", "'max' or 'min'"]),
        ("format: cortexff-protocol/1", "format: 2", "format", ["format", "cortexff-protocol/1"]),
        ("title: A short life\n", "", "format", ["'title' is missing"]),
        ("steps: [3, 5]", "steps: [3]", "readout", ["readout.steps"]),
    ],
)
def test_a_mistake_names_its_line(tmp_path, old, new, place, words):
    text = TEXT.replace(old, new)
    said = mistake(tmp_path, text)
    assert said.startswith(f"short.yaml:{line(text, place)}: ") and all(word in said for word in words), said


@pytest.mark.parametrize(
    "old, new, places, words",
    [
        ("[awake, childhood]", "[awoke]", ["old:"], ["old", "'awoke'", "childhood, awake"]),
        ("from: young", "from: yung", ["old:"], ["old", "'yung'"]),
        ("against: young", "against: yung", ["table:"], ["'yung'", "young, old"]),
        ("conditions: [young, old]", "conditions: [yung]", ["table:"], ["'yung'", "young, old"]),
        ("conditions: [young, old]", "conditions: [young, max]", ["table:"], ["'max'", "it is a variant"]),
        ("{learning_rate: 5}", "{rate: 5}", ["childhood:", "rate: 5"], ["childhood", "rate'", "learning_rate"]),
        ("{learning_rate: 5}", "{learning_rate: -5}", ["childhood:", "-5"], ["childhood", "learning_rate", "-5"]),
        ("validation: 20", "validation: 0", ["childhood:", "probe_on", "stimuli"], ["childhood", "validation"]),
        ("steps: [3, 5]", "steps: [3, 7]", ["readout"], ["[3, 7]", "6"]),
        ("steps: [3, 5]", "steps: [5, 3]", ["readout"], ["[5, 3]"]),
        ("{steps: 6}", "{steps: 0, damping: 0.5}", ["damping"], ["engine.damping has no effect", "engine.steps is 0"]),
        ("  min:\n", "  min:\n    engine: {learning: backprop}\n", ["learning"], ["variant min", "engine.learning"]),
        (
            "{learning_rate: 5}",
            "{gradient: backpropagated}",
            ["childhood:", "gradient"],
            ["feed-forward", "engine.steps"],
        ),
        ("minibatch: 10", "minibatch: 1, negatives: other_context", ["minibatch"], ["minibatch is 1", "2 or more"]),
        ("minibatch: 10", "minibatch: 10, centred: true, jitter: 2", ["stimuli"], ["jitter 2", "centred", "leave one"]),
    ],
)
def test_settings_that_do_not_go_together_name_a_line_to_change(tmp_path, old, new, places, words):
    text = changed(old, new)
    said = mistake(tmp_path, text)
    assert all(word in said for word in words), said
    number = int(re.match(r"short\.yaml:(\d+): ", said)[1])
    assert any(place in text.splitlines()[number - 1] for place in places), said


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["short.yaml:1", "mapping"]),
        ("- a\n- b\n", ["short.yaml:1", "mapping"]),
        ("3\n", ["short.yaml:1", "mapping"]),
        ("title: [a,\nb: 2\n", ["short.yaml:"]),
        ("title: a\nsubjects: 1\ntitle: b\n", ["short.yaml:3", "duplicate", "title"]),
        ("title:\n\t- a\n", ["short.yaml:2"]),
        ("title: *nothing\n", ["short.yaml:1", "nothing"]),
        (TEXT + "---\na: 1\n", ["short.yaml:"]),
    ],
)
def test_what_is_no_protocol_is_one_line(tmp_path, text, words):
    said = mistake(tmp_path, text)
    assert all(word in said for word in words), said


@pytest.mark.parametrize("presets", ["[quick]", "3", "{quick: 3}", "{quick: [a]}"])
@pytest.mark.parametrize("preset", ["quick", "default"])
def test_presets_are_checked_too(tmp_path, presets, preset):
    text = TEXT.split("presets:")[0] + f"presets: {presets}\n"
    assert re.match(r"short\.yaml:\d+: ", mistake(tmp_path, text, preset))


def test_unknown_names_list_the_known(tmp_path):
    assert "no preset 'quik' (known: default, quick)" in mistake(tmp_path, TEXT, "quik")
    with pytest.raises(CortexffError, match=r"no protocol named 'recurent'; did you mean 'recurrent'\?"):
        load_protocol("recurent")
    with pytest.raises(CortexffError, match="no file"):
        load_protocol(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("seed=x", ["--set seed=x", "'x'", "whole number"]),
        ("sed=1", ["--set sed=1", "did you mean 'seed'"]),
        ("stages.awake.phase=doze", ["--set stages.awake.phase=doze", "'doze'", "'rest'"]),
        ("stages.awake.epochs=3", ["--set stages.awake.epochs=3", "either 'updates' or 'epochs'"]),
        ("stages=3", ["--set stages=3", "stages", "3"]),
        ("seed.x=1", ["--set seed.x=1", "seed"]),
        ("readout.steps=[3, 9]", ["--set readout.steps=[3, 9]", "[3, 9]"]),
        ("variants.min.goodness.sgn=max", ["--set variants.min.goodness.sgn=max", "did you mean 'sign'"]),
        ("presets.quick.subjects=2", ["--set presets.quick.subjects=2", "unknown key 'presets'"]),
    ],
)
def test_a_wrong_assignment_is_named_and_no_other(tmp_path, wrong, words):
    said = mistake(tmp_path, TEXT, "default", "subjects=2", wrong, "engine.damping=0.5")
    assert all(word in said for word in words), said


def test_a_change_that_every_variant_overrides_is_refused(tmp_path):
    """It would do nothing, and a sweep of it would compare runs that are the same."""
    text = TEXT.replace("sign: min", "sign: min\n    readout: {steps: [3, 4]}")
    assert list(load(tmp_path, text, "default", "readout.steps=[2, 5]").variant("max").readout.steps) == [2, 5]
    text = text.replace("{goodness: {sign: max}}", "{goodness: {sign: max}, readout: {steps: [4, 5]}}")
    said = mistake(tmp_path, text, "default", "readout.steps=[2, 5]")
    assert said.startswith("--set readout.steps=[2, 5]: ") and "set variants.NAME.readout.steps" in said


@pytest.mark.parametrize("text", ["seed", "=3", " =3"])
def test_what_is_no_assignment_is_told_how_to_be_one(text):
    with pytest.raises(CortexffError, match=r"write it as key\.path=value"):
        assignment(text)


def test_yaml_that_is_wrong_in_an_assignment_is_one_line():
    with pytest.raises(CortexffError, match="--set seed") as caught:
        assignment("seed=[1")
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_file_is_not_blamed_on_an_assignment(tmp_path):
    said = mistake(tmp_path, changed("steps: [3, 5]", "steps: [3, 7]"), "default", "seed=3")
    assert said.startswith("short.yaml:") and "seed" not in said


def test_a_mistake_in_a_preset_is_found_there(tmp_path):
    text = TEXT.replace("    subjects: 1", "    subjects: 0")
    said = mistake(tmp_path, text, "quick")
    assert said.startswith(f"short.yaml:{line(text, 'subjects: 0')}: subjects")


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("conditions: [young, old], against", "conditions: [old], against", ["young"]),
        ("metrics: {fp_neg: null, miss: {paper: 3}}", "metrics: {}", ["metrics"]),
        ("conditions: [young, old], against: young", "conditions: []", ["conditions"]),
        ("stages: [childhood]", "stages: []", ["young"]),
    ],
)
def test_what_the_closing_table_cannot_be_made_from_is_refused_at_once(tmp_path, old, new, words):
    """Else the run would end, perhaps after hours, in a table that cannot be drawn up."""
    said = mistake(tmp_path, changed(old, new))
    assert all(word in said for word in words), said


def test_the_paper_may_have_a_figure_for_each_variant(tmp_path):
    text = changed("miss: {paper: 3}", "miss: {paper: {min: 3.5}}, auroc: {}")
    metrics = load(tmp_path, text).table.metrics
    assert [metrics["miss"].figure(variant, "old") for variant in ("max", "min")] == [None, 3.5]
    assert [load(tmp_path).table.metrics["miss"].figure(variant, "old") for variant in ("max", "min")] == [3, 3]
    assert metrics["auroc"].figure("max", "old") is None
    row = load(tmp_path, changed("miss: {paper: 3}", "miss: {paper: {min: {old: 3.5}}}")).table.metrics["miss"]
    assert (row.figure("min", "old"), row.figure("min", "young"), row.figure("max", "old")) == (3.5, None, None)
    said = mistake(tmp_path, changed("miss: {paper: 3}", "miss: {paper: {min: {ancient: 3}}}"))
    assert "figure of miss is for 'ancient' (known: young, old)" in said
    said = mistake(tmp_path, changed("miss: {paper: 3}", "miss: {paper: {mix: 3}}"))
    assert "figure of miss is for 'mix' (known: max, min)" in said


@pytest.mark.parametrize(
    "changes, words",
    [
        (["stimuli.negatives=none"], ["stimuli.negatives none needs engine.learning backprop"]),
        (["engine.learning=backprop"], ["clamps no label", "stimuli.labels is context: give none"]),
        (["engine.learning=backprop", "stimuli.labels=none"], ["stimuli.negatives is hard_labels: give none"]),
        (["backprop.dropout=1"], ["backprop.dropout", "1"]),
        (["backprop.dropout=0.1"], ["backprop has no effect where engine.learning is forward_forward: leave it out"]),
        (["backprop.drop=0.1"], ["unknown key 'backprop.drop'; did you mean 'dropout'?"]),
        (["engine.learning=hebb"], ["engine.learning: found 'hebb', allowed: 'forward_forward' or 'backprop'"]),
    ],
)
def test_what_backpropagation_needs_is_said(tmp_path, changes, words):
    said = mistake(tmp_path, TEXT, "default", *changes)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "stage, words",
    [
        ("phase=interleaved", "stage awake has phase interleaved, but engine.learning is backprop"),
        ("phase=sleep", "give wake or rest"),
        ("train_softmax=true", "stage awake has train_softmax, but backprop trains the softmax whenever it trains"),
        ("until=0.1", "stage awake has until, but a net trained by backprop has no goodness"),
    ],
)
def test_stages_that_backpropagation_cannot_live_are_refused(tmp_path, stage, words):
    whole = ["engine={learning: backprop, steps: 8}", "stimuli={labels: none, negatives: none, validation: 9}"]
    whole += ["stages.childhood.phase=wake", "stages.awake.probe_on=validation", "variants={max: null, min: null}"]
    assert load(tmp_path, TEXT, "default", *whole).learns_by_backprop
    assert words in mistake(tmp_path, TEXT, "default", *whole, f"stages.awake.{stage}")
    assert "need labels and steps" in mistake(tmp_path, TEXT, "default", *whole, "measures=[cancellation]")


@pytest.mark.parametrize(
    "given, unused",
    [
        ("goodness.sign=min", "goodness"),
        ("readout.skip_first=true", "readout"),
        ("engine.steps=3", "engine.steps"),
        ("plasticity.peer_normalization=0.1", "plasticity.peer_normalization"),
    ],
)
def test_what_backpropagation_does_not_use_is_refused(given, unused):
    with pytest.raises(CortexffError, match=f"{unused} has no effect where engine.learning is backprop"):
        load_protocol("backprop_baseline", changes={given: assignment(given)})


def test_a_protocol_without_a_variant_is_refused(tmp_path):
    text = TEXT.split("variants:")[0] + "variants: {}\n" + TEXT[TEXT.index("table:") :]
    assert "variants" in mistake(tmp_path, text)


# ------------------------------------------------------------------------ probes and learning rates


@pytest.mark.parametrize(
    "probe, updates, wanted",
    [
        ("log", 0, [0]),
        ("log", 1, [1]),
        ("log", 3, [1, 2, 3]),
        ("log", 10, [1, 2, 5, 10]),
        ("log", 99, [1, 2, 5, 10, 20, 50, 99]),
        ("log", 1000, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]),
        ("log", 2500, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 2500]),
        ("epoch", 0, [0]),
        ("epoch", 12, [4, 8, 12]),
        ("epoch", 13, [4, 8, 12, 13]),
        ("epoch", 3, [3]),
        (5, 0, [0]),
        (5, 12, [5, 10, 12]),
        (5, 10, [5, 10]),
        (50, 10, [10]),
        (1, 3, [1, 2, 3]),
        ("end", 0, [0]),
        ("end", 12, [12]),
    ],
)
def test_probe_updates(probe, updates, wanted):
    stage = Stage(phase="wake", updates=updates, probe=probe)
    assert probe_updates(stage, updates, updates_per_epoch=4) == wanted


@pytest.mark.parametrize(("updates", "wanted"), [(12, [2, 3, 5, 6, 11, 12]), (13, [2, 3, 5, 6, 11, 12, 13]), (2, [2])])
def test_turns_counted_on_a_logarithm_have_the_last_one_among_them(updates, wanted):
    stage = Stage(phase="alternating", cycle=Cycle(wake=2, sleep=1), updates=updates, probe="log")
    assert probe_updates(stage, updates, updates_per_epoch=4) == wanted


@pytest.mark.parametrize(("updates", "wanted"), [(12, [2, 3, 11, 12]), (13, [2, 3, 11, 12, 13]), (3, [2, 3])])
def test_turns_are_probed_at_both_ends_the_first_time_and_the_last(updates, wanted):
    stage = Stage(phase="alternating", cycle=Cycle(wake=2, sleep=1), updates=updates, probe="turns")
    assert probe_updates(stage, updates, updates_per_epoch=4) == wanted


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"phase": "wake", "probe": "turns"}, "probe turns needs the phase alternating, found wake"),
        ({"phase": "interleaved", "plasticity": {"baseline": "fresh"}}, "found the phase interleaved"),
    ],
)
def test_what_needs_phases_of_their_own_says_so(stage, words):
    with pytest.raises(ValueError, match=words):
        Stage.model_validate({"updates": 3, **stage})


def test_learning_rates_fall_in_a_straight_line_to_zero():
    stage = Stage(phase="wake", updates=100, decay_from=0.5)
    course = [decay(stage, update / 100) for update in range(100)]
    assert course[:50] == [1.0] * 50
    assert course[50:] == pytest.approx([1 - step / 50 for step in range(50)])
    assert decay(stage, 1 - 1e-9) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("decay_from, wanted", [(1.0, [1, 1, 1, 1]), (0.0, [1, 0.75, 0.5, 0.25])])
def test_learning_rates_that_never_or_always_fall(decay_from, wanted):
    stage = Stage(phase="wake", updates=4, decay_from=decay_from)
    assert [decay(stage, update / 4) for update in range(4)] == pytest.approx(wanted)


def test_stage_lengths_count_epochs_in_updates(tmp_path):
    found = [(c, name, updates) for c, name, _, updates in stage_lengths(load(tmp_path), 30)]
    assert found == [("young", "childhood", 60), ("old", "awake", 7), ("old", "childhood", 60)]


def test_a_list_of_variants_leaves_the_others_out():
    assert list(load_protocol("recurrent").variants) == ["max", "alternating", "undamped"]
    chosen = load_protocol("recurrent", "default", {"--set": {"variants": ["undamped"]}})
    assert chosen.variants == {"undamped": {"engine": {"damping": 0}}}
    more = load_protocol("recurrent", "default", {"--set": {"variants": {"slow": {"engine": {"damping": 0.9}}}}})
    assert list(more.variants) == ["max", "alternating", "undamped", "slow"]


# ------------------------------------------------------------------------ some conditions of many


def test_a_list_of_conditions_leaves_the_others_out_and_the_stages_that_only_they_had(tmp_path):
    (tmp_path / "p.yaml").write_text(TEXT)
    whole = load_protocol(tmp_path / "p.yaml")
    first = next(iter(whole.conditions))
    layers = {"--set a": {"conditions": [first]}, "--set b": {"table": {"conditions": [first], "against": None}}}
    some = load_protocol(tmp_path / "p.yaml", changes=layers)
    assert list(some.conditions) == [first] and list(some.stages) == whole.conditions[first].stages
    with pytest.raises(CortexffError, match="--set a: no condition 'nap'"):
        load_protocol(tmp_path / "p.yaml", changes={"--set a": {"conditions": ["nap"]}})
    typo = {"--set c": {"stages": {"chilhood": {"updates": 1}}}}
    with pytest.raises(CortexffError, match=r"--set c: 'stages\.chilhood\.phase' is missing"):
        load_protocol(tmp_path / "p.yaml", changes=layers | typo)


def test_lists_are_read_as_what_cannot_change():
    protocol = load_protocol("sleep_deprivation", "full")
    assert protocol.stages["local_sleep"].plasticity.sleeping == ("V1",) and hash(protocol.stages["one_class"])
