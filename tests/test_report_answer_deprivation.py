"""The answer on a missing negative phase says what was planted in the studies that it is given."""

import numpy as np
from sleep_study import straight, study

from cortexff.report.answer_deprivation import measured, of_deprivation

CONDITIONS = ("development", "control", "frozen", "deprived", "recovered", "scaling", "other_synapses")


def deprived(**more):
    changes = {
        "deprived": {"fp_neg": 0.4, "criterion": -0.6},
        "recovered": {"fp_neg": -0.4},
        "scaling": {"fp_neg": -0.2},
        "other_synapses": {"fp_neg": 0.2},
    }
    return study(changes, conditions=CONDITIONS, vigilance=True, **more)


def answer(*populations, factors=()):
    return list(of_deprivation(measured(populations), measured(factors)))


def test_deprivation_is_answered_in_five_sentences_with_what_was_planted():
    said = answer(deprived(), deprived(variant="min", name="min", seed=1))
    assert len(said) == 5 and all(text.endswith(".") and text.count(". ") == 0 for text in said)
    assert "10 subjects of the digits" in said[0] and "1000 updates" in said[0] and "(max and min)" in said[0]
    assert said[0].startswith("In part: ") and "ever more slowly" in said[0]
    assert "what moves more is the criterion, by −0.58 and −0.58, while" in said[1]
    assert said[2].startswith("People lapse early and hallucinate late; here no rise of lapses is shown")
    assert "take away 15 % and" in said[3] and "synapse makes 50 % and" in said[3]
    assert "nothing is known" in said[4]


def test_words_of_the_answers_follow_other_numbers_too():
    """Where hallucinations rise in a line, or not at all, nothing is said to slow down, and no share is of nothing."""
    conditions = ("development", "control", "frozen", "deprived", "recovered")
    line = study({"deprived": {"fp_neg": 0.4, "dprime": -1.0}}, conditions=conditions, rise=straight)
    said = answer(line)
    assert said[0].startswith("In part: ") and "no law says for sure" in said[0]
    assert said[1].startswith("The criterion moves") and "an unknown amount" in said[2]
    nothing = answer(study(conditions=conditions))
    assert nothing[0].startswith("After 1000 updates") and "no law says for sure" in nothing[0]
    assert "a share that is not told" in nothing[3]


def test_what_else_may_change_the_answer_is_told_of_each_factor():
    """Blocks with which the deprived lose five points of error are named; what loses nothing is not."""
    changes = {"deprived": {"fp_neg": 0.3, "err_goodness": 0.06}}
    blocks = study(changes, variant="max_blocks", preset="full_factors", name="max_blocks")
    said = answer(deprived(), factors=[deprived(), blocks])[-1]
    assert (
        "deprivation raises the error by more than a point: +5." in said
        and "(max blocks);" in said
        and "(max)" not in said
    )
    assert "no factor changed" in answer(deprived(), factors=[deprived()])[-1]
    some = study({"deprived": {"err_goodness": 0.01}}, conditions=CONDITIONS, name="some")  # no more for sure
    assert "no factor changed" in answer(deprived(), factors=[some])[-1]
    blocks.courses["deprived"].found["err_goodness"][-1, 0] = np.nan
    assert "networks are lost (max blocks)" in answer(deprived(), factors=[blocks])[-1]


def test_networks_that_diverge_without_saturation_are_counted():
    conditions = ("development", "control", "frozen", "deprived", "deprived_linear")
    loud = study(conditions=conditions)
    loud.courses["deprived_linear"].found["err_goodness"][-1, :7] = 0.9
    assert "7 of 10 diverge (max)" in answer(loud)[-1]
