"""The kept runs: what the README says of them is what their files hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cortexff.errors import CortexffError
from cortexff.log import Log
from cortexff.protocol import table
from cortexff.protocol.paper import kept_runs, markdown, sections, text, update
from cortexff.protocol.table import Row

ROOT = Path(__file__).parents[1]
ROW = Row("recurrent", "3.4", "max", "test", "err_goodness", "error, %", 1.31, 1.5, 1.4, 1.6, 3, "medium", "0.19 above")
PROVENANCE = {
    "machine": "a box, 2 cores",
    "started": "2026-01-02T10:00:00+00:00",
    "finished": "2026-01-02T10:30:00+00:00",
}


@pytest.fixture
def folder(tmp_path):
    with Log.create(tmp_path / "recurrent_medium.h5", PROVENANCE, {"subject": [0, 1, 2]}) as log:
        table.write(log, [ROW, replace(ROW, metric="err_softmax", paper=np.nan)])
    return tmp_path


def test_readme_holds_the_kept_results():
    """No figure of the README is typed: its sections are what the files under results/ give."""
    readme = ROOT / "README.md"
    assert update(readme, sections(ROOT)) == readme.read_text(encoding="utf-8")


def test_a_kept_table_is_read_back(folder):
    (run,) = kept_runs(folder)
    assert run.rows[0] == ROW
    assert (run.machine, run.date, run.minutes) == ("a box, 2 cores", "2026-01-02", 30)


def test_only_rows_with_a_figure_of_the_paper_are_set_beside_it(folder):
    runs = kept_runs(folder)
    assert "| 3.4 | error, % | 1.31 | 1.50 [1.40, 1.60] | 3 |" in markdown(runs)
    assert markdown(runs).count("\n") == 2
    assert text(runs).count("\n") == 1


def test_an_interrupted_run_is_refused_by_name(tmp_path):
    Log.create(tmp_path / "half.h5", PROVENANCE, {"subject": [0]}).close("interrupted")
    with pytest.raises(CortexffError, match=r"half\.h5 has no closing table"):
        kept_runs(tmp_path)


def test_a_readme_without_marks_is_refused(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: begin --> but no end")
    with pytest.raises(CortexffError, match="lacks the marks <!-- results: begin --> and <!-- results: end -->"):
        update(readme, {"results": "new"})
    readme.write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter")
    assert update(readme, {"results": "new"}) == readme.read_text().replace("old", "new")
