"""Note 15: what negative data teach is stored in sleep and learned in wake, with the sums that follow from it."""

import numpy as np
import pytest
import torch
from test_lesson import SUBJECTS, lesson

from cortexff.engines.gradients import AreaGradient
from cortexff.protocol import baseline
from cortexff.protocol.settings import Stage

OWN = {"gradient_average": 0, "weight_cost": 0, "peer_normalization": 0}


def live(phases: str, kind: str = "none"):
    """The weights of newborn subjects, and after each update on the same minibatch: i, w or s."""
    engine, cohort, lessons, protocol = lesson({"labels": "pixels", "negatives": "random_labels"}, {"phase": "rest"})
    course = [cohort.state.select(range(2)).arrays()]
    for phase in phases:
        cohort.age[:] = 0
        plasticity = OWN if phase == "i" else {**OWN, "baseline": kind}
        of_phase = {"i": "interleaved", "w": "wake", "s": "sleep"}[phase]
        stage = Stage.model_validate({"phase": of_phase, "updates": 1, "plasticity": plasticity})
        lessons.update(engine, cohort, protocol, stage)
        course.append(cohort.state.select(range(2)).arrays())
    return course, cohort


def test_a_cycle_with_blocks_of_one_is_an_interleaved_update():
    """Asleep nothing changes; awake the step is that of g⁺ + g⁻, the sum over the cycle."""
    (_, wanted), _ = live("i")
    (born, slept, found), cohort = live("sw", "fresh")
    for name in (name for name in born if name.startswith(("weights/", "biases/"))):
        assert torch.equal(slept[name], born[name]) and not torch.equal(found[name], born[name])
        torch.testing.assert_close(found[name], wanted[name])
    assert cohort.met.tolist() == [[1, 1]] * 2


def test_without_a_sleep_before_wake_is_as_ever():
    (_, wanted), _ = live("w")
    (_, found), _ = live("w", "stale")
    assert all(torch.equal(found[name], array) for name, array in wanted.items())


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("fresh", [20, 0, 0, 20 + 3, 21 + 3, 0, 23 + 22, 0, 25 + 24]), ("stale", [20, 0, 0, 23, 24, 0, 26, 0, 28])],
)
def test_the_baseline_is_the_mean_of_the_last_sleep_or_of_the_first(kind, wanted):
    """Sleep teaches 2 and 4, later 22 and 24; wake 20, 20, 21, 23 and 25."""
    cohort, course = lesson({"labels": "pixels"}, {"phase": "rest"})[1], []
    taught = [("w", 20), ("s", 2), ("s", 4), ("w", 20), ("w", 21), ("s", 22), ("w", 23), ("s", 24), ("w", 25)]
    for phase, number in taught:
        gradient = AreaGradient(
            {"retina→V1": torch.full((2, 3, 4), float(number))}, *torch.full((2, 2, 3), number * 1.0)
        )
        baseline.turn(cohort, kind, awake=phase == "w")
        baseline.learn_with(cohort, "V1", gradient, awake=phase == "w")
        assert (gradient.weights["retina→V1"] == gradient.bias[0, 0]).all() and (gradient.seen == number).all()
        course.append(gradient.bias[0, 0].item())
    assert course == wanted


def test_subjects_that_fell_asleep_at_other_times_have_their_own_baseline():
    """One that a criterion had stopped takes up its own count again."""
    cohort = lesson({"labels": "pixels"}, {"phase": "rest"})[1]

    def sleep(part, number):
        gradient = AreaGradient({}, torch.full((len(part.subjects), 3), float(number)), torch.zeros(2, 3))
        baseline.turn(part, "fresh", awake=False)
        baseline.learn_with(part, "V1", gradient, awake=False)

    first = cohort.select([0])
    sleep(first, 2)
    cohort.replace([0], first)
    sleep(cohort, 4)
    assert cohort.kept["baseline/bias of V1"][:, 0].tolist() == [3, 4]
    again = type(cohort).from_arrays(SUBJECTS, cohort.arrays(), torch.device("cpu"))
    np.testing.assert_array_equal(again.kept["baseline updates"], [[2, 0], [1, 0]])
