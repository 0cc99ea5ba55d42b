"""A random stream is a function of seed, subject, purpose and index, and of nothing else."""

import numpy as np
import pytest

from cortexff.random_streams import generator

BASE = {"seed": 3, "subject": 1, "purpose": "weights/V1→V2", "index": 2}
FIRST_FOUR = [798, 648, 260, 621]
CHANGES = [{"seed": 4}, {"subject": 2}, {"purpose": "weights/V2→V1"}, {"index": 3}, {"subject": 2, "index": 1}]


def test_the_same_four_give_the_same_numbers():
    first = generator(**BASE).random(100)
    generator(seed=9, subject=9, purpose="order").random(1000)  # what others draw changes nothing
    np.testing.assert_array_equal(generator(**BASE).random(100), first)


def test_numbers_are_the_same_on_every_machine():
    """A run begun on one machine can be continued on another; a library that alters this must not go unnoticed."""
    assert generator(**BASE).integers(0, 1000, 4).tolist() == FIRST_FOUR


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_gives_an_unrelated_stream(change):
    pair = generator(**BASE).standard_normal(4000), generator(**{**BASE, **change}).standard_normal(4000)
    assert abs(np.corrcoef(pair)[0, 1]) < 4 / np.sqrt(4000)


def test_subjects_purposes_and_indices_never_share_a_stream():
    purposes = ("order", "negatives", "noise", "weights/V1→V2")
    keys = [(s, k, purpose, n) for s in range(3) for k in range(5) for purpose in purposes for n in range(20)]
    assert len({generator(*key).integers(2**62) for key in keys}) == len(keys)


def test_index_counts_from_zero():
    assert generator(0, 0, "order").random() == generator(0, 0, "order", 0).random()
