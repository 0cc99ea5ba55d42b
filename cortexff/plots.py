"""The figure sheet of a run, drawn from its results file alone.

The conditions in the file decide which sheet: the sleep sheet where every variant was deprived of sleep and recovered
beside a control, else learning curves. Thin lines are subjects, bold lines their mean, bands its 95 % interval; where
a subject has no finite value, the mean and its band have a gap.
"""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cortexff import sonata
from cortexff.analysis.statistics import Interval, mean_interval
from cortexff.errors import CortexffError
from cortexff.graph import hidden_areas, only_area, parse_model, with_goodness
from cortexff.log import open_file
from cortexff.protocol.table import PERCENT

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cortexff.graph import Goodness
    from cortexff.protocol.schedule import Protocol
    from cortexff.sonata import Trial

    Conditions = Mapping[str, h5py.Group]

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a sheet looks the same everywhere
    "font.size": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **{f"{axis}tick.{which}.width": 0.5 for axis in "xy" for which in ("major", "minor")},
    **{f"{axis}tick.{which}.size": size for axis in "xy" for which, size in (("major", 2.5), ("minor", 1.5))},
    "legend.frameon": False,
    "savefig.dpi": 200,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "cortexff",  # the same run draws the same file
}
WIDTH = 7.0  # inches, a page
ERROR_TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]  # percent
CONDITIONS_INSIDE = 4  # so many have their legend among the curves
SPIKES = (
    ("Correlation with rates", "Firing rate (Hz)", "Spikes/image (1000)"),
    ("Synchrony χ²", "Irregularity CV2", "OFF share of time (%)", "Spikes/decision (1000)"),
)
MOST_UNITS = 100  # of an area whose spikes are drawn, evenly chosen
FARTHEST = 4.0  # goodness in units of θ; what lies beyond is counted there
# The colours of Okabe and Ito, which colour-blind readers tell apart.
COLOURS = BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY = "#777777"
THIN = {"linewidth": 0.4, "alpha": 0.5}
BOLD = {"linewidth": 1.3, "marker": "o", "markersize": 2.5}
FROZEN = {"color": GREY, "linewidth": 0.9, "linestyle": "--"}

COURSE = {
    "fp_neg": "Hallucinations,\nwrong labels (%)",
    "fp_noise": "Hallucinations,\nnoise (%)",
    "err_goodness": "Error by\ngoodness (%)",
    "dprime": "Sensitivity\nd′ (SD)",
    "criterion": "Criterion c (SD);\n< 0: liberal",
}
RECOVERY = {"fp_neg": "wrong labels called real", "miss": "real data missed"}
ERRORS = {
    "err_goodness": "Label of highest goodness",
    "err_hybrids": "Hybrid of higher goodness than its image",
    "err_softmax": "Label by the one-pass softmax",
}
MEASURES = {"perplexity": "perplexity", "accuracy": "accuracy (%)"}
SETS = {"training": "Training strings", "test": "Held-out strings"}
PERPLEXITY_TICKS = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30]  # the last: of knowing nothing
MOMENTS = {"frozen": "before", "deprived": "deprived", "recovered": "recovered", "overslept": "overslept"}
KINDS = {"real data": SKY, "wrong labels": ORANGE, "noise": PURPLE}
AGREEMENT = {"pos": "real data", "neg": "wrong label", "noise": "noise"}
SIGNS = {"max": ("high", "above"), "min": ("low", "below")}  # activity on real data; side of θ that is called real
READING = "thin lines: subjects; bold: their mean; band: its 95 % t interval, cut at the axes"


def draw(path: str | Path) -> list[Path]:
    """Draw the figure sheet of a results file beside it, as PNG (200 dpi) and SVG of the same name.

    Where the file holds receptive fields, or examples of hybrid images, they are drawn too, on sheets of their own.

    path     a results file, of a run that is over or still going on
    returns  the paths of the pictures
    raises   CortexffError where the file holds no probes
    """
    from matplotlib import rc_context

    from cortexff.protocol.schedule import from_json

    path = Path(path)
    # Not `open_results`: xarray takes some seconds to open a log, and nothing here needs more than arrays.
    with open_file(path) as file, rc_context(STYLE):
        protocol = from_json(file.attrs["settings"])
        variants = {name: _probed(file[name], protocol) for name in protocol.variants if name in file}
        variants = {name: found for name, found in variants.items() if found}
        if not variants:
            raise CortexffError(f"{path}: holds no probes to draw")
        about_sleep = all({"control", "deprived", "recovered"} <= found.keys() for found in variants.values())
        sheet = _sleep_sheet if about_sleep else SHEETS.get(getattr(protocol, "experiment", None), _learning_sheet)
        sheets = {path.stem: sheet(variants, protocol, file.attrs)}
        measures = getattr(protocol, "measures", ())
        if "cancellation" in measures:
            sheets[f"{path.stem}_agreement"] = _agreement(variants, file.attrs)
        if "oscillation" in measures:
            sheets[f"{path.stem}_oscillation"] = _oscillation(variants, file.attrs)
        if any("firing_rate" in found for found in _groups(variants)):
            sheets[f"{path.stem}_spikes"] = _spikes(variants, protocol, file.attrs)
        for variant in variants:
            which = f"_{variant}" if len(variants) > 1 else ""
            if trials := list(sonata.trials(file, variant)):
                sheets[f"{path.stem}_raster{which}"] = _raster(trials, protocol, file.attrs)
        pictured = [
            (variant, condition, found)
            for variant, conditions in variants.items()
            for condition, found in conditions.items()
            if "receptive_fields" in found or "hybrid_examples" in found
        ]
        for variant, condition, found in pictured:
            which = f"_{variant}" if len(variants) > 1 else ""
            which += f"_{condition}" if len({other for _, other, _ in pictured}) > 1 else ""
            if "receptive_fields" in found:
                sheets[f"{path.stem}_receptive_fields{which}"] = _receptive_fields(found, file.attrs)
            if "hybrid_examples" in found:
                sheets[f"{path.stem}_hybrids{which}"] = _hybrids(found, file.attrs)
        pictures = []
        for name, figure in sheets.items():
            png, svg = (path.with_name(f"{name}.{kind}") for kind in ("png", "svg"))
            figure.savefig(png)
            figure.savefig(svg, metadata={"Date": None})
            pictures += [png, svg]
    return pictures


def _probed(variant: h5py.Group, protocol: Protocol) -> Conditions:
    return {name: variant[name] for name in protocol.conditions if name in variant and len(variant[name]["update"])}


def _groups(variants: Mapping[str, Conditions]) -> Iterator[h5py.Group]:
    """Every condition of every variant."""
    for conditions in variants.values():
        yield from conditions.values()


def _sleep_sheet(variants: Mapping[str, Conditions], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """A column for each variant. A-E: the course of deprivation; F: recovery sleep; G: goodness at the end."""
    from matplotlib.lines import Line2D

    height, columns = 9.5, len(variants)
    figure = _titled(WIDTH * max(1, columns / 2), height, about)
    edges = {"left": 0.105, "right": 0.985, "bottom": 0.66 / height, "top": 1 - 1.17 / height}
    parts = figure.add_gridspec(3, 1, height_ratios=[5.2, 1.0, 1.7], hspace=0.25, **edges)
    course = parts[0].subgridspec(len(COURSE), columns, hspace=0.16, wspace=0.06).subplots(squeeze=False)
    halves = [part.subgridspec(1, 2, wspace=0.08) for part in parts[1].subgridspec(1, columns, wspace=0.06)]
    recovery = np.concatenate([half.subplots() for half in halves])
    moments = [m for m in MOMENTS if all("goodness_by_noise" in found.get(m, ()) for found in variants.values())]
    ends = (
        parts[2].subgridspec(max(len(moments), 1), columns, hspace=0, wspace=0.06).subplots(squeeze=False, sharex=True)
    )
    for place, (variant, found) in enumerate(variants.items()):
        for axes, name in zip(course[:, place], COURSE, strict=True):
            _deprivation(axes, found, name)
            axes.tick_params(labelbottom=axes is course[-1, place])
        course[-1, place].set_xlabel("Updates since the fork (deprived: positive only)")
        for axes, name in zip(recovery[2 * place : 2 * place + 2], RECOVERY, strict=True):
            _recovery(axes, found, name, protocol)
        changes = protocol.variant(variant).goodness.model_dump(exclude_none=True)
        net = with_goodness(parse_model(about["model"]), **changes)
        for axes, moment in zip(ends[:, place], moments, strict=False):
            _goodness(axes, found[moment], net, MOMENTS[moment])
        signs = sorted({net.nodes[area]["goodness"].sign for area in hidden_areas(net)})
        level, side = (" or ".join(words) for words in zip(*(SIGNS[sign] for sign in signs), strict=True))
        course[0, place].set_title(f"{variant}: {level} activity on real data", weight="bold")
        ends[-1, place].set_xlabel(f"Goodness / threshold θ ({side} 1: called real)")
    for axes, name in zip([*course, recovery], [*COURSE, "miss"], strict=True):
        _same_height(axes, from_zero=name in PERCENT)
    first = [*course[:, 0], recovery[0], ends[0, 0]]
    for axes, label, letter in zip(first, [*COURSE.values(), "Rate (%)", "Density"], "ABCDEFG", strict=True):
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
        *(Line2D([], [], label=kind, color=colour, linewidth=7, alpha=0.6) for kind, colour in KINDS.items()),
    ]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.52 / height), ncols=4)
    return figure


def _learning_sheet(variants: Mapping[str, Conditions], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """A row for each variant: error by goodness, if any, and by softmax as subjects learn, and on test images."""
    errors = {name: label for name, label in ERRORS.items() if all(name in group for group in _groups(variants))}
    most = max(len(found) for found in variants.values())
    below = 0.1 + 0.15 * most if most > CONDITIONS_INSIDE else 0.0  # inches of a legend
    height = 0.45 + (2.4 + below) * len(variants) + 0.8
    figure = _titled(WIDTH, height, about)
    edges = {"left": 0.08, "right": 0.985, "bottom": (0.66 + below) / height, "top": 1 - 0.8 / height}
    grid = figure.add_gridspec(len(variants), len(errors), hspace=(0.8 + below) / 1.6, wspace=0.06, **edges)
    rows = grid.subplots(squeeze=False)
    for row, (variant, found) in zip(rows, variants.items(), strict=True):
        for axes, (name, label) in zip(row, errors.items(), strict=True):
            _learning(axes, found, name, protocol)
            if below:
                axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.21))
            else:
                axes.legend(loc="upper right")
            axes.set_title(label, weight="bold")
            axes.set_xlabel("Updates")
        row[0].set_ylabel(f"{variant}: error (%)")
    errors = [error for error in _drawn(rows.ravel()) if error > 0] or [1, 100]
    _logarithmic(rows.ravel(), ERROR_TICKS, 0.8 * min(errors), 1.25 * max(errors))
    for axes in rows.ravel():
        axes.tick_params(labelleft=axes in rows[:, 0])
    return figure


def _agreement(variants: Mapping[str, Conditions], about: Mapping[str, Any]) -> Figure:
    """A row for each variant, a column for each area: do drives from above and below agree, or cancel (§3.5)?"""
    # The course of a condition that was probed more than once; else the first, as it is.
    found = {
        name: max(conditions.values(), key=lambda c: len(c["update"]) > 1) for name, conditions in variants.items()
    }
    areas = next(iter(found.values())).file["area"].asstr()[:].tolist()
    height = 1.4 + 1.6 * len(found)
    figure = _titled(WIDTH, height, about)
    edges = {"left": 0.1, "right": 0.985, "bottom": 0.66 / height, "top": 1 - 0.9 / height}
    rows = figure.add_gridspec(len(found), len(areas), hspace=0.25, wspace=0.06, **edges).subplots(
        squeeze=False, sharex=True, sharey=True
    )
    for row, (variant, data) in zip(rows, found.items(), strict=True):
        for place, axes in enumerate(row):
            axes.axhline(0, color=GREY, linewidth=0.6)
            for (kind, label), colour in zip(AGREEMENT.items(), KINDS.values(), strict=True):
                _curve(axes, data["update"][:], data[f"agreement_{kind}"][..., place].astype(float), colour, label)
        row[0].set_ylabel(f"{variant}\ncosine")
    for above, below, area in zip(rows[0], rows[-1], areas, strict=True):
        above.set_title(area, weight="bold")
        below.set_xlabel("Updates")
    rows[0, 0].legend(loc="upper left", ncols=3, borderaxespad=0.1)
    reading = "above 0: drives from above and below agree; below 0: they cancel"
    figure.text(0.5, 1 - 0.48 / height, reading, ha="center", va="top")
    return figure


def _oscillation(variants: Mapping[str, Conditions], about: Mapping[str, Any]) -> Figure:
    """A column for each area: at the last probe of each variant, how a settle goes on from step to step (§3.4)."""
    found = {name: list(conditions.values())[-1] for name, conditions in variants.items()}
    file = next(iter(found.values())).file
    areas, steps = file["area"].asstr()[:].tolist(), file["step"][:]
    height = 4.2
    figure = _titled(WIDTH, height, about)
    edges = {"left": 0.1, "right": 0.985, "bottom": 0.66 / height, "top": 1 - 0.75 / height}
    rows = figure.add_gridspec(2, len(areas), hspace=0.15, wspace=0.06, **edges).subplots(
        squeeze=False, sharex=True, sharey="row"
    )
    for row, name in zip(rows, ("change", "reversal"), strict=True):
        for place, axes in enumerate(row):
            for (variant, data), colour in zip(found.items(), itertools.cycle(COLOURS), strict=False):
                _curve(axes, steps, data[name][-1, :, place].T.astype(float), colour, variant)
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


def _spikes(variants: Mapping[str, Conditions], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """What spiking units do at the end of each condition, and how near they come to rates; rows of each variant.

    The second row, of what single spikes show, is left out for runs that did not measure it.
    """
    table, areas = protocol.table, next(_groups(variants)).file["area"].asstr()[:].tolist()
    beside = table.against if table.against in table.conditions else None
    by_area = list(zip(areas, itertools.cycle(COLOURS), strict=False))
    titles = [[f"Error − {beside} (points)" if beside else "Error (%)", *SPIKES[0]], SPIKES[1]]
    more = all("synchrony" in group for group in _groups(variants) if "firing_rate" in group)
    lines = 2 if more else 1
    height = 1.6 + 1.9 * lines * len(variants)
    reading = "ticks: subjects; diamonds: their mean; bars: its 95 % t interval"
    figure = _titled(WIDTH, height, about, reading)
    edges = {"left": 0.08, "right": 0.97, "bottom": 0.9 / height, "top": 1 - 0.98 / height}
    grid = figure.add_gridspec(lines * len(variants), 4, hspace=0.3, wspace=0.45, **edges)
    rows = grid.subplots(squeeze=False, sharex=True)
    for number, (variant, found) in enumerate(variants.items()):
        panels = rows[lines * number : lines * (number + 1)]
        shown = [c for c in table.conditions if c in found and "firing_rate" in found[c]]
        for place, condition in enumerate(shown):
            data, (error, likeness, rate, spikes) = found[condition], panels[0]
            error_of_others = _values(found[beside], "err_goodness")[-1] if beside in found else 0.0
            _mark(error, place, _values(data, "err_goodness")[-1] - error_of_others, BLUE)
            _mark(likeness, place - 0.15, _values(data, "goodness_correlation")[-1], "black", "goodness")
            of_areas = {likeness: "state_correlation", rate: "firing_rate"}
            _mark(spikes, place, _values(data, "spikes")[-1] / 1000, BLUE)
            if more:
                synchrony, irregularity, off, decision = panels[1]
                of_areas |= {synchrony: "synchrony", irregularity: "irregularity", off: "off_share"}
                _mark(decision, place, _values(data, "spikes_to_decision")[-1] / 1000, BLUE)
            for aside, (area, colour) in enumerate(by_area):
                for axes, name in of_areas.items():
                    label = f"activity in {area}" if axes is likeness else ""
                    _mark(axes, place + 0.15 * aside, _values(data, name)[-1, :, aside], colour, label)
        panels[0, 0].axhline(0, color=GREY, linewidth=0.6)
        for axes, title in zip(panels.ravel(), itertools.chain(*titles), strict=False):
            axes.set_title(title, weight="bold")
            axes.set_xticks(range(len(shown)), labels=shown, rotation=40, ha="right", rotation_mode="anchor")
            axes.set_xlim(-0.5, len(shown) - 0.5)
            if axes not in panels[0, :2]:
                axes.set_ylim(0, max(1.05 * axes.get_ylim()[1], 0.01))
        for axes in panels[:, 0]:
            axes.set_ylabel(variant)
    handles, labels = rows[0, 1].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 1 - 0.45 / height)}
    figure.legend(once.values(), once.keys(), ncols=len(once), **place)
    return figure


def _raster(trials: Sequence[Trial], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """A column for each condition: spikes of the first image with its true label; rates; goodness of all images."""
    recorded = list(dict.fromkeys(trial.condition for trial in trials))
    conditions = [c for c in protocol.table.conditions if c in recorded] or recorded
    of = {condition: [trial for trial in trials if trial.condition == condition] for condition in conditions}
    changes = protocol.variant(trials[0].variant).goodness.model_dump(exclude_none=True)
    net = with_goodness(parse_model(about["model"]), **changes)
    height = 6.2
    reading = "one subject; spikes, rates: first image, true label; dotted: label and feedback begin; thin: images"
    figure = _titled(WIDTH, height, about, reading)
    edges = {"left": 0.09, "right": 0.985, "bottom": 0.72 / height, "top": 1 - 0.98 / height}
    rows = figure.add_gridspec(3, len(of), height_ratios=[2.2, 1, 1.4], hspace=0.12, wspace=0.08, **edges).subplots(
        squeeze=False, sharex="col"
    )
    hidden, shown = list(trials[0].traces), list(trials[0].spikes)
    # Hidden areas have the colours that other sheets give them.
    areas = dict(zip([*hidden, *(a for a in shown if a not in hidden)], itertools.cycle(COLOURS), strict=False))
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
                times, curves = _goodness_in_time(some, area, net.nodes[area]["goodness"])
                goodness.plot(times, np.transpose(curves), color=colour, linestyle=style, **THIN)
                label = f"{area}, {'true' if is_true else 'wrong'} label"
                goodness.plot(times, np.mean(curves, axis=0), style, color=colour, linewidth=1.3, label=label)
        goodness.axhline(1, color="black", linewidth=0.6)
        for axes in (dots, rates, goodness):
            axes.axvline(mine[0].label_at, color=GREY, linewidth=0.8, linestyle=":")
            axes.set_xlim(0, mine[0].duration)
            axes.locator_params(axis="x", nbins=4, prune="upper")
        goodness.set_xlabel("Time (ms)")
    for row in rows[1:]:
        _same_height(row, from_zero=True)
    for axes in rows[0, 1:]:
        axes.tick_params(labelleft=False)
    for axes, label in zip(rows[:, 0], (f"{trials[0].variant}: units", "Rate (Hz)", "Goodness / θ"), strict=True):
        axes.set_ylabel(label)
    figure.align_ylabels(rows[:, 0])
    rows[1, 0].legend(loc="upper right", ncols=len(hidden))
    handles, labels = rows[2, 0].get_legend_handles_labels()
    columns = {"loc": "upper center", "bbox_to_anchor": (0.5, 1 - 0.48 / height), "ncols": min(len(labels), 6)}
    figure.legend(handles, labels, **columns)
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
        ticks.append((floor + shown / 2, area))
        floor += shown + 5
    axes.set_ylim(-3, floor)
    axes.set_yticks([place for place, _ in ticks], labels=[name for _, name in ticks])


def _rate_in_time(trial: Trial, area: str, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Middles of half iterations, ms, and the mean rate of an area's units in each, Hz."""
    width = trial.iteration / 2
    edges = width * np.arange(round(trial.duration / width) + 1)
    counts, _ = np.histogram(trial.spikes[area][0] + 1e-6, bins=edges)
    return edges[:-1] + width / 2, counts / units / (width / 1000.0)


def _goodness_in_time(trials: Sequence[Trial], area: str, settings: Goodness) -> tuple[np.ndarray, np.ndarray]:
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


def _mark(axes: Axes, place: float, values: np.ndarray, colour: str, label: str = "") -> None:
    """Ticks of the subjects, a diamond for their mean and a bar for its interval."""
    found = _interval(values)
    axes.plot([place] * len(values), values, "_", color=colour, markersize=5, markeredgewidth=0.5)
    axes.plot([place, place], [found.low, found.high], color=colour, linewidth=0.9)
    axes.plot([place], [found.mean], "D", color=colour, markersize=3, label=label)


def _prediction_sheet(variants: Mapping[str, Conditions], protocol: Protocol, about: Mapping[str, Any]) -> Figure:
    """As figure 5 of the paper: perplexity of every regime, and accuracy, on training and on held-out strings.

    A row for each variant and measure. Perplexity is cut where it is that of knowing nothing.
    """
    rows = [(variant, measure) for variant in variants for measure in MEASURES]
    height = 1.35 + 2.1 * len(rows)
    figure = _titled(WIDTH, height, about)
    edges = {"left": 0.08, "right": 0.985, "bottom": 0.66 / height, "top": 1 - 0.95 / height}
    panels = figure.add_gridspec(len(rows), len(SETS), hspace=0.16, wspace=0.06, **edges).subplots(squeeze=False)
    for row, (variant, measure) in zip(panels, rows, strict=True):
        for axes, (part, title) in zip(row, SETS.items(), strict=True):
            regimes = list(zip(variants[variant].items(), itertools.cycle(COLOURS), strict=False))
            for (regime, data), colour in reversed(regimes):  # the first lies on top
                _curve(axes, data["update"][:], _values(data, f"{measure}_{part}"), colour, regime)
            if axes in panels[0]:
                axes.set_title(title, weight="bold")
            axes.set_xlabel("Updates, each of all training strings" if axes in panels[-1] else "")
        row[0].set_ylabel(f"{variant}: {MEASURES[measure]}")
        _same_height(row, from_zero=measure in PERCENT)
        if measure == "perplexity":
            _logarithmic(row, PERPLEXITY_TICKS, _drawn(row).min(initial=10) / 1.05, 1.05 * PERPLEXITY_TICKS[-1])
    handles, labels = (found[::-1] for found in panels[0, 0].get_legend_handles_labels())
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.48 / height), ncols=len(labels))
    return figure


SHEETS = {"next_character": _prediction_sheet}  # of protocols with steps of their own


def _receptive_fields(found: h5py.Group, about: Mapping[str, Any]) -> Figure:
    """Weights from the image to each of the units kept of the first subject, as in figure 2 of the paper."""
    fields = found["receptive_fields"][0]
    columns = min(10, len(fields))
    rows = -(-len(fields) // columns)
    figure = _titled(
        WIDTH,
        0.75 + (WIDTH - 0.2) * rows / columns,
        about,
        "light: excites, dark: inhibits; each unit by its own scale",
    )
    panels = _pictures(figure, rows, columns)
    for axes, field in zip(panels, _as_images(fields, about), strict=False):
        reach = np.abs(field).max() or 1.0
        axes.imshow(field / reach if field.ndim == 2 else 0.5 + 0.5 * field / reach, cmap="gray", vmin=-1, vmax=1)
    return figure


def _hybrids(found: h5py.Group, about: Mapping[str, Any]) -> Figure:
    """Images, and below each its hybrid with the one before it, as in figure 1 of the paper."""
    rows = [_as_images(array, about) for array in (found["image_examples"][:], found["hybrid_examples"][0])]
    figure = _titled(
        WIDTH, 0.75 + (WIDTH - 0.2) * 2 / len(rows[0]), about, "above: images; below: hybrids, the negative data"
    )
    for axes, picture in zip(_pictures(figure, 2, len(rows[0])), np.concatenate(rows), strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
    return figure


def _as_images(rows: np.ndarray, about: Mapping[str, Any]) -> np.ndarray:
    """Rows of pixels in the shape of the input area."""
    net = parse_model(about["model"])
    area = net.nodes[only_area(net, "input")]
    shape = area["shape"] or (1, area["units"])
    return rows.reshape(len(rows), *shape)


def _pictures(figure: Figure, rows: int, columns: int) -> Sequence[Axes]:
    """Panels without axes, row by row, that fill a sheet below its title."""
    height = figure.get_figheight()
    edges = {"left": 0.1 / WIDTH, "right": 1 - 0.1 / WIDTH, "bottom": 0.22 / height, "top": 1 - 0.5 / height}
    panels = figure.add_gridspec(rows, columns, hspace=0.06, wspace=0.06, **edges).subplots(squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    return panels


def _titled(width: float, height: float, about: Mapping[str, Any], reading: str = READING) -> Figure:
    """An empty sheet with its title and where it came from."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    settings, versions = json.loads(about["settings"]), json.loads(about["versions"])
    subjects = f"{settings['subjects']} subject{'s' if settings['subjects'] > 1 else ''}"
    origin = f"{about['protocol_name']}, preset {about['preset']}, {subjects}, model {settings['model']}"
    figure.text(0.5, 1 - 0.1 / height, origin, weight="bold", size=9, ha="center", va="top")
    figure.text(0.5, 1 - 0.3 / height, textwrap.shorten(about["title"], 120), size=8, ha="center", va="top")
    version = " ".join(filter(None, ["cortexff", versions["cortexff"], about["git_commit"][:10]]))
    figure.text(0.985, 0.08 / height, f"{version}, seed {about['seed']}", size=6, color=GREY, ha="right")
    figure.text(0.015, 0.08 / height, reading, size=6, color=GREY)
    return figure


def _deprivation(axes: Axes, found: Conditions, name: str) -> None:
    for condition, colour in (("control", BLUE), ("deprived", VERMILION)):
        _curve(axes, found[condition]["update"][:], _values(found[condition], name), colour)
    if "frozen" in found:
        axes.axhline(_interval(_values(found["frozen"], name)[-1]).mean, **FROZEN)
    _from_zero_on(axes, found["deprived"]["update"][-1])


def _recovery(axes: Axes, found: Conditions, name: str, protocol: Protocol) -> None:
    """Recovery sleep and, where a condition sleeps on from there, what follows; the control's end as a grey band."""
    goal = _interval(_values(found["control"], name)[-1])
    axes.axhline(goal.mean, color=GREY, linewidth=0.7)
    axes.axhspan(goal.low, goal.high, color=GREY, alpha=0.35, linewidth=0)
    slept = {"deprived": 0}  # condition → negative updates at its end
    for condition, data in found.items():
        course = protocol.conditions[condition]
        if course.start in slept and all(protocol.stages[stage].phase == "sleep" for stage in course.stages):
            updates = slept[course.start] + data["update"][:]
            _curve(axes, updates, _values(data, name), GREEN)
            slept[condition] = int(updates[-1])
    axes.set_title(RECOVERY[name], size=7, pad=2)
    axes.set_xlabel("Negative-only updates")
    _from_zero_on(axes, max(slept.values()))


def _goodness(axes: Axes, found: h5py.Group, net: nx.MultiDiGraph, moment: str) -> None:
    """Goodness of every subject, stimulus and area, each divided by its area's threshold: θ is at 1."""
    settings = [net.nodes[area]["goodness"] for area in found.file["area"].asstr()]
    threshold = np.array([goodness.threshold * goodness.blocks for goodness in settings])
    by_label = found["goodness_by_stimulus"][:] / threshold  # (subjects, stimuli, labels, areas)
    true = found["true_label"][:][:, None] == found.file["label"][:]
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


def _learning(axes: Axes, found: Conditions, name: str, protocol: Protocol) -> None:
    """Curves of the conditions that were probed more than once; each other one as a mark behind their end."""
    curves = [condition for condition, data in found.items() if len(data["update"]) > 1]
    end = max((int(found[condition]["update"][-1]) for condition in curves), default=1)
    for (condition, data), colour in zip(found.items(), itertools.cycle(COLOURS), strict=False):
        values, stage = _values(data, name), protocol.stages[protocol.conditions[condition].stages[-1]]
        label = f"{condition} ({stage.probe_on} images)"
        if condition in curves:
            _curve(axes, data["update"][:], values, colour, label)
        else:
            end, mean = 1.05 * end, _interval(values[-1])
            spread, label = [[mean.mean - mean.low], [mean.high - mean.mean]], f"{label}: {mean.mean:.2f} %"
            axes.plot([end] * mean.n, values[-1], "_", color=colour, markersize=5, markeredgewidth=0.4)
            axes.errorbar(end, mean.mean, spread, color=colour, fmt="D", markersize=2.5, linewidth=1, label=label)


def _values(found: h5py.Group, name: str) -> np.ndarray:
    """A variable as it is drawn, (probes, subjects): rates in percent, NaN for what is not finite."""
    values = found[name][:].astype(float) * (100 if name in PERCENT else 1)
    return np.where(np.isfinite(values), values, np.nan)


def _interval(values: np.ndarray) -> Interval:
    """Mean over subjects and its interval; NaN where a subject has no finite value, for none is dropped silently."""
    nan = float("nan")
    return mean_interval(values) if np.isfinite(values).all() else Interval(nan, nan, nan, len(values))


def _curve(axes: Axes, updates: np.ndarray, values: np.ndarray, colour: str, label: str = "") -> None:
    """Thin lines of the subjects, the bold line of their mean and its band; values (probes, subjects)."""
    means = [_interval(row) for row in values]
    axes.fill_between(updates, [m.low for m in means], [m.high for m in means], color=colour, alpha=0.2, linewidth=0)
    axes.plot(updates, values, color=colour, **THIN)
    axes.plot(updates, [m.mean for m in means], color=colour, label=label, **BOLD)


def _from_zero_on(axes: Axes, last: int) -> None:
    """A logarithmic axis of updates that shows 0 as well."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    every = [lead * 10**power for power in range(len(str(last))) for lead in range(1, 10) if lead * 10**power <= last]
    labelled = [0, *(tick for tick in every if str(tick)[0] in ("125" if last <= 50 else "1"))]
    axes.set_xticks(labelled, labels=map(str, labelled))
    axes.set_xticks(every, minor=True)
    axes.set_xlim(-0.2, 1.2 * max(last, 1))


def _same_height(row: Sequence[Axes], from_zero: bool) -> None:
    """One scale for all panels of a row, written at the first. It fits the subjects: few of them make a wide band."""
    low, high = 0.0 if from_zero else min(_drawn(row), default=0.0), max(_drawn(row), default=1.0)
    margin = 0.08 * (high - low) or 0.5
    for axes in row:
        axes.set_ylim(low - margin / 2, high + margin)
        axes.locator_params(axis="y", nbins=4, min_n_ticks=3)
        axes.tick_params(labelleft=axes is row[0])


def _logarithmic(panels: Sequence[Axes], ticks: Sequence[float], low: float, high: float) -> None:
    """A logarithmic scale for all panels, with those ticks that lie on it."""
    ticks = [tick for tick in ticks if low <= tick <= high]
    for axes in panels:
        axes.set_ylim(low, high)  # before the scale, which would look for positive values
        axes.set_yscale("log", nonpositive="clip")
        axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.set_yticks([], minor=True)


def _drawn(panels: Sequence[Axes]) -> np.ndarray:
    """The finite heights of all lines in some panels."""
    values = np.concatenate([np.ravel(line.get_ydata()).astype(float) for axes in panels for line in axes.lines])
    return values[np.isfinite(values)]
