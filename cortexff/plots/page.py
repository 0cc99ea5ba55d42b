"""What sheets have in common: a page with its title, colours, curves of subjects and their mean, scales.

Thin lines are subjects, bold lines their mean, bands its 95 % interval, of three subjects or more; where a subject has
no finite value, the mean and its band have a gap.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cortexff.analysis.statistics import Interval, mean_interval
from cortexff.protocol.table import PERCENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Conditions = Mapping[str, h5py.Group]  # of one variant, by name
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
# The colours of Okabe and Ito, which colour-blind readers tell apart.
COLOURS = BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY = "#777777"
THIN = {"linewidth": 0.4, "alpha": 0.5}
BOLD = {"linewidth": 1.3, "marker": "o", "markersize": 2.5}
KINDS = {"real data": SKY, "wrong labels": ORANGE, "noise": PURPLE}
SIGNS = {"max": ("high", "above"), "min": ("low", "below")}  # activity on real data; side of θ that is called real
READING = "thin: subjects; bold: their mean; band, of three or more: its 95 % t interval, cut at the axes"


def titled_page(width: float, height: float, about: Mapping[str, Any], reading: str = READING) -> Figure:
    """An empty sheet with its title and where it came from."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    settings, versions = json.loads(about["settings"]), json.loads(about["versions"])
    subjects = f"{settings['subjects']} subject{'s' if settings['subjects'] > 1 else ''}"
    origin = f"{about['protocol_name']}, preset {about['preset']}, {subjects}, model {settings['model']}"
    if "stimuli" in settings:
        origin += f", images {settings['stimuli']['images']}"
    figure.text(0.5, 1 - 0.1 / height, origin, weight="bold", size=9, ha="center", va="top")
    figure.text(0.5, 1 - 0.3 / height, textwrap.shorten(about["title"], 120), size=8, ha="center", va="top")
    version = " ".join(filter(None, ["cortexff", versions["cortexff"], about["git_commit"][:10]]))
    figure.text(0.985, 0.08 / height, f"{version}, seed {about['seed']}", size=6, color=GREY, ha="right")
    figure.text(0.015, 0.08 / height, reading, size=6, color=GREY)
    return figure


def groups_of(variants: Mapping[str, Conditions]) -> Iterator[h5py.Group]:
    """Every condition of every variant."""
    for conditions in variants.values():
        yield from conditions.values()


def values_of(found: h5py.Group, name: str) -> np.ndarray:
    """A variable as it is drawn, (probes, subjects): rates in percent, NaN for what is not finite."""
    values = found[name][:].astype(float) * (100 if name in PERCENT else 1)
    return np.where(np.isfinite(values), values, np.nan)


def interval_of(values: np.ndarray) -> Interval:
    """Mean over subjects and its interval; NaN where a subject has no finite value, for none is dropped silently."""
    nan = float("nan")
    return mean_interval(values) if np.isfinite(values).all() else Interval(nan, nan, nan, len(values))


def draw_curve(axes: Axes, updates: np.ndarray, values: np.ndarray, colour: str, label: str = "") -> None:
    """Thin lines of the subjects, the bold line of their mean and its band; values (probes, subjects)."""
    means = [interval_of(row) for row in values]
    axes.fill_between(updates, [m.low for m in means], [m.high for m in means], color=colour, alpha=0.2, linewidth=0)
    axes.plot(updates, values, color=colour, **THIN)
    axes.plot(updates, [m.mean for m in means], color=colour, label=label, **BOLD)


def draw_mark(axes: Axes, place: float, values: np.ndarray, colour: str, label: str = "") -> None:
    """Ticks of the subjects, a diamond for their mean and a bar for its interval."""
    found = interval_of(values)
    axes.plot([place] * len(values), values, "_", color=colour, markersize=5, markeredgewidth=0.5)
    axes.plot([place, place], [found.low, found.high], color=colour, linewidth=0.9)
    axes.plot([place], [found.mean], "D", color=colour, markersize=3, label=label)


def same_height(row: Sequence[Axes], from_zero: bool) -> None:
    """One scale for all panels of a row, written at the first. It fits the subjects: few of them make a wide band."""
    low, high = 0.0 if from_zero else min(drawn_heights(row), default=0.0), max(drawn_heights(row), default=1.0)
    margin = 0.08 * (high - low) or 0.5
    for axes in row:
        axes.set_ylim(low - margin / 2, high + margin)
        axes.locator_params(axis="y", nbins=4, min_n_ticks=3)
        axes.tick_params(labelleft=axes is row[0])


def logarithmic(panels: Sequence[Axes], ticks: Sequence[float], low: float, high: float) -> None:
    """A logarithmic scale for all panels, with those ticks that lie on it; what is lower lies at the lower edge."""
    ticks = [tick for tick in ticks if low <= tick <= high]
    for axes in panels:
        for line in axes.lines:
            with np.errstate(invalid="ignore"):  # some subjects have no value
                line.set_ydata(np.maximum(line.get_ydata(), low))
        axes.set_ylim(low, high)  # before the scale, which would look for positive values
        axes.set_yscale("log", nonpositive="clip")
        axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.set_yticks([], minor=True)


def from_zero_on(axes: Axes, last: int) -> None:
    """A logarithmic axis of updates that shows 0 as well."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    every = [lead * 10**power for power in range(len(str(last))) for lead in range(1, 10) if lead * 10**power <= last]
    labelled = [0, *(tick for tick in every if str(tick)[0] in ("125" if last <= 50 else "1"))]
    axes.set_xticks(labelled, labels=map(str, labelled))
    axes.set_xticks(every, minor=True)
    axes.set_xlim(-0.2, 1.2 * max(last, 1))


def drawn_heights(panels: Sequence[Axes]) -> np.ndarray:
    """The finite heights of all lines in some panels."""
    values = np.concatenate([np.ravel(line.get_ydata()).astype(float) for axes in panels for line in axes.lines])
    return values[np.isfinite(values)]
