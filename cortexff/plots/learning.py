"""Sheets of how subjects learn, and of what happens between areas meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cortexff.plots.page import (
    COLOURS,
    GREY,
    KINDS,
    READING,
    WIDTH,
    Conditions,
    draw_curve,
    drawn_heights,
    groups_of,
    interval_of,
    logarithmic,
    same_height,
    titled_page,
    values_of,
)
from cortexff.protocol.table import PERCENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cortexff.protocol.schedule import Protocol

ERROR_TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]  # percent
FINE_ERROR_TICKS = sorted({*ERROR_TICKS, 0.3, 0.7, 1.5, 3, 7, 15, 30, 40, 70})  # for less than a decade
CONDITIONS_INSIDE = 4  # so many have their legend among the curves
ERRORS = {
    "err_goodness": "Label of highest goodness",
    "err_hybrids": "Hybrid of higher goodness than its image",
    "err_softmax": "Label by the one-pass softmax",
}
MEASURES = {"perplexity": "perplexity", "accuracy": "accuracy (%)"}
SETS = {"training": "Training strings", "test": "Held-out strings"}
PERPLEXITY_TICKS = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30]  # the last: of knowing nothing
AGREEMENT = {"pos": "real data", "neg": "wrong label", "noise": "noise"}


def learning_sheet(variants: Mapping[str, Conditions], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """A row for each variant: error by goodness, if any, and by softmax as subjects learn, and on test images."""
    errors = {name: label for name, label in ERRORS.items() if all(name in group for group in groups_of(variants))}
    most = max(len(found) for found in variants.values())
    below = 0.1 + 0.15 * most if most > CONDITIONS_INSIDE else 0.0  # inches of a legend
    height = 0.45 + (2.4 + below) * len(variants) + 0.8
    figure = titled_page(WIDTH, height, about, f"{READING}; errors of 0 at the lower edge")
    edges = {"left": 0.08, "right": 0.985, "bottom": (0.66 + below) / height, "top": 1 - 0.8 / height}
    grid = figure.add_gridspec(len(variants), len(errors), hspace=(0.8 + below) / 1.6, wspace=0.06, **edges)
    rows = grid.subplots(squeeze=False)
    for row, (variant, found) in zip(rows, variants.items(), strict=True):
        for axes, (name, label) in zip(row, errors.items(), strict=True):
            _learning(axes, found, name, protocol)
            if below:
                axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.21))
            else:
                axes.legend(loc="best")  # at the upper right, unless curves stay high
            axes.set_title(label, weight="bold")
            axes.set_xlabel("Updates")
            axes.locator_params(axis="x", nbins=6)
        row[0].set_ylabel(f"{variant}: error (%)")
    errors = [error for error in drawn_heights(rows.ravel()) if error > 0] or [1, 100]
    low, high = 0.8 * min(errors), 1.25 * max(errors)
    logarithmic(rows.ravel(), ERROR_TICKS if high > 10 * low else FINE_ERROR_TICKS, low, high)
    for axes in rows.ravel():
        axes.tick_params(labelleft=axes in rows[:, 0])
    return figure


def _learning(axes: Axes, found: Conditions, name: str, protocol: Protocol) -> None:
    """Curves of the conditions that were probed more than once; each other one as a mark behind their end."""
    curves = [condition for condition, data in found.items() if len(data["update"]) > 1]
    end = max((int(found[condition]["update"][-1]) for condition in curves), default=1)
    for (condition, data), colour in zip(found.items(), itertools.cycle(COLOURS), strict=False):
        values, stage = values_of(data, name), protocol.stages[protocol.conditions[condition].stages[-1]]
        label = f"{condition} ({stage.probe_on} images)"
        if condition in curves:
            draw_curve(axes, data["update"][:], values, colour, label)
        else:
            end, mean = 1.05 * end, interval_of(values[-1])
            spread, label = [[mean.mean - mean.low], [mean.high - mean.mean]], f"{label}: {mean.mean:.2f} %"
            axes.plot([end] * mean.n, values[-1], "_", color=colour, markersize=5, markeredgewidth=0.4)
            axes.errorbar(end, mean.mean, spread, color=colour, fmt="D", markersize=2.5, linewidth=1, label=label)


def agreement_sheet(variants: Mapping[str, Conditions], about: Mapping[str, Any]) -> Figure:
    """A row for each variant, a column for each area: do drives from above and below agree, or cancel (§3.5)?"""
    # The course of a condition that was probed more than once; else the first, as it is.
    found = {
        name: max(conditions.values(), key=lambda c: len(c["update"]) > 1) for name, conditions in variants.items()
    }
    areas = next(iter(found.values())).file["area"].asstr()[:].tolist()
    height = 1.4 + 1.6 * len(found)
    figure = titled_page(WIDTH, height, about)
    edges = {"left": 0.1, "right": 0.985, "bottom": 0.66 / height, "top": 1 - 0.9 / height}
    rows = figure.add_gridspec(len(found), len(areas), hspace=0.25, wspace=0.06, **edges).subplots(
        squeeze=False, sharex=True, sharey=True
    )
    for row, (variant, data) in zip(rows, found.items(), strict=True):
        for place, axes in enumerate(row):
            axes.axhline(0, color=GREY, linewidth=0.6)
            for (kind, label), colour in zip(AGREEMENT.items(), KINDS.values(), strict=True):
                draw_curve(axes, data["update"][:], data[f"agreement_{kind}"][..., place].astype(float), colour, label)
        row[0].set_ylabel(f"{variant}\ncosine")
    for above, below, area in zip(rows[0], rows[-1], areas, strict=True):
        above.set_title(area, weight="bold")
        below.set_xlabel("Updates")
    low, high = rows[0, 0].get_ylim()
    rows[0, 0].set_ylim(low, high + 0.15 * (high - low))  # room for the legend above the curves
    rows[0, 0].legend(loc="upper left", ncols=3, borderaxespad=0.1)
    reading = "above 0: drives from above and below agree; below 0: they cancel"
    figure.text(0.5, 1 - 0.48 / height, reading, ha="center", va="top")
    return figure


def oscillation_sheet(variants: Mapping[str, Conditions], about: Mapping[str, Any]) -> Figure:
    """A column for each area: at the last probe of each variant, how a settle goes on from step to step (§3.4)."""
    found = {name: list(conditions.values())[-1] for name, conditions in variants.items()}
    file = next(iter(found.values())).file
    areas, steps = file["area"].asstr()[:].tolist(), file["step"][:]
    height = 4.2
    figure = titled_page(WIDTH, height, about)
    edges = {"left": 0.1, "right": 0.985, "bottom": 0.66 / height, "top": 1 - 0.75 / height}
    rows = figure.add_gridspec(2, len(areas), hspace=0.15, wspace=0.06, **edges).subplots(
        squeeze=False, sharex=True, sharey="row"
    )
    for row, name in zip(rows, ("change", "reversal"), strict=True):
        for place, axes in enumerate(row):
            for (variant, data), colour in zip(found.items(), itertools.cycle(COLOURS), strict=False):
                draw_curve(axes, steps, data[name][-1, :, place].T.astype(float), colour, variant)
    rows[0, 0].set_ylabel("Change of activity,\nshare of its size")
    rows[1, 0].set_ylabel("Reversal; 1: each step\ntakes the last one back")
    for above, below, area in zip(*rows, areas, strict=True):
        above.set_title(area, weight="bold")
        above.set_ylim(bottom=0)
        below.axhline(0, color=GREY, linewidth=0.6)
        below.set_ylim(-1.1, 1.1)
        below.set_xlabel("Step")
    rows[0, 0].legend(loc="upper right")
    return figure


def prediction_sheet(variants: Mapping[str, Conditions], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """As figure 5 of the paper: perplexity of every regime, and accuracy, on training and on held-out strings.

    A row for each variant and measure. Perplexity is cut where it is that of knowing nothing.
    """
    rows = [(variant, measure) for variant in variants for measure in MEASURES]
    height = 1.35 + 2.1 * len(rows)
    figure = titled_page(WIDTH, height, about)
    edges = {"left": 0.08, "right": 0.985, "bottom": 0.66 / height, "top": 1 - 0.95 / height}
    panels = figure.add_gridspec(len(rows), len(SETS), hspace=0.16, wspace=0.06, **edges).subplots(squeeze=False)
    for row, (variant, measure) in zip(panels, rows, strict=True):
        for axes, (part, title) in zip(row, SETS.items(), strict=True):
            regimes = list(zip(variants[variant].items(), itertools.cycle(COLOURS), strict=False))
            for (regime, data), colour in reversed(regimes):  # the first lies on top
                draw_curve(axes, data["update"][:], values_of(data, f"{measure}_{part}"), colour, regime)
            if axes in panels[0]:
                axes.set_title(title, weight="bold")
            axes.set_xlabel("Updates, each of all training strings" if axes in panels[-1] else "")
        row[0].set_ylabel(f"{variant}: {MEASURES[measure]}")
        same_height(row, from_zero=measure in PERCENT)
        if measure == "perplexity":
            logarithmic(row, PERPLEXITY_TICKS, drawn_heights(row).min(initial=10) / 1.05, 1.05 * PERPLEXITY_TICKS[-1])
    handles, labels = (found[::-1] for found in panels[0, 0].get_legend_handles_labels())
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.48 / height), ncols=len(labels))
    return figure
