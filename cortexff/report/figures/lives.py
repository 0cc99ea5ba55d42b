"""Figures of the lives that are compared: who lived how, what other lives do, and sleep of one area alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cortexff.plots.page import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, draw_mark, from_zero_on, same_height
from cortexff.report.figures.sheet import (
    MARKS,
    SIGN_COLOURS,
    bold,
    draw_dot,
    finish,
    forest,
    grid,
    legend_of,
    lived,
    lost_in,
    page,
    shown,
    with_courses,
    words,
)
from cortexff.report.study import Population

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASES = {"interleaved": GREEN, "wake": ORANGE, "sleep": BLUE, "rest": "#bbbbbb", "scaling": PURPLE}
PHASE_WORDS = {
    "interleaved": "both phases",
    "wake": "wake: positive",
    "sleep": "sleep: negative",
    "rest": "rest: no plasticity",
    "scaling": "scaling of synapses",
}
OUTCOMES = {
    "fp_neg": ("Wrong labels called real\n(points)", 1.0),
    "dprime": ("Sensitivity d′\n(SD)", 0.1),
    "err_goodness": ("Error by goodness\n(points)", 1.0),
}  # label, and where a symmetric logarithmic axis stops to be linear
MOST_TICKS = 4
LOCAL = {"control": BLUE, "local_sleep": GREEN, "deprived": VERMILION}


def raster(populations: Sequence[Population]) -> Figure | None:
    """Who lived how: phases from the fork on, and within each condition, with its probes."""
    alike: list[list[Population]] = []  # those whose lives are among the first one's
    for population in sorted(populations, key=lambda one: -len(_lives(one))):
        group = next((group for group in alike if _lives(population) <= _lives(group[0])), None)
        if group is not None:
            group.append(population)
        elif _lives(population):
            alike.append([population])
    if not alike:
        return None
    rows = [[name for name in group[0].courses if lived(group[0], name)] for group in alike]
    figure = page(sum(map(len, rows)) * 0.15 + 0.45 * len(rows) + 0.7)
    panels = figure.subplots(len(rows), 2, squeeze=False, gridspec_kw={"height_ratios": list(map(len, rows))})
    for (whole, own), names, (population, *others) in zip(panels, rows, alike, strict=True):
        longest, last = 1, 1
        for place, name in enumerate(names):
            begun = 0
            for condition in lived(population, name):
                _bars(whole, population, condition, begun, -place)
                begun += _length(population, condition)
            longest, last = max(longest, begun), max(last, _length(population, name))
            _bars(own, population, name, 0, -place)
            probes = population.courses[name].updates
            own.plot(probes, [-place] * len(probes), "|", color="black", markersize=5, markeredgewidth=0.5)
        for axes in (whole, own):
            axes.set_ylim(0.6 - len(names), 0.6)
            axes.set_yticks([-place for place in range(len(names))], labels=map(words, names) if axes is whole else [])
        whole.set_xlim(0, 1.02 * longest)
        from_zero_on(own, last)
        whole.set_xlabel("Updates since the fork, at the end of development")
        own.set_xlabel("Updates of the condition; ticks: probes")
        if len({one.about["preset"] for one in populations}) > 1:
            presets = dict.fromkeys(one.about["preset"] for one in (population, *others))
            whole.set_title(", ".join(presets), size=7, weight="bold", loc="left")
    from matplotlib.patches import Patch

    used = {
        phase
        for names, group in zip(rows, alike, strict=True)
        for c in names
        for phase, _, _ in _stretches(group[0], c)
    }
    handles = [Patch(color=colour, label=PHASE_WORDS[phase]) for phase, colour in PHASES.items() if phase in used]
    return finish(
        figure, handles, "A condition begins where another one ended, with the same images in the same order."
    )


def _lives(population: Population) -> set[tuple[object, ...]]:
    """What tells the conditions of populations apart: name, phases from the fork on, and probes."""
    return {
        (name, *(tuple(_stretches(population, c)) for c in lived(population, name)), tuple(course.updates))
        for name, course in population.courses.items()
        if lived(population, name)
    }


def _stretches(population: Population, condition: str) -> list[tuple[str, int, int]]:
    """Phase, first update and number of updates of each stretch of a condition."""
    protocol, found, begun = population.protocol, [], 0
    stages = protocol.conditions[condition].stages
    known = sum(protocol.stages[stage].updates or 0 for stage in stages)
    for stage in (protocol.stages[stage] for stage in stages):
        # The length of epochs is known from the probes alone.
        length = int(population.courses[condition].updates[-1]) - known if stage.updates is None else stage.updates
        if stage.cycle is None:
            found.append((stage.phase, begun, length))
        else:
            for first in range(0, length, stage.cycle.length):
                wake = min(stage.cycle.wake, length - first)
                found.append(("wake", begun + first, wake))
                if sleep := min(stage.cycle.sleep, length - first - wake):
                    found.append(("sleep", begun + first + wake, sleep))
        begun += length
    return found


def _length(population: Population, condition: str) -> int:
    _, begun, length = _stretches(population, condition)[-1]
    return begun + length


def _bars(axes: Axes, population: Population, condition: str, begun: int, height: float) -> None:
    for phase, first, length in _stretches(population, condition):
        axes.broken_barh([(begun + first, length)], (height - 0.36, 0.72), facecolor=PHASES[phase], linewidth=0)


def controls(populations: Sequence[Population]) -> Figure | None:
    """What other lives of the same length do, against both phases going on: hallucinations, d′ and error."""
    populations = with_courses(populations, "control", "deprived")
    if not populations:
        return None
    conditions = list(dict.fromkeys(name for p in populations for name in lives(p)))
    conditions.sort(key=lambda name: name != "deprived")
    figure = page(0.9 + len(conditions) * (0.13 + 0.07 * len(populations)))
    panels = figure.subplots(1, len(OUTCOMES), sharey=True)
    for axes, (name, (label, least)) in zip(panels, OUTCOMES.items(), strict=True):
        forest(axes, populations, conditions, lambda p, c, name=name: against_control(p, c, name))
        axes.set_xlabel(label)
        _symmetric(axes, least)
    panels[0].set_yticklabels([words(condition) for condition in conditions])
    note = f"{MARKS} Change within subjects against the control at as many updates, or its last. Axes: linear near 0,"
    note += " logarithmic beyond."
    return finish(figure, legend_of(populations), note, lost_in(populations, conditions))


def everyone(populations: Sequence[Population]) -> Figure | None:
    """What deprivation does in every population, a row each: against the control, at as many updates."""
    populations = with_courses(populations, "control", "deprived")
    if not populations:
        return None
    outcomes = OUTCOMES | {"criterion": ("Criterion c\n(SD)", 0.1)}
    figure = page(1.7 + 0.16 * len(populations))
    panels = figure.subplots(1, len(outcomes), sharey=True)
    for axes, (name, (label, least)) in zip(panels, outcomes.items(), strict=True):
        for place, population in enumerate(populations):
            change = against_control(population, "deprived", name)
            if np.isfinite(change).all():  # else it was not measured, or networks are lost
                draw_dot(axes, -place, change, SIGN_COLOURS[population.sign], "o")
        axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)
        axes.set_xlabel(label)
        axes.grid(axis="y", color="#eeeeee", linewidth=0.5)
        axes.set_axisbelow(True)
        _symmetric(axes, least)
    panels[0].set_yticks([-place for place in range(len(populations))], labels=[p.name for p in populations])
    panels[0].set_ylim(0.6 - len(populations), 0.6)
    there = [sign for sign in SIGN_COLOURS if sign in [p.sign for p in populations]]
    handles = [bold(f"{sign} goodness", SIGN_COLOURS[sign], linestyle="") for sign in there]
    note = f"{MARKS} Change within subjects against the control at as many updates. Axes: linear near 0, logarithmic"
    note += " beyond; no dot where networks are lost, or it was not measured."
    return finish(figure, handles, note, lost_in(populations, ["control", "deprived"], "not drawn"))


def _symmetric(axes: Axes, least: float) -> None:
    low, high = axes.get_xlim()
    axes.set_xscale("symlog", linthresh=least, linscale=0.7)
    for leads in ((1, 3), (1,)):  # as close as they can be read
        powers = [least * lead * 10**power for power in range(6) for lead in leads]
        ticks = [*(-tick for tick in reversed(powers) if tick <= max(-low, least)), 0.0]
        ticks += [tick for tick in powers if tick <= max(high, least)]
        if len(ticks) <= MOST_TICKS:
            break
    axes.set_xticks(ticks, labels=[f"{tick:+g}".replace("-", "−") if tick else "0" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(low * 1.2, -1.2 * least), max(high * 1.2, 1.2 * least))


def lives(population: Population) -> list[str]:
    """Conditions that part from the control's at the fork, and last as long as deprivation or longer, in one phase."""
    protocol, known = population.protocol, population.courses
    fork, length = protocol.conditions["deprived"].start, _length(population, "deprived")
    return [
        name
        for name in known
        if name != "control"
        and protocol.conditions[name].start == fork
        and _length(population, name) >= length
        and all(protocol.stages[stage].cycle is None for stage in protocol.conditions[name].stages)
    ]


def against_control(population: Population, condition: str, metric: str) -> np.ndarray | None:
    """Change within subjects against the control after as many updates, or at its end, (subjects,)."""
    if condition not in lives(population):
        return None
    control, course = population.courses["control"], population.courses[condition]
    same = np.flatnonzero(control.updates == course.updates[-1])
    return shown(course, metric)[-1] - shown(control, metric)[same[0] if same.size else -1]


def local_sleep(populations: Sequence[Population]) -> Figure | None:
    """Margin of goodness in each area where some areas alone sleep, beside lives in which all do or none."""
    populations = with_courses(populations, *LOCAL)
    if not populations:
        return None
    figure, panels = grid(populations, 1, 2.0)
    for axes, population in zip(panels[0], populations, strict=True):
        stage = population.protocol.stages[population.protocol.conditions["local_sleep"].stages[0]]
        sleeping = stage.plasticity.sleeping or population.areas
        for place, condition in enumerate(LOCAL):
            for number, change in enumerate(margin_change(population, condition).T):
                draw_mark(axes, number + 0.22 * (place - 1), change, LOCAL[condition])
        labels = [f"{area}\n{'sleeps' if area in sleeping else 'does not'}" for area in population.areas]
        axes.set_xticks(range(len(labels)), labels=labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    same_height(panels[0], from_zero=False)
    panels[0, 0].set_ylabel("Change of the margin\n(% of before)")
    handles = [
        bold("control: all areas sleep", LOCAL["control"], marker="D", linestyle=""),
        bold("local sleep", LOCAL["local_sleep"], marker="D", linestyle=""),
        bold("deprived: none sleeps", LOCAL["deprived"], marker="D", linestyle=""),
    ]
    note = (
        f"{MARKS} Margin: goodness of real data less that of wrong labels, or the reverse where low goodness is real."
    )
    return finish(figure, handles, note, lost_in(populations, LOCAL))


def margin_change(population: Population, condition: str) -> np.ndarray:
    """Change of each area's margin of goodness from the first probe to the last, % of the first, (subjects, areas)."""
    course = population.courses[condition]
    signs = [-1 if population.net.nodes[area]["goodness"].sign == "min" else 1 for area in population.areas]
    margins = [
        sign * (course.of("goodness_pos", place) - course.of("goodness_neg", place)) for place, sign in enumerate(signs)
    ]
    first, last = np.array(margins)[:, 0], np.array(margins)[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = 100 * (last - first) / np.abs(first)
    return np.where(np.isfinite(change), change, np.nan).T
