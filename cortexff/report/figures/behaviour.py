"""Figures of behaviour: reaction times, what is hallucinated, and the learning of new labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cortexff.plots.page import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    draw_curve,
    draw_mark,
    from_zero_on,
    interval_of,
    same_height,
)
from cortexff.report.figures.sheet import MARKS, READING, bold, finish, grid, lost_in, with_courses
from cortexff.report.outcomes import BEFORE, BOUNDS, Measured
from cortexff.report.study import Population

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SESSIONS = {"frozen": GREY, "deprived": VERMILION, "recovered": GREEN}
SESSION_WORDS = {"frozen": "before (frozen)", "deprived": "deprived", "recovered": "recovered"}
FAILURES = {"lapse": "lapses", "omission": "omis-\nsions", "false_start": "false\nstarts"}
LEARNING = {"encoding_rested": BLUE, "encoding_deprived": VERMILION}


def reaction_times(populations: Sequence[Population]) -> Figure | None:
    """Reaction times and failures before, deprived and recovered; bound as it was, and evidence normalized."""
    populations = with_courses(populations, "frozen", "deprived", measured="vigilance_evidence")
    if not populations:
        return None
    figure, panels = grid(populations, 5, 1.25)
    for column, population in zip(panels.T, populations, strict=True):
        kept = {name: population.courses[name] for name in SESSIONS if name in population.courses}
        sessions = Measured(replace(population, courses=kept)).reaction_times  # of these alone: fits take time
        before = population.courses[BEFORE].found
        latest = int(before["vigilance_onset"].max())
        watched = before["vigilance_evidence"].shape[-1] - latest
        for name, session in sessions.items():
            _histogram(column[0], session["absolute"].rt, SESSIONS[name], watched)
            _survival(column[1], session["absolute"].rt, SESSIONS[name], watched)
            _survival(column[2], session["normalized"].rt, SESSIONS[name], watched)
        for axes in column[:3]:
            axes.axvline(0.5, color=GREY, linewidth=0.6, zorder=0)
            axes.set_xlim(-latest, watched)
            axes.tick_params(labelbottom=axes is column[2])
        column[2].set_xlabel("Frames since onset")
        for axes, bound in zip(column[3:], BOUNDS, strict=True):
            _failures(axes, {name: session[bound].outcomes for name, session in sessions.items()})
            axes.tick_params(labelbottom=axes is column[4])
    labels = [
        "Trials (%)",
        "No response\nyet (%)",
        "The same,\nnormalized (%)",
        "Failures\n(% of trials)",
        "The same,\nnormalized (%)",
    ]
    for row, label in zip(panels, labels, strict=True):
        same_height(row, from_zero=True)
        row[0].set_ylabel(label)
    for row in panels[3:]:  # the scale fits the subjects: few of them have wide intervals
        ticks = [one for axes in row for one in axes.lines if one.get_marker() == "_"]
        highest = max((float(one.get_ydata().max()) for one in ticks), default=0.0) or 1.0
        for axes in row:
            axes.set_ylim(-0.05 * highest, 1.1 * highest)
    figure.align_ylabels(panels[:, 0])
    used = [name for name in SESSIONS if any(name in p.courses for p in populations)]
    note = (
        "Onset: the image appears. Bold: mean over subjects; bands, bars: 95 % t interval, cut at the axes. Lapse: no "
        "response, or one later than twice the median before. Offset and bound of evidence are those of before; "
        "normalized: noise gets the mean and SD it had then."
    )
    return finish(
        figure,
        [bold(SESSION_WORDS[n], SESSIONS[n], marker="") for n in used],
        note,
        lost_in(populations, used, "they do not respond"),
    )


def _histogram(axes: Axes, rt: np.ndarray, colour: str, watched: int) -> None:
    """Share of all subjects' trials by reaction time, in frames; false starts lie left of 0."""
    edges = np.arange(-watched, watched + 1) - 0.5
    counts, _ = np.histogram(rt[np.isfinite(rt)], edges)
    axes.step(edges[:-1], 100 * counts / rt.size, where="post", color=colour, linewidth=1.1)


def _survival(axes: Axes, rt: np.ndarray, colour: str, watched: int) -> None:
    """Share of trials without a response so far, mean over subjects and its interval."""
    frames = np.arange(-watched, watched + 1)
    answered = np.where(np.isnan(rt), np.inf, rt)[..., None] <= frames  # (subjects, trials, frames)
    means = [interval_of(share) for share in 100 * (1 - answered.mean(1)).T]
    low, high = [m.low for m in means], [m.high for m in means]
    axes.fill_between(frames, low, high, color=colour, alpha=0.2, linewidth=0, step="post")
    axes.step(frames, [m.mean for m in means], where="post", color=colour, linewidth=1.3)


def _failures(axes: Axes, outcomes: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    for place, (name, outcome) in enumerate(outcomes.items()):
        for number, failure in enumerate(FAILURES):
            where = number + 0.25 * (place - (len(outcomes) - 1) / 2)
            mean = interval_of(outcome[failure]).mean
            axes.bar(where, mean, width=0.22, color=SESSIONS[name], alpha=0.45, linewidth=0)
            draw_mark(axes, where, outcome[failure], SESSIONS[name])
    axes.set_xticks(range(len(FAILURES)), labels=FAILURES.values())


def content(populations: Sequence[Population]) -> Figure | None:
    """With which labels wrong images are called real, after wake with images of some classes alone and of all."""
    populations = with_courses(populations, "deprived", "one_class", measured="fp_by_label")
    if not populations:
        return None
    figure, panels = grid(populations, 1, 2.0)
    for axes, population in zip(panels[0], populations, strict=True):
        seen = _classes(population, "one_class")
        for condition, colour, shift in (("deprived", VERMILION, -0.2), ("one_class", PURPLE, 0.2)):
            for label, values in enumerate(
                100 * population.courses[condition].found["fp_by_label"][-1].T.astype(float)
            ):
                draw_mark(axes, label + shift, np.where(np.isfinite(values), values, np.nan), colour)
        for label in seen:
            axes.axvspan(label - 0.5, label + 0.5, color=GREY, alpha=0.2, linewidth=0)
        labels = population.courses["deprived"].found["fp_by_label"].shape[-1]
        axes.set_xticks(range(labels))
        axes.set_xlabel("Wrong label shown")
    same_height(panels[0], from_zero=True)
    panels[0, 0].set_ylabel("Called real (%)")
    handles = [
        bold("deprived: images of all classes", VERMILION, marker="D", linestyle=""),
        bold("images of one class (grey) alone", PURPLE, marker="D", linestyle=""),
    ]
    return finish(figure, handles, MARKS, lost_in(populations, ("deprived", "one_class")))


def encoding(populations: Sequence[Population]) -> Figure | None:
    """Error on labels that are new and on those known since youth, while the new are learned, rested and deprived."""
    populations = with_courses(populations, *LEARNING, measured="err_by_label")
    if not populations:
        return None
    figure, panels = grid(populations, 2, 1.6)
    for column, population in zip(panels.T, populations, strict=True):
        old = _classes(population, population.from_start("encoding_rested")[0])
        for condition, colour in LEARNING.items():
            course = population.courses[condition]
            errors = 100 * course.found["err_by_label"].astype(float)
            new = [label for label in range(errors.shape[-1]) if label not in old]
            for axes, labels in zip(column, (new, list(old)), strict=True):
                draw_curve(axes, course.updates, errors[..., labels].mean(-1), colour)
                from_zero_on(axes, int(course.updates[-1]))
        column[0].tick_params(labelbottom=False)
        column[1].set_xlabel("Updates with the new labels")
    for row, label in zip(panels, ("Error, new\nlabels (%)", "Error, old\nlabels (%)"), strict=True):
        same_height(row, from_zero=True)
        row[0].set_ylabel(label)
    figure.align_ylabels(panels[:, 0])
    handles = [bold("rested", BLUE), bold("deprived before", VERMILION)]
    return finish(figure, handles, READING, lost_in(populations, LEARNING))


def _classes(population: Population, condition: str) -> list[int]:
    """Labels of the images that a condition meets, where it does not meet all."""
    stages = population.protocol.conditions[condition].stages
    return population.protocol.stages[stages[0]].stimuli.classes or []
