"""The answers to the paper's two questions say what was planted in the studies that they are given."""

import numpy as np
from sleep_study import straight, study
from test_separation import planted

from cortexff.report.answers import markdown, measured, of_deprivation, of_separation

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


def test_separation_is_answered_in_five_sentences_with_what_was_planted(tmp_path):
    """Planted: separation fails where block times learning rate is large."""
    planted(tmp_path / "p.h5", lambda block, rate, tau: 0.5 if block * rate > 20 else 0.03)
    said = list(of_separation(tmp_path / "p.h5"))
    assert len(said) == 5
    assert said[0].startswith("Yes, where learning is slow: at a learning rate of 0.5 turns of up to 32 updates")
    assert said[1].startswith("No, where it is fast: at 5, the rate of development, turns of 8 cost 47 [")
    assert said[2].startswith("What decides is how far a turn shifts") and "neither short nor long" not in said[3]


def test_separation_without_failures_or_without_successes_is_said_so(tmp_path):
    harmless = list(of_separation(planted(tmp_path / "a.h5", lambda block, rate, tau: 0.03)))
    assert harmless[0].startswith("Yes, at every learning rate that was tried")
    assert harmless[1].startswith("None that was tried cost more than 2 points")
    harmful = list(of_separation(planted(tmp_path / "b.h5", lambda block, rate, tau: 0.5)))
    assert harmful[0].startswith("At no learning rate") and harmful[1].startswith("They fail: at 0.05")


def test_a_run_of_wider_turns_has_its_say(tmp_path):
    """Its longest turns, and what newborns that learn in turns come to, beside learning from both at once."""
    path = planted(tmp_path / "p.h5", lambda block, rate, tau: 0.08 if block == 128 else 0.03)
    said = list(of_separation(path, wider=path))
    each = "+5.0 points at 0.05, +5.0 points at 0.5 and +5.0 points at 5."
    assert f", and turns of 128 that of 8 others (max) by {each}" in said[0]
    wanted = (
        "Newborns that learned at 5 in turns of 8 updates ended at an error of 3.1 % against 3.1 % with both at once"
    )
    assert said[-1].startswith(wanted)


def test_a_folder_without_results_has_no_answers(tmp_path):
    assert markdown(tmp_path) == ""
