"""The sheet of a run in which subjects were deprived of sleep and recovered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cortexff.graph import hidden_areas, parse_model, with_goodness
from cortexff.plots.page import (
    BLUE,
    BOLD,
    GREEN,
    GREY,
    KINDS,
    SIGNS,
    VERMILION,
    WIDTH,
    Conditions,
    draw_curve,
    from_zero_on,
    interval_of,
    same_height,
    titled_page,
    values_of,
)
from cortexff.protocol.table import PERCENT

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cortexff.protocol.schedule import Protocol

FARTHEST = 4.0  # goodness in units of θ; what lies beyond is counted there
FROZEN = {"color": GREY, "linewidth": 0.9, "linestyle": "--"}
COURSE = {
    "fp_neg": "Hallucinations,\nwrong labels (%)",
    "fp_noise": "Hallucinations,\nnoise (%)",
    "err_goodness": "Error by\ngoodness (%)",
    "err_hybrids": "Hybrids above\ntheir image (%)",
    "dprime": "Sensitivity\nd′ (SD)",
    "criterion": "Criterion c (SD);\n< 0: liberal",
}
RECOVERY = {"fp_neg": "wrong labels called real", "miss": "real data missed"}
MOMENTS = {"frozen": "before (frozen)", "deprived": "deprived", "recovered": "recovered", "overslept": "overslept"}


def sleep_sheet(variants: Mapping[str, Conditions], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """A column for each variant. A-E: the course of deprivation; F: recovery sleep; G: goodness at the end."""
    from matplotlib.lines import Line2D

    height, columns = 9.5, len(variants)
    negative = "hybrids" if protocol.stimuli.labels == "none" else "wrong labels"
    courses = {
        name: label.replace("wrong labels", negative)
        for name, label in COURSE.items()
        if all(name in found["control"] for found in variants.values())
    }
    figure = titled_page(WIDTH * max(1, columns / 2), height, about)
    edges = {"left": 0.105, "right": 0.985, "bottom": 0.66 / height, "top": 1 - 1.17 / height}
    parts = figure.add_gridspec(3, 1, height_ratios=[5.2, 1.0, 1.7], hspace=0.25, **edges)
    course = parts[0].subgridspec(len(courses), columns, hspace=0.16, wspace=0.06).subplots(squeeze=False)
    halves = [part.subgridspec(1, 2, wspace=0.08) for part in parts[1].subgridspec(1, columns, wspace=0.06)]
    recovery = np.concatenate([half.subplots() for half in halves])
    moments = [m for m in MOMENTS if all("goodness_by_noise" in found.get(m, ()) for found in variants.values())]
    ends = (
        parts[2].subgridspec(max(len(moments), 1), columns, hspace=0, wspace=0.06).subplots(squeeze=False, sharex=True)
    )
    for place, (variant, found) in enumerate(variants.items()):
        for axes, name in zip(course[:, place], courses, strict=True):
            _deprivation(axes, found, name)
            axes.tick_params(labelbottom=axes is course[-1, place])
        course[-1, place].set_xlabel("Updates since the fork (deprived: positive only)")
        for axes, name in zip(recovery[2 * place : 2 * place + 2], RECOVERY, strict=True):
            _recovery(axes, found, name, protocol)
            axes.set_title(RECOVERY[name].replace("wrong labels", negative), size=7, pad=2)
        changes = protocol.variant(variant).goodness.model_dump(exclude_none=True)
        net = with_goodness(parse_model(about["model"]), **changes)
        for axes, moment in zip(ends[:, place], moments, strict=False):
            _goodness(axes, found[moment], net, MOMENTS[moment], negative == "hybrids")
        signs = sorted({net.nodes[area]["goodness"].sign for area in hidden_areas(net)})
        level, side = (" or ".join(words) for words in zip(*(SIGNS[sign] for sign in signs), strict=True))
        course[0, place].set_title(f"{variant}: {level} activity on real data", weight="bold")
        ends[-1, place].set_xlabel(f"Goodness / threshold θ ({side} 1: called real)")
    for axes, name in zip([*course, recovery], [*courses, "miss"], strict=True):
        same_height(axes, from_zero=name in PERCENT)
    first = [*course[:, 0], recovery[0], ends[0, 0]]
    for axes, label, letter in zip(first, [*courses.values(), "Rate (%)", "Density"], "ABCDEFG", strict=True):
        axes.set_ylabel(label)
        figure.text(0.008, axes.get_position().y1, letter, weight="bold", size=9, va="bottom")
    ends[0, 0].yaxis.label.set_y(1 - len(moments) / 2)  # beside all of them
    figure.align_ylabels(first)
    handles = [
        Line2D([], [], label="control: both phases go on", color=BLUE, **BOLD),
        Line2D([], [], label="deprived: positive phase only", color=VERMILION, **BOLD),
        Line2D([], [], label="recovery sleep: negative phase only", color=GREEN, **BOLD),
        Line2D([], [], label="frozen: no plasticity", **FROZEN),
        Line2D([], [], label="control at its end (F)", color=GREY, linewidth=7, alpha=0.35),
        *(
            Line2D([], [], label=kind.replace("wrong labels", negative), color=colour, linewidth=7, alpha=0.6)
            for kind, colour in KINDS.items()
        ),
    ]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.52 / height), ncols=4)
    return figure


def _deprivation(axes: Axes, found: Conditions, name: str) -> None:
    for condition, colour in (("control", BLUE), ("deprived", VERMILION)):
        draw_curve(axes, found[condition]["update"][:], values_of(found[condition], name), colour)
    if "frozen" in found:
        axes.axhline(interval_of(values_of(found["frozen"], name)[-1]).mean, **FROZEN)
    from_zero_on(axes, found["deprived"]["update"][-1])


def _recovery(axes: Axes, found: Conditions, name: str, protocol: Protocol) -> None:
    """Recovery sleep and, where a condition sleeps on from there, what follows; the control's end as a grey band."""
    goal = interval_of(values_of(found["control"], name)[-1])
    axes.axhline(goal.mean, color=GREY, linewidth=0.7)
    axes.axhspan(goal.low, goal.high, color=GREY, alpha=0.35, linewidth=0)
    slept = {"deprived": 0}  # condition → negative updates at its end
    for condition, data in found.items():
        course = protocol.conditions[condition]
        if condition in MOMENTS and course.start in slept:
            updates = slept[course.start] + data["update"][:]
            draw_curve(axes, updates, values_of(data, name), GREEN)
            slept[condition] = int(updates[-1])
    axes.set_xlabel("Negative-only updates")
    from_zero_on(axes, max(slept.values()))


def _goodness(axes: Axes, found: h5py.Group, net: nx.MultiDiGraph, moment: str, hybrids: bool) -> None:
    """Goodness of every subject, stimulus and area, each divided by its area's threshold: θ is at 1.

    hybrids  whether the versions of a stimulus are the image itself and its hybrid, not the image with each label
    """
    settings = [net.nodes[area]["goodness"] for area in found.file["area"].asstr()]
    threshold = np.array([goodness.threshold * goodness.blocks for goodness in settings])
    by_label = found["goodness_by_stimulus"][:] / threshold  # (subjects, stimuli, labels, areas)
    versions = np.arange(by_label.shape[2])
    true = (np.zeros_like(found["true_label"]) if hybrids else found["true_label"][:])[:, None] == versions
    noise = found["goodness_by_noise"][:] / threshold
    for values, colour in zip((by_label[:, true], by_label[:, ~true], noise), KINDS.values(), strict=True):
        values = np.minimum(values[~np.isnan(values)], FARTHEST)
        if values.size:
            density, bins = np.histogram(values, bins=40, density=True)
            axes.stairs(density, bins, fill=True, color=colour, alpha=0.35)
            axes.stairs(density, bins, color=colour, linewidth=0.8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.text(0.99, 0.85, moment, ha="right", va="top", transform=axes.transAxes)
    axes.set_yticks([])
