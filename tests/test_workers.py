"""Dask workers run shards to the same end as one process does, also when they are stopped, fail or are lost."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

import dask
import dask_jobqueue  # noqa: F401  (brings its settings to Dask's)
import h5py
import numpy as np
import pytest
import torch

import cortexff
from cortexff import plots
from cortexff.graph import load_model
from cortexff.protocol import provenance, workers
from cortexff.protocol.__main__ import main
from cortexff.protocol.checkpoint import path_for
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.merge import merge
from cortexff.protocol.progress import Progress
from cortexff.protocol.sweep import Point, Shard

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time
START = workers.start
RECURRENT = [
    *("recurrent", "--preset", "quick", "--subjects", "4", "--progress", "text", "--set", "stimuli.validation=20"),
    *("--set", "stages.development={epochs: null, updates: 20, probe: 5}", "--set", "stages.test.probe_images=20"),
]

# Time enough to do something to a run; at this learning rate rounding does not grow meanwhile.
LONGER = ("--set", "stages.development={updates: 300, probe: 20}", "--set", "plasticity.learning_rate=0.5")


@pytest.fixture(scope="module")
def crew():
    """Two workers, started once for all tests of this file."""
    with START(2, None) as found:
        yield found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(monkeypatch, capsys, crew):
    """Run the command in this process, with the workers of all tests: exit code, standard output, standard error."""

    def run(*arguments: str, figures: bool = False) -> tuple[int, str, str]:
        with monkeypatch.context() as changed:
            changed.setattr(workers, "start", lambda jobs, cluster: nullcontext(crew))
            changed.setattr(sys, "argv", ["python -m cortexff.protocol", *arguments])
            if not figures:
                changed.setattr(plots, "draw", lambda path: [])
            with pytest.raises(SystemExit) as ended:
                main()
        return (ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The file of the run done at once, with so many updates: what the shards are to equal."""

    @lru_cache
    def carry_out(*changes: str) -> Path:
        out = tmp_path_factory.mktemp("cohort") / "cohort.h5"
        with pytest.MonkeyPatch.context() as changed, pytest.raises(SystemExit):
            changed.setattr(sys, "argv", ["python -m cortexff.protocol", *RECURRENT, *changes, "--out", str(out)])
            changed.setattr(plots, "draw", lambda path: [])
            main()
        return out

    return carry_out


def datasets(path: Path | str) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path, locking=False) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def same(path: Path | str, other: Path | str, tolerance: float = 1e-4) -> None:
    """Whole numbers and texts to the letter; other numbers up to the rounding of sums in another order.

    After some hundred updates that rounding makes the odd unit active, or not, for one of the images.
    """
    ours, theirs = datasets(path), datasets(other)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, theirs[name], rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(values, theirs[name], err_msg=name)


def test_four_subjects_in_two_jobs_equal_the_cohort(call, cohort):
    code, said, problem = call(*RECURRENT, "--jobs", "2", figures=True)
    assert code == 0, problem
    assert "2 shards, 2 at a time" in said and "[    40/40]" in said and "error by goodness (%)" in said
    folder = Path("results/recurrent")
    pictures = ["quick.png", "quick.svg", "quick_oscillation.png", "quick_oscillation.svg"]
    assert sorted(path.name for path in folder.iterdir()) == ["quick.h5", *pictures]
    same(folder / "quick.h5", cohort())
    tree = cortexff.open_results(folder / "quick.h5")
    assert tree.attrs["status"] == "finished" and "--jobs 2" in tree.attrs["command_line"]
    tree.close()


def test_a_grid_of_settings_is_a_run_for_each_point(call):
    sweep = ("--sweep", "engine.damping=0.2,0.4", "--sweep", "plasticity.learning_rate=2,5")
    code, said, problem = call(*RECURRENT, *sweep, "--subjects", "1")
    assert code == 0, problem
    assert "error by goodness (%)" in said and "damping=0.4 learning_rate=5  " in said
    folder = Path("results/recurrent/quick.sweep")
    assert sorted(path.name for path in folder.glob("*.h5")) == [
        f"damping={damping}_learning_rate={rate}.h5" for damping in (0.2, 0.4) for rate in (2, 5)
    ]
    alone = ("--set", "engine.damping=0.4", "--set", "plasticity.learning_rate=2", "--subjects", "1")
    assert call(*RECURRENT, *alone, "--out", "alone.h5")[0] == 0
    same(folder / "damping=0.4_learning_rate=2.h5", "alone.h5")
    with h5py.File(folder / "damping=0.2_learning_rate=5.h5") as file:
        assert json.loads(file.attrs["settings"])["engine"]["damping"] == 0.2
    code, _, problem = call(*RECURRENT, *sweep, "--subjects", "1")
    assert code == 2 and "damping=0.2_learning_rate=2.h5 exists" in problem


def test_json_is_the_table_alone(call):
    code, said, _ = call(*RECURRENT, "--sweep", "seed=0,1", "--subjects", "1", "--json")
    rows = json.loads(said)
    assert code == 0 and [row["point"] for row in rows] == ["seed=0"] * 2 + ["seed=1"] * 2
    code, said, _ = call(*RECURRENT, "--jobs", "2", "--subjects", "2", "--json", "--out", "a.h5")
    assert code == 0 and [row["metric"] for row in json.loads(said)] == ["err_goodness", "err_softmax"]


def test_a_shard_that_fails_is_named_and_the_others_finish(call, cohort):
    blocked = Path("a.shards/max_2-3.checkpoint.partial")
    blocked.mkdir(parents=True)  # no checkpoint can be written here
    arguments = (*RECURRENT, "--jobs", "2", "--out", "a.h5", "--resume")
    code, _, problem = call(*arguments)
    assert code == 1 and "a.shards/max_2-3.h5 failed: " in problem and "checkpoint.py" in problem
    assert "--resume" in problem and not Path("a.h5").exists()
    with h5py.File("a.shards/max_0-1.h5") as finished, h5py.File("a.shards/max_2-3.h5") as failed:
        assert (finished.attrs["status"], failed.attrs["status"]) == ("finished", "failed")
    blocked.rmdir()
    assert call(*arguments)[0] == 0
    same("a.h5", cohort())


def once(folder: Path, advanced, do):
    """Hear of progress as before, but do something once, when a shard in that folder has its first checkpoint."""
    done = []

    def hear(progress, updates):
        advanced(progress, updates)
        if not done and list(folder.glob("*.checkpoint.h5")):
            done.append(True)
            do()

    return hear


def lose_job() -> None:
    os.killpg(int(Path("jobs").read_text().split()[0]), signal.SIGKILL)


def test_a_worker_that_is_lost_costs_little(call, crew, cohort, monkeypatch):
    """Dask gives its shard to another, which goes on from the checkpoint."""
    killed = []

    def lose_worker():
        killed.extend(crew[0].run(os.getpid).values())
        os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(Progress, "_advanced", once(Path("a.shards"), Progress._advanced, lose_worker))
    code, _, problem = call(*RECURRENT, *LONGER, "--jobs", "2", "--out", "a.h5")
    assert code == 0 and killed and killed[0] not in crew[0].run(os.getpid).values(), problem
    same("a.h5", cohort(*LONGER), tolerance=1e-3)


def test_an_interrupted_sweep_goes_on_to_the_same_end(call, cohort):
    """A process group of its own, Ctrl-C to all of it once both shards have begun, and the command that it names."""
    command = [sys.executable, "-m", "cortexff.protocol", *RECURRENT, *LONGER, "--jobs", "2", "--out", "a.h5"]
    environment = os.environ | {"PYTHONPATH": str(Path(cortexff.__file__).parents[1])}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )
    while process.poll() is None and len(list(Path("a.shards").glob("*.checkpoint.h5"))) < 2:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[0]
    assert process.returncode == 130 and "Interrupted; nothing is lost" in said, said
    for name in ("max_0-1", "max_2-3"):
        with h5py.File(f"a.shards/{name}.h5") as file:
            assert file.attrs["status"] == "interrupted"
    assert call(*RECURRENT, *LONGER, "--jobs", "2", "--out", "a.h5", "--resume")[0] == 0
    same("a.h5", cohort(*LONGER), tolerance=1e-3)


SETTINGS = {
    "jobqueue.slurm": {
        **dask.config.get("jobqueue.slurm"),
        **{"cores": 4, "memory": "8GB", "queue": "short", "scheduler-options": {"dashboard_address": ":0"}},
    }
}


@pytest.mark.parametrize("gpu", [(), ("--device", "cuda")])
def test_a_dry_run_prints_shards_and_job_script(call, gpu):
    with dask.config.set(SETTINGS):
        code, said, _ = call(*RECURRENT, "--jobs", "2", "--cluster", "slurm", "--dry-run", *gpu)
    assert code == 0 and "max/development" in said
    assert "2 shards, 2 at a time" in said and "quick.shards/max_2-3.h5" in said
    for words in ("#!/usr/bin/env bash", "#SBATCH -p short", "#SBATCH --cpus-per-task=4", "dask_worker tcp://"):
        assert words in said
    assert not list(Path().iterdir())


def one_line(result: tuple[int, str, str], *words: str) -> None:
    code, _, problem = result
    assert code == 2 and problem.count("\n") == 1 and problem.startswith("error: "), result
    assert all(word in problem for word in words), problem


def test_a_cluster_without_settings_or_slurm_is_one_line(call, monkeypatch):
    one_line(call(*RECURRENT, "--cluster", "slurm", "--dry-run"), "jobqueue.yaml", "cores", "memory")
    monkeypatch.setenv("PATH", "")
    kept = Path("results/recurrent/quick.h5")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("a result")
    with dask.config.set(SETTINGS):
        one_line(call(*RECURRENT, "--cluster", "slurm", "--overwrite"), "no sbatch")
    assert kept.read_text() == "a result"  # nothing is lost before it is sure that jobs can start


def test_jobs_of_a_cluster_run_the_shards(monkeypatch, tmp_path):
    """A Slurm of two shell scripts: jobs begin at once, each in a process group of its own. One job is lost."""
    scripts = {
        "sbatch": 'setsid bash -c "$(cat "$1")" &> jobs.log < /dev/null & echo $! >> jobs; echo "Submitted job $!"',
        "scancel": 'for job in "$@"; do kill -- "-$job"; done',
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(cortexff.__file__).parents[1]))
    monkeypatch.setattr(sys, "argv", ["python -m cortexff.protocol", *RECURRENT, "--jobs", "1", "--cluster", "slurm"])
    monkeypatch.setattr(
        Progress, "_advanced", once(Path("results/recurrent/quick.shards"), Progress._advanced, lose_job)
    )
    local = {"cores": 1, "memory": "2GB", "scheduler-options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    settings = {"jobqueue.slurm": {**dask.config.get("jobqueue.slurm"), **local}}
    quick = {"distributed.adaptive.interval": "100ms", "distributed.deploy.lost-worker-timeout": "100ms"}
    with dask.config.set({**settings, **quick}), pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and Path("results/recurrent/quick.h5").exists()
    assert len(Path("jobs").read_text().split()) == 2


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("distributed", ["--jobs", "2"]),
        ("distributed", ["--sweep", "seed=1,2"]),
        ("dask_jobqueue", ["--cluster", "slurm"]),
    ],
)
def test_a_missing_package_is_one_line(call, monkeypatch, package, arguments):
    monkeypatch.setitem(sys.modules, package, None)
    one_line(call(*RECURRENT, *arguments), package.replace("_", "-"), "pip install 'cortexff[sweep]'")


def test_a_shard_lost_between_its_last_two_acts_is_finished():
    """Its file is complete and its checkpoint still there: it is not run again, and not refused."""
    protocol = load_protocol("recurrent", "quick")
    net = load_model(protocol.model)
    origin = provenance.origin(protocol, net, "recurrent", "quick")
    shard = Shard(Point("", protocol, net, origin, Path("quick.h5")), "max", [0, 1])
    with provenance.open_log(shard.path, protocol, net, 10, origin, subjects=shard.subjects):
        path_for(shard.path).write_bytes(b"left behind")
    assert workers.run_shard(shard, "cpu", 1) == "finished"
    assert shard.path.exists() and not path_for(shard.path).exists()


def test_a_point_that_cannot_be_merged_leaves_the_others(call, monkeypatch):
    def full(paths: list[Path], out: Path) -> list:
        if out.name == "seed=1.h5":
            raise OSError("disk full")
        return merge(paths, out)

    monkeypatch.setattr(workers, "merge", full)
    code, _, problem = call(*RECURRENT, "--sweep", "seed=1,2")
    assert code == 1 and "seed=1.h5 failed: disk full" in problem
    assert Path("results/recurrent/quick.sweep/seed=2.h5").exists()
    assert len(list(Path("results/recurrent/quick.sweep/seed=1.shards").glob("*.h5"))) == 1
