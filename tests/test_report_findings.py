"""What is planted in a study is found again, and what is not planted is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sleep_study import straight, study

from cortexff.report import findings as found_by
from cortexff.report.findings import Findings, dose, references, share_removed
from cortexff.report.outcomes import Measured

DEPRIVED = {"deprived": {"fp_neg": 0.3, "criterion": -0.6}, "recovered": {"fp_neg": -0.15}}


def measured(*populations):
    return [Measured(population) for population in populations]


def contrasts(*populations):
    """Comparisons by population, condition, reference and outcome."""
    found = found_by.contrasts(measured(*populations))
    return {(one.population, one.condition, one.reference, one.outcome): one for one in found}


@pytest.fixture(scope="module")
def planted():
    return contrasts(study(DEPRIVED))


def test_a_planted_change_is_found_with_its_interval(planted):
    """Deprivation adds 0.3 · 1000/1040 to the rate of hallucinations."""
    found = planted["max", "deprived", "control", "fp_neg"]
    assert found.effect.low <= 100 * 0.3 * 1000 / 1040 <= found.effect.high
    assert found.changed == 1 and found.family == "primary" and found.effect.up == 10
    assert found.verdict == "higher" and found.p < 0.05


def test_another_results_file_changes_no_p(planted):
    """p are adjusted within a file, so that a report on more of them does not hide what one of them shows."""
    one, other = study(DEPRIVED), replace(study(name="other", seed=3), path=Path("other.h5"))
    for key, found in contrasts(one, other).items():
        assert key[0] == "other" or found.p == planted[key].p or np.isnan(found.p)


def test_lives_are_compared_while_both_are_watched():
    """Silence after the control's last probe tells nothing of a difference."""
    population = study(preset="full", conditions=("development", "control", "deprived", "deprived_longer"))
    rate = population.courses["deprived_longer"].found["rate"]
    rate[-1] = 0.01 * rate[0]
    lives = {(one.condition, one.event): one for one in Findings(measured(population)).survivals}
    assert lives["deprived", "silent"].lost == 10 and np.isnan(lives["deprived", "silent"].p)


def test_what_does_not_change_is_shown_to_be_equivalent(planted):
    """Error and d′ of the deprived lie within a point and 0.2 of the control's."""
    for outcome in ("err_goodness", "dprime"):
        found = planted["max", "deprived", "control", outcome]
        assert not found.changed and found.verdict == "no change, shown equivalent"


def test_a_study_without_any_change_shows_hardly_any():
    """Of ten studies in which nothing is planted, one in twenty may show a change in a primary outcome by chance."""
    few = ("development", "control", "deprived")
    nothing = [contrasts(study(conditions=few, seed=seed)).values() for seed in range(10)]
    assert sum(any(one.changed for one in found) for found in nothing) <= 2
    assert sum(one.changed != 0 for found in nothing for one in found) <= 3


def test_shuffled_conditions_show_no_change():
    """Where it is drawn by lot for each subject which value is the deprived one's, no change is left."""
    population = study(DEPRIVED)
    swapped = np.arange(10) % 2 == 0
    one, other = (population.courses[name].found["fp_neg"] for name in ("deprived", "control"))
    one[-1, swapped], other[-1, swapped] = other[-1, swapped], one[-1, swapped].copy()
    found = contrasts(population)["max", "deprived", "control", "fp_neg"]
    assert not found.changed and found.effect.low < 0 < found.effect.high


def test_primary_outcomes_are_adjusted_together_over_both_signs():
    """Three outcomes of two populations: the least p of ten subjects, 2⁻⁹, is multiplied by six."""
    both = contrasts(study(DEPRIVED), study(DEPRIVED, variant="min"))
    primary = [one for one in both.values() if one.family == "primary"]
    assert len(primary) == 6 and {one.reference for one in primary} == {"control"}
    assert both["min", "deprived", "control", "fp_neg"].p == pytest.approx(6 * 2.0**-9)


def test_a_lost_network_counts_and_is_not_dropped():
    """A subject that diverges while deprived is a change for the worse, and an event in survival."""
    population = study(DEPRIVED)
    for values in population.courses["deprived"].found.values():
        if values.dtype.kind == "f" and values.shape[:2] == (11, 10):
            values[6:, 0] = np.nan
    lost = contrasts(population)["max", "deprived", "control", "fp_neg"]
    assert lost.effect.lost == 1 and lost.effect.n == 10 and lost.effect.up == 10 and lost.changed == 1
    assert "1 of 10 diverged" in lost.verdict
    survival = {(one.condition, one.event): one for one in found_by.survivals(measured(population))}
    assert survival["deprived", "diverged"].lost == 1 and survival["control", "diverged"].lost == 0
    assert found_by.responses(measured(population)) == []


def test_the_control_is_compared_after_as_many_positive_updates():
    """200 updates without saturation are set beside the control's probe at 200."""
    population = study(conditions=("development", "control", "frozen", "deprived", "deprived_linear", "recovered"))
    (control, probe), *_ = references(population, "deprived_linear")
    assert control == "control" and population.courses["control"].updates[probe] == 200
    assert [name for name, _ in references(population, "deprived")] == ["control", "frozen"]
    assert [name for name, _ in references(population, "recovered")] == ["deprived", "control"]
    assert references(population, "frozen") == []


def test_the_dose_counts_updates_images_and_the_way_of_the_weights():
    """Of a whole line of conditions since development; both phases of an update show the same images."""
    population = study()
    assert dose(population, "control") == found_by.Dose(1000, 1000, 25_000, pytest.approx(1.0))
    recovered = dose(population, "recovered")
    updates = int(population.courses["recovered"].updates[-1])
    assert (recovered.positive, recovered.negative) == (1000, updates)
    assert recovered.images == 25 * (1000 + updates)


def test_the_law_of_a_rise_is_told():
    """A line loses against a rise that saturates, and wins where it is one."""
    found = found_by.responses(measured(study(DEPRIVED), study(DEPRIVED, rise=straight, name="line")))
    of = {one.population: one for one in found if one.outcome == "fp_neg"}
    assert of["max"].winner == "hill" and of["max"].against_linear > 6
    assert of["line"].winner == "linear" and of["line"].against_linear == 0


def test_the_share_that_sleep_removes_is_found():
    """It is what was planted, and not told of an outcome without an excess."""
    found = {(one.condition, one.outcome): one for one in found_by.recoveries(measured(study(DEPRIVED)))}
    taken = found["recovered", "fp_neg"]
    gone = 0.15 * 7 / 47 / (0.3 * 1000 / 1040)
    assert taken.share.mean == pytest.approx(gone, abs=0.02)
    unsure = found["recovered", "err_goodness"]
    assert np.isnan(unsure.share.mean)
    assert share_removed(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])).mean == pytest.approx(0.5)
    assert np.isnan(share_removed(np.zeros(3), np.zeros(3)).mean)
    assert np.isnan(share_removed(np.array([-1.0, 2.0, 0.1, -0.5]), np.ones(4)).mean)  # an excess that is not sure


def test_time_constants_of_wake_and_sleep_are_found():
    """A sleep drive with τ of 50 updates awake and 2 asleep."""

    def exponential(updates):
        return 1 - np.exp(-updates / (50 if updates[-1] > 100 else 2))

    changes = {"deprived": {"sleep_drive": 0.4}, "recovered": {"sleep_drive": -0.4}}
    (found,) = found_by.process(measured(study(changes, rise=exponential, noise=1e-4)))
    assert found.wake == pytest.approx(np.full(10, 50), rel=0.05)
    assert found.sleep == pytest.approx(np.full(10, 2), rel=0.2)
    assert found.ratio.low > 15


def test_sleep_that_does_not_suffice_is_told_from_sleep_that_does():
    """Need is a number of updates where hallucinations come back, else it is censored."""
    enough = study({"deprived": {"fp_neg": 0.1}, "recovered": {"fp_neg": -1.5}})
    enough, short = found_by.needs(measured(enough, study({"deprived": {"fp_neg": 0.3}}, name="short")))
    assert not enough.need.censored.any() and (enough.need.updates > 0).all() and enough.awake == 1000
    assert short.need.censored.all() and np.isnan(short.need.updates).all()


def test_what_was_not_run_is_not_looked_for():
    """A study of two conditions has two conditions in its findings, and no error."""
    few = Findings(measured(study(conditions=("development", "control", "deprived"))))
    assert {one.condition for one in few.contrasts} == {"deprived"}
    assert few.needs == [] and few.process == [] and few.recoveries == []
