"""The answers to the paper's two questions say what was planted in the studies that they are given."""

from sleep_study import study
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
    assert "10 subjects of digits" in said[0] and "1000 updates" in said[0]
    assert "by −0.58 [" in said[1] and "(max) and" in said[1]
    assert "(negative data 15 % (max)" in said[3]  # seven updates are that share of a rise that is half done after 40
    assert "scaling of the synapses alone" in said[3] and "instead makes" in said[3]


def test_separation_is_answered_in_five_sentences_with_what_was_planted(tmp_path):
    """Planted: separation fails where block times learning rate is large."""
    planted(tmp_path / "p.h5", lambda block, rate, tau: 0.5 if block * rate > 20 else 0.03)
    said = list(of_separation(tmp_path / "p.h5"))
    assert len(said) == 5
    assert said[0].startswith("Yes, where learning is slow: at a learning rate of 0.05")
    assert said[1].startswith("No, where it is fast: at 0.5")


def test_a_folder_without_results_has_no_answers(tmp_path):
    assert markdown(tmp_path) == ""
