"""A session of the vigilance task is what its definition says, worked out trial by trial in plain numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from brain_by_hand import AREAS, CLAMPED, LABELS, PIXELS, Brain, cohort, engine_of, feed_forward

from cortexff.errors import CortexffError
from cortexff.protocol import vigilance
from cortexff.protocol.vigilance import EVOKED, VARIABLES, Task, measure

TRIALS, FRAMES, SUBJECTS = 10, 24, [0, 2, 5]


def task_of(subjects=SUBJECTS, **more) -> Task:
    random = np.random.default_rng(0)
    images = random.random((TRIALS, PIXELS), dtype=np.float32)
    labels = random.integers(0, LABELS, TRIALS)
    return Task.of(images, labels, 0, list(subjects), **{"visible": 0.6, "frames": FRAMES, "lures": False, **more})


def frames_of(task: Task) -> np.ndarray:
    """(subjects, trials, frames, pixels)."""
    return torch.stack(list(task.film(slice(0, TRIALS))), dim=2).double().numpy()


def session_of(engine, subjects=SUBJECTS, **more):
    return measure(engine, cohort(engine, list(subjects)), CLAMPED, task_of(subjects, **more))


def of_subjects(session):
    """What is measured of areas."""
    return [(name, value) for name, value in session.items() if VARIABLES[name].dims == ("subject", "area")]


# ------------------------------------------------------------------------ what is shown


def test_a_frame_is_shuffled_before_the_onset_and_a_mixture_after_it():
    task = task_of()
    frames, images = frames_of(task), task.images.double().numpy()
    assert set(task.onset.tolist()) <= set(range(2, 11))
    for trial, onset in enumerate(task.onset.tolist()):
        before, after = frames[:, trial, :onset], frames[:, trial, onset:]
        np.testing.assert_allclose(np.sort(before), np.broadcast_to(np.sort(images[trial]), before.shape))
        noise = (after - 0.6 * images[trial]) / 0.4
        np.testing.assert_allclose(np.sort(noise), np.broadcast_to(np.sort(images[trial]), noise.shape), atol=1e-6)
    shown = frames.reshape(-1, PIXELS)
    assert len(np.unique(shown, axis=0)) == len(shown)  # no frame twice


def test_a_lure_is_an_image_of_another_class_in_noise():
    task = task_of(lures=True)
    frames, images, labels = frames_of(task), task.images.numpy(), task.labels.numpy()
    plain = frames_of(task_of())
    for trial, onset in enumerate(task.onset.tolist()):
        lure = task.lures[trial].numpy()
        (place,) = np.flatnonzero((images == lure).all(-1))
        assert labels[place] != labels[trial]
        noise = (frames[:, trial, :onset] - 0.6 * lure) / 0.4
        np.testing.assert_allclose(noise, plain[:, trial, :onset], atol=1e-6)  # the same noise
        np.testing.assert_allclose(frames[:, trial, onset:], plain[:, trial, onset:])


def test_a_wholly_visible_image_has_no_noise():
    task = task_of(visible=1.0)
    after = frames_of(task)[:, :, -1]
    np.testing.assert_allclose(after, np.broadcast_to(task.images.numpy(), after.shape))


def test_too_few_frames_and_too_few_labels_are_refused():
    with pytest.raises(CortexffError, match=r"15 frames are too few.*16 or more"):
        task_of(frames=15)
    with pytest.raises(CortexffError, match="all images have one label"):
        Task.of(np.ones((3, 4), np.float32), np.zeros(3, int), 0, [0], lures=True)


# ------------------------------------------------------------------------ what is found


def by_hand(brain: Brain, task: Task, place: int, sign: float) -> dict:
    frames, odds, traces = frames_of(task)[place], [], {area: [] for area in AREAS}
    for trial, label in enumerate(task.labels.tolist()):
        steps = brain.watch(frames[trial], label)
        first = (sum(y["V1"] ** 2) - 3.0 for y in steps)  # two blocks of θ = 1.5
        odds.append([sign * (one + (np.mean(y["V2"] ** 2) - 0.5) / 0.5) for one, y in zip(first, steps, strict=True)])
        start = int(task.onset[trial]) + EVOKED
        for area in AREAS:
            traces[area].append([y[area] for y in steps[start : start + FRAMES - 10 - EVOKED]])
    found = {
        "vigilance_evidence": np.array(odds),
        "vigilance_synchrony": [],
        "vigilance_noise_correlation": [],
        "vigilance_off_index": [],
    }
    for area, blocks in zip(AREAS, (2, 1), strict=True):
        of_area = np.array(traces[area])  # (trials, frames, units)
        chi = [y.mean(-1).var() / y.var(0).mean() for y in of_area if y.var(0).any()]
        found["vigilance_synchrony"].append(np.mean(chi))
        deviations = np.concatenate([y - y.mean(0) for y in of_area])
        live = deviations[:, deviations.any(0)]
        found["vigilance_noise_correlation"].append(np.corrcoef(live.T)[np.triu_indices(live.shape[1], 1)].mean())
        levels = of_area.reshape(*of_area.shape[:2], blocks, -1).mean(-1)
        off = [(levels[..., b] < 0.1 * levels[..., b].mean()).mean() for b in range(blocks) if levels[..., b].any()]
        found["vigilance_off_index"].append(np.mean(off))
    return found


@pytest.mark.parametrize("lures", [False, True])
@pytest.mark.parametrize("sign", ["max", "min"])
@pytest.mark.parametrize("alternating", [False, True])
def test_a_session_is_what_its_definition_says(alternating, sign, lures):
    engine = engine_of(alternating, sign)
    state, task = cohort(engine, SUBJECTS), task_of(lures=lures)
    session = measure(engine, state, CLAMPED, task)
    for place in range(len(SUBJECTS)):
        brain = Brain(state, place, alternating)
        wanted = by_hand(brain, task, place, 1.0 if sign == "max" else -1.0)
        np.testing.assert_allclose(
            session["vigilance_evidence"][place], wanted.pop("vigilance_evidence"), rtol=1e-4, atol=1e-4
        )
        for name, value in wanted.items():
            np.testing.assert_allclose(session[name][place], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_every_measure_has_the_shape_that_the_log_is_told():
    session = session_of(engine_of())
    sizes = {"subject": 3, "area": 2, "trial": TRIALS, "frame": FRAMES}
    assert session.keys() == VARIABLES.keys()
    for name, array in session.items():
        assert array.shape == tuple(sizes[dim] for dim in VARIABLES[name].dims)
        assert array.dtype == VARIABLES[name].dtype


def test_areas_that_do_not_count_have_no_evidence():
    engine, task = engine_of(), task_of()
    state = cohort(engine, SUBJECTS)
    one, other = (measure(engine, state, CLAMPED, task, [area])["vigilance_evidence"] for area in AREAS)
    np.testing.assert_allclose(
        one + other, measure(engine, state, CLAMPED, task)["vigilance_evidence"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_alone_is_the_subject_it_is_among_others(subject):
    many, alone = session_of(engine_of()), session_of(engine_of(), [subject])
    place = SUBJECTS.index(subject)
    np.testing.assert_allclose(alone["vigilance_evidence"][0], many["vigilance_evidence"][place], rtol=1e-5, atol=1e-5)
    for name, value in of_subjects(many):
        np.testing.assert_allclose(alone[name][0], value[place], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("limit, most", [("ROWS_AT_ONCE", 1), ("ROWS_AT_ONCE", 9), ("VALUES_AT_ONCE", 1)])
def test_the_size_of_a_chunk_does_not_matter(monkeypatch, limit, most):
    whole = session_of(engine_of())
    monkeypatch.setattr(vigilance, limit, most)
    parts = session_of(engine_of())
    np.testing.assert_allclose(parts["vigilance_evidence"], whole["vigilance_evidence"], rtol=1e-5, atol=1e-5)
    for name, value in of_subjects(whole):
        np.testing.assert_allclose(parts[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_watching_changes_nothing():
    engine, task = engine_of(), task_of()
    state = cohort(engine, SUBJECTS)
    before = {name: array.clone() for name, array in state.arrays().items()}
    first, again = (measure(engine, state, CLAMPED, task) for _ in range(2))
    assert all(torch.equal(before[name], array) for name, array in state.arrays().items())
    np.testing.assert_array_equal(first["vigilance_evidence"], again["vigilance_evidence"])


def test_a_network_that_diverged_has_no_measures_and_the_others_have():
    engine = engine_of()
    state = cohort(engine, SUBJECTS)
    state.weights["V1→V2"][1] = float("nan")
    session = measure(engine, state, CLAMPED, task_of())
    assert np.isfinite(session["vigilance_evidence"]).all((1, 2)).tolist() == [True, False, True]
    for _, value in of_subjects(session):
        assert np.isfinite(value).all(1).tolist() == [True, False, True]


@pytest.mark.parametrize("labels", ["none", "pixels"])
def test_a_feed_forward_net_sees_each_frame_by_itself(labels):
    """With the label in the pixels (§3.3) or without one: the goodness of a frame is that of its bottom-up pass."""
    engine, task = feed_forward(), task_of()
    state, present = cohort(engine, SUBJECTS), replace(CLAMPED, labels=labels, context=None)
    session = measure(engine, state, present, task)
    frames = frames_of(task)
    if labels == "pixels":
        frames[..., :LABELS] = np.eye(LABELS)[task.labels.numpy()][:, None]
    for place in range(len(SUBJECTS)):
        brain = Brain(state, place)
        for trial, frame in ((0, 0), (3, 20), (9, 23)):
            y = brain.pass_up(frames[place, trial, frame])
            wanted = sum(y["V1"] ** 2) - 3.0 + (np.mean(y["V2"] ** 2) - 0.5) / 0.5
            assert session["vigilance_evidence"][place, trial, frame] == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert np.isfinite(session["vigilance_synchrony"]).all()


def test_units_that_do_the_same_are_wholly_synchronous():
    """Planted: all units of an area alike have χ² = 1 and correlation 1, also where some trials are silent."""
    engine, task = engine_of(), task_of()
    state = cohort(engine, SUBJECTS)
    for array in (state.weights["retina→V1"], state.weights["V2→V1"], state.biases["V1"]):
        array.copy_(array[:, :1].expand_as(array))
    session = measure(engine, state, CLAMPED, task)
    known = np.isfinite(session["vigilance_synchrony"][:, 0])
    assert known.any()
    np.testing.assert_allclose(session["vigilance_synchrony"][known, 0], 1.0, rtol=1e-4)
    np.testing.assert_allclose(session["vigilance_noise_correlation"][known, 0], 1.0, rtol=1e-4)
