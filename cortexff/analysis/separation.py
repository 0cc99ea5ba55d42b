"""How far apart in time may positive and negative updates lie? The cells of a grid, each against its control.

A *cell* is a condition whose subjects learn in turns of B updates of wake and B of sleep. Its *control* is the
condition that forks from the same one and learns from both at once, as often, with the same learning rate and average
of the gradient. Subjects are compared with themselves.

``python -m cortexff.analysis.separation FILE`` prints what a results file says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import h5py
import numpy as np
from numpy.typing import ArrayLike

from cortexff.analysis.statistics import LEAST_SUBJECTS, Effect, Interval, bca_interval, effect
from cortexff.errors import CortexffError, run_command
from cortexff.log import open_file
from cortexff.protocol.loading import from_json
from cortexff.protocol.schedule import Protocol

METRICS = {"err_goodness": 1, "fp_neg": 1, "dprime": -1}  # name → whether higher values are worse
MOMENTS = "wake", "sleep", "averaged"  # end of the last wake, of the last sleep; weights averaged over the last cycle
MARGIN, FAILURE = 0.01, 0.02  # of error: a smaller change is tolerated, a larger one for sure is a failure
LEGEND = (
    "c: updates of wake, and of sleep, in a turn (B); lr: learning rate; ga: share of the averaged gradient that is"
    " kept (τ = 1 / (1 - ga) updates); wake, sleep: at the end of the last one; averaged: weights averaged over the"
    " last cycle; control fails: learning from both at once does harm too; k_cm: shift of the goodness of everything by"
    " an update of one phase, in units of the difference between real and wrong; worst inside: share of resamples in"
    " which neither the shortest nor the longest average is the worst"
)
RESAMPLES, SEED = 1000, 0  # of subjects; the same data always give the same shares


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    condition, control  their names
    start               the condition they fork from; None: newborn
    block               B, updates of wake and of sleep in a turn
    cycles              whole cycles, 2 B updates each
    baseline            what is learned of sleep in wake (note 15)
    values              moment → metric → (subjects,), NaN where a network has diverged
    usual               metric → (subjects,) of the control at its end
    before              metric → (subjects,) at the fork
    """

    condition: str
    control: str
    start: str | None
    block: int
    cycles: int
    learning_rate: float
    gradient_average: float
    baseline: str
    values: dict[str, dict[str, np.ndarray]]
    usual: dict[str, np.ndarray]
    before: dict[str, np.ndarray]

    @property
    def tau(self) -> float:
        r"""Time constant of the average of the gradient in updates, :math:`\tau_m = 1 / (1 - a)`."""
        return 1.0 / (1.0 - self.gradient_average)

    def change(self, metric: str = "err_goodness", moment: str = "averaged") -> Effect:
        """Against the control, within subjects; with error's margin of 1 percentage point."""
        margin = MARGIN if metric == "err_goodness" else None
        return effect(self.values[moment][metric], self.usual[metric], margin, METRICS[metric])

    @property
    def control_fails(self) -> bool:
        """Whether learning from both at once, too, has cost grown subjects 2 points of error or more, for sure."""
        found = effect(self.usual["err_goodness"], self.before["err_goodness"])
        return self.start is not None and (found.lost > 0 or found.low > FAILURE)

    @property
    def verdict(self) -> str:
        """Whether separation is ``tolerated`` (error within 1 point of the control's), ``fails`` or is ``unclear``.

        It fails where more is lost than 2 points, the whole interval, or the network of a subject; averaged weights.
        Where the control has failed by itself, there is nothing to compare with: ``control fails``.
        """
        found = self.change()
        if self.control_fails:
            return "control fails"
        if found.lost or found.low > FAILURE:
            return "fails"
        return "tolerated" if found.equivalent or found.high < MARGIN else "unclear"


def cells(file: h5py.File, variant: str) -> list[Cell]:
    """Every cell of a variant that has a control, in the order of the file; none where there is no such grid."""
    protocol = from_json(file.attrs["settings"])
    if not isinstance(protocol, Protocol) or "averaged" not in protocol.measures or variant not in file:
        return []
    protocol, group, found, controls = protocol.variant(variant), file[variant], [], {}
    for name, condition in protocol.conditions.items():
        stage = protocol.stages[condition.stages[-1]]
        if name not in group or not len(group[name]["update"]):
            continue
        data, plasticity = group[name], protocol.plasticity_of(stage)
        positive = data["positive_updates"][-1].mean() - data["positive_updates"][0].mean()
        key = (condition.start, plasticity.learning_rate, plasticity.gradient_average, positive)
        if stage.phase == "interleaved":
            controls.setdefault(key, (name, *({m: _row(data, m, row) for m in METRICS} for row in (-1, 0))))
        elif stage.cycle is not None and stage.cycle.wake == stage.cycle.sleep and "wake" in data["phase"].asstr()[:]:
            rows = {phase: np.flatnonzero(data["phase"].asstr()[:] == phase) for phase in ("wake", "sleep")}
            if not len(rows["sleep"]):
                continue
            values = {
                "wake": {metric: _row(data, metric, rows["wake"][-1]) for metric in METRICS},
                "sleep": {metric: _row(data, metric, rows["sleep"][-1]) for metric in METRICS},
                "averaged": {metric: _row(data, f"averaged_{metric}", -1) for metric in METRICS},
            }
            cycles = int(data["update"][-1]) // stage.cycle.length
            found.append((name, key, stage.cycle.wake, cycles, plasticity.baseline, values))
    return [
        Cell(name, controls[key][0], key[0], block, cycles, *key[1:3], baseline, values, *controls[key][1:])
        for name, key, block, cycles, baseline, values in found
        if key in controls
    ]


def _row(data: h5py.Group, name: str, row: int) -> np.ndarray:
    return data[name][row].astype(float)


def common_mode_steps(file: h5py.File, variant: str) -> dict[float, np.ndarray]:
    r"""How far one update of a single phase shifts goodness of everything, for each learning rate.

    .. math:: k_{cm} = \frac{|\Delta G^+ + \Delta G^-| / 2}{G^+ - G^-}

    Mean over the first update awake and the first asleep, of the cells with blocks of one update and a gradient that is
    not averaged, which begin grown up; G is the sum over areas, G⁺ - G⁻ that before.

    returns  learning rate → (subjects,)
    """
    steps = {}
    for cell in cells(file, variant):
        if (cell.block, cell.gradient_average, cell.baseline) != (1, 0.0, "none") or cell.start is None:
            continue
        data = file[variant][cell.condition]
        if data["update"][:3].tolist() != [0, 1, 2]:
            continue
        real, wrong = (np.nansum(data[f"goodness_{kind}"][:3], axis=(2, 3)) for kind in ("pos", "neg"))
        shift = np.abs(np.diff((real + wrong) / 2, axis=0)).mean(0)
        steps[cell.learning_rate] = shift / np.abs(real[0] - wrong[0])
    return steps


@dataclass(frozen=True)
class Collapse:
    """Whether curves fall upon one another when they are drawn over the product of two settings.

    residual   axis → share of the variance of the values that a monotone curve over that axis leaves
    p          of the product: share of random orders of it that leave as little
    """

    residual: dict[str, float]
    p: float


def collapse(block: ArrayLike, step: ArrayLike, values: ArrayLike, groups: ArrayLike | None = None) -> Collapse:
    """Do values depend on the product of block and step alone?

    A rising curve (isotonic regression) is fitted over the product, over each of the two alone, and over the product
    in each group by itself. Where the product is all that matters, it leaves least, and groups of their own no less.

    block, step, values  (cells,)
    groups               (cells,) of each cell, such as τ_m; one group unless given
    raises               ValueError for fewer than three cells or values that are not finite
    """
    block, step, values = (np.asarray(array, dtype=float) for array in (block, step, values))
    groups = np.zeros(len(values)) if groups is None else np.asarray(groups)
    if values.size < 3 or not np.isfinite([block, step, values]).all():
        raise ValueError(f"a collapse needs three cells or more, all finite; found {values.size}")
    total = max(np.square(values - values.mean()).sum(), 1e-300)
    product = block * step

    def left(axis: np.ndarray) -> float:
        return float(np.square(values - rising(axis, values)).sum() / total)

    own = sum(np.square(values[here] - rising(product[here], values[here])).sum() for here in _each(groups)) / total
    found = {"block x step": left(product), "block": left(block), "step": left(step), "in each group": float(own)}
    random = np.random.default_rng(SEED)
    shuffled = [left(random.permutation(product)) for _ in range(RESAMPLES - 1)]
    p = (1 + sum(one <= found["block x step"] + 1e-12 for one in shuffled)) / RESAMPLES
    return Collapse(found, p)


def rising(axis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The rising curve nearest to values, in their order; those at the same place share one value."""
    from scipy.optimize import isotonic_regression

    places, which, count = np.unique(axis, return_inverse=True, return_counts=True)
    means = np.bincount(which, weights=values) / count
    return isotonic_regression(means, weights=count.astype(float)).x[which] if len(places) else values


def _each(groups: np.ndarray) -> Iterator[np.ndarray]:
    for group in np.unique(groups):
        yield groups == group


@dataclass(frozen=True)
class Resonance:
    """How error goes with the time constant of the gradient's average, at one block and learning rate.

    taus        (taus,) in updates, rising
    errors      (taus,) mean over subjects
    worst       τ_m of the largest
    interior    share of resamples of the subjects in which the largest is neither the first nor the last
    """

    block: int
    learning_rate: float
    taus: np.ndarray
    errors: np.ndarray
    worst: float
    interior: float


def resonances(found: Sequence[Cell], metric: str = "err_goodness", moment: str = "averaged") -> list[Resonance]:
    """Of every block and learning rate with three time constants or more (grown subjects, no baseline).

    A cell with a network that has diverged counts as the worst there is: an error of 1, or a d′ of 0.
    """
    answers = []
    plain = [cell for cell in found if cell.baseline == "none" and cell.start is not None]
    for key in dict.fromkeys((cell.block, cell.learning_rate) for cell in plain):
        row = sorted((cell for cell in plain if (cell.block, cell.learning_rate) == key), key=lambda cell: cell.tau)
        if len(row) < 3:
            continue
        worst = 1.0 if METRICS[metric] == 1 else 0.0
        values = METRICS[metric] * np.stack([np.nan_to_num(cell.values[moment][metric], nan=worst) for cell in row])
        drawn = np.random.default_rng(SEED).integers(0, values.shape[1], size=(RESAMPLES, values.shape[1]))
        means = values[:, drawn].mean(-1)  # (taus, resamples)
        inside = (means[1:-1].max(0) > means[0]) & (means[1:-1].max(0) > means[-1])
        taus, errors = np.array([cell.tau for cell in row]), values.mean(1)
        best = float(taus[errors.argmax()])
        answers.append(Resonance(*key, taus, METRICS[metric] * errors, best, float(inside.mean())))
    return answers


def collapse_of(found: Sequence[Cell], steps: dict[float, np.ndarray]) -> Collapse | None:
    """Whether error (averaged weights) depends on B k_cm alone; None where there are too few cells.

    Of grown subjects that went through two cycles or more: one cycle alone is no alternation yet. A network that has
    diverged counts as an error of 1.
    """
    some = [c for c in found if c.baseline == "none" and c.start is not None and c.cycles > 1]
    some = [cell for cell in some if np.isfinite(steps.get(cell.learning_rate, np.nan)).all()]
    if len(some) < 3:
        return None
    errors = np.array([np.nan_to_num(cell.values["averaged"]["err_goodness"], nan=1.0).mean() for cell in some])
    block, step, tau = (
        np.array([one(cell) for cell in some])
        for one in (lambda cell: cell.block, lambda cell: steps[cell.learning_rate].mean(), lambda cell: cell.tau)
    )
    return collapse(block, step, errors, tau)


def tolerable(found: Sequence[Cell]) -> dict[tuple[float, float], int]:
    """The largest block up to which all are tolerated, of grown subjects without a baseline; 0: not even the least.

    returns  (learning rate, τ_m) → B
    """
    largest: dict[tuple[float, float], int] = {}
    plain = [cell for cell in found if cell.baseline == "none" and cell.start is not None]
    for rate, average in dict.fromkeys((cell.learning_rate, cell.gradient_average) for cell in plain):
        row = [c for c in plain if (c.learning_rate, c.gradient_average) == (rate, average)]
        row.sort(key=lambda cell: cell.block)
        first = next((place for place, cell in enumerate(row) if cell.verdict != "tolerated"), len(row))
        largest[rate, row[0].tau] = row[first - 1].block if first else 0
    return largest


def predictions(found: Sequence[Cell], steps: dict[float, np.ndarray]) -> dict[str, tuple[int, int]]:
    """How many cells do what was predicted, and of how many, where the control does not fail by itself.

    ``tolerated`` where B k_cm < 0.2 or τ_m > 4 B; ``fails`` where B k_cm > 2 and τ_m < 4 B, of two cycles or more.
    """
    counts = {"tolerated": (0, 0), "fails": (0, 0)}
    for cell in found:
        if cell.baseline != "none" or cell.start is None or cell.control_fails or cell.learning_rate not in steps:
            continue
        drift, slow = cell.block * steps[cell.learning_rate].mean(), cell.tau > 4 * cell.block
        wanted = "tolerated" if drift < 0.2 or slow else "fails" if drift > 2 and cell.cycles > 1 else None
        if wanted is not None:
            right, of = counts[wanted]
            counts[wanted] = (right + (cell.verdict == wanted), of + 1)
    return counts


def lines(path: str | Path) -> Iterator[str]:
    """What a results file says of separation, as text.

    raises  CortexffError where it holds no such grid
    """
    with open_file(path) as file:
        variants = {name: cells(file, name) for name in from_json(file.attrs["settings"]).variants}
        if not any(variants.values()):
            raise CortexffError(f"{path}: no condition learns in turns beside a control that learns from both at once")
        subjects = from_json(file.attrs["settings"]).subjects
        if subjects < LEAST_SUBJECTS:
            yield f"{subjects} subjects: intervals say little, and the verdicts nothing; {LEAST_SUBJECTS} are the least"
        yield LEGEND
        for variant, found in variants.items():
            wide = 2 + max((len(cell.condition) for cell in found), default=0)
            yield f"{variant}: change of error against the control, percentage points [95 % interval]"
            yield f"{'cell':<{wide}}{'wake':>24}{'sleep':>24}{'averaged':>24}{'d′ averaged':>24}  verdict"
            for cell in found:
                errors = "".join(f"{_words(cell.change(moment=moment), 100):>24}" for moment in MOMENTS)
                told = f"{_words(cell.change('dprime')):>24}  {cell.verdict}{'' if cell.cycles > 1 else ' (one cycle)'}"
                yield f"{cell.condition:<{wide}}{errors}{told}"
            steps = common_mode_steps(file, variant)
            for rate, step in steps.items():
                yield f"k_cm at learning rate {rate:g}: {_interval(step)}"
            if (fit := collapse_of(found, steps)) is not None:
                shares = ", ".join(f"{axis} {share:.2f}" for axis, share in fit.residual.items())
                yield f"variance of error that a rising curve leaves, over {shares} (p of block x step {fit.p:.3f})"
            for what, (right, of) in predictions(found, steps).items():
                yield f"predicted that separation {'is ' * (what == 'tolerated')}{what}: {right} of {of} cells"
            for (rate, tau), block in tolerable(found).items():
                yield f"tolerated at learning rate {rate:g}, τ of the average {tau:.0f}: up to B {block}"
            for one in resonances(found):
                errors = ", ".join(f"{t:g}: {100 * e:.1f} %" for t, e in zip(one.taus, one.errors, strict=True))
                where = f"B {one.block}, learning rate {one.learning_rate:g}"
                yield f"error at τ of the average, {where}: {errors}; worst inside in {100 * one.interior:.0f} %"


def _words(found: Effect, scale: float = 1.0) -> str:
    if found.lost:
        return f"{found.lost} of {found.n} lost"
    return f"{scale * found.mean:+.2f} [{scale * found.low:.2f}, {scale * found.high:.2f}]"


def _interval(values: np.ndarray) -> str:
    if not np.isfinite(values).all():
        return "not finite"
    found: Interval = bca_interval(values)
    return f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("results", type=click.Path(exists=True, dir_okay=False))
def command(results: str) -> None:
    """Print what RESULTS of protocol separated_phases or lica2023 say of separation."""
    click.echo("\n".join(lines(results)))


if __name__ == "__main__":
    run_command(command, "cortexff.analysis.separation")
