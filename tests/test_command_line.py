"""The command line, as a person uses it: `python -m cortexff.protocol`."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import cortexff
from cortexff.environment import share_processors
from cortexff.protocol.__main__ import main
from cortexff.protocol.progress import Progress

torch.set_num_threads(1)  # as in the processes that are started here, so that results agree to the last bit
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


@pytest.mark.parametrize("program", ["protocol", "benchmark"])
def test_threads_are_told_how_to_wait_before_they_are_there(program):
    """PyTorch reads it when it is imported."""
    code = f"import sys, cortexff.{program}.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


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
    assert "hallucination rate, negative data (%)" in said and "deprived − control" in said
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
    assert results.attrs["images_read_from"] == "scikit-learn" and results.attrs["seconds"] > 0
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
    assert differ <= {"started", "finished", "seconds", "command_line"}


def test_any_protocol_can_be_lived_in_spikes(call):
    short = ("--set", "stages.development.updates=2", "--set", "stages.development.epochs=null")
    spiking = ("--preset", "quick", "--engine", "spiking", "--set", "engine.spiking.backend=torch")
    assert (
        call(*RECURRENT, *spiking, *short, "--set", "measures=[spikes]", "--out", "a.h5", "--progress", "none")[0] == 0
    )
    results = cortexff.open_results("a.h5")
    assert json.loads(results.attrs["settings"])["engine"]["kind"] == "spiking"
    rates = results["max/development"]["firing_rate"]
    assert rates.dims == ("probe", "subject", "area") and rates.attrs["units"] == "Hz"
    assert ((rates > 1) & (rates < 200)).all()
    results.close()


def test_json_is_the_table_alone(call):
    code, said, _ = call(*RECURRENT, "--json", "--out", "a.h5")
    rows = json.loads(said)
    assert code == 0 and len(rows) == 6  # two metrics of three variants
    assert all(set(row) >= ROW for row in rows)
    assert rows[0]["subjects"] == 2 and rows[0]["paper"] is None


def one_line(result: tuple[int, str, str], *words: str) -> None:
    code, _, problem = result
    assert code == 2 and problem.count("\n") == 1 and problem.startswith("error: "), result
    assert all(word in problem for word in words), problem


def test_lines_of_progress_say_the_stage_and_the_time_left(monkeypatch):
    """Of a run that is resumed after 60 of 160 updates, and does ten of them in twenty seconds."""
    monkeypatch.setattr(time, "monotonic", lambda: now)
    now, said = 0.0, []
    with Progress("text", 160, said.append) as listener:
        listener.resumed(60)
        listener.began("max/deprived")
        now = 20.0
        listener.advanced(10)
    assert said == ["[    60/160] max/deprived ...", "[    70/160] max/deprived ... about 3 minutes left at this pace"]


@pytest.mark.parametrize(
    "said, spins", [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_threads_wait_briefly_unless_the_user_says_otherwise(monkeypatch, said, spins):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    share_processors()
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.fixture
def interrupt(monkeypatch):
    """Ctrl-C, or another signal, a number of updates after the start of the next run."""

    def press(after: int, number: int = signal.SIGINT) -> None:
        advanced = Progress._advanced

        def pressed(progress, updates):
            advanced(progress, updates)
            if progress.done == after:
                monkeypatch.setattr(Progress, "_advanced", advanced)
                signal.raise_signal(number)

        monkeypatch.setattr(Progress, "_advanced", pressed)

    return press


def status(path: str) -> str:
    with h5py.File(path, locking=False) as file:
        return file.attrs["status"]


def test_a_run_interrupted_by_its_user_goes_on_to_the_same_end(call):
    """A process of its own, Ctrl-C as soon as it has said something, and the command that it then names."""
    command = [sys.executable, "-m", "cortexff.protocol", *RECURRENT, "--out", "a.h5"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--progress", "text"], stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if "update     0" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait() == 130 and status("a.h5") == "interrupted"
    assert "Interrupted; nothing is lost" in rest
    named = rest.split("Go on with: python -m cortexff.protocol ")[1]
    assert call(*shlex.split(named))[0] == 0
    assert call(*RECURRENT, "--out", "b.h5")[0] == 0
    same(Path("a.h5"), Path("b.h5"))
    assert not [file for file in Path().iterdir() if "checkpoint" in file.name or "partial" in file.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_after_the_update_in_hand(call, interrupt, number):
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    interrupt(3, number)
    code, _, problem = call(*RECURRENT, "--out", "a.h5", "--json")
    assert code == 130 and "--resume" in problem  # standard output is for the table alone
    assert status("a.h5") == "interrupted" and Path("a.checkpoint.h5").exists()
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not Path("a.png").exists()


def test_only_the_run_that_was_begun_is_resumed(call, interrupt):
    interrupt(3)
    assert call(*RECURRENT, "--out", "a.h5")[0] == 130
    before = Path("a.h5").read_bytes(), Path("a.checkpoint.h5").read_bytes()
    again = (*RECURRENT, "--out", "a.h5", "--resume", "--progress", "none")
    one_line(call(*again, "--seed", "4"), "--resume", "a.h5", "seed was 0, now 4")
    one_line(call(*again, "--set", "engine.damping=0.5"), "engine.damping was 0.3, now 0.5")
    Path("models").mkdir()
    model = Path(cortexff.__file__).parents[1] / "models" / "digits_recurrent.yaml"
    Path("models/digits_recurrent.yaml").write_text(model.read_text() + "# of my own\n")
    one_line(call(*again), "--resume", "the model's text")
    Path("models/digits_recurrent.yaml").unlink()
    one_line(call(*RECURRENT, "--out", "a.h5"), "a.h5 exists", "--resume")
    assert (Path("a.h5").read_bytes(), Path("a.checkpoint.h5").read_bytes()) == before
    assert call(*again)[0] == 0 and status("a.h5") == "finished"
    one_line(call(*again), "a.h5 is finished")


def test_a_run_begun_before_a_setting_was_known_is_resumed(call, interrupt):
    """What an earlier version had no word for is the default of this one."""
    interrupt(3)
    assert call(*RECURRENT, "--out", "a.h5")[0] == 130
    with h5py.File("a.h5", "r+") as file:
        settings = json.loads(file.attrs["settings"])
        del settings["stimuli"]["jitter"], settings["readout"]["skip_first"], settings["receptive_fields"]
        file.attrs["settings"] = json.dumps(settings)
    one_line(call(*RECURRENT, "--out", "a.h5", "--resume", "--set", "stimuli.jitter=1"), "stimuli.jitter was 0, now 1")
    assert call(*RECURRENT, "--out", "a.h5", "--resume", "--progress", "none")[0] == 0


def test_a_run_killed_while_it_wrote_a_row_is_resumed(call, interrupt):
    """`Log` tells of it: killed in the very millisecond of a flush, a file has that row in part."""
    interrupt(3)
    assert call(*RECURRENT, "--out", "a.h5")[0] == 130
    with h5py.File("a.h5", "r+") as file:
        file.attrs["status"] = "running"
        for name in ("probe", "update", "fp_neg"):
            column = file["max/development"][name]
            column.resize(len(column) + 1, axis=0)
    assert call(*RECURRENT, "--out", "a.h5", "--resume", "--progress", "none")[0] == 0
    assert call(*RECURRENT, "--out", "b.h5", "--progress", "none")[0] == 0
    same(Path("a.h5"), Path("b.h5"))


def test_a_resumed_run_without_its_checkpoint_is_one_line(call, interrupt):
    interrupt(3)
    assert call(*RECURRENT, "--out", "a.h5")[0] == 130
    content = Path("a.checkpoint.h5").read_bytes()
    for damaged in (content[:1000], None):
        Path("a.checkpoint.h5").write_bytes(damaged) if damaged else Path("a.checkpoint.h5").unlink()
        one_line(call(*RECURRENT, "--out", "a.h5", "--resume", "--progress", "none"), "a.checkpoint.h5")


def test_a_network_that_diverges_is_told_and_drawn(call):
    wild = ("--set", "stages.development.plasticity.learning_rate=1.0e+30", "--set", "variants.max.goodness.sign=max")
    code, said, problem = call(*RECURRENT, *wild, "--out", "a.h5", "--progress", "none")
    assert code == 0 and "diverged in 2 of 2" in said, problem
    assert Path("a.png").exists()


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_model_may_get_another_number_of_blocks(call, blocks):
    Path("my.yaml").write_text(
        "format: cortexff-model/1\nareas:\n  retina: {role: input, shape: [8, 8]}\n"
        "  V1: {units: 16, goodness: {blocks: 2}}\n  V2: {units: 20}\n  label: {role: context, units: 10}\n"
        "projections: [{from: retina, to: V1}, {from: V1, to: V2}, {from: label, to: V2, kind: top_down}]\n"
    )
    changes = ("--model", "my.yaml", "--set", f"goodness.blocks={blocks}", "--subjects", "1")
    code, said, problem = call(*RECURRENT, *changes, "--out", "a.h5", "--progress", "none")
    assert code == 0 and "one subject" in said, problem
    assert datasets(Path("a.h5"))["max/test/goodness_pos"].shape == (1, 1, 2, blocks)


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
        (["recurrent", "--engine", "spiking"], ["engine.alternating", "leave it out"]),
        (["recurrent", "--set", "raster=2"], ["raster", "--engine spiking"]),
        (["recurrent", "--set", "probe_images=2"], ["did you mean 'stages.NAME.probe_images'"]),
        (["recurrent", "--set", "steps=2"], ["did you mean 'engine.steps'"]),
        (["recurrent", "--set", "from=x"], ["did you mean 'conditions.NAME.from'"]),
        (
            ["recurrent", "--set", "stages.test.learning_rate=2"],
            ["did you mean 'stages.NAME.plasticity.learning_rate'"],
        ),
        (["recurrent", "--set", "stages.tst.probe_images=2"], ["--set stages.tst.probe_images=2: 'stages.tst.phase'"]),
        (["recurrent", "--set", "variants=[mx]"], ["no variant 'mx'", "alternating"]),
        (["recurrent", "--set", "variants.max=null"], ["--set 'variants=[alternating, undamped]'"]),
        (["recurrent", "--engine", "spiking"], ["variant alternating", "--set 'variants=[max, undamped]'"]),
        (
            ["sleep_deprivation", "--set", "goodness.sign=min"],
            ["--set goodness.sign=min", "variants.NAME.goodness.sign"],
        ),
        (
            ["sleep_deprivation", "--set", "stages.deprivation.probe_images=9"],
            ["compares deprived with control", "interleaved and deprivation the same probe_images"],
        ),
        (["sleep_deprivation", "--preset", "spiking_quick", "--set", "raster=50"], ["raster keeps 50", "probes 20"]),
        (["rate_vs_spiking", "--set", "engine.spiking.firing_rate=900"], ["900 Hz", "engine.spiking.time_step 0.11"]),
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
    folder = Path("data/mnist")
    folder.mkdir(parents=True)
    one_line(call(*mnist), "train-images-idx3-ubyte.gz", "CORTEXFF_DATA")
    for name in images.CHECKSUMS["mnist"]:
        (folder / name).write_bytes(b"\x1f\x8b\x08\x00\x00")
    one_line(call(*mnist), "train-images-idx3-ubyte.gz")


def test_a_missing_gpu_is_one_line(call, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    one_line(call(*RECURRENT, "--device", "cuda"), "--device cuda")


def test_a_dry_run_says_what_it_would_do_and_does_nothing(call):
    code, said, _ = call("sleep_deprivation", "--dry-run")
    assert code == 0 and "max/deprived" in said and "updates" in said
    assert not list(Path().iterdir())


def test_an_area_that_no_image_reaches_is_told(call):
    own = (Path(cortexff.__file__).parents[1] / "models" / "digits_recurrent.yaml").read_text()
    Path("deaf.yaml").write_text(own.replace("  - {from: V1, to: V2}\n", ""))
    code, *said = call("recurrent", "--model", "deaf.yaml", "--dry-run")
    assert code == 0 and "deaf.yaml: area V2 hears nothing from below" in "".join(said)
    code, *said = call("recurrent", "--dry-run")
    assert code == 0 and "from below" not in "".join(said)


def test_files_of_the_users_own_go_by_name(call):
    own = (Path(cortexff.__file__).parents[1] / "protocols" / "recurrent.yaml").read_text()
    Path("protocols").mkdir()
    Path("protocols/mine.yaml").write_text(own.replace("title: ", "title: My own "))
    Path("protocols/broken.yaml").write_text("- no mapping\n")
    code, said, _ = call()
    assert code == 0 and "My own" in said and "broken" in said
    for name in ("mine", "protocols/mine.yaml"):
        assert call(name, *TINY, "--set", "stages.test.probe_images=20", "--out", "a.h5", "--overwrite")[0] == 0


@pytest.mark.parametrize("rank, speaks", [("0", True), ("1", False)])
def test_a_dry_run_under_torchrun_is_one_process_s(call, monkeypatch, rank, speaks):
    """No rank waits for another, and one speaks."""
    for name, value in {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, value)
    code, said, _ = call("recurrent", "--preset", "quick", "--dry-run")
    assert code == 0 and ("updates of" in said) == speaks
