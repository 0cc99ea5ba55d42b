"""Sheets of spiking units: what they do beside rates, and their single spikes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cortexff import sonata
from cortexff.graph import parse_model, with_goodness
from cortexff.plots.page import (
    BLUE,
    GREEN,
    GREY,
    KINDS,
    ORANGE,
    PURPLE,
    SIGNS,
    SKY,
    THIN,
    VERMILION,
    WIDTH,
    Conditions,
    draw_mark,
    drawn_heights,
    groups_of,
    same_height,
    titled_page,
    values_of,
)

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cortexff.graph import Goodness
    from cortexff.protocol.schedule import Protocol
    from cortexff.sonata import Trial

SPIKES = (
    ("Correlation with rates", "Firing rate (Hz)", "Spikes/image (1000)"),
    ("Synchrony χ²", "Irregularity CV2", "OFF share of time (%)", "Spikes/decision (1000)"),
)
AREAS = (GREEN, PURPLE, BLUE, VERMILION, SKY, ORANGE)  # hidden ones first; those do not meet in one panel with KINDS
GLOSSES = (
    "correlation: with rate units of the same weights, of goodness and of units' activity; spikes: of all labels tried",
    "synchrony: share of variance in time common to units; CV2: of successive intervals, 0 a clock, 1 Poisson; OFF: a "
    "block spikes at most a tenth of its mean",
)
MOST_UNITS = 100  # of an area whose spikes are drawn, evenly chosen


def spikes_sheet(variants: Mapping[str, Conditions], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """What spiking units do at the end of each condition, and how near they come to rates; rows of each variant.

    The second row, of what single spikes show, is left out for runs that did not measure it.
    """
    table, areas = protocol.table, next(groups_of(variants)).file["area"].asstr()[:].tolist()
    beside = table.against if table.against in table.conditions else None
    by_area = list(zip(areas, itertools.cycle(AREAS), strict=False))
    titles = [[f"Error − {beside} (points)" if beside else "Error (%)", *SPIKES[0]], SPIKES[1]]
    more = all("synchrony" in group for group in groups_of(variants) if "firing_rate" in group)
    lines = 2 if more else 1
    height = 1.8 + 1.9 * lines * len(variants)
    reading = "ticks: subjects; diamonds: their mean; bars: its 95 % t interval"
    figure = titled_page(WIDTH, height, about, reading)
    for place, gloss in enumerate(reversed(GLOSSES[:lines]), start=1):
        figure.text(0.015, (0.08 + 0.12 * place) / height, gloss, size=6, color=GREY)
    edges = {"left": 0.08, "right": 0.97, "bottom": 1.1 / height, "top": 1 - 0.98 / height}
    grid = figure.add_gridspec(lines * len(variants), 4, hspace=0.3, wspace=0.45, **edges)
    rows = grid.subplots(squeeze=False, sharex=True)
    for number, (variant, found) in enumerate(variants.items()):
        panels = rows[lines * number : lines * (number + 1)]
        shown = [c for c in table.conditions if c in found and "firing_rate" in found[c]]
        for place, condition in enumerate(shown):
            data, (error, likeness, rate, spikes) = found[condition], panels[0]
            error_of_others = values_of(found[beside], "err_goodness")[-1] if beside in found else 0.0
            draw_mark(error, place, values_of(data, "err_goodness")[-1] - error_of_others, BLUE, "whole net")
            draw_mark(likeness, place - 0.15, values_of(data, "goodness_correlation")[-1], "black", "goodness")
            of_areas = {likeness: "state_correlation", rate: "firing_rate"}
            draw_mark(spikes, place, values_of(data, "spikes")[-1] / 1000, BLUE)
            if more:
                synchrony, irregularity, off, decision = panels[1]
                of_areas |= {synchrony: "synchrony", irregularity: "irregularity", off: "off_share"}
                draw_mark(decision, place, values_of(data, "spikes_to_decision")[-1] / 1000, BLUE)
            for aside, (area, colour) in enumerate(by_area):
                for axes, name in of_areas.items():
                    label = area if axes is likeness else ""
                    draw_mark(axes, place + 0.15 * aside, values_of(data, name)[-1, :, aside], colour, label)
        panels[0, 0].axhline(0, color=GREY, linewidth=0.6)
        for axes, title in zip(panels.ravel(), itertools.chain(*titles), strict=False):
            axes.set_title(title, weight="bold")
            axes.set_xticks(range(len(shown)), labels=shown, rotation=40, ha="right", rotation_mode="anchor")
            axes.set_xlim(-0.5, len(shown) - 0.5)
            if axes not in panels[0, :2]:
                axes.set_ylim(0, 1.05 * axes.get_ylim()[1] if drawn_heights([axes]).any() else 1)
        for axes in panels[:, 0]:
            axes.set_ylabel(variant)
    once = {}
    for axes in rows[0, :2]:
        handles, labels = axes.get_legend_handles_labels()
        once |= dict(zip(labels, handles, strict=True))
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 1 - 0.45 / height)}
    figure.legend(once.values(), once.keys(), ncols=len(once), **place)
    return figure


def raster_sheet(trials: Sequence[Trial], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """A column for each condition: spikes of the first image with its true label; rates; goodness of all images."""
    recorded = list(dict.fromkeys(trial.condition for trial in trials))
    conditions = [c for c in protocol.table.conditions if c in recorded] or recorded
    of = {condition: [trial for trial in trials if trial.condition == condition] for condition in conditions}
    changes = protocol.variant(trials[0].variant).goodness.model_dump(exclude_none=True)
    net = with_goodness(parse_model(about["model"]), **changes)
    height = 6.4
    first = trials[0]
    reading = f"subject {first.subject_number}; spikes and rates: image {first.stimulus}, its true label "
    reading += f"{first.true_label}; thin lines: images; a wrong label is the one after the true one"
    figure = titled_page(WIDTH, height, about, reading)
    gloss = (
        "dotted: the label comes, and feedback with it; until then a true and a wrong one are the same; grey: read out"
    )
    figure.text(0.015, 0.2 / height, gloss, size=6, color=GREY)
    edges = {"left": 0.115, "right": 0.985, "bottom": 0.8 / height, "top": 1 - 0.78 / height}
    rows = figure.add_gridspec(3, len(of), height_ratios=[2.2, 1, 1.4], hspace=0.22, wspace=0.08, **edges).subplots(
        squeeze=False, sharex="col"
    )
    hidden, shown = list(trials[0].traces), list(trials[0].spikes)
    # Hidden areas have the colours that they have beside rates.
    areas = dict(zip([*hidden, *(a for a in shown if a not in hidden)], itertools.cycle(AREAS), strict=False))
    for (dots, rates, goodness), (condition, mine) in zip(rows.T, of.items(), strict=True):
        dots.set_title(condition, weight="bold")
        _dots(dots, mine[0], areas, net)
        for area in mine[0].traces:
            times, firing = _rate_in_time(mine[0], area, net.nodes[area]["units"])
            rates.plot(times, firing, color=areas[area], linewidth=0.8, label=area)
        for area, style in zip(hidden, itertools.cycle(("-", "--", "-.", ":")), strict=False):
            for is_true, colour in ((True, KINDS["real data"]), (False, KINDS["wrong labels"])):
                some = [trial for trial in mine if (trial.shown_label == trial.true_label) == is_true]
                if not some:  # of a run that is still writing
                    continue
                times, curves = goodness_in_time(some, area, net.nodes[area]["goodness"])
                goodness.plot(times, np.transpose(curves), color=colour, linestyle=style, **THIN)
                label = f"{area}, {'true' if is_true else 'wrong'} label"
                goodness.plot(times, np.mean(curves, axis=0), style, color=colour, linewidth=1.3, label=label)
        goodness.axhline(1, color="black", linewidth=0.6)
        goodness.axvspan(mine[0].read_from, mine[0].read_until, color=GREY, alpha=0.15, linewidth=0)
        for axes in (dots, rates, goodness):
            axes.axvline(mine[0].label_at, color=GREY, linewidth=0.8, linestyle=":")
            axes.set_xlim(0, mine[0].duration)
            axes.locator_params(axis="x", nbins=4, prune="upper")
        goodness.set_xlabel("Time (ms)")
    for row in rows[1:]:
        same_height(row, from_zero=True)
    for axes in rows[0, 1:]:
        axes.tick_params(labelleft=False)
    sides = sorted({SIGNS[net.nodes[area]["goodness"].sign][1] for area in hidden})
    goodness = f"Goodness / θ\n({' or '.join(sides)} 1: called real)"
    for axes, label in zip(rows[:, 0], (f"{trials[0].variant}: units", "Rate (Hz)", goodness), strict=True):
        axes.set_ylabel(label)
    figure.align_ylabels(rows[:, 0])
    rows[1, 0].legend(loc="upper right", ncols=len(hidden))
    labels = len(rows[2, 0].get_legend_handles_labels()[1])
    above = {"loc": "lower left", "bbox_to_anchor": (0.0, 0.97), "borderaxespad": 0.0}
    rows[2, 0].legend(ncols=min(labels, 6), **above)
    return figure


def _dots(axes: Axes, trial: Trial, colours: Mapping[str, str], net: nx.MultiDiGraph) -> None:
    """A dot for each spike, some units of each area, one area above the other."""
    floor, ticks = 0, []
    for area, (times, units) in trial.spikes.items():
        count = net.nodes[area]["units"]
        shown = min(count, MOST_UNITS)
        place = np.full(count, -1)
        place[np.linspace(0, count - 1, shown).round().astype(int)] = np.arange(shown)
        height = place[units.astype(int)]
        dots = {"color": colours[area], "markersize": 1.5, "markeredgewidth": 0.4, "rasterized": True}
        axes.plot(times[height >= 0], floor + height[height >= 0], "|", **dots)
        some = f"\n{shown}/{count}" if shown < count else ""
        ticks.append((floor + shown / 2, f"{area}{some}"))
        floor += shown + 5
    axes.set_ylim(-3, floor)
    axes.set_yticks([place for place, _ in ticks], labels=[name for _, name in ticks])


def _rate_in_time(trial: Trial, area: str, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Middles of half iterations, ms, and the mean rate of an area's units in each, Hz."""
    width = trial.iteration / 2
    edges = width * np.arange(round(trial.duration / width) + 1)
    counts, _ = np.histogram(trial.spikes[area][0] + 1e-6, bins=edges)
    return edges[:-1] + width / 2, counts / units / (width / 1000.0)


def goodness_in_time(trials: Sequence[Trial], area: str, settings: Goodness) -> tuple[np.ndarray, np.ndarray]:
    """Times, ms, and goodness of each trial divided by θ, mean over blocks: of traces averaged over an iteration.

    returns  middles of iterations, one at every sample, and (trials, such times)
    """
    import torch

    from cortexff.equations import goodness

    window = max(1, round(trials[0].iteration / sonata.SAMPLE))
    traces = np.stack([trial.traces[area] for trial in trials]).astype(float)
    means = np.lib.stride_tricks.sliding_window_view(traces, window, axis=1).mean(-1)
    blocks = torch.from_numpy(means).unflatten(-1, (settings.blocks, -1))
    found = goodness.MEASURES[settings.measure].of(blocks).mean(-1).numpy() / settings.threshold
    return sonata.SAMPLE * (np.arange(found.shape[1]) + (window - 1) / 2), found
