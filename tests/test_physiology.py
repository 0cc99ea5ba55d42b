"""Every measure of a network's physiology is what its definition says, worked out here in plain numpy."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from brain_by_hand import AREAS, CLAMPED, LABELS, MODEL, PIXELS, STEPS, Brain, cohort, engine_of, feed_forward

from cortexff.engines.rate import RateEngine
from cortexff.engines.state import RateDynamics
from cortexff.graph import parse_model
from cortexff.protocol import physiology
from cortexff.protocol.physiology import (
    EXCESS,
    PULSE,
    VARIABLES,
    louder,
    measure,
    participation_ratio,
    pulse_response,
)
from cortexff.random_streams import generator

CASES, WINDOW, SUBJECTS = 12, (3, 5), [0, 2, 5]
UNITS = {"V1": 8, "V2": 6}


def stimuli() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.random((CASES, PIXELS), dtype=np.float32))
    return images, torch.from_numpy(random.integers(0, LABELS, CASES))


def found_by(engine: RateEngine, subjects=SUBJECTS) -> dict[str, np.ndarray]:
    return measure(engine, cohort(engine, list(subjects)), CLAMPED, *stimuli(), 0, list(subjects), WINDOW)


def by_hand(brain_of, subject: int) -> dict[str, np.ndarray]:
    """Every measure of one subject but the gain."""
    brain, (images, labels) = brain_of(1.0), (array.double().numpy() for array in stimuli())
    settled = [brain.watch([x] * STEPS, int(k)) for x, k in zip(images, labels, strict=True)]
    evoked = {gain: [brain_of(gain).pass_up(x) for x in images] for gain in (0.9, 1.1)}
    found: dict[str, list] = {name: [] for name in VARIABLES if "area" in VARIABLES[name].dims}
    for area in AREAS:
        activity = np.array([[y[area] for y in steps] for steps in settled])  # (cases, steps, units)
        low, high = (np.mean([y[area] for y in evoked[gain]]) for gain in (0.9, 1.1))
        found["evoked_slope"].append((high - low) / 0.2)
        pulse = np.zeros(UNITS[area])
        pulse[generator(0, subject, f"pulse/{area}").choice(UNITS[area], 1, replace=False)] = PULSE
        moved = []
        for x, k, reference in zip(images, labels, settled, strict=True):
            steps = brain.watch([x] * STEPS, int(k), {area: pulse}, at=3)
            moved.append(sum(np.abs(steps[t][area] - reference[t][area]).mean() for t in (3, 4)) / PULSE)
        found["pulse_response"].append(np.mean(moved))
        eigenvalues = np.linalg.eigvalsh(np.cov(activity[:, 2:5].mean(1).T))
        found["dimensionality"].append(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())
        found["dead_frac"].append(np.mean(~activity.any((0, 1))))
        weights = np.concatenate([w.ravel() for name, w in brain.weights.items() if name.endswith(f"→{area}")])
        found["weight_mean"].append(weights.mean())
        found["weight_norm"].append(np.linalg.norm(weights))
        found["bias_mean"].append(brain.biases[area].mean())
    energy, residual = [], []
    for steps in settled:
        energy.append(sum(6 * y["V1"].sum() + 8 * y["V2"].sum() for y in steps))  # a unit of V1 speaks to 6 of V2
        last, before = (np.concatenate([steps[t][area] for area in AREAS]) for t in (-1, -2))
        residual.append(np.linalg.norm(last - before) / np.linalg.norm(last))
    return {**found, "energy": np.mean(energy), "settle_residual": np.mean(residual)}


@pytest.mark.parametrize("alternating", [False, True])
def test_every_measure_is_what_its_definition_says(alternating):
    engine = engine_of(alternating)
    state, found = cohort(engine, SUBJECTS), found_by(engine)
    for place, subject in enumerate(SUBJECTS):

        def brain_of(gain: float, place=place) -> Brain:
            return Brain(state, place, alternating, gain)

        for name, value in by_hand(brain_of, subject).items():
            np.testing.assert_allclose(found[name][place], value, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("alternating", [False, True])
def test_gain_star_is_where_activity_becomes_excessive(alternating):
    engine = engine_of(alternating)
    state, gains = cohort(engine, SUBJECTS), found_by(engine)["gain_star"]
    images, labels = (array.double().numpy() for array in stimuli())
    assert len(set(gains.tolist())) > 1 and np.isfinite(gains).all()
    for place, gain in enumerate(gains):
        for factor, excessive in ((1.001, True), (100 ** (-1 / 2**8) / 1.001, False)):
            brain = Brain(state, place, alternating, gain * factor)
            settled = [brain.watch([x] * STEPS, int(k)) for x, k in zip(images, labels, strict=True)]
            power = {a: np.mean([[np.mean(y[a] ** 2) for y in steps] for steps in settled]) for a in AREAS}
            assert (max(power.values()) > EXCESS) == excessive


def test_without_a_drive_no_gain_is_excessive():
    engine = engine_of()
    state = cohort(engine, SUBJECTS)
    state.weights["retina→V1"][1] = 0.0
    found = measure(engine, state, CLAMPED, *stimuli(), 0, SUBJECTS, WINDOW)
    assert np.isnan(found["gain_star"]).tolist() == [False, True, False]
    assert found["evoked_slope"][1].tolist() == [0.0, 0.0] and np.isfinite(found["energy"]).all()


def test_every_measure_has_the_shape_that_the_log_is_told():
    sizes = {"subject": 3, "area": 2}
    found = found_by(engine_of())
    assert list(found) == list(VARIABLES)
    for name, array in found.items():
        assert array.shape == tuple(sizes[dim] for dim in VARIABLES[name].dims[1:]), name
        assert array.dtype == np.float32


@pytest.mark.parametrize("amplitude", [0.0, 0.1])
def test_a_pulse_of_zero_has_no_response(amplitude):
    engine = engine_of()
    state, (images, labels) = cohort(engine, SUBJECTS), stimuli()
    shown, context = CLAMPED.real(images[None], labels)
    pulsed = {area: torch.ones(3, 1, units) for area, units in UNITS.items()}
    responses = pulse_response(engine, state, engine.look(state, shown), context, pulsed, amplitude)
    for response in responses.values():
        assert response.shape == (3, CASES)
        assert (response == 0).all() if amplitude == 0 else (response > 0).all()


def test_without_recurrence_a_pulse_leaves_what_damping_keeps_of_it():
    """0.3 of it in the first step, 0.09 in the second, of one unit in eight or in six."""
    engine = engine_of()
    state = cohort(engine, SUBJECTS)
    state.weights["V2→V1"].zero_()
    found = measure(engine, state, CLAMPED, *stimuli(), 0, SUBJECTS, WINDOW)["pulse_response"]
    np.testing.assert_allclose(found, np.broadcast_to([0.39 / 8, 0.39 / 6], (3, 2)), rtol=1e-3)


def test_louder_multiplies_the_drive_of_the_image_alone():
    engine = engine_of()
    state, (images, labels) = cohort(engine, SUBJECTS), stimuli()
    shown, _ = CLAMPED.real(images[None], labels)
    gain = torch.tensor([0.5, 1.0, 3.0])
    plain, loud = (engine.look(s, shown).input_drive for s in (state, louder(engine, state, gain)))
    for area in AREAS:
        bias = state.biases[area][:, None, None]
        torch.testing.assert_close(loud[area] - bias, (plain[area] - bias) * gain.view(-1, 1, 1, 1))


def test_dimensionality_counts_planted_directions():
    random = np.random.default_rng(1)
    for directions in (1, 3, 7):
        factors = random.standard_normal((40, directions))
        factors = np.linalg.qr(factors - factors.mean(0))[0]  # uncorrelated over images, and of equal variance
        axes = np.linalg.qr(random.standard_normal((20, directions)))[0]
        activity = torch.from_numpy(5.0 + factors @ axes.T)
        assert participation_ratio(activity).item() == pytest.approx(directions)
    assert participation_ratio(torch.ones(2, 4, 3)).isnan().all()


def test_units_that_never_respond_are_dead():
    engine = engine_of()
    state = cohort(engine, SUBJECTS)
    state.biases["V1"][0, :3] = -1e3
    assert measure(engine, state, CLAMPED, *stimuli(), 0, SUBJECTS, WINDOW)["dead_frac"][0, 0] >= 3 / 8


def test_weights_that_do_not_exist_do_not_count():
    """Local receptive fields: the mean is over synapses, not over the zeros between them."""
    local = json.loads(json.dumps(MODEL))
    for area, shape in (("retina", [3, 3]), ("V1", [2, 4])):
        del local["areas"][area]["units"]
        local["areas"][area]["shape"] = shape
    local["projections"][0]["receptive_field"] = {"size": [2, 2]}
    engine = RateEngine(parse_model(json.dumps(local)), RateDynamics(steps=STEPS))
    state = cohort(engine, SUBJECTS)
    found = measure(engine, state, CLAMPED, *stimuli(), 0, SUBJECTS, WINDOW)
    matrix = engine.projections["retina→V1"].matrix(state.weights["retina→V1"])
    for place in range(3):
        synapses = torch.cat([matrix[place][matrix[place] != 0], state.weights["V2→V1"][place].flatten()])
        assert found["weight_mean"][place, 0] == pytest.approx(synapses.mean().item(), rel=1e-4, abs=1e-6)
        assert found["weight_norm"][place, 0] == pytest.approx(synapses.norm().item(), rel=1e-5)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_alone_is_the_subject_it_is_among_others(subject):
    many, alone = found_by(engine_of()), found_by(engine_of(), [subject])
    for name, value in many.items():
        one = value[SUBJECTS.index(subject)]
        np.testing.assert_allclose(alone[name][0], one, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("rows", [1, 9])
def test_the_size_of_a_chunk_does_not_matter(monkeypatch, rows):
    whole = found_by(engine_of())
    monkeypatch.setattr(physiology, "ROWS_AT_ONCE", rows)
    for name, value in found_by(engine_of()).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_only_the_first_images_are_shown(monkeypatch):
    engine = engine_of()
    images, labels = stimuli()
    monkeypatch.setattr(physiology, "MEASURED", 5)
    five = measure(engine, cohort(engine, SUBJECTS), CLAMPED, images[:5], labels[:5], 0, SUBJECTS, WINDOW)
    for name, value in found_by(engine).items():
        np.testing.assert_array_equal(value, five[name], err_msg=name)


def test_measuring_changes_nothing():
    engine = engine_of()
    state = cohort(engine, SUBJECTS)
    before = {name: array.clone() for name, array in state.arrays().items()}
    first, again = (measure(engine, state, CLAMPED, *stimuli(), 0, SUBJECTS, WINDOW) for _ in range(2))
    assert all(torch.equal(before[name], array) for name, array in state.arrays().items())
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)


def test_a_network_that_diverged_has_no_measures_and_the_others_have():
    engine = engine_of()
    state = cohort(engine, SUBJECTS)
    state.weights["V1→V2"][1] = float("nan")
    for name, value in measure(engine, state, CLAMPED, *stimuli(), 0, SUBJECTS, WINDOW).items():
        assert np.isfinite(value.reshape(3, -1)).all(1).tolist() == [True, False, True], name


def test_a_feed_forward_net_has_no_settle():
    engine = feed_forward()
    present = replace(CLAMPED, labels="none", context=None)
    state = cohort(engine, SUBJECTS)
    found = measure(engine, state, present, *stimuli(), 0, SUBJECTS, (1, 1))
    assert {name for name, value in found.items() if np.isnan(value).all()} == {"pulse_response", "settle_residual"}
    evoked = [Brain(state, 0).pass_up(x) for x in stimuli()[0].double().numpy()]
    assert found["energy"][0] == pytest.approx(np.mean([6 * y["V1"].sum() for y in evoked]), rel=1e-4)
