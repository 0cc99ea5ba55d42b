"""Predictions that were written down before the confirmatory subjects lived, and what became of them.

A threshold of a mean counts as passed where its whole 95 % interval over subjects lies beyond it; "as much or more" is
confirmed where less is not shown and what would refute it is ruled out. The rules are those that the preregistration
states in words; a prediction is judged for each results file by itself.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cortexff.analysis.process_s import sleep_need
from cortexff.analysis.statistics import LEAST_SUBJECTS, Interval, bca_interval, effect
from cortexff.description import parse, read_text
from cortexff.errors import CortexffError
from cortexff.report.findings import CONTROL, DEPRIVED, Contrast, Findings, awake, need_exponent, share_removed
from cortexff.report.outcomes import Measured
from cortexff.report.scorecard import (
    DECISIVE,
    drift,
    last_awake,
    new_labels,
    odds_of_last_seen,
    retrieval,
)
from cortexff.report.words import estimate, number
from cortexff.resources import PREREGISTRATION, find

CONFIRMED, REFUTED, UNDECIDED, NOT_TESTED = "confirmed", "refuted", "undecided", "not tested"
PROTOCOL = "sleep_deprivation"
SIGNS = {"max", "min", "mixed"}  # and the names of variants with them
CHRONIC = ("chronic_1", "chronic_4", "chronic_16")
LINEAR_BY = 1000  # updates of linear loss by which H7 is judged
KNOWN = 0.2  # error on new labels below which they count as known


@dataclass(frozen=True)
class Judgement:
    """What became of a prediction, and the figures it rests on."""

    word: str
    figures: str = ""


@dataclass(frozen=True)
class Row:
    """A prediction in the words of the preregistration, with its judgement from one results file."""

    id: str
    says: str
    confirmed_if: str
    refuted_if: str
    prior: float
    file: str
    judgement: Judgement


@dataclass(frozen=True)
class Preregistration:
    """A file of predictions."""

    hash: str  # SHA-256 of the file
    subjects: Mapping[str, str]  # which are exploratory, and which confirmatory
    predictions: list[Mapping[str, Any]]


NONE = Judgement(NOT_TESTED)
UNKNOWN = Judgement(UNDECIDED, "not known in every subject")


def preregistration(path: Path | None = None) -> Preregistration | None:
    """What was predicted; None where there is no such file.

    path    of the file; that of protocol sleep_deprivation unless given
    raises  CortexffError where it has no predictions
    """
    path = path or find("protocols", PROTOCOL).with_name(f"{PROTOCOL}{PREREGISTRATION}.yaml")
    if not path.is_file():
        return None
    written = parse(read_text(path), source=str(path))
    if not isinstance(written, Mapping) or not isinstance(written.get("predictions"), Sequence):
        raise CortexffError(f"{path}: has no list of predictions")
    subjects = {str(kind): str(which) for kind, which in (written.get("subjects") or {}).items()}
    return Preregistration(hashlib.sha256(path.read_bytes()).hexdigest(), subjects, list(written["predictions"]))


def judge(findings: Findings, registered: Preregistration) -> list[Row]:
    """Every prediction, judged for each results file; one that nothing here can judge is not tested.

    Nothing was predicted of other protocols, or of files whose populations differ in more than the sign of goodness.
    """
    rows = []
    for file, names in files(findings.studies).items():
        part = findings.only(names)
        one = part.studies[0].population
        if one.about.get("protocol_name") != PROTOCOL or set(one.protocol.variants) - SIGNS:
            continue
        for one in registered.predictions:
            judgement = JUDGES.get(one["id"], lambda part: NONE)(part)
            few = min(study.population.subjects for study in part.studies)
            if few < LEAST_SUBJECTS and judgement != NONE:
                judgement = Judgement(UNDECIDED, f"{judgement.figures} ({few} subjects: too few)")
            words = (str(one.get(key, "")) for key in ("says", "confirmed_if", "refuted_if"))
            rows.append(Row(one["id"], *words, float(one.get("prior", "nan")), file, judgement))
    return rows


def files(studies: Sequence[Measured]) -> dict[str, list[str]]:
    """The populations of each results file, by its preset; where presets repeat, by protocol or else by path."""
    groups: dict[Path, list[Measured]] = {}
    for one in studies:
        groups.setdefault(one.population.path, []).append(one)
    about = [group[0].population.about for group in groups.values()]
    presets = [str(one.get("preset", "")) for one in about]
    protocols = [f"{one.get('protocol_name', '')} {preset}" for one, preset in zip(about, presets, strict=True)]
    named = {}
    for preset, protocol, (path, group) in zip(presets, protocols, groups.items(), strict=True):
        unique = [name for name, all_of in ((preset, presets), (protocol, protocols)) if all_of.count(name) == 1]
        named[unique[0] if unique else str(path)] = [one.name for one in group]
    return named


def _all(parts: Iterator[tuple[str, Judgement]]) -> Judgement:
    """Of several populations: refuted where one is, confirmed where all are; not tested where none is."""
    found = dict(parts)
    words = {one.word for one in found.values()}
    if words <= {NOT_TESTED}:
        return NONE
    figures = "; ".join(f"{name}: {one.figures or one.word}" for name, one in found.items())
    word = next(iter(words)) if len(words) == 1 else REFUTED if REFUTED in words else UNDECIDED
    return Judgement(word, figures)


def _each(of_one: Callable[[Findings, Measured], Judgement], *signs: str) -> Callable[[Findings], Judgement]:
    return lambda findings: _all(
        (one.name, of_one(findings, one)) for one in findings.studies if not signs or one.sign in signs
    )


def _of_signs(judge: Callable[[Findings], Judgement], *signs: str) -> Callable[[Findings], Judgement]:
    """A judgement that says which of the signs it speaks of are not in the run."""

    def judged(findings: Findings) -> Judgement:
        found = judge(findings)
        lacking = [sign for sign in signs if sign not in {one.sign for one in findings.studies}]
        if found == NONE or not lacking:
            return found
        return Judgement(found.word, f"{found.figures}; what it says of {', '.join(lacking)} is not judged here")

    return judged


def _word(confirmed: bool, refuted: bool) -> str:
    return CONFIRMED if confirmed and not refuted else REFUTED if refuted and not confirmed else UNDECIDED


def _change(
    findings: Findings, one: Measured, outcome: str, condition: str = DEPRIVED, reference: str = CONTROL
) -> Contrast | None:
    """What a condition changes of an outcome; None where it was not compared."""
    return findings.contrast(one.name, condition, reference, outcome)


def _open(*found: np.ndarray | Contrast | None) -> Judgement | None:
    """Why values or comparisons cannot be judged: one was not made, or a network is lost; None where they can."""
    if any(one is None for one in found):
        return NONE
    for one in found:
        values = one if isinstance(one, np.ndarray) else one.effect and one.effect.mean
        if values is None or not np.isfinite(values).all():
            return UNKNOWN
    return None


def not_linear(findings: Findings, one: Measured) -> Judgement:
    """H3: hallucinations rise with time awake, and not linearly."""
    found = next((r for r in findings.responses if (r.population, r.outcome) == (one.name, "fp_neg")), None)
    if found is None and (lost := _open(awake(one, "fp_neg")[1])):
        return lost
    if found is None or found.winner is None:
        return NONE
    rising = found.values[:, -1] > found.values[:, 0]
    confirmed = bool(rising.all()) and found.against_linear > DECISIVE
    figures = f"up in {rising.sum()} of {rising.size}, best {found.winner}"
    figures += f", ΔAICc of the line {number(found.against_linear, 1)}"
    return Judgement(_word(confirmed, found.winner == "linear"), figures)


def long_before_errors(findings: Findings, one: Measured) -> Judgement:
    """H4: hallucinations come long before errors."""
    doses, rate = awake(one, "fp_neg")
    _, error = awake(one, "err_goodness")
    if len(doses) < 2 or error.shape != rate.shape:
        return NONE
    if why := _open(rate, error):
        return why
    risen = sleep_need(doses, -rate.T, -(rate[0] + rate[-1]) / 2).updates
    failed = sleep_need(doses, -error.T, -(error[0] + 2))
    if (rate[-1] <= rate[0]).any():
        return Judgement(UNDECIDED, "hallucinations do not rise in every subject")
    never = failed.censored
    ratio = np.where(never, doses[-1], failed.updates) / np.maximum(risen, 1e-9)  # or more, where error never is up
    logs = bca_interval(np.log10(np.where(never, np.maximum(10, ratio), ratio)))  # never counts as ten times later
    figures = f"half risen after {estimate(bca_interval(risen), 1)} updates"
    figures += f"; error up by 2 points never in {never.sum()} of {never.size}"
    known = bca_interval(np.log10(ratio))
    bounds = Interval(*(10.0**bound for bound in (known.mean, known.low, known.high)), known.n)
    figures += f"; ratio {'at least ' if never.any() else ''}{estimate(bounds, 1)}"
    return Judgement(_word(not logs.low < 1, logs.high < np.log10(3)), figures)


def criterion_not_sensitivity(findings: Findings, one: Measured) -> Judgement:
    """H5: the criterion moves and sensitivity does not, where all areas have one sign; with both, sensitivity falls."""
    changes = [_change(findings, one, name) for name in ("criterion", "dprime")]
    if why := _open(*changes):
        return why
    bias, sensitivity = (change.effect for change in changes)
    figures = f"criterion {estimate(bias, 2, True)}, d′ {estimate(sensitivity, 2, True)}"
    fallen = sensitivity.high <= -0.3
    if one.sign == "mixed":
        return Judgement(_word(fallen, False), figures)
    return Judgement(_word(bias.high <= -0.3 and sensitivity.equivalent, fallen), figures)


def dissociation(findings: Findings) -> Judgement:
    """H6: max becomes more active, more excitable and faster, min less and slower."""
    by_sign = {sign: [one for one in findings.studies if one.sign == sign] for sign in ("max", "min")}
    if not all(by_sign.values()):
        return NONE
    reasons, confirmed, same, figures = {}, True, False, []
    for outcome, direction in (("rate", 1), ("evoked_slope", 1), ("pulse_response", 1), ("median_absolute", -1)):
        changes = {sign: _change(findings, ones[0], outcome) for sign, ones in by_sign.items()}
        reasons[outcome] = _open(*changes.values())
        if why := reasons[outcome]:
            confirmed = False
            figures.append(f"{outcome} {why.figures or why.word}")
            continue
        found = {sign: change.effect for sign, change in changes.items()}
        sides = {sign: (one.low > 0) - (one.high < 0) for sign, one in found.items()}
        confirmed &= sides == {"max": direction, "min": -direction}
        same |= sides["max"] == sides["min"] != 0
        figures.append(f"{outcome} " + ", ".join(f"{sign} {estimate(one, 3, True)}" for sign, one in found.items()))
    if all(why is NONE for why in reasons.values()):
        return NONE
    return Judgement(_word(confirmed, same), "; ".join(figures))


def without_saturation(findings: Findings, one: Measured) -> Judgement:
    """H7: without the log-sigmoid max diverges and min falls silent, by so many updates."""
    lives = one.divergence if one.sign == "max" else one.silence
    if "deprived_linear" not in lives:
        return NONE
    found = lives["deprived_linear"]
    lost, ended = found.by(LINEAR_BY), one.divergence["deprived_linear"].by(LINEAR_BY)
    stable = ~(lost | ended)
    what = "diverged" if one.sign == "max" else f"fell silent, {ended.sum()} diverged"
    figures = f"{lost.sum()} of {lost.size} {what} by {min(LINEAR_BY, found.watched)} updates"
    if found.watched > LINEAR_BY:
        figures += f", {found.lost.sum()} by {found.watched}"
    refuted = stable.mean() >= 0.5 and found.watched >= LINEAR_BY
    return Judgement(_word(lost.mean() >= 0.9, bool(refuted)), figures)


def need_grows_slowly(findings: Findings, one: Measured) -> Judgement:
    """H8: sleep need grows more slowly than time awake, and sleep drive falls faster than it rises."""
    needs = [need for need in findings.needs if need.population == one.name]
    exponent = need_exponent(needs)
    ratio = next((p.ratio for p in findings.process if p.population == one.name), None)
    if exponent is None and ratio is None:
        return NONE
    total = one.population.subjects
    told = [str(need.awake) for need in needs if not need.need.censored.any()]
    figures = f"exponent {_in_some(exponent, 2, total)} from {len(told)} of {len(needs)} times awake"
    if len(told) < len(needs):
        figures += f" ({', '.join(told)}; after the others some need more sleep than was watched)"
    figures += f", τ_wake / τ_sleep {_in_some(ratio, 1, total)}"
    exponent, ratio = (known if known and known.n >= LEAST_SUBJECTS else None for known in (exponent, ratio))
    confirmed = (
        exponent is not None and exponent.low > 0 and exponent.high < 0.5 and ratio is not None and ratio.low > 3
    )
    return Judgement(_word(confirmed, exponent is not None and exponent.low >= 0.8), figures)


def _in_some(found: Interval | None, digits: int, total: int) -> str:
    return f"{estimate(found, digits)} in {found.n if found else 0} of {total}"


def too_much_sleep(findings: Findings, one: Measured) -> Judgement:
    """H9: too much sleep makes subjects miss real data: more than enough of it does, which ended with ``recovered``."""
    missed, before = one.value("overslept", "miss"), one.value("recovered", "miss")
    if why := _open(missed, before):
        return why
    hits, more = bca_interval(1 - missed / 100), bca_interval(missed - before)
    figures = f"P(real data taken for real) {estimate(hits)}, misses {estimate(more, 1, True)} points"
    return Judgement(_word(hits.high < 0.5, more.high <= 0), figures)


def scaling_helps(findings: Findings, one: Measured) -> Judgement:
    """H10: scaling of the synapses takes most hallucinations away; what sensitivity was lost needs negative data."""
    change = _change(findings, one, "err_goodness", "scaling", DEPRIVED)
    if why := _open(change, *(one.value(condition, "fp_neg") for condition in (DEPRIVED, "scaling", CONTROL))):
        return why
    taken, error = findings.recovery(one.name, "scaling", "fp_neg"), change.effect
    if taken is None:
        return NONE
    share = taken.share
    figures = f"scaling removes {estimate(share)} of the excess, error {estimate(error, 2, True)}"
    confirmed = share.low >= 0.6 and error.equivalent
    scaled, dreamt = one.value("scaling", "dprime"), one.value("recovered", "dprime")
    if one.sign == "max" and scaled is not None and dreamt is not None and np.isfinite([scaled, dreamt]).all():
        gain = bca_interval(dreamt - scaled)
        figures += f", d′ after dreams less that after scaling {estimate(gain, 2, True)}"
        confirmed &= gain.low > 0
    harm = error.low > 0 and not error.equivalent
    return Judgement(_word(bool(confirmed), share.high < 0.2 or harm), figures)


def earlier_dreams(findings: Findings, one: Measured) -> Judgement:
    """H11: what the deprived net dreams is worse sleep than what it would have dreamt before."""
    before, now = one.value("earlier_dreams", "fp_neg"), one.value("recovered", "fp_neg")
    if why := _open(before, now):
        return why
    found = effect(before, now, margin=0.5)
    return Judgement(_word(found.high < 0, found.equivalent), f"{estimate(found, 2, True)} points")


def plateaus(findings: Findings, one: Measured) -> Judgement:
    """H12: subjects who sleep too little settle at a level that depends on how little.

    Slopes are of the ends of wake that were probed in the last half; where those are fewer than two, nothing is
    decided.
    """
    levels, slopes = [], {}
    for condition in CHRONIC:
        level = last_awake(one, condition)
        if why := _open(level):
            return why
        levels.append(level)
        slope = drift(one, condition, "fp_neg")
        slopes[condition] = None if slope is None else bca_interval(slope)
    ordered = all(bca_interval(more - less).low > 0 for more, less in itertools.pairwise(levels))
    told = f"levels {', '.join(number(float(level.mean()), 1) for level in levels)} %"
    if None in slopes.values():
        return Judgement(UNDECIDED, f"{told}; of the last half of the cycles fewer than two ends of wake were probed")
    figures = ", ".join(f"{name} {estimate(one, 1, True)} points per 1000 updates" for name, one in slopes.items())
    rising = any(one.low > 0 for one in slopes.values())
    return Judgement(_word(ordered and not rising, rising), f"{figures}; {told}")


def encoding_suffers(findings: Findings, one: Measured) -> Judgement:
    """H14: encoding suffers and retrieval does not."""
    new, old = new_labels(one), retrieval(one)
    if new is None or old is None:
        return NONE
    if why := _open(*old):
        return why
    needed = {}
    for condition in ("encoding_deprived", "encoding_rested"):
        course = one.courses[condition]
        error = course.found["err_by_label"][..., new].mean(-1).T
        needed[condition] = sleep_need(course.updates, error, KNOWN)
    if any(one.censored.any() or not (one.updates > 0).all() for one in needed.values()):
        return Judgement(UNDECIDED, "not every subject gets to know the new labels, or some know them at once")
    logs = bca_interval(np.log(needed["encoding_deprived"].updates / needed["encoding_rested"].updates))
    ratio = Interval(*(float(np.exp(bound)) for bound in (logs.mean, logs.low, logs.high)), logs.n)
    kept = effect(*old, margin=1.0)
    figures = f"updates needed, ratio {estimate(ratio)}; error on old labels {estimate(kept, 1, True)} points"
    return Judgement(_word(ratio.low >= 1.5 and kept.equivalent, ratio.high <= 1), figures)


def of_what_was_seen(findings: Findings, one: Measured) -> Judgement:
    """H16: hallucinations are of what was last seen."""
    odds = odds_of_last_seen(one)
    if why := _open(odds):
        return why
    logs = bca_interval(odds)
    ratio = Interval(*(float(np.exp(bound)) for bound in (logs.mean, logs.low, logs.high)), logs.n)
    figures = f"odds ratio {estimate(ratio)}"
    usual = odds_of_last_seen(one, DEPRIVED)
    if usual is not None and np.isfinite(usual).all():
        figures += f" ({number(float(np.exp(usual.mean())))} in deprived, that saw all labels)"
    return Judgement(_word(ratio.low > 2, ratio.high <= 1.2), figures)


def banking(findings: Findings, one: Measured) -> Judgement:
    """H17: banking does not help."""
    values = [one.value(condition, "fp_neg") for condition in (DEPRIVED, "banked", CONTROL)]
    if why := _open(*values):
        return why
    share = share_removed(values[0] - values[2], values[1] - values[2])
    as_much = share.low <= 0 and share.high < 0.2  # less is not shown, and what would refute is ruled out
    return Judgement(_word(as_much, share.low >= 0.2), f"takes {estimate(share)} of the excess away")


def synchrony(findings: Findings, one: Measured) -> Judgement:
    """H18: activity becomes more synchronous."""
    change = _change(findings, one, "vigilance_synchrony")
    if why := _open(change):
        return why
    found = change.effect
    return Judgement(_word(found.d_z > 0.8, abs(found.d_z) < 0.3), estimate(found, 5, True))


def other_synapses(findings: Findings, one: Measured) -> Judgement:
    """K3: deprivation does no more to hallucinations than the same changes at other synapses."""
    values = [one.value(condition, "fp_neg") for condition in (DEPRIVED, "other_synapses", CONTROL)]
    changes = [_change(findings, one, "dprime", condition) for condition in (DEPRIVED, "other_synapses")]
    if why := _open(*values, *changes):
        return why
    sensitivity = [change.effect for change in changes]
    gone = share_removed(values[0] - values[2], values[1] - values[2])
    share = Interval(1 - gone.mean, 1 - gone.high, 1 - gone.low, gone.n)
    kept = all(one.equivalent for one in sensitivity)
    figures = f"{estimate(share)} of the excess; d′ {', '.join(estimate(one, 2, True) for one in sensitivity)}"
    return Judgement(_word(share.high >= 1 and share.low >= 0.5 and kept, share.high < 0.5), figures)


JUDGES: dict[str, Callable[[Findings], Judgement]] = {
    "H3": _each(not_linear),
    "H4": _each(long_before_errors),
    "H5": _of_signs(_each(criterion_not_sensitivity), "max", "min", "mixed"),
    "H6": dissociation,
    "H7": _each(without_saturation, "max", "min"),
    "H8": _each(need_grows_slowly),
    "H9": _each(too_much_sleep),
    "H10": _each(scaling_helps),
    "H11": _each(earlier_dreams),
    "H12": _each(plateaus),
    "H14": _each(encoding_suffers),
    "H16": _each(of_what_was_seen),
    "H17": _each(banking),
    "H18": _each(synchrony, "max"),
    "K3": _each(other_synapses),
}
