"""A log reads back what was written, in every reader, also after a crash."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from cortexff.errors import CortexffError
from cortexff.log import Log, Variable, open_results, variable_of

REPOSITORY = Path(__file__).parents[1]
PROVENANCE = {"model": "areas: {V1: é}\n", "seed": 3, "learning_rate": 0.5, "resumed": False, "note": ""}
DIMENSIONS = {"subject": range(4), "area": ["V1", "V2"], "step": [0.5, 1.0, 1.5]}
VARIABLES = {
    "fp_neg": Variable(("probe", "subject"), "1", "share of negative data called positive", "N(G > θ) / N"),
    "goodness": Variable(("probe", "subject", "area"), "1", "mean goodness", dtype="f8"),
    "stage": Variable(("probe",), "1", "stage of the protocol", dtype="str"),
    "updates": Variable(("probe",), "1", "updates so far", dtype="i8"),
    "belief": Variable(("probe", "area"), "1", "most likely label", dtype="str"),
}


def row(index: int) -> dict:
    random = np.random.default_rng(index)
    return {
        "fp_neg": random.random(4).astype("f4"),
        "goodness": random.random((4, 2)),
        "stage": f"wake {index}",
        "updates": 10 * index,
        "belief": [f"é{index}", ""],
    }


def write_log(path, rows=20):
    """A small complete run."""
    with Log.create(path, PROVENANCE, DIMENSIONS) as log:
        log.attributes("max", {"sign": "max"})
        log.attributes("subject", {"long_name": "one network"})
        for group in ("max/deprived", "min/rested"):
            log.declare(group, variables=VARIABLES)
            for index in range(rows):
                log.append(group, row(index))
        evidence = Variable(("stimulus", "subject", "area"), "nat", "evidence for the label", "G - θ", dtype="f4")
        log.write("max/deprived", "evidence", np.arange(40.0).reshape(5, 4, 2), evidence)
        log.write("table", "metric", ["d'", "c"], Variable(("metric",), "1", "metric", dtype="str"))
        log.write("table", "change", [0.5, np.nan], Variable(("metric",), "1", "change", dtype="f8"))
        log.write("table", "best", 0.25, Variable((), "1", "least error", dtype="f8"))
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("log") / "new" / "folder" / "run.h5")


@pytest.fixture
def log(tmp_path):
    with Log.create(tmp_path / "run.h5", PROVENANCE, DIMENSIONS) as log:
        yield log


def test_h5py_reads_what_was_written(path):
    with h5py.File(path, "r") as file:
        for name in ("model", "seed", "learning_rate", "note"):
            assert file.attrs[name] == PROVENANCE[name]
        assert (file.attrs["resumed"], file.attrs["status"], file["max"].attrs["sign"]) == (0, "finished", "max")
        assert file["subject"].attrs["long_name"] == "one network"
        group = file["min/rested"]
        for index in range(20):
            expected = row(index)
            np.testing.assert_array_equal(group["fp_neg"][index], expected["fp_neg"])
            np.testing.assert_array_equal(group["goodness"][index], expected["goodness"])
            assert group["stage"].asstr()[index] == expected["stage"]
            assert group["updates"][index] == expected["updates"]
            assert list(group["belief"].asstr()[index]) == expected["belief"]
            assert group["probe"][index] == index
        datasets = []
        file.visititems(lambda name, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
        dimension_only = {"/max/deprived/stimulus"}
        for dataset in datasets:
            assert dataset.name in dimension_only or {"units", "long_name"} <= set(dataset.attrs), dataset.name
        assert group["fp_neg"].attrs["formula"] == "N(G > θ) / N"
        assert file["max/deprived/evidence"].chunks is None


def test_what_is_large_is_compressed_and_what_is_small_has_no_chunks(log):
    for size, compression in ((10, None), (10_000, "gzip")):
        log.write("max", f"of_{size}", np.zeros(size), Variable((f"case_{size}",), "1", "zeros"))
        assert log.file[f"max/of_{size}"].compression == compression


@pytest.mark.parametrize("reader", ["open_results", "h5netcdf", "default"])
def test_xarray_reads_what_was_written(path, reader):
    import xarray

    if reader == "open_results":
        tree = open_results(path)
    else:
        tree = xarray.open_datatree(path, engine=None if reader == "default" else reader)
    with tree:
        run = tree["max/deprived"]
        assert run["goodness"].dims == ("probe", "subject", "area")
        assert run["evidence"].dims == ("stimulus", "subject", "area")
        assert list(run["area"].values) == ["V1", "V2"]
        assert list(tree["step"].values) == DIMENSIONS["step"]
        np.testing.assert_array_equal(run["fp_neg"].sel(subject=3), [row(index)["fp_neg"][3] for index in range(20)])
        assert run["goodness"].sel(probe=7, subject=2, area="V2").item() == row(7)["goodness"][2, 1]
        assert run["stage"].values[19] == "wake 19"
        np.testing.assert_array_equal(run["evidence"].values.ravel(), np.arange(40))
        assert tree["table/change"].sel(metric="d'").item() == 0.5
        assert tree["table/best"].item() == 0.25
        assert tree.attrs["model"] == PROVENANCE["model"]


def test_netcdf4_reads_what_was_written(path):
    netcdf4 = pytest.importorskip("netCDF4")
    with netcdf4.Dataset(path) as file:
        run = file["max/deprived"]
        assert run["goodness"].dimensions == ("probe", "subject", "area")
        assert run["evidence"].dimensions == ("stimulus", "subject", "area")
        np.testing.assert_array_equal(run["fp_neg"][7], row(7)["fp_neg"])
        assert run["stage"][7] == "wake 7"


def test_the_same_run_gives_the_same_bytes(path, tmp_path):
    time.sleep(1.1)  # a time of day anywhere in the file would differ by now
    assert write_log(tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_a_killed_writer_loses_at_most_the_row_in_hand(tmp_path):
    killed = tmp_path / "killed.h5"
    script = f"""
import os, signal, h5py
from tests.test_log import DIMENSIONS, PROVENANCE, VARIABLES, row
from cortexff.log import Log
log = Log.create({str(killed)!r}, PROVENANCE, DIMENSIONS)
log.declare("max/deprived", variables=VARIABLES)
for index in range(20):
    log.append("max/deprived", row(index))
write, seen = h5py.Dataset.__setitem__, []
def die_at_the_third_variable(*arguments):
    seen.append(write(*arguments))
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
h5py.Dataset.__setitem__ = die_at_the_third_variable
log.append("max/deprived", row(20))
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, timeout=60).returncode == -signal.SIGKILL
    with open_results(killed) as tree:
        assert tree.attrs["status"] == "running"
        assert tree["max/deprived"].sizes["probe"] == 20
        np.testing.assert_array_equal(tree["max/deprived/goodness"][19], row(19)["goodness"])
    with Log.reopen(killed) as log:
        log.append("max/deprived", row(20))
        assert log.length("max/deprived") == 21


def test_reopen_forgets_a_row_that_only_some_variables_have(path, tmp_path):
    copy = tmp_path / "torn.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        file["max/deprived/goodness"].resize(21, axis=0)
        file["min/rested/probe"].resize(19, axis=0)
    with Log.reopen(copy) as log:
        assert (log.length("max/deprived"), log.length("min/rested")) == (20, 19)
    with h5py.File(copy, "r") as file:
        assert len(file["max/deprived/goodness"]) == 20 and len(file["min/rested/goodness"]) == 19


def test_resumed_equals_uninterrupted(path, tmp_path):
    resumed = write_log(tmp_path / "resumed.h5", rows=13)
    with Log.reopen(resumed) as log:
        for group in ("max/deprived", "min/rested"):
            log.declare(group, variables=VARIABLES)
            log.truncate(group, 7)
            for index in range(7, 20):
                log.append(group, row(index))
    with open_results(resumed) as tree, open_results(path) as straight:
        assert tree.identical(straight)


def test_readable_while_it_is_written(log):
    log.declare("max/deprived", variables=VARIABLES)
    log.append("max/deprived", row(0))
    script = """
import sys
from cortexff.log import open_results
with open_results(sys.argv[1]) as tree:
    print(tree["max/deprived/updates"].size)
"""
    command = [sys.executable, "-c", script, log.path]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n", done.stderr
    log.append("max/deprived", row(1))
    assert log.length("max/deprived") == 2


def test_what_is_missing_from_a_row(log):
    log.declare("a", variables=VARIABLES)
    log.append("a", {"updates": 5})
    group = log.file["a"]
    assert np.isnan(group["goodness"][0]).all() and group["stage"].asstr()[0] == "" and group["probe"][0] == 0
    with pytest.raises(CortexffError, match="updates: a whole number cannot be missing"):
        log.append("a", {"stage": "wake"})


def test_growing_along_a_text(log):
    log.declare("a", "stage", {"stage": Variable(("stage",), "1", "stage", dtype="str")})
    log.declare("a", "stage", {"error": Variable(("stage", "area"), "1", "error")})
    for stage in ("wake", "sleep"):
        log.append("a", {"stage": stage, "error": [1, 2]})
    log.declare("a", "stage", {"late": Variable(("stage",), "1", "declared late")})
    log.close("stopped")
    with open_results(log.path) as tree:
        assert tree["a/error"].sel(stage="sleep", area="V2").item() == 2
        assert np.isnan(tree["a/late"]).all()
    with h5py.File(log.path, "r") as file:
        assert file.attrs["status"] == "stopped"


def test_a_variable_is_told_as_it_was_declared(log):
    log.declare("a", variables=VARIABLES)
    log.write("a", "x", np.ones(2), Variable(("input",), "mV", "x", "x²", "f8", "updates"))
    told = {name: variable_of(log.file["a"][name]) for name in (*VARIABLES, "x")}
    assert told == {**VARIABLES, "x": Variable(("input",), "mV", "x", "x²", "f8", "updates")}


def test_writing_again_replaces(log):
    weights = Variable(("target", "source"), "1", "weights")
    log.write("weights", "V1", np.zeros((2, 3)), weights)
    log.write("weights", "V1", np.ones((2, 3)), weights)
    np.testing.assert_array_equal(log.file["weights/V1"], np.ones((2, 3)))
    with pytest.raises(CortexffError, match=r"shape \(4, 3\) cannot replace \(2, 3\)"):
        log.write("weights", "V1", np.ones((4, 3)), weights)
    with pytest.raises(CortexffError, match="4 entries along 'target', which has 2"):
        log.write("weights", "V2", np.ones((4, 3)), weights)
    with pytest.raises(CortexffError, match="cannot become"):
        log.write("weights", "V1", np.ones((2, 3)), Variable(("target", "source"), "mV", "weights"))
    with pytest.raises(CortexffError, match="the name 'target' is taken"):
        log.write("weights", "target", [1, 2], Variable(("target",), "1", "coordinates after their use"))
    with pytest.raises(CortexffError, match="the name 'weights' is taken"):
        log.write("/", "weights", 1.0, Variable((), "1", "a group's name"))


def test_large_rows_are_cut_into_chunks(tmp_path):
    with Log.create(tmp_path / "run.h5", {}, {"unit": range(600), "input": range(700)}) as log:
        log.declare("a", variables={"activity": Variable(("probe", "input", "unit"), "1", "activity")})
        assert np.prod(log.file["a/activity"].chunks) * 4 <= 2**20
        log.append("a", {"activity": np.full((700, 600), 3)})
        assert (log.file["a/activity"][0] == 3).all()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"fp_ng": 1}, "unknown variable 'fp_ng' .known: probe, fp_neg"),
        ({"fp_neg": [1, 2]}, r"fp_neg: shape \(2,\), should be \(4,\)"),
        ({"fp_neg": 0.5}, r"fp_neg: shape \(\), should be \(4,\)"),
        ({"fp_neg": list("abcd")}, "is no float32"),
        ({"stage": 3}, "stage: 3 is no text"),
        ({"updates": 2.5}, "updates: 2.5 is no int64"),
        ({"updates": float("nan")}, "updates: nan is no int64"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_whole(log, cells, message):
    log.declare("a", variables=VARIABLES)
    log.append("a", row(0))
    with pytest.raises(CortexffError, match=message):
        log.append("a", {**row(1), **cells})
    assert {len(log.file["a"][name]) for name in VARIABLES} == {1}


def test_a_row_that_fails_in_the_middle_is_taken_back(log):
    log.declare("a", variables=VARIABLES)
    with pytest.raises(ValueError, match="NULL"):
        log.append("a", {**row(0), "stage": "no\0text"})
    assert {len(log.file["a"][name]) for name in VARIABLES} == {0}


@pytest.mark.parametrize(
    ("group", "growing", "variables", "message"),
    [
        ("b", "probe", {"x": Variable(("probe", "aera"), "1", "x")}, "unknown dimension 'aera' .*subject, area"),
        ("a/b", "probe", {"x": Variable(("area", "probe"), "1", "x")}, "must differ and begin with 'probe'"),
        ("b", "probe", {"x": Variable(("probe",), "1", "x", dtype="c8")}, "dtype 'c8'"),
        ("b", "probe", {"area": Variable(("probe",), "1", "x")}, "the name 'area' is taken"),
        ("a/b", "subject", {}, "the name 'subject' is taken"),
        ("a", "night", {}, "grows along 'probe', not 'night'"),
        ("a", "probe", {"fp_neg": Variable(("probe",), "1", "x")}, "cannot become"),
        ("a/b", "probe", {}, "the name 'probe' is taken"),
        ("area", "probe", {}, "is a variable, not a group"),
    ],
)
def test_a_declaration_that_would_spoil_the_file_is_refused(log, group, growing, variables, message):
    log.declare("a", variables=VARIABLES)
    with pytest.raises(CortexffError, match=message):
        log.declare(group, growing, variables)


def test_errors_of_use(log):
    with pytest.raises(CortexffError, match="/a has no growing variables: declare them"):
        log.append("a", {"x": 1})
    assert log.length("a") == 0
    log.declare("a", variables=VARIABLES)
    with pytest.raises(CortexffError, match="cannot truncate 0 rows to 3"):
        log.truncate("a", 3)
    with pytest.raises(CortexffError, match="'probe' grows"):
        log.write("a", "x", [1.0], Variable(("probe",), "1", "x"))
    with pytest.raises(CortexffError, match=r"shape \(0,\) does not fit"):
        log.write("a", "x", [], Variable(("input",), "1", "x"))
    with pytest.raises(CortexffError, match=r"'versions': .* neither a text nor a number"):
        log.attributes("/", {"versions": {"numpy": 2}})


def test_errors_of_files(path, tmp_path):
    with pytest.raises(CortexffError, match=r"run\.h5 exists; --out another file, or --overwrite"):
        Log.create(path, {}, {})
    with pytest.raises(CortexffError, match="is not in a folder"):
        Log.create(path / "inside.h5", {}, {})
    with pytest.raises(CortexffError, match="dimension 'area': needs a list"):
        Log.create(path, {}, {"area": []}, overwrite=True)
    cut, foreign = tmp_path / "cut.h5", tmp_path / "foreign.h5"
    cut.write_bytes(path.read_bytes()[:1000])
    with h5py.File(foreign, "w"):
        pass
    for opener in (Log.reopen, open_results):
        with pytest.raises(CortexffError, match="no such file"):
            opener(tmp_path / "missing.h5")
        with pytest.raises(CortexffError, match="not an HDF5 file, cut short"):
            opener(cut)
        with pytest.raises(CortexffError, match="not a log of cortexff"):
            opener(foreign)


def test_overwrite(tmp_path):
    path = write_log(tmp_path / "run.h5", rows=1)
    Log.create(path, {}, {}, overwrite=True).close("finished")
    with h5py.File(path, "r") as file:
        assert not file.keys()


@pytest.mark.parametrize(("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_the_log_notes_how_the_run_ended(tmp_path, error, status):
    with pytest.raises(error), Log.create(tmp_path / "run.h5", {"seconds": 0.0}, {}):
        raise error
    with h5py.File(tmp_path / "run.h5", "r") as file:
        assert file.attrs["status"] == status
        assert 0 < file.attrs["seconds"] < 60
        before = file.attrs["seconds"]
    with Log.reopen(tmp_path / "run.h5"):
        pass
    with h5py.File(tmp_path / "run.h5") as file:
        assert file.attrs["seconds"] > before


def random_cells(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Any bit pattern of the type: NaN, infinities and the extremes among them; texts of any script."""
    if dtype == "str":
        texts = ["".join(map(chr, random.integers(1, 0xD800, size=random.integers(0, 5)))) for _ in range(100)]
        return random.choice(np.array(texts, dtype=object), size=shape)
    size = np.dtype(dtype).itemsize
    return np.frombuffer(random.bytes(int(np.prod(shape)) * size), dtype).reshape(shape)


@pytest.mark.parametrize("seed", range(20))
def test_any_variables_read_back_equal(tmp_path, seed):
    random = np.random.default_rng(seed)
    dimensions = {f"dim_{n}": range(random.integers(1, 4)) for n in range(random.integers(1, 4))}
    variables = {}
    for n in range(random.integers(0, 5)):
        dims = random.permutation(list(dimensions))[: random.integers(0, len(dimensions) + 1)].tolist()
        dtype = str(random.choice(["f4", "f8", "i1", "i8", "u8", "str"]))
        variables[f"variable_{n}"] = Variable(("probe", *dims), "1", "any", dtype=dtype)
    rows = [
        {
            name: random_cells(random, variable.dtype, tuple(len(dimensions[dim]) for dim in variable.dims[1:]))
            for name, variable in variables.items()
        }
        for _ in range(random.integers(0, 40))
    ]
    with Log.create(tmp_path / "run.h5", {}, dimensions) as log:
        log.declare("max/deprived", variables=variables)
        for cells in rows:
            log.append("max/deprived", cells)
    with open_results(log.path) as tree:
        assert tree["max/deprived"].sizes["probe"] == len(rows)
        for name, variable in variables.items():
            found = tree["max/deprived"][name]
            assert found.dims == variable.dims
            for index, cells in enumerate(rows):
                np.testing.assert_array_equal(found.values[index], cells[name])
