"""What spikes show and rates do not: how far units fire together, how irregularly, and when an area falls silent."""

import numpy as np

SILENT = 0.1  # of a block's mean count


def synchrony(traces: np.ndarray) -> np.ndarray:
    r"""Share of the traces' variance in time that the units of an area have in common.

    .. math:: \chi^2 = \mathrm{Var}_t\bigl(\tfrac1N \sum_j r_j\bigr) \Big/ \tfrac1N \sum_j \mathrm{Var}_t(r_j)

    1 where all do the same at the same time, 1/N where they know nothing of each other (Golomb & Rinzel 1994).

    traces   (..., time steps, units), filtered spikes
    returns  (...); NaN where no unit's trace moves
    """
    common, own = traces.mean(-1).var(-1), traces.var(-2).mean(-1)
    with np.errstate(invalid="ignore"):
        return common / own


def irregularity(spikes: np.ndarray) -> float:
    r"""How unlike one another the intervals between spikes are, one and the next (CV2 of Holt et al. 1996).

    .. math:: \left\langle \frac{2\,|I_{n+1} - I_n|}{I_{n+1} + I_n} \right\rangle

    0 for a clock, 1 for a Poisson process; slow changes of the rate do not count.

    spikes   (..., time steps, units), whether a unit spikes
    returns  the mean over all pairs of intervals, of which fast units have more; NaN where no unit spikes three times
    """
    trains = np.moveaxis(spikes, -2, -1).reshape(-1, spikes.shape[-2])
    train, time = np.nonzero(trains)
    interval = np.diff(time)
    inside = train[2:] == train[:-2]
    one, other = interval[:-1][inside], interval[1:][inside]
    return float((2.0 * np.abs(other - one) / (other + one)).mean()) if inside.any() else float("nan")


def off_share(spikes: np.ndarray, blocks: int, width: int) -> float:
    """Share of the time that a block of units is nearly silent while there is input: OFF periods (Vyazovskiy 2011).

    A block that does not answer an image at all is selective, not OFF: such presentations are left out. In a small
    block of irregular units, some windows are nearly silent by chance.

    spikes   (presentations, time steps, units), whether a unit spikes
    blocks   number of equal blocks of the units, each of which falls silent by itself
    width    time steps of the windows that are looked at
    returns  share of windows in which a block has at most ``SILENT`` of its mean count in the presentation; NaN where
             no block ever spikes
    """
    presentations, steps, units = spikes.shape
    windows = spikes[:, : steps // width * width].reshape(presentations, -1, width, blocks, units // blocks)
    counts = windows.sum((2, 4))
    mean = counts.mean(1, keepdims=True)
    answered = np.broadcast_to(mean > 0, counts.shape)
    return float((counts <= SILENT * mean)[answered].mean()) if answered.any() else float("nan")
