"""Every measure of a probe equals what its definition says, worked out here case by case in plain numpy."""

import json

import brain_by_hand
import numpy as np
import pytest
import torch
from brain_by_hand import CLAMPED, LABELS, MODEL, PIXELS, heard

from cortexff.engines.backprop import BackpropEngine
from cortexff.engines.rate import RateDynamics, RateEngine, RateState
from cortexff.graph import parse_model, with_goodness
from cortexff.log import Variable
from cortexff.protocol import probe as probe_file
from cortexff.protocol.dynamics import MEASURES
from cortexff.protocol.presentation import Presentation
from cortexff.protocol.probe import (
    BACKPROP_VARIABLES,
    HYBRID_VARIABLES,
    STIMULUS_VARIABLES,
    VARIABLES,
    Probe,
    measure,
    measure_softmax,
)
from cortexff.readout import SoftmaxState, start_softmax

torch.set_num_threads(1)  # the arrays are tiny: threads would only cost time
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
CASES, STEPS = 12, (3, 5)
SUBJECTS = [0, 2, 5]
BLOCKS = {"V1": 2, "V2": 1}


def engine_of(device: str = "cpu", **dynamics) -> RateEngine:
    return RateEngine(parse_model(json.dumps(MODEL)), RateDynamics(steps=6, device=device, **dynamics))


def cohort(engine: RateEngine, subjects=SUBJECTS) -> tuple[RateState, SoftmaxState]:
    """Newborn subjects with biases, and a softmax that has beliefs."""
    state, softmax = engine.start(0, subjects), start_softmax(engine, len(subjects), LABELS)
    for place, subject in enumerate(subjects):
        random = torch.Generator().manual_seed(subject)
        softmax.weights[place] = torch.randn(softmax.weights.shape[1:], generator=random)
        for bias in state.biases.values():
            bias[place] = 0.3 * torch.randn(bias.shape[1:], generator=random)
    return state, softmax


def probe_of(subjects=SUBJECTS) -> Probe:
    random = np.random.default_rng(0)
    images = random.random((CASES, PIXELS), dtype=np.float32)
    return Probe.of(images, random.integers(0, LABELS, CASES), 0, list(subjects), CLAMPED)


def found_by(engine: RateEngine, subjects=SUBJECTS):
    return measure(engine, *cohort(engine, subjects), probe_of(subjects), STEPS)


# ------------------------------------------------------------------------ one image, one label, in plain numpy


class Brain(brain_by_hand.Brain):
    """One subject with what it believes: its weights as float64."""

    def __init__(self, state: RateState, softmax: SoftmaxState, place: int, sign: float, alternating: bool) -> None:
        super().__init__(state, place, alternating)
        self.softmax = softmax.weights[place].double().cpu().numpy()
        self.sign = sign

    def settle(self, image: np.ndarray, label: int) -> list[dict[str, np.ndarray]]:
        """Activity of both areas after each of six steps."""
        return self.watch([image] * brain_by_hand.STEPS, label)

    def goodness(self, activity: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Of each block: sums of squares in V1, a mean square in V2."""
        return {"V1": (activity["V1"].reshape(2, 4) ** 2).sum(-1), "V2": np.array([np.mean(activity["V2"] ** 2)])}

    def odds(self, goodness: dict[str, np.ndarray]) -> np.ndarray:
        """Log odds of all three blocks."""
        return self.sign * np.concatenate([goodness["V1"] - 1.5, (goodness["V2"] - 0.5) / 0.5])

    def window(self, steps: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Goodness averaged over steps 3 to 5."""
        return {area: np.mean([self.goodness(y)[area] for y in steps[2:5]], axis=0) for area in BLOCKS}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(brain: Brain, images: np.ndarray, labels: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    """Every measure of one subject."""
    wrong_of = {case: [k for k in range(LABELS) if k != labels[case]] for case in range(len(labels))}
    settled = {(case, k): brain.settle(images[case], k) for case in wrong_of for k in range(LABELS)}
    good = {key: brain.window(steps) for key, steps in settled.items()}
    good_noise = {case: brain.window(brain.settle(noise[case], labels[case])) for case in wrong_of}
    evidence = {key: brain.odds(g).sum() for key, g in good.items()}
    p_bar = {key: sigmoid(brain.odds(g)).mean() for key, g in good.items()}
    real = [(case, labels[case]) for case in wrong_of]
    wrong = [(case, k) for case, ks in wrong_of.items() for k in ks]
    belief = {}
    for case in wrong_of:
        power = np.exp(brain.softmax @ heard(brain.pass_up(images[case])["V2"]))
        belief[case] = power / power.sum()

    def decision(case: int) -> int:
        """The first step from which the best label stays the same."""
        best = [
            np.argmax([brain.odds(brain.goodness(settled[case, k][s])).sum() for k in range(LABELS)]) for s in range(6)
        ]
        return next(step for step in range(1, 7) if len(set(best[step - 1 :])) == 1)

    found: dict[str, float | np.ndarray] = {
        "err_goodness": np.mean([np.argmax([evidence[c, k] for k in range(LABELS)]) != labels[c] for c in wrong_of]),
        "err_softmax": np.mean([np.argmax(belief[c]) != labels[c] for c in wrong_of]),
        "fp_neg": np.mean([p_bar[key] > 0.5 for key in wrong]),
        "fp_noise": np.mean([sigmoid(brain.odds(good_noise[c])).mean() > 0.5 for c in wrong_of]),
        "miss": np.mean([p_bar[key] < 0.5 for key in real]),
        "wake_drive": np.mean([1 - p_bar[key] for key in real]),
        "decision_steps": np.mean([decision(case) for case in wrong_of]),
    }
    up, down = np.array([evidence[key] for key in real]), np.array([evidence[key] for key in wrong])
    found["dprime"] = (up.mean() - down.mean()) / np.sqrt((up.var(ddof=1) + down.var(ddof=1)) / 2)
    found["auroc"] = np.mean([(a > b) + 0.5 * (a == b) for a in up for b in down])
    hits = (sum(p_bar[key] > 0.5 for key in real) + 0.5) / (len(real) + 1)
    alarms = (sum(p_bar[key] > 0.5 for key in wrong) + 0.5) / (len(wrong) + 1)
    z = [torch.special.ndtri(torch.tensor(rate, dtype=torch.float64)).item() for rate in (hits, alarms)]
    found["criterion"] = -0.5 * sum(z)
    drives = []
    for case, labels_wrong in wrong_of.items():
        share = belief[case][labels_wrong] / belief[case][labels_wrong].sum()
        drives.append(sum(s * p_bar[case, k] for s, k in zip(share, labels_wrong, strict=True)))
    found["sleep_drive"] = np.mean(drives)

    choice = {c: np.argmax([evidence[c, k] for k in range(LABELS)]) for c in wrong_of}
    of_label = [[choice[c] != k for c in wrong_of if labels[c] == k] for k in range(LABELS)]
    found["err_by_label"] = np.array([np.mean(failed) if failed else np.nan for failed in of_label])
    found["fp_by_label"] = np.array([np.mean([p_bar[c, j] > 0.5 for c, j in wrong if j == k]) for k in range(LABELS)])
    kinds = {"pos": [good[k] for k in real], "neg": [good[k] for k in wrong], "noise": list(good_noise.values())}
    for kind, all_good in kinds.items():
        for name in (f"goodness_{kind}", f"goodness_{kind}_sd", f"p_{kind}"):
            found[name] = np.full((2, 2), np.nan)
        chance = sigmoid(np.array([brain.odds(g) for g in all_good]))
        for place, (area, blocks) in enumerate(BLOCKS.items()):
            values = np.array([g[area] for g in all_good])
            found[f"goodness_{kind}"][place, :blocks] = values.mean(0)
            found[f"goodness_{kind}_sd"][place, :blocks] = values.std(0)
            found[f"p_{kind}"][place, :blocks] = chance[:, 2 * place : 2 * place + blocks].mean(0)
    shown = {area: np.array([[y[area] for y in settled[key][2:5]] for key in real]) for area in BLOCKS}
    found["rate"] = np.array([values.mean() for values in shown.values()])
    found["active_frac"] = np.array([(values > 0).mean() for values in shown.values()])
    found["goodness_by_stimulus"] = np.array(
        [[[good[c, k][area].sum() for area in BLOCKS] for k in range(LABELS)] for c in wrong_of]
    )
    found["goodness_by_noise"] = np.array([[good_noise[c][area].sum() for area in BLOCKS] for c in wrong_of])
    return found


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("sign", ["max", "min"])
@pytest.mark.parametrize("alternating", [False, True])
def test_every_measure_is_what_its_definition_says(sign, alternating, device):
    engine = engine_of(device, alternating=alternating)
    engine = RateEngine(with_goodness(engine.net, sign=sign), engine.dynamics)
    state, softmax = cohort(engine)
    probe = probe_of()
    found = measure(engine, state, softmax, probe, STEPS)
    spread = []
    for place in range(len(SUBJECTS)):
        brain = Brain(state, softmax, place, 1.0 if sign == "max" else -1.0, alternating)
        noise = probe.noise[place].double().numpy()
        wanted = by_hand(brain, probe.images.double().numpy(), probe.labels.numpy(), noise)
        for name, value in wanted.items():
            measured = found.row[name] if name in found.row else found.stimuli[name]
            np.testing.assert_allclose(measured[place], value, rtol=2e-4, atol=2e-5, err_msg=name)
        spread.append({name: wanted[name] for name in ("fp_neg", "miss", "fp_noise", "err_goodness", "decision_steps")})
        assert wanted.keys() == (VARIABLES.keys() | STIMULUS_VARIABLES.keys()) - {"true_label"}
    for name in spread[0]:  # a measure that is the same for all subjects would be tested badly
        assert len({float(one[name]) for one in spread}) > 1, name
    assert found.stimuli["true_label"].tolist() == probe.labels.tolist()


def test_every_measure_has_the_shape_that_the_log_is_told():
    found = found_by(engine_of())
    sizes = {"subject": 3, "area": 2, "block": 2, "stimulus": CASES, "label": LABELS}

    def shape(variable: Variable) -> tuple[int, ...]:
        return tuple(sizes[dim] for dim in variable.dims if dim != "probe")

    assert {name: array.shape for name, array in found.row.items()} == {n: shape(v) for n, v in VARIABLES.items()}
    stimuli = {name: array.shape for name, array in found.stimuli.items()}
    assert stimuli == {name: shape(variable) for name, variable in STIMULUS_VARIABLES.items()}


def test_an_area_with_fewer_blocks_has_no_value_in_the_others():
    row = found_by(engine_of()).row
    for name, variable in VARIABLES.items():
        if "block" in variable.dims:
            assert np.isnan(row[name][:, 1, 1]).all() and np.isfinite(row[name][:, 0]).all()


@pytest.mark.parametrize("rows", [1, 60, 10**6])
def test_the_size_of_a_chunk_does_not_matter(monkeypatch, rows):
    engine = engine_of()
    whole = found_by(engine)
    monkeypatch.setattr(probe_file, "ROWS_AT_ONCE", rows)
    parts = found_by(engine)
    for name, value in {**whole.row, **whole.stimuli}.items():
        np.testing.assert_allclose({**parts.row, **parts.stimuli}[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_alone_is_the_subject_it_is_among_others(subject):
    engine = engine_of()
    many, alone = found_by(engine), found_by(engine, [subject])
    place = SUBJECTS.index(subject)
    for name, value in {**many.row, **many.stimuli}.items():
        if name != "true_label":
            one = {**alone.row, **alone.stimuli}[name][0]
            np.testing.assert_allclose(one, value[place], rtol=1e-5, atol=1e-6, err_msg=name)


def test_measuring_changes_nothing():
    engine = engine_of()
    state, softmax = cohort(engine)
    probe = probe_of()
    arrays = {
        **state.arrays(),
        **softmax.arrays(),
        "images": probe.images,
        "labels": probe.labels,
        "noise": probe.noise,
    }
    before = {name: array.clone() for name, array in arrays.items()}
    first = measure(engine, state, softmax, probe, STEPS)
    again = measure(engine, state, softmax, probe, STEPS)
    assert all(torch.equal(before[name], array) for name, array in arrays.items())
    for name, value in first.row.items():
        np.testing.assert_array_equal(again.row[name], value)


def test_min_turns_every_probability_around():
    """§3.5: the same activity; what was real is not."""
    engine = engine_of()
    high, low = found_by(engine), found_by(RateEngine(with_goodness(engine.net, sign="min"), engine.dynamics))
    for kind in ("pos", "neg", "noise"):
        np.testing.assert_allclose(low.row[f"p_{kind}"], 1 - high.row[f"p_{kind}"], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(low.row[f"goodness_{kind}"], high.row[f"goodness_{kind}"])
    for name in ("fp_neg", "fp_noise", "miss", "auroc", "wake_drive", "sleep_drive"):
        np.testing.assert_allclose(low.row[name], 1 - high.row[name], rtol=1e-4, atol=1e-6)
    for name in ("dprime", "criterion"):
        np.testing.assert_allclose(low.row[name], -high.row[name], rtol=1e-4, atol=1e-6)


def test_noise_has_the_pixels_of_its_image_in_an_order_of_its_own():
    probe = probe_of()
    assert torch.equal(probe.noise.sort(-1).values, probe.images.sort(-1).values.expand(3, -1, -1))
    assert not (probe.noise == probe.images).all(-1).any()
    assert not torch.equal(probe.noise[0], probe.noise[1])
    assert torch.equal(probe_of([2]).noise[0], probe.noise[1])


def test_a_network_that_diverged_has_no_rates():
    """Divergence is data: no rate of 0 % is made up for a network without a finite activity."""
    engine = engine_of()
    state, softmax = cohort(engine)
    state.weights["V1→V2"][1] = float("nan")
    row = measure(engine, state, softmax, probe_of(), STEPS).row
    whole = found_by(engine).row
    for name in ("fp_neg", "fp_noise", "miss", "dprime", "criterion", "auroc", "sleep_drive", "wake_drive"):
        assert np.isnan(row[name][1]), name
        np.testing.assert_array_equal(row[name][[0, 2]], whole[name][[0, 2]])


# ------------------------------------------------------------------------ §3.5: does what comes from above cancel?


def test_drives_from_below_and_above_are_compared():
    engine = engine_of()
    state, softmax = cohort(engine)
    probe = probe_of()
    found = measure(engine, state, softmax, probe, STEPS, blocks=2, measures=["cancellation"]).row
    assert {name for name in found if name in MEASURES["cancellation"]} == set(MEASURES["cancellation"])
    for place, subject in enumerate(SUBJECTS):
        brain, energies = Brain(state, softmax, place, 1.0, False), {}
        for case, label in enumerate(probe.labels.tolist()):
            pictures = {"pos": probe.images[case], "neg": probe.images[case], "noise": probe.noise[place, case]}
            for kind, picture in pictures.items():
                shown = (label + 1) % LABELS if kind == "neg" else label
                image, context = picture.double().numpy(), np.eye(LABELS)[shown]
                after = brain.settle(image, shown)[STEPS[1] - 1]
                below = {"V1": "retina→V1", "V2": "V1→V2"}
                above = {"V1": "V2→V1", "V2": "label→V2"}
                said = {area: heard(y) for area, y in {**after, "retina": image, "label": context}.items()}
                for area in BLOCKS:
                    b, t = (brain.weights[of[area]] @ said[of[area].split("→")[0]] for of in (below, above))
                    energies.setdefault((kind, area), []).append((b @ b, t @ t, b @ t))
        for (kind, area), values in energies.items():
            b2, t2, bt = np.mean(values, axis=0)
            at = (place, list(BLOCKS).index(area))
            assert found[f"agreement_{kind}"][at] == pytest.approx(bt / np.sqrt(b2 * t2), abs=1e-4)
            assert found[f"cancellation_{kind}"][at] == pytest.approx(1 - (b2 + t2 + 2 * bt) / b2, abs=1e-3), subject


# ------------------------------------------------------------------------ §3.4: does activity swing to and fro?


@pytest.mark.parametrize("alternating", [False, True])
def test_changes_from_step_to_step_are_compared(alternating):
    engine = engine_of(alternating=alternating)
    state, softmax = cohort(engine)
    probe = probe_of()
    found = measure(engine, state, softmax, probe, STEPS, blocks=2, measures=["oscillation"]).row
    for place in range(len(SUBJECTS)):
        brain, courses = Brain(state, softmax, place, 1.0, alternating), []
        for image, label in zip(probe.images.double().numpy(), probe.labels.tolist(), strict=True):
            courses.append([brain.pass_up(image), *brain.settle(image, label)])
        for where, area in enumerate(BLOCKS):
            y = np.array([[moment[area] for moment in course] for course in courses])  # (cases, 1 + steps, units)
            delta = np.diff(y, axis=1)
            size, moved = (y[:, 1:] ** 2).sum((0, 2)), (delta**2).sum((0, 2))
            turned = (delta[:, 1:] * delta[:, :-1]).sum((0, 2))
            np.testing.assert_allclose(found["change"][place, where], np.sqrt(moved / size), rtol=1e-3)
            assert np.isnan(found["reversal"][place, where, 0])
            reversal = -turned / np.sqrt(moved[1:] * moved[:-1])
            np.testing.assert_allclose(found["reversal"][place, where, 1:], reversal, atol=5e-3)


def test_changes_begin_with_what_the_true_label_in_the_image_evoked():
    """§3.3's label in the first pixels: each version of an image evokes an activity of its own."""
    model = {**MODEL, "areas": {k: v for k, v in MODEL["areas"].items() if k != "label"}}
    model["projections"] = MODEL["projections"][:3]
    engine = RateEngine(parse_model(json.dumps(model)), RateDynamics(steps=6))
    state, softmax = cohort(engine)
    random = np.random.default_rng(0)
    images, labels = random.random((CASES, PIXELS), dtype=np.float32), random.integers(0, LABELS, CASES)
    present = Presentation("pixels", "retina", None, (3, 3), LABELS, blurs=2)
    probe = Probe.of(images, labels, 0, SUBJECTS, present)
    found = measure(engine, state, softmax, probe, STEPS, blocks=2, measures=["oscillation"]).row
    percept = engine.look(state, present.labelled(probe.images[None], probe.labels[None, :, None])[0])
    evoked = {area: activity[:, :, 0] for area, activity in percept.activity.items()}
    first = next(iter(engine.settle(state, percept, {}))).activity
    for where, area in enumerate(BLOCKS):
        after = first[area][:, :, 0]
        moved, size = (array.square().sum((1, 2)) for array in (after - evoked[area], after))
        np.testing.assert_allclose(found["change"][:, where, 0], (moved / size).sqrt(), rtol=1e-4)


# ------------------------------------------------------------------------ feed-forward nets


class Chain:
    """A feed-forward net of two areas, as plain float64, and what it makes of an image."""

    def __init__(self, seed: int = 3) -> None:
        areas = {"retina": {"role": "input", "shape": [3, 3]}, "V1": {"units": 8}, "V2": {"units": 6}}
        projections = [{"from": "retina", "to": "V1"}, {"from": "V1", "to": "V2"}]
        net = parse_model(json.dumps({"format": "cortexff-model/1", "areas": areas, "projections": projections}))
        self.engine = RateEngine(net, RateDynamics(steps=0))
        self.state, self.softmax = cohort(self.engine, [seed])

    def goodness(self, image: np.ndarray) -> np.ndarray:
        """Log odds of both areas: goodness minus units."""
        return np.array([(y**2).sum() - len(y) for y in self.pass_up(image)])

    def pass_up(self, image: np.ndarray) -> list[np.ndarray]:
        first, second = (w[0].double().numpy() for w in self.state.weights.values())
        biases = [b[0].double().numpy() for b in self.state.biases.values()]
        y1 = np.maximum(first @ heard(image) + biases[0], 0)
        return [y1, np.maximum(second @ heard(y1) + biases[1], 0)]

    def probed(self, labels: str, skip_first: bool) -> tuple[Probe, dict[str, np.ndarray]]:
        random = np.random.default_rng(0)
        images, present = (
            random.random((CASES, PIXELS), dtype=np.float32),
            Presentation(labels, "retina", None, (3, 3), LABELS, blurs=1),
        )
        probe = Probe.of(images, random.integers(0, LABELS, CASES), 0, [3], present)
        found = measure(self.engine, self.state, self.softmax, probe, (1, 1), skip_first=skip_first)
        return probe, {name: np.asarray(value)[0] for name, value in found.row.items()}


@pytest.mark.parametrize("skip_first", [False, True])
def test_labels_in_the_pixels_are_tried_one_by_one(skip_first):
    """§3.3: every label in the input, the goodness of all but the first area; a neutral label for the softmax."""
    chain = Chain()
    probe, found = chain.probed("pixels", skip_first)
    images, labels = probe.images.double().numpy(), probe.labels.numpy()

    def with_label(image: np.ndarray, label: np.ndarray) -> np.ndarray:
        return np.concatenate([label, image[LABELS:]])

    odds = np.array([[chain.goodness(with_label(image, one)) for one in np.eye(LABELS)] for image in images])
    counted = odds[..., int(skip_first) :]
    assert found["err_goodness"] == pytest.approx(np.mean(counted.sum(-1).argmax(1) != labels))
    true = np.eye(LABELS, dtype=bool)[labels]
    assert found["fp_neg"] == pytest.approx(np.mean(sigmoid(counted[~true]).mean(-1) > 0.5))
    noise = np.array(
        [chain.goodness(with_label(n, np.eye(LABELS)[k])) for n, k in zip(probe.noise[0].numpy(), labels, strict=True)]
    )
    assert found["fp_noise"] == pytest.approx(np.mean(sigmoid(noise[:, int(skip_first) :]).mean(-1) > 0.5))
    np.testing.assert_allclose(found["goodness_pos"][:, 0], odds[true].mean(0) + np.array([8, 6]), rtol=1e-4)
    neutral = [chain.pass_up(with_label(image, np.full(LABELS, 1 / LABELS)))[1] for image in images]
    choice = [np.argmax(chain.softmax.weights[0].double().numpy() @ heard(y)) for y in neutral]
    assert found["err_softmax"] == pytest.approx(np.mean(choice != labels))


def test_images_are_told_from_their_hybrids():
    """§3.2: no label is shown; the softmax hears the image alone."""
    chain = Chain()
    probe, found = chain.probed("none", False)
    real = np.array([chain.goodness(image).sum() for image in probe.images.double().numpy()])
    hybrid = np.array([chain.goodness(image) for image in probe.hybrids[0].double().numpy()])
    assert set(found) == set(HYBRID_VARIABLES)
    assert found["err_hybrids"] == pytest.approx(np.mean(real < hybrid.sum(-1)))
    assert found["fp_neg"] == pytest.approx(np.mean(sigmoid(hybrid).mean(-1) > 0.5))
    assert found["sleep_drive"] == pytest.approx(sigmoid(hybrid).mean(), rel=1e-4)
    choice = [
        np.argmax(chain.softmax.weights[0].double().numpy() @ heard(chain.pass_up(image)[1]))
        for image in probe.images.double().numpy()
    ]
    assert found["err_softmax"] == pytest.approx(np.mean(choice != probe.labels.numpy()))
    before = probe.images.roll(1, 0)
    assert ((probe.hybrids[0] == probe.images) | (probe.hybrids[0] == before)).all()


# ------------------------------------------------------------------------ backpropagation


def test_a_softmax_alone_is_measured_by_its_error_and_its_cross_entropy(monkeypatch):
    """In double precision from the weights; in parts as at once; a subject that has diverged has neither."""
    random, engine = np.random.default_rng(0), BackpropEngine(parse_model(json.dumps(MODEL)))
    state, softmax = engine.start(0, SUBJECTS), start_softmax(engine, len(SUBJECTS), LABELS)
    softmax.weights += torch.from_numpy(random.standard_normal(softmax.weights.shape)).float()
    state.biases["V2"][2, 0] = np.nan
    images, labels = random.random((CASES, PIXELS)).astype(np.float32), random.integers(0, LABELS, CASES)
    probe = Probe.bare(images, labels, Presentation("none", "retina", None, (3, 3), LABELS, blurs=1))
    found = measure_softmax(engine, state, softmax, probe)
    assert found.stimuli == {} and found.row.keys() == BACKPROP_VARIABLES.keys()
    for subject in (0, 1):
        matrices = [state.weights[name][subject].double().numpy() for name in ("retina→V1", "V1→V2")]
        activity = images.astype(float)
        for matrix in matrices:
            activity = np.maximum(activity @ matrix.T, 0)
        logits = activity @ softmax.weights[subject].double().numpy().T
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        assert found.row["err_softmax"][subject] == pytest.approx((logits.argmax(-1) != labels).mean())
        assert found.row["loss"][subject] == pytest.approx(-log_p[range(CASES), labels].mean(), rel=1e-5)
    assert all(np.isnan(value[2]) for value in found.row.values())
    monkeypatch.setattr(probe_file, "ROWS_AT_ONCE", 7)
    for name, values in measure_softmax(engine, state, softmax, probe).row.items():
        np.testing.assert_allclose(values, found.row[name], rtol=1e-6)
