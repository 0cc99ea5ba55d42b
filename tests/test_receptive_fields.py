"""Receptive fields: where each one starts, and which units it joins."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from cortexff.receptive_fields import (
    ReceptiveField,
    Tiles,
    best_tiles,
    connection_mask,
    every_field_is_on_map,
    field_starts,
    fields_along,
    tiles_along,
)


def field(size, stride) -> ReceptiveField:
    return ReceptiveField((size, size), (float(stride), float(stride)))


@pytest.mark.parametrize(
    ("source", "target", "size", "stride", "starts"),
    [
        pytest.param(32, 32, 11, 1, [i - 5 for i in range(32)], id="CIFAR-10, §4"),
        pytest.param(28, 4, 10, 6, [0, 6, 12, 18], id="note 8, first hidden layer"),
        pytest.param(4, 3, 2, 1, [0, 1, 2], id="note 8, second hidden layer"),
        pytest.param(3, 2, 2, 1, [0, 1], id="note 8, third hidden layer"),
        pytest.param(3, 4, 2, 1, [-1, 0, 1, 2], id="top-down, cut off at both edges"),
        pytest.param(8, 4, 2, 2, [0, 2, 4, 6], id="tiles"),
        pytest.param(4, 8, 1, 0.5, [-1, 0, 0, 1, 1, 2, 2, 3], id="finer than its source"),
    ],
)
def test_fields_start_where_the_paper_has_them(source, target, size, stride, starts):
    found = field_starts(source, target, size, stride)
    assert found.tolist() == starts
    assert found.dtype.kind == "i"


def test_starts_are_those_of_exact_fractions():
    """A stride such as 14/3 has no exact float: an error in its last digit must not move a field."""
    for source in range(1, 33):
        for target in range(1, 33):
            for size in (1, 2, 3, 6):
                stride = Fraction(source, target)
                margin = ((target - 1) * stride + size - source) / 2
                wanted = [floor(i * stride - margin) for i in range(target)]
                assert field_starts(source, target, size, source / target).tolist() == wanted, (source, target, size)


def test_a_field_beyond_the_map_is_noticed():
    """Without laying out the map: the same answer as looking for a location that reads nothing."""
    random, answers = np.random.default_rng(0), []
    for _ in range(1000):
        source, target = (int(n) for n in random.integers(1, 15, size=2))
        size, stride = int(random.integers(1, 6)), float(random.choice([source / target, random.uniform(0.1, 4), 2]))
        answers.append(every_field_is_on_map(source, target, size, stride))
        assert answers[-1] == fields_along(source, target, size, stride).any(axis=1).all(), (
            source,
            target,
            size,
            stride,
        )
    assert 100 < sum(answers) < 900


@pytest.mark.parametrize("number", range(10))
def test_the_mask_is_its_definition(number):
    """Unit by unit: (row, column, channel) reads every channel of a rectangle, and nothing beyond the map."""
    random = np.random.default_rng(number)
    source, target = (tuple(int(n) for n in random.integers(1, 6, size=random.integers(2, 4))) for _ in range(2))
    size = tuple(int(n) for n in random.integers(1, 5, size=2))
    stride = tuple(float(s) for s in random.uniform(0.3, 2.5, size=2))
    mask = connection_mask(source, target, ReceptiveField(size, stride))
    first = [field_starts(source[axis], target[axis], size[axis], stride[axis]) for axis in (0, 1)]
    for unit in range(mask.shape[0]):
        row, column = np.unravel_index(unit, target)[:2]
        for read in range(mask.shape[1]):
            there = np.unravel_index(read, source)
            inside = (
                first[0][row] <= there[0] < first[0][row] + size[0]
                and first[1][column] <= there[1] < first[1][column] + size[1]
            )
            assert mask[unit, read] == inside


def test_the_mask_is_boolean_and_shaped_like_weights():
    mask = connection_mask((28, 28), (4, 4, 128), field(10, 6))
    assert mask.dtype == bool
    assert mask.shape == (4 * 4 * 128, 28 * 28)
    assert (mask.sum(axis=1) == 10 * 10).all()  # note 8: every field lies inside the image
    assert mask.any(axis=0).all()


def test_fields_are_cut_off_at_the_edge():
    """Note 12: a corner unit of an 11x11 field on a 32x32 image reads 6x6 locations, one in the middle all."""
    reads = connection_mask((32, 32), (32, 32), field(11, 1)).sum(axis=1).reshape(32, 32)
    assert [reads[0, 0], reads[0, 16], reads[16, 16], reads[31, 31]] == [6 * 6, 6 * 11, 11 * 11, 6 * 6]


def test_a_field_as_large_as_twice_the_map_is_all_to_all():
    assert connection_mask((3, 5, 2), (4, 2, 3), ReceptiveField((6, 10), (0.75, 2.5))).all()


def test_tiles_share_nothing():
    mask = connection_mask((6, 6), (3, 3), field(2, 2))
    assert (mask.sum(axis=0) == 1).all()


@pytest.mark.parametrize(("source", "target", "size", "stride"), [(32, 32, 11, 1), (28, 4, 10, 6), (3, 4, 2, 1)])
def test_centred_fields_are_their_own_mirror_image(source, target, size, stride):
    along = fields_along(source, target, size, stride)
    np.testing.assert_array_equal(along, along[::-1, ::-1])


def test_rows_and_columns_are_not_confused():
    mask = connection_mask((4, 6), (2, 3), ReceptiveField((2, 6), (2.0, 2.0)))
    first = mask[0].reshape(4, 6)  # the field of the upper left location: two rows, cut off on the left
    assert first.any(axis=1).tolist() == [True, True, False, False]
    assert first.any(axis=0).tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize("number", range(30))
def test_a_patch_holds_the_fields_of_its_tile(number):
    random = np.random.default_rng(number)
    while True:
        source, target, size = (int(n) for n in random.integers(1, 13, size=3))
        stride = float(random.choice([source / target, random.uniform(0.3, 3)]))
        if every_field_is_on_map(source, target, size, stride):
            break
    along = fields_along(source, target, size, stride)
    cuts = list(tiles_along(source, target, size, stride))
    assert [cut.size for cut in cuts] == [n for n in range(1, target + 1) if target % n == 0]
    for cut in cuts:
        assert cut.are_even or len(cut.patches) > 1
        for tile, ((first, end), (inside, ends)) in enumerate(
            zip(cut.patches, cut.cut_off(source).patches, strict=True)
        ):
            read = np.flatnonzero(along[tile * cut.size : (tile + 1) * cut.size].any(0))
            assert (inside, ends) == (read[0], read[-1] + 1)  # all of it, and no more
            assert (max(first, 0), min(end, source)) == (inside, ends)


def test_even_patches_are_as_long_and_as_far_apart():
    assert Tiles(2, ((-1, 3), (1, 5), (3, 7))).are_even
    assert not Tiles(2, ((-1, 3), (1, 6), (3, 8))).are_even
    assert not Tiles(2, ((-1, 3), (1, 5), (4, 8))).are_even


def test_tiles_of_the_paper():
    """4 by 8 locations in §4 (32 times 14 by 18 places for 11 by 11 synapses), single ones in note 8."""
    rows, columns = best_tiles((32, 32, 3), (32, 32, 3), field(11, 1))
    assert (rows.size, columns.size) == (4, 8)
    rows, columns = best_tiles((28, 28), (4, 4, 128), field(10, 6))
    assert (rows.size, columns.size) == (1, 1)
