"""Every protocol that cortexff brings is read in all its presets, and its quick one is carried out to the end."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cortexff.description import parse, read_text
from cortexff.engines.rate import check_steps
from cortexff.experiments import module
from cortexff.graph import has_context, load_model, only_area
from cortexff.protocol.__main__ import command
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.schedule import ByExperiment
from cortexff.resources import find, names

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
PROTOCOLS = names("protocols")
PIXELS = {"digits": 8 * 8, "mnist": 28 * 28, "fashion_mnist": 28 * 28, "cifar10": 32 * 32 * 3}


def presets_of(name: str) -> list[str]:
    return ["default", *parse(read_text(find("protocols", name)), name)["presets"]]


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name in PROTOCOLS for preset in presets_of(name)])
def test_every_preset_names_a_model_that_fits_it(name, preset):
    protocol = load_protocol(name, preset)
    net = load_model(protocol.model)
    if isinstance(protocol, ByExperiment):
        module(protocol.experiment).check_fit(protocol, net)
        return
    assert net.nodes[only_area(net, "input")]["units"] == PIXELS[protocol.stimuli.images]
    if protocol.learns_by_backprop:  # takes what is bottom-up of any model
        return
    assert has_context(net) is (protocol.stimuli.labels == "context")
    for variant in protocol.variants:
        check_steps(net, protocol.variant(variant).engine.steps)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_quick_preset_runs_to_the_end(name, tmp_path):
    out = tmp_path / f"{name}.h5"
    done = CliRunner().invoke(command, [name, "--preset", "quick", "--out", str(out), "--json", "--progress", "none"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert rows and all(row["protocol"] == name and row["ours"] is not None for row in rows)
    with h5py.File(out) as file:
        assert file.attrs["status"] == "finished"
        assert len(file["table/ours"]) == len(rows) and np.isfinite(file["table/ours"][:]).all()
    pictures = list(tmp_path.glob("*.png"))
    assert pictures and all(picture.stat().st_size > 10_000 for picture in pictures)
    if getattr(load_protocol(name, "quick"), "receptive_fields", 0):
        assert any(picture.name.startswith(f"{name}_receptive_fields") for picture in pictures)


def test_the_protocol_of_the_readme_is_one(tmp_path):
    """What a newcomer copies is accepted, and compares what it says."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "nap.yaml").write_text(readme.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    assert list(load_protocol(tmp_path / "nap.yaml").conditions) == ["young", "awake", "rested"]


def test_a_higher_temperature_alone_is_what_differs():
    """Rate, weight cost and peers over κ are those of the subjects that they stand beside."""
    whole = load_protocol("sleep_deprivation", "full_factors")
    usual = load_protocol("sleep_deprivation", "full_feedforward").variant("max")
    grown = usual.plasticity_of(usual.stages["development"])
    for name, share in (("max_temperature_50", 1.0), ("max_temperature_200", 0.5)):
        protocol = whole.variant(name)
        settings, kappa = protocol.plasticity_of(protocol.stages["development"]), protocol.goodness.temperature
        assert settings.learning_rate / kappa == pytest.approx(share * grown.learning_rate)
        assert settings.learning_rate * settings.weight_cost == pytest.approx(
            share * grown.learning_rate * grown.weight_cost
        )
        assert settings.peer_normalization * kappa == pytest.approx(grown.peer_normalization)
        assert protocol.plasticity.learning_rate / kappa == pytest.approx(usual.plasticity.learning_rate)


def test_a_table_speaks_of_what_is_left():
    def chosen(name, preset, **lists):
        return load_protocol(name, preset, {f"--set {key}={names}": {key: names} for key, names in lists.items()})

    table = chosen("cifar10", "full", variants=["min"]).table
    assert table.metrics["err_goodness"].paper == {"min": {"training": 20, "test": 41}}
    table = chosen("cifar10", "full", conditions=["development", "test"], variants=["max"]).table
    assert (table.conditions, table.metrics["err_goodness"].paper) == (["test"], {"max": {"test": 44}})
    table = chosen("sleep_deprivation", "quick", conditions=["development", "control", "deprived"]).table
    assert (table.conditions, table.against) == (["control", "deprived"], "control")
    table = chosen("sleep_deprivation", "quick", conditions=["development"]).table
    assert (table.conditions, table.against) == (["development"], None)
