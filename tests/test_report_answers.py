"""The answers to the paper's two questions, from a folder of results files; the README holds those of the kept ones."""

from cortexff.report.answers import markdown


def test_a_folder_without_results_has_no_answers(tmp_path):
    assert markdown(tmp_path) == ""
