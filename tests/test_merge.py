"""Shards join into the file of the whole run, and what does not belong together is refused."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from cortexff import sonata
from cortexff.environment import now
from cortexff.errors import CortexffError
from cortexff.graph import load_model
from cortexff.log import Log, open_file, open_results
from cortexff.protocol import provenance, table
from cortexff.protocol.checkpoint import path_for
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.merge import merge
from cortexff.protocol.runner import Run
from cortexff.stimuli import images as image_sets

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time
PROTOCOL = """
format: cortexff-protocol/1
title: A short life
section: "9"
model: small
stimuli: {minibatch: 25, validation: 60}
subjects: 4
plasticity: {learning_rate: 5}
stages:
  growing: {phase: interleaved, updates: 40, probe: 8, probe_on: validation, train_softmax: true, until: 0.5}
  deprivation: {phase: wake, updates: 2, probe: log, probe_images: 20}
conditions:
  development: {stages: [growing, growing]}   # each time until a criterion that subjects reach at different times
  deprived: {from: development, stages: [deprivation]}
variants: {max: {goodness: {sign: max}}, min: {goodness: {sign: min}}}
table: {conditions: [development, deprived], against: development, metrics: {err_goodness: null, rate: null}}
"""
MODEL = """
format: cortexff-model/1
areas: {retina: {role: input, units: 64}, V1: {units: 60}, V2: {units: 60}, label: {role: context, units: 10}}
projections:
  - {from: retina, to: V1}
  - {from: V1, to: V2}
  - {from: label, to: V2, kind: top_down}
"""


def run(path: Path, subjects: list[int] | None = None, variants: list[str] | None = None, **changes) -> Path:
    """Carry a small protocol out, or a part of it, and finish its file."""
    (path.parent / "short.yaml").write_text(PROTOCOL)
    (path.parent / "small.yaml").write_text(MODEL)
    model = {"model": str(path.parent / "small.yaml")}
    protocol = load_protocol(path.parent / "short.yaml", changes={"model": model, "test": changes})
    net = load_model(protocol.model)
    images = image_sets.hold_out(image_sets.load("digits"), protocol.stimuli.validation)
    origin = provenance.origin(protocol, net, path.parent / "short.yaml", "default")
    with provenance.open_log(path, protocol, net, 10, origin, subjects=subjects) as log:
        run = Run(protocol, net, images, log, path_for(path), subjects=subjects, variants=variants)
        run.carry_out()
        log.attributes("/", {"finished": now()})
        run.forget_checkpoint()
        if subjects is None and variants is None:
            log.flush()
            table.write(log, table.build(path, protocol, "short", "default"))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The run at once, and in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    run(folder / "whole.h5")
    run(folder / "max_0-3.h5", [0, 2, 3], ["max"])
    run(folder / "max_1-1.h5", [1], ["max"])
    run(folder / "min_0-3.h5", None, ["min"])
    return folder


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("m*_*.h5"), reverse=True)  # any order will do


def datasets(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path, locking=False) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def same(path: Path, other: Path) -> None:
    """Whole numbers and texts to the letter; other numbers up to the rounding of sums in another order.

    Rounding moves a case that lies on the edge of a decision to the other side: then one of 3600 answers is another.
    """
    ours, theirs = datasets(path), datasets(other)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, theirs[name], rtol=1e-4, atol=3e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(values, theirs[name], err_msg=name)


def test_shards_join_into_the_cohort(folder, tmp_path):
    rows = merge(shards(folder), tmp_path / "joined.h5")
    same(tmp_path / "joined.h5", folder / "whole.h5")
    ages = [datasets(path)["max/development/age"] for path in (folder / "max_0-3.h5", folder / "max_1-1.h5")]
    assert len(ages[0]) > len(ages[1])  # rows were carried on
    with h5py.File(tmp_path / "joined.h5") as ours, h5py.File(folder / "whole.h5") as whole:
        differ = {name for name in whole.attrs if ours.attrs[name] != whole.attrs[name]}
        assert ours.attrs.keys() == whole.attrs.keys() and differ <= {"started", "finished", "seconds"}
        assert ours.attrs["status"] == "finished"
        for name, item in whole["max/deprived"].items():
            assert dict(item.attrs).keys() == dict(ours["max/deprived"][name].attrs).keys(), name
    with open_results(tmp_path / "joined.h5") as tree:
        assert tree["max/deprived"]["fp_neg"].dims == ("probe", "subject")
        assert tree["max/deprived"]["goodness_by_stimulus"].sizes["subject"] == 4
    assert len(rows) == 12 and list(tmp_path.iterdir()) == [tmp_path / "joined.h5"]


def test_spikes_of_shards_follow_one_another_as_in_the_whole(tmp_path):
    spiking = {"kind": "spiking", "spiking": {"backend": "torch"}}
    looked = {"phase": "rest", "updates": 0, "probe_images": 3, "engine": spiking}
    changes = {"raster": 2, "stages": {"growing": {"updates": 2, "until": None}, "deprivation": looked}}
    run(tmp_path / "whole.h5", **changes)
    parts = [run(tmp_path / f"{variant}.h5", None, [variant], **changes) for variant in ("max", "min")]
    merge(parts[::-1], tmp_path / "joined.h5")
    same(tmp_path / "joined.h5", tmp_path / "whole.h5")
    with open_file(tmp_path / "joined.h5") as file:
        assert [one.variant for one in sonata.trials(file)] == 4 * ["max"] + 4 * ["min"]
        assert file.attrs["magic"] == sonata.MAGIC


def test_nothing_is_overwritten_unless_asked(folder, tmp_path):
    out = tmp_path / "joined.h5"
    out.write_text("mine")
    with pytest.raises(CortexffError, match=r"joined\.h5 exists"):
        merge(shards(folder), out)
    assert out.read_text() == "mine"
    merge(shards(folder), out, overwrite=True)


@pytest.fixture
def copies(folder, tmp_path) -> dict[str, Path]:
    return {path.stem: Path(shutil.copy(path, tmp_path)) for path in shards(folder)}


def refused(copies: dict[str, Path], *words: str) -> None:
    out = next(iter(copies.values())).parent / "joined.h5"
    with pytest.raises(CortexffError) as raised:
        merge(list(copies.values()), out)
    assert all(word in str(raised.value) for word in words), raised.value
    assert not out.exists() and not out.with_suffix(".partial").exists()


def test_what_is_left_out_or_comes_twice_is_refused(copies, folder):
    whole = copies | {"whole": folder / "whole.h5"}
    refused(whole, "max_0-3.h5", "whole.h5", "both have subject 0 of variant max")
    refused({"max": copies["max_1-1"]}, "subjects 0, 2, 3 of variant max", "max_1-1.h5")
    refused({name: path for name, path in copies.items() if "max" in name}, "subjects 0, 1, 2, 3 of variant min")
    with pytest.raises(CortexffError, match="no files were given"):
        merge([], "joined.h5")


def test_other_runs_are_refused_with_the_difference(copies):
    with h5py.File(copies["max_1-1"], "r+") as file:
        settings = json.loads(file.attrs["settings"])
        settings["engine"]["damping"] = 0.5
        file.attrs["settings"] = json.dumps(settings)
    refused(copies, "min_0-3.h5", "max_1-1.h5", "engine.damping was 0.3, now 0.5")


def test_other_models_and_unfinished_runs_are_refused(copies):
    with h5py.File(copies["max_1-1"], "r+") as file:
        file.attrs["model"] += "# mine"
    refused(copies, "max_1-1.h5", "the model's text")
    with h5py.File(copies["max_1-1"], "r+") as file:
        del file.attrs["preset"]
    refused(copies, "max_1-1.h5 is no shard of a run: it does not tell its preset")
    with h5py.File(copies["max_1-1"], "r+") as file:
        file.attrs["status"] = "interrupted"
    refused(copies, "max_1-1.h5 is interrupted, not finished")


def test_a_lost_row_is_not_made_up(copies):
    """Only the rows of a stage with a criterion are carried on."""
    with Log.reopen(copies["max_1-1"]) as log:
        log.truncate("max/deprived", 2)
    refused(copies, "max_1-1.h5 has no probe of max/deprived after update 2 (deprivation)")


def test_stimuli_must_be_the_same(copies):
    with h5py.File(copies["max_1-1"], "r+") as file:
        file["max/deprived/true_label"][0] += 1
    refused(copies, "max_0-3.h5", "max_1-1.h5", "differ in max/deprived/true_label")


def test_the_time_at_work_is_that_of_all_shards_or_not_known(copies, tmp_path):
    for number, path in enumerate(copies.values(), start=1):
        with h5py.File(path, "r+") as file:
            file.attrs["seconds"] = 100.0 * number
    merge(list(copies.values()), tmp_path / "joined.h5")
    with h5py.File(tmp_path / "joined.h5") as file:
        total = 50 * len(copies) * (len(copies) + 1)
        assert total <= file.attrs["seconds"] < total + 60
    with h5py.File(copies["max_1-1"], "r+") as file:
        del file.attrs["seconds"]  # begun by an earlier version
    merge(list(copies.values()), tmp_path / "again.h5")
    with h5py.File(tmp_path / "again.h5") as file:
        assert "seconds" not in file.attrs


def test_machines_and_versions_that_differ_are_all_kept(copies, tmp_path):
    with h5py.File(copies["max_1-1"], "r+") as file:
        file.attrs["machine"] = "another"
        file.attrs["versions"] = json.dumps({**json.loads(file.attrs["versions"]), "numpy": "0"})
    merge(list(copies.values()), tmp_path / "joined.h5")
    with h5py.File(tmp_path / "joined.h5") as file:
        assert file.attrs["machine"].endswith("; another")
        assert json.loads(file.attrs["versions"])["numpy"].endswith("; 0")
