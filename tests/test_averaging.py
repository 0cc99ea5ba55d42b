"""Weights are averaged over whole cycles of wake and sleep, and over nothing else."""

import numpy as np
import torch
from test_lesson import SUBJECTS, lesson

from cortexff.protocol import averaging


def living(updates: int, cycle: dict | None):
    """A newborn cohort whose weights are, after each update, its number."""
    _, cohort, _, _ = lesson({"labels": "pixels"}, {"phase": "rest"})
    for number in range(updates):
        for array in (*cohort.state.weights.values(), *cohort.state.biases.values()):
            array.fill_(number)
        averaging.take_in(cohort, number, cycle)
    return cohort


def test_the_mean_is_that_of_the_last_whole_cycle():
    for updates, wanted in [(3, 1.0), (5, 1.0), (6, 4.0), (8, 4.0), (9, 7.0)]:
        cohort = living(updates, cycle=3)
        found = averaging.averaged_state(cohort)
        for array in (*found.weights.values(), *found.biases.values()):
            assert (array == wanted).all()
        assert all((array == updates - 1).all() for array in cohort.state.weights.values())
        assert found.mean_activity is cohort.state.mean_activity


def test_there_is_no_mean_before_a_cycle_is_over():
    assert all(array.isnan().all() for array in averaging.averaged_state(living(2, cycle=3)).weights.values())


def test_where_phases_take_no_turns_weights_are_their_own_mean():
    """Also of subjects that had lived in cycles before."""
    cohort = living(6, cycle=3)
    assert averaging.averaged_state(cohort) is not cohort.state
    averaging.take_in(cohort, 0, None)
    assert averaging.averaged_state(cohort) is cohort.state and not cohort.kept


def test_members_that_are_put_back_bring_their_means():
    cohort = living(3, cycle=3)
    part = cohort.select([1])
    for array in part.kept.values():
        array.fill_(7.0)
    cohort.replace([1], part)
    for array in averaging.averaged_state(cohort).weights.values():
        assert (array[0] == 1).all() and (array[1] == 7).all()
    newborn = living(0, cycle=3)
    newborn.replace([1], part)
    assert all((array[0] == 0).all() and (array[1] == 7).all() for array in newborn.kept.values())


def test_means_are_saved_with_the_cohort():
    cohort = living(4, cycle=3)
    again = type(cohort).from_arrays(SUBJECTS, cohort.arrays(), torch.device("cpu"))
    assert again.kept.keys() == cohort.kept.keys()
    for name, array in cohort.kept.items():
        np.testing.assert_array_equal(again.kept[name], array)
