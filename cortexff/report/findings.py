"""What a sleep study found: one function for each question; tables, figures and verdicts share what they return.

Every comparison is within subjects: the same network, with the same images in the same order, lived on in two ways.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cortexff.analysis import dose_response, process_s
from cortexff.analysis.statistics import ALPHA, Effect, Interval, bca_interval, benjamini_hochberg, effect, holm
from cortexff.analysis.survival import log_rank_p
from cortexff.report.outcomes import BEFORE, OUTCOMES, PRIMARY, SD_SHARE, Measured, sane
from cortexff.report.study import ABREAST, Course, Population, end_to_end

CONTROL, DEPRIVED, ROOT = "control", "deprived", "development"
PROPER = {  # condition → what it is compared with, where that does not follow from where it began
    "control": (BEFORE,),
    **dict.fromkeys(("deprived_10", "deprived_100", "deprived"), (CONTROL, BEFORE)),
    "banked": (DEPRIVED, CONTROL),
    "young_deprived": ("young_control",),
    "encoding_deprived": ("encoding_rested",),
}
ALONE = (ROOT, BEFORE, "young", "young_control", "encoding_rested")  # what others are compared with
DOSED = ("fp_neg", "fp_noise", "err_goodness", "dprime", "criterion", "sleep_drive", "rate")
NEEDS = {"recovered_10": "deprived_10", "recovered_100": "deprived_100", "recovered": DEPRIVED}
NEEDS |= {"recovered_longer": "deprived_longer"}
RECOVERED = ("fp_neg", "fp_noise", "miss", "err_goodness", "dprime", "criterion", "sleep_drive", "rate")
RESAMPLES, SEED = 2000, 0  # of the subjects, for shares; the same data always give the same interval


@dataclass(frozen=True)
class Dose:
    """What subjects have lived through since the common beginning, at a probe.

    positive, negative  updates with positive, with negative data
    images              that were shown to learn from
    path                way that the weights have gone, mean over areas and subjects; NaN where it was not measured
    """

    positive: int
    negative: int
    images: int
    path: float


@dataclass(frozen=True)
class Contrast:
    """One outcome of a condition against its reference.

    after, before          means over subjects, in the unit of the outcome
    effect                 None where a sane network has no value, such as a median among omissions
    margin                 of the test of equivalence; NaN where there is none
    family                 ``primary``: p adjusted by Holm, ``secondary``: by Benjamini and Hochberg
    p                      adjusted
    dose, reference_dose   of both sides
    """

    population: str
    sign: str
    condition: str
    reference: str
    outcome: str
    after: float
    before: float
    effect: Effect | None
    margin: float
    family: str
    p: float
    dose: Dose | None
    reference_dose: Dose | None

    @property
    def changed(self) -> int:
        """1 or -1 where the change is sure at p < 0.05 and in that direction; else 0."""
        if self.effect is None or not self.p < ALPHA:
            return 0
        return int(np.sign(self.effect.up - self.effect.down if self.effect.lost else self.effect.mean))

    @property
    def equivalent(self) -> bool:
        """Whether the change is shown to be smaller than the margin."""
        return self.effect is not None and self.effect.equivalent

    @property
    def verdict(self) -> str:
        """What the figures say, in words."""
        if self.effect is None:
            return "not known in every subject"
        words = {1: "higher", -1: "lower", 0: "no change shown"}[self.changed]
        if self.equivalent:
            words = f"{words}, by less than the margin" if self.changed else "no change, shown equivalent"
        return f"{words}; {self.effect.lost} of {self.effect.n} diverged" if self.effect.lost else words


@dataclass(frozen=True)
class Response:
    """How an outcome grows with the updates of deprivation."""

    population: str
    sign: str
    outcome: str
    doses: np.ndarray
    values: np.ndarray  # (subjects, doses)
    comparison: dose_response.Comparison

    @property
    def winner(self) -> str | None:
        return self.comparison.winner

    @property
    def against_linear(self) -> float:
        """AICc of the linear law less that of the winner; above 6, the line is out of the question."""
        if self.winner is None:
            return float("nan")
        return float(self.comparison.mean["linear"].aicc - self.comparison.mean[self.winner].aicc)


@dataclass(frozen=True)
class ProcessS:
    """Time constants of the sleep drive, (subjects,) in updates; NaN where a curve does not tell them."""

    population: str
    sign: str
    wake: np.ndarray
    sleep: np.ndarray

    @property
    def ratio(self) -> Interval | None:
        """Wake's over sleep's; None unless it is known of three subjects or more."""
        return known_interval(self.wake / self.sleep)


@dataclass(frozen=True)
class Need:
    """Sleep that brings hallucinations back to where they were, after so much time awake."""

    population: str
    sign: str
    condition: str
    awake: int  # updates
    need: process_s.SleepNeed
    slept: int  # updates of sleep that were watched


@dataclass(frozen=True)
class Recovery:
    """How much of an excess over the control a kind of sleep takes away.

    excess    before sleep, less the control's
    residual  after sleep, less the control's
    share     of the excess that is gone, with its interval; NaN where the excess itself is not sure
    """

    population: str
    sign: str
    condition: str
    outcome: str
    excess: Interval
    residual: Interval
    share: Interval


@dataclass(frozen=True)
class Survival:
    """How many networks of a condition diverge or fall silent, and when.

    median  updates that half of the subjects last; NaN where more do to the end
    p       of the log-rank test against the control, over the time that both were watched; NaN where nothing happens
            in that
    """

    population: str
    sign: str
    condition: str
    event: str
    n: int
    lost: int
    median: float
    watched: int
    p: float


class Findings:
    """All that was found in some populations; each part is worked out when it is first asked for."""

    def __init__(self, studies: Sequence[Measured], say: Callable[[str], None] = lambda text: None) -> None:
        """Work nothing out yet.

        say  told what is worked out next
        """
        self.studies, self._say = list(studies), say

    @cached_property
    def contrasts(self) -> list[Contrast]:
        for one in self.studies:
            self._say(f"reaction times of {one.name}")
            _ = one.reaction_times
        self._say("comparing conditions")
        return contrasts(self.studies)

    @cached_property
    def responses(self) -> list[Response]:
        self._say("fitting dose-response curves")
        return responses(self.studies)

    @cached_property
    def process(self) -> list[ProcessS]:
        return process(self.studies)

    @cached_property
    def needs(self) -> list[Need]:
        return needs(self.studies)

    @cached_property
    def recoveries(self) -> list[Recovery]:
        self._say("comparing kinds of sleep")
        return recoveries(self.studies)

    @cached_property
    def survivals(self) -> list[Survival]:
        return survivals(self.studies)

    def contrast(self, population: str, condition: str, reference: str, outcome: str) -> Contrast | None:
        """A comparison; None where it was not made."""
        return self._by_name.get((population, condition, reference, outcome))

    def recovery(self, population: str, condition: str, outcome: str) -> Recovery | None:
        """What a kind of sleep took away; None where that is not known."""
        key = population, condition, outcome
        return next((r for r in self.recoveries if (r.population, r.condition, r.outcome) == key), None)

    def only(self, names: Sequence[str]) -> Findings:
        """The part that is about some populations; p stay as they were adjusted."""
        part = Findings([one for one in self.studies if one.name in names])
        for kind in ("contrasts", "responses", "process", "needs", "recoveries", "survivals"):
            part.__dict__[kind] = [one for one in getattr(self, kind) if one.population in names]
        return part

    @cached_property
    def abreast(self) -> Findings:
        """The part that is about the populations that stand side by side."""
        return self.only([one.name for one in self.studies[:ABREAST]])

    @cached_property
    def _by_name(self) -> dict[tuple[str, str, str, str], Contrast]:
        return {(one.population, one.condition, one.reference, one.outcome): one for one in self.contrasts}


def known_interval(values: np.ndarray) -> Interval | None:
    """Mean and BCa interval of what is finite; n says of how many. None for fewer than three."""
    values = values[np.isfinite(values)]
    return bca_interval(values) if values.size > 2 else None


def references(population: Population, condition: str) -> list[tuple[str, int]]:
    """What a condition is compared with, and at which probe: the control at as many positive updates, if it has it."""
    if condition in ALONE:
        return []
    start = population.protocol.conditions[condition].start
    names = PROPER.get(condition, (CONTROL,) if start in (ROOT, None) else (start, CONTROL))
    return [(name, _probe_of(population, condition, name)) for name in names if name in population.courses]


def dose(population: Population, condition: str, probe: int = -1) -> Dose:
    """What subjects have lived through since the first condition of their line ended."""
    line = population.from_start(condition)
    lived = [population.courses[name] for name in line[1:] or line if name in population.courses]
    positive = negative = images = 0
    path = 0.0
    for course in lived:
        last = range(len(course.updates))[probe] if course.name == condition else len(course.updates) - 1
        met = np.stack([course.found[f"{kind}_updates"][: last + 1, 0] for kind in ("positive", "negative")])
        by_kind = np.diff(met, axis=1)
        positive, negative = positive + int(by_kind[0].sum()), negative + int(by_kind[1].sum())
        both = np.array(
            [population.protocol.stages[stage].phase == "interleaved" for stage in course.stages[1 : last + 1]]
        )
        images += int(np.where(both, by_kind[0], by_kind.sum(0)).sum()) * population.protocol.stimuli.minibatch
        if "weight_path" in course.found:
            way = course.of("weight_path")
            with np.errstate(invalid="ignore"):  # of a network that diverged it is not known
                path += float((way[last] - way[0]).mean())
        else:
            path = float("nan")
    return Dose(positive, negative, images, path)


def contrasts(studies: Sequence[Measured]) -> list[Contrast]:
    """Every outcome of every condition against its references; p adjusted over the populations of a results file."""
    found = [contrast for measured in studies for contrast in _contrasts(measured)]
    file_of = {measured.name: measured.population.path for measured in studies}
    families = dict.fromkeys((file_of[one.population], one.family) for one in found)
    for file, family in families:
        adjust = {"primary": holm, "secondary": benjamini_hochberg}[family]
        members = [place for place, one in enumerate(found) if (file_of[one.population], one.family) == (file, family)]
        adjusted = adjust(np.array([found[place].p for place in members]))
        for place, p in zip(members, adjusted, strict=True):
            found[place] = replace(found[place], p=float(p))
    return found


def _contrasts(measured: Measured) -> Iterator[Contrast]:
    population = measured.population
    for condition in population.courses:
        mine = dose(population, condition)
        for reference, probe in references(population, condition):
            theirs = dose(population, reference, probe)
            for name, outcome in OUTCOMES.items():
                after, before = measured.value(condition, name), measured.value(reference, name, probe)
                if after is None or before is None:
                    continue
                unknown = np.isnan(after) & sane(measured.courses[condition], -1)
                unknown |= np.isnan(before) & sane(measured.courses[reference], probe)
                margin = outcome.margin if outcome.margin is not None else _half_a_deviation(after, before)
                seen = None if unknown.any() else effect(after, before, margin or None, outcome.worse)
                primary = (condition, reference) == (DEPRIVED, CONTROL) and name in PRIMARY
                yield Contrast(
                    population.name,
                    population.sign,
                    condition,
                    reference,
                    name,
                    float(after.mean()),
                    float(before.mean()),
                    seen,
                    margin if margin else float("nan"),
                    "primary" if primary else "secondary",
                    seen.p if seen else float("nan"),
                    mine,
                    theirs,
                )


def matched_doses(studies: Sequence[Measured]) -> list[tuple[str, str, Dose]]:
    """Population, condition and dose at its end: what was equated, and what was not."""
    return [
        (one.name, condition, dose(one.population, condition))
        for one in studies
        for condition in one.courses
        if one.population.protocol.conditions[condition].start is not None
    ]


def responses(studies: Sequence[Measured]) -> list[Response]:
    """How outcomes grow with the updates of deprivation; none of an outcome for which a network is lost on the way."""
    found = (response(measured, outcome) for measured in studies for outcome in DOSED)
    return [one for one in found if one is not None]


def response(measured: Measured, outcome: str) -> Response | None:
    """How one outcome grows; None where doses are too few, or a network is lost on the way."""
    doses, values = awake(measured, outcome)
    if len(doses) < 4 or not np.isfinite(values).all():
        return None
    compared = dose_response.compare(doses, values.T)
    return Response(measured.name, measured.sign, outcome, doses, values.T, compared)


def awake(measured: Measured, outcome: str) -> tuple[np.ndarray, np.ndarray]:
    """Updates of deprivation, those of the longer one too, and an outcome at each, (doses, subjects)."""
    return _joined(measured, measured.population.going_on(DEPRIVED), outcome)


def asleep(measured: Measured, outcome: str, condition: str = "recovered") -> tuple[np.ndarray, np.ndarray]:
    """Updates of sleep after deprivation, of going on with it too, and an outcome at each, (amounts, subjects)."""
    more = [
        name
        for name, one in measured.population.protocol.conditions.items()
        if one.start == condition and all(measured.population.protocol.stages[s].phase == "sleep" for s in one.stages)
    ]
    return _joined(measured, (condition, *more[:1]), outcome)


def process(studies: Sequence[Measured]) -> list[ProcessS]:
    """Time constants of the sleep drive in deprivation, and in the sleep after it."""
    found = []
    for measured in studies:
        fits = []
        for (time, drive), fit in (
            (awake(measured, "sleep_drive"), process_s.fit_wake),
            (asleep(measured, "sleep_drive"), process_s.fit_sleep),
        ):
            if len(time) > 1:
                fits.append(fit(time, drive.T)[0])
        if len(fits) == 2:
            found.append(ProcessS(measured.name, measured.sign, *fits))
    return found


def needs(studies: Sequence[Measured], outcome: str = "fp_neg") -> list[Need]:
    """How much sleep brings an outcome back to where it was before deprivation, after each time awake."""
    found = []
    for measured in studies:
        target = measured.value(BEFORE, outcome)
        for slept, awake_in in NEEDS.items():
            updates, values = asleep(measured, outcome, slept)
            if target is None or len(updates) < 2 or not measured.has(awake_in):
                continue
            need = process_s.sleep_need(updates, values.T, target)
            time = dose(measured.population, awake_in).positive
            found.append(Need(measured.name, measured.sign, slept, time, need, int(updates[-1])))
    return found


def need_exponent(needs: Sequence[Need]) -> Interval | None:
    """Slope of log need on log time awake, of one population; None where fewer than two times have uncensored needs."""
    by_time = {one.awake: one for one in needs if not one.need.censored.any()}
    usable = [by_time[time] for time in sorted(by_time)]
    if len(usable) < 2:
        return None
    values = np.stack([one.need.updates for one in usable], axis=1)
    known = (np.isfinite(values) & (values > 0)).sum(1) > 1
    if known.sum() < 3:
        return None
    return process_s.need_exponent([one.awake for one in usable], values[known])


def recoveries(studies: Sequence[Measured]) -> list[Recovery]:
    """How much of what deprivation did over the control each kind of sleep takes away."""
    found = []
    for measured in studies:
        for condition in measured.courses:
            before = measured.population.protocol.conditions[condition].start
            if before is None or not before.startswith(DEPRIVED) or condition.startswith(DEPRIVED):
                continue
            at = dict(references(measured.population, before))
            if CONTROL not in at:
                continue
            for outcome in RECOVERED:
                values = [measured.value(before, outcome), measured.value(condition, outcome)]
                values.append(measured.value(CONTROL, outcome, at[CONTROL]))
                if all(one is not None and np.isfinite(one).all() for one in values):
                    found.append(_recovery(measured, condition, outcome, *values))
    return found


def survivals(studies: Sequence[Measured]) -> list[Survival]:
    """How many networks of each condition diverge, or fall silent, and when."""
    found = []
    for measured in studies:
        for event, lives in (("diverged", measured.divergence), ("silent", measured.silence)):
            control = lives.get(CONTROL)
            for condition, one in lives.items():
                if measured.population.protocol.conditions[condition].start is None:
                    continue  # newborns know nothing
                p = float("nan")
                if control is not None and condition != CONTROL:
                    both = min(one.watched, control.watched)
                    until = [(np.minimum(life.time, both), life.by(both)) for life in (one, control)]
                    if any(lost.any() for _, lost in until):
                        p = log_rank_p(*until[0], *until[1])
                about = (measured.name, measured.sign, condition, event, one.lost.size, int(one.lost.sum()))
                found.append(Survival(*about, one.median, one.watched, p))
    return found


def is_sure(excess: np.ndarray) -> bool:
    """Whether the mean over subjects lies on one side of 0 with its whole interval; never where a subject is lost."""
    if not excess.size or not np.isfinite(excess).all():
        return False
    found = bca_interval(excess)
    return found.low > 0 or found.high < 0


def share_removed(excess: np.ndarray, residual: np.ndarray) -> Interval:
    """Share of a mean excess that is gone, with its percentile bootstrap interval over subjects.

    excess, residual  (subjects,), before and after
    returns           the interval; NaN where the excess itself is not sure: shares of next to nothing say nothing
    """
    if not is_sure(excess):
        return Interval(float("nan"), float("nan"), float("nan"), excess.size)
    drawn = np.random.default_rng(SEED).integers(0, excess.size, size=(RESAMPLES, excess.size))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = 1 - residual[drawn].mean(1) / excess[drawn].mean(1)
        share = float(1 - residual.mean() / excess.mean())
    if not np.isfinite(shares).all():  # some resamples have no excess to take a share of
        return Interval(float("nan"), float("nan"), float("nan"), excess.size)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Interval(share, float(low), float(high), excess.size)


def _recovery(
    measured: Measured, condition: str, outcome: str, before: np.ndarray, after: np.ndarray, control: np.ndarray
) -> Recovery:
    excess, residual = bca_interval(before - control), bca_interval(after - control)
    share = share_removed(before - control, after - control)
    return Recovery(measured.name, measured.sign, condition, outcome, excess, residual, share)


def _joined(measured: Measured, conditions: Sequence[str], outcome: str) -> tuple[np.ndarray, np.ndarray]:
    """An outcome over conditions that follow one another, up to the first that lacks it."""
    curves = [measured.curve(condition, outcome) for condition in conditions]
    known = list(itertools.takewhile(lambda curve: curve is not None, curves))
    if not known:
        return np.zeros(0), np.zeros((0, measured.population.subjects))
    return end_to_end([measured.courses[condition] for condition in conditions[: len(known)]], known)


def _probe_of(population: Population, condition: str, reference: str) -> int:
    """The last probe, or the control's at no more positive updates than the condition has had."""
    if reference != CONTROL:
        return -1
    positive, course = dose(population, condition).positive, population.courses[reference]
    met = _positive(course)
    return int(np.flatnonzero(met <= positive)[-1])


def _positive(course: Course) -> np.ndarray:
    """Positive updates of a course at each probe, (probes,)."""
    return course.found["positive_updates"][:, 0] - course.found["positive_updates"][0, 0]


def _half_a_deviation(after: np.ndarray, before: np.ndarray) -> float | None:
    """Half of the pooled standard deviation of the subjects; None where that is not known or 0."""
    if not np.isfinite([after, before]).all() or after.size < 2:
        return None
    return SD_SHARE * float(np.sqrt((after.var(ddof=1) + before.var(ddof=1)) / 2)) or None
