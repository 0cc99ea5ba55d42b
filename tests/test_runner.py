"""A run carries its protocol out exactly: alone or in a cohort, at once or in pieces, today or tomorrow."""

import dataclasses
import json
import shutil
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from short_life import LABELS, MODEL, images_of, protocol_of

from cortexff import sonata
from cortexff.engines.rate import RateEngine
from cortexff.errors import CortexffError
from cortexff.graph import parse_model
from cortexff.log import Log, open_file
from cortexff.protocol import runner
from cortexff.protocol.checkpoint import path_for
from cortexff.protocol.lesson import Lessons
from cortexff.protocol.plan import plan
from cortexff.protocol.runner import Interrupted, Listener, Run
from cortexff.protocol.schedule import Protocol
from cortexff.protocol.settings import merge
from cortexff.stimuli import images as image_sets

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time


def log_of(path: Path, subjects: list[int], blocks: int = 1, overwrite: bool = False) -> Log:
    dimensions = {"subject": subjects, "area": ["V1", "V2"], "block": list(range(blocks)), "label": list(range(LABELS))}
    return Log.create(path, {"model": json.dumps(MODEL), "seed": 1}, dimensions, overwrite)


class Watched(Run):
    """A run that keeps a copy of every condition's cohort at its end."""

    def _live(self, engine, protocol, segment, everyone) -> None:
        super()._live(engine, protocol, segment, everyone)
        self.__dict__.setdefault("last", {})[segment.condition] = everyone.select(range(len(self.subjects)))


def live(
    path: Path, protocol: Protocol, subjects: list[int] | None = None, listener: Listener | None = None, **kept
) -> Run:
    """Carry a protocol out; ``resume=True`` goes on with what is there."""
    everyone = subjects if subjects is not None else list(range(protocol.subjects))
    resume = kept.pop("resume", False)
    log = Log.reopen(path) if resume else log_of(path, everyone, kept.pop("blocks", 1))
    with log:
        run = Watched(
            protocol,
            parse_model(json.dumps(MODEL)),
            kept.pop("images", None) or images_of(),
            log,
            path_for(path),
            listener,
            subjects=everyone,
        )
        run.carry_out(resume=resume)
        run.forget_checkpoint()
    return run


def datasets(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_same_results(found: Path, wanted: Path) -> None:
    ours, theirs = datasets(found), datasets(wanted)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


# A criterion that stops subjects at different ages, and two variants: all that a resumed run has to take up again.
BROKEN = {
    "subjects": 3,
    "stages": {"childhood": {"until": 0.6, "probe": 1}, "sleep": {"updates": 1}},
    "variants": {"max": {"goodness": {"sign": "max"}}, "min": {"goodness": {"sign": "min"}}},
    "conditions": {"control": "none", "frozen": "none"},
    "table": {"conditions": ["development", "deprived"], "against": "development"},
}


# Two variants that backpropagation trains, on the same model.
BACKPROP = {
    "stimuli": {"labels": "none", "negatives": "none", "jitter": 1},
    "engine": {"learning": "backprop", "steps": 8},  # all else that it does not use is as by default
    "readout": {"steps": [3, 5], "softmax": {"learning_rate": 30.0}},
    "plasticity": {"learning_rate": 0.3, "peer_normalization": 0.03},
    "stages": {
        "childhood": {"phase": "wake", "train_softmax": False, "plasticity": {"learning_rate": 0.5}},
        "interleaved": "none",
        "sleep": "none",
    },
    "conditions": {"control": "none", "recovered": "none"},
    "variants": {
        "max": "none",
        "plain": {},
        "regularized": {"backprop": {"dropout": 0.4, "input_dropout": 0.1, "label_smoothing": 0.1}},
    },
    "table": {
        "conditions": ["development", "deprived"],
        "against": "development",
        "metrics": {"fp_neg": "none", "err_softmax": None, "loss": None},
    },
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An unbroken run of it."""
    path = tmp_path_factory.mktemp("whole") / "run.h5"
    live(path, protocol_of(BROKEN))
    return path


# ------------------------------------------------------------------------ subjects


def test_a_subject_alone_lives_the_life_it_lives_in_a_cohort(tmp_path):
    """Also where a criterion stops each at an age of its own."""
    protocol = protocol_of({"subjects": 5, "stages": {"childhood": {"updates": 12, "until": 0.6, "probe": 1}}})
    many, alone = live(tmp_path / "many.h5", protocol), live(tmp_path / "alone.h5", protocol, [3])
    for condition in ("development", "deprived", "recovered"):
        ours, theirs = (run.last[condition].arrays() for run in (many, alone))
        for name, array in theirs.items():
            np.testing.assert_allclose(ours[name][3], array[0], rtol=1e-5, atol=1e-6, err_msg=f"{condition} {name}")
    ages = many.last["development"].age
    assert len(set(ages.tolist())) > 1 and ages[3] == alone.last["development"].age[0] < 12
    cohort, single = datasets(tmp_path / "many.h5"), datasets(tmp_path / "alone.h5")
    assert single["subject"].tolist() == [3]
    assert cohort["max/development/reached"][3] == single["max/development/reached"][0] == 1
    assert cohort["max/control/age"][-1, 3] == single["max/control/age"][-1, 0] == ages[3] + 2
    for name, values in single.items():
        if values.ndim > 1 and "by_" not in name and "age" not in name:
            np.testing.assert_allclose(cohort[name][-1, 3], values[-1, 0], rtol=1e-4, atol=1e-5, err_msg=name)


def test_backpropagation_trains_a_subject_alone_as_in_a_cohort(tmp_path):
    protocol = protocol_of(BACKPROP, {"subjects": 3})
    many, alone = live(tmp_path / "many.h5", protocol), live(tmp_path / "alone.h5", protocol, [2])
    for condition in ("development", "deprived"):
        ours, theirs = (run.last[condition].arrays() for run in (many, alone))
        for name, array in theirs.items():
            np.testing.assert_allclose(ours[name][2], array[0], rtol=1e-5, atol=1e-6, err_msg=f"{condition} {name}")
    assert many.last["deprived"].age.tolist() == [6, 6, 6]


def test_backpropagation_interrupted_at_any_update_ends_the_same(tmp_path):
    protocol = protocol_of(BACKPROP)
    live(tmp_path / "whole.h5", protocol)
    asked = 0
    for at in (1, 3, 5, 9):  # in the first variant and in the one that draws

        def stop(at=at) -> bool:
            nonlocal asked
            asked += 1
            return asked > at

        path, asked = tmp_path / f"{at}.h5", 0
        with pytest.raises(Interrupted):
            live(path, protocol, listener=Listener(stop=stop))
        live(path, protocol, resume=True)
        assert_same_results(path, tmp_path / "whole.h5")


def test_of_backpropagation_only_what_it_has_is_logged(tmp_path):
    run = live(
        tmp_path / "run.h5", protocol_of(BACKPROP, {"stimuli": {"jitter": 0}, "stages": {"childhood": {"updates": 80}}})
    )
    rows = {"update", "stage", "phase", "age", "positive_updates", "negative_updates", "err_softmax", "loss", "probe"}
    with h5py.File(tmp_path / "run.h5") as file:
        group = file["plain/development"]
        assert set(group) == rows
        loss, error = group["loss"][:], group["err_softmax"][:]
        np.testing.assert_allclose(loss[0], np.log(LABELS), rtol=1e-5)  # every label equally likely
        assert (loss[-1] < 0.5 * loss[0]).all() and (error[-1] < 0.2).all()
        assert not np.array_equal(file["regularized/development/loss"][:], loss)
    cohort = run.last["development"]
    assert set(cohort.state.weights) == {"retina→V1", "V1→V2"} and cohort.softmax.weights.shape == (2, LABELS, 12)
    with pytest.raises(CortexffError, match=r"unknown metric 'dprime' \(known: err_softmax, loss\)"):
        live(tmp_path / "no.h5", protocol_of(BACKPROP, {"table": {"metrics": {"dprime": None}}}))


def test_a_subject_that_met_its_criterion_changes_no_more(tmp_path):
    protocol = protocol_of({"subjects": 5, "stages": {"childhood": {"updates": 12, "until": 0.6, "probe": 1}}})
    live(tmp_path / "run.h5", protocol)
    found = datasets(tmp_path / "run.h5")
    error, age, rate = (found[f"max/development/{name}"] for name in ("err_goodness", "age", "rate"))
    for subject in range(5):
        below = np.flatnonzero(error[1:, subject] <= np.float32(0.6)) + 1  # the newborn's probe ends nothing
        stop = below[0] if below.size else len(error) - 1
        assert age[:, subject].tolist() == [min(update, stop) for update in range(len(age))]
        assert (rate[stop:, subject] == rate[stop, subject]).all()
        assert found["max/development/reached"][subject] == bool(below.size)


def test_the_stage_ends_with_its_last_subject(tmp_path):
    steps = []
    protocol = protocol_of({"stages": {"childhood": {"updates": 6, "until": 1.0, "probe": 2}}})
    live(tmp_path / "run.h5", protocol, listener=Listener(advanced=steps.append))
    found = datasets(tmp_path / "run.h5")
    assert found["max/development/update"].tolist() == [0, 2]
    assert found["max/development/reached"].tolist() == [1, 1]
    assert sum(steps) == 6 + 2 + 5 + 2 + 2 + 5  # progress counts the whole plan


# ------------------------------------------------------------------------ conditions


def test_conditions_that_fork_meet_the_same_images_in_the_same_order(tmp_path, monkeypatch):
    met, now, live_on, cases = defaultdict(list), [], Run._live, Lessons.cases

    def watch(run, engine, protocol, segment, everyone):
        now[:] = [(segment.variant, segment.condition)]
        live_on(run, engine, protocol, segment, everyone)

    def spy(lessons, protocol, subject, age, stimuli):
        found = cases(lessons, protocol, subject, age, stimuli)
        met[now[0]].append((subject, age, tuple(found)))
        return found

    monkeypatch.setattr(Run, "_live", watch)
    monkeypatch.setattr(Lessons, "cases", spy)
    live(tmp_path / "run.h5", protocol_of({"variants": BROKEN["variants"]}))
    assert met["max", "control"] == met["max", "deprived"] == met["min", "control"]
    assert [(subject, age) for subject, age, _ in met["max", "control"]] == [(0, 4), (1, 4), (0, 5), (1, 5)]
    assert met["max", "control"][0][2] != met["max", "control"][1][2]  # each subject has an order of its own
    life = [found for subject, _, found in met["max", "development"] + met["max", "control"] if subject == 0]
    assert len({case for batch in life for case in batch}) == 6 * 5  # no image comes twice in an epoch


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(tmp_path):
    with log_of(tmp_path / "run.h5", [0, 1]) as log:
        protocol = protocol_of()
        run = Run(protocol, parse_model(json.dumps(MODEL)), images_of(), log, tmp_path / "none.h5")
        epochs = [
            np.concatenate([run.lessons.cases(protocol, 0, age) for age in range(first, first + 8)]) for first in (0, 8)
        ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert list(epochs[0]) != list(epochs[1])


def test_a_frozen_network_is_exactly_flat(tmp_path):
    run = live(tmp_path / "run.h5", protocol_of())
    found = datasets(tmp_path / "run.h5")
    flat = {name: values for name, values in found.items() if name.startswith("max/frozen/")}
    assert flat.pop("max/frozen/update").tolist() == [0, 3, 5]
    assert flat.pop("max/frozen/age").tolist() == [[4, 4]] * 3
    for name, values in flat.items():
        if len(values) == 3 and "by_" not in name and values.dtype.kind == "f":
            np.testing.assert_array_equal(values, np.repeat(values[:1], 3, axis=0), err_msg=name)
    assert run.last["development"].age.tolist() == [4, 4]


SPIKES = {"kind": "spiking", "spiking": {"backend": "torch"}}


def test_a_net_may_grow_up_in_rates_and_be_looked_at_in_spikes(tmp_path):
    """The stage's engine is another, its weights are the same, and only where spikes are, they are measured."""
    spiking = {"stages": {"frozen": {"engine": SPIKES}}, "measures": ["spikes"]}
    one, other = tmp_path / "rates.h5", tmp_path / "spikes.h5"
    live(one, protocol_of())
    live(other, protocol_of(spiking))
    rates, spikes = datasets(one), datasets(other)
    for name, values in rates.items():
        if not name.startswith(("max/frozen/", "max/recovered/")):
            np.testing.assert_array_equal(values, spikes[name], err_msg=name)
    assert "max/control/firing_rate" not in spikes
    frozen = spikes["max/frozen/firing_rate"]
    assert (frozen > 0).all() and (frozen == frozen[0]).all()
    # Of a stage of rates in a condition that has one of spikes, nothing is known.
    recovered, stage = spikes["max/recovered/firing_rate"], spikes["max/recovered/stage"]
    assert [np.isnan(row).all() for row in recovered] == [name == b"sleep" for name in stage]
    assert (spikes["max/frozen/goodness_correlation"] > 0.5).all()


def test_an_interrupted_life_in_spikes_goes_on_as_if_nothing_had_been(tmp_path):
    protocol = protocol_of({"engine": SPIKES, "raster": 1})
    whole, broken = tmp_path / "whole.h5", tmp_path / "broken.h5"
    live(whole, protocol)
    for before in (5, 9):
        asked = iter([False] * before + [True])
        with pytest.raises(Interrupted):
            live(broken, protocol, listener=Listener(stop=lambda: next(asked)))  # noqa: B023
        live(broken, protocol, resume=True)
        assert_same_results(broken, whole)
        broken.unlink()


def test_spikes_are_kept_of_the_first_subject_at_the_end_of_each_condition_that_spikes(tmp_path):
    protocol = protocol_of({"stages": {"frozen": {"engine": SPIKES, "probe_images": 8}}, "raster": 2})
    live(tmp_path / "run.h5", protocol)
    with open_file(tmp_path / "run.h5") as file:
        trials = list(sonata.trials(file))
    wrong = [(one.condition, one.stimulus, one.true_label, one.shown_label) for one in trials]
    assert wrong == [
        (condition, stimulus, stimulus, shown)
        for condition in ("frozen", "recovered")
        for stimulus in (0, 1)
        for shown in (stimulus, (stimulus + 1) % LABELS)
    ]
    assert all(one.variant == "max" and one.subject_number == 0 for one in trials)
    for one in trials:
        assert 0 < one.label_at < one.duration
        assert one.traces.keys() == {"V1", "V2"} and one.spikes.keys() == {"retina", "V1", "V2", "label"}
    shown = {one.image_set for one in trials}
    assert shown == {"test"} and all((one.read_until - one.read_from) / one.iteration == 2 for one in trials)
    live(tmp_path / "second.h5", protocol, subjects=[1])
    with open_file(tmp_path / "second.h5") as file:
        assert list(sonata.trials(file)) == []


def test_conditions_begin_where_the_one_before_ended(tmp_path):
    live(tmp_path / "run.h5", protocol_of())
    found = datasets(tmp_path / "run.h5")
    for name in ("fp_neg", "goodness_pos", "auroc", "err_softmax"):
        ended = found[f"max/deprived/{name}"][-1]
        np.testing.assert_array_equal(found[f"max/recovered/{name}"][0], ended)
        np.testing.assert_array_equal(found[f"max/control/{name}"][0], found[f"max/frozen/{name}"][0])
    assert (found["max/deprived/goodness_pos"][-1] != found["max/control/goodness_pos"][-1]).any()
    assert found["max/recovered/age"].tolist() == [[6, 6], [8, 8], [8, 8], [8, 8]]


def test_stages_of_a_condition_follow_one_another(tmp_path):
    live(tmp_path / "run.h5", protocol_of())
    found = datasets(tmp_path / "run.h5")
    assert found["max/recovered/update"].tolist() == [0, 2, 5, 7]
    assert [name.decode() for name in found["max/recovered/stage"]] == ["sleep", "sleep", "frozen", "frozen"]
    assert "max/recovered/goodness_by_stimulus" in found
    assert "max/development/goodness_by_stimulus" not in found  # it saw no test images


def test_a_last_stage_without_updates_is_probed(tmp_path):
    """`test: {phase: rest, updates: 0}` behind another stage: the test images are looked at once, there."""
    looked = {"stages": {"look": {"phase": "rest", "updates": 0}}}
    live(tmp_path / "run.h5", protocol_of(looked, {"conditions": {"development": {"stages": ["childhood", "look"]}}}))
    found = datasets(tmp_path / "run.h5")
    assert [name.decode() for name in found["max/development/stage"]] == ["childhood"] * 3 + ["look"]
    assert found["max/development/update"].tolist() == [0, 2, 4, 4]
    np.testing.assert_array_equal(found["max/development/auroc"][-1], found["max/control/auroc"][0])


def test_phases_show_what_they_say_and_rest_shows_nothing(tmp_path, monkeypatch):
    shown, learn = defaultdict(list), RateEngine.learn
    run = None

    def spy(engine, state, percept, context, images, is_positive, plasticity, *more, **others):
        stage = run.segments[run.position.segment].stage_name
        shown[stage].append((tuple(is_positive), context["label"].clone(), plasticity))
        learn(engine, state, percept, context, images, is_positive, plasticity, *more, **others)

    monkeypatch.setattr(RateEngine, "learn", spy)
    protocol = protocol_of()
    with log_of(tmp_path / "run.h5", [0, 1]) as log:
        run = Run(protocol, parse_model(json.dumps(MODEL)), images_of(), log, tmp_path / "checkpoint.h5")
        run.carry_out()
    phases = {stage: [phase for phase, _, _ in seen] for stage, seen in shown.items()}
    assert phases == {
        "childhood": [(True, False)] * 4,
        "interleaved": [(True, False)] * 2,
        "deprivation": [(True,)] * 2,
        "sleep": [(False,)] * 2,
    }
    for place in range(2):  # positives carry the true label; negatives of the same images another one
        both, awake = shown["interleaved"][place][1], shown["deprivation"][place][1]
        true = torch.from_numpy(np.stack([run.lessons.cases(protocol, subject, 4 + place) for subject in (0, 1)]))
        assert torch.equal(both[:, :, 0].argmax(-1), run.lessons.labels[true])
        assert torch.equal(both[:, :, :1], awake)
        assert not (both[:, :, 0] == both[:, :, 1]).all(-1).any()
        asleep = torch.from_numpy(np.stack([run.lessons.cases(protocol, subject, 6 + place) for subject in (0, 1)]))
        assert not (shown["sleep"][place][1][:, :, 0].argmax(-1) == run.lessons.labels[asleep]).any()
    rates = [plasticity.learning_rate for _, _, plasticity in shown["childhood"]]
    assert rates == pytest.approx([5, 5, 5, 2.5])  # decay from the middle on
    assert [plasticity.weight_cost for _, _, plasticity in shown["childhood"]] == [0.001] * 4
    assert {(p.learning_rate, p.weight_cost, p.peer_normalization) for _, _, p in shown["sleep"]} == {(1, 0, 0)}


def test_physiology_and_the_way_of_the_weights_are_logged_where_asked(tmp_path):
    protocol = protocol_of({"measures": ["physiology"], "engine": {"steps": 3}})
    live(tmp_path / "run.h5", protocol)
    with h5py.File(tmp_path / "run.h5") as file:
        for name, found in file["max"].items():
            assert np.isfinite(found["energy"][:]).all() and (found["evoked_slope"][:, :, 0] > 0).all(), name
            way = np.diff(found["weight_path"][:], axis=0)
            assert (way == 0).all() if name == "frozen" else (way >= 0).all() and way.max() > 0, name
        assert (file["max/deprived/positive_updates"][-1] - file["max/deprived/positive_updates"][0] == 2).all()
        assert (file["max/deprived/negative_updates"][:] == 4).all()  # those of development
        assert file["max/recovered/phase"].asstr()[:].tolist() == ["", "sleep", "rest", "rest"]
    for refused in ({"engine": {"kind": "spiking"}}, {}):
        changes = refused or BACKPROP
        with pytest.raises(ValueError, match="measures has physiology"):
            protocol_of(changes, {"measures": ["physiology"]})


def test_every_condition_ends_with_a_session_of_vigilance_where_asked(tmp_path):
    protocol = protocol_of({"measures": ["vigilance"], "engine": {"steps": 3}})
    live(tmp_path / "run.h5", protocol)
    with h5py.File(tmp_path / "run.h5") as file:
        for name, found in file["max"].items():
            if protocol.stages[protocol.conditions[name].stages[-1]].probe_on != "test":
                assert "vigilance_evidence" not in found
                continue
            evidence, onset = found["vigilance_evidence"][:], found["vigilance_onset"][:]
            assert evidence.shape[:2] == (2, len(onset)) and np.isfinite(evidence).all()
            later = np.arange(evidence.shape[2]) > onset[:, None] + 2
            assert np.isfinite(found["vigilance_synchrony"][:]).all() and later.any()
        frozen, deprived = (file[f"max/{name}/vigilance_evidence"][:] for name in ("frozen", "deprived"))
        assert not np.array_equal(frozen, deprived)
    with pytest.raises(ValueError, match="measures has vigilance"):
        protocol_of({"engine": {"kind": "spiking"}}, {"measures": ["vigilance"]})


def test_a_fork_is_not_probed_again_where_its_condition_began(tmp_path, monkeypatch):
    measured = []
    measure = runner.measure
    monkeypatch.setattr(runner, "measure", lambda *given, **more: measured.append(1) or measure(*given, **more))
    live(tmp_path / "run.h5", protocol_of())
    with h5py.File(tmp_path / "run.h5") as file:
        probes = sum(len(found["update"]) for found in file["max"].values())
        ends = file["max/deprived/goodness_pos"][-1], file["max/recovered/goodness_pos"][0]
        assert np.array_equal(*ends) and len(measured) < probes


def test_a_stage_looks_back_to_a_condition_that_has_ended(tmp_path):
    """Scaling brings goodness back to what it was; a run that is resumed still knows how that was."""
    stages = {"scaling": {"phase": "scaling", "like": "development", "updates": 3}}
    stages["again"] = {"phase": "sleep", "updates": 2, "stimuli": {"dreamer": "development"}}
    conditions = {"scaled": {"from": "recovered", "stages": ["scaling", "again"]}}
    protocol = protocol_of({"stages": stages, "conditions": conditions})
    whole = live(tmp_path / "whole.h5", protocol)
    stopped = whole.updates - 3
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > stopped - 8  # rest is not asked at every update

    with pytest.raises(Interrupted):
        live(tmp_path / "parts.h5", protocol, listener=Listener(stop=stop))
    live(tmp_path / "parts.h5", protocol, resume=True)
    assert_same_results(tmp_path / "parts.h5", tmp_path / "whole.h5")
    with pytest.raises(ValueError, match="looks back to 'scaled', no condition before it"):
        protocol_of(
            {"stages": {**stages, "scaling": {**stages["scaling"], "like": "scaled"}}, "conditions": conditions}
        )


@pytest.mark.parametrize("phase", ["interleaved", "wake", "sleep"])
@pytest.mark.parametrize("train", [False, True])
def test_the_softmax_learns_only_where_it_is_asked_to(tmp_path, phase, train):
    stage = {"phase": phase, "train_softmax": train}
    run = live(tmp_path / "run.h5", protocol_of({"stages": {"deprivation": stage}}))
    before, after = (run.last[name].softmax.weights for name in ("development", "deprived"))
    assert before.abs().sum() > 0
    assert torch.equal(before, after) is not train


@pytest.mark.parametrize("negatives", ["hard_labels", "random_labels"])
def test_negatives_are_the_kind_that_was_asked_for(tmp_path, monkeypatch, negatives):
    from cortexff.protocol import lesson

    called = []
    for name in ("hard_negatives", "random_negatives"):
        draw = getattr(lesson, name)
        monkeypatch.setattr(lesson, name, lambda *args, draw=draw, name=name: called.append(name) or draw(*args))
    live(tmp_path / "run.h5", protocol_of({"stimuli": {"negatives": negatives}}))
    assert set(called) == {negatives.replace("labels", "negatives")}


# ------------------------------------------------------------------------ variants


def test_variants_differ_in_what_they_say_and_in_nothing_else(tmp_path):
    same = {"goodness": {"sign": "max"}}
    live(
        tmp_path / "run.h5",
        protocol_of({"variants": {"max": same, "again": same, "min": {"goodness": {"sign": "min"}}}}),
    )
    found = datasets(tmp_path / "run.h5")
    for name, values in found.items():
        if name.startswith("max/"):
            np.testing.assert_array_equal(found[name.replace("max/", "again/")], values, err_msg=name)
    assert (found["max/control/goodness_pos"][-1] != found["min/control/goodness_pos"][-1]).any()


def test_variants_may_differ_in_their_number_of_blocks(tmp_path):
    """The log has room for the most; where a variant has fewer there is no value."""
    blocks = {f"{number} blocks": {"goodness": {"blocks": number}} for number in (1, 2)}
    conditions = {name: "none" for name in ("frozen", "recovered")}
    live(tmp_path / "run.h5", protocol_of({"variants": {"max": "none", **blocks}, "conditions": conditions}), blocks=2)
    found = datasets(tmp_path / "run.h5")
    assert np.isnan(found["1 blocks/control/goodness_pos"][..., 1]).all()
    assert np.isfinite(found["1 blocks/control/goodness_pos"][..., 0]).all()
    assert np.isfinite(found["2 blocks/control/goodness_pos"]).all()


# ------------------------------------------------------------------------ twice, and in pieces


def test_the_same_run_twice_is_the_same_file(tmp_path):
    protocol, paths = protocol_of(), [tmp_path / folder / "run.h5" for folder in "ab"]
    for path in paths:
        live(path, protocol)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [file.name for file in paths[0].parent.iterdir()] == ["run.h5"]  # no checkpoint is left


class Stop:
    """Asks for an interruption after some updates."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_the_criterion_of_the_broken_runs_stops_subjects_at_different_ages(whole):
    ages = datasets(whole)["max/development/age"][-1]
    assert len(set(ages.tolist())) > 1


@pytest.mark.parametrize("after", [0, 1, 3, 5, 7, 11])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(tmp_path, whole, after):
    path, protocol, steps = tmp_path / "run.h5", protocol_of(BROKEN), []
    with pytest.raises(Interrupted):
        live(path, protocol, listener=Listener(stop=Stop(after)))
    before, begun, segments = [], [], plan(protocol, 40)
    live(path, protocol, listener=Listener(steps.append, began=begun.append, resumed=before.append), resume=True)
    assert_same_results(path, whole)
    assert before[0] <= sum(segment.updates for segment in segments) - sum(steps) == sum(before)
    groups = list(dict.fromkeys(segment.group for segment in segments))
    begun = list(dict.fromkeys(name.split(",")[0] for name in begun))
    assert begun == groups[-len(begun) :]
    assert not path_for(path).exists()


@pytest.mark.parametrize("after", [5, 6, 8, 9, 10])
def test_averages_and_baselines_are_taken_up_where_they_were(tmp_path, after):
    """Interrupted in sleep or in wake, in the first cycle or a later one."""
    plasticity = {"baseline": "fresh", "gradient_average": 0.5}
    turns = {"phase": "alternating", "cycle": {"wake": 1, "sleep": 2}, "updates": 7, "probe": 1}
    changes = {
        "measures": ["averaged"],
        "stages": {"interleaved": {**turns, "plasticity": plasticity}, "deprivation": turns},
    }
    protocol = protocol_of({"conditions": {"frozen": "none", "recovered": "none"}}, changes)
    live(tmp_path / "whole.h5", protocol)
    stops = iter(range(1000))
    with pytest.raises(Interrupted):
        live(tmp_path / "broken.h5", protocol, listener=Listener(stop=lambda: next(stops) == after))
    live(tmp_path / "broken.h5", protocol, resume=True)
    assert_same_results(tmp_path / "broken.h5", tmp_path / "whole.h5")
    found = datasets(tmp_path / "whole.h5")
    averaged, error = (found[f"max/deprived/{name}"] for name in ("averaged_dprime", "dprime"))
    assert np.isnan(averaged[1:3]).all() and np.isfinite(averaged[3:]).all()
    assert not np.array_equal(averaged[3:], error[3:])
    control = {name: found[f"max/development/{name}"] for name in ("averaged_dprime", "dprime")}
    np.testing.assert_array_equal(control["averaged_dprime"], control["dprime"])


def test_a_run_interrupted_at_every_single_update_arrives(tmp_path, whole):
    path, protocol, times = tmp_path / "run.h5", protocol_of(BROKEN), 0
    while True:
        try:
            live(path, protocol, listener=Listener(stop=Stop(1)), resume=times > 0)
            break
        except Interrupted:
            times += 1
    assert times > 10
    assert_same_results(path, whole)


def test_a_run_killed_at_any_probe_goes_on_from_its_checkpoint(tmp_path, whole):
    """The log is newer than the checkpoint: what it has too much is forgotten and measured again."""
    path, protocol, copies = tmp_path / "run.h5", protocol_of(BROKEN), []

    def killed_here(*_) -> None:
        copies.append(tmp_path / f"{len(copies)}.h5")
        shutil.copy(path, copies[-1])
        if path_for(path).exists():
            shutil.copy(path_for(path), path_for(copies[-1]))

    live(path, protocol, listener=Listener(probed=killed_here))
    first = [copy for copy in copies if not path_for(copy).exists()]
    assert first == copies[:2]  # killed before there was any
    with pytest.raises(CortexffError, match="no checkpoint"):
        live(first[0], protocol, resume=True)
    assert len(copies) > 15
    for copy in copies[2::2]:  # every other one: they take their time
        live(copy, protocol, resume=True)
        assert_same_results(copy, whole)


def test_the_oldest_checkpoint_serves_the_newest_log(tmp_path, whole):
    path, protocol, kept = tmp_path / "run.h5", protocol_of(BROKEN), []

    def stop() -> bool:
        if path_for(path).exists() and not kept:
            kept.append(path_for(path).read_bytes())
        return False

    live(path, protocol, listener=Listener(stop=stop))
    path_for(path).write_bytes(kept[0])
    live(path, protocol, resume=True)
    assert_same_results(path, whole)


def test_a_new_run_does_not_leave_the_checkpoint_of_another(tmp_path):
    """Else, killed before its own first one, it would be resumed from a stranger's weights."""
    path, protocol = tmp_path / "run.h5", protocol_of()
    with pytest.raises(Interrupted):
        live(path, protocol, listener=Listener(stop=Stop(3)))
    assert path_for(path).exists()
    path.unlink()
    there = []
    live(path, protocol, listener=Listener(probed=lambda *_: there.append(path_for(path).exists())))
    assert there[0] is False


# ------------------------------------------------------------------------ what does not go together


@pytest.mark.parametrize(
    "images, words",
    [
        (images_of(pixels=10), ["shapes has 10 pixels", "area retina has 9 units"]),
        (images_of(classes=3), ["shapes has 3 labels", "area label has 4 units"]),
        (images_of(training=4), ["minibatch 5", "4 training images"]),
    ],
)
def test_data_that_do_not_fit_the_model_are_one_line(tmp_path, images, words):
    with pytest.raises(CortexffError) as caught:
        live(tmp_path / "run.h5", protocol_of(), images=images)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_a_variant_that_the_model_cannot_have_is_refused_before_anything_runs(tmp_path):
    seen = []
    with pytest.raises(CortexffError, match="do not divide into 5 blocks"):
        live(
            tmp_path / "run.h5",
            protocol_of({"variants": {"five": {"goodness": {"blocks": 5}}}}),
            listener=Listener(probed=lambda *_: seen.append(1)),
        )
    assert not seen


def test_the_plan_lists_every_stage_in_order():
    plans = plan(protocol_of({"variants": BROKEN["variants"]}), 40)
    found = [(s.group, s.stage_name, s.updates, s.first, s.before) for s in plans[:6]]
    assert found == [
        ("max/development", "childhood", 4, True, 0),
        ("max/control", "interleaved", 2, True, 0),
        ("max/frozen", "frozen", 5, True, 0),
        ("max/deprived", "deprivation", 2, True, 0),
        ("max/recovered", "sleep", 2, True, 0),
        ("max/recovered", "frozen", 5, False, 2),
    ]
    assert [s.group.replace("min", "max") for s in plans[6:]] == [s.group for s in plans[:6]]


# ------------------------------------------------------------------------ it learns


def test_development_on_the_digits_lowers_the_error(tmp_path):
    model = merge(MODEL, {"areas": {"retina": {"units": 64}, "V1": {"units": 30}, "V2": {"units": 30}}})
    model["areas"]["label"]["units"] = 10
    images = image_sets.hold_out(image_sets.load("digits"), 200)
    stage = {"epochs": 6, "updates": None, "decay_from": 1.0, "probe": "end"}
    only = {name: "none" for name in ("control", "frozen", "deprived", "recovered")}
    protocol = protocol_of(
        {"stimuli": {"minibatch": 25, "validation": 200}, "engine": {"steps": 5}, "subjects": 1},
        {"stages": {"childhood": stage}, "conditions": only},
        {"table": {"conditions": ["development"], "against": None}},
    )
    dimensions = {"subject": [0], "area": ["V1", "V2"], "block": [0], "label": list(range(10))}
    with Log.create(tmp_path / "run.h5", {}, dimensions) as log:
        Run(protocol, parse_model(json.dumps(model)), images, log, tmp_path / "checkpoint.h5").carry_out()
    error = datasets(tmp_path / "run.h5")["max/development/err_goodness"][:, 0]
    by_softmax = datasets(tmp_path / "run.h5")["max/development/err_softmax"][:, 0]
    assert error[0] > 0.7 and error[-1] < 0.35
    assert by_softmax[-1] < 0.3


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    """A run that was begun anew over an interrupted one must not go on with the other's weights."""
    path, net = tmp_path / "run.h5", parse_model(json.dumps(MODEL))
    with log_of(path, [0, 1]) as log, pytest.raises(Interrupted):
        Run(protocol_of(), net, images_of(), log, path_for(path), Listener(stop=Stop(2)), "one").carry_out()
    with Log.reopen(path) as log, pytest.raises(CortexffError, match="belongs to another run"):
        Run(protocol_of(), net, images_of(), log, path_for(path), run_id="two").carry_out(resume=True)
    with log_of(path, [0, 1], overwrite=True) as log, pytest.raises(Interrupted):
        Run(protocol_of(), net, images_of(), log, path_for(path), Listener(stop=lambda: True), "two").carry_out()


def test_a_run_with_other_validation_images_is_not_resumed(tmp_path):
    path, protocol, images = tmp_path / "run.h5", protocol_of({"stimuli": {"validation": 5}}), images_of()
    with pytest.raises(Interrupted):
        live(path, protocol, images=images, listener=Listener(stop=Stop(2)))
    others = dataclasses.replace(images, validation_labels=images.validation_labels[::-1].copy())
    with pytest.raises(CortexffError, match="held other validation images out"):
        live(path, protocol, images=others, resume=True)


def test_a_stage_that_comes_twice_ends_its_condition_once():
    days = {
        "conditions": {"control": {"from": "development", "stages": ["deprivation", "sleep", "deprivation", "sleep"]}}
    }
    lived = [segment for segment in plan(protocol_of(days), 40) if segment.condition == "control"]
    assert [segment.first for segment in lived] == [True, False, False, False]
    assert [segment.last for segment in lived] == [False, False, False, True]
    assert [segment.before for segment in lived] == [0, 2, 4, 6]
