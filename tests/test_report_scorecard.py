"""The scorecard says what a study mimics, what it does the other way round, and what it does not do."""

import numpy as np
import pytest
from sleep_study import straight, study

from cortexff.report.findings import Findings
from cortexff.report.outcomes import Measured
from cortexff.report.scorecard import ABSENT, MIMICS, NOT_TESTED, OPPOSITE, SIGNATURES, UNDECIDED, scorecard
from cortexff.report.tables import of_scorecard

CHANGES = {
    "deprived": {"fp_neg": 0.3, "rate": 0.1, "evoked_slope": -0.05, "criterion": -0.6, "sleep_drive": 0.4},
    "recovered": {"fp_neg": -2.6, "rate": -0.5, "sleep_drive": -3.0},
}


@pytest.fixture(scope="module")
def card():
    """Verdicts by number and finding."""
    findings = Findings([Measured(study(CHANGES))])
    return {(one.number, one.finding): verdicts["max"] for one, verdicts in scorecard(findings)}


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (("S12", "hallucinations appear"), MIMICS),
        (("S10", "firing rates rise with time awake"), MIMICS),
        (("S10", "and fall in sleep"), MIMICS),
        (("S15", "cortex is more excitable"), OPPOSITE),
        (("S14", "sensitivity falls"), ABSENT),
        (("S3", "impairment grows linearly, beyond a threshold or from the start"), ABSENT),
        (("S7", "less sleep than was lost suffices"), MIMICS),
        (("S7", "a deficit remains after recovery"), ABSENT),
        (("S17", "total deprivation is fatal (rats)"), ABSENT),
        (("S8", "sleep banked before protects"), NOT_TESTED),
        (("S1", "lapses of attention rise"), NOT_TESTED),
        (("S21", "criticality is lost"), NOT_TESTED),
    ],
)
def test_a_planted_sign_gets_its_verdict(card, key, word):
    """What was planted, what was planted the other way, what was not planted, and what was not run."""
    assert card[key].word == word


def test_a_verdict_comes_with_its_estimate(card):
    """Mean, interval and d_z."""
    figures = card["S12", "hallucinations appear"].figures
    assert figures.startswith("+28.") and "[" in figures and "d_z" in figures


def test_a_deficit_that_no_sleep_takes_away_remains():
    """None of ten is back after all the sleep that was watched."""
    findings = Findings([Measured(study({"deprived": {"fp_neg": 0.3}}))])
    remains = next(one for one in SIGNATURES if one.finding == "a deficit remains after recovery")
    verdict = remains.test(findings, findings.studies[0])
    assert verdict.word == MIMICS and verdict.figures == "as before in 0 of 10 within 50 updates of sleep"


def test_what_few_of_many_subjects_tell_decides_nothing():
    """Of ten subjects four have time constants; then one is lost asleep, and its need of sleep is not known."""
    changes = {"deprived": {"fp_neg": 0.3, "sleep_drive": 0.4}, "recovered": {"fp_neg": -2.6, "sleep_drive": -3.0}}

    def verdict(population, finding):
        findings = Findings([Measured(population)])
        return next(one for one in SIGNATURES if one.finding.startswith(finding)).test(findings, findings.studies[0])

    def exponential(updates):
        return 1 - np.exp(-updates / (50 if updates[-1] > 100 else 2))

    population = study(changes, rise=exponential, noise=1e-4)
    assert verdict(population, "sleep need falls faster").word == MIMICS
    population.courses["deprived"].found["sleep_drive"][:, 4:] = 0.1
    few = verdict(population, "sleep need falls faster")
    assert few.word == UNDECIDED and few.figures.endswith("in 4 of 10")
    assert verdict(population, "less sleep than was lost").word == MIMICS
    population.courses["recovered"].found["fp_neg"][1:, 0] = np.nan
    assert verdict(population, "less sleep than was lost").word == UNDECIDED


def test_few_subjects_decide_nothing():
    """Four subjects cannot be significant, so every sign that was tested is undecided."""
    findings = Findings([Measured(study(CHANGES, subjects=4))])
    words = {verdicts["max"].word for _, verdicts in scorecard(findings)}
    assert words == {UNDECIDED, NOT_TESTED}


def test_most_networks_that_diverge_are_a_catastrophe():
    """Seven of ten that are lost while deprived."""
    population = study(conditions=("development", "control", "deprived"))
    population.courses["deprived"].found["err_goodness"][-1, :7] = 0.9
    findings = Findings([Measured(population)])
    fatal = next(one for one, _ in scorecard(findings) if one.finding == "total deprivation is fatal (rats)")
    verdict = fatal.test(findings, findings.studies[0])
    assert verdict.word == MIMICS and verdict.figures == "7 of 10 diverged, 0 fell silent by 1000 updates"


def test_a_critical_share_of_sleep_is_one_below_which_networks_are_lost():
    """All diverge with the least sleep and none with the most; where none does with any, there is no such share."""
    shares = ("chronic_1_linear", "chronic_16_linear", "chronic_64_linear")
    few = ("chronic_1", "chronic_4", "chronic_16")
    population = study(conditions=("development", "control", "deprived", *few, *shares), preset="full")
    population.courses["chronic_1_linear"].found["err_goodness"][-1] = 0.9
    verdicts = {(one.number, one.finding): of["max"] for one, of in scorecard(Findings([Measured(population)]))}
    assert verdicts["S5", "below a critical share of sleep, state diverges"].word == ABSENT
    found = verdicts["S5", "… with learning that never slows down"]
    assert found.word == MIMICS and "10 of 10 lost with 1 of sleep to 64 awake" in found.figures


def test_hallucinations_of_what_was_last_seen_are_told_by_an_odds_ratio():
    """With the label of the images seen last, odds three times those with others; where all were seen, as many."""
    population = study(conditions=("development", "control", "frozen", "deprived", "one_class"), preset="full")
    odds = np.where(np.arange(10) == 3, 0.3, 0.1) * np.linspace(0.9, 1.1, 10)[:, None]
    found = population.courses["one_class"].found
    found["fp_by_label"] = np.repeat((odds / (1 + odds))[None], len(found["update"]), 0)
    usual = population.courses["deprived"].found
    usual["fp_by_label"] = np.full((len(usual["update"]), 10, 10), 0.1)
    found["true_label"] = usual["true_label"] = np.zeros(10_000)
    findings = Findings([Measured(population)])
    seen = next(one for one in SIGNATURES if one.finding == "they are of what was last seen")
    verdict = seen.test(findings, findings.studies[0])
    assert verdict.word == MIMICS and verdict.figures.startswith("odds ratio 3.0")
    usual["fp_by_label"] = np.repeat(found["fp_by_label"][-1:], len(usual["update"]), 0)
    assert seen.test(findings, findings.studies[0]).word == UNDECIDED  # that label always was the likeliest


def test_a_share_of_sleep_with_which_networks_go_on_rising_is_no_end_of_it():
    """All are lost with the least sleep, but with the most errors rise for sure; silence counts as loss."""
    shares = ("chronic_1_linear", "chronic_16_linear", "chronic_64_linear")
    changes = {"chronic_64_linear": {"err_goodness": 0.3}}
    population = study(
        changes, conditions=("development", "control", "deprived", *shares), preset="full", rise=straight
    )
    quiet = population.courses["chronic_1_linear"].found["rate"]
    quiet[-1] = 0.01 * quiet[0]
    test = next(one for one in SIGNATURES if one.number == "S5" and one.source == "–").test
    verdict = test(Findings([Measured(population)]), Measured(population))
    assert verdict.word == UNDECIDED and "10 of 10 lost with 1 of" in verdict.figures
    assert verdict.figures.endswith("rising with 64 of sleep to 64 awake")
    quiet[-1, :6] = quiet[0, :6]  # four of ten are no majority
    assert "4 of 10 lost" in test(Findings([Measured(population)]), Measured(population)).figures


def test_the_scorecard_has_the_first_populations_and_names_the_others():
    """Of six, five stand side by side."""
    few = ("development", "control", "deprived")
    findings = Findings([Measured(study(conditions=few, seed=n, name=f"max {n}")) for n in range(6)])
    table = of_scorecard(findings)
    assert "max 4" in table.columns and "max 5" not in table.columns and "Not here: max 5." in table.note
