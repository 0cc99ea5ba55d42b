"""The scorecard: what sleep loss does to people and animals, and whether a network without its negative phase does it.

Each signature is one line, with a verdict for each population: ``mimics``, ``opposite``, ``absent`` (a change that
would matter is ruled out), ``undecided`` or ``not tested``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cortexff.analysis.statistics import ALPHA, LEAST_SUBJECTS, effect, sign_flip_p
from cortexff.report.findings import CONTROL, DEPRIVED, Contrast, Findings, dose, known_interval
from cortexff.report.outcomes import BEFORE, OUTCOMES, Measured
from cortexff.report.words import estimate, number, p_value

MIMICS, OPPOSITE, ABSENT, UNDECIDED, NOT_TESTED = "mimics", "opposite", "absent", "undecided", "not tested"
LINEAR = ("linear", "threshold_linear")  # people's lapses grow in a line beyond some 16 h
DECISIVE = 6.0  # difference of AICc beyond which a law is out of the question
HALF = 0.5  # of the subjects: what becomes of them is what becomes of the population
WHAT_RISES = ("fp_neg", "err_goodness")  # where subjects do not settle
TIMES_AWAKE = ("deprived_10", "deprived_100", DEPRIVED)


@dataclass(frozen=True)
class Verdict:
    """A word, and the figures it rests on."""

    word: str
    figures: str = ""


NONE = Verdict(NOT_TESTED)
Test = Callable[[Findings, Measured], Verdict]


@dataclass(frozen=True)
class Signature:
    """A finding of sleep-deprivation science.

    number   as in the literature survey that the report rests on
    finding  in people or animals, in words
    source   who found it
    measure  what stands for it here
    test     its verdict in one population
    """

    number: str
    finding: str
    source: str
    measure: str
    test: Test


def scorecard(findings: Findings) -> list[tuple[Signature, dict[str, Verdict]]]:
    """Every signature with its verdict in each population, by name."""
    return [(one, {study.name: _verdict(one, findings, study) for study in findings.studies}) for one in SIGNATURES]


def _verdict(signature: Signature, findings: Findings, one: Measured) -> Verdict:
    found = signature.test(findings, one)
    few = one.population.subjects < LEAST_SUBJECTS and found.word != NOT_TESTED
    return Verdict(UNDECIDED, found.figures) if few else found


def judged(contrast: Contrast | None, direction: int) -> Verdict:
    """A change against the direction it has in people: 1 or -1."""
    if contrast is None or contrast.effect is None:
        return NONE if contrast is None else Verdict(UNDECIDED, "not known in every subject")
    outcome = OUTCOMES[contrast.outcome]
    figures = estimate(contrast.effect, outcome.digits, signed=True)
    if outcome.margin is not None and contrast.equivalent:
        return Verdict(ABSENT, figures)
    if contrast.changed:
        return Verdict(MIMICS if contrast.changed == direction else OPPOSITE, figures)
    return Verdict(ABSENT if contrast.equivalent else UNDECIDED, figures)


def compared(after: np.ndarray | None, before: np.ndarray | None, direction: int, digits: int = 2) -> Verdict:
    """Two values of each subject, tested by themselves."""
    if after is None or before is None:
        return NONE
    if not np.isfinite([after, before]).all():
        return Verdict(UNDECIDED, "not known in every subject")
    found = effect(after, before)
    sure = found.p < ALPHA and found.mean != 0
    word = UNDECIDED if not sure else MIMICS if np.sign(found.mean) == direction else OPPOSITE
    return Verdict(word, f"{estimate(found, digits, signed=True)}, {_alone(found.p)}")


def _alone(p: float) -> str:
    """A p of a test that stands beside the adjusted ones."""
    text = p_value(p)
    return f"p {text if text.startswith('<') else f'= {text}'}, not adjusted"


def _change(outcome: str, direction: int, condition: str = DEPRIVED, reference: str = CONTROL) -> Test:
    return lambda findings, one: judged(findings.contrast(one.name, condition, reference, outcome), direction)


def _both(*tests: Test) -> Test:
    """Together: mimics where all do, opposite where any is, absent where any is absent and none is opposite."""

    def test(findings: Findings, one: Measured) -> Verdict:
        parts = [single(findings, one) for single in tests]
        figures = "; ".join(part.figures for part in parts if part.figures)
        for word in (NOT_TESTED, OPPOSITE, ABSENT, UNDECIDED):
            if any(part.word == word for part in parts):
                return Verdict(word, figures)
        return Verdict(MIMICS, figures)

    return test


def _linear_dose_response(findings: Findings, one: Measured) -> Verdict:
    found = next((r for r in findings.responses if (r.population, r.outcome) == (one.name, "fp_neg")), None)
    if found is None or found.winner is None:
        return NONE
    share, fits = found.comparison.frequency[found.winner], found.comparison.mean
    behind = min(fits[law].aicc for law in LINEAR) - fits[found.winner].aicc
    figures = f"best: {found.winner} ({share:.0%} of resamples), ΔAICc of the line {number(found.against_linear, 1)}"
    if found.winner in LINEAR:
        return Verdict(MIMICS, figures)
    return Verdict(ABSENT if behind > DECISIVE else UNDECIDED, figures)


def ends_of_wake(measured: Measured, condition: str) -> list[int]:
    """The probes at the end of wake of a condition in which wake and sleep take turns."""
    return [place for place, phase in enumerate(measured.courses[condition].phases) if phase == "wake"]


def drift(measured: Measured, condition: str, outcome: str) -> np.ndarray | None:
    """Change per 1000 updates from end to end of wake over the last half of a condition, (subjects,); None where fewer
    than two were probed in that."""
    updates = measured.courses[condition].updates
    late = [place for place in ends_of_wake(measured, condition) if 2 * updates[place] >= updates[-1]]
    if len(late) < 2:
        return None
    values = np.stack([measured.value(condition, outcome, place) for place in late])
    return np.polyfit(updates[late] / 1000, values, 1)[0]


def last_awake(measured: Measured, condition: str, outcome: str = "fp_neg") -> np.ndarray | None:
    """An outcome at the last probe after wake of a condition in which wake and sleep take turns, (subjects,)."""
    if not measured.has(condition):
        return None
    awake = ends_of_wake(measured, condition)
    return measured.value(condition, outcome, awake[-1]) if awake else None


def _graded(findings: Findings, one: Measured) -> Verdict:
    return compared(last_awake(one, "chronic_1"), last_awake(one, "chronic_16"), 1, 1)


def _faster_fall(findings: Findings, one: Measured) -> Verdict:
    found = next((p for p in findings.process if p.population == one.name), None)
    if found is None:
        return NONE
    ratio = found.ratio
    if ratio is None:
        return Verdict(UNDECIDED, "time constants are known of too few subjects")
    word = MIMICS if ratio.low > 1 else OPPOSITE if ratio.high < 1 else UNDECIDED
    word = word if ratio.n >= LEAST_SUBJECTS else UNDECIDED
    return Verdict(word, f"τ_wake / τ_sleep {estimate(ratio, 1)} in {ratio.n} of {one.population.subjects}")


def _shorter_than_loss(findings: Findings, one: Measured) -> Verdict:
    found = next((n for n in findings.needs if (n.population, n.condition) == (one.name, "recovered")), None)
    if found is None:
        return NONE
    need = known_interval(found.need.updates)
    if need is None or not np.isfinite(found.need.updates).all():
        back = int(np.isfinite(found.need.updates).sum())
        return Verdict(UNDECIDED, f"back in {back} of {one.population.subjects} within {found.slept} updates")
    word = MIMICS if need.high < found.awake else OPPOSITE if need.low > found.awake else UNDECIDED
    return Verdict(word, f"{estimate(need, 1)} updates of sleep after {found.awake} of wake")


def _deficit_remains(findings: Findings, one: Measured) -> Verdict:
    """Over all the sleep that was watched: a deficit in the middle of a recovery is none that remains."""
    found = next((n for n in findings.needs if (n.population, n.condition) == (one.name, "recovered")), None)
    if found is None:
        return NONE
    back = np.isfinite(found.need.updates)
    word = ABSENT if back.all() else MIMICS if found.need.censored.mean() > HALF else UNDECIDED
    return Verdict(word, f"as before in {back.sum()} of {back.size} within {found.slept} updates of sleep")


def local(measured: Measured) -> tuple[np.ndarray, np.ndarray] | None:
    """How much more wrong labels are taken for real than by the control, in areas that do not sleep and in those that
    do, (subjects,) each."""
    if not measured.has("local_sleep", CONTROL):
        return None
    population = measured.population
    stage = population.protocol.stages[population.protocol.conditions["local_sleep"].stages[-1]]
    asleep = population.protocol.plasticity_of(stage).sleeping or population.areas
    courses = [population.courses[name] for name in ("local_sleep", CONTROL)]
    more = {}
    for place, area in enumerate(population.areas):
        after, before = (course.at_end("p_neg", place) for course in courses)
        more.setdefault(area in asleep, []).append(after - before)
    return None if len(more) < 2 else (np.mean(more[False], 0), np.mean(more[True], 0))


def _local_sleep(findings: Findings, one: Measured) -> Verdict:
    found = local(one)
    return NONE if found is None else compared(*found, 1)


def odds_of_last_seen(measured: Measured, condition: str = "one_class") -> np.ndarray | None:
    """Log odds ratio of false positives with the label that one_class saw last, against other labels, (subjects,).

    condition  at whose end; of one that saw all labels it tells how readily that label is taken for real anyway
    """
    courses = measured.courses
    if not measured.has("one_class", condition) or "fp_by_label" not in courses[condition].found:
        return None
    population = measured.population
    stage = population.protocol.stages[population.protocol.conditions["one_class"].stages[-1]]
    rates = courses[condition].found["fp_by_label"][-1].astype(float)
    images = len(courses[condition].found.get("true_label", range(100)))
    rates = (rates * images + 0.5) / (images + 1)  # so that no odds are 0 or infinite
    seen = np.isin(np.arange(rates.shape[1]), stage.stimuli.classes)
    odds = np.log(rates / (1 - rates))
    return odds[:, seen].mean(1) - odds[:, ~seen].mean(1)


def _last_seen(findings: Findings, one: Measured) -> Verdict:
    odds, usual = odds_of_last_seen(one), odds_of_last_seen(one, DEPRIVED)
    if odds is None or usual is None:
        return NONE
    if not np.isfinite([odds, usual]).all():
        return Verdict(UNDECIDED, "not known in every subject")
    found = effect(odds, usual)
    word = UNDECIDED if not found.p < ALPHA else MIMICS if found.mean > 0 else OPPOSITE
    bounds = [number(float(np.exp(one)), 1) for one in (found.mean, found.low, found.high)]
    return Verdict(word, f"odds ratio {bounds[0]} [{bounds[1]}, {bounds[2]}], {_alone(found.p)}")


def _lapses_first(findings: Findings, one: Measured) -> Verdict:
    if not one.has(*TIMES_AWAKE):
        return NONE
    first = {}
    for outcome in ("lapse_absolute", "fp_neg"):
        found = {t: findings.contrast(one.name, t, BEFORE, outcome) for t in TIMES_AWAKE}
        if any(contrast is None for contrast in found.values()):
            return NONE
        first[outcome] = next((place for place, c in enumerate(found.values()) if c.changed > 0), len(TIMES_AWAKE))
    when = [dose(one.population, name).positive for name in TIMES_AWAKE]
    said = {name: str(when[place]) if place < len(when) else f"over {when[-1]}" for name, place in first.items()}
    figures = (
        f"first sure rise of lapses after {said['lapse_absolute']}, of hallucinations after {said['fp_neg']} updates"
    )
    lapses, hallucinations = first["lapse_absolute"], first["fp_neg"]
    return Verdict(MIMICS if lapses < hallucinations else OPPOSITE if lapses > hallucinations else UNDECIDED, figures)


def _rise(one: Measured, outcome: str) -> np.ndarray | None:
    after, before = one.value(DEPRIVED, outcome), one.value(CONTROL, outcome)
    return None if after is None or before is None else after - before


def _lures(findings: Findings, one: Measured) -> Verdict:
    return compared(_rise(one, "fp_neg"), _rise(one, "fp_noise"), 1, 1)


def _dies(condition: str) -> Test:
    def test(findings: Findings, one: Measured) -> Verdict:
        if condition not in one.divergence:
            return NONE
        lost = one.divergence[condition].lost
        silent = one.silence[condition].lost if condition in one.silence else np.zeros_like(lost)
        watched = one.divergence[condition].watched
        figures = f"{lost.sum()} of {lost.size} diverged, {silent.sum()} fell silent by {watched} updates"
        ended = (lost | silent).mean()
        return Verdict(MIMICS if ended > HALF else ABSENT if ended == 0 else UNDECIDED, figures)

    return test


def _rises(slope: np.ndarray) -> bool:
    """Whether a slope over subjects, one of those of ``WHAT_RISES``, is above 0 for sure."""
    return slope.mean() > 0 and len(WHAT_RISES) * sign_flip_p(slope) < ALPHA


def _bifurcates(*conditions: str) -> Test:
    """Whether networks are lost with the least share of sleep and settle with the greatest, of some that rise.

    They settle where none diverges or falls silent, and neither hallucinations nor errors rise for sure from one end of
    wake to the next over the last half.
    """

    def test(findings: Findings, one: Measured) -> Verdict:
        if not one.has(*conditions):
            return NONE
        lost, rising, told = [], [], []
        for condition in conditions:
            gone = one.divergence[condition].lost | one.silence[condition].lost
            slopes = [] if gone.any() else [drift(one, condition, name) for name in WHAT_RISES]
            lost.append(gone.mean())
            rising.append(any(slope is None or _rises(slope) for slope in slopes))
            cycle = one.population.protocol.stages[one.population.protocol.conditions[condition].stages[-1]].cycle
            fate = f"{gone.sum()} of {gone.size} lost" if gone.any() else "rising" if rising[-1] else "settled"
            told.append(f"{fate} with {cycle.sleep} of sleep to {cycle.wake} awake")
        settled = [not gone and not up for gone, up in zip(lost, rising, strict=True)]
        word = MIMICS if lost[0] > HALF and settled[-1] else ABSENT if all(settled) else UNDECIDED
        return Verdict(word, ", ".join(told))

    return test


def new_labels(measured: Measured) -> np.ndarray | None:
    """Which labels are met only in encoding, (labels,); None where there is no such stage."""
    population = measured.population
    if not measured.has("encoding_rested", "encoding_deprived"):
        return None
    young = population.protocol.stages[population.protocol.conditions["young"].stages[0]].stimuli.classes
    return ~np.isin(np.arange(measured.courses["encoding_rested"].found["err_by_label"].shape[-1]), young)


def _encoding(findings: Findings, one: Measured) -> Verdict:
    new = new_labels(one)
    if new is None:
        return NONE
    errors = [
        100 * one.courses[name].found["err_by_label"][..., new].mean((0, -1))
        for name in ("encoding_deprived", "encoding_rested")
    ]
    return compared(*errors, 1, 1)


def retrieval(measured: Measured) -> tuple[np.ndarray, np.ndarray] | None:
    """Error on the labels that were known before, in percent, of the deprived and of the rested, (subjects,) each."""
    new = new_labels(measured)
    if new is None or not measured.has("young_deprived", "young_control"):
        return None
    young = ("young_deprived", "young_control")
    return tuple(100 * measured.courses[name].found["err_by_label"][-1][:, ~new].mean(-1) for name in young)


def _retrieval(findings: Findings, one: Measured) -> Verdict:
    errors = retrieval(one)
    if errors is None or not np.isfinite(errors).all():
        return NONE if errors is None else Verdict(UNDECIDED, "not known in every subject")
    found = effect(*errors, margin=OUTCOMES["err_goodness"].margin)
    word = MIMICS if found.equivalent else OPPOSITE if found.p < ALPHA and found.mean > 0 else UNDECIDED
    return Verdict(word, f"{estimate(found, 1, signed=True)}, {_alone(found.p)}")


def _untested(findings: Findings, one: Measured) -> Verdict:
    return NONE


AFTER_SLEEP = {"condition": "recovered", "reference": DEPRIVED}
SIGNATURES: Sequence[Signature] = (
    Signature("S1", "lapses of attention rise", "Basner 2011", "lapses, absolute bound", _change("lapse_absolute", 1)),
    Signature(
        "S1", "responses slow (1/RT falls)", "Basner 2011", "1/RT, absolute bound", _change("inv_rt_absolute", -1)
    ),
    Signature(
        "S1", "… also for an observer who adapts", "–", "1/RT, normalized bound", _change("inv_rt_normalized", -1)
    ),
    Signature(
        "S2", "drift rate falls", "Ratcliff & Van Dongen 2011", "drift, absolute bound", _change("drift_absolute", -1)
    ),
    Signature(
        "S2",
        "false starts and omissions rise together",
        "Doran 2001",
        "both, absolute bound",
        _both(_change("false_start_absolute", 1), _change("omission_absolute", 1)),
    ),
    Signature("S2", "the slow tail grows", "Raison 2025", "ex-Gaussian τ, absolute bound", _change("tau_absolute", 1)),
    Signature(
        "S3",
        "impairment grows linearly, beyond a threshold or from the start",
        "Van Dongen 2003",
        "hallucination rate",
        _linear_dose_response,
    ),
    Signature(
        "S4",
        "the less sleep, the worse",
        "Belenky 2003",
        "hallucinations, 1 update of sleep per cycle against 16",
        _graded,
    ),
    Signature(
        "S5",
        "below a critical share of sleep, state diverges",
        "McCauley 2009",
        "divergence or silence",
        _bifurcates("chronic_1", "chronic_4", "chronic_16"),
    ),
    Signature(
        "S5",
        "… with learning that never slows down",
        "–",
        "divergence or silence",
        _bifurcates("chronic_1_linear", "chronic_16_linear", "chronic_64_linear"),
    ),
    Signature(
        "S6", "sleep need falls faster than it rises (4.3 times)", "Borbély 1982", "time constants", _faster_fall
    ),
    Signature("S7", "less sleep than was lost suffices", "Lamond 2007", "updates to recovery", _shorter_than_loss),
    Signature(
        "S7", "a deficit remains after recovery", "Banks 2010", "hallucinations after all sleep", _deficit_remains
    ),
    Signature(
        "S8",
        "sleep banked before protects",
        "Rupp 2009",
        "banked − deprived",
        _change("fp_neg", -1, "banked", DEPRIVED),
    ),
    Signature("S9", "synapses strengthen in wake", "Tononi & Cirelli 2014", "mean weight", _change("weight_mean", 1)),
    Signature(
        "S9", "and weaken in sleep", "Tononi & Cirelli 2014", "mean weight", _change("weight_mean", -1, **AFTER_SLEEP)
    ),
    Signature("S10", "firing rates rise with time awake", "Vyazovskiy 2009", "mean rate", _change("rate", 1)),
    Signature("S10", "and fall in sleep", "Vyazovskiy 2009", "mean rate", _change("rate", -1, **AFTER_SLEEP)),
    Signature(
        "S10", "activity is more synchronous", "Vyazovskiy 2009", "synchrony χ²", _change("vigilance_synchrony", 1)
    ),
    Signature("S11", "OFF periods in the awake", "Vyazovskiy 2011", "OFF periods", _change("vigilance_off_index", 1)),
    Signature("S11", "sleep loss is local", "Vyazovskiy 2011", "p of negative data, areas without sleep", _local_sleep),
    Signature("S12", "hallucinations appear", "Waters 2018", "negative data taken for real", _change("fp_neg", 1)),
    Signature("S12", "and misperceptions of noise", "Waters 2018", "noise taken for real", _change("fp_noise", 1)),
    Signature("S12", "they are of what was last seen", "–", "odds of the label seen last, × deprived’s", _last_seen),
    Signature("S12", "they come late, lapses first", "Waters 2018", "time awake", _lapses_first),
    Signature("S13", "lures are remembered falsely", "Diekelmann 2008", "negative data beyond noise", _lures),
    Signature("S14", "sensitivity falls", "QJEP 23:449, 1971", "d′", _change("dprime", -1)),
    Signature(
        "S14",
        "in one study, the criterion becomes liberal",
        "Sleep-loss, noise and decisions",
        "criterion",
        _change("criterion", -1),
    ),
    Signature(
        "S15", "cortex is more excitable", "Huber 2013", "slope of the evoked activity", _change("evoked_slope", 1)
    ),
    Signature("S15", "a pulse evokes more", "Huber 2013", "response to a pulse", _change("pulse_response", 1)),
    Signature("S16", "the seizure threshold falls", "Science, 1965 (rats)", "gain", _change("gain_star", -1)),
    Signature("S17", "total deprivation is fatal (rats)", "Rechtschaffen 1989", "divergence", _dies(DEPRIVED)),
    Signature("S17", "… with learning that never slows down", "–", "divergence", _dies("deprived_linear")),
    Signature("S18", "more energy is spent", "Everson 1989", "activity × synapses", _change("energy", 1)),
    Signature("S19", "encoding suffers", "Yoo 2007", "error on new labels, mean of the course", _encoding),
    Signature("S19", "retrieval does not", "Cousins & Fernández 2019", "error on old labels", _retrieval),
    Signature("S20", "rates fall in REM more than in NREM", "Grosmark 2012", "–", _untested),
    Signature("S21", "criticality is lost", "Xu 2024", "–", _untested),
    Signature(
        "S22",
        "unlearning removes spurious memories",
        "Hopfield 1983",
        "noise after sleep",
        _change("fp_noise", -1, **AFTER_SLEEP),
    ),
)
