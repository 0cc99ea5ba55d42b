"""What was predicted is printed in its own words, and judged by the rule that it states."""

import hashlib

import numpy as np
import pytest
from sleep_study import saturating, straight, study

from cortexff.errors import CortexffError
from cortexff.report import predictions
from cortexff.report.findings import Findings
from cortexff.report.outcomes import Measured
from cortexff.report.predictions import CONFIRMED, JUDGES, NOT_TESTED, REFUTED, UNDECIDED, judge, preregistration

OF_MAX = {
    "deprived": {"fp_neg": 0.3, "criterion": -0.8, "rate": 0.1, "evoked_slope": 0.05, "pulse_response": 0.02},
    "overslept": {"miss": 1.8},
    "scaling": {"fp_neg": -1.6},
}
OF_MIN = {"deprived": {"fp_neg": 0.2, "criterion": -0.8, "rate": -0.1, "evoked_slope": -0.05, "pulse_response": -0.02}}


def findings(*populations):
    return Findings([Measured(population) for population in populations])


@pytest.fixture(scope="module")
def found():
    return findings(study(OF_MAX))


def test_every_registered_prediction_has_a_judge():
    """And no judge is without a prediction."""
    registered = predictions.preregistration()
    assert {one["id"] for one in registered.predictions} == set(JUDGES)


def test_a_prediction_is_printed_as_it_was_written(tmp_path, found):
    """With the hash of the very file, and a prediction that nothing can judge is not tested."""
    path = tmp_path / "mine.prereg.yaml"
    path.write_text(
        "predictions:\n  - {id: H3, says: It rises, confirmed_if: up, refuted_if: not, prior: 0.5}\n  - {id: X}\n"
    )
    registered = predictions.preregistration(path)
    assert registered.hash == hashlib.sha256(path.read_bytes()).hexdigest()
    first, second = predictions.judge(found, registered)
    assert (first.id, first.says, first.confirmed_if, first.prior) == ("H3", "It rises", "up", 0.5)
    assert first.judgement.word == CONFIRMED and second.judgement.word == NOT_TESTED
    assert predictions.preregistration(tmp_path / "none.yaml") is None


def test_a_file_without_predictions_is_refused(tmp_path):
    """It is named."""
    path = tmp_path / "empty.yaml"
    path.write_text("format: cortexff-preregistration/1\n")
    with pytest.raises(CortexffError, match=r"empty\.yaml: has no list of predictions"):
        predictions.preregistration(path)


@pytest.mark.parametrize(
    ("id", "word"),
    [
        ("H3", CONFIRMED),  # a rise that is not linear
        ("H4", CONFIRMED),  # error never is up
        ("H5", CONFIRMED),  # the criterion falls, d′ is the same
        ("H6", NOT_TESTED),  # without min
        ("H7", NOT_TESTED),
        ("H9", CONFIRMED),  # most real data are missed
        ("H12", NOT_TESTED),
        ("H14", NOT_TESTED),
        ("H16", NOT_TESTED),
        ("H17", NOT_TESTED),
    ],
)
def test_planted_truths_are_judged(found, id, word):
    """Of the sign max alone, with what the default preset runs."""
    assert JUDGES[id](found).word == word


def test_a_straight_rise_refutes_that_it_is_not_linear():
    """The linear law wins."""
    assert JUDGES["H3"](findings(study(OF_MAX, rise=straight))).word == REFUTED


def test_an_error_that_never_is_up_is_later_by_no_more_than_was_watched():
    """It counts as late, as was written down; but from half the rise at 500 to the end are two times as many."""
    judgement = JUDGES["H4"](findings(study(OF_MAX, rise=straight)))
    assert judgement.word == CONFIRMED and "ratio at least 2.0 [" in judgement.figures


def test_errors_as_early_as_hallucinations_refute_that_they_come_late():
    """Error is up by two points at about the dose of half the rise."""
    changes = {"deprived": {"fp_neg": 0.3, "err_goodness": 0.04}}
    assert JUDGES["H4"](findings(study(changes, rise=saturating))).word == REFUTED


def test_a_fall_of_sensitivity_refutes_one_sign_and_confirms_the_mixture():
    """d′ lower by one is against the prediction in max, and for it with both signs."""
    changes = {"deprived": {"criterion": -0.8, "dprime": -1.0}}
    assert JUDGES["H5"](findings(study(changes))).word == REFUTED
    mixed = study(changes)
    object.__setattr__(mixed, "sign", "mixed")
    assert JUDGES["H5"](findings(mixed)).word == CONFIRMED


def test_signs_that_part_are_told_from_signs_that_go_together():
    """Rate, slope and pulse in opposite directions leave reaction times open; in the same direction they refute."""
    assert JUDGES["H6"](findings(study(OF_MAX), study(OF_MIN, variant="min"))).word == UNDECIDED
    assert JUDGES["H6"](findings(study(OF_MAX), study(OF_MAX, variant="min"))).word == REFUTED


def test_divergence_without_saturation_needs_both_signs():
    """Max diverges; that min falls silent is not known, so the prediction stays open."""
    conditions = ("development", "control", "frozen", "deprived", "deprived_linear")
    loud, quiet = (study(conditions=conditions, variant=sign, preset="full") for sign in ("max", "min"))
    loud.courses["deprived_linear"].found["err_goodness"][-2:] = np.nan
    loud.courses["deprived_linear"].found["fp_neg"][-2:] = np.nan
    assert JUDGES["H7"](findings(loud, quiet)).word == REFUTED  # min is stable
    quiet.courses["deprived_linear"].found["rate"][-2:] = 0.01
    assert JUDGES["H7"](findings(loud, quiet)).word == CONFIRMED
    assert JUDGES["H7"](findings(loud, study(OF_MIN, variant="min"))).word == UNDECIDED


def test_silence_that_comes_late_is_told_and_does_not_count():
    """H7 says by when; what becomes of the networks later is in its figures."""
    conditions = ("development", "control", "frozen", "deprived", "deprived_linear", "deprived_linear_longer")
    quiet = study(conditions=conditions, variant="min", preset="full")
    quiet.courses["deprived_linear_longer"].found["rate"][-1] = 0.01
    judged = JUDGES["H7"](findings(quiet))
    assert judged.word == REFUTED and "0 of 10 fell silent, 0 diverged by 1000 updates, 10 by 3000" in judged.figures


def test_what_was_watched_too_shortly_refutes_nothing():
    """Two hundred updates of linear loss say nothing of a thousand."""
    conditions = ("development", "control", "frozen", "deprived", "deprived_linear")
    population = study(conditions=conditions, variant="min")
    course = population.courses["deprived_linear"]
    course.found["update"] = course.updates // 5
    assert JUDGES["H7"](findings(population)).word == UNDECIDED


def test_too_much_sleep_is_more_than_what_was_enough():
    """H9 asks what sleep beyond recovery does: misses that recovery itself brought are none of it."""
    enough = {"recovered": {"miss": 0.2}, "overslept": {"miss": 0.0}}
    more = float(JUDGES["H9"](findings(study(enough))).figures.split("misses ")[1].split(" ")[0].replace("−", "-"))
    assert abs(more) < 1


def test_nothing_was_predicted_of_other_factors():
    """A file whose variants differ in more than the sign has no verdicts."""
    factors = study(variant="max_blocks", preset="full_factors", name="max_blocks")
    assert not judge(findings(factors), preregistration())
    assert judge(findings(study()), preregistration())


def test_banking_and_other_synapses_are_judged_by_their_share_of_the_excess():
    """Banking that takes a third away refutes that it does not help; other synapses that do as much confirm."""
    conditions = ("development", "control", "frozen", "deprived", "banked", "other_synapses")
    changes = {name: {"fp_neg": size} for name, size in (("deprived", 0.3), ("banked", 0.2), ("other_synapses", 0.3))}
    one = findings(study(changes, conditions=conditions, preset="full"))
    assert JUDGES["H17"](one).word == REFUTED and JUDGES["K3"](one).word == CONFIRMED
    changes["banked"]["fp_neg"], changes["other_synapses"]["fp_neg"] = 0.32, 0.05
    other = findings(study(changes, conditions=conditions, preset="full"))
    assert JUDGES["H17"](other).word == CONFIRMED and JUDGES["K3"](other).word == REFUTED
    changes["banked"]["fp_neg"] = 0.27  # a tenth for sure: neither as much, nor a fifth less
    assert JUDGES["H17"](findings(study(changes, conditions=conditions, preset="full"))).word == UNDECIDED


@pytest.mark.parametrize(("rise", "word"), [(lambda updates: updates >= 100, CONFIRMED), (straight, REFUTED)])
def test_plateaus_are_told_from_drift(rise, word):
    """Hallucinations of those who sleep too little rise early and then no more, or go on rising."""
    sizes = {"chronic_1": 0.3, "chronic_4": 0.2, "chronic_16": 0.1}
    conditions = ("development", "control", "frozen", "deprived", *sizes)
    changes = {name: {"fp_neg": size} for name, size in sizes.items()}
    one = findings(study(changes, conditions=conditions, preset="full", rise=rise, noise=1e-3, seed=1))
    assert JUDGES["H12"](one).word == word
    for name in sizes:
        one.studies[0].courses[name].phases[-2] = "sleep"  # the last end of wake
    judgement = JUDGES["H12"](findings(one.studies[0].population))
    assert judgement.word == UNDECIDED and "fewer than two ends of wake" in judgement.figures


def test_encoding_that_takes_twice_as_long_confirms_where_old_labels_are_kept():
    """Error on two new labels falls half as fast in the deprived; on the old ones it is the same."""
    young = ("young", "young_control", "young_deprived", "encoding_rested", "encoding_deprived")
    population = study(conditions=("development", "control", "deprived", *young), preset="full")
    random = np.random.default_rng(0)
    for name in young[1:]:
        found = population.courses[name].found
        half = (40 if name == "encoding_deprived" else 20) * random.uniform(0.95, 1.05, 10)
        new = 1 - found["update"][:, None] / (found["update"][:, None] + half)
        error = np.full((len(new), 10, 10), 0.05) + random.normal(0, 1e-3, (len(new), 10, 10))
        error[..., 8:] = new[..., None]
        found["err_by_label"] = error
    judgement = JUDGES["H14"](findings(population))
    assert judgement.word == CONFIRMED and "ratio 2.0" in judgement.figures.replace("1.9", "2.0")


def test_a_lost_network_leaves_a_prediction_open_and_is_told():
    """It was tested: one of ten networks has no finite value when deprivation and sleep are over."""
    population = study(OF_MAX)
    for condition in ("deprived", "overslept", "scaling"):
        for outcome in ("fp_neg", "miss", "err_goodness", "dprime", "criterion"):
            population.courses[condition].found[outcome][-1, 3] = np.nan
    one = findings(population)
    for id in ("H3", "H4", "H5", "H9", "H10"):
        judgement = JUDGES[id](one)
        assert judgement.word == UNDECIDED and "not known in every subject" in judgement.figures


def test_time_constants_of_few_of_many_subjects_decide_nothing():
    """Of ten subjects four have one."""

    def exponential(updates):
        return 1 - np.exp(-updates / (50 if updates[-1] > 100 else 2))

    changes = {"deprived": {"sleep_drive": 0.4}, "recovered": {"sleep_drive": -0.4}}
    population = study(changes, rise=exponential, noise=1e-4)
    population.courses["deprived"].found["sleep_drive"][:, 4:] = 0.1
    judgement = JUDGES["H8"](findings(population))
    assert judgement.word == UNDECIDED and judgement.figures.endswith("in 4 of 10")


def test_few_subjects_decide_no_prediction():
    """A first look of two subjects."""
    rows = predictions.judge(findings(study(OF_MAX, subjects=2)), predictions.preregistration())
    assert {row.judgement.word for row in rows} == {UNDECIDED, NOT_TESTED}
    assert any("2 subjects: too few" in row.judgement.figures for row in rows)
