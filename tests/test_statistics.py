"""Known answers of the statistics over subjects."""

import itertools

import numpy as np
import pytest
from scipy import stats

from cortexff.analysis.statistics import (
    Interval,
    bca_interval,
    benjamini_hochberg,
    effect,
    equivalence_p,
    holm,
    mean_interval,
    paired_difference,
    sign_flip_p,
    standardized_mean,
)


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


@pytest.mark.parametrize("subjects", [[4.0], [3.0, 5.0]])
def test_interval_of_fewer_than_three_subjects_has_no_bounds(subjects):
    found = mean_interval(subjects)
    assert (found.mean, found.n) == (4, len(subjects)) and np.isnan(found.low) and np.isnan(found.high)


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


@pytest.mark.parametrize(
    "function", [mean_interval, bca_interval, sign_flip_p, lambda values: paired_difference(values, [1, 2, 3])]
)
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


def test_bca_interval_holds_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [bca_interval(random.normal(3, 2, size=50)) for _ in range(400)]
    assert np.mean([i.low < 3 < i.high for i in intervals]) == pytest.approx(0.95, abs=0.03)


def test_bca_interval_follows_a_skewed_distribution():
    values = np.random.default_rng(0).exponential(size=40)
    found = bca_interval(values)
    assert found.high - found.mean > found.mean - found.low
    assert found == bca_interval(values)
    assert bca_interval(values, 0.5).high < found.high


@pytest.mark.filterwarnings("error")
def test_bca_interval_without_spread():
    assert bca_interval([0.1, 0.1, 0.1]) == Interval(np.mean([0.1, 0.1, 0.1]), *[np.mean([0.1, 0.1, 0.1])] * 2, 3)
    one = bca_interval([4.0])
    assert (one.mean, one.n) == (4, 1) and np.isnan(one.low) and np.isnan(one.high)


def test_effect_finds_a_planted_change():
    random = np.random.default_rng(0)
    before = random.normal(0, 10, size=40)
    after = before + random.normal(0.5, 1, size=40)
    found = effect(after, before, margin=2)
    assert found.low < 0.5 < found.high and found.mean == pytest.approx(np.mean(after - before))
    assert found.p == sign_flip_p(after - before) < 0.05
    assert found.d_z == pytest.approx(0.5, abs=0.35)
    assert found.up + found.down == found.n == 40 and found.superiority == found.up / 40
    assert found.equivalent and found.lost == 0


def test_effect_of_nothing_is_found_as_rarely_as_p_says():
    random = np.random.default_rng(0)
    nulls = [effect(*random.normal(size=(2, 10)), margin=1e-3) for _ in range(200)]
    assert np.mean([null.p < 0.05 for null in nulls]) == pytest.approx(0.05, abs=0.035)
    assert not any(null.equivalent for null in nulls)  # too few to claim so little


def test_effect_by_hand():
    found = effect([2, 4, 3, 1], [1, 2, 3, 2])
    assert (found.mean, found.up, found.down, found.superiority, found.n) == (0.5, 2, 1, 0.625, 4)
    assert np.isnan(found.equivalence_p) and not found.equivalent


def test_effect_counts_lost_subjects_as_the_largest_change_for_the_worse():
    """Signed ranks 1, 2, 3, 4, 5.5, 5.5: all six point the same way, so p = 2 / 64."""
    before = np.zeros(6)
    found = effect([1, 2, 3, 4, np.nan, np.inf], before, margin=1)
    assert (found.lost, found.up, found.down, found.superiority, found.p) == (2, 6, 0, 1, 2 / 64)
    assert np.isnan([found.mean, found.low, found.high, found.d_z, found.equivalence_p]).all()
    assert not found.equivalent
    other = effect([1, 2, 3, 4, np.nan, np.nan], before, worse=-1)
    assert (other.up, other.down, other.p) == (4, 2, sign_flip_p([1, 2, 3, 4, -5.5, -5.5]))


def test_effect_of_subjects_lost_before():
    """Lost only before is a change for the better, lost in both no change: ranks 4, -2.5, 2.5, 0."""
    found = effect([np.nan, 0, 1, np.nan], [1, 1, 0, np.nan])
    assert (found.lost, found.up, found.down) == (2, 2, 1)
    assert found.p == sign_flip_p([4, -2.5, 2.5, 0])
    better = effect([0, 0, 0], [np.nan, np.nan, np.nan])
    assert (better.up, better.down, better.p) == (0, 3, 0.25)


def test_effect_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="2 subjects after, but 1 before"):
        effect([1, 2], [1])
    with pytest.raises(ValueError, match="margin lies above 0"):
        effect([1, 2], [1, 2], margin=0)
    with pytest.raises(ValueError, match="worse is 1"):
        effect([1, 2], [1, 2], worse=0)
    with pytest.raises(ValueError, match="one value per subject"):
        effect([], [])


@pytest.mark.filterwarnings("error")
def test_effect_of_one_subject_and_of_equal_changes():
    one = effect([2], [1], margin=3)
    assert (one.mean, one.p, one.n) == (1, 1, 1)
    assert np.isnan([one.low, one.high, one.d_z, one.equivalence_p]).all()
    equal = effect([2, 3, 4], [1, 2, 3], margin=3)
    assert (equal.low, equal.high, equal.d_z, equal.equivalence_p) == (1, 1, np.inf, 0)


def test_standardized_mean_has_no_bias():
    """Five subjects: the plain ratio of mean and deviation is 25 % too large."""
    differences = np.random.default_rng(0).normal(0.8, 1, size=(20_000, 5))
    found = np.mean([standardized_mean(of_five) for of_five in differences])
    assert found == pytest.approx(0.8, abs=0.015)
    assert standardized_mean([1, 2, 3]) == pytest.approx(2 * np.sqrt(1 / np.pi))  # Γ(1) = 1, Γ(1/2) = √π
    assert np.isnan(standardized_mean([1, 2]))


@pytest.mark.parametrize("mean", [-0.8, 0, 0.3, 2])
def test_equivalence_equals_two_t_tests_of_scipy(mean):
    differences = np.random.default_rng(0).normal(mean, 1, size=12)
    below = stats.ttest_1samp(differences, -1, alternative="greater").pvalue
    above = stats.ttest_1samp(differences, 1, alternative="less").pvalue
    assert equivalence_p(differences, 1) == pytest.approx(max(below, above))


def test_equivalence_is_claimed_falsely_in_one_case_of_twenty():
    """The true change lies on the margin, the worst case."""
    random = np.random.default_rng(0)
    found = [equivalence_p(random.normal(1, 0.5, size=10), 1) < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.015)


def test_holm_by_hand():
    """0.01 × 4, then 0.005 × 4 first: sorted 0.005, 0.01, 0.03, 0.04 give 0.02, 0.03, 0.06, max(0.06, 0.04)."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])


def test_benjamini_hochberg_of_the_original_paper():
    """Benjamini & Hochberg 1995, section 4: of 15 p, the four smallest are significant at 0.05; Holm finds three."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528]
    p += [0.7590, 1.0]
    found = benjamini_hochberg(p)
    assert (found <= 0.05).sum() == 4 and (holm(p) <= 0.05).sum() == 3
    assert found[0] == pytest.approx(0.0001 * 15) and found[3] == pytest.approx(0.0095 * 15 / 4)


@pytest.mark.parametrize("method", [holm, benjamini_hochberg])
def test_unknown_p_are_no_tests(method):
    found = method([[0.01, np.nan], [0.02, 0.2]])
    assert np.isnan(found[0, 1])
    np.testing.assert_allclose(found[[0, 1, 1], [0, 0, 1]], method([0.01, 0.02, 0.2]))
    assert np.isnan(method([np.nan])).all() and method([]).size == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        method([0.1, 1.2])
