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
from cortexff.protocol.schedule import Protocol, Stage
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

    def learn(self, state, percept, context, images, *more):
        self.learned = images["retina"].clone()
        super().learn(state, percept, context, images, *more)


def lesson(stimuli: dict, stage: dict, subjects: list[int] = SUBJECTS) -> tuple[Watched, Cohort, Lessons, Protocol]:
    """An update of newborn subjects."""
    protocol = Protocol.model_validate(
        {
            "format": "cortexff-protocol/1",
            "title": "A lesson",
            "section": "3",
            "model": "chain",
            "stimuli": {"minibatch": 5, **stimuli},
            "engine": {"steps": 0},
            "plasticity": {"learning_rate": 1},
            "stages": {"school": {"updates": 1, **stage}},
            "conditions": {"school": {"stages": ["school"]}},
            "variants": {"max": {}},
            "table": {"conditions": ["school"], "metrics": {"err_softmax": None}},
        }
    )
    net, images = parse_model(json.dumps(CHAIN)), images_of()
    engine = Watched(net, RateDynamics(steps=0))
    softmax = readout.start_softmax(engine, len(subjects), CLASSES)
    cohort = Cohort(subjects, engine.start(0, subjects), softmax, np.zeros(len(subjects), dtype=np.int64))
    lessons = Lessons(images, Presentation.of(protocol.stimuli, net, images), len(subjects))
    lessons.update(engine, cohort, protocol, protocol.stages["school"], 1.0)
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
