"""Known answers of signal detection."""

from statistics import NormalDist

import numpy as np
import pytest

from cortexff.analysis.signal_detection import auroc, criterion, dprime


def test_dprime_of_two_normals():
    """Means 3 and 1, standard deviations 1 and √3: d' = 2 / √((1 + 3) / 2) = √2."""
    random = np.random.default_rng(0)
    found = dprime(random.normal(3, 1, size=(2, 100_000)), random.normal(1, np.sqrt(3), size=(2, 80_000)))
    np.testing.assert_allclose(found, np.sqrt(2), atol=0.02)


def test_dprime_by_hand():
    """Means 5 and 2, variances of both samples 1."""
    assert dprime([4, 5, 6], [1, 2, 3]) == pytest.approx(3)
    np.testing.assert_allclose(dprime([[4, 1], [5, 2], [6, 3]], [[1, 4], [2, 5], [3, 6]], axis=0), [3, -3])


def test_dprime_ignores_a_shift_and_a_scale_of_goodness():
    random = np.random.default_rng(0)
    positive, negative = random.random(30), random.random(20)
    assert dprime(5 * positive + 7, 5 * negative + 7) == pytest.approx(dprime(positive, negative))


@pytest.mark.filterwarnings("error")
def test_dprime_without_variance():
    assert dprime([2, 2], [1, 1]) == np.inf
    assert np.isnan(dprime([1, 1], [1, 1]))


def test_criterion_finds_the_threshold_of_an_observer():
    """d' = 2 and a threshold 0.4 above the midpoint between the means give c = 0.4."""
    cumulative = NormalDist().cdf
    assert criterion(cumulative(1 - 0.4), cumulative(-1 - 0.4), 10**7, 10**7) == pytest.approx(0.4, abs=1e-5)


def test_criterion_is_corrected_log_linearly():
    """Hautus 1995: 9 of 10 and 0 of 20 become 9.5 / 11 and 0.5 / 21."""
    z = NormalDist().inv_cdf
    assert criterion(0.9, 0.0, 10, 20) == pytest.approx(-0.5 * (z(9.5 / 11) + z(0.5 / 21)))
    assert criterion(1.0, 0.0, 10, 10) == pytest.approx(0)


def test_criterion_keeps_shape_and_unknowns():
    found = criterion([[0.5, 1.0, np.nan]], [[0.5, 1.0, 0.5]], 10, 10)
    assert found.shape == (1, 3)
    assert found[0, 0] == pytest.approx(0) and found[0, 1] < -1 and np.isnan(found[0, 2])


@pytest.mark.parametrize(("rate", "of"), [(1.2, 10), (-0.1, 10), (0.5, 0)])
def test_criterion_refuses_what_is_no_rate(rate, of):
    with pytest.raises(ValueError, match="between 0 and 1"):
        criterion(rate, 0.5, of, 10)


def test_auroc_equals_the_count_of_pairs():
    random = np.random.default_rng(0)
    positive, negative = random.integers(0, 6, size=(2, 3, 25)), random.integers(0, 5, size=(2, 3, 14))  # many ties
    pairs = positive[..., :, None] - negative[..., None, :]
    np.testing.assert_allclose(auroc(positive, negative), ((np.sign(pairs) + 1) / 2).mean(axis=(-1, -2)))


def test_auroc_known_answers():
    assert auroc([2, 3], [0, 1]) == 1
    assert auroc([0, 1], [2, 3]) == 0
    assert auroc([1, 1, 1], [1, 1]) == 0.5
    assert auroc([1, 2], [1]) == 0.75


def test_auroc_of_normals_follows_dprime():
    """Equal variances: A = Φ(d' / √2)."""
    random = np.random.default_rng(0)
    found = auroc(random.normal(1.5, 1, size=50_000), random.normal(0, 1, size=50_000))
    assert found == pytest.approx(NormalDist().cdf(1.5 / np.sqrt(2)), abs=0.005)


def test_auroc_of_unknown_goodness_is_unknown():
    found = auroc([[1, np.nan], [1, 2]], [[0, 0], [0, 0]])
    assert np.isnan(found[0]) and found[1] == 1


@pytest.mark.parametrize(("positive", "negative"), [([[1, 2]], [1, 2]), ([], [1])])
def test_auroc_refuses_shapes_that_do_not_match(positive, negative):
    with pytest.raises(ValueError, match="must agree"):
        auroc(positive, negative)
