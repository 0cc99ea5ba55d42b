"""Reaction times by hand, and of planted observers."""

import numpy as np
import pytest

from cortexff.analysis.reaction_times import (
    Detector,
    calibrate,
    cumulated,
    ex_gaussian,
    normalized,
    one_boundary_diffusion,
    respond,
    summary,
)

ONSET = np.random.default_rng(0).integers(2, 11, 200)
FRAMES = 40


def session(seed: int, separation: float, subjects: int = 10, shift: float = 0.0) -> np.ndarray:
    """Normal evidence of variance 1, of noise and of pictures so many standard deviations above it."""
    shown = np.arange(FRAMES) >= ONSET[:, None]
    noise = np.random.default_rng(seed).normal(size=(subjects, ONSET.size, FRAMES))
    return noise + separation * shown + shift


def test_cumulated_evidence_by_hand():
    """With an offset of 1: steps 1, -3, 0.5, 2, -1."""
    np.testing.assert_allclose(cumulated([[2, -2, 1.5, 3, 0]], 1), [[1, 0, 0.5, 2.5, 1.5]])


def test_response_by_hand():
    """The same sum reaches 2 in frame 3: after an onset at 3 or 2, in its first or second frame; before one at 4."""
    evidence = np.tile([2, -2, 1.5, 3, 0], (3, 1))
    detector = Detector(np.array([1.0, 1.0]), np.array([2.0, 9.0]))
    found = respond(np.stack([evidence, evidence]), [3, 2, 4], detector)
    np.testing.assert_array_equal(found, [[1, 2, -1], [np.nan] * 3])


def test_detector_of_a_planted_observer():
    evidence = session(1, 1.0, shift=5)
    detector = calibrate(evidence, ONSET)
    np.testing.assert_allclose(detector.offset, 5.5, atol=0.05)
    rt = respond(evidence, ONSET, detector)
    np.testing.assert_array_equal((rt < 0).sum(-1), 6)  # 3 % of 200
    again = respond(session(2, 1.0, shift=5), ONSET, detector)
    assert (again < 0).mean() == pytest.approx(0.03, abs=0.015)
    assert np.nanmedian(again) == pytest.approx(np.nanmedian(rt), abs=1)


@pytest.mark.parametrize("separation", [2.0, 3.0, 8.0])
@pytest.mark.parametrize("trials", [7, 50, 200])
def test_baseline_takes_two_frames_at_least_and_false_starts_are_few(separation, trials):
    evidence, onset = session(1, separation)[:, :trials], ONSET[:trials]
    found = summary(respond(evidence, onset, calibrate(evidence, onset)))
    assert (found["median"] >= 2).all() and (found["false_start"] <= 0.03).all()


@pytest.mark.filterwarnings("error")
def test_detector_of_evidence_without_noise():
    evidence = session(1, 1.0)[:1] * 0 + (np.arange(FRAMES) >= ONSET[:, None])
    found = respond(evidence, ONSET, calibrate(evidence, ONSET))
    np.testing.assert_array_equal(found, 2)


def test_weaker_evidence_slows_and_stronger_evidence_makes_false_starts():
    baseline = session(1, 1.0)
    detector = calibrate(baseline, ONSET)
    before = summary(respond(baseline, ONSET, detector))
    weak, strong, same = (
        summary(respond(session(2, *at), ONSET, detector), before["median"]) for at in ((0.7,), (1.0, 10, 0.4), (1.0,))
    )
    for name, direction in {"lapse": 1, "omission": 1, "inv_rt": -1, "median": 1}.items():
        assert (direction * (weak[name] - same[name]) > 0).mean() >= 0.9, name
    assert (strong["false_start"] > 2 * same["false_start"]).all() and (strong["inv_rt"] > same["inv_rt"]).all()
    assert same["lapse"].mean() == pytest.approx(before["lapse"].mean(), abs=0.03)


def test_normalized_evidence_undoes_a_shift_and_a_scale():
    baseline = session(1, 1.0)
    moved = normalized(3 * baseline + 7, ONSET, baseline)
    np.testing.assert_allclose(moved, baseline)
    before = np.arange(FRAMES) < ONSET[:, None]
    other = normalized(session(2, 4.0) * 2 - 1, ONSET, baseline)[:, before]
    np.testing.assert_allclose(other.mean(-1), baseline[:, before].mean(-1))
    np.testing.assert_allclose(other.std(-1), baseline[:, before].std(-1))


@pytest.mark.filterwarnings("error")
def test_networks_that_say_nothing_do_not_respond():
    baseline = session(1, 1.0, subjects=3)
    detector = calibrate(baseline, ONSET)
    lost = baseline.copy()
    lost[0], lost[1, :, 5:] = np.inf, np.nan
    lost[2] = normalized(np.zeros_like(baseline), ONSET, baseline)[2]
    rt = respond(lost, ONSET, detector)
    assert np.isnan(rt[[0, 2]]).all() and np.isnan(rt[1, ONSET > 5] > 0).sum() == 0
    found = summary(rt, [5, 5, np.nan])
    assert (found["omission"][0], found["lapse"][0], found["inv_rt"][0]) == (1, 1, 0)
    assert np.isnan(found["median"][0]) and np.isnan(found["lapse"][2])
    unknown = calibrate(lost, ONSET)
    assert np.isnan(unknown.offset).all() and np.isnan(unknown.bound).all()


def test_summary_by_hand():
    """Six trials: a false start, two omissions, and 1, 2 and 5 frames at a baseline median of 2."""
    found = summary([[-3, 1, np.nan, 5, 2, np.nan]], [2])
    expected = {"false_start": 1 / 6, "lapse": 3 / 5, "omission": 2 / 5, "inv_rt": (1 + 1 / 5 + 1 / 2) / 5, "median": 5}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert np.isnan(found["p90_over_p50"])  # the slowest tenth are omissions
    times = np.random.default_rng(0).integers(1, 9, size=(3, 21))
    low, high = np.quantile(times, [0.5, 0.9], axis=-1)
    np.testing.assert_allclose(summary(times, np.ones(3))["p90_over_p50"], high / low)


@pytest.mark.filterwarnings("error")
def test_summary_of_false_starts_alone():
    found = summary([[-1.0, -2.0]], [2])
    assert found.pop("false_start") == 1
    assert all(np.isnan(value).all() for value in found.values())


def test_ex_gaussian_finds_planted_parameters():
    random = np.random.default_rng(0)
    times = random.normal(6, 0.8, 3000) + random.exponential(2.5, 3000)
    assert ex_gaussian([*times, np.nan, -2]) == pytest.approx((6, 0.8, 2.5), rel=0.08)


def test_diffusion_finds_planted_drift_and_boundary():
    """Walks in small steps of time, from 0 to a boundary of 6 with a drift of 0.8."""
    random, small = np.random.default_rng(0), 0.01
    place, time, times = np.zeros(2000), 0.0, np.zeros(2000)
    while not times.all():
        time += small
        place += random.normal(0.8 * small, np.sqrt(small), 2000)
        times[(place >= 6) & (times == 0)] = time
    assert one_boundary_diffusion([*times, np.nan, -2]) == pytest.approx((0.8, 6), rel=0.05)


def test_diffusion_equals_the_fit_of_scipy():
    from scipy.stats import invgauss

    times = invgauss.rvs(0.7, scale=9, size=500, random_state=0)
    drift, boundary = one_boundary_diffusion(times)
    shape, _, scale = invgauss.fit(times, floc=0)
    assert (boundary**2, boundary / drift) == (pytest.approx(scale), pytest.approx(shape * scale))


@pytest.mark.filterwarnings("error")
def test_distributions_of_too_few_or_equal_times_are_unknown():
    for times in ([1, 2, 3], [4.0] * 20, [-1.0] * 20, [np.nan] * 20):
        assert np.isnan([*ex_gaussian(times), *one_boundary_diffusion(times)]).all()
    with pytest.raises(ValueError, match="trials of one subject"):
        ex_gaussian(np.ones((2, 20)))


def test_sessions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="needs an onset of each trial"):
        calibrate(np.zeros((2, 5)), [1])
    with pytest.raises(ValueError, match="onsets lie within 5 frames"):
        calibrate(np.zeros((2, 5)), [1, 5])
    with pytest.raises(ValueError, match="no frame of noise"):
        calibrate(np.zeros((2, 5)), [0, 0])
