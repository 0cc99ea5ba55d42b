"""Constants of spiking units: what they follow from, and what is refused."""

import math
from itertools import pairwise

import pytest

from cortexff.engines.neurons import CEILING, Clockwork, Neurons, check_neurons, first_phases
from cortexff.errors import CortexffError

BIOLOGICAL = Neurons(firing_rate=25, time_constant=40, time_step=2)


@pytest.mark.parametrize("neurons", [Neurons(), Neurons(firing_rate=100), BIOLOGICAL])
def test_a_unit_that_spikes_at_its_firing_rate_has_a_trace_of_one(neurons):
    mean = neurons.per_step * neurons.jump / (1.0 - neurons.keep)  # what comes in a time step, over what goes
    assert mean == pytest.approx(1.0)


@pytest.mark.parametrize("neurons", [Neurons(), BIOLOGICAL])
@pytest.mark.parametrize("damping", [0.3, 0.5])
def test_an_iteration_is_the_time_in_which_a_trace_falls_to_the_damping(neurons, damping):
    clock = Clockwork.of(neurons, damping, areas=2, steps=8)
    left = math.exp(-clock.iteration * neurons.time_step / neurons.time_constant)
    assert left == pytest.approx(damping, abs=0.03)
    assert clock.whole == clock.bottom_up + clock.half + 8 * clock.iteration


def test_the_constants_that_come_by_default_are_taken():
    for neurons in (Neurons(), BIOLOGICAL, Neurons(neuron="leaky"), Neurons(firing_rate=100)):
        check_neurons(neurons, 0.3, alternating=False)


@pytest.mark.parametrize(
    "settings, damping, alternating, named, cure",
    [
        ({"firing_rate": 200}, 0.3, False, "engine.spiking.firing_rate 200 Hz", {"time_step": 0.5}),
        ({"firing_rate": 130}, 0.3, False, "engine.spiking.time_step 0.76 or less", {"time_step": 0.76}),
        (
            {"time_step": 9, "firing_rate": 10},
            0.3,
            False,
            "engine.spiking.time_step 9 ms is too long",
            {"time_step": 6},
        ),
        ({"neuron": "leaky", "refractory": 3}, 0.3, False, "engine.spiking.refractory 3 ms", {"refractory": 1.0}),
        (
            {"neuron": "leaky", "membrane_time_constant": 1},
            0.3,
            False,
            "engine.spiking.membrane_time_constant 1 ms does not last",
            {"membrane_time_constant": 2},
        ),
        (
            {"neuron": "leaky", "time_step": 2, "firing_rate": 20},
            0.3,
            False,
            "refractory 1 ms is no whole number of time steps of 2 ms: give 2",
            {"refractory": 2},
        ),
        ({}, 0.0, False, "engine.damping is 0", None),
        ({}, 0.3, True, "engine.alternating", None),
    ],
)
def test_what_spikes_cannot_stand_for_is_refused_with_a_value_that_would_do(
    settings, damping, alternating, named, cure
):
    with pytest.raises(CortexffError, match=named):
        check_neurons(Neurons(**settings), damping, alternating)
    if cure is not None:
        check_neurons(Neurons(**{**settings, **cure}), damping, alternating)


def test_a_ceiling_is_a_spike_in_every_time_step_or_after_every_refractory_period():
    assert Neurons(firing_rate=100).ceiling == CEILING
    assert Neurons(neuron="leaky", firing_rate=50).ceiling == CEILING


def test_first_phases_are_spread_evenly():
    phases = sorted(first_phases(200))
    gaps = [late - early for early, late in pairwise(phases)]
    assert phases[0] >= 0.0 and phases[-1] < 1.0
    assert max(gaps) < 3.0 / 200
