"""Figures of deprivation: its dose-response, its physiology, and how long networks last without the log-sigmoid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cortexff.analysis import dose_response as laws
from cortexff.plots.page import (
    BLUE,
    BOLD,
    GREEN,
    GREY,
    ORANGE,
    THIN,
    VERMILION,
    draw_curve,
    from_zero_on,
    interval_of,
    same_height,
)
from cortexff.protocol.table import PERCENT
from cortexff.report.figures.sheet import (
    AXIS,
    READING,
    along,
    bold,
    decades,
    finish,
    going_on,
    goodness_in_thresholds,
    grid,
    legend_of,
    line,
    longest_wake,
    lost_in,
    page,
    positive,
    shown,
    with_courses,
)
from cortexff.report.outcomes import DIVERGED_ERROR, DIVERGED_GOODNESS, SILENT, Measured
from cortexff.report.study import Population

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTCOMES = ("fp_neg", "fp_noise", "err_goodness", "dprime", "criterion")
PHYSIOLOGY = {
    "rate": "Rate",
    "evoked_slope": "Slope of the\nevoked activity",
    "pulse_response": "Response\nto a pulse",
    "gain_star": "Gain with excessive\nactivity",
    "energy": "Energy",
    "weight_mean": "Change of the mean\nweight (1/1000)",
    "dimensionality": "Dimensions\nof activity",
    "active_frac": "Share of units\nthat are active",
}
LAW_WORDS = {"hill": "Hill", "threshold_linear": "threshold, linear"}
LOSSES = {
    "deprived": VERMILION,
    "deprived_hinge": GREEN,
    "deprived_linear": ORANGE,
}  # what learning in wake saturates at


def dose_response(populations: Sequence[Population]) -> Figure | None:
    """Hallucinations, error, sensitivity and criterion against updates awake, with the best law and the linear one."""
    populations = with_courses(populations, "control", "deprived")
    if not populations:
        return None
    figure, panels = grid(populations, len(OUTCOMES), 1.2)
    for column, population in zip(panels.T, populations, strict=True):
        control = population.courses["control"]
        longest = longest_wake(population)
        for axes, name in zip(column, OUTCOMES, strict=True):
            draw_curve(axes, control.updates, shown(control, name), BLUE)
            updates, values = along(population, longest, name)
            draw_curve(axes, updates, values, VERMILION)
            draw_laws(axes, updates, values)
            from_zero_on(axes, max(int(updates[-1]), int(control.updates[-1])))
            axes.tick_params(labelbottom=axes is column[-1])
        column[-1].set_xlabel("Updates awake")
    for row, name in zip(panels, OUTCOMES, strict=True):
        # Low activity is what noise evokes: the signs of goodness differ too much in it for one scale.
        for alike in [[axes] for axes in row] if name == "fp_noise" else [row]:
            same_height(alike, from_zero=name in PERCENT)
        row[0].set_ylabel(AXIS[name])
    figure.align_ylabels(panels[:, 0])
    handles = [
        bold("control: both phases go on", BLUE),
        bold("deprived: wake alone", VERMILION),
        bold("best law, named in the panel", "black", marker="", linewidth=1),
        bold("linear law", "black", marker="", linewidth=0.8, linestyle=":"),
    ]
    lost = lost_in(populations, ("control", "deprived", "deprived_longer"))
    return finish(figure, handles, f"{READING} Laws are fitted to the mean; the best has the least AICc.", lost)


def draw_laws(axes: Axes, updates: np.ndarray, values: np.ndarray) -> None:
    """The law of least AICc and the linear one, fitted to the mean over subjects where all are finite."""
    whole = np.isfinite(values).all(1)
    doses, mean = updates[whole], values[whole].mean(1)
    if doses.size < 2 or np.ptp(mean) == 0:
        return
    fits = {name: laws.fit(name, doses, mean) for name in laws.MODELS}
    best = min(fits, key=lambda name: fits[name].aicc)
    dense = np.append(0.0, np.geomspace(0.1, doses[-1], 200))
    axes.plot(
        dense, laws.predict("linear", fits["linear"].parameters, dense), color="black", linewidth=0.8, linestyle=":"
    )
    if not np.isfinite(fits[best].aicc):
        return
    if best != "linear":
        axes.plot(dense, laws.predict(best, fits[best].parameters, dense), color="black", linewidth=1)
    place = {"y": 0.97, "va": "top"} if mean[-1] > mean[0] else {"y": 0.03, "va": "bottom"}  # where no curve begins
    axes.text(s=LAW_WORDS.get(best, best), x=0.04, size=6.5, transform=axes.transAxes, **place)


def physiology(populations: Sequence[Population]) -> Figure | None:
    """Activity, excitability, energy, weights and dimensions against updates awake, in percent of before."""
    populations = with_courses(populations, "deprived", measured="evoked_slope")
    if not populations:
        return None
    figure = page(4.4)
    panels = figure.subplots(2, 4)
    missing = 0
    for axes, (name, label) in zip(panels.flat, PHYSIOLOGY.items(), strict=True):
        last = 1
        for population in populations:
            longest = longest_wake(population)
            updates, values = along(population, longest, name)
            if name == "weight_mean":  # it may be on either side of 0
                change = 1000 * (values - values[0])
            else:
                with np.errstate(divide="ignore", invalid="ignore"):
                    change = np.where(values[0] > 0, 100 * values / values[0], np.nan)
            missing += int(np.isnan(change).any(0).sum())
            draw_line(axes, updates, change, **line(population, populations))
            last = max(last, int(updates[-1]))
        axes.axhline(0 if name == "weight_mean" else 100, color=GREY, linewidth=0.6, zorder=0)
        from_zero_on(axes, last)
        axes.set_title(label, size=7)
        same_height([axes], from_zero=False)
    for axes in panels[:, 0]:
        axes.set_ylabel("% of before")
    for axes in panels[1]:
        axes.set_xlabel("Updates awake")
    gaps = f"{missing} curves of subjects have gaps: no gain up to 100 is excessive, or not finite." if missing else ""
    return finish(figure, legend_of(populations), f"{READING} Mean over areas.", gaps)


def draw_line(axes: Axes, updates: np.ndarray, values: np.ndarray, color: str, linestyle: str, marker: str) -> None:
    """As ``draw_curve``, of a population that shares the panel with others."""
    means = [interval_of(row) for row in values]
    axes.fill_between(updates, [m.low for m in means], [m.high for m in means], color=color, alpha=0.2, linewidth=0)
    axes.plot(updates, values, color=color, **THIN)
    axes.plot(updates, [m.mean for m in means], color=color, linestyle=linestyle, **(BOLD | {"marker": marker}))


def survival(populations: Sequence[Population]) -> Figure | None:
    """How many networks neither diverge nor fall silent where wake's learning saturates, stops or never slows."""
    populations = with_courses(populations, "deprived", "deprived_linear")
    if not populations:
        return None
    figure, panels = grid(populations, 4, 1.25)
    for column, population in zip(panels.T, populations, strict=True):
        measured = Measured(population)
        conditions = {name: colour for name, colour in LOSSES.items() if name in population.courses}
        last = max(measured.divergence[name].watched for name in conditions)
        for name, colour in conditions.items():
            shift = 1.5 * list(conditions).index(name)  # steps of several losses would hide each other
            for axes, lifetimes in zip(column, (measured.divergence[name], measured.silence[name]), strict=False):
                times, share = lifetimes.curve
                times, share = np.append(times, lifetimes.watched), np.append(share, share[-1])
                axes.step(times, 100 * share - shift, where="post", color=colour, linewidth=1.3)
            values_of = (partial(shown, metric="rate"), partial(goodness_in_thresholds, population))
            for axes, value in zip(column[2:], values_of, strict=True):
                updates, values = going_on(population, name, value)
                draw_curve(axes, updates, positive(values), colour)
        for axes in column:
            from_zero_on(axes, last)
            axes.tick_params(labelbottom=axes is column[-1])
        column[3].axhline(1, color=GREY, linewidth=0.6, zorder=0)
        column[-1].set_xlabel("Updates awake")
    for axes in panels[2:].flat:
        decades(axes)
    for row, label in zip(
        panels, ("Not diverged\n(%)", "Not silent\n(%)", "Rate\n(activity)", "Goodness of\nreal data / θ"), strict=True
    ):
        row[0].set_ylabel(label)
        for axes in row:
            axes.tick_params(labelleft=axes is row[0] or row[0] in panels[2:, 0])
    for axes in panels[:2].flat:
        axes.set_ylim(-6, 106)
        axes.set_yticks([0, 50, 100])
    figure.align_ylabels(panels[:, 0])
    names = {
        "deprived": "log-sigmoid (eq. 1)",
        "deprived_hinge": "hinge: stops at θ",
        "deprived_linear": "linear: never slows",
    }
    there = [name for name in LOSSES if any(name in p.courses for p in populations)]
    diverged = (
        f"not finite, goodness above {DIVERGED_GOODNESS / 1e6:g} million θ or error ≥ {100 * DIVERGED_ERROR:.0f} %"
    )
    silent = f"the mean rate is below {100 * SILENT:.0f} % of what it was"
    note = f"{READING} Kaplan-Meier: diverged where {diverged}; silent where {silent}. Steps are drawn 1.5 % apart."
    return finish(figure, [bold(names[name], LOSSES[name]) for name in there], note, lost_in(populations, there))
