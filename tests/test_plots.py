"""A sheet is drawn from any log of a run, shows what it says, and is the same each time."""

import itertools
import json

import numpy as np
import pytest
from test_separation import planted

from cortexff import plots, sonata
from cortexff.errors import CortexffError
from cortexff.graph import Goodness, load_model
from cortexff.log import Log, open_file
from cortexff.plots.page import interval_of
from cortexff.plots.spikes import goodness_in_time
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.probe import STIMULUS_VARIABLES
from cortexff.protocol.rows import measured, row_variables

AREAS, LABELS, STIMULI = ["V1", "V2"], 10, 30
TIMES = 40.0, 98.0, 52.0, 76.0, 24.0  # of a trial
COURSE, SLEEP, ONCE = (0, 1, 2, 5, 10, 20, 50, 100), (0, 1, 2, 5), (0,)


def write_log(path, name, conditions, subjects, spoil=None):
    """A log like that of a run, with random numbers in it.

    conditions  name -> updates at which it was probed
    spoil       changes the value that a probe found: (variable, condition, update, value) -> value
    """
    protocol = load_protocol(name, "quick", {"--subjects": {"subjects": subjects}})
    random = np.random.default_rng(0)
    model = load_model(protocol.model)
    provenance = {
        "title": protocol.title,
        "protocol_name": name,
        "preset": "quick",
        "settings": protocol.model_dump_json(by_alias=True),
        "model": model.graph["text"],
        "versions": json.dumps({"cortexff": "0.1.0"}),
        "git_commit": "",
        "seed": 0,
    }
    sizes = {"subject": subjects, "area": len(AREAS), "block": 1, "label": LABELS, "stimulus": STIMULI, "step": 8}
    dimensions = {"subject": range(subjects), "area": AREAS, "block": [0], "label": range(LABELS), "step": range(1, 9)}
    with Log.create(path, provenance, dimensions) as log:
        for group, updates in ((f"{v}/{c}", updates) for v in protocol.variants for c, updates in conditions.items()):
            condition = group.split("/")[1]
            log.declare(group, variables=row_variables(protocol, condition))
            for update in updates:
                variables = measured(protocol, condition).items()
                row = {n: random.random([sizes[dim] for dim in v.dims[1:]]) / 2 for n, v in variables}
                row = {n: spoil(n, condition, update, value) if spoil else value for n, value in row.items()}
                lived = dict.fromkeys(("age", "positive_updates", "negative_updates"), np.full(subjects, update))
                log.append(group, {"update": update, "stage": "", **lived, **row})
            goodness = {n: 200 * random.random([sizes[dim] for dim in v.dims]) for n, v in STIMULUS_VARIABLES.items()}
            goodness["true_label"] = np.arange(STIMULI) % LABELS
            for variable, values in goodness.items():
                log.write(group, variable, values, STIMULUS_VARIABLES[variable])
    return path


def baseline_log(path, subjects=3, spoil=None):
    return write_log(path, "backprop_baseline", {"development": (0, 96, 192), "test": ONCE}, subjects, spoil)


def sleep_log(path, subjects=3, spoil=None):
    conditions = {"control": COURSE, "frozen": (0, 100), "deprived": COURSE, "recovered": SLEEP, "overslept": SLEEP}
    return write_log(path, "sleep_deprivation", conditions, subjects, spoil)


def learning_log(path, subjects=3, spoil=None):
    return write_log(path, "recurrent", {"development": (0, 96, 192), "test": ONCE}, subjects, spoil)


def drawn(log):
    """The text of the SVG; both pictures are there and not empty."""
    png, svg = plots.draw(log)[:2]
    assert (png, svg) == (log.with_suffix(".png"), log.with_suffix(".svg"))
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 20_000
    return svg.read_text()


@pytest.mark.parametrize("subjects", [1, 3])
def test_the_sleep_sheet(tmp_path, subjects):
    text = drawn(sleep_log(tmp_path / "run.h5", subjects))
    words = [
        f"sleep_deprivation, preset quick, {subjects} subject",
        "max: high activity on real data",
        "cortexff 0.1.0",
    ]
    words += [
        "min: low activity on real data",
        "Hallucinations,",
        "noise (%)",
        "goodness (%)",
        "d′ (SD)",
        "Criterion c",
    ]
    words += ["real data missed", "Goodness / threshold θ (below 1: called real)", "overslept", "frozen: no plasticity"]
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("subjects", [1, 3])
def test_learning_curves(tmp_path, subjects):
    text = drawn(learning_log(tmp_path / "run.h5", subjects))
    words = ["recurrent, preset quick", "development (validation images)", "test (test images): ", "max: error (%)"]
    assert [word for word in words if word not in text] == []


def test_a_net_without_goodness_has_one_curve(tmp_path):
    text = drawn(baseline_log(tmp_path / "run.h5"))
    words = ["Label by the one-pass softmax", "plain: error (%)", "dropout: error (%)", "label_smoothing: error (%)"]
    assert [word for word in words if word not in text] == []
    assert "Label of highest goodness" not in text


def test_measures_that_were_asked_for_have_sheets_of_their_own(tmp_path):
    """§3.4's oscillations and §3.5's cancellation, each variant and area."""
    names = [path.name for path in plots.draw(learning_log(tmp_path / "run.h5"))]
    assert names == ["run.png", "run.svg", "run_oscillation.png", "run_oscillation.svg"]
    text = (tmp_path / "run_oscillation.svg").read_text()
    assert [word for word in (*AREAS, "max", "Reversal", "Step") if word not in text] == []
    log = write_log(tmp_path / "two.h5", "predictive_coding", {"development": (0, 96), "test": ONCE}, 2)
    assert tmp_path / "two_agreement.svg" in plots.draw(log)
    text = (tmp_path / "two_agreement.svg").read_text()
    words = [*AREAS, "min", "max", "min other context", "real data", "wrong label", "noise", "they cancel"]
    assert [word for word in words if word not in text] == []


def test_spikes_have_a_sheet_beside_the_rates_that_they_stand_for(tmp_path):
    conditions = dict.fromkeys(("development", "rates", "spikes", "leaky"), ONCE)
    log = write_log(tmp_path / "run.h5", "rate_vs_spiking", conditions, 3)
    assert tmp_path / "run_spikes.svg" in plots.draw(log)
    text = (tmp_path / "run_spikes.svg").read_text()
    words = [
        "Error − rates (points)",
        "Firing rate (Hz)",
        "Correlation with rates",
        "spikes",
        "leaky",
        "Poisson",
    ]
    words += ["Synchrony χ²", "Irregularity CV2", "OFF share of time", "Spikes/decision", *AREAS]
    assert [word for word in words if word not in text] == []
    assert ">rates<" not in text


def test_spikes_of_a_run_before_single_ones_were_measured_are_drawn(tmp_path):
    log = write_log(tmp_path / "run.h5", "rate_vs_spiking", dict.fromkeys(("rates", "spikes"), ONCE), 3)
    with open_file(log, "r+") as file:
        for name in ("synchrony", "irregularity", "off_share", "spikes_to_decision"):
            del file[f"max/spikes/{name}"]
    plots.draw(log)
    text = (tmp_path / "run_spikes.svg").read_text()
    assert "Firing rate (Hz)" in text and "Synchrony" not in text


def test_spikes_that_were_kept_have_a_sheet(tmp_path):
    """A label is shown as true and as wrong; areas that the file knows by another name are drawn too."""
    conditions = dict.fromkeys(("development", "rates", "spikes", "leaky"), ONCE)
    path = write_log(tmp_path / "run.h5", "rate_vs_spiking", conditions, 3)
    random = np.random.default_rng(0)
    with Log.reopen(path) as log:
        for condition, stimulus, shown in itertools.product(("spikes", "leaky"), (0, 1), (0, 1)):
            times = np.sort(random.random(400) * 90)
            spikes = {area: (times, random.integers(0, 10, 400)) for area in ("retina", *AREAS, "label")}
            traces = {area: random.random((20, 200)) for area in AREAS}
            trial = sonata.Trial("max", condition, 0, "test", stimulus, 0, shown, *TIMES, spikes, traces)
            sonata.append(log, trial)
    assert tmp_path / "run_raster.svg" in plots.draw(path)
    text = (tmp_path / "run_raster.svg").read_text()
    words = ["spikes", "leaky", "retina", *AREAS, "label", "V1, true label", "V2, wrong label", "Goodness / θ", "ms"]
    words += ["(above 1: called real)", "100/200", "grey: read out", "its true label 0"]
    assert [word for word in words if word not in text] == []
    assert "label_area" not in text


@pytest.mark.parametrize("measure", ["sum_of_squares", "mean_square"])
def test_goodness_in_time_is_that_of_the_traces_mean_in_an_iteration(measure):
    """Of a trace that swings within an iteration and not from one to the next; in blocks, divided by θ."""
    swinging = np.tile([1.0, 3.0, 2.0, 1.5, 2.5], 8)[:, None] * np.array([1.0, 2.0, 0.0, 0.0])
    spikes = {"V1": (np.array([]), np.array([]))}
    trial = sonata.Trial("max", "c", 0, "test", 0, 0, 0, 50.0, 198.0, 60.0, 85.0, 25.0, spikes, {"V1": swinging})
    settings = Goodness(measure, "max", threshold=2.0, temperature=1.0, blocks=2)
    times, found = goodness_in_time([trial, trial], "V1", settings)
    assert times[[0, -1]].tolist() == [10.0, 185.0] and found.shape == (2, 36)
    of_block = (2.0**2 + 4.0**2) / (1 if measure == "sum_of_squares" else 2)
    np.testing.assert_allclose(found, (of_block + 0.0) / 2 / 2.0)


def test_spikes_that_an_earlier_version_kept_are_left_out(tmp_path):
    path = write_log(tmp_path / "run.h5", "rate_vs_spiking", dict.fromkeys(("rates", "spikes"), ONCE), 3)
    with Log.reopen(path) as log:
        spikes, traces = {"V1": (np.array([1.0]), np.array([0]))}, {"V1": np.ones((20, 200))}
        sonata.append(log, sonata.Trial("max", "spikes", 0, "test", 0, 0, 0, *TIMES, spikes, traces))
        del log.file["trials/image_set"]
        with pytest.raises(CortexffError, match="earlier version, without image_set: run it again"):
            list(sonata.trials(log.file))
    assert tmp_path / "run_spikes.svg" in plots.draw(path)
    assert not (tmp_path / "run_raster.svg").exists()


def test_spikes_of_a_run_that_is_still_writing_are_drawn(tmp_path):
    path = write_log(tmp_path / "run.h5", "rate_vs_spiking", dict.fromkeys(("rates", "spikes"), ONCE), 3)
    with Log.reopen(path) as log:
        spikes = {area: (np.array([1.0]), np.array([0])) for area in AREAS}
        traces = {area: np.ones((20, 200)) for area in AREAS}
        sonata.append(log, sonata.Trial("max", "spikes", 0, "test", 0, 0, 0, *TIMES, spikes, traces))
    plots.draw(path)
    text = (tmp_path / "run_raster.svg").read_text()
    assert "V1, true label" in text and "V1, wrong label" not in text


@pytest.mark.parametrize("write", [sleep_log, learning_log])
def test_the_same_run_draws_the_same_file(tmp_path, write):
    log = write(tmp_path / "run.h5", subjects=2)
    pictures = [[path.read_bytes() for path in plots.draw(log)] for _ in range(2)]
    assert pictures[0] == pictures[1]


def test_the_mean_and_its_interval_leave_a_gap_where_a_subject_has_no_value():
    gap, whole = interval_of(np.array([1.0, np.nan])), interval_of(np.array([1.0, 2.0, 3.0]))
    assert np.isnan([gap.mean, gap.low, gap.high]).all() and gap.n == 2
    assert whole.mean == 2 and whole.low < 1 and whole.high > 3


@pytest.mark.parametrize("write", [sleep_log, learning_log])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_values_that_are_not_finite_or_all_the_same_are_drawn(tmp_path, write, value):
    """One subject diverges halfway, and one metric of all of them throughout."""

    def spoil(name, condition, update, found):
        found = found.copy()
        found[..., : 1 if update >= 2 else 0] = value
        return np.full_like(found, value) if name in ("dprime", "err_goodness") else found

    drawn(write(tmp_path / "run.h5", spoil=spoil))


@pytest.mark.parametrize("worst", [0.9, np.nan])
def test_phases_that_were_separated_have_a_map_of_their_own(tmp_path, worst):
    """Also where the networks of some cells have diverged."""
    log = planted(tmp_path / "run.h5", lambda block, rate, tau: 0.03 if block * rate < 10 else worst)
    text = drawn(log)
    assert "updates" in text and "≤ 0.5" in text and ("lost" in text) == np.isnan(worst)


def test_goodness_without_a_finite_value_is_drawn(tmp_path):
    log = sleep_log(tmp_path / "run.h5", subjects=1)
    with Log.reopen(log) as opened:
        for name, value in (("goodness_by_stimulus", np.nan), ("goodness_by_noise", np.inf)):
            variable = STIMULUS_VARIABLES[name]
            shape = (1, STIMULI, LABELS, len(AREAS)) if "label" in variable.dims else (1, STIMULI, len(AREAS))
            opened.write("max/deprived", name, np.full(shape, value), variable)
    drawn(log)


def test_a_run_that_stopped_early_is_drawn_as_far_as_it_went(tmp_path):
    drawn(write_log(tmp_path / "run.h5", "sleep_deprivation", {"development": (0, 96), "control": COURSE}, 2))


def test_a_log_without_probes_is_refused(tmp_path):
    with pytest.raises(CortexffError, match="holds no probes to draw"):
        plots.draw(write_log(tmp_path / "run.h5", "recurrent", {}, 1))
