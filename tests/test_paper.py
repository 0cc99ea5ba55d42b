"""The kept runs: what the README says of them is what their files hold."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from cortexff.errors import CortexffError
from cortexff.log import Log
from cortexff.protocol import table
from cortexff.protocol.loading import from_json, load_protocol
from cortexff.protocol.paper import WHAT, asked, kept_runs, markdown, sections, text, update, wanted
from cortexff.protocol.table import Row

ROOT = Path(__file__).parents[1]
ROW = Row("recurrent", "3.4", "max", "test", "err_goodness", "error, %", 1.31, 1.5, 1.4, 1.6, 3, "medium", "0.19 above")
PROVENANCE = {
    "machine": "a box, 2 cores",
    "started": "2026-01-02T10:00:00+00:00",
    "finished": "2026-01-02T18:15:00+00:00",
    "seconds": 1800.0,  # it was interrupted
    "settings": json.dumps(
        {
            "model": "mnist_recurrent_1000",
            "stimuli": {"images": "mnist"},
            "stages": {"young": {"epochs": 15, "phase": "interleaved"}, "look": {"epochs": 9, "phase": "rest"}},
        }
    ),
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


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "paper").glob("*.h5")), ids=lambda path: path.stem)
def test_a_kept_run_had_the_settings_that_its_preset_has(path):
    """The command beside a row is the one that gives it: what was learned, and how, is what the preset says today."""
    with h5py.File(path) as file:
        kept = from_json(file.attrs["settings"])
        today = load_protocol(file.attrs["protocol_name"], file.attrs["preset"])
    of_other_things = {"engine": {"precision"}, "title": True, "measures": True, "table": True, "presets": True}
    then, now = (one.model_dump(exclude={**of_other_things, "stages": True}) for one in (kept, today))
    assert then == now
    stages = getattr(kept, "stages", {})  # some may have come since
    assert stages == {name: today.stages[name] for name in stages}


def test_a_kept_table_is_read_back(folder):
    (run,) = kept_runs(folder)
    assert run.rows[0] == ROW
    assert (run.machine, run.date, run.epochs) == ("a box, 2 cores", "2026-01-02", 15)
    assert run.minutes == pytest.approx(30, abs=0.1)
    with h5py.File(run.path, "r+") as file:
        del file.attrs["seconds"]
    assert kept_runs(folder)[0].time(0) == "≤ 495 min"


def test_only_rows_with_a_figure_of_the_paper_are_set_beside_it(folder):
    runs = kept_runs(folder)
    ours = [
        "3.4",
        "error, %",
        "mnist_recurrent_1000",
        "mnist",
        "1.31",
        "1.50 [1.40, 1.60]",
        "+0.19",
        "3",
        "`recurrent --preset medium`",
        "15",
    ]
    assert f"| {' | '.join(ours)} | 30 min | a box, 2 cores | 2026-01-02 |" in markdown(runs)
    assert sum("not run yet" not in line for line in text(runs).splitlines()) == 3  # a heading, a rule and this


TABLE_1 = {  # sign and maps: error by goodness and by softmax, of training and of test images
    ("min", 2): {"err_goodness": (20, 41), "err_softmax": (31, 45)},
    ("max", 2): {"err_goodness": (25, 44), "err_softmax": (33, 46)},
    ("min", 3): {"err_goodness": (24, 41), "err_softmax": (32, 44)},
    ("max", 3): {"err_goodness": (21, 44), "err_softmax": (31, 46)},
}
FIGURES = {  # what the paper gives: protocol, preset, variant, condition, metric
    ("backprop_baseline", "full", "plain", "test", "err_softmax"): 1.4,
    ("backprop_baseline", "full_regularized", "dropout", "test", "err_softmax"): 1.1,
    ("backprop_baseline", "full_regularized", "label_smoothing", "test", "err_softmax"): 1.1,
    ("unsupervised", "full", "max", "test", "err_softmax"): 1.37,
    ("local_fields", "full", "max", "test", "err_softmax"): 1.16,
    ("supervised", "full", "max", "test", "err_goodness"): 1.36,
    ("supervised", "full_40", "max", "test", "err_goodness"): 1.46,
    ("jittered", "medium", "max", "test", "err_goodness"): 0.64,
    ("jittered", "full", "max", "test", "err_goodness"): 0.64,
    ("recurrent", "medium", "max", "test", "err_goodness"): 1.31,
    ("recurrent", "full", "max", "test", "err_goodness"): 1.31,
    ("recurrent", "full_3", "max", "test", "err_goodness"): 1.31,
    ("backprop_baseline", "cifar10_2", "plain", "training", "err_softmax"): 0,
    ("backprop_baseline", "cifar10_2", "plain", "test", "err_softmax"): 37,
    ("backprop_baseline", "cifar10_3", "plain", "training", "err_softmax"): 2,
    ("backprop_baseline", "cifar10_3", "plain", "test", "err_softmax"): 39,
    **{
        ("cifar10", "full" if maps == 2 else "full_3", sign, condition, metric): figure
        for (sign, maps), of in TABLE_1.items()
        for metric, both in of.items()
        for condition, figure in zip(("training", "test"), both, strict=True)
    },
}


def test_the_figures_beside_ours_are_those_of_the_paper():
    """In every preset, whether it was run or not, and in the file of every kept run."""
    assert {WHAT(one): one.paper for one in asked()} == FIGURES
    for run in kept_runs(ROOT / "results" / "paper"):
        for row in run.figures:
            assert FIGURES[WHAT(row)] == row.paper, run.path


def test_what_the_paper_has_and_no_kept_run_is_in_the_table_too(folder):
    runs = kept_runs(folder)
    missing = wanted(runs)
    assert len(missing) == len(FIGURES) - 1
    assert "medium" not in {one.preset for one in missing if one.protocol == "recurrent"}
    (run,) = runs
    other = replace(run, rows=[replace(row, variant="min") for row in run.rows])
    assert len(wanted([other])) == len(FIGURES)  # of another variant
    assert all(f"{one.protocol} --preset {one.preset}" in text(runs) for one in missing)


def test_images_that_lost_something_are_named_so(folder):
    with h5py.File(folder / "recurrent_medium.h5", "r+") as file:
        file.attrs["images_read_from"] = "cifar-10-jpeg.tgz"
    assert kept_runs(folder)[0].images == "mnist (JPEG)"


def test_what_an_experiment_remarks_stands_below_its_table(folder):
    perplexity = replace(ROW, paper=np.nan, metric="perplexity_test", quantity="difference of perplexity, a − b, max")
    rows = [
        replace(perplexity, condition=c, verdict=v) for c, v in (("a", ""), ("a − b", "up in 3 of 3; different: +16%"))
    ]
    with Log.create(folder / "letters.h5", PROVENANCE, {"subject": [0, 1, 2]}) as log:
        table.write(log, rows)
    assert "\n\n- difference of perplexity, a − b, max: different: +16%, 3 subjects" in markdown(kept_runs(folder))


def test_a_run_without_a_figure_of_the_paper_has_a_table_of_its_own(tmp_path):
    with Log.create(tmp_path / "oddities.h5", PROVENANCE, {"subject": [0, 1, 2]}) as log:
        bare = replace(ROW, paper=np.nan, preset="default")
        table.write(log, [bare, replace(bare, variant="min", ours=7.0)])
    written = markdown(kept_runs(tmp_path))
    assert "`recurrent`, preset default, mean of 3 [95 % interval];" in written
    assert (
        "|  | max | min |" in written and "| error by goodness, % | 1.50 [1.40, 1.60] | 7.00 [1.40, 1.60] |" in written
    )


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
