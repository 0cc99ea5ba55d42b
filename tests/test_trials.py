"""Every spike of a presentation is kept in its place, and what is measured is measured on those."""

import numpy as np
import pytest
import torch
from test_spiking import EVERYTHING, digits

from cortexff.analysis import spike_trains
from cortexff.engines.neurons import Neurons
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateDynamics
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.trials import MEASURED, of_real_data, trials
from cortexff.sonata import SAMPLE, samples_of

CONTEXT = Presentation("context", "retina", "label", (8, 8), 10, 6)
IMAGES, LABELS = digits(30)["retina"][0, :, 0], torch.arange(30) % 10


def engine_of(neurons: Neurons | None = None) -> SpikingEngine:
    return SpikingEngine(EVERYTHING, RateDynamics(steps=4), neurons or Neurons(), "torch")


def test_what_is_measured_is_measured_since_the_first_step_that_is_read():
    engine = engine_of()
    state, count = engine.start(0, [0, 1]), 9  # more than at once
    found = of_real_data(engine, state, CONTEXT, IMAGES[:count], LABELS[:count], first_step=2)
    seen = engine.record(state, *CONTEXT.labelled(IMAGES[None, :count], LABELS[None, :count, None]))
    begin = engine.clock.whole - 3 * engine.clock.iteration  # three of four steps
    for place, area in enumerate(engine.areas):
        spikes, traces = (part[area][:, :, 0, begin:].numpy() for part in (seen.spikes, seen.traces))
        np.testing.assert_allclose(found["synchrony"][:, place], spike_trains.synchrony(traces).mean(1), rtol=1e-5)
        for subject in (0, 1):
            assert found["irregularity"][subject, place] == spike_trains.irregularity(spikes[subject])
            blocks = 4 if area == "V2" else 1
            expected = spike_trains.off_share(spikes[subject], blocks, engine.clock.half)
            assert found["off_share"][subject, place] == expected
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(found, (2, 3))


def test_areas_that_hardly_spike_have_what_can_be_known():
    engine = engine_of()
    state = engine.start(0, [0, 1])
    for array in (*state.weights.values(), *state.biases.values()):
        array[1] = 0.0
    found = of_real_data(engine, state, CONTEXT, IMAGES[:3], LABELS[:3], 1)
    for values in found.values():
        assert np.isfinite(values[0]).all() and np.isnan(values[1]).all()


def test_no_more_than_so_many_images_are_measured():
    engine = engine_of()
    state = engine.start(0, [0])
    one, other = (of_real_data(engine, state, CONTEXT, IMAGES[:n], LABELS[:n], 1) for n in (MEASURED, 30))
    for name, values in one.items():
        np.testing.assert_array_equal(other[name], values)


@pytest.mark.parametrize("neurons", [Neurons(), Neurons(firing_rate=25, time_constant=40, time_step=2)])
def test_an_image_is_kept_with_its_label_and_with_the_one_after_it(neurons):
    engine = engine_of(neurons)
    state = engine.start(0, [3])
    kept = list(trials(engine, state, CONTEXT, IMAGES[8:10], LABELS[8:10], "max", "control", 3, "test", (2, 4)))
    assert [(one.stimulus, one.true_label, one.shown_label) for one in kept] == [
        (0, 8, 8),
        (0, 8, 9),
        (1, 9, 9),
        (1, 9, 0),
    ]
    seen = engine.record(state, *CONTEXT.labelled(IMAGES[None, 9:10], torch.tensor([[[0]]])))
    last, step = kept[-1], neurons.time_step
    assert (last.variant, last.condition, last.subject_number) == ("max", "control", 3)
    assert (last.label_at, last.duration) == (engine.clock.bottom_up * step, engine.clock.whole * step)
    assert last.image_set == "test" and last.read_until == last.duration  # the last of four steps
    assert last.read_from == last.read_until - 3 * last.iteration
    for area, (times, units) in last.spikes.items():
        raster = np.zeros((engine.clock.whole, engine.units[area]), dtype=bool)
        raster[np.rint(times / step).astype(int), units] = True
        np.testing.assert_array_equal(raster, seen.spikes[area][0, 0, 0].numpy())
    for area, traces in last.traces.items():
        assert len(traces) == samples_of(last.duration) and (traces[0] == 0).all()
        # At 20 * SAMPLE so many time steps are over.
        np.testing.assert_array_equal(traces[20], seen.traces[area][0, 0, 0, round(20 * SAMPLE / step) - 1].numpy())
