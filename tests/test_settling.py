"""Exact statements about a settle: damping, order of updates, who hears what, and what versions share."""

import copy
from dataclasses import replace

import pytest
import torch
from scenes import BARE, FIGURE_3, LATE_START, PHASES, Scene, bottom_up, model, project, random_net, scene
from torch import Tensor

from cortexff.engines.state import Plasticity
from cortexff.equations.normalization import length_normalization


def test_settling_and_learning_leave_the_percept_as_it_was():
    """The bottom-up pass is looked at again by the softmax; one version must not be written over."""
    for is_positive in PHASES:
        given = scene(model(*FIGURE_3), is_positive, seed=1)
        percept = given.engine.look(given.state, given.images)
        before = copy.deepcopy(percept)
        given.engine.learn(
            given.state, percept, given.context, given.images, is_positive, replace(BARE, learning_rate=0)
        )
        for part, then in vars(before).items():
            assert all(torch.equal(vars(percept)[part][name], array) for name, array in then.items())


def test_damping_1_freezes():
    given = scene(model(*FIGURE_3), damping=0.999999, steps=8)
    start = given.engine.look(given.state, given.images).activity
    *_, (_, _, end) = given.settled()
    for area in end:
        torch.testing.assert_close(end[area], start[area].expand_as(end[area]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("damping", [0.3, 0.9])
def test_damping_keeps_a_share_of_the_activity_before(damping):
    """§3.4: "0.3 of the previous pre-normalized state plus 0.7 of the computed new state"."""
    given, free = (scene(model(*FIGURE_3), damping=d, steps=1) for d in (damping, 0.0))
    start = given.engine.look(given.state, given.images).activity
    ((_, _, damped),), ((_, _, undamped),) = given.settled(), free.settled()
    for area in damped:
        torch.testing.assert_close(damped[area], damping * start[area] + (1 - damping) * undamped[area])


def response(given: Scene, area: str, heard: dict[str, Tensor], more: float = 0.0) -> Tensor:
    """Rectified drive of an area, by hand."""
    drive = given.state.biases[area][:, None, None] + more
    for source, _, name in given.engine.net.in_edges(area, keys=True):
        drive = drive + length_normalization(heard[source]) @ given.state.weights[name].mT[:, None]
    return torch.relu(drive)


def test_synchronous_updates_listen_to_the_step_before():
    given = scene(model(*FIGURE_3), damping=0.0, steps=2)
    clamped = {**given.images, **given.context}
    start = given.engine.look(given.state, given.images).activity
    (_, _, first), (_, _, second) = given.settled()
    for area in ("V1", "V2"):
        torch.testing.assert_close(first[area], response(given, area, {**clamped, **start}).expand_as(first[area]))
        torch.testing.assert_close(second[area], response(given, area, {**clamped, **first}))


def test_alternating_updates_listen_to_the_new_activity():
    """§3.4: one half of the layers, then the other half "based on the new normalized activities"."""
    given = scene(model(*FIGURE_3), damping=0.0, steps=2, alternating=True)
    clamped = {**given.images, **given.context}
    start = given.engine.look(given.state, given.images).activity
    moments = given.settled()
    assert [(step, group) for step, group, _ in moments] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    (_, _, half), (_, _, whole), (_, _, again), _ = moments
    torch.testing.assert_close(half["V1"], response(given, "V1", {**clamped, **start}).expand_as(half["V1"]))
    assert torch.equal(half["V2"], start["V2"].expand_as(half["V2"])) and torch.equal(whole["V1"], half["V1"])
    torch.testing.assert_close(whole["V2"], response(given, "V2", {**clamped, **half}))
    torch.testing.assert_close(again["V1"], response(given, "V1", {**clamped, **whole}))


@pytest.mark.parametrize("source, kind", [("retina", "bottom_up"), ("label", "top_down")])
def test_skip_projections_reach(source, kind):
    """Note 10: with every other way closed, image and label still reach an area two steps away, and it learns."""
    areas, projections = FIGURE_3
    target = {"retina": "V2", "label": "V1"}[source]
    given = scene(model(areas, [*projections, project(source, target, kind, name="skip")]))
    for name, weights in given.state.weights.items():
        if name != "skip":
            weights.zero_()
    before, skip = given.settled()[-1][-1][target], given.state.weights["skip"].clone()
    clamped = given.images if source == "retina" else given.context
    clamped[source] = clamped[source].flip(-1)
    assert not torch.allclose(given.settled()[-1][-1][target], before)
    given.learn(BARE)
    assert not torch.allclose(given.state.weights["skip"], skip)


@pytest.mark.parametrize("net", [FIGURE_3, LATE_START])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_silence_makes_no_nonsense(net, precision):
    """A black image, a label of zeros and newborn biases: every area is silent, and learns without a NaN."""
    given = scene(model(*net), precision=precision)
    given.state = given.engine.start(0, range(2))
    for clamped in (given.images, given.context):
        for area in clamped:
            clamped[area] = torch.zeros_like(clamped[area])
    assert all((y == 0).all() for *_, activity in given.settled() for y in activity.values())
    for _ in range(3):
        given.learn(Plasticity(10.0))
    assert all(torch.isfinite(array).all() for array in given.state.arrays().values())


def test_a_settle_may_end_early():
    given = scene(random_net(7), steps=6)
    percept = given.engine.look(given.state, given.images)
    whole = given.settled()
    short = [
        {area: y.clone() for area, y in moment.activity.items()}
        for moment in given.engine.settle(given.state, percept, given.context, steps=4)
    ]
    assert len(short) == 4
    assert all(torch.equal(short[3][area], whole[3][2][area]) for area in short[3])


# ------------------------------------------------------------------------ what versions share

CHAIN = (
    {
        "retina": {"role": "input", "units": 12},
        "V1": {"units": 9},
        "V2": {"units": 8},
        "V3": {"units": 7},
        "label": {"role": "context", "units": 3},
    },
    [
        project("retina", "V1"),
        project("V1", "V2"),
        project("V2", "V3"),
        project("V2", "V1", "top_down"),
        project("V3", "V2", "top_down"),
        project("label", "V3", "top_down"),
    ],
)


@pytest.mark.parametrize("alternating, alike", [(False, (2, 1, 0)), (True, (1, 0, 0))])
def test_an_area_has_one_version_until_a_label_has_reached_it(alternating, alike):
    """Down the chain, a projection a step; where areas alternate, V1 and V3 move first and V2 hears them at once."""
    given = scene(model(*CHAIN), alternating=alternating, steps=4)
    ends = {step: activity for step, _, activity in given.settled()}
    for area, steps in zip(("V1", "V2", "V3"), alike, strict=True):
        assert [ends[step][area].shape[2] for step in ends] == [1 if step <= steps else 2 for step in ends]


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("number", range(12))
def test_versions_together_are_the_versions_one_by_one(number, alternating):
    """Two contexts of which one has many versions among them, and areas that no context reaches."""
    given = scene(random_net(number), seed=number, alternating=alternating, steps=5)
    together = given.settled()
    for version in range(2):
        one = replace(given, context={area: x[:, :, version : version + 1] for area, x in given.context.items()})
        for (*_, both), (*_, alone) in zip(together, one.settled(), strict=True):
            for area, y in alone.items():
                shown = both[area].expand(-1, -1, 2, -1)[:, :, version : version + 1]
                torch.testing.assert_close(shown, y, rtol=1e-4, atol=1e-5)


def test_one_step_up_is_the_drive_of_the_bottom_up_pass():
    """What V2 hears of V1 at first was multiplied in the pass; with other weights since, it shows."""
    given = scene(model(*FIGURE_3), damping=0.0, steps=2)
    percept = given.engine.look(given.state, given.images)
    wanted = [activity["V2"] for *_, activity in given.settled()]
    percept.brought["V1→V2"] += 1.0
    found = [m.activity["V2"].clone() for m in given.engine.settle(given.state, percept, given.context)]
    drive = response(given, "V2", {**given.context, "V1": percept.activity["V1"]}, 1.0)
    torch.testing.assert_close(found[0], drive)
    assert not torch.allclose(found[0], wanted[0])


def test_a_context_with_one_version_parts_nothing():
    """A task that is the same for both labels: the area that hears the task alone goes on with one version."""
    areas = {
        "retina": {"role": "input", "units": 6},
        "V1": {"units": 5},
        "V2": {"units": 4},
        "task": {"role": "context", "units": 2},
        "label": {"role": "context", "units": 3},
    }
    projections = [
        project("retina", "V1"),
        project("V1", "V2"),
        project("task", "V1", "top_down"),
        project("task", "V2", "top_down"),
        project("label", "V2", "top_down"),
    ]
    given = scene(model(areas, projections))
    together = given.settled()
    given.context["task"] = given.context["task"][:, :, :1]
    apart = given.settled()
    assert {activity["V1"].shape[2] for *_, activity in apart} == {1}
    assert {activity["V2"].shape[2] for *_, activity in apart} == {2}
    assert torch.equal(apart[-1][-1]["V1"], together[-1][-1]["V1"][:, :, :1])
    given.learn(BARE)
    kept = {name: array.data_ptr() for name, array in given.engine.workspace.kept.items()}
    given.learn(BARE)
    assert {name: array.data_ptr() for name, array in given.engine.workspace.kept.items()} == kept


# ------------------------------------------------------------------------ films


def seen(given: Scene, frames: list[dict[str, Tensor]]) -> list[tuple[int, int, dict[str, Tensor]]]:
    """(step, group, activity) of every moment of a film, copied."""
    moments = given.engine.film(given.state, iter(frames), given.context)
    return [(m.step, m.group, {area: y.clone() for area, y in m.activity.items()}) for m in moments]


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("number", range(6))
def test_a_film_that_stands_still_is_a_settle(number, alternating):
    given = scene(random_net(number), seed=number, alternating=alternating, steps=5)
    for (*when, found), (*then, wanted) in zip(seen(given, [given.images] * 5), given.settled(), strict=True):
        assert when == then
        for area, y in wanted.items():
            torch.testing.assert_close(found[area], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_film_of_figure_3_that_stands_still_is_a_settle_to_the_bit(precision):
    given = scene(model(*FIGURE_3), precision=precision, steps=4)
    for (*_, found), (*_, wanted) in zip(seen(given, [given.images] * 4), given.settled(), strict=True):
        assert all(torch.equal(found[area], y) for area, y in wanted.items())


@pytest.mark.parametrize("alternating", [False, True])
def test_areas_hear_the_frame_of_the_step_and_keep_their_activity(alternating):
    given = scene(model(*FIGURE_3), damping=0.3, steps=8, alternating=alternating)
    frames = [{"retina": image} for image in torch.rand(4, 2, 3, 1, 12)]
    activity = {area: y.expand(-1, -1, 2, -1) for area, y in given.engine.look(given.state, frames[0]).activity.items()}
    wanted = []
    for frame in frames:
        for group in [["V1"], ["V2"]] if alternating else [["V1", "V2"]]:
            heard = {**frame, **given.context, **activity}
            activity |= {area: 0.3 * activity[area] + 0.7 * response(given, area, heard) for area in group}
            wanted.append(dict(activity))
    for (*_, found), by_hand in zip(seen(given, frames), wanted, strict=True):
        for area, y in by_hand.items():
            torch.testing.assert_close(found[area].expand_as(y), y)


def test_without_steps_every_frame_has_a_bottom_up_pass_of_its_own():
    given = scene(bottom_up(random_net(3)), seed=3, steps=0)
    frames = [{area: image * (place + 1) + place for area, image in given.images.items()} for place in range(3)]
    found = seen(given, frames)
    assert [step for step, *_ in found] == [1, 2, 3]
    for frame, (*_, activity) in zip(frames, found, strict=True):
        wanted = given.engine.look(given.state, frame).activity
        assert all(torch.equal(activity[area], y) for area, y in wanted.items())


@pytest.mark.parametrize("alternating", [False, True])
def test_what_is_added_to_a_moment_is_passed_on(alternating):
    """A pulse into V2 alone is damped there, and is heard by V1."""
    given = scene(model(*FIGURE_3), steps=3, alternating=alternating)
    percept = given.engine.look(given.state, given.images)
    plain = {(step, group): activity for step, group, activity in given.settled()}
    for moment in given.engine.settle(given.state, percept, given.context):
        if moment.step == 1 and "V2" in moment.areas:
            moment.activity["V2"][..., :2] += 1.0
            pulsed = moment.activity["V2"].clone()
        if moment.step == 2 and "V1" in moment.areas:
            heard = {**given.images, "V2": pulsed}
            wanted = 0.3 * plain[1, 0]["V1"] + 0.7 * response(given, "V1", heard)
            torch.testing.assert_close(moment.activity["V1"], wanted.expand_as(moment.activity["V1"]))
            assert not torch.allclose(moment.activity["V1"], plain[2, 0]["V1"])
