"""The command line, as a person uses it: `python -m cortexff.protocol`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import cortexff
from cortexff.protocol.__main__ import main

TINY = [
    *("--subjects", "2", "--set", "stimuli.validation=20", "--set", "stages.development.epochs=1"),
    *("--set", "stages.development.probe_images=20"),
]
SLEEP = [
    *("sleep_deprivation", *TINY, "--set", "stages.interleaved.updates=4", "--set", "stages.deprivation.updates=4"),
    *("--set", "stages.frozen.updates=4", "--set", "stages.sleep.updates=2", "--set", "stages.oversleep.updates=2"),
    *(
        part
        for s in ("interleaved", "deprivation", "frozen", "sleep", "oversleep")
        for part in ("--set", f"stages.{s}.probe_images=20")
    ),
]
RECURRENT = ["recurrent", *TINY, "--set", "stages.test.probe_images=20"]
ROW = {"protocol", "section", "quantity", "paper", "ours", "low", "high", "subjects", "preset", "verdict"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder of its own, without the user's data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORTEXFF_DATA", str(tmp_path / "data"))


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["python -m cortexff.protocol", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return run


def datasets(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path, locking=False) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def same(path: Path, other: Path) -> None:
    ours, theirs = datasets(path), datasets(other)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_listing_and_help_load_nothing_slow(arguments):
    code = (
        "import sys; sys.argv = ['protocol', *sys.argv[1:]]; from cortexff.protocol.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'matplotlib', 'xarray', 'sklearn', 'scipy', 'h5py'} & set(sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout
    assert "sleep_deprivation" in said


def test_the_main_job_from_end_to_end(call):
    code, said, _ = call(*SLEEP, "--progress", "text")
    assert code == 0
    assert "hallucination rate, wrong labels (%)" in said and "deprived − control" in said
    folder = Path("results/sleep_deprivation")
    assert sorted(file.name for file in folder.iterdir()) == ["default.h5", "default.png", "default.svg"]
    results = cortexff.open_results(folder / "default.h5")
    assert results["min/deprived"]["fp_neg"].dims == ("probe", "subject")
    assert results["max/deprived"]["goodness_pos"].sel(area="V2", subject=1, block=0).sizes == {"probe": 4}
    assert results["max/deprived"]["update"].values.tolist() == [0, 1, 2, 4]
    assert results.attrs["status"] == "finished" and results.attrs["seed"] == 0
    assert results.attrs["model"].startswith("# Two cortical areas") and "variants:" in results.attrs["protocol"]
    assert json.loads(results.attrs["settings"])["subjects"] == 2
    for name in ("versions", "git_commit", "command_line", "machine", "started", "finished"):
        assert isinstance(results.attrs[name], str)
    for name, variable in results["max/deprived"].data_vars.items():
        assert {"units", "long_name"} <= set(variable.attrs), name
    assert "deprived − control" in results["table"]["condition"].values
    results.close()


def test_the_same_command_twice_gives_the_same_results(call):
    for out in ("a.h5", "b.h5"):
        assert call(*RECURRENT, "--out", out, "--progress", "none")[0] == 0
    same(Path("a.h5"), Path("b.h5"))
    with h5py.File("a.h5") as one, h5py.File("b.h5") as two:
        differ = {name for name in one.attrs if one.attrs[name] != two.attrs[name]}
    assert differ <= {"started", "finished", "command_line"}


def test_json_is_the_table_alone(call):
    code, said, _ = call(*RECURRENT, "--json", "--out", "a.h5")
    rows = json.loads(said)
    assert code == 0 and len(rows) == 2
    assert all(set(row) >= ROW for row in rows)
    assert rows[0]["subjects"] == 2 and rows[0]["paper"] is None


def test_an_interrupted_run_goes_on_to_the_same_end(call):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "cortexff.protocol",
        *RECURRENT,
        "--set",
        "stages.development.probe=3",
        "--out",
        "a.h5",
    ]
    process = subprocess.Popen([*command, "--progress", "text"], stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if "update     3" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait() == 130
    assert "Interrupted; nothing is lost" in rest and "--resume" in rest
    assert call(*RECURRENT, "--set", "stages.development.probe=3", "--out", "a.h5", "--resume", "--seed", "4")[0] == 2
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    subprocess.run([*command[:-1], "b.h5"], env=environment, check=True, capture_output=True)
    same(Path("a.h5"), Path("b.h5"))
    assert not list(Path().glob("*checkpoint*"))
    code, _, problem = call(*RECURRENT, "--set", "stages.development.probe=3", "--out", "a.h5", "--resume")
    assert code == 2 and "is finished" in problem


def one_line(result: tuple[int, str, str], *words: str) -> None:
    code, _, problem = result
    assert code == 2 and problem.count("\n") == 1 and problem.startswith("error: "), result
    assert all(word in problem for word in words), problem


def test_nothing_is_overwritten_unless_asked(call):
    Path("a.h5").write_text("mine")
    one_line(call(*RECURRENT, "--out", "a.h5"), "a.h5 exists", "--overwrite")
    assert Path("a.h5").read_text() == "mine"
    assert call(*RECURRENT, "--out", "a.h5", "--overwrite", "--progress", "none")[0] == 0


def test_an_output_that_cannot_be_written_is_one_line(call):
    Path("file").write_text("")
    one_line(call(*RECURRENT, "--out", "file/a.h5"), "file")
    one_line(call(*RECURRENT, "--out", "a.txt"), "must end in .h5")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["recurent"], ["did you mean 'recurrent'"]),
        (["recurrent", "--preset", "huge"], ["no preset 'huge'", "quick"]),
        (["recurrent", "--model", "nope"], ["no model named 'nope'", "digits_recurrent"]),
        (["recurrent", "--model", "mnist_recurrent"], ["64 pixels", "784 units"]),
        (["recurrent", "--set", "engine.step=3"], ["--set engine.step=3", "did you mean 'steps'"]),
        (["recurrent", "--set", "stimuli.validation=1400"], ["cannot hold out 1400"]),
        (["recurrent", "--resume", "--out", "none.h5"], ["there is no none.h5"]),
        (["paper"], ["no results"]),
    ],
)
def test_what_the_user_can_mend_is_one_line(call, arguments, words):
    one_line(call(*arguments), *words)
    assert not list(Path().rglob("*.h5"))


def test_a_malformed_model_is_one_line_with_its_place(call):
    Path("my.yaml").write_text("format: cortexff-model/1\nareas:\n  retina: {role: input, unit: 64}\n")
    one_line(
        call("recurrent", "--model", "my.yaml"), "my.yaml:3: unknown key 'areas.retina.unit'; did you mean 'units'?"
    )


def test_missing_and_truncated_data_are_one_line(call, monkeypatch):
    from cortexff.stimuli import images

    monkeypatch.setitem(images.ADDRESSES, "mnist", "http://127.0.0.1:9/")
    mnist = ["recurrent", "--model", "mnist_recurrent", "--set", "stimuli.images=mnist"]
    one_line(call(*mnist), "train-images-idx3-ubyte.gz", "CORTEXFF_DATA")
    folder = Path("data/mnist")
    folder.mkdir(parents=True, exist_ok=True)
    for name in images.SHA256["mnist"]:
        (folder / name).write_bytes(b"\x1f\x8b\x08\x00\x00")
    one_line(call(*mnist), "train-images-idx3-ubyte.gz")


def test_a_missing_gpu_is_one_line(call, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    one_line(call(*RECURRENT, "--device", "cuda"), "--device cuda")


def test_a_dry_run_says_what_it_would_do_and_does_nothing(call):
    code, said, _ = call("sleep_deprivation", "--dry-run")
    assert code == 0 and "max/deprived" in said and "updates" in said
    assert not list(Path().iterdir())


def test_files_of_the_users_own_go_by_name(call):
    own = (Path(cortexff.__file__).parents[1] / "protocols" / "recurrent.yaml").read_text()
    Path("protocols").mkdir()
    Path("protocols/mine.yaml").write_text(own.replace("title: ", "title: My own "))
    Path("protocols/broken.yaml").write_text("- no mapping\n")
    code, said, _ = call()
    assert code == 0 and "My own" in said and "broken" in said
    for name in ("mine", "protocols/mine.yaml"):
        assert call(name, *TINY, "--set", "stages.test.probe_images=20", "--out", "a.h5", "--overwrite")[0] == 0
