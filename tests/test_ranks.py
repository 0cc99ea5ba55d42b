"""Two processes make the run that one makes, to rounding."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cortexff.engines import ranks
from cortexff.stimuli.labels import hard_negatives, random_negatives

PROGRAM = Path(__file__).with_name("live_in_ranks.py")


def lived(out: Path, processes: int, updates: int, *life: str) -> dict[str, np.ndarray]:
    """What becomes of two newborn subjects: every array of their cohort, and a probe."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[1])}
    program = [str(PROGRAM), str(out), str(updates), *life]
    ended = subprocess.run([*launch, *program], env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    return dict(np.load(out))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize(
    "updates, name, variant, preset, rate",
    [
        (50, "recurrent", "max", "default", "1"),
        (50, "backprop_baseline", "dropout", "default", "0.3"),
        pytest.param(50, "recurrent", "max", "full", "1", marks=pytest.mark.slow),
        # Its stage has a rate of its own, 10: few updates.
        pytest.param(5, "sleep_deprivation", "max_backpropagated", "full_factors", "1", marks=pytest.mark.slow),
    ],
)
def test_two_processes_make_the_weights_of_one(tmp_path, updates, name, variant, preset, rate):
    """After 50 updates at learning rate 1. At 5 or 10 rounding alone grows: two orders of summation part by 5e-5."""
    if preset.startswith("full") and not os.environ.get("CORTEXFF_DATA"):
        pytest.skip("CORTEXFF_DATA is not set: no MNIST to read")
    one, two = (lived(tmp_path / f"{n}.npz", n, updates, name, variant, preset, rate) for n in (1, 2))
    assert one.keys() == two.keys() and (one["age"] == updates).all()
    for name in one:
        ours, theirs = (np.nan_to_num(np.float64(each[name])) for each in (one, two))
        difference = np.linalg.norm(ours - theirs) / max(np.linalg.norm(ours), 1e-3)
        assert difference < (1e-5 if "weights/" in name or "biases/" in name else 1e-2), f"{name}: {difference:.1e}"


def test_alone_there_is_one_rank():
    array = torch.ones(3)
    ranks.join()
    ranks.add_up([array])()
    assert (ranks.count(), ranks.number(), ranks.share(7)) == (1, 0, slice(0, 7))
    assert array.tolist() == [1, 1, 1] and ranks.any_of(True) and not ranks.any_of(False)
    ranks.leave()


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_shares_are_the_whole(of, monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: of)
    found = []
    for number in range(of):
        monkeypatch.setattr(ranks, "number", lambda number=number: number)
        found += range(100)[ranks.share(17)]
    assert found == list(range(17))


def test_negatives_belong_to_places_of_the_minibatch():
    """Each rank draws for its cases what one process draws for them."""
    labels = torch.arange(12).remainder(10)[None]
    belief = torch.rand(1, 12, 10, generator=torch.Generator().manual_seed(0))

    def stream() -> list[np.random.Generator]:
        return [np.random.default_rng(3)]

    for first, part in ((0, slice(0, 5)), (5, slice(5, 12))):
        whole = hard_negatives(belief, labels, stream())
        assert torch.equal(hard_negatives(belief[:, part], labels[:, part], stream(), first), whole[:, part])
        whole = random_negatives(labels, 10, stream())
        assert torch.equal(random_negatives(labels[:, part], 10, stream(), first), whole[:, part])


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_a_protocol_runs_on_two_processes_and_resumes_nothing_twice(tmp_path):
    """By the command line: one file, written by one of them; what is refused is refused in one line."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    short = ["--preset", "quick", "--set", "stages.development.epochs=1", "--out", "out.h5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[1])}

    def run(*more: str) -> subprocess.CompletedProcess:
        words = [*launch, "-m", "cortexff.protocol", "recurrent", *short, *more]
        return subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)

    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Results: ") == 1 and sorted(p.name for p in tmp_path.iterdir())[0] == "out.h5"
    refused = run("--resume")
    assert refused.returncode != 0 and "out.h5 is finished" in refused.stderr
    refused = run("--overwrite", "--jobs", "2")
    assert refused.returncode != 0 and "do not go with torchrun" in refused.stderr
    assert (tmp_path / "out.h5").exists()
