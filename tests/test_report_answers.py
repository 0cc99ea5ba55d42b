"""The answers to the paper's two questions say what was planted in the studies that they are given."""

from sleep_study import straight, study
from test_separation import planted

from cortexff.report.answers import markdown, of_deprivation, of_separation

CONDITIONS = ("development", "control", "frozen", "deprived", "recovered", "scaling", "other_synapses")


def deprived(**more):
    changes = {
        "deprived": {"fp_neg": 0.4, "criterion": -0.6},
        "recovered": {"fp_neg": -0.4},
        "scaling": {"fp_neg": -0.2},
        "other_synapses": {"fp_neg": 0.2},
    }
    return study(changes, conditions=CONDITIONS, vigilance=True, **more)


def test_deprivation_is_answered_in_five_sentences_with_what_was_planted():
    said = list(of_deprivation([deprived(), deprived(variant="min", name="min", seed=1)]))
    assert len(said) == 5
    assert "10 subjects of the digits" in said[0] and "1000 updates" in said[0]
    assert "by −0.58 [" in said[1] and "(max) and" in said[1]
    assert said[0].startswith("In part: ") and "ever more slowly" in said[0]
    assert said[1].startswith("What moves more is the criterion")
    assert said[2].startswith("It is not as in people")
    assert "take away 15 % (max)" in said[3] and "instead makes 50 % (max)" in said[3]


def test_words_of_the_answers_follow_other_numbers_too():
    """Where hallucinations rise in a line, or not at all, nothing is said to slow down, and no share is of nothing."""
    conditions = ("development", "control", "frozen", "deprived", "recovered")
    line = study({"deprived": {"fp_neg": 0.4, "dprime": -1.0}}, conditions=conditions, rise=straight)
    said = list(of_deprivation([line]))
    assert said[0].startswith("In part: ") and "ever more slowly" not in said[0] and "linear" in said[0]
    assert said[1].startswith("The criterion moves") and "an unknown amount (max)" in said[2]
    nothing = list(of_deprivation([study(conditions=conditions)]))
    assert nothing[0].startswith("After 1000 updates") and "ever more slowly" not in nothing[0]
    assert "a share that is not told (max)" in nothing[3]


def test_separation_is_answered_in_five_sentences_with_what_was_planted(tmp_path):
    """Planted: separation fails where block times learning rate is large."""
    planted(tmp_path / "p.h5", lambda block, rate, tau: 0.5 if block * rate > 20 else 0.03)
    said = list(of_separation(tmp_path / "p.h5"))
    assert len(said) == 5
    assert said[0].startswith("Yes, where learning is slow: at a learning rate of 0.5 turns of up to 32 updates")
    assert said[1].startswith("No, where it is fast: at 5, the rate of development, turns of 8 updates cost 47 [")
    assert "with one over their product" in said[2] and "neither short nor long" not in said[3]


def test_a_run_of_wider_turns_has_the_last_word(tmp_path):
    """Its longest turns, and what newborns that learn in turns come to, beside learning from both at once."""
    path = planted(tmp_path / "p.h5", lambda block, rate, tau: 0.08 if block == 128 else 0.03)
    said = list(of_separation(path, wider=path))
    assert len(said) == 5 and said[-1].startswith("Turns of 128 updates at a learning rate of 0.05, 0.5 and 5")
    assert "averaged over 1, 10 and 100, changed the error of 8 other subjects by +5.0 [" in said[-1]
    assert "newborns that learned at 5 ended at an error of 3.1 % with turns of 8 against 3.1 %" in said[-1]


def test_what_else_may_change_the_answer_is_told_of_each_factor():
    """Blocks with which the deprived lose five points of error are named; the others have no such loss."""
    changes = {"deprived": {"fp_neg": 0.3, "err_goodness": 0.06}}
    blocks = study(changes, variant="max_blocks", preset="full_factors", name="max_blocks")
    said = list(of_deprivation([deprived()], [deprived(), blocks]))[-1]
    assert "with one thing changed in feed-forward nets" in said
    assert "max blocks lose more than a point of error" in said and "(max blocks)" in said


def test_separation_without_failures_or_without_successes_is_said_so(tmp_path):
    harmless = list(of_separation(planted(tmp_path / "a.h5", lambda block, rate, tau: 0.03)))
    assert harmless[0].startswith("Yes, at every learning rate that was tried")
    assert harmless[1].startswith("None that was tried cost more than 2 points")
    harmful = list(of_separation(planted(tmp_path / "b.h5", lambda block, rate, tau: 0.5)))
    assert harmful[0].startswith("At no learning rate") and harmful[1].startswith("They fail: at 0.05")


def test_a_folder_without_results_has_no_answers(tmp_path):
    assert markdown(tmp_path) == ""
