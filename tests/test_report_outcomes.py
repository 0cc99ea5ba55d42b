"""What is compared is in the unit that is printed, and a lost network is told from an unknown value."""

import numpy as np
import pytest
from sleep_study import session, study

from cortexff.report.outcomes import OUTCOMES, Measured, sane


@pytest.fixture(scope="module")
def slept():
    """The evidence of a picture is twice as strong after deprivation, and its noise speaks for real data."""
    population = study(vigilance=True, conditions=("development", "control", "frozen", "deprived"))
    random = np.random.default_rng(1)
    found = population.courses["deprived"].found
    found.update(session(10, random, drive=6.0))
    return Measured(population)


def test_rates_are_percent_and_areas_are_averaged(slept):
    """Error is stored as a share; the mean rate of an area of the two."""
    found = slept.population.courses["control"].found
    np.testing.assert_allclose(slept.value("control", "err_goodness"), 100 * found["err_goodness"][-1])
    np.testing.assert_allclose(slept.value("control", "rate", 3), found["rate"][3].mean(-1))
    assert slept.curve("control", "rate").shape == (*found["update"].shape, 10)


def test_what_was_not_measured_is_none(slept):
    """A condition that was not run, a variable that was not logged, a session before the end."""
    assert slept.value("recovered", "fp_neg") is None
    assert slept.value("control", "dimensionality") is None
    assert slept.value("control", "lapse_absolute", 0) is None
    assert slept.value("control", "lapse_absolute") is not None


def test_stronger_evidence_makes_reactions_faster(slept):
    """With the bound of the baseline and with that of an observer who adapts to noise, as noise is the same."""
    for bound in ("absolute", "normalized"):
        before, after = (slept.value(name, f"inv_rt_{bound}") for name in ("frozen", "deprived"))
        assert (after > before).all()
        assert (slept.value("deprived", f"median_{bound}") < slept.value("frozen", f"median_{bound}")).all()


def test_noise_that_speaks_for_real_data_makes_false_starts_with_the_absolute_bound_alone():
    """Evidence that is higher throughout is what the normalized bound takes away."""
    population = study(vigilance=True, conditions=("development", "control", "frozen", "deprived"))
    population.courses["deprived"].found["vigilance_evidence"] = (
        population.courses["frozen"].found["vigilance_evidence"] + 3.0
    )
    measured = Measured(population)
    assert (measured.value("deprived", "false_start_absolute") > 20).all()
    frozen, deprived = (measured.value(name, "false_start_normalized") for name in ("frozen", "deprived"))
    np.testing.assert_allclose(deprived, frozen)


def test_energy_per_correct_decision_grows_with_errors(slept):
    """It is the energy over the share of correct decisions."""
    energy, error = (slept.value("control", name) for name in ("energy", "err_goodness"))
    np.testing.assert_allclose(slept.value("control", "energy_per_correct"), energy / (1 - error / 100))


def test_a_sane_network_without_excessive_activity_has_the_largest_gain():
    """A gain that was not reached is no divergence; NaN of a network that diverged stays."""
    population = study(conditions=("development", "control", "deprived"))
    found = population.courses["deprived"].found
    found["gain_star"][-1, :2] = np.nan
    found["fp_neg"][-1, 0] = np.nan
    gain = Measured(population).value("deprived", "gain_star")
    assert np.isnan(gain[0]) and gain[1] == 100.0
    assert sane(population.courses["deprived"], -1).tolist() == [False] + 9 * [True]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("fp_neg", np.nan), ("err_goodness", 0.85), ("goodness_pos", 1e9)],
    ids=["nan", "error", "G"],
)
def test_networks_diverge_at_the_first_probe_that_says_so(variable, value):
    """Values that are not finite, error of 80 %, or goodness beyond a million thresholds; the others are censored."""
    population = study(conditions=("development", "control", "deprived"))
    population.courses["deprived"].found[variable][7:, 2] = value
    lives = Measured(population).divergence["deprived"]
    assert lives.lost.tolist() == [subject == 2 for subject in range(10)]
    assert lives.time[2] == 100 and (np.delete(lives.time, 2) == 1000).all()
    times, survival = lives.curve
    assert survival[times == 100] == pytest.approx(0.9) and np.isnan(lives.median)


def test_networks_fall_silent_where_little_activity_is_left():
    """Less than a tenth of the mean rate with which the condition began."""
    population = study(conditions=("development", "control", "deprived"))
    population.courses["deprived"].found["rate"][4:, 0] = 0.05
    population.courses["deprived"].found["rate"][4:, 1] = 0.07
    lives = Measured(population).silence["deprived"]
    assert lives.lost.tolist() == [True] + 9 * [False] and lives.time[0] == 10


def test_a_life_that_goes_on_is_one_life():
    """Silence that comes only in what goes on with a condition, against the rate at the beginning of it all."""
    population = study(preset="full", conditions=("development", "control", "deprived", "deprived_longer"))
    longer = population.courses["deprived_longer"].found
    longer["rate"][:] = 0.5 * population.courses["deprived"].found["rate"][0]
    longer["rate"][-1, 3] = 0.06 * population.courses["deprived"].found["rate"][0, 3]  # 12 % of where it went on
    lives = Measured(population).silence
    assert "deprived_longer" not in lives and lives["deprived"].watched == 3000
    assert lives["deprived"].lost.tolist() == [subject == 3 for subject in range(10)]
    assert lives["deprived"].time[3] == 3000 and not lives["deprived"].by(1000).any()


def test_what_only_has_the_name_of_going_on_does_not():
    """recovered_longer sleeps after a longer deprivation: it is no more of recovered."""
    conditions = ("development", "control", "deprived", "recovered", "deprived_longer", "recovered_longer")
    population = study(preset="full", conditions=conditions)
    assert population.going_on("recovered") == ["recovered"]
    assert population.going_on("deprived") == ["deprived", "deprived_longer"]
    assert Measured(population).silence["recovered"].watched == 20


def test_every_outcome_has_its_own_words():
    """Two outcomes of the same name could not be told apart in a table."""
    labels = [outcome.label for outcome in OUTCOMES.values()]
    assert len(set(labels)) == len(labels)
