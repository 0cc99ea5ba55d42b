"""The sheet of a grid of conditions in which positive and negative updates lie ever farther apart in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cortexff.analysis.separation import Cell, cells, collapse_of, common_mode_steps
from cortexff.analysis.statistics import bca_interval
from cortexff.plots.page import BLUE, COLOURS, GREEN, GREY, ORANGE, VERMILION, WIDTH, Conditions, titled_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

READING = (
    "A: fails, ?: beside the control, both at once; blue: B·k_cm = 1; green: B = τ/4. Hollow: one cycle alone. "
    "Bars: 95 % BCa"
)
MARKS = "osD^v"
LEAST, MOST = 0.5, 50.0  # points of error, where the colours of the maps begin and end
BELOW = "error, averaged weights", "hallucinations, end of wake", "with a baseline (note 15)", "from birth on"
KINDS = {"none": GREY, "fresh": GREEN, "stale": ORANGE}  # baselines


def has_grid(variants: Mapping[str, Conditions]) -> bool:
    """Whether every variant has learned in turns of several lengths, beside controls that learn from both at once."""
    found = [_cells(conditions) for conditions in variants.values()]
    return all(len({cell.block for cell in one if cell.start is not None}) > 1 for one in found)


def separation_sheet(variants: Mapping[str, Conditions], protocol: Any, about: Mapping[str, Any]) -> Figure:
    """For each variant, a map of blocks and learning rates for each average; below, what error depends on."""
    del protocol  # every sheet is asked with it
    gap = 0.65 if len(variants) == 1 else 0.95  # for the legends below, and the scale of the next
    each, head, foot = 3.8 + gap, 0.8, 0.15
    height = head + each * len(variants) + foot
    figure = titled_page(WIDTH, height, about, READING)
    for place, (variant, conditions) in enumerate(variants.items()):
        found, steps = _cells(conditions), common_mode_steps(_file(conditions), variant)
        top = 1 - (head + place * each) / height
        frame = {"left": 0.085, "right": 0.985, "top": top - 0.2 / height, "bottom": top - (each - gap) / height}
        rows = figure.add_gridspec(2, 1, height_ratios=[1, 1.1], hspace=0.55, **frame)
        grown = [cell for cell in found if cell.start is not None and cell.baseline == "none"]
        taus = sorted({cell.tau for cell in grown})
        maps = rows[0].subgridspec(1, len(taus), wspace=0.08).subplots(squeeze=False)[0]
        for axes, tau in zip(maps, taus, strict=True):
            shown = _map(axes, [cell for cell in grown if cell.tau == tau], steps)
            axes.set_title(f"average over τ = {tau:.0f} update{'s' if round(tau) > 1 else ''}")
            axes.tick_params(labelleft=axes is maps[0])
        maps[0].set_ylabel("Learning rate ε")
        where = [maps[-1].get_position().x1 - 0.2, maps[0].get_position().y1 + 0.22 / height, 0.2, 0.06 / height]
        _scale(figure, where, shown)
        below = rows[1].subgridspec(1, 4, width_ratios=[1.25, 1.25, 1, 1], wspace=0.42).subplots()
        _over_product(below[0], grown, steps, "averaged", "err_goodness")
        if (fit := collapse_of(found, steps)) is not None:
            words = f"{100 * fit.residual['block x step']:.0f} % left by\na rising curve"
            below[0].text(0.03, 0.3, words, transform=below[0].transAxes, size=6, va="top")
        _over_product(below[1], grown, steps, "wake", "fp_neg")
        _baselines(below[2], found)
        _newborn(below[3], found)
        words = "" if len(variants) == 1 else f"{variant}: "
        first = f"{words}error of averaged weights; change from before, points"
        _headed(figure, maps[0], "A", first, (-0.065, 0.0, 0.22 / height))
        for axes, letter, title in zip(below, "BCDE", BELOW, strict=True):
            if axes.has_data():
                _headed(figure, axes, letter, title, (-0.045, -0.02, 0.08 / height))
            else:
                axes.set_axis_off()
    return figure


def _headed(figure: Figure, axes: Axes, letter: str, title: str, away: tuple[float, float, float]) -> None:
    """Write letter and title above a panel, so far to the right of its left edge each, and so far above it."""
    box, (of_letter, of_title, lift) = axes.get_position(), away
    figure.text(box.x0 + of_letter, box.y1 + lift, letter, weight="bold", size=9, va="bottom")
    figure.text(box.x0 + of_title, box.y1 + lift, title, va="bottom")


def _file(conditions: Conditions) -> h5py.File:
    return next(iter(conditions.values())).file


def _cells(conditions: Conditions) -> list[Cell]:
    group = next(iter(conditions.values()), None)
    return [] if group is None else cells(group.file, group.name.split("/")[1])


def _map(axes: Axes, found: Sequence[Cell], steps: Mapping[float, np.ndarray]) -> Any:
    """Blocks to the right, learning rates upwards; first, what learning from both at once does."""
    from matplotlib.colors import LogNorm

    blocks, rates = (sorted({getattr(cell, name) for cell in found}) for name in ("block", "learning_rate"))
    change, words = np.full((len(rates), len(blocks) + 1), np.nan), {}
    for cell in found:
        row, column = rates.index(cell.learning_rate), blocks.index(cell.block) + 1
        before = cell.before["err_goodness"]
        for place, after in ((0, cell.usual["err_goodness"]), (column, cell.values["averaged"]["err_goodness"])):
            change[row, place] = 100 * np.mean(after - before)
        words[row, column] = {"fails": "fails", "unclear": "?"}.get(cell.verdict, "")
    norm = LogNorm(LEAST, MOST)
    shown = axes.imshow(np.clip(change, LEAST, MOST), cmap="YlOrRd", norm=norm, origin="lower", aspect="auto")
    colour_of = shown.get_cmap()
    for (row, column), value in np.ndenumerate(change):
        text = "lost" if np.isnan(value) else f"{value:+.1f}" if abs(value) < 10 else f"{value:+.0f}"
        dark = value > 12 or np.isnan(value)
        mark = words.get((row, column), "")
        behind = colour_of(norm(np.clip(np.nan_to_num(value, nan=MOST), LEAST, MOST)))
        looks = {"ha": "center", "color": "white" if dark else "black"}
        looks["bbox"] = {"facecolor": behind, "linewidth": 0, "pad": 0.5}  # so that lines do not cross the numbers
        axes.text(column, row, text, va="bottom" if mark else "center", **looks)
        if mark:
            axes.text(column, row - 0.06, mark, va="top", size=6, **looks)
    axes.axvline(0.5, color="white", linewidth=3)
    axes.set_xticks(range(len(blocks) + 1), ["both", *map(str, blocks)])
    axes.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_xlabel("Updates of a phase in turn, B")
    places = np.arange(1, len(blocks) + 1)

    def across(block: np.ndarray | float) -> np.ndarray:
        """Where a block lies between the columns, beyond the last one as far as between the last two."""
        known, at = np.log2(blocks), places.astype(float)
        more = (known[-1] + known[-1] - known[-2], at[-1] + 1)
        return np.interp(np.log2(block), [*known, more[0]], [*at, more[1]])

    if len(blocks) > 1 and len(measured := [rate for rate in rates if rate in steps]) > 1:
        reach = [across(1 / steps[rate].mean()) for rate in measured]
        axes.plot(reach, [rates.index(rate) for rate in measured], color=BLUE, linewidth=1.0)
    tau = found[0].tau
    if len(blocks) > 1 and tau / 4 > blocks[0]:
        axes.axvline(across(tau / 4), color=GREEN, linewidth=1.0, linestyle="--")
    axes.set_xlim(-0.5, len(blocks) + 0.5)
    axes.set_ylim(-0.5, len(rates) - 0.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return shown


def _scale(figure: Figure, where: Sequence[float], shown: Any) -> None:
    axes = figure.add_axes(where)
    bar = figure.colorbar(shown, cax=axes, orientation="horizontal", extend="both")
    bar.outline.set_visible(False)
    axes.minorticks_off()
    bar.set_ticks([0.5, 2, 10, 50], labels=["≤ 0.5", "2", "10", "50"])
    axes.tick_params(length=0, pad=1)
    axes.xaxis.set_ticks_position("top")


def _over_product(
    axes: Axes, grown: Sequence[Cell], steps: Mapping[float, np.ndarray], moment: str, metric: str
) -> None:
    """A metric over B k_cm: a colour for each average, a mark for each learning rate."""
    taus, rates = sorted({cell.tau for cell in grown}), sorted(steps)
    for tau, colour in zip(taus, (VERMILION, ORANGE, BLUE, GREEN, *COLOURS), strict=False):
        mine = sorted(
            (
                (cell.block * steps[cell.learning_rate].mean(), cell)
                for cell in grown
                if cell.tau == tau and cell.learning_rate in steps
            ),
            key=lambda pair: pair[0],
        )
        known = [(x, cell, 100 * cell.values[moment][metric]) for x, cell in mine]
        known = [(x, cell, values) for x, cell, values in known if np.isfinite(values).all()]
        several = [(x, values.mean()) for x, cell, values in known if cell.cycles > 1]
        axes.plot([x for x, _ in several], [y for _, y in several], color=colour, linewidth=0.7, alpha=0.7)
        for x, cell, values in known:
            bounds = bca_interval(values)
            axes.plot([x, x], [bounds.low, bounds.high], color=colour, linewidth=0.9)
            mark = MARKS[rates.index(cell.learning_rate) % len(MARKS)]
            inside = colour if cell.cycles > 1 else "white"
            axes.plot([x], [bounds.mean], mark, color=colour, markerfacecolor=inside, markersize=3)
        axes.plot([], [], "-", color=colour, label=f"τ {tau:.0f}")
    for rate, mark in zip(rates, MARKS, strict=False):
        axes.plot([], [], mark, color=GREY, markersize=3, label=f"ε {rate:g}")
    axes.axvline(1, color=BLUE, linewidth=1.0)
    axes.set_xscale("log")
    axes.set_ylim(-3, 103)
    axes.set_xlabel("B · k_cm")
    axes.set_ylabel("%", rotation=0)
    if moment == "averaged":
        axes.legend(loc="upper left", handlelength=1.2, borderpad=0, labelspacing=0.3)


def _baselines(axes: Axes, found: Sequence[Cell]) -> None:
    """Change of error against the control, with each kind of baseline and without."""
    settings = [(c.block, c.learning_rate, c.gradient_average) for c in found if c.baseline != "none"]
    settings = list(dict.fromkeys(settings))
    if not settings:
        return
    for place, setting in enumerate(settings):
        for shift, (kind, colour) in enumerate(KINDS.items()):
            for cell in found:
                mine = (cell.block, cell.learning_rate, cell.gradient_average) == setting and cell.baseline == kind
                if mine and cell.start is not None:
                    _mark(axes, place + 0.22 * (shift - 1), cell, colour, kind if place == 0 else "")
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_xticks(range(len(settings)), [f"B {block}\nε {rate:g}" for block, rate, _ in settings])
    axes.set_ylabel("Error − control (points)")
    _legend_below(axes, ncols=3)


def _mark(axes: Axes, x: float, cell: Cell, colour: str, label: str) -> None:
    change = cell.change()
    if change.lost:
        axes.plot([x], [100], "x", color=colour, markersize=4, label=label)
        return
    axes.plot([x, x], [100 * change.low, 100 * change.high], color=colour, linewidth=0.9)
    axes.plot([x], [100 * change.mean], "D", color=colour, markersize=3, label=label)


def _newborn(axes: Axes, found: Sequence[Cell]) -> None:
    """Error of subjects that have learned in turns from birth on, beside that of their controls."""
    born = [cell for cell in found if cell.start is None]
    settings = sorted({(cell.learning_rate, cell.tau) for cell in born})
    blocks = sorted({cell.block for cell in born})
    if not born:
        return
    for (rate, tau), colour in zip(settings, (VERMILION, ORANGE, BLUE, GREEN, *COLOURS), strict=False):
        mine = {cell.block: cell for cell in born if (cell.learning_rate, cell.tau) == (rate, tau)}
        control = next(iter(mine.values())).usual["err_goodness"]
        shown = {0: control, **{1 + blocks.index(b): c.values["averaged"]["err_goodness"] for b, c in mine.items()}}
        shown = {place: 100 * values for place, values in shown.items() if np.isfinite(values).all()}
        bounds = [bca_interval(values) for values in shown.values()]
        axes.plot(list(shown), [b.mean for b in bounds], "o-", color=colour, markersize=2.5, linewidth=0.8)
        axes.plot([], [], color=colour, label=f"ε {rate:g}, τ {tau:.0f}")
        for place, b in zip(shown, bounds, strict=True):
            axes.plot([place, place], [b.low, b.high], color=colour, linewidth=0.9)
    axes.set_xticks(range(len(blocks) + 1), ["both", *map(str, blocks)])
    axes.set_xlim(-0.3, len(blocks) + 0.3)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("B")
    axes.set_ylabel("Error (%)")
    _legend_below(axes, ncols=2)


def _legend_below(axes: Axes, ncols: int) -> None:
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.27),
        ncols=ncols,
        handlelength=0.8,
        borderpad=0,
        labelspacing=0.3,
        handletextpad=0.3,
        columnspacing=0.8,
    )
