"""Before a run: what it will do, and about how long it will take."""

from dataclasses import replace
from pathlib import Path

import pytest

from cortexff.environment import compiler
from cortexff.graph import load_model
from cortexff.protocol import estimate
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.plan import plan
from cortexff.protocol.schedule import probe_updates
from cortexff.stimuli import images as image_sets

OUT = Path("somewhere") / "run.h5"


@pytest.fixture(autouse=True)
def a_fixed_machine(monkeypatch):
    """A tenth of a second for an update of a subject, a millisecond for a tested image."""

    def seconds_of(protocol, net, phases, classes, device):
        return dict.fromkeys(phases, 0.1 * protocol.subjects), 1e-3 * protocol.subjects

    monkeypatch.setattr(estimate, "seconds_of", seconds_of)


def described(name: str, preset: str = "quick", images=None, **settings) -> str:
    protocol = load_protocol(name, preset, {"changes": settings})
    images = images or image_sets.hold_out(image_sets.load("digits"), protocol.stimuli.validation)
    segments = plan(protocol, len(images.training_labels))
    return "\n".join(estimate.describe(protocol, load_model(protocol.model), segments, images, OUT))


@pytest.mark.parametrize("preset", ["quick", "default"])
@pytest.mark.parametrize("name", ["recurrent", "sleep_deprivation", "backprop_baseline"])
def test_every_stage_of_every_condition_is_listed(name, preset):
    protocol = load_protocol(name, preset)
    segments = plan(protocol, 1200)
    text = described(name, preset)
    for segment in segments:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{segment.group} ")]
        assert line.split()[1:4] == [segment.stage_name, segment.stage.phase, str(segment.updates)]
    assert f"{sum(segment.updates for segment in segments)} updates of {protocol.stimuli.minibatch} images" in text
    assert protocol.title in text and str(OUT) in text and f"{protocol.subjects} subjects" in text


def test_a_line_gives_probes_learning_rate_and_criterion():
    text = described("sleep_deprivation", stages={"development": {"until": 0.015}})
    lines = {line.split()[0]: line for line in text.splitlines() if "/" in line}
    # Quick: 6 epochs of 48 updates, probed at birth and at the end.
    assert lines["max/development"].split()[3:6] == ["288", "2", "5,"]
    assert "until error ≤ 1.5 %" in lines["max/development"]
    assert lines["max/deprived"].split()[3:] == ["20", "6", "0.5"]
    assert lines["max/frozen"].split()[3:] == ["20", "2", "–"]


def seconds(text: str) -> float:
    words = text.split("about ")[1].split()
    return float(words[0]) * {"seconds": 1, "minutes": 60, "hours": 3600}[words[1]]


def test_time_is_that_of_updates_and_probes():
    protocol = load_protocol("recurrent", "default")
    images = image_sets.hold_out(image_sets.load("digits"), protocol.stimuli.validation)
    per_epoch = len(images.training_labels) // protocol.stimuli.minibatch
    engine = 0.0
    for segment in plan(protocol, len(images.training_labels)):
        probes = {0, *probe_updates(segment.stage, segment.updates, per_epoch)}
        shown = getattr(images, f"{segment.stage.probe_on}_labels")
        engine += protocol.subjects * (0.1 * segment.updates + 1e-3 * len(probes) * len(shown))
    assert seconds(described("recurrent", "default")) == pytest.approx(1.1 * engine, rel=0.02)


@pytest.mark.parametrize(
    "time, words", [(0.2, "0 seconds"), (89, "89 seconds"), (600, "10 minutes"), (9000, "2.5 hours")]
)
def test_durations_in_words(time, words):
    assert estimate.duration(time) == words


def test_the_schedule_is_said_before_the_machine_is_timed(monkeypatch):
    def not_yet(*_):
        raise AssertionError

    monkeypatch.setattr(estimate, "seconds_of", not_yet)
    protocol = load_protocol("rate_vs_spiking", "default")
    images = image_sets.hold_out(image_sets.load("digits"), protocol.stimuli.validation)
    segments, net = plan(protocol, len(images.training_labels)), load_model(protocol.model)
    schedule = next(estimate.describe(protocol, net, segments, images, OUT))
    assert "max/leaky" in schedule
    assert ("up to 5 kinds of spiking units, compiled" in schedule) == (compiler() is not None)


def test_the_paper_s_size_is_described_without_its_data():
    digits = image_sets.load("digits")
    pixels = digits.training_images.repeat(20, axis=0), digits.training_labels.repeat(20)
    images = replace(digits, training_images=pixels[0], training_labels=pixels[1])
    text = described("recurrent", "full", images=images)
    assert f"{30 * 560} updates of 50 images" in text


def test_backpropagation_is_timed_and_keeps_full_matrices(monkeypatch):
    assert "of 25 images" in described("backprop_baseline")
    monkeypatch.undo()
    protocol = load_protocol("backprop_baseline", "quick")
    updates, image = estimate.seconds_of(protocol, load_model(protocol.model), ["wake"], 10)
    assert set(updates) == {"wake"} and 1e-5 < updates["wake"] < 10 and 1e-7 < image < 1
    maps = load_protocol("backprop_baseline", "cifar10_2")
    assert estimate._weights(maps, load_model(maps.model)) == 2 * 3072**2


@pytest.mark.parametrize("phases", [("interleaved",), ("wake", "sleep")])
def test_the_machine_is_timed(monkeypatch, phases):
    monkeypatch.undo()
    protocol = load_protocol("recurrent", "quick")
    net = load_model(protocol.model)
    updates, image = estimate.seconds_of(protocol, net, phases, 10)
    assert set(updates) == set(phases)
    assert all(1e-5 < each < 10 for each in (*updates.values(), image))
    assert estimate.seconds_of(protocol, net, phases, 10) == (updates, image)  # not timed again
