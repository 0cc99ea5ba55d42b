"""A cohort is taken apart, put together and saved without a change."""

import pytest
import torch

from cortexff.engines.rate import RateEngine
from cortexff.graph import load_model
from cortexff.protocol.cohort import Cohort
from cortexff.readout import start_softmax


@pytest.fixture
def cohort() -> Cohort:
    engine = RateEngine(load_model("digits_recurrent"))
    made = Cohort.newborn([4, 5, 6], engine.start(0, [4, 5, 6]), start_softmax(engine, 3, 10))
    made.age[:], made.met[:], made.path[:] = [1, 2, 3], [[1, 0], [2, 1], [3, 2]], [[0.5], [1.5], [2.5]]
    return made


def equal(one: Cohort, other: Cohort) -> bool:
    ours, theirs = one.arrays(), other.arrays()
    same = ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)
    return same and one.subjects == other.subjects


def test_members_are_copies_in_the_order_asked_for(cohort):
    part = cohort.select([2, 0])
    assert part.subjects == [6, 4] and part.age.tolist() == [3, 1]
    part.state.weights["V1→V2"].zero_()
    part.softmax.weights.add_(1)
    part.age += 5
    assert cohort.state.weights["V1→V2"].abs().min(0).values.sum() > 0
    assert cohort.age.tolist() == [1, 2, 3] and not cohort.softmax.weights.any()


def test_members_put_back_change_their_own_places_alone(cohort):
    before = cohort.select(range(3))
    part = cohort.select([1])
    part.state.biases["V1"] += 1
    part.age += 7
    cohort.replace([1], part)
    assert equal(cohort.select([1]), part)
    assert equal(cohort.select([0, 2]), before.select([0, 2]))


def test_what_is_saved_is_what_comes_back(cohort):
    assert equal(Cohort.from_arrays(cohort.subjects, cohort.arrays(), torch.device("cpu")), cohort)
