"""The closing table says what the log holds: means, paired differences, and the paper's figure beside them."""

import math

import h5py
import numpy as np
import pytest

from cortexff.analysis.statistics import mean_interval, paired_difference, sign_flip_p
from cortexff.log import Log, Variable, open_results
from cortexff.protocol import table
from cortexff.protocol.schedule import Protocol
from cortexff.protocol.table import Row

VALUES = {  # condition → metric → subjects, at the last probe
    "control": {"fp_neg": [0.1, 0.2, 0.3], "dprime": [3, 2, 4], "rate": [[1, 2], [3, 4], [5, 6]]},
    "deprived": {"fp_neg": [0.5, 0.6, 0.9], "dprime": [1, 2, 5], "rate": [[1, 1], [1, 1], [1, 1]]},
    "recovered": {"fp_neg": [0.1, 0.1, 0.2], "dprime": [3, 2, 4], "rate": [[1, 2], [3, 4], [5, 6]]},
}


def protocol_of(
    metrics: dict, against: str | None = "control", conditions=tuple(VALUES), variants=("max",)
) -> Protocol:
    settings = {
        "format": "cortexff-protocol/1",
        "title": "A short life",
        "section": "9",
        "model": "tiny",
        "plasticity": {"learning_rate": 1},
        "stages": {"awake": {"phase": "wake", "updates": 1}},
        "conditions": {name: {"stages": ["awake"]} for name in VALUES},
        "variants": dict.fromkeys(variants),
        "table": {"conditions": list(conditions), "against": against, "metrics": metrics},
    }
    return Protocol.model_validate(settings)


def log_of(path, subjects: int = 3, spoil: float | None = None, variants=("max",)):
    """A log with two probes of which the first does not count; ``spoil`` replaces one value of the last."""
    with Log.create(path, {}, {"subject": list(range(subjects)), "area": ["V1", "V2"]}) as log:
        for variant in variants:
            for condition, metrics in VALUES.items():
                dims = {name: ("probe", "subject", "area")[: 1 + np.ndim(v)] for name, v in metrics.items()}
                variables = {name: Variable(dims[name], "1", name) for name in metrics}
                log.declare(f"{variant}/{condition}", variables=variables)
                rows = {name: np.array(values, dtype=float)[:subjects] for name, values in metrics.items()}
                log.append(f"{variant}/{condition}", {name: 100 + values for name, values in rows.items()})
                if spoil is not None and condition == "deprived":
                    rows["fp_neg"][1] = spoil
                log.append(f"{variant}/{condition}", rows)
    return path


def rows_of(path, metrics: dict, **settings) -> dict[tuple[str, str], Row]:
    rows = table.build(path, protocol_of(metrics, **settings), "short", "quick")
    return {(row.metric, row.condition): row for row in rows}


def test_a_condition_has_the_mean_and_interval_of_its_last_probe(tmp_path):
    found = rows_of(log_of(tmp_path / "run.h5"), {"fp_neg": None, "dprime": None})
    wanted = mean_interval([10, 20, 30])  # rates are percent
    row = found["fp_neg", "control"]
    assert (row.ours, row.low, row.high) == pytest.approx((20, wanted.low, wanted.high), rel=1e-6)
    assert found["dprime", "deprived"].ours == pytest.approx(8 / 3)  # d′ is none
    assert math.isnan(row.paper) and row.verdict == ""
    assert (row.protocol, row.section, row.variant, row.preset, row.subjects) == ("short", "9", "max", "quick", 3)
    assert row.quantity == "hallucination rate, negative data, %, control, max"
    assert found["dprime", "control"].quantity == "d′, control, max"


def test_differences_are_paired_and_count_their_subjects(tmp_path):
    found = rows_of(log_of(tmp_path / "run.h5"), {"fp_neg": None, "dprime": None})
    row = found["fp_neg", "deprived − control"]
    wanted = paired_difference([50, 60, 90], [10, 20, 30])
    assert (row.ours, row.low, row.high) == pytest.approx((wanted.mean, wanted.low, wanted.high), rel=1e-5)
    assert row.verdict == f"up in 3 of 3, p = {sign_flip_p([40, 40, 60]):.2g}" == "up in 3 of 3, p = 0.25"
    assert found["fp_neg", "recovered − control"].verdict.startswith("down in 2 of 3, p = ")
    assert found["dprime", "deprived − control"].verdict.startswith("up in 1 of 3")
    assert found["dprime", "recovered − control"].verdict == "unchanged"
    assert ("fp_neg", "control − control") not in found


def test_what_an_area_has_no_value_for_is_left_out(tmp_path):
    """Such as the blocks that it lacks, or the step before the first."""
    path = log_of(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        rate, deprived = file["max/control/rate"][:], file["max/deprived/rate"][:]
        rate[-1, :, 1], deprived[-1, 0] = np.nan, np.nan
        file["max/control/rate"][:], file["max/deprived/rate"][:] = rate, deprived
    found = rows_of(path, {"rate": None})
    assert found["rate", "control"].ours == pytest.approx(3)
    assert math.isnan(found["rate", "deprived"].ours) and found["rate", "deprived"].verdict == "diverged in 1 of 3"


def test_a_measure_of_areas_is_averaged_over_them(tmp_path):
    found = rows_of(log_of(tmp_path / "run.h5"), {"rate": None})
    assert found["rate", "control"].ours == pytest.approx(3.5)
    assert found["rate", "deprived − control"].ours == pytest.approx(-2.5)


def test_without_a_reference_there_are_no_differences(tmp_path):
    found = rows_of(log_of(tmp_path / "run.h5"), {"fp_neg": None}, against=None)
    assert list(found) == [("fp_neg", condition) for condition in VALUES]


def test_the_papers_figure_stands_beside_ours(tmp_path):
    path = log_of(tmp_path / "run.h5")
    found = rows_of(path, {"fp_neg": {"paper": 20.5}, "dprime": {"paper": 2.5}, "rate": {}})
    assert (found["fp_neg", "control"].paper, found["fp_neg", "control"].verdict) == (20.5, "reached")
    assert math.isnan(found["fp_neg", "deprived − control"].paper) and math.isnan(found["rate", "control"].paper)
    assert found["dprime", "control"].verdict == "reached"  # higher is better
    found = rows_of(path, {"fp_neg": {"paper": 19.5}, "dprime": {"paper": 3.25}})
    assert found["fp_neg", "control"].verdict == "0.50 above the paper"
    assert found["dprime", "control"].verdict == "0.25 below the paper"


def test_a_variant_may_have_a_figure_of_its_own(tmp_path):
    path = log_of(tmp_path / "run.h5", variants=("max", "min"))
    asked = protocol_of({"fp_neg": {"paper": {"min": 20.5}}}, against=None, variants=("max", "min"))
    found = {row.variant: row for row in table.build(path, asked, "short", "quick") if row.condition == "control"}
    assert math.isnan(found["max"].paper) and found["max"].verdict == ""
    assert (found["min"].paper, found["min"].verdict) == (20.5, "reached")


def test_a_diverged_subject_is_told_and_not_dropped(tmp_path):
    found = rows_of(log_of(tmp_path / "run.h5", spoil=math.nan), {"fp_neg": {"paper": 3}})
    for condition in ("deprived", "deprived − control"):
        row = found["fp_neg", condition]
        assert math.isnan(row.ours) and math.isnan(row.low) and row.subjects == 3
        assert row.verdict == "diverged in 1 of 3"
    assert found["fp_neg", "control"].ours == pytest.approx(20)
    assert "diverged in 1 of 3" in table.render(list(found.values()))


def test_rows_come_by_variant_then_metric_then_condition(tmp_path):
    path = log_of(tmp_path / "run.h5", variants=("max", "min"))
    protocol = protocol_of({"dprime": None, "fp_neg": None}, variants=("max", "min"))
    rows = table.build(path, protocol, "short", "quick")
    conditions = [*VALUES, "deprived − control", "recovered − control"]
    wanted = [(v, m, c) for v in ("max", "min") for m in ("dprime", "fp_neg") for c in conditions]
    assert [(row.variant, row.metric, row.condition) for row in rows] == wanted


def test_the_table_in_the_file_is_the_table(tmp_path):
    path = log_of(tmp_path / "run.h5")
    rows = table.build(path, protocol_of({"fp_neg": {"paper": 1.5}, "dprime": None}), "short", "quick")
    with Log.reopen(path) as log:
        table.write(log, rows)
    with h5py.File(path) as file:
        kept = {name: values[()] for name, values in file["table"].items() if name != "row"}
    for name in Row.__dataclass_fields__:
        values = [v.decode() if isinstance(v, bytes) else v for v in kept[name].tolist()]
        np.testing.assert_array_equal(values, [getattr(row, name) for row in rows])
    with open_results(path) as results:
        assert results["table"]["quantity"].values.tolist() == [row.quantity for row in rows]
        np.testing.assert_array_equal(results["table"]["ours"].values, [row.ours for row in rows])


def aligned(block: str) -> bool:
    """Whether every line has its columns where the heading has them."""
    heading, rule, *lines = block.splitlines()
    starts = [at for at in range(1, len(heading)) if heading[at] != " " and heading[at - 2 : at] == "  "]
    return set(rule) == {"-"} and all(
        line[at - 2 : at].strip() == "" and line[at : at + 1].strip() for line in lines for at in starts
    )


def test_the_table_as_text_is_aligned(tmp_path):
    path = log_of(tmp_path / "run.h5")
    metrics = {"fp_neg": {"paper": 20.5}, "dprime": None, "rate": None}
    rendered = table.render(table.build(path, protocol_of(metrics), "short", "quick"))
    means, changes = rendered.split("\n\n")
    assert means.startswith("max: mean of 3 [95 % interval]") and changes.startswith("max: change within subjects")
    assert aligned(means) and aligned(changes), rendered
    assert means.splitlines()[0].split()[-4:] == ["control", "deprived", "recovered", "paper"]
    assert "20.0 [-4.8, 44.8]" in means and means.splitlines()[2].endswith("20.5")
    assert means.splitlines()[3].endswith("–")  # the paper gives no d′
    assert "+46.7 [18.0, 75.4] up 3 of 3" in changes and "paper" not in changes


def test_two_subjects_have_a_mean_and_no_interval(tmp_path):
    rendered = table.render(
        table.build(log_of(tmp_path / "run.h5", subjects=2), protocol_of({"dprime": None}), "a", "b")
    )
    assert "[" not in rendered and rendered.startswith("max: mean of 2 ")


def test_a_difference_that_is_rounded_to_zero_keeps_its_side():
    """An interval that ends at -0.0 leaves no change out."""
    row = table.Row(
        "any", "9", "max", "a − b", "fp_neg", "", math.nan, -0.1, -0.2, -0.01, 10, "quick", "down in 8 of 10"
    )
    assert table.cell(row) == "-0.1 [-0.2, -0.0] down 8 of 10"


def test_one_subject_has_no_interval(tmp_path):
    path = log_of(tmp_path / "run.h5", subjects=1)
    rows = table.build(path, protocol_of({"fp_neg": None, "dprime": None}), "short", "quick")
    assert math.isnan(rows[0].low) and rows[0].ours == pytest.approx(10)
    rendered = table.render(rows)
    assert "[" not in rendered and rendered.startswith("max: one subject")
    assert all(aligned(block) for block in rendered.split("\n\n")), rendered


def test_a_metric_without_a_name_in_words_keeps_its_own():
    assert (table.label("fp_neg"), table.label("wake_drive")) == ("hallucination rate, negative data", "wake_drive")


def test_intervals_between_spikes_may_be_lacking_in_a_sane_network(tmp_path):
    path = log_of(tmp_path / "run.h5")
    with h5py.File(path, "a") as file:
        for condition in ("control", "deprived", "recovered"):
            file[f"max/{condition}"].move("dprime", "irregularity")
        file["max/deprived/irregularity"][-1, 0] = np.nan
    rows = rows_of(path, {"irregularity": None})
    assert rows["irregularity", "deprived"].verdict == "unknown in 1 of 3"


def test_what_is_a_percentage_is_one_of_a_single_area_too():
    assert table.is_percent("off_share") and table.is_percent("off_share[V1]") and not table.is_percent("rate[V1]")


def test_what_a_condition_does_not_measure_has_no_row(tmp_path):
    """Such as firing rates, in a run of which a condition has rates and the others spikes."""
    path = log_of(tmp_path / "run.h5")
    with h5py.File(path, "a") as file:
        del file["max/control/dprime"], file["max/recovered/fp_neg"]
    rows = rows_of(path, {"fp_neg": None, "dprime": None})
    assert [condition for metric, condition in rows if metric == "dprime"] == ["deprived", "recovered"]
    assert [condition for metric, condition in rows if metric == "fp_neg"] == [
        "control",
        "deprived",
        "deprived − control",
    ]
    lines = table.render(list(rows.values())).splitlines()
    assert next(line for line in lines if line.startswith("d′")).split()[1] == "–"


def test_a_difference_is_in_points_and_says_that_it_is_one(tmp_path):
    rows = rows_of(log_of(tmp_path / "run.h5"), {"fp_neg": None, "dprime": None})
    assert rows["fp_neg", "control"].quantity == "hallucination rate, negative data, %, control, max"
    found = rows["fp_neg", "deprived − control"].quantity
    assert found == "difference of hallucination rate, negative data, points, deprived − control, max"
    assert rows["dprime", "deprived − control"].quantity == "difference of d′, deprived − control, max"
