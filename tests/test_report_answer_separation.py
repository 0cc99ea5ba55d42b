"""The answer on separated phases says what was planted in the results that it is given."""

from test_separation import planted

from cortexff.report.answer_separation import of_separation


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
