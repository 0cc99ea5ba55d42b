"""Measures of spike trains are what their definitions say in cases where that is known."""

import math

import numpy as np
import pytest

from cortexff.analysis.spike_trains import irregularity, off_share, synchrony


def test_synchrony_is_one_of_units_that_do_the_same_and_falls_to_one_by_their_number():
    random = np.random.default_rng(0)
    same = np.repeat(random.random((3, 500, 1)), 8, axis=-1)
    np.testing.assert_allclose(synchrony(same), 1.0)
    for units in (4, 25, 100):
        assert synchrony(random.random((4000, units))) == pytest.approx(1 / units, rel=0.15)
    # Half of the variance in common.
    mixed = random.standard_normal((20000, 1)) + random.standard_normal((20000, 50))
    assert synchrony(mixed) == pytest.approx(0.5 + 0.5 / 50, rel=0.03)
    assert np.isnan(synchrony(np.ones((10, 3))))


def test_irregularity_of_a_clock_is_0_and_of_poisson_spikes_1():
    random = np.random.default_rng(0)
    clocks = np.zeros((2, 300, 4), dtype=bool)
    for unit, interval in enumerate((5, 7, 11, 30)):
        clocks[:, unit::interval, unit] = True
    assert irregularity(clocks) == 0.0
    assert irregularity(random.random((100_000, 10)) < 0.02) == pytest.approx(1.0, abs=0.03)


def test_irregularity_by_hand():
    """Intervals 2, 4, 4 of one unit; two spikes of another say nothing, and no interval runs from one to the next."""
    spikes = np.zeros((12, 2), dtype=bool)
    spikes[[0, 2, 6, 10], 0] = True
    spikes[[1, 9], 1] = True
    assert irregularity(spikes) == pytest.approx((2 * 2 / 6 + 0) / 2)
    assert irregularity(np.stack([spikes, spikes])) == irregularity(spikes)
    assert math.isnan(irregularity(spikes[:, 1:]))


def test_a_slow_change_of_rate_is_not_irregular():
    time = np.cumsum(np.linspace(5, 50, 60).round().astype(int))
    spikes = np.zeros((time[-1] + 1, 1), dtype=bool)
    spikes[time] = True
    assert irregularity(spikes) < 0.05


def test_fast_units_count_more():
    """Every pair of intervals counts once: one clock of many, one irregular unit of few."""
    spikes = np.zeros((40, 2), dtype=bool)
    spikes[:, 0] = True  # 38 pairs of equal intervals
    spikes[[0, 2, 6], 1] = True
    assert irregularity(spikes) == pytest.approx(2 * 2 / 6 / 39)


def test_off_periods_are_found_in_the_block_that_falls_silent():
    spikes = np.ones((2, 40, 6), dtype=bool)
    assert off_share(spikes, blocks=1, width=10) == 0.0
    spikes[0, 10:20, :3] = False  # one of two blocks, in one of four windows, of one of two presentations
    assert off_share(spikes, blocks=2, width=10) == pytest.approx(1 / 16)
    assert off_share(spikes, blocks=1, width=10) == 0.0  # the other half of the area goes on


def test_a_block_that_does_not_answer_an_image_is_not_off():
    spikes = np.ones((2, 40, 6), dtype=bool)
    spikes[0, :, :3] = False
    assert off_share(spikes, blocks=2, width=10) == 0.0
    spikes[1, :10, :3] = False  # of the one presentation that it answers
    assert off_share(spikes, blocks=2, width=10) == pytest.approx(1 / 12)
    assert math.isnan(off_share(np.zeros_like(spikes), blocks=2, width=10))
