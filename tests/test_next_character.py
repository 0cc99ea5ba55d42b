"""Figure 5: what is measured is what its name says, the table says what was found, and a run goes on where it was."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import cortexff
from cortexff import readout
from cortexff.errors import CortexffError
from cortexff.experiments import course, next_character
from cortexff.experiments.course import Course
from cortexff.experiments.next_character import Experiment, perplexity, prediction, verdict
from cortexff.graph import load_model, parse_model
from cortexff.log import Log
from cortexff.protocol import table
from cortexff.protocol.__main__ import command
from cortexff.protocol.checkpoint import path_for
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.runner import Interrupted, Listener
from cortexff.protocol.table import Row
from cortexff.random_streams import generator
from cortexff.stimuli import text
from tests.test_reading import MODEL, NET, STRINGS, belief_after, naive_draw, reader_of

torch.set_num_threads(1)
SMALL = {"--set": {"subjects": 3, "updates": 4, "probe": 2, "text": {"training": 3, "held_out": 2}}}
CONDITIONS = ("fixed", "teacher_forced", "rolled_out", "separated", "positive_only")


@pytest.fixture(autouse=True, scope="module")
def short_strings():
    """Ten predictions a string rather than ninety."""
    strings = text.load("fables")
    short = text.Strings("fables", strings.training[:, :20], strings.test[:, :20])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "load", lambda name, progress=False: short)
        yield


@pytest.fixture(scope="module")
def whole(short_strings, tmp_path_factory):
    """The file of a run that nobody interrupted."""
    path = tmp_path_factory.mktemp("whole") / "whole.h5"
    live(path)
    return path


def live(path: Path, subjects=(0, 1, 2), stop=None, resume=False, **changes) -> Course:
    protocol = load_protocol("next_character", "quick", {**SMALL, "more": changes})
    experiment = Experiment(protocol, NET, subjects=subjects)
    if resume:
        log = Log.reopen(path)
    else:
        dimensions = {"subject": list(subjects), "area": ["A1", "A2"], "block": [0]}
        log = Log.create(path, {"settings": protocol.model_dump_json()}, dimensions)
    with log:
        run = Course(experiment, log, path_for(path), Listener(stop=stop or (lambda: False)), "this run")
        run.carry_out(resume=resume)
    return run


def contents(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file["max"].visititems(lambda n, item: found.update({n: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


class Stop:
    """Asks to stop when it has been asked so often."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_perplexity_is_that_of_numpy():
    chances = np.random.default_rng(0).random((2, 50))
    found = perplexity(torch.from_numpy(chances).log()).numpy()
    np.testing.assert_allclose(found, np.exp(-np.log(chances).mean(1)))
    np.testing.assert_allclose(found, np.prod(chances, axis=1) ** (-1 / 50))


def test_whoever_knows_nothing_hesitates_between_all_characters():
    found, _ = prediction(reader_of(practised=False), STRINGS)
    np.testing.assert_allclose(found, 30, rtol=1e-5)


def test_prediction_is_of_the_character_that_follows_each_context():
    reader = reader_of()
    found, accuracy = prediction(reader, STRINGS)
    contexts = np.lib.stride_tricks.sliding_window_view(STRINGS.numpy(), 10, axis=1)[:, :-1]
    percept = reader.look(torch.from_numpy(contexts.copy())[None])
    believed = readout.belief(reader.cohort.softmax, reader.heard(percept)).numpy().astype(float)
    following = STRINGS[:, 10:].numpy().ravel()
    right = believed[:, np.arange(len(following)), following]
    np.testing.assert_allclose(found, np.exp(-np.log(right).mean(1)), rtol=1e-5)
    np.testing.assert_allclose(accuracy, (believed.argmax(-1) == following).mean(1))


def test_what_is_measured_is_what_plain_windows_give():
    """Each kind of window made one by one, and signal detection by hand."""
    experiment = Experiment(load_protocol("next_character", "quick", SMALL), NET, subjects=(0, 1))
    reader, strings = reader_of(), experiment.test.numpy()
    for weights in reader.cohort.state.weights.values():
        weights.mul_(1.3)  # as real as not, to them
    row = experiment.measure(reader.engine, reader.cohort)
    for subject in (0, 1):
        made = {"pos": [], "neg": [], "generated": []}
        uniform = generator(0, subject, "probed predictions", 0).random((2, 10), dtype=np.float32)
        for string, drawn in zip(strings, uniform, strict=True):
            dream = string[:10].tolist()
            for end, chance in zip(range(10, 20), drawn, strict=True):
                dream.append(naive_draw(belief_after(reader, np.array(dream[-10:]), subject), chance))
                predicted = naive_draw(belief_after(reader, string[end - 10 : end], subject), chance)
                made["pos"].append(string[end - 9 : end + 1])
                made["neg"].append([*string[end - 9 : end], predicted])
                made["generated"].append(dream[-10:])
        evidence, called_real = {}, {}
        for kind, of_kind in made.items():
            activity = reader.look(torch.tensor(np.array(of_kind))[None, None]).activity
            odds = [
                reader.engine.log_odds(a, reader.engine.goodness(a, y[:, :, 0]))[subject] for a, y in activity.items()
            ]
            odds = torch.cat(odds, dim=-1).double().numpy()
            evidence[kind], called_real[kind] = odds.sum(-1), ((1 / (1 + np.exp(-odds))).mean(-1) > 0.5).mean()
        np.testing.assert_allclose(row["miss"][subject], 1 - called_real["pos"])
        assert all(0 < share < 1 for share in called_real.values()), called_real
        for kind in ("neg", "generated"):
            spread = np.sqrt((evidence["pos"].var(ddof=1) + evidence[kind].var(ddof=1)) / 2)
            apart = evidence["pos"].mean() - evidence[kind].mean()
            np.testing.assert_allclose(row[f"dprime_{kind}"][subject], apart / spread, rtol=1e-3)
            np.testing.assert_allclose(row[f"fp_{kind}"][subject], called_real[kind])


def test_a_diverged_subject_has_no_figures():
    reader = reader_of()
    reader.cohort.state.weights["text→A1"][1] = torch.nan
    found, accuracy = prediction(reader, STRINGS)
    assert np.isfinite([found[0], accuracy[0]]).all() and np.isnan([found[1], accuracy[1]]).all()


@pytest.mark.parametrize("after", [0, 9, 15])
def test_a_resumed_run_is_the_unbroken_one(tmp_path, whole, after):
    with pytest.raises(Interrupted):
        live(tmp_path / "broken.h5", stop=Stop(after))
    live(tmp_path / "broken.h5", resume=True)
    unbroken, broken = contents(whole), contents(tmp_path / "broken.h5")
    assert unbroken.keys() == broken.keys()
    for name, array in unbroken.items():
        np.testing.assert_array_equal(broken[name], array, err_msg=name)


def test_a_subject_alone_finds_what_it_finds_in_a_cohort(tmp_path, whole):
    live(tmp_path / "alone.h5", subjects=(1,))
    both, alone = contents(whole), contents(tmp_path / "alone.h5")
    for condition in CONDITIONS:
        for name in next_character.VARIABLES:
            path = f"{condition}/{name}"
            np.testing.assert_allclose(alone[path][:, 0], both[path][:, 1], rtol=1e-3, atol=1e-4, err_msg=path)


def test_regimes_begin_alike_and_part(whole):
    found = contents(whole)
    for name in next_character.VARIABLES:
        for condition in CONDITIONS[1:]:
            np.testing.assert_array_equal(found[f"{condition}/{name}"][0], found[f"fixed/{name}"][0])
    ends = [tuple(found[f"{condition}/perplexity_test"][-1]) for condition in CONDITIONS]
    assert len(set(ends)) == len(CONDITIONS)
    assert found["rolled_out/update"].tolist() == [0, 2, 4]


DIFFERENCE = Row(
    "next_character", "4.1", "max", "separated − rolled_out", "perplexity_test", "perplexity", np.nan, 0.1, 0.05, 0.15,
    5, "default", "up in 5 of 5, p = 0.06",
)  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "gain", "words"),
    [
        (-0.05, 0.15, 2.0, "alike: +5% [-2%, +8%] {of}"),
        (0.05, 0.15, 2.0, "alike though different: +5% [+2%, +8%] {of}"),
        (0.05, 0.15, 1.0, "different: +10% [+5%, +15%] {of}"),
        (-0.3, 0.5, 2.0, "undecided: +5% [-15%, +25%] {of}"),
        (-0.3, 0.5, -2.0, "alike or not cannot be said: fixed weights did no worse"),
        (-0.3, 0.5, np.nan, "alike or not cannot be said: fixed weights did no worse"),
        (np.nan, np.nan, 2.0, "alike or not cannot be said: no interval"),
    ],
)
def test_a_verdict_says_what_was_found(low, high, gain, words):
    of = "of what learning gains over fixed weights, where up to 10% is alike"
    assert verdict(replace(DIFFERENCE, low=low, high=high), gain, alike=0.1) == words.format(of=of)


def test_the_report_judges_differences_of_perplexity_and_no_others(tmp_path, whole):
    path = tmp_path / "run.h5"
    shutil.copy(whole, path)
    with h5py.File(path, "r+") as file:
        for condition, values in {
            "fixed": [14, 15, 16],
            "rolled_out": [12, 13, 14],
            "separated": [12.1, 13.1, 14.1],
        }.items():
            file[f"max/{condition}/perplexity_test"][-1] = values
    protocol = load_protocol("next_character", "quick", SMALL)
    rows = next_character.report(path, protocol, "next_character", "quick")
    judged = {row.condition: row.verdict for row in rows if row.metric == "perplexity_test"}
    assert judged["separated − rolled_out"].startswith("up in 3 of 3, p = 0.25; alike though different: +5%")
    assert judged["fixed − rolled_out"] == "up in 3 of 3, p = 0.25" and judged["fixed"] == ""
    assert not [row for row in rows if "; " in row.verdict and not row.metric.startswith("perplexity")]
    assert "separated − rolled_out, max: alike though different" in table.render(rows)


def test_its_file_opens_like_the_others(tmp_path):
    out = tmp_path / "run.h5"
    settings = ["--set", "updates=1", "--set", "text.training=2", "--set", "text.held_out=1", "--subjects", "2"]
    arguments = ["next_character", "--preset", "quick", "--out", str(out), "--progress", "text", *settings]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert "perplexity, held-out strings" in done.output and "separated − rolled_out" in done.output
    assert "max/separated ..." in done.output
    with cortexff.open_results(out) as results:
        regime = results["max/separated"]
        assert regime["goodness_pos"].dims == ("probe", "subject", "area", "block")
        assert list(regime["perplexity_test"].sel(subject=1)["update"].values) == [0, 1]
        assert regime["perplexity_test"].attrs["units"] == "characters"
        assert list(results["area"].values) == ["A1", "A2", "A3"]
    again = CliRunner().invoke(command, arguments)
    assert isinstance(again.exception, CortexffError) and "exists" in str(again.exception)


def test_looking_ahead_lists_every_regime():
    protocol = load_protocol("next_character", "quick", SMALL)
    told = course.describe(Experiment(protocol, NET), NET, Path("run.h5"))
    for condition in CONDITIONS:
        (line,) = [line for line in told.splitlines() if line.startswith(f"max/{condition} ")]
        assert line.split()[1:3] == ["4", "3"]
    assert "20 updates of 30 predictions" in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"experiment": "next_word"}, "experiment: found 'next_word', allowed: next_character"),
        ({"conditions": {"fixed": {"phases": ["dream"]}}}, "conditions.fixed.phases.0: found 'dream'"),
        ({"conditions": {"a": {"phases": ["rest", "wake"]}}}, "conditions.a: the phase rest stands alone"),
        ({"text": {"strings": "odyssey"}}, "text.strings: found 'odyssey'"),
        ({"table": {"against": "nobody"}}, "the table compares with 'nobody'|the table's condition 'nobody'"),
        ({"update": 3}, "unknown key 'update'; did you mean 'updates'"),
    ],
)
def test_a_mistake_is_told_with_its_place(changes, words):
    with pytest.raises(CortexffError, match=words) as told:
        load_protocol("next_character", "quick", {"--set this": changes})
    assert str(told.value).startswith("--set this: ")


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"training": 25}, "text.training is 25, but fables has 24 such strings"),
        ({"held_out": 13}, "text.held_out is 13, but fables has 12"),
        ({"training": 6, "validation": 6}, "text.validation is 6, but fables has 6"),
    ],
)
def test_more_strings_than_there_are_are_refused(asked, words):
    protocol = load_protocol("next_character", changes={"x": {"text": asked}})
    with pytest.raises(CortexffError, match=words):
        Experiment(protocol, NET)


def test_settings_are_chosen_on_strings_held_out_of_the_training():
    protocol = load_protocol("next_character", changes={"x": {"text": {"training": 9, "validation": 3}}})
    found, strings = Experiment(protocol, NET), text.load("fables")
    np.testing.assert_array_equal(found.training, strings.training[:6])
    np.testing.assert_array_equal(found.test, strings.training[6:9])


def test_a_model_that_cannot_read_is_refused():
    protocol = load_protocol("next_character", "quick")
    with pytest.raises(CortexffError, match=r"area retina has 64 units.*give it shape \[10, 30\]"):
        Experiment(protocol, load_model("digits_feedforward"))
    areas = {**MODEL["areas"], "label": {"role": "context", "units": 3}}
    more = [*MODEL["projections"], {"from": "label", "to": "A2", "kind": "top_down"}]
    with pytest.raises(CortexffError, match="has a context area"):
        Experiment(protocol, parse_model(json.dumps({**MODEL, "areas": areas, "projections": more})))
    with pytest.raises(CortexffError, match="unknown metric 'loss'"):
        Experiment(load_protocol("next_character", "quick", {"x": {"table": {"metrics": {"loss": None}}}}), NET)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"gradient": "none"}, "plasticity.gradient none: next_character knows no such thing"),
        ({"baseline": "fresh"}, "plasticity.baseline fresh: "),
        ({"optimizer": "adam"}, "plasticity.optimizer adam: "),
        ({"sleeping": ["V9"]}, r"plasticity.sleeping: unknown area 'V9' \(known: A1, A2\)"),
    ],
)
@pytest.mark.parametrize("of_variant", [False, True])
def test_plasticity_that_would_do_nothing_is_refused(changes, words, of_variant):
    where = {"variants": {"max": {"plasticity": changes}}} if of_variant else {"plasticity": changes}
    with pytest.raises(CortexffError, match=words):
        Experiment(load_protocol("next_character", "quick", {"x": where}), NET)


def test_what_needs_several_processes_is_refused(tmp_path, monkeypatch):
    done = CliRunner().invoke(command, ["next_character", "--jobs", "2", "--out", str(tmp_path / "a.h5")])
    assert "carried out by one process" in str(done.exception)
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = CliRunner().invoke(command, ["next_character", "--out", str(tmp_path / "a.h5")])
    assert "torchrun: next_character is carried out by one process" in str(done.exception)
