"""Trials come back as they were written, and other people's readers find their spikes."""

import dataclasses
import warnings

import numpy as np
import pytest

from cortexff import sonata
from cortexff.log import Log, Variable, open_file, open_results
from cortexff.sonata import SAMPLE, Trial

UNITS = {"retina": 6, "V1": 5, "V2": 4, "label": 3}
DIMENSIONS = {"subject": range(2), "area": ["V1", "V2"], "label": range(3)}


def trial(seed: int, duration: float = 61.5, step: float = 0.5) -> Trial:
    """Random spikes on a grid of time steps, as an engine leaves them."""
    random = np.random.default_rng(seed)
    spikes = {}
    for area, units in UNITS.items():
        time, unit = np.nonzero(random.random((round(duration / step), units)) < 0.1 * (seed % 4))  # some have none
        spikes[area] = (time * step, unit)
    traces = {area: random.random((sonata.samples_of(duration), UNITS[area])).astype("f4") for area in ("V1", "V2")}
    about = {
        "subject_number": 0,
        "image_set": "test",
        "stimulus": seed,
        "true_label": seed % 3,
        "shown_label": (seed + 1) % 3,
    }
    times = {"label_at": 20.5, "duration": duration, "read_from": 30.0, "read_until": 54.0, "iteration": 24.0}
    return Trial("max", f"c{seed % 2}", **about, **times, spikes=spikes, traces=traces)


def new_log(path) -> Log:
    return Log.create(path, {"seed": 0}, DIMENSIONS)


def kept(path) -> list[Trial]:
    with open_file(path) as file:
        return list(sonata.trials(file))


def assert_same(found: list[Trial], wanted: list[Trial]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        scalars = [f.name for f in dataclasses.fields(Trial) if f.name not in ("spikes", "traces")]
        assert [getattr(one, name) for name in scalars] == [getattr(other, name) for name in scalars]
        for area, pair in other.spikes.items():
            for mine, theirs in zip(one.spikes[area], pair, strict=True):
                np.testing.assert_array_equal(mine, theirs)
        for area, traces in other.traces.items():
            np.testing.assert_array_equal(one.traces[area], traces)


@pytest.mark.parametrize("duration", [60.0, 61.5, 64.5, 300.0])
def test_trials_come_back_as_they_were(tmp_path, duration):
    written = [trial(seed, duration) for seed in range(6)]
    with new_log(tmp_path / "run.h5") as log:
        for one in written:
            sonata.append(log, one)
    assert_same(kept(tmp_path / "run.h5"), written)
    with open_file(tmp_path / "run.h5") as file:
        start, stop = (file["trials"][name][:] for name in ("start", "stop"))
        assert (start % SAMPLE == 0).all() and (start[1:] > stop[:-1]).all()
        for group in file["spikes"].values():
            assert (np.diff(group["timestamps"][:]) >= 0).all()


def test_each_area_has_a_name_of_its_own_in_the_file_and_comes_back_by_the_one_it_has(tmp_path):
    """``label`` is a dimension, so it goes by ``label_area``, which another area may be called."""
    one = trial(3)
    spikes = {"label_area": one.spikes["V2"], **one.spikes, "area": one.spikes["V1"]}
    one = dataclasses.replace(one, spikes=spikes, traces={"area": one.traces["V1"], "V2": one.traces["V2"]})
    with new_log(tmp_path / "run.h5") as log:
        for _ in range(2):
            sonata.append(log, one)
    assert_same(kept(tmp_path / "run.h5"), [one, one])
    with open_results(tmp_path / "run.h5") as tree:
        assert set(tree["spikes"].children) == {"retina", "V1", "V2", "label_area", "label_area_area", "area_area"}


def test_of_a_file_without_spikes_there_are_no_trials(tmp_path):
    with new_log(tmp_path / "run.h5") as log:
        sonata.truncate(log, 0)
    assert kept(tmp_path / "run.h5") == []


def test_trials_since_the_checkpoint_are_forgotten(tmp_path):
    with new_log(tmp_path / "run.h5") as log:
        for seed in range(5):
            sonata.append(log, trial(seed))
    with Log.reopen(tmp_path / "run.h5") as log:
        sonata.truncate(log, 3)
        sonata.append(log, trial(7))
    assert_same(kept(tmp_path / "run.h5"), [trial(seed) for seed in (0, 1, 2, 7)])
    with Log.reopen(tmp_path / "run.h5") as log:
        sonata.truncate(log, 0)
        sonata.append(log, trial(8))
    assert_same(kept(tmp_path / "run.h5"), [trial(8)])


def test_a_trial_that_was_cut_short_leaves_nothing(tmp_path):
    """Killed between the spikes and the table, or between two areas."""
    with new_log(tmp_path / "run.h5") as log:
        for seed in range(3):
            sonata.append(log, trial(seed))
        log.truncate("trials", 2)
        log.file["report/V2/data"].resize(1000, axis=0)
    with Log.reopen(tmp_path / "run.h5") as log:
        sonata.append(log, trial(9))
    assert_same(kept(tmp_path / "run.h5"), [trial(seed) for seed in (0, 1, 9)])


@pytest.fixture
def path(tmp_path):
    """A file of its own for each reader: some never close it, and others may then not open it in their way."""
    path = tmp_path / "run.h5"
    with new_log(path) as log:
        log.declare("max/control", variables={"x": Variable(("probe",), "1", "x")})
        log.append("max/control", {"x": 1.0})
        for seed in range(1, 6):
            sonata.append(log, trial(seed))
    return path


def test_libsonata_reads_spikes_and_traces(path):
    libsonata = pytest.importorskip("libsonata")
    spikes = libsonata.SpikeReader(path)
    assert set(spikes.get_population_names()) == {"retina", "V1", "V2", "label_area"}
    with open_file(path) as file:
        start, stop = (file["trials"][name][2] for name in ("start", "stop"))
    v1 = spikes["V1"]
    assert v1.sorting == "by_time"
    times, units = trial(3).spikes["V1"]
    assert v1.get(tstart=start, tstop=stop - 0.1) == list(zip(units, start + times, strict=True))
    assert v1.get(node_ids=[2], tstart=start, tstop=stop - 0.1) == [(2, start + t) for t in times[units == 2]]
    traces = libsonata.SomaReportReader(path)
    assert set(traces.get_population_names()) == {"V1", "V2"}
    v2 = traces["V2"]
    assert (v2.time_units, v2.data_units, v2.sorted, v2.get_node_ids()) == ("ms", "activity", True, list(range(4)))
    assert v2.times == (0.0, 5 * sonata.samples_of(61.5) * SAMPLE, SAMPLE)
    found = v2.get(tstart=start, tstop=start + (sonata.samples_of(61.5) - 1) * SAMPLE)
    np.testing.assert_array_equal(found.data, trial(3).traces["V2"])


def test_bmtk_reads_spikes(path):
    spike_trains = pytest.importorskip("bmtk.utils.reports.spike_trains")
    from bmtk.utils.sonata.utils import check_magic

    with open_file(path) as file:
        assert check_magic(file)
        starts = file["trials/start"][:]
    trains = spike_trains.SpikeTrains.load(str(path))
    assert set(trains.populations) == {"retina", "V1", "V2", "label_area"}
    expected = []
    for start, one in zip(starts, (trial(seed) for seed in range(1, 6)), strict=True):
        times, units = one.spikes["V1"]
        expected += list(start + times[units == 2])
    assert expected and list(trains.get_times(2, population="V1")) == expected


def test_xarray_opens_a_file_with_spikes_without_a_warning(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_results(path) as tree:
            assert tree["spikes/V1"]["timestamps"].dims == ("spike",)
            assert tree["report/V1"]["data"].dims == ("sample", "unit")
            assert tree["trials"].to_dataset().sel(trial=2)["stimulus"] == 3
            assert tree["max/control"]["x"].values == 1.0
