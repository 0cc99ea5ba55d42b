"""The benchmark: what it counts and compares, on nets so small that nothing is said about speed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cortexff.benchmark import __main__ as command_line
from cortexff.benchmark import measure, table
from cortexff.benchmark.cases import Case, groups, memory_cases
from cortexff.engines import rehearsal
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateDynamics
from cortexff.equations.normalization import length_normalization
from cortexff.errors import CortexffError
from cortexff.graph import load_model

TINY = {"model": "digits_recurrent", "batch": 4, "steps": 3, "window": (2, 3)}
TINY_CASES = [
    Case("exact", beside="plain", **TINY),
    Case("rough", precision="bfloat16", beside="plain", **TINY),
    Case("plain", way="autograd", **TINY),
    Case("cohort", subjects=2, beside="singly", **TINY),
    Case("singly", way="singly", subjects=2, **TINY),
    Case("tested", testing=True, **TINY),
    Case("larger", units=300, beside="exact", growing=True, **TINY),
]
EVERY_CASE = [case for cases in [*groups(), memory_cases()] for case in cases]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict]:
    measured = pytest.MonkeyPatch()
    measured.setattr(rehearsal, "SAMPLE", 1e-3)
    found = {row["case"]: row for row in measure.timed(TINY_CASES, repeats=3, device="cpu")}
    measured.undo()
    return found


def test_every_row_is_a_fraction_of_the_product_of_its_shape(rows):
    assert list(rows) == [case.name for case in TINY_CASES]
    for row in rows.values():
        speed = 2e-6 * row["multiplications"] / row["milliseconds"]
        assert row["gigaflops"] == pytest.approx(speed)
        assert row["fraction_of_peak"] == pytest.approx(speed / row["product_gigaflops"])
        low, high = row["milliseconds_quartiles"]
        assert 0 < low <= row["milliseconds"] <= high and row["repeats"] == 3
    assert rows["exact"]["product_shape"] == "8x200 by 200x200"
    assert rows["tested"]["product_shape"] == "40x200 by 200x200"
    assert rows["cohort"]["product_shape"] == "2 of 8x200 by 200x200"
    assert rows["larger"]["product_shape"] == "8x300 by 300x300"
    # Compared with a product of the same precision, and of that shape: two cases of one shape share it.
    assert rows["exact"]["product_gigaflops"] == rows["plain"]["product_gigaflops"]
    assert rows["exact"]["product_gigaflops"] != rows["rough"]["product_gigaflops"]


def test_work_done_in_another_way_counts_the_same(rows):
    count = {name: row["multiplications"] for name, row in rows.items()}
    assert count["exact"] == count["rough"] == count["plain"]
    assert count["cohort"] == count["singly"] == 2 * count["exact"]
    # A look, ten labels heard once, and three steps of four images with ten labels, which reach the second area at step
    # 1 and the first at step 2.
    up, down = 4 + 40, 4 + 40 + 40
    assert count["tested"] == 4 * (64 * 200 + 200**2) + 10 * 10 * 200 + (up + down) * 200**2


def test_comparisons(rows):
    time = {name: row["milliseconds"] for name, row in rows.items()}
    assert rows["rough"]["ratio"] == pytest.approx(time["rough"] / time["plain"])
    assert (rows["rough"]["ratio_to"], rows["rough"]["ratio_of"]) == ("plain", "time")
    work = rows["larger"]["multiplications"] / rows["exact"]["multiplications"]
    assert rows["larger"]["ratio"] == pytest.approx(time["larger"] / time["exact"] / work)
    assert rows["larger"]["ratio_of"] == "time/work"
    assert "ratio" not in rows["plain"]


def test_every_case_has_its_name_and_its_comparison_in_its_group():
    assert len({case.name for case in EVERY_CASE}) == len(EVERY_CASE)
    for cases in [*groups(), memory_cases()]:
        names = [case.name for case in cases]
        assert all(case.beside in ("", *names) and case.name.endswith(case.precision) for case in cases)
    assert {"recurrent_2000_float32", "recurrent_2000_testing_bfloat16", "cifar10_3_float32"} <= {
        case.name for case in EVERY_CASE
    }


@pytest.mark.parametrize("case", [case for case in EVERY_CASE if not case.units], ids=lambda case: case.name)
def test_every_case_can_be_counted(case):
    assert measure.multiplications(case) > 0


@pytest.mark.parametrize("name", ["cifar10_2", "cifar10_3", "mnist_feedforward"])
def test_the_models_of_the_benchmark_learn(name):
    """One image, one step: the nets that no protocol uses yet."""
    case = replace(next(case for case in EVERY_CASE if case.model == name), batch=1, steps=1, window=(1, 1))
    for testing in (False, True):
        measure.work(replace(case, testing=testing), "cpu")()


def test_memory_is_that_of_a_fresh_process():
    held = bytearray(600_000_000)  # a process begins with the peak of the one that started it, as ru_maxrss has it
    small, beside = measure.remembered([Case("small", **TINY), Case("again", beside="small", **TINY)], "cpu")
    assert 50 < small["megabytes"] < len(held) / 1e6
    assert beside["ratio"] == pytest.approx(beside["megabytes"] / small["megabytes"])


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command_line.command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(command_line, "groups", lambda: [TINY_CASES[:3], TINY_CASES[3:]])
    monkeypatch.setattr(rehearsal, "SAMPLE", 1e-3)


def test_the_command_writes_what_it_prints(tiny, tmp_path):
    file = tmp_path / "new" / "benchmark.json"
    printed = run("--case", "[ter]*", "--json", str(file))
    report = json.loads(file.read_text())
    assert {"date", "machine", "threads", "torch", "device", "rows"} == set(report)
    assert [row["case"] for row in report["rows"]] == ["exact", "rough", "tested"]
    assert all(table.line(table.cells(row)) in printed for row in report["rows"])
    assert table.line(table.COLUMNS) in printed
    written = table.markdown([file])
    assert table.markdown([file, file]) == f"{written}\n\n{written}"
    assert report["machine"] in written and written.count("\n| ") == 5  # names, a rule, three rows
    assert all(line.count("|") == 7 for line in written.splitlines() if line.startswith("|"))


def test_without_a_checkout_plain_autograd_is_left_out(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "AUTOGRAD", tmp_path / "autograd_update.py")
    printed = run("--case", "[ep]*")
    assert "plain autograd is left out" in printed and "  exact" in printed
    assert "  plain" not in printed and "×" not in printed


def test_an_unknown_case_is_answered_with_those_known():
    with pytest.raises(CortexffError, match=r"no such case; known are recurrent_2000_float32, "):
        CliRunner().invoke(command_line.command, ["--case", "nothing"], catch_exceptions=False)


def test_spikes_are_timed_by_the_presentation(monkeypatch):
    monkeypatch.setattr(rehearsal, "SAMPLE", 1e-3)
    (row,) = measure.spiking(["spikes_digits_torch"], repeats=1)
    assert row["case"] == "spikes_digits_torch" and row["milliseconds"] > 0
    # 64 pixels and 400 units at some 30 Hz for 300 ms, each with 200 or 210 synapses.
    events = row["events_per_second"] * row["milliseconds"] / 1e3
    assert 64 * 200 * 50 * 0.3 * 0.8 < events < 464 * 210 * 50 * 0.3
    assert "M events/s" in table.line(table.cells(row))


@pytest.mark.slow
def test_the_script_by_hand_is_the_same_network(tmp_path):
    """Its counts are those of the twin."""
    net = load_model("digits_recurrent")
    engine = SpikingEngine(net, RateDynamics(), backend="torch")
    state, random = engine.start(0, [0]), np.random.default_rng(0)
    image = length_normalization(torch.from_numpy(random.random((1, 2, 1, 64), dtype=np.float32)))
    label = length_normalization(torch.eye(10)[None, None])
    *_, last = engine.settle(state, engine.look(state, {"retina": image}), {"label": label})
    rows = [array.expand(1, 2, 10, -1).flatten(0, 2).double().numpy() for array in (image, label)]
    script = measure.from_tests(measure.BY_HAND)
    weights = {name: matrix[0].double().numpy() for name, matrix in state.weights.items()}
    script.run(script.compile_script(tmp_path, *rows, weights))
    counted = sorted(
        np.fromfile(file).reshape(20, 200)[1:].sum() for file in tmp_path.glob("results/*monitor*_count_*")
    )
    expected = sorted(last.spikes[area].flatten()[:-1].sum().item() for area in engine.areas)
    assert counted == pytest.approx(expected, rel=1e-3)  # rounding decides a spike now and then


@pytest.mark.slow
def test_quick():
    assert run("--quick").count("ms [") > 10
