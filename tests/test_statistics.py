"""Known answers of the statistics over subjects."""

import itertools

import numpy as np
import pytest
from scipy import stats

from cortexff.analysis.statistics import Interval, mean_interval, paired_difference, sign_flip_p


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_interval_equals_scipy(level):
    values = np.random.default_rng(0).normal(3, 2, size=9)
    found = mean_interval(values, level)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (found.low, found.high, found.mean, found.n) == (
        pytest.approx(low),
        pytest.approx(high),
        pytest.approx(values.mean()),
        9,
    )


def test_interval_holds_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [mean_interval(random.normal(size=5), 0.8) for _ in range(1000)]
    assert np.mean([i.low < 0 < i.high for i in intervals]) == pytest.approx(0.8, abs=0.04)


def test_interval_of_one_subject_has_no_bounds():
    found = mean_interval([4.0])
    assert (found.mean, found.n) == (4, 1) and np.isnan(found.low) and np.isnan(found.high)


def test_paired_difference_removes_what_subjects_share():
    before = np.random.default_rng(0).normal(0, 100, size=6)
    found = paired_difference(before + 2, before)
    assert (found.low, found.mean, found.high) == (pytest.approx(2), pytest.approx(2), pytest.approx(2))
    assert paired_difference([3, 5, 9], [1, 1, 1]) == mean_interval([2, 4, 8])
    assert isinstance(found, Interval)


def test_sign_flip_by_hand():
    """Only all signs kept and all signs flipped reach the sum of 6: p = 2 / 8."""
    assert sign_flip_p([1, 2, 3]) == 0.25
    assert sign_flip_p([-1, -2, -3]) == 0.25
    assert sign_flip_p([0, 0, 0]) == 1
    assert sign_flip_p([1, -1]) == 1
    assert sign_flip_p([0.1, 0.2, 0.3, -0.3]) == np.mean(
        [abs(round(np.dot(s, [1, 2, 3, -3]))) >= 3 for s in itertools.product([1, -1], repeat=4)]
    )


def test_sign_flip_equals_scipy():
    differences = np.random.default_rng(1).normal(0.5, 1, size=10)
    reference = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(differences) == pytest.approx(reference.pvalue)


def test_sign_flip_of_many_subjects_is_close_repeatable_and_never_zero():
    differences = np.random.default_rng(0).normal(0.4, 1, size=30)
    assert sign_flip_p(differences) == sign_flip_p(differences)
    assert sign_flip_p(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)
    assert sign_flip_p(np.ones(30)) == 2**-14


@pytest.mark.parametrize("function", [mean_interval, sign_flip_p, lambda values: paired_difference(values, [1, 2, 3])])
def test_no_subject_is_dropped_silently(function):
    with pytest.raises(ValueError, match="2 of 3 subjects have no finite value"):
        function([np.nan, 1, np.inf])
    with pytest.raises(ValueError, match="one value per subject"):
        function([])
    with pytest.raises(ValueError, match="one value per subject"):
        function([[1, 2], [3, 4]])


def test_pairs_must_match():
    with pytest.raises(ValueError, match="3 subjects after, but 2 before"):
        paired_difference([1, 2, 3], [1, 2])
