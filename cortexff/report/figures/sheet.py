"""What the figures of a report have in common: a column for each population, a legend above, what to know below.

Rates are in percent; values that are not finite are gaps, and their subjects are counted below.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cortexff.analysis.statistics import mean_of_known
from cortexff.plots.page import BLUE, BOLD, GREY, PURPLE, VERMILION, WIDTH, drawn_heights, interval_of, logarithmic
from cortexff.protocol.table import PERCENT
from cortexff.report.study import Course, Population, end_to_end

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIGN_COLOURS = {"max": VERMILION, "min": BLUE, "mixed": PURPLE}
LINES = ("-", "o"), ("--", "s"), (":", "^")  # and marks, of populations with the same sign
READING = "Thin lines: subjects; bold: their mean; band: its 95 % t interval, cut at the axes."
MARKS = "Ticks: subjects; mark: their mean; bar: its 95 % t interval, cut at the axes."
IN_PERCENT = (*PERCENT, "fp_by_label", "err_by_label")
AXIS = {
    "fp_neg": "Wrong labels\ncalled real (%)",
    "fp_noise": "Noise called\nreal (%)",
    "err_goodness": "Error by\ngoodness (%)",
    "dprime": "Sensitivity\nd′ (SD)",
    "criterion": "Criterion\nc (SD)",
    "miss": "Real data\nmissed (%)",
    "sleep_drive": "Sleep drive\nE[p(x⁻)]",
}
LETTERS = 140  # that stand side by side on a page
LINE = 0.125  # inches, of a note


def with_courses(populations: Iterable[Population], *conditions: str, measured: str = "fp_neg") -> list[Population]:
    """The populations that lived through all of these conditions and were measured in them."""
    return [p for p in populations if all(c in p.courses and measured in p.courses[c].found for c in conditions)]


def shown(course: Course, metric: str, area: int | None = None) -> np.ndarray:
    """A metric as it is drawn, (probes, subjects): rates in percent, NaN for what is not finite or was not measured."""
    if metric not in course.found:
        return np.full_like(course.found["fp_neg"], np.nan, dtype=float)
    values = course.of(metric, area) * (100 if metric in IN_PERCENT else 1)
    return np.where(np.isfinite(values), values, np.nan)


def lived(population: Population, condition: str) -> list[str]:
    """A condition and those before it, from the fork on at which the lives of grown subjects part."""
    return population.from_start(condition)[1:]


def longest_wake(population: Population) -> str:
    """The condition at the end of which subjects have been awake for longest."""
    return population.going_on("deprived")[-1]


def going_on(
    population: Population, condition: str, values: Callable[[Course], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Updates since a condition began, those of what goes on with it too, and values (probes, subjects)."""
    courses = [population.courses[name] for name in population.going_on(condition)]
    return end_to_end(courses, [values(course) for course in courses])


def along(population: Population, condition: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric from the fork to the end of a condition: updates since the fork, and values (probes, subjects)."""
    courses = [population.courses[name] for name in lived(population, condition)]
    return end_to_end(courses, [shown(course, metric) for course in courses])


def thresholds(population: Population) -> np.ndarray:
    """θ of each area's blocks, (areas, 1)."""
    return np.array([[population.net.nodes[area]["goodness"].threshold] for area in population.areas])


def goodness_in_thresholds(population: Population, course: Course) -> np.ndarray:
    """Goodness of real data over θ, mean over areas and blocks, (probes, subjects)."""
    values = course.found["goodness_pos"] / thresholds(population)
    return mean_of_known(values.reshape(*values.shape[:2], -1))


def page(height: float) -> Figure:
    """An empty figure of a page's width, whose parts make room for each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def grid(populations: Sequence[Population], rows: int, height: float) -> tuple[Figure, np.ndarray]:
    """A column for each population with its name above, and so many rows, each of that height in inches."""
    figure = page(rows * height + 0.9)
    panels = figure.subplots(rows, len(populations), squeeze=False)
    for axes, population in zip(panels[0], populations, strict=True):
        axes.set_title(heading(population, len(populations)), size=7, weight="bold")
    return figure, panels


def heading(population: Population, beside: int = 1) -> str:
    """A population's name, the sign of its goodness where the name does not say it, and its subjects."""
    name = population.name.replace(", ", ",\n") if beside > 4 else population.name
    sign = "" if population.sign in population.name else f"{population.sign} goodness\n"
    return f"{name}\n{sign}n = {population.subjects}"


def line(population: Population, populations: Sequence[Population]) -> dict[str, str]:
    """How a population's line looks: a colour for each sign, a kind of line and of mark for each of the same sign."""
    alike = [other for other in populations if other.sign == population.sign]
    kind, mark = LINES[next(place for place, other in enumerate(alike) if other is population) % len(LINES)]
    return {"color": SIGN_COLOURS[population.sign], "linestyle": kind, "marker": mark}


def bold(label: str, color: str, **how: object) -> Artist:
    """An entry of a legend for a mean over subjects."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, color=color, **(BOLD | how))


def legend_of(populations: Sequence[Population]) -> list[Artist]:
    """An entry for each population, where they share panels."""
    return [bold(f"{p.name}, n = {p.subjects}", **line(p, populations)) for p in populations]


def finish(figure: Figure, handles: Sequence[Artist], *notes: str) -> Figure:
    """Legend above, notes below."""
    if handles:
        lengths = [len(handle.get_label()) + 9 for handle in handles]
        abreast = len(handles) if sum(lengths) < LETTERS else max(1, LETTERS // max(lengths))
        figure.legend(handles=handles, loc="outside upper center", ncols=abreast)
    lines = [
        wrapped for note in notes if note for wrapped in textwrap.wrap(note.replace(" %", "\u00a0%"), LETTERS + 10)
    ]
    height = figure.get_figheight()
    bottom = (0.05 + LINE * len(lines)) / height
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom), h_pad=0.03, w_pad=0.03)
    for place, text in enumerate(reversed(lines)):
        figure.text(0.012, (0.04 + LINE * place) / height, text, size=6.5, color=GREY)
    return figure


def lost_in(populations: Iterable[Population], conditions: Iterable[str], so: str = "means have gaps") -> str:
    """How many subjects have no finite value at some probe of a condition, and what follows; nothing where all have."""
    found = []
    conditions = list(dict.fromkeys(conditions))
    for population in populations:
        for name in (name for name in conditions if name in population.courses):
            lost = int(np.isnan(shown(population.courses[name], "fp_neg")).any(0).sum())
            if lost:
                found.append(f"{population.name} {name} {lost} of {population.subjects}")
    return f"Without a finite value at some probe ({so}): {'; '.join(found)}." if found else ""


def draw_dot(axes: Axes, height: float, values: np.ndarray, color: str, marker: str) -> None:
    """A row of a forest plot: ticks of the subjects, a mark for their mean and a bar for its interval."""
    found = interval_of(values)
    axes.plot(values, [height] * len(values), "|", color=color, markersize=4, markeredgewidth=0.4, alpha=0.5)
    axes.plot([found.low, found.high], [height, height], color=color, linewidth=1.0)
    axes.plot([found.mean], [height], marker, color=color, markersize=3)


def forest(
    axes: Axes,
    populations: Sequence[Population],
    conditions: Sequence[str],
    values: Callable[[Population, str], np.ndarray | None],
) -> None:
    """A row for each condition, the first on top, with a dot for each population that has values."""
    seen = [0.0]
    for place, condition in enumerate(conditions):
        for number, population in enumerate(populations):
            found = values(population, condition)
            if found is not None:
                looks = line(population, populations)
                height = -place - (number - (len(populations) - 1) / 2) * 0.75 / len(populations)
                draw_dot(axes, height, found, looks["color"], looks["marker"])
                seen += list(found[np.isfinite(found)])
    margin = 0.06 * np.ptp(seen) or 0.5
    axes.set_xlim(min(seen) - margin, max(seen) + margin)  # of the subjects: few of them have wide intervals
    axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    axes.set_yticks([-place for place in range(len(conditions))], labels=[])
    axes.set_ylim(0.6 - len(conditions), 0.6)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.5)
    axes.set_axisbelow(True)


def positive(values: np.ndarray) -> np.ndarray:
    """Values for a logarithmic axis: what is not above 0 is a gap."""
    return np.where(values > 0, values, np.nan)


def decades(axes: Axes) -> None:
    """A logarithmic scale of the panel's own: what explodes and what fades would not be seen on one."""
    from matplotlib.ticker import LogLocator, NullLocator

    heights = drawn_heights([axes])
    heights = heights[heights > 0]
    low, high = (heights.min() / 1.6, heights.max() * 1.6) if heights.size else (0.1, 10)
    if high < 100 * low:
        logarithmic([axes], [lead * 10.0**power for power in range(-9, 9) for lead in (1, 2, 5)], low, high)
        return
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_minor_locator(NullLocator())


def words(condition: str) -> str:
    """A condition's name as it is written."""
    return condition.replace("_", " ")
