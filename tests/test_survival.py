"""Survival by hand, and of planted lifetimes."""

import numpy as np
import pytest

from cortexff.analysis.survival import kaplan_meier, log_rank_p, median_survival


def test_kaplan_meier_by_hand():
    """Five subjects, those of 2 and 4 censored: 4/5, then of three left 2/3, then of one left 0."""
    times, survival = kaplan_meier([5, 1, 2, 3, 4], [True, True, False, True, False])
    np.testing.assert_allclose(times, [0, 1, 2, 3, 4, 5])
    np.testing.assert_allclose(survival, [1, 4 / 5, 4 / 5, 8 / 15, 8 / 15, 0], atol=1e-12)
    assert median_survival([5, 1, 2, 3, 4], [True, True, False, True, False]) == 5


def test_median_is_the_first_time_that_half_do_not_outlast():
    assert median_survival([1, 2, 3, 4], [True] * 4) == 2
    assert median_survival([1, 1, 2, 2, 3, 3], [True] * 6) == 2
    assert np.isnan(median_survival([1, 9, 9, 9], [True, False, False, False]))


def test_log_rank_of_leukaemia_remissions():
    """Freireich et al. 1963, weeks of remission with 6-mercaptopurine and with placebo: χ² = 16.79."""
    drug = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    relapsed = np.arange(21) < 9
    assert log_rank_p(drug, relapsed, placebo, np.ones(21, bool)) == pytest.approx(4.17e-5, rel=0.01)
    assert (median_survival(drug, relapsed), median_survival(placebo, np.ones(21, bool))) == (23, 8)


def test_log_rank_of_equal_lifetimes_is_as_rare_as_p_says():
    random = np.random.default_rng(0)

    def p() -> float:
        times = random.exponential(100, size=(2, 20))
        return log_rank_p(*(value for of in times for value in (np.minimum(of, 150), of < 150)))

    assert np.mean([p() < 0.05 for _ in range(400)]) == pytest.approx(0.05, abs=0.03)


def test_survival_of_planted_lifetimes():
    """Exponential lifetimes of mean 100, watched for 150: the median is 100 ln 2."""
    lifetimes = np.random.default_rng(0).exponential(100, size=2000)
    watched, diverged = np.minimum(lifetimes, 150), lifetimes < 150
    assert median_survival(watched, diverged) == pytest.approx(100 * np.log(2), rel=0.08)
    times, survival = kaplan_meier(watched, diverged)
    np.testing.assert_allclose(survival, np.exp(-times / 100), atol=0.03)


@pytest.mark.filterwarnings("error")
def test_where_nobody_diverges_nothing_differs():
    assert log_rank_p([9, 9], [False, False], [9, 9], [False, False]) == 1
    times, survival = kaplan_meier([9, 9], [False, False])
    np.testing.assert_allclose([times, survival], [[0, 9], [1, 1]])


def test_what_is_no_lifetime_is_refused():
    with pytest.raises(ValueError, match="of each subject"):
        kaplan_meier([1, 2], [True])
    with pytest.raises(ValueError, match="of each subject"):
        kaplan_meier([], [])
    with pytest.raises(ValueError, match="not below 0"):
        kaplan_meier([1, np.nan], [True, True])
