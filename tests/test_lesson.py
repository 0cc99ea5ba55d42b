"""One update: what a cohort is shown, for each way that labels and negative data reach a net."""

import json

import numpy as np
import pytest
import torch

from cortexff import readout
from cortexff.engines.rate import RateEngine
from cortexff.engines.state import RateDynamics
from cortexff.graph import parse_model
from cortexff.protocol.cohort import Cohort
from cortexff.protocol.lesson import Lessons
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.schedule import Protocol
from cortexff.protocol.settings import Stage
from cortexff.stimuli.images import Images

SHAPE, CLASSES, SUBJECTS = (5, 5), 3, [0, 4]
CHAIN = {
    "format": "cortexff-model/1",
    "areas": {"retina": {"role": "input", "shape": [*SHAPE]}, "V1": {"units": 12}, "V2": {"units": 10}},
    "projections": [{"from": "retina", "to": "V1"}, {"from": "V1", "to": "V2"}],
}


def images_of(training: int = 20) -> Images:
    random = np.random.default_rng(0)
    images = 0.2 + 0.8 * random.random((training, 25), dtype=np.float32)
    labels = np.arange(training) % CLASSES
    return Images("random", SHAPE, images, labels, images, labels, images[:0], labels[:0], classes=CLASSES)


class Watched(RateEngine):
    """An engine that keeps what it was shown last."""

    def look(self, state, images):
        self.looked = [*getattr(self, "looked", []), images["retina"].clone()]
        return super().look(state, images)

    def learn(self, state, percept, context, images, *more, **others):
        self.learned = images["retina"].clone()
        super().learn(state, percept, context, images, *more, **others)


def lesson(
    stimuli: dict, stage: dict, subjects: list[int] = SUBJECTS, number: int = 0, dreamer: bool = False
) -> tuple[Watched, Cohort, Lessons, Protocol]:
    """An update of newborn subjects, the stage's first unless told; a dreamer takes all for a 1."""
    protocol = Protocol.model_validate(
        {
            "format": "cortexff-protocol/1",
            "title": "A lesson",
            "section": "3",
            "model": "chain",
            "stimuli": {"minibatch": 5, **stimuli},
            "engine": {"steps": 0},
            "plasticity": {"learning_rate": 1},
            "stages": {"birth": {"phase": "rest", "updates": 0}, "school": {"updates": 1, **stage}},
            "conditions": {"birth": {"stages": ["birth"]}, "school": {"from": "birth", "stages": ["school"]}},
            "variants": {"max": {}},
            "table": {"conditions": ["school"], "metrics": {"err_softmax": None}},
        }
    )
    net, images = parse_model(json.dumps(CHAIN)), images_of()
    engine = Watched(net, RateDynamics(steps=0))
    softmax = readout.start_softmax(engine, len(subjects), CLASSES)
    cohort = Cohort.newborn(subjects, engine.start(0, subjects), softmax)
    lessons = Lessons(images, Presentation.of(protocol.stimuli, net, images), len(subjects))
    birth = cohort.select(range(len(subjects)))
    if dreamer:
        birth.softmax.weights[:, 1] = 10.0  # whatever is seen, it is a 1
    lessons.update(engine, cohort, protocol, protocol.stages["school"], number, number + 1, {"birth": birth})
    return engine, cohort, lessons, protocol


def met(lessons: Lessons, protocol: Protocol) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of the first minibatch of each subject."""
    chosen = torch.from_numpy(np.stack([lessons.cases(protocol, subject, 0) for subject in SUBJECTS]))
    return lessons.images[chosen], lessons.labels[chosen]


@pytest.mark.parametrize("negatives", ["hard_labels", "random_labels"])
def test_labels_lie_in_the_pixels(negatives):
    """§3.3: the correct label in the positive version, an incorrect one in the negative, and a neutral one before."""
    engine, cohort, lessons, protocol = lesson(
        {"labels": "pixels", "negatives": negatives}, {"phase": "interleaved", "train_softmax": True}
    )
    images, labels = met(lessons, protocol)
    right, wrong = engine.learned.unbind(2)
    assert torch.equal(right[..., :CLASSES].argmax(-1), labels)
    assert not (wrong[..., :CLASSES].argmax(-1) == labels).any()
    assert (engine.learned[..., :CLASSES].sum(-1) == 1).all()
    for shown in (right, wrong, engine.looked[0][:, :, 0]):
        assert torch.equal(shown[..., CLASSES:], images[..., CLASSES:])
    torch.testing.assert_close(engine.looked[0][..., :CLASSES], torch.full((2, 5, 1, CLASSES), 1 / CLASSES))
    assert cohort.age.tolist() == [1, 1] and cohort.softmax.weights.abs().sum() > 0


@pytest.mark.parametrize(("phase", "versions"), [("interleaved", 2), ("wake", 1), ("sleep", 1)])
def test_hybrids_are_made_of_two_images_of_the_minibatch(phase, versions):
    """§3.2: "one digit image times the mask and a different digit image times the reverse of the mask"."""
    engine, _, lessons, protocol = lesson({"labels": "none", "negatives": "hybrids"}, {"phase": phase})
    images, _ = met(lessons, protocol)
    assert engine.learned.shape == (2, 5, versions, 25)
    if phase != "sleep":
        assert torch.equal(engine.learned[:, :, 0], images)
    if phase != "wake":
        hybrid = engine.learned[:, :, -1]
        first, second = hybrid == images, hybrid == images.roll(1, dims=1)
        assert (first | second).all() and first.any() and second.any()
        assert not torch.equal(first[0], first[1])  # each subject has masks of its own


@pytest.mark.parametrize("stimuli", [{"labels": "none", "negatives": "hybrids"}, {"labels": "pixels"}])
def test_a_softmax_learns_while_the_hidden_areas_rest(stimuli):
    engine, cohort, _, _ = lesson(stimuli, {"phase": "rest", "train_softmax": True})
    assert not hasattr(engine, "learned") and cohort.softmax.weights.abs().sum() > 0
    newborn = engine.start(0, SUBJECTS)
    assert all(torch.equal(array, newborn.weights[name]) for name, array in cohort.state.weights.items())
    assert len(engine.looked) == 1 and cohort.age.tolist() == [1, 1]


def test_jitter_moves_images_and_leaves_labels_in_place():
    """§3.3: "jittering the images by up to two pixels in each direction"."""
    engine, _, lessons, protocol = lesson({"labels": "pixels", "jitter": 2}, {"phase": "interleaved"})
    images, labels = met(lessons, protocol)
    assert torch.equal(engine.learned[:, :, 0, :CLASSES].argmax(-1), labels)
    shown = engine.learned[:, :, 0].view(2, 5, 5, 5)
    wide = torch.nn.functional.pad(images.view(2, 5, 5, 5), (2, 2, 2, 2))
    shifts = set()
    for subject, case in np.ndindex(2, 5):
        for down, right in np.ndindex(5, 5):
            moved = wide[subject, case, down : down + 5, right : right + 5]
            if torch.equal(shown[subject, case, 1:], moved[1:]):
                shifts.add((down, right))
                break
        else:
            pytest.fail("an image is no shift of what it was")
    assert len(shifts) > 3


@pytest.mark.parametrize(
    "stimuli",
    [{"labels": "pixels", "jitter": 1}, {"labels": "none", "negatives": "hybrids", "jitter": 1}],
)
def test_a_subject_learns_alone_as_in_its_cohort(stimuli):
    stage = {"phase": "interleaved", "train_softmax": True}
    _, together, _, _ = lesson(stimuli, stage)
    _, alone, _, _ = lesson(stimuli, stage, subjects=[4])
    for name, array in alone.state.arrays().items():
        torch.testing.assert_close(array[0], together.state.arrays()[name][1])
    torch.testing.assert_close(alone.softmax.weights[0], together.softmax.weights[1])


def test_stages_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="hybrids alone"):
        lesson({"labels": "none", "negatives": "hybrids"}, {"phase": "sleep", "train_softmax": True})
    for stimuli in ({"labels": "none"}, {"negatives": "hybrids"}):
        with pytest.raises(ValueError, match="go together"):
            lesson(stimuli, {"phase": "wake"})
    assert Stage.model_validate({"phase": "rest", "train_softmax": True, "epochs": 1}).train_softmax


# ------------------------------------------------------------------------ what a stage changes (§9)


def test_noise_takes_the_place_of_wrong_labels():
    """The same pixels in another order, with the true label."""
    stage = {"phase": "interleaved", "stimuli": {"negatives": "noise"}}
    engine, _, lessons, protocol = lesson({"labels": "pixels"}, stage)
    images, labels = met(lessons, protocol)
    assert torch.equal(engine.learned[:, :, 0, CLASSES:], images[..., CLASSES:])
    assert torch.equal(engine.learned[:, :, :, :CLASSES].argmax(-1), labels[:, :, None].expand(-1, -1, 2))
    noise = engine.learned[:, :, 1, CLASSES:]
    assert not torch.equal(noise, images[..., CLASSES:])
    for shown, image in zip(noise.flatten(0, 1), images.flatten(0, 1), strict=True):
        assert set(shown.tolist()) <= set(image.tolist())


def test_labels_of_a_control_have_nothing_to_do_with_the_image():
    stage = {"phase": "wake", "stimuli": {"shuffled_labels": True}}
    engine, _, lessons, protocol = lesson({"labels": "pixels"}, stage)
    images, labels = met(lessons, protocol)
    assert torch.equal(engine.learned[:, :, 0, CLASSES:], images[..., CLASSES:])
    drawn = engine.learned[:, :, 0, :CLASSES].argmax(-1)
    assert not torch.equal(drawn, labels) and len(drawn.unique()) == CLASSES


def test_only_some_classes_or_some_images_are_met():
    for asked in ({"classes": [2, 0]}, {"remembered": 6}, {"classes": [1], "remembered": 5}):
        engine, _, lessons, protocol = lesson(
            {"labels": "none", "negatives": "hybrids"}, {"phase": "wake", "stimuli": asked}
        )
        stimuli = protocol.stages["school"].stimuli
        life = [lessons.cases(protocol, subject, age, stimuli) for subject in SUBJECTS for age in range(12)]
        assert torch.equal(engine.learned[0, :, 0], lessons.images[life[0]])
        seen = {int(lessons.labels[case]) for batch in life for case in batch}
        assert seen == set(asked.get("classes", range(CLASSES)))
        for of_one in (life[:12], life[12:]):
            assert len({int(case) for batch in of_one for case in batch}) <= asked.get("remembered", 20)
        assert not np.array_equal(life[0], life[12])  # each subject has an order of its own


def test_wake_and_sleep_take_turns():
    stage = {"phase": "alternating", "cycle": {"wake": 2, "sleep": 1}}
    for number, real in enumerate([True, True, False, True]):
        engine, cohort, lessons, protocol = lesson({"labels": "pixels"}, stage, number=number)
        _, labels = met(lessons, protocol)
        shown = engine.learned[:, :, 0, :CLASSES].argmax(-1)
        assert torch.equal(shown, labels) if real else not (shown == labels).any()
        assert cohort.met.tolist() == [[int(real), int(not real)]] * 2


def test_another_time_of_life_draws_the_hard_labels():
    engine, _, lessons, protocol = lesson(
        {"labels": "pixels"}, {"phase": "sleep", "stimuli": {"dreamer": "birth"}}, dreamer=True
    )
    _, labels = met(lessons, protocol)
    assert (engine.learned[:, :, 0, :CLASSES].argmax(-1)[labels != 1] == 1).all()


@pytest.mark.parametrize("control", ["shuffled", "none"])
def test_synapses_of_a_control_learn_what_others_should_have(control):
    """The same numbers in other places of the projection; or nothing, so that the weight cost is alone."""
    stage = {"phase": "wake", "plasticity": {"gradient": control, "gradient_average": 0, "weight_cost": 0}}
    own = {"phase": "wake", "plasticity": {"gradient_average": 0, "weight_cost": 0}}
    _, wanted, _, _ = lesson({"labels": "pixels"}, own)
    engine, found, _, _ = lesson({"labels": "pixels"}, stage)
    newborn = engine.start(0, SUBJECTS)
    for name, weights in newborn.weights.items():
        right, other = (cohort.state.weights[name] - weights for cohort in (wanted, found))
        if control == "none":
            assert not other.any()
            continue
        assert not torch.allclose(right, other)
        for one, shuffled in zip(right.flatten(1), other.flatten(1), strict=True):
            torch.testing.assert_close(one.sort().values, shuffled.sort().values, atol=1e-6, rtol=0)
    if control == "none":
        stage["plasticity"]["weight_cost"] = 0.1
        _, decayed, _, _ = lesson({"labels": "pixels"}, stage)
        for name, weights in decayed.state.weights.items():
            torch.testing.assert_close(
                weights / newborn.weights[name], (weights / newborn.weights[name]).mean().expand_as(weights)
            )


def test_derivatives_from_above_change_what_lower_areas_learn():
    """The last area learns as ever; the one below it also what the last one would have it do."""
    own, more = ({"phase": "interleaved", "plasticity": {"gradient": kind}} for kind in ("own", "backpropagated"))
    (_, local, _, _), (_, told, _, _) = (lesson({"labels": "pixels"}, stage) for stage in (own, more))
    assert torch.equal(local.state.weights["V1→V2"], told.state.weights["V1→V2"])
    assert not torch.allclose(local.state.weights["retina→V1"], told.state.weights["retina→V1"])
    assert torch.equal(local.state.mean_activity["V1"], told.state.mean_activity["V1"])


def test_a_shuffled_gradient_respects_receptive_fields():
    there = (torch.arange(60) % 3 > 0).float().view(6, 10)
    lessons = lesson({"labels": "pixels"}, {"phase": "rest"})[2]
    places = lessons.permutation(0, [3, 4], "V1→V2", there)
    assert places.shape == (2, 60) and not torch.equal(places[0], places[1])
    synapses = there.flatten() == 1
    for row in places:
        assert torch.equal(row[~synapses], torch.arange(60)[~synapses])
        assert torch.equal(row[synapses].sort().values, torch.arange(60)[synapses])
    assert lessons.permutation(0, [3, 4], "V1→V2", there) is places
