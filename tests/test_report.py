"""`python -m cortexff.report` as a person uses it, on a run of some seconds."""

import sys

import h5py
import pytest

from cortexff.errors import CortexffError
from cortexff.protocol.__main__ import main as run
from cortexff.report.__main__ import main
from cortexff.report.study import read

CONDITIONS = "[development, control, frozen, deprived, recovered, overslept]"


def call(monkeypatch, command, *arguments):
    monkeypatch.setattr(sys, "argv", ["python", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command()
    return ended.value.code or 0


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A run of two subjects who hardly grow up."""
    path = tmp_path_factory.mktemp("results") / "tiny.h5"
    settings = ["stimuli.validation=50", "stages.development.epochs=2", f"conditions={CONDITIONS}", "variants=[max]"]
    settings += ["stages.interleaved.updates=10", "stages.deprivation.updates=10", "stages.frozen.updates=10"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    with pytest.MonkeyPatch.context() as patch:
        options = ("--preset", "quick", "--progress", "none", "--out", path)
        assert call(patch, run, "sleep_deprivation", *options, *arguments) == 0
    return path


def test_a_run_becomes_a_page_with_its_files(results, tmp_path, monkeypatch, capsys):
    """The page, every table, the trials, figures in two formats; the page says that two subjects are too few."""
    out = tmp_path / "report"
    assert call(monkeypatch, main, results, "--out", out) == 0
    said = capsys.readouterr()
    assert said.out == f"Report: {out / 'index.html'}\n" and "comparing conditions ..." in said.err
    made = {path.name for path in out.iterdir()}
    assert {"index.html", "scorecard.csv", "contrasts.csv", "trials.csv", "predictions.csv"} <= made
    pictures = {name.removesuffix(".svg") for name in made if name.endswith(".svg")}
    assert pictures and {f"{name}.png" for name in pictures} <= made
    text = (out / "index.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == len(pictures)
    assert "this is a first look, not a result" in text and "In the results file of quick: the same" in text


def test_a_run_that_goes_on_is_read_as_far_as_it_is(results, tmp_path):
    """The condition under way is left out; of a finished run, all are there."""
    half = tmp_path / "half.h5"
    half.write_bytes(results.read_bytes())
    with h5py.File(half, "r+") as file:
        file.attrs["status"] = "running"
    (whole,), (part,) = read([results]), read([half])
    assert list(part.courses) == list(whole.courses)[:-1] and whole.path == results


def test_the_same_preset_twice_gives_populations_of_different_names(results, tmp_path):
    """They are told apart by their files."""
    other = tmp_path / "other.h5"
    other.write_bytes(results.read_bytes())
    assert [population.name for population in read([results, other])] == ["max, quick", "max, quick (other)"]


def test_a_file_without_deprivation_is_refused(results, tmp_path, monkeypatch, capsys):
    """With what it holds instead."""
    early = tmp_path / "early.h5"
    early.write_bytes(results.read_bytes())
    with h5py.File(early, "r+") as file:
        del file["max/deprived"]
    assert call(monkeypatch, main, results, early, "--out", tmp_path / "none") == 2
    said = capsys.readouterr().err
    assert f"{early}: has no conditions 'control' and 'deprived' (found: development, control, frozen" in said
    assert not (tmp_path / "none").exists()


def test_settings_of_another_version_are_refused(results, tmp_path):
    """The file is named, and what to do."""
    newer = tmp_path / "newer.h5"
    newer.write_bytes(results.read_bytes())
    with h5py.File(newer, "r+") as file:
        file.attrs["settings"] = file.attrs["settings"].replace('"seed"', '"sede"')
    with pytest.raises(CortexffError, match="read it with the version that wrote it"):
        read([newer])
