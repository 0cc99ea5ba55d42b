"""Planted dose-response curves are found again."""

import numpy as np
import pytest

from cortexff.analysis.dose_response import MODELS, aicc, compare, dose_at, fit, predict

DOSES = np.array([0, 10, 30, 100, 200, 300, 500, 1000, 2000, 3000])
PLANTED = {
    "linear": [0.1, 1e-3],
    "logarithmic": [0.1, 0.2, 20],
    "saturating": [0.1, 0.5, 300],
    "hill": [0.1, 0.5, 300],
    "threshold_linear": [0.1, 1e-3, 150],
    "exponential": [0.1, 0.1, 900],
}


def population(model: str, subjects: int = 12, noise: float = 0.005) -> np.ndarray:
    random = np.random.default_rng(1)
    own = np.random.default_rng(2).normal(0, 0.02, size=(subjects, 1))
    return predict(model, PLANTED[model], DOSES) + own + random.normal(0, noise, size=(subjects, DOSES.size))


@pytest.mark.parametrize("model", MODELS)
def test_exact_curve_gives_its_parameters(model):
    found = fit(model, DOSES, predict(model, PLANTED[model], DOSES))
    np.testing.assert_allclose(found.parameters, PLANTED[model], rtol=1e-5)
    assert found.rss < 1e-12 and len(MODELS[model].parameters) == len(PLANTED[model])


@pytest.mark.parametrize("model", MODELS)
def test_planted_model_wins(model):
    found = compare(DOSES, population(model))
    assert found.winner == model
    assert found.frequency[model] > 0.7 and sum(found.frequency.values()) == pytest.approx(1)
    assert found.left_out[model] < 1.05 * min(found.left_out.values())
    np.testing.assert_allclose(found.mean[model].parameters[1:], PLANTED[model][1:], rtol=0.1)
    of_subjects = found.subjects[model].parameters
    assert of_subjects.shape == (12, len(PLANTED[model])) and found.subjects[model].aicc.shape == (12,)
    np.testing.assert_allclose(np.median(of_subjects, 0), PLANTED[model], rtol=0.15)


@pytest.mark.parametrize("model", MODELS)
def test_dose_at_a_level_gives_that_level(model):
    found = fit(model, DOSES, population(model))
    dose = dose_at(model, found, 0.3)
    assert dose.shape == (12,)
    reached = [predict(model, one, [0, at]) for one, at in zip(found.parameters, dose, strict=True)]
    np.testing.assert_allclose(np.diff(reached, axis=-1), 0.3)


def test_dose_of_a_level_that_is_never_reached_is_unknown():
    for model in ("saturating", "hill"):
        found = fit(model, DOSES, predict(model, [0.1, 0.5, 300], DOSES))
        assert np.isnan(dose_at(model, found, 0.6)) and np.isnan(dose_at(model, found, -0.1))
    falling = fit("linear", DOSES, 3 - 0.01 * DOSES)
    assert dose_at("linear", falling, -2) == pytest.approx(200) and np.isnan(dose_at("linear", falling, 2))


@pytest.mark.filterwarnings("error")
def test_flat_metric_never_rises_and_needs_no_scale():
    """All models fit perfectly: the one with the fewest parameters wins."""
    found = compare(DOSES, np.full((3, DOSES.size), 0.3))
    assert found.winner == "linear" and found.frequency["linear"] == 1
    assert np.isnan(dose_at("linear", found.mean["linear"], 0.1))


def test_many_curves_are_fitted_as_each_alone():
    values = population("hill")
    together = fit("hill", DOSES, values.reshape(3, 4, -1))
    assert together.parameters.shape == (3, 4, 3) and together.rss.shape == (3, 4)
    np.testing.assert_allclose(together.parameters[1, 2], fit("hill", DOSES, values[6]).parameters)


def test_order_of_doses_does_not_matter():
    values, order = population("logarithmic").mean(0), np.random.default_rng(0).permutation(DOSES.size)
    one, other = fit("logarithmic", DOSES, values), fit("logarithmic", DOSES[order], values[order])
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-6)


def test_aicc_by_hand():
    """n = 10, a line: K = 3, so 10 ln(0.5 / 10) + 6 + 24 / 6."""
    assert aicc(np.array(0.5), 10, 2, np.array(1.0)) == pytest.approx(10 * np.log(0.05) + 10)


def test_too_few_doses_have_no_winner():
    """A line needs five doses, three parameters six."""
    five = compare(DOSES[:5], population("linear")[:, :5])
    assert five.winner == "linear" and np.isinf(five.mean["hill"].aicc)
    four = compare(DOSES[:4], population("linear")[:, :4])
    assert four.winner is None and np.isnan(list(four.frequency.values())).all()
    assert np.isfinite(four.mean["hill"].parameters).all()
    three = compare(DOSES[:3], population("linear")[:, :3])
    assert np.isnan(three.left_out["hill"]) and np.isfinite(three.left_out["linear"])


def test_noise_makes_the_winner_unsure():
    assert max(compare(DOSES, population("hill", subjects=4, noise=0.1)).frequency.values()) < 0.9


@pytest.mark.parametrize(
    ("doses", "values", "message"),
    [
        ([0, 1, 2], [[1, 2]], "must agree"),
        ([0, 1], [[np.nan, 2]], "1 of 2 values are not finite"),
        ([-1, 1], [[1, 2]], "0 or above"),
        ([1, 1], [[1, 2]], "not all equal"),
        ([0, 1], [1, 2], "subjects, doses"),
    ],
)
def test_what_cannot_be_compared_is_refused(doses, values, message):
    with pytest.raises(ValueError, match=message):
        compare(doses, values)


def test_unknown_model_lists_the_known():
    with pytest.raises(ValueError, match="no model 'cubic'; there are linear, logarithmic"):
        fit("cubic", [0, 1], [0, 1])
