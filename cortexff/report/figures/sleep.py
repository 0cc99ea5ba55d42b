"""Figures of sleep: Process S, recovery and oversleep, too little sleep for long, and what must happen in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cortexff.analysis import dose_response as laws
from cortexff.analysis.process_s import fit_sleep, fit_wake
from cortexff.plots.page import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    draw_curve,
    draw_mark,
    from_zero_on,
    interval_of,
    logarithmic,
    same_height,
)
from cortexff.protocol.settings import StageStimuli
from cortexff.report.figures.sheet import (
    AXIS,
    MARKS,
    READING,
    along,
    bold,
    decades,
    finish,
    forest,
    going_on,
    grid,
    heading,
    legend_of,
    lived,
    longest_wake,
    lost_in,
    page,
    positive,
    shown,
    with_courses,
    words,
)
from cortexff.report.findings import is_sure, need_exponent, needs
from cortexff.report.outcomes import Measured
from cortexff.report.study import Population
from cortexff.report.words import three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ABREAST = 2  # populations, each with a panel of wake and one of sleep
DOSES = (SKY, GREEN, ORANGE, VERMILION, PURPLE, BLUE)
FRACTIONS = (ORANGE, GREEN, BLUE, PURPLE, SKY)
OUTCOMES = {"fp_neg": AXIS["fp_neg"], "hit": "Real data\ncalled real (%)", "dprime": AXIS["dprime"]}
CONTENTS = {
    "removed": "Excess hallucinations\nremoved (%)",
    "dprime": "d′ (SD)",
    "err_goodness": "Error (points)",
    "rate": "Rate (% of before)",
    "miss": "Real data missed\n(points)",
}


def process_s(populations: Sequence[Population]) -> Figure | None:
    """Sleep drive through wake and then sleep, with the saturating curves of Process S and their time constants."""
    populations = with_courses(populations, "deprived", "recovered", measured="sleep_drive")
    if not populations:
        return None
    rows = -(-len(populations) // ABREAST)
    figure = page(rows * 1.9 + 0.7)
    parts = figure.subfigures(rows, min(ABREAST, len(populations)), squeeze=False)
    for part in parts.flat[len(populations) :]:
        part.set_facecolor("none")
    pairs = []
    for part, population in zip(parts.flat, populations, strict=False):
        part.suptitle(heading(population).replace("\n", ", "), size=7, weight="bold")
        wake, sleep = pair = part.subplots(1, 2)
        pairs.append(pair)
        slept = "overslept" if "overslept" in population.courses else "recovered"
        longest = longest_wake(population)
        for axes, condition, colour, label in (
            (wake, longest, VERMILION, "awake"),
            (sleep, slept, GREEN, "of sleep"),
        ):
            updates, values = along(population, condition, "sleep_drive")
            if axes is sleep:
                begun = int(population.courses["deprived"].updates[-1])
                updates, values = updates[updates >= begun] - begun, values[updates >= begun]
            draw_curve(axes, updates, values, colour)
            _saturating(axes, updates, values, fit_wake if axes is wake else fit_sleep)
            from_zero_on(axes, int(updates[-1]))
            axes.set_xlabel(f"Updates {label}")
        wake.set_ylabel("Sleep drive E[p(x⁻)]")
    for pair in pairs:
        same_height(list(pair), from_zero=True)
    handles = [
        bold("wake", VERMILION),
        bold("sleep", GREEN),
        bold("saturating curve, fitted to the mean", "black", marker="", linewidth=1),
    ]
    note = f"{READING} τ: time constant of the mean, and of the subjects their mean [95 % interval] where all tell it."
    return finish(
        figure, handles, note, lost_in(populations, ("deprived", "deprived_longer", "recovered", "overslept"))
    )


def _saturating(axes: Axes, updates: np.ndarray, values: np.ndarray, fit: object) -> None:
    whole = np.isfinite(values).all(1)
    updates, values = updates[whole], values[whole]
    text = "τ not told\nby the curve"
    if updates.size > 3:
        of_mean, of_each = fit(updates, values.mean(1)[None])[0][0], interval_of(fit(updates, values.T)[0])
        if np.isfinite(of_mean):
            curve = laws.fit("saturating", updates, values.mean(1))
            dense = np.append(0.0, np.geomspace(0.1, updates[-1], 200))
            axes.plot(dense, laws.predict("saturating", curve.parameters, dense), color="black", linewidth=1)
            text = f"τ = {three_digits(of_mean)} updates"
            if np.isfinite(of_each.low):
                mean, *bounds = map(three_digits, (of_each.mean, of_each.low, of_each.high))
                text += f"\n{mean} [{', '.join(bounds)}]"
    falls = fit is fit_sleep
    place = {"x": 0.97, "ha": "right"} if falls else {"x": 0.03, "ha": "left"}
    axes.text(s=text, y=0.97, va="top", size=6.5, transform=axes.transAxes, **place)


def recovery(populations: Sequence[Population]) -> Figure | None:
    """Hallucinations, hits and sensitivity through sleep and oversleep after each deprivation, and the sleep needed."""
    populations = with_courses(populations, "deprived", "recovered")
    if not populations:
        return None
    several = any(len(nights(p)) > 1 for p in populations)
    figure, panels = grid(populations, 3 + several, 1.35)
    amounts = sorted({dose for p in populations for dose in nights(p)})
    colours = dict(zip(amounts, DOSES * len(amounts), strict=False)) if len(amounts) > 1 else {amounts[0]: GREEN}
    for column, population in zip(panels.T, populations, strict=True):
        before = population.courses["deprived"]
        for axes, name in zip(column, OUTCOMES, strict=False):
            for dose, line in nights(population).items():
                updates, values = through_sleep(population, line, "miss" if name == "hit" else name)
                draw_curve(axes, updates, 100 - values if name == "hit" else values, colours[dose])
                from_zero_on(axes, max(int(updates[-1]), int(np.ceil(axes.get_xlim()[1] / 1.2))))
            start = shown(before, "miss" if name == "hit" else name)[0]
            axes.axhline(
                interval_of(100 - start if name == "hit" else start).mean, color=GREY, linewidth=0.9, linestyle="--"
            )
        column[2].set_xlabel("Updates of sleep")
    for row, (name, label) in zip(panels, OUTCOMES.items(), strict=False):
        same_height(row, from_zero=name != "dprime")
        row[0].set_ylabel(label)
    if several:
        _needs(panels[3], populations, colours)
    figure.align_ylabels(panels[:, 0])
    handles = [bold(f"after {dose} updates awake", colours[dose]) for dose in amounts]
    handles.append(bold("before deprivation", GREY, marker="", linewidth=0.9, linestyle="--"))
    need = "Sleep need: updates until hallucinations are as before; ▲: some subjects need more than were given."
    conditions = [condition for p in populations for line in nights(p).values() for condition in line]
    return finish(figure, handles, READING, need if several else "", lost_in(populations, conditions))


def nights(population: Population) -> dict[int, list[str]]:
    """Updates awake → the conditions that slept after them, in a row, with what sleep usually is; by rising dose."""
    found: dict[str, list[str]] = {}  # last condition of a row so far → the row
    protocol = population.protocol
    for name in population.courses:
        start, stages = protocol.conditions[name].start, [protocol.stages[s] for s in protocol.conditions[name].stages]
        if start is None or any(stage.phase != "sleep" or stage.stimuli != StageStimuli() for stage in stages):
            continue
        if start.startswith("deprived") and name.startswith("recovered"):
            found[name] = [name]
        elif start in found:
            found[name] = [*found.pop(start), name]
    return dict(sorted((awake(population, line[0]), line) for line in found.values()))


def awake(population: Population, condition: str) -> int:
    """Updates of wake from the fork to the start of a condition."""
    return sum(int(population.courses[before].updates[-1]) for before in lived(population, condition)[:-1])


def through_sleep(population: Population, line: Sequence[str], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric from the start of a row of sleeping conditions on: updates of sleep, and values (probes, subjects)."""
    updates, values = along(population, line[-1], metric)
    begun = awake(population, line[0])
    return updates[updates >= begun] - begun, values[updates >= begun]


def _needs(row: Sequence[Axes], populations: Sequence[Population], colours: dict[int, str]) -> None:
    """Sleep need of each subject after each time awake; ▲ and a number: subjects that need more than was watched."""
    times, amounts = list(colours), []
    for axes, population in zip(row, populations, strict=True):
        found = needs([Measured(population)])
        for one in found:
            colour = colours.get(one.awake, GREY)
            known = one.need.updates[np.isfinite(one.need.updates) & (one.need.updates > 0)]
            if known.size:
                draw_mark(axes, one.awake, known, colour)
            if count := int(one.need.censored.sum()):
                axes.plot([one.awake], [one.slept], "^", color=colour, markersize=4)
                axes.text(one.awake, one.slept, f" {count}", size=6.5, va="bottom")
            amounts += [*known, *([one.slept] if count else [])]
        exponent = need_exponent(found)
        if exponent is not None:
            bounds = f"\n[{exponent.low:.2f}, {exponent.high:.2f}]" if np.isfinite(exponent.low) else ""
            text = f"exponent {exponent.mean:.2f}{bounds}"
            axes.text(0.03, 0.97, text, size=6.5, va="top", transform=axes.transAxes)
        axes.set_xscale("log")
        axes.set_xlim(min(times) / 2, max(times) * 3)
        axes.set_xticks([], minor=True)
        axes.set_xlabel("Updates awake")
        axes.tick_params(labelleft=axes is row[0])
    low, high = (min(amounts) / 1.5, max(amounts) * 6) if amounts else (1, 10)  # with room for what is written above
    ticks = [lead * 10**power for power in range(6) for lead in ((1, 2, 5) if high < 100 * low else (1,))]
    logarithmic(row, ticks, low, high)
    row[0].set_ylabel("Sleep need\n(updates)")


def chronic(populations: Sequence[Population]) -> Figure | None:
    """The end of wake in each cycle of wake and too little sleep, a line for each share of sleep.

    Hallucinations, and below them the mean rate of subjects whose learning never slows down.
    """
    populations = [p for p in populations if cycles(p)]
    if not populations:
        return None
    linear = any(cycles(p, "linear") for p in populations)
    figure, panels = grid(populations, 1 + linear, 2.0)
    kinds = {"log_sigmoid": ("fp_neg", "deprived")} | ({"linear": ("rate", "deprived_linear")} if linear else {})
    shares = sorted({cycle for p in populations for kind in kinds for cycle in cycles(p, kind).values()})
    colours = dict(zip(shares, FRACTIONS * len(shares), strict=False))
    for column, population in zip(panels.T, populations, strict=True):
        for axes, (kind, (metric, total)) in zip(column, kinds.items(), strict=True):
            for condition, (sleep, wake) in cycles(population, kind).items():
                course = population.courses[condition]
                length = wake + sleep
                ends = (course.updates % length == wake % length) & (course.updates > 0)
                values = positive(shown(course, metric)) if kind == "linear" else shown(course, metric)
                draw_curve(axes, course.updates[ends] // length + 1, values[ends], colours[sleep, wake])
            if total in population.courses:
                updates, values = going_on(population, total, partial(shown, metric=metric))
                values = positive(values) if kind == "linear" else values
                draw_curve(axes, updates[1:] / wake, values[1:], VERMILION)
                before = interval_of(values[0]).mean
                axes.axhline(before, color=GREY, linewidth=0.9, linestyle="--")
            axes.set_xlim(0, 1.02 * max((cycles_of(population, name) for name in cycles(population, kind)), default=1))
        awake_for = dict.fromkeys(wake for _, wake in cycles(population, None).values())
        column[-1].set_xlabel(f"Cycle of {' or '.join(map(str, awake_for))} updates awake")
    same_height(panels[0], from_zero=True)
    panels[0, 0].set_ylabel(AXIS["fp_neg"])
    if linear:
        panels[1, 0].set_ylabel("Linear loss:\nrate (activity)")
        for axes in panels[1]:
            decades(axes)
    handles = [bold(f"{sleep} of sleep to {wake} awake", colours[sleep, wake]) for sleep, wake in shares]
    handles += [bold("no sleep", VERMILION), bold("before", GREY, marker="", linewidth=0.9, linestyle="--")]
    conditions = [c for p in populations for kind in kinds for c in cycles(p, kind)]
    return finish(figure, handles, f"{READING} At the end of wake.", lost_in(populations, conditions))


def cycles_of(population: Population, condition: str) -> int:
    """Cycles that a condition has."""
    sleep, wake = cycles(population, None)[condition]
    return int(population.courses[condition].updates[-1]) // (sleep + wake)


def cycles(population: Population, saturation: str | None = "log_sigmoid") -> dict[str, tuple[int, int]]:
    """Conditions of wake and sleep by turns → updates of sleep and of wake in a cycle.

    saturation  of their learning; None: any
    """
    protocol, found = population.protocol, {}
    for name in population.courses:
        stages = [protocol.stages[stage] for stage in protocol.conditions[name].stages]
        if len(stages) != 1 or stages[0].cycle is None or len(population.courses[name].updates) < 2:
            continue
        if saturation in (None, protocol.plasticity_of(stages[0]).saturation):
            found[name] = (stages[0].cycle.sleep, stages[0].cycle.wake)
    return found


def contents(populations: Sequence[Population]) -> Figure | None:
    """What nights of other content do after the same deprivation: hallucinations, d′, error, rate and misses."""
    populations = [p for p in with_courses(populations, "deprived", "recovered") if len(nights_of_any_content(p)) > 1]
    if not populations:
        return None
    conditions = list(dict.fromkeys(name for p in populations for name in nights_of_any_content(p)))
    rows = ["before", *conditions]
    figure = page(0.9 + len(rows) * (0.13 + 0.07 * len(populations)))
    panels = figure.subplots(1, len(CONTENTS), sharey=True)
    for axes, (name, label) in zip(panels, CONTENTS.items(), strict=True):
        forest(axes, populations, rows, lambda population, row, name=name: change_in_sleep(population, row, name))
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_yticklabels(
        ["before deprivation", *("own dreams" if c == "recovered" else words(c) for c in conditions)]
    )
    note = f"{MARKS} Changes since the end of deprivation; at 0 a night does nothing. Excess: deprived − before."
    return finish(figure, legend_of(populations), note, lost_in(populations, conditions))


def nights_of_any_content(population: Population) -> list[str]:
    """Conditions that follow deprivation at once, and in which wake does not go on."""
    protocol = population.protocol
    follow = [name for name in population.courses if protocol.conditions[name].start == "deprived"]
    return [
        name
        for name in follow
        if not any("wake" in protocol.stages[stage].phases for stage in protocol.conditions[name].stages)
    ]


def change_in_sleep(population: Population, condition: str, metric: str) -> np.ndarray | None:
    """Change since the end of deprivation, (subjects,); ``before``: the change that would undo it.

    metric  or ``removed``: share of the excess of hallucinations that is gone, in %. Rates are in % of before
    returns None where the condition was not lived through, or there is no sure excess to take a share of
    """
    deprived = population.courses["deprived"]
    of = "fp_neg" if metric == "removed" else metric
    start, end = shown(deprived, of)[0], shown(deprived, of)[-1]
    if condition == "before":
        now = start
    elif condition in population.courses:
        now = shown(population.courses[condition], of)[-1]
    else:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "removed":
            excess = end - start
            sure = is_sure(excess[np.isfinite(excess)])
            return np.where(excess != 0, 100 * (end - now) / excess, np.nan) if sure else None
        return 100 * (now - end) / start if metric == "rate" else now - end
