"""From activity to a label: every label in turn, or one pass and a softmax."""

import json

import pytest
import torch

from cortexff import readout
from cortexff.engines.rate import RateDynamics, RateEngine
from cortexff.equations.normalization import length_normalization
from cortexff.graph import parse_model
from cortexff.stimuli.labels import candidates

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
LABELS, PIXELS, SUBJECTS, CASES = 4, 9, 2, 6


def engine_of(device: str = "cpu", damping: float = 0.3, steps: int = 6, **goodness) -> RateEngine:
    """Three hidden areas between image and label; the label reaches the upper two."""
    model = {
        "format": "cortexff-model/1",
        "areas": {
            "retina": {"role": "input", "units": PIXELS},
            "V1": {"units": 8, "goodness": {"blocks": 2, **goodness}},
            "V2": {"units": 6, "goodness": {"measure": "mean_square", "temperature": 0.5, **goodness}},
            "V3": {"units": 5, "goodness": goodness},
            "label": {"role": "context", "units": LABELS},
        },
        "projections": [
            {"from": "retina", "to": "V1"},
            {"from": "V1", "to": "V2"},
            {"from": "V2", "to": "V3"},
            {"from": "V3", "to": "V2", "kind": "top_down"},
            {"from": "V2", "to": "V1", "kind": "top_down"},
            {"from": "label", "to": "V3", "kind": "top_down"},
            {"from": "label", "to": "V2", "kind": "top_down"},
        ],
    }
    dynamics = RateDynamics(damping=damping, steps=steps, device=device)
    return RateEngine(parse_model(json.dumps(model)), dynamics)


def images_of(device: str = "cpu") -> torch.Tensor:
    """(1, cases, 1, pixels), shared by all subjects."""
    return torch.rand(1, CASES, 1, PIXELS, generator=torch.Generator().manual_seed(0)).to(device)


def every_label(device: str) -> dict[str, torch.Tensor]:
    return {"label": candidates(LABELS, device)}


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("areas", [None, ["V2"], ["V3", "V1"]])
@pytest.mark.parametrize("steps", [(3, 5), (1, 1), (1, 6)])
def test_by_goodness_is_the_best_of_all_labels_tried_one_at_a_time(steps, areas, device):
    engine, images = engine_of(device), images_of(device)
    state = engine.start(0, range(SUBJECTS))
    found = readout.by_goodness(
        engine, state, engine.look(state, {"retina": images}), every_label(device), steps, areas
    )

    score = torch.zeros(SUBJECTS, CASES, LABELS)
    for label in range(LABELS):
        one = {"label": torch.eye(LABELS, device=device)[label].view(1, 1, 1, LABELS)}
        for moment in engine.settle(state, engine.look(state, {"retina": images}), one):
            if steps[0] <= moment.step <= steps[1]:
                for area in areas or engine.areas:
                    odds = engine.log_odds(area, engine.goodness(area, moment.activity[area]))
                    score[:, :, label] += odds.sum(-1)[:, :, 0].cpu()
    assert found.shape == (SUBJECTS, CASES)
    assert torch.equal(found.cpu(), score.argmax(-1))


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_sharing_the_drive_of_an_image_changes_nothing(device):
    """An image shown once with all labels, or as often as there are labels with one each."""
    engine, images = engine_of(device), images_of(device)
    state = engine.start(0, range(SUBJECTS))
    shared = readout.goodness_trace(
        engine, state, engine.look(state, {"retina": images}), every_label(device), engine.areas
    )
    repeated = images.repeat_interleave(LABELS, dim=1)
    labels = torch.eye(LABELS, device=device).repeat(CASES, 1).view(1, CASES * LABELS, 1, LABELS)
    alone = readout.goodness_trace(
        engine, state, engine.look(state, {"retina": repeated}), {"label": labels}, engine.areas
    )
    for area in engine.areas:
        torch.testing.assert_close(shared[area], alone[area].squeeze(3).unflatten(2, (CASES, LABELS)))


def test_trying_labels_leaves_what_the_bottom_up_pass_found():
    engine = engine_of()
    state = engine.start(0, range(SUBJECTS))
    percept = engine.look(state, {"retina": images_of()})
    before = readout.softmax_heard(engine, percept).clone()
    for context in (every_label("cpu"), {"label": candidates(LABELS)[:, :, :1]}):
        readout.by_goodness(engine, state, percept, context, (3, 5))
        assert torch.equal(readout.softmax_heard(engine, percept), before)


def test_goodness_trace_has_one_entry_a_step_and_shows_every_moment():
    engine, seen, seen_too = engine_of(steps=7), [], []
    state = engine.start(0, range(SUBJECTS))
    percept = engine.look(state, {"retina": images_of()})
    watchers = [lambda moment: seen.append(moment.step), lambda moment: seen_too.append(moment.step)]
    trace = readout.goodness_trace(engine, state, percept, every_label("cpu"), ["V1", "V3"], watchers)
    assert {area: tuple(goodness.shape) for area, goodness in trace.items()} == {
        "V1": (7, SUBJECTS, CASES, LABELS, 2),
        "V3": (7, SUBJECTS, CASES, LABELS, 1),
    }
    assert seen == seen_too == [1, 2, 3, 4, 5, 6, 7]
    assert not torch.equal(trace["V3"][0], trace["V3"][1])


@pytest.mark.parametrize("steps, wanted", [((3, 5), 4), ((1, 1), 1), ((8, 8), 8), ((1, 8), 4.5)])
def test_window_counts_from_1_and_holds_both_ends(steps, wanted):
    """§3.4: "the highest goodness averaged over iterations 3 to 5"."""
    trace = torch.arange(1.0, 9).view(8, 1, 1).expand(8, 2, 3)
    torch.testing.assert_close(readout.window(trace, steps), torch.full((2, 3), float(wanted)))


def test_evidence_is_the_sum_of_all_log_odds():
    engine = engine_of()
    found = readout.evidence(engine, {"V1": torch.tensor([[5.0, 2.0]]), "V2": torch.tensor([[3.0]])})
    # V1 has two blocks with θ = 4 and κ = 1; V2 measures mean squares, with θ = 1 and κ = ½.
    assert found.tolist() == [pytest.approx((5 - 4) + (2 - 4) + (3 - 1) / 0.5)]


def test_min_prefers_the_label_of_lowest_activity():
    """§3.5: the same activity, and the opposite choice."""
    high, low = engine_of(sign="max"), engine_of(sign="min")
    state = high.start(0, [0])
    percept = high.look(state, {"retina": images_of()})
    trace = readout.goodness_trace(high, state, percept, every_label("cpu"), ["V3"])
    window = readout.window(trace["V3"], (3, 5)).squeeze(-1)
    for engine, wanted in ((high, window.argmax(-1)), (low, window.argmin(-1))):
        assert torch.equal(readout.by_goodness(engine, state, percept, every_label("cpu"), (3, 5), ["V3"]), wanted)


# ------------------------------------------------------------------------ one pass and a softmax


def test_the_softmax_hears_all_hidden_areas_but_the_first():
    engine = engine_of()
    percept = engine.look(engine.start(0, range(SUBJECTS)), {"retina": images_of()})
    heard = readout.softmax_heard(engine, percept)
    parts = [length_normalization(percept.activity[area][:, :, 0]) for area in ("V2", "V3")]
    torch.testing.assert_close(heard, torch.cat(parts, -1))
    assert readout.softmax_areas(engine) == ["V2", "V3"]


def test_the_softmax_hears_the_only_area():
    projections = [{"from": "retina", "to": "V1"}]
    areas = {"retina": {"role": "input", "units": 3}, "V1": {"units": 2}}
    net = parse_model(json.dumps({"format": "cortexff-model/1", "areas": areas, "projections": projections}))
    assert readout.softmax_areas(RateEngine(net)) == ["V1"]


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_an_untrained_softmax_believes_in_every_label_alike(device):
    engine = engine_of(device)
    softmax = readout.start_softmax(engine, SUBJECTS, LABELS)
    heard = torch.randn(SUBJECTS, CASES, 11, device=device)
    torch.testing.assert_close(readout.belief(softmax, heard), torch.full((2, CASES, LABELS), 0.25, device=device))
    assert {name: tuple(array.shape) for name, array in softmax.arrays().items()} == {
        "weights": (SUBJECTS, LABELS, 11),
        "average": (SUBJECTS, LABELS, 11),
    }


def test_one_softmax_update_is_the_gradient_of_the_log_probability():
    random = torch.Generator().manual_seed(0)
    softmax = readout.SoftmaxState(*(torch.randn(2, LABELS, 5, generator=random) for _ in range(2)))
    heard, labels = torch.randn(2, 7, 5, generator=random), torch.randint(LABELS, (2, 7), generator=random)
    weights = softmax.weights.clone().requires_grad_()
    logits = torch.einsum("sci,sli->scl", heard, weights)
    (-torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / 7).backward()
    average = 0.8 * softmax.average + 0.2 * weights.grad
    wanted = weights.detach() + 3.0 / 5 * (average - 0.01 * weights.detach())
    readout.learn_softmax(softmax, heard, readout.belief(softmax, heard), labels, 3.0, 0.8, 0.01)
    torch.testing.assert_close(softmax.average, average)
    torch.testing.assert_close(softmax.weights, wanted)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_the_softmax_learns_a_separable_problem(device):
    random = torch.Generator().manual_seed(0)
    prototypes = 3 * torch.randn(LABELS, 11, generator=random)
    labels = torch.arange(80).remainder(LABELS).expand(SUBJECTS, -1).to(device)
    noise = torch.randn(SUBJECTS, 80, 11, generator=random)
    heard = length_normalization(prototypes.to(device)[labels] + 0.3 * noise.to(device))
    softmax = readout.start_softmax(engine_of(device), SUBJECTS, LABELS)
    for _ in range(50):
        readout.learn_softmax(softmax, heard, readout.belief(softmax, heard), labels, 3.0)
    assert torch.equal(readout.by_softmax(softmax, heard), labels)
