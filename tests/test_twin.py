"""Spikes in PyTorch: rates of single units, traces, and that presentations do not disturb each other."""

import numpy as np
import pytest
import torch
from scenes import model, project

from cortexff.engines.neurons import FLOOR, Clockwork, Neurons
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateDynamics
from cortexff.engines.twin import Membranes, Simulation
from cortexff.equations.normalization import length_normalization

KINDS = {
    "integrate and fire": Neurons(),
    "biological": Neurons(firing_rate=25, time_constant=40, time_step=2),
    "leaky": Neurons(neuron="leaky"),
    "leaky, slow": Neurons(neuron="leaky", firing_rate=25, time_constant=40, time_step=2, refractory=2),
}
every_kind = pytest.mark.parametrize("neurons", KINDS.values(), ids=KINDS)


def spikes_of(neurons: Neurons, drive: torch.Tensor, seconds: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Spikes of units with constant drives, their mean traces in the second half of the time, and how long it was."""
    clock = Clockwork.of(neurons, 0.3, 1, 1)
    units = Membranes(neurons, clock, (1, 1, 1, len(drive)), torch.device("cpu"))
    count, trace, seen = torch.zeros(len(drive)), torch.zeros(len(drive)), []
    for number in range(round(1000 * seconds / neurons.time_step / clock.half) * clock.half):
        units.integrate(number % clock.half, drive.view(1, 1, 1, -1))
        now = units.traces[0, number % clock.half, 0, 0]
        count += ((now - trace * neurons.keep) / neurons.jump).round()
        trace = now.clone()
        seen.append(trace)
    assert units.spikes.item() == count.sum()
    return count, torch.stack(seen[len(seen) // 2 :]).mean(0), len(seen) * neurons.time_step / 1000.0


@every_kind
def test_the_firing_rate_is_the_drive_to_one_spike(neurons):
    drive = torch.linspace(0.1, neurons.ceiling, 100)
    count, trace, lasted = spikes_of(neurons, drive, seconds=2.0)
    assert (count - lasted * neurons.firing_rate * drive).abs().max() < 1.0 + 1e-3
    # In the half of the time that is looked at, there may be a spike more or less too.
    allowed = neurons.jump * neurons.time_constant / 1000.0
    assert (trace - drive).abs().max() < 2.0 * allowed


@every_kind
def test_without_drive_nobody_spikes(neurons):
    count, trace, _ = spikes_of(neurons, torch.zeros(20), seconds=0.5)
    assert count.sum() == 0 and trace.abs().max() == 0


AREAS = {
    "retina": {"role": "input", "units": 20},
    "V1": {"units": 30},
    "V2": {"units": 20},
    "label": {"role": "context", "units": 4},
}
PROJECTIONS = [
    project("retina", "V1"),
    project("V1", "V2"),
    project("V2", "V1", "top_down"),
    project("label", "V2", "top_down"),
]


def engine_of(neurons: Neurons = KINDS["integrate and fire"]) -> SpikingEngine:
    return SpikingEngine(model(AREAS, PROJECTIONS), RateDynamics(steps=4), neurons, "torch")


def images_of(cases: int, subjects: int = 1) -> dict[str, torch.Tensor]:
    found = np.random.default_rng(0).random((subjects, cases, 1, 20), dtype=np.float32)
    return {"retina": torch.from_numpy(found)}


@every_kind
def test_each_subject_case_and_version_is_simulated_as_if_alone(neurons):
    engine, images = engine_of(neurons), images_of(3)
    state, labels = engine.start(0, [0, 1]), torch.eye(4)[None, None]

    def last(state, images, labels):
        *_, moment = engine.settle(state, engine.look(state, {"retina": images}), {"label": labels})
        return moment.activity["V2"], moment.spikes["V2"]

    together, spikes = last(state, images["retina"], labels)
    alone, their_spikes = last(state.select([1]), images["retina"][:, 2:], labels[:, :, 3:])
    assert together.shape == (2, 3, 4, 20)
    torch.testing.assert_close(alone[0, 0, 0], together[1, 2, 3], rtol=0, atol=1e-5)
    assert their_spikes.item() == spikes[1, 2, 3]


def test_going_on_with_a_label_leaves_what_was_begun_as_it_was():
    engine, images = engine_of(), images_of(2)
    state = engine.start(0, [0])
    percept = engine.look(state, images)
    evoked = {area: activity.clone() for area, activity in percept.activity.items()}
    both = [
        [moment.activity["V1"].clone() for moment in engine.settle(state, percept, {"label": torch.eye(4)[None, None]})]
        for _ in range(2)
    ]
    for one, other in zip(*both, strict=True):
        assert torch.equal(one, other)
    for area, activity in percept.activity.items():
        assert torch.equal(activity, evoked[area])


def test_what_is_sent_arrives_half_an_iteration_later():
    engine = engine_of()
    state = engine.start(0, [0])
    for bias in state.biases.values():
        bias.fill_(-0.01)  # nothing moves before something arrives
    simulation = Simulation(engine, state, {"retina": torch.full((1, 1, 1, 20), 2.0)})
    moved = []
    for _ in range(3):
        moved.append(
            {area: trace.abs().max().item() for area, trace in simulation.advance(bottom_up_only=True).items()}
        )
    assert moved[0]["V1"] == 0.0 and moved[1]["V1"] > 0.0
    assert moved[1]["V2"] == 0.0


def test_an_area_is_divided_by_the_length_of_its_traces_down_to_a_floor():
    engine = engine_of()
    simulation = Simulation(engine, engine.start(0, [0]), {"retina": torch.ones(1, 1, 1, 20)})
    assert simulation._gain("V1", 0).item() == pytest.approx(FLOOR**-0.5)
    trace = torch.rand(1, 1, 1, 30) + 0.5
    simulation.units["V1"].before.copy_(trace)
    assert simulation._gain("V1", 0).item() == pytest.approx(trace.square().mean().item() ** -0.5)


@every_kind
def test_a_recording_has_the_spikes_that_are_counted(neurons):
    """Of hidden areas as the last moment counts them, of clamped ones at the rate that they are clamped to."""
    engine, images, labels = engine_of(neurons), images_of(3), {"label": torch.eye(4)[None, None]}
    state = engine.start(0, [0, 1])
    seen = engine.record(state, images, labels)
    *_, last = engine.settle(state, engine.look(state, images), labels)
    step = neurons.time_step / 1000.0
    for area, units in engine.units.items():
        assert seen.spikes[area].shape == (2, 3, 4, engine.clock.whole, units) and seen.spikes[area].dtype == torch.bool
        if area in engine.areas:
            assert torch.equal(seen.spikes[area].sum((-1, -2)), last.spikes[area].long())
            # Traces are what spikes leave behind.
            trace = torch.zeros_like(seen.traces[area][..., 0, :])
            for time in range(engine.clock.whole):
                trace = neurons.keep * trace + neurons.jump * seen.spikes[area][..., time, :]
                torch.testing.assert_close(seen.traces[area][..., time, :], trace, rtol=0, atol=1e-4)
    pixels = length_normalization(images["retina"][0, :, 0])
    count = seen.spikes["retina"][0, :, 0].sum(1)
    assert (count - neurons.firing_rate * pixels * engine.clock.whole * step).abs().max() <= 1.0
    assert not seen.spikes["label"][..., : seen.label_at, :].any()
    assert (seen.spikes["label"].any(-2) == torch.eye(4, dtype=torch.bool)).all()
