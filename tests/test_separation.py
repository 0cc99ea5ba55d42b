"""Cells are compared with their controls, and what was planted in a grid is found in it."""

import json

import numpy as np
import pytest

from cortexff.analysis.separation import (
    Cell,
    cells,
    collapse,
    collapse_of,
    common_mode_steps,
    lines,
    predictions,
    resonances,
    rising,
    tolerable,
)
from cortexff.errors import CortexffError
from cortexff.log import Log, open_file
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.rows import row_variables
from cortexff.protocol.schedule import probe_updates

SUBJECTS, RATES, AVERAGES, BLOCKS = 8, [0.05, 0.5, 5], [0, 0.9, 0.99], [1, 8, 32, 128]
GRID = {"plasticity": {"learning_rate": RATES, "gradient_average": AVERAGES}}
STEP = 0.02  # k_cm at learning rate 1, planted


def planted(path, error_of, usual=0.03):
    """A results file in which error is what ``error_of(block, learning rate, tau)`` says, with noise of subjects."""
    changes = {
        "subjects": SUBJECTS,
        "stages": {"separated": {"updates": 256}, "interleaved": {"updates": 128}},
        "conditions": {"interleaved": {"grid": GRID}, "separated": {"grid": {"cycle": BLOCKS, **GRID}}},
    }
    protocol, random = load_protocol("separated_phases", "quick", {"changes": changes}), np.random.default_rng(0)
    subject = 0.002 * random.standard_normal(SUBJECTS)
    dimensions = {"subject": range(SUBJECTS), "area": ["V1", "V2"], "block": [0], "label": range(10)}
    about = {
        "settings": protocol.model_dump_json(by_alias=True),
        "model": "{}",
        "seed": 0,
        "protocol_name": "separated_phases",
        "preset": "quick",
        "title": protocol.title,
        "versions": json.dumps({"cortexff": "0"}),
        "git_commit": "",
    }
    with Log.create(path, about, dimensions) as log:
        for name, condition in protocol.conditions.items():
            stage_name = condition.stages[-1]
            stage, variables = protocol.stages[stage_name], row_variables(protocol, name)
            plasticity = protocol.plasticity_of(stage)
            log.declare(f"max/{name}", variables=variables)
            updates = stage.updates or 5
            for update in [0, *probe_updates(stage, updates, 5)]:
                row = {n: np.zeros(_shape(v)) for n, v in variables.items()}
                error = usual
                if stage.cycle is not None and update:
                    error = error_of(stage.cycle.wake, plasticity.learning_rate, 1 / (1 - plasticity.gradient_average))
                noise = subject + 0.0005 * random.standard_normal(SUBJECTS)
                for metric in ("err_goodness", "averaged_err_goodness"):
                    row[metric] = np.full(SUBJECTS, error) + noise
                lifted = {0: 0.0, 1: 1.0, 2: -1.0}.get(update, 0.0)
                shift = 10 * STEP * plasticity.learning_rate * lifted * (0.5 if lifted > 0 else 0.25)
                row["goodness_pos"][:], row["goodness_neg"][:] = 15 + shift, 10 + shift
                phase = stage.phase_at(update - 1) if update else ""
                half = update // 2 if stage.cycle is not None else update
                row["positive_updates"] = np.full(SUBJECTS, half)
                log.append(f"max/{name}", {**row, "update": update, "stage": stage_name, "phase": phase})
    return path


def _shape(variable):
    sizes = {"subject": SUBJECTS, "area": 2, "block": 1, "label": 10}
    return [sizes[dim] for dim in variable.dims if dim != "probe"]


def by_product(block, rate, tau):
    """Error rises with B k alone."""
    return 0.03 + 0.8 * (block * rate * STEP > 0.5)


@pytest.fixture(scope="module")
def file_by_product(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted") / "planted.h5", by_product)


def test_cells_stand_beside_the_controls_of_the_same_settings(file_by_product):
    with open_file(file_by_product) as file:
        found = [cell for cell in cells(file, "max") if cell.start == "development" and cell.baseline == "none"]
        assert len(found) == len(BLOCKS) * len(RATES) * len(AVERAGES)
        for cell in found:
            assert cell.control == cell.condition.replace("separated", "interleaved").replace(f" c{cell.block}", "")
            wanted = by_product(cell.block, cell.learning_rate, cell.tau) - 0.03
            assert cell.change().mean == pytest.approx(wanted, abs=0.002)
            assert cell.verdict == ("fails" if wanted else "tolerated")
        assert {round(cell.tau) for cell in found} == {1, 10, 100}
        assert cells(file, "min") == []
        born = [cell for cell in cells(file, "max") if cell.start is None]
        assert {cell.control for cell in born} == {"newborn_interleaved lr5 ga0.9"}  # not development, which is longer


def test_where_the_control_fails_nothing_is_said_of_separation():
    ones = np.linspace(0.9, 1.1, 8)
    values = {moment: {"err_goodness": 0.5 * ones} for moment in ("wake", "sleep", "averaged")}
    cell = Cell(
        "a", "b", "grown", 1, 128, 5.0, 0.0, "none", values, {"err_goodness": 0.6 * ones}, {"err_goodness": 0.1 * ones}
    )
    assert cell.verdict == "control fails"
    lost = {"averaged": {"err_goodness": np.where(ones > 1.05, np.nan, 0.1)}}
    cell = Cell(
        "a", "b", "grown", 1, 128, 5.0, 0.0, "none", lost, {"err_goodness": 0.1 * ones}, {"err_goodness": 0.1 * ones}
    )
    assert cell.verdict == "fails" and cell.change().lost == 2


def test_the_common_mode_step_is_measured_from_the_first_probes(file_by_product):
    """Planted: half a step up awake, and three quarters down asleep, in units of the difference of goodness."""
    with open_file(file_by_product) as file:
        found = common_mode_steps(file, "max")
    assert list(found) == RATES
    for rate, step in found.items():
        # Two areas, difference 5 in each: 10 STEP rate (0.5) / 5 awake, and (0.5 + 0.25) asleep.
        np.testing.assert_allclose(step, 2 * STEP * rate * (0.5 + 0.75) / 2, rtol=2e-3)


def test_error_that_depends_on_the_product_collapses_on_it(file_by_product):
    with open_file(file_by_product) as file:
        found = collapse_of(cells(file, "max"), common_mode_steps(file, "max"))
    assert found.residual["block x step"] < 0.02 and found.p < 0.01
    assert min(found.residual["block"], found.residual["step"]) > 0.2


def test_cells_of_networks_that_diverge_are_part_of_the_collapse(tmp_path):
    """All diverge beyond the bound, which is as much an error of 1 as there is."""
    path = planted(tmp_path / "p.h5", lambda block, rate, tau: np.nan if block * rate * STEP > 0.5 else 0.03)
    with open_file(path) as file:
        found = collapse_of(cells(file, "max"), common_mode_steps(file, "max"))
    assert found.residual["block x step"] < 0.02 < found.residual["step"]


def test_error_that_depends_on_the_block_alone_does_not_collapse(tmp_path):
    with open_file(planted(tmp_path / "planted.h5", lambda block, rate, tau: 0.03 + 0.1 * np.log2(block))) as file:
        found = collapse_of(cells(file, "max"), common_mode_steps(file, "max"))
    assert found.residual["block"] < 0.02 < 0.2 < found.residual["block x step"]


def test_error_that_depends_on_the_average_too_collapses_in_each_group():
    block, tau = np.meshgrid([1.0, 2, 4, 8], [1, 100])
    found = collapse(block.ravel(), np.full(8, 0.1), (block * (tau == 1)).ravel(), tau.ravel())
    assert found.residual["in each group"] < 1e-9 < 0.3 < found.residual["block x step"]
    with pytest.raises(ValueError, match="three cells"):
        collapse([1, 2], [1, 1], [0, 1])


def test_a_resonance_is_found_where_it_is_planted(tmp_path):
    """Error is worst at τ = 10 where B is 8, and falls with τ everywhere else."""

    def error(block, rate, tau):
        return 0.05 + 0.1 * (block == 8) * (round(tau) == 10) - 0.01 * np.log10(tau)

    with open_file(planted(tmp_path / "planted.h5", error)) as file:
        found = resonances(cells(file, "max"))
    assert len(found) == len(BLOCKS) * len(RATES)
    for one in found:
        assert (one.interior == 1 and round(one.worst) == 10) if one.block == 8 else one.interior == 0
        np.testing.assert_allclose(one.taus, [1, 10, 100])


def test_what_is_tolerable_and_what_was_predicted_is_counted(file_by_product):
    """Planted: no harm where B ε STEP ≤ 0.5, so up to B 1 at a rate of 5 and everywhere below; k_cm is 1.25 STEP ε."""
    with open_file(file_by_product) as file:
        found, steps = cells(file, "max"), common_mode_steps(file, "max")
    largest = tolerable(found)
    assert {rate: {block for (r, _), block in largest.items() if r == rate} for rate in RATES} == {
        0.05: {128},
        0.5: {32},
        5: {1},
    }
    # B k_cm < 0.2: 12 cells at the lowest rate, 6 at the next and 3 at the last; above 2, of two cycles: B 32 at 5.
    counts = predictions(found, steps)
    assert counts["fails"] == (3, 3)
    right, of = counts["tolerated"]
    assert (right, of) == (21, 22)  # τ 100 and B 8 at a rate of 5 is slow, and was planted to fail


def test_a_rising_curve_is_the_nearest_and_shares_places():
    np.testing.assert_allclose(rising(np.array([1, 2, 3, 4]), np.array([0.0, 2, 1, 5])), [0, 1.5, 1.5, 5])
    np.testing.assert_allclose(rising(np.array([2, 1, 2]), np.array([4.0, 0, 2])), [3, 0, 3])


def test_what_was_found_is_told_in_lines(tmp_path, file_by_product):
    text = list(lines(file_by_product))
    assert any("separated c128 lr5 ga0.99" in line and "fails" in line for line in text)
    assert any(line.startswith("k_cm at learning rate 0.5") for line in text)
    with Log.create(
        tmp_path / "other.h5", {"settings": load_protocol("recurrent", "quick").model_dump_json(by_alias=True)}, {}
    ):
        pass
    with pytest.raises(CortexffError, match="no condition learns in turns"):
        list(lines(tmp_path / "other.h5"))
