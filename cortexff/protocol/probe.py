"""What is measured when plasticity is off: readouts, goodness, signal detection and activity of every subject.

Real data are images with their true label; negative data are the same images with each of the wrong labels; noise is
an image with its pixels shuffled, shown with the true label. Where labels are not shown, real data are images, and
negative data their hybrids with others. Goodness is averaged over the readout's steps. A net trained by backpropagation
has a softmax and nothing else to measure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cortexff import readout
from cortexff.analysis.signal_detection import auroc, criterion, dprime
from cortexff.engines import ranks
from cortexff.engines.backprop import BackpropEngine, cross_entropy
from cortexff.engines.rate import RateEngine
from cortexff.engines.spiking import SpikingEngine
from cortexff.engines.state import RateState
from cortexff.log import Variable
from cortexff.protocol import dynamics, trials
from cortexff.protocol.presentation import Presentation
from cortexff.random_streams import generator
from cortexff.stimuli.pixels import shuffled_pixels

ROWS_AT_ONCE = 2000  # cases x versions x subjects settled together: activity stays in the processor's caches

_PROBE, _BLOCK = ("probe", "subject"), ("probe", "subject", "area", "block")


def _scalar(long_name: str, formula: str = "", units: str = "1") -> Variable:
    return Variable(_PROBE, units, long_name, formula)


def _per_block(long_name: str, formula: str = "", units: str = "1") -> Variable:
    return Variable(_BLOCK, units, long_name, formula)


DPRIME = "[μ(E⁺) − μ(E⁻)] / √((σ²(E⁺) + σ²(E⁻))/2), E = log odds"
P_BAR = "p̄ = mean of p(positive) over blocks and areas"


def _variables(kinds: Mapping[str, str], wrong: str, weighting: str = "") -> dict[str, Variable]:
    """What every probe of goodness finds beside the error by goodness.

    kinds      in words: ``pos``, ``neg`` and ``noise``
    wrong      negative data in two words
    weighting  how they are weighted in the drive of the negative phase
    """
    return {
        "err_softmax": _scalar("error of the one-pass softmax", "P(argmax_k softmax_k ≠ true label)"),
        "fp_neg": _scalar(f"false-positive rate on {wrong} (hallucination)", f"P(p̄ > 0.5), {P_BAR}"),
        "fp_noise": _scalar("false-positive rate on noise (hallucination)", f"P(p̄ > 0.5), {P_BAR}"),
        "miss": _scalar("miss rate on real data", f"P(p̄ ≤ 0.5), {P_BAR}"),
        "dprime": _scalar(f"d′ of real data against {wrong}", DPRIME),
        "criterion": _scalar(
            "criterion: negative when biased towards 'real'", "−½ [z(1 − miss) + z(fp_neg)], log-linear"
        ),
        "auroc": _scalar(f"area under the ROC of real data against {wrong}", "P(E⁺ > E⁻) + ½ P(E⁺ = E⁻)"),
        "sleep_drive": _scalar("learning drive of the negative phase", f"E[p̄(x⁻)]{weighting}"),
        "wake_drive": _scalar("learning drive of the positive phase", "E[1 − p̄(x⁺)]"),
        "decision_steps": _scalar(
            "settling time to the final decision", "first step from which argmax_k stays", "steps"
        ),
        **{f"goodness_{k}": _per_block(f"mean goodness, {v}", "E[G]", "activity²") for k, v in kinds.items()},
        **{
            f"goodness_{k}_sd": _per_block(f"SD of goodness over stimuli, {v}", "SD[G]", "activity²")
            for k, v in kinds.items()
        },
        **{
            f"p_{k}": _per_block(f"mean P(positive), {v}", "E[σ(±(G − θ)/κ)], − where the sign of goodness is min")
            for k, v in kinds.items()
        },
        "rate": Variable(_BLOCK[:3], "activity", "mean activity on real data", "E[y]"),
        "active_frac": Variable(_BLOCK[:3], "1", "share of units that are active on real data", "P(y > 0)"),
    }


KINDS = {"pos": "real images with their true label", "neg": "images with a wrong label", "noise": "shuffled pixels"}
_LABEL = ("probe", "subject", "label")
VARIABLES = {
    "err_goodness": _scalar("error of the label of highest goodness", "P(argmax_k sum of log odds ≠ true label)"),
    **_variables(KINDS, "wrong labels", ", wrong labels weighted by softmax"),
    "err_by_label": Variable(_LABEL, "1", "err_goodness of images with this true label"),
    "fp_by_label": Variable(_LABEL, "1", "fp_neg of other images that are shown with this label"),
}
HYBRID_VARIABLES = {  # where labels are not shown, and the wrong label's place is taken by a hybrid (§3.2)
    "err_hybrids": _scalar("hybrids of higher goodness than their image", "P(log odds of hybrid > log odds of image)"),
    **_variables({**KINDS, "pos": "real images", "neg": "hybrids"}, "hybrids"),
}
BACKPROP_VARIABLES = {  # of a net that has no goodness (§3.1)
    "err_softmax": VARIABLES["err_softmax"],
    "loss": _scalar("cross-entropy of the softmax, nothing dropped or smoothed", "E[−log softmax_label]", "nat"),
}
STIMULUS_VARIABLES = {
    "goodness_by_stimulus": Variable(
        ("subject", "stimulus", "label", "area"), "activity²", "goodness of each stimulus with each label", "Σ_blocks G"
    ),
    "goodness_by_noise": Variable(
        ("subject", "stimulus", "area"), "activity²", "goodness of each noise image", "Σ_blocks G"
    ),
    "true_label": Variable(("stimulus",), "1", "true label of each stimulus", dtype="i8"),
}


@dataclass(frozen=True)
class Probe:
    """Stimuli of a probe: the same for all conditions, so every comparison is paired.

    images        (cases, pixels)
    labels        (cases,)
    noise         (subjects, cases, pixels); None in :meth:`bare`
    hybrids       (subjects, cases, pixels), each image with the one before it; where labels are not shown
    presentation  how all of it is shown
    """

    images: Tensor
    labels: Tensor
    noise: Tensor | None
    hybrids: Tensor | None
    presentation: Presentation

    @classmethod
    def of(
        cls, images: np.ndarray, labels: np.ndarray, seed: int, subjects: Sequence[int], presentation: Presentation
    ) -> Probe:
        pictures = torch.from_numpy(images)
        noise = [shuffled_pixels(pictures[None], [generator(seed, subject, "noise")])[0] for subject in subjects]
        hybrids = None
        if presentation.labels == "none":
            streams = [generator(seed, subject, "probed masks") for subject in subjects]
            hybrids = presentation.hybrids(pictures[None], pictures[None].roll(1, dims=1), streams)
        return cls(pictures, torch.from_numpy(labels), torch.stack(noise), hybrids, presentation)

    @classmethod
    def bare(cls, images: np.ndarray, labels: np.ndarray, presentation: Presentation) -> Probe:
        """Images alone, for :func:`measure_softmax`."""
        return cls(torch.from_numpy(images), torch.from_numpy(labels), None, None, presentation)

    @property
    def versions(self) -> int:
        """In which each image is tried: with every label, or itself and its hybrid."""
        return self.presentation.classes if self.hybrids is None else 2

    @property
    def real(self) -> Tensor:
        """Which of its versions is real, (cases,)."""
        return self.labels if self.hybrids is None else torch.zeros_like(self.labels)


@dataclass
class Measurement:
    """One probe of a cohort.

    row       a value for each of ``VARIABLES`` (or ``HYBRID_``, ``BACKPROP_VARIABLES``), without the probe dimension
    stimuli   a value for each of ``STIMULUS_VARIABLES``
    """

    row: dict[str, np.ndarray]
    stimuli: dict[str, np.ndarray]


def measure(
    engine: RateEngine,
    state: RateState,
    softmax: readout.SoftmaxState,
    probe: Probe,
    steps: tuple[int, int],
    blocks: int = 1,
    skip_first: bool = False,
    measures: Collection[str] = (),
) -> Measurement:
    """Every metric of every subject, plasticity off; NaN in all of a subject whose network has diverged.

    steps       first and last step over which goodness is averaged, from 1
    blocks      length of the block axis; areas with fewer blocks are filled up with NaN
    skip_first  leave the first hidden area out of what decides (§3.3)
    measures    names in ``dynamics.MEASURES`` of what is measured too
    """
    counted = engine.areas[1:] if skip_first else engine.areas
    chunks = _chunks(len(softmax.weights) * probe.versions, len(probe.labels))
    parts = [_measure_cases(engine, state, softmax, probe, cases, steps, counted, measures) for cases in chunks]
    whole = _whole(parts, probe)
    of_trials = {}
    if "spikes" in measures and isinstance(engine, SpikingEngine):
        of_trials = trials.of_real_data(engine, state, probe.presentation, probe.images, probe.labels, steps[0])
    with np.errstate(invalid="ignore", over="ignore"):  # a diverged network is told by its NaN
        return _summary(engine, whole, probe, blocks, counted, measures, of_trials)


def measure_softmax(
    engine: BackpropEngine, state: RateState, softmax: readout.SoftmaxState, probe: Probe
) -> Measurement:
    """Each of ``BACKPROP_VARIABLES`` of every subject; NaN where its network has diverged."""
    parts = []
    for cases in _chunks(len(softmax.weights), len(probe.labels)):
        labels = probe.labels[None, cases].to(engine.device).expand(len(softmax.weights), -1)
        percept = engine.look(state, probe.presentation.plain(probe.images[None, cases].to(engine.device)))
        logits = torch.bmm(readout.softmax_heard(engine, percept), softmax.weights.mT)
        parts.append({"wrong": (logits.argmax(-1) != labels).float(), "loss": cross_entropy(logits, labels)})
    whole = _whole(parts, probe)
    loss = whole["loss"].mean(-1, dtype=np.float64)
    error = np.where(np.isfinite(loss), whole["wrong"].mean(-1, dtype=np.float64), np.nan)
    row = {"err_softmax": error, "loss": np.where(np.isfinite(loss), loss, np.nan)}
    return Measurement({name: value.astype(np.float32) for name, value in row.items()}, {})


def _whole(parts: Sequence[dict[str, Tensor]], probe: Probe) -> dict[str, np.ndarray]:
    """Measures of all cases, of all ranks, from those of a few at a time; every array is (subjects, cases, ...)."""
    mine, count = ranks.share(len(probe.labels)), len(probe.labels)
    whole = {}
    for name in parts[0]:
        array = torch.cat([part[name] for part in parts], dim=1)
        if ranks.count() > 1:  # each rank fills in its cases, and the sum has them all
            filled = array.new_zeros(array.shape[0], count, *array.shape[2:])
            filled[:, mine] = array
            ranks.add_up([filled])()
            array = filled
        whole[name] = array.cpu().numpy()
    return whole


def _chunks(rows: int, cases: int) -> Iterator[slice]:
    """This rank's cases, of so many rows each, as many at a time as memory is meant to hold."""
    mine, size = ranks.share(cases), max(1, ROWS_AT_ONCE // rows)
    for first in range(mine.start, max(mine.stop, mine.start + 1), size):  # one, if only an empty one
        yield slice(first, min(first + size, mine.stop))


def _measure_cases(
    engine: RateEngine,
    state: RateState,
    softmax: readout.SoftmaxState,
    probe: Probe,
    cases: slice,
    steps: tuple[int, int],
    counted: Sequence[str],
    measures: Collection[str],
) -> dict[str, Tensor]:
    """Raw measures of some cases; every array is (subjects, cases, ...)."""
    present, labels, which = probe.presentation, probe.labels[cases].to(engine.device), probe.real[cases]
    images, noise = probe.images[None, cases].to(engine.device), probe.noise[:, cases].to(engine.device)
    if probe.hybrids is None:
        shown, context = present.every_label(images)
        noisy, true = present.labelled(noise, labels[None, :, None])
    else:
        shown, context = present.side_by_side(images, probe.hybrids[:, cases].to(engine.device))
        noisy, true = present.plain(noise), {}
    percept = engine.look(state, shown)

    rates = dynamics.Rates(which, steps)
    course = dynamics.Steps(percept.activity, which) if "oscillation" in measures else None
    spikes = dynamics.Spikes(which, steps[1]) if "spikes" in measures and isinstance(engine, SpikingEngine) else None
    drives = drives_of_noise = None
    if "cancellation" in measures:
        drives = dynamics.Drives((which, (which + 1) % probe.versions), steps[1])
        drives_of_noise = dynamics.Drives((torch.zeros_like(which),), steps[1])

    watchers = [watcher.see for watcher in (rates, course, spikes, drives) if watcher]
    trace = readout.goodness_trace(engine, state, percept, context, engine.areas, watchers)
    by_step = readout.evidence(engine, {area: trace[area] for area in counted})
    choice = by_step.argmax(-1)
    # Walking back from the last step: how many steps hold the final choice without a break?
    settled = (choice == choice[-1]).flip(0).cumprod(0).sum(0)
    decision_steps = len(by_step) - settled + 1
    watchers = [drives_of_noise.see] if drives_of_noise else []
    noise_trace = readout.goodness_trace(engine, state, engine.look(state, noisy), true, engine.areas, watchers)

    goodness = {area: readout.window(steps_of, steps) for area, steps_of in trace.items()}
    if present.labels == "pixels":  # the softmax hears a neutral label
        percept = engine.look(state, present.plain(images))
    believed = readout.belief(softmax, readout.softmax_heard(engine, percept))
    found = rates.arrays()
    if course:
        found |= course.arrays()
    if spikes:
        spikes.decided(decision_steps)
        twin = engine.rates
        heard = twin.look(state, shown)
        beside = readout.goodness_trace(twin, state, heard, context, twin.areas, [spikes.see_rates], steps[1])
        summed = [readout.window(trace_of, steps).sum(-1) for trace_of in beside.values()]
        found |= {**spikes.found, "rates": torch.stack(summed).sum(0)}
    if drives:
        both = present.labelled(images, torch.stack(drives.versions, -1)[None].to(engine.device))
        found |= drives.arrays(engine, state, "data", *both)
        found |= drives_of_noise.arrays(engine, state, "noise", noisy, true)
    return {
        "evidence": readout.evidence(engine, {area: goodness[area] for area in counted}),
        "belief": believed.expand(len(softmax.weights), -1, -1),
        "decision_steps": decision_steps,
        **{f"goodness/{area}": good for area, good in goodness.items()},
        **{f"noise/{area}": readout.window(steps_of, steps)[:, :, 0] for area, steps_of in noise_trace.items()},
        **found,
    }


def _summary(
    engine: RateEngine,
    whole: dict[str, np.ndarray],
    probe: Probe,
    blocks: int,
    counted: Sequence[str],
    measures: Collection[str],
    of_trials: Mapping[str, np.ndarray],
) -> Measurement:
    evidence, belief, labels = whole["evidence"], whole["belief"], probe.labels.numpy()
    subjects, cases, versions = evidence.shape
    true = np.eye(versions, dtype=bool)[probe.real.numpy()]  # (cases, versions)

    def real(array: np.ndarray) -> np.ndarray:
        return array[:, true]

    def wrong(array: np.ndarray) -> np.ndarray:
        return array[:, ~true]

    blocks = max(blocks, *(engine.net.nodes[area]["goodness"].blocks for area in engine.areas))
    row: dict[str, np.ndarray] = {}
    for kind in KINDS:
        for name in (f"goodness_{kind}", f"goodness_{kind}_sd", f"p_{kind}"):
            row[name] = np.full((subjects, len(engine.areas), blocks), np.nan, dtype=np.float32)
    p_label, p_noise = [], []
    for place, area in enumerate(engine.areas):
        good, noise = whole[f"goodness/{area}"], whole[f"noise/{area}"]
        p_good, p_bad = (engine.p_positive(area, torch.from_numpy(g)).numpy() for g in (good, noise))
        if area in counted:
            p_label.append(p_good)
            p_noise.append(p_bad)
        by_kind = {"pos": (real(good), real(p_good)), "neg": (wrong(good), wrong(p_good)), "noise": (noise, p_bad)}
        for kind, (values, chance) in by_kind.items():
            here = (slice(None), place, slice(values.shape[-1]))
            row[f"goodness_{kind}"][here] = values.mean(1, dtype=np.float64)
            row[f"goodness_{kind}_sd"][here] = values.std(1, dtype=np.float64)
            row[f"p_{kind}"][here] = chance.mean(1, dtype=np.float64)
    p_bar = np.concatenate(p_label, axis=-1).mean(-1)
    p_bar_noise = np.concatenate(p_noise, axis=-1).mean(-1)

    # Negative data are drawn as the softmax believes in them; a hybrid is all there is where labels are not shown.
    believed_wrong = np.where(true, 0.0, belief if probe.hybrids is None else 1.0)
    share = believed_wrong / np.maximum(believed_wrong.sum(-1, keepdims=True), 1e-30)
    failed = "err_goodness" if probe.hybrids is None else "err_hybrids"
    row[failed] = (evidence.argmax(-1) != probe.real.numpy()).mean(-1)
    if probe.hybrids is None:
        # Of no image of a label nothing is known.
        known = np.where(true.any(0), 1.0, np.nan)
        failures, count = (evidence.argmax(-1) != labels)[..., None] & true, np.maximum(true.sum(0), 1)
        row["err_by_label"] = known * failures.sum(1) / count
        row["fp_by_label"] = ((p_bar > 0.5) & ~true).sum(1) / np.maximum((~true).sum(0), 1)
    row["err_softmax"] = (belief.argmax(-1) != labels).mean(-1)
    row["fp_neg"] = (wrong(p_bar) > 0.5).mean(-1)
    row["fp_noise"] = (p_bar_noise > 0.5).mean(-1)
    row["miss"] = (real(p_bar) <= 0.5).mean(-1)
    row["dprime"] = dprime(real(evidence), wrong(evidence))
    row["criterion"] = criterion(
        1.0 - row["miss"], row["fp_neg"], hits_of=cases, false_alarms_of=cases * (versions - 1)
    )
    row["auroc"] = auroc(real(evidence), wrong(evidence))
    row["sleep_drive"] = (share * p_bar).sum(-1).mean(-1)
    row["wake_drive"] = (1.0 - real(p_bar)).mean(-1)
    row["decision_steps"] = whole["decision_steps"].mean(-1)
    row["rate"] = np.stack([whole[f"rate/{area}"].mean(-1) for area in engine.areas], axis=-1)
    row["active_frac"] = np.stack([whole[f"active/{area}"].mean(-1) for area in engine.areas], axis=-1)
    if "cancellation" in measures:
        row |= dynamics.cancellation(whole, engine.areas)
    if "oscillation" in measures:
        row |= dynamics.oscillation(whole, engine.areas)
    if "spikes" in measures:
        row |= {**dynamics.spikes(whole, engine), **of_trials}
    sane = np.isfinite(evidence).all((1, 2)) & np.isfinite(p_bar_noise).all(1)
    row = {name: np.where(sane.reshape(-1, *[1] * (value.ndim - 1)), value, np.nan) for name, value in row.items()}
    stimuli = {
        "goodness_by_stimulus": np.stack([whole[f"goodness/{area}"].sum(-1) for area in engine.areas], axis=-1),
        "goodness_by_noise": np.stack([whole[f"noise/{area}"].sum(-1) for area in engine.areas], axis=-1),
        "true_label": labels,
    }
    return Measurement({name: np.asarray(value, dtype=np.float32) for name, value in row.items()}, stimuli)
