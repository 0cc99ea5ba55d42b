"""Planted time constants and sleep needs are found again."""

import numpy as np
import pytest

from cortexff.analysis.process_s import fall, fit_sleep, fit_wake, need_exponent, rise, sleep_need

TIME = np.array([0, 5, 10, 20, 40, 80, 160])
TAUS = np.array([[12.0], [30.0], [60.0]])


def test_rise_and_fall_start_and_end_where_they_should():
    """After one time constant, 1/e of the way is left."""
    np.testing.assert_allclose(rise([0, 18.2, 1e6], 0.1, 0.9, 18.2), [0.1, 0.9 - 0.8 / np.e, 0.9])
    np.testing.assert_allclose(fall([0, 4.2, 1e6], 0.9, 0.1, 4.2), [0.9, 0.1 + 0.8 / np.e, 0.1])


def test_exact_curves_give_their_time_constants():
    for start_of_time in (0, 1000):
        tau, upper = fit_wake(TIME + start_of_time, rise(TIME, 0.1, 0.9, TAUS))
        np.testing.assert_allclose(tau, TAUS[:, 0], rtol=1e-6)
        np.testing.assert_allclose(upper, 0.9, rtol=1e-6)
        tau, lower = fit_sleep(TIME + start_of_time, fall(TIME, 0.9, 0.1, TAUS))
        np.testing.assert_allclose(tau, TAUS[:, 0], rtol=1e-6)
        np.testing.assert_allclose(lower, 0.1, rtol=1e-6)


def test_noisy_curves_give_their_time_constants_on_average():
    noise = np.random.default_rng(0).normal(0, 0.03, size=(200, TIME.size))
    tau, upper = fit_wake(TIME, rise(TIME, 0.1, 0.9, 30) + noise)
    assert np.isfinite(tau).all()
    assert tau.mean() == pytest.approx(30, rel=0.05) and upper.mean() == pytest.approx(0.9, abs=0.01)
    asleep, _ = fit_sleep(TIME, fall(TIME, 0.9, 0.1, 7) + noise)
    assert np.median(tau / asleep) == pytest.approx(18.2 / 4.2, rel=0.1)


@pytest.mark.filterwarnings("error")
def test_time_constants_that_the_curve_does_not_tell_are_unknown():
    wrong_way, flat, line = fall(TIME, 0.9, 0.1, 30), np.full(TIME.size, 0.1), 0.1 + 0.001 * TIME
    at_once, lost = np.where(TIME > 0, 0.9, 0.1), np.where(TIME > 50, np.nan, 0.1)
    for values in fit_wake(TIME, [wrong_way, flat, line, at_once, lost, rise(TIME, 0.1, 0.9, 30)]):
        assert list(np.isfinite(values)) == [False] * 5 + [True]
    for values in fit_sleep(TIME, [wrong_way, rise(TIME, 0.1, 0.9, 30)]):
        assert list(np.isfinite(values)) == [True, False]
    assert np.isnan(fit_wake(TIME[:3], [rise(TIME[:3], 0.1, 0.9, 5)])).all()  # three times fit anything


def test_noise_has_no_time_constant():
    noise = np.random.default_rng(0).normal(size=(500, TIME.size))
    assert np.isfinite(fit_wake(TIME, noise)[0]).mean() < 0.05
    assert np.isfinite(fit_sleep(TIME, noise)[0]).mean() < 0.05


def test_sleep_need_is_linear_in_the_logarithm():
    """Halfway from 0.4 at 1 + updates = 10 to 0.2 at 1000: 1 + updates = 100."""
    found = sleep_need([0, 9, 999], [[0.5, 0.4, 0.2], [0.3, 0.4, 0.2], [0.5, 0.4, 0.31], [0.5, 0.3, 0.4]], 0.3)
    np.testing.assert_allclose(found.updates, [99, 0, np.nan, 9])
    assert list(found.censored) == [False, False, True, False]


def test_sleep_need_has_a_target_for_each_subject():
    curve = [0.5, 0.4, 0.2]
    found = sleep_need([0, 9, 999], [curve, curve, curve], [0.5, 0.2, np.nan])
    np.testing.assert_allclose(found.updates, [0, 999, np.nan])
    assert not found.censored.any()


def test_a_lost_subject_is_unknown_and_not_censored():
    found = sleep_need([0, 9, 999], [[0.5, np.nan, 0.2], [0.5, 0.4, np.nan], [0.5, 0.2, np.nan]], 0.3)
    assert list(np.isnan(found.updates)) == [True, True, False] and not found.censored.any()


@pytest.mark.parametrize("exponent", [0.3, 1.0])
def test_need_exponent_is_found(exponent):
    random = np.random.default_rng(0)
    doses = np.array([10, 30, 100, 300, 1000])
    needs = 2 * doses ** (exponent + random.normal(0, 0.05, size=(12, 1))) * random.lognormal(0, 0.2, size=(12, 5))
    found = need_exponent(doses, needs)
    assert found.low < exponent < found.high and found.high - found.low < 0.2 and found.n == 12
    needs[0, 0], needs[1, 4] = 0, np.nan  # no need at all, and censored
    assert need_exponent(doses, needs).mean == pytest.approx(exponent, abs=0.1)


def test_need_exponent_follows_from_process_s():
    """The time of a fall from S(D) to S(0) is τₛ ln of a ratio: far less than in proportion to D."""
    doses, amounts = np.array([5, 10, 20, 40, 80]), np.arange(0, 60, 0.5)
    after = rise(doses, 0.1, 0.9, 18.2)
    needs = sleep_need(amounts, fall(amounts, after[:, None], 0.0, 4.2), 0.1).updates
    np.testing.assert_allclose(needs, 4.2 * np.log(after / 0.1), rtol=1e-2)
    assert 0 < need_exponent(doses, needs[None]).mean < 0.5


def test_what_is_no_curve_is_refused():
    with pytest.raises(ValueError, match="must rise"):
        fit_wake([0, 2, 1], [[1, 2, 3]])
    with pytest.raises(ValueError, match=r"needs values \(subjects, 3\)"):
        fit_sleep([0, 1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="updates are 0 or above"):
        sleep_need([-1, 2], [[1, 2]], 0)
    with pytest.raises(ValueError, match="doses are above 0"):
        need_exponent([0, 2], [[1, 2]])
    with pytest.raises(ValueError, match="1 of 2 subjects have no finite value"):
        need_exponent([1, 2], [[1, 2], [np.nan, 2]])
