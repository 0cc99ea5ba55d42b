"""Everything that is compared between conditions, by name: what probes measured, reaction times, and what lasts.

A value is of one population, condition and probe, (subjects,), in the unit that is printed: rates in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cortexff.analysis import reaction_times as task
from cortexff.analysis.survival import kaplan_meier, median_survival
from cortexff.protocol.physiology import GAINS
from cortexff.protocol.table import DIGITS, is_percent, label
from cortexff.report.study import Course, Population, end_to_end

BOUNDS = ("absolute", "normalized")
BEFORE = "frozen"  # the condition without plasticity: subjects as they were when the others began
DIVERGED_ERROR = 0.8  # error from which on a network counts as lost, with ten labels
DIVERGED_GOODNESS = 1e6  # thresholds, of mean goodness on real data
SILENT = 0.1  # of the mean rate with which a condition began; below, a network counts as silent
SD_SHARE = 0.5  # of the subjects' standard deviation: a change smaller than that would not matter


@dataclass(frozen=True)
class Outcome:
    """Something that is compared.

    label    in words, with its unit
    digits   decimal places
    margin   largest change that would not matter; half a standard deviation of the subjects unless given
    worse    1 where higher values are worse, -1 where lower are
    of_task  whether it comes from the vigilance task, and so is known at the end of a condition alone
    """

    label: str
    digits: int = 2
    margin: float | None = None
    worse: int = 1
    of_task: bool = False


def _logged(name: str, margin: float | None = None, worse: int = 1, digits: int | None = None) -> tuple[str, Outcome]:
    words = label(name) + (", %" if is_percent(name) else "")
    usual = DIGITS.get(name, 1 if is_percent(name) else 2)
    return name, Outcome(words, usual if digits is None else digits, margin, worse)


def _timed(bound: str) -> dict[str, Outcome]:
    words = f"{bound} bound"
    return {
        f"{name}_{bound}": Outcome(f"{what}, {words}", digits, worse=worse, of_task=True)
        for name, what, digits, worse in (
            ("lapse", "lapses, %", 1, 1),
            ("omission", "omissions, %", 1, 1),
            ("false_start", "false starts, %", 1, 1),
            ("inv_rt", "speed 1/RT, per frame", 3, -1),
            ("median", "median reaction time, frames", 1, 1),
            ("drift", "drift of a diffusion to one bound", 2, -1),
            ("tau", "ex-Gaussian τ, frames", 1, 1),
        )
    }


PRIMARY = ("fp_neg", "dprime", "err_goodness")
OUTCOMES: dict[str, Outcome] = dict(
    [
        _logged("fp_neg", digits=2),
        _logged("fp_noise"),
        _logged("miss"),
        _logged("err_goodness", 1.0),
        _logged("err_hybrids", 1.0),
        _logged("err_softmax", 1.0),
        _logged("dprime", 0.2, -1),
        _logged("auroc", worse=-1),
        _logged("criterion", worse=-1),
        _logged("sleep_drive", digits=3),
        ("wake_drive", Outcome("wake drive E[1 − p(x⁺)]", 3, worse=-1)),
        _logged("decision_steps"),
        _logged("rate", digits=3),
        _logged("active_frac", digits=3),
        _logged("dead_frac"),
        _logged("evoked_slope"),
        _logged("pulse_response"),
        _logged("gain_star", worse=-1),
        _logged("energy"),
        ("energy_per_correct", Outcome("energy per correct decision", 0)),
        _logged("dimensionality", worse=-1),
        _logged("weight_mean"),
        _logged("weight_norm"),
        _logged("bias_mean"),
        ("vigilance_synchrony", Outcome("synchrony χ², image in noise", 4, of_task=True)),
        ("vigilance_noise_correlation", Outcome("noise correlation of pairs", 4, of_task=True)),
        ("vigilance_off_index", Outcome("OFF periods, image in noise, %", 2, of_task=True)),
        *(pair for bound in BOUNDS for pair in _timed(bound).items()),
    ]
)


@dataclass(frozen=True)
class ReactionTimes:
    """A condition's session of the vigilance task, with one of the bounds.

    rt        (subjects, trials), frames; negative: a false start, NaN: an omission
    outcomes  by the names of ``OUTCOMES`` without the bound, (subjects,) each; shares in percent
    """

    rt: np.ndarray
    outcomes: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Lifetimes:
    """How long the networks of a condition last.

    time     (subjects,), updates since the condition began: when it happened, or how long it was watched
    lost     (subjects,), whether it happened
    watched  updates that the networks were watched for
    """

    time: np.ndarray
    lost: np.ndarray
    watched: int

    def by(self, update: int) -> np.ndarray:
        """Whether it had happened by then, (subjects,)."""
        return self.lost & (self.time <= update)

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Times, and the share of subjects that lasts beyond each (Kaplan-Meier)."""
        return kaplan_meier(self.time, self.lost)

    @property
    def median(self) -> float:
        """Updates that half of the subjects last; NaN where more do to the end."""
        return median_survival(self.time, self.lost)


class Measured:
    """The values of one population, each worked out once."""

    def __init__(self, population: Population) -> None:
        self.population, self._known = population, {}

    @property
    def name(self) -> str:
        return self.population.name

    @property
    def sign(self) -> str:
        return self.population.sign

    @property
    def courses(self) -> Mapping[str, Course]:
        return self.population.courses

    def has(self, *conditions: str) -> bool:
        """Whether all of them were run."""
        return all(condition in self.courses for condition in conditions)

    def value(self, condition: str, outcome: str, probe: int = -1) -> np.ndarray | None:
        """An outcome at a probe, (subjects,); NaN for a network that is lost. None where it was not measured."""
        course = self.courses.get(condition)
        if course is None:
            return None
        probe = range(len(course.updates))[probe]
        key = condition, outcome, probe
        if key not in self._known:
            self._known[key] = self._value(course, outcome, probe)
        return self._known[key]

    def curve(self, condition: str, outcome: str) -> np.ndarray | None:
        """An outcome at every probe, (probes, subjects); None where it was not measured."""
        if condition not in self.courses:
            return None
        values = [self.value(condition, outcome, probe) for probe in range(len(self.courses[condition].updates))]
        return None if any(one is None for one in values) else np.stack(values)

    def _value(self, course: Course, outcome: str, probe: int) -> np.ndarray | None:
        if OUTCOMES[outcome].of_task:
            return self._of_task(course, outcome) if probe == len(course.updates) - 1 else None
        if outcome == "energy_per_correct":
            energy, error = (self.value(course.name, name, probe) for name in ("energy", "err_goodness"))
            if energy is None or error is None:
                return None
            with np.errstate(divide="ignore"):
                return energy / (1 - error / 100)
        if outcome not in course.found:
            return None
        values = course.of(outcome)[probe] * (100 if is_percent(outcome) else 1)
        if outcome == "gain_star":  # a sane network without excessive activity up to that gain
            values = np.where(np.isnan(values) & sane(course, probe), GAINS[1], values)
        return None if np.isnan(values[sane(course, probe)]).all() and sane(course, probe).any() else values

    def _of_task(self, course: Course, outcome: str) -> np.ndarray | None:
        if outcome.startswith("vigilance"):
            values = course.found.get(outcome)
            return None if values is None else values.mean(-1) * (100 if "%" in OUTCOMES[outcome].label else 1)
        name, bound = outcome.rsplit("_", 1)
        times = self.reaction_times.get(course.name)
        return None if times is None else times[bound].outcomes[name]

    @cached_property
    def reaction_times(self) -> dict[str, dict[str, ReactionTimes]]:
        """Condition → bound → its session; empty where the baseline has none.

        ``absolute``: with the detector of the baseline. ``normalized``: with evidence brought to the scale that noise
        had at the baseline, as an observer would who adapts.
        """
        courses = {name: one.found for name, one in self.courses.items() if "vigilance_evidence" in one.found}
        if BEFORE not in courses:
            return {}
        baseline, onset = (courses[BEFORE][f"vigilance_{name}"] for name in ("evidence", "onset"))
        detector = task.calibrate(baseline, onset)
        median = task.summary(task.respond(baseline, onset, detector))["median"]
        found = {}
        for condition, measured in courses.items():
            evidence = measured["vigilance_evidence"]
            if evidence.shape[1:] != baseline.shape[1:]:
                continue
            on_scale = {"absolute": evidence, "normalized": task.normalized(evidence, onset, baseline)}
            found[condition] = {
                bound: _session(task.respond(seen, onset, detector), median) for bound, seen in on_scale.items()
            }
        return found

    @cached_property
    def divergence(self) -> dict[str, Lifetimes]:
        """Condition → until values are not finite, error reaches 80 % or goodness a million thresholds."""
        return self._lifetimes(lambda course, first: self._diverged(course))

    @cached_property
    def silence(self) -> dict[str, Lifetimes]:
        """Condition → until the mean rate is below a tenth of what it was when the condition began."""

        def silent(course: Course, first: Course) -> np.ndarray | None:
            if "rate" not in course.found:
                return None
            with np.errstate(invalid="ignore"):
                return course.of("rate") < SILENT * first.of("rate")[0]

        return self._lifetimes(silent)

    def _lifetimes(self, happened: Callable[[Course, Course], np.ndarray | None]) -> dict[str, Lifetimes]:
        """Until something happens in each condition, or in what goes on with it.

        happened  told a course and the one that began: at which probes it has, (probes, subjects); None: not measured
        """
        lives, going_on = {}, {name: self.population.going_on(name) for name in self.courses}
        later = {name for names in going_on.values() for name in names[1:]}
        for condition, names in going_on.items():
            courses = [self.courses[name] for name in names]
            found = [happened(course, courses[0]) for course in courses]
            if condition in later or any(one is None for one in found):
                continue
            updates, so = end_to_end(courses, found)
            lost = so.any(0)
            time = np.where(lost, updates[so.argmax(0)], updates[-1]).astype(float)
            lives[condition] = Lifetimes(time, lost, int(updates[-1]))
        return lives

    def _diverged(self, course: Course) -> np.ndarray:
        lost = np.stack([~sane(course, probe) for probe in range(len(course.updates))])
        with np.errstate(invalid="ignore"):
            if "err_goodness" in course.found:
                lost |= course.found["err_goodness"] >= DIVERGED_ERROR
            if "goodness_pos" in course.found:
                theta = [self.population.net.nodes[area]["goodness"].threshold for area in self.population.areas]
                lost |= (course.found["goodness_pos"] > DIVERGED_GOODNESS * np.array(theta)[:, None]).any((-1, -2))
        return lost


def sane(course: Course, probe: int) -> np.ndarray:
    """Whether each network was still finite at a probe, (subjects,)."""
    return np.isfinite(course.found[next(name for name in ("fp_neg", "err_softmax") if name in course.found)][probe])


def _session(rt: np.ndarray, median: np.ndarray) -> ReactionTimes:
    outcomes = task.summary(rt, median)
    outcomes = {name: outcomes[name] for name in ("lapse", "omission", "false_start", "inv_rt", "median")}
    for name in ("lapse", "omission", "false_start"):
        outcomes[name] = 100 * outcomes[name]
    outcomes["drift"] = _of_each(rt, lambda one: task.one_boundary_diffusion(one)[0])
    outcomes["tau"] = _of_each(rt, lambda one: task.ex_gaussian(one)[2])
    return ReactionTimes(rt, outcomes)


def _of_each(rt: np.ndarray, of: Callable[[np.ndarray], float]) -> np.ndarray:
    return np.array([of(one) for one in rt])
